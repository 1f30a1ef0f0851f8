import type { Cluster, UpstreamHost } from '../core/attempt.ts'
import { FAILURES } from '../core/failure.ts'
import { GrpcCode, type GrpcStatus, isServerFault } from './status.ts'

/** Why a call ended. */
export type Cause = 'peer' | 'network' | 'deadline' | 'cancelled'

export interface CallOutcome {
  readonly status: GrpcStatus
  readonly cause: Cause
  /** Of the response; 0: there was none. */
  readonly httpStatus: number
  /** It was the second attempt. */
  readonly repeated: boolean
  readonly elapsedMs: number
}

/**
 * Counts a call that had a host. As in Envoy, the cluster counts HTTP's status, and the host is judged by the gRPC status:
 * one that would be a 5xx is an error of the host.
 */
export function count(cluster: Cluster, host: UpstreamHost, outcome: CallOutcome): void {
  const { status, cause, httpStatus } = outcome
  if (cause === 'cancelled') {
    cluster.counters.cancelled.v++
    return
  }
  if (cause === 'deadline') {
    cluster.counters.timeout.v++
    host.rqTimeout++
  }
  if (isServerFault(status.code)) host.rqError++
  else host.rqSuccess++
  if (outcome.repeated && status.code === GrpcCode.OK) cluster.counters.retrySuccess.v++
  const stoodFor = status.failure?.status ?? FAILURES.upstreamTimeout.status
  cluster.completed(httpStatus !== 0 ? httpStatus : stoodFor, outcome.elapsedMs, true)
}
