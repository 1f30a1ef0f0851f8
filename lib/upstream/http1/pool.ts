import type { Socket } from 'node:net'
import type { Attempt, UpstreamEvents, UpstreamStream } from '../../core/attempt.ts'
import { FAILURES, type Failure } from '../../core/failure.ts'
import type { TimerWheel } from '../../core/timer-wheel.ts'
import type { BreakerLimit, CircuitBreakers } from '../breaker.ts'
import type { ClusterConfig } from '../config.ts'
import type { Host, HostPool } from '../host.ts'
import type { ClusterStats } from '../stats.ts'
import { Http1ClientConnection } from './connection.ts'
import { Http1ClientStream } from './stream.ts'

/** What a pool takes from its cluster. */
export interface PoolParts {
  readonly config: ClusterConfig
  readonly stats: ClusterStats
  readonly breakers: CircuitBreakers
  readonly wheel: TimerWheel
  /** The pool is closing and its last connection has gone. Called once. */
  readonly emptied: (pool: Http1Pool) => void
  /** Begins to connect; errors arrive as events of the socket. */
  readonly connect: (host: Host) => Socket
  readonly nextConnectionId: () => number
}

/**
 * Keep-alive connections of one host (Envoy's HTTP/1 connection pool): idle ones are reused last in, first out; a
 * request that finds none opens one within the limits, or waits in line.
 */
export class Http1Pool implements HostPool {
  readonly host: Host
  readonly config: ClusterConfig
  readonly stats: ClusterStats
  readonly wheel: TimerWheel
  readonly #parts: PoolParts
  readonly #idle: Http1ClientConnection[] = []
  readonly #all = new Set<Http1ClientConnection>()
  #pending: Http1ClientStream[] = []
  #connecting = 0
  #closing = false
  #destroyed = false

  constructor(host: Host, parts: PoolParts) {
    this.host = host
    this.config = parts.config
    this.stats = parts.stats
    this.wheel = parts.wheel
    this.#parts = parts
  }

  /** Starts one attempt; over a limit it fails at once with `overflow`. */
  open(attempt: Attempt, events: UpstreamEvents): UpstreamStream | undefined {
    const { stats, host } = this
    const breakers = this.#parts.breakers.of(attempt.priority)
    const idle = this.#takeIdle()
    if (idle === undefined && !breakers.pendingRequests.tryAcquire()) {
      events.onReset(FAILURES.overflow)
      return undefined
    }
    if (!breakers.requests.tryAcquire()) {
      if (idle !== undefined) this.#idle.push(idle)
      else breakers.pendingRequests.release()
      events.onReset(FAILURES.overflow)
      return undefined
    }
    stats.rqTotal.v++
    stats.rqActive.v++
    host.rqActive++
    host.rqTotal++
    const stream = new Http1ClientStream(attempt, events, this)
    if (idle !== undefined) stream.attach(idle)
    else this.#wait(stream, breakers.connections)
    return stream
  }

