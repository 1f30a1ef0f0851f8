import type { PickContext } from '../../core/attempt.ts'
import type { Counter, Runtime } from '../../core/metrics.ts'
import { runtimeInteger, runtimeNumber } from '../../core/runtime-value.ts'
import type { LocalityConfig, ZoneAwareConfig } from '../config.ts'
import type { Host } from '../host.ts'
import { type HostLocality, type HostView, sameLocality, usable } from '../host-view.ts'
import type { HostChoice } from '../priority-load.ts'
import type { HostPicker } from './picker.ts'
import type { PickerFactory } from './picker-factory.ts'
import type { BalancerOptions, LocalCluster, Policy } from './policy.ts'
import { type Routing, zoneRouting } from './zone-routing.ts'

const DEFAULTS: ZoneAwareConfig = Object.freeze({
  kind: 'zone-aware',
  enabledPercent: 100,
  minClusterSize: 6,
  failOnPanic: false,
})

type Options = BalancerOptions & { readonly runtime: Runtime; readonly local: LocalCluster }

/**
 * Zone-aware routing: requests stay in the gateway's own locality as far as that has hosts for its share of the gateways,
 * and what it has not goes where there is more than the share (Envoy's rule; healthy hosts of priority 0 alone).
 */
export class ZonePolicy implements Policy {
  readonly hashes = false
  readonly failsOnPanic: boolean
  // It depends on the hosts of the local cluster, too.
  readonly keeps = false
  readonly #factory: PickerFactory
  readonly #config: ZoneAwareConfig
  readonly #options: Options
  readonly #counters: ZoneCounters
  #changed: (() => void) | undefined = undefined
  /** Of the hosts of the local cluster that are followed now. */
  #stop: (() => void) | undefined = undefined
  #followed: HostView | undefined = undefined
  /** The local cluster, which lives on, would keep it. */
  #retired = false

  constructor(factory: PickerFactory, config: ZoneAwareConfig = DEFAULTS, options: Options) {
    this.#factory = factory
    this.#config = config
    this.#options = options
    this.failsOnPanic = config.failOnPanic
    this.#counters = zoneCounters(options.stats)
  }

  onChange(listener: () => void): () => void {
    this.#changed = listener
    return () => {
      this.#changed = undefined
      this.#follow(undefined)
    }
  }

  #follow(gateways: HostView | undefined): void {
    if (gateways === this.#followed || (this.#retired && gateways !== undefined)) return
    this.#stop?.()
    this.#followed = gateways
    this.#stop = gateways?.onChange(() => this.#changed?.())
  }

  /** Another cluster may have the name of the local one by now: then pickers are made anew. */
  readonly #check = (): void => {
    if (!this.#retired && this.#options.local.hosts() !== this.#followed) this.#changed?.()
  }

