import type { HostMonitor } from '../../core/attempt.ts'
import type { Headers } from '../../core/headers.ts'
import type { ClientWeightedConfig } from '../config.ts'
import type { Host } from '../host.ts'
import { reportIn } from '../orca/fields.ts'
import type { LoadReport } from '../orca/report.ts'
import { compileMetric, type ReadMetric, weightOf } from '../orca/weight.ts'
import type { BalancerOptions } from './policy.ts'

/** What one host has reported. */
export class HostLoad implements HostMonitor {
  readonly host: Host
  readonly #table: HostLoads
  /** Learns of the fields of responses; undefined where hosts are asked for reports. */
  readonly onLoadFields: ((fields: Headers) => void) | undefined
  /** In force: what it reported when weights were last worked out, or the median of the others. */
  weight = 1
  /** Of the latest report; 0: there is none. */
  #reported = 0
  #reportedAtMs = 0
  /** Of the first report since there were none. */
  #sinceMs = 0
  stopFollowing: (() => void) | undefined = undefined

  constructor(host: Host, table: HostLoads) {
    this.host = host
    this.#table = table
    this.onLoadFields = table.config.outOfBand === undefined ? this.#read : undefined
  }

  readonly #read = (fields: Headers): void => {
    const report = reportIn(fields)
    if (report !== undefined && report !== 'malformed') this.reported(report)
  }

  /** False: no weight follows from it. `forMs`: somebody else has had reports for that long. */
  reported(report: LoadReport | number, forMs = 0): boolean {
    const { metrics, config, now } = this.#table
    const weight = typeof report === 'number' ? report : weightOf(report, metrics, config.errorPenalty)
    if (weight === 0) return false
    const nowMs = now()
    if (this.#reported === 0) this.#sinceMs = nowMs - forMs
    this.#reported = weight
    this.#reportedAtMs = nowMs
    return true
  }

  /** 0: it has reported nothing, only just begun to, or nothing for too long. */
  current(nowMs: number): number {
    const { blackoutMs, expirationMs } = this.#table.config
    if (this.#reported === 0) return 0
    if (nowMs - this.#reportedAtMs > expirationMs) {
      this.#reported = 0
      return 0
    }
    return nowMs - this.#sinceMs < blackoutMs ? 0 : this.#reported
  }

  onResponse(): void {}

  onFailure(): void {}
}

/** The hosts of a cluster and what each has reported; hosts are followed from when somebody first asks for them. */
export class HostLoads implements Disposable {
  readonly config: ClientWeightedConfig
  readonly metrics: readonly ReadMetric[]
  readonly now: () => number
  readonly #options: BalancerOptions
  readonly #known = new Map<Host, HostLoad>()
  /** Grows when weights change. */
  generation = 0
  #dueMs = Number.NEGATIVE_INFINITY
  #retired = false

  constructor(config: ClientWeightedConfig, options: BalancerOptions) {
    this.config = config
    this.metrics = config.metrics.map(compileMetric)
    this.now = options.now ?? (() => 0)
    this.#options = options
  }

  of(host: Host): HostLoad {
    const known = this.#known.get(host)
    if (known !== undefined) return known
    const load = new HostLoad(host, this)
    host.watch(load)
    this.#known.set(host, load)
    // What weight it has beside the others is worked out with the next pick.
    this.#dueMs = Number.NEGATIVE_INFINITY
    const { outOfBand } = this.config
    if (outOfBand !== undefined && !this.#retired) {
      load.stopFollowing = this.#options.reports?.follow(host, outOfBand, (report, forMs) =>
        load.reported(report, forMs),
      )
    }
    return load
  }

  /** Works weights out where it is time to; answers what `generation` is then. */
  refresh(): number {
    const now = this.now()
    if (now < this.#dueMs) return this.generation
    this.#dueMs = now + this.config.updateMs
    let changed = false
    for (const level of this.#byPriority()) if (weigh(level, now)) changed = true
    if (changed) this.generation++
    return this.generation
  }

  #byPriority(): HostLoad[][] {
    const levels: HostLoad[][] = []
    for (const load of this.#known.values()) {
      while (levels.length <= load.host.priority) levels.push([])
      levels[load.host.priority].push(load)
    }
    return levels
  }

  /** Lets go of other hosts than these. */
  keep(hosts: readonly Host[]): void {
    if (this.#known.size === 0) return
    const left = new Set(hosts)
    for (const [host, load] of this.#known) {
      if (left.has(host)) continue
      host.unwatch(load)
      load.stopFollowing?.()
      this.#known.delete(host)
    }
  }

  /** As `Balancer.retire`. */
  retire(): void {
    this.#retired = true
    for (const load of this.#known.values()) {
      load.stopFollowing?.()
      load.stopFollowing = undefined
    }
  }

  [Symbol.dispose](): void {
    this.retire()
    this.keep([])
  }
}

/** Whoever has not reported gets the median of the others; 1 where nobody has. True: weights have changed. */
function weigh(loads: readonly HostLoad[], nowMs: number): boolean {
  const reported = loads.map((load) => load.current(nowMs))
  const median = medianOf(reported.filter((weight) => weight > 0))
  let changed = false
  for (let i = 0; i < loads.length; i++) {
    const weight = reported[i] > 0 ? reported[i] : median
    if (loads[i].weight === weight) continue
    loads[i].weight = weight
    changed = true
  }
  return changed
}

function medianOf(weights: readonly number[]): number {
  if (weights.length === 0) return 1
  const sorted = [...weights].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}
