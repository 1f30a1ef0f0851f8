import type { Address, EndpointAddress } from '../core/address.ts'
import type { Json, JsonObject } from '../core/errors.ts'
import type { HashPolicyConfig } from '../core/hash-policy.ts'
import type { RetryPolicyConfig } from '../core/retry-policy.ts'
import type { Http2Config } from '../http2/config.ts'
import type { FormatConfig } from '../telemetry/config.ts'
import type { UpstreamTlsConfig } from '../tls/config.ts'
import type { BalancerConfig } from './balance/config.ts'
import type { DnsConfig, ForwardProxyConfig, OriginalDstConfig } from './discovery/config.ts'
import type { HealthCheckConfig } from './health/config.ts'
import type { OutlierConfig } from './outlier/config.ts'

export type {
  BalancerConfig,
  ClientWeightedConfig,
  LeastRequestConfig,
  ListBalancerConfig,
  LocalityBalancingConfig,
  LocalityWeightedConfig,
  MaglevConfig,
  OutOfBandConfig,
  OverrideHostConfig,
  OverrideSourceConfig,
  PeakEwmaConfig,
  RandomConfig,
  RingHashConfig,
  RoundRobinConfig,
  SlowStartConfig,
  SubsetConfig,
  SubsetFallback,
  SubsetSelectorConfig,
  ZoneAwareConfig,
} from './balance/config.ts'
export type {
  AddressFilterConfig,
  DnsAskingConfig,
  DnsConfig,
  ForwardProxyConfig,
  NameStoreConfig,
  OriginalDstConfig,
} from './discovery/config.ts'
export type {
  GrpcProbeConfig,
  HealthCheckConfig,
  HttpProbeConfig,
  ProbeConfig,
  RedisProbeConfig,
  StatusRange,
  TcpProbeConfig,
} from './health/config.ts'
export type { OutlierConfig, OutlierMonitorConfig } from './outlier/config.ts'

export interface LocalityConfig {
  readonly region: string
  readonly zone: string
  readonly subZone: string
}

/** A type-length-value that is added to PROXY headers of version 2. */
export interface AddedTlvConfig {
  /** 0 to 255. */
  readonly type: number
  /** Base64; '' with `format`. */
  readonly value: string
  /** Made of the client's connection instead. */
  readonly format?: FormatConfig
}

/** How one endpoint is checked, where that differs from how it is used (Envoy's `Endpoint.HealthCheckConfig`). */
export interface EndpointCheckConfig {
  /** In place of the endpoint's own; undefined: that one. Its port counts where it is not 0, unless `port` is set. */
  readonly address?: EndpointAddress
  /** 0: that of the address. */
  readonly port: number
  /** Host and SNI of its checks; '': what the check says. */
  readonly hostname: string
  /** It is not checked, and healthy as far as checks go. */
  readonly disabled: boolean
}

/** One endpoint as configured; `address.host` is an IP address for static and EDS clusters, a name for DNS clusters. */
export interface EndpointConfig {
  readonly address: EndpointAddress
  /** Used for `auto_host_rewrite` and as the Host of health checks. */
  readonly hostname?: string
  /** At least 1. */
  readonly weight: number
  readonly health: 'healthy' | 'unhealthy' | 'degraded' | 'draining' | 'timeout'
  readonly metadata?: JsonObject
  /** Undefined: checked as it is used. */
  readonly check?: EndpointCheckConfig
  /** Further addresses of the same endpoint: a connection goes to the one that answers first (RFC 8305). */
  readonly additionalAddresses?: readonly Address[]
  /** The HTTP proxy that an `http-connect` layer goes through for this endpoint, before that of the layer itself. */
  readonly proxyAddress?: Address
  /** Added to PROXY headers of version 2, in place of those that the layer adds of the same type. */
  readonly addedTlvs?: readonly AddedTlvConfig[]
}