  picker(choice: HostChoice, view: HostView): HostPicker {
    const flat = this.#factory.picker(choice.hosts)
    if (choice.panic || choice.degraded || choice.priority !== 0) return flat
    const own = this.#options.local.locality
    const gateways = this.#options.local.hosts()
    this.#follow(gateways)
    if (own === undefined) return flat
    if (gateways === undefined) return new Checked(this.#check, flat)
    const localities = ownFirst(view.localities[0] ?? [], own)
    const hosts = localities.map((locality) => usable(locality.hosts, choice))
    const { minClusterSize, forceLocalMinHosts } = this.#config
    this.#counters.recalculated.v++
    const routing = zoneRouting({
      own,
      localities: localities.map(({ locality }, i) => ({ locality, hosts: hosts[i].length })),
      gateways: ownFirst(gateways.localities[0] ?? [], own),
      minClusterSize: runtimeInteger(this.#options.runtime, 'upstream.zone_routing.min_cluster_size') ?? minClusterSize,
      forceLocalMinHosts,
    })
    if (routing === 'too-small') this.#counters.tooSmall.v++
    if (routing === 'local-not-ok') this.#counters.localNotOk.v++
    if (typeof routing === 'string') return new Checked(this.#check, flat)
    const pickers = hosts.map((list) => (list.length === 0 ? undefined : this.#factory.picker(list)))
    const picker = new ZonePicker({
      flat,
      pickers,
      routing,
      gateways,
      enabled: () =>
        runtimeNumber(this.#options.runtime, 'upstream.zone_routing.enabled') ?? this.#config.enabledPercent,
      failOnPanic: this.#config.failOnPanic,
      random: this.#options.random,
      counters: this.#counters,
    })
    return new Checked(this.#check, picker)
  }

  keep(hosts: readonly Host[]): void {
    this.#factory.keep?.(hosts)
  }

  retire(): void {
    this.#retired = true
    this.#follow(undefined)
    this.#factory.retire?.()
  }

  [Symbol.dispose](): void {
    this.#factory[Symbol.dispose]()
  }
}

function ownFirst(localities: readonly HostLocality[], own: LocalityConfig): readonly HostLocality[] {
  const first = localities.filter(({ locality }) => sameLocality(locality, own))
  return first.length === 0 ? localities : [...first, ...localities.filter((other) => !first.includes(other))]
}

/** Looks, before each pick, whether it still holds; the pick itself is of the state before. */
class Checked implements HostPicker {
  readonly #check: () => void
  readonly #picker: HostPicker

  constructor(check: () => void, picker: HostPicker) {
    this.#check = check
    this.#picker = picker
  }

  next(context: PickContext, attempt: number): Host | undefined {
    this.#check()
    return this.#picker.next(context, attempt)
  }
}

interface ZoneParts {
  readonly flat: HostPicker
  readonly pickers: readonly (HostPicker | undefined)[]
  readonly routing: Routing
  readonly gateways: HostView
  readonly enabled: () => number
  readonly failOnPanic: boolean
  readonly random: () => number
  readonly counters: ZoneCounters
}

class ZonePicker implements HostPicker {
  readonly #parts: ZoneParts

  constructor(parts: ZoneParts) {
    this.#parts = parts
  }

  next(context: PickContext, attempt: number): Host | undefined {
    const { flat, pickers, enabled, random, gateways, failOnPanic, counters } = this.#parts
    const percent = enabled()
    if (percent < 100 && random() * 100 >= percent) return flat.next(context, attempt)
    // Where so many gateways are unwell that it is not known who takes which share.
    if (gateways.choices[0]?.panic === true) {
      counters.localNotOk.v++
      return failOnPanic ? undefined : flat.next(context, attempt)
    }
    return (pickers[this.#locality()] ?? flat).next(context, attempt)
  }

  #locality(): number {
    const { routing, random, counters } = this.#parts
    if (routing.direct) {
      counters.direct.v++
      return 0
    }
    if (random() * 10_000 < routing.localShare) {
      counters.sampled.v++
      return 0
    }
    counters.crossZone.v++
    const { residual } = routing
    const total = residual[residual.length - 1]
    if (total === 0) {
      counters.noCapacity.v++
      return Math.floor(random() * residual.length)
    }
    const at = random() * total
    return residual.findIndex((upTo) => at < upTo)
  }
}

/** Envoy's `lb_zone_*` counters and their like. */
interface ZoneCounters {
  readonly recalculated: Counter
  readonly tooSmall: Counter
  readonly localNotOk: Counter
  readonly direct: Counter
  readonly sampled: Counter
  readonly crossZone: Counter
  readonly noCapacity: Counter
}

function zoneCounters(stats: BalancerOptions['stats']): ZoneCounters {
  const counter = (name: string): Counter => stats?.metrics.counter(`${stats.prefix}${name}`) ?? { v: 0 }
  return {
    recalculated: counter('lb_recalculate_zone_structures'),
    tooSmall: counter('lb_zone_cluster_too_small'),
    localNotOk: counter('lb_local_cluster_not_ok'),
    direct: counter('lb_zone_routing_all_directly'),
    sampled: counter('lb_zone_routing_sampled'),
    crossZone: counter('lb_zone_routing_cross_zone'),
    noCapacity: counter('lb_zone_no_capacity_left'),
  }
}
