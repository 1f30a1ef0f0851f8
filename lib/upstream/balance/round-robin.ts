import type { Host } from '../host.ts'
import { EdfScheduler } from './edf.ts'
import type { HostPicker } from './picker.ts'
import { weightsAreEqual } from './picker.ts'

class Rotation implements HostPicker {
  readonly #hosts: readonly Host[]
  #at: number

  constructor(hosts: readonly Host[], start: number) {
    this.#hosts = hosts
    this.#at = start
  }

  next(): Host {
    const host = this.#hosts[this.#at]
    this.#at = this.#at + 1 === this.#hosts.length ? 0 : this.#at + 1
    return host
  }
}

/** Envoy's ROUND_ROBIN: a rotation from a random start, or EDF where weights differ. */
export function roundRobin(hosts: readonly Host[], random: () => number): HostPicker {
  const start = Math.floor(random() * hosts.length)
  if (weightsAreEqual(hosts)) return new Rotation(hosts, start)
  return new EdfScheduler(hosts, (host) => host.weight, start)
}
