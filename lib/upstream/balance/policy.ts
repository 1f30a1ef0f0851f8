import type { HashPolicyConfig } from '../../core/hash-policy.ts'
import type { Counter, Metrics, Runtime } from '../../core/metrics.ts'
import { noRuntime } from '../../core/metrics.ts'
import type { ListBalancerConfig, LocalityConfig, OutOfBandConfig } from '../config.ts'
import type { Host } from '../host.ts'
import type { HostView } from '../host-view.ts'
import type { LoadReport } from '../orca/report.ts'
import type { HostChoice } from '../priority-load.ts'
import { hashPolicy } from './hash-policy.ts'
import type { HostLoads } from './host-loads.ts'
import { LocalityPolicy } from './locality-policy.ts'
import type { HostPicker } from './picker.ts'
import { pickerFactory } from './picker-factory.ts'
import { ZonePolicy } from './zone-policy.ts'

/** The cluster that this gateway is one of (Envoy's `local_cluster_name`), and where the gateway is. */
export interface LocalCluster {
  /** Undefined while there is no such cluster. */
  hosts(): HostView | undefined
  readonly locality: LocalityConfig | undefined
}

export interface BalancerOptions {
  /** In [0, 1). */
  readonly random: () => number
  /** Counts picks made in disregard of health (Envoy's `lb_healthy_panic`). */
  readonly panicPicks?: () => Counter
  /** Default: without any values. */
  readonly runtime?: Runtime
  /** Monotonic milliseconds of this turn. Default: time stands still. */
  readonly now?: () => number
  /** The active requests of the cluster; default: none are known, so that bounds on loads are those of an idle cluster. */
  readonly active?: () => number
  /** Statistics of the policy itself, under names that begin with `prefix`. */
  readonly stats?: { readonly metrics: Metrics; readonly prefix: string }
  /** Runs work of a later turn. Default: `setImmediate`. */
  readonly later?: (run: () => void) => void
  /** Undefined: there is none, and no routing by zone. */
  readonly local?: LocalCluster
  /** What hosts report, where that is known already; otherwise each policy that goes by reports keeps it for itself. */
  readonly loads?: HostLoads
  /** Undefined: reports come with responses alone. */
  readonly reports?: ReportSource
}

/**
 * Takes a load report, or the weight that somebody else has made of one, and for how long there have been reports by then.
 * False: it is no use.
 */
export type OnLoad = (load: LoadReport | number, forMs?: number) => boolean

/** Opens streams of load reports, one for a host. */
export interface ReportSource {
  /** What `host` reports goes to `onLoad` until the returned function is called. */
  follow(host: Host, config: OutOfBandConfig, onLoad: OnLoad): () => void
}

/** How hosts are chosen within one list of a level. */
export interface Policy extends Disposable {
  /** The hash of a request decides also between levels. */
  readonly hashes: boolean
  /** By which; undefined: the cluster or the route says. */
  readonly hashPolicies?: readonly HashPolicyConfig[] | undefined
  /** A list that is used in disregard of health is not used at all. */
  readonly failsOnPanic: boolean
  /** False: pickers depend on more than their list, and are made anew with each change. */
  readonly keeps?: boolean
  /** Picks are the same whoever asks, so that they may be made ahead. */
  readonly peeks?: boolean
  /** `before` is the one for the list that this one replaces. */
  picker(choice: HostChoice, view: HostView, before: HostPicker | undefined): HostPicker
  /** Lets go of what it knows of other hosts than these. */
  keep?(hosts: readonly Host[]): void
  /** Calls `listener` when pickers are to be made anew for another reason than their hosts. */
  onChange?(listener: () => void): () => void
  /** As `Balancer.retire`. */
  retire?(): void
}

export function createPolicy(config: ListBalancerConfig, options: BalancerOptions): Policy {
  if (config.kind === 'ring-hash' || config.kind === 'maglev') return hashPolicy(config, options)
  const { runtime = noRuntime, local } = options
  const factory = pickerFactory(config, options)
  const { localities } = config
  const peeks = PEEKING.has(config.kind)
  if (localities?.kind === 'weighted') return new LocalityPolicy(factory, options.random, peeks)
  if (local !== undefined) return new ZonePolicy(factory, localities, { ...options, runtime, local })
  const failsOnPanic = localities?.failOnPanic === true
  return {
    hashes: false,
    failsOnPanic,
    peeks,
    picker: ({ hosts }) => factory.picker(hosts),
    keep: (hosts) => factory.keep?.(hosts),
    retire: () => factory.retire?.(),
    [Symbol.dispose]: () => factory[Symbol.dispose](),
  }
}

/** Those that Envoy peeks into: the others look at what hosts are at when they choose. */
const PEEKING: ReadonlySet<string> = Object.freeze(new Set(['round-robin', 'random', 'client-weighted']))
