import type { ConfigChange } from '../config/change.ts'
import type { GatewayConfig } from '../config/model.ts'
import type { Clock } from '../core/clock.ts'
import type { Demand } from '../core/demand.ts'
import type { HealthLink } from '../core/host-health.ts'
import type { Leases } from '../core/lease.ts'
import type { Log } from '../core/metrics.ts'
import type { Channel } from './channel.ts'
import { PartReader, parentChannel, partsInTurn } from './channel.ts'
import { DrainedListeners } from './drained-listeners.ts'
import type { Binder, DrainWish, Engine, MetricsChange } from './engine.ts'
import { DRAIN_ALL, DRAIN_ANNOUNCED, DRAIN_REPLACED } from './engine.ts'
import type {
  ControlToWorker,
  MemoryUse,
  Part,
  Settings,
  StatsPush,
  SupervisorToWorker,
  WorkerStatus,
  WorkerToControl,
  WorkerToSupervisor,
} from './messages.ts'
import { RemoteBinder } from './remote-binder.ts'
import { RemoteDemand } from './remote-demand.ts'
import { RemoteHealth } from './remote-health.ts'
import { WorkerConfig } from './worker-config.ts'
import { WorkerLeases } from './worker-leases.ts'

/** How often changed counters go to control. */
const PUSH_INTERVAL_MS = 1000
/** Looking for changes before the loop gets its turn: there may be half a million cells. */
const LOOK_MS = 1

/** What a worker gives the engine that it runs. */
export interface EngineServices {
  readonly binder: Binder
  /** False once the gateway was told to fail its health checks, or drains. */
  readonly serving: () => boolean
  /** False once the gateway was told to fail its health checks. */
  readonly healthy: () => boolean
  /** From 0, among the workers; its successor has the same. */
  readonly worker: number
  /** What only control can get. */
  readonly demand: Demand
  /** Control judges hosts for all workers. */
  readonly health: HealthLink
  /** Limits that hold for all workers together. */
  readonly leases: Leases
  /** Of the whole gateway; for `TlsAcceptor`. */
  readonly ticketSecret: Uint8Array
  readonly settings: Settings
}

export interface WorkerOptions {
  /** The composition root makes the engine, and the log that fits the settings. */
  create(services: EngineServices): { readonly engine: Engine; readonly log: Log }
  /** This process, forked by a supervisor. */
  readonly process: NodeJS.Process
  readonly clock: Clock
}

/** Turns this process into a worker; it ends when the supervisor says so or is gone. */
export function runWorker(options: WorkerOptions): void {
  const self = options.process
  const channel = parentChannel<WorkerToSupervisor>(self)
  const binder = new RemoteBinder(channel)
  let worker: Worker | undefined
  self.on('message', (raw: unknown, handle: unknown) => {
    const message = raw as SupervisorToWorker
    if (message.kind === 'bound' || message.kind === 'bind-failed') binder.answered(message, handle)
    else if (message.kind === 'ping') void channel.send({ kind: 'pong' })
    else if (message.kind === 'start') worker ??= new Worker(options, channel, binder, message)
    else if (worker !== undefined) worker.receive(message)
  })
  self.on('disconnect', () => {
    binder.close()
    if (worker === undefined) self.exit(1)
    else worker.end()
  })
  self.on('SIGTERM', () => (worker === undefined ? self.exit(0) : worker.leave()))
  // A terminal sends these to the whole group; the supervisor decides what they mean.
  self.on('SIGINT', () => {})
  self.on('SIGHUP', () => {})
  self.on('SIGUSR2', () => {})
}

