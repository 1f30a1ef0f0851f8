import type { Socket } from 'node:net'
import type { ConnectionLogger } from '../lib/chain/network.ts'
import type { FilterChainConfig } from '../lib/config/listener.ts'
import type { ConnectionInfo, TlsInfo } from '../lib/core/connection.ts'
import type { Counter, Log } from '../lib/core/metrics.ts'
import type { TimerWheel } from '../lib/core/timer-wheel.ts'
import type { Http2Stats } from '../lib/http2/contract.ts'
import type { HeavyStream } from '../lib/runtime/overload/heavy-streams.ts'
import type { DownstreamTlsConfig } from '../lib/tls/config.ts'
import { NOT_READY_TEXT } from '../lib/tls/failure-text.ts'
import type { TlsStats } from '../lib/tls/stats.ts'
import type { ChainIdentity } from './chain-identity.ts'
import type { CompiledChain } from './compile.ts'
import type { AcceptedReads } from './detect/accepted-reads.ts'
import { OpeningConnection, type OpeningHost } from './detect/opening.ts'
import type { ConnectionManager } from './http/connection-manager.ts'
import type { HttpStats } from './http/stats.ts'
import { Http1ServerConnection } from './http1/connection.ts'
import type { ServerConnection } from './http1/host.ts'
import { Http2ServerConnection } from './http2/connection.ts'
import { NetworkChainConnection } from './network/connection.ts'
import type { NetworkHost } from './network/host.ts'
import { TlsAcceptor } from './tls/acceptor.ts'

/** What a filter chain needs of its listener. */
export interface ChainHost {
  readonly wheel: TimerWheel
  readonly http2Stats: Http2Stats
  readonly tlsStats: TlsStats
  readonly ticketSecret: Uint8Array | undefined
  readonly handshakeTimeouts: Counter
  readonly reads: AcceptedReads | undefined
  readonly log: Log
  /** The listener's access log; undefined where it has none. */
  readonly logger: ConnectionLogger | undefined
  readonly bufferLimitBytes: number
  /** The listener drains. */
  readonly draining: boolean
  /** The chain is about to use its TLS, which `releaseTls` takes from it again. */
  securing(chain: FilterChain): void
  /** One of the chain's connections is gone; `last`: it has none any more. */
  chainClosed(chain: FilterChain, connection: ServerConnection, last: boolean): void
}

/**
 * One filter chain at work, over any number of snapshots: its TLS, its connections, and what the current snapshot has
 * compiled for it. An update with the same transport and network filters is one assignment; any other makes a new chain
 * and drains this one.
 */
export class FilterChain implements OpeningHost, NetworkHost {
  readonly #host: ChainHost
  readonly #connections = new Set<ServerConnection>()
  #compiled: CompiledChain
  /** Made for the first connection: of ten thousand chains most have none for a long time. */
  #acceptor: TlsAcceptor | undefined = undefined
  #retired = false
  #told = false
  readonly #gone: (() => void)[] = []

  constructor(compiled: CompiledChain, host: ChainHost) {
    this.#host = host
    this.#compiled = compiled
  }

