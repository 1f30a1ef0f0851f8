import type { Host } from '../host.ts'
import type { HostPicker } from './picker.ts'

/** The weight a host has at this moment; above 0. */
export type HostWeight = (host: Host) => number

/** Virtual time is moved back by this much when it reaches it, so that deadlines keep their precision for ever. */
const REBASE_AT = 1024

/**
 * Earliest deadline first, Envoy's weighted scheduler: each pick moves virtual time to the host's deadline and gives the
 * host a new one, 1/weight later. Shares are exact over a full turn and hosts are interleaved, not served in bursts.
 * Equal deadlines go by order of entry.
 *
 * ```
 * heap of host indices, ordered by (deadline, entry)      next() = the top; its deadline grows, it sifts down
 * ```
 */
export class EdfScheduler implements HostPicker {
  readonly #hosts: readonly Host[]
  readonly #weightOf: HostWeight
  readonly #heap: Int32Array
  readonly #deadlines: Float64Array
  readonly #entries: Float64Array
  #entry = 0

  /** `skip`: number of picks to throw away, so that many proxies do not all begin with the heaviest host. */
  constructor(hosts: readonly Host[], weightOf: HostWeight, skip: number) {
    this.#hosts = hosts
    this.#weightOf = weightOf
    this.#heap = new Int32Array(hosts.length)
    this.#deadlines = new Float64Array(hosts.length)
    this.#entries = new Float64Array(hosts.length)
    for (let i = 0; i < hosts.length; i++) {
      this.#heap[i] = i
      this.#deadlines[i] = 1 / weightOf(hosts[i])
      this.#entries[i] = this.#entry++
    }
    for (let i = (hosts.length >> 1) - 1; i >= 0; i--) this.#siftDown(i)
    for (let i = 0; i < skip; i++) this.next()
  }

  next(): Host {
    const top = this.#heap[0]
    const host = this.#hosts[top]
    const now = this.#deadlines[top]
    if (now >= REBASE_AT) this.#rebase(now)
    this.#deadlines[top] += 1 / this.#weightOf(host)
    this.#entries[top] = this.#entry++
    this.#siftDown(0)
    return host
  }

  #rebase(by: number): void {
    for (let i = 0; i < this.#deadlines.length; i++) this.#deadlines[i] -= by
  }

  #before(a: number, b: number): boolean {
    const difference = this.#deadlines[a] - this.#deadlines[b]
    return difference === 0 ? this.#entries[a] < this.#entries[b] : difference < 0
  }

  #siftDown(at: number): void {
    const heap = this.#heap
    const moving = heap[at]
    for (;;) {
      let child = 2 * at + 1
      if (child >= heap.length) break
      if (child + 1 < heap.length && this.#before(heap[child + 1], heap[child])) child++
      if (!this.#before(heap[child], moving)) break
      heap[at] = heap[child]
      at = child
    }
    heap[at] = moving
  }
}
