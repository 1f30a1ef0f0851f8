import { type Metrics, noRuntime } from '../core/metrics.ts'
import type { TurnWork } from '../core/turn.ts'
import type { SinkLease } from '../telemetry/sinks/registry.ts'
import type { ClusterDeps } from './cluster.ts'
import type { ClusterConfig } from './config.ts'
import { HealthChecker } from './health/checker.ts'
import { HealthEventLog } from './health/event-log.ts'
import type { HealthListener } from './health/source.ts'
import { CheckConnections } from './health/target.ts'
import { HEALTH } from './health-flags.ts'
import type { Host } from './host.ts'
import type { HostSet, MembershipRules } from './host-set.ts'
import { OutlierDetector } from './outlier/detector.ts'
import { OutlierEventLog } from './outlier/event-log.ts'
import type { PoolParts } from './pool.ts'
import type { Transports } from './transports.ts'

/** What the health of a cluster's hosts is made of. */
export interface ClusterHealthParts {
  readonly hosts: HostSet
  /** Of the cluster. */
  readonly metrics: Metrics
  readonly pools: PoolParts
  readonly transports: Transports
  ownTransports(config: ClusterConfig): Transports
  /** A host has just become unhealthy: its connections are not for what comes. */
  failed(host: Host): void
  /** A host whose configuration has gone, and which is unhealthy now. */
  expired(host: Host): void
}

/** Active checks and outlier detection of one cluster, as far as it is configured to have them. */
export class ClusterHealth implements HealthListener, MembershipRules, TurnWork, Disposable {
  readonly #config: ClusterConfig
  readonly #deps: ClusterDeps
  readonly #parts: ClusterHealthParts
  readonly #checker: HealthChecker | undefined
  readonly #outlier: OutlierDetector | undefined
  /** Have become unhealthy in this turn. */
  #failed: Host[] = []

  /** @throws the system's error where an event log cannot be opened. */
  constructor(config: ClusterConfig, deps: ClusterDeps, parts: ClusterHealthParts) {
    this.#config = config
    this.#deps = deps
    this.#parts = parts
    this.#outlier = this.#makeOutlier()
    try {
      this.#checker = this.#makeChecker()
    } catch (error) {
      this.#outlier?.[Symbol.dispose]()
      throw error
    }
  }

  #makeOutlier(): OutlierDetector | undefined {
    const { outlier, name, statName } = this.#config
    if (outlier === undefined) return undefined
    const { hosts, metrics } = this.#parts
    const { wheel, runtime = noRuntime, random } = this.#deps
    const [sink] = this.#open(outlier.eventLogPath === undefined ? [] : [outlier.eventLogPath])
    const log = sink === undefined ? undefined : new OutlierEventLog(name, wheel.clock, sink)
    const ejected = (host: Host): void => this.#fail(host)
    return new OutlierDetector(outlier, { statName, hosts, wheel, metrics, runtime, random, log, ejected })
  }

  #makeChecker(): HealthChecker | undefined {
    const { healthCheck, name, statName, ignoreUnchecked = false } = this.#config
    if (healthCheck === undefined) return undefined
    const { hosts, metrics, pools, transports } = this.#parts
    const { wheel, runtime = noRuntime, random, log: applicationLog } = this.#deps
    const sinks = this.#open(healthCheck.eventLogPaths)
    const log =
      sinks.length === 0 ? undefined : new HealthEventLog(name, healthCheck.probe.kind, { clock: wheel.clock, sinks })
    return new HealthChecker(healthCheck, {
      clusterName: name,
      statName,
      hosts,
      wheel,
      metrics,
      runtime,
      applicationLog,
      random,
      log,
      connections: new CheckConnections(this.#config, healthCheck, {
        parts: pools,
        transports,
        own: (config) => this.#parts.ownTransports(config),
      }),
      hadTraffic: () => pools.stats.cxTotal.v > 0,
      ignoreUnchecked,
      listener: this,
    })
  }

  #open(paths: readonly string[]): SinkLease[] {
    const { sinks } = this.#deps
    const open: SinkLease[] = []
    if (sinks === undefined) return open
    try {
      for (const path of paths) open.push(sinks.open({ kind: 'file', path }))
    } catch (error) {
      for (const sink of open) sink[Symbol.dispose]()
      throw error
    }
    return open
  }

  /** Whether a host that is gone from the configuration stays until it fails a check (Envoy's rule). */
  stays(host: Host): boolean {
    if (this.#checker === undefined || this.#config.ignoreHealthOnRemoval === true) return false
    return host.check?.disabled !== true && !host.has(HEALTH.failedActiveHc | HEALTH.failedEdsHealth)
  }

  admit(host: Host): void {
    this.#checker?.admit(host)
  }

  /** After each update of the membership. */
  update(added: readonly Host[], removed: readonly Host[]): void {
    this.#outlier?.update(added, removed)
    this.#checker?.update(added, removed)
  }

  /** Resolves when every host has been checked once. */
  ready(): Promise<void> {
    return this.#checker?.ready() ?? Promise.resolve()
  }

  renew(config: ClusterConfig): void {
    this.#checker?.renew(config)
  }

  hostChecked(host: Host, changed: boolean): void {
    if (!host.has(HEALTH.failedActiveHc)) this.#outlier?.checked(host)
    else if (host.has(HEALTH.pendingDynamicRemoval)) {
      this.#parts.expired(host)
      return
    }
    if (changed && host.health === 'unhealthy') this.#fail(host)
  }

  /** At the end of the turn: it is told from within the failures of the connections that are to be closed. */
  #fail(host: Host): void {
    if (this.#failed.push(host) === 1) this.#deps.wheel.turn.defer(this)
  }

  turnEnds(): void {
    for (const host of this.#failed.splice(0)) if (host.health === 'unhealthy') this.#parts.failed(host)
  }

  [Symbol.dispose](): void {
    this.#checker?.close()
    this.#outlier?.[Symbol.dispose]()
  }
}
