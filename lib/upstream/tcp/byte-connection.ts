import type { Socket } from 'node:net'
import { formatHostPort } from '../../core/address.ts'
import type { ByteEvents, ByteStream, UpstreamInfo } from '../../core/attempt.ts'
import { FAILURES, type Failure } from '../../core/failure.ts'
import { Timed, type TimerWheel } from '../../core/timer-wheel.ts'
import { describeFailure, type ReadyEvent, resetTransport, type Transport } from '../connect.ts'
import { closeBehind } from '../farewell.ts'
import type { Host } from '../host.ts'

/** What a raw connection needs of its cluster. */
export interface ByteConnectionSite {
  readonly host: Host
  readonly wheel: TimerWheel
  readonly connectionId: number
  readonly ready: ReadyEvent
  readonly connectTimeoutMs: number
  connected(): void
  timedOut(): void
  /** Exactly once. */
  closed(wasConnected: boolean): void
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
export class ByteConnection extends Timed implements ByteStream, UpstreamInfo {
  readonly protocol = 'HTTP/1.1'
  readonly connectionId: number
  readonly reused = false
  localAddress = ''
  readonly #transport: Transport
  readonly #socket: Socket
  readonly #events: ByteEvents
  readonly #site: ByteConnectionSite
  #connected = false
  #closed = false
  #readEnded = false
  #writeEnded = false
  #failure: Failure | undefined = undefined
  #detail: string | undefined = undefined

  constructor(transport: Transport, events: ByteEvents, site: ByteConnectionSite) {
    super()
    const { socket } = transport
    this.#transport = transport
    this.#socket = socket
    this.#events = events
    this.#site = site
    this.connectionId = site.connectionId
    if (site.connectTimeoutMs > 0) site.wheel.arm(this, site.connectTimeoutMs)
    socket.once(site.ready, () => this.#established())
    socket.on('data', (chunk: Buffer) => {
      if (!this.#closed && !events.onData(chunk)) socket.pause()
    })
    socket.on('drain', () => {
      if (!this.#closed) events.onDrain()
    })
    socket.on('end', () => this.#onEnd())
    socket.on('error', (error: NodeJS.ErrnoException) => this.#onError(error))
    socket.on('close', () => this.#onClose())
  }

  #established(): void {
    if (this.#closed) return
    this.#connected = true
    this.#site.wheel.disarm(this)
    const { localAddress, localPort } = this.#transport.raw
    this.localAddress = localAddress === undefined ? '' : formatHostPort(localAddress, localPort ?? 0)
    this.#site.connected()
    this.#events.onConnected(this)
  }

  override onDue(): void {
    this.#site.timedOut()
    this.#failure = FAILURES.connectTimeout
    this.abort()
  }

  write(chunk: Buffer): boolean {
    return this.#closed || this.#socket.write(chunk)
  }

  end(): void {
    if (this.#closed || this.#writeEnded) return
    this.#writeEnded = true
    if (this.#readEnded) closeBehind(this.#socket, this.#site.wheel)
    else this.#socket.end()
  }

  pause(): void {
    this.#socket.pause()
  }

  resume(): void {
    if (!this.#closed) this.#socket.resume()
  }

  reset(): void {
    if (this.#closed) return
    this.#finish()
    resetTransport(this.#transport, this.#site.host)
  }

  /** As `reset`, and its owner hears of it. */
  abort(): void {
    if (this.#closed) return
    const why = this.#failure ?? (this.#connected ? FAILURES.upstreamClosed : FAILURES.connectFailed)
    this.reset()
    this.#events.onClosed(why, this.#detail)
  }

  #onEnd(): void {
    if (this.#closed || this.#readEnded) return
    this.#readEnded = true
    this.#events.onEnd()
    if (this.#writeEnded && !this.#closed) closeBehind(this.#socket, this.#site.wheel)
  }

  #onError(error: NodeJS.ErrnoException): void {
    this.#failure ??= this.#connected ? FAILURES.upstreamClosed : FAILURES.connectFailed
    this.#detail ??= describeFailure(error)
  }

  #onClose(): void {
    if (this.#closed) return
    const clean = this.#readEnded && this.#writeEnded && this.#failure === undefined
    const why = this.#failure ?? (this.#connected ? FAILURES.upstreamClosed : FAILURES.connectFailed)
    this.#finish()
    this.#events.onClosed(clean ? undefined : why, this.#detail)
  }

  #finish(): void {
    this.#closed = true
    this.#site.wheel.disarm(this)
    this.#site.closed(this.#connected)
  }
}
