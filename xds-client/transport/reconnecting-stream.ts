import type { Cancel, Clock } from '../../lib/core/clock.ts'
import type { Log } from '../../lib/core/metrics.ts'
import type { TurnWork } from '../../lib/core/turn.ts'
import type { GrpcCall, GrpcHandlers } from '../../lib/grpc/call-contract.ts'
import type { GrpcClient } from '../../lib/grpc/client.ts'
import type { GrpcMethod } from '../../lib/grpc/method.ts'
import type { GrpcStatus } from '../../lib/grpc/status.ts'
import type { GrpcTargetConfig } from '../config.ts'
import type { DiscoveryResponse } from '../protocol/messages.ts'
import type { DiscoverySession, Outlet } from '../protocol/session.ts'
import type { DiscoveryRequest } from '../protocol/type-protocol.ts'
import { Backoff } from './backoff.ts'

export interface StreamParts {
  /** Of the source; for logs. */
  readonly name: string
  readonly targets: readonly GrpcTargetConfig[]
  readonly method: GrpcMethod<DiscoveryRequest, DiscoveryResponse>
  readonly session: DiscoverySession
  /** Called for each connection, so that credentials are read anew. May throw. */
  readonly grpcClient: (target: GrpcTargetConfig) => GrpcClient
  readonly clock: Clock
  readonly turn: { defer(work: TurnWork): void }
  readonly random: () => number
  readonly log: Log
  /** The first answer on a new stream, or the end of one. */
  onConnection(connected: boolean): void
}

/** The same failure again is told at most this often. */
const WARN_MS = 60_000
/** Of one turn of the loop, for responses. */
const TURN_MS = 2
/** Between looks whether the first target is back; twice as long after each that was in vain, up to the most. */
const PROBE_MS = 30_000
const LONGEST_PROBE_MS = 300_000

/**
 * Keeps one stream of discovery open for as long as anything is wanted.
 *
 * ```
 * stopped ──start──► open ──end, broken off──► waiting (jittered, doubling) ──► open …
 *                      │ first response: the waiting times begin anew
 * ```
 *
 * Of several targets the first is tried first. One that gives no answer is followed by the next; a stream that had answers is
 * followed by the first again. While another than the first serves, the first is knocked at every half a minute (then less
 * often), and taken as soon as a connection to it can be made (gRFC A71 in spirit: the configuration in use stays, as after
 * any other break).
 *
 * Each response is handled in a turn of the loop of its own: the rest waits in the stream, whose flow control holds the
 * server back.
 */
export class ReconnectingStream implements GrpcHandlers<DiscoveryResponse>, Outlet, TurnWork {
  readonly #parts: StreamParts
  readonly #backoffs: readonly Backoff[]
  #running = false
  #at = 0
  /** When this turn of the loop took its first response over, monotonic ms; undefined: it has had none. */
  #beganMs: number | undefined = undefined
  #call: GrpcCall<DiscoveryRequest> | undefined = undefined
  #timer: Cancel | undefined = undefined
  #probe: Probe | undefined = undefined
  #warnedMs = Number.NEGATIVE_INFINITY
  #failures = 0
  connected = false
  /** Epoch ms. */
  lastUpdateMs: number | undefined = undefined
  lastError: string | undefined = undefined

  constructor(parts: StreamParts) {
    this.#parts = parts
    this.#backoffs = parts.targets.map(({ backoff }) => new Backoff(backoff, parts.random))
  }

  start(): void {
    if (this.#running) return
    this.#running = true
    this.#open()
  }

  stop(): void {
    if (!this.#running) return
    this.#running = false
    this.#timer?.()
    this.#timer = undefined
    this.#stopProbe()
    const call = this.#call
    this.#call = undefined
    this.connected = false
    if (call === undefined) return
    this.#parts.session.disconnected()
    call.cancel()
  }

  get #target(): GrpcTargetConfig {
    return this.#parts.targets[this.#at]
  }

  #open(): void {
    this.#timer = undefined
    const { grpcClient, method, session } = this.#parts
    try {
      const { maxReceiveBytes } = this.#target
      this.#call = grpcClient(this.#target).stream(method, this, { maxReceiveBytes })
    } catch (error) {
      this.#failed(error instanceof Error ? error.message : String(error))
      return
    }
    session.connected(this)
  }

  // --- Outlet and handlers of the call ------------------------------------------------------------------------------

