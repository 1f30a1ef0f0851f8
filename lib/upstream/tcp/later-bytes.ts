import type { ByteEvents, ByteStream } from '../../core/attempt.ts'
import type { RoomWait } from '../../core/lease.ts'

/** A raw connection that is opened when the gateway has been asked for room; what is written meanwhile is kept. */
export class LaterBytes implements ByteStream {
  readonly #events: ByteEvents
  #inner: ByteStream | undefined = undefined
  #waiting = true
  #early: Buffer[] = []
  #end = false
  #paused = false

  /** `open`: where it answers undefined, `onClosed` has told why. */
  constructor(asked: RoomWait, events: ByteEvents, open: () => ByteStream | undefined) {
    this.#events = events
    asked.follow(() => this.#begin(open))
  }

  #begin(open: () => ByteStream | undefined): void {
    if (!this.#waiting) return
    this.#waiting = false
    const early = this.#early
    this.#early = []
    const inner = open()
    this.#inner = inner
    if (inner === undefined) return
    if (this.#paused) inner.pause()
    let more = true
    for (const chunk of early) more = inner.write(chunk)
    if (this.#end) inner.end()
    else if (early.length > 0 && more) this.#events.onDrain()
  }

  write(chunk: Buffer): boolean {
    if (!this.#waiting) return this.#inner?.write(chunk) ?? true
    if (!this.#end) this.#early.push(chunk)
    return false
  }

  get drained(): boolean {
    return this.#inner?.drained === true
  }

  end(): void {
    this.#end = true
    this.#inner?.end()
  }

  pause(): void {
    this.#paused = true
    this.#inner?.pause()
  }

  resume(): void {
    this.#paused = false
    this.#inner?.resume()
  }

  reset(): void {
    this.#waiting = false
    this.#early = []
    this.#inner?.reset()
  }
}
