import type { Host } from '../host.ts'

/** The weight that something has at this moment; above 0. */
export type WeightOf<T> = (item: T) => number

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
export class EdfScheduler<T = Host> {
  readonly #items: readonly T[]
  readonly #weightOf: WeightOf<T>
  readonly #heap: Int32Array
  readonly #deadlines: Float64Array
  readonly #entries: Float64Array
  #entry = 0

  /** `skip`: number of picks to throw away, so that many proxies do not all begin with the heaviest host. */
  constructor(items: readonly T[], weightOf: WeightOf<T>, skip: number) {
    this.#items = items
    this.#weightOf = weightOf
    this.#heap = new Int32Array(items.length)
    this.#deadlines = new Float64Array(items.length)
    this.#entries = new Float64Array(items.length)
    for (let i = 0; i < items.length; i++) {
      this.#heap[i] = i
      this.#deadlines[i] = 1 / weightOf(items[i])
      this.#entries[i] = this.#entry++
    }
    for (let i = (items.length >> 1) - 1; i >= 0; i--) this.#siftDown(i)
    for (let i = 0; i < skip; i++) this.next()
  }

  next(): T {
    const top = this.#heap[0]
    const item = this.#items[top]
    const now = this.#deadlines[top]
    if (now >= REBASE_AT) this.#rebase(now)
    this.#deadlines[top] += 1 / this.#weightOf(item)
    this.#entries[top] = this.#entry++
    this.#siftDown(0)
    return item
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