  send(request: DiscoveryRequest): boolean {
    return this.#call?.write(request) ?? true
  }

  onConnected(): void {
    this.connected = true
    this.#parts.session.established()
  }

  onDrain(): void {
    this.#parts.session.drained()
  }

  onMessage(response: DiscoveryResponse): void {
    const { session, clock, turn } = this.#parts
    const first = !session.answered
    this.connected = true
    this.lastUpdateMs = clock.wall()
    const beganMs = this.#beganMs ?? this.#beginTurn(turn)
    if (first) this.#answered()
    session.received(response)
    // What came together goes on together, as far as it is little; large responses have a turn each.
    if (clock.now() - beganMs >= TURN_MS) this.#call?.pause()
  }

  #beginTurn(turn: StreamParts['turn']): number {
    turn.defer(this)
    this.#beganMs = this.#parts.clock.now()
    return this.#beganMs
  }

  /** @internal */
  turnEnds(): void {
    this.#beganMs = undefined
    this.#call?.resume()
  }

  onEnd(status: GrpcStatus): void {
    this.#call = undefined
    const answered = this.#parts.session.answered
    this.#parts.session.disconnected()
    this.#failed(`${status.code}: ${status.message}`, answered)
  }

  // --- what follows -------------------------------------------------------------------------------------------------

  #answered(): void {
    const { name, log, onConnection } = this.#parts
    this.#backoffs[this.#at].reset()
    this.#failures = 0
    this.#warnedMs = Number.NEGATIVE_INFINITY
    this.lastError = undefined
    log.info('the control plane answers', { source: name, target: this.#target.cluster })
    if (this.#at > 0) this.#probeLater(PROBE_MS)
    onConnection(true)
  }

  #failed(why: string, answered = false): void {
    const { name, log, clock, targets, onConnection } = this.#parts
    const target = this.#target.cluster
    const delayMs = this.#backoffs[this.#at].next()
    this.connected = false
    this.lastError = why
    this.#stopProbe()
    this.#at = answered ? 0 : (this.#at + 1) % targets.length
    const fields = { source: name, target, why, againInMs: delayMs }
    if (answered) log.info('the stream of the control plane has ended', fields)
    else {
      this.#failures++
      if (clock.now() - this.#warnedMs >= WARN_MS) {
        this.#warnedMs = clock.now()
        log.warn('the control plane cannot be reached', { ...fields, failures: this.#failures })
      }
    }
    this.#timer = clock.schedule(delayMs, () => this.#open())
    onConnection(false)
  }

  // --- back to the first target -------------------------------------------------------------------------------------

  #probeLater(delayMs: number): void {
    this.#probe = new Probe(this.#parts, delayMs, (reachable) => {
      this.#probe = undefined
      if (!reachable) this.#probeLater(Math.min(LONGEST_PROBE_MS, 2 * delayMs))
      else this.#return()
    })
  }

  #stopProbe(): void {
    this.#probe?.stop()
    this.#probe = undefined
  }

  #return(): void {
    const call = this.#call
    const { name, log, session, targets, onConnection } = this.#parts
    log.info('the first control plane is back', { source: name, target: targets[0].cluster })
    this.#call = undefined
    this.connected = false
    session.disconnected()
    call?.cancel()
    onConnection(false)
    this.#at = 0
    if (this.#running && this.#timer === undefined) this.#open()
  }
}

/** Waits, and then looks whether a connection to the first target can be made. Tells once, or never after `stop`. */
class Probe implements GrpcHandlers<DiscoveryResponse> {
  readonly #parts: StreamParts
  readonly #done: (reachable: boolean) => void
  readonly #cancel: Cancel
  #call: GrpcCall<DiscoveryRequest> | undefined = undefined

  constructor(parts: StreamParts, delayMs: number, done: (reachable: boolean) => void) {
    this.#parts = parts
    this.#done = done
    this.#cancel = parts.clock.schedule(delayMs, () => this.#knock())
  }

  stop(): void {
    this.#cancel()
    this.#call?.cancel()
  }

  #knock(): void {
    const { grpcClient, targets, method } = this.#parts
    try {
      this.#call = grpcClient(targets[0]).stream(method, this)
    } catch {
      this.#done(false)
    }
  }

  onConnected(): void {
    this.#call?.cancel()
    this.#done(true)
  }

  onMessage(): void {}

  onEnd(): void {
    this.#done(false)
  }
}
