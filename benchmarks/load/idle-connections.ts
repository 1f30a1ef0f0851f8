import { connect, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { MessageCounter } from './message-counter.ts'

/** Keep-alive connections that have had one request answered and then stay silent. Whoever opened them calls `close`. */
export class IdleConnections {
  readonly #sockets: Socket[] = []
  #lost = 0

  /** Connections that the other side has ended. */
  get lost(): number {
    return this.#lost
  }

  /**
   * Opens `count` connections, at most 50 at once, so that the proxy needs no more than 50 to its origin. Certificates are
   * not checked.
   */
  async open(port: number, count: number, tls = false): Promise<void> {
    for (let left = count; left > 0; left -= 50) {
      await Promise.all(Array.from({ length: Math.min(50, left) }, () => this.#openOne(port, tls)))
    }
  }

  close(): void {
    for (const socket of this.#sockets) {
      socket.removeAllListeners('close')
      socket.destroy()
    }
  }

  #openOne(port: number, tls: boolean): Promise<void> {
    return new Promise((resolve, reject) => {
      const target = { port, host: '127.0.0.1', noDelay: true }
      const socket = tls ? connectTls({ ...target, rejectUnauthorized: false }) : connect(target)
      const counter = new MessageCounter()
      this.#sockets.push(socket)
      socket.on('connect', () => socket.write(`GET / HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n\r\n`))
      socket.on('data', (chunk: Buffer) => {
        if (counter.push(chunk) > 0) resolve()
      })
      socket.on('error', reject)
      socket.on('close', () => {
        this.#lost++
        reject(new Error('the proxy closed a connection before it had answered'))
      })
    })
  }
}
