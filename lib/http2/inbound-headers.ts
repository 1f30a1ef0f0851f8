import { Headers } from '../core/headers.ts'
import { ENDED, RESET_BY_US, UNKNOWN } from './closed-streams.ts'
import { Http2Code, type SessionOptions } from './contract.ts'
import { END_HEADERS, END_STREAM, PADDED, PRIORITY_FLAG, readUint31 } from './frames.ts'
import { HeaderReader } from './header-rules.ts'
import { COMPRESSION, DECODED, EXCESSIVE, type HeaderListLimits, HpackDecoder, TOO_LARGE } from './hpack/decoder.ts'
import type { SessionCore } from './session-core.ts'
import type { Http2Stream } from './stream.ts'

const LIST_TOO_LARGE = 'http2.too_many_headers'
/** Interim responses to one request (edge-safety §1.4). */
const INFORMATIONALS = 10
/** A block may come in so many frames beyond what its size explains. */
const CONTINUATIONS = 16

/**
 * HEADERS and CONTINUATION (RFC 9113 §6.2, §6.10): gathers a block, decodes it, and gives it the meaning that the state
 * of its stream allows. A block that one frame holds is decoded where it lies; others are copied into a buffer that
 * doubles, within limits of bytes and of frames. Every block that is complete is decoded, also where nobody wants it: the
 * tables must stay in step. @internal
 */
export class InboundHeaders {
  readonly #core: SessionCore
  readonly #decoder: HpackDecoder
  readonly #limits: HeaderListLimits
  readonly #rules: HeaderReader
  /** Of compressed blocks, as of decoded lists. One that is a little too long must be decoded, for its 431. */
  readonly #maxBlockBytes: number
  #block: Buffer | undefined = undefined
  #blockBytes = 0
  #frames = 0
  #flags = 0
  #dependency = 0
  readonly #sink: { raw: string[] } = { raw: [] }

