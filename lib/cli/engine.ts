import { randomBytes } from 'node:crypto'
import { type CompiledListener, listenerSteps } from '../../listeners/compile.ts'
import { AcceptedReads } from '../../listeners/detect/accepted-reads.ts'
import { InternalListenerTable } from '../../listeners/internal.ts'
import { ConnectionBudget } from '../../listeners/limits.ts'
import { Listener } from '../../listeners/listener.ts'
import type { LowerFilters } from '../chain/factories.ts'
import type { Scope } from '../chain/filter.ts'
import type { FilterRegistry } from '../chain/registry.ts'
import type { ListenerConfig } from '../config/listener.ts'
import type { GatewayConfig } from '../config/model.ts'
import { formatAddress } from '../core/address.ts'
import type { Cancel, Clock } from '../core/clock.ts'
import { ConfigError, ConfigRefused, type JsonObject } from '../core/errors.ts'
import type { Log, Runtime } from '../core/metrics.ts'
import { TimerWheel } from '../core/timer-wheel.ts'
import {
  type Binder,
  DRAIN_ALL,
  type DrainWish,
  type Engine,
  type EngineStatus,
  type MetricsSnapshot,
} from '../runtime/engine.ts'
import { MetricsStore } from '../telemetry/metrics.ts'
import { AccessLogSinks } from '../telemetry/sinks/registry.ts'
import type { ClusterDeps } from '../upstream/cluster.ts'
import { ClusterSet } from '../upstream/cluster-set.ts'
import { DnsResolvers } from '../upstream/discovery/dns/resolver.ts'
import { ReadBuffer } from '../upstream/socket-reader.ts'
import { Drains } from './drain.ts'
import { Handover } from './handover.ts'
import { type Snapshot, whenIdle } from './snapshot.ts'

/** What an engine is made of; tests inject clock, random and binder. */
export interface EngineOptions {
  readonly registry: FilterRegistry
  readonly filters: LowerFilters
  readonly binder: Binder
  readonly clock: Clock
  readonly log: Log & { setLevel(level: string): void }
  readonly random: () => number
  /** False once the gateway was told to fail its health checks. */
  readonly serving?: () => boolean
  /** 32 random bytes that all workers of the gateway have, for TLS tickets. Default: some of its own. */
  readonly ticketSecret?: Uint8Array
}

