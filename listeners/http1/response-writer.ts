import type { Socket } from 'node:net'
import type { Headers } from '../../lib/core/headers.ts'
import type { TurnQueue } from '../../lib/core/turn.ts'
import { MessageWriter } from '../../lib/http1/body-writer.ts'
import { fieldLines, type HeaderCase, statusLine } from '../../lib/http1/head-writer.ts'
import { resetSocket } from './reset.ts'
import { type ResponseFacts, responseHead } from './response-head.ts'

/**
 * Writes the responses of one connection, one after another: heads are held back until their first body bytes, framing
 * is decided here, and a body that does not keep what its head announced breaks the connection.
 */
export class ResponseWriter {
  readonly #socket: Socket
  readonly #writer: MessageWriter
  /** Of the response at hand; one object for all of them. */
  readonly #facts: ResponseFacts
  /** The response is complete; true before the first. */
  done = true
  /** The connection ends with this response. Once set it stays. */
  close = false

  constructor(socket: Socket, turn: TurnQueue) {
    this.#socket = socket
    this.#writer = new MessageWriter(socket, turn)
    const { memo } = this.#writer
    this.#facts = { memo, status: 0, end: false, requestMethod: '', minor: 1, close: false, spelling: 'lower' }
  }

  /** A request has come; its response is next. */
  begin(requestMethod: string, minor: number, spelling: HeaderCase): void {
    const facts = this.#facts
    facts.requestMethod = requestMethod
    facts.minor = minor
    facts.spelling = spelling
    this.done = false
  }

  informational(status: number, headers: Headers): void {
    // HTTP/1.0 clients know no interim responses (RFC 9110 §15.2).
    if (this.#facts.minor === 0) return
    this.#writer.raw(`${statusLine(status)}${fieldLines(headers, this.#facts.spelling, true)}\r\n`)
  }

  /** The head; answers its size in bytes. */
  headers(status: number, headers: Headers, end: boolean): number {
    const facts = this.#facts
    facts.status = status
    facts.end = end
    facts.close = this.close
    const head = responseHead(headers, facts)
    this.close = head.close
    this.#writer.start(head.text, head.framing, head.length)
    if (end) {
      if (!this.#writer.end(undefined, 'lower') && !head.bodyless) this.break()
      else this.done = true
    }
    return head.text.length
  }

  /** The head of a permitted upgrade, or of a CONNECT's 2xx: what follows is no HTTP of ours. */
  switchProtocols(status: number, headers: Headers): void {
    const accepted = headers.get('upgrade')
    const upgraded = accepted === undefined ? '' : `upgrade: ${accepted}\r\nconnection: upgrade\r\n`
    this.close = true
    this.#writer.raw(`${statusLine(status)}${fieldLines(headers, this.#facts.spelling, true)}${upgraded}\r\n`)
    this.#writer.flush()
  }

  /** Bytes of a tunnel; `end`: FIN, this direction alone. False: wait for the socket's drain. */
  tunnel(chunk: Buffer, end: boolean): boolean {
    const more = chunk.length === 0 || this.#socket.write(chunk)
    if (end) {
      this.done = true
      this.#socket.end()
    }
    return more
  }

  /** Text of its own, in order with the responses: `100 Continue`. */
  raw(text: string): void {
    this.#writer.raw(text)
  }

  /** Sends what waits for the end of the turn; before the socket is closed. */
  flush(): void {
    this.#writer.flush()
  }

  /** False: wait for the socket's drain. */
  write(chunk: Buffer, end: boolean): boolean {
    const more = this.#writer.write(chunk, end)
    if (more === undefined) {
      this.break()
      return true
    }
    if (end) this.done = true
    return more
  }

  trailers(trailers: Headers | undefined): void {
    if (this.#writer.end(trailers, this.#facts.spelling)) this.done = true
    else this.break()
  }

  /** The response cannot be completed: RST and not FIN, so that a body which ends by close does not look finished. */
  break(): void {
    this.close = true
    this.#writer.flush()
    resetSocket(this.#socket)
  }
}
