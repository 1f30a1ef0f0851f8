import type { Cancel, Clock } from '../../core/clock.ts'
import type { DnsConfig } from './config.ts'
import type { DnsMissed } from './dns/resolver.ts'

/** However long a TTL is, a name is looked at once a day: timers wait 2^31 - 1 ms at most, and TTLs may be typos. */
const LONGEST_DELAY_MS = 24 * 60 * 60 * 1000

/** What becomes known of a name. `ttlMs` undefined: DNS was not asked. */
export type Outcome = { readonly ok: true; readonly ttlMs: number | undefined } | DnsMissed

export interface NameRefreshOptions<R extends Outcome> {
  /** Never rejects. */
  readonly ask: () => Promise<R>
  readonly dns: DnsConfig
  readonly clock: Clock
  /** In [0, 1). */
  readonly random: () => number
}

/**
 * Resolves one name again and again: after `refreshMs` (or the TTL, where it is respected and not 0) plus jitter; after
 * a failure with exponential back-off from `failureRefreshMs` to `failureRefreshMaxMs`.
 *
 * ```
 * start ─▶ asking ─▶ result ─▶ waiting ─▶ asking ...      close: no further result
 * ```
 */
export class NameRefresh<R extends Outcome> {
  readonly #options: NameRefreshOptions<R>
  readonly #onAttempt: () => void
  readonly #onResult: (result: R) => void
  #failures = 0
  #cancel: Cancel | undefined = undefined
  #closed = false
  #closeFirst: (() => void) | undefined = undefined

  constructor(options: NameRefreshOptions<R>, onAttempt: () => void, onResult: (result: R) => void) {
    this.#options = options
    this.#onAttempt = onAttempt
    this.#onResult = onResult
  }

  /** Resolves after the first result, or when closed before. Called once. */
  start(): Promise<void> {
    const first = Promise.withResolvers<void>()
    this.#closeFirst = first.resolve
    void this.#resolve().then(first.resolve)
    return first.promise
  }

  close(): void {
    this.#closed = true
    this.#cancel?.()
    this.#closeFirst?.()
  }

  async #resolve(): Promise<void> {
    const { ask, clock } = this.#options
    if (this.#closed) return
    this.#onAttempt()
    const result = await ask()
    // A result that comes after `close` belongs to nobody.
    if (this.#closed) return
    this.#failures = result.ok ? 0 : this.#failures + 1
    this.#cancel = clock.schedule(this.#delayMs(result), () => void this.#resolve())
    this.#onResult(result)
  }

  #delayMs(result: Outcome): number {
    const { dns, random } = this.#options
    if (!result.ok) return failureDelayMs(dns, this.#failures, random())
    const timed = dns.respectTtl && result.ttlMs !== undefined && result.ttlMs > 0
    const ttlMs = timed ? Math.max(result.ttlMs ?? 0, dns.minRefreshMs ?? 0) : dns.refreshMs
    return Math.min(LONGEST_DELAY_MS, ttlMs + Math.floor(random() * dns.jitterMs))
  }
}

/** Never below `failureRefreshMs`; by chance between it and base × 2^(failures - 1), so that names spread out. */
function failureDelayMs(dns: DnsConfig, failures: number, draw: number): number {
  const base = dns.failureRefreshMs
  const highest = Math.min(Math.max(base, dns.failureRefreshMaxMs), base * 2 ** (failures - 1))
  return Math.min(LONGEST_DELAY_MS, base + Math.floor(draw * (highest - base)))
}
