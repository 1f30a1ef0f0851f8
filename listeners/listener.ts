import { createServer, type Server, type Socket } from 'node:net'
import type { ListenerConfig } from '../lib/config/listener.ts'
import { type Address, canonicalIp, formatAddress } from '../lib/core/address.ts'
import type { ConnectionInfo } from '../lib/core/connection.ts'
import { ConfigRefused } from '../lib/core/errors.ts'
import type { Counter, Gauge, Metrics } from '../lib/core/metrics.ts'
import { bindRefusal } from '../lib/runtime/bind-refusal.ts'
import type { Binder, ListenerStatus } from '../lib/runtime/engine.ts'
import { applySocketMode } from '../lib/runtime/local-binder.ts'
import type { ConnectionManager } from './http/connection-manager.ts'
import { Http1ServerConnection } from './http1/connection.ts'
import type { ConnectionHost } from './http1/host.ts'
import { resetSocket } from './http1/reset.ts'

/** What listeners share within a gateway. */
export interface ListenerDeps {
  readonly binder: Binder
  readonly metrics: Metrics
  readonly nextConnectionId: () => number
}

/** A listening socket. An update may hand it to another listener; what it accepts belongs to its owner of the moment. */
interface ListeningSocket {
  readonly server: Server
  readonly address: Address
  owner: Listener
}

/**
 * One listener: its sockets, the connections it has accepted, and the connection manager they ask at each request.
 * An update swaps the manager by one assignment; sockets and connections stay.
 */
export class Listener implements ConnectionHost {
  #config: ListenerConfig
  #manager: ConnectionManager
  readonly #deps: ListenerDeps
  readonly #sockets: ListeningSocket[] = []
  #adopted = 0
  readonly #connections = new Set<Http1ServerConnection>()
  readonly #cells: { total: Counter; active: Gauge; overflow: Counter; destroyed: Counter }
  #draining = false
  #idle: (() => void) | undefined = undefined

  constructor(config: ListenerConfig, manager: ConnectionManager, deps: ListenerDeps) {
    this.#config = config
    this.#manager = manager
    this.#deps = deps
    const prefix = `listener.${config.statPrefix}.`
    this.#cells = {
      total: deps.metrics.counter(`${prefix}downstream_cx_total`),
      active: deps.metrics.gauge(`${prefix}downstream_cx_active`),
      overflow: deps.metrics.counter(`${prefix}downstream_cx_overflow`),
      destroyed: deps.metrics.counter(`${prefix}downstream_cx_destroy`),
    }
  }

  get name(): string {
    return this.#config.name
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

  /**
   * Starts to accept on every address, but for those that `inherited` says `adopt` will bring. Rejects with
   * `ConfigRefused`, and closes what it had opened, where one fails.
   */
  async open(inherited: (address: Address) => boolean = () => false): Promise<void> {
    try {
      for (const address of this.#config.addresses) if (!inherited(address)) await this.#listen(address)
    } catch (error) {
      this.#stopAccepting()
      throw error
    }
  }

  async #listen(address: Address): Promise<void> {
    const { binder } = this.#deps
    const { backlog, name } = this.#config
    let bound = false
    try {
      const target = await binder.bind(address, backlog)
      bound = true
      const socket = await this.#serve(target as object, address)
      // From here on it is closed and released with the others.
      bound = false
      this.#sockets.push(socket)
      await applySocketMode(address)
    } catch (error) {
      if (bound) binder.release(address)
      throw error instanceof ConfigRefused ? error : new ConfigRefused([bindRefusal(name, address, error)])
    }
  }

  #serve(target: object, address: Address): Promise<ListeningSocket> {
    const server = createServer({ allowHalfOpen: true, noDelay: true })
    const listening: ListeningSocket = { server, address, owner: this }
    server.on('connection', (socket) => listening.owner.#accept(socket, address))
    return new Promise((resolve, reject) => {
      server.once('error', reject)
      server.listen(target, this.#config.backlog, () => {
        server.off('error', reject)
        // EMFILE and the like: Node goes on accepting when descriptors are free again.
        server.on('error', () => {
          listening.owner.#cells.overflow.v++
        })
        resolve(listening)
      })
    })
  }

  /** Addresses that `adopt` can take over. */
  get listening(): readonly Address[] {
    return this.#sockets.map(({ address }) => address)
  }

  /**
   * Takes the listening socket of this address from `other`, which is about to retire: no connection is refused or lost
   * in between, and nothing has to be bound twice.
   */
  adopt(other: Listener, address: Address): void {
    const key = formatAddress(address)
    const at = other.#sockets.findIndex((socket) => formatAddress(socket.address) === key)
    if (at < 0) return
    const [socket] = other.#sockets.splice(at, 1)
    socket.owner = this
    // In front of those that were opened: of equal addresses (port 0) the first ones are taken over.
    this.#sockets.splice(this.#adopted++, 0, socket)
  }

  #accept(socket: Socket, address: Address): void {
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
    this.#connections.add(new Http1ServerConnection(socket, info, this))
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

  connectionClosed(connection: Http1ServerConnection): void {
    if (!this.#connections.delete(connection)) return
    this.#cells.active.v--
    this.#cells.destroyed.v++
    const { stats } = connection
    stats.activeConnections.v--
    stats.destroyed.v++
    stats.connectionLengthMs.record(this.#manager.wheel.clock.now() - connection.openedMs)
    if (this.#connections.size === 0) this.#idle?.()
  }

  /** The next snapshot's configuration for the same addresses; requests from now on use it. */
  update(config: ListenerConfig, manager: ConnectionManager): void {
    this.#config = config
    this.#manager = manager
  }

  /**
   * Accepts nothing more; answers from now on close their connections. Resolves when all are gone. Idle connections
   * stay until their next request, so that none is cut in the moment it sends one (DESIGN §8).
   */
  drain(): Promise<void> {
    if (!this.#draining) {
      this.#draining = true
      this.#stopAccepting()
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
    this.#stopAccepting()
    for (const connection of this.#connections) connection.destroy()
  }

  /** Ends connections without an exchange: the drain deadline is near. Responses that are still read are not cut. */
  closeIdle(): void {
    for (const connection of this.#connections) connection.closeIdle()
  }

  #stopAccepting(): void {
    for (const { server, address } of this.#sockets.splice(0)) {
      server.close()
      this.#deps.binder.release(address)
    }
  }

  /** As configured: sockets that were taken over have come later. */
  #inOrder(): readonly ListeningSocket[] {
    const left = [...this.#sockets]
    const keys = this.#config.addresses.map(formatAddress)
    return keys.flatMap((key) => {
      const at = left.findIndex((socket) => formatAddress(socket.address) === key)
      return at < 0 ? [] : left.splice(at, 1)
    })
  }

  status(): ListenerStatus {
    return {
      name: this.#config.name,
      addresses: this.#inOrder().map(({ server, address }) => {
        const bound = server.address()
        if (address.kind === 'pipe' || bound === null || typeof bound === 'string') return address
        return { kind: 'ip', host: bound.address, port: bound.port }
      }),
    }
  }
}
