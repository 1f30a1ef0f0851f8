import type { Headers } from '../core/headers.ts'

/** A piece of the body, in a doubly linked list: front and middle are left, and entered, at equal cost. */
export interface Entry {
  chunk: Buffer
  /** `chunk` is the beginning of this buffer of ours, and behind it there may be room. */
  store: Buffer | undefined
  end: boolean
  readonly trailers: Headers | undefined
  /** Next place to visit, in the direction of travel. Never beyond that of the entry before. */
  at: number
  /** A hook has this entry and its promise has not settled. */
  waiting: boolean
  /** Not in the list any more; `next` still tells what stood behind. */
  gone: boolean
  prev: Entry | undefined
  next: Entry | undefined
}

/**
 * What an entry counts against the limit beside its bytes: about what it and its Buffer take. Without it a body in
 * chunks of one byte would take a hundred times the memory that the limit stands for.
 */
const ENTRY_BYTES = 128

/** Below this, neighbours that wait at the same place become one. */
const SMALL_BYTES = 4096

/**
 * Pieces of a body in order, with what they weigh. Joins small neighbours, so that a body in chunks of one byte neither
 * keeps an object for each nor holds on to the packets they came in.
 */
export class ChunkList {
  head: Entry | undefined = undefined
  tail: Entry | undefined = undefined
  /** Of all chunks, without what keeping them costs. */
  bytes = 0
  #count = 0

  /** What it all counts against a limit. */
  get weight(): number {
    return this.bytes + this.#count * ENTRY_BYTES
  }

  clear(): void {
    this.head = this.tail = undefined
    this.bytes = this.#count = 0
  }

  /** Puts an entry in front of `next`; at the end where there is none. */
  insert(entry: Entry, next: Entry | undefined): void {
    const prev = next === undefined ? this.tail : next.prev
    entry.prev = prev
    entry.next = next
    if (prev === undefined) this.head = entry
    else prev.next = entry
    if (next === undefined) this.tail = entry
    else next.prev = entry
    this.bytes += entry.chunk.length
    this.#count++
  }

  remove(entry: Entry): void {
    const { prev, next } = entry
    if (prev === undefined) this.head = next
    else prev.next = next
    if (next === undefined) this.tail = prev
    else next.prev = prev
    entry.gone = true
    this.bytes -= entry.chunk.length
    this.#count--
  }

  replace(entry: Entry, chunk: Buffer): void {
    this.bytes += chunk.length - entry.chunk.length
    entry.chunk = chunk
    entry.store = undefined
  }

  /** Adds `entry` to the one before it where both are small and wait at the same place; true where it did. */
  join(entry: Entry): boolean {
    const { prev, chunk } = entry
    if (prev === undefined || prev.at !== entry.at || !joins(prev) || !joins(entry)) return false
    this.remove(entry)
    append(prev, chunk)
    this.bytes += chunk.length
    return true
  }
}

/** Before the first hook. */
export function newEntry(chunk: Buffer, end: boolean, trailers: Headers | undefined): Entry {
  return {
    chunk,
    store: undefined,
    end,
    trailers,
    at: 0,
    waiting: false,
    gone: false,
    prev: undefined,
    next: undefined,
  }
}

function joins(entry: Entry): boolean {
  return !entry.waiting && !entry.end && entry.trailers === undefined && entry.chunk.length < SMALL_BYTES
}

/** Adds `chunk` to an entry's own. Only ever behind bytes that were handed out, which stay as they are. */
function append(entry: Entry, chunk: Buffer): void {
  const used = entry.chunk.length
  const size = used + chunk.length
  let { store } = entry
  if (store === undefined || store.length < size) {
    // Twice as much each time: every byte is copied about twice, however many there are to come.
    store = Buffer.allocUnsafe(size * 2)
    entry.chunk.copy(store)
    entry.store = store
  }
  chunk.copy(store, used)
  entry.chunk = store.subarray(0, size)
}
