import type { PickContext, UpstreamHost } from '../../core/attempt.ts'
import { hashModulo } from '../../core/hash64.ts'
import type { Counter } from '../../core/metrics.ts'
import type { BalancerConfig, ClientWeightedConfig, SubsetConfig } from '../config.ts'
import type { Host } from '../host.ts'
import { choicesWithout, type HostView } from '../host-view.ts'
import type { HostChoice } from '../priority-load.ts'
import { hashFor } from './hash-picker.ts'
import { HostLoads } from './host-loads.ts'
import { OverrideHostBalancer } from './override-host.ts'
import type { HostPicker } from './picker.ts'
import { type BalancerOptions, createPolicy, type Policy } from './policy.ts'
import { SubsetBalancer } from './subset-balancer.ts'

export type { BalancerOptions } from './policy.ts'

/** Chooses hosts of one cluster. */
export interface Balancer extends Disposable {
  /** The host for one attempt, or undefined where none may be used (Envoy's `no_healthy_upstream`). */
  pick(context: PickContext): Host | undefined
  /**
   * The host that one of the next picks will give, each call another one; undefined where that cannot be told. Connections to
   * it may be opened ahead of need.
   */
  peek?(context: PickContext): Host | undefined
  /** A successor takes its place: it goes on choosing, and has no gauges and asks hosts nothing any more. */
  retire?(): void
}

/** Picks more that an excluded host is worth, so that the policy's shares hold for the others. */
const EXCLUDED_PICKS = 3
/** Sets of priorities that retries have used, of which each gets lanes of its own. */
const MAX_ALTERNATIVES = 16

/** One list of hosts with its picker; `upTo` is the cumulated load in percent. */
interface Lane {
  readonly upTo: number
  readonly choice: HostChoice
  readonly picker: HostPicker
  /** As they were when the picker was made. */
  readonly weights: Float64Array
}

/** Picks that are known ahead, at most. */
const MAX_AHEAD = 16

/** Follows `hosts` from now on, until disposed. */
export function createBalancer(config: BalancerConfig, hosts: HostView, options: BalancerOptions): Balancer {
  switch (config.kind) {
    case 'subset':
      return subsets(config, hosts, options)
    case 'override-host':
      return new OverrideHostBalancer(config, hosts, createBalancer(config.otherwise, hosts, options))
    default:
      return new HostBalancer(hosts, createPolicy(config, options), options)
  }
}

/** What hosts report is known once for all subsets that they are in. */
function subsets(config: SubsetConfig, hosts: HostView, options: BalancerOptions): Balancer {
  const { within } = config
  const reported = options.loads === undefined ? reportedIn(within) : undefined
  const loads = reported && new HostLoads(reported, options)
  const shared = loads === undefined ? options : { ...options, loads }
  const make = (view: HostView): Balancer => createBalancer(within, view, shared)
  return new SubsetBalancer(config, hosts, { options, loads, make })
}

/** The policy that weights of hosts are for, behind any number of subsets. */
function reportedIn(within: SubsetConfig['within']): ClientWeightedConfig | undefined {
  if (within.kind === 'subset') return reportedIn(within.within)
  return within.kind === 'client-weighted' ? within : undefined
}

/** Chooses the level (and healthy or degraded) by its share, then a host by the cluster's policy: Envoy's order. */
export class HostBalancer implements Balancer {
  readonly #view: HostView
  readonly #policy: Policy
  readonly #random: () => number
  readonly #panicPicks: (() => Counter) | undefined
  readonly #stop: readonly (() => void)[]
  #lanes: readonly Lane[] = []
  /** Lanes without priorities that were used before, made when they are needed. */
  readonly #alternatives = new Map<string, readonly Lane[]>()
  /** Hosts that picks will give, as `peek` has told. */
  #ahead: Host[] = NONE_AHEAD

  constructor(view: HostView, policy: Policy, options: BalancerOptions) {
    this.#view = view
    this.#policy = policy
    this.#random = options.random
    this.#panicPicks = options.panicPicks
    const compile = (): void => {
      this.#lanes = this.#lanesOf(view.choices, this.#lanes)
      this.#alternatives.clear()
      this.#ahead = NONE_AHEAD
      policy.keep?.(view.all)
    }
    compile()
    const stop = policy.onChange?.(compile)
    this.#stop = stop === undefined ? [view.onChange(compile)] : [view.onChange(compile), stop]
  }

