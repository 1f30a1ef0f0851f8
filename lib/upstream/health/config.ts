import type { JsonObject } from '../../core/errors.ts'
import type { StringMatchConfig } from '../../match/config.ts'

/** An active health check of the hosts of one cluster (Envoy's `config.core.v3.HealthCheck`), every default filled in. */
export interface HealthCheckConfig {
  readonly timeoutMs: number
  /** Between an answer and the next check. */
  readonly intervalMs: number
  /** Up to this is added to each interval by chance. */
  readonly intervalJitterMs: number
  /** The same as a percentage of the interval. */
  readonly intervalJitterPercent: number
  /** Up to this passes before the first check of a host. */
  readonly initialJitterMs: number
  /** Network failures in a row that make a host unhealthy; a wrong answer does so at once. */
  readonly unhealthyThreshold: number
  /** Successes in a row that make it healthy again; its very first does so at once. */
  readonly healthyThreshold: number
  /** While the cluster has not had a connection. */
  readonly noTrafficIntervalMs: number
  readonly noTrafficHealthyIntervalMs: number
  readonly unhealthyIntervalMs: number
  /** Between failures that have not made a host unhealthy yet. */
  readonly unhealthyEdgeIntervalMs: number
  /** Between successes that have not made a host healthy yet. */
  readonly healthyEdgeIntervalMs: number
  readonly reuseConnection: boolean
  /** Lines of JSON for what changes; empty: none. */
  readonly eventLogPaths: readonly string[]
  readonly alwaysLogFailures: boolean
  readonly alwaysLogSuccess: boolean
  /** Offered by ALPN in place of what the cluster offers; undefined: as the cluster. */
  readonly alpn?: readonly string[]
  /** Labels that choose the transport of checks (`transport_socket_matches`), in place of the endpoint's. */
  readonly transportLabels?: JsonObject
  readonly probe: ProbeConfig
}

export type ProbeConfig = HttpProbeConfig | GrpcProbeConfig | TcpProbeConfig | RedisProbeConfig

export interface HttpProbeConfig {
  readonly kind: 'http'
  readonly protocol: 'http1' | 'http2'
  readonly method: string
  readonly path: string
  /** '': the cluster's name. */
  readonly host: string
  /** Of the request, flat as in `Headers.raw`; lower-case names. */
  readonly headers: readonly string[]
  /** Left out of the request, lower case. */
  readonly removedHeaders: readonly string[]
  readonly userAgent: string
  /** Base64; undefined: no body. */
  readonly send?: string
  /** Base64; all of them in the response's body, in this order and not overlapping. */
  readonly receive: readonly string[]
  /** How much of a body is looked at; 0: all of it, up to 1 MiB. */
  readonly responseBufferBytes: number
  /** Empty: 200 alone. */
  readonly expectedStatuses: readonly StatusRange[]
  /** Count as network failures do: so many of them make a host unhealthy. */
  readonly retriableStatuses: readonly StatusRange[]
  /** What `x-envoy-upstream-healthchecked-cluster` of the answer must be; undefined: it does not matter. */
  readonly serviceName?: StringMatchConfig
}

/** Without the end. */
export interface StatusRange {
  readonly start: number
  readonly end: number
}

export interface GrpcProbeConfig {
  readonly kind: 'grpc'
  /** Of `HealthCheckRequest`; '': the server as a whole. */
  readonly service: string
  /** '': the cluster's name. */
  readonly authority: string
  /** Metadata of the call, flat. */
  readonly metadata: readonly string[]
}

export interface TcpProbeConfig {
  readonly kind: 'tcp'
  /** Base64; undefined: nothing is sent. */
  readonly send?: string
  /** Base64; all of them in what comes back, in this order. Empty: a connection is enough. */
  readonly receive: readonly string[]
  /** A connection begins with a PROXY header of this version; undefined: with none besides those of the transport. */
  readonly proxyProtocol?: 1 | 2
}

export interface RedisProbeConfig {
  readonly kind: 'redis'
  /** EXISTS of this key must answer 0; '': PING. */
  readonly key: string
}
