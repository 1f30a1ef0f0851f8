import { noRuntime, type Runtime } from '../../core/metrics.ts'
import { runtimeNumber } from '../../core/runtime-value.ts'
import type { SlowStartConfig } from '../config.ts'
import type { Host } from '../host.ts'
import type { HostPicker } from './picker.ts'
import type { BalancerOptions } from './policy.ts'

/** How much of its weight a host has got, by the time since it became healthy (Envoy's slow start). */
export class SlowStart {
  readonly now: () => number
  readonly #config: SlowStartConfig
  readonly #runtime: Runtime

  constructor(config: SlowStartConfig, now: () => number, runtime: Runtime) {
    this.now = now
    this.#config = config
    this.#runtime = runtime
  }

  /** Undefined where there is none to be. */
  static of(config: SlowStartConfig | undefined, { now, runtime = noRuntime }: BalancerOptions): SlowStart | undefined {
    return config === undefined || now === undefined ? undefined : new SlowStart(config, now, runtime)
  }

  /** When the last of these hosts has its whole weight; in the past where all have. */
  endMs(hosts: readonly Host[]): number {
    let latest = Number.NEGATIVE_INFINITY
    for (const host of hosts)
      if (host.health === 'healthy' && host.healthySinceMs > latest) latest = host.healthySinceMs
    return latest + this.#config.windowMs
  }

  /** In (0, 1]. */
  factor(host: Host): number {
    const { windowMs, minWeightPercent, aggressionKey } = this.#config
    const age = this.now() - host.healthySinceMs
    if (age >= windowMs || host.health !== 'healthy') return 1
    const live = aggressionKey === undefined ? undefined : runtimeNumber(this.#runtime, aggressionKey)
    const aggression = live !== undefined && live > 0 ? live : this.#config.aggression
    const linear = Math.max(1, age) / windowMs
    return Math.max(aggression === 1 ? linear : linear ** (1 / aggression), minWeightPercent / 100)
  }
}

/** While some hosts are new one picker serves, the other from then on. */
export class UntilWarm implements HostPicker {
  readonly #slowStart: SlowStart
  readonly #endMs: number
  #warming: HostPicker | undefined
  readonly #steady: HostPicker

  constructor(slowStart: SlowStart, hosts: readonly Host[], pickers: { warming: HostPicker; steady: HostPicker }) {
    this.#slowStart = slowStart
    this.#endMs = slowStart.endMs(hosts)
    this.#warming = pickers.warming
    this.#steady = pickers.steady
  }

  next(context: Parameters<HostPicker['next']>[0], attempt: number): Host | undefined {
    const warming = this.#warming
    if (warming === undefined) return this.#steady.next(context, attempt)
    if (this.#slowStart.now() >= this.#endMs) this.#warming = undefined
    return warming.next(context, attempt)
  }
}