  pick(context: PickContext): Host | undefined {
    const spent = context.spentPriorities
    if (this.#ahead.length > 0 && spent === undefined) {
      const told = this.#ahead.shift()
      if (told !== undefined && isWanted(told, context)) return told
    }
    const lanes = spent === undefined || spent.length === 0 ? this.#lanes : this.#lanesWithout(spent)
    if (lanes.length === 0) return undefined
    const lane = lanes.length === 1 ? lanes[0] : this.#choose(lanes, context)
    if (lane.choice.panic) {
      if (this.#panicPicks !== undefined) this.#panicPicks().v++
      if (this.#policy.failsOnPanic) return undefined
    }
    const host = lane.picker.next(context, 0)
    if (host === undefined || isWanted(host, context)) return host
    return this.#another(lane, context, host)
  }

  peek(context: PickContext): Host | undefined {
    const lanes = this.#lanes
    if (this.#policy.peeks !== true || lanes.length === 0 || this.#ahead.length >= MAX_AHEAD) return undefined
    const lane = lanes.length === 1 ? lanes[0] : this.#choose(lanes, context)
    const host = lane.choice.panic ? undefined : lane.picker.next(context, 0)
    if (host === undefined) return undefined
    if (this.#ahead === NONE_AHEAD) this.#ahead = [host]
    else this.#ahead.push(host)
    return host
  }

  retire(): void {
    this.#policy.retire?.()
  }

  [Symbol.dispose](): void {
    for (const stop of this.#stop) stop()
    this.#policy[Symbol.dispose]()
    this.#lanes = []
    this.#alternatives.clear()
  }

  /** Pickers of lists that are as they were go on, so that an update elsewhere does not disturb them. */
  #lanesOf(choices: readonly HostChoice[], before: readonly Lane[]): readonly Lane[] {
    // Healthy hosts of all priorities first, then degraded ones: Envoy's order, which matters where a hash decides.
    const ordered = [...choices.filter((c) => !c.degraded), ...choices.filter((c) => c.degraded)]
    let upTo = 0
    return ordered.map((choice) => {
      upTo += choice.load
      const known = before.find((lane) => isSamePlace(lane.choice, choice))
      if (known !== undefined && this.#policy.keeps !== false && isSameList(known, choice)) {
        return { ...known, upTo, choice }
      }
      const weights = Float64Array.from(choice.hosts, (host) => host.weight)
      return { upTo, choice, picker: this.#policy.picker(choice, this.#view, known?.picker), weights }
    })
  }

  #lanesWithout(spent: readonly number[]): readonly Lane[] {
    const key = spent.join()
    let lanes = this.#alternatives.get(key)
    if (lanes === undefined) {
      lanes = this.#lanesOf(choicesWithout(this.#view, spent), this.#lanes)
      if (this.#alternatives.size === MAX_ALTERNATIVES) this.#alternatives.clear()
      this.#alternatives.set(key, lanes)
    }
    return lanes
  }

  /** Of a balancer that hashes the hash decides, so that a request stays where it is while loads do. */
  #choose(lanes: readonly Lane[], context: PickContext): Lane {
    const { hashes, hashPolicies } = this.#policy
    const draw = hashes ? hashModulo(hashFor(context, this.#random, hashPolicies), 100) : this.#random() * 100
    for (const lane of lanes) if (draw < lane.upTo) return lane
    return lanes[lanes.length - 1]
  }

  /**
   * Further picks keep the policy's shares: as many as the retry policy permits, and some for hosts of earlier attempts. If
   * they are unlucky, any other host of the list will do for those; what a predicate rejects goes through in the end.
   */
  #another({ picker, choice }: Lane, context: PickContext, first: Host): Host {
    const { excluded, selectionAttempts = 0 } = context
    const attempts = Math.max(selectionAttempts, excluded === undefined ? 0 : EXCLUDED_PICKS)
    let last = first
    for (let i = 1; i <= attempts; i++) {
      const host = picker.next(context, i)
      if (host === undefined) break
      if (isWanted(host, context)) return host
      last = host
    }
    return excluded === undefined ? last : this.#anyOther(choice.hosts, excluded, last)
  }

  #anyOther(hosts: readonly Host[], excluded: readonly UpstreamHost[], last: Host): Host {
    let at = Math.floor(this.#random() * hosts.length)
    for (let i = 0; i < hosts.length; i++) {
      if (!excluded.includes(hosts[at])) return hosts[at]
      at = at + 1 === hosts.length ? 0 : at + 1
    }
    return last
  }
}

const NONE_AHEAD: Host[] = Object.freeze([]) as unknown as Host[]

function isWanted(host: Host, context: PickContext): boolean {
  if (context.excluded?.includes(host)) return false
  return context.rejects === undefined || context.rejects(host) === false
}

function isSamePlace(a: HostChoice, b: HostChoice): boolean {
  return a.priority === b.priority && a.degraded === b.degraded && a.panic === b.panic
}

function isSameList({ choice, weights }: Lane, { hosts }: HostChoice): boolean {
  if (choice.hosts.length !== hosts.length) return false
  for (let i = 0; i < hosts.length; i++) {
    if (choice.hosts[i] !== hosts[i] || weights[i] !== hosts[i].weight) return false
  }
  return true
}
