import type { HostMonitor, PickContext } from '../../core/attempt.ts'
import type { Failure } from '../../core/failure.ts'
import type { Host } from '../host.ts'
import type { HostPicker } from './picker.ts'
import type { PickerFactory } from './picker-factory.ts'

export interface LatencyOptions {
  /** In [0, 1). */
  readonly random: () => number
  /** Monotonic milliseconds. */
  readonly now: () => number
  /** What was measured counts half after about this time. */
  readonly decayMs: number
}

/** Health that a host is left with by one failure, and the part of what is missing that a success gives back. */
const FAILURE_LEAVES = 0.5
const SUCCESS_GIVES = 0.2
/** Below it a host is sick: it gets single requests, to see how it is, and no others. Two failures in a row. */
const SICK_BELOW = 0.3
const HEALTH_AFTER_PROBE = 0.5
const MIN_HEALTH = 0.02
/** Between one look at a sick host and the next: growing from one to the other, in time and in turns of all hosts. */
const FIRST_PROBE_MS = 200
const LAST_PROBE_MS = 1_400
const FIRST_PROBE_TURNS = 2
const LAST_PROBE_TURNS = 64
/** A host that has not answered at all for so long, and for so many times what it takes as a rule, is sick as well. */
const STALLED_MS = 400
const STALLED_TIMES = 10
/** Part of the difference that a measurement makes, at least: in logarithms, so that one outlier is no more than that. */
const SAMPLE_GIVES = 0.25
/** Of the comparisons that a slow host loses, it is chosen in so many all the same: how else would it show otherwise? */
const LEAST_CHANCE = 1 / 64

/** gRPC statuses that speak against the host and not against the request: UNKNOWN, INTERNAL, UNAVAILABLE, DATA_LOSS. */
const BAD_GRPC = Object.freeze([2, 13, 14, 15])

/**
 * What is known of one host from how its requests went.
 *
 * ```
 *            2 failures, or no answer at all
 *   well ───────────────────────────────────▶ sick ──┐ single requests at 0.2 s … 1.4 s, each
 *    ▲                                         │  ▲──┘ later than the one before
 *    └────── one success (health 0.5, rising) ─┘
 * ```
 */
export class HostLatency implements HostMonitor {
  readonly #host: Host
  readonly #options: LatencyOptions
  /** Milliseconds; 0: nothing has been measured. */
  latencyMs = 0
  /** In (0, 1]. */
  health = 1
  sick = false
  /** Sick: when the next request may go there, by time and by number of picks; and how often that was in vain. */
  #probeAtMs = 0
  #probeAtPick = 0
  #probes = 0
  #measuredMs = 0
  /** Since when something has been sent and nothing has come back; 0: it has. */
  #waitingSinceMs = 0
  #sickSinceMs = 0
  #recoveredMs = 0
  /** Requests of before the recovery that nothing is expected of any more, and that do not count as load. */
  #stale = 0

  constructor(host: Host, options: LatencyOptions) {
    this.#host = host
    this.#options = options
  }

