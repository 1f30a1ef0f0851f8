import type { PickContext, WantedHosts } from '../core/attempt.ts'
import { FAILURES, type Failure } from '../core/failure.ts'
import type { Metrics, Runtime } from '../core/metrics.ts'
import { runtimeInteger } from '../core/runtime-value.ts'
import type { TimerWheel } from '../core/timer-wheel.ts'
import { AddressIndex } from './balance/address-index.ts'
import { type Balancer, type BalancerOptions, createBalancer } from './balance/balancer.ts'
import type { ReportSource } from './balance/policy.ts'
import type { ClusterConfig } from './config.ts'
import { HEALTH } from './health-flags.ts'
import type { Host } from './host.ts'
import type { HostSet, HostSetOptions } from './host-set.ts'
import type { HostView } from './host-view.ts'
import type { ClusterStats } from './stats.ts'

/** What balancing needs of a gateway. */
export interface BalancingDeps {
  readonly wheel: TimerWheel
  readonly random: () => number
  readonly runtime?: Runtime
  /** The hosts of a cluster of the gateway as it is now; undefined: no routing by zone. */
  readonly hostsOf?: (cluster: string) => HostView | undefined
}

/** How the hosts of a cluster are kept. */
export function hostSetOptions(config: ClusterConfig, { wheel, runtime }: BalancingDeps): HostSetOptions {
  return { turn: wheel.turn, now: () => wheel.now(), panicThreshold: panicThreshold(config, runtime) }
}

/** What a cluster has for its balancer. */
export interface BalancingParts {
  readonly deps: BalancingDeps
  /** Asked when there is something to count. */
  readonly stats: () => ClusterStats
  readonly metrics: Metrics
  /** Undefined: hosts are not asked for load reports. */
  readonly reports?: ReportSource | undefined
}

/** Chooses the host of a request, or says why there is none. */
export class ClusterBalancer implements Disposable {
  readonly #config: ClusterConfig
  readonly #hosts: HostSet
  readonly #parts: BalancingParts
  readonly #random: () => number
  readonly #stats: () => ClusterStats
  #balancer: Balancer | undefined = undefined
  #addresses: AddressIndex | undefined = undefined
  #retired = false
  readonly #wantedHealth: readonly Host['configuredHealth'][]

  constructor(config: ClusterConfig, hosts: HostSet, parts: BalancingParts) {
    this.#config = config
    this.#hosts = hosts
    this.#parts = parts
    this.#random = parts.deps.random
    this.#stats = parts.stats
    this.#wantedHealth = config.wantedHealth ?? WANTED_HEALTH
    if (!madeByFirstPick(config)) this.#make()
  }

  #make(): Balancer {
    this.#balancer = createBalancer(this.#config.balancer, this.#hosts, balancerOptions(this.#config, this.#parts))
    if (this.#retired) this.#balancer.retire?.()
    return this.#balancer
  }

  /** Of first tries the share that is to be dropped is dropped. */
  pick(context: PickContext): Host | Failure {
    const { dropOverload } = this.#hosts
    if (dropOverload > 0 && isFirst(context) && this.#random() < dropOverload) {
      this.#stats().rqDropOverload.v++
      return FAILURES.dropOverload
    }
    const { wanted } = context
    const host =
      (wanted && this.#wanted(wanted)) ??
      (wanted?.otherwise === undefined && (this.#balancer ?? this.#make()).pick(context))
    if (host) return host
    this.#stats().cxNoneHealthy.v++
    return wanted?.otherwise ?? FAILURES.noHealthyHost
  }

  #wanted({ addresses }: WantedHosts): Host | undefined {
    this.#addresses ??= new AddressIndex(this.#hosts)
    for (const address of addresses) {
      const host = this.#addresses.find(address)
      if (host !== undefined && this.#wantedHealth.includes(detailedHealth(host))) return host
    }
    return undefined
  }

  /** As `Balancer.peek`. */
  peek(context: PickContext): Host | undefined {
    return this.#balancer?.peek?.(context)
  }

  /** A successor takes its place: requests that have got it may go on. */
  retire(): void {
    this.#retired = true
    this.#balancer?.retire?.()
  }

  [Symbol.dispose](): void {
    this.#addresses?.[Symbol.dispose]()
    this.#balancer?.[Symbol.dispose]()
  }
}

function isFirst({ attempt = 1, excluded }: PickContext): boolean {
  return attempt === 1 && (excluded === undefined || excluded.length === 0)
}

/** Those that cost a cluster nothing until a request comes. Tables take a while: others are made ahead. */
export function madeByFirstPick({ balancer }: ClusterConfig): boolean {
  return MADE_BY_FIRST_PICK.includes(balancer.kind)
}

const MADE_BY_FIRST_PICK: readonly ClusterConfig['balancer']['kind'][] = Object.freeze([
  'round-robin',
  'random',
  'least-request',
  'peak-ewma',
  'client-weighted',
])

/** Envoy's `override_host_status` where it is not set. */
const WANTED_HEALTH: readonly Host['configuredHealth'][] = Object.freeze(['healthy', 'degraded'])

/** What checks and outlier detection say, then the configuration (Envoy's `Host::healthStatus`). */
function detailedHealth(host: Host): Host['configuredHealth'] {
  if (host.has(HEALTH.failedActiveHc | HEALTH.failedOutlierCheck)) return 'unhealthy'
  const { configuredHealth } = host
  if (configuredHealth !== 'healthy' && configuredHealth !== 'degraded') return configuredHealth
  return host.has(HEALTH.degradedActiveHc) ? 'degraded' : configuredHealth
}

/** What the balancer of a cluster works with. */
function balancerOptions(
  config: ClusterConfig,
  { deps: { wheel, random, runtime, hostsOf }, stats, metrics, reports }: BalancingParts,
): BalancerOptions {
  const { localCluster: own } = config
  const local = own && hostsOf && { hosts: () => hostsOf(own.name), locality: own.locality }
  return {
    random,
    now: () => wheel.now(),
    panicPicks: () => stats().lbHealthyPanic,
    runtime,
    active: () => stats().rqActive.v,
    stats: { metrics, prefix: `cluster.${config.statName}.` },
    local,
    reports,
  }
}

/** The runtime's threshold goes before the configured one, as long as it is a percentage. */
function panicThreshold(config: ClusterConfig, runtime: Runtime | undefined): number | (() => number) {
  const { panicThreshold: configured = 50 } = config
  if (runtime === undefined) return configured
  return () => {
    const live = runtimeInteger(runtime, 'upstream.healthy_panic_threshold')
    return live !== undefined && live >= 0 && live <= 100 ? live : configured
  }
}
