import type { RequestHead } from '../../lib/core/head.ts'
import { Headers } from '../../lib/core/headers.ts'
import { TurnQueue } from '../../lib/core/turn.ts'
import { ENVOY_HTTP2, type Http2Config } from '../../lib/http2/config.ts'
import type {
  Http2Stats,
  Http2Transport,
  RequestRefusal,
  SessionHandler,
  StreamFace,
  StreamHandler,
  StreamReset,
} from '../../lib/http2/contract.ts'
import { Http2Session } from '../../lib/http2/session.ts'
import { http2Stats } from '../../lib/http2/stats.ts'
import { describe, type Frame, FrameReader, frame, PREFACE, settings, settingsAck } from './http2-wire.ts'

/** Cells by name, so that a test reads `stats.cells.get('http2.rx_reset')`. */
export function testStats(): Http2Stats & { readonly cells: Map<string, { v: number }> } {
  const cells = new Map<string, { v: number }>()
  const cell = (name: string): { v: number } => {
    const known = cells.get(name) ?? { v: 0 }
    cells.set(name, known)
    return known
  }
  const metrics = {
    counter: cell,
    gauge: cell,
    histogram: () => ({ record: () => {} }),
    has: (name: string) => cells.has(name),
  }
  return Object.assign({ cells }, http2Stats(metrics, ''))
}

/** What a stream told its user, as lines; bodies are gathered. */
export class StreamLog implements StreamHandler {
  readonly lines: string[] = []
  readonly body: Buffer[] = []
  stream: StreamFace | undefined = undefined
  head: RequestHead | undefined = undefined
  headers: Headers | undefined = undefined
  reset: StreamReset | undefined = undefined
  ended = false
  /** Run inside of the callbacks. */
  react: (event: string, log: StreamLog) => void = () => {}

  onInformational(status: number, headers: Headers): void {
    this.#note(`informational ${status} ${headers.raw.join(' ')}`.trim())
  }

  onHeaders(status: number, headers: Headers, end: boolean): void {
    this.headers = headers
    this.ended ||= end
    this.#note(`headers ${status}${end ? ' end' : ''}`)
  }

  onData(chunk: Buffer, end: boolean): void {
    // A copy: sessions promise that a chunk does not change, but views of a test's own buffers may.
    this.body.push(Buffer.from(chunk))
    this.ended ||= end
    this.#note(`data ${chunk.length}${end ? ' end' : ''}`)
  }

  onTrailers(trailers: Headers): void {
    this.ended = true
    this.#note(`trailers ${trailers.raw.join(' ')}`)
  }

  onDrain(): void {
    this.#note('drain')
  }

  onReset(reset: StreamReset): void {
    this.reset = reset
    this.#note(`reset ${reset.code} ${reset.by} ${reset.processed ? 'processed' : 'unprocessed'}`)
  }

  get text(): string {
    return Buffer.concat(this.body).toString('latin1')
  }

  #note(line: string): void {
    this.lines.push(line)
    this.react(line.split(' ', 1)[0], this)
  }
}

export interface RigOptions {
  readonly role?: 'server' | 'client'
  readonly config?: Partial<Http2Config>
  readonly maxHeaderListBytes?: number
  readonly maxHeaders?: number
  /** Called inside of `onRequest`. */
  readonly onRequest?: (log: StreamLog) => void
  readonly now?: () => number
  readonly turn?: TurnQueue
  readonly share?: { readonly spent: boolean }
}

/**
 * A session between the hands of a test: bytes go in by `feed`, come out as frames by `take`. The turn of the loop ends
 * when the test says so (`take`, `turn`), the transport blocks when it says so.
 */
export class SessionRig implements SessionHandler, Http2Transport {
  readonly session: Http2Session
  readonly stats: ReturnType<typeof testStats> = testStats()
  /** Server: one per request, in order. */
  readonly requests: StreamLog[] = []
  /** Server: what the session would not take for a request. */
  readonly refused: StreamLog[] = []
  onRefusal: (log: StreamLog) => void = () => {}
  /** Session events as lines. */
  readonly events: string[] = []
  failure: { code: number; detail: string } | undefined = undefined
  closedStreams = 0
  /** What `write` answers. */
  writable = true
  nowMs = 1000
  written = 0
  writes = 0
  corked = 0
  onWrite: ((bytes: Buffer) => void) | undefined = undefined
  react: (event: string) => void = () => {}
  readonly #turn = new ManualTurn()
  readonly #reader: FrameReader
  readonly #onRequest: (log: StreamLog) => void
  #frames: Frame[] = []

