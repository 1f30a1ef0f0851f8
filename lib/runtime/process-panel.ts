import { availableParallelism } from 'node:os'
import type { LiveConfig } from '../config/live.ts'
import type { GatewayConfig } from '../config/model.ts'
import type { OverloadConfig } from '../config/overload.ts'
import type { DynamicStatus } from '../config/status.ts'
import type { WatchdogsConfig } from '../config/watchdog.ts'
import type { Clock } from '../core/clock.ts'
import type { Json, JsonObject } from '../core/errors.ts'
import type { Channel } from './channel.ts'
import type { ControlPanel } from './control-panel.ts'
import type { ControlParts, HostJudge } from './control-parts.ts'
import { goesFurther } from './drained-listeners.ts'
import { DRAIN_ALL, type DrainWish, type EngineStatus, type MetricsSnapshot } from './engine.ts'
import { LeaseLedger } from './lease-ledger.ts'
import { LoadLedger, type LoadReader } from './load-ledger.ts'
import { ManagerStats } from './manager-stats.ts'
import type {
  ControlToSupervisor,
  ControlToWorker,
  Hello,
  MemoryUse,
  StatsPush,
  SupervisorToControl,
  WorkerLives,
  WorkerStatus,
} from './messages.ts'
import { machineOf } from './overload/machine.ts'
import { OverloadWatch } from './overload/watch.ts'
import { RUN_NUMBERS } from './rollout.ts'
import type { Reloads, ServerState } from './server-state.ts'
import { addMemory, noReloads, withLives, withMisses, withReloads, withServerGauges } from './server-state.ts'
import { StatsStore } from './stats-store.ts'
import { mergeStatus } from './status-merge.ts'
import type { ProcessMisses } from './watchdog.ts'
import { memoryUse } from './worker.ts'
import type { WorkerLink } from './worker-link.ts'

/** How long an admin request waits for a worker that does not answer. */
const ANSWER_LIMIT_MS = 1000
/** Among the workers, for the statistics of this process. */
const CONTROL = -1
const OVERLOAD = -2
/** Envoy's gauge of them. */
const CONNECTIONS = 'server.total_connections'

/** What the panel shows of the configuration. */
export interface ShownConfig {
  readonly config: GatewayConfig
  readonly updatedMs: number
}

export interface ProcessPanelOptions {
  readonly process: NodeJS.Process
  readonly clock: Clock
  readonly channel: Channel<ControlToSupervisor>
  readonly start: SupervisorToControl & { kind: 'start' }
  readonly parts: () => ControlParts | undefined
  readonly judge: () => HostJudge | undefined
  readonly live: () => LiveConfig | undefined
  readonly shown: () => ShownConfig | undefined
  /** All workers run what they are to run. */
  readonly ready: () => boolean
}

/** The gateway as admin sees it, in the control process: asks the workers, and tells them. */
export class ProcessPanel implements ControlPanel {
  readonly #options: ProcessPanelOptions
  readonly #startedMs: number
  readonly #links = new Map<number, WorkerLink>()
  readonly #stats = new StatsStore()
  readonly #loads: LoadLedger
  readonly #managers = new ManagerStats()
  readonly leases: LeaseLedger
  readonly reloads: Reloads = noReloads()
  #lives: WorkerLives = { died: 0, silent: 0, replaced: 0 }
  #misses: readonly ProcessMisses[] = []
  #watchdogs: WatchdogsConfig | undefined
  #draining = false
  #drainWish: DrainWish | undefined = undefined
  #drainSinceMs = 0
  #healthy = true
  #level: string | undefined
  #overload: OverloadWatch | undefined
  #lastId: number

  constructor(options: ProcessPanelOptions) {
    this.#options = options
    this.#startedMs = options.clock.now()
    this.#lastId = options.start.run * RUN_NUMBERS
    this.#loads = new LoadLedger({ refresh: async () => void (await this.#ask('send-stats')) })
    this.leases = new LeaseLedger({
      clock: options.clock,
      seats: options.start.workers,
      restarted: options.start.restarted,
      send: (worker, grants) => this.#links.get(worker)?.send(grants),
    })
  }