  constructor(core: SessionCore, options: SessionOptions) {
    this.#core = core
    this.#decoder = new HpackDecoder({ maxTableBytes: options.config.hpackTableBytes })
    const { maxHeaderListBytes } = options
    this.#limits = {
      maxListBytes: maxHeaderListBytes,
      maxFields: options.maxHeaders,
      abandonBytes: maxHeaderListBytes + 65536,
    }
    this.#rules = new HeaderReader(core.server && options.config.allowConnect)
    this.#maxBlockBytes = 2 * maxHeaderListBytes + 65536
  }

  settingsAcked(): undefined {
    this.#decoder.setMaxTableBytes(this.#core.config.hpackTableBytes)
  }

  onHeaders(flags: number, id: number, bytes: Buffer, from: number, to: number): undefined {
    const core = this.#core
    // Streams of the peer have odd ids, and so have ours where we are the client.
    if (id === 0 || (id & 1) === 0 || (!core.server && core.isIdle(id))) {
      return core.fail(Http2Code.PROTOCOL_ERROR, 'http2.headers_on_wrong_stream')
    }
    this.#dependency = 0
    if ((flags & PADDED) !== 0) {
      if (from === to) return core.fail(Http2Code.FRAME_SIZE_ERROR, 'http2.no_pad_length')
      const padding = bytes[from++]
      if (padding > to - from) return core.fail(Http2Code.PROTOCOL_ERROR, 'http2.padding_too_long')
      to -= padding
    }
    if ((flags & PRIORITY_FLAG) !== 0) {
      if (to - from < 5) return core.fail(Http2Code.FRAME_SIZE_ERROR, 'http2.headers_length')
      this.#dependency = readUint31(bytes, from)
      from += 5
    }
    this.#flags = flags
    const flood = core.guards.onPayload(to - from, (flags & END_STREAM) !== 0)
    if (flood !== undefined) return core.fail(Http2Code.ENHANCE_YOUR_CALM, flood)
    if ((flags & END_HEADERS) !== 0) return this.#decode(id, bytes, from, to)
    core.reader!.continuationOf = id
    this.#frames = this.#blockBytes = 0
    this.#block = undefined
    this.#gather(bytes, from, to)
  }

  onContinuation(flags: number, id: number, bytes: Buffer, from: number, to: number): undefined {
    const core = this.#core
    const ended = (flags & END_HEADERS) !== 0
    const flood = core.guards.onPayload(to - from, ended) ?? this.#tooManyFrames()
    if (flood !== undefined) return core.fail(Http2Code.ENHANCE_YOUR_CALM, flood)
    if (this.#blockBytes + to - from > this.#maxBlockBytes) {
      core.stats.headerOverflow.v++
      return this.abandon(id, Http2Code.ENHANCE_YOUR_CALM, LIST_TOO_LARGE)
    }
    this.#gather(bytes, from, to)
    if (!ended) return
    core.reader!.continuationOf = 0
    const block = this.#block!
    this.#block = undefined
    this.#decode(id, block, 0, this.#blockBytes)
  }

  /** Frames of less than 1 KiB that add up to nothing (CVE-2024-27316 and its kin). */
  #tooManyFrames(): string | undefined {
    if (++this.#frames <= CONTINUATIONS + (this.#blockBytes >>> 10)) return undefined
    return this.#core.guards.controlFlood()
  }

  #gather(bytes: Buffer, from: number, to: number): undefined {
    const wanted = this.#blockBytes + to - from
    if (this.#block === undefined || wanted > this.#block.length) {
      const larger = Buffer.allocUnsafeSlow(Math.max(1024, wanted * 2))
      this.#block?.copy(larger, 0, 0, this.#blockBytes)
      this.#block = larger
    }
    bytes.copy(this.#block, this.#blockBytes, from, to)
    this.#blockBytes = wanted
  }

  #decode(id: number, block: Buffer, from: number, to: number): undefined {
    const core = this.#core
    const raw: string[] = []
    this.#sink.raw = raw
    const result = this.#decoder.decode(block, from, to, this.#sink, this.#limits)
    this.#sink.raw = []
    if (result === COMPRESSION) return core.fail(Http2Code.COMPRESSION_ERROR, 'http2.compression')
    if (result === EXCESSIVE) {
      core.stats.headerOverflow.v++
      return this.abandon(id, Http2Code.ENHANCE_YOUR_CALM, LIST_TOO_LARGE)
    }
    const stream = core.streams.get(id)
    if (stream === undefined) {
      if (core.server && id > core.lastPeerId) this.#newStream(id, raw, result, to - from)
      else this.#onClosed(id)
    } else {
      stream.receivedHeaderBytes += to - from
      this.#onStream(stream, raw, result)
    }
    if (core.share?.spent === true) core.reader!.resting = true
  }

  get #end(): boolean {
    return (this.#flags & END_STREAM) !== 0
  }

  #onClosed(id: number): undefined {
    const core = this.#core
    core.stats.headersCbNoStream.v++
    const closing = core.closedStreams.get(id)
    if (closing === RESET_BY_US) {
      const flood = core.guards.onControl()
      if (flood !== undefined) core.fail(Http2Code.ENHANCE_YOUR_CALM, flood)
    } else if (closing === ENDED) core.fail(Http2Code.STREAM_CLOSED, 'http2.headers_on_closed_stream')
    // Skipped, or closed long ago: an id that is not above the last one is no new stream (RFC 9113 §5.1.1).
    else if (closing === UNKNOWN && core.server) core.fail(Http2Code.PROTOCOL_ERROR, 'http2.stream_id_decreased')
    else core.streamError(id, Http2Code.STREAM_CLOSED, 'http2.headers_on_closed_stream')
  }

  #newStream(id: number, raw: string[], result: number, bytes: number): undefined {
    const core = this.#core
    core.lastPeerId = id
    if (id > core.acceptedId || core.streams.size >= core.config.maxConcurrentStreams) return this.#refuse(id)
    if (this.#dependency === id) return this.#malformed(id, bytes, 'http2.stream_depends_on_itself')
    if (result === TOO_LARGE) return this.#tooLarge(id, raw, bytes)
    const head = this.#rules.request(raw)
    if (typeof head === 'string') return this.#malformed(id, bytes, head)
    const length = this.#rules.contentLength
    const end = this.#end
    if (end && length > 0) return this.#malformed(id, bytes, 'http2.content_length_differs_from_data')
    const stream = core.open(id, head.method)
    stream.receivedHeaderBytes = bytes
    stream.expectedBytes = length
    stream.received = end
    core.handler.onRequest(stream, head, this.#headers(raw), end)
  }

  #headers(raw: string[]): Headers {
    const { neverIndexed } = this.#decoder
    return new Headers(raw, undefined, neverIndexed.length === 0 ? undefined : neverIndexed)
  }

  #refuse(id: number): undefined {
    const core = this.#core
    core.stats.streamRefusedErrors.v++
    if (id <= core.acceptedId && core.settingsAcked) {
      return core.streamError(id, Http2Code.REFUSED_STREAM, 'http2.max_concurrent_streams')
    }
    // It could not know better yet.
    core.sendReset(id, Http2Code.REFUSED_STREAM)
    core.closedStreams.add(id, RESET_BY_US)
    const flood = core.guards.onControl()
    if (flood !== undefined) core.fail(Http2Code.ENHANCE_YOUR_CALM, flood)
  }

  /** A stream for what the owner shall log, and maybe answer, though it is no request. */
  #openRefused(id: number, bytes: number): Http2Stream {
    const stream = this.#core.open(id, '')
    stream.receivedHeaderBytes = bytes
    stream.refused = true
    stream.received = this.#end
    return stream
  }

  #malformed(id: number, bytes: number, detail: string): undefined {
    const core = this.#core
    const stream = this.#openRefused(id, bytes)
    core.handler.onRefused(stream, { status: 0, head: undefined, end: this.#end, detail })
    core.malformed(id, detail)
  }

  /** Fails the connection while the block of stream `id` is not complete: if that was a request, its owner hears of it. */
  abandon(id: number, code: number, detail: string): undefined {
    const core = this.#core
    if (core.reader!.continuationOf !== id) this.#flags = this.#blockBytes = 0
    if (core.server && id > core.lastPeerId && id <= core.acceptedId && (id & 1) === 1) {
      core.lastPeerId = id
      const refusal = { status: 0, head: undefined, end: this.#end, detail }
      core.handler.onRefused(this.#openRefused(id, this.#blockBytes), refusal)
    }
    core.fail(code, detail)
  }

  /** RFC 6585 §5. */
  #tooLarge(id: number, raw: string[], bytes: number): undefined {
    const core = this.#core
    core.stats.headerOverflow.v++
    const flood = core.guards.onProvokedReset()
    if (flood !== undefined) return core.fail(Http2Code.ENHANCE_YOUR_CALM, flood)
    // What fits the limit is there; pseudo-headers come first.
    const head = this.#rules.request(raw)
    core.handler.onRefused(this.#openRefused(id, bytes), {
      status: 431,
      head: typeof head === 'string' ? undefined : head,
      end: this.#end,
      detail: LIST_TOO_LARGE,
    })
  }

  #onStream(stream: Http2Stream, raw: string[], result: number): undefined {
    const core = this.#core
    const { id } = stream
    if (stream.received) return core.streamError(id, Http2Code.STREAM_CLOSED, 'http2.headers_on_half_closed_stream')
    if (this.#dependency === id) {
      return core.streamError(id, Http2Code.PROTOCOL_ERROR, 'http2.stream_depends_on_itself')
    }
    if (result !== DECODED) {
      core.stats.headerOverflow.v++
      return core.streamError(id, Http2Code.ENHANCE_YOUR_CALM, LIST_TOO_LARGE)
    }
    if (core.server || stream.headed) this.#trailers(stream, raw)
    else this.#response(stream, raw)
  }

  #trailers(stream: Http2Stream, raw: string[]): undefined {
    const core = this.#core
    if (!this.#end) return core.malformed(stream.id, 'http2.trailers_without_end')
    const problem = stream.tunnel ? 'http2.trailers_in_tunnel' : this.#rules.trailers(raw)
    if (problem !== undefined) return core.malformed(stream.id, problem)
    if (stream.expectedBytes > 0) return core.malformed(stream.id, 'http2.content_length_differs_from_data')
    core.stats.trailers.v++
    stream.received = true
    const trailers = this.#headers(raw)
    if (stream.unwanted) return core.receiveEnded(stream)
    if (stream.paused || stream.delivering || (stream.held !== undefined && stream.held.bytes > 0)) {
      stream.trailersHeld = trailers
      stream.endHeld = true
    } else stream.handler.onTrailers(trailers)
    core.receiveEnded(stream)
  }

  #response(stream: Http2Stream, raw: string[]): undefined {
    const core = this.#core
    const end = this.#end
    const status = this.#rules.response(raw)
    if (typeof status === 'string') return core.malformed(stream.id, status)
    if (status < 200) {
      if (end) return core.malformed(stream.id, 'http2.informational_with_end')
      if (++stream.informationals > INFORMATIONALS) {
        return core.streamError(stream.id, Http2Code.ENHANCE_YOUR_CALM, 'http2.too_many_informational_responses')
      }
      stream.handler.onInformational(status, this.#headers(raw))
      return
    }
    stream.headed = true
    stream.tunnel = stream.connect && status < 300
    const length = this.#rules.contentLength
    if (stream.bodiless || status === 204 || status === 304) stream.expectedBytes = 0
    else if (!stream.tunnel) stream.expectedBytes = length
    if (end && stream.expectedBytes > 0) return core.malformed(stream.id, 'http2.content_length_differs_from_data')
    stream.received = end
    stream.handler.onHeaders(status, this.#headers(raw), end)
    if (end) core.receiveEnded(stream)
  }
}
