import type { Socket } from 'node:net'
import type { Attempt, RoutingPriority, UpstreamEvents, UpstreamStream } from '../../core/attempt.ts'
import { FAILURES } from '../../core/failure.ts'
import type { TimerWheel } from '../../core/timer-wheel.ts'
import { type ConnectionAccount, HostAccounts, type Room } from '../accounts.ts'
import type { Approach } from '../client-connection.ts'
import type { ClusterConfig } from '../config.ts'
import type { Connector, Transport } from '../connect.ts'
import type { Host, HostPool } from '../host.ts'
import type { PoolParts, PoolSite } from '../pool.ts'
import type { ClusterStats } from '../stats.ts'
import { WaitingLine } from '../waiting-line.ts'
import { Http1ClientConnection } from './connection.ts'
import { Http1ClientStream } from './stream.ts'

/** Connections opened ahead of need with one request (as Envoy). */
const MAX_AHEAD = 3

/**
 * Keep-alive connections of one host (Envoy's HTTP/1 connection pool): idle ones are reused last in, first out; a
 * request that finds none opens one within the limits, or waits in line.
 */
export class Http1Pool implements HostPool {
  readonly host: Host
  readonly config: ClusterConfig
  readonly stats: ClusterStats
  readonly wheel: TimerWheel
  readonly #site: PoolSite
  readonly #parts: PoolParts
  readonly #approach: Approach
  readonly #accounts: HostAccounts
  readonly #idle: Http1ClientConnection[] = []
  readonly #all = new Map<Http1ClientConnection, ConnectionAccount>()
  readonly #line: WaitingLine<Http1ClientStream>
  #connecting = 0
  #closing = false
  #destroyed = false

  constructor(site: PoolSite, parts: PoolParts, connector: Connector) {
    this.host = site.host
    this.config = parts.config
    this.stats = parts.stats
    this.wheel = parts.wheel
    this.#site = site
    this.#parts = parts
    this.#approach = { connector, wish: site.wish, timeoutMs: parts.config.connectTimeoutMs }
    this.#accounts = new HostAccounts(site.host, parts)
    this.#accounts.whenRoom = () => {
      // As much as there is room for: who waits may wait for long on the connections that are there.
      while (this.#line.length > this.#connecting && this.#connectForPending());
    }
    this.#line = new WaitingLine(this.#accounts, parts.stats.rqPendingFailureEject)
  }

  /** True where it has no connection, not even one in the making. */
  get empty(): boolean {
    return this.#all.size === 0
  }

  open(attempt: Attempt, events: UpstreamEvents): UpstreamStream | undefined {
    const { priority } = attempt
    const idle = this.#takeIdle()
    if (idle === undefined && (this.#shedsConnection() || !this.#accounts.tryWait(priority))) {
      events.onReset(FAILURES.overflow)
      return undefined
    }
    if (!this.#accounts.tryRequest(priority)) {
      if (idle !== undefined) this.#idle.push(idle)
      else this.#accounts.waited(priority)
      events.onReset(FAILURES.overflow)
      return undefined
    }
    const stream = new Http1ClientStream(attempt, events, this)
    if (idle !== undefined) stream.attach(idle)
    else this.#wait(stream)
    const { preconnectRatio } = this.config
    if (preconnectRatio > 1) for (let i = 0; i < MAX_AHEAD && this.#connectAhead(preconnectRatio, 0); i++);
    return stream
  }

  preconnect(ratio: number): boolean {
    return this.#connectAhead(ratio, 1)
  }

  /** Envoy's rule: for requests under way and waiting, and so many more, there are to be `ratio` times the connections. */
  #connectAhead(ratio: number, more: number): boolean {
    const busy = this.#all.size - this.#idle.length - this.#connecting
    if (this.#closing || (this.#line.length + busy + more) * ratio <= this.#all.size) return false
    if (this.#parts.shedConnect?.sheds() === true) return false
    const room = this.#accounts.admitAhead('default')
    if (room !== undefined) this.#connect(room)
    return room !== undefined
  }

  /** A request needs another connection, and there is to be none. */
  #shedsConnection(): boolean {
    const { shedConnect } = this.#parts
    return shedConnect !== undefined && this.#connecting <= this.#line.length && shedConnect.sheds()
  }

  #takeIdle(): Http1ClientConnection | undefined {
    let idle = this.#idle.pop()
    // Destroyed a moment ago (a FIN, the idle timeout): its 'close' is still to come and would fail the request.
    while (idle?.dead) idle = this.#idle.pop()
    return idle
  }

  #wait(stream: Http1ClientStream): void {
    this.#line.add(stream)
    // A connection in the making serves one waiting request; more are opened only for those beyond.
    if (this.#connecting < this.#line.length) this.#connectFor(stream.attempt.priority)
  }

  #connectFor(priority: RoutingPriority): boolean {
    const room = this.#accounts.admit(priority, this.#all.size === 0)
    if (room !== undefined) this.#connect(room)
    return room !== undefined
  }

  #connectForPending(): boolean {
    if (this.#line.high > this.#connecting && this.#connectFor('high')) return true
    return this.#line.high < this.#line.length && this.#connectFor('default')
  }

  #connect(room: Room): void {
    this.#add(this.#accounts.opened(room)).connect(this.#approach)
  }

  #add(account: ConnectionAccount): Http1ClientConnection {
    this.stats.cxHttp1Total.v++
    this.#connecting++
    const connection = new Http1ClientConnection(this, this.#parts.nextConnectionId())
    this.#all.set(connection, account)
    return connection
  }

  /** Takes over a connection that is ready, with its books. */
  adopt(transport: Transport, account: ConnectionAccount): void {
    this.#add(account).opened(transport)
  }

  connected(connection: Http1ClientConnection, socket: Socket): void {
    this.#connecting--
    const account = this.#all.get(connection)
    if (account !== undefined) this.#accounts.connected(account, socket)
    this.idle(connection)
  }

  /** A connection is free: it serves the request that waits longest, or rests. */
  idle(connection: Http1ClientConnection): void {
    const stream = this.#line.take(0)
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
    if (!connection.armed && this.config.idleTimeoutMs > 0) this.wheel.arm(connection, this.config.idleTimeoutMs)
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
    const account = this.#all.get(connection)
    if (account === undefined) return
    this.#all.delete(connection)
    if (connection.connected) this.#accounts.closed(account, connection.busy)
    const at = this.#idle.indexOf(connection)
    if (at >= 0) this.#idle.splice(at, 1)
    if (!connection.connected) {
      this.#connecting--
      this.#accounts.connectFailed(account, connection.refused)
      this.#line.connectFailed(failure)
    } else if (this.#destroyed) this.#line.failAll(FAILURES.connectFailed, undefined)
    else if (this.#line.length > this.#connecting) this.#connectForPending()
    if (this.#closing && this.#all.size === 0) this.#site.emptied()
  }

  /** A stream that still waited was cancelled. */
  abandon(stream: Http1ClientStream): void {
    this.#line.remove(stream)
  }

  /** A stream has ended, however it did. */
  released(stream: Http1ClientStream): void {
    this.#accounts.requestEnded(stream.attempt.priority)
  }

  close(): void {
    if (this.#closing) return
    this.#closing = true
    for (const connection of this.#idle.splice(0)) connection.destroy()
    if (this.#all.size === 0) this.#site.emptied()
  }

  /** Ends busy connections too, and whoever waits for one: the gateway closes. */
  destroy(): void {
    this.#destroyed = true
    this.close()
    for (const connection of [...this.#all.keys()]) connection.destroy()
  }
}
