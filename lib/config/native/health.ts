import type {
  GrpcProbeConfig,
  HealthCheckConfig,
  HttpProbeConfig,
  OutlierConfig,
  TcpProbeConfig,
} from '../../upstream/config.ts'
import type { RetryAfterConfig } from '../../upstream/outlier/config.ts'
import type { NativeStringMatch } from './matches.ts'

/**
 * Keeps requests off endpoints that fail. Default of each as in `EDGE_OUTLIER`: five failures in a row, of either origin,
 * eject for a second, for longer each time, at most half of the endpoints.
 */
export interface NativeOutlier extends Partial<Omit<OutlierConfig, 'enforcing' | 'monitors' | 'retryAfter'>> {
  /** Percent of what is detected that ejects. Default: 100 for 5xx and local failures in a row, otherwise 0. */
  readonly enforcing?: Partial<OutlierConfig['enforcing']>
  /**
   * An endpoint that answers 429 or 503 and says how long to wait (Retry-After, `retry-after-ms`, `x-ratelimit-reset`) gets
   * no requests for that time. `true`: both statuses, at most `maxEjectionTimeMs`. Default: nobody looks for it.
   */
  readonly retryAfter?: true | Partial<RetryAfterConfig>
}

/** Payloads that are looked for or sent: text. */
interface NativeHttpProbe
  extends Partial<Pick<HttpProbeConfig, 'protocol' | 'method' | 'host' | 'responseBufferBytes' | 'userAgent'>> {
  readonly path: string
  /** By name. */
  readonly headers?: { readonly [name: string]: string }
  /** The body of the request. */
  readonly send?: string
  /** All of them in the response's body, in this order. */
  readonly receive?: readonly string[]
  /** Default: `[200]`. */
  readonly expectedStatuses?: readonly number[]
  /** Count towards the threshold instead of making an endpoint unhealthy at once. */
  readonly retriableStatuses?: readonly number[]
  /** What `x-envoy-upstream-healthchecked-cluster` of the answer must be. Default: anything. */
  readonly serviceName?: NativeStringMatch
}

/**
 * Asks endpoints how they are. Exactly one of `http`, `grpc`, `tcp` and `redis`. Default: every 10 s, within 1 s; three network
 * failures make an endpoint unhealthy, a wrong answer does so at once, and two successes make it healthy again.
 */
export interface NativeHealthCheck
  extends Partial<Omit<HealthCheckConfig, 'probe' | 'transportLabels' | 'eventLogPaths'>> {
  readonly http?: NativeHttpProbe
  readonly grpc?: Partial<Pick<GrpcProbeConfig, 'service' | 'authority'>>
  /** `proxyProtocol`: connections begin with a PROXY header of this version. */
  readonly tcp?: { readonly send?: string; readonly receive?: readonly string[] } & Pick<
    TcpProbeConfig,
    'proxyProtocol'
  >
  /** PING; with a `key`, EXISTS, which is to say that there is none. */
  readonly redis?: { readonly key?: string }
  /** One of the cluster's `transports`, for checks alone. Default: that of the endpoint. */
  readonly transport?: string
  /** A file for events, one line of JSON each. Default: none. */
  readonly eventLogPath?: string
}

export type { NativeHttpProbe }
