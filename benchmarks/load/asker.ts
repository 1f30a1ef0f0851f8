import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { MessageCounter } from './message-counter.ts'

/** One GET after the other on one kept connection; for answers with Content-Length. */
export class Asker {
  readonly #socket: Socket
  readonly #request: string
  readonly #counter = new MessageCounter()
  #chunks: Buffer[] = []
  #pending: { resolve(answer: { status: number; body: string }): void; reject(error: Error): void } | undefined

  private constructor(socket: Socket, path: string, host: string) {
    this.#socket = socket
    this.#request = `GET ${path} HTTP/1.1\r\nHost: ${host}\r\n\r\n`
    socket.on('data', (chunk: Buffer) => this.#received(chunk))
    socket.on('error', () => undefined)
    socket.on('close', () => this.#pending?.reject(new Error('the connection was closed before the answer')))
  }

  static async open(port: number, path: string, host = 'bench'): Promise<Asker> {
    const socket = connect({ port, host: '127.0.0.1', noDelay: true })
    await once(socket, 'connect')
    return new Asker(socket, path, host)
  }

  ask(): Promise<{ readonly status: number; readonly body: string }> {
    const { promise, resolve, reject } = Promise.withResolvers<{ status: number; body: string }>()
    this.#pending = { resolve, reject }
    this.#socket.write(this.#request)
    return promise
  }

  close(): void {
    this.#socket.destroy()
  }

  #received(chunk: Buffer): void {
    this.#chunks.push(chunk)
    if (this.#counter.push(chunk) === 0) return
    const text = Buffer.concat(this.#chunks).toString('latin1')
    this.#chunks = []
    const pending = this.#pending
    this.#pending = undefined
    pending?.resolve({
      status: Number(this.#counter.head.slice(9, 12)),
      body: text.slice(text.indexOf('\r\n\r\n') + 4),
    })
  }
}
