import type { Attempt, PickContext, UpstreamEvents, UpstreamStream } from '../core/attempt.ts'
import type { ConnectionInfo } from '../core/connection.ts'
import type { ConnectWish } from './connect.ts'
import type { HostPool } from './host.ts'
import { Http1Pool } from './http1/pool.ts'
import { Http2Pool } from './http2/pool.ts'
import type { PoolParts, PoolSite } from './pool.ts'
import { serverIdentity } from './tls/sni.ts'

/** One pool per protocol that clients speak (Envoy's `use_downstream_protocol_config`), each made when first needed. */
export class DownstreamPools implements HostPool {
  readonly #site: PoolSite
  readonly #parts: PoolParts
  #http1: Http1Pool | undefined = undefined
  #http2: Http2Pool | undefined = undefined
  #closing = false

  constructor(site: PoolSite, parts: PoolParts) {
    this.#site = site
    this.#parts = parts
  }

  open(attempt: Attempt, events: UpstreamEvents): UpstreamStream | undefined {
    const http2 = attempt.downstreamProtocol === 'HTTP/2'
    const known = http2 ? this.#http2 : this.#http1
    if (known !== undefined) return known.open(attempt, events)
    const pool = this.#make(http2)
    const stream = pool.open(attempt, events)
    if (this.#closing) pool.close()
    return stream
  }

  preconnect(ratio: number, { protocol }: PickContext): boolean {
    if (this.#closing) return false
    const http2 = protocol === 'HTTP/2'
    return ((http2 ? this.#http2 : this.#http1) ?? this.#make(http2)).preconnect(ratio)
  }

  #make(http2: boolean): Http1Pool | Http2Pool {
    const { connectors } = this.#site
    const site: PoolSite = { ...this.#site, emptied: () => this.#emptied() }
    return http2
      ? (this.#http2 = new Http2Pool(site, this.#parts, connectors.http2))
      : (this.#http1 = new Http1Pool(site, this.#parts, connectors.http1))
  }

  #emptied(): void {
    if (this.#closing && this.#http1?.empty !== false && this.#http2?.empty !== false) this.#site.emptied()
  }

  close(): void {
    if (this.#closing) return
    this.#closing = true
    this.#http1?.close()
    this.#http2?.close()
    if (this.#http1 === undefined && this.#http2 === undefined) this.#site.emptied()
  }

  destroy(): void {
    this.close()
    this.#http1?.destroy()
    this.#http2?.destroy()
  }
}

/** Pools that a host has at a time, for identities and for clients; the one unused for longest makes room. */
const MAX_IDENTITIES = 100
const MAX_CLIENTS = 1024

/**
 * One pool per identity that TLS asks for and expects, where it follows the request or the endpoint (`auto_sni`,
 * `auto_host_sni`), and per client where connections tell of it (PROXY header). Bounded: both come from clients.
 */
export class IdentityPools implements HostPool {
  readonly #site: PoolSite
  readonly #parts: PoolParts
  readonly #make: (site: PoolSite, parts: PoolParts) => HostPool
  /** In order of use. */
  readonly #pools = new Map<string, HostPool>()
  /** Those that may have connections, the ones that made room included. */
  readonly #alive = new Set<HostPool>()
  readonly #limit: number
  #closing = false
  /** The pool of the latest request, and what that request was for. */
  #last: HostPool | undefined = undefined
  #lastAuthority = ''
  #lastHostname = ''
  #lastDownstream: ConnectionInfo | undefined = undefined
  #lastDepth = 0

  constructor(site: PoolSite, parts: PoolParts, make: (site: PoolSite, parts: PoolParts) => HostPool) {
    this.#site = site
    this.#parts = parts
    this.#make = make
    this.#limit = site.connectors.perClient ? MAX_CLIENTS : MAX_IDENTITIES
  }

  open(attempt: Attempt, events: UpstreamEvents): UpstreamStream | undefined {
    const pool = this.#for(attempt.head.authority, attempt.downstream)
    const stream = pool.open(attempt, events)
    if (this.#closing) pool.close()
    return stream
  }

  preconnect(ratio: number, like: PickContext): boolean {
    return !this.#closing && this.#for(like.authority ?? '', like.downstream).preconnect(ratio, like)
  }

  #for(asked: string, client: ConnectionInfo | undefined): HostPool {
    const { connectors, host } = this.#site
    const { hostname } = host
    const authority = connectors.tls?.autoSni === 'authority' ? asked : ''
    const downstream = connectors.perClient ? client : undefined
    const depth = host.address.kind === 'internal' ? (client?.state.depth ?? 0) : 0
    let pool = this.#last
    if (
      pool === undefined ||
      authority !== this.#lastAuthority ||
      hostname !== this.#lastHostname ||
      downstream !== this.#lastDownstream ||
      depth !== this.#lastDepth
    ) {
      pool = this.#of({ authority, downstream, depth })
      this.#last = pool
      this.#lastAuthority = authority
      this.#lastHostname = hostname
      this.#lastDownstream = downstream
      this.#lastDepth = depth
    }
    return pool
  }

  #of(wish: ConnectWish): HostPool {
    const { connectors, host } = this.#site
    const { tls } = connectors
    const identity = tls && serverIdentity(tls, host.hostname, wish.authority)
    // Neither name can hold a blank.
    const names = identity === undefined ? '' : `${identity.serverName ?? ''} ${identity.expectedHost ?? ''}`
    const key = `${names}\n${connectors.clientKey(wish.downstream)}\n${wish.depth ?? 0}`
    const known = this.#pools.get(key)
    // One that is closed and empty has been forgotten: a request that comes late gets another.
    const pool = known !== undefined && this.#alive.has(known) ? known : this.#create(wish)
    // Written again, it is the newest.
    this.#pools.delete(key)
    this.#pools.set(key, pool)
    if (this.#pools.size > this.#limit) this.#makeRoom()
    return pool
  }

  #create(wish: ConnectWish): HostPool {
    const emptied = (): void => this.#emptied(pool)
    const pool = this.#make({ ...this.#site, wish, emptied }, this.#parts)
    this.#alive.add(pool)
    return pool
  }

  #makeRoom(): void {
    for (const [key, pool] of this.#pools) {
      this.#pools.delete(key)
      pool.close()
      return
    }
  }

  #emptied(pool: HostPool): void {
    this.#alive.delete(pool)
    if (this.#last === pool) this.#last = undefined
    if (this.#closing && this.#alive.size === 0) this.#site.emptied()
  }

  close(): void {
    if (this.#closing) return
    this.#closing = true
    if (this.#alive.size === 0) this.#site.emptied()
    for (const pool of [...this.#alive]) pool.close()
  }

  destroy(): void {
    this.close()
    for (const pool of [...this.#alive]) pool.destroy()
  }
}
