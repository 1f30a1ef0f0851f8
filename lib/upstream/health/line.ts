import type { JsonObject } from '../../core/errors.ts'
import type {
  EjectionState,
  HealthChannel,
  HealthFollower,
  HealthLink,
  HealthReport,
  HostVerdict,
  ReportedHost,
} from '../../core/host-health.ts'
import type { ClusterConfig } from '../config.ts'
import { HEALTH, OF_CHECKS, OF_OUTLIERS } from '../health-flags.ts'
import type { Host } from '../host.ts'
import type { HostSet } from '../host-set.ts'
import { addressOf, endpointOf, identity } from './reported-host.ts'

/** So many hosts are told of at once: no message may take either side long. */
const HOSTS_AT_ONCE = 256

/** The part of a cluster that has its checks made elsewhere. */
export interface ToldOfChecks {
  /** It is not checked in this process. */
  elsewhere(host: Host): boolean
  checked(host: Host): boolean
  hadTraffic(): boolean
  told(host: Host, checked: boolean, changed: boolean): void
}

/** The part of a cluster that learns of ejections. */
export interface ToldOfEjections {
  state(host: Host): EjectionState | undefined
  degradation(host: Host): HostVerdict['degradation']
  told(host: Host, verdict: HostVerdict, was: boolean): void
  /** What was counted of the host and not told is told now. */
  tellNow(host: Host): void
}

export interface LineParts {
  readonly hosts: HostSet
  readonly link: HealthLink
}

/**
 * What one cluster of a worker says of its hosts to whoever judges them for the whole gateway, and hears of them. Of a
 * cluster without checks it tells of single hosts, when there is something to tell.
 */
export class HealthLine implements HealthFollower, Disposable {
  #config: ClusterConfig
  readonly #hosts: HostSet
  readonly #channel: HealthChannel
  /** The hosts that were told of, with what was told. */
  readonly #known = new Map<Host, readonly unknown[]>()
  readonly #checked: boolean
  checks: ToldOfChecks | undefined = undefined
  outlier: ToldOfEjections | undefined = undefined

  constructor(config: ClusterConfig, { hosts, link }: LineParts) {
    this.#config = config
    this.#hosts = hosts
    this.#checked = config.healthCheck !== undefined
    this.#channel = link.follow(this)
    this.tell(this.#opening(this.#channel.cluster))
  }

  get cluster(): number {
    return this.#channel.cluster
  }

  tell(report: HealthReport): void {
    this.#channel.tell(report)
  }

  /** After each change of membership, or of what is known of hosts. */
  update(added: readonly Host[], removed: readonly Host[]): void {
    const set: Host[] = []
    if (this.#checked) {
      for (const host of added) set.push(host)
      for (const [host, told] of this.#known) {
        if (identity(host).some((part, i) => part !== told[i])) set.push(host)
      }
    }
    const remove: string[] = []
    for (const host of removed) if (this.#known.delete(host)) remove.push(host.key)
    for (const host of set) this.#known.set(host, identity(host))
    if (added.length === 0 && removed.length === 0 && set.length === 0) return
    for (const report of this.#reports(this.cluster, set, remove, false)) this.tell(report)
  }

  /** Before something is told of one host. */
  mention(host: Host): void {
    if (this.#known.has(host)) return
    this.#known.set(host, identity(host))
    for (const report of this.#reports(this.cluster, [host], [], false)) this.tell(report)
  }

  renew(config: ClusterConfig): void {
    this.#config = config
    if (this.#checked) this.tell({ kind: 'renew', cluster: this.cluster, config: told(config) })
  }

  // --- from the link --------------------------------------------------------------------------------------------------

  *introduce(cluster: number): Generator<HealthReport, void> {
    yield this.#opening(cluster)
    yield* this.#reports(cluster, [...this.#known.keys()], [], true)
  }

  heard(verdict: HostVerdict): void {
    const { host: key, flags, checked } = verdict
    const host = this.#hosts.find(key)
    if (host === undefined || !this.#known.has(host)) return
    const { checks, outlier } = this
    const was = host.has(HEALTH.failedOutlierCheck)
    const before = host.flags
    const elsewhere = checks?.elsewhere(host) === true
    const mask = (elsewhere ? OF_CHECKS : 0) | (outlier === undefined ? 0 : OF_OUTLIERS)
    this.#hosts.flag(host, mask & ~flags, false)
    this.#hosts.flag(host, mask & flags, true)
    outlier?.told(host, verdict, was)
    if (elsewhere) checks?.told(host, checked, host.flags !== before)
  }

  weighed(): void {}

  asked(key: string): void {
    const host = this.#hosts.find(key)
    if (host !== undefined) this.outlier?.tellNow(host)
    this.tell({ kind: 'answered', cluster: this.cluster, host: key })
  }

  // --------------------------------------------------------------------------------------------------------------------

  #opening(cluster: number): HealthReport {
    const traffic = this.checks?.hadTraffic() === true
    return { kind: 'open', cluster, config: told(this.#config), traffic }
  }

  /** At least one report: the size may have changed alone. */
  *#reports(
    cluster: number,
    set: readonly Host[],
    remove: readonly string[],
    again: boolean,
  ): Generator<HealthReport, void> {
    const { size } = this.#hosts
    for (let at = 0; at === 0 || at < Math.max(set.length, remove.length); at += HOSTS_AT_ONCE) {
      const part = set.slice(at, at + HOSTS_AT_ONCE).map((host) => this.#reported(host, again))
      yield { kind: 'hosts', cluster, size, set: part, remove: remove.slice(at, at + HOSTS_AT_ONCE) }
    }
  }

  #reported(host: Host, again: boolean): ReportedHost {
    const { key, priority, locality, localityMetadata } = host
    return {
      host: key,
      priority,
      endpoint: this.checks?.elsewhere(host) === true ? endpointOf(host) : addressOf(host),
      ...(locality && { locality: { ...locality } }),
      ...(localityMetadata && { localityMetadata }),
      ...(again && { known: this.#verdict(host) }),
    }
  }

  #verdict(host: Host): HostVerdict {
    const ejection = this.outlier?.state(host)
    const degradation = this.outlier?.degradation(host)
    const flags = host.flags & (OF_CHECKS | OF_OUTLIERS)
    const checked = this.checks?.checked(host) === true
    return { host: host.key, flags, checked, ...(ejection && { ejection }), ...(degradation && { degradation }) }
  }

  [Symbol.dispose](): void {
    this.tell({ kind: 'close', cluster: this.cluster })
    this.#known.clear()
    this.#channel[Symbol.dispose]()
  }
}

/** What judging takes. Endpoints are told by themselves; without checks nothing is connected to. */
function told(config: ClusterConfig): JsonObject {
  const { name, statName, outlier, healthCheck } = config
  const part = healthCheck === undefined ? { name, statName, outlier } : { ...config, localities: [] }
  return part as unknown as JsonObject
}
