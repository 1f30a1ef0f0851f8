import type { Socket } from 'node:net'
import type { Attempt, RoutingPriority, UpstreamEvents, UpstreamStream } from '../../core/attempt.ts'
import { FAILURES } from '../../core/failure.ts'
import type { TimerWheel } from '../../core/timer-wheel.ts'
import type { Http2Stats } from '../../http2/contract.ts'
import { type ConnectionAccount, HostAccounts, type Room } from '../accounts.ts'
import type { Approach } from '../client-connection.ts'
import type { ClusterConfig } from '../config.ts'
import type { Connector, Transport } from '../connect.ts'
import type { Host, HostPool } from '../host.ts'
import type { PoolParts, PoolSite } from '../pool.ts'
import type { ClusterStats } from '../stats.ts'
import { WaitingLine } from '../waiting-line.ts'
import { Http2ClientConnection } from './connection.ts'
import { Http2ClientStream } from './stream.ts'

/** Connections begun for the same waiting requests at a time, as in Envoy. */
const MAX_AT_ONCE = 3
/** Share of a connection's streams from which on the next connection is opened ahead of need. */
const NEARLY_FULL = 0.8

/**
 * HTTP/2 connections of one host: streams go to the least loaded one; another connection is opened when the streams of all
 * are nearly used up. What finds no room waits in line. Limits of the peer hold as soon as they are known; until then
 * those of its latest connection are taken for its own.
 */
export class Http2Pool implements HostPool {
  readonly host: Host
  readonly config: ClusterConfig
  readonly stats: ClusterStats
  readonly http2Stats: Http2Stats
  readonly wheel: TimerWheel
  readonly random: () => number
  readonly secure: boolean
  /** Only ALPN says that the peer speaks HTTP/2; otherwise it is known beforehand. */
  readonly wantsAlpn: boolean
  readonly #site: Http2PoolSite
  readonly #parts: PoolParts
  readonly #approach: Approach
  readonly #accounts: HostAccounts
  readonly #all = new Set<Http2ClientConnection>()
  /** Connected and taking streams. */
  readonly #ready: Http2ClientConnection[] = []
  readonly #line: WaitingLine<Http2ClientStream>
  #connecting = 0
  #peerStreams: number | undefined = undefined
  #closing = false
  #destroyed = false

  constructor(site: Http2PoolSite, parts: PoolParts, connector: Connector) {
    this.host = site.host
    this.config = parts.config
    this.stats = parts.stats
    this.http2Stats = parts.http2Stats
    this.wheel = parts.wheel
    this.random = parts.random
    this.secure = site.connectors.tls !== undefined
    this.wantsAlpn = site.otherProtocol !== undefined
    this.#site = site
    this.#parts = parts
    this.#approach = { connector, wish: site.wish, timeoutMs: parts.config.connectTimeoutMs }
    this.#accounts = new HostAccounts(site.host, parts)
    this.#accounts.whenRoom = () => {
      if (this.#line.length > 0) this.#openForPending()
    }
    this.#line = new WaitingLine(this.#accounts, parts.stats.rqPendingFailureEject)
  }

  /** True where it has no connection, not even one in the making. */
  get empty(): boolean {
    return this.#all.size === 0
  }

  /** Streams that a connection is taken to permit before its SETTINGS have come. */
  get assumedStreams(): number {
    return this.#peerStreams ?? this.config.http2.maxConcurrentStreams
  }

  open(attempt: Attempt, events: UpstreamEvents): UpstreamStream | undefined {
    const stream = new Http2ClientStream(attempt, events, this)
    const connection = this.#choose(stream)
    if (connection === undefined) this.#wait(stream)
    else this.#start(stream, connection)
    return stream.done ? undefined : stream
  }

