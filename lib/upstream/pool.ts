import type { ShedPoint } from '../core/overload.ts'
import type { TimerWheel } from '../core/timer-wheel.ts'
import type { Http2Stats } from '../http2/contract.ts'
import { AutoPool } from './auto-pool.ts'
import type { CircuitBreakers } from './breaker.ts'
import type { ClusterConfig } from './config.ts'
import type { Connectors, ConnectWish } from './connect.ts'
import type { Host, HostPool } from './host.ts'
import { Http1Pool } from './http1/pool.ts'
import { Http2Pool } from './http2/pool.ts'
import { DownstreamPools, IdentityPools } from './split-pools.ts'
import type { ClusterStats } from './stats.ts'
import type { TrafficMeter } from './traffic.ts'

/** What the pools of one cluster share. */
export interface PoolParts {
  readonly config: ClusterConfig
  readonly stats: ClusterStats
  readonly http2Stats: Http2Stats
  readonly breakers: CircuitBreakers
  readonly wheel: TimerWheel
  readonly traffic: TrafficMeter
  /** In [0, 1). */
  readonly random: () => number
  readonly nextConnectionId: () => number
  /** No connections are opened under overload, beyond those that are there. */
  readonly shedConnect?: ShedPoint | undefined
}

/** One pool's place. */
export interface PoolSite {
  readonly host: Host
  /** Of the host's transport. */
  readonly connectors: Connectors
  /** What its connections are wanted for. */
  readonly wish: ConnectWish
  /** The pool is closing and its last connection has gone. May be called again after a request that came late. */
  readonly emptied: () => void
}

/** The pool of one host as its cluster wants it. */
export function createHostPool(site: PoolSite, parts: PoolParts): HostPool {
  const { tls, perClient } = site.connectors
  // A connection that was verified for one name never serves a request for another, nor one client's another. One that
  // comes back to us serves requests that have come equally far: or a circle of internal listeners would never end.
  const within = site.host.address.kind === 'internal'
  const split = perClient || within || (tls !== undefined && tls.autoSni !== 'none')
  if (split) return new IdentityPools(site, parts, createProtocolPool)
  return createProtocolPool(site, parts)
}

function createProtocolPool(site: PoolSite, parts: PoolParts): HostPool {
  const { config } = parts
  const { connectors } = site
  switch (config.protocol) {
    case 'http1':
      return new Http1Pool(site, parts, connectors.http1)
    case 'http2':
      return new Http2Pool(site, parts, connectors.http2)
    case 'downstream':
      return new DownstreamPools(site, parts)
    case 'auto':
      // Without TLS nobody says what the peer speaks.
      return connectors.tls === undefined ? new Http1Pool(site, parts, connectors.http1) : new AutoPool(site, parts)
  }
}
