import { createConnection, createServer, type Server, type Socket } from 'node:net'

/**
 * Passes bytes between whoever connects and a server, and does to them what networks do: breaks off, goes silent, refuses.
 * Its port stays the same over `stop` and `restart`.
 */
export class Relay {
  /** 0 where it listens on a path. */
  port = 0
  /** Connections that were ever accepted. */
  accepted = 0
  /** Bytes that went either way. */
  passed = 0
  readonly #to: { readonly host: string; readonly port: number }
  readonly #path: string | undefined
  readonly #pairs = new Set<readonly [Socket, Socket]>()
  #server: Server | undefined = undefined
  #frozen = false

  private constructor(to: { readonly host: string; readonly port: number }, path: string | undefined) {
    this.#to = to
    this.#path = path
  }

  /** Listens on a free port of 127.0.0.1, or on `path`. */
  static async start(to: { readonly host: string; readonly port: number }, path?: string): Promise<Relay> {
    const relay = new Relay(to, path)
    await relay.restart()
    return relay
  }

  /** Connections that are open. */
  get open(): number {
    return this.#pairs.size
  }

  async restart(): Promise<void> {
    if (this.#server !== undefined) return
    const server = createServer((socket) => this.#accept(socket))
    this.#server = server
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      if (this.#path !== undefined) server.listen(this.#path, resolve)
      else server.listen(this.port, '127.0.0.1', resolve)
    })
    const address = server.address()
    if (typeof address === 'object' && address !== null) this.port = address.port
  }

  /** Nobody listens any more, and all connections are gone. */
  async stop(): Promise<void> {
    const server = this.#server
    if (server === undefined) return
    this.#server = undefined
    const closed = new Promise((resolve) => server.close(resolve))
    this.reset()
    await closed
  }

  /** Ends every connection with RST. */
  reset(): void {
    for (const [near, far] of this.#pairs) {
      // A Unix socket knows no RST.
      if (this.#path === undefined) near.resetAndDestroy()
      else near.destroy()
      far.destroy()
    }
    this.#pairs.clear()
  }

  /** From now on nothing passes, in neither direction, and nobody learns of it. New connections are accepted. */
  freeze(): void {
    this.#frozen = true
    for (const [near, far] of this.#pairs) {
      near.pause()
      far.pause()
    }
  }

  thaw(): void {
    this.#frozen = false
    for (const [near, far] of this.#pairs) {
      near.resume()
      far.resume()
    }
  }

  #accept(near: Socket): void {
    this.accepted++
    const far = createConnection(this.#to)
    const pair = [near, far] as const
    this.#pairs.add(pair)
    for (const [from, to] of [pair, [far, near]] as const) {
      from.setNoDelay(true)
      from.on('data', (chunk: Buffer) => {
        this.passed += chunk.length
        if (!to.write(chunk)) from.pause()
      })
      to.on('drain', () => {
        if (!this.#frozen) from.resume()
      })
      from.on('end', () => to.end())
      from.on('error', () => undefined)
      from.on('close', () => {
        to.destroy()
        this.#pairs.delete(pair)
      })
    }
    if (this.#frozen) {
      near.pause()
      far.pause()
    }
  }
}