  /** The least loaded connection that has room. */
  #choose(stream: Http2ClientStream): Http2ClientConnection | undefined {
    const ready = this.#ready
    const settled = stream.needsSettings
    let best: Http2ClientConnection | undefined
    let load = Number.POSITIVE_INFINITY
    for (let i = 0; i < ready.length; i++) {
      const connection = ready[i]
      if (connection.room <= 0 || (settled && !connection.settled)) continue
      const streams = connection.openStreams
      if (streams < load) {
        best = connection
        load = streams
      }
    }
    return best
  }

  #start(stream: Http2ClientStream, connection: Http2ClientConnection): void {
    const { priority } = stream.attempt
    if (!this.#accounts.tryRequest(priority)) {
      stream.fail(FAILURES.overflow)
      return
    }
    stream.counted = true
    if (stream.attach(connection)) {
      this.#openAhead(connection, priority)
      return
    }
    // Its ids are used up, or it is about to say that it has failed.
    stream.counted = false
    this.#accounts.requestEnded(priority)
    connection.drain()
    this.#wait(stream)
  }

  #wait(stream: Http2ClientStream): void {
    if (this.#shedsConnection() || !this.#accounts.tryWait(stream.attempt.priority)) {
      stream.fail(FAILURES.overflow)
      return
    }
    this.#line.add(stream)
    this.#openForPending()
  }

  /** A request needs another connection, and there is to be none. */
  #shedsConnection(): boolean {
    const { shedConnect } = this.#parts
    if (shedConnect === undefined || shedConnect.scale === 0) return false
    return this.#connecting * this.#perConnection <= this.#line.length && shedConnect.sheds()
  }

  // --- opening connections ------------------------------------------------------------------------------------------

  /** Envoy's rule: as many connections as the waiting requests need beyond the streams that are free or to come. */
  #openForPending(): void {
    let expected = this.#connecting * this.#perConnection
    for (const connection of this.#ready) expected += Math.max(0, connection.capacity - connection.openStreams)
    for (let i = 0; i < MAX_AT_ONCE && this.#line.length > expected; i++) {
      const limit = this.#admit(this.#line.high > expected)
      if (limit === undefined) return
      this.#connect(limit)
      expected += this.#perConnection
    }
  }

  /** `high`: requests of high priority need it. Those of the other one get nothing out of their limits. */
  #admit(high: boolean): Room | undefined {
    const first = this.#all.size === 0
    const limit = high ? this.#accounts.admit('high', first) : undefined
    if (limit !== undefined || this.#line.high === this.#line.length) return limit
    return this.#accounts.admit('default', first)
  }

  get #perConnection(): number {
    return Math.max(1, Math.min(this.assumedStreams, this.config.maxRequestsPerConnection ?? this.assumedStreams))
  }

  /** `connection` is the least loaded: where it is nearly full all are, and the next request finds a connection open. */
  #openAhead(connection: Http2ClientConnection, priority: RoutingPriority): void {
    if (this.#connecting > 0 || this.#closing) return
    const { capacity, openStreams } = connection
    const nearlyFull = openStreams >= capacity * NEARLY_FULL && openStreams < capacity
    if (!nearlyFull && !this.#preconnects()) return
    if (this.#parts.shedConnect?.sheds() === true) return
    const limit = this.#accounts.admitAhead(priority)
    if (limit !== undefined) this.#connect(limit)
  }

  /** A connection takes many requests: the first is what there is to open ahead. */
  preconnect(_ratio: number): boolean {
    if (this.#all.size > 0 || this.#closing || this.#parts.shedConnect?.sheds() === true) return false
    const room = this.#accounts.admitAhead('default')
    if (room !== undefined) this.#connect(room)
    return room !== undefined
  }

  /** Envoy's `per_upstream_preconnect_ratio`: room is kept for that many times the streams there are. */
  #preconnects(): boolean {
    const ratio = this.config.preconnectRatio
    if (ratio <= 1) return false
    let streams = 0
    let capacity = 0
    for (const connection of this.#ready) {
      streams += connection.openStreams
      capacity += connection.capacity
    }
    return streams * ratio > capacity
  }

  #connect(room: Room): void {
    this.#add(this.#accounts.opened(room)).connect(this.#approach)
  }

  #add(account: ConnectionAccount): Http2ClientConnection {
    this.stats.cxHttp2Total.v++
    this.#connecting++
    const connection = new Http2ClientConnection(this, account, this.#parts.nextConnectionId())
    this.#all.add(connection)
    return connection
  }

  /** Takes over a connection that is ready, with its books. */
  adopt(transport: Transport, account: ConnectionAccount): void {
    this.#add(account).opened(transport)
  }

  // --- from connections ---------------------------------------------------------------------------------------------

  connected(connection: Http2ClientConnection, socket: Socket): void {
    this.#connecting--
    this.#accounts.connected(connection.account, socket)
    this.#ready.push(connection)
    this.#serve()
  }

  settingsChanged(connection: Http2ClientConnection): void {
    this.#peerStreams = connection.maxStreams
    this.#serve()
  }

  /** A stream has ended: there may be room. */
  freed(): void {
    if (this.#line.length > 0) this.#serve()
  }

  /** Gives what waits to the connections that have room, oldest first; opens more where that is not enough. */
  #serve(): void {
    for (let i = 0; i < this.#line.length; ) {
      const stream = this.#line.at(i)
      const connection = this.#choose(stream)
      if (connection !== undefined) {
        this.#line.take(i)
        this.#start(stream, connection)
      } else if (stream.needsSettings) i++
      else break
    }
    if (this.#line.length > 0) this.#openForPending()
    else if (this.#closing) this.#drainAll()
  }

  #drainAll(): void {
    for (const connection of [...this.#ready]) connection.drain()
  }

  /** It takes no new streams. */
  retired(connection: Http2ClientConnection): void {
    const at = this.#ready.indexOf(connection)
    if (at < 0) return
    this.#ready.splice(at, 1)
    if (this.#line.length > 0) this.#openForPending()
  }

  /**
   * The peer has chosen something else by ALPN, or demands HTTP/1: whoever waits begins anew. False: this pool's protocol
   * is the only one that it may be spoken to in.
   */
  otherProtocol(demanded: 'HTTP/1.1' | undefined): boolean {
    const tell = this.#site.otherProtocol
    if (tell === undefined) return false
    tell(demanded)
    this.#line.failAll(FAILURES.upstreamUnsent, 'the peer speaks another protocol')
    return true
  }

  closed(connection: Http2ClientConnection, busy: boolean): void {
    if (!this.#all.delete(connection)) return
    if (!connection.connected) {
      this.#connecting--
      this.#accounts.connectFailed(connection.account, connection.refused)
      this.#line.connectFailed(connection.failure)
    } else {
      this.#accounts.closed(connection.account, busy)
      this.retired(connection)
    }
    if (this.#destroyed) this.#line.failAll(FAILURES.connectFailed, undefined)
    else if (this.#line.length > 0) this.#openForPending()
    if (this.#closing && this.#all.size === 0) this.#site.emptied()
  }

  // --- from streams -------------------------------------------------------------------------------------------------

  /** A stream that still waited was cancelled. */
  abandon(stream: Http2ClientStream): void {
    if (!this.#line.remove(stream)) return
    // A connection that was kept for it alone.
    if (this.#closing && this.#line.length === 0) this.#drainAll()
  }

  /** A stream that counted has ended, however it did. */
  released(stream: Http2ClientStream): void {
    this.#accounts.requestEnded(stream.attempt.priority)
  }

  // --- the end ------------------------------------------------------------------------------------------------------

  close(): void {
    if (this.#closing) return
    this.#closing = true
    this.#drainAll()
    if (this.#all.size === 0) this.#site.emptied()
  }

  destroy(): void {
    this.#destroyed = true
    this.close()
    for (const connection of [...this.#all]) connection.destroy()
  }
}

/**
 * `otherProtocol`: told when a connection turned out to speak something else (undefined: whatever it is) or the peer
 * demands HTTP/1; where it is set, ALPN has to say h2.
 */
export interface Http2PoolSite extends PoolSite {
  readonly otherProtocol?: (demanded: 'HTTP/1.1' | undefined) => void
}
