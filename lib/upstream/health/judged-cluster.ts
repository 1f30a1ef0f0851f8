import type { HealthReport, HostVerdict, HostWeight, ReportedHost } from '../../core/host-health.ts'
import type { Metrics, MetricsGroup } from '../../core/metrics.ts'
import { sameJson } from '../../core/same-json.ts'
import type { ClusterStatus, HostRates } from '../../core/status.ts'
import type { TurnWork } from '../../core/turn.ts'
import { type ClusterDeps, UpstreamCluster } from '../cluster.ts'
import type { ClusterConfig, LocalityConfig } from '../config.ts'
import { HEALTH, OF_CHECKS, OF_OUTLIERS } from '../health-flags.ts'
import { Host, type ResolvedEndpoint } from '../host.ts'
import { differs } from '../host-set.ts'
import type { FlaggedHosts } from '../host-view.ts'
import { askingIn, SharedReports } from '../orca/shared-reports.ts'
import { Reporting } from '../orca/source.ts'
import type { OutlierDetector } from '../outlier/detector.ts'
import { Transports } from '../transports.ts'
import type { HealthChecker } from './checker.ts'
import { Confirmations } from './confirmations.ts'
import { makeChecker, makeDetector } from './make.ts'
import type { Member } from './member.ts'
import type { HealthListener } from './source.ts'
import { uncounted } from './uncounted.ts'

export interface JudgedParts {
  readonly deps: ClusterDeps
  /** Tells every worker which hosts are ejected. */
  readonly announce: (hosts: readonly string[]) => void
}

/**
 * One cluster whose hosts are judged for all workers: the union of the hosts that workers tell of, checked and rated by the
 * same code as in a gateway of one process. Everybody who knows a host hears what becomes of it, at the end of the turn.
 */
export class JudgedCluster implements HealthListener, FlaggedHosts, TurnWork, Disposable {
  readonly name: string
  /** What it is found by. */
  key: string
  #config: ClusterConfig
  readonly #deps: ClusterDeps
  readonly #cells: MetricsGroup | undefined
  /** Undefined: nothing is checked. */
  readonly #transports: Transports | undefined
  readonly #checker: HealthChecker | undefined
  readonly #outlier: OutlierDetector | undefined
  readonly #hosts = new Map<string, Host>()
  readonly #checked = new Set<Host>()
  readonly #members = new Set<Member>()
  readonly #confirmations: Confirmations
  readonly #reporting: Reporting | undefined
  /** Undefined: nobody is asked for its load. */
  readonly #reports: SharedReports | undefined
  /** Whose report is being taken in. */
  #teller: Member | undefined = undefined
  #traffic = false
  #size = 0
  #deferred = false
  /** Keys of hosts that are ejected or degraded. */
  readonly #ejected = new Set<string>()
  readonly #announce: (hosts: readonly string[]) => void
  #announced = true

  /** @throws the system's error where an event log cannot be opened. */
  constructor(key: string, config: ClusterConfig, { deps, announce }: JudgedParts) {
    this.#announce = announce
    this.key = key
    this.name = config.name
    this.#config = config
    this.#deps = deps
    this.#cells = deps.metrics.group?.(`cluster.${config.statName}`)
    const metrics = this.#cells ?? deps.metrics
    const judged = config.healthCheck !== undefined || config.outlier !== undefined
    // Who has hosts asked for their load tells of those by themselves.
    const asking = judged ? undefined : askingIn(config.balancer)
    const connects = config.healthCheck !== undefined || asking !== undefined
    this.#transports = connects ? this.#makeTransports(config) : undefined
    this.#reporting = asking && this.#makeReporting(config, metrics)
    this.#reports =
      this.#reporting &&
      asking &&
      new SharedReports(asking, {
        source: this.#reporting,
        clock: deps.wheel.clock,
        weighed: (host) => this.#noteWeight(host),
      })
    const size = (): number => this.#size
    const confirm = (host: Host, row: number): boolean => this.#confirm(host, row)
    this.#outlier = makeDetector(config, deps, { hosts: this, metrics, size, ejected: () => {}, confirm })
    const confirmed = (host: Host, rows: Iterable<number>): void => {
      for (const row of rows) this.#outlier?.confirmed(host, row)
    }
    this.#confirmations = new Confirmations({ wheel: deps.wheel, confirmed })
    try {
      this.#checker = this.#makeChecker(metrics)
    } catch (error) {
      this.#outlier?.[Symbol.dispose]()
      this.#cells?.release()
      throw error
    }
  }

  #makeReporting(config: ClusterConfig, metrics: Metrics): Reporting {
    const transports = this.#transports as Transports
    const ownTransports = (own: ClusterConfig): Transports => this.#makeTransports(own)
    const deps = { ...this.#deps, health: undefined }
    return new Reporting(config, { deps, metrics, connections: () => ({ transports, ownTransports }) })
  }

