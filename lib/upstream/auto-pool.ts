import type { Attempt, UpstreamEvents, UpstreamStream } from '../core/attempt.ts'
import { FAILURES } from '../core/failure.ts'
import { Timed } from '../core/timer-wheel.ts'
import { type ConnectionAccount, HostAccounts, type Room } from './accounts.ts'
import { AutoStream } from './auto-stream.ts'
import { describeFailure, negotiatedProtocol, type Opener, type Opening, type Transport } from './connect.ts'
import type { HostPool } from './host.ts'
import { Http1Pool } from './http1/pool.ts'
import { Http2Pool, type Http2PoolSite } from './http2/pool.ts'
import type { PoolParts, PoolSite } from './pool.ts'

/** For which a host that has said HTTP_1_1_REQUIRED is taken at its word. */
const HTTP1_REQUIRED_MS = 600_000

/**
 * The pool of a host that says by ALPN what it speaks (Envoy's `auto_config`): a first connection offers both protocols,
 * the requests of that moment wait for it, and the pool of what came out serves from then on.
 *
 * A host that chose HTTP/1 is asked again when it has no connection left; one that takes back HTTP/2 is noticed by its
 * next connection, and asked again by the next request. One that demands HTTP/1 by HTTP_1_1_REQUIRED would choose HTTP/2
 * again: it is not asked for a while.
 */
export class AutoPool implements HostPool {
  readonly #site: PoolSite
  readonly #parts: PoolParts
  readonly #accounts: HostAccounts
  /** Those with connections, one that was given up among them while it drains. */
  readonly #pools = new Set<Http1Pool | Http2Pool>()
  #http1: Http1Pool | undefined = undefined
  #http2: Http2Pool | undefined = undefined
  #probe: Probe | undefined = undefined
  #waiting: AutoStream[] = []
  #http1UntilMs = 0
  #closing = false
  #destroyed = false

  constructor(site: PoolSite, parts: PoolParts) {
    this.#site = site
    this.#parts = parts
    this.#accounts = new HostAccounts(site.host, parts)
  }

