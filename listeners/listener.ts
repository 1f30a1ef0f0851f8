import { createServer, type Server } from 'node:net'
import type { ListenerConfig } from '../lib/config/listener.ts'
import { type Address, formatAddress } from '../lib/core/address.ts'
import type { ConnectionInfo } from '../lib/core/connection.ts'
import { ConfigRefused } from '../lib/core/errors.ts'
import type { PipeEnd } from '../lib/core/pipe.ts'
import { bindRefusal } from '../lib/runtime/bind-refusal.ts'
import type { Binder, ListenerStatus } from '../lib/runtime/engine.ts'
import { applySocketMode } from '../lib/runtime/local-binder.ts'
import type { HeavyStream } from '../lib/runtime/overload/heavy-streams.ts'
import { Reception, type ReceptionDeps } from './accept.ts'
import type { FilterChain } from './chain.ts'
import type { CompiledListener } from './compile.ts'

/** What listeners share within a gateway. */
export interface ListenerDeps extends ReceptionDeps {
  readonly binder: Binder
}

/** A listening socket. An update may hand it to another listener; what it accepts belongs to its owner of the moment. */
interface ListeningSocket {
  server: Server
  readonly address: Address
  owner: Listener
  /** Its real address while nothing is accepted on it. */
  held: Address | undefined
}

/**
 * One listener: its sockets, and the connections that its reception looks after. An update swaps what was
 * compiled by one assignment; sockets and the connections of chains that are still there stay.
 */
export class Listener {
  readonly #deps: ListenerDeps
  readonly #reception: Reception
  readonly #sockets: ListeningSocket[] = []
  #adopted = 0

  constructor(compiled: CompiledListener, deps: ListenerDeps) {
    this.#deps = deps
    this.#reception = new Reception(compiled, deps)
  }

  get name(): string {
    return this.config.name
  }

  get config(): ListenerConfig {
    return this.#reception.config
  }

  /** How long connections may stay idle when it is dropped, ms. */
  get drainTimeoutMs(): number {
    return this.#reception.drainTimeoutMs
  }

  /**
   * Starts to accept on every address, but for those that `inherited` says `adopt` will bring. Rejects with
   * `ConfigRefused`, and closes what it had opened, where one fails.
   */
  async open(inherited: (address: Address) => boolean = () => false): Promise<void> {
    try {
      for (const address of this.config.addresses) if (!inherited(address)) await this.#listen(address)
    } catch (error) {
      this.#stopAccepting()
      throw error
    }
  }

