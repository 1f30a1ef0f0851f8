import { randomBytes } from 'node:crypto'
import type { ListenerCompileDeps } from '../../listeners/compile.ts'
import { AcceptedReads } from '../../listeners/detect/accepted-reads.ts'
import { TableUsers } from '../../listeners/http/manager-routes.ts'
import { InternalListenerTable } from '../../listeners/internal.ts'
import { Lifetimes } from '../../listeners/lifetime.ts'
import { ConnectionBudget } from '../../listeners/limits.ts'
import type { LowerFilters } from '../chain/factories.ts'
import type { Scope } from '../chain/filter.ts'
import type { FilterRegistry } from '../chain/registry.ts'
import { type ConfigChange, ConfigState, changeSteps } from '../config/change.ts'
import type { GatewayConfig } from '../config/model.ts'
import type { Clock } from '../core/clock.ts'
import type { Demand } from '../core/demand.ts'
import { ConfigError, ConfigRefused } from '../core/errors.ts'
import type { HealthLink } from '../core/host-health.ts'
import type { Leases } from '../core/lease.ts'
import { LocalLeases } from '../core/local-leases.ts'
import type { Log } from '../core/metrics.ts'
import { sameJson } from '../core/same-json.ts'
import { TimerWheel } from '../core/timer-wheel.ts'
import {
  type Binder,
  type ClusterLoad,
  DRAIN_ALL,
  type DrainWish,
  type Engine,
  type EngineStatus,
  type MetricsChange,
  type MetricsSnapshot,
} from '../runtime/engine.ts'
import type { Pressures } from '../runtime/overload/run.ts'
import { MetricsStore } from '../telemetry/metrics.ts'
import { AccessLogSinks } from '../telemetry/sinks/registry.ts'
import { ClusterTable } from '../upstream/cluster-table.ts'
import { DnsResolvers } from '../upstream/discovery/dns/resolver.ts'
import { LoadMeter } from '../upstream/load-meter.ts'
import { ReadBuffer } from '../upstream/socket-reader.ts'
import { Drains } from './drain.ts'
import { AssignmentFeed } from './engine/assignments.ts'
import { HttpDate } from './engine/http-date.ts'
import { ListenerTable } from './engine/listener-table.ts'
import { LiveRuntime, LiveSecrets } from './engine/live.ts'
import { createEngineOverload, type EngineOverload } from './engine/overload.ts'
import { Slices } from './engine/slices.ts'
import { applyChange, onlyEndpoints, type TakenChange, type Workshop } from './engine/update.ts'
import { upstreamFilters } from './engine/upstream-filters.ts'
import { WarmingLine } from './engine/warming.ts'

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
  /** The same without what drains on request do, which listeners know themselves. Default: `serving`. */
  readonly healthy?: () => boolean
  /** Drains tell connections to go one after the other, over the drain time. Default: all at once. */
  readonly gradualDrain?: boolean
  /** 32 random bytes that all workers of the gateway have, for TLS tickets. Default: some of its own. */
  readonly ticketSecret?: Uint8Array
  /** Undefined: filters can have nothing on demand. */
  readonly demand?: Demand
  /** Default: the engine is the whole gateway. */
  readonly leases?: Leases
  /** Whoever judges hosts for the whole gateway; default: the engine is all of it. */
  readonly health?: HealthLink
  /** What is measured against overload for the whole gateway comes by `pressures`. Default: the engine measures all. */
  readonly measuredElsewhere?: boolean
}

/** Makes an engine; nothing runs before the first `apply`. */
export function createEngine(options: EngineOptions): Engine {
  return new GatewayEngine(options)
}

/**
 * The data plane of one process: owns listeners and clusters, and everything that was compiled for them. All changes go one
 * way, `apply`'s too, one after the other; only endpoints of clusters are in force at once.
 */
class GatewayEngine implements Engine {
  readonly #options: EngineOptions
  readonly #metrics = new MetricsStore()
  readonly #wheel: TimerWheel
  readonly #dns: DnsResolvers
  readonly #sinks: AccessLogSinks
  readonly #lifetimes: Lifetimes
  readonly #clusters: ClusterTable
  readonly #listeners: ListenerTable
  readonly #state = new ConfigState(NOTHING)
  readonly #assignments: AssignmentFeed
  readonly #slices: Slices
  readonly #runtime = new LiveRuntime()
  readonly #leases: Leases
  readonly #budget: ConnectionBudget
  readonly #secrets = new LiveSecrets()
  readonly #overload: EngineOverload
  readonly #shop: Workshop
  readonly #drains: Drains
  /** From the first time that somebody asks for loads. */
  #loads: LoadMeter | undefined = undefined
  #connectionId = 0
  #draining = false
  #closed = false
  #applying: Promise<unknown> = Promise.resolve()
  /** Resolves when `close` is called. */
  readonly #ending = Promise.withResolvers<void>()
  /** Configurations and changes that have come. */
  #arrivals = 0

