import type { EjectionListener, HealthLink } from '../core/host-health.ts'
import { type Metrics, noRuntime } from '../core/metrics.ts'
import type { HostRates, OutlierFigures } from '../core/status.ts'
import type { TurnWork } from '../core/turn.ts'
import type { ClusterDeps } from './cluster.ts'
import type { ClusterConfig } from './config.ts'
import type { HealthChecker } from './health/checker.ts'
import { HealthLine } from './health/line.ts'
import { eventLogPaths, makeChecker, makeDetector, openSinks } from './health/make.ts'
import { RemoteChecks } from './health/remote-checks.ts'
import type { HealthListener, HealthSource } from './health/source.ts'
import { HEALTH, OF_OUTLIERS } from './health-flags.ts'
import type { Host } from './host.ts'
import type { HostSet, MembershipRules } from './host-set.ts'
import { OutlierOutpost } from './outlier/outpost.ts'
import { OUTLIER_CELLS } from './outlier/stats.ts'
import type { OutlierWatch } from './outlier/watch.ts'
import type { Transports } from './transports.ts'

/** What the health of a cluster's hosts is made of. */
export interface ClusterHealthParts {
  readonly hosts: HostSet
  /** Of the cluster. */
  readonly metrics: Metrics
  transports(): Transports
  ownTransports(config: ClusterConfig): Transports
  /** The cluster has had a connection. */
  readonly hadTraffic: () => boolean
  /** A host has just become unhealthy: its connections are not for what comes. */
  failed(host: Host): void
  /** A host whose configuration has gone, and which is unhealthy now. */
  expired(host: Host): void
}

/**
 * Active checks and outlier detection of one cluster, as far as it is configured to have them: all of it in this process, or
 * what is to be done here where somebody else judges hosts for the whole gateway.
 */
export class ClusterHealth implements HealthListener, MembershipRules, EjectionListener, TurnWork, Disposable {
  #config: ClusterConfig
  readonly #deps: ClusterDeps
  readonly #parts: ClusterHealthParts
  #checker: HealthSource | undefined = undefined
  #outlier: OutlierWatch | undefined = undefined
  #line: HealthLine | undefined = undefined
  /** Have become unhealthy in this turn. */
  #failed: Host[] = []

  /** @throws the system's error where an event log cannot be opened. */
  constructor(config: ClusterConfig, deps: ClusterDeps, parts: ClusterHealthParts) {
    this.#config = config
    this.#deps = deps
    this.#parts = parts
    if (config.healthCheck === undefined && config.outlier === undefined) return
    if (deps.health !== undefined) this.#makeRemote(deps.health)
    else this.#makeOwn()
  }

  #makeOwn(): void {
    const { hosts, metrics } = this.#parts
    const ejected = (host: Host): void => this.#fail(host)
    this.#outlier = makeDetector(this.#config, this.#deps, { hosts, metrics, ejected })
    try {
      this.#checker = this.#makeChecker()
    } catch (error) {
      this.#outlier?.[Symbol.dispose]()
      throw error
    }
  }

  #makeChecker(mine?: (host: Host) => boolean): HealthChecker | undefined {
    // Before `transports`, which a cluster has from its first connection on.
    if (this.#config.healthCheck === undefined) return undefined
    const { hosts, metrics, hadTraffic } = this.#parts
    const ownTransports = (config: ClusterConfig): Transports => this.#parts.ownTransports(config)
    const transports = this.#parts.transports()
    const on = { hosts, metrics, transports, ownTransports, hadTraffic, listener: this, mine }
    return makeChecker(this.#config, this.#deps, on)
  }

  #makeRemote(link: HealthLink): void {
    const config = this.#config
    // Control writes them. What cannot be opened is refused here all the same, before the cluster is used.
    for (const sink of openSinks(this.#deps, eventLogPaths(config))) sink[Symbol.dispose]()
    const { hosts, metrics, hadTraffic } = this.#parts
    const { wheel, random, runtime = noRuntime } = this.#deps
    const { healthCheck, outlier, ignoreUnchecked = false } = config
    if (outlier !== undefined) {
      metrics.declare?.(`cluster.${config.statName}.`, OUTLIER_CELLS)
      link.listen(config.name, this)
      const ejected = (host: Host): void => this.#fail(host)
      const line = (): HealthLine => this.#lineTo(link)
      this.#outlier = new OutlierOutpost(outlier, { hosts, wheel, runtime, random, link, line, ejected })
    }
    if (healthCheck === undefined) return
    const local = (mine: (host: Host) => boolean): HealthChecker => this.#makeChecker(mine) as HealthChecker
    const line = this.#lineTo(link)
    const parts = { line, hosts, wheel, ignoreUnchecked, hadTraffic, listener: this, local }
    this.#checker = line.checks = new RemoteChecks(parts)
  }

  /** Whoever tells of a host hears what is known of it. */
  ejectedElsewhere(keys: readonly string[]): void {
    for (const key of keys) this.#askAbout(this.#parts.hosts.find(key))
  }

  #askAbout(host: Host | undefined): void {
    const link = this.#deps.health
    if (host === undefined || link === undefined || host.has(OF_OUTLIERS)) return
    this.#lineTo(link).mention(host)
  }

  #lineTo(link: HealthLink): HealthLine {
    if (this.#line !== undefined) return this.#line
    this.#line = new HealthLine(this.#config, { hosts: this.#parts.hosts, link })
    if (this.#outlier instanceof OutlierOutpost) this.#line.outlier = this.#outlier
    return this.#line
  }

  /** Whether a host that is gone from the configuration stays until it fails a check (Envoy's rule). */
  stays(host: Host): boolean {
    const { type, ignoreHealthOnRemoval } = this.#config
    if (this.#checker === undefined || ignoreHealthOnRemoval === true) return false
    // Forgotten by those who have made them for requests: they come again as others.
    if (type === 'dynamic-forward-proxy' || type === 'original-dst') return false
    return host.check?.disabled !== true && !host.has(HEALTH.failedActiveHc | HEALTH.failedEdsHealth)
  }

  admit(host: Host): void {
    this.#checker?.admit(host)
  }

  /** After each update of the membership. */
  update(added: readonly Host[], removed: readonly Host[]): void {
    this.#outlier?.update(added, removed)
    this.#checker?.update(added, removed)
    this.#line?.update(added, removed)
    const ejected = this.#outlier && this.#deps.health?.ejected(this.#config.name)
    if (ejected !== undefined) for (const host of added) if (ejected.includes(host.key)) this.#askAbout(host)
  }

  /** Resolves when every host has been checked once. */
  ready(): Promise<void> {
    return this.#checker?.ready() ?? Promise.resolve()
  }

  renew(config: ClusterConfig): void {
    this.#config = config
    this.#checker?.renew(config)
    this.#line?.renew(config)
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
    this.#line?.[Symbol.dispose]()
    this.#deps.health?.unlisten(this.#config.name, this)
  }

  // --- for `/clusters` ------------------------------------------------------------------------------------------------

  /** Undefined: there is no outlier detection. */
  figures(): OutlierFigures | undefined {
    const outlier = this.#outlier
    return outlier && { external: outlier.figures('external'), local: outlier.figures('local') }
  }

  rates(host: Host): HostRates | undefined {
    const outlier = this.#outlier
    return outlier && { external: outlier.successRate(host, 'external'), local: outlier.successRate(host, 'local') }
  }
}
