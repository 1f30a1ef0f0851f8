import type { SlotLease } from '../core/lease.ts'
import type { Counter, Gauge } from '../core/metrics.ts'
import type { BreakerLimit, BreakerSource, RetryLimit, RoutingPriority } from './breaker.ts'
import type { RetryBudgetConfig } from './config.ts'

/** What a budget is made of. */
export interface RetryBudgetParts {
  readonly budget: RetryBudgetConfig
  /** Those under way, waiting ones included. */
  readonly requests: BreakerLimit
  readonly source: BreakerSource
  readonly priority: RoutingPriority
  readonly open: Gauge
  readonly overflow: Counter
}

/**
 * Retries under way, as many as a share of the requests under way, or of those that have begun within an interval (Envoy's
 * RetryBudget). Each process counts its own requests, since shares of parts add up to the share of all. The retries that are
 * permitted in any case are so many in the whole gateway.
 */
export class RetryBudget implements RetryLimit {
  readonly #config: RetryBudgetConfig
  readonly #requests: BreakerLimit
  readonly #overflow: Counter
  readonly #floor: SlotLease
  readonly #begun: RecentCount | undefined
  #gauge: Gauge
  #active = 0
  /** Of those, how many have their place among the ones that are permitted in any case. */
  #floored = 0
  #open = false

  constructor({ budget, requests, source, priority, open, overflow }: RetryBudgetParts) {
    this.#config = budget
    this.#requests = requests
    this.#gauge = open
    this.#overflow = overflow
    this.#floor = source.leases.slots(`cluster.${source.name}.${priority}.rq_retry_min`, budget.minConcurrency)
    if (budget.intervalMs !== undefined) {
      this.#begun = new RecentCount(budget.intervalMs, source.now)
      requests.begun = this.#begun
    }
  }

  get #counted(): number {
    return this.#begun === undefined ? this.#requests.active : this.#begun.count
  }

  get #full(): boolean {
    return this.#floor.remaining <= 0 && this.#active >= Math.floor((this.#counted * this.#config.percent) / 100)
  }

  tryAcquire(): boolean {
    const floored = this.#floor.tryAcquire()
    const room = floored || this.#active < Math.floor((this.#counted * this.#config.percent) / 100)
    if (floored) this.#floored++
    if (room) this.#active++
    else {
      this.#overflow.v++
      this.#floor.want()
    }
    this.#note()
    return room
  }

  release(): void {
    this.#active--
    // Those of the share go first: or each that ends would make room for another, however many there are.
    if (this.#floored > this.#active) {
      this.#floored--
      this.#floor.release()
    }
    this.#note()
  }

  retire(): void {
    this.#setOpen(false)
    this.#gauge = { v: 0 }
    this.#floor[Symbol.dispose]()
  }

  /** The gauge says how it was when a retry was last looked at: requests come and go without it. */
  #note(): void {
    this.#setOpen(this.#active > 0 && this.#full)
  }

  #setOpen(open: boolean): void {
    if (open === this.#open) return
    this.#open = open
    this.#gauge.v += open ? 1 : -1
  }
}

const PARTS = 10

/** How often something has happened within the last so many milliseconds, to a tenth of that time. */
export class RecentCount {
  readonly #partMs: number
  readonly #now: () => number
  readonly #counts = new Array<number>(PARTS + 1).fill(0)
  #part: number
  #sum = 0

  /** `now`: monotonic milliseconds. */
  constructor(intervalMs: number, now: () => number) {
    this.#partMs = Math.max(1, intervalMs / PARTS)
    this.#now = now
    this.#part = Math.floor(now() / this.#partMs)
  }

  get count(): number {
    this.#turn()
    return this.#sum
  }

  add(): void {
    this.#turn()
    this.#counts[this.#part % (PARTS + 1)]++
    this.#sum++
  }

  #turn(): void {
    const part = Math.floor(this.#now() / this.#partMs)
    const first = Math.max(this.#part + 1, part - PARTS)
    for (let i = first; i <= part; i++) {
      const at = i % (PARTS + 1)
      this.#sum -= this.#counts[at]
      this.#counts[at] = 0
    }
    this.#part = part
  }
}
