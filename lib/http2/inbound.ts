import { ENDED, RESET_BY_PEER, RESET_BY_US } from './closed-streams.ts'
import { Http2Code } from './contract.ts'
import type { FrameSink } from './frame-reader.ts'
import {
  ACK,
  CONTINUATION,
  END_STREAM,
  GOAWAY,
  HEADERS,
  kindOf,
  PING,
  PRIORITY,
  PRIORITY_UPDATE,
  PUSH_PROMISE,
  RST_STREAM,
  readUint31,
  readUint32,
  SETTINGS,
  WINDOW_UPDATE,
} from './frames.ts'
import type { InboundHeaders } from './inbound-headers.ts'
import type { SessionCore } from './session-core.ts'
import { SETTING_BYTES } from './settings.ts'
import type { Http2Stream } from './stream.ts'

/** Of our PINGs; one is under way at a time, so one content does. */
export const PING_DATA: Buffer = Buffer.from('headgate', 'latin1')

/** What each frame of the peer's does (RFC 9113 §6). Header blocks are in `inbound-headers.ts`. @internal */
export class Inbound implements FrameSink {
  readonly #core: SessionCore
  readonly #headers: InboundHeaders
  /** Of the current DATA frame: its stream where that takes it, END_STREAM, and its length, padding included. */
  #dataStream: Http2Stream | undefined = undefined
  #dataEnd = false
  #dataLeft = 0
  pinging = false

  constructor(core: SessionCore, headers: InboundHeaders) {
    this.#core = core
    this.#headers = headers
  }

  fail(code: number, detail: string): undefined {
    this.#core.fail(code, detail)
  }

  onFrame(type: number, flags: number, id: number, bytes: Buffer, from: number, to: number): undefined {
    switch (type) {
      case HEADERS:
        return this.#headers.onHeaders(flags, id, bytes, from, to)
      case CONTINUATION:
        return this.#headers.onContinuation(flags, id, bytes, from, to)
      case WINDOW_UPDATE:
        return this.#windowUpdate(id, bytes, from, to)
      case RST_STREAM:
        return this.#rstStream(id, bytes, from, to)
      case PING:
        return this.#ping(flags, id, bytes, from, to)
      case SETTINGS:
        return this.#settings(flags, id, bytes, from, to)
      case PRIORITY:
        return this.#priority(id, bytes, from, to)
      case PRIORITY_UPDATE:
        return this.#priorityUpdate(id, to - from)
      case GOAWAY:
        return this.#goaway(id, bytes, from, to)
      case PUSH_PROMISE:
        // Clients must not push, and we have told servers not to (RFC 9113 §8.4).
        return this.#core.fail(Http2Code.PROTOCOL_ERROR, 'http2.push_promise')
    }
  }

  onUnknownFrame(): undefined {
    this.#guard(this.#core.guards.onUnknown())
  }

  onDataStart(flags: number, id: number, length: number): undefined {
    const core = this.#core
    this.#dataStream = undefined
    this.#dataEnd = (flags & END_STREAM) !== 0
    this.#dataLeft = length
    if (id === 0 || core.isIdle(id)) return core.fail(Http2Code.PROTOCOL_ERROR, 'http2.data_on_idle_stream')
    if (!core.receiver.take(length)) return core.fail(Http2Code.FLOW_CONTROL_ERROR, 'http2.connection_window_exceeded')
    const stream = core.streams.get(id)
    if (stream === undefined || stream.received) return this.#dataOnClosed(id, stream)
    stream.recvWindow -= length
    if (stream.recvWindow < 0) core.streamError(id, Http2Code.FLOW_CONTROL_ERROR, 'http2.stream_window_exceeded')
    else if (!core.server && !stream.headed) core.malformed(id, 'http2.data_before_headers')
    else this.#dataStream = stream
  }