export interface LocalityEndpointsConfig {
  readonly locality?: LocalityConfig
  readonly priority: number
  readonly weight?: number
  readonly endpoints: readonly EndpointConfig[]
  /** What the control process calls the endpoints that are delivered apart; it puts them into `endpoints` before they leave it. */
  readonly delivered?: string
  /** What `transportMatches` look at where the endpoint's own metadata matches nothing. */
  readonly metadata?: JsonObject
}

/** The endpoints of clusters of type `eds` (Envoy's ClusterLoadAssignment). */
export interface AssignmentConfig {
  readonly name: string
  readonly localities: readonly LocalityEndpointsConfig[]
  readonly policy?: AssignmentPolicyConfig
}

/** An HTTP filter that every attempt passes on its way to a host. */
export interface UpstreamFilterConfig {
  readonly name: string
  /** Of the factory. */
  readonly typeUrl: string
  readonly config: Json
  /** There is no configuration yet: attempts fail. */
  readonly missing?: true
  /** It is delivered by that key: put in its place before it leaves the control process. */
  readonly extension?: string
}

/** A credential that every request to a cluster carries. */
export interface CredentialConfig {
  /** Lower case. */
  readonly header: string
  /** '' where it is not known (yet): requests go without, unless it is `required`. */
  readonly value: string
  /** A header that the request has already is replaced, not kept. */
  readonly overwrite: boolean
  /** Requests that would go without it are answered 401. */
  readonly required?: true
  /** What the control process calls the secret that is the value, after `prefix`; it puts it there before this leaves it. */
  readonly secret?: string
  readonly prefix?: string
}

/** Limits of one priority (Envoy's CircuitBreakers.Thresholds); they hold for the whole gateway. */
export interface ThresholdsConfig {
  readonly maxConnections: number
  readonly maxPendingRequests: number
  readonly maxRequests: number
  readonly maxRetries: number
  /** Instead of `maxRetries`. */
  readonly retryBudget?: RetryBudgetConfig
  /** Pools of connections, one for each host (and identity, where TLS asks for several); undefined: no limit. */
  readonly maxConnectionPools?: number
  /** Gauges say how much is left of each. */
  readonly trackRemaining?: boolean
}

/** Retries under way as a share of the requests under way, those that wait included. */
export interface RetryBudgetConfig {
  readonly percent: number
  /** So many are permitted in any case. */
  readonly minConcurrency: number
  /** Requests count that have begun within that time, instead of those under way. */
  readonly intervalMs?: number
}

/** A PROXY protocol header at the start of each connection, which then belongs to one downstream connection alone. */
export interface ProxyProtocolLayerConfig {
  readonly kind: 'proxy-protocol'
  readonly version: 1 | 2
  /** TLVs of the client's own header that go along, by type; of version 2 only. */
  readonly passTlvs: 'none' | 'all' | readonly number[]
  /** Take the place of passed ones of the same type. */
  readonly addedTlvs: readonly AddedTlvConfig[]
}

/**
 * A connection through an HTTP/1 proxy: `CONNECT address` first, and on with what a 2xx is followed by. Endpoints without
 * a proxy, neither their own nor `proxyAddress`, are connected to directly.
 */
export interface HttpConnectLayerConfig {
  readonly kind: 'http-connect'
  readonly proxyAddress?: Address
  /** What the proxy is asked for: the endpoint's address (as Envoy), or its name where it has one. */
  readonly target: 'address' | 'hostname'
}

/** What connections to internal listeners take along from downstream (Envoy's `internal_upstream`). */
export interface InternalLayerConfig {
  readonly kind: 'internal'
  /** Namespaces of the metadata, by where they are read. */
  readonly metadata: readonly { readonly from: 'host' | 'cluster'; readonly namespace: string }[]
}

/**
 * Connections are tunnels: CONNECT on HTTP/2 connections with mutual TLS (HBONE, as Istio's ambient mesh speaks it), many
 * on one. The only layer of its transport.
 */
