import { fileURLToPath } from 'node:url'
import type { AnyFilterFactory } from '../chain/registry.ts'
import { type ParsedConfig, readConfigFile } from '../config/parse.ts'
import type { JsonObject } from '../core/errors.ts'
import { type LowerFactories, lowerOf, registryOf } from './known-filters.ts'
import { envoyContext } from './load-config.ts'
import type { BootstrapReading } from './xds/live.ts'
import { readRecorded } from './xds/read.ts'

/** An Envoy bootstrap that was read, with the filters it was read for. Made by `loadEnvoyConfig`. */
export class EnvoyConfig {
  readonly #read: () => BootstrapReading
  readonly #reading: BootstrapReading
  readonly #filters: readonly AnyFilterFactory[]
  readonly #lower: LowerFactories

  private constructor(read: () => BootstrapReading, filters: readonly AnyFilterFactory[], lower: LowerFactories) {
    this.#read = read
    this.#reading = read()
    this.#filters = filters
    this.#lower = lower
  }

  /** Of the gateway's own making. @internal */
  static of(read: () => BootstrapReading, filters: readonly AnyFilterFactory[], lower: LowerFactories): EnvoyConfig {
    return new EnvoyConfig(read, filters, lower)
  }

  /** Paths of fields that are set and have no effect. */
  get ignored(): readonly string[] {
    return this.#reading.loaded.config.ignored
  }

  /** @internal */
  get reading(): BootstrapReading {
    return this.#reading
  }

  /** Reads it anew, with its files as they are now. @internal */
  again(): EnvoyConfig {
    return new EnvoyConfig(this.#read, this.#filters, this.#lower)
  }

  /** @internal */
  get filters(): readonly AnyFilterFactory[] {
    return this.#filters
  }

  /** @internal */
  get lower(): LowerFactories {
    return this.#lower
  }
}

/**
 * Reads an Envoy v3 bootstrap (YAML or JSON) for `createGateway` or `gateway.apply`. Envoy's defaults hold in it, not those
 * of native configurations. What its control planes deliver comes when the gateway runs. Takes about 100 ms, since Envoy's
 * API definitions are loaded first.
 *
 * @param source the path or file URL of a file, or a bootstrap as an object
 * @param options.filters filters that the bootstrap may name, beside the standard ones; `networkFilters` and
 *   `listenerFilters` likewise
 * @throws ConfigRefused with every mistake, each with its file, line and column
 *
 * @example
 * const gateway = createGateway(loadEnvoyConfig('envoy.yaml', { filters: [myFilter] }))
 */
export function loadEnvoyConfig(
  source: string | URL | JsonObject,
  options: LowerFactories & { readonly filters?: readonly AnyFilterFactory[] } = {},
): EnvoyConfig {
  const filters = options.filters ?? []
  const context = envoyContext(registryOf(filters).factories, lowerOf(options))
  const own = typeof source === 'string' || source instanceof URL ? source : structuredClone(source)
  const read = (): BootstrapReading => readRecorded(documentOf(own), context)
  return EnvoyConfig.of(read, filters, options)
}

function documentOf(source: string | URL | JsonObject): ParsedConfig {
  if (typeof source !== 'string' && !(source instanceof URL)) {
    return { value: structuredClone(source), place: () => undefined }
  }
  return readConfigFile(typeof source === 'string' ? source : fileURLToPath(source))
}
