import type { Clock } from '../../core/clock.ts'
import type { HostWeight } from '../../core/host-health.ts'
import type { ReportSource } from '../balance/policy.ts'
import type { BalancerConfig, ClientWeightedConfig } from '../config.ts'
import type { Host } from '../host.ts'
import { compileMetric, type ReadMetric, weightOf } from './weight.ts'

/** A policy that has its hosts asked for their load. */
export type AskingConfig = ClientWeightedConfig & Required<Pick<ClientWeightedConfig, 'outOfBand'>>

/** The part of a policy that has hosts asked; undefined: none does. */
export function askingIn(config: BalancerConfig): AskingConfig | undefined {
  switch (config.kind) {
    case 'client-weighted':
      return config.outOfBand === undefined ? undefined : (config as AskingConfig)
    case 'subset':
      return askingIn(config.within)
    case 'override-host':
      return askingIn(config.otherwise)
    default:
      return undefined
  }
}

/** What is known of one host. */
interface Known {
  weight: number
  reportedAtMs: number
  /** Of the first report since there were none. */
  sinceMs: number
  readonly stop: () => void
}

/** The weights of hosts that several workers use: each host is asked once, and what follows is told to all of them. */
export class SharedReports implements Disposable {
  readonly #config: AskingConfig
  readonly #source: ReportSource
  readonly #clock: Clock
  readonly #metrics: readonly ReadMetric[]
  readonly #weighed: (host: Host) => void
  readonly #known = new Map<Host, Known>()

  /** `weighed`: something new is known of the host. */
  constructor(
    config: AskingConfig,
    parts: { readonly source: ReportSource; readonly clock: Clock; readonly weighed: (host: Host) => void },
  ) {
    this.#config = config
    this.#source = parts.source
    this.#clock = parts.clock
    this.#weighed = parts.weighed
    this.#metrics = config.metrics.map(compileMetric)
  }

  update(added: readonly Host[], removed: readonly Host[]): void {
    for (const host of removed) {
      this.#known.get(host)?.stop()
      this.#known.delete(host)
    }
    for (const host of added) {
      const stop = this.#source.follow(host, this.#config.outOfBand, (report) => {
        if (typeof report === 'number') return false
        return this.#reported(known, host, weightOf(report, this.#metrics, this.#config.errorPenalty))
      })
      const known: Known = { weight: 0, reportedAtMs: 0, sinceMs: 0, stop }
      this.#known.set(host, known)
    }
  }

  #reported(known: Known, host: Host, weight: number): boolean {
    if (weight === 0) return false
    const now = this.#clock.now()
    if (known.weight === 0 || now - known.reportedAtMs > this.#config.expirationMs) known.sinceMs = now
    known.weight = weight
    known.reportedAtMs = now
    this.#weighed(host)
    return true
  }

  /** Undefined: it has not reported, or not for too long. */
  weight(host: Host): HostWeight | undefined {
    const known = this.#known.get(host)
    if (known === undefined || known.weight === 0) return undefined
    const now = this.#clock.now()
    if (now - known.reportedAtMs > this.#config.expirationMs) return undefined
    return [host.key, known.weight, Math.round(now - known.sinceMs)]
  }

  [Symbol.dispose](): void {
    this.update([], [...this.#known.keys()])
  }
}
