import type { Headers } from '../core/headers.ts'
import { DEFAULT_WINDOW, MAX_FRAME_BYTES, MAX_WINDOW } from './frames.ts'
import type { Guards } from './guards.ts'
import type { DataSource, Output } from './output.ts'
import type { SessionCore } from './session-core.ts'
import type { Http2Stream } from './stream.ts'

/** A chunk up to this size goes out behind the frames of its turn without waiting for its round. */
const DIRECT_BYTES = 8192
/** What a stream may hold before `write` answers false: as a rule, where a window or the transport is shut, under pressure. */
const HIGH_BYTES = 65536
const HIGH_BLOCKED_BYTES = 16384
/** What it must come down to before `onDrain`. */
const LOW_BYTES = 32768
const LOW_BLOCKED_BYTES = 8192
/** More than this in the whole session is pressure: a stream gets room only when it holds nothing. */
const SESSION_BYTES = 1024 * 1024
/** DATA of one turn: other connections want to be served too. */
const TURN_BYTES = 512 * 1024
/** Frames that a window cut to less than this are tiny. */
const TINY_BYTES = 1024
/** After so many tiny frames, and more than one in eight, tiny windows are left to grow first. */
const TINY_FRAMES = 100

/**
 * Decides what DATA goes out when: by the windows of stream and connection (RFC 9113 §6.9), in rounds of one frame per
 * stream, as long as the transport takes it.
 *
 * `ready` is a queue of the streams that have bytes and a window. A stream leaves it when either is used up; a window of
 * the connection that is used up, or the transport, stops the queue as a whole.
 */
export class Sender implements DataSource {
  readonly #core: SessionCore
  readonly #output: Output
  readonly #guards: Guards
  #head: Http2Stream | undefined = undefined
  #tail: Http2Stream | undefined = undefined
  /** The connection's. */
  #window: number = DEFAULT_WINDOW
  #emitting = false
  #frames = 0
  #tiny = 0
  /** Bytes of DATA since the last tiny frame. */
  #sinceTiny = 0
  pendingBytes = 0

  constructor(core: SessionCore, output: Output, guards: Guards) {
    this.#core = core
    this.#output = output
    this.#guards = guards
  }

  get idle(): boolean {
    return this.#core.streams.size === 0
  }

