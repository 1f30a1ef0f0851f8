import type { Host } from '../host.ts'
import { EdfScheduler } from './edf.ts'
import type { HostPicker } from './picker.ts'
import { weightsAreEqual } from './picker.ts'
import { type SlowStart, UntilWarm } from './slow-start.ts'

class FewestOfSome implements HostPicker {
  readonly #hosts: readonly Host[]
  readonly #choiceCount: number
  readonly #random: () => number

  constructor(hosts: readonly Host[], choiceCount: number, random: () => number) {
    this.#hosts = hosts
    this.#choiceCount = choiceCount
    this.#random = random
  }

  next(): Host {
    const hosts = this.#hosts
    let best = hosts[Math.floor(this.#random() * hosts.length)]
    for (let i = 1; i < this.#choiceCount; i++) {
      const other = hosts[Math.floor(this.#random() * hosts.length)]
      if (other.rqActive < best.rqActive) best = other
    }
    return best
  }
}

/** Every host is looked at; of those with the fewest active requests any, by chance. */
class FewestOfAll implements HostPicker {
  readonly #hosts: readonly Host[]
  readonly #random: () => number

  constructor(hosts: readonly Host[], random: () => number) {
    this.#hosts = hosts
    this.#random = random
  }

  next(): Host {
    const hosts = this.#hosts
    let best = hosts[0]
    let ties = 1
    for (let i = 1; i < hosts.length; i++) {
      const host = hosts[i]
      if (host.rqActive < best.rqActive) {
        best = host
        ties = 1
        // One of n that are equal is taken with 1/n, whatever n turns out to be.
      } else if (host.rqActive === best.rqActive && this.#random() * ++ties < 1) best = host
    }
    return best
  }
}

/** Envoy's `selection_method: FULL_SCAN`: the host with the fewest active requests, whatever its weight. */
export function fullScan(hosts: readonly Host[], random: () => number): HostPicker {
  return new FewestOfAll(hosts, random)
}

export interface LeastRequestOptions {
  /** How many hosts are drawn, with repetition (Envoy's `choice_count`). */
  readonly choiceCount: number
  /** 0: active requests do not count; 1: weight / (active + 1) (Envoy's `active_request_bias`). A function: at each pick. */
  readonly activeRequestBias: number | (() => number)
  readonly random: () => number
  readonly slowStart?: SlowStart | undefined
}

/**
 * Envoy's LEAST_REQUEST: of some random hosts the one with the fewest active requests; where weights differ or some hosts
 * are new, EDF with weight / (active + 1)^bias, taken when the host is picked.
 */
export function leastRequest(hosts: readonly Host[], options: LeastRequestOptions): HostPicker {
  const { choiceCount, activeRequestBias, random, slowStart } = options
  const weightOf = weightBy(activeRequestBias)
  const steady = (): HostPicker =>
    weightsAreEqual(hosts)
      ? new FewestOfSome(hosts, choiceCount, random)
      : new EdfScheduler(hosts, weightOf, Math.floor(random() * hosts.length))
  if (slowStart === undefined || slowStart.now() >= slowStart.endMs(hosts)) return steady()
  const warming = new EdfScheduler(hosts, (host) => weightOf(host) * slowStart.factor(host), 0)
  return new UntilWarm(slowStart, hosts, { warming, steady: steady() })
}

function weightBy(bias: LeastRequestOptions['activeRequestBias']): (host: Host) => number {
  if (bias === 1) return (host) => host.weight / (host.rqActive + 1)
  if (typeof bias === 'number') return (host) => host.weight / (host.rqActive + 1) ** bias
  return (host) => host.weight / (host.rqActive + 1) ** bias()
}
