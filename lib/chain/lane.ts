import type { Headers } from '../core/headers.ts'
import type { Hook } from './compile.ts'
import type { Next, NextChunk } from './filter.ts'
import { REPLIED } from './reply.ts'

/** What one direction of an exchange does with its lane. */
export interface LaneOwner {
  /** Calls the data hook of one filter. What it throws is handled inside: the lane sees `REPLIED` and stops. */
  dataHook(hook: Hook, chunk: Buffer, end: boolean): NextChunk | typeof REPLIED
  trailersHook(hook: Hook, trailers: Headers): Next
  /** A promise of a hook was rejected. */
  hookFailed(hook: Hook, error: unknown): void
  /** Past all hooks. False: hold the rest until `unblock`. */
  deliver(chunk: Buffer, end: boolean): boolean
  deliverTrailers(trailers: Headers): void
  /** The lane holds more than its limit (true) or has room again (false). */
  full(full: boolean): void
}

interface Entry {
  chunk: Buffer
  end: boolean
  trailers: Headers | undefined
  /** Next place to visit, in the direction of travel. */
  at: number
  /** A hook has this entry and its promise has not settled. */
  waiting: boolean
}

/** Behind the last filter. */
const OPEN: number = Number.MAX_SAFE_INTEGER

/**
 * The body of one direction on its way through the data hooks, in order. Only used where something holds it up or has a
 * data hook; otherwise chunks go straight from codec to codec.
 *
 * `limit` is the place that header iteration has reached: data never overtakes it. An entry may enter hook p only when
 * the entry before it has passed p, so order holds whatever pauses where.
 */
export class Lane {
  readonly #owner: LaneOwner
  readonly #bufferLimit: number
  #entries: Entry[] = []
  #bytes = 0
  #limit = 0
  #running: Entry | undefined = undefined
  #blocked = false
  #full = false
  #closed = false
  #pumping = false
  #again = false
  #data: readonly Hook[]
  #trailers: readonly Hook[]
  /** Trailers that a filter set for a body that has none of its own. */
  extraTrailers: Headers | undefined = undefined
  #collect: { limit: number; at: number; peek: boolean; done: (body: Buffer | undefined) => void } | undefined =
    undefined

  constructor(owner: LaneOwner, hooks: { data: readonly Hook[]; trailers: readonly Hook[] }, bufferLimit: number) {
    this.#owner = owner
    this.#data = hooks.data
    this.#trailers = hooks.trailers
    this.#bufferLimit = bufferLimit
  }

  /** The chain changed behind the current filter (refreshRoute). */
  replaceHooks(hooks: { data: readonly Hook[]; trailers: readonly Hook[] }): void {
    this.#data = hooks.data
    this.#trailers = hooks.trailers
  }

  get idle(): boolean {
    return this.#entries.length === 0
  }

  /** Header hooks have reached the filter at `at`: data may not go beyond. */
  hold(at: number): void {
    this.#limit = at
  }

  /** Header hooks have all passed. */
  open(): void {
    this.#limit = OPEN
    this.pump()
  }