  /** As `StreamFace.write`; the stream takes no more after `end`. */
  write(stream: Http2Stream, chunk: Buffer, end: boolean): boolean {
    const size = chunk.length
    if (stream.queuedBytes === 0) {
      if (size === 0) {
        if (end) this.#sendEnd(stream)
        return true
      }
      if (size <= DIRECT_BYTES && this.#head === undefined && this.#permits(stream, size)) {
        this.#output.data(stream.id, chunk, 0, size, end)
        this.#account(stream, size)
        if (end) this.#core.sendEnded(stream)
        return true
      }
    }
    stream.endQueued = end
    if (size > 0) {
      stream.enqueue(chunk)
      this.#pending(size)
      this.#wake(stream)
    }
    if (stream.queuedBytes <= this.#highMark(stream)) return true
    stream.wantsDrain = true
    return false
  }

  trailers(stream: Http2Stream, trailers: Headers): void {
    if (stream.queuedBytes > 0) {
      stream.trailersQueued = trailers
      return
    }
    this.#output.trailers(stream.id, trailers)
    this.#core.sendEnded(stream)
  }

  /** What the stream holds is dropped. */
  discard(stream: Http2Stream): void {
    if (stream.ready) this.#unlink(stream)
    if (stream.queuedBytes > 0) this.#pending(-stream.queuedBytes)
    stream.clearQueue()
  }

  /** WINDOW_UPDATE, id 0. False: over 2^31 - 1. */
  connectionWindow(increment: number): boolean {
    this.#window += increment
    if (this.#window > MAX_WINDOW) return false
    if (this.#head !== undefined) this.#output.schedule()
    return true
  }

  /** A stream's window changes by WINDOW_UPDATE or SETTINGS. False: over 2^31 - 1. */
  streamWindow(stream: Http2Stream, change: number): boolean {
    stream.sendWindow += change
    if (stream.sendWindow > MAX_WINDOW) return false
    if (stream.sendWindow > stream.peakWindow) stream.peakWindow = stream.sendWindow
    // What SETTINGS take back may never come again.
    else if (change < 0) stream.peakWindow = Math.max(stream.sendWindow, this.#core.peer.initialWindow)
    if (stream.queuedBytes > 0) this.#wake(stream)
    return true
  }

  emit(): void {
    if (this.#emitting) return
    this.#emitting = true
    let budget = TURN_BYTES
    while (this.#head !== undefined && !this.#output.blocked && budget > 0) {
      const stream: Http2Stream = this.#head
      this.#unlink(stream)
      const sent = this.#emitFrom(stream)
      if (sent < 0) {
        this.#putBack(stream)
        break
      }
      budget -= sent
    }
    this.#emitting = false
    if (this.#head !== undefined && budget <= 0) this.#output.schedule()
  }

  /** One frame. 0: the stream's own window is shut, -1: the connection's is. */
  #emitFrom(stream: Http2Stream): number {
    const queued = stream.queuedBytes
    let size = Math.min(queued, MAX_FRAME_BYTES)
    if (size > stream.sendWindow || size > this.#window) {
      size = Math.min(stream.sendWindow, this.#window)
      if (size <= 0 || this.#holdTiny(stream, size)) return this.#window < stream.sendWindow ? -1 : 0
    }
    size = stream.sendFrame(this.#output, size)
    this.#pending(-size)
    this.#account(stream, size)
    if (stream.queuedBytes > 0) this.#wake(stream)
    else if (stream.trailersQueued !== undefined) {
      const trailers = stream.trailersQueued
      stream.trailersQueued = undefined
      this.#output.trailers(stream.id, trailers)
      this.#core.sendEnded(stream)
    } else if (stream.endQueued) this.#core.sendEnded(stream)
    if (stream.wantsDrain && stream.queuedBytes <= this.#lowMark(stream)) {
      stream.wantsDrain = false
      if (!stream.sendClosed) stream.handler.onDrain()
    }
    return size
  }

  /**
   * A peer that opens its windows byte by byte makes us send a frame per byte. After some of that, a window must have
   * grown to a sensible part of a frame, or of the most that this peer gives, where that is less. The rest of a window
   * that was large enough is no such thing: there are peers that give a new one when it is used up, and not before.
   */
  #holdTiny(stream: Http2Stream, size: number): boolean {
    if (size >= TINY_BYTES) return false
    const since = this.#sinceTiny
    this.#sinceTiny = 0
    if (since >= TINY_BYTES) return false
    const most = this.#window < stream.sendWindow ? TINY_BYTES : Math.min(TINY_BYTES, stream.peakWindow >> 1)
    if (this.#tiny > TINY_FRAMES + (this.#frames >> 3)) return size < most
    this.#tiny++
    return false
  }

  /** The peer has had time to let its windows grow: what they are is all that it gives. */
  retryTiny(stream: Http2Stream): void {
    if (stream.queuedBytes === 0 || this.#tiny <= TINY_FRAMES) return
    this.#tiny = 0
    this.#wake(stream)
    if (stream.ready) this.#output.schedule()
  }

  #permits(stream: Http2Stream, size: number): boolean {
    return size <= stream.sendWindow && size <= this.#window && !this.#output.blocked
  }

  #account(stream: Http2Stream, size: number): void {
    stream.sendWindow -= size
    this.#window -= size
    this.#frames++
    this.#sinceTiny += size
    this.#guards.dataSent()
  }

  #sendEnd(stream: Http2Stream): void {
    this.#output.beginData(stream.id, 0, true)
    this.#core.sendEnded(stream)
  }

  #pending(bytes: number): void {
    this.pendingBytes += bytes
    this.#core.stats.pendingSendBytes.v += bytes
  }

  /** To the end of the queue, where it is not in it. */
  #wake(stream: Http2Stream): void {
    if (stream.ready || stream.sendWindow <= 0) return
    stream.ready = true
    stream.previousReady = this.#tail
    if (this.#tail === undefined) this.#head = stream
    else this.#tail.nextReady = stream
    this.#tail = stream
    if (!this.#output.blocked) this.#output.schedule()
  }

  #putBack(stream: Http2Stream): void {
    stream.ready = true
    stream.nextReady = this.#head
    if (this.#head === undefined) this.#tail = stream
    else this.#head.previousReady = stream
    this.#head = stream
  }

  #unlink(stream: Http2Stream): void {
    const { nextReady, previousReady } = stream
    if (previousReady === undefined) this.#head = nextReady
    else previousReady.nextReady = nextReady
    if (nextReady === undefined) this.#tail = previousReady
    else nextReady.previousReady = previousReady
    stream.nextReady = stream.previousReady = undefined
    stream.ready = false
  }

  #isBlocked(stream: Http2Stream): boolean {
    return this.#output.blocked || stream.sendWindow <= 0 || this.#window <= 0
  }

  #highMark(stream: Http2Stream): number {
    if (this.pendingBytes > SESSION_BYTES) return 0
    return this.#isBlocked(stream) ? HIGH_BLOCKED_BYTES : HIGH_BYTES
  }

  #lowMark(stream: Http2Stream): number {
    if (this.pendingBytes > SESSION_BYTES) return 0
    return this.#isBlocked(stream) ? LOW_BLOCKED_BYTES : LOW_BYTES
  }
}
