import type { Clock } from '../core/clock.ts'
import type { Log } from '../core/metrics.ts'
import { ChildSlot, forkChild } from './child-slot.ts'
import type { WorkerLives } from './messages.ts'
import { SpareWorker } from './spare-worker.ts'
import { Watchdog } from './watchdog.ts'

/** A worker whose event loop has not turned for so long is killed; another one is there six seconds after it stopped. */
const SILENCE_MS = 4500
/** Until a successor runs the configuration and is warm; the worker that it was to replace stays where it takes longer. */
const SUCCESSOR_LIMIT_MS = 120_000

/** One worker process after the other, under one number; a successor has a number of its own, since both live at once. */
export interface Member {
  readonly worker: number
  /** Among the workers of the gateway, from 0. */
  readonly place: number
  readonly slot: ChildSlot
}

export interface PoolOptions {
  readonly entry: string
  readonly flags: readonly string[]
  readonly workers: number
  /** One more process is ready to take the place of any that ends. */
  readonly spare?: boolean
  readonly clock: Clock
  readonly log: Log
  /** Its process has been started, and has heard nothing yet. */
  started(member: Member): void
  message(member: Member, message: unknown): void
  /** Its process has ended; false: it is not started again. */
  down(member: Member): boolean
  /** Another process serves in its place: it is to drain and end, and is not started again. */
  replaced(member: Member): void
  /** It has ended, and no process of that number will follow. */
  gone(member: Member): void
  /** `lives` is another one. */
  counted(): void
}

/**
 * The workers of a gateway, and how each makes room for its successor:
 *
 * ```
 * serving ──a successor is wanted──▶ serving, the successor starts ──it runs the configuration──▶ draining ──▶ gone
 *    ▲                                        │ it ends, or takes too long
 *    └────────────────────────────────────────┘
 * ```
 * One at a time: there is at most one process more than workers, apart from those that drain.
 */
export class WorkerPool {
  readonly #options: PoolOptions
  readonly #members = new Map<number, Member>()
  /** Who serves, by place. */
  readonly #places: Member[] = []
  readonly watchdog: Watchdog
  /** Numbers of those that are to be replaced. */
  readonly #wanted = new Set<number>()
  #coming: { readonly member: Member; readonly settle: (runs: boolean) => void } | undefined
  #lastWorker: number
  readonly #spare: SpareWorker | undefined
  #retired = false
  #lives: WorkerLives = { died: 0, silent: 0, replaced: 0 }

  constructor(options: PoolOptions) {
    this.#options = options
    this.#lastWorker = options.workers - 1
    this.watchdog = new Watchdog({
      names: Array.from({ length: options.workers }, (_, place) => `worker_${place}`),
      killMs: SILENCE_MS,
      random: Math.random,
      counted: () => options.counted(),
    })
    const { clock, log } = options
    if (options.spare) this.#spare = new SpareWorker({ clock, log, fork: () => forkChild('spare worker', options) })
    for (let place = 0; place < options.workers; place++) this.#places.push(this.#member(place, place))
  }

  start(): void {
    for (const { slot } of this.#places) slot.start()
  }

  /** The gateway is ready: a process in reserve takes nothing from its start. */
  reserve(): void {
    this.#spare?.start()
  }

  /** Process ids of all that run. */
  get running(): readonly number[] {
    const pids = [this.#spare?.pid, ...[...this.#members.values()].map(({ slot }) => slot.pid)]
    return pids.filter((pid) => pid !== undefined)
  }

  /** Process ids of those that serve, by place; 0 where one is just being restarted. */
  get pids(): readonly number[] {
    return this.#places.map(({ slot }) => slot.pid ?? 0)
  }

  get lives(): WorkerLives {
    return this.#lives
  }

  find(worker: number): Member | undefined {
    return this.#members.get(worker)
  }

  /** Those that serve, that come and that drain. */
  all(): Iterable<Member> {
    return this.#members.values()
  }

  /** It runs a whole configuration. */
  settled(worker: number): void {
    this.#members.get(worker)?.slot.settled()
    if (this.#coming?.member.worker === worker) this.#coming.settle(true)
  }

  /** Replaces every worker that serves now. */
  restart(): void {
    for (const { worker } of this.#places) this.#replace(worker)
  }

  /** That one wants to go. */
  leaving(worker: number): void {
    if (this.#members.has(worker)) this.#replace(worker)
  }

  /** Nobody is started any more. */
  retire(): void {
    this.#retired = true
    this.#spare?.stop()
    this.#coming?.settle(false)
    for (const { slot } of this.#members.values()) slot.retire()
  }

  /** Resolves when all processes have ended, after `retire`. */
  async ended(): Promise<void> {
    await Promise.all([...this.#members.values()].map(({ slot }) => slot.ended))
  }

  #replace(worker: number): void {
    if (this.#retired) return
    const working = this.#wanted.size > 0
    this.#wanted.add(worker)
    if (!working) void this.#work()
  }

  async #work(): Promise<void> {
    const { log } = this.#options
    for (const worker of this.#wanted) {
      const before = this.#members.get(worker)
      if (before !== undefined && this.#places[before.place] === before) {
        log.info('a worker is being replaced', { worker: before.place })
        if (!(await this.#succeed(before))) {
          this.#wanted.clear()
          if (!this.#retired)
            log.error('a worker could not be replaced; those that run go on', { worker: before.place })
          return
        }
      }
      this.#wanted.delete(worker)
    }
    log.info('workers have been replaced')
  }

  /** True when another one serves in its place. */
  async #succeed(before: Member): Promise<boolean> {
    const member = this.#member(++this.#lastWorker, before.place)
    const runs = await this.#comes(member)
    this.#coming = undefined
    if (!runs || this.#retired) {
      member.slot.retire()
      member.slot.kill('SIGKILL')
      return false
    }
    this.#places[before.place] = member
    this.#count({ replaced: 1 })
    before.slot.retire()
    this.#options.replaced(before)
    return true
  }

  #comes(member: Member): Promise<boolean> {
    return new Promise((resolve) => {
      const cancel = this.#options.clock.schedule(SUCCESSOR_LIMIT_MS, () => resolve(false))
      this.#coming = {
        member,
        settle: (runs) => {
          cancel()
          resolve(runs)
        },
      }
      member.slot.start()
    })
  }

  #member(worker: number, place: number): Member {
    const { entry, flags, clock, log, started, message, gone } = this.#options
    const slot = new ChildSlot({
      name: `worker ${place}`,
      entry,
      flags,
      clock,
      log,
      silenceMs: SILENCE_MS,
      watchdog: { of: this.watchdog, name: `worker_${place}` },
      take: () => this.#spare?.take(),
      started: () => started(member),
      message: (content) => message(member, content),
      silent: () => this.#count({ silent: 1 }),
      ended: () => this.#ended(member),
    })
    const member: Member = { worker, place, slot }
    this.#members.set(worker, member)
    void slot.ended.then(() => {
      this.#members.delete(worker)
      gone(member)
    })
    return member
  }

  #ended(member: Member): boolean {
    const again = this.#options.down(member)
    const coming = this.#coming?.member === member
    const leaves = !coming && this.#places[member.place] !== member
    if (!leaves && !this.#retired) this.#count({ died: 1 })
    if (coming) this.#coming?.settle(false)
    return again && !coming
  }

  #count({ died = 0, silent = 0, replaced = 0 }: Partial<WorkerLives>): void {
    const before = this.#lives
    this.#lives = { died: before.died + died, silent: before.silent + silent, replaced: before.replaced + replaced }
    this.#options.counted()
  }
}
