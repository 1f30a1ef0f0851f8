import type { Http2Config } from './config.ts'
import type { Http2Stats } from './contract.ts'

/** Control frames that any connection may send, and more per second of its life (edge-safety §1.4: 1,000 per 10 s). */
const CONTROL_FRAMES = 1000
const CONTROL_FRAMES_PER_S = 100
const UNKNOWN_FRAMES = 100
/** Browsers send reserved types now and then to keep peers tolerant: a few per stream are in order. */
const UNKNOWN_FRAMES_PER_STREAM = 2
/** Envoy's `premature_reset_total_stream_count` and `premature_reset_min_stream_lifetime_seconds`. */
const CLOSED_STREAMS = 500
const PREMATURE_MS = 1000

/**
 * Counts what a peer may do cheaply and we pay for, as ratios of useful work: per stream, per DATA frame, per second. So a
 * long gRPC connection or a bulk download never trips them. Each `on…` answers what to say on failing, or undefined; all
 * of them end the connection with ENHANCE_YOUR_CALM.
 */
export class Guards {
  readonly #config: Http2Config
  readonly #stats: Http2Stats
  readonly #now: () => number
  readonly #bornMs: number
  #streams = 0
  #dataSent = 0
  #dataReceived = 0
  #priority = 0
  #windowUpdates = 0
  #control = 0
  #unknown = 0
  #empty = 0
  #closed = 0
  #premature = 0
  /** Premature ones since the last stream that was not. */
  #row = 0

  constructor(config: Http2Config, stats: Http2Stats, now: () => number) {
    this.#config = config
    this.#stats = stats
    this.#now = now
    this.#bornMs = now()
  }

  streamOpened(): void {
    this.#streams++
  }

  dataSent(): void {
    this.#dataSent++
  }

  /** A frame with a payload that a stream has taken. */
  dataReceived(): void {
    this.#dataReceived++
  }

  /** HEADERS, CONTINUATION and DATA: `bytes` of payload without padding. */
  onPayload(bytes: number, end: boolean): string | undefined {
    if (bytes > 0 || end) {
      this.#empty = 0
      return undefined
    }
    if (++this.#empty <= this.#config.maxConsecutiveEmptyFrames) return undefined
    this.#stats.inboundEmptyFramesFlood.v++
    return 'http2.inbound_empty_frames_flood'
  }

  onPriority(): string | undefined {
    if (++this.#priority <= this.#config.maxPriorityFramesPerStream * (1 + this.#streams)) return undefined
    this.#stats.inboundPriorityFramesFlood.v++
    return 'http2.inbound_priority_frames_flood'
  }

  /** Envoy's formula: 5 + 2 × (streams + 10 × DATA frames sent). */
  onWindowUpdate(): string | undefined {
    const perData = this.#config.maxWindowUpdatesPerDataFrame * this.#dataSent
    if (++this.#windowUpdates <= 5 + 2 * (this.#streams + perData)) return undefined
    this.#stats.inboundWindowUpdateFramesFlood.v++
    return 'http2.inbound_window_update_frames_flood'
  }

  /**
   * SETTINGS, PING, GOAWAY, frames on streams that are gone, CONTINUATION. One more per stream and per DATA frame
   * either way: peers that measure bandwidth send a PING for what they receive, or for what they send. `weight`: what it costs in such frames.
   */
  onControl(weight = 1): string | undefined {
    this.#control += weight
    if (this.#control <= CONTROL_FRAMES) return undefined
    const work = this.#streams + this.#dataSent + this.#dataReceived
    const seconds = (this.#now() - this.#bornMs) / 1000
    if (this.#control <= CONTROL_FRAMES + work + seconds * CONTROL_FRAMES_PER_S) return undefined
    return this.controlFlood()
  }

  onUnknown(): string | undefined {
    if (++this.#unknown <= UNKNOWN_FRAMES + UNKNOWN_FRAMES_PER_STREAM * this.#streams) return undefined
    return this.controlFlood()
  }

  controlFlood(): string {
    this.#stats.inboundControlFramesFlood.v++
    return 'http2.inbound_control_frames_flood'
  }

  /** The peer reset a stream that was open since `openedMs`: unanswered and early, it was work for nothing. */
  onReset(openedMs: number, answered: boolean): string | undefined {
    if (answered || this.#now() - openedMs >= PREMATURE_MS) {
      this.onStreamEnded()
      return undefined
    }
    return this.onProvokedReset()
  }

  /** The peer made us reset a stream (RFC 9113 §10.5, "MadeYouReset"): the same work for nothing. */
  onProvokedReset(): string | undefined {
    this.#closed++
    this.#premature++
    this.#row++
    this.#stats.prematureResets.v++
    const half = this.#closed >= CLOSED_STREAMS && this.#premature * 2 >= this.#closed
    if (half || this.#row >= CLOSED_STREAMS / 2) return 'http2.too_many_premature_resets'
    this.#age()
    return undefined
  }

  onStreamEnded(): void {
    this.#closed++
    this.#row = 0
    this.#age()
  }

  /** Old streams weigh less, or a million good ones would excuse a million resets. */
  #age(): void {
    if (this.#closed < 2 * CLOSED_STREAMS) return
    this.#closed >>= 1
    this.#premature >>= 1
  }
}
