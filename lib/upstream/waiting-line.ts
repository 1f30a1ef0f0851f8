import type { Attempt } from '../core/attempt.ts'
import { FAILURES, type Failure } from '../core/failure.ts'
import type { Counter } from '../core/metrics.ts'
import type { HostAccounts } from './accounts.ts'

/** A request that waits for a connection. */
export interface Waiting {
  readonly attempt: Attempt
  pending: boolean
  fail(why: Failure, detail?: string): void
}

/**
 * The line in front of one pool: oldest first, high priority before all others, since its limits are its own and theirs must
 * not hold it up. Places were taken by `HostAccounts.tryWait`.
 */
export class WaitingLine<S extends Waiting> {
  readonly #accounts: HostAccounts
  readonly #ejected: Counter
  #streams: S[] = []
  /** How many of them have high priority; they stand first. */
  high = 0

  constructor(accounts: HostAccounts, ejected: Counter) {
    this.#accounts = accounts
    this.#ejected = ejected
  }

  get length(): number {
    return this.#streams.length
  }

  at(i: number): S {
    return this.#streams[i]
  }

  add(stream: S): void {
    stream.pending = true
    if (stream.attempt.priority === 'high') this.#streams.splice(this.high++, 0, stream)
    else this.#streams.push(stream)
  }

  /** Its turn has come: the `i`th leaves. */
  take(i: number): S | undefined {
    const stream = i === 0 ? this.#streams.shift() : this.#streams.splice(i, 1)[0]
    if (stream !== undefined) this.#left(stream)
    return stream
  }

  /** A stream was cancelled; false where it did not wait. */
  remove(stream: S): boolean {
    const at = this.#streams.indexOf(stream)
    if (at >= 0) this.take(at)
    return at >= 0
  }

  failAll(why: Failure, detail: string | undefined): void {
    const waiting = this.#streams
    this.#streams = []
    this.#ejected.v += waiting.length
    for (const stream of waiting) this.#left(stream)
    for (const stream of waiting) stream.fail(why, detail)
  }

  /** As Envoy: nobody waits on for a host that refuses connections. */
  connectFailed(failure: string | undefined): void {
    // A timeout says all there is to say: the transport itself reported nothing.
    if (failure === 'connection timeout') this.failAll(FAILURES.connectTimeout, undefined)
    else this.failAll(FAILURES.connectFailed, failure)
  }

  #left(stream: S): void {
    stream.pending = false
    if (stream.attempt.priority === 'high') this.high--
    this.#accounts.waited(stream.attempt.priority)
  }
}