  open(attempt: Attempt, events: UpstreamEvents): UpstreamStream | undefined {
    if (this.#http2 !== undefined) return this.#http2.open(attempt, events)
    const http1 = this.#http1
    if (http1 !== undefined && (!http1.empty || this.#parts.wheel.now() < this.#http1UntilMs)) {
      const stream = http1.open(attempt, events)
      if (this.#closing) http1.close()
      return stream
    }
    const sheds = this.#probe === undefined && this.#parts.shedConnect?.sheds() === true
    if (sheds || !this.#accounts.tryWait(attempt.priority)) {
      events.onReset(FAILURES.overflow)
      return undefined
    }
    const stream = new AutoStream(attempt, events, this)
    this.#waiting.push(stream)
    // It has no connection that serves: Envoy lets such a pool always have one.
    this.#probe ??= this.#ask(this.#accounts.admit(attempt.priority, true) as Room)
    return stream
  }

  /** Of what is not known yet the first connection is what there is to open ahead. */
  preconnect(ratio: number): boolean {
    const known = this.#http2 ?? (this.#http1?.empty === false ? this.#http1 : undefined)
    if (known !== undefined) return known.preconnect(ratio)
    if (this.#probe !== undefined || this.#closing || this.#parts.shedConnect?.sheds() === true) return false
    const room = this.#accounts.admitAhead('default')
    if (room !== undefined) this.#probe = this.#ask(room)
    return room !== undefined
  }

  #ask(room: Room): Probe {
    const { config, wheel } = this.#parts
    const { connectors, host, wish } = this.#site
    const probe = new Probe(this.#accounts.opened(room), this)
    if (config.connectTimeoutMs > 0) wheel.arm(probe, config.connectTimeoutMs)
    probe.opening = connectors.auto.open(host, wish, probe)
    return probe
  }

  // --- from the probe -----------------------------------------------------------------------------------------------

  /** The handshake is done: the connection goes to the pool of what it speaks, and after it whoever waits. */
  decided(probe: Probe, transport: Transport): void {
    this.#parts.wheel.disarm(probe)
    this.#probe = undefined
    let pool: Http1Pool | Http2Pool
    if (negotiatedProtocol(transport.socket) === 'h2') {
      const http2 = this.#newHttp2()
      pool = this.#http2 = http2
      this.#pools.add(pool)
      http2.adopt(transport, probe.account)
    } else {
      pool = this.#http1 ??= this.#newHttp1()
      this.#pools.add(pool)
      pool.adopt(transport, probe.account)
    }
    const waiting = this.#waiting
    this.#waiting = []
    for (const stream of waiting) this.#handOver(stream, pool)
    if (this.#closing) this.#closePools()
  }

  #newHttp2(): Http2Pool {
    const site: Http2PoolSite = {
      ...this.#site,
      emptied: () => this.#emptied(pool),
      otherProtocol: (demanded) => this.#forget(pool, demanded),
    }
    const pool: Http2Pool = new Http2Pool(site, this.#parts, this.#site.connectors.auto)
    return pool
  }

  #newHttp1(): Http1Pool {
    const pool: Http1Pool = new Http1Pool(
      { ...this.#site, emptied: () => this.#emptied(pool) },
      this.#parts,
      this.#site.connectors.http1,
    )
    return pool
  }

  #handOver(stream: AutoStream, pool: HostPool): void {
    const { rqPendingTotal } = this.#parts.stats
    this.#accounts.waited(stream.attempt.priority)
    const waits = rqPendingTotal.v
    stream.handOver(pool)
    // It has been counted as waiting when it came; that it goes on to wait for a connection is no second time.
    if (rqPendingTotal.v > waits) rqPendingTotal.v--
  }

  overdue(probe: Probe): void {
    this.#parts.stats.cxConnectTimeout.v++
    probe.opening?.abort()
  }

  failed(probe: Probe, failure: string | undefined, late: boolean): void {
    this.#parts.wheel.disarm(probe)
    this.#probe = undefined
    this.#accounts.connectFailed(probe.account, failure !== undefined)
    const waiting = this.#waiting
    this.#waiting = []
    this.#parts.stats.rqPendingFailureEject.v += waiting.length
    for (const stream of waiting) this.#accounts.waited(stream.attempt.priority)
    for (const stream of waiting) stream.fail(late ? FAILURES.connectTimeout : FAILURES.connectFailed, failure)
    if (this.#closing) this.#closePools()
  }

  // --- from pools and streams ---------------------------------------------------------------------------------------

  /** A connection that should have spoken HTTP/2 does not: the next request finds out what the host speaks now. */
  #forget(pool: Http2Pool, demanded: 'HTTP/1.1' | undefined): void {
    if (this.#http2 === pool) this.#http2 = undefined
    if (demanded !== undefined) {
      this.#http1UntilMs = this.#parts.wheel.now() + HTTP1_REQUIRED_MS
      this.#http1 ??= this.#newHttp1()
      this.#pools.add(this.#http1)
    }
    pool.close()
  }

  #emptied(pool: Http1Pool | Http2Pool): void {
    if (pool !== this.#http1 && pool !== this.#http2) this.#pools.delete(pool)
    this.#tellEmptied()
  }

  #tellEmptied(): void {
    if (!this.#closing || this.#probe !== undefined) return
    for (const pool of this.#pools) if (!pool.empty) return
    this.#site.emptied()
  }

  abandon(stream: AutoStream): void {
    const at = this.#waiting.indexOf(stream)
    if (at < 0) return
    this.#waiting.splice(at, 1)
    this.#accounts.waited(stream.attempt.priority)
  }

  #closePools(): void {
    for (const pool of [...this.#pools]) pool.close()
    this.#tellEmptied()
    if (this.#destroyed) for (const pool of [...this.#pools]) pool.destroy()
  }

  close(): void {
    if (this.#closing) return
    this.#closing = true
    // A request that came just before is served yet; its pool is closed when it has one.
    if (this.#probe === undefined) this.#closePools()
  }

  destroy(): void {
    this.#destroyed = true
    this.close()
    for (const pool of [...this.#pools]) pool.destroy()
    this.#probe?.opening?.abort()
  }
}

/** A connection of which it is not known yet what it will speak. */
class Probe extends Timed implements Opener {
  readonly account: ConnectionAccount
  opening: Opening | undefined = undefined
  readonly #pool: AutoPool
  #late = false

  constructor(account: ConnectionAccount, pool: AutoPool) {
    super()
    this.account = account
    this.#pool = pool
  }

  opened(transport: Transport): void {
    this.#pool.decided(this, transport)
  }

  openFailed(error: NodeJS.ErrnoException | undefined): void {
    const failure = error === undefined || this.#late ? undefined : describeFailure(error)
    this.#pool.failed(this, failure, this.#late)
  }

  override onDue(): void {
    this.#late = true
    this.#pool.overdue(this)
  }
}
