import { fileURLToPath } from 'node:url'
import { loadBootstrap } from '../../xds-client/envoy/load.ts'
import type { AdminServer } from '../admin/server.ts'
import { startAdmin } from '../admin/server.ts'
import type { LowerFilters } from '../chain/factories.ts'
import type { AnyListenerFilterFactory, AnyNetworkFilterFactory } from '../chain/network.ts'
import { type AnyFilterFactory, createFilterRegistry, type FilterRegistry } from '../chain/registry.ts'
import type { GatewayConfig } from '../config/model.ts'
import type { NativeConfig } from '../config/native/config.ts'
import { factoriesIn } from '../config/native/factories.ts'
import { readNativeConfig } from '../config/native/read.ts'
import { type Address, formatAddress } from '../core/address.ts'
import { type Clock, systemClock } from '../core/clock.ts'
import { ConfigError, ConfigRefused, type JsonObject } from '../core/errors.ts'
import type { Log } from '../core/metrics.ts'
import { EmbeddedPanel } from '../runtime/embedded.ts'
import type { Engine, MetricsSnapshot } from '../runtime/engine.ts'
import { localBinder } from '../runtime/local-binder.ts'
import { createLog, type LevelLog } from '../telemetry/log.ts'
import { createEngine } from './engine.ts'
import { envoyContext, loadConfigFile } from './load-config.ts'
import { lowerFilters, standardFilters } from './standard-filters.ts'
import { versionLine } from './version.ts'

/** Idle connections close at once, and exchanges get this long to end. */
const CLOSE_DRAIN_MS = 1_000
/** For `/drain_listeners` of the admin server. */
const ADMIN_DRAIN_MS = 25_000

/** What a gateway is made with; each has a default. */
export interface GatewayOptions extends LowerFactories {
  /** Filters that the configuration may name, beside the standard ones. They are the same for all its configurations. */
  readonly filters?: readonly AnyFilterFactory[]
  /** The application log. Default: JSON lines of warnings and errors on standard error. */
  readonly log?: Log
  /** Default: the machine's. */
  readonly clock?: Clock
  /** A number in [0, 1), for decisions by chance. Default: `Math.random`. */
  readonly random?: () => number
}

export interface CloseOptions {
  /**
   * How long exchanges in flight may take to end, in ms; new connections are refused meanwhile. Idle connections are closed
   * a second before. 0 ends everything at once. Default: 1,000.
   */
  readonly drainMs?: number
}

/**
 * A gateway inside this process. It shares nothing with other gateways but the process.
 *
 * ```
 * created ──start()──▶ running ──close()──▶ closed
 *                      apply() ↺
 * ```
 * `await using` closes it at the end of a block.
 */
export interface Gateway extends AsyncDisposable, Disposable {
  /**
   * Opens listeners and the admin server. Rejects with `ConfigRefused` where an address cannot be bound; nothing is left
   * open then, and it may be tried again.
   */
  start(): Promise<void>
  /**
   * Replaces the configuration while requests go on: those under way end under the old one, listeners whose addresses stay
   * are not closed. Rejects with `ConfigRefused`, and everything stays as it is, where the new one cannot be used.
   */
  apply(config: NativeConfig | EnvoyConfig): Promise<void>
  /** Ends it; idempotent, and never rejects. */
  close(options?: CloseOptions): Promise<void>
  /** Settles when the gateway has ended, by `close` or by `/quitquitquit` of its admin server. */
  readonly closed: Promise<void>
  /** Where each listener listens, by its name; with the real port where the configuration says 0. Empty unless running. */
  readonly addresses: { readonly [listener: string]: readonly Address[] }
  /** Where the admin server listens; undefined where there is none. */
  readonly adminAddress: Address | undefined
  /** Counters, gauges and histograms under Envoy's names, as of now. */
  stats(): MetricsSnapshot
  /** Opens log files anew, after they were moved away. */
  reopenLogs(): void
}

/** An Envoy bootstrap that was read, with the filters it was read for. Made by `loadEnvoyConfig`. */
export class EnvoyConfig {
  readonly #config: GatewayConfig
  readonly #filters: readonly AnyFilterFactory[]
  readonly #lower: LowerFactories

  private constructor(config: GatewayConfig, filters: readonly AnyFilterFactory[], lower: LowerFactories) {
    this.#config = config
    this.#filters = filters
    this.#lower = lower
  }

