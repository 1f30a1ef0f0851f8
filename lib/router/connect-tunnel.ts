import type { TerminalStream } from '../chain/filter.ts'
import type { ByteEvents, ByteStream, UpstreamHost, UpstreamInfo } from '../core/attempt.ts'
import { FAILURES, type Failure } from '../core/failure.ts'
import { Headers } from '../core/headers.ts'
import type { ArrivalFacts } from '../core/internal-listeners.ts'
import type { TimerWheel } from '../core/timer-wheel.ts'
import type { ForwardingStart } from './attempt.ts'
import { type DeadlineOwner, Deadlines, requestTimeoutMs } from './deadlines.ts'
import { arrivalOf, parseTarget } from './hbone-targets.ts'
import { RequestPick } from './pick.ts'
import type { ConnectAction } from './route.ts'

/** Whether a request of this method ends here and goes on as bytes (Envoy's `connect_config`). */
export function endsConnect(connect: ConnectAction, method: string, protocol: string | undefined): boolean {
  return (method === 'CONNECT' && protocol === undefined) || (connect.allowPost && method === 'POST')
}

/**
 * One CONNECT that ends here: what follows it goes to a host of the cluster as the bytes of a connection of its own, and
 * the answer is 200 once that connection is there. A POST in CONNECT's place (`allow_post`) is the same but for its
 * framing: its body is one direction, the response's the other.
 *
 * ```
 * CONNECTING ── connected ─▶ 200, OPEN ── both directions ended ─▶ done
 *     └── error, timeout ─▶ 503, 504     └── reset ─▶ broken off
 * ```
 */
export class ConnectTunnel extends RequestPick implements TerminalStream, DeadlineOwner, ByteEvents {
  readonly wheel: TimerWheel
  readonly #start: ForwardingStart
  readonly #connect: ConnectAction
  readonly #post: boolean
  #stream: ByteStream | undefined = undefined
  #host: UpstreamHost | undefined = undefined
  #deadlines: Deadlines | undefined = undefined
  #startedMs = 0
  #open = false
  #clientEnded = false
  #upstreamEnded = false
  #done = false

  constructor(start: ForwardingStart, connect: ConnectAction) {
    super(start)
    this.wheel = start.router.scope.wheel
    this.#start = start
    this.#connect = connect
    this.#post = start.exchange.head.method === 'POST'
  }

