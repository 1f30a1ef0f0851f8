import type { HostMonitor } from '../../core/attempt.ts'
import { Timed, type TimerWheel } from '../../core/timer-wheel.ts'
import type { ClusterConfig } from '../config.ts'
import { HEALTH, OF_CHECKS } from '../health-flags.ts'
import type { Host } from '../host.ts'
import type { HostSet } from '../host-set.ts'
import type { HealthChecker } from './checker.ts'
import type { HealthLine, ToldOfChecks } from './line.ts'
import type { HealthListener, HealthSource } from './source.ts'

/** How often a cluster without traffic is looked at: checks of one that has some come more often. */
const LOOK_MS = 1_000

export interface RemoteChecksParts {
  readonly line: HealthLine
  readonly hosts: HostSet
  readonly wheel: TimerWheel
  readonly ignoreUnchecked: boolean
  /** The cluster has had a connection. */
  readonly hadTraffic: () => boolean
  readonly listener: HealthListener
  /** For hosts that this process alone can reach. */
  readonly local: (mine: (host: Host) => boolean) => HealthChecker
}

/**
 * Has the hosts of a cluster checked by whoever checks for the whole gateway, and acts on what it says. Internal listeners
 * are in this process, and so are the checks of hosts that are such.
 */
export class RemoteChecks extends Timed implements HealthSource, ToldOfChecks {
  readonly #parts: RemoteChecksParts
  readonly #unchecked: number
  /** Whose first answer is still to come. */
  readonly #unanswered = new Set<Host>()
  readonly #watched = new Map<Host, Watch>()
  #local: HealthChecker | undefined = undefined
  #waiting: (() => void)[] = []
  #traffic = false
  #closed = false

  constructor(parts: RemoteChecksParts) {
    super()
    this.#parts = parts
    this.#unchecked = HEALTH.failedActiveHc | (parts.ignoreUnchecked ? HEALTH.pendingActiveHc : 0)
    parts.wheel.arm(this, LOOK_MS)
  }

  override onDue(): void {
    if (!this.hadTraffic()) this.#parts.wheel.arm(this, LOOK_MS)
    else this.#parts.line.tell({ kind: 'traffic', cluster: this.#parts.line.cluster })
  }

  hadTraffic(): boolean {
    this.#traffic ||= this.#parts.hadTraffic()
    return this.#traffic
  }

  elsewhere(host: Host): boolean {
    return (host.check?.address ?? host.address).kind !== 'internal'
  }

  admit(host: Host): void {
    if (host.check?.disabled !== true) host.setFlags(this.#unchecked, true)
  }

  update(added: readonly Host[], removed: readonly Host[]): void {
    const { hosts } = this.#parts
    for (const host of removed) this.#remove(host)
    for (const host of hosts.all) this.#follow(host)
    const internal = hosts.all.some((host) => !this.elsewhere(host))
    if (internal) this.#local ??= this.#parts.local((host) => !this.elsewhere(host))
    this.#local?.update(
      added.filter((host) => !this.elsewhere(host)),
      removed,
    )
  }

  #follow(host: Host): void {
    const wanted = host.check?.disabled !== true && this.elsewhere(host)
    if (wanted === this.#watched.has(host)) return
    if (!wanted) {
      this.#remove(host)
      this.#parts.hosts.flag(host, OF_CHECKS, false)
    } else {
      const watch = new Watch(host, this)
      this.#watched.set(host, watch)
      host.watch(watch)
      this.#unanswered.add(host)
      this.#parts.hosts.flag(host, this.#unchecked, true)
    }
  }

  #remove(host: Host): void {
    const watch = this.#watched.get(host)
    if (watch === undefined) return
    this.#watched.delete(host)
    host.unwatch(watch)
    this.#answered(host)
  }

  checked(host: Host): boolean {
    return this.#watched.has(host) && !this.#unanswered.has(host)
  }

  told(host: Host, checked: boolean, changed: boolean): void {
    if (checked) this.#answered(host)
    this.#parts.listener.hostChecked(host, changed)
  }

  /** Whoever judges hears of it at once, and says so to the others. */
  checkFailRequested(host: Host): void {
    const { hosts, line, listener } = this.#parts
    const changed = hosts.flag(host, HEALTH.failedActiveHc | HEALTH.excludedViaImmediateHcFail, true)
    if (!changed) return
    line.tell({ kind: 'check-failed', cluster: line.cluster, host: host.key })
    listener.hostChecked(host, true)
  }

  #answered(host: Host): void {
    if (!this.#unanswered.delete(host) || this.#unanswered.size > 0) return
    // Who waits picks a host next.
    this.#parts.hosts.turnEnds()
    for (const resolve of this.#waiting.splice(0)) resolve()
  }

  async ready(): Promise<void> {
    if (this.#unanswered.size > 0) await new Promise<void>((resolve) => this.#waiting.push(resolve))
    await this.#local?.ready()
  }

  /** The line tells whoever checks. */
  renew(config: ClusterConfig): void {
    this.#local?.renew(config)
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#parts.wheel.disarm(this)
    for (const host of [...this.#watched.keys()]) this.#remove(host)
    for (const resolve of this.#waiting.splice(0)) resolve()
    this.#local?.close()
  }
}

/** Looks at the responses of one host for its own wish to be left out. */
class Watch implements HostMonitor {
  readonly #host: Host
  readonly #checks: RemoteChecks

  constructor(host: Host, checks: RemoteChecks) {
    this.#host = host
    this.#checks = checks
  }

  onResponse(): void {}

  onFailure(): void {}

  onCheckFailRequested(): void {
    this.#checks.checkFailRequested(this.#host)
  }
}
