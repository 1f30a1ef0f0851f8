import type { Socket } from 'node:net'
import type { RoutingPriority } from '../core/attempt.ts'
import type { SlotLease } from '../core/lease.ts'
import type { BreakerLimit } from './breaker.ts'
import type { Host } from './host.ts'
import type { PoolParts } from './pool.ts'

/** Room that one connection takes under the limits. */
export interface Room {
  release(): void
}

/** What is counted of one connection from its first SYN to its end. */
export interface ConnectionAccount {
  /** From when it is ready for use. */
  socket: Socket | undefined
  readonly room: Room
  readonly openedMs: number
}

/**
 * The books of one host's connections and requests, kept alike by its pools of either protocol: circuit breakers, the
 * cluster's statistics and the host's own counts.
 */
export class HostAccounts {
  readonly host: Host
  /** Called when the gateway has been asked for room that was not here: there may be some now. */
  whenRoom: (() => void) | undefined = undefined
  readonly #parts: PoolParts
  #asking = false

  constructor(host: Host, parts: PoolParts) {
    this.host = host
    this.#parts = parts
  }

  /**
   * Takes room for one more connection, or counts an overflow and answers undefined; also while the gateway is asked, which
   * `whenRoom` follows. `first`: the pool has none, and Envoy lets such a pool always have one, lest other hosts'
   * connections starve it.
   */
  admit(priority: RoutingPriority, first: boolean): Room | undefined {
    const limit = this.#parts.breakers.of(priority).connections
    if (first) {
      limit.acquire()
      const own = this.#ownRoom(limit)
      own?.lease.force()
      return own ?? limit
    }
    const own = this.#ownRoom(limit)
    if (own !== undefined && !own.lease.tryAcquire()) {
      if (!this.#asked(own.lease.ask())) this.#parts.stats.cxOverflow.v++
      own.lease[Symbol.dispose]()
      return undefined
    }
    if (limit.tryAhead()) return own ?? limit
    own?.drop()
    if (!this.#asked(limit.ask())) limit.overflowed()
    return undefined
  }

  /** As `admit` for a connection that nobody needs yet: where there is no room nothing is counted. */
  admitAhead(priority: RoutingPriority): Room | undefined {
    const limit = this.#parts.breakers.of(priority).connections
    const own = this.#ownRoom(limit)
    if (own !== undefined && !own.lease.tryAcquire()) {
      own.lease[Symbol.dispose]()
      return undefined
    }
    if (limit.tryAhead()) return own ?? limit
    own?.drop()
    return undefined
  }

  /** Undefined: the host has no limit of its own. */
  #ownRoom(limit: BreakerLimit): OwnRoom | undefined {
    const max = this.#parts.config.maxConnectionsPerHost
    return max === undefined ? undefined : new OwnRoom(limit, limit.ofHost(this.host.key, max))
  }

  #asked(answer: Promise<void> | undefined): boolean {
    if (answer === undefined || this.whenRoom === undefined) return false
    if (!this.#asking) {
      this.#asking = true
      void answer.then(() => {
        this.#asking = false
        this.whenRoom?.()
      })
    }
    return true
  }

  /** A connection with that room begins to connect. */
  opened(room: Room): ConnectionAccount {
    const { stats, wheel } = this.#parts
    stats.cxTotal.v++
    stats.cxActive.v++
    this.host.cxTotal++
    this.host.cxActive++
    return { socket: undefined, room, openedMs: wheel.clock.now() }
  }

  /** Its transport is ready. */
  connected(account: ConnectionAccount, socket: Socket): void {
    account.socket = socket
    this.#parts.traffic.add(socket)
    this.#parts.stats.cxConnectMs.record(this.#parts.wheel.clock.now() - account.openedMs)
  }

  /** It is gone without ever having been ready. `refused`: that was not our doing. */
  connectFailed(account: ConnectionAccount, refused: boolean): void {
    this.#parts.stats.cxConnectFail.v++
    this.host.cxConnectFail++
    this.#closed(account, false, refused)
  }

  /** A connection that was ready is gone. `busy`: an exchange was under way. */
  closed(account: ConnectionAccount, busy: boolean): void {
    const { socket } = account
    if (socket !== undefined) this.#parts.traffic.remove(socket)
    this.#closed(account, busy, socket !== undefined && (socket.readableEnded || socket.errored !== null))
  }

  #closed(account: ConnectionAccount, busy: boolean, byPeer: boolean): void {
    const { stats, wheel } = this.#parts
    account.room.release()
    stats.cxActive.v--
    this.host.cxActive--
    stats.cxLengthMs.record(wheel.clock.now() - account.openedMs)
    stats.cxDestroy.v++
    if (busy) stats.cxDestroyWithActiveRq.v++
    if (byPeer) {
      stats.cxDestroyRemote.v++
      if (busy) stats.cxDestroyRemoteWithActiveRq.v++
    } else {
      stats.cxDestroyLocal.v++
      if (busy) stats.cxDestroyLocalWithActiveRq.v++
    }
  }

  /** Takes a place in the line, or counts an overflow and answers false. */
  tryWait(priority: RoutingPriority): boolean {
    if (!this.#parts.breakers.of(priority).pendingRequests.tryAcquire()) return false
    this.#parts.stats.rqPendingTotal.v++
    this.#parts.stats.rqPendingActive.v++
    return true
  }

  /** Gives the place back; every one taken exactly once. */
  waited(priority: RoutingPriority): void {
    this.#parts.breakers.of(priority).pendingRequests.release()
    this.#parts.stats.rqPendingActive.v--
  }

  /** One request begins, or an overflow is counted and false answered. */
  tryRequest(priority: RoutingPriority): boolean {
    if (!this.#parts.breakers.of(priority).requests.tryAcquire()) return false
    const { stats } = this.#parts
    stats.rqTotal.v++
    stats.rqActive.v++
    this.host.rqActive++
    this.host.rqTotal++
    return true
  }

  /** Every one begun exactly once. */
  requestEnded(priority: RoutingPriority): void {
    this.#parts.stats.rqActive.v--
    this.host.rqActive--
    this.#parts.breakers.of(priority).requests.release()
  }
}

/** Room among the connections of a host, beside that among all of the cluster. */
class OwnRoom implements Room {
  readonly limit: BreakerLimit
  readonly lease: SlotLease

  constructor(limit: BreakerLimit, lease: SlotLease) {
    this.limit = limit
    this.lease = lease
  }

  release(): void {
    this.limit.release()
    this.drop()
  }

  /** There was no room in the cluster. */
  drop(): void {
    this.lease.release()
    this.lease[Symbol.dispose]()
  }
}
