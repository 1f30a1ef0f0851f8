import type { Gauge, Metrics } from '../../core/metrics.ts'
import type { MaglevConfig, RingHashConfig } from '../config.ts'
import { type HostView, usable } from '../host-view.ts'
import type { HostChoice } from '../priority-load.ts'
import { HashPicker, type HashPickerOptions } from './hash-picker.ts'
import type { HashTable } from './hash-table.ts'
import { type HostGroup, hostShares } from './host-shares.ts'
import { buildMaglev } from './maglev.ts'
import type { BalancerOptions, Policy } from './policy.ts'
import { buildRing } from './ring.ts'

/** Ring hash and maglev: one table per list; with locality weights these are shares within it. */
export function hashPolicy(config: RingHashConfig | MaglevConfig, options: BalancerOptions): Policy {
  const byLocality = config.localities !== undefined
  const { balanceFactor: factor } = config
  const pickers: HashPickerOptions = {
    build: config.kind === 'maglev' ? (of) => buildMaglev(of, config) : (of) => buildRing(of, config),
    bound: factor === undefined ? undefined : { factor, active: options.active ?? IDLE },
    own: config.hashPolicies,
    random: options.random,
    later: options.later ?? ((run) => void setImmediate(run)),
    built: tableStats(config.kind, options.stats),
  }
  return {
    hashes: true,
    hashPolicies: config.hashPolicies,
    failsOnPanic: false,
    // Weights of localities may change where hosts do not.
    keeps: !byLocality,
    picker: (choice, view, before) => {
      const of = hostShares(byLocality ? localityGroups(choice, view) : [{ hosts: choice.hosts, weight: 1 }])
      if (of.hosts.length === 0) return NOTHING
      return new HashPicker(of, pickers, before instanceof HashPicker ? before : undefined)
    },
    [Symbol.dispose]: () => {},
  }
}

function localityGroups(choice: HostChoice, view: HostView): HostGroup[] {
  const localities = view.localities[choice.priority] ?? []
  if (localities.every(({ weight }) => weight === 0)) return [{ hosts: choice.hosts, weight: 1 }]
  return localities.map(({ hosts, weight }) => ({ hosts: usable(hosts, choice), weight }))
}

/** Under Envoy's names; levels share them, so that they show the table that was built last. */
function tableStats(
  kind: 'ring-hash' | 'maglev',
  stats: { readonly metrics: Metrics; readonly prefix: string } | undefined,
): (table: HashTable) => void {
  if (stats === undefined) return () => {}
  const { metrics, prefix } = stats
  const ring = kind === 'ring-hash'
  const name = (rest: string): Gauge => metrics.gauge(`${prefix}${ring ? 'ring_hash_lb' : 'maglev_lb'}.${rest}`)
  const size = ring ? name('size') : undefined
  const fewest = name(ring ? 'min_hashes_per_host' : 'min_entries_per_host')
  const most = name(ring ? 'max_hashes_per_host' : 'max_entries_per_host')
  return (table) => {
    if (size !== undefined) size.v = table.size
    fewest.v = table.fewest
    most.v = table.most
  }
}

const IDLE = (): number => 0
const NOTHING = Object.freeze({ next: () => undefined })