  #takeIdle(): Http1ClientConnection | undefined {
    let idle = this.#idle.pop()
    // Destroyed a moment ago (a FIN, the idle timeout): its 'close' is still to come and would fail the request.
    while (idle?.dead) idle = this.#idle.pop()
    return idle
  }

  #wait(stream: Http1ClientStream, limit: BreakerLimit): void {
    stream.pending = true
    this.stats.rqPendingTotal.v++
    this.stats.rqPendingActive.v++
    this.#pending.push(stream)
    // A connection in the making serves one waiting request; more are opened only for those beyond.
    if (this.#connecting >= this.#pending.length) return
    const perHost = this.config.maxConnectionsPerHost
    // Envoy lets a host without any connection always have its first.
    const first = this.#all.size === 0
    if (!first && perHost !== undefined && this.#all.size >= perHost) {
      this.stats.cxOverflow.v++
      return
    }
    if (first) limit.acquire()
    else if (!limit.tryAcquire()) return
    this.#connect(limit)
  }

  #connect(limit: BreakerLimit): void {
    const { stats, host } = this
    stats.cxTotal.v++
    stats.cxHttp1Total.v++
    stats.cxActive.v++
    host.cxTotal++
    host.cxActive++
    this.#connecting++
    const connection = new Http1ClientConnection(this.#parts.connect(host), this, this.#parts.nextConnectionId())
    this.#limits.set(connection, limit)
    this.#all.add(connection)
  }

  readonly #limits = new Map<Http1ClientConnection, BreakerLimit>()

  connected(connection: Http1ClientConnection): void {
    this.#connecting--
    this.stats.cxConnectMs.record(this.wheel.clock.now() - connection.openedMs)
    this.idle(connection)
  }

  /** A connection is free: it serves the request that waits longest, or rests. */
  idle(connection: Http1ClientConnection): void {
    const stream = this.#nextPending()
    if (stream !== undefined) {
      stream.attach(connection)
      return
    }
    if (this.#closing || this.#tooOld(connection)) {
      connection.destroy()
      return
    }
    connection.idleSinceMs = this.wheel.nowMs
    this.#idle.push(connection)
    // Armed once and looked at again when it fires: reuse costs no timer work.
    if (connection.after === undefined && this.config.idleTimeoutMs > 0)
      this.wheel.arm(connection, this.config.idleTimeoutMs)
  }

  #nextPending(): Http1ClientStream | undefined {
    const stream = this.#pending.shift()
    if (stream !== undefined) this.#left(stream)
    return stream
  }

  #left(stream: Http1ClientStream): void {
    stream.pending = false
    this.stats.rqPendingActive.v--
    this.#parts.breakers.of(stream.attempt.priority).pendingRequests.release()
  }

  #tooOld(connection: Http1ClientConnection): boolean {
    const max = this.config.maxConnectionDurationMs
    if (max === undefined || max === 0 || this.wheel.clock.now() < connection.openedMs + max) return false
    this.stats.cxMaxDurationReached.v++
    return true
  }

  checkIdle(connection: Http1ClientConnection, nowMs: number): void {
    const { idleTimeoutMs } = this.config
    if (!connection.busy && nowMs >= connection.idleSinceMs + idleTimeoutMs) {
      this.stats.cxIdleTimeout.v++
      connection.destroy()
      return
    }
    const due = connection.busy ? nowMs + idleTimeoutMs : connection.idleSinceMs + idleTimeoutMs
    this.wheel.armAt(connection, due)
  }

  connectTimedOut(_connection: Http1ClientConnection): void {
    this.stats.cxConnectTimeout.v++
  }

  closed(connection: Http1ClientConnection, failure: string | undefined): void {
    const { stats, host } = this
    if (!this.#all.delete(connection)) return
    this.#limits.get(connection)?.release()
    this.#limits.delete(connection)
    stats.cxActive.v--
    stats.cxDestroy.v++
    stats.cxLengthMs.record(this.wheel.clock.now() - connection.openedMs)
    host.cxActive--
    const at = this.#idle.indexOf(connection)
    if (at >= 0) this.#idle.splice(at, 1)
    if (connection.busy) stats.cxDestroyWithActiveRq.v++
    if (!connection.connected) this.#connectFailed(failure)
    else if (this.#destroyed) this.#failPending(FAILURES.connectFailed, undefined)
    else if (this.#pending.length > this.#connecting) this.#replace()
    if (this.#closing && this.#all.size === 0) this.#parts.emptied(this)
  }

  /** As Envoy: nobody waits on for a host that refuses connections. */
  #connectFailed(failure: string | undefined): void {
    this.#connecting--
    this.stats.cxConnectFail.v++
    this.host.cxConnectFail++
    const late = failure === 'connection timeout'
    // A timeout says all there is to say: the transport itself reported nothing.
    if (late) this.#failPending(FAILURES.connectTimeout, undefined)
    else this.#failPending(FAILURES.connectFailed, failure)
  }

  #failPending(why: Failure, detail: string | undefined): void {
    const waiting = this.#pending
    this.#pending = []
    for (const stream of waiting) this.#left(stream)
    for (const stream of waiting) stream.fail(why, detail)
  }

  /** A connection went away while requests wait for one. */
  #replace(): void {
    const stream = this.#pending[0]
    const limit = this.#parts.breakers.of(stream.attempt.priority).connections
    if (this.#all.size === 0) limit.acquire()
    else if (!limit.tryAcquire()) return
    this.#connect(limit)
  }

  /** A stream that still waited was cancelled. */
  abandon(stream: Http1ClientStream): void {
    const at = this.#pending.indexOf(stream)
    if (at < 0) return
    this.#pending.splice(at, 1)
    this.#left(stream)
  }

  /** A stream has ended, however it did. */
  released(stream: Http1ClientStream): void {
    this.stats.rqActive.v--
    this.host.rqActive--
    this.#parts.breakers.of(stream.attempt.priority).requests.release()
  }

  close(): void {
    if (this.#closing) return
    this.#closing = true
    for (const connection of this.#idle.splice(0)) connection.destroy()
    if (this.#all.size === 0) this.#parts.emptied(this)
  }

  /** Ends busy connections too, and whoever waits for one: the gateway closes. */
  destroy(): void {
    this.#destroyed = true
    this.close()
    for (const connection of [...this.#all]) connection.destroy()
  }
}
