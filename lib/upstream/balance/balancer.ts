import { type Counter, noRuntime, type Runtime } from '../../core/metrics.ts'
import { runtimeNumber } from '../../core/runtime-value.ts'
import type { BalancerConfig } from '../config.ts'
import type { Host } from '../host.ts'
import type { HostSet } from '../host-set.ts'
import { leastRequest } from './least-request.ts'
import type { HostPicker } from './picker.ts'
import { randomPicker } from './random.ts'
import { roundRobin } from './round-robin.ts'

export interface PickContext {
  /** Hosts that earlier attempts used: avoided as long as the chosen list has another. */
  readonly excluded?: readonly Host[]
}

/** Chooses hosts of one cluster. */
export interface Balancer extends Disposable {
  /** The host for one attempt, or undefined where none may be used (Envoy's `no_healthy_upstream`). */
  pick(context: PickContext): Host | undefined
}

export interface BalancerOptions {
  /** In [0, 1). */
  readonly random: () => number
  /** Counts picks made in disregard of health (Envoy's `lb_healthy_panic`). */
  readonly panicPicks?: Counter
  /** Default: without any values. */
  readonly runtime?: Runtime
}

/** One list of hosts with its picker; `upTo` is the cumulated load in percent. */
interface Lane {
  readonly upTo: number
  readonly hosts: readonly Host[]
  readonly picker: HostPicker
  readonly panic: boolean
}

/** Follows `hosts` from now on, until disposed. */
export function createBalancer(config: BalancerConfig, hosts: HostSet, options: BalancerOptions): Balancer {
  return new HostBalancer(hosts, options, pickerFactory(config, options))
}

function pickerFactory(config: BalancerConfig, options: BalancerOptions): (hosts: readonly Host[]) => HostPicker {
  const { random, runtime = noRuntime } = options
  switch (config.kind) {
    case 'round-robin':
      return (hosts) => roundRobin(hosts, random)
    case 'random':
      return (hosts) => randomPicker(hosts, random)
    case 'least-request': {
      const { choiceCount, activeRequestBias, activeRequestBiasKey: key } = config
      if (key === undefined) return (hosts) => leastRequest(hosts, { choiceCount, activeRequestBias, random })
      const liveBias = (): number => {
        const bias = runtimeNumber(runtime, key) ?? activeRequestBias
        // As Envoy: one that makes no sense is as if there were none.
        return bias < 0 ? activeRequestBias : bias
      }
      return (hosts) => leastRequest(hosts, { choiceCount, activeRequestBias: liveBias, random })
    }
  }
}

/** Chooses the level (and healthy or degraded) by its share, then a host by the cluster's policy: Envoy's order. */
class HostBalancer implements Balancer {
  readonly #random: () => number
  readonly #panicPicks: Counter | undefined
  readonly #stop: () => void
  #lanes: readonly Lane[] = []

  constructor(hosts: HostSet, options: BalancerOptions, pickerOf: (hosts: readonly Host[]) => HostPicker) {
    this.#random = options.random
    this.#panicPicks = options.panicPicks
    const compile = (): void => {
      let upTo = 0
      this.#lanes = hosts.choices.map(({ hosts, load, panic }) => {
        upTo += load
        return { upTo, hosts, picker: pickerOf(hosts), panic }
      })
    }
    compile()
    this.#stop = hosts.onChange(compile)
  }

  pick(context: PickContext): Host | undefined {
    const lanes = this.#lanes
    if (lanes.length === 0) return undefined
    const lane = lanes.length === 1 ? lanes[0] : this.#choose(lanes)
    if (lane.panic && this.#panicPicks !== undefined) this.#panicPicks.v++
    const host = lane.picker.next()
    const excluded = context.excluded
    return excluded === undefined || !excluded.includes(host) ? host : this.#avoid(lane, excluded, host)
  }

  [Symbol.dispose](): void {
    this.#stop()
    this.#lanes = []
  }

  #choose(lanes: readonly Lane[]): Lane {
    const draw = this.#random() * 100
    for (const lane of lanes) if (draw < lane.upTo) return lane
    return lanes[lanes.length - 1]
  }

  /** A few more picks keep the policy's shares; if they are unlucky, any other host of the list will do. */
  #avoid(lane: Lane, excluded: readonly Host[], first: Host): Host {
    for (let i = 0; i < 3; i++) {
      const host = lane.picker.next()
      if (!excluded.includes(host)) return host
    }
    const { hosts } = lane
    let at = Math.floor(this.#random() * hosts.length)
    for (let i = 0; i < hosts.length; i++) {
      if (!excluded.includes(hosts[at])) return hosts[at]
      at = at + 1 === hosts.length ? 0 : at + 1
    }
    return first
  }
}
