import type { AdminServer } from '../admin/server.ts'
import { startAdmin } from '../admin/server.ts'
import type { AnyFilterFactory } from '../chain/registry.ts'
import type { GatewayConfig } from '../config/model.ts'
import type { NativeConfig } from '../config/native/config.ts'
import { type Address, formatAddress } from '../core/address.ts'
import { type Clock, systemClock } from '../core/clock.ts'
import { ConfigRefused } from '../core/errors.ts'
import type { Log } from '../core/metrics.ts'
import { createProtoRegistry, type ProtoRegistry } from '../proto/registry.ts'
import { EmbeddedPanel } from '../runtime/embedded.ts'
import { DRAIN_ANNOUNCED, type Engine, type MetricsSnapshot } from '../runtime/engine.ts'
import { reasonsOf } from '../runtime/error-messages.ts'
import { FileWatch } from '../runtime/file-watch.ts'
import { localBinder } from '../runtime/local-binder.ts'
import { createLog, type LevelLog } from '../telemetry/log.ts'
import type { MeshMaterial } from '../tls/mesh.ts'
import { materialProblem, withMaterial } from '../workload/renewed.ts'
import type { MaterialSource } from '../workload/workload-identity.ts'
import { type ConfigSource, filtersOf, type KnownFilters, readSource } from './config-source.ts'
import { createEngine } from './engine.ts'
import type { EnvoyConfig } from './envoy-config.ts'
import { type LowerFactories, lowerOf, registryOf } from './known-filters.ts'
import { versionLine } from './version.ts'
import { Following } from './xds/followed.ts'

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
  /**
   * The certificate and authorities that `workload` stands for in the configuration, by `createWorkloadIdentity`. Renewed
   * ones are taken over without touching connections; the caller closes it after the gateway.
   */
  readonly workload?: MaterialSource
  /**
   * A directory where what control planes send is kept for the next start, which may be one without them. Default: it is not
   * kept.
   */
  readonly stateDir?: string
  /**
   * Whether a drain tells all connections to go at once, or one after the other over the drain time, so that not all of them
   * come back elsewhere in one moment (Envoy's `--drain-strategy`). Default: `immediate`.
   */
  readonly drainStrategy?: 'gradual' | 'immediate'
}

export interface CloseOptions {
  /**
   * How long exchanges in flight may take to end, in ms; new connections are refused meanwhile. Idle connections are closed
   * a second before. 0 ends everything at once, also where `close` has been called before. Default: 1,000.
   */
  readonly drainMs?: number
  /**
   * Of that, how long new connections are still taken, in ms, while health checks fail (`/ready` of the admin server says
   * `DRAINING`) and answers close their connections: load balancers need a moment to notice. Default: 0.
   */
  readonly drainMinMs?: number
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
   * Opens listeners and the admin server, and begins to follow the control planes that the configuration names. Rejects with `ConfigRefused` where an address cannot be bound; nothing is left
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
  const { own, lower } = filtersOf(config)
  const known: KnownFilters = {
    registry: registryOf([...(options.filters ?? []), ...own]),
    filters: lowerOf({
      networkFilters: [...(options.networkFilters ?? []), ...(lower.networkFilters ?? [])],
      listenerFilters: [...(options.listenerFilters ?? []), ...(lower.listenerFilters ?? [])],
    }),
    workload: options.workload?.material,
  }
  return new EmbeddedGateway(readSource(config, known), known, options)
}

class EmbeddedGateway implements Gateway {
  readonly closed: Promise<void>
  #known: KnownFilters
  /** Of workload certificates before the current one, as long as a configuration may have them. */
  readonly #formerKeys = new Set<string>()
  readonly #forgetWorkload: (() => void) | undefined
  readonly #clock: Clock
  readonly #log: LevelLog | (Log & { setLevel(level: string): void })
  readonly #engine: Engine
  readonly #panel: EmbeddedPanel
  readonly #settleClosed: () => void
  /** Of the configuration that runs, or is to run. */
  #source: ConfigSource
  readonly #watch: FileWatch
  readonly #following: Following
  #initial: GatewayConfig
  #running: GatewayConfig | undefined = undefined
  #admin: AdminServer | undefined = undefined
  #closing: Promise<void> | undefined = undefined
  /** Nobody waits for the drain any longer. */
  readonly #hurry = Promise.withResolvers<void>()
  #hurried = false
  /** Starting, applying and closing happen one after the other. */
  #turn: Promise<void> = Promise.resolve()

