import type { HttpFilter } from '../chain/filter.ts'
import type { Address } from '../core/address.ts'
import type { Json, JsonObject } from '../core/errors.ts'
import type { Http2Config } from '../http2/config.ts'
import type { CidrConfig, MatcherTreeConfig, StringMatchConfig } from '../match/config.ts'
import type { HeaderValueConfig, RouteTableConfig, UpgradeConfig } from '../router/config.ts'
import type { AccessLogConfig, AccessLogFilterConfig, FormatConfig } from '../telemetry/config.ts'
import type { DownstreamTlsConfig } from '../tls/config.ts'

/** One filter of a chain; `config` is what the factory's `parse` made of it. */
export interface HttpFilterConfig {
  /** Instance name: the key of per-route settings. */
  readonly name: string
  readonly typeUrl: string
  readonly config: Json
  /** Present in every chain but off unless a route switches it on. */
  readonly disabled: boolean
  /** Its configuration is delivered by the extension discovery service, and has not come: requests are answered 500. */
  readonly missing?: true
  /** What the control process calls what is delivered; it puts that here before the configuration leaves it. */
  readonly extension?: string
  /** Embedded use only: a ready filter object instead of `typeUrl` and `config`. It never crosses a process boundary. */
  readonly instance?: HttpFilter<unknown>
}

export interface HeaderMutationConfig {
  readonly remove?: string
  readonly append?: HeaderValueConfig
  /** Removes every header whose name matches. */
  readonly removeOnMatch?: StringMatchConfig
}

export type OriginalIpDetectionConfig =
  | {
      readonly kind: 'xff'
      readonly trustedHops: number
      readonly trustedCidrs?: readonly CidrConfig[]
      readonly skipAppend: boolean
    }
  | {
      readonly kind: 'custom-header'
      readonly header: string
      readonly trusted: boolean
      /** Status of the refusal where the header is missing or no address; undefined: go on without. */
      readonly rejectStatus?: number
    }

/** What of the client's certificate is told besides its hash. */
export type ClientCertificateField = 'cert' | 'chain' | 'subject' | 'issuer' | 'uri' | 'dns'

/** What becomes of X-Forwarded-Client-Cert (Envoy's `forward_client_cert_details`); `sanitize` removes it. */
export interface ClientCertificateActionConfig {
  readonly mode: 'sanitize' | 'forward-only' | 'append-forward' | 'sanitize-set' | 'always-forward-only'
  readonly fields: readonly ClientCertificateField[]
  /** Default: pairs as text. */
  readonly format?: 'json'
}

export interface ClientCertificateHeaderConfig extends ClientCertificateActionConfig {
  /** Goes before the rest where it finds something. */
  readonly byRequest?: MatcherTreeConfig<ClientCertificateActionConfig>
}

export interface LocalReplyMapperConfig {
  readonly filter: AccessLogFilterConfig
  readonly status?: number
  readonly body?: string
  readonly bodyFormat?: FormatConfig
  readonly headers: readonly HeaderValueConfig[]
}

export interface Http1Config {
  readonly acceptHttp10: boolean
  readonly defaultHostForHttp10: string
  readonly enableTrailers: boolean
  readonly headerCase: 'lower' | 'proper' | 'preserve'
  readonly allowAbsoluteUrl: boolean
}

/** A piece of a scope's key, taken from a request header (Envoy's `ScopeKeyBuilder.FragmentBuilder`). */
export interface ScopeFragmentConfig {
  readonly header: string
  /** Splits the header's value; '' does not. */
  readonly elementSeparator: string
  /** Which element, from 0; or the value of the element with that key. */
  readonly element:
    | { readonly kind: 'index'; readonly index: number }
    | { readonly kind: 'key'; readonly key: string; readonly separator: string }
}

/** Envoy's ScopedRoutes, with the scopes that are known by now. */
export interface ScopedRoutesConfig {
  readonly name: string
  readonly key: readonly ScopeFragmentConfig[]
  readonly scopes: readonly {
    readonly name: string
    readonly key: readonly string[]
    /** The name of one of the gateway's route tables, or the routes themselves. */
    readonly routeTable?: string
    readonly routes?: RouteTableConfig
  }[]
  /** What the control process calls the scopes that are delivered; it puts them into `scopes` before they leave it. */
  readonly delivered?: string
}

