import type { Socket } from 'node:net'
import type { RoutingPriority } from '../core/attempt.ts'
import type { BreakerLimit } from './breaker.ts'
import type { Host } from './host.ts'
import type { PoolParts } from './pool.ts'

/** What is counted of one connection from its first SYN to its end. */
export interface ConnectionAccount {
  /** From when it is ready for use. */
  socket: Socket | undefined
  readonly limit: BreakerLimit
  readonly openedMs: number
}

/**
 * The books of one host's connections and requests, kept alike by its pools of either protocol: circuit breakers, the
 * cluster's statistics and the host's own counts.
 */
export class HostAccounts {
  readonly host: Host
  readonly #parts: PoolParts

  constructor(host: Host, parts: PoolParts) {
    this.host = host
    this.#parts = parts
  }

  /**
   * Takes room for one more connection, or counts an overflow and answers undefined. `first`: the pool has none, and
   * Envoy lets such a pool always have one, lest other hosts' connections starve it.
   */
  admit(priority: RoutingPriority, first: boolean): BreakerLimit | undefined {
    const limit = this.#parts.breakers.of(priority).connections
    if (first) {
      limit.acquire()
      return limit
    }
    const perHost = this.#parts.config.maxConnectionsPerHost
    if (perHost !== undefined && this.host.cxActive >= perHost) {
      this.#parts.stats.cxOverflow.v++
      return undefined
    }
    return limit.tryAcquire() ? limit : undefined
  }

  /** As `admit` for a connection that nobody needs yet: where there is no room nothing is counted. */
  admitAhead(priority: RoutingPriority): BreakerLimit | undefined {
    const limit = this.#parts.breakers.of(priority).connections
    const perHost = this.#parts.config.maxConnectionsPerHost
    if (limit.active >= limit.max || (perHost !== undefined && this.host.cxActive >= perHost)) return undefined
    limit.acquire()
    return limit
  }

  /** A connection with the room of `limit` begins to connect. */
  opened(limit: BreakerLimit): ConnectionAccount {
    const { stats, wheel } = this.#parts
    stats.cxTotal.v++
    stats.cxActive.v++
    this.host.cxTotal++
    this.host.cxActive++
    return { socket: undefined, limit, openedMs: wheel.clock.now() }
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
    account.limit.release()
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