  constructor(options: RigOptions = {}) {
    const role = options.role ?? 'server'
    this.#onRequest = options.onRequest ?? (() => {})
    this.#reader = new FrameReader({ preface: role === 'client' })
    this.session = new Http2Session({
      role,
      config: { ...ENVOY_HTTP2, streamErrorOnInvalidMessage: true, ...options.config },
      maxHeaderListBytes: options.maxHeaderListBytes ?? 61_440,
      maxHeaders: options.maxHeaders ?? 100,
      transport: this,
      turn: options.turn ?? this.#turn,
      ...(options.share && { share: options.share }),
      now: options.now ?? (() => this.nowMs),
      stats: this.stats,
      handler: this,
    })
  }

  /** Started, with the handshake behind it: preface and SETTINGS both ways, acknowledged; their frames taken. */
  static ready(options: RigOptions = {}, theirs: readonly (readonly [id: number, value: number])[] = []): SessionRig {
    const rig = new SessionRig(options)
    rig.session.start()
    if ((options.role ?? 'server') === 'server') rig.feed(PREFACE)
    rig.feed(settings(...theirs), settingsAck())
    rig.take()
    return rig
  }

  feed(...pieces: readonly Buffer[]): void {
    for (const piece of pieces) this.session.receive(piece)
  }

  /** The turn of the loop ends. */
  turn(): void {
    this.#turn.end()
  }

  /** Frames written since the last call, the turn's end included. */
  take(): Frame[] {
    this.turn()
    const frames = this.#frames
    this.#frames = []
    return frames
  }

  /** The same as lines. */
  taken(): string[] {
    return this.take().map(describe)
  }

  /** Client: opens a stream with a log as its handler. */
  request(head: Partial<RequestHead> = {}, end = true, headers: Headers = new Headers()): StreamLog | undefined {
    const log = new StreamLog()
    const whole = { method: 'GET', scheme: 'http', authority: 'a.example', path: '/', protocol: undefined, ...head }
    const stream = this.session.request(whole, headers, end, log)
    if (stream === undefined) return undefined
    log.stream = stream
    return log
  }

  write(bytes: Buffer): boolean {
    this.writes++
    this.written += bytes.length
    this.#frames.push(...this.#reader.read(bytes))
    this.onWrite?.(bytes)
    return this.writable
  }

  cork(): void {
    this.corked++
  }

  uncork(): void {
    this.corked--
  }

  onRequest(stream: StreamFace, head: RequestHead, headers: Headers, end: boolean): void {
    const log = new StreamLog()
    log.stream = stream
    log.head = head
    log.headers = headers
    log.ended = end
    stream.handler = log
    this.requests.push(log)
    this.#onRequest(log)
  }

  onRefused(stream: StreamFace, { status, end, detail }: RequestRefusal): void {
    const log = new StreamLog()
    log.stream = stream
    log.ended = end
    log.lines.push(`refused ${status} ${detail}`)
    stream.handler = log
    this.refused.push(log)
    this.onRefusal(log)
    if (status === 0) return
    stream.respond(status, new Headers(), true)
    stream.discard()
  }

  onSettings(): void {
    this.#note('settings')
  }

  onGoaway(code: number, lastStreamId: number): void {
    this.#note(`goaway ${code} ${lastStreamId}`)
  }

  onPong(): void {
    this.#note('pong')
  }

  onStreamClosed(): void {
    this.closedStreams++
  }

  onFailed(code: number, detail: string): void {
    this.failure = { code, detail }
    this.#note(`failed ${code}`)
  }

  #note(event: string): void {
    this.events.push(event)
    this.react(event)
  }
}

/** A turn queue that turns when it is told to. */
class ManualTurn extends TurnQueue {
  #work: { turnEnds(): void }[] = []

  override defer(work: { turnEnds(): void }): void {
    this.#work.push(work)
  }

  end(): void {
    for (let most = 1000; this.#work.length > 0 && most > 0; most--) {
      const work = this.#work
      this.#work = []
      for (const item of work) item.turnEnds()
    }
  }
}

/** A frame of a type that nobody knows. */
export function unknownFrame(payload = ''): Buffer {
  return frame(0xbb, 0, 0, payload)
}