  #acceptorFor(tls: DownstreamTlsConfig): TlsAcceptor {
    this.#host.securing(this)
    if (this.#acceptor === undefined) {
      const { wheel, tlsStats: stats, ticketSecret, log } = this.#host
      this.#acceptor = new TlsAcceptor(tls, { wheel, stats, ticketSecret, log })
    }
    return this.#acceptor
  }

  /**
   * Its contexts are made anew when they are needed the next time. Handshakes in progress go on, and tickets stay good
   * where the gateway has a secret for them.
   */
  releaseTls(): void {
    this.#acceptor = undefined
  }

  get identity(): ChainIdentity {
    return this.#compiled.identity
  }

  /** The version that it works with. */
  get compiled(): CompiledChain {
    return this.#compiled
  }

  get config(): FilterChainConfig {
    return this.#compiled.config
  }

  get size(): number {
    return this.#connections.size
  }

  /** The connection manager of the current snapshot; only asked for by HTTP connections. */
  get manager(): ConnectionManager {
    return this.#compiled.manager as ConnectionManager
  }

  get hasManager(): boolean {
    return this.#compiled.manager !== undefined
  }

  get http2Stats(): Http2Stats {
    return this.#host.http2Stats
  }

  get reads(): AcceptedReads | undefined {
    return this.#host.reads
  }

  get wheel(): TimerWheel {
    return this.#host.wheel
  }

  get log(): Log {
    return this.#host.log
  }

  get logger(): ConnectionLogger | undefined {
    return this.#host.logger
  }

  get bufferLimitBytes(): number {
    return this.#host.bufferLimitBytes
  }

  /** False: its connections are closed, there is nobody to talk to. */
  get speaks(): boolean {
    return this.hasManager || this.#compiled.networkFilters.length > 0
  }

  get draining(): boolean {
    return this.#retired || this.#host.draining
  }

  /** From now on. Handshakes in progress end as they began, layer 4 goes on with the filters that it has. */
  update(compiled: CompiledChain): void {
    const before = this.#compiled
    this.#compiled = compiled
    const { tls } = compiled.config
    // Tickets and lazily made contexts stay where nothing has changed.
    if (tls === undefined || before.identity === compiled.identity || before.identity.tls === compiled.identity.tls) {
      return
    }
    this.#host.tlsStats.secretUpdates.v++
    this.#acceptor?.update(tls)
  }

  /** Takes a connection that was chosen for this chain, if the chain speaks. */
  take(socket: Socket, facts: ConnectionInfo): void {
    const info: ConnectionInfo = { ...facts, filterChainName: this.config.name }
    const compiled = this.#compiled
    const { tls: config } = compiled.config
    const secure = config !== undefined
    // The engine of network filters also writes the listener's log.
    const layered = compiled.networkFilters.length > 0 || this.logger !== undefined
    const opening = layered ? this.#openLayered(socket, info, compiled) : this.#openHttp(socket, info, secure)
    this.#connections.add(opening)
    if (config === undefined) {
      this.#begin(opening, socket, undefined)
      return
    }
    if (config.notReady === true) {
      this.#host.tlsStats.notReady.v++
      socket.on('error', ignore)
      socket.destroy()
      opening.failed(NOT_READY_TEXT)
      return
    }
    opening.handshake(this.config.transportConnectTimeoutMs ?? 0)
    this.#acceptorFor(config).accept(
      socket,
      (secured, tls) => this.#begin(opening, secured, tls),
      (why) => opening.failed(why),
      opening.info.state.overload?.transportConnect,
    )
  }

  /** Where a drain has been announced and connections are still accepted, each is told at once. */
  #begin(opening: OpeningConnection | NetworkChainConnection, socket: Socket, tls: TlsInfo | undefined): void {
    opening.ready(socket, tls)
    if (this.#told && opening instanceof NetworkChainConnection) opening.drain()
  }

  #openLayered(socket: Socket, info: ConnectionInfo, compiled: CompiledChain): NetworkChainConnection {
    compiled.usage.enter()
    return new NetworkChainConnection(socket, info, this, compiled)
  }

  #openHttp(socket: Socket, info: ConnectionInfo, secure: boolean): OpeningConnection {
    const { stats } = this.manager
    stats.connections.v++
    stats.activeConnections.v++
    if (secure) {
      stats.tlsConnections.v++
      stats.activeTlsConnections.v++
    }
    return new OpeningConnection(socket, info, this)
  }

  handOver(connection: ServerConnection, socket: Socket, facts: ConnectionInfo): void {
    const opening = this.#openHttp(socket, facts, facts.tls !== undefined)
    this.#connections.delete(connection)
    this.#connections.add(opening)
    opening.ready(socket, facts.tls)
  }

  connectionFinished({ usage }: CompiledChain): void {
    usage.leave()
  }

  opened(opening: OpeningConnection, connection: Http1ServerConnection | Http2ServerConnection): void {
    const { stats } = opening
    if (connection instanceof Http2ServerConnection) {
      stats.http2Connections.v++
      stats.activeHttp2Connections.v++
    } else {
      stats.http1Connections.v++
      stats.activeHttp1Connections.v++
    }
    this.#connections.delete(opening)
    this.#connections.add(connection)
  }

  handshakeExpired(): void {
    this.#host.handshakeTimeouts.v++
  }

  connectionClosed(connection: ServerConnection): void {
    if (!this.#connections.delete(connection)) return
    if (connection.stats !== undefined) this.#count(connection, connection.stats)
    const last = this.#connections.size === 0
    this.#host.chainClosed(this, connection, last)
    if (last) for (const resolve of this.#gone.splice(0)) resolve()
  }

  #count(connection: ServerConnection, stats: HttpStats): void {
    stats.activeConnections.v--
    stats.destroyed.v++
    if (connection instanceof Http2ServerConnection) stats.activeHttp2Connections.v--
    else if (connection instanceof Http1ServerConnection) stats.activeHttp1Connections.v--
    if (connection.info.tls !== undefined || connection.securing === true) stats.activeTlsConnections.v--
    stats.connectionLengthMs.record(this.#host.wheel.clock.now() - connection.openedMs)
  }

  /** Resolves when it has no connection; for chains that get no new ones. */
  whenGone(): Promise<void> {
    return this.size === 0 ? Promise.resolve() : new Promise((resolve) => this.#gone.push(resolve))
  }

  /** Its listener has dropped it: answers close their connections from now on. */
  retire(): void {
    this.#retired = true
    this.drain()
  }

  /** Tells all connections that the chain, or its listener, drains; the first of both. */
  drain(): void {
    if (this.#told) return
    this.#told = true
    for (const connection of this.#connections) connection.drain?.()
  }

  /** `sinceMs`: HTTP connections alone, on which nothing has been under way since then. */
  closeIdle(sinceMs?: number): void {
    for (const connection of this.#connections) {
      if (sinceMs === undefined || connection.stats !== undefined) connection.closeIdle(sinceMs)
    }
  }

  /** Shows all that is under way on its connections. */
  streams(see: (stream: HeavyStream) => void): void {
    for (const connection of this.#connections) connection.streams?.(see)
  }

  destroy(): void {
    for (const connection of this.#connections) connection.destroy()
  }
}

function ignore(): void {}
