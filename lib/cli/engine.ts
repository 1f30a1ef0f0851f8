import { managerSteps } from '../../listeners/http/compile.ts'
import type { ConnectionManager } from '../../listeners/http/connection-manager.ts'
import { Listener } from '../../listeners/listener.ts'
import type { Scope } from '../chain/filter.ts'
import type { FilterRegistry } from '../chain/registry.ts'
import type { ListenerConfig } from '../config/listener.ts'
import type { GatewayConfig } from '../config/model.ts'
import { formatAddress } from '../core/address.ts'
import type { Clock } from '../core/clock.ts'
import { ConfigError, ConfigRefused, type JsonObject } from '../core/errors.ts'
import type { Log, Runtime } from '../core/metrics.ts'
import { TimerWheel } from '../core/timer-wheel.ts'
import type { Binder, Engine, EngineStatus, MetricsSnapshot } from '../runtime/engine.ts'
import { MetricsStore } from '../telemetry/metrics.ts'
import { AccessLogSinks } from '../telemetry/sinks/registry.ts'
import type { ClusterDeps } from '../upstream/cluster.ts'
import { ClusterSet } from '../upstream/cluster-set.ts'
import { DnsResolvers } from '../upstream/discovery/dns/resolver.ts'

/** What an engine is made of; tests inject clock, random and binder. */
export interface EngineOptions {
  readonly registry: FilterRegistry
  readonly binder: Binder
  readonly clock: Clock
  readonly log: Log & { setLevel(level: string): void }
  readonly random: () => number
  /** False once the gateway was told to fail its health checks. */
  readonly serving?: () => boolean
}

/** How long a new configuration waits for its clusters' first membership before it is used without. */
const WARM_MS = 5_000
/** A slice of compiling before the loop gets its turn. */
const SLICE_MS = 10
/** How often a draining engine closes connections that have become idle. */
const DRAIN_SWEEP_MS = 1_000

/** Everything compiled from one configuration. */
interface Snapshot {
  readonly config: GatewayConfig
  readonly clusters: ClusterSet
  readonly managers: ReadonlyMap<string, ConnectionManager>
  readonly owned: (Disposable | AsyncDisposable)[]
}

/** Makes an engine; nothing runs before the first `apply`. */
export function createEngine(options: EngineOptions): Engine {
  return new GatewayEngine(options)
}

/** The data plane of one process: compiles configurations into snapshots, owns listeners and clusters. */
class GatewayEngine implements Engine {
  readonly #options: EngineOptions
  readonly #metrics = new MetricsStore()
  readonly #wheel: TimerWheel
  readonly #dns: DnsResolvers
  readonly #sinks: AccessLogSinks
  readonly #listeners = new Map<string, Listener>()
  readonly #retired = new Set<Listener>()
  #snapshot: Snapshot | undefined = undefined
  #connectionId = 0
  #draining = false
  #closed = false
  #date = ''
  #dateAt = 0
  #applying: Promise<void> = Promise.resolve()

  constructor(options: EngineOptions) {
    this.#options = options
    this.#wheel = new TimerWheel(options.clock)
    this.#dns = new DnsResolvers({ clock: options.clock })
    this.#sinks = new AccessLogSinks({ clock: options.clock, metrics: this.#metrics, log: options.log })
  }

  apply(config: GatewayConfig): Promise<void> {
    // One at a time, in order: a second one begins when the first has been swapped in or refused.
    const result = this.#applying.then(() => this.#apply(config))
    this.#applying = result.catch(() => {})
    return result
  }

