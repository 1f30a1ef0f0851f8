import type { LowerFilters } from '../chain/factories.ts'
import type { AnyFilterFactory, FilterRegistry } from '../chain/registry.ts'
import type { GatewayConfig } from '../config/model.ts'
import type { NativeConfig } from '../config/native/config.ts'
import { factoriesIn } from '../config/native/factories.ts'
import { readNativeConfig } from '../config/native/read.ts'
import { ConfigError, ConfigRefused } from '../core/errors.ts'
import type { ProtoRegistry } from '../proto/registry.ts'
import { FileRecorder, type RecordedFiles } from '../runtime/recorded-files.ts'
import type { MeshMaterial } from '../tls/mesh.ts'
import { EnvoyConfig } from './envoy-config.ts'
import type { LowerFactories } from './known-filters.ts'
import { baseOf } from './xds/read.ts'

/** The filters that come with a configuration. */
export function filtersOf(config: NativeConfig | EnvoyConfig): {
  readonly own: readonly AnyFilterFactory[]
  readonly lower: LowerFactories
} {
  if (config instanceof EnvoyConfig) return { own: config.filters, lower: config.lower }
  const { http, network, listener } = factoriesIn(config)
  return { own: http, lower: { networkFilters: network, listenerFilters: listener } }
}

/** Every filter that a gateway knows. */
export interface KnownFilters {
  readonly registry: FilterRegistry
  readonly filters: LowerFilters
  /** As of now. */
  readonly workload: MeshMaterial | undefined
}

/** Deeper than any configuration; whatever is further down was made by a mistake, or in a circle. */
const MAX_DEPTH = 100

/** A configuration that was read, and how to read it anew when its files have changed. */
export interface ConfigSource {
  /** Where control planes keep it up to date: what does not come from them. */
  readonly config: GatewayConfig
  /** Undefined: nobody keeps it up to date. */
  readonly delivered?: EnvoyConfig
  readonly files: RecordedFiles
  /** Envoy's API, where it was read for the configuration. */
  readonly registry?: ProtoRegistry
  /** @throws ConfigRefused */
  again(known: KnownFilters): ConfigSource
}

/** Reads a configuration now: the caller may change its objects as soon as this returns. @throws ConfigRefused */
export function readSource(config: NativeConfig | EnvoyConfig, known: KnownFilters): ConfigSource {
  return config instanceof EnvoyConfig ? envoySource(config, known) : nativeSource(copyOf(config), known)
}

function nativeSource(config: unknown, { registry, filters, workload }: KnownFilters): ConfigSource {
  const files = new FileRecorder()
  const { readFile } = files
  return {
    config: readNativeConfig(config, { registry, filters, readFile, ...(workload && { workload }) }),
    files,
    again: (known) => nativeSource(config, known),
  }
}

function envoySource(config: EnvoyConfig, known: KnownFilters): ConfigSource {
  const unknown = config.filters.filter((factory) => known.registry.byType.get(factory.typeUrls[0]) !== factory)
  if (unknown.length > 0) {
    throw new ConfigRefused(
      unknown.map(
        ({ name }) => new ConfigError('', `the filter "${name}" is not one that this gateway was created with`),
      ),
    )
  }
  const { loaded, files } = config.reading
  const again = (next: KnownFilters): ConfigSource => envoySource(config.again(), next)
  const { registry } = loaded.context
  if (loaded.dynamic === undefined) return { config: loaded.config, files, again, registry }
  return { config: baseOf(loaded), files, again, registry, delivered: config }
}

/** Lists and plain objects are copied; filters and all else with a mind of its own stay what they are. */
function copyOf(value: unknown, depth = 0): unknown {
  if (typeof value !== 'object' || value === null || depth > MAX_DEPTH) return value
  if (Array.isArray(value)) return value.map((item) => copyOf(item, depth + 1))
  const prototype: unknown = Object.getPrototypeOf(value)
  if (prototype !== Object.prototype && prototype !== null) return value
  const entries = Object.entries(value)
  if (entries.some(([, item]) => typeof item === 'function')) return value
  return Object.fromEntries(entries.map(([key, item]) => [key, copyOf(item, depth + 1)]))
}
