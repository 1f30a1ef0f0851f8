import type { Socket } from 'node:net'
import type { ByteEvents, ByteStream, UpstreamInfo } from '../../core/attempt.ts'
import { FAILURES, type Failure } from '../../core/failure.ts'
import { systemDrained } from '../../core/system-drained.ts'
import type { TimerWheel } from '../../core/timer-wheel.ts'
import { ClientConnection } from '../client-connection.ts'
import { describeFailure, resetTransport, type Transport } from '../connect.ts'
import { closeBehind } from '../farewell.ts'
import type { Host } from '../host.ts'

/** What a raw connection needs of its cluster. */
export interface ByteConnectionSite {
  readonly host: Host
  readonly wheel: TimerWheel
  readonly connectionId: number
  connected(socket: Socket): void
  timedOut(): void
  paused(): void
  resumed(): void
  /** Exactly once. `refused`: it never got ready, and that was not our doing. */
  closed(wasConnected: boolean, refused: boolean): void
}

/**
 * One raw upstream connection. Each direction ends by itself; when both have, or either fails, it is over and
 * `onClosed` tells so, once.
 *
 * ```
 * CONNECTING ── ready ─▶ OPEN ── FIN both ways ─▶ closed, cleanly
 *     └── error, timeout ──┴── reset, error ────▶ closed, with the failure
 * ```
 */
export class ByteConnection extends ClientConnection implements ByteStream, UpstreamInfo {
  readonly protocol = 'HTTP/1.1'
  readonly reused = false
  readonly #events: ByteEvents
  readonly #site: ByteConnectionSite
  #transport: Transport | undefined = undefined
  /** Written before there was a transport. */
  #early: Buffer[] = []
  #paused = false
  #connected = false
  #closed = false
  #readEnded = false
  #writeEnded = false
  #why: Failure | undefined = undefined

  constructor(events: ByteEvents, site: ByteConnectionSite) {
    super(site.host, site.wheel, site.connectionId)
    this.#events = events
    this.#site = site
  }

  protected override established(transport: Transport): void {
    const { socket } = transport
    if (this.#closed) {
      socket.on('error', () => {})
      resetTransport(transport)
      return
    }
    this.#transport = transport
    const { reader } = transport
    if (reader !== undefined) reader.target = this
    else {
      socket.on('data', (chunk: Buffer) => {
        if (!this.#closed && !this.#events.onData(chunk)) this.pause()
      })
    }
    socket.on('drain', () => {
      if (!this.#closed) this.#events.onDrain()
    })
    socket.on('end', () => this.#onEnd())
    socket.on('error', (error: NodeJS.ErrnoException) => {
      this.#why ??= FAILURES.upstreamClosed
      this.failure ??= describeFailure(error)
    })
    socket.on('close', () => this.gone())
    if (this.#paused) socket.pause()
    this.#begin(socket)
  }

  #begin(socket: Socket): void {
    this.#connected = true
    this.#site.connected(socket)
    const early = this.#early
    this.#early = []
    let more = true
    for (const chunk of early) more = socket.write(chunk)
    if (this.#writeEnded) socket.end()
    this.#events.onConnected(this)
    // The wait that the early writes were told of is over, unless it has only begun.
    if (early.length > 0 && more && !this.#closed && !this.#writeEnded) this.#events.onDrain()
  }

  /** Of `ReadTarget`: small reads are copied, large ones are lent. */
  received(chunk: Buffer, lent: boolean): void {
    if (!this.#closed && !this.#events.onData(lent ? chunk : Buffer.from(chunk))) this.pause()
  }

  get expectsBody(): boolean {
    return true
  }

  get spent(): boolean {
    return this.#events.spent === true
  }

  get drained(): boolean {
    return this.#transport !== undefined && systemDrained(this.#transport.socket)
  }

  override onDue(): void {
    this.#site.timedOut()
    this.#why = FAILURES.connectTimeout
    this.abort()
  }

  write(chunk: Buffer): boolean {
    if (this.#closed || this.#writeEnded) return true
    if (this.#transport !== undefined) {
      const { socket } = this.#transport
      // What the system took at once is no reason to wait, however much it was.
      return socket.write(chunk) || socket.writableLength === 0
    }
    this.#early.push(chunk)
    return false
  }

  end(): void {
    if (this.#closed || this.#writeEnded) return
    this.#writeEnded = true
    const socket = this.#transport?.socket
    if (socket === undefined) return
    if (this.#readEnded) closeBehind(socket, this.#site.wheel)
    else socket.end()
  }

  pause(): void {
    if (this.#closed || this.#paused) return
    this.#paused = true
    this.#site.paused()
    this.#transport?.socket.pause()
  }

  resume(): void {
    if (this.#closed || !this.#paused) return
    this.#paused = false
    this.#site.resumed()
    this.#transport?.socket.resume()
  }

  reset(): void {
    if (this.#closed) return
    this.#finish(false)
    if (this.#transport !== undefined) resetTransport(this.#transport)
    else this.abandonOpening()
  }

  /** As `reset`, and its owner hears of it. */
  abort(): void {
    if (this.#closed) return
    const why = this.#why ?? (this.#connected ? FAILURES.upstreamClosed : FAILURES.connectFailed)
    this.reset()
    this.#events.onClosed(why, this.failure)
  }

  #onEnd(): void {
    if (this.#closed || this.#readEnded) return
    this.#readEnded = true
    this.#events.onEnd()
    const socket = this.#transport?.socket
    if (this.#writeEnded && !this.#closed && socket !== undefined) closeBehind(socket, this.#site.wheel)
  }

  protected override gone(): void {
    if (this.#closed) return
    const clean = this.#readEnded && this.#writeEnded && this.#why === undefined
    const why = this.#why ?? (this.#connected ? FAILURES.upstreamClosed : FAILURES.connectFailed)
    this.#finish(!this.#connected)
    this.#events.onClosed(clean ? undefined : why, this.failure)
  }

  #finish(refused: boolean): void {
    this.#closed = true
    this.#early = []
    this.#site.wheel.disarm(this)
    this.#site.closed(this.#connected, refused)
  }
}
