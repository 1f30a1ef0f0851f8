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
import { type ConnectionHost, Http1ServerConnection } from './http1/connection.ts'
import { resetSocket } from './http1/reset.ts'

/** What listeners share within a gateway. */
export interface ListenerDeps {
  readonly binder: Binder
  readonly metrics: Metrics
  readonly nextConnectionId: () => number
}

/**
 * One listener: its sockets, the connections it has accepted, and the connection manager they ask at each request.
 * An update swaps the manager by one assignment; sockets and connections stay.
 */
export class Listener implements ConnectionHost {
  #config: ListenerConfig
  #manager: ConnectionManager
  readonly #deps: ListenerDeps
  readonly #servers: { server: Server; address: Address }[] = []
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

  /** Starts to accept on every address. Rejects with `ConfigRefused`, and closes what it had opened, where one fails. */
  async open(): Promise<void> {
    try {
      for (const address of this.#config.addresses) await this.#listen(address)
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
      this.#servers.push({ server: await this.#serve(target as object, backlog), address })
      await applySocketMode(address)
    } catch (error) {
      if (bound) binder.release(address)
      throw error instanceof ConfigRefused ? error : new ConfigRefused([bindRefusal(name, address, error)])
    }
  }

  #serve(target: object, backlog: number): Promise<Server> {
    const server = createServer({ allowHalfOpen: true, noDelay: true })
    server.on('connection', (socket) => this.#accept(socket))
    return new Promise((resolve, reject) => {
      server.once('error', reject)
      server.listen(target, backlog, () => {
        server.off('error', reject)
        // EMFILE and the like: Node goes on accepting when descriptors are free again.
        server.on('error', () => {
          this.#cells.overflow.v++
        })
        resolve(server)
      })
    })
  }

  #accept(socket: Socket): void {
    const { maxConnections } = this.#config
    if (maxConnections !== undefined && this.#connections.size >= maxConnections) {
      this.#cells.overflow.v++
      resetSocket(socket)
      return
    }
    const info = this.#describe(socket)
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

  #describe(socket: Socket): ConnectionInfo | undefined {
    const main = this.#config.addresses[0]
    const pipe = main.kind === 'pipe'
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
      localAddress: pipe ? formatAddress(main) : canonicalIp(socket.localAddress ?? ''),
      localPort: socket.localPort ?? 0,
      kind: main.kind,
      listenerName: this.#config.name,
      filterChainName: this.#config.filterChain.name,
      tls: undefined,
    }
  }

  connectionClosed(connection: Http1ServerConnection): void {
    if (!this.#connections.delete(connection)) return
    this.#cells.active.v--
    this.#cells.destroyed.v++
    const { stats } = this.#manager
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

  /** Ends connections without an exchange: the drain deadline is near. */
  closeIdle(): void {
    for (const connection of this.#connections) if (connection.idle) connection.destroy()
  }

  #stopAccepting(): void {
    for (const { server, address } of this.#servers.splice(0)) {
      server.close()
      this.#deps.binder.release(address)
    }
  }

  status(): ListenerStatus {
    return {
      name: this.#config.name,
      addresses: this.#servers.map(({ server, address }) => {
        const bound = server.address()
        if (address.kind === 'pipe' || bound === null || typeof bound === 'string') return address
        return { kind: 'ip', host: bound.address, port: bound.port }
      }),
    }
  }
}
