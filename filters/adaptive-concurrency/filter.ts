import type { HttpFilter, LocalReply, Next, Scope } from '../../lib/chain/filter.ts'
import { compileFeatureFlag } from '../../lib/match/feature-flag.ts'
import { HEALTH_CHECK_KEY } from '../../lib/telemetry/access-log-filter.ts'
import type { AdaptiveConcurrencyConfig } from './config.ts'
import { GradientController } from './gradient.ts'

/** One request. */
interface Request {
  /** Since when it is under way here; -1: it is not. */
  sinceMs: number
}

/** Compiles the filter. Each worker finds its part of the limit, by the latencies that it sees. */
export function compileAdaptiveConcurrency(config: AdaptiveConcurrencyConfig, scope: Scope): HttpFilter<unknown> {
  const { clock, runtime, metrics, random, leases, place } = scope
  const workers = leases.seats ?? 1
  const shared = workers > 1 ? { workers, wallMs: () => clock.wall(), seed: place } : undefined
  const statPrefix = `${scope.statPrefix}adaptive_concurrency.gradient_controller.`
  const parts = { config: config.gradient, runtime, metrics, statPrefix, random, shared }
  const controller = new GradientController(parts, clock.now())
  scope.own({ [Symbol.dispose]: () => controller.close() })
  const enabled = compileFeatureFlag(config.enabled, runtime)
  const reached: LocalReply = Object.freeze({
    status: config.status,
    body: 'reached concurrency limit',
    details: 'reached_concurrency_limit',
  })

  const filter: HttpFilter<Request> = {
    createState: () => ({ sinceMs: -1 }),

    onRequestHeaders(stream, _end, request): Next {
      // Health checks are faster than what is to be measured.
      if (!enabled() || stream.filterState.get(HEALTH_CHECK_KEY) === true) return
      const nowMs = clock.now()
      if (!controller.admit(nowMs)) return stream.reply(reached)
      request.sinceMs = nowMs
    },

    onEnd({ info }, { sinceMs }): void {
      if (sinceMs < 0) return
      if (info.responseComplete) controller.completed(sinceMs, clock.now())
      else controller.cancelled()
    },
  }
  return Object.freeze(filter) as HttpFilter<unknown>
}