  #makeChecker(metrics: Metrics): HealthChecker | undefined {
    if (this.#transports === undefined) return undefined
    return makeChecker(this.#config, this.#deps, {
      hosts: this,
      metrics,
      transports: this.#transports,
      ownTransports: (config) => this.#makeTransports(config),
      hadTraffic: () => this.#traffic,
      listener: this,
      // Internal listeners are in the workers.
      mine: (host) => (host.check?.address ?? host.address).kind !== 'internal',
    })
  }

  /** Checks are no traffic: nobody counts their handshakes. */
  #makeTransports(config: ClusterConfig): Transports {
    const deps = this.#deps
    return new Transports(config, uncounted, {
      readBuffer: undefined,
      internal: undefined,
      clock: deps.wheel.clock,
      bindErrors: () => uncounted.counter(''),
      makeCluster: (own) => new UpstreamCluster(own, { ...deps, metrics: uncounted, health: undefined }),
    })
  }

  get idle(): boolean {
    return this.#members.size === 0
  }

  join(member: Member, traffic: boolean): void {
    this.#members.add(member)
    if (traffic) this.#traffic = true
  }

  /** What it alone told of goes. */
  leave(member: Member): void {
    if (!this.#members.delete(member)) return
    this.#confirmations.left(member)
    this.#forget([...member.keys])
  }

  renew(config: ClusterConfig): void {
    this.#config = config
    this.#transports?.renew(config)
    this.#checker?.renew(config)
    this.#reporting?.renew(config)
  }

  /** What a member tells, but for its coming and going. */
  told(member: Member, report: HealthReport): void {
    this.#teller = member
    switch (report.kind) {
      case 'hosts':
        this.#size = report.size
        this.#take(member, report.set)
        for (const key of report.remove) member.keys.delete(key)
        this.#forget(report.remove)
        break
      case 'traffic':
        this.#traffic = true
        break
      case 'check-failed': {
        const host = this.#hosts.get(report.host)
        if (host !== undefined) this.#checker?.checkFailRequested(host)
        break
      }
      case 'counts':
        for (const counts of report.hosts) {
          const host = this.#hosts.get(counts[0])
          if (host !== undefined) this.#outlier?.add(host, counts)
        }
        break
      case 'answered': {
        const host = this.#hosts.get(report.host)
        if (host !== undefined) this.#confirmations.answered(host, member)
        break
      }
      case 'detected':
      case 'degraded':
      case 'evicted':
        this.#detected(report)
        break
    }
  }

  /** Whoever has just told has told everything. */
  #confirm(host: Host, row: number): boolean {
    const others: Member[] = []
    for (const member of this.#members) if (member !== this.#teller && !member.gone) others.push(member)
    return this.#confirmations.ask(host, row, others)
  }

  #detected(report: HealthReport & { kind: 'detected' | 'degraded' | 'evicted' }): void {
    const host = this.#hosts.get(report.host)
    if (host === undefined) return
    if (report.kind === 'degraded') this.#outlier?.reportedDegraded(host)
    else if (report.kind === 'evicted') this.#outlier?.reportedEviction(host, report.forMs)
    else this.#outlier?.reported(host, report.row, report.failures, report.enforced)
    // Also where there was no room here: the worker takes its ejection back.
    this.#note(host)
  }

  #take(member: Member, set: readonly ReportedHost[]): void {
    const added: Host[] = []
    const known = new Map<Host, HostVerdict>()
    for (const reported of set) {
      const { host: key, priority, endpoint, locality, localityMetadata, known: verdict } = reported
      const resolved = endpoint as unknown as ResolvedEndpoint
      const place = locality as unknown as LocalityConfig | undefined
      let host = this.#hosts.get(key)
      if (host === undefined) {
        host = new Host(resolved, priority, place)
        this.#hosts.set(key, host)
        added.push(host)
      } else if (differs(host, resolved, place)) host.assign(resolved, place)
      if (!sameJson(host.localityMetadata, localityMetadata)) host.localityMetadata = localityMetadata
      if (verdict !== undefined) known.set(host, verdict)
      member.keys.add(key)
      if (this.#reports?.weight(host) !== undefined) {
        member.noteWeight(key)
        this.#later()
      }
      if (this.#checked.has(host) || host.has(OF_OUTLIERS) || this.#outlier?.state(host) !== undefined) this.#note(host)
    }
    this.#reports?.update(added, [])
    this.#outlier?.update(added, [])
    const fresh = new Set(added)
    for (const [host, { flags, checked, ejection, degradation }] of known) {
      if (checked && fresh.has(host)) this.#checked.add(host)
      // Each worker may have ejected others while nobody told them of each other's.
      if (ejection !== undefined) this.#outlier?.resume(host, ejection, (flags & HEALTH.failedOutlierCheck) !== 0)
      if (degradation !== undefined) this.#outlier?.resumeDegraded(host, degradation)
    }
    this.#checker?.update(added, [], (host) => {
      const verdict = known.get(host)
      return verdict?.checked === true ? verdict.flags & OF_CHECKS : undefined
    })
  }

  /** Unless another worker still has them. */
  #forget(keys: readonly string[]): void {
    const gone: Host[] = []
    for (const key of keys) {
      const host = this.#hosts.get(key)
      if (host === undefined || this.#wanted(key)) continue
      this.#hosts.delete(key)
      this.#checked.delete(host)
      if (this.#ejected.delete(key)) this.#announceLater()
      gone.push(host)
    }
    if (gone.length === 0) return
    this.#reports?.update([], gone)
    this.#outlier?.update([], gone)
    this.#checker?.update([], gone)
  }

  #wanted(key: string): boolean {
    for (const member of this.#members) if (member.keys.has(key)) return true
    return false
  }

  // --- from checks and outlier detection ------------------------------------------------------------------------------

  get all(): Iterable<Host> {
    return this.#hosts.values()
  }

  flag(host: Host, mask: number, on: boolean): boolean {
    const was = host.has(OF_OUTLIERS)
    if (!host.setFlags(mask, on)) return false
    if (host.has(OF_OUTLIERS) !== was) {
      if (was) this.#ejected.delete(host.key)
      else this.#ejected.add(host.key)
      this.#announceLater()
    }
    this.#note(host)
    return true
  }

  hostChecked(host: Host): void {
    if (!this.#checked.has(host)) {
      this.#checked.add(host)
      this.#note(host)
    }
    if (!host.has(HEALTH.failedActiveHc)) this.#outlier?.checked(host)
  }

  #note(host: Host): void {
    for (const member of this.#members) member.note(host.key)
    this.#later()
  }

  #noteWeight(host: Host): void {
    for (const member of this.#members) member.noteWeight(host.key)
    this.#later()
  }

  /** Undefined: its load is not known. */
  weight(key: string): HostWeight | undefined {
    const host = this.#hosts.get(key)
    return host && this.#reports?.weight(host)
  }

  /** Also to workers that have not told of the host: they may be about to use it. */
  #announceLater(): void {
    this.#announced = false
    this.#later()
  }

  #later(): void {
    if (this.#deferred) return
    this.#deferred = true
    this.#deps.wheel.turn.defer(this)
  }

  get ejected(): ReadonlySet<string> {
    return this.#ejected
  }

  turnEnds(): void {
    this.#deferred = false
    for (const member of this.#members) member.flush()
    if (this.#announced) return
    this.#announced = true
    this.#announce([...this.#ejected])
  }

  /** Undefined: it is gone. */
  verdict(key: string): HostVerdict | undefined {
    const host = this.#hosts.get(key)
    if (host === undefined) return undefined
    const checked = this.#checked.has(host)
    const ejection = this.#outlier?.state(host)
    const degradation = this.#outlier?.degradation(host)
    const flags = host.flags & (OF_CHECKS | OF_OUTLIERS)
    return { host: key, flags, checked, ...(ejection && { ejection }), ...(degradation && { degradation }) }
  }

  // --- for `/clusters` ------------------------------------------------------------------------------------------------

  /** It has something to add to what workers say. */
  get rates(): boolean {
    return this.#outlier !== undefined
  }

  /** What workers say of it, with the rates that are known here alone. */
  complete(status: ClusterStatus): ClusterStatus {
    const outlier = this.#outlier
    if (outlier === undefined) return status
    const rates = new Map<string, HostRates>()
    for (const host of this.#hosts.values()) {
      const own = { external: outlier.successRate(host, 'external'), local: outlier.successRate(host, 'local') }
      rates.set(`${host.addressText}@${host.priority}`, own)
    }
    return {
      ...status,
      outlier: { external: outlier.figures('external'), local: outlier.figures('local') },
      hosts: status.hosts.map((host) => ({
        ...host,
        rates: rates.get(`${host.address}@${host.priority}`) ?? NO_RATES,
      })),
    }
  }

  /** Nothing is checked any more. */
  [Symbol.dispose](): void {
    this.#checker?.close()
    this.#confirmations[Symbol.dispose]()
    this.#reports?.[Symbol.dispose]()
    this.#outlier?.[Symbol.dispose]()
    for (const tunnels of this.#transports?.tunnels ?? []) tunnels.destroy()
    this.#hosts.clear()
    this.#cells?.release()
  }
}

const NO_RATES: HostRates = Object.freeze({ external: -1, local: -1 })