/** Envoy's HttpConnectionManager, resolved: every default is filled in by the dialect. Times in ms, 0: none. */
export interface HttpConnectionManagerConfig {
  readonly statPrefix: string
  readonly codec: 'auto' | 'http1' | 'http2'
  /** Exactly one of `routes`, `routeTable` and `scopedRoutes` is set. */
  readonly routes?: RouteTableConfig
  /** The name of one of the gateway's route tables; as long as there is none of that name, every request is answered 404. */
  readonly routeTable?: string
  readonly scopedRoutes?: ScopedRoutesConfig
  readonly filters: readonly HttpFilterConfig[]
  readonly serverName: string
  readonly serverHeader: 'overwrite' | 'append-if-absent' | 'pass-through'
  readonly useRemoteAddress: boolean
  readonly xffTrustedHops: number
  readonly skipXffAppend: boolean
  readonly appendXForwardedPort: boolean
  readonly originalIpDetection: readonly OriginalIpDetectionConfig[]
  readonly internalCidrs: readonly CidrConfig[]
  readonly internalUnixSockets: boolean
  /** Undefined: the header is removed. */
  readonly clientCertificateHeader?: ClientCertificateHeaderConfig
  /** Requests for a name that another filter chain would serve: 421. Undefined: they are served here. */
  readonly misdirected?: 'refuse'
  readonly via: string
  readonly generateRequestId: boolean
  readonly preserveExternalRequestId: boolean
  readonly requestIdInResponse: boolean
  readonly normalizePath: boolean
  /** What the runtime has under it goes before `normalizePath`: a boolean, or a percentage of requests. */
  readonly normalizePathKey?: string
  readonly mergeSlashes: boolean
  readonly escapedSlashes: 'keep' | 'reject' | 'redirect' | 'forward'
  readonly stripPort: 'none' | 'matching' | 'any'
  readonly stripTrailingHostDot: boolean
  readonly underscores: 'allow' | 'reject' | 'drop'
  readonly earlyHeaderMutations: readonly HeaderMutationConfig[]
  readonly schemeOverwrite?: 'http' | 'https'
  readonly addUserAgent: boolean
  readonly proxy100Continue: boolean
  /** No active stream for that long: the connection closes. */
  readonly idleTimeoutMs: number
  readonly requestTimeoutMs: number
  readonly requestHeadersTimeoutMs: number
  readonly streamIdleTimeoutMs: number
  readonly maxStreamDurationMs: number
  readonly maxConnectionDurationMs: number
  readonly drainTimeoutMs: number
  readonly delayedCloseTimeoutMs: number
  /** 0: no limit. */
  readonly maxRequestsPerConnection: number
  readonly maxRequestHeaderBytes: number
  readonly maxRequestHeaders: number
  readonly maxRequestLineBytes: number
  readonly http1: Http1Config
  readonly http2: Http2Config
  readonly localReply: {
    readonly mappers: readonly LocalReplyMapperConfig[]
    readonly bodyFormat?: FormatConfig
  }
  readonly accessLogs: readonly AccessLogConfig[]
  /** Upgrades that are let through; those not listed are refused with 403. */
  /** Answers of the overload manager say so with `x-envoy-local-overloaded`. Default: false. */
  readonly appendLocalOverload?: boolean
  readonly upgrades: readonly UpgradeConfig[]
}

export interface NetworkFilterConfig {
  readonly name: string
  readonly typeUrl: string
  readonly config: Json
  /** Its configuration is delivered by the extension discovery service, and has not come: connections are closed. */
  readonly missing?: true
  /** As in `HttpFilterConfig`. */
  readonly extension?: string
}