  push(chunk: Buffer, end: boolean): void {
    if (this.#closed) return
    this.#add({ chunk, end, trailers: undefined, at: 0, waiting: false })
  }

  pushTrailers(trailers: Headers): void {
    if (this.#closed) return
    this.#add({ chunk: EMPTY, end: true, trailers, at: 0, waiting: false })
  }

  #add(entry: Entry): void {
    this.#entries.push(entry)
    this.#bytes += entry.chunk.length
    this.pump()
  }

  /** An extra chunk from the filter whose hook is running (or waiting): travels just before that hook's own chunk. */
  inject(chunk: Buffer): boolean {
    if (this.#closed) return false
    const current = this.#running ?? this.#entries.find((entry) => entry.waiting)
    if (current === undefined) return false
    const entry: Entry = { chunk, end: false, trailers: undefined, at: current.at + 1, waiting: false }
    const place = this.#entries.indexOf(current)
    this.#entries.splice(place, 0, entry)
    this.#bytes += chunk.length
    if (!this.#pumping) this.pump()
    else this.#again = true
    return !this.#full
  }

  /** The sink drained. */
  unblock(): void {
    this.#blocked = false
    this.pump()
  }

  /** Drops everything; nothing is delivered any more. */
  close(): void {
    this.#closed = true
    this.#entries = []
    this.#bytes = 0
    const collect = this.#collect
    this.#collect = undefined
    collect?.done(undefined)
  }

  /**
   * Waits until the whole body (or `peek`: `limit` bytes of it) stands before the filter whose header hook is running.
   * `done` gets undefined where the body outgrows `limit` or the exchange ends.
   */
  collect(limit: number, peek: boolean, done: (body: Buffer | undefined) => void): void {
    if (this.#closed || this.#collect !== undefined || this.#limit === OPEN) {
      done(undefined)
      return
    }
    this.#collect = { limit, at: this.#limit, peek, done }
    this.pump()
    this.#watermark()
  }

  /** Moves everything as far as it may go. Re-entrant calls only note that another round is due. */
  pump(): void {
    if (this.#pumping) {
      this.#again = true
      return
    }
    this.#pumping = true
    do {
      this.#again = false
      this.#round()
    } while (this.#again && !this.#closed)
    this.#pumping = false
    if (this.#closed) return
    this.#checkCollected()
    this.#watermark()
  }

  #round(): void {
    let bound = this.#limit
    let i = 0
    while (i < this.#entries.length && !this.#closed) {
      const entry = this.#entries[i]
      if (!entry.waiting && this.#advance(entry, bound)) {
        // Delivered or swallowed: it is out of the list already.
        continue
      }
      if (this.#closed || this.#again) return
      if (entry.at < bound) bound = entry.at
      i++
    }
  }

  /** True where the entry left the lane. */
  #advance(entry: Entry, bound: number): boolean {
    const hooks = entry.trailers === undefined ? this.#data : this.#trailers
    for (let h = 0; h < hooks.length; h++) {
      const hook = hooks[h]
      if (hook.at < entry.at) continue
      if (hook.at >= bound) break
      entry.at = hook.at
      this.#running = entry
      const result =
        entry.trailers === undefined
          ? this.#owner.dataHook(hook, entry.chunk, entry.end)
          : this.#owner.trailersHook(hook, entry.trailers)
      this.#running = undefined
      if (this.#closed || result === REPLIED) return false
      if (result !== undefined && result !== null && !Buffer.isBuffer(result)) {
        this.#wait(entry, hook, result as PromiseLike<unknown>)
        return false
      }
      if (this.#settle(entry, hook, result)) return true
      if (this.#again) return false
    }
    if (entry.at < bound) entry.at = bound
    if (bound !== OPEN || this.#blocked) return false
    this.#remove(entry)
    this.#send(entry)
    return true
  }

  /** Applies a hook's answer; true where the chunk was swallowed. */
  #settle(entry: Entry, hook: Hook, result: unknown): boolean {
    entry.at = hook.at + 1
    if (result === null) {
      if (!entry.end) {
        this.#remove(entry)
        return true
      }
      this.#bytes -= entry.chunk.length
      entry.chunk = EMPTY
    } else if (Buffer.isBuffer(result)) {
      this.#bytes += result.length - entry.chunk.length
      entry.chunk = result
    }
    return false
  }

  #wait(entry: Entry, hook: Hook, promise: PromiseLike<unknown>): void {
    entry.waiting = true
    if (typeof promise.then !== 'function') {
      this.#owner.hookFailed(hook, wrongAnswer(promise))
      return
    }
    promise.then(
      (result) => {
        if (this.#closed) return
        entry.waiting = false
        if (result !== REPLIED) this.#settle(entry, hook, result)
        this.pump()
      },
      (error: unknown) => this.#owner.hookFailed(hook, error),
    )
  }

  #remove(entry: Entry): void {
    this.#entries.splice(this.#entries.indexOf(entry), 1)
    this.#bytes -= entry.chunk.length
  }

  #send(entry: Entry): void {
    if (entry.trailers !== undefined) {
      this.#owner.deliverTrailers(entry.trailers)
      return
    }
    const extra = entry.end ? this.extraTrailers : undefined
    if (entry.chunk.length > 0 || (entry.end && extra === undefined)) {
      if (!this.#owner.deliver(entry.chunk, entry.end && extra === undefined)) this.#blocked = true
    }
    if (extra !== undefined && !this.#closed) this.#owner.deliverTrailers(extra)
  }

  #checkCollected(): void {
    const collect = this.#collect
    if (collect === undefined) return
    let size = 0
    let ended = false
    for (const entry of this.#entries) {
      if (entry.at < collect.at || entry.waiting) break
      size += entry.chunk.length
      ended = entry.end
    }
    const over = size > collect.limit
    if (!ended && !over && !(collect.peek && size >= collect.limit)) return
    this.#collect = undefined
    if (over && !collect.peek) {
      collect.done(undefined)
      return
    }
    const chunks: Buffer[] = []
    for (const entry of this.#entries) {
      if (entry.at < collect.at || entry.waiting) break
      chunks.push(entry.chunk)
    }
    const body = chunks.length === 1 ? chunks[0] : Buffer.concat(chunks)
    collect.done(collect.peek && body.length > collect.limit ? body.subarray(0, collect.limit) : body)
  }

  #watermark(): void {
    const limit = Math.max(this.#bufferLimit, this.#collect?.limit ?? 0)
    // Whoever collects waits for more: no hysteresis, or a lane that was filled before would never get it.
    const low = this.#collect === undefined ? limit >> 1 : limit
    if (!this.#full && this.#bytes > limit) {
      this.#full = true
      this.#owner.full(true)
    } else if (this.#full && this.#bytes <= low) {
      this.#full = false
      this.#owner.full(false)
    }
  }
}

/** The error for a hook that returned what no hook may return. */
export function wrongAnswer(answer: unknown): TypeError {
  const what = answer === null ? 'null' : typeof answer
  return new TypeError(`a hook returned ${what}: expected nothing, a reply, or a promise (or a Buffer, for data)`)
}

const EMPTY: Buffer = Buffer.alloc(0)
