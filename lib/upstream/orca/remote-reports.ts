import type { JsonObject } from '../../core/errors.ts'
import type {
  HealthChannel,
  HealthFollower,
  HealthLink,
  HealthReport,
  HostWeight,
  ReportedHost,
} from '../../core/host-health.ts'
import { Timed, type TimerWheel } from '../../core/timer-wheel.ts'
import type { TurnWork } from '../../core/turn.ts'
import type { OnLoad, ReportSource } from '../balance/policy.ts'
import type { ClusterConfig, OutOfBandConfig } from '../config.ts'
import { endpointOf, identity } from '../health/reported-host.ts'
import type { Host } from '../host.ts'

/** So many hosts are told of at once: no message may take either side long. */
const HOSTS_AT_ONCE = 256
/** How often they are compared with what was told of them. */
const LOOK_MS = 1_000

export interface RemoteReportsParts {
  readonly link: HealthLink
  readonly wheel: TimerWheel
  /** For hosts that this process alone can reach. */
  readonly local: () => ReportSource & { renew(config: ClusterConfig): void }
}

interface Followed {
  readonly host: Host
  /** As it was told of. */
  told: readonly unknown[]
  readonly listeners: Set<OnLoad>
}

/**
 * Has the hosts of a cluster asked for their load by whoever judges hosts for the whole gateway, so that each has one stream,
 * and hears what weights follow from it.
 */
export class RemoteReports extends Timed implements ReportSource, HealthFollower, TurnWork {
  #config: ClusterConfig
  readonly #parts: RemoteReportsParts
  readonly #followed = new Map<string, Followed>()
  #channel: HealthChannel | undefined = undefined
  #local: ReturnType<RemoteReportsParts['local']> | undefined = undefined
  /** Hosts to tell of, and keys of those that are of no interest any more. */
  readonly #set = new Set<Followed>()
  readonly #gone = new Set<string>()
  #deferred = false

  constructor(config: ClusterConfig, parts: RemoteReportsParts) {
    super()
    this.#config = config
    this.#parts = parts
  }

  /** Updates may have changed how hosts are reached. */
  override onDue(): void {
    for (const followed of this.#followed.values()) {
      const now = identity(followed.host)
      if (now.every((part, i) => part === followed.told[i])) continue
      followed.told = now
      this.#set.add(followed)
      this.#later()
    }
    this.#parts.wheel.arm(this, LOOK_MS)
  }

  follow(host: Host, config: OutOfBandConfig, onLoad: OnLoad): () => void {
    if (host.address.kind === 'internal') {
      this.#local ??= this.#parts.local()
      return this.#local.follow(host, config, onLoad)
    }
    const { key } = host
    let followed = this.#followed.get(key)
    if (followed?.host !== host) {
      followed = { host, told: identity(host), listeners: new Set() }
      this.#followed.set(key, followed)
      this.#gone.delete(key)
      this.#set.add(followed)
      this.#later()
    }
    const { listeners } = followed
    listeners.add(onLoad)
    return () => this.#unfollow(host, onLoad)
  }

  #unfollow({ key }: Host, onLoad: OnLoad): void {
    const followed = this.#followed.get(key)
    if (followed === undefined) return
    const { listeners } = followed
    if (!listeners.delete(onLoad) || listeners.size > 0) return
    this.#followed.delete(key)
    this.#set.delete(followed)
    this.#gone.add(key)
    this.#later()
  }

  /** Other certificates for connections to come. */
  renew(config: ClusterConfig): void {
    this.#config = config
    this.#local?.renew(config)
    const channel = this.#channel
    channel?.tell({ kind: 'renew', cluster: channel.cluster, config: this.#told() })
  }

  #later(): void {
    if (this.#deferred) return
    this.#deferred = true
    this.#parts.wheel.turn.defer(this)
  }

  /** All that a turn has brought is told together; a cluster that follows nobody is none that anybody hears of. */
  turnEnds(): void {
    this.#deferred = false
    if (this.#followed.size === 0) {
      const channel = this.#channel
      this.#channel = undefined
      this.#parts.wheel.disarm(this)
      channel?.tell({ kind: 'close', cluster: channel.cluster })
      channel?.[Symbol.dispose]()
    } else if (this.#channel === undefined) {
      this.#channel = this.#parts.link.follow(this)
      this.#parts.wheel.arm(this, LOOK_MS)
      for (const report of this.introduce(this.#channel.cluster)) this.#channel.tell(report)
    } else {
      for (const report of this.#hosts(this.#channel.cluster, [...this.#set], [...this.#gone]))
        this.#channel.tell(report)
    }
    this.#set.clear()
    this.#gone.clear()
  }

  // --- from the link --------------------------------------------------------------------------------------------------

  *introduce(cluster: number): Generator<HealthReport, void> {
    yield { kind: 'open', cluster, config: this.#told(), traffic: true }
    yield* this.#hosts(cluster, [...this.#followed.values()], [])
  }

  heard(): void {}

  /** All of it is told at once anyway. */
  asked(): void {}

  weighed([key, weight, forMs]: HostWeight): void {
    const followed = this.#followed.get(key)
    if (followed === undefined) return
    for (const listener of followed.listeners) listener(weight, forMs)
  }

  // --------------------------------------------------------------------------------------------------------------------

  /** What asking takes: nothing of this is judged. */
  #told(): JsonObject {
    const { outlier: _, healthCheck: __, ...rest } = this.#config
    return { ...rest, localities: [] } as unknown as JsonObject
  }

  *#hosts(cluster: number, set: readonly Followed[], remove: readonly string[]): Generator<HealthReport, void> {
    const size = this.#followed.size
    for (let at = 0; at < Math.max(set.length, remove.length); at += HOSTS_AT_ONCE) {
      const part = set.slice(at, at + HOSTS_AT_ONCE).map(({ host }) => reported(host))
      yield { kind: 'hosts', cluster, size, set: part, remove: remove.slice(at, at + HOSTS_AT_ONCE) }
    }
  }
}

function reported(host: Host): ReportedHost {
  const { key, priority, locality, localityMetadata } = host
  return {
    host: key,
    priority,
    endpoint: endpointOf(host),
    ...(locality && { locality: { ...locality } }),
    ...(localityMetadata && { localityMetadata }),
  }
}