  async #apply(config: GatewayConfig): Promise<void> {
    if (this.#closed) throw new ConfigRefused([new ConfigError('', 'the gateway is closed')])
    const before = this.#snapshot
    const clusters = (before?.clusters ?? ClusterSet.empty).next(config.clusters, this.#clusterDeps())
    const owned: Snapshot['owned'] = []
    const opened: Listener[] = []
    try {
      const managers = await this.#compile(config, clusters, owned)
      await this.#warm(clusters)
      opened.push(...(await this.#open(config, managers)))
      this.#swap({ config, clusters, managers, owned }, opened)
    } catch (error) {
      for (const listener of opened) listener.close()
      clusters.retire(before?.clusters ?? ClusterSet.empty)
      await dispose(owned)
      throw error instanceof ConfigRefused ? error : new ConfigRefused([new ConfigError('', messageOf(error))])
    }
  }

  #clusterDeps(): ClusterDeps {
    const { random, log } = this.#options
    return {
      metrics: this.#metrics,
      wheel: this.#wheel,
      random,
      log,
      dns: this.#dns,
      nextConnectionId: () => ++this.#connectionId,
    }
  }

  async #compile(
    config: GatewayConfig,
    clusters: ClusterSet,
    owned: Snapshot['owned'],
  ): Promise<Map<string, ConnectionManager>> {
    const managers = new Map<string, ConnectionManager>()
    const runtime = runtimeOf(config.runtime)
    const { clock, log, random, registry } = this.#options
    const own = <T extends Disposable | AsyncDisposable>(resource: T): T => {
      owned.push(resource)
      return resource
    }
    const scope: Omit<Scope, 'filterName' | 'statPrefix'> = {
      runtime,
      clock,
      wheel: this.#wheel,
      random,
      log,
      metrics: this.#metrics,
      clusters,
      serving: () => !this.#draining && (this.#options.serving?.() ?? true),
      own,
    }
    for (const listener of config.listeners) {
      const steps = managerSteps(listener.filterChain.http, {
        registry,
        scopeFor: (filterName, statPrefix) => ({ ...scope, filterName, statPrefix: `http.${statPrefix}.` }),
        own,
        runtime,
        metrics: this.#metrics,
        wheel: this.#wheel,
        log,
        random,
        sinks: this.#sinks,
        date: (nowMs) => this.#dateOf(nowMs),
        bufferLimitBytes: listener.bufferLimitBytes,
      })
      managers.set(listener.name, await this.#inSlices(steps))
    }
    return managers
  }

  async #inSlices<T>(steps: Generator<undefined, T>): Promise<T> {
    let began = this.#options.clock.now()
    for (;;) {
      const step = steps.next()
      if (step.done === true) return step.value
      if (this.#options.clock.now() - began < SLICE_MS) continue
      await new Promise((resolve) => setImmediate(resolve))
      began = this.#options.clock.now()
    }
  }

  async #warm(clusters: ClusterSet): Promise<void> {
    let cancel = (): void => {}
    const late = new Promise<void>((resolve) => {
      cancel = this.#options.clock.schedule(WARM_MS, () => {
        this.#options.log.warn('some clusters are not warm yet; going on without')
        resolve()
      })
    })
    await Promise.race([clusters.warm(), late])
    cancel()
  }

  /** Opens listeners that are new or have moved; those that stay are left alone until the swap. */
  async #open(config: GatewayConfig, managers: ReadonlyMap<string, ConnectionManager>): Promise<Listener[]> {
    const opened: Listener[] = []
    try {
      for (const listener of config.listeners) {
        const known = this.#listeners.get(listener.name)
        if (known !== undefined && sameSockets(known.config, listener)) continue
        const created = new Listener(listener, managers.get(listener.name) as ConnectionManager, {
          binder: this.#options.binder,
          metrics: this.#metrics,
          nextConnectionId: () => ++this.#connectionId,
        })
        await created.open()
        opened.push(created)
      }
    } catch (error) {
      for (const listener of opened) listener.close()
      throw error
    }
    return opened
  }

  #swap(snapshot: Snapshot, opened: readonly Listener[]): void {
    const before = this.#snapshot
    this.#snapshot = snapshot
    const wanted = new Set(snapshot.config.listeners.map((listener) => listener.name))
    const fresh = new Set(opened.map((listener) => listener.name))
    for (const [name, listener] of this.#listeners) {
      if (wanted.has(name) && !fresh.has(name)) continue
      this.#listeners.delete(name)
      this.#retire(listener)
    }
    for (const listener of opened) this.#listeners.set(listener.name, listener)
    for (const config of snapshot.config.listeners) {
      this.#listeners.get(config.name)?.update(config, snapshot.managers.get(config.name) as ConnectionManager)
    }
    if (before === undefined) return
    before.clusters.retire(snapshot.clusters)
    void this.#disposeWhenIdle(before)
  }

  #retire(listener: Listener): void {
    this.#retired.add(listener)
    void listener.drain().then(() => this.#retired.delete(listener))
  }

  /** Filters of an old snapshot live until its last exchange has ended. */
  async #disposeWhenIdle(snapshot: Snapshot): Promise<void> {
    await Promise.all([...snapshot.managers.values()].map((manager) => manager.whenIdle()))
    await dispose(snapshot.owned)
  }

  async drain(deadlineMs: number): Promise<void> {
    this.#draining = true
    const { clock } = this.#options
    const all = [...this.#listeners.values(), ...this.#retired]
    const drained = Promise.all(all.map((listener) => listener.drain()))
    let cancelDeadline = (): void => {}
    const deadline = new Promise<void>((resolve) => {
      cancelDeadline = clock.schedule(deadlineMs, resolve)
    })
    // Idle connections may stay until their next request, but not for all of the time that is left.
    const cancelSweep = clock.schedule(Math.max(0, deadlineMs - DRAIN_SWEEP_MS), () => {
      for (const listener of all) listener.closeIdle()
    })
    await Promise.race([drained, deadline])
    cancelDeadline()
    cancelSweep()
  }

  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    await this.#applying
    for (const listener of [...this.#listeners.values(), ...this.#retired]) listener.close()
    this.#listeners.clear()
    this.#retired.clear()
    const snapshot = this.#snapshot
    this.#snapshot = undefined
    snapshot?.clusters.destroy()
    // Sockets report their end in the next turns; logs written by then still belong to this run.
    await new Promise((resolve) => setImmediate(resolve))
    await new Promise((resolve) => setImmediate(resolve))
    if (snapshot !== undefined) await dispose(snapshot.owned)
    this.#wheel.close()
    this.#dns[Symbol.dispose]()
    await this.#sinks.close()
  }

  status(): EngineStatus {
    return {
      listeners: [...this.#listeners.values()].map((listener) => listener.status()),
      clusters: this.#snapshot?.clusters.all().map((cluster) => cluster.status()) ?? [],
    }
  }

  metrics(): MetricsSnapshot {
    return this.#metrics.snapshot()
  }

  setLogLevel(level: string): void {
    this.#options.log.setLevel(level)
  }

  reopenLogs(): void {
    this.#sinks.reopen()
  }

  /** RFC 9110 IMF-fixdate of this second; rendered once a second. */
  #dateOf(nowMs: number): string {
    if (nowMs - this.#dateAt >= 1000 || this.#date === '') {
      const wall = this.#options.clock.wall()
      this.#dateAt = nowMs - (wall % 1000)
      this.#date = new Date(wall).toUTCString()
    }
    return this.#date
  }
}

function runtimeOf(values: JsonObject): Runtime {
  const byKey = new Map(Object.entries(values))
  return { get: (key) => byKey.get(key) }
}

function sameSockets(a: ListenerConfig, b: ListenerConfig): boolean {
  const key = (config: ListenerConfig): string => config.addresses.map(formatAddress).join(' ')
  return key(a) === key(b)
}

async function dispose(owned: (Disposable | AsyncDisposable)[]): Promise<void> {
  for (const resource of owned.splice(0).reverse()) {
    if (Symbol.asyncDispose in resource) await resource[Symbol.asyncDispose]()
    else resource[Symbol.dispose]()
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
