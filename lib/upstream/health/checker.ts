import type { Log, Metrics, Runtime } from '../../core/metrics.ts'
import { runtimeInteger } from '../../core/runtime-value.ts'
import type { TimerWheel } from '../../core/timer-wheel.ts'
import { HEALTH, OF_CHECKS } from '../health-flags.ts'
import type { Host } from '../host.ts'
import type { FlaggedHosts } from '../host-view.ts'
import { ByteProbe } from './byte-probe.ts'
import type { HealthCheckConfig } from './config.ts'
import type { HealthEventLog } from './event-log.ts'
import { GrpcProbe } from './grpc-probe.ts'
import { HttpCheck, HttpProbe } from './http-probe.ts'
import type { Probe } from './probe.ts'
import { RedisQuestion } from './redis-probe.ts'
import { CheckSession } from './session.ts'
import type { HealthListener, HealthSource } from './source.ts'
import { HealthCheckStats } from './stats.ts'
import { type CheckConnections, CheckTarget } from './target.ts'
import { TcpQuestion } from './tcp-probe.ts'

/** What a checker works with. */
export interface CheckerParts {
  readonly clusterName: string
  readonly statName: string
  readonly hosts: FlaggedHosts
  /** Whether it is this checker that checks a host; default: all of them. */
  readonly mine?: (host: Host) => boolean
  readonly wheel: TimerWheel
  readonly metrics: Metrics
  readonly runtime: Runtime
  readonly applicationLog: Log
  /** In [0, 1). */
  readonly random: () => number
  readonly log: HealthEventLog | undefined
  readonly connections: CheckConnections
  /** The cluster has had a connection. */
  readonly hadTraffic: () => boolean
  /** New hosts count as if they were not there until they have been checked. */
  readonly ignoreUnchecked: boolean
  readonly listener: HealthListener
}

/** Asks the hosts of one cluster how they are, from this process, for as long as they are members. */
export class HealthChecker implements HealthSource {
  readonly config: HealthCheckConfig
  readonly stats: HealthCheckStats
  readonly wheel: TimerWheel
  readonly log: HealthEventLog | undefined
  readonly #parts: CheckerParts
  readonly #http: HttpCheck | undefined
  readonly #sessions = new Map<Host, CheckSession>()
  /** Sessions whose first answer is still to come. */
  #unanswered = 0
  #waiting: (() => void)[] = []

  constructor(config: HealthCheckConfig, parts: CheckerParts) {
    this.config = config
    this.#parts = parts
    this.wheel = parts.wheel
    this.log = parts.log
    this.stats = new HealthCheckStats(parts.metrics, parts.statName)
    const { probe } = config
    const verify = (): boolean => {
      const percent = runtimeInteger(parts.runtime, 'health_check.verify_cluster') ?? 100
      return parts.random() * 100 < percent
    }
    const shared = { clusterName: parts.clusterName, verified: this.stats.verifyCluster, verify }
    this.#http = probe.kind === 'http' ? new HttpCheck(probe, shared) : undefined
  }

