import type { ConfigChange } from '../config/change.ts'
import type { GatewayConfig } from '../config/model.ts'
import type { Clock } from '../core/clock.ts'
import type { Demand } from '../core/demand.ts'
import type { Log } from '../core/metrics.ts'
import type { Channel } from './channel.ts'
import { PartReader, parentChannel, partsInTurn } from './channel.ts'
import { DrainedListeners } from './drained-listeners.ts'
import type { Binder, DrainWish, Engine } from './engine.ts'
import type {
  ControlToWorker,
  MemoryUse,
  Part,
  Settings,
  SupervisorToWorker,
  WorkerStatus,
  WorkerToControl,
  WorkerToSupervisor,
} from './messages.ts'
import { RemoteBinder } from './remote-binder.ts'
import { RemoteDemand } from './remote-demand.ts'
import { StatsDelta } from './stats-delta.ts'
import { WorkerConfig } from './worker-config.ts'

/** How often changed counters go to control. */
const PUSH_INTERVAL_MS = 1000

/** What a worker gives the engine that it runs. */
export interface EngineServices {
  readonly binder: Binder
  /** False once the gateway was told to fail its health checks, or drains. */
  readonly serving: () => boolean
  readonly worker: number
  /** What only control can get. */
  readonly demand: Demand
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
    else if (message.kind === 'start') worker ??= new Worker(options, channel, binder, message)
    else if (worker !== undefined) worker.receive(message)
  })
  self.on('disconnect', () => {
    binder.close()
    if (worker === undefined) self.exit(1)
    else worker.end()
  })
  self.on('SIGTERM', () => (worker === undefined ? self.exit(0) : worker.end()))
  // A terminal sends these to the whole group; the supervisor decides what they mean.
  self.on('SIGINT', () => {})
  self.on('SIGHUP', () => {})
}

class Worker {
  readonly #process: NodeJS.Process
  readonly #channel: Channel<WorkerToSupervisor>
  readonly #clock: Clock
  readonly #engine: Engine
  readonly #log: Log
  readonly #drainTimeMs: number
  readonly #parts = new PartReader()
  readonly #delta = new StatsDelta()
  readonly #config: WorkerConfig
  readonly #demand: RemoteDemand
  #countsLoads = false
  #healthy = true
  readonly #drained = new DrainedListeners()
  #ending = false
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
    const serving = (): boolean => this.#healthy && !this.#drained.all && !this.#ending
    const { worker, settings } = start
    const ticketSecret = Buffer.from(start.ticketSecret, 'base64')
    const demand = new RemoteDemand({
      clock: options.clock,
      ask: (id, wish, timeoutMs) => this.#tell({ kind: 'demand', id, wish, timeoutMs }),
      idle: () => this.#config.idle(),
    })
    this.#demand = demand
    const made = options.create({ binder, serving, worker, demand, ticketSecret, settings })
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
    if (message.kind === 'drain') this.end(message.deadlineMs)
    else if (message.kind === 'reopen-logs') this.#engine.reopenLogs()
    else if (message.kind === 'from-control') this.#fromControl(message.body)
  }

  /** Finishes what is in flight, at most `deadlineMs`, and ends the process; 0 ends at once, also while draining. */
  end(deadlineMs = this.#drainTimeMs): void {
    if (this.#ending && deadlineMs > 0) return
    const drained = this.#ending || deadlineMs <= 0 ? Promise.resolve() : this.#engine.drain(deadlineMs)
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
    else if (message.kind === 'send-stats') void this.#push(message.id, message.full)
    else if (message.kind === 'send-status') void this.#sendParts('status', message.id, this.#status())
    else if (message.kind === 'count-loads') this.#countsLoads = true
    else if (message.kind === 'log-level') this.#engine.setLogLevel(message.level)
    else if (message.kind === 'drain-listeners') this.#drainListeners(message.deadlineMs, message.wish)
    else if (message.kind === 'health') this.#healthy = message.ok
    else if (message.kind === 'demanded') this.#demand.answered(message.id, message.found)
    else {
      const config = this.#config.config()
      if (config !== undefined) void this.#sendParts('config', message.id, config)
    }
  }

  #greeted(): void {
    const { pid } = this.#process
    const { revision } = this.#config
    this.#tell({ kind: 'hello', pid, revision, drained: this.#drained.wish, healthy: this.#healthy })
    this.#demand.askAgain()
  }

  #configPart(part: Part<'config' | 'change'> & { readonly revision: string }): void {
    const whole = this.#parts.add(part)
    if (whole === undefined || this.#ending) return
    const { id, revision } = part
    // JSON-safe data made by the control process, which is of the same version: nothing to check again here.
    if (part.payload === 'config') {
      this.#config.take({ kind: 'config', id, revision, config: whole.value as unknown as GatewayConfig })
    } else this.#config.take({ kind: 'change', id, revision, change: whole.value as ConfigChange })
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
    const loads = this.#countsLoads ? this.#engine.loads?.() : undefined
    const push = { ...this.#delta.next(this.#engine.metrics(), full), ...(loads && { loads }) }
    const { counters, gauges, histograms, gone } = push
    // Nobody waits for a push without a number, so an empty one need not be sent.
    if (id === 0 && counters.length + gauges.length + histograms.length + gone.length === 0 && !loads?.length) {
      return this.#sending
    }
    return this.#sendParts('stats', id, push)
  }

  #sendParts(payload: 'config' | 'stats' | 'status', id: number, value: unknown): Promise<void> {
    this.#sending = this.#sending.then(async () => {
      for (const body of partsInTurn(payload, id, value)) await this.#channel.send({ kind: 'to-control', body })
    })
    return this.#sending
  }

  #tell(body: WorkerToControl): void {
    void this.#channel.send({ kind: 'to-control', body })
  }
}

/** What a process takes of the machine, in bytes. */
export function memoryUse(self: NodeJS.Process): MemoryUse {
  const { rss, heapUsed, heapTotal, external } = self.memoryUsage()
  return { rss, heapUsed, heapTotal, external }
}
