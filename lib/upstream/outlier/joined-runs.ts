import type { HostCounts } from '../../core/host-health.ts'
import type { OutlierMonitor } from './monitor.ts'
import { ROW } from './rows.ts'

/** So many reports of failures are kept apart; older ones become one. */
const MOST_KEPT = 64

/**
 * Failures in a row of one kind at one host, joined from what several workers tell of theirs. Each tells when its failures
 * were and when something good came; a good one ends the row of everybody as far as it was before it.
 */
export class JoinedRun {
  /** Oldest first: when, and how many. */
  readonly #times: number[] = []
  readonly #counts: number[] = []
  #total = 0
  /** Failures of before do not count any more. */
  #brokenMs = Number.NEGATIVE_INFINITY

  /** So many failures, at that time (monotonic milliseconds of whoever joins). Answers how long the row is then. */
  failed(count: number, atMs: number): number {
    if (count <= 0 || atMs < this.#brokenMs) return this.#total
    // Nearly always the newest.
    let at = this.#times.length
    while (at > 0 && this.#times[at - 1] > atMs) at--
    this.#times.splice(at, 0, atMs)
    this.#counts.splice(at, 0, count)
    this.#total += count
    if (this.#times.length > MOST_KEPT) this.#merge()
    return this.#total
  }

  /** A response at that time has ended the row. */
  broken(atMs: number): void {
    if (atMs <= this.#brokenMs) return
    this.#brokenMs = atMs
    let gone = 0
    while (gone < this.#times.length && this.#times[gone] < atMs) this.#total -= this.#counts[gone++]
    if (gone === 0) return
    this.#times.splice(0, gone)
    this.#counts.splice(0, gone)
  }

  get length(): number {
    return this.#total
  }

  /** Begins anew. */
  clear(): void {
    this.#times.length = 0
    this.#counts.length = 0
    this.#total = 0
  }

  #merge(): void {
    this.#counts[1] += this.#counts[0]
    this.#times.shift()
    this.#counts.shift()
  }
}

/** The rows of all hosts of a cluster; those of hosts that do not fail take no room. */
export class JoinedRuns {
  readonly #byHost = new Map<OutlierMonitor, JoinedRun[]>()

  /** Takes what a worker tells over, and says which rows are how long by then. */
  take(
    monitor: OutlierMonitor,
    [, , , , , goodAgoMs, runs]: HostCounts,
    nowMs: number,
    grown: (row: number, length: number) => void,
  ): void {
    if (goodAgoMs >= 0) {
      monitor.goodMs = Math.max(monitor.goodMs, nowMs - goodAgoMs)
      const known = this.#byHost.get(monitor)
      if (known !== undefined) endedByGood(known, monitor.goodMs)
    }
    for (const [row, failures, failedAgoMs, brokenAgoMs] of runs ?? []) {
      const run = this.#run(monitor, row)
      if (brokenAgoMs >= 0) run.broken(nowMs - brokenAgoMs)
      if (failures > 0) grown(row, run.failed(failures, nowMs - failedAgoMs))
    }
  }

  /** As many more, just now. Answers how long the row is then. */
  failed(monitor: OutlierMonitor, row: number, count: number, nowMs: number): number {
    return this.#run(monitor, row).failed(count, nowMs)
  }

  length(monitor: OutlierMonitor, row: number): number {
    return this.#byHost.get(monitor)?.[row]?.length ?? 0
  }

  #run(monitor: OutlierMonitor, row: number): JoinedRun {
    let runs = this.#byHost.get(monitor)
    if (runs === undefined) this.#byHost.set(monitor, (runs = []))
    let run = runs[row]
    if (run === undefined) {
      while (runs.length <= row) runs.push(new JoinedRun())
      run = runs[row]
      endedByGood(runs, monitor.goodMs)
    }
    return run
  }

  /** That row begins anew. */
  clear(monitor: OutlierMonitor, row: number): void {
    this.#byHost.get(monitor)?.[row]?.clear()
  }

  /** All rows of a host do, or it is gone. */
  forget(monitor: OutlierMonitor): void {
    this.#byHost.delete(monitor)
  }
}

/** What monitors are about they say themselves. */
function endedByGood(runs: readonly JoinedRun[], goodMs: number): void {
  for (let row = 0; row < runs.length && row < ROW.monitors; row++) runs[row].broken(goodMs)
}