  constructor(options: EngineOptions) {
    const { clock, log } = options
    this.#options = options
    this.#leases = options.leases ?? new LocalLeases(clock)
    this.#budget = new ConnectionBudget(this.#runtime, this.#leases, this.#metrics.gauge('server.total_connections'))
    this.#drains = new Drains(clock, options.gradualDrain)
    this.#wheel = new TimerWheel(clock)
    this.#dns = new DnsResolvers({ clock })
    this.#sinks = new AccessLogSinks({ clock, metrics: this.#metrics, log })
    this.#lifetimes = new Lifetimes(log)
    this.#slices = new Slices(clock)
    this.#overload = this.#makeOverload()
    const readBuffer = new ReadBuffer()
    this.#clusters = this.#makeClusters(readBuffer)
    this.#assignments = new AssignmentFeed(this.#clusters.assignments, this.#state, clock)
    this.#listeners = this.#makeListeners(readBuffer)
    this.#shop = this.#makeShop()
  }

  #makeOverload(): EngineOverload {
    const { clock, log, random, measuredElsewhere: remote = false } = this.#options
    const own = { metrics: this.#metrics, runtime: this.#runtime, wheel: this.#wheel, listeners: () => this.#listeners }
    const connections = (): number => this.#budget.connections.v
    return createEngineOverload({ clock, log, random, remote, connections, ...own })
  }

  #makeClusters(readBuffer: ReadBuffer): ClusterTable {
    const { random, log, registry } = this.#options
    const scopeFor = (): Workshop['compileDeps']['scopeFor'] => this.#shop.compileDeps.scopeFor
    const nextConnectionId = (): number => ++this.#connectionId
    return new ClusterTable({
      metrics: this.#metrics,
      wheel: this.#wheel,
      random,
      log,
      dns: this.#dns,
      nextConnectionId,
      readBuffer,
      runtime: this.#runtime,
      leases: this.#leases,
      overload: this.#overload.levers,
      health: this.#options.health,
      sinks: this.#sinks,
      filters: upstreamFilters({ registry, lifetimes: this.#lifetimes, scopeFor }),
      internal: new InternalListenerTable({
        find: (name) => this.#listeners.find(name),
        nextConnectionId,
        metrics: this.#metrics,
        log,
      }),
    })
  }

  #makeListeners(readBuffer: ReadBuffer): ListenerTable {
    const { binder, log, clock, random, serving, healthy, ticketSecret } = this.#options
    return new ListenerTable({
      clock,
      slices: this.#slices,
      drains: this.#drains,
      listener: {
        wheel: this.#wheel,
        binder,
        metrics: this.#metrics,
        nextConnectionId: () => ++this.#connectionId,
        // One for all configurations: a certificate that is replaced leaves the tickets good.
        ticketSecret: ticketSecret ?? randomBytes(32),
        reads: new AcceptedReads(readBuffer),
        log,
        budget: this.#budget,
        leases: this.#leases,
        serving: healthy ?? serving,
        random,
        runtime: this.#runtime,
        overload: this.#overload.levers,
      },
    })
  }

