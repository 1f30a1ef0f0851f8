import type { Host } from '../host.ts'
import { EdfScheduler } from './edf.ts'
import type { HostPicker } from './picker.ts'
import { weightsAreEqual } from './picker.ts'

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

export interface LeastRequestOptions {
  /** How many hosts are drawn, with repetition (Envoy's `choice_count`). */
  readonly choiceCount: number
  /** 0: active requests do not count; 1: weight / (active + 1) (Envoy's `active_request_bias`). A function: at each pick. */
  readonly activeRequestBias: number | (() => number)
  readonly random: () => number
}

/**
 * Envoy's LEAST_REQUEST: of some random hosts the one with the fewest active requests; where weights differ, EDF with
 * weight / (active + 1)^bias, taken when the host is picked.
 */
export function leastRequest(hosts: readonly Host[], options: LeastRequestOptions): HostPicker {
  const { choiceCount, activeRequestBias: bias, random } = options
  if (weightsAreEqual(hosts)) return new FewestOfSome(hosts, choiceCount, random)
  return new EdfScheduler(hosts, weightBy(bias), Math.floor(random() * hosts.length))
}

function weightBy(bias: LeastRequestOptions['activeRequestBias']): (host: Host) => number {
  if (bias === 1) return (host) => host.weight / (host.rqActive + 1)
  if (typeof bias === 'number') return (host) => host.weight / (host.rqActive + 1) ** bias
  return (host) => host.weight / (host.rqActive + 1) ** bias()
}
