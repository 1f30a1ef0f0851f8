import type { NetworkChunk } from '../../lib/chain/network.ts'
import { type FilterLink, NO_BYTES } from './filter-link.ts'

/** What waits for a write hook in front of it. */
interface Waiting {
  readonly from: number
  readonly chunk: Buffer
  readonly end: boolean
}

/** Where bytes go that have passed all write hooks, and what a hook may do besides. */
export interface LaneEnd {
  /** Nothing is written any more: what a hook brings is dropped. */
  readonly over: boolean
  /** False: the socket wants a drain. */
  send(chunk: Buffer, end: boolean): boolean
  hookFailed(link: FilterLink, error: unknown): void
  /** A hook's promise has settled, and nothing waits any more. */
  laneCleared(): void
}

/**
 * The way of written bytes through the write hooks, last filter to first. A hook that answers a promise keeps everything
 * behind it waiting, in order; writers are told to stop meanwhile.
 */
export class WriteLane {
  readonly #links: readonly FilterLink[]
  readonly #end: LaneEnd
  /** There are write hooks, each of which may keep what passes. */
  readonly hooked: boolean
  /** Index of the filter whose promise is pending; -1: none. */
  #pendingAt = -1
  #waiting: Waiting[] = []

  constructor(links: readonly FilterLink[], end: LaneEnd) {
    this.#links = links
    this.#end = end
    this.hooked = links.some(({ filter }) => filter.onWrite !== undefined)
  }

  get busy(): boolean {
    return this.#pendingAt >= 0
  }

  /** `from`: the filter that writes. False: stop until the drain. */
  write(from: number, chunk: Buffer, end: boolean): boolean {
    if (!this.hooked) return this.#end.send(chunk, end)
    if (this.#pendingAt < 0 || from <= this.#pendingAt) return this.#pass(from - 1, chunk, end)
    this.#waiting.push({ from, chunk, end })
    return false
  }

  #pass(from: number, given: Buffer, end: boolean): boolean {
    let chunk = given
    for (let i = from; i >= 0; i--) {
      const link = this.#links[i]
      const { filter } = link
      if (filter.onWrite === undefined) continue
      let result: NetworkChunk
      try {
        result = filter.onWrite(link, chunk, end, link.state)
      } catch (error) {
        this.#end.hookFailed(link, error)
        return true
      }
      if (this.#end.over) return true
      if (result === undefined) continue
      if (result === null) {
        if (!end) return true
        chunk = NO_BYTES
      } else if (Buffer.isBuffer(result)) chunk = result
      else {
        this.#wait(link, result as PromiseLike<void | undefined | Buffer | null>, chunk, end)
        return false
      }
    }
    return this.#end.send(chunk, end)
  }

  #wait(link: FilterLink, promise: PromiseLike<void | undefined | Buffer | null>, chunk: Buffer, end: boolean): void {
    this.#pendingAt = link.index
    promise.then(
      (result) => {
        this.#pendingAt = -1
        if (this.#end.over) return
        const next = result === undefined ? chunk : result === null ? NO_BYTES : result
        if (next.length > 0 || end) this.#pass(link.index - 1, next, end)
        this.#goOn()
      },
      (error: unknown) => {
        this.#pendingAt = -1
        if (!this.#end.over) this.#end.hookFailed(link, error)
      },
    )
  }

  #goOn(): void {
    const waiting = this.#waiting
    this.#waiting = []
    for (let i = 0; i < waiting.length; i++) {
      const { from, chunk, end } = waiting[i]
      if (this.#end.over) return
      this.write(from, chunk, end)
    }
    if (!this.busy && !this.#end.over) this.#end.laneCleared()
  }
}
