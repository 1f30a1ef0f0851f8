import type { Headers } from '../core/headers.ts'
import { ChunkList, type Entry, newEntry } from './chunk-list.ts'
import type { Hook } from './compile.ts'
import type { Next, NextChunk, Replied } from './filter.ts'
import { REPLIED } from './reply.ts'

/** What one direction of an exchange does with its lane. */
export interface LaneOwner {
  /** Call a hook of one filter. What they throw arrives at `hookFailed`. */
  dataHook(hook: Hook, chunk: Buffer, end: boolean): NextChunk
  trailersHook(hook: Hook, trailers: Headers): Next
  /** A hook threw, its promise was rejected, or its answer makes no sense: nothing more is asked of this entry. */
  hookFailed(hook: Hook, error: unknown): void
  /** Past all hooks. False: hold the rest until `unblock`. */
  deliver(chunk: Buffer, end: boolean): boolean
  deliverTrailers(trailers: Headers): void
  /** The lane holds more than its limit (true) or has room again (false). */
  full(full: boolean): void
}

/** Whoever waits for a whole body, or for the beginning of one. */
interface Collect {
  readonly limit: number
  readonly at: number
  readonly peek: boolean
  readonly done: (body: Buffer | undefined) => void
  /** Counted so far: everything up to this entry, `size` bytes. */
  upTo: Entry | undefined
  size: number
}

/** Behind the last filter. */
const OPEN: number = Number.MAX_SAFE_INTEGER

/**
 * The body of one direction on its way through the data hooks, in order. Only used where something holds it up or has a
 * data hook; otherwise chunks go straight from codec to codec.
 *
 * `limit` is the place that header iteration has reached: data never overtakes it. An entry may enter hook p only when
 * the entry before it has passed p, so order holds whatever pauses where.
 *
 * An entry can only move when the one before it has moved, or when something has happened to it: these stand in `due`,
 * and each is followed to the rear only as far as entries move. So the cost is that of the moves (at most one per entry
 * and hook), however many entries wait. Small chunks that wait are joined: a hook may see several as one.
 */
