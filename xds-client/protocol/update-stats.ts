import { createHash } from 'node:crypto'
import type { Counter, Gauge, Histogram, Metrics, TextCell } from '../../lib/core/metrics.ts'

/** What Envoy counts of a subscription (`cluster_manager.cds.*`, `sds.<name>.*`, …). */
export interface UpdateCells {
  readonly attempt: Counter
  readonly success: Counter
  /** The connection was lost, or files and answers could not be read. */
  readonly failure: Counter
  readonly rejected: Counter
  readonly initFetchTimeout: Counter
  /** Epoch ms of the last update that was taken. */
  readonly time: Gauge
  /** Of the version that was taken last; 0: none. */
  readonly version: Gauge
  /** The version itself. */
  readonly versionText: TextCell
  /** ms that taking over took. */
  readonly duration: Histogram
}

/**
 * The cells of one subscription: all under one prefix, or those of each resource under its own, which are made when there
 * is first something to count.
 */
export class UpdateStats {
  readonly #metrics: Metrics
  readonly #prefixOf: ((name: string) => string) | undefined
  readonly #whole: UpdateCells | undefined
  readonly #byName = new Map<string, UpdateCells>()

  /** `prefix` with its dot; undefined: nothing is counted. */
  constructor(metrics: Metrics, prefix: string | ((name: string) => string) | undefined) {
    this.#metrics = metrics
    this.#prefixOf = typeof prefix === 'function' ? prefix : undefined
    this.#whole = typeof prefix === 'string' ? cellsOf(metrics, prefix) : undefined
  }

  /** The subscription's own cells; undefined where each resource has its own. */
  get whole(): UpdateCells | undefined {
    return this.#whole
  }

  get perName(): boolean {
    return this.#prefixOf !== undefined
  }

  /** The cells of one resource, where each has its own. */
  of(name: string): UpdateCells | undefined {
    if (this.#prefixOf === undefined) return undefined
    let cells = this.#byName.get(name)
    if (cells === undefined) this.#byName.set(name, (cells = cellsOf(this.#metrics, this.#prefixOf(name))))
    return cells
  }

  forget(name: string): void {
    this.#byName.delete(name)
  }
}

function cellsOf(metrics: Metrics, prefix: string): UpdateCells {
  return {
    attempt: metrics.counter(`${prefix}update_attempt`),
    success: metrics.counter(`${prefix}update_success`),
    failure: metrics.counter(`${prefix}update_failure`),
    rejected: metrics.counter(`${prefix}update_rejected`),
    initFetchTimeout: metrics.counter(`${prefix}init_fetch_timeout`),
    time: metrics.gauge(`${prefix}update_time`),
    version: metrics.gauge(`${prefix}version`),
    versionText: metrics.text?.(`${prefix}version_text`) ?? { v: '' },
    duration: metrics.histogram(`${prefix}update_duration`),
  }
}

/**
 * A number that stands for a version in the gauge `version`: the same for the same text, in this and every other process.
 * Not Envoy's (which is 64 bits of xxHash), since numbers here have 53.
 */
export function versionNumber(version: string): number {
  return version === '' ? 0 : createHash('sha256').update(version).digest().readUIntBE(0, 6)
}
