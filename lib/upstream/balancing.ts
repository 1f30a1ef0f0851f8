import type { PickContext } from '../core/attempt.ts'
import { FAILURES, type Failure } from '../core/failure.ts'
import type { Metrics, Runtime } from '../core/metrics.ts'
import { runtimeInteger } from '../core/runtime-value.ts'
import type { TimerWheel } from '../core/timer-wheel.ts'
import { type Balancer, type BalancerOptions, createBalancer } from './balance/balancer.ts'
import type { ClusterConfig } from './config.ts'
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
  readonly stats: ClusterStats
  readonly metrics: Metrics
}

/** Chooses the host of a request, or says why there is none. */
export class ClusterBalancer implements Disposable {
  readonly #hosts: HostSet
  readonly #balancer: Balancer
  readonly #random: () => number
  readonly #stats: ClusterStats

  constructor(config: ClusterConfig, hosts: HostSet, { deps, stats, metrics }: BalancingParts) {
    this.#hosts = hosts
    this.#random = deps.random
    this.#stats = stats
    this.#balancer = createBalancer(config.balancer, hosts, balancerOptions(config, deps, { stats, metrics }))
  }

  /** Of first tries the share that is to be dropped is dropped. */
  pick(context: PickContext): Host | Failure {
    const { dropOverload } = this.#hosts
    if (dropOverload > 0 && !context.excluded?.length && this.#random() < dropOverload) {
      this.#stats.rqDropOverload.v++
      return FAILURES.dropOverload
    }
    const host = this.#balancer.pick(context)
    if (host !== undefined) return host
    this.#stats.cxNoneHealthy.v++
    return FAILURES.noHealthyHost
  }

  [Symbol.dispose](): void {
    this.#balancer[Symbol.dispose]()
  }
}

/** What the balancer of a cluster works with. */
function balancerOptions(
  config: ClusterConfig,
  { wheel, random, runtime, hostsOf }: BalancingDeps,
  { stats, metrics }: { readonly stats: ClusterStats; readonly metrics: Metrics },
): BalancerOptions {
  const { localCluster: own } = config
  const local = own && hostsOf && { hosts: () => hostsOf(own.name), locality: own.locality }
  return {
    random,
    now: () => wheel.now(),
    panicPicks: stats.lbHealthyPanic,
    runtime,
    active: stats.rqActive,
    stats: { metrics, prefix: `cluster.${config.statName}.` },
    local,
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
