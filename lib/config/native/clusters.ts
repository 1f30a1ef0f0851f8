import type { Address, InternalAddress } from '../../core/address.ts'
import type { HashPolicyConfig } from '../../core/hash-policy.ts'
import type {
  AddressOrderConfig,
  AssignmentPolicyConfig,
  ClusterConfig,
  EndpointConfig,
  LocalityConfig,
  ThresholdsConfig,
} from '../../upstream/config.ts'
import type { NativeBalancer } from './balancers.ts'
import type { NativeForwardProxy, NativeOriginalDst } from './cluster-types.ts'
import type { NativeHealthCheck, NativeOutlier } from './health.ts'
import type { NativeHttp2 } from './http2.ts'
import type { NativeMetadata } from './matches.ts'
import type { NativeRetry } from './retries.ts'
import type { NativeKeepalive, NativeTransport } from './transports.ts'

/**
 * `127.0.0.1:8080`, `[::1]:8080`, the path of a Unix socket (`/run/app.sock`, or `@name` for an abstract one), or the
 * same in parts. Endpoints may have a name for a host: `api.example.com:80`.
 */
export type NativeAddress =
  | string
  | { readonly host: string; readonly port: number }
  /** `mode`: permissions of the socket file, for listeners. */
  | { readonly path: string; readonly mode?: number }
  | Address

/** One endpoint: its address, or that and more. */
export type NativeEndpoint =
  | string
  | {
      readonly address: NativeAddress | NativeInternalAddress
      /** Further IP addresses of it: a connection goes to the one that answers first. Default: none. */
      readonly additionalAddresses?: readonly NativeAddress[]
      /** One of the cluster's `transports`. Default: the cluster's own. */
      readonly transport?: string
      /** For `hostRewrite: { auto: true }`. Default: the name in the address, if it is one. */
      readonly hostname?: string
      /** Against the other endpoints of the locality; 1 or more. Default: 1. */
      readonly weight?: number
      /** Default: `healthy`. */
      readonly health?: EndpointConfig['health']
      readonly metadata?: NativeMetadata
      /** Where and how it is checked, where that differs. Default: as it is used. */
      readonly check?: NativeEndpointCheck
    }

/** Checks of one endpoint. */
export interface NativeEndpointCheck {
  readonly address?: NativeAddress
  /** Default: that of the address. */
  readonly port?: number
  /** The Host of its checks. Default: what the check says. */
  readonly hostname?: string
  /** It is not checked, and counts as healthy. Default: false. */
  readonly disabled?: boolean
}

/** An internal listener of this gateway. `endpointId` tells endpoints of one listener apart. */
export type NativeInternalAddress = Omit<InternalAddress, 'kind'>

/** Endpoints that stand together. */
export interface NativeLocality {
  readonly locality?: Partial<LocalityConfig>
  /** 0 is used first; the next only where too few of it are healthy. Default: 0. */
  readonly priority?: number
  readonly weight?: number
  readonly endpoints: readonly NativeEndpoint[]
}

/** How names are resolved. Times in ms. */
export interface NativeDns {
  /** Default: 5,000. */
  readonly refreshMs?: number
  /** After a failure, doubling from this. Default: `refreshMs`. */
  readonly failureRefreshMs?: number
  /** Default: ten times `failureRefreshMs`. */
  readonly failureRefreshMaxMs?: number
  /** Added to each refresh by chance. Default: 0. */
  readonly jitterMs?: number
  /** The time to live of the answer replaces `refreshMs`. Default: true. */
  readonly respectTtl?: boolean
  /** Default: `auto`, IPv6 and only where there is none IPv4. */
  readonly family?: 'auto' | 'v4-only' | 'v6-only' | 'v4-preferred' | 'all'
  /** Name servers as `host:port`. Default: those of the machine. */
  readonly resolvers?: readonly string[]
  /** Names are asked for over TCP alone. Default: over UDP, and over TCP where an answer is too long. */
  readonly tcp?: boolean
  /** Another name server is asked first each time. Default: always the first. */
  readonly rotate?: boolean
  /** One lookup takes at most so long. Default: 15,000; of a forward proxy 5,000. */
  readonly queryTimeoutMs?: number
}

/**
 * A group of endpoints that requests are balanced over. Exactly one of `endpoints`, `localities`, `service`, `members`,
 * `forwardProxy` and `originalDst`. Limits count per
 * worker; an embedded gateway is one.
 */
