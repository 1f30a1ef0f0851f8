import type { Socket } from 'node:net'
import type { FilterChainConfig } from '../lib/config/listener.ts'
import type { ConnectionInfo } from '../lib/core/connection.ts'
import type { Counter } from '../lib/core/metrics.ts'
import type { TimerWheel } from '../lib/core/timer-wheel.ts'
import type { Http2Stats } from '../lib/http2/contract.ts'
import type { TlsStats } from '../lib/tls/stats.ts'
import type { CompiledChain } from './compile.ts'
import { OpeningConnection, type OpeningHost } from './detect/opening.ts'
import type { ConnectionManager } from './http/connection-manager.ts'
import type { AcceptedReads } from './detect/accepted-reads.ts'
import { Http1ServerConnection } from './http1/connection.ts'
import type { ServerConnection } from './http1/host.ts'
import { Http2ServerConnection } from './http2/connection.ts'
import { TlsAcceptor } from './tls/acceptor.ts'

/** What a filter chain needs of its listener. */
export interface ChainHost {
  readonly wheel: TimerWheel
  readonly http2Stats: Http2Stats
  readonly tlsStats: TlsStats
  readonly ticketSecret: Uint8Array | undefined
  readonly handshakeTimeouts: Counter
  readonly reads: AcceptedReads | undefined
  /** The listener drains. */
  readonly draining: boolean
  /** One of the chain's connections is gone; `last`: it has none any more. */
  chainClosed(chain: FilterChain, connection: ServerConnection, last: boolean): void
}

/**
 * One filter chain at work, over any number of snapshots: its TLS, its connections, and what the current snapshot has
 * compiled for it. An update with the same transport and network filters is one assignment; any other makes a new chain
 * and drains this one.
 */
export class FilterChain implements OpeningHost {
  readonly #host: ChainHost
  readonly #connections = new Set<ServerConnection>()
  #compiled: CompiledChain
  #acceptor: TlsAcceptor | undefined
  #retired = false

  constructor(compiled: CompiledChain, host: ChainHost) {
    this.#host = host
    this.#compiled = compiled
    this.#acceptor = this.#makeAcceptor()
  }

  #makeAcceptor(): TlsAcceptor | undefined {
    const { tls } = this.#compiled.config
    if (tls === undefined) return undefined
    const { wheel, tlsStats: stats, ticketSecret } = this.#host
    return new TlsAcceptor(tls, { wheel, stats, ticketSecret })
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

  get draining(): boolean {
    return this.#retired || this.#host.draining
  }

  /** From now on. Handshakes in progress end as they began. */
  update(compiled: CompiledChain): void {
    const before = this.#compiled.config.tls
    this.#compiled = compiled
    // Tickets and lazily made contexts stay where nothing has changed.
    if (JSON.stringify(before) !== JSON.stringify(compiled.config.tls)) this.#acceptor = this.#makeAcceptor()
  }

  /** Takes a connection that was accepted at `openedMs` and chosen for this chain. */
  take(socket: Socket, facts: ConnectionInfo): void {
    const info: ConnectionInfo = { ...facts, filterChainName: this.config.name }
    const { stats } = this.manager
    stats.connections.v++
    stats.activeConnections.v++
    const opening = new OpeningConnection(socket, info, this)
    this.#connections.add(opening)
    const acceptor = this.#acceptor
    if (acceptor === undefined) {
      opening.ready(socket, undefined)
      return
    }
    stats.tlsConnections.v++
    stats.activeTlsConnections.v++
    opening.handshake(this.config.transportConnectTimeoutMs ?? 0)
    acceptor.accept(
      socket,
      (secured, tls) => opening.ready(secured, tls),
      () => opening.failed(),
    )
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
    const { stats } = connection
    stats.activeConnections.v--
    stats.destroyed.v++
    if (connection instanceof Http2ServerConnection) stats.activeHttp2Connections.v--
    else if (connection instanceof Http1ServerConnection) stats.activeHttp1Connections.v--
    if (connection.info.tls !== undefined || connection.securing === true) stats.activeTlsConnections.v--
    stats.connectionLengthMs.record(this.#host.wheel.clock.now() - connection.openedMs)
    this.#host.chainClosed(this, connection, this.#connections.size === 0)
  }

  /** Its listener has dropped it: answers close their connections from now on. */
  retire(): void {
    this.#retired = true
    this.drain()
  }

  /** Tells all connections that the chain, or its listener, drains. */
  drain(): void {
    for (const connection of this.#connections) connection.drain?.()
  }

  closeIdle(): void {
    for (const connection of this.#connections) connection.closeIdle()
  }

  destroy(): void {
    for (const connection of this.#connections) connection.destroy()
  }
}
