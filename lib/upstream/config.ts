import type { EndpointAddress } from '../core/address.ts'
import type { JsonObject } from '../core/errors.ts'
import type { Http2Config } from '../http2/config.ts'
import type { UpstreamTlsConfig } from '../tls/config.ts'

export interface LocalityConfig {
  readonly region: string
  readonly zone: string
  readonly subZone: string
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
}

export interface LocalityEndpointsConfig {
  readonly locality?: LocalityConfig
  readonly priority: number
  readonly weight?: number
  readonly endpoints: readonly EndpointConfig[]
}

/** Limits of one priority (Envoy's CircuitBreakers.Thresholds); they count per worker until leases exist. */
export interface ThresholdsConfig {
  readonly maxConnections: number
  readonly maxPendingRequests: number
  readonly maxRequests: number
  readonly maxRetries: number
}

export interface DnsConfig {
  readonly refreshMs: number
  readonly failureRefreshMs: number
  readonly failureRefreshMaxMs: number
  readonly jitterMs: number
  readonly respectTtl: boolean
  readonly family: 'auto' | 'v4-only' | 'v6-only' | 'v4-preferred' | 'all'
  /** `host:port` of name servers; empty: those of the machine. */
  readonly resolvers: readonly string[]
}

export type BalancerConfig =
  | { readonly kind: 'round-robin' }
  | { readonly kind: 'random' }
  | { readonly kind: 'least-request'; readonly choiceCount: number; readonly activeRequestBias: number }

export interface ClusterHttp1Config {
  readonly headerCase: 'lower' | 'proper' | 'preserve'
  readonly enableTrailers: boolean
}

/** One upstream cluster, fully resolved: every default has been filled in by the dialect it came from. */
export interface ClusterConfig {
  readonly name: string
  /** Name in statistics; equal to `name` unless the configuration says otherwise. */
  readonly statName: string
  readonly type: 'static' | 'strict-dns' | 'logical-dns'
  readonly localities: readonly LocalityEndpointsConfig[]
  readonly dns?: DnsConfig
  readonly balancer: BalancerConfig
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
  /** Undefined: plaintext. */
  readonly tls?: UpstreamTlsConfig
  /** Connections opened ahead of need (Envoy's `per_upstream_preconnect_ratio`); 1: none. */
  readonly preconnectRatio: number
  readonly keepalive?: { readonly idleS: number }
  readonly bindAddress?: string
  readonly metadata?: JsonObject
}