  /**
   * New hosts are unhealthy until they have answered well once. `known`: the flags that earlier checks left on a host; it
   * keeps them, and is asked some time within its interval.
   */
  update(added: readonly Host[], removed: readonly Host[], known?: (host: Host) => number | undefined): void {
    for (const host of removed) this.#remove(host)
    const fresh: CheckSession[] = []
    for (const host of added) {
      if (!this.#checks(host)) continue
      const flags = known?.(host)
      if (flags === undefined) fresh.push(this.#add(host))
      else this.#resume(host, flags & OF_CHECKS)
    }
    for (const host of this.#parts.hosts.all) this.#follow(host, fresh)
    // Behind all of them: an answer may come within.
    for (const session of fresh) session.begin()
  }

  /** A host is about to become a member. */
  admit(host: Host): void {
    if (this.#checks(host)) host.setFlags(this.#unchecked, true)
  }

  #checks(host: Host): boolean {
    return host.check?.disabled !== true && this.#parts.mine?.(host) !== false
  }

  /** One that asked by traffic to be left out. */
  checkFailRequested(host: Host): void {
    this.#sessions.get(host)?.onCheckFailRequested()
  }

  get #unchecked(): number {
    return HEALTH.failedActiveHc | (this.#parts.ignoreUnchecked ? HEALTH.pendingActiveHc : 0)
  }

  #add(host: Host): CheckSession {
    this.flag(host, this.#unchecked, true)
    this.#unanswered++
    return this.#open(host)
  }

  #open(host: Host): CheckSession {
    const session = new CheckSession(host, this, this.#probeOf(host))
    this.#sessions.set(host, session)
    host.watch(session)
    return session
  }

  #resume(host: Host, flags: number): void {
    this.flag(host, flags, true)
    if (!host.has(HEALTH.failedActiveHc)) this.stats.healthy.v++
    if (host.has(HEALTH.degradedActiveHc)) this.stats.degraded.v++
    this.#open(host).resume(Math.floor(this.#parts.random() * this.intervalMs(!host.has(HEALTH.failedActiveHc), false)))
  }

  /** An update may have switched the checks of a known host on or off. */
  #follow(host: Host, fresh: CheckSession[]): void {
    const checks = this.#checks(host)
    if (!checks && this.#sessions.has(host)) {
      this.#remove(host)
      this.flag(host, OF_CHECKS, false)
    } else if (checks && !this.#sessions.has(host)) fresh.push(this.#add(host))
  }

  #remove(host: Host): void {
    const session = this.#sessions.get(host)
    if (session === undefined) return
    this.#sessions.delete(host)
    host.unwatch(session)
    if (!host.has(HEALTH.failedActiveHc)) this.stats.healthy.v--
    if (host.has(HEALTH.degradedActiveHc)) this.stats.degraded.v--
    session.close()
    if (session.first) this.#oneLess()
  }

  #probeOf(host: Host): Probe {
    const { probe, reuseConnection } = this.config
    const { connections, wheel, applicationLog } = this.#parts
    const target = new CheckTarget(host, connections)
    if (this.#http !== undefined) return new HttpProbe(this.#http, host, target)
    if (probe.kind === 'tcp') return new ByteProbe(new TcpQuestion(probe), target, reuseConnection)
    if (probe.kind === 'redis') return new ByteProbe(new RedisQuestion(probe), target, reuseConnection)
    if (probe.kind === 'grpc') return new GrpcProbe(probe, host, { target, wheel, log: applicationLog })
    throw new TypeError(`no probe of kind ${probe.kind}`)
  }

  async ready(): Promise<void> {
    if (this.#unanswered > 0) await new Promise<void>((resolve) => this.#waiting.push(resolve))
  }

  // --- from sessions --------------------------------------------------------------------------------------------------

  flag(host: Host, mask: number, on: boolean): boolean {
    return this.#parts.hosts.flag(host, mask, on)
  }

  /** After each answer. */
  answered(host: Host, changed: boolean, first: boolean): void {
    if (first) this.#oneLess()
    this.#parts.listener.hostChecked(host, changed)
  }

  #oneLess(): void {
    if (--this.#unanswered > 0) return
    // Who waits picks a host next.
    this.#parts.hosts.turnEnds()
    for (const resolve of this.#waiting.splice(0)) resolve()
  }

  initialDelayMs(): number {
    return Math.floor(this.#parts.random() * this.config.initialJitterMs)
  }

  /** Until the next question, after an answer that was good or not, and that `pending` more of may change something. */
  intervalMs(good: boolean, pending: boolean): number {
    const { config } = this
    let base: number
    if (!this.#parts.hadTraffic()) base = good ? config.noTrafficHealthyIntervalMs : config.noTrafficIntervalMs
    else if (good) base = pending ? config.healthyEdgeIntervalMs : config.intervalMs
    else base = pending ? config.unhealthyEdgeIntervalMs : config.unhealthyIntervalMs
    const { random, runtime } = this.#parts
    let ms = base + Math.floor(random() * config.intervalJitterMs)
    ms += Math.floor((random() * base * config.intervalJitterPercent) / 100)
    const least = runtimeInteger(runtime, 'health_check.min_interval') ?? 0
    const most = runtimeInteger(runtime, 'health_check.max_interval') ?? LONGEST_MS
    // Never at once: a host that answers at once would otherwise be asked without end.
    return Math.max(1, Math.min(Math.max(ms, least), most))
  }

  /** Other certificates for connections to come. */
  renew(config: Parameters<CheckConnections['renew']>[0]): void {
    this.#parts.connections.renew(config)
  }

  close(): void {
    for (const host of [...this.#sessions.keys()]) this.#remove(host)
    this.#parts.connections.close()
    for (const resolve of this.#waiting.splice(0)) resolve()
    this.log?.[Symbol.dispose]()
  }
}

/** What timers can wait for. */
const LONGEST_MS = 0x7fff_ffff
