import type { Exchange } from '../../lib/chain/exchange.ts'
import type { ConnectionInfo } from '../../lib/core/connection.ts'
import { FAILURES, type Failure } from '../../lib/core/failure.ts'
import type { RequestHead } from '../../lib/core/head.ts'
import type { Headers } from '../../lib/core/headers.ts'
import { websocketKey } from '../../lib/core/websocket.ts'
import { parseContentLength } from '../../lib/http1/framing.ts'
import { EXPECT_CONTINUE, EXPECT_OTHER, UNDERSCORE } from '../../lib/http1/head-parser.ts'
import {
  Http2Code,
  type RequestRefusal,
  type StreamFace,
  type StreamHandler,
  type StreamReset,
} from '../../lib/http2/contract.ts'
import type { Codec, ConnectionManager } from '../http/connection-manager.ts'
import type { Refusal } from '../http/local-reply.ts'
import { overloadRefusal } from '../http/overload.ts'
import type { Http2ServerConnection } from './connection.ts'

/** A tunnel is asked for and not yet granted: what the client sends meanwhile waits in the session. */
const ASKED = 1
const OPEN = 2

/**
 * One request on an HTTP/2 connection: what the session tells of the stream becomes calls of the exchange, and what the
 * exchange answers becomes frames. One object, for the codec's side and the session's.
 */
export class Http2ServerStream implements Codec, StreamHandler {
  readonly info: ConnectionInfo
  readonly #connection: Http2ServerConnection
  readonly #face: StreamFace
  /** Undefined before the beginning and after the end. */
  #exchange: Exchange | undefined = undefined
  #method = ''
  /** CONNECT without `:protocol`: its resets are the upstream's (RFC 9113 §8.5). */
  #connect = false
  #tunnel = 0
  /** END_STREAM came from the client; went to it. */
  #requestDone = false
  #responseDone = false
  #paused = false
  /** Nothing of a body goes out: HEAD, 204, 304. */
  #bodyless = false
  /** Bytes that the announced Content-Length still leaves; -1 where none was announced. */
  #remaining = -1

  constructor(connection: Http2ServerConnection, face: StreamFace) {
    this.info = connection.info
    this.#connection = connection
    this.#face = face
  }

  /** The request may be over when this returns. */
  begin(manager: ConnectionManager, head: RequestHead, headers: Headers, end: boolean): void {
    this.#method = head.method
    this.#requestDone = end
    let bodyless = end
    if (head.method === 'CONNECT') {
      this.#askTunnel(head, headers)
      bodyless = true
    }
    const flags = factsOf(headers, manager.config.underscores !== 'allow')
    const exchange = manager.open(this, head, headers, 'HTTP/2')
    exchange.info.requestHeaderBytes = this.#face.receivedHeaderBytes
    this.#exchange = exchange
    manager.start(exchange, flags, bodyless, overloadRefusal(exchange, manager) ?? refusalOf(head))
  }

  /** Undefined before the beginning and after the end. */
  get exchange(): Exchange | undefined {
    return this.#exchange
  }

  /** What is no request becomes an exchange all the same: answered, or reset by the session in a moment. */
  refuse(manager: ConnectionManager, { status, head, end, detail }: RequestRefusal): void {
    this.#requestDone = end
    if (head !== undefined) this.#method = head.method
    const exchange = manager.openRefused(this, 'HTTP/2', head)
    exchange.info.requestHeaderBytes = this.#face.receivedHeaderBytes
    exchange.requestComplete = end
    this.#exchange = exchange
    if (status > 0) manager.refuse(exchange, status, detail)
  }

