import type { NetworkConnection, NetworkFilter, NetworkNext, NetworkScope } from '../../lib/chain/network.ts'
import { Timed } from '../../lib/core/timer-wheel.ts'
import { compileFeatureFlag } from '../../lib/match/feature-flag.ts'
import type { ConnectionLimitConfig } from './config.ts'

/** One connection: whether it counts, and when it is closed if it does not. */
class Admission extends Timed {
  counted = false
  /** It was closed, maybe while it was not known yet whether there is room. */
  over = false
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
  const key = `connection_limit.${scope.place}.${scope.filterName}`
  const room = scope.own(scope.leases.slots(key, config.maxConnections))
  const decide = (admission: Admission, admitted: boolean): NetworkNext => {
    if (admitted && admission.over) room.release()
    if (admission.over) return undefined
    if (admitted) {
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
  }
  const filter: NetworkFilter<Admission> = {
    createState: (connection) => new Admission(connection),
    onConnect(_, admission): NetworkNext {
      if (!enabled()) return undefined
      const taken = room.acquire()
      return typeof taken === 'boolean'
        ? decide(admission, taken)
        : taken.then((admitted) => decide(admission, admitted))
    },
    onClose(_, admission) {
      admission.over = true
      scope.wheel.disarm(admission)
      if (!admission.counted) return
      room.release()
      active.v--
    },
  }
  return Object.freeze(filter)
}
