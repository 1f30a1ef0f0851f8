import { randomBytes } from 'node:crypto'
import type { Address } from '../core/address.ts'
import type { Clock } from '../core/clock.ts'
import type { JsonObject } from '../core/errors.ts'
import type { Log } from '../core/metrics.ts'
import { ChildSlot } from './child-slot.ts'
import { listenOptions } from './local-binder.ts'
import type {
  ControlToSupervisor,
  Settings,
  SupervisorToControl,
  SupervisorToWorker,
  WorkerToSupervisor,
} from './messages.ts'
import { BindError, bindHandle, canBindHandles } from './socket-handle.ts'
import { SocketTable } from './socket-table.ts'
import { Watchdog } from './watchdog.ts'
import { type Member, WorkerPool } from './worker-pool.ts'

/**
 * `gc` for `BufferGarbage`. A young generation of which what is under way is a small part: with semi-spaces of 16 MiB a
 * request over HTTP/2 costs 3 to 7 % less than with 8, and as much as with 32. Memory of dead buffers that is given back
 * within the collection that finds them: freed by another thread it counts for so long that V8 begins major collections for
 * its sake, which cost bodies up to a third of their throughput. And room for the old generation of a worker with little in
 * it: from 20 MiB on V8 would begin a major collection with every few MiB that come, several a second under an attack, each of
 * which stops everybody for up to 20 ms. `NODE_OPTIONS` cannot override these.
 */
const WORKER_FLAGS: readonly string[] = [
  '--expose-gc',
  '--max-semi-space-size=16',
  '--initial-old-space-size=64',
  '--no-concurrent-array-buffer-sweeping',
]

/** What a child gets on top of its drain time before it is killed. */
const GRACE_MS = 2000
/** A worker that ends that often before the gateway was ready once will not start at all. */
const START_ATTEMPTS = 3
/** Reading a large configuration may keep the control process from everything else for that long. */
const CONTROL_SILENCE_MS = 30_000

export interface SupervisorOptions {
  /** Modules that call `runControl` and `runWorker`; paths, not URLs. */
  readonly controlEntry: string
  readonly workerEntry: string
  /** At least 1. */
  readonly workers: number
  /** Keeps one more worker process in reserve, which takes the place of one that ends at once; as large as an idle worker. */
  readonly spareWorker?: boolean
  readonly drainTimeMs: number
  /**
   * Of the drain time, how long connections are still taken after `stop`, while `/ready` says no and answers close their
   * connections: load balancers need a moment to notice. Default: 0.
   */
  readonly drainMinMs?: number
  /** How long a worker that was replaced may take to end. Default: the drain time. */
  readonly replacedMs?: number
  readonly settings: Settings
  readonly clock: Clock
  readonly log: Log
  /** Called once, when every worker runs the configuration; `admin` is its address, '' where there is none. */
  ready?(admin: string): void
}

/**
 * Owns the listening sockets and the children, nothing else: it reads no configuration, accepts no connection and knows
 * no protocol, so there is little in it that could fail. It passes the messages of control and workers on unread.
 */
export class Supervisor {
  readonly #options: SupervisorOptions
  readonly #sockets = new SocketTable(bindHandle)
  readonly #control: ChildSlot
  /** Of the control process. */
  readonly #watchdog: Watchdog
  readonly #workers: WorkerPool
  readonly #startedMs: number
  /** Lives as long as the gateway, in memory only: a worker that is replaced can open the tickets of its predecessor. */
  readonly #ticketSecret: string = randomBytes(32).toString('base64')
  /** Bound sockets that nobody listens on do not keep a process alive, nor do the timers of restarts. */
  readonly #alive: NodeJS.Timeout
  readonly #done = Promise.withResolvers<number>()
  /** Control processes that have been started. */
  #runs = 0
  #ready = false
  /** The end has been announced, and new connections are still taken. */
  #announced = false
  #stopping = false

