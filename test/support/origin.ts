import { once } from 'node:events'
import { type AddressInfo, createServer, type ListenOptions, type Server, type Socket } from 'node:net'
import { ByteStream, type Ending, WireError } from './byte-stream.ts'
import { type Body, type BodyConsumer, type Field, fieldValue, framingOf, readBody, readHead } from './http1-message.ts'
import { OriginReply } from './origin-reply.ts'

/** One request as the origin saw it. `body` settles when the request has ended, cleanly or not. */
export interface OriginRequest {
  /** Number of the connection (from 1) and of the request on it (from 1). */
  readonly connection: number
  readonly index: number
  readonly method: string
  readonly target: string
  readonly version: string
  readonly fields: readonly Field[]
  readonly rawHead: Buffer
  get(name: string): string | undefined
  readonly body: Promise<Body>
  /** How the connection ended; settles when it does. */
  readonly ended: Promise<Ending>
  /** True once the script has answered in full. */
  answered: boolean
}

/**
 * Called for each request when its head is complete; what it does with `reply` is the response. When its promise
 * settles and the body has been read, the next request on the connection is looked at.
 */
export type OriginScript = (request: OriginRequest, reply: OriginReply) => void | Promise<void>

export interface OriginOptions {
  /** Default: `echo`. */
  readonly script?: OriginScript
  /** Default port 0 on 127.0.0.1. */
  readonly listen?: ListenOptions
  /** False: leave the bodies in the kernel until the script calls `reply.readBody()`. Default true. */
  readonly readBodies?: boolean
  /** Called with every connection before anything is read: `reply`-less scripts (send at once, never read, reset). */
  readonly onConnection?: (socket: Socket) => void
  /** Takes bodies instead of keeping them, for uploads larger than memory should hold. */
  readonly consume?: (request: OriginRequest) => BodyConsumer
}

/**
 * A scripted HTTP/1 origin on raw sockets. It reads strictly and writes whatever a script says; it records every
 * request, counts connections, and collects what peers did wrong in `violations` (tests of a proxy insist on none).
 */
export class Origin {
  readonly requests: OriginRequest[] = []
  readonly violations: string[] = []
  /** Connections accepted in all. */
  connections = 0
  script: OriginScript
  readonly #options: OriginOptions
  readonly #server: Server
  #port = 0
  readonly #sockets = new Set<Socket>()
  readonly #waiters: { done(): boolean; resolve(): void }[] = []

  private constructor(options: OriginOptions) {
    this.#options = options
    this.script = options.script ?? echo
    this.#server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => this.#accept(socket))
  }

