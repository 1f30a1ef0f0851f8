import type { NetworkConnection, NetworkFilter } from '../../lib/chain/network.ts'
import type { ConnectionInfo } from '../../lib/core/connection.ts'
import type { ResponseFlag } from '../../lib/core/failure.ts'
import type { StreamInfo } from '../../lib/core/stream-info.ts'

/** What a connection does for its filters. */
export interface LinkOwner {
  readonly info: ConnectionInfo
  readonly streamInfo: StreamInfo
  /** From the filter at `index`, through the write hooks of those before it. */
  writeFrom(index: number, chunk: Buffer, end: boolean): boolean
  close(details: string, flag?: ResponseFlag): void
  reset(details: string, flag?: ResponseFlag): void
  readonly drained: boolean
  /** The chunk that is being read is kept by nobody, says the filter at `index`. */
  spentBy(index: number): void
  /** One more, or one less, reason not to read. */
  hold(): void
  release(): void
}

/** One filter in its place on one connection: the face that it sees, its state, and what is counted for it alone. */
export class FilterLink implements NetworkConnection {
  readonly name: string
  readonly filter: NetworkFilter
  readonly index: number
  /** What `createState` answered. */
  state: unknown = undefined
  /** A `write` has answered false: it wants to hear of the drain. */
  blocked = false
  readonly #owner: LinkOwner
  #paused = false

  constructor(owner: LinkOwner, index: number, name: string, filter: NetworkFilter) {
    this.#owner = owner
    this.index = index
    this.name = name
    this.filter = filter
  }

  get facts(): ConnectionInfo {
    return this.#owner.info
  }

  get info(): StreamInfo {
    return this.#owner.streamInfo
  }

  write(chunk: Buffer): boolean {
    if (this.#owner.writeFrom(this.index, chunk, false)) return true
    this.blocked = true
    return false
  }

  get drained(): boolean {
    return this.#owner.drained
  }

  spent(): void {
    this.#owner.spentBy(this.index)
  }

  end(): void {
    this.#owner.writeFrom(this.index, NO_BYTES, true)
  }

  close(details: string, flag?: ResponseFlag): void {
    this.#owner.close(details, flag)
  }

  reset(details: string, flag?: ResponseFlag): void {
    this.#owner.reset(details, flag)
  }

  pause(): void {
    if (this.#paused) return
    this.#paused = true
    this.#owner.hold()
  }

  resume(): void {
    if (!this.#paused) return
    this.#paused = false
    this.#owner.release()
  }
}

/** What a half-close carries. */
export const NO_BYTES: Buffer = Buffer.alloc(0)