  /** Of the gateway's own making. @internal */
  static of(config: GatewayConfig, filters: readonly AnyFilterFactory[], lower: LowerFactories): EnvoyConfig {
    return new EnvoyConfig(config, filters, lower)
  }

  /** Paths of fields that are set and have no effect. */
  get ignored(): readonly string[] {
    return this.#config.ignored
  }

  /** @internal */
  get config(): GatewayConfig {
    return this.#config
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
 * of native configurations. Takes about 100 ms, since Envoy's API definitions are loaded first.
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
  if (typeof source === 'string' || source instanceof URL) {
    const path = typeof source === 'string' ? source : fileURLToPath(source)
    return EnvoyConfig.of(loadConfigFile(path, context).config, filters, options)
  }
  return EnvoyConfig.of(
    loadBootstrap({ value: structuredClone(source), place: () => undefined }, context),
    filters,
    options,
  )
}

/**
 * Makes a gateway; nothing runs before `start()`.
 *
 * @param config a native configuration, or an Envoy bootstrap by `loadEnvoyConfig`
 * @throws ConfigRefused with every mistake in the configuration
 *
 * @example
 * const gateway = createGateway({
 *   listeners: [
 *     {
 *       name: 'main',
 *       address: '127.0.0.1:8080',
 *       http: { routes: [{ match: { prefix: '/' }, action: { kind: 'route', cluster: 'web' } }] },
 *     },
 *   ],
 *   clusters: [{ name: 'web', endpoints: ['127.0.0.1:3000'] }],
 * })
 * await gateway.start()
 */
export function createGateway(config: NativeConfig | EnvoyConfig, options: GatewayOptions = {}): Gateway {
  const own = config instanceof EnvoyConfig ? config.filters : factoriesIn(config)
  const lower = config instanceof EnvoyConfig ? config.lower : {}
  const known: KnownFilters = {
    registry: registryOf([...(options.filters ?? []), ...own]),
    filters: lowerOf({
      networkFilters: [...(options.networkFilters ?? []), ...(lower.networkFilters ?? [])],
      listenerFilters: [...(options.listenerFilters ?? []), ...(lower.listenerFilters ?? [])],
    }),
  }
  return new EmbeddedGateway(readConfig(config, known), known, options)
}

/** Every filter that a gateway knows. */
interface KnownFilters {
  readonly registry: FilterRegistry
  readonly filters: LowerFilters
}

/** Filters of one's own below HTTP, beside the standard ones. */
export interface LowerFactories {
  readonly networkFilters?: readonly AnyNetworkFilterFactory[]
  readonly listenerFilters?: readonly AnyListenerFilterFactory[]
}

function lowerOf({ networkFilters, listenerFilters }: LowerFactories): LowerFilters {
  try {
    return lowerFilters(networkFilters, listenerFilters)
  } catch (error) {
    throw new ConfigRefused([new ConfigError('filters', error instanceof Error ? error.message : String(error))])
  }
}

/** The standard filters and these; one that is named twice counts once. */
function registryOf(filters: readonly AnyFilterFactory[]): FilterRegistry {
  try {
    return createFilterRegistry([...new Set([...standardFilters(), ...filters])])
  } catch (error) {
    throw new ConfigRefused([new ConfigError('filters', error instanceof Error ? error.message : String(error))])
  }
}

function readConfig(config: NativeConfig | EnvoyConfig, { registry, filters }: KnownFilters): GatewayConfig {
  if (!(config instanceof EnvoyConfig)) return readNativeConfig(config, { registry, filters })
  const unknown = config.filters.filter((factory) => registry.byType.get(factory.typeUrls[0]) !== factory)
  if (unknown.length === 0) return config.config
  throw new ConfigRefused(
    unknown.map(
      ({ name }) => new ConfigError('', `the filter "${name}" is not one that this gateway was created with`),
    ),
  )
}

class EmbeddedGateway implements Gateway {
  readonly closed: Promise<void>
  readonly #known: KnownFilters
  readonly #clock: Clock
  readonly #log: LevelLog | (Log & { setLevel(level: string): void })
  readonly #engine: Engine
  readonly #panel: EmbeddedPanel
  readonly #settleClosed: () => void
  #initial: GatewayConfig
  #running: GatewayConfig | undefined = undefined
  #admin: AdminServer | undefined = undefined
  #closing: Promise<void> | undefined = undefined
  /** Starting, applying and closing happen one after the other. */
  #turn: Promise<void> = Promise.resolve()

