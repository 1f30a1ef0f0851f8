import type { Counter, Gauge, Metrics } from '../../lib/core/metrics.ts'

/** What one look at all layers brought. */
export interface RuntimeLoad {
  readonly layers: number
  readonly keys: number
  /** Disk layers that are there. */
  readonly disks: number
  readonly errors: number
}

/** Envoy's `runtime.*`. */
export class RuntimeStats {
  readonly #success: Counter
  readonly #error: Counter
  readonly #overrideDirExists: Counter
  readonly #overrideDirNotExists: Counter
  readonly #layers: Gauge
  readonly #keys: Gauge
  readonly #adminOverrides: Gauge

  constructor(metrics: Metrics) {
    this.#success = metrics.counter('runtime.load_success')
    this.#error = metrics.counter('runtime.load_error')
    this.#overrideDirExists = metrics.counter('runtime.override_dir_exists')
    this.#overrideDirNotExists = metrics.counter('runtime.override_dir_not_exists')
    this.#layers = metrics.gauge('runtime.num_layers')
    this.#keys = metrics.gauge('runtime.num_keys')
    this.#adminOverrides = metrics.gauge('runtime.admin_overrides_active')
  }

  loaded({ layers, keys, disks, errors }: RuntimeLoad): void {
    if (errors === 0) this.#success.v++
    else this.#error.v++
    // Envoy counts a second directory, the one of the service cluster on top, as the override.
    if (disks > 1) this.#overrideDirExists.v++
    else this.#overrideDirNotExists.v++
    this.#layers.v = layers
    this.#keys.v = keys
  }

  adminOverrides(active: boolean): void {
    this.#adminOverrides.v = active ? 1 : 0
  }
}
