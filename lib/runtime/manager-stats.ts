import type { GatewayConfig } from '../config/model.ts'
import { sameJson } from '../core/same-json.ts'
import { drains } from './drained-listeners.ts'
import type { DrainWish, MetricsSnapshot } from './engine.ts'
import type { ServerState } from './server-state.ts'

const CLUSTERS = 'cluster_manager.'
const LISTENERS = 'listener_manager.'

/** What became of resources of one kind. */
class Changes<T extends { readonly name: string }> {
  added = 0
  modified = 0
  removed = 0
  #now = new Map<string, T>()

  get size(): number {
    return this.#now.size
  }

  follow(list: readonly T[], modified?: (before: T, after: T) => void): void {
    const next = new Map(list.map((one) => [one.name, one]))
    for (const [name, after] of next) {
      const before = this.#now.get(name)
      if (before === undefined) this.added++
      else if (before !== after && !sameJson(before, after)) {
        this.modified++
        modified?.(before, after)
      }
    }
    for (const name of this.#now.keys()) if (!next.has(name)) this.removed++
    this.#now = next
  }
}

/**
 * Envoy's `cluster_manager.*` and `listener_manager.*` of a configuration that nobody delivers; of one that is delivered,
 * what its own counts leave out. Updates of clusters are never merged here, so what Envoy counts of that stays 0.
 */
export class ManagerStats {
  readonly #clusters = new Changes<GatewayConfig['clusters'][number]>()
  readonly #listeners = new Changes<GatewayConfig['listeners'][number]>()
  #inPlace = 0
  #stopped = 0
  #seen: GatewayConfig | undefined = undefined

  /** The gateway runs this from now on. */
  follow(config: GatewayConfig): void {
    if (this.#seen === config) return
    this.#seen = config
    this.#clusters.follow(config.clusters)
    this.#listeners.follow(config.listeners, (before, after) => {
      if (sameJson(before.addresses, after.addresses)) this.#inPlace++
    })
  }

  /** Listeners of what runs were closed on request. */
  stopped(wish: DrainWish, config: GatewayConfig | undefined): void {
    for (const listener of config?.listeners ?? []) if (drains(wish, listener)) this.#stopped++
  }

  /** The snapshot with them. */
  with(snapshot: MetricsSnapshot, state: ServerState): MetricsSnapshot {
    const counters = new Map(snapshot.counters)
    const gauges = new Map(snapshot.gauges)
    const put = (into: Map<string, number>, name: string, value: number): void => {
      if (!into.has(name)) into.set(name, value)
    }
    for (const [prefix, changes] of [
      [`${CLUSTERS}cluster_`, this.#clusters],
      [`${LISTENERS}listener_`, this.#listeners],
    ] as const) {
      for (const what of ['added', 'modified', 'removed'] as const) put(counters, `${prefix}${what}`, changes[what])
    }
    put(gauges, `${CLUSTERS}active_clusters`, this.#clusters.size)
    put(gauges, `${CLUSTERS}warming_clusters`, 0)
    put(gauges, `${LISTENERS}total_listeners_active`, this.#listeners.size)
    put(gauges, `${LISTENERS}total_listeners_warming`, 0)
    put(counters, `${LISTENERS}listener_in_place_updated`, this.#inPlace)
    put(counters, `${LISTENERS}listener_stopped`, this.#stopped)
    for (const name of NEVER) put(counters, `${CLUSTERS}${name}`, 0)
    put(gauges, `${LISTENERS}workers_started`, state === 'LIVE' || state === 'DRAINING' ? 1 : 0)
    return { ...snapshot, counters: sorted(counters), gauges: sorted(gauges) }
  }
}

const NEVER: readonly string[] = Object.freeze([
  'cluster_updated',
  'cluster_updated_via_merge',
  'update_merge_cancelled',
  'update_out_of_merge_window',
])

function sorted(values: ReadonlyMap<string, number>): (readonly [string, number])[] {
  return [...values].sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0))
}
