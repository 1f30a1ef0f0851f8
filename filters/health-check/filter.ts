import type { HttpFilter, HttpStream, LocalReply, Next, Scope } from '../../lib/chain/filter.ts'
import type { Clusters } from '../../lib/core/attempt.ts'
import { compileHeader } from '../../lib/match/header.ts'
import { HEALTH_CHECK_KEY } from '../../lib/telemetry/access-log-filter.ts'
import type { HealthCheckConfig } from './config.ts'

/** Whether this request is a health check, and whether this filter answered it. */
interface CheckState {
  isCheck: boolean
  answered: boolean
}

/** What came of the last health check that was passed on, and until when that holds. */
interface Memory {
  status: number
  degraded: boolean
  untilMs: number
}

/**
 * Compiles the filter. The memory of pass-through mode belongs to the compiled object: each worker and each snapshot
 * asks the upstream anew.
 */
export function compileHealthCheck(config: HealthCheckConfig, scope: Scope): HttpFilter<unknown> {
  const { passThrough, cacheTimeMs } = config
  const matchers = config.headers.map(compileHeader)
  const memory: Memory = { status: 0, degraded: false, untilMs: 0 }
  const cached = (): boolean => cacheTimeMs > 0 && memory.untilMs > scope.clock.now()

  const isCheck = (stream: HttpStream): boolean => {
    for (const matches of matchers) if (!matches(stream.request, stream.head)) return false
    return true
  }

  const answer = (): LocalReply => {
    if (!scope.serving()) return FAILED
    if (cached()) return recalled(memory)
    return clusterAnswer(config, scope.clusters)
  }

  const filter: HttpFilter<CheckState> = {
    createState: () => ({ isCheck: false, answered: false }),

    onRequestHeaders(stream, _end, state): Next {
      if (!isCheck(stream)) return
      state.isCheck = true
      stream.filterState.set(HEALTH_CHECK_KEY, true)
      if (passThrough && scope.serving() && !cached()) return
      state.answered = true
      return stream.reply(answer())
    },

    onResponseHeaders(stream, _end, state): Next {
      if (!state.isCheck) {
        if (!scope.serving()) stream.response.set('x-envoy-immediate-health-check-fail', 'true')
        return
      }
      stream.response.set('x-envoy-upstream-healthchecked-cluster', scope.node.cluster)
      // An answer from memory must not prolong itself. What comes instead of an unreachable upstream counts.
      if (cacheTimeMs > 0 && !state.answered) {
        memory.status = stream.status
        memory.degraded = stream.response.has('x-envoy-degraded')
        memory.untilMs = scope.clock.now() + cacheTimeMs
      }
    },
  }
  return Object.freeze(filter) as HttpFilter<unknown>
}

const OK: LocalReply = Object.freeze({ status: 200, details: 'health_check_ok', grpcStatus: 0 })
const HEALTHY: LocalReply = Object.freeze({ status: 200, details: 'health_check_ok_cluster_healthy', grpcStatus: 0 })
const FAILED: LocalReply = unavailable('health_check_failed')
const NO_CLUSTER: LocalReply = unavailable('health_check_failed_no_cluster_found')
const EMPTY: LocalReply = unavailable('health_check_failed_cluster_empty')
const UNHEALTHY: LocalReply = unavailable('health_check_failed_cluster_unhealthy')

function unavailable(details: string): LocalReply {
  return Object.freeze({ status: 503, details, flag: 'LH' })
}

function recalled(memory: Memory): LocalReply {
  const { status } = memory
  const ok = status >= 200 && status < 300
  return {
    status,
    details: 'health_check_cached',
    ...(ok ? { grpcStatus: 0 } : { flag: 'LH' as const }),
    ...(memory.degraded && { headers: ['x-envoy-degraded', ''] }),
  }
}

function clusterAnswer(config: HealthCheckConfig, clusters: Clusters): LocalReply {
  for (const [name, percentage] of config.minHealthyPercentages) {
    const cluster = clusters.get(name)
    if (cluster === undefined) return NO_CLUSTER
    // Envoy compares whole percents.
    const minimum = Math.trunc(percentage)
    const { healthy, degraded, total } = cluster.health()
    if (total === 0) {
      if (minimum > 0) return EMPTY
    } else if (100 * (healthy + degraded) < total * minimum) return UNHEALTHY
  }
  return config.minHealthyPercentages.length > 0 ? HEALTHY : OK
}
