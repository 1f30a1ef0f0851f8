import type { Socket } from 'node:net'
import { HeadBuffer } from '../http1/head-buffer.ts'
import { HeadParser } from '../http1/head-parser.ts'

/** A proxy's answer may be so long; more than its status is not looked at. */
const LIMITS = Object.freeze({ lineBytes: 64 * 1024, headerBytes: 64 * 1024, headers: 1000 })

/** 1xx before the answer. */
const MAX_INTERIM = 10

/**
 * Asks an HTTP/1 proxy for a connection to `target` (`host:port`; RFC 9110 §9.3.6). `done` is called once: without a
 * text where the answer is 2xx, what came behind it being in the socket again; otherwise with what is wrong. The end of
 * the socket is the caller's to notice.
 */
export class HttpConnect {
  readonly #socket: Socket
  readonly #done: (problem: string | undefined) => void
  readonly #heads = new HeadBuffer(LIMITS)
  readonly #parser = new HeadParser(LIMITS, { keepCase: false, response: true })
  #interim = 0

  constructor(socket: Socket, target: string, done: (problem: string | undefined) => void) {
    this.#socket = socket
    this.#done = done
    socket.on('data', this.#onData)
    socket.on('end', this.#onEnd)
    socket.write(`CONNECT ${target} HTTP/1.1\r\nHost: ${target}\r\n\r\n`)
  }

  readonly #onEnd = (): void => this.#finish('the proxy closed the connection')

  readonly #onData = (chunk: Buffer): void => {
    for (let at = 0; at < chunk.length; ) {
      const text = this.#heads.take(chunk, at)
      if (text === undefined) return
      const head = typeof text === 'string' ? this.#parser.parse(text) : text
      if (!('raw' in head)) {
        this.#finish(`the proxy's answer is malformed: ${head.reason}`)
        return
      }
      at = this.#heads.next
      if (head.status >= 200) {
        const granted = head.status < 300
        this.#finish(granted ? undefined : `the proxy answered ${head.status}`, chunk.subarray(at))
        return
      }
      if (head.status === 101 || ++this.#interim > MAX_INTERIM) {
        this.#finish('the proxy answered with interim responses alone')
        return
      }
    }
  }

  #finish(problem: string | undefined, behind?: Buffer): void {
    const socket = this.#socket
    socket.off('data', this.#onData)
    socket.off('end', this.#onEnd)
    if (problem === undefined) {
      // Flowing without a listener, bytes would be lost.
      socket.pause()
      if (behind !== undefined && behind.length > 0) socket.unshift(behind)
    }
    this.#done(problem)
  }
}
