import type { SlotBudget, SlotLease } from '../core/lease.ts'
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
 * Retries under way, as many as a share of the requests under way in the whole gateway, or of those that have begun within an
 * interval (Envoy's RetryBudget), and so many in any case. What its own requests allow a worker has without asking; what the
 * requests of others allow, and they do not use, is leased.
 */
export class RetryBudget implements RetryLimit, SlotBudget {
  readonly percent: number
  readonly #requests: BreakerLimit
  readonly #overflow: Counter
  readonly #lease: SlotLease
  readonly #begun: RecentCount | undefined
  #gauge: Gauge
  #open = false

  constructor({ budget, requests, source, priority, open, overflow }: RetryBudgetParts) {
    this.percent = budget.percent
    this.#requests = requests
    this.#gauge = open
    this.#overflow = overflow
    if (budget.intervalMs !== undefined) {
      this.#begun = new RecentCount(budget.intervalMs, source.now)
      requests.begun = this.#begun
    }
    const key = `cluster.${source.name}.${priority}.rq_retry_budget`
    this.#lease = source.leases.slots(key, budget.minConcurrency, this)
  }

  counted(): number {
    return this.#begun === undefined ? this.#requests.active : this.#begun.count
  }

  tryAcquire(): boolean {
    const room = this.#lease.tryAcquire()
    if (!room) {
      this.#overflow.v++
      this.#lease.want()
    }
    this.#note()
    return room
  }

  release(): void {
    this.#lease.release()
    this.#note()
  }

  retire(): void {
    this.#setOpen(false)
    this.#gauge = { v: 0 }
    this.#lease[Symbol.dispose]()
  }

  /** The gauge says how it was when a retry was last looked at, as Envoy's: requests come and go without it. */
  #note(): void {
    this.#setOpen(this.#lease.active > 0 && this.#lease.remaining <= 0)
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