export interface NativeCluster extends NativeTransport {
  readonly name: string
  /** Name in statistics. Default: `name`. */
  readonly statName?: string
  /**
   * `static`: addresses; `strict-dns`: every address of every name is an endpoint; `logical-dns`: one name, whose current
   * address is used for new connections. Default: `strict-dns` where an endpoint has a name, otherwise `static`; of
   * `members` `aggregate`.
   */
  readonly type?:
    | 'static'
    | 'strict-dns'
    | 'logical-dns'
    | 'srv'
    | 'aggregate'
    | 'composite'
    | 'dynamic-forward-proxy'
    | 'original-dst'
  /** Short for one locality. */
  readonly endpoints?: readonly NativeEndpoint[]
  readonly localities?: readonly NativeLocality[]
  /**
   * Endpoints come from the SRV records of a name, such as `_http._tcp.example.com`: hosts, ports, priorities and weights. The
   * type is `srv`.
   */
  readonly service?: string
  /**
   * Other clusters by name, whose endpoints are used. Of type `aggregate`: the first as long as it is healthy, and what it
   * cannot take goes to the next. Of type `composite`: each attempt of a request goes to the next.
   */
  readonly members?: readonly string[]
  /** Requests go to the host that they name; routes to it need the filter `envoy.filters.http.dynamic_forward_proxy`. */
  readonly forwardProxy?: NativeForwardProxy
  /** Requests go where their connection was meant to go. */
  readonly originalDst?: NativeOriginalDst
  readonly dns?: NativeDns
  /** Default: `peak-ewma`, the better of two by latency, requests under way and failures. */
  readonly balancer?: NativeBalancer
  /** Percent of usable endpoints below which a priority is used whole; 0: never. Default: 50. */
  readonly panicThreshold?: number
  /** What endpoints must be for requests that name one (sessions, say). Default: healthy or degraded. */
  readonly wantedHealth?: ClusterConfig['wantedHealth']
  /**
   * The cluster whose endpoints are the gateways beside this one, and where this one is; for balancers with `localities` of
   * kind `zone-aware`. Default: none.
   */
  readonly localCluster?: { readonly name: string; readonly locality: Partial<LocalityConfig> }
  /** How the health of priorities is reckoned, and which share of the requests is dropped. */
  readonly assignmentPolicy?: AssignmentPolicyConfig
  /** Default: on; see there. */
  readonly outlier?: NativeOutlier | false
  /** Default: none; endpoints count as healthy. */
  readonly healthCheck?: NativeHealthCheck
  /** Endpoints that are gone go at once, and not only when they fail a check. Default: false. */
  readonly ignoreHealthOnRemoval?: boolean
  /** Raw connections to an endpoint that becomes unhealthy end. Default: false. */
  readonly closeOnHealthFailure?: boolean
  /** New endpoints count as if they were not there until they have been checked. Default: false. */
  readonly ignoreUnchecked?: boolean
  /** Default: 5,000. */
  readonly connectTimeoutMs?: number
  /** How much of a response waits for a slow client. Default: 32 KiB. */
  readonly bufferLimitBytes?: number
  /**
   * Circuit breakers, for the whole gateway whatever the number of its workers. Default of each: 1,024 connections, 1,024
   * pending requests, 1,024 requests, 3 retries, any number of pools.
   */
  readonly thresholds?: { readonly default?: Partial<ThresholdsConfig>; readonly high?: Partial<ThresholdsConfig> }
  /** Goes before what routes say of retries. Default: they say. */
  readonly retryPolicy?: NativeRetry
  /** What requests are hashed by, before what routes say. Default: they say. */
  readonly hashPolicies?: readonly HashPolicyConfig[]
  /** Connections per endpoint. Default: no limit. */
  readonly maxConnectionsPerHost?: number
  /** A connection closes after so many requests. Default: no limit. */
  readonly maxRequestsPerConnection?: number
  /** Pooled connections idle for longer are closed; 0: never. Default: 3,600,000. */
  readonly idleTimeoutMs?: number
  /** Default: none. */
  readonly maxConnectionDurationMs?: number
  /** Default: none. */
  readonly maxStreamDurationMs?: number
  /** Default: 60 KiB. */
  readonly maxResponseHeaderBytes?: number
  /** Default: 100. */
  readonly maxResponseHeaders?: number
  readonly http1?: {
    /** How header names are spelt. Default: `lower`. */
    readonly headerCase?: 'lower' | 'proper' | 'preserve'
    /** Default: false, trailers are dropped. */
    readonly enableTrailers?: boolean
  }
  /**
   * `http2`: always, on plaintext by prior knowledge; `auto`: what a TLS peer chooses by ALPN; `downstream`: what the client
   * speaks. Default: `http1`.
   */
  readonly protocol?: 'http1' | 'http2' | 'auto' | 'downstream'
  readonly http2?: NativeHttp2
  /** Other ways to reach endpoints, by name: endpoints say which is theirs. Default: none. */
  readonly transports?: { readonly [name: string]: NativeTransport }
  /** How far connections are opened ahead of need, 1 to 3 times it. Default: 1, none. */
  readonly preconnectRatio?: number
  /** As `preconnectRatio`, for endpoints that are likely to be chosen next, 1 to 3. Default: 1, none. */
  readonly predictiveRatio?: number
  /** Default: none. */
  readonly keepalive?: NativeKeepalive
  /** The local IP address of connections. Default: the system's choice. */
  readonly bindAddress?: string
  /** For endpoints of another address family than `bindAddress`. Default: none. */
  readonly extraBindAddresses?: readonly string[]
  /** Of endpoints with several addresses. Default: families in turns, beginning with that of the first address. */
  readonly addressOrder?: Partial<AddressOrderConfig>
  readonly metadata?: NativeMetadata
}