  /** The running worker processes. */
  get links(): ReadonlyMap<number, WorkerLink> {
    return this.#links
  }

  workerUp(link: WorkerLink): void {
    this.#links.set(link.worker, link)
    this.leases.up(link.worker)
  }

  workerDown(worker: number): void {
    this.#links.get(worker)?.end()
    this.#links.delete(worker)
    this.leases.down(worker)
    this.#stats.retire(worker)
    this.#loads.retire(worker)
  }

  counted(worker: number, push: StatsPush): void {
    this.#stats.add(worker, push)
    if (push.loads !== undefined) this.#loads.add(worker, push.loads)
  }

  /** What has become of worker processes, as the supervisor says. */
  lives({ died, silent, replaced, misses }: SupervisorToControl & { kind: 'lives' }): void {
    this.#lives = { died, silent, replaced }
    this.#misses = misses
  }

  /** The gateway runs this whole configuration from now on: it is counted, and watched for overload as it says. */
  follow(config: GatewayConfig): void {
    this.#managers.follow(config)
    this.#guard(config.overload)
    this.#watch(config.watchdogs)
  }

  /** The supervisor keeps it when this process ends. */
  #watch(watchdogs: WatchdogsConfig | undefined): void {
    const told = this.#watchdogs !== undefined || this.#options.start.restarted
    if (watchdogs === undefined && !told) return
    this.#watchdogs = watchdogs ?? {}
    void this.#options.channel.send({ kind: 'watch', watchdogs: this.#watchdogs })
  }

  #guard(config: OverloadConfig | undefined): void {
    const { clock, parts, process: self, shown } = this.#options
    const log = parts()?.log
    if (log === undefined || (config === undefined && this.#overload === undefined)) return
    this.#overload ??= new OverloadWatch({
      clock,
      log,
      machine: machineOf(self, availableParallelism()),
      runtime: { get: (key) => shown()?.config.runtime[key] },
      pids: () => [self.pid, self.ppid, ...[...this.#links.values()].map(({ pid }) => pid)].filter((pid) => pid > 0),
      connections: () => this.#stats.gauge(CONNECTIONS),
      tell: (pressures) => this.#broadcast({ kind: 'pressures', pressures }),
    })
    this.#overload.configure(config)
  }

  /** The whole gateway drains. */
  draining(): void {
    this.#draining = true
  }

  /** A control process before this one has told that worker what this one does not know. */
  recall(hello: Hello): void {
    this.#healthy &&= hello.healthy
    if (hello.drained === undefined || this.#drainWish !== undefined) return
    this.#drainWish = hello.drained
    this.#drainSinceMs = this.#options.clock.now()
  }

  /** Tells a worker that is new here what the others know. */
  introduce(link: WorkerLink, hello: Hello): void {
    link.pid = hello.pid
    if (this.#level !== undefined) link.send({ kind: 'log-level', level: this.#level })
    if (hello.healthy !== this.#healthy) link.send({ kind: 'health', ok: this.#healthy })
    // One that has the same wish, or a stronger one, leaves it at that.
    if (this.#drainWish !== undefined) this.#sendDrain(link, this.#drainWish)
    if (this.#loads.wanted) link.send({ kind: 'count-loads' })
    link.send({ kind: 'report-hosts' })
    this.#options.judge()?.welcome(link.worker)
    link.send({ kind: 'send-stats', id: ++this.#lastId, full: true })
  }

  #broadcast(body: ControlToWorker): void {
    for (const link of this.#links.values()) link.send(body)
  }

  /** A worker that comes later gets what is left of the time. */
  #sendDrain(link: WorkerLink, wish: DrainWish): void {
    const elapsedMs = this.#options.clock.now() - this.#drainSinceMs
    link.send({ kind: 'drain-listeners', deadlineMs: Math.max(0, this.#options.start.drainTimeMs - elapsedMs), wish })
  }

  /** Asks every worker; those that do not answer in time are left out. */
  async #ask(kind: 'send-stats' | 'send-status'): Promise<Json[]> {
    const asked = [...this.#links.values()].map((link) => {
      const id = ++this.#lastId
      const cancel = this.#options.clock.schedule(ANSWER_LIMIT_MS, () => link.forget(id))
      const body: ControlToWorker & { id: number } = kind === 'send-stats' ? { kind, id, full: false } : { kind, id }
      return link.request(body).finally(cancel)
    })
    const answers = await Promise.all(asked)
    return answers.filter((answer) => answer !== undefined)
  }

  state(): ServerState {
    const closing = this.#drainWish !== undefined && !this.#drainWish.inboundOnly
    if (this.#draining || closing || !this.#healthy) return 'DRAINING'
    if (this.#options.shown() === undefined) return 'PRE_INITIALIZING'
    return this.#options.ready() ? 'LIVE' : 'INITIALIZING'
  }

  uptimeMs(): number {
    return this.#options.start.ageMs + this.#options.clock.now() - this.#startedMs
  }

  workers(): number {
    return this.#options.start.workers
  }

  configuration(): ShownConfig | undefined {
    return this.#options.shown()
  }

  dynamic(): DynamicStatus | undefined {
    return this.#options.live()?.status()
  }

  modifyRuntime(values: JsonObject): string | undefined {
    const live = this.#options.live()
    return live === undefined ? 'No admin layer specified' : live.modifyRuntime(values)
  }

  loads(): LoadReader {
    const reader = this.#loads.reader()
    this.#broadcast({ kind: 'count-loads' })
    return reader
  }

  async stats(): Promise<MetricsSnapshot> {
    await this.#ask('send-stats')
    const own = this.#options.parts()?.metrics?.()
    if (own !== undefined) this.#stats.set(CONTROL, own)
    const overload = this.#overload?.metrics()
    if (overload !== undefined) this.#stats.set(OVERLOAD, overload)
    const counted = this.#managers.with(this.#stats.snapshot(), this.state())
    const all = own?.texts === undefined ? counted : { ...counted, texts: own.texts }
    return withServerGauges(withMisses(withLives(withReloads(all, this.reloads), this.#lives), this.#misses), {
      state: this.state(),
      uptimeMs: this.uptimeMs(),
      workers: this.#options.start.workers,
      memory: memoryUse(this.#options.process),
    })
  }

  async status(): Promise<EngineStatus> {
    const answers = (await this.#ask('send-status')) as unknown as WorkerStatus[]
    const status = mergeStatus(answers.map((answer) => answer.engine))
    const judge = this.#options.judge()
    return judge === undefined ? status : { ...status, clusters: judge.complete(status.clusters) }
  }

  async memory(): Promise<MemoryUse> {
    const answers = (await this.#ask('send-status')) as unknown as WorkerStatus[]
    return addMemory([memoryUse(this.#options.process), ...answers.map((answer) => answer.memory)])
  }

  logLevel(): string | undefined {
    return this.#level
  }

  setLogLevel(level: string): void {
    this.#level = level
    this.#options.parts()?.setLogLevel(level)
    this.#broadcast({ kind: 'log-level', level })
  }

  drainListeners(wish: DrainWish = DRAIN_ALL): void {
    if (this.#drainWish !== undefined && !goesFurther(this.#drainWish, wish)) return
    this.#drainWish = wish
    this.#drainSinceMs = this.#options.clock.now()
    for (const link of this.#links.values()) this.#sendDrain(link, wish)
    const stopped = (): void => this.#managers.stopped(wish, this.#options.shown()?.config)
    if (!wish.graceful) stopped()
    else if (!wish.skipExit) this.#options.clock.schedule(this.#options.start.drainTimeMs, stopped)
  }

  setHealthy(ok: boolean): void {
    this.#healthy = ok
    this.#broadcast({ kind: 'health', ok })
  }

  reopenLogs(): void {
    void this.#options.channel.send({ kind: 'reopen-logs' })
  }

  restartWorkers(): boolean {
    void this.#options.channel.send({ kind: 'restart-workers' })
    return true
  }

  quit(): void {
    void this.#options.channel.send({ kind: 'quit' })
  }
}