class Worker {
  readonly #process: NodeJS.Process
  readonly #channel: Channel<WorkerToSupervisor>
  readonly #clock: Clock
  readonly #engine: Engine
  readonly #log: Log
  readonly #drainTimeMs: number
  readonly #parts = new PartReader()
  readonly #config: WorkerConfig
  readonly #demand: RemoteDemand
  readonly #leases: WorkerLeases
  readonly #health = new RemoteHealth((reports) =>
    this.#channel.send({ kind: 'to-control', body: { kind: 'host-reports', reports } }),
  )
  #countsLoads = false
  #healthy = true
  readonly #drained = new DrainedListeners()
  /** Asked to be replaced. */
  #leaving = false
  /** The gateway is about to end. */
  #announced = false
  #ending = false
  /** Another process serves in its place: the gateway itself goes on. */
  #replaced = false
  /** Payloads leave one after the other, so that their parts never mix. */
  #sending: Promise<void> = Promise.resolve()

  constructor(
    options: WorkerOptions,
    channel: Channel<WorkerToSupervisor>,
    binder: Binder,
    start: SupervisorToWorker & { kind: 'start' },
  ) {
    this.#process = options.process
    this.#channel = channel
    this.#clock = options.clock
    this.#drainTimeMs = start.drainTimeMs
    const serving = (): boolean =>
      this.#healthy && !this.#drained.all && !this.#announced && (!this.#ending || this.#replaced)
    const { place, settings } = start
    const ticketSecret = Buffer.from(start.ticketSecret, 'base64')
    const demand = new RemoteDemand({
      clock: options.clock,
      ask: (id, wish, timeoutMs) => this.#tell({ kind: 'demand', id, wish, timeoutMs }),
      idle: () => this.#config.idle(),
    })
    this.#demand = demand
    this.#leases = new WorkerLeases({
      clock: options.clock,
      seats: start.workers,
      send: (notes) => this.#tell(notes),
    })
    const made = options.create({
      binder,
      serving,
      healthy: () => this.#healthy,
      worker: place,
      demand,
      health: this.#health,
      leases: this.#leases,
      ticketSecret,
      settings,
    })
    this.#engine = made.engine
    this.#log = made.log
    this.#config = new WorkerConfig({
      engine: made.engine,
      drained: this.#drained,
      log: made.log,
      mark: String(options.process.pid),
      applied: (id, kind) => {
        if (kind === 'config') void this.#channel.send({ kind: 'settled' })
        this.#tell({ kind: 'applied', id })
      },
      refused: (id, { errors, resource }) => {
        const messages = errors.map(({ path, message }) => ({ path, message }))
        this.#tell({ kind: 'refused', id, errors: messages, ...(resource && { resource }) })
      },
    })
    this.#schedulePush()
  }

  receive(message: SupervisorToWorker): void {
    if (message.kind === 'drain') this.end(message.deadlineMs, message.replaced)
    else if (message.kind === 'announce-drain') this.#announce(message.forMs, message.ofMs)
    else if (message.kind === 'reopen-logs') this.#engine.reopenLogs()
    else if (message.kind === 'control-down') this.#controlGone()
    else if (message.kind === 'from-control') this.#fromControl(message.body)
  }

  #controlGone(): void {
    this.#leases.controlGone()
    this.#health.controlGone()
  }

  /** Goes on until another process is there in its place, and ends then. Asked again: ends without waiting for that. */
  leave(): void {
    if (this.#leaving) {
      this.end()
      return
    }
    this.#leaving = true
    void this.#channel.send({ kind: 'leaving' })
  }

  #announce(forMs: number, overMs: number): void {
    if (this.#announced || this.#ending) return
    this.#announced = true
    void this.#engine.drain(forMs, { ...DRAIN_ANNOUNCED, overMs })
  }

  /**
   * Finishes what is in flight, at most `deadlineMs`, and ends the process; 0 ends at once, also while draining. `replaced`:
   * nobody is to stay away because of that.
   */
  end(deadlineMs = this.#drainTimeMs, replaced = false): void {
    if (this.#ending && deadlineMs > 0) return
    const wish = replaced ? DRAIN_REPLACED : DRAIN_ALL
    const drained = this.#ending || deadlineMs <= 0 ? Promise.resolve() : this.#engine.drain(deadlineMs, wish)
    this.#replaced = replaced
    this.#ending = true
    drained
      .then(() => this.#push(0, false))
      .then(() => this.#engine.close())
      .catch((error: unknown) => this.#log.error('the worker could not end cleanly', { error: String(error) }))
      .finally(() => this.#process.exit(0))
  }

  #fromControl(message: ControlToWorker): void {
    if (message.kind === 'part') this.#configPart(message)
    else if (message.kind === 'greet') this.#greeted()
    else if (message.kind === 'leased') this.#leases.receive(message)
    else if (message.kind === 'send-stats') void this.#push(message.id, message.full)
    else if (message.kind === 'send-status') void this.#sendParts('status', message.id, this.#status())
    else if (message.kind === 'count-loads') this.#countsLoads = true
    else if (message.kind === 'log-level') this.#engine.setLogLevel(message.level)
    else if (message.kind === 'drain-listeners') this.#drainListeners(message.deadlineMs, message.wish)
    else if (message.kind === 'health') this.#healthy = message.ok
    else if (message.kind === 'report-hosts') this.#health.asked()
    else if (message.kind === 'host-health') this.#health.received(message.verdicts)
    else if (message.kind === 'pressures') this.#engine.pressures?.(message.pressures)
    else if (message.kind === 'ejections') this.#health.news(message.news)
    else if (message.kind === 'demanded') this.#demand.answered(message.id, message.found)
    else {
      const config = this.#config.config()
      if (config !== undefined) void this.#sendParts('config', message.id, config)
    }
  }

  #greeted(): void {
    // First: what is answered comes before any configuration.
    this.#leases.greeted()
    // Nothing that it runs matters to a control process that comes now.
    if (this.#ending) return
    const { pid } = this.#process
    const { revision } = this.#config
    this.#tell({ kind: 'hello', pid, revision, drained: this.#drained.wish, healthy: this.#healthy })
    this.#demand.askAgain()
  }

  #configPart(part: Part<'config' | 'change'> & { readonly revision: string }): void {
    const whole = this.#parts.add(part)
    if (whole === undefined) return
    const { id, revision } = part
    if (this.#ending) {
      if (part.payload === 'change') this.#lastChange(id, whole.value as ConfigChange)
      return
    }
    // JSON-safe data made by the control process, which is of the same version: nothing to check again here.
    if (part.payload === 'config') {
      this.#config.take({ kind: 'config', id, revision, config: whole.value as unknown as GatewayConfig })
    } else this.#config.take({ kind: 'change', id, revision, change: whole.value as ConfigChange })
  }

  /** While it drains only endpoints matter: what is under way may need one more attempt. */
  #lastChange(id: number, { assignments }: ConfigChange): void {
    const applied = (): void => this.#tell({ kind: 'applied', id })
    if (assignments === undefined) applied()
    // Those of a cluster that came later have no place here, which is no fault of theirs.
    else this.#engine.update({ assignments: { ...assignments, remove: [] } }).then(applied, applied)
  }

  #drainListeners(deadlineMs: number, wish: DrainWish): void {
    if (!this.#drained.begin(wish)) return
    const drained = this.#engine.drain(deadlineMs, wish)
    if (wish.graceful) void drained.then(() => this.#drained.ended(wish))
    // Otherwise the supervisor's copies of the sockets would let clients queue for ever.
    else if (!wish.inboundOnly) void this.#channel.send({ kind: 'release-all' })
  }

  #status(): WorkerStatus {
    return { engine: this.#engine.status(), memory: memoryUse(this.#process) }
  }

  #schedulePush(): void {
    this.#clock.schedule(PUSH_INTERVAL_MS, () => {
      if (this.#ending) return
      void this.#push(0, false)
      this.#schedulePush()
    })
  }

  #push(id: number, full: boolean): Promise<void> {
    this.#sending = this.#sending.then(() => this.#pushInPieces(id, full))
    return this.#sending
  }

  /** After a configuration with many clusters has come there is much to tell. The last piece bears the number. */
  async #pushInPieces(id: number, full: boolean): Promise<void> {
    const loads = this.#countsLoads ? this.#engine.loads?.() : undefined
    let piece: MetricsChange | undefined
    let beganMs = this.#clock.now()
    for (const next of this.#engine.metricsChanges(full)) {
      if (next !== undefined && piece !== undefined) await this.#transmit('stats', 0, piece)
      piece = next ?? piece
      if (this.#clock.now() - beganMs < LOOK_MS) continue
      await nextTurn()
      beganMs = this.#clock.now()
    }
    const push = { ...piece, ...(loads && { loads }) } as StatsPush
    // Nobody waits for a push without a number, so an empty one need not be sent.
    if (id !== 0 || !isEmpty(push)) await this.#transmit('stats', id, push)
  }

  #sendParts(payload: 'config' | 'status', id: number, value: unknown): Promise<void> {
    this.#sending = this.#sending.then(() => this.#transmit(payload, id, value))
    return this.#sending
  }

  /** The loop turns after each part: sending by itself never waits. */
  async #transmit(payload: 'config' | 'stats' | 'status', id: number, value: unknown): Promise<void> {
    for (const body of partsInTurn(payload, id, value)) {
      await this.#channel.send({ kind: 'to-control', body })
      await nextTurn()
    }
  }

  #tell(body: WorkerToControl): void {
    void this.#channel.send({ kind: 'to-control', body })
  }
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}

function isEmpty({ counters, gauges, histograms, gone, declared, undeclared, loads = [] }: StatsPush): boolean {
  const changes = counters.length + gauges.length + histograms.length + gone.length
  return changes + declared.length + undeclared.length + loads.length === 0
}

/** What a process takes of the machine, in bytes. */
export function memoryUse(self: NodeJS.Process): MemoryUse {
  const { rss, heapUsed, heapTotal, external } = self.memoryUsage()
  return { rss, heapUsed, heapTotal, external }
}