/** Envoy's `FilterChainMatch`: empty lists and what is undefined match everything. */
export interface FilterChainMatchConfig {
  readonly destinationPort?: number
  readonly destinations: readonly CidrConfig[]
  /** Exact names and `*.suffix`, lower case. */
  readonly serverNames: readonly string[]
  readonly transportProtocol?: 'raw_buffer' | 'tls'
  readonly applicationProtocols: readonly string[]
  readonly directSources: readonly CidrConfig[]
  readonly sourceType: 'any' | 'same-ip-or-loopback' | 'external'
  readonly sources: readonly CidrConfig[]
  readonly sourcePorts: readonly number[]
}

export interface FilterChainConfig {
  /** May be ''; unique where the listener has a `chainMatcher`. */
  readonly name: string
  /** Undefined: every connection. */
  readonly match?: FilterChainMatchConfig
  /** In order. Without `http` the last one is terminal; without either, connections are closed. */
  readonly networkFilters: readonly NetworkFilterConfig[]
  /** Ends the chain. */
  readonly http?: HttpConnectionManagerConfig
  /** Undefined: plaintext. */
  readonly tls?: DownstreamTlsConfig
  /** Layer-7 deadline for the transport handshake. */
  readonly transportConnectTimeoutMs?: number
}

/** Which connections a listener filter leaves alone (Envoy's `filter_disabled`). */
export type ListenerFilterConditionConfig =
  | { readonly kind: 'any' }
  | { readonly kind: 'destination-ports'; readonly start: number; readonly end: number }
  | { readonly kind: 'not'; readonly of: ListenerFilterConditionConfig }
  | { readonly kind: 'and' | 'or'; readonly of: readonly ListenerFilterConditionConfig[] }

export interface ListenerFilterConfig {
  readonly name: string
  readonly typeUrl: string
  readonly config: Json
  /** As in `NetworkFilterConfig`. */
  readonly missing?: true
  readonly extension?: string
  readonly disabledFor?: ListenerFilterConditionConfig
}

/** TCP keep-alive; what is undefined is the system's. */
export interface KeepaliveConfig {
  readonly idleS?: number
  readonly intervalS?: number
  readonly probes?: number
}

/** One listener. */
export interface ListenerConfig {
  readonly name: string
  readonly statPrefix: string
  /** The first is the main one. None: an internal listener, or one without a port of its own. */
  readonly addresses: readonly Address[]
  /** Reached by other parts of this gateway alone. */
  readonly internal: boolean
  /** Per connection and direction; soft. */
  readonly bufferLimitBytes: number
  /** At least one, or `defaultFilterChain`. */
  readonly filterChains: readonly FilterChainConfig[]
  /** For connections that match none. */
  readonly defaultFilterChain?: FilterChainConfig
  /** Chooses by name instead of the chains' own matches. */
  readonly chainMatcher?: MatcherTreeConfig<string>
  readonly listenerFilters: readonly ListenerFilterConfig[]
  /** For all listener filters together; 0: none. */
  readonly listenerFiltersTimeoutMs: number
  /** Connections whose listener filters take too long go on with what is known, instead of being closed. */
  readonly continueOnListenerFiltersTimeout: boolean
  readonly backlog: number
  readonly keepalive?: KeepaliveConfig
  /** Which way its traffic goes, for drains that are asked for inbound traffic alone; undefined: not said. */
  readonly trafficDirection?: 'inbound' | 'outbound'
  /** `modify-only`: connections are not drained when the gateway fails its health checks. */
  readonly drainType: 'default' | 'modify-only'
  /** Accepted connections of this listener per worker; undefined: no limit of its own. */
  readonly maxConnections?: number
  /** A whole number of the runtime under it goes before `maxConnections`. */
  readonly maxConnectionsKey?: string
  /** The same per address of direct peers; undefined: none. */
  readonly maxConnectionsPerSource?: number
  /** The gateway's own limit of connections does not count here. */
  readonly ignoreGlobalLimit: boolean
  /** No action of the overload manager touches it or its connections. Default: false. */
  readonly bypassOverload?: boolean
  /** One line per connection. */
  readonly accessLogs: readonly AccessLogConfig[]
  readonly metadata?: JsonObject
}
