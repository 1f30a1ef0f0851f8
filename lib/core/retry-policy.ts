import type { HeaderMatchConfig } from '../match/config.ts'
import type { JsonObject } from './errors.ts'

/** What `retry_on` and `x-envoy-retry-on` may name. */
export const RETRY_CONDITIONS = [
  '5xx',
  'gateway-error',
  'reset',
  'reset-before-request',
  'connect-failure',
  'refused-stream',
  'retriable-4xx',
  'retriable-status-codes',
  'retriable-headers',
  'envoy-ratelimited',
  'http3-post-connect-failure',
] as const

/** What `retry_on` and `x-envoy-retry-grpc-on` may name: statuses of gRPC, read from the head of a response alone. */
export const GRPC_RETRY_CONDITIONS = [
  'cancelled',
  'deadline-exceeded',
  'internal',
  'resource-exhausted',
  'unavailable',
] as const

export type RetryCondition = (typeof RETRY_CONDITIONS)[number] | (typeof GRPC_RETRY_CONDITIONS)[number]

/** When and how requests are tried again (Envoy's RetryPolicy), as data; of a route, a virtual host or a cluster. */
export interface RetryPolicyConfig {
  readonly on: readonly RetryCondition[]
  /** Beside the first try. */
  readonly retries: number
  /** Of each try, the first included; undefined: the route's timeout alone. */
  readonly perTryTimeoutMs?: number
  /** Of each try: time in which nothing moves. */
  readonly perTryIdleTimeoutMs?: number
  /** Of `retriable-status-codes`. */
  readonly statuses?: readonly number[]
  /** Of `retriable-headers`: one of them in the response is enough. */
  readonly responseHeaders?: readonly HeaderMatchConfig[]
  /** Only requests that one of these fits are tried again; undefined: all. */
  readonly requestHeaders?: readonly HeaderMatchConfig[]
  /** The Nth retry waits a random time below (2^N - 1) times `baseMs`, and below `maxMs`. */
  readonly backOff: { readonly baseMs: number; readonly maxMs: number }
  /** Instead, where the response says how long: in one of these headers, at most `maxMs`. */
  readonly resetBackOff?: { readonly headers: readonly ResetHeaderConfig[]; readonly maxMs: number }
  /** Hosts that a retry avoids. */
  readonly avoid?: AvoidedHostsConfig
  /** How many more times a host is chosen where the choice is to be avoided. */
  readonly selectionAttempts: number
  /** Retries go to other priorities; those that were used are counted in anew after so many tries. */
  readonly otherPriorities?: { readonly updateFrequency: number }
  /** Retries go to the other clusters of a weighted choice, each once before any of them again. */
  readonly otherClusters?: true
}

export interface ResetHeaderConfig {
  readonly name: string
  readonly format: 'seconds' | 'unix-timestamp'
}

/** All that is set applies. */
export interface AvoidedHostsConfig {
  /** Those that earlier tries of the request used. */
  readonly previous?: true
  /** `canary: true` in the metadata `envoy.lb`. */
  readonly canary?: true
  /** All of these in the metadata `envoy.lb`. */
  readonly labels?: readonly JsonObject[]
}