  constructor(source: ConfigSource, known: KnownFilters, options: GatewayOptions) {
    const { registry, filters } = known
    this.#source = source
    this.#initial = source.config
    this.#known = known
    this.#clock = options.clock ?? systemClock
    this.#watch = new FileWatch({ clock: this.#clock, changed: () => this.#reload() })
    this.#log = options.log === undefined ? createLog({ level: 'warn' }) : withLevel(options.log)
    this.#following = new Following({
      known: () => this.#known,
      engine: () => this.#engine,
      panel: () => this.#panel,
      clock: this.#clock,
      log: this.#log,
      random: options.random ?? Math.random,
      stateDir: options.stateDir,
      published: () => {
        const files = this.#following.files()
        if (files !== undefined && this.#running !== undefined) this.#watch.follow(files)
      },
    })
    this.#engine = createEngine({
      registry,
      filters,
      binder: localBinder,
      clock: this.#clock,
      log: this.#log,
      random: options.random ?? Math.random,
      serving: () => this.#panel.serving(),
      healthy: () => this.#panel.healthy(),
      demand: this.#following,
      gradualDrain: options.drainStrategy === 'gradual',
    })
    this.#panel = new EmbeddedPanel({
      engine: this.#engine,
      process,
      clock: this.#clock,
      drainTimeMs: ADMIN_DRAIN_MS,
      live: () => this.#following.current,
      ownMetrics: () => this.#following.metrics(),
      quit: () => void this.close({ drainMs: 0 }),
    })
    this.#forgetWorkload = options.workload?.onRenewed((next) => this.#renew(next))
    const { promise, resolve } = Promise.withResolvers<void>()
    this.closed = promise
    this.#settleClosed = resolve
  }

  start(): Promise<void> {
    return this.#inTurn(async () => {
      if (this.#running !== undefined) throw new Error('the gateway has been started already')
      await this.#use(this.#initial, this.#source.delivered)
      this.#watchFiles()
    })
  }

  async apply(config: NativeConfig | EnvoyConfig): Promise<void> {
    // Read now: the caller may change its objects as soon as this returns.
    const next = readSource(config, this.#known)
    return this.#inTurn(async () => {
      if (this.#running === undefined) throw new Error('start() the gateway before apply()')
      await this.#useSource(next)
    })
  }

  async #useSource(next: ConfigSource): Promise<void> {
    await this.#use(next.config, next.delivered)
    this.#source = next
    this.#watchFiles()
  }

  #watchFiles(): void {
    if (this.#running !== undefined) this.#watch.update(this.#following.files() ?? this.#source.files)
  }

  /** Files of the configuration have changed: certificates that were renewed, mostly. */
  #reload(): void {
    if (this.#closing !== undefined) return
    const reloaded = this.#inTurn(async () => {
      if (this.#running === undefined) return
      const errors = this.#following.current?.live.reload?.()
      if (errors === undefined) await this.#useSource(this.#source.again(this.#known))
      else if (errors.length > 0) throw new ConfigRefused(errors)
      this.#panel.reloads.good.v++
      this.#panel.reloads.failing.v = 0
      this.#log.info('files have changed; the configuration was read anew')
    })
    reloaded.catch((error: unknown) => {
      this.#panel.reloads.refused.v++
      this.#panel.reloads.failing.v = 1
      this.#log.error('files have changed, and cannot be used; everything stays as it was', {
        reasons: reasonsOf(error),
      })
    })
  }

  /** Configurations from now on have the new certificate, and so has the current one. */
  #renew(next: MeshMaterial): void {
    const before = this.#known.workload
    if (before === undefined || this.#closing !== undefined) return
    const problem = materialProblem(next)
    if (problem !== undefined) {
      this.#log.error('a renewed certificate cannot be used; the old one stays', { error: problem })
      return
    }
    this.#known = { ...this.#known, workload: next }
    // Bootstraps of Envoy have no place for it.
    if (this.#source.delivered !== undefined) return
    this.#formerKeys.add(before.privateKey)
    const renewed = this.#inTurn(async () => {
      this.#initial = withMaterial(this.#initial, this.#formerKeys, next)
      if (this.#running !== undefined) await this.#use(withMaterial(this.#running, this.#formerKeys, next))
      this.#formerKeys.delete(before.privateKey)
    })
    renewed.catch((error: unknown) => {
      const why = error instanceof Error ? error.message : String(error)
      this.#log.error('a renewed certificate could not be used', { error: why })
    })
  }

  close(options: CloseOptions = {}): Promise<void> {
    this.#forgetWorkload?.()
    this.#watch.close()
    const { drainMs = CLOSE_DRAIN_MS, drainMinMs = 0 } = options
    if (drainMs <= 0) {
      this.#hurried = true
      this.#hurry.resolve()
    }
    this.#closing ??= this.#turn.then(() => this.#close(drainMs, Math.min(drainMinMs, drainMs)))
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
    return this.#panel.metrics()
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
  async #use(config: GatewayConfig, delivered?: EnvoyConfig): Promise<void> {
    const stays = sameAddress(this.#running?.admin?.address, config.admin?.address)
    const admin = stays ? this.#admin : await this.#openAdmin(config)
    try {
      if (delivered !== undefined) await this.#following.follow(delivered, this.#running)
      else await this.#following.instead(() => this.#engine.apply(this.#panel.without(config)))
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
    const registry = (): ProtoRegistry => this.#source.registry ?? createProtoRegistry()
    return startAdmin({ address, backend: this.#panel, identity, log: this.#log, registry })
  }

  async #drain(drainMs: number, minMs: number): Promise<void> {
    if (this.#running !== undefined && minMs > 0) {
      await this.#engine.drain(minMs, { ...DRAIN_ANNOUNCED, overMs: drainMs })
    }
    // Until here it goes on being told of new endpoints.
    this.#following.end()
    if (this.#running !== undefined && drainMs > minMs && !this.#hurried) await this.#engine.drain(drainMs - minMs)
  }

  async #close(drainMs: number, minMs: number): Promise<void> {
    try {
      this.#panel.draining()
      await Promise.race([this.#drain(drainMs, minMs), this.#hurry.promise])
      this.#following.end()
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