  /** What another request would wait for, relatively. */
  cost(): number {
    const host = this.#host
    if (this.#stale > host.rqActive) this.#stale = host.rqActive
    const load = host.rqActive - this.#stale + 1
    return (this.latencyMs * load) / (host.weight * this.health)
  }

  /** As `cost`, for comparing with a host that nothing has been measured of. */
  loadCost(): number {
    return (this.#host.rqActive + 1) / (this.#host.weight * this.health)
  }

  /** True where it is sick, or has turned out to be: nothing has come back for too long. */
  isSick(nowMs: number): boolean {
    if (this.sick) return true
    const since = this.#waitingSinceMs
    if (since === 0 || nowMs - since < STALLED_MS || this.#host.rqActive === 0) return false
    if (nowMs - since < STALLED_TIMES * this.latencyMs) return false
    this.#fallSick(nowMs)
    return true
  }

  /** Of a sick host: a request may go there now, to see how it is. */
  mayProbe(nowMs: number, picks: number, hosts: number): boolean {
    // How many turns there are to wait for is known here alone.
    if (this.#probeAtPick === 0) this.#probeAtPick = picks + hosts * turns(this.#probes)
    if (nowMs < this.#probeAtMs || picks < this.#probeAtPick) return false
    this.#probes++
    this.#probeAtMs = nowMs + Math.min(FIRST_PROBE_MS * 2 ** this.#probes, LAST_PROBE_MS)
    this.#probeAtPick = picks + hosts * turns(this.#probes)
    return true
  }

  picked(nowMs: number): void {
    if (this.#waitingSinceMs === 0 || this.#host.rqActive === 0) this.#waitingSinceMs = nowMs
  }

  onResponse(status: number, grpcStatus: number | undefined, elapsedMs: number): void {
    this.#waitingSinceMs = 0
    const now = this.#options.now()
    if (status >= 500 || (grpcStatus !== undefined && BAD_GRPC.includes(grpcStatus))) {
      // How fast it failed says nothing of how fast it serves.
      this.#failed(now, elapsedMs)
      return
    }
    const begunMs = now - elapsedMs
    if (this.sick) this.#recover(now)
    else if (this.#isOld(begunMs)) this.#stale--
    else this.health += (1 - this.health) * SUCCESS_GIVES
    // What was sent to a host that then fell sick took as long as the sickness did.
    if (begunMs >= this.#sickSinceMs || this.#sickSinceMs === 0) this.#measured(elapsedMs, now)
  }

  onFailure(why: Failure, elapsedMs: number): void {
    // The limits of the gateway are not the host's fault; that it was too slow is.
    if (why.source !== 'upstream' && why.code !== 'upstream-timeout') return
    this.#waitingSinceMs = 0
    this.#failed(this.#options.now(), elapsedMs)
  }

  #failed(nowMs: number, elapsedMs: number): void {
    if (!this.sick && this.#isOld(nowMs - elapsedMs)) {
      // It was sent before the recovery: old news.
      this.#stale--
      return
    }
    this.health = Math.max(MIN_HEALTH, this.health * FAILURE_LEAVES)
    if (!this.sick && this.health < SICK_BELOW) this.#fallSick(nowMs)
  }

  #isOld(begunMs: number): boolean {
    return this.#stale > 0 && begunMs < this.#recoveredMs
  }

  #fallSick(nowMs: number): void {
    this.sick = true
    this.#sickSinceMs = this.#waitingSinceMs === 0 ? nowMs : this.#waitingSinceMs
    this.#probes = 0
    this.#probeAtMs = nowMs + FIRST_PROBE_MS
    this.#probeAtPick = 0
  }

  #recover(nowMs: number): void {
    this.sick = false
    this.health = Math.max(this.health, HEALTH_AFTER_PROBE)
    this.#recoveredMs = nowMs
    // The one that has answered may be among the active ones still; that it is forgiven, too, does no harm.
    this.#stale = this.#host.rqActive
  }

  #measured(elapsedMs: number, nowMs: number): void {
    // Below the resolution of the clock everything is equally fast.
    const sample = Math.max(elapsedMs, 0.5)
    const age = nowMs - this.#measuredMs
    this.#measuredMs = nowMs
    if (this.latencyMs === 0) {
      this.latencyMs = sample
      return
    }
    const part = Math.max(SAMPLE_GIVES, 1 - 0.5 ** (age / this.#options.decayMs))
    this.latencyMs *= (sample / this.latencyMs) ** part
  }
}

function turns(probes: number): number {
  return Math.min(FIRST_PROBE_TURNS * 2 ** probes, LAST_PROBE_TURNS)
}

/** The hosts of a cluster and what is known of each; makes pickers for any lists of them. */
export class LatencyTable implements PickerFactory {
  readonly #options: LatencyOptions
  readonly #known = new Map<Host, HostLatency>()
  /** Choices made so far, in any of the lists. */
  picks = 0

  constructor(options: LatencyOptions) {
    this.#options = options
  }

  picker(hosts: readonly Host[]): HostPicker {
    const latencies = hosts.map((host) => this.#of(host))
    return new BetterOfTwo(hosts, latencies, { ...this.#options, table: this })
  }

  /** What is known of a host; undefined where it was never in a list. */
  get(host: Host): HostLatency | undefined {
    return this.#known.get(host)
  }

  /** Lets go of hosts that are in none of the lists any more. */
  keep(hosts: readonly Host[]): void {
    const left = new Set(hosts)
    for (const [host, latency] of this.#known) {
      if (left.has(host)) continue
      host.unwatch(latency)
      this.#known.delete(host)
    }
  }

  #of(host: Host): HostLatency {
    const known = this.#known.get(host)
    if (known !== undefined) return known
    const latency = new HostLatency(host, this.#options)
    host.watch(latency)
    this.#known.set(host, latency)
    return latency
  }

  [Symbol.dispose](): void {
    this.keep([])
  }
}

/** How often two are drawn in the hope of one that is not sick. */
const DRAWS = 2

/** Draws two hosts and takes the one with the lower cost, the more surely the more they differ. */
class BetterOfTwo implements HostPicker {
  readonly #hosts: readonly Host[]
  readonly #latencies: readonly HostLatency[]
  readonly #options: LatencyOptions & { readonly table: LatencyTable }

  constructor(
    hosts: readonly Host[],
    latencies: readonly HostLatency[],
    options: LatencyOptions & { readonly table: LatencyTable },
  ) {
    this.#hosts = hosts
    this.#latencies = latencies
    this.#options = options
  }

  next(_context: PickContext, attempt: number): Host {
    const count = this.#hosts.length
    const now = this.#options.now()
    // A pick that was not wanted is none.
    if (attempt === 0) this.#options.table.picks++
    const index = count === 1 ? 0 : this.#choose(count, now)
    this.#latencies[index].picked(now)
    return this.#hosts[index]
  }

  #choose(count: number, now: number): number {
    const { random, table } = this.#options
    let index = 0
    for (let draw = 0; draw < DRAWS; draw++) {
      const a = Math.floor(random() * count)
      const other = Math.floor(random() * (count - 1))
      const b = other < a ? other : other + 1
      const aSick = this.#latencies[a].isSick(now)
      const bSick = this.#latencies[b].isSick(now)
      if (!aSick && !bSick) return this.#better(a, b)
      if (aSick && this.#latencies[a].mayProbe(now, table.picks, count)) return a
      if (bSick && this.#latencies[b].mayProbe(now, table.picks, count)) return b
      if (!aSick) return a
      if (!bSick) return b
      index = this.#better(a, b)
    }
    return index
  }

  /** By the cube of the costs: equal ones get halves, one of twice the other's a ninth, one of ten times a thousandth. */
  #better(a: number, b: number): number {
    const first = this.#latencies[a]
    const second = this.#latencies[b]
    const measured = first.latencyMs > 0 && second.latencyMs > 0
    const costA = measured ? first.cost() : first.loadCost()
    const costB = measured ? second.cost() : second.loadCost()
    const ratio = costA / costB
    const chance = 1 / (1 + ratio * ratio * ratio)
    return this.#options.random() < Math.max(LEAST_CHANCE, Math.min(chance, 1 - LEAST_CHANCE)) ? a : b
  }
}
