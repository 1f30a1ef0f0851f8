import type { Socket } from 'node:net'
import type { ListenerConfig } from '../lib/config/listener.ts'
import type { ConnectionInfo } from '../lib/core/connection.ts'
import { type Leases, RoomWait } from '../lib/core/lease.ts'
import { noRuntime, type Runtime } from '../lib/core/metrics.ts'
import { fromWithin, hasSource } from './facts.ts'
import { resetSocket } from './http1/reset.ts'
import { type ConnectionBudget, ConnectionRoom, liveLimit, SourceCounts } from './limits.ts'
import type { ReceptionStats } from './stats.ts'

/** What admits connections is made with. */
export interface EntranceParts {
  readonly budget: ConnectionBudget
  readonly stats: ReceptionStats
  /** Default: this process has all that there are. */
  readonly leases?: Leases | undefined
  readonly runtime?: Runtime | undefined
}

/**
 * Which connections a listener takes: as many as its limit and that of the gateway permit, in all workers together, and from
 * each address as many as one worker may have from it.
 */
export class Entrance implements Disposable {
  readonly #parts: EntranceParts
  readonly #room: ConnectionRoom
  readonly #sources = new SourceCounts()
  /** Connections that the gateway's limit counts, of those that are there. */
  readonly #budgeted = new Set<number>()

  constructor(listenerName: string, parts: EntranceParts) {
    this.#parts = parts
    this.#room = new ConnectionRoom(`listener.${listenerName}.connections`, parts.leases)
  }

  /** How many are in. */
  get size(): number {
    return this.#room.taken
  }

  /** Undefined: `enter` knows now. Otherwise the gateway has been asked for room, and `enter` knows behind the wait. */
  ask(facts: ConnectionInfo, config: ListenerConfig): RoomWait | undefined {
    const { budget } = this.#parts
    const limit = this.#limitOf(config)
    const room = this.#room
    const own = room.ask(limit)
    const budgeted = isBudgeted(facts, config)
    const all = budgeted ? budget.ask() : undefined
    if (own === undefined && all === undefined) return undefined
    const of = {
      get ready(): boolean {
        return room.ready
      },
      ask: () => room.ask(limit),
    }
    return new RoomWait(Promise.all([own, all]), budgeted ? [of, budget] : [of])
  }

  /** False, and counted: there is no room. Otherwise `leave` follows. */
  enter(facts: ConnectionInfo, config: ListenerConfig): boolean {
    const { budget, stats } = this.#parts
    const source = facts.directRemoteAddress
    const { maxConnectionsPerSource } = config
    if (!this.#room.enter(this.#limitOf(config))) {
      stats.overflow.v++
      // It could not wait until the gateway was asked: the next one may find room.
      if (fromWithin(facts)) this.#room.want()
      return false
    }
    const counts = hasSource(facts)
    if (counts && maxConnectionsPerSource !== undefined && this.#sources.of(source) >= maxConnectionsPerSource) {
      this.#room.leave()
      stats.sourceOverflow.v++
      return false
    }
    if (isBudgeted(facts, config)) {
      if (!budget.enter()) {
        this.#room.leave()
        stats.globalOverflow.v++
        return false
      }
      this.#budgeted.add(facts.id)
    }
    if (counts) this.#sources.add(source)
    budget.connections.v++
    return true
  }

  leave(facts: ConnectionInfo): void {
    this.#room.leave()
    this.#parts.budget.connections.v--
    if (hasSource(facts)) this.#sources.remove(facts.directRemoteAddress)
    if (this.#budgeted.delete(facts.id)) this.#parts.budget.leave()
  }

  #limitOf({ maxConnections, maxConnectionsKey }: ListenerConfig): number | undefined {
    return liveLimit(maxConnections, maxConnectionsKey, this.#parts.runtime ?? noRuntime)
  }

  /** Nobody enters any more; who is in leaves as before. */
  [Symbol.dispose](): void {
    this.#room[Symbol.dispose]()
  }
}

function isBudgeted(facts: ConnectionInfo, { ignoreGlobalLimit }: ListenerConfig): boolean {
  return !fromWithin(facts) && !ignoreGlobalLimit
}

/** A socket while the gateway is asked for room. */
export class Await {
  readonly #socket: Socket
  readonly #gone: () => void
  #over = false

  /** `gone`: it waits no longer. */
  constructor(socket: Socket, gone: () => void) {
    this.#socket = socket
    this.#gone = gone
    socket.on('error', ignore)
  }

  /** True: it is to go on, and its next owner hears of its errors. */
  over(): boolean {
    if (this.#over) return false
    this.#over = true
    this.#gone()
    if (this.#socket.destroyed) return false
    // Behind what its next owner does in this turn.
    queueMicrotask(() => this.#socket.off('error', ignore))
    return true
  }

  /** Nobody takes it any more. */
  end(): void {
    if (this.#over) return
    this.#over = true
    this.#gone()
    resetSocket(this.#socket)
  }
}

function ignore(): void {}
