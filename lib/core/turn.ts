import { SocketWrites } from './socket-writes.ts'

/** Something that has work for the end of this turn of the event loop. */
export interface TurnWork {
  /** Called once per `defer`; must not throw. */
  turnEnds(): void
}

/**
 * Gathers work until all events of this turn of the loop have been read, then does it together. Writes that leave side by
 * side wake each receiving process once and not once per message, and a head shares its write with the body behind it.
 * Costs at most the rest of the turn in latency.
 */
export class TurnQueue {
  /** How what has been gathered gets to the sockets. */
  readonly writes: SocketWrites = new SocketWrites()
  #waiting: TurnWork[] = []
  #spare: TurnWork[] = []
  #last: TurnWork | undefined = undefined

  /** `work` is not checked for being queued already: callers note that themselves. */
  defer(work: TurnWork): void {
    if (this.#waiting.push(work) === 1 && this.#last === undefined) setImmediate(run, this)
  }

  /** Behind all others of this turn, those that come later included. There is one such work at a time. */
  deferLast(work: TurnWork): void {
    if (this.#waiting.length === 0 && this.#last === undefined) setImmediate(run, this)
    this.#last = work
  }

  /** @internal */
  run(): void {
    const work = this.#waiting
    const last = this.#last
    this.#waiting = this.#spare
    this.#last = undefined
    for (let i = 0; i < work.length; i++) work[i].turnEnds()
    work.length = 0
    this.#spare = work
    last?.turnEnds()
  }
}

function run(queue: TurnQueue): void {
  queue.run()
}