export class Lane {
  readonly #owner: LaneOwner
  readonly #bufferLimit: number
  readonly #list = new ChunkList()
  #limit = 0
  readonly #due: Entry[] = []
  #running: Entry | undefined = undefined
  /** At most one for each hook. */
  readonly #waiting: Entry[] = []
  #blocked = false
  #full = false
  #closed = false
  #pumping = false
  #data: readonly Hook[]
  #trailers: readonly Hook[]
  /** Trailers that a filter set for a body that has none of its own. */
  extraTrailers: Headers | undefined = undefined
  #collect: Collect | undefined = undefined

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
    return this.#list.head === undefined
  }

  /** Bytes that wait, and what keeping them costs. */
  get weight(): number {
    return this.#list.weight
  }

  /** Header hooks have reached the filter at `at`: data may not go beyond. */
  hold(at: number): void {
    this.#limit = at
    if (this.#list.head !== undefined) this.#due.push(this.#list.head)
  }

  /** Header hooks have all passed. */
  open(): void {
    this.hold(OPEN)
    this.#pump()
  }

  push(chunk: Buffer, end: boolean): void {
    this.#add(chunk, end, undefined)
  }

  pushTrailers(trailers: Headers): void {
    this.#add(EMPTY, true, trailers)
  }

  #add(chunk: Buffer, end: boolean, trailers: Headers | undefined): void {
    if (this.#closed) return
    const entry = newEntry(chunk, end, trailers)
    this.#list.insert(entry, undefined)
    this.#due.push(entry)
    this.#pump()
  }

  /** An extra chunk from the filter whose hook is running (or waiting): travels just before that hook's own chunk. */
  inject(chunk: Buffer): boolean {
    if (this.#closed) return false
    let current = this.#running
    if (current === undefined) {
      // The one in front, should several wait.
      for (const entry of this.#waiting) if (current === undefined || entry.at > current.at) current = entry
    }
    if (current === undefined) return false
    const entry = newEntry(chunk, false, undefined)
    entry.at = current.at + 1
    this.#list.insert(entry, current)
    this.#due.push(entry)
    this.#pump()
    return !this.#full
  }

  /** A whole body from the filter whose header hook is running, where none was to come: travels from behind it. */
  begin(chunk: Buffer): void {
    if (this.#closed) return
    const entry = newEntry(chunk, true, undefined)
    entry.at = this.#limit + 1
    this.#list.insert(entry, undefined)
    this.#due.push(entry)
  }

  /** The sink drained. */
  unblock(): void {
    this.#blocked = false
    if (this.#list.head !== undefined) this.#due.push(this.#list.head)
    this.#pump()
  }

  /** Drops everything; nothing is delivered any more. */
  close(): void {
    this.#closed = true
    this.#list.clear()
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
    this.#collect = { limit, at: this.#limit, peek, done, upTo: undefined, size: 0 }
    this.#pump()
  }

  // --- moving -------------------------------------------------------------------------------------------------------

  /** Moves whatever can move since the last time. From within a hook or `deliver` the round in progress does it. */
  #pump(): void {
    if (this.#pumping) return
    this.#pumping = true
    const due = this.#due
    for (let i = 0; i < due.length && !this.#closed; i++) if (!due[i].gone) this.#follow(due[i])
    due.length = 0
    this.#pumping = false
    if (this.#closed) return
    this.#checkCollected()
    this.#watermark()
  }

  /** Moves `first`, then what stands behind it as long as that moves too. */
  #follow(first: Entry): void {
    const due = this.#due
    const known = due.length
    let entry: Entry | undefined = first
    while (entry !== undefined) {
      const from: number = entry.at
      if (!entry.waiting) this.#advance(entry)
      if (this.#closed) return
      // What a hook has added stands in front: it goes first, and is not to be joined with what follows.
      const added = due.length > known
      if (!added && !entry.gone) this.#join(entry)
      if (entry !== first && !entry.gone && entry.at === from) return
      const next: Entry | undefined = entry.next
      if (added) {
        if (next !== undefined) due.push(next)
        return
      }
      entry = next
    }
  }

  /** How far `entry` may go. */
  #bound(entry: Entry): number {
    return entry.prev === undefined ? this.#limit : entry.prev.at
  }

  #advance(entry: Entry): void {
    const hooks = entry.trailers === undefined ? this.#data : this.#trailers
    for (let h = 0; h < hooks.length; h++) {
      const hook = hooks[h]
      if (hook.at < entry.at) continue
      if (hook.at >= this.#bound(entry)) break
      entry.at = hook.at
      const result = this.#call(hook, entry)
      if (this.#closed) return
      if (result !== undefined && result !== null && !Buffer.isBuffer(result)) {
        this.#wait(entry, hook, result)
        return
      }
      this.#settle(entry, hook, result)
      if (entry.gone) return
    }
    const bound = this.#bound(entry)
    if (entry.at < bound) entry.at = bound
    if (entry.prev !== undefined || bound !== OPEN || this.#blocked) return
    this.#list.remove(entry)
    this.#send(entry)
  }

  #call(hook: Hook, entry: Entry): NextChunk {
    this.#running = entry
    try {
      return entry.trailers === undefined
        ? this.#owner.dataHook(hook, entry.chunk, entry.end)
        : this.#owner.trailersHook(hook, entry.trailers)
    } catch (error) {
      this.#owner.hookFailed(hook, error)
      return REPLIED
    } finally {
      this.#running = undefined
    }
  }

  /** Applies a hook's answer. */
  #settle(entry: Entry, hook: Hook, result: unknown): void {
    entry.at = hook.at + 1
    if (result === null && !entry.end) this.#list.remove(entry)
    else if (result === null || Buffer.isBuffer(result)) {
      this.#list.replace(entry, result ?? EMPTY)
    }
  }

  #wait(entry: Entry, hook: Hook, answer: Replied | PromiseLike<unknown>): void {
    // After a reply the lane is closed; should a hook say so without having replied, its entry stays where it is.
    entry.waiting = true
    if (answer === REPLIED) return
    const promise = answer as PromiseLike<unknown>
    if (typeof promise.then !== 'function') {
      this.#owner.hookFailed(hook, wrongAnswer(answer))
      return
    }
    this.#waiting.push(entry)
    promise.then(
      (result) => {
        if (this.#closed) return
        this.#waiting.splice(this.#waiting.indexOf(entry), 1)
        if (result === REPLIED) return
        entry.waiting = false
        this.#settle(entry, hook, result)
        const due = entry.gone ? entry.next : entry
        if (due !== undefined) this.#due.push(due)
        this.#pump()
      },
      (error: unknown) => this.#owner.hookFailed(hook, error),
    )
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

  #join(entry: Entry): void {
    if (!this.#list.join(entry)) return
    const collect = this.#collect
    if (collect === undefined) return
    if (collect.upTo === entry) collect.upTo = entry.prev
    else if (collect.upTo === entry.prev) collect.size += entry.chunk.length
  }

  // --- limits -------------------------------------------------------------------------------------------------------

  #checkCollected(): void {
    const collect = this.#collect
    // Header hooks have gone on without waiting for it: what it has counted may have left.
    if (collect === undefined || collect.at !== this.#limit) return
    let next = collect.upTo === undefined ? this.#list.head : collect.upTo.next
    while (next !== undefined && next.at === collect.at && !next.waiting) {
      collect.size += next.chunk.length
      collect.upTo = next
      next = next.next
    }
    const { size, limit, peek, done, upTo } = collect
    const over = size > limit
    const ended = upTo?.end === true
    if (!ended && !over && !(peek && size >= limit)) return
    this.#collect = undefined
    if (over && !peek) {
      done(undefined)
      return
    }
    const chunks: Buffer[] = []
    for (let entry = this.#list.head; entry !== next; entry = entry?.next)
      if (entry !== undefined) chunks.push(entry.chunk)
    const body = chunks.length === 1 ? chunks[0] : Buffer.concat(chunks)
    done(peek && body.length > limit ? body.subarray(0, limit) : body)
  }

  #watermark(): void {
    const collect = this.#collect
    // Whoever collects waits for more: until it has what it asked for the client must be able to send.
    const wanted = collect !== undefined && this.#list.bytes <= collect.limit
    const { weight } = this.#list
    if (!this.#full) {
      if (wanted || weight <= this.#bufferLimit) return
    } else if (!wanted && weight > (collect === undefined ? this.#bufferLimit >> 1 : this.#bufferLimit)) return
    this.#full = !this.#full
    this.#owner.full(this.#full)
  }
}

/**
 * The body of one direction, whole, or at least `limit` bytes of it (`peek`), as it stands before the filter whose
 * header hook is running. Undefined where it outgrows `limit` or the exchange ends.
 */
export function gather(
  path: { readonly bodyless: boolean; lane(): Lane },
  limit: number,
  peek: boolean,
): Promise<Buffer | undefined> {
  if (path.bodyless) return Promise.resolve(EMPTY)
  return new Promise((resolve) => path.lane().collect(limit, peek, resolve))
}

/** Its first `limit` bytes as they stand there, or fewer where it ends earlier. Nothing where the exchange ends. */
export async function glance(path: { readonly bodyless: boolean; lane(): Lane }, limit: number): Promise<Buffer> {
  return (await gather(path, limit, true)) ?? EMPTY
}

/** The error for a hook that returned what no hook may return. */
export function wrongAnswer(answer: unknown): TypeError {
  const what = answer === null ? 'null' : typeof answer
  return new TypeError(`a hook returned ${what}: expected nothing, a reply, or a promise (or a Buffer, for data)`)
}

const EMPTY: Buffer = Buffer.alloc(0)