  constructor(config: GatewayConfig, known: KnownFilters, options: GatewayOptions) {
    const { registry, filters } = known
    this.#initial = config
    this.#known = known
    this.#clock = options.clock ?? systemClock
    this.#log = options.log === undefined ? createLog({ level: 'warn' }) : withLevel(options.log)
    this.#engine = createEngine({
      registry,
      filters,
      binder: localBinder,
      clock: this.#clock,
      log: this.#log,
      random: options.random ?? Math.random,
      serving: () => this.#panel.serving(),
    })
    this.#panel = new EmbeddedPanel({
      engine: this.#engine,
      process,
      clock: this.#clock,
      drainTimeMs: ADMIN_DRAIN_MS,
      quit: () => void this.close({ drainMs: 0 }),
    })
    const { promise, resolve } = Promise.withResolvers<void>()
    this.closed = promise
    this.#settleClosed = resolve
  }

  start(): Promise<void> {
    return this.#inTurn(async () => {
      if (this.#running !== undefined) throw new Error('the gateway has been started already')
      await this.#use(this.#initial)
    })
  }

  async apply(config: NativeConfig | EnvoyConfig): Promise<void> {
    // Read now: the caller may change its objects as soon as this returns.
    const next = readConfig(config, this.#known)
    return this.#inTurn(async () => {
      if (this.#running === undefined) throw new Error('start() the gateway before apply()')
      await this.#use(next)
    })
  }

  close(options: CloseOptions = {}): Promise<void> {
    this.#closing ??= this.#turn.then(() => this.#close(options.drainMs ?? CLOSE_DRAIN_MS))
    return this.#closing
  }

  get addresses(): { readonly [listener: string]: readonly Address[] } {
    const addresses: { [listener: string]: readonly Address[] } = Object.create(null)
    for (const listener of this.#engine.status().listeners) addresses[listener.name] = listener.addresses
    return addresses
  }

  get adminAddress(): Address | undefined {
    return this.#admin?.address
  }

  stats(): MetricsSnapshot {
    return this.#engine.metrics()
  }

  reopenLogs(): void {
    this.#engine.reopenLogs()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  /** Ends everything at once, without waiting for it. */
  [Symbol.dispose](): void {
    void this.close({ drainMs: 0 })
  }

  #inTurn(step: () => Promise<void>): Promise<void> {
    if (this.#closing !== undefined) return Promise.reject(new Error('the gateway is closed'))
    const result = this.#turn.then(step)
    this.#turn = result.catch(() => {})
    return result
  }

  /** Both or nothing: the admin server of the configuration, and the configuration in the engine. */
  async #use(config: GatewayConfig): Promise<void> {
    const stays = sameAddress(this.#running?.admin?.address, config.admin?.address)
    const admin = stays ? this.#admin : await this.#openAdmin(config)
    try {
      await this.#engine.apply(config)
    } catch (error) {
      if (!stays) await admin?.close()
      throw error
    }
    this.#running = config
    this.#panel.applied(config)
    if (stays) return
    const before = this.#admin
    this.#admin = admin
    await before?.close()
  }

  async #openAdmin(config: GatewayConfig): Promise<AdminServer | undefined> {
    if (config.admin === undefined) return undefined
    const { address } = config.admin
    const identity = { version: versionLine(), options: {} }
    return startAdmin({ address, backend: this.#panel, identity, log: this.#log })
  }

  async #close(drainMs: number): Promise<void> {
    try {
      this.#panel.draining()
      if (drainMs > 0 && this.#running !== undefined) await this.#engine.drain(drainMs)
      await this.#engine.close()
      await this.#admin?.close()
    } catch (error) {
      this.#log.error('the gateway could not end cleanly', {
        error: error instanceof Error ? error.stack : String(error),
      })
    } finally {
      this.#admin = undefined
      this.#running = undefined
      if ('flush' in this.#log) this.#log.flush()
      this.#settleClosed()
    }
  }
}

/** A log of somebody else's has no level that we could change. */
function withLevel(log: Log): Log & { setLevel(level: string): void } {
  return {
    debug: (message, fields) => log.debug(message, fields),
    info: (message, fields) => log.info(message, fields),
    warn: (message, fields) => log.warn(message, fields),
    error: (message, fields) => log.error(message, fields),
    setLevel(level) {
      log.warn('the log level is decided by the log that the gateway was given', { level })
    },
  }
}

function sameAddress(a: Address | undefined, b: Address | undefined): boolean {
  return (a && formatAddress(a)) === (b && formatAddress(b))
}
