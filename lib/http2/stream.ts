import type { Headers } from '../core/headers.ts'
import type { StreamFace, StreamHandler } from './contract.ts'
import type { HeldData } from './held-data.ts'
import type { Output } from './output.ts'
import type { SessionCore } from './session-core.ts'

/** Chunks that are larger are not copied into a frame with others. */
const GATHER_BYTES = 8192
/** So many chunks that are out may stay referenced. */
const FORGET_CHUNKS = 32

function nothing(): void {}

/** Before the owner has named one, and after the end. */
const NOBODY: StreamHandler = Object.freeze({
  onInformational: nothing,
  onHeaders: nothing,
  onData: nothing,
  onTrailers: nothing,
  onDrain: nothing,
  onReset: nothing,
})

/**
 * One stream: what its user sees, and what the parts of the session keep about it. The states are drawn in README.md;
 * here they are `sendClosed` and `received`, and `closed` where the session has forgotten it.
 */
export class Http2Stream implements StreamFace {
  readonly id: number
  handler: StreamHandler = NOBODY
  receivedHeaderBytes = 0
  readonly #core: SessionCore

  /*
   * Sending; @internal to the session. `userEnded`: the user has said all. `sendClosed`: END_STREAM or RST_STREAM is out.
   */
  sendWindow: number
  /** The most it ever was. */
  peakWindow: number
  queuedBytes = 0
  #chunk: Buffer | undefined = undefined
  /** Bytes of `#chunk` that are out. */
  #chunkAt = 0
  #more: Buffer[] | undefined = undefined
  #moreAt = 0
  endQueued = false
  trailersQueued: Headers | undefined = undefined
  userEnded = false
  sendClosed = false
  wantsDrain = false
  ready = false
  nextReady: Http2Stream | undefined = undefined
  previousReady: Http2Stream | undefined = undefined
  /** The final head is out: the response's, or for the client the request's. */
  answered = false

  /** Of `resetStalled`: what was queued when it looked. */
  flushMark = -1

  /*
   * Receiving. `received`: END_STREAM came. `silent`: the handler hears nothing more. `unwanted`: no body and no trailers.
   */
  recvWindow: number
  /** Bytes consumed that the peer has not been told about. */
  credit = 0
  paused = false
  delivering = false
  held: HeldData | undefined = undefined
  /** The end has come and waits behind `held`, or behind a pause. */
  endHeld = false
  trailersHeld: Headers | undefined = undefined
  received = false
  silent = false
  unwanted = false
  /** Server: it was no request that we take, which the guards have counted. */
  refused = false
  /** Client: the final head has come. */
  headed = false
  informationals = 0
  /** Bytes of the body still to come by Content-Length; -1 where there is none. */
  expectedBytes = -1

  closed = false
  /** CONNECT: either direction ends by itself, and after a 2xx there is no message any more. */
  readonly connect: boolean
  tunnel = false
  /** Client: HEAD. */
  bodiless = false
  readonly openedMs: number
  /** `Output.handovers` when it was opened. */
  openedAt = 0

  constructor(core: SessionCore, id: number, method: string) {
    this.#core = core
    this.id = id
    this.sendWindow = this.peakWindow = core.peer.initialWindow
    this.recvWindow = core.receiver.streamWindow
    this.connect = method === 'CONNECT'
    this.bodiless = method === 'HEAD'
    this.openedMs = core.now()
  }

  informational(status: number, headers: Headers): void {
    if (this.answered || this.sendClosed || this.userEnded || status < 100 || status > 199 || status === 101) return
    this.#core.output.response(this.id, status, headers, false)
  }

  respond(status: number, headers: Headers, end: boolean): number {
    if (this.answered || this.sendClosed || this.userEnded) return 0
    this.answered = true
    if (this.connect && status >= 200 && status <= 299) this.tunnel = true
    if (end) this.userEnded = true
    const bytes = this.#core.output.response(this.id, status, headers, end)
    if (end) this.#core.sendEnded(this)
    return bytes
  }

  write(chunk: Buffer, end: boolean): boolean {
    if (!this.answered || this.userEnded || this.sendClosed) return true
    if (end) this.userEnded = true
    return this.#core.sender.write(this, chunk, end)
  }

  trailers(trailers: Headers): void {
    if (!this.answered || this.userEnded || this.sendClosed) return
    this.userEnded = true
    this.#core.sender.trailers(this, trailers)
  }

  reset(code: number): void {
    this.#core.resetByUser(this, code)
  }

  discard(): void {
    this.#core.discard(this)
  }

  get pendingBytes(): number {
    return this.queuedBytes
  }

  settled(): boolean {
    const { failed, sender, output } = this.#core
    if (failed) return false
    sender.emit()
    output.flush()
    return this.queuedBytes === 0 && output.drained
  }

  pause(): void {
    this.paused = true
  }

  resume(): void {
    if (!this.paused) return
    this.paused = false
    this.#core.receiver.deliver(this)
  }

  /** @internal The chunk is kept as it is. */
  enqueue(chunk: Buffer): void {
    this.queuedBytes += chunk.length
    if (this.#chunk === undefined) this.#chunk = chunk
    else if (this.#more === undefined) this.#more = [chunk]
    else this.#more.push(chunk)
  }

  /** @internal */
  clearQueue(): void {
    this.queuedBytes = this.#chunkAt = this.#moreAt = 0
    this.#chunk = this.#more = this.trailersQueued = undefined
    this.endQueued = this.wantsDrain = false
  }

  /**
   * @internal One DATA frame of at most `size` queued bytes, with END_STREAM where it is the last. Small chunks share a
   * frame. Answers its size.
   */
  sendFrame(output: Output, size: number): number {
    const chunk = this.#chunk!
    const at = this.#chunkAt
    const first = chunk.length - at
    if (first >= size || first >= GATHER_BYTES) {
      const taken = Math.min(first, size)
      this.#advance(taken)
      output.data(this.id, chunk, at, at + taken, this.#isLast())
      return taken
    }
    output.beginData(this.id, size, size === this.queuedBytes && this.endQueued && this.trailersQueued === undefined)
    for (let left = size; left > 0; ) {
      const next = this.#chunk!
      const from = this.#chunkAt
      const taken = Math.min(left, next.length - from)
      output.append(next, from, from + taken)
      this.#advance(taken)
      left -= taken
    }
    return size
  }

  #isLast(): boolean {
    return this.queuedBytes === 0 && this.endQueued && this.trailersQueued === undefined
  }

  #advance(bytes: number): void {
    this.queuedBytes -= bytes
    this.#chunkAt += bytes
    if (this.#chunkAt < this.#chunk!.length) return
    this.#chunkAt = 0
    const more = this.#more
    if (more === undefined) {
      this.#chunk = undefined
      return
    }
    this.#chunk = more[this.#moreAt]
    if (++this.#moreAt === more.length) this.#more = undefined
    else if (this.#moreAt < FORGET_CHUNKS) return
    else more.splice(0, this.#moreAt)
    this.#moreAt = 0
  }
}
