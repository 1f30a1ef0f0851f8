import type { BreakerLimit } from './breaker.ts'
import type { Host, HostPool } from './host.ts'

/** What a pool has taken. */
interface Place {
  readonly limit: BreakerLimit
  readonly host: Host
}

/** The pools of a cluster that are counted, where their number is limited (`max_connection_pools`). */
export class PoolRoom {
  #taken: BreakerLimit | undefined = undefined
  /** Made for the first limit. */
  #places: Map<HostPool, Place> | undefined = undefined

  /** Room for one more pool, taken from one that serves nobody where there is none; `given` follows. False: none. */
  take(limit: BreakerLimit | undefined): boolean {
    this.#taken = limit
    if (limit === undefined || limit.tryAhead()) return true
    this.#reclaim(limit)
    if (limit.tryAcquire()) return true
    this.#taken = undefined
    return false
  }

  /** As Envoy: a pool without requests makes room. */
  #reclaim(wanted: BreakerLimit): void {
    for (const [pool, { host, limit }] of this.#places ?? []) {
      if (limit !== wanted || host.rqActive > 0) continue
      this.back(pool)
      if (host.pool === pool) host.pool = undefined
      pool.close()
      return
    }
  }

  /** The room that was taken last is this pool's. */
  given(pool: HostPool, host: Host): void {
    const limit = this.#taken
    if (limit === undefined) return
    this.#taken = undefined
    this.#places ??= new Map()
    this.#places.set(pool, { limit, host })
  }

  /** The pool is gone, or about to go. */
  back(pool: HostPool): void {
    const place = this.#places?.get(pool)
    if (place === undefined) return
    this.#places?.delete(pool)
    place.limit.release()
  }
}
