import type { NetworkConnection, NetworkFilter, NetworkNext, NetworkScope } from '../../lib/chain/network.ts'
import { Timed } from '../../lib/core/timer-wheel.ts'
import { compileFeatureFlag } from '../../lib/match/feature-flag.ts'
import type { ConnectionLimitConfig } from './config.ts'

/** One connection: whether it counts, and when it is closed if it does not. */
class Admission extends Timed {
  counted = false
  readonly #connection: NetworkConnection

  constructor(connection: NetworkConnection) {
    super()
    this.#connection = connection
  }

  override onDue(): void {
    this.refuse()
  }

  refuse(): void {
    this.#connection.close('over_connection_limit')
  }
}

export function compileConnectionLimit(config: ConnectionLimitConfig, scope: NetworkScope): NetworkFilter<Admission> {
  const prefix = `connection_limit.${config.statPrefix}.`
  const active = scope.metrics.gauge(`${prefix}active_connections`)
  const limited = scope.metrics.counter(`${prefix}limited_connections`)
  const enabled = compileFeatureFlag(config.enabled, scope.runtime)
  // The gauge is shared with other filters of the same name; what is limited is this filter's own.
  let connections = 0
  const filter: NetworkFilter<Admission> = {
    createState: (connection) => new Admission(connection),
    onConnect(_, admission): NetworkNext {
      if (!enabled()) return undefined
      if (connections < config.maxConnections) {
        connections++
        active.v++
        admission.counted = true
        return undefined
      }
      limited.v++
      if (config.delayMs === 0) {
        admission.refuse()
        return undefined
      }
      scope.wheel.arm(admission, config.delayMs)
      return new Promise(() => {})
    },
    onClose(_, admission) {
      scope.wheel.disarm(admission)
      if (!admission.counted) return
      connections--
      active.v--
    },
  }
  return Object.freeze(filter)
}