  static async start(options: OriginOptions | OriginScript = {}): Promise<Origin> {
    const origin = new Origin(typeof options === 'function' ? { script: options } : options)
    origin.#server.listen(origin.#options.listen ?? { host: '127.0.0.1', port: 0 })
    await once(origin.#server, 'listening')
    const address = origin.#server.address() as AddressInfo | string
    if (typeof address === 'object') origin.#port = address.port
    return origin
  }

  /** Also after the origin has closed, for tests of refused connections. */
  get port(): number {
    return this.#port
  }

  /** Connections that are open now. */
  get open(): number {
    return this.#sockets.size
  }

  /** Resolves when at least `count` requests have been seen (heads; bodies may be under way). */
  seen(count: number): Promise<void> {
    return this.until(() => this.requests.length >= count, `${count} requests (${this.requests.length} so far)`)
  }

  /** Resolves when `done` answers true; looked at whenever a connection or a request comes or goes. */
  async until(done: () => boolean, what: string, deadlineMs = 5_000): Promise<void> {
    if (done()) return
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(
        () => reject(new WireError('deadline', `origin: no ${what} within ${deadlineMs} ms`)),
        deadlineMs,
      )
    })
    const waiter = { done, resolve: (): void => {} }
    const came = new Promise<void>((resolve) => {
      waiter.resolve = resolve
    })
    this.#waiters.push(waiter)
    try {
      await Promise.race([came, late])
    } finally {
      clearTimeout(timer)
      const index = this.#waiters.indexOf(waiter)
      if (index >= 0) this.#waiters.splice(index, 1)
    }
  }

  /** Stops accepting, and keeps the connections. */
  stopListening(): void {
    this.#server.close()
  }

  /** Sends RST on every open connection. */
  resetAll(): void {
    for (const socket of this.#sockets) socket.resetAndDestroy()
  }

  /** Destroys all sockets and stops listening. */
  async close(): Promise<void> {
    const gone = [...this.#sockets].map((socket) => once(socket, 'close'))
    for (const socket of this.#sockets) socket.destroy()
    const closed = this.#server.listening ? once(this.#server, 'close') : undefined
    this.#server.close()
    await Promise.all([...gone, closed])
  }

  #accept(socket: Socket): void {
    const connection = ++this.connections
    this.#sockets.add(socket)
    socket.on('error', () => {})
    socket.once('close', () => {
      this.#sockets.delete(socket)
      this.#changed()
    })
    this.#options.onConnection?.(socket)
    this.#changed()
    this.#serve(socket, connection).catch((error: Error) => {
      // A reset or an early FIN of the peer is for the test to judge by `body.clean` and `ended`.
      if (!(error instanceof WireError && error.kind === 'ended'))
        this.violations.push(`#${connection}: ${error.message}`)
      this.#changed()
      socket.destroy()
    })
  }

  async #serve(socket: Socket, connection: number): Promise<void> {
    const stream = new ByteStream(socket, 0)
    const ended = new Promise<Ending>((resolve) => {
      socket.once('end', () => resolve('fin'))
      socket.once('error', () => resolve('reset'))
      socket.once('close', () => resolve('local'))
    })
    for (let index = 1; !socket.destroyed; index++) {
      const head = await readHead(stream, 'request head')
      if (head === undefined) break
      const line = /^([!-~]+) ([!-~]+) (HTTP\/1\.[01])$/.exec(head.startLine)
      if (line === null) throw new WireError('protocol', `request line ${JSON.stringify(head.startLine)}`)
      const frame = framingOf(head.fields, 'none')
      let startBody = (): void => {}
      const started = new Promise<void>((resolve) => {
        startBody = resolve
      })
      const request: OriginRequest = {
        connection,
        index,
        method: line[1],
        target: line[2],
        version: line[3],
        fields: head.fields,
        rawHead: head.raw,
        get: (name) => fieldValue(head.fields, name),
        body: started.then(() => readBody(stream, frame, this.#options.consume?.(request))),
        ended,
        answered: false,
      }
      // Its rejection is reported by the await below; without this a script that throws first would leave it unhandled.
      request.body.catch(() => {})
      if (this.#options.readBodies !== false) startBody()
      this.requests.push(request)
      this.#changed()
      const reply = new OriginReply(socket, stream, request.method, startBody)
      await this.script(request, reply)
      request.answered = reply.finished
      this.#changed()
      if (reply.upgraded) return
      startBody()
      const body = await request.body
      if (!body.clean || reply.closing) break
    }
    if (!socket.destroyed) socket.end()
  }

  #changed(): void {
    for (const waiter of [...this.#waiters]) if (waiter.done()) waiter.resolve()
  }
}

/** Answers 200 with the request's body, after all of it has come; `x-echo-*` fields say what was asked. */
export const echo: OriginScript = async (request, reply) => {
  const body = await request.body
  if (!body.clean) return
  await reply.send({
    fields: [
      ['x-echo-method', request.method],
      ['x-echo-target', request.target],
    ],
    body: body.bytes,
  })
}

/** Answers with these bytes as they are, cut at `offsets`, once the head has come. */
export function respondWith(bytes: Buffer | string, offsets: readonly number[] = []): OriginScript {
  return async (request, reply) => {
    await request.body
    await reply.writeSplit(bytes, offsets)
  }
}

/** Runs one script after the other, one per request of the whole origin; the last goes on for ever. */
export function inTurn(...scripts: readonly OriginScript[]): OriginScript {
  let next = 0
  return (request, reply) => scripts[Math.min(next++, scripts.length - 1)](request, reply)
}
