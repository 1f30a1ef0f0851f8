import type { NetworkChunk } from '../../lib/chain/network.ts'
import { type FilterLink, NO_BYTES } from './filter-link.ts'

/** What reading does to its connection. */
export interface ReadLaneOwner {
  /** False: hooks are called no more. */
  readonly open: boolean
  hold(): void
  release(): void
  hookFailed(link: FilterLink, error: unknown): void
  /** The FIN has passed, as far as hooks let it. */
  inputEnded(): void
}

/**
 * The way of bytes that were read through the read hooks, first filter to last. A hook that answers a promise holds the
 * reading; a FIN that comes meanwhile waits as well.
 */
export class ReadLane {
  readonly #links: readonly FilterLink[]
  readonly #owner: ReadLaneOwner
  #pending = false
  #endWaits = false

  constructor(links: readonly FilterLink[], owner: ReadLaneOwner) {
    this.#links = links
    this.#owner = owner
  }

  read(chunk: Buffer): void {
    this.#pass(0, chunk, false)
  }

  /** The client's FIN. */
  end(): void {
    if (this.#pending) {
      this.#endWaits = true
      return
    }
    if (this.#owner.open) this.#pass(0, NO_BYTES, true)
    this.#owner.inputEnded()
  }

  #pass(from: number, given: Buffer, end: boolean): void {
    const links = this.#links
    const owner = this.#owner
    let chunk = given
    for (let i = from; i < links.length; i++) {
      const link = links[i]
      const { filter } = link
      if (filter.onRead === undefined) continue
      let result: NetworkChunk
      try {
        result = filter.onRead(link, chunk, end, link.state)
      } catch (error) {
        owner.hookFailed(link, error)
        return
      }
      if (!owner.open) return
      if (result === undefined) continue
      if (result === null) {
        if (!end) return
        chunk = NO_BYTES
      } else if (Buffer.isBuffer(result)) chunk = result
      else {
        this.#wait(link, result as PromiseLike<void | undefined | Buffer | null>, chunk, end)
        return
      }
    }
  }

  #wait(link: FilterLink, promise: PromiseLike<void | undefined | Buffer | null>, chunk: Buffer, end: boolean): void {
    const owner = this.#owner
    this.#pending = true
    owner.hold()
    promise.then(
      (result) => {
        this.#pending = false
        if (!owner.open) return
        const next = result === undefined ? chunk : result === null ? NO_BYTES : result
        if (next.length > 0 || end) this.#pass(link.index + 1, next, end)
        owner.release()
        if (!this.#endWaits || this.#pending) return
        this.#endWaits = false
        this.end()
      },
      (error: unknown) => {
        if (owner.open) owner.hookFailed(link, error)
      },
    )
  }
}
