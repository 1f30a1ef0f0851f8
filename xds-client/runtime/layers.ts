import type { RuntimeLayerStatus } from '../../lib/config/status.ts'
import type { Clock } from '../../lib/core/clock.ts'
import type { Json, JsonObject } from '../../lib/core/errors.ts'
import type { Log, Metrics } from '../../lib/core/metrics.ts'
import { sameJson } from '../../lib/core/same-json.ts'
import type { RuntimeLayerConfig } from '../config.ts'
import { type DiskLayerConfig, diskLayerPath, readDiskLayer } from './disk-layer.ts'
import { flattenLayer, type LayerValues, parseEntry } from './entries.ts'
import { LinkWatch } from './link-watch.ts'
import { RuntimeStats } from './stats.ts'

/** What the layers of a runtime are made of. */
export interface RuntimeLayersOptions {
  /** Lowest first. */
  readonly layers: readonly RuntimeLayerConfig[]
  /** `node.cluster` of the bootstrap. */
  readonly serviceCluster: string
  readonly clock: Clock
  readonly log: Log
  readonly metrics: Metrics
  /** The merged values are others than before; called within the call that changed them, or by a moved link. */
  changed(values: JsonObject): void
}

interface Layer {
  readonly config: RuntimeLayerConfig
  /** Undefined: it does not count (a directory that is not there, or that is wrong). */
  values: LayerValues | undefined
}

/**
 * The runtime values of a bootstrap, merged key by key from its layers; later layers win. Disk layers are read when they
 * are made and whenever their link is moved; whoever subscribes to RTDS hands its resources in.
 */
export class RuntimeLayers implements Disposable {
  readonly #options: RuntimeLayersOptions
  readonly #layers: readonly Layer[]
  readonly #stats: RuntimeStats
  readonly #watch: LinkWatch
  #values: JsonObject = Object.create(null)

  constructor(options: RuntimeLayersOptions) {
    this.#options = options
    this.#stats = new RuntimeStats(options.metrics)
    this.#layers = options.layers.map((config) => ({ config, values: initialValues(config) }))
    // Watched before it is read: what is moved between the two shows.
    const roots = options.layers.flatMap((layer) => (layer.kind === 'disk' ? [layer.symlinkRoot] : []))
    this.#watch = new LinkWatch(roots, options.clock, () => this.#reload())
    this.#load()
  }

  [Symbol.dispose](): void {
    this.#watch[Symbol.dispose]()
  }

  /** The merged values by dotted key. Never changed: a change makes new ones. */
  get values(): JsonObject {
    return this.#values
  }

  /** Layers that RTDS delivers, and that have their values by `deliver`. */
  delivered(): readonly Extract<RuntimeLayerConfig, { kind: 'rtds' }>[] {
    return this.#options.layers.filter((layer) => layer.kind === 'rtds')
  }

  /** The newest values of all rtds layers that go by this name of a resource; undefined: it has been removed. */
  deliver(resource: string, values: JsonObject | undefined): void {
    const entries: LayerValues = new Map()
    // What cannot be an entry has been refused with the resource.
    if (values !== undefined) flattenLayer(values, entries)
    for (const layer of this.#layers) {
      if (layer.config.kind === 'rtds' && layer.config.resource === resource) layer.values = entries
    }
    this.#reload()
  }

  /**
   * Sets keys of the admin layer, in the order of its own keys; '' takes one away. Texts are read as the files of disk
   * layers are. Answers why nothing was done, undefined where it was.
   */
  modify(values: JsonObject): string | undefined {
    const layer = this.#layers.find(({ config }) => config.kind === 'admin')
    if (layer === undefined) return 'there is no admin layer: add one to layered_runtime'
    const next: LayerValues = new Map(layer.values)
    for (const [key, value] of Object.entries(values)) {
      let entry: Json
      try {
        entry = typeof value === 'string' ? parseEntry(value) : value
      } catch {
        return `${key}: ${JSON.stringify(value)} is no value: it is not YAML`
      }
      if (entry === null || Array.isArray(entry)) return `${key}: ${JSON.stringify(value)} is no value`
      next.delete(key)
      if (entry !== '') next.set(key, entry)
    }
    layer.values = next
    this.#stats.adminOverrides(next.size > 0)
    this.#reload()
    return undefined
  }

  /** Each layer with its own values, lowest first; those that do not count have none. */
  status(): readonly RuntimeLayerStatus[] {
    return this.#layers.map(({ config, values }) => ({ name: config.name, values: values ?? new Map() }))
  }

  #reload(): void {
    if (this.#load()) this.#options.changed(this.#values)
  }

  /** As Envoy's, reads the disk with every new snapshot. Answers whether the merged values are others than before. */
  #load(): boolean {
    let [disks, errors] = [0, 0]
    for (const layer of this.#layers) {
      if (layer.config.kind !== 'disk') continue
      const read = this.#readDisk(layer.config)
      if (read === 'error') errors++
      else if (read !== undefined) disks++
      layer.values = read === 'error' ? undefined : read
    }
    const merged: JsonObject = Object.create(null)
    for (const { values } of this.#layers) for (const [key, value] of values ?? []) merged[key] = value
    const layers = this.#layers.filter(({ values }) => values !== undefined).length
    this.#stats.loaded({ layers, keys: Object.keys(merged).length, disks, errors })
    if (sameJson(merged, this.#values)) return false
    this.#values = merged
    return true
  }

  #readDisk(layer: DiskLayerConfig): LayerValues | 'error' | undefined {
    try {
      return readDiskLayer(diskLayerPath(layer, this.#options.serviceCluster))
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error)
      this.#options.log.warn('a runtime layer cannot be read; it is left out', { layer: layer.name, error: reason })
      return 'error'
    }
  }
}

function initialValues(config: RuntimeLayerConfig): LayerValues {
  const values: LayerValues = new Map()
  // Lists and null were refused with the bootstrap.
  if (config.kind === 'static') flattenLayer(config.values, values)
  return values
}
