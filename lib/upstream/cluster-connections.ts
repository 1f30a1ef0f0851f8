import type {
  Attempt,
  ByteAttempt,
  ByteEvents,
  ByteStream,
  PickContext,
  UpstreamEvents,
  UpstreamStream,
} from '../core/attempt.ts'
import { FAILURES } from '../core/failure.ts'
import type { Counter, Metrics } from '../core/metrics.ts'
import type { ClusterDeps } from './cluster-deps.ts'
import type { ClusterTraffic } from './cluster-traffic.ts'
import type { ClusterConfig } from './config.ts'
import type { ConnectorParts, Connectors, ConnectWish } from './connect.ts'
import type { HboneTunnels } from './hbone/tunnels.ts'
import type { Host, HostPool } from './host.ts'
import { createHostPool } from './pool.ts'
import { PoolRoom } from './pool-room.ts'
import { ByteConnections } from './tcp/byte-connections.ts'
import { Transports } from './transports.ts'

const NO_WISH: ConnectWish = Object.freeze({ authority: '', downstream: undefined })

/** What the connections of a cluster are made with. */
export interface ConnectionParts {
  readonly config: ClusterConfig
  readonly deps: ClusterDeps
  readonly metrics: Metrics
  readonly traffic: ClusterTraffic
  readonly makeCluster: ConnectorParts['makeCluster']
}

/** The connections of one cluster to all of its hosts: pooled ones and raw ones, over the transports that they have. */
export class ClusterConnections {
  /** Of hosts; what checks them may use them too. */
  readonly transports: Transports
  readonly #parts: ConnectionParts
  readonly #bytes: ByteConnections
  /** All that have connections or may get some, those of removed hosts included; and what theirs are made with. */
  readonly #pools = new Map<HostPool, Connectors>()
  readonly #room = new PoolRoom()
  #drained: (() => void)[] = []

  constructor(parts: ConnectionParts) {
    this.#parts = parts
    this.transports = this.ownTransports(parts.config)
    this.#bytes = new ByteConnections(parts.traffic.pools, this.transports)
  }

  /** Such as these, for a configuration that differs from the cluster's. */
  ownTransports(config: ClusterConfig): Transports {
    const { deps, metrics, makeCluster, traffic } = this.#parts
    const { readBuffer, internal, wheel } = deps
    const bindErrors = (): Counter => traffic.stats.bindErrors
    return new Transports(config, metrics, { readBuffer, internal, clock: wheel.clock, bindErrors, makeCluster })
  }

  /** To a host that has no pool. One that is `leaving` serves this once, and nothing is kept for later. */
  open(host: Host, attempt: Attempt, { events, leaving }: OpenFor): UpstreamStream | undefined {
    const pool = this.#makePool(host, attempt.priority)
    if (pool === undefined) {
      events.onReset(FAILURES.noHealthyHost)
      return undefined
    }
    const stream = pool.open(attempt, events)
    if (leaving) pool.close()
    return stream
  }

  /** Opens a connection to a host that is likely to be chosen next; false: it is not needed, or there is no room. */
  preconnect(host: Host, ratio: number, like: PickContext): boolean {
    return (host.pool ?? this.#makePool(host, 'default'))?.preconnect(ratio, like) ?? false
  }

  /** Undefined: there may be no more of them. */
  #makePool(host: Host, priority: Attempt['priority']): HostPool | undefined {
    if (!this.#room.take(this.#parts.traffic.breakers.of(priority).pools)) return undefined
    const connectors = this.transports.of(host)
    const emptied = (): void => this.#emptied(host, pool)
    const pool = createHostPool({ host, connectors, wish: NO_WISH, emptied }, this.#parts.traffic.pools)
    host.pool = pool
    this.#pools.set(pool, connectors)
    this.#room.given(pool, host)
    return pool
  }

  connect(host: Host, attempt: ByteAttempt, events: ByteEvents): ByteStream | undefined {
    return this.#bytes.open(host, attempt, events)
  }

  /** An update may have given a host labels that mean another transport: what comes now gets a pool of its own. */
  checkTransport(host: Host): void {
    const { pool } = host
    if (pool === undefined || this.#pools.get(pool) === this.transports.peek(host)) return
    host.pool = undefined
    pool.close()
  }

  /** New connections use the certificates of this configuration. */
  renew(config: ClusterConfig): void {
    this.transports.renew(config)
  }

  /** Raw connections to this host end. */
  destroyRaw(host: Host): void {
    this.#bytes.destroy(host)
  }

  /** Tunnels that connections go through. */
  get tunnels(): readonly HboneTunnels[] {
    return this.transports.tunnels
  }

  /** Idle connections close now, busy ones after their exchange. */
  close(): void {
    for (const pool of this.#pools.keys()) pool.close()
  }

  destroy(): void {
    for (const pool of this.#pools.keys()) pool.destroy()
    this.#bytes.destroy()
  }

  /** Resolves when no connection is left. */
  async drained(): Promise<void> {
    if (this.#pools.size > 0) await new Promise<void>((resolve) => this.#drained.push(resolve))
    await this.#bytes.drained()
  }

  #emptied(host: Host, pool: HostPool): void {
    this.#pools.delete(pool)
    this.#room.back(pool)
    if (host.pool === pool) host.pool = undefined
    if (this.#pools.size === 0) for (const resolve of this.#drained.splice(0)) resolve()
  }
}

/** For whom a stream is opened. */
export interface OpenFor {
  readonly events: UpstreamEvents
  readonly leaving: boolean
}