  constructor(options: SupervisorOptions) {
    this.#options = options
    this.#startedMs = options.clock.now()
    this.#alive = setInterval(() => {}, 2 ** 30)
    this.#watchdog = new Watchdog({
      names: ['main_thread'],
      killMs: CONTROL_SILENCE_MS,
      random: Math.random,
      counted: () => this.#tellLives(),
    })
    this.#control = this.#controlSlot()
    this.#workers = this.#workerPool()
    this.#control.start()
    this.#workers.start()
  }

  /** The exit status of the gateway, once everything has ended. */
  get ended(): Promise<number> {
    return this.#done.promise
  }

  /** Process ids, 0 where one is just being restarted. */
  get pids(): { readonly control: number; readonly workers: readonly number[] } {
    return { control: this.#control.pid ?? 0, workers: this.#workers.pids }
  }

  /** Process ids of everybody that it started and that runs, those that drain as well. */
  get children(): readonly number[] {
    const { pid } = this.#control
    return pid === undefined ? this.#workers.running : [pid, ...this.#workers.running]
  }

  /** Number of listening sockets that are held for the workers. */
  get sockets(): number {
    return this.#sockets.size
  }

  /** Drains for at most `drainTimeMs` and ends. Called again while that goes on: ends at once. */
  stop(drainTimeMs: number = this.#options.drainTimeMs): void {
    if (this.#announced || this.#stopping) {
      this.#stop(0, 0)
      return
    }
    const minMs = Math.min(this.#options.drainMinMs ?? 0, drainTimeMs)
    if (minMs <= 0 || !this.#ready) {
      this.#stop(drainTimeMs, 0)
      return
    }
    this.#announced = true
    this.#toControl({ kind: 'draining' })
    for (const { slot } of this.#workers.all())
      this.#toWorker(slot, { kind: 'announce-drain', forMs: minMs, ofMs: drainTimeMs })
    this.#options.clock.schedule(minMs, () => {
      if (!this.#stopping) this.#stop(drainTimeMs - minMs, 0)
    })
  }

  /** Replaces all workers, one after the other; each drains when its successor serves. Nobody notices. */
  restartWorkers(): void {
    if (this.#ready && !this.#announced) this.#workers.restart()
    else this.#options.log.warn('workers are not replaced while the gateway starts or ends')
  }

  /** Looks at the files of the configuration now, and takes it over where it is another. */
  reload(): void {
    this.#toControl({ kind: 'reload' })
  }

  /** Log files have been moved: everybody opens them by name again. */
  reopenLogs(): void {
    this.#toControl({ kind: 'reopen-logs' })
    for (const { slot } of this.#workers.all()) this.#toWorker(slot, { kind: 'reopen-logs' })
  }

  #stop(drainTimeMs: number, status: number): void {
    const first = !this.#stopping
    this.#stopping = true
    this.#sockets.close()
    this.#toControl({ kind: 'draining' })
    this.#workers.retire()
    const slots = [...this.#workers.all()].map(({ slot }) => slot)
    for (const slot of slots) this.#toWorker(slot, { kind: 'drain', deadlineMs: drainTimeMs })
    this.#killAfter(slots, drainTimeMs + GRACE_MS)
    if (first) void this.#finish(status)
  }

  async #finish(status: number): Promise<void> {
    await this.#workers.ended()
    this.#control.retire()
    this.#control.disconnect()
    this.#killAfter([this.#control], GRACE_MS)
    await this.#control.ended
    clearInterval(this.#alive)
    this.#done.resolve(status)
  }

  #killAfter(slots: readonly ChildSlot[], delayMs: number): void {
    this.#options.clock.schedule(delayMs, () => {
      for (const slot of slots) slot.kill('SIGKILL')
    })
  }

  #controlSlot(): ChildSlot {
    const { controlEntry, workers, drainTimeMs, settings, clock, log } = this.#options
    return new ChildSlot({
      name: 'control',
      entry: controlEntry,
      flags: [],
      clock,
      log,
      silenceMs: CONTROL_SILENCE_MS,
      watchdog: { of: this.#watchdog, name: 'main_thread' },
      started: () => {
        const ageMs = clock.now() - this.#startedMs
        const run = ++this.#runs
        this.#toControl({ kind: 'start', restarted: this.#ready, run, ageMs, workers, drainTimeMs, settings })
        this.#tellLives()
        if (this.#announced) this.#toControl({ kind: 'draining' })
        for (const { slot, worker } of this.#workers.all()) {
          if (slot.running) this.#toControl({ kind: 'worker-up', worker })
        }
      },
      message: (message) => this.#fromControl(message as ControlToSupervisor),
      ended: () => {
        if (this.#stopping) return false
        for (const { slot } of this.#workers.all()) this.#toWorker(slot, { kind: 'control-down' })
        if (this.#ready) return true
        // It ended before it could say why: there is nothing that could become ready.
        this.#stop(0, 1)
        return false
      },
    })
  }

  #tellLives(): void {
    const misses = [...this.#watchdog.misses, ...this.#workers.watchdog.misses]
    this.#toControl({ kind: 'lives', ...this.#workers.lives, misses })
  }

  #workerPool(): WorkerPool {
    const { workerEntry, workers, spareWorker: spare, clock, log, replacedMs, drainTimeMs } = this.#options
    const deadlineMs = replacedMs ?? drainTimeMs
    return new WorkerPool({
      entry: workerEntry,
      flags: WORKER_FLAGS,
      workers,
      spare,
      clock,
      log,
      started: (member) => this.#workerStarted(member),
      message: (member, message) => void this.#fromWorker(member, message as WorkerToSupervisor),
      down: (member) => this.#workerDown(member),
      replaced: ({ slot }) => {
        this.#toWorker(slot, { kind: 'drain', deadlineMs, replaced: true })
        this.#killAfter([slot], deadlineMs + GRACE_MS)
      },
      gone: ({ worker }) => this.#sockets.releaseAll(worker),
      counted: () => this.#tellLives(),
    })
  }

  /** True: it is to be started again. */
  #workerDown({ worker, place, slot }: Member): boolean {
    this.#toControl({ kind: 'worker-down', worker })
    if (this.#stopping) return false
    if (this.#ready || slot.ends < START_ATTEMPTS) return true
    this.#options.log.error(`worker ${place} does not start`)
    this.#stop(0, 1)
    return false
  }

  #workerStarted({ worker, place, slot }: Member): void {
    const { workers, drainTimeMs, settings } = this.#options
    const ticketSecret = this.#ticketSecret
    this.#sockets.started(worker)
    this.#toWorker(slot, { kind: 'start', worker, place, workers, drainTimeMs, ticketSecret, settings })
    const forMs = this.#options.drainMinMs ?? 0
    if (this.#announced) this.#toWorker(slot, { kind: 'announce-drain', forMs, ofMs: drainTimeMs })
    this.#toControl({ kind: 'worker-up', worker })
  }

  #fromControl(message: ControlToSupervisor): void {
    if (message.kind === 'to-worker') {
      const member = this.#workers.find(message.worker)
      if (member !== undefined) this.#toWorker(member.slot, { kind: 'from-control', body: message.body })
    } else if (message.kind === 'ready') {
      if (this.#ready) return
      this.#ready = true
      this.#workers.reserve()
      this.#options.ready?.(message.admin)
    } else if (message.kind === 'watch') {
      this.#watchdog.configure(message.watchdogs.control)
      this.#workers.watchdog.configure(message.watchdogs.workers)
    } else if (message.kind === 'failed') this.#stop(0, 1)
    else if (message.kind === 'quit') this.#stop(0, 0)
    else if (message.kind === 'reopen-logs') this.reopenLogs()
    else if (message.kind === 'restart-workers') this.restartWorkers()
  }

  async #fromWorker({ slot, worker }: Member, message: WorkerToSupervisor): Promise<void> {
    if (message.kind === 'to-control') this.#toControl({ kind: 'from-worker', worker, body: message.body })
    else if (message.kind === 'release') this.#sockets.release(worker, message.address)
    else if (message.kind === 'release-all') this.#sockets.releaseAll(worker)
    else if (message.kind === 'leaving') this.#workers.leaving(worker)
    else if (message.kind === 'settled') {
      this.#sockets.settle(worker)
      this.#workers.settled(worker)
    } else if (message.kind === 'bind') await this.#bind(slot, worker, message)
  }

  async #bind(slot: ChildSlot, worker: number, request: WorkerToSupervisor & { kind: 'bind' }): Promise<void> {
    const { id, address, held } = request
    if (!canBindHandles()) {
      this.#toWorker(slot, { kind: 'bound', id, listen: ownSocket(address) })
      return
    }
    const { pid } = slot
    try {
      const handle = await (held === undefined
        ? this.#sockets.acquire(worker, address)
        : this.#sockets.held(worker, address, held))
      // Its successor must not get an answer that it never asked for.
      if (slot.pid === pid) slot.send({ kind: 'bound', id } satisfies SupervisorToWorker, handle)
    } catch (error) {
      if (slot.pid !== pid) return
      const code = error instanceof BindError ? error.code : 'EIO'
      this.#toWorker(slot, { kind: 'bind-failed', id, code, message: (error as Error).message })
    }
  }

  #toWorker(slot: ChildSlot, message: SupervisorToWorker): void {
    slot.send(message)
  }

  #toControl(message: SupervisorToControl): void {
    this.#control.send(message)
  }
}

/** The fall-back where this Node can't bind without listening: each worker has its own socket on the same port. */
function ownSocket(address: Address): JsonObject {
  return { ...listenOptions(address, 0), reusePort: address.kind === 'ip' }
}
