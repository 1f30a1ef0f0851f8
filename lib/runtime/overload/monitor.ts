import type { MonitorConfig } from '../../config/overload.ts'
import type { Counter, Gauge, Log, Metrics } from '../../core/metrics.ts'

/** Measures one resource. */
export interface Monitor extends Disposable {
  /** The pressure: 0 nothing is used, 1 all that may be, more is possible. Throws, or rejects, where it cannot be told. */
  read(): number | Promise<number>
}

interface Watched {
  readonly name: string
  readonly monitor: Monitor
  readonly pressure: Gauge
  readonly failed: Counter
  readonly skipped: Counter
  pending: boolean
  /** Its last reading failed: the next failure is no news. */
  mute: boolean
}

export interface MonitorSetParts {
  readonly make: (config: MonitorConfig) => Monitor
  readonly metrics: Metrics
  readonly log: Log
  readonly measured: (name: string, pressure: number) => void
}

/** Several monitors with their statistics (`overload.<name>.`). */
export class MonitorSet implements Disposable {
  readonly #watched: readonly Watched[]
  readonly #parts: MonitorSetParts
  #closed = false

  constructor(configs: readonly MonitorConfig[], parts: MonitorSetParts) {
    this.#parts = parts
    this.#watched = configs.map((config) => watched(config, parts))
  }

  /** Reads all of them; one whose last reading is still under way is left out. A failure leaves its pressure as it was. */
  refresh(): void {
    for (const one of this.#watched) {
      if (one.pending) one.skipped.v++
      else this.#read(one)
    }
  }

  #read(one: Watched): void {
    try {
      const pressure = one.monitor.read()
      if (typeof pressure === 'number') {
        this.#took(one, pressure)
        return
      }
      one.pending = true
      pressure.then(
        (value) => this.#took(one, value),
        (error: unknown) => this.#failed(one, error),
      )
    } catch (error) {
      this.#failed(one, error)
    }
  }

  #took(one: Watched, pressure: number): void {
    one.pending = false
    one.mute = false
    if (this.#closed) return
    // Envoy's gauge is a whole number.
    one.pressure.v = Math.round(pressure * 100)
    this.#parts.measured(one.name, pressure)
  }

  #failed(one: Watched, error: unknown): void {
    one.pending = false
    one.failed.v++
    if (one.mute || this.#closed) return
    one.mute = true
    const reason = error instanceof Error ? error.message : String(error)
    this.#parts.log.warn('a resource monitor cannot tell its pressure', { monitor: one.name, reason })
  }

  [Symbol.dispose](): void {
    this.#closed = true
    for (const { monitor, pressure } of this.#watched) {
      pressure.v = 0
      monitor[Symbol.dispose]()
    }
  }
}

function watched(config: MonitorConfig, { make, metrics }: MonitorSetParts): Watched {
  const prefix = `overload.${config.name}.`
  return {
    name: config.name,
    monitor: make(config),
    pressure: metrics.gauge(`${prefix}pressure`),
    failed: metrics.counter(`${prefix}failed_updates`),
    skipped: metrics.counter(`${prefix}skipped_updates`),
    pending: false,
    mute: false,
  }
}

/** A monitor that has nothing to give back. */
export function monitorOf(read: () => number | Promise<number>): Monitor {
  return { read, [Symbol.dispose]: () => {} }
}