  #dataOnClosed(id: number, stream: Http2Stream | undefined): undefined {
    const core = this.#core
    const closing = core.closedStreams.get(id)
    // A window full of it may have been on its way.
    if (stream === undefined && closing === RESET_BY_US) return
    if (stream === undefined && closing === ENDED) {
      core.fail(Http2Code.STREAM_CLOSED, 'http2.data_on_closed_stream')
    } else core.streamError(id, Http2Code.STREAM_CLOSED, 'http2.data_on_closed_stream')
  }

  onData(bytes: Buffer, from: number, to: number, last: boolean): undefined {
    const core = this.#core
    const size = to - from
    this.#dataLeft -= size
    const stream = this.#dataStream
    if (last) {
      this.#guard(core.guards.onPayload(size, this.#dataEnd))
      if (stream !== undefined && size > 0) core.guards.dataReceived()
      this.#dataStream = undefined
      // What is left is padding, which is consumed at once.
      if (this.#dataLeft > 0) {
        if (stream === undefined || stream.closed) core.receiver.creditConnection(this.#dataLeft)
        else core.receiver.creditStream(stream, this.#dataLeft)
      }
    }
    if (core.failed) return
    if (stream === undefined || stream.closed) core.receiver.creditConnection(size)
    else this.#body(stream, bytes, from, to, last && this.#dataEnd)
  }

  #body(stream: Http2Stream, bytes: Buffer, from: number, to: number, end: boolean): undefined {
    const core = this.#core
    if (stream.expectedBytes >= 0) {
      stream.expectedBytes -= to - from
      if (stream.expectedBytes < 0 || (end && stream.expectedBytes > 0)) {
        core.receiver.creditConnection(to - from)
        return core.malformed(stream.id, 'http2.content_length_differs_from_data')
      }
    }
    if (end) stream.received = true
    core.receiver.data(stream, bytes, from, to, end)
    if (end) core.receiveEnded(stream)
  }

  #windowUpdate(id: number, bytes: Buffer, from: number, to: number): undefined {
    const core = this.#core
    if (to - from !== 4) return core.fail(Http2Code.FRAME_SIZE_ERROR, 'http2.window_update_length')
    if (id !== 0 && core.isIdle(id)) return core.fail(Http2Code.PROTOCOL_ERROR, 'http2.window_update_on_idle_stream')
    const flood = core.guards.onWindowUpdate()
    if (flood !== undefined) return core.fail(Http2Code.ENHANCE_YOUR_CALM, flood)
    const increment = readUint31(bytes, from)
    if (id === 0) {
      if (increment === 0) core.fail(Http2Code.PROTOCOL_ERROR, 'http2.window_update_by_zero')
      else if (!core.sender.connectionWindow(increment)) {
        core.fail(Http2Code.FLOW_CONTROL_ERROR, 'http2.connection_window_overflow')
      }
      return
    }
    const stream = core.streams.get(id)
    if (stream === undefined) return
    if (increment === 0) core.streamError(id, Http2Code.PROTOCOL_ERROR, 'http2.window_update_by_zero')
    else if (!core.sender.streamWindow(stream, increment)) {
      core.streamError(id, Http2Code.FLOW_CONTROL_ERROR, 'http2.stream_window_overflow')
    }
  }

  #rstStream(id: number, bytes: Buffer, from: number, to: number): undefined {
    const core = this.#core
    if (to - from !== 4) return core.fail(Http2Code.FRAME_SIZE_ERROR, 'http2.rst_stream_length')
    if (id === 0 || core.isIdle(id)) return core.fail(Http2Code.PROTOCOL_ERROR, 'http2.rst_stream_on_idle_stream')
    const stream = core.streams.get(id)
    if (stream !== undefined) return core.resetByPeer(stream, readUint32(bytes, from))
    // The peer has said its last word about it too: whatever follows is a mistake (RFC 9113 §5.1).
    if (core.closedStreams.get(id) === RESET_BY_US) core.closedStreams.add(id, RESET_BY_PEER)
    this.#guard(core.guards.onControl())
  }

  #ping(flags: number, id: number, bytes: Buffer, from: number, to: number): undefined {
    const core = this.#core
    if (id !== 0) return core.fail(Http2Code.PROTOCOL_ERROR, 'http2.ping_on_stream')
    if (to - from !== 8) return core.fail(Http2Code.FRAME_SIZE_ERROR, 'http2.ping_length')
    const flood = core.guards.onControl()
    if (flood !== undefined) return core.fail(Http2Code.ENHANCE_YOUR_CALM, flood)
    if ((flags & ACK) === 0) {
      core.output.controls++
      core.output.control(kindOf(PING, ACK), 0, bytes, from, to)
    } else if (this.pinging && PING_DATA.compare(bytes, from, to) === 0) {
      this.pinging = false
      core.handler.onPong()
    }
  }

  #settings(flags: number, id: number, bytes: Buffer, from: number, to: number): undefined {
    const core = this.#core
    if (id !== 0) return core.fail(Http2Code.PROTOCOL_ERROR, 'http2.settings_on_stream')
    const ack = (flags & ACK) !== 0
    if (ack ? to !== from : (to - from) % SETTING_BYTES !== 0) {
      return core.fail(Http2Code.FRAME_SIZE_ERROR, 'http2.settings_length')
    }
    // There are a handful of parameters: a frame of thousands is thousands of changes.
    const flood = core.guards.onControl(1 + ((to - from) >> 6))
    if (flood !== undefined) return core.fail(Http2Code.ENHANCE_YOUR_CALM, flood)
    if (ack) return this.#settingsAck()
    const before = core.peer.initialWindow
    const code = core.peer.read(bytes, from, to)
    if (code !== 0) return core.fail(code, core.peer.detail)
    core.output.controls++
    core.output.control(kindOf(SETTINGS, ACK), 0, bytes, from, from)
    const change = core.peer.initialWindow - before
    if (change !== 0) {
      for (const stream of core.streams.values()) {
        if (!core.sender.streamWindow(stream, change)) {
          return core.fail(Http2Code.FLOW_CONTROL_ERROR, 'http2.stream_window_overflow')
        }
      }
    }
    core.handler.onSettings()
  }

  #settingsAck(): undefined {
    const core = this.#core
    if (core.settingsAcked) return
    core.settingsAcked = true
    this.#headers.settingsAcked()
    core.receiver.settingsAcked()
  }

  /** Deprecated (RFC 9113 §5.3): checked, counted, ignored. */
  #priority(id: number, bytes: Buffer, from: number, to: number): undefined {
    const core = this.#core
    if (id === 0) return core.fail(Http2Code.PROTOCOL_ERROR, 'http2.priority_on_connection')
    const flood = core.guards.onPriority()
    if (flood !== undefined) return core.fail(Http2Code.ENHANCE_YOUR_CALM, flood)
    if (to - from !== 5) this.#priorityError(id, Http2Code.FRAME_SIZE_ERROR, 'http2.priority_length')
    else if (readUint31(bytes, from) === id) {
      this.#priorityError(id, Http2Code.PROTOCOL_ERROR, 'http2.stream_depends_on_itself')
    }
  }

  /** RST_STREAM on a stream that is idle would be an error of ours. */
  #priorityError(id: number, code: number, detail: string): undefined {
    if (this.#core.isIdle(id)) this.#core.fail(code, detail)
    else this.#core.streamError(id, code, detail)
  }

  /** RFC 9218 §7.1: the same, for the scheme that replaced it. */
  #priorityUpdate(id: number, length: number): undefined {
    const core = this.#core
    if (id !== 0 || !core.server) return core.fail(Http2Code.PROTOCOL_ERROR, 'http2.priority_update')
    if (length < 4) return core.fail(Http2Code.FRAME_SIZE_ERROR, 'http2.priority_update_length')
    this.#guard(core.guards.onPriority())
  }

  #goaway(id: number, bytes: Buffer, from: number, to: number): undefined {
    const core = this.#core
    if (id !== 0) return core.fail(Http2Code.PROTOCOL_ERROR, 'http2.goaway_on_stream')
    if (to - from < 8) return core.fail(Http2Code.FRAME_SIZE_ERROR, 'http2.goaway_length')
    const flood = core.guards.onControl()
    if (flood !== undefined) return core.fail(Http2Code.ENHANCE_YOUR_CALM, flood)
    const lastId = readUint31(bytes, from)
    const code = readUint32(bytes, from + 4)
    core.goingAway = true
    if (!core.server) {
      for (const stream of core.streams.values()) {
        if (stream.id <= lastId) continue
        const reset = { code, by: 'goaway', processed: false, detail: 'http2.goaway' } as const
        core.abort(stream, RESET_BY_PEER, reset)
      }
    }
    if (!core.failed) core.handler.onGoaway(code, lastId)
  }

  #guard(flood: string | undefined): undefined {
    if (flood !== undefined) this.#core.fail(Http2Code.ENHANCE_YOUR_CALM, flood)
  }
}
