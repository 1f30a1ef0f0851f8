import type { Socket } from 'node:net'
import type { ListenerConfig } from '../lib/config/listener.ts'
import { type Address, canonicalIp, formatAddress } from '../lib/core/address.ts'
import type { ConnectionInfo } from '../lib/core/connection.ts'
import type { Counter, Gauge, Metrics } from '../lib/core/metrics.ts'
import type { Http2Stats } from '../lib/http2/contract.ts'
import { http2Stats } from '../lib/http2/stats.ts'
import type { DownstreamTlsConfig } from '../lib/tls/config.ts'
import { type TlsStats, tlsStats } from '../lib/tls/stats.ts'
import { OpeningConnection, type OpeningHost } from './detect/opening.ts'
import type { ConnectionManager } from './http/connection-manager.ts'
import { Http1ServerConnection } from './http1/connection.ts'
import type { ServerConnection } from './http1/host.ts'
import { resetSocket } from './http1/reset.ts'
import { Http2ServerConnection } from './http2/connection.ts'
import { TlsAcceptor } from './tls/acceptor.ts'

/** What the connections of a listener are made with. */
export interface ReceptionDeps {
  readonly metrics: Metrics
  readonly nextConnectionId: () => number
  /** As in `AcceptorParts`. */
  readonly ticketSecret?: Uint8Array
}

interface Cells {
  readonly total: Counter
  readonly active: Gauge
  readonly overflow: Counter
  readonly destroyed: Counter
  readonly handshakeTimeouts: Counter
}

/**
 * The connections of one listener from accept to end: TLS, then the protocol, then what speaks it. All of them ask it for
 * the manager of the moment, so an update is one assignment; those that are still opening count like the others.
 */
export class Reception implements OpeningHost {
  readonly http2Stats: Http2Stats
  readonly #deps: ReceptionDeps
  readonly #cells: Cells
  #tlsStats: TlsStats | undefined = undefined
  readonly #connections = new Set<ServerConnection>()
  #config: ListenerConfig
  #manager: ConnectionManager
  #acceptor: TlsAcceptor | undefined = undefined
  #draining = false
  #idle: (() => void) | undefined = undefined

  constructor(config: ListenerConfig, manager: ConnectionManager, deps: ReceptionDeps) {
    const { metrics } = deps
    const prefix = `listener.${config.statPrefix}.`
    this.#config = config
    this.#manager = manager
    this.#deps = deps
    // Envoy keeps those of the codec for the whole process.
    this.http2Stats = http2Stats(metrics, '')
    this.#cells = {
      total: metrics.counter(`${prefix}downstream_cx_total`),
      active: metrics.gauge(`${prefix}downstream_cx_active`),
      overflow: metrics.counter(`${prefix}downstream_cx_overflow`),
      destroyed: metrics.counter(`${prefix}downstream_cx_destroy`),
      handshakeTimeouts: metrics.counter(`${prefix}downstream_cx_transport_socket_connect_timeout`),
    }
    this.#acceptor = this.#makeAcceptor(config.filterChain.tls)
  }

  #makeAcceptor(tls: DownstreamTlsConfig | undefined): TlsAcceptor | undefined {
    if (tls === undefined) return undefined
    const { metrics, ticketSecret } = this.#deps
    const stats = (this.#tlsStats ??= tlsStats(metrics, `listener.${this.#config.statPrefix}.`))
    return new TlsAcceptor(tls, { wheel: this.#manager.wheel, stats, ticketSecret })
  }

  get config(): ListenerConfig {
    return this.#config
  }

  get manager(): ConnectionManager {
    return this.#manager
  }

  get draining(): boolean {
    return this.#draining
  }

  /** From now on. Handshakes in progress end as they began. */
  update(config: ListenerConfig, manager: ConnectionManager): void {
    const before = this.#config.filterChain.tls
    const { tls } = config.filterChain
    this.#config = config
    this.#manager = manager
    // Tickets and lazily made contexts stay where nothing has changed.
    if (JSON.stringify(before) !== JSON.stringify(tls)) this.#acceptor = this.#makeAcceptor(tls)
  }

  /** A connection that the listener could not take. */
  overflow(): void {
    this.#cells.overflow.v++
  }

  /** Takes a socket that came in on `address`. */
  accept(socket: Socket, address: Address): void {
    const { maxConnections } = this.#config
    if (maxConnections !== undefined && this.#connections.size >= maxConnections) {
      this.#cells.overflow.v++
      resetSocket(socket)
      return
    }
    const info = this.#describe(socket, address)
    if (info === undefined) {
      // The client was gone before we looked.
      socket.destroy()
      return
    }
    this.#cells.total.v++
    this.#cells.active.v++
    const { stats } = this.#manager
    stats.connections.v++
    stats.activeConnections.v++
    const opening = new OpeningConnection(socket, info, this)
    this.#connections.add(opening)
    const acceptor = this.#acceptor
    if (acceptor === undefined) opening.ready(socket, undefined)
    else this.#secure(acceptor, socket, opening)
  }

  #secure(acceptor: TlsAcceptor, raw: Socket, opening: OpeningConnection): void {
    const { stats } = opening
    stats.tlsConnections.v++
    stats.activeTlsConnections.v++
    opening.handshake(this.#config.filterChain.transportConnectTimeoutMs ?? 0)
    acceptor.accept(
      raw,
      (socket, tls) => opening.ready(socket, tls),
      () => opening.failed(),
    )
  }

  #describe(socket: Socket, address: Address): ConnectionInfo | undefined {
    const pipe = address.kind === 'pipe'
    const remote = pipe ? '' : socket.remoteAddress
    if (remote === undefined) return undefined
    const remoteAddress = canonicalIp(remote)
    const remotePort = socket.remotePort ?? 0
    return {
      id: this.#deps.nextConnectionId(),
      directRemoteAddress: remoteAddress,
      directRemotePort: remotePort,
      remoteAddress,
      remotePort,
      localAddress: pipe ? formatAddress(address) : canonicalIp(socket.localAddress ?? ''),
      localPort: socket.localPort ?? 0,
      kind: address.kind,
      listenerName: this.#config.name,
      filterChainName: this.#config.filterChain.name,
      tls: undefined,
    }
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
    this.#cells.handshakeTimeouts.v++
  }

  connectionClosed(connection: ServerConnection): void {
    if (!this.#connections.delete(connection)) return
    this.#cells.active.v--
    this.#cells.destroyed.v++
    const { stats } = connection
    stats.activeConnections.v--
    stats.destroyed.v++
    if (connection instanceof Http2ServerConnection) stats.activeHttp2Connections.v--
    else if (connection instanceof Http1ServerConnection) stats.activeHttp1Connections.v--
    if (connection.info.tls !== undefined || connection.securing === true) stats.activeTlsConnections.v--
    stats.connectionLengthMs.record(this.#manager.wheel.clock.now() - connection.openedMs)
    if (this.#connections.size === 0) this.#idle?.()
  }

  /** Resolves when all connections are gone; `Listener.drain` says how. */
  drain(): Promise<void> {
    if (!this.#draining) {
      this.#draining = true
      for (const connection of this.#connections) connection.drain?.()
    }
    if (this.#connections.size === 0) return Promise.resolve()
    return new Promise((resolve) => {
      const before = this.#idle
      this.#idle = () => {
        before?.()
        resolve()
      }
    })
  }

  /** Ends everything at once. */
  close(): void {
    this.#draining = true
    for (const connection of this.#connections) connection.destroy()
  }

  closeIdle(): void {
    for (const connection of this.#connections) connection.closeIdle()
  }
}