  async #listen(address: Address): Promise<void> {
    const { binder } = this.#deps
    const { backlog, name } = this.config
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
    const listening: ListeningSocket = { server, address, owner: this, held: undefined }
    return this.#accept(listening, server, target)
  }

  #accept(listening: ListeningSocket, server: Server, target: object): Promise<ListeningSocket> {
    const { address } = listening
    server.on('connection', (socket) => {
      const { owner, held } = listening
      if (held === undefined) owner.#reception.accept(socket, address)
      else owner.#reception.refuse(socket)
    })
    return new Promise((resolve, reject) => {
      server.once('error', reject)
      server.listen(target, this.config.backlog, () => {
        server.off('error', reject)
        // EMFILE and the like: Node goes on accepting when descriptors are free again.
        server.on('error', () => {
          listening.owner.#reception.overflow()
        })
        listening.server = server
        resolve(listening)
      })
    })
  }

  /** Takes a connection from within (internal listeners). False where there is no room. */
  acceptInternal(stream: PipeEnd, facts: ConnectionInfo): boolean {
    return this.#reception.acceptInternal(stream, facts)
  }

  /**
   * Takes no connections until `acceptAgain`: they wait in the queues of the sockets, or are reset where a socket cannot be
   * had again once it is closed here. What is there goes on. Idempotent, and to be repeated for sockets that came later.
   */
  stopAccepting(): void {
    for (const socket of this.#sockets) {
      if (socket.held !== undefined) continue
      socket.held = addressOf(socket)
      if (this.#deps.binder.again !== undefined) socket.server.close()
    }
  }

  /** Takes connections again. Rejects where a socket could not be had: that one goes on waiting. */
  async acceptAgain(): Promise<void> {
    const failures: unknown[] = []
    for (const socket of [...this.#sockets]) {
      if (socket.held === undefined) continue
      await this.#acceptOn(socket, socket.held).catch((error) => failures.push(error))
    }
    if (failures.length > 0) throw failures[0]
  }

  async #acceptOn(socket: ListeningSocket, held: Address): Promise<void> {
    const { binder } = this.#deps
    if (binder.again !== undefined) {
      const target = await binder.again(socket.address, held, this.config.backlog)
      const server = createServer({ allowHalfOpen: true, noDelay: true })
      await this.#accept(socket, server, target as object)
      // The listener was closed meanwhile.
      if (!socket.owner.#sockets.includes(socket)) server.close()
    }
    socket.held = undefined
  }

  /** Shows all that is under way on its connections. */
  streams(see: (stream: HeavyStream) => void): void {
    this.#reception.streams(see)
  }

  /** Ends HTTP connections on which nothing has been under way since then (of the clock), unless it bypasses overload. */
  shedIdle(sinceMs: number): void {
    if (this.shedsLoad) this.#reception.closeIdle(sinceMs)
  }

  /** Some of its sockets have stopped accepting. */
  get held(): boolean {
    return this.#sockets.some(({ held }) => held !== undefined)
  }

  /** False: it bypasses the overload manager. */
  get shedsLoad(): boolean {
    return this.#reception.overload !== undefined
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

  /** The version that it works with. */
  get compiled(): CompiledListener {
    return this.#reception.compiled
  }

  /**
   * Another version for the same addresses; requests from now on use it. Answers the filter chains that it drops, whose
   * connections stay until they are drained.
   */
  update(compiled: CompiledListener): FilterChain[] {
    compiled.directory.current = compiled
    return this.#reception.update(compiled)
  }

  /** Answers from now on close their connections, as with `drain`, but it goes on accepting. */
  announceDrain(gradualMs = 0): void {
    void this.#reception.drain(gradualMs)
  }

  /**
   * Accepts nothing more; answers from now on close their connections. Resolves when all are gone. Idle HTTP/1
   * connections stay until their next request, so that none is cut in the moment it sends one (DESIGN §8); those of
   * HTTP/2 are told not to open streams (GOAWAY in two steps).
   *
   * @param gradualMs over how long connections are told to go, each with its next request and the likelier the later
   *   (Envoy's `--drain-strategy gradual`); 0: all with their next request, those of HTTP/2 at once
   */
  drain(gradualMs = 0): Promise<void> {
    this.#stopAccepting()
    return this.#reception.drain(gradualMs)
  }

  /** Ends everything at once. */
  close(): void {
    this.#stopAccepting()
    this.#reception.close()
  }

  /** Ends connections without an exchange: the drain deadline is near. Responses that are still read are not cut. */
  closeIdle(): void {
    this.#reception.closeIdle()
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
    const keys = this.config.addresses.map(formatAddress)
    return keys.flatMap((key) => {
      const at = left.findIndex((socket) => formatAddress(socket.address) === key)
      return at < 0 ? [] : left.splice(at, 1)
    })
  }

  status(): ListenerStatus {
    return {
      name: this.config.name,
      addresses: this.#inOrder().map(addressOf),
    }
  }
}

/** Where it listens really. */
function addressOf({ server, address, held }: ListeningSocket): Address {
  const bound = server.address()
  if (held !== undefined) return held
  if (address.kind === 'pipe' || bound === null || typeof bound === 'string') return address
  return { kind: 'ip', host: bound.address, port: bound.port }
}
