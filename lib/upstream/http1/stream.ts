import type { Attempt, UpstreamEvents, UpstreamStream } from '../../core/attempt.ts'
import type { Failure } from '../../core/failure.ts'
import type { Headers } from '../../core/headers.ts'
import type { Host } from '../host.ts'
import type { Http1ClientConnection } from './connection.ts'
import type { Http1Pool } from './pool.ts'

/** One attempt over HTTP/1: waits for a connection, keeps what is written meanwhile, ends exactly once. */
export class Http1ClientStream implements UpstreamStream {
  readonly attempt: Attempt
  readonly #events: UpstreamEvents
  readonly #pool: Http1Pool
  #connection: Http1ClientConnection | undefined = undefined
  #queue: Buffer[] | undefined = undefined
  #queuedEnd = false
  #queuedTrailers: Headers | undefined = undefined
  #done = false
  /** The request's head is out: a body may follow. */
  #begun = false
  /** Waiting for a connection. */
  pending = false

  constructor(attempt: Attempt, events: UpstreamEvents, pool: Http1Pool) {
    this.attempt = attempt
    this.#events = events
    this.#pool = pool
  }

  get host(): Host {
    return this.#pool.host
  }

  get done(): boolean {
    return this.#done
  }

  /** A connection is this stream's: the request goes out. */
  attach(connection: Http1ClientConnection): void {
    this.#connection = connection
    this.#events.onConnected(connection)
    if (this.#done) return
    this.#begun = true
    connection.begin(this)
    const queue = this.#queue
    if (queue === undefined) return
    this.#queue = undefined
    let more = true
    for (let i = 0; i < queue.length; i++) {
      more = connection.write(queue[i], this.#queuedEnd && this.#queuedTrailers === undefined && i === queue.length - 1)
    }
    if (this.#queuedTrailers !== undefined) connection.trailers(this.#queuedTrailers)
    if (more && !this.#queuedEnd && !this.#done) this.#events.onDrain()
  }

  write(chunk: Buffer, end: boolean): boolean {
    if (this.#done) return true
    if (this.#begun) return this.#connection!.write(chunk, end)
    this.#queue ??= []
    this.#queue.push(chunk)
    this.#queuedEnd = end
    return false
  }

  trailers(trailers: Headers): void {
    if (this.#done) return
    if (this.#begun) this.#connection!.trailers(trailers)
    else {
      this.#queue ??= []
      this.#queuedEnd = true
      this.#queuedTrailers = trailers
    }
  }

  pause(): void {
    if (!this.#done) this.#connection?.pause()
  }

  resume(): void {
    if (!this.#done) this.#connection?.resume()
  }

  cancel(): void {
    if (this.#done) return
    const connection = this.#connection
    this.#finish()
    if (connection === undefined) this.#pool.abandon(this)
    else connection.abort()
  }

  // --- from the connection and the pool -----------------------------------------------------------------------------

  informational(status: number, headers: Headers): void {
    if (!this.#done) this.#events.onInformational(status, headers)
  }

  headers(status: number, headers: Headers, end: boolean): void {
    if (this.#done) return
    if (end) this.#finish()
    this.#events.onHeaders(status, headers, end)
  }

  data(chunk: Buffer, end: boolean): boolean {
    if (this.#done) return true
    if (end) this.#finish()
    return this.#events.onData(chunk, end)
  }

  /** Nothing of what `data` delivered is kept. */
  get spent(): boolean {
    return this.#events.dataSettled?.() === true
  }

  get pendingBytes(): number {
    return this.#queue?.reduce((sum, chunk) => sum + chunk.length, 0) ?? 0
  }

  settled(): boolean {
    return this.#begun && this.#connection!.drained
  }

  end(trailers: Headers): void {
    if (this.#done) return
    this.#finish()
    this.#events.onTrailers(trailers)
  }

  drain(): void {
    if (!this.#done) this.#events.onDrain()
  }

  /** A tunnel from here on: both directions end it together, and it counts as a request for as long as it lasts. */
  upgraded(status: number, headers: Headers): void {
    if (!this.#done) this.#events.onUpgraded(status, headers)
  }

  /** Bytes of the tunnel. `end`: of this direction; `last`: the other one is over too. */
  tunnelData(chunk: Buffer, end: boolean, last: boolean): boolean {
    if (this.#done) return true
    if (last) this.#finish()
    return this.#events.onData(chunk, end)
  }

  /** The tunnel's last bytes have gone out. */
  tunnelDone(): void {
    if (!this.#done) this.#finish()
  }

  fail(why: Failure, detail?: string): void {
    if (this.#done) return
    this.#finish()
    this.#events.onReset(why, detail)
  }

  /** Releases what the attempt holds, before its last event: a retry from within that event finds the room free. */
  #finish(): void {
    this.#done = true
    this.#queue = undefined
    this.#pool.released(this)
  }
}