export interface HboneLayerConfig {
  readonly kind: 'hbone'
  /** Whom to ask; undefined: the endpoint's own address at `port`. */
  readonly proxy?: Address
  readonly port: number
  /** What is asked for: the endpoint's address, or its name where it has one. */
  readonly authority: 'address' | 'hostname'
  /** With a certificate of our own, and what the peer must be. */
  readonly tls: UpstreamTlsConfig
  /** Fields of each CONNECT, flat as in `Headers.raw`. */
  readonly headers: readonly string[]
  /** Of another network: connections to the proxy go through tunnels of this one (double HBONE). */
  readonly gateway?: { readonly address: Address; readonly tls: UpstreamTlsConfig }
}

/** What happens on a new connection before TLS (or else HTTP) begins. */
export type TransportLayerConfig =
  | ProxyProtocolLayerConfig
  | HttpConnectLayerConfig
  | InternalLayerConfig
  | HboneLayerConfig

/**
 * How the endpoints of a cluster are reached. On the wire: what `layers` write, in their order, then TLS, then HTTP or
 * bytes. Envoy nests transport sockets instead; the outermost is the first layer here, a TLS socket is the innermost.
 */
export interface TransportConfig {
  /** Undefined: plaintext. */
  readonly tls?: UpstreamTlsConfig
  readonly layers?: readonly TransportLayerConfig[]
}

/** Envoy's `transport_socket_matches`: another transport for endpoints with these labels. */
export interface TransportMatchConfig {
  readonly name: string
  /** All of them must be in the metadata `envoy.transport_socket_match` of the endpoint, or else of its locality. */
  readonly labels: JsonObject
  readonly transport: TransportConfig
}

/** The order of an endpoint's addresses: so many of the first family, one of the other, and so on. */
export interface AddressOrderConfig {
  /** `given`: the family of the endpoint's first address. */
  readonly firstFamily: 'given' | 'v4' | 'v6'
  /** At least 1. */
  readonly firstFamilyCount: number
}

/** TCP keep-alive probes; what is undefined is the system's. Seconds. */
export interface KeepaliveConfig {
  readonly idleS: number
  readonly intervalS?: number
  readonly probes?: number
}

/** What an assignment says besides its endpoints (Envoy's `ClusterLoadAssignment.policy`). */
export interface AssignmentPolicyConfig {
  /** Percent; default 140. */
  readonly overprovisioningFactor?: number
  /** The health of a priority is that of its hosts by weight, not by number. */
  readonly weightedPriorityHealth?: true
  /** This share of the requests, in [0, 1], is answered 503 without a host. */
  readonly dropOverload?: number
  /** What load reports call those. */
  readonly dropCategory?: string
}

export interface ClusterHttp1Config {
  readonly headerCase: 'lower' | 'proper' | 'preserve'
  readonly enableTrailers: boolean
}