  #makeShop(): Workshop {
    const { clock, log } = this.#options
    const tableUsers = new TableUsers()
    return {
      warming: new WarmingLine({ clusters: this.#clusters, state: this.#state, clock, log }, (work) =>
        this.#enqueue(() => work((rest) => this.#run({ ...rest, node: this.#node }))),
      ),
      state: this.#state,
      clusters: this.#clusters,
      assignments: this.#assignments,
      listeners: this.#listeners,
      tableUsers,
      runtime: this.#runtime,
      secrets: this.#secrets,
      slices: this.#slices,
      log,
      schedule: (delayMs, run) => clock.schedule(delayMs, run),
      ending: this.#ending.promise,
      assertOpen: () => {
        if (this.#closed) throw closed()
      },
      compileDeps: this.#compileDeps(tableUsers),
      limitConnections: (limit) => {
        this.#budget.limit = limit
      },
    }
  }

  #compileDeps(tableUsers: TableUsers): Workshop['compileDeps'] {
    const { clock, log, random, registry, filters, demand } = this.#options
    const date = new HttpDate(clock)
    const shared: Omit<Scope, 'filterName' | 'statPrefix' | 'own' | 'node' | 'openLines'> = {
      place: '',
      runtime: this.#runtime,
      clock,
      wheel: this.#wheel,
      random,
      log,
      metrics: this.#metrics,
      clusters: this.#clusters,
      leases: this.#leases,
      secret: (name) => this.#secrets.get(name),
      demand,
      serving: () => !this.#draining && (this.#options.serving?.() ?? true),
    }
    return {
      registry,
      filters,
      lifetimes: this.#lifetimes,
      tableUsers,
      scopeFor: (filterName, statPrefix, own) => {
        const openLines: Scope['openLines'] = (sink) => own(this.#sinks.open(sink))
        return { ...shared, node: this.#node, filterName, statPrefix, own, openLines }
      },
      runtime: this.#runtime,
      metrics: this.#metrics,
      wheel: this.#wheel,
      log,
      random,
      sinks: this.#sinks,
      date: (nowMs) => date.of(nowMs),
    }
  }

  /** Of the configuration that is being compiled. */
  #node: ListenerCompileDeps['node'] = NOTHING.node

  apply(config: GatewayConfig): Promise<void> {
    // Endpoints that come while it waits for its turn, or is compared, are newer.
    const at = ++this.#arrivals
    return this.#enqueue(async () => {
      this.#shop.warming.end(undefined)
      const change = (await this.#slices.run(changeSteps(this.#state, config))) ?? {}
      const renamed = !sameJson(this.#state.base.node, config.node)
      const listeners = renamed ? { set: config.listeners, remove: change.listeners?.remove ?? [] } : change.listeners
      const wish = { node: config.node, afresh: renamed }
      const taken = this.#take({ ...change, ...(listeners && { listeners }) }, at, wish)
      await taken.inForce
      await this.#run(taken)
      this.#state.rebase(config)
      this.#budget.limitKey = config.maxConnectionsKey
      this.#overload.configure(config.overload)
    })
  }

  update(change: ConfigChange): Promise<void> {
    if (this.#closed) return Promise.reject(closed())
    const taken = this.#take(change, ++this.#arrivals, undefined)
    if (onlyEndpoints(change)) return taken.inForce ?? Promise.resolve()
    // Whoever waits in line hears of it when it is their turn.
    taken.inForce?.catch(() => {})
    return this.#enqueue(async () => {
      await taken.inForce
      return this.#run(taken)
    }).then(({ inForce }) => inForce)
  }

  /** The one place where endpoints come in. */
  #take(
    change: ConfigChange,
    at: number,
    wish: { readonly node: GatewayConfig['node']; readonly afresh: boolean } | undefined,
  ): TakenChange & { readonly inForce: Promise<void> | undefined } {
    const { set = [], remove = [] } = change.assignments ?? {}
    const names = new Set(set.map(({ name }) => name))
    return {
      change,
      leaving: remove.filter((name) => !names.has(name)).map((name) => ({ name, at })),
      inForce: set.length === 0 ? undefined : this.#assignments.set(set, at),
      node: wish?.node ?? this.#node,
      kind: wish === undefined ? 'change' : 'whole',
      afresh: wish?.afresh === true,
    }
  }

  /** One at a time, in order: a second one begins when the first is in force, or warms, or has been refused. */
  #enqueue<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#applying.then(() => {
      if (this.#closed) throw closed()
      return work()
    })
    this.#applying = Promise.allSettled([result])
    return result
  }

  async #run(taken: TakenChange): ReturnType<typeof applyChange> {
    const before = this.#node
    // A change keeps what is in force when its turn comes.
    if (taken.kind === 'whole') this.#node = taken.node
    try {
      return await applyChange({ ...taken, node: this.#node }, this.#shop)
    } catch (error) {
      this.#node = before
      throw error
    }
  }

  async drain(deadlineMs: number, wish: DrainWish = DRAIN_ALL): Promise<void> {
    if (!wish.inboundOnly && wish.replaced !== true) this.#draining = true
    await this.#drains.run([...this.#listeners.all()], deadlineMs, wish)
  }

  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    this.#ending.resolve()
    this.#shop.warming.end(closed())
    this.#overload[Symbol.dispose]()
    await this.#applying
    this.#listeners.close()
    this.#drains.close()
    this.#clusters.destroy()
    // Sockets report their end in the next turns; logs written by then still belong to this run.
    await new Promise((resolve) => setImmediate(resolve))
    await new Promise((resolve) => setImmediate(resolve))
    await this.#lifetimes.close()
    this.#wheel.close()
    this.#dns[Symbol.dispose]()
    await this.#sinks.close()
  }

  status(): EngineStatus {
    return {
      listeners: this.#listeners.live().map((listener) => listener.status()),
      clusters: this.#clusters.all().map((cluster) => cluster.status()),
    }
  }

  metrics(): MetricsSnapshot {
    return this.#metrics.snapshot()
  }

  metricsChanges(full: boolean): Iterable<MetricsChange | undefined> {
    return this.#metrics.changes(full)
  }

  loads(): readonly ClusterLoad[] {
    this.#loads ??= new LoadMeter(this.#metrics)
    return this.#loads.next(this.#clusters.all())
  }

  pressures(list: Pressures): void {
    this.#overload.pressures(list)
  }

  setLogLevel(level: string): void {
    this.#options.log.setLevel(level)
  }

  reopenLogs(): void {
    this.#sinks.reopen()
  }
}

/** Before the first configuration. */
const NOTHING: GatewayConfig = Object.freeze({
  node: Object.freeze({ id: '', cluster: '' }),
  listeners: [],
  clusters: [],
  runtime: {},
  ignored: [],
})

function closed(): ConfigRefused {
  return new ConfigRefused([new ConfigError('', 'the gateway is closed')])
}
