import { connect, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { MessageCounter } from './message-counter.ts'

/** An answer read to its end. */
export interface Answer {
  readonly status: number
  readonly body: string
}

/**
 * One GET on a connection of its own; only for small answers with Content-Length or chunks. Certificates are not checked.
 * Fails after 5 s.
 */
export function fetchOnce(port: number, path: string, tls = false): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const socket = tls ? connectTls(port, '127.0.0.1', { rejectUnauthorized: false }) : connect(port, '127.0.0.1')
    const counter = new MessageCounter()
    const chunks: Buffer[] = []
    socket.setTimeout(5000, () => socket.destroy(new Error(`GET ${path}: no answer for 5 s`)))
    socket.on('connect', () => socket.write(`GET ${path} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n\r\n`))
    socket.on('data', (chunk: Buffer) => {
      chunks.push(chunk)
      if (counter.push(chunk) === 0) return
      socket.destroy()
      const text = Buffer.concat(chunks).toString('latin1')
      resolve({ status: Number(counter.head.slice(9, 12)), body: text.slice(text.indexOf('\r\n\r\n') + 4) })
    })
    socket.on('error', reject)
    socket.on('close', () => reject(new Error(`GET ${path}: closed before the answer was complete`)))
  })
}

/** A transfer of one large body over a connection of its own. */
export class Transfer {
  readonly socket: Socket
  readonly counter = new MessageCounter()
  /** Resolves with the answer's status when it is complete; rejects when the connection ends before. */
  readonly done: Promise<number>

  /** Sends the request head at once; `stall` leaves the answer unread until `resume`. */
  constructor(port: number, head: string, stall = false) {
    const socket = connect(port, '127.0.0.1')
    this.socket = socket
    if (stall) socket.pause()
    this.done = new Promise((resolve, reject) => {
      // Kept by the socket until it is connected, and so ahead of any content.
      socket.write(`${head}\r\nHost: 127.0.0.1:${port}\r\n\r\n`)
      socket.on('error', reject)
      socket.on('close', () => reject(new Error(`closed after ${this.counter.bodyBytes} bytes`)))
      const onData = (chunk: Buffer): void => {
        if (this.counter.push(chunk) === 0) return
        socket.destroy()
        resolve(Number(this.counter.head.slice(9, 12)))
      }
      if (stall) this.resume = () => void socket.on('data', onData).resume()
      else socket.on('data', onData)
    })
    // Whoever awaits it sees the rejection; this keeps one that comes before that from ending the process.
    this.done.catch(() => {})
  }

  /** Reads what was left unread. */
  resume: () => void = () => {}

  /** Writes `length` bytes of request content, obeying back-pressure. */
  upload(length: number): void {
    const block = Buffer.alloc(64 * 1024, 'x')
    const write = (left: number): void => {
      let rest = left
      while (rest > 0 && !this.socket.destroyed) {
        const size = Math.min(rest, block.length)
        rest -= size
        if (!this.socket.write(size === block.length ? block : block.subarray(0, size))) break
      }
      if (rest > 0) this.socket.once('drain', () => write(rest))
    }
    write(length)
  }
}