/** One upstream cluster, fully resolved: every default has been filled in by the dialect it came from. */
export interface ClusterConfig extends TransportConfig {
  readonly name: string
  /** Name in statistics; equal to `name` unless the configuration says otherwise. */
  readonly statName: string
  readonly type:
    | 'static'
    | 'strict-dns'
    | 'logical-dns'
    | 'srv'
    | 'dynamic-forward-proxy'
    | 'eds'
    | 'original-dst'
    | 'aggregate'
    | 'composite'
  /** Of `eds`, which has no localities of its own: the name of an `AssignmentConfig`. */
  readonly assignment?: string
  readonly localities: readonly LocalityEndpointsConfig[]
  readonly dns?: DnsConfig
  /** Of `srv`, which has no localities: whose SRV records say where the endpoints are (`_http._tcp.example.com`). */
  readonly service?: string
  /** Of `dynamic-forward-proxy`, which has no localities and no use for a balancer. */
  readonly forwardProxy?: ForwardProxyConfig
  /** Of `original-dst`, likewise. */
  readonly originalDst?: OriginalDstConfig
  /**
   * Of `aggregate` and `composite`, which have no hosts of their own: the clusters whose hosts they use, by name. Those that
   * there are not (yet) are passed over.
   */
  readonly members?: readonly string[]
  readonly balancer: BalancerConfig
  /**
   * Percent of usable hosts below which a priority is used whole; 0: never. The runtime's
   * `upstream.healthy_panic_threshold` goes before it. Default: 50.
   */
  readonly panicThreshold?: number
  /** What hosts must be for a request that names them (`PickContext.wanted`); undefined: healthy or degraded. */
  readonly wantedHealth?: readonly EndpointConfig['health'][]
  /** The cluster whose hosts are the gateways beside this one, and where this one is; for routing by zone. */
  readonly localCluster?: { readonly name: string; readonly locality: LocalityConfig }
  /** Of `localities`; that of an assignment comes with it. */
  readonly assignmentPolicy?: AssignmentPolicyConfig
  readonly connectTimeoutMs: number
  readonly bufferLimitBytes: number
  readonly thresholds: { readonly default: ThresholdsConfig; readonly high: ThresholdsConfig }
  /** Connections per endpoint, whatever the priority; undefined: no limit. */
  readonly maxConnectionsPerHost?: number
  readonly maxRequestsPerConnection?: number
  /** Pooled connections idle for longer are closed; 0: never. */
  readonly idleTimeoutMs: number
  readonly maxConnectionDurationMs?: number
  readonly maxStreamDurationMs?: number
  readonly maxResponseHeaderBytes: number
  readonly maxResponseHeaders: number
  /**
   * `auto`: what the TLS peer chooses by ALPN, HTTP/1 where it says nothing. `downstream`: what the client speaks, where
   * that protocol is among the options configured.
   */
  readonly protocol: 'http1' | 'http2' | 'auto' | 'downstream'
  readonly http1: ClusterHttp1Config
  readonly http2: Http2Config
  /** The first that fits an endpoint is its transport; otherwise `tls` and `layers` of the cluster itself. */
  readonly transportMatches?: readonly TransportMatchConfig[]
  /** Connections opened ahead of need (Envoy's `per_upstream_preconnect_ratio`); 1: none. */
  readonly preconnectRatio: number
  /** Connections opened for the hosts that are likely to be chosen next (`predictive_preconnect_ratio`); undefined: none. */
  readonly predictiveRatio?: number
  readonly keepalive?: KeepaliveConfig
  /** The local address of connections; undefined: the system's choice. */
  readonly bindAddress?: string
  /** Taken, the first of the right family, for endpoints of another family than `bindAddress`. */
  readonly extraBindAddresses?: readonly string[]
  /** Undefined: none. */
  readonly credential?: CredentialConfig
  /** In the order in which requests pass them; undefined: none. */
  readonly filters?: readonly UpstreamFilterConfig[]
  /** Goes before what routes say of retries. */
  readonly retryPolicy?: RetryPolicyConfig
  /** Goes before what routes say of hashes. */
  readonly hashPolicies?: readonly HashPolicyConfig[]
  /** Undefined: hosts are not judged by what they answer. */
  readonly outlier?: OutlierConfig
  /** Undefined: hosts are not asked how they are. */
  readonly healthCheck?: HealthCheckConfig
  /** Hosts that are gone from the configuration go at once, and not only when they fail a check. */
  readonly ignoreHealthOnRemoval?: boolean
  /** Raw connections to a host end when it becomes unhealthy; idle pooled ones always do. */
  readonly closeOnHealthFailure?: boolean
  /** New hosts count as if they were not there until they have been checked (`ignore_new_hosts_until_first_hc`). */
  readonly ignoreUnchecked?: boolean
  /** A server of its own that its load is reported to, by the key that the dialect gave it; undefined: none. */
  readonly loadServer?: string
  /** Undefined: the families take turns, beginning with that of the first address. */
  readonly addressOrder?: AddressOrderConfig
  readonly metadata?: JsonObject
}
