import type { AvoidedHostsConfig, RetryCondition } from '../../core/retry-policy.ts'
import type { NativeHeaderMatch } from './matches.ts'

/**
 * When and how requests are tried again; of a route, a virtual host (for routes that have none) or a cluster (before
 * both). Times in ms. A body is kept for it up to `bodyBufferLimitBytes`: what is larger is sent once.
 */
export interface NativeRetry {
  /**
   * What is tried again: `connect-failure`, `refused-stream` and `reset-before-request` speak of requests that nobody has
   * looked at; all others may do a request twice.
   */
  readonly on: readonly RetryCondition[]
  /** Beside the first try. Default: 1. */
  readonly retries?: number
  /** Of each try, the first included. Default: none but the route's. */
  readonly perTryTimeoutMs?: number
  /** Of each try: time in which nothing moves. Default: none. */
  readonly perTryIdleTimeoutMs?: number
  /** Of `retriable-status-codes`. */
  readonly statuses?: readonly number[]
  /** Of `retriable-headers`: one of them in the response is enough. */
  readonly responseHeaders?: readonly NativeHeaderMatch[]
  /** Only requests that one of these fits are tried again. Default: all. */
  readonly requestHeaders?: readonly NativeHeaderMatch[]
  /** The Nth retry waits by chance below (2^N - 1) times `baseMs` and below `maxMs`. Default: 25, and ten times that. */
  readonly backOff?: { readonly baseMs?: number; readonly maxMs?: number }
  /** Headers of a response that say how long to wait instead. */
  readonly resetBackOff?: {
    /** `seconds` from now (the default), or since the epoch. */
    readonly headers: readonly { readonly name: string; readonly format?: 'seconds' | 'unix-timestamp' }[]
    /** Longer waits are not heeded. Default: 300,000. */
    readonly maxMs?: number
  }
  /** Hosts that a retry avoids. Default: none. */
  readonly avoid?: AvoidedHostsConfig
  /** How many more times a host is chosen where the choice is to be avoided. Default: 1. */
  readonly selectionAttempts?: number
  /** Retries go to other priorities than earlier tries; a number: counted in anew after so many tries. Default: false. */
  readonly otherPriorities?: boolean | number
  /** Retries go to the other clusters of a weighted choice, each once before any of them again. Default: false. */
  readonly otherClusters?: boolean
}