/** How long a new configuration waits for its clusters' first membership before it is used without. */
const WARM_MS = 5_000
/** A slice of compiling before the loop gets its turn. */
const SLICE_MS = 10

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
  readonly #internal: InternalListenerTable
  readonly #budget = new ConnectionBudget()
  /** Listeners that drain, each with what cancels the sweep of its idle connections. */
  readonly #retired = new Map<Listener, Cancel>()
  /** Old snapshots that something still uses. */
  readonly #replaced = new Set<Snapshot>()
  #snapshot: Snapshot | undefined = undefined
  readonly #readBuffer = new ReadBuffer()
  readonly #reads = new AcceptedReads(this.#readBuffer)
  readonly #ticketSecret: Uint8Array
  #connectionId = 0
  readonly #drains: Drains
  #draining = false
  #closed = false
  #date = ''
  #dateAt = 0
  #applying: Promise<void> = Promise.resolve()

  constructor(options: EngineOptions) {
    this.#options = options
    this.#drains = new Drains(options.clock)
    // One for all configurations: a certificate that is replaced leaves the tickets good.
    this.#ticketSecret = options.ticketSecret ?? randomBytes(32)
    this.#wheel = new TimerWheel(options.clock)
    this.#dns = new DnsResolvers({ clock: options.clock })
    this.#internal = new InternalListenerTable({
      find: (name) => this.#listeners.get(name),
      nextConnectionId: () => ++this.#connectionId,
      metrics: this.#metrics,
      log: options.log,
    })
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
    try {
      const listeners = await this.#compile(config, clusters, owned)
      await this.#warm(clusters)
      const handover = new Handover(this.#leaving(config))
      const opened = await this.#open(config, listeners, handover)
      this.#swap({ config, clusters, listeners, owned }, opened, handover)
    } catch (error) {
      clusters.retire(before?.clusters ?? ClusterSet.empty)
      await this.#dispose(owned)
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
      readBuffer: this.#readBuffer,
      internal: this.#internal,
    }
  }

  async #compile(
    config: GatewayConfig,
    clusters: ClusterSet,
    owned: Snapshot['owned'],
  ): Promise<Map<string, CompiledListener>> {
    const compiled = new Map<string, CompiledListener>()
    const runtime = runtimeOf(config.runtime)
    const { clock, log, random, registry, filters } = this.#options
    const own = <T extends Disposable | AsyncDisposable>(resource: T): T => {
      owned.push(resource)
      return resource
    }
    const scope: Omit<Scope, 'filterName' | 'statPrefix'> = {
      runtime,
      node: config.node,
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
      const steps = listenerSteps(listener, {
        registry,
        filters,
        node: config.node,
        scopeFor: (filterName, statPrefix) => ({ ...scope, filterName, statPrefix }),
        own,
        runtime,
        metrics: this.#metrics,
        wheel: this.#wheel,
        log,
        random,
        sinks: this.#sinks,
        date: (nowMs) => this.#dateOf(nowMs),
      })
      compiled.set(listener.name, await this.#inSlices(steps))
    }
    return compiled
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

  /**
   * Opens listeners that are new or have moved; those that stay are left alone until the swap. What listens already is
   * not bound again: the swap hands it over.
   */
  async #open(
    config: GatewayConfig,
    compiled: ReadonlyMap<string, CompiledListener>,
    handover: Handover,
  ): Promise<Listener[]> {
    const opened: Listener[] = []
    try {
      for (const listener of config.listeners) {
        const known = this.#listeners.get(listener.name)
        if (known !== undefined && sameSockets(known.config, listener)) continue
        const created = new Listener(compiled.get(listener.name) as CompiledListener, {
          wheel: this.#wheel,
          binder: this.#options.binder,
          metrics: this.#metrics,
          nextConnectionId: () => ++this.#connectionId,
          ticketSecret: this.#ticketSecret,
          reads: this.#reads,
          log: this.#options.log,
          budget: this.#budget,
          serving: this.#options.serving,
        })
        await created.open((address) => handover.claim(created, address))
        opened.push(created)
      }
    } catch (error) {
      for (const listener of opened) listener.close()
      throw error
    }
    return opened
  }

  /** Listeners that this configuration does not have, or has on other addresses. */
  #leaving(config: GatewayConfig): Listener[] {
    const next = new Map(config.listeners.map((listener) => [listener.name, listener]))
    return [...this.#listeners.values()].filter((listener) => {
      const successor = next.get(listener.name)
      return successor === undefined || !sameSockets(listener.config, successor)
    })
  }

  #swap(snapshot: Snapshot, opened: readonly Listener[], handover: Handover): void {
    const before = this.#snapshot
    this.#snapshot = snapshot
    this.#budget.limit = snapshot.config.maxConnections
    const wanted = new Set(snapshot.config.listeners.map((listener) => listener.name))
    const fresh = new Set(opened.map((listener) => listener.name))
    const drained: Promise<void>[] = []
    handover.perform()
    for (const [name, listener] of this.#listeners) {
      if (wanted.has(name) && !fresh.has(name)) continue
      this.#listeners.delete(name)
      drained.push(this.#retire(listener))
    }
    for (const listener of opened) {
      this.#listeners.set(listener.name, listener)
      this.#drains.opened(listener)
    }
    for (const config of snapshot.config.listeners) {
      this.#listeners.get(config.name)?.update(snapshot.listeners.get(config.name) as CompiledListener)
    }
    if (before === undefined) return
    before.clusters.retire(snapshot.clusters)
    void this.#disposeWhenIdle(before, drained)
  }

  /** Its connections close with their next answer, or when they have been idle for the manager's drain time. */
  #retire(listener: Listener): Promise<void> {
    const sweep = this.#options.clock.schedule(listener.drainTimeoutMs, () => listener.closeIdle())
    this.#retired.set(listener, sweep)
    return listener.drain().then(() => {
      sweep()
      this.#retired.delete(listener)
    })
  }

  /**
   * Filters of an old snapshot live until its last exchange has ended, and the last connection of the listeners that went
   * with it: their requests still go through its managers. Its network and listener filters live until the last
   * connection that they look after has gone. Its clusters stay within reach until their connections have gone.
   */
  async #disposeWhenIdle(snapshot: Snapshot, drained: readonly Promise<void>[]): Promise<void> {
    this.#replaced.add(snapshot)
    await Promise.all(drained)
    await whenIdle(snapshot)
    await this.#dispose(snapshot.owned)
    await snapshot.clusters.drained()
    this.#replaced.delete(snapshot)
  }

  /** Last made first. One that fails does not keep the others. */
  async #dispose(owned: Snapshot['owned']): Promise<void> {
    for (const resource of owned.splice(0).reverse()) {
      try {
        if (Symbol.asyncDispose in resource) await resource[Symbol.asyncDispose]()
        else resource[Symbol.dispose]()
      } catch (error) {
        const text = error instanceof Error ? (error.stack ?? error.message) : String(error)
        this.#options.log.error('a resource of an old configuration could not be disposed of', { error: text })
      }
    }
  }

  async drain(deadlineMs: number, wish: DrainWish = DRAIN_ALL): Promise<void> {
    if (!wish.inboundOnly) this.#draining = true
    await this.#drains.run([...this.#listeners.values(), ...this.#retired.keys()], deadlineMs, wish)
  }

  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    await this.#applying
    for (const listener of [...this.#listeners.values(), ...this.#retired.keys()]) listener.close()
    this.#drains.close()
    for (const cancelSweep of this.#retired.values()) cancelSweep()
    this.#listeners.clear()
    this.#retired.clear()
    const snapshots = [...this.#replaced]
    if (this.#snapshot !== undefined) snapshots.push(this.#snapshot)
    this.#snapshot = undefined
    for (const { clusters } of snapshots) clusters.destroy()
    // Sockets report their end in the next turns; logs written by then still belong to this run.
    await new Promise((resolve) => setImmediate(resolve))
    await new Promise((resolve) => setImmediate(resolve))
    for (const { owned } of snapshots) await this.#dispose(owned)
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

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