  /** Extended CONNECT (RFC 8441) looks to filters and routes as the same thing does in HTTP/1, as in Envoy. */
  #askTunnel(head: RequestHead, headers: Headers): void {
    this.#tunnel = ASKED
    this.#face.pause()
    if (head.protocol === undefined) {
      this.#connect = true
      return
    }
    head.method = this.#method = 'GET'
    head.protocol = head.protocol.toLowerCase()
    // HTTP/2 needs no key (RFC 8441 §5), but an HTTP/1 upstream refuses to switch without one.
    if (head.protocol === 'websocket' && !headers.has('sec-websocket-key')) {
      headers.add('sec-websocket-key', websocketKey())
    }
  }

  // --- what the session tells -----------------------------------------------------------------------------------------

  onInformational(): void {}

  onHeaders(): void {}

  onData(chunk: Buffer, end: boolean): void {
    if (end) this.#requestDone = true
    const exchange = this.#exchange
    if (exchange === undefined) return
    exchange.requestData(chunk, end)
    this.#connection.receivers?.add(exchange)
  }

  onTrailers(trailers: Headers): void {
    this.#requestDone = true
    const exchange = this.#exchange
    // A tunnel carries bytes, no fields: they end it.
    if (this.#tunnel === OPEN) exchange?.requestData(EMPTY, true)
    else exchange?.requestTrailers(trailers)
  }

  onDrain(): void {
    this.#exchange?.downstreamDrained()
  }

  onReset(reset: StreamReset): void {
    const exchange = this.#exchange
    this.#exchange = undefined
    if (exchange === undefined) return
    if (reset.by === 'peer') this.#connection.stats.resets.v++
    exchange.downstreamFailed(failureOf(reset))
  }

  // --- what the exchange answers --------------------------------------------------------------------------------------

  writeInformational(status: number, headers: Headers): void {
    this.#face.informational(status, headers)
  }

  writeHeaders(status: number, headers: Headers, end: boolean): void {
    const exchange = this.#exchange
    if (exchange === undefined) return
    if (this.#tunnel === ASKED && status >= 200 && status <= 299) {
      // It would read as consent to a tunnel that is none.
      exchange.abortFor(FAILURES.upstreamProtocol)
      return
    }
    this.#tunnel = 0
    this.#bodyless = this.#method === 'HEAD' || status === 204 || status === 304
    if (status === 204) headers.delete('content-length')
    const declared = this.#bodyless ? undefined : headers.get('content-length')
    if (declared !== undefined) this.#remaining = parseContentLength(declared)
    if (end && this.#remaining > 0) {
      exchange.abortFor(FAILURES.filterError)
      return
    }
    const done = end || this.#bodyless
    exchange.info.responseHeaderBytes = this.#face.respond(status, headers, done)
    if (done) this.#responseDone = true
  }

  write(chunk: Buffer, end: boolean): boolean {
    if (this.#responseDone) return true
    if (this.#remaining >= 0) {
      this.#remaining -= chunk.length
      // It does not keep what its head announced (the codecs have checked that of upstreams): not to be taken for whole.
      if (this.#remaining < 0 || (end && this.#remaining > 0)) {
        this.#exchange?.abortFor(FAILURES.filterError)
        return true
      }
    }
    if (end) this.#responseDone = true
    return this.#face.write(chunk, end)
  }

  settled(): boolean {
    return this.#face.settled()
  }

  writeTrailers(trailers: Headers): void {
    if (this.#responseDone) return
    if (this.#remaining > 0) {
      this.#exchange?.abortFor(FAILURES.filterError)
      return
    }
    this.#responseDone = true
    this.#face.trailers(trailers)
  }

  writeUpgrade(status: number, headers: Headers): void {
    const exchange = this.#exchange
    if (exchange === undefined) return
    this.#tunnel = OPEN
    // 101 is no status of HTTP/2, and its key is no business of this hop (RFC 8441 §5).
    headers.delete('sec-websocket-accept')
    headers.delete('content-length')
    exchange.info.responseHeaderBytes = this.#face.respond(status === 101 ? 200 : status, headers, false)
    // The client's END_STREAM came with its head.
    if (this.#requestDone) exchange.requestData(EMPTY, true)
    else if (!this.#paused) this.#face.resume()
  }

  reset(why: Failure): void {
    this.#responseDone = true
    this.#face.reset(this.#tunnel === OPEN ? this.#tunnelCode(why) : codeOf(why))
  }

  #tunnelCode(why: Failure): number {
    if (why.source !== 'upstream') return codeOf(why)
    // RFC 9113 §8.5 and RFC 8441 §5: how each kind of tunnel says RST.
    return this.#connect ? Http2Code.CONNECT_ERROR : Http2Code.CANCEL
  }

  pauseRequest(): void {
    this.#paused = true
    this.#face.pause()
  }

  resumeRequest(): void {
    this.#paused = false
    if (this.#tunnel !== ASKED) this.#face.resume()
  }

  /** Streams end alone. */
  closeAfterResponse(): void {}

  continueWith(next: Exchange): void {
    this.#exchange = next
  }

  exchangeEnded(): void {
    this.#exchange = undefined
    if (this.#requestDone) return
    // A request that is answered before it is complete (RFC 9113 §8.1). Whoever aborts resets.
    if (this.#responseDone) this.#face.discard()
  }
}

/** Bits of the HTTP/1 head parser that the connection manager acts on. */
function factsOf({ raw }: Headers, underscores: boolean): number {
  let flags = 0
  for (let i = 0; i < raw.length; i += 2) {
    const name = raw[i]
    if (name.length === 6 && name === 'expect') {
      flags |= raw[i + 1].toLowerCase() === '100-continue' ? EXPECT_CONTINUE : EXPECT_OTHER
    }
    if (underscores && name.includes('_')) flags |= UNDERSCORE
  }
  return flags
}

function refusalOf({ method, authority }: RequestHead): Refusal | undefined {
  // The codec has seen to the rest.
  if (authority === '') return NO_AUTHORITY
  return method === 'CONNECT' && !/:\d+$/.test(authority) ? BAD_AUTHORITY : undefined
}

function failureOf({ by, code, detail }: StreamReset): Failure {
  if (detail === FAILURES.overload.reason) return FAILURES.overload
  if (by === 'peer') return FAILURES.clientReset
  // The session fails with INTERNAL_ERROR where the client has done nothing wrong: the transport has gone, or it is a bug.
  if (by === 'connection' && code === Http2Code.INTERNAL_ERROR) return FAILURES.clientClosed
  return { ...FAILURES.clientMessaging, reason: detail }
}

/** What a client is told of a response that breaks off. */
function codeOf({ code }: Failure): number {
  switch (code) {
    case 'client-protocol':
      return Http2Code.PROTOCOL_ERROR
    case 'client-closed':
    case 'client-idle':
    case 'duration':
    case 'draining':
      return Http2Code.CANCEL
    case 'overload':
      return Http2Code.ENHANCE_YOUR_CALM
    default:
      return Http2Code.INTERNAL_ERROR
  }
}

const EMPTY: Buffer = Buffer.alloc(0)
const NO_AUTHORITY: Refusal = Object.freeze({ status: 400, details: 'missing_host_header' })
const BAD_AUTHORITY: Refusal = Object.freeze({ status: 400, details: 'http2.invalid_authority' })
