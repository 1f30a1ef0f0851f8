import type { HttpFilter, LocalReply, Next, Scope } from '../../lib/chain/filter.ts'
import { grpcStatusIn, isGrpcResponse } from '../../lib/core/grpc.ts'
import type { Runtime } from '../../lib/core/metrics.ts'
import { runtimeInteger, runtimeNumber } from '../../lib/core/runtime-value.ts'
import { compileFeatureFlag } from '../../lib/match/feature-flag.ts'
import { HEALTH_CHECK_KEY } from '../../lib/telemetry/access-log-filter.ts'
import type { AdmissionControlConfig, RuntimeValueConfig } from './config.ts'
import { History } from './history.ts'

/** One request. */
interface Request {
  /** Its end counts. */
  counts: boolean
  /** The status of a gRPC call is in its trailers. */
  awaitsTrailers: boolean
}

/** Compiles the filter. As in Envoy, each worker goes by what it has seen itself. */
export function compileAdmissionControl(config: AdmissionControlConfig, scope: Scope): HttpFilter<unknown> {
  const { clock, runtime, random } = scope
  const history = new History(config.windowS)
  const stats = cellsOf(scope)
  const enabled = compileFeatureFlag(config.enabled, runtime)
  const aggression = compileNumber(config.aggression, runtime)
  const threshold = compilePercent(config.successThreshold, runtime)
  const most = compilePercent(config.maxRejection, runtime)
  const rpsThreshold = compileInteger(config.rpsThreshold, runtime)

  const rejects = (): boolean => {
    const nowMs = clock.now()
    if (history.rps(nowMs) < rpsThreshold()) return false
    const probability = history.rejection(Math.min(1, threshold()), Math.max(1, aggression()), nowMs)
    return Math.min(probability, most()) > random()
  }

  const record = (success: boolean): void => {
    if (success) stats.success.v++
    else stats.failure.v++
    history.record(success, clock.now())
  }

  const filter: HttpFilter<Request> = {
    createState: () => ({ counts: false, awaitsTrailers: false }),

    onRequestHeaders(stream, _end, request): Next {
      if (!enabled() || stream.filterState.get(HEALTH_CHECK_KEY) === true) return
      if (rejects()) {
        stats.rejected.v++
        return stream.reply(DENIED)
      }
      request.counts = true
    },

    onResponseHeaders({ status, response }, end, request): Next {
      if (!request.counts) return
      if (!isGrpcResponse(status, response, end)) {
        record(isSuccess(config, status))
        return
      }
      const grpcStatus = grpcStatusIn(response)
      if (grpcStatus === undefined) request.awaitsTrailers = true
      else record(config.grpcSuccess.includes(grpcStatus))
    },

    onResponseTrailers(_stream, trailers, { awaitsTrailers }): Next {
      if (!awaitsTrailers) return
      const grpcStatus = grpcStatusIn(trailers)
      record(grpcStatus !== undefined && config.grpcSuccess.includes(grpcStatus))
    },
  }
  return Object.freeze(filter) as HttpFilter<unknown>
}

const DENIED: LocalReply = Object.freeze({ status: 503, details: 'denied_by_admission_control' })

function isSuccess({ httpSuccess }: AdmissionControlConfig, status: number): boolean {
  for (const [start, end] of httpSuccess) if (status >= start && status < end) return true
  return false
}

function cellsOf({ metrics, statPrefix }: Scope) {
  const prefix = `${statPrefix}admission_control.`
  return {
    rejected: metrics.counter(`${prefix}rq_rejected`),
    success: metrics.counter(`${prefix}rq_success`),
    failure: metrics.counter(`${prefix}rq_failure`),
  }
}

function compileNumber({ value, runtimeKey }: RuntimeValueConfig, runtime: Runtime): () => number {
  if (runtimeKey === '') return () => value
  return () => runtimeNumber(runtime, runtimeKey) ?? value
}

function compileInteger({ value, runtimeKey }: RuntimeValueConfig, runtime: Runtime): () => number {
  if (runtimeKey === '') return () => value
  return () => runtimeInteger(runtime, runtimeKey) ?? value
}

/** As a share; the runtime's is taken where it is a percentage. */
function compilePercent({ value, runtimeKey }: RuntimeValueConfig, runtime: Runtime): () => number {
  if (runtimeKey === '') return () => value / 100
  return () => {
    const live = runtimeNumber(runtime, runtimeKey)
    return (live !== undefined && live >= 0 && live <= 100 ? live : value) / 100
  }
}
