import type { Host } from '../host.ts'
import type { HostPicker } from './picker.ts'
import { weightsAreEqual } from './picker.ts'

class Uniform implements HostPicker {
  readonly #hosts: readonly Host[]
  readonly #random: () => number

  constructor(hosts: readonly Host[], random: () => number) {
    this.#hosts = hosts
    this.#random = random
  }

  next(): Host {
    return this.#hosts[Math.floor(this.#random() * this.#hosts.length)]
  }
}

/**
 * Vose's alias method: every host gets one column of equal width, shared between itself (up to its threshold) and one
 * alias, so that a weighted draw is one random number and one comparison however many hosts there are.
 */
class AliasTable implements HostPicker {
  readonly #hosts: readonly Host[]
  readonly #random: () => number
  readonly #thresholds: Float64Array
  readonly #aliases: Int32Array

  constructor(hosts: readonly Host[], random: () => number) {
    this.#hosts = hosts
    this.#random = random
    this.#thresholds = new Float64Array(hosts.length).fill(1)
    this.#aliases = new Int32Array(hosts.length)
    let total = 0
    for (const host of hosts) total += host.weight
    const scaled = Float64Array.from(hosts, (host) => (host.weight * hosts.length) / total)
    const small: number[] = []
    const large: number[] = []
    for (let i = 0; i < scaled.length; i++) (scaled[i] < 1 ? small : large).push(i)
    // Rounding may leave one stack non-empty: those columns are full and keep threshold 1.
    while (small.length > 0 && large.length > 0) {
      const less = small.pop()!
      const more = large[large.length - 1]
      this.#thresholds[less] = scaled[less]
      this.#aliases[less] = more
      scaled[more] -= 1 - scaled[less]
      if (scaled[more] < 1) small.push(large.pop()!)
    }
  }

  next(): Host {
    const draw = this.#random() * this.#hosts.length
    const column = Math.floor(draw)
    return this.#hosts[draw - column < this.#thresholds[column] ? column : this.#aliases[column]]
  }
}

/** RANDOM. Unlike Envoy's, which disregards weights, it honours them where they differ. */
export function randomPicker(hosts: readonly Host[], random: () => number): HostPicker {
  return weightsAreEqual(hosts) ? new Uniform(hosts, random) : new AliasTable(hosts, random)
}