  /** Begins to connect. Undefined where the exchange has been answered within. */
  begin(end: boolean): TerminalStream | undefined {
    const { exchange, action, cluster } = this.#start
    this.#startedMs = this.wheel.now()
    this.#deadlines = new Deadlines(this, requestTimeoutMs(exchange, action), cluster.maxStreamDurationMs ?? 0)
    // It is the connection that the client waits for, not an answer to what it has yet to send.
    this.#deadlines.requestComplete()
    exchange.info.attempts++
    const host = cluster.pick(this)
    if ('code' in host) {
      this.#fail(host)
      return undefined
    }
    this.#host = host
    exchange.info.upstreamHost = host.addressText
    exchange.info.upstreamHostName = host.hostname
    const arrival = this.#arrival()
    const attempt = { priority: action.priority, downstream: exchange.connection, ...(arrival && { arrival }) }
    const stream = cluster.connect(host, attempt, this)
    if (stream === undefined || this.#done) return undefined
    this.#stream = stream
    const header = this.#connect.header?.(exchange.connection)
    if (header !== undefined) stream.write(header)
    // A tunnel's request has no body of its own; a POST without one has already said everything.
    if (this.#post && end) this.#clientEnds()
    return this
  }

  protected get retrying(): undefined {
    return undefined
  }

  /** What an internal listener is told: the target, and of an HBONE server all that is known of the tunnel. */
  #arrival(): ArrivalFacts | undefined {
    const { exchange } = this.#start
    const target = parseTarget(exchange.head.authority)
    if (target === undefined) return undefined
    if (this.#connect.targets !== undefined) return arrivalOf(exchange, target)
    return target.ip ? { destination: { address: target.host, port: target.port } } : undefined
  }

  // --- request ------------------------------------------------------------------------------------------------------

  write(chunk: Buffer, end: boolean): boolean {
    const { info } = this.#start.exchange
    info.upstreamBytesSent += chunk.length
    const more = chunk.length === 0 || (this.#stream?.write(chunk) ?? true)
    if (end) this.#clientEnds()
    return more
  }

  /** A tunnel carries bytes, no fields: they end it. */
  trailers(): void {
    this.#clientEnds()
  }

  #clientEnds(): void {
    if (this.#clientEnded || this.#done) return
    this.#clientEnded = true
    this.#start.exchange.info.upstreamLastSentMs = this.wheel.now()
    this.#stream?.end()
    this.#ended()
  }

  pause(): void {
    this.#stream?.pause()
  }

  resume(): void {
    this.#stream?.resume()
  }

  cancel(why: Failure | undefined): void {
    if (this.#done) return
    if (why?.source === 'downstream') this.#start.cluster.counters.cancelled.v++
    this.#finish()
    this.#stream?.reset()
  }

  // --- response -----------------------------------------------------------------------------------------------------

  onConnected(info: UpstreamInfo): void {
    if (this.#done) return
    const { exchange, route } = this.#start
    this.#open = true
    this.#deadlines?.close()
    const stream = exchange.info
    stream.connectedTo(info)
    stream.upstreamFirstSentMs = this.#startedMs
    const headers = new Headers()
    this.addCookies(headers)
    exchange.upstreamAnswers(200, headers)
    route.responseHeaderEdits?.(headers, exchange)
    if (this.#post) exchange.upstreamHeaders(200, headers, false)
    else exchange.upstreamUpgraded(200, headers)
  }

  onData(chunk: Buffer): boolean {
    if (this.#done) return true
    const { exchange } = this.#start
    if (exchange.info.upstreamFirstReceivedMs === 0) exchange.info.upstreamFirstReceivedMs = this.wheel.now()
    exchange.info.upstreamBytesReceived += chunk.length
    return exchange.upstreamData(chunk, false)
  }

  onEnd(): void {
    if (this.#done) return
    this.#upstreamEnded = true
    const { exchange } = this.#start
    exchange.info.upstreamLastReceivedMs = this.wheel.now()
    const clientEnded = this.#clientEnded
    this.#ended()
    // The response of a POST is complete with this, and nobody reads the rest of its body.
    if (this.#post && !clientEnded) this.#complete()
    exchange.upstreamData(NO_BYTES, true)
    if (this.#post && !clientEnded) this.#stream?.reset()
  }

  onDrain(): void {
    if (!this.#done) this.#start.exchange.drained()
  }

  onClosed(why: Failure | undefined, detail?: string): void {
    if (this.#done) return
    this.#fail(why ?? FAILURES.upstreamClosed, detail)
  }

  // --- endings ------------------------------------------------------------------------------------------------------

  #ended(): void {
    if (this.#clientEnded && this.#upstreamEnded) this.#complete()
  }

  #complete(): void {
    if (this.#done) return
    this.#finish()
    if (this.#host !== undefined) this.#host.rqSuccess++
    this.#completed(200)
  }

  #fail(why: Failure, detail?: string): void {
    if (this.#host !== undefined) this.#host.rqError++
    this.#completed(this.#open ? 200 : why.status)
    this.#finish()
    this.#start.exchange.upstreamFailed(why, detail)
  }

  #completed(status: number): void {
    const { cluster, exchange } = this.#start
    cluster.completed(status, this.wheel.now() - this.#startedMs, exchange.info.internal)
  }

  #finish(): void {
    this.#done = true
    this.#deadlines?.close()
  }

  deadlinePassed(which: 'request' | 'stream'): void {
    if (this.#done) return
    if (which === 'request') {
      this.#start.cluster.counters.timeout.v++
      if (this.#host !== undefined) this.#host.rqTimeout++
    }
    const stream = this.#stream
    this.#fail(which === 'request' ? FAILURES.upstreamTimeout : FAILURES.upstreamMaxDuration)
    stream?.reset()
  }
}

const NO_BYTES: Buffer = Buffer.alloc(0)
