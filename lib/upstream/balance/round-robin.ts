import type { Host } from '../host.ts'
import { EdfScheduler } from './edf.ts'
import type { HostPicker } from './picker.ts'
import { weightsAreEqual } from './picker.ts'
import { type SlowStart, UntilWarm } from './slow-start.ts'

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

/** Envoy's ROUND_ROBIN: a rotation from a random start, or EDF where weights differ or some hosts are new. */
export function roundRobin(hosts: readonly Host[], random: () => number, slowStart?: SlowStart): HostPicker {
  const start = Math.floor(random() * hosts.length)
  const steady = (): HostPicker =>
    weightsAreEqual(hosts) ? new Rotation(hosts, start) : new EdfScheduler(hosts, (host) => host.weight, start)
  if (slowStart === undefined || slowStart.now() >= slowStart.endMs(hosts)) return steady()
  const warming = new EdfScheduler(hosts, (host) => host.weight * slowStart.factor(host), start)
  return new UntilWarm(slowStart, hosts, { warming, steady: steady() })
}
