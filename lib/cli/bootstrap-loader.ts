import type { EnvoyLoadContext } from '../../xds-client/envoy/load.ts'
import { type ParsedConfig, parseConfigText } from '../config/parse.ts'
import { systemClock } from '../core/clock.ts'
import type { Log } from '../core/metrics.ts'
import type { MetricsSnapshot } from '../core/status.ts'
import type { ProtoRegistry } from '../proto/registry.ts'
import type { ControlPanel } from '../runtime/control-panel.ts'
import type { LoadedFiles } from '../runtime/control-parts.ts'
import { stampOf } from '../runtime/recorded-files.ts'
import { readDocument, withNode } from './bootstrap-document.ts'
import { defaultConfig } from './default-config.ts'
import { registryOf } from './known-filters.ts'
import { envoyContext } from './load-config.ts'
import { parseAddress, type RunSettings } from './settings.ts'
import { lowerFilters } from './standard-filters.ts'
import { type BootstrapReading, XdsLive } from './xds/live.ts'
import { baseOf, readRecorded } from './xds/read.ts'

/** Reads the bootstrap that the command line names, as often as it is asked to. */
export class BootstrapLoader {
  readonly #settings: RunSettings
  readonly #log: Log
  readonly #registry = registryOf([])
  readonly #lower = lowerFilters()
  readonly #context: EnvoyLoadContext
  #live: XdsLive | undefined = undefined
  /** Set when there is one; before that nobody counts loads. */
  panel: ControlPanel | undefined = undefined

  constructor(settings: RunSettings, log: Log) {
    this.#settings = settings
    this.#log = log
    const { unknownFields } = settings
    const context = envoyContext(this.#registry.factories, this.#lower)
    this.#context = unknownFields === '' ? context : { ...context, unknownFields }
  }

  /** Whoever loads owns what keeps the configuration up to date. @throws ConfigRefused */
  load(): LoadedFiles {
    const reading = this.#read()
    const { loaded, files } = reading
    if (loaded.dynamic === undefined) return { config: loaded.config, files }
    const { stateDir } = this.#settings
    const live = new XdsLive({
      reading,
      again: () => this.#read(),
      registry: this.#registry,
      filters: this.#lower,
      clock: systemClock,
      random: Math.random,
      log: this.#log,
      loads: () => (this.panel as ControlPanel).loads(),
      ...(stateDir !== '' && { stateDir }),
    })
    this.#live = live
    return { config: baseOf(loaded), files, live }
  }

  /** Envoy's API, as it was read for the bootstrap. */
  get registry(): ProtoRegistry {
    return this.#context.registry
  }

  /** What is counted in speaking to control planes; undefined where there are none. */
  metrics(): MetricsSnapshot | undefined {
    return this.#live?.metrics()
  }

  #read(): BootstrapReading {
    const { adminAddress, configPath } = this.#settings
    const address = parseAddress(adminAddress)
    // Before it is read: what changes meanwhile shows.
    const stamp = safeStamp(configPath)
    const { loaded, files } = readRecorded(this.#document(), this.#context, (config) =>
      address === undefined ? config : { ...config, admin: { address } },
    )
    if (configPath === '') return { loaded, files }
    return { loaded, files: { ...files, files: new Map(files.files).set(configPath, stamp) } }
  }

  #document(): ParsedConfig {
    const settings = this.#settings
    const document = readDocument(settings, this.#context.registry)
    if (document !== undefined) return document
    return withNode(parseConfigText(defaultConfig(settings.demoPort), 'built-in configuration'), settings)
  }
}

/** Reading says why it cannot be seen. */
function safeStamp(path: string): string {
  try {
    return stampOf(path)
  } catch {
    return ''
  }
}
