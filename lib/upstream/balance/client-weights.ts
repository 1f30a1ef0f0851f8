import type { ClientWeightedConfig } from '../config.ts'
import type { Host } from '../host.ts'
import { EdfScheduler } from './edf.ts'
import { type HostLoad, HostLoads } from './host-loads.ts'
import type { HostPicker } from './picker.ts'
import type { PickerFactory } from './picker-factory.ts'
import type { BalancerOptions } from './policy.ts'
import { SlowStart } from './slow-start.ts'

/** Round robin by the weights that hosts report (Envoy's client_side_weighted_round_robin). */
export class ClientWeights implements PickerFactory {
  readonly #loads: HostLoads
  /** Somebody else keeps them. */
  readonly #shared: boolean
  readonly #random: () => number
  readonly #slowStart: SlowStart | undefined

  constructor(config: ClientWeightedConfig, options: BalancerOptions) {
    this.#shared = options.loads !== undefined
    this.#loads = options.loads ?? new HostLoads(config, options)
    this.#random = options.random
    this.#slowStart = SlowStart.of(config.slowStart, options)
  }

  picker(hosts: readonly Host[]): HostPicker {
    return new ByReport(hosts, this.#loads, { random: this.#random, slowStart: this.#slowStart })
  }

  keep(hosts: readonly Host[]): void {
    if (!this.#shared) this.#loads.keep(hosts)
  }

  retire(): void {
    if (!this.#shared) this.#loads.retire()
  }

  [Symbol.dispose](): void {
    if (!this.#shared) this.#loads[Symbol.dispose]()
  }
}

interface Parts {
  readonly random: () => number
  readonly slowStart: SlowStart | undefined
}

/** Its schedule begins anew when weights change: deadlines by old weights would keep hosts out, or flood them. */
class ByReport implements HostPicker {
  readonly #hosts: readonly Host[]
  readonly #loads: HostLoads
  readonly #parts: Parts
  #schedule: EdfScheduler<HostLoad> | undefined = undefined
  /** Where all weights are equal, in turns. */
  #turn = 0
  #generation = -1
  /** Some hosts are new until then. */
  #warmAtMs = Number.POSITIVE_INFINITY
  #members: readonly HostLoad[] = []

  constructor(hosts: readonly Host[], loads: HostLoads, parts: Parts) {
    this.#hosts = hosts
    this.#loads = loads
    this.#parts = parts
  }

  next(): Host {
    // Only now: a cluster that nobody uses has none.
    if (this.#members.length === 0) this.#members = this.#hosts.map((host) => this.#loads.of(host))
    const generation = this.#loads.refresh()
    if (generation !== this.#generation || this.#loads.now() >= this.#warmAtMs) this.#begin(generation)
    if (this.#schedule !== undefined) return this.#schedule.next().host
    const host = this.#hosts[this.#turn]
    this.#turn = this.#turn + 1 === this.#hosts.length ? 0 : this.#turn + 1
    return host
  }

  #begin(generation: number): void {
    const { random, slowStart } = this.#parts
    this.#generation = generation
    const start = Math.floor(random() * this.#hosts.length)
    const endMs = slowStart?.endMs(this.#hosts) ?? Number.NEGATIVE_INFINITY
    const warming = slowStart !== undefined && slowStart.now() < endMs
    this.#warmAtMs = warming ? endMs : Number.POSITIVE_INFINITY
    const { weight } = this.#members[0]
    if (warming) {
      this.#schedule = new EdfScheduler(this.#members, (load) => load.weight * slowStart.factor(load.host), start)
    } else if (this.#members.every((load) => load.weight === weight)) {
      this.#schedule = undefined
      this.#turn = start
    } else this.#schedule = new EdfScheduler(this.#members, (load) => load.weight, start)
  }
}
