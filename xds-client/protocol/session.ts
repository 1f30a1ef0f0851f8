import type { Cancel, Clock } from '../../lib/core/clock.ts'
import type { Counter, Gauge, Log, Metrics, TextCell } from '../../lib/core/metrics.ts'
import { TokenBucket } from '../../lib/core/token-bucket.ts'
import type { TurnWork } from '../../lib/core/turn.ts'
import type { DiscoveryWatcher, SubscribeOptions, Subscription } from '../source.ts'
import { DeltaState } from './delta-state.ts'
import { TypeInterest } from './interest.ts'
import type { DiscoveryResponse } from './messages.ts'
import { Refusals } from './refusals.ts'
import { describeRejections, reasonsOf } from './rejection.ts'
import type { DiscoveryRequest, TypeProtocol } from './type-protocol.ts'
import { WholeState } from './whole-state.ts'

/** Where requests go. */
export interface Outlet {
  /** False: nothing more until `DiscoverySession.drained`; the request is taken in any case. */
  send(request: DiscoveryRequest): boolean
}

export interface SessionOptions {
  /** As in `SourceStatus.name`; for logs. */
  readonly name: string
  readonly variant: 'sotw' | 'delta'
  /** The only type of the stream; undefined: any. */
  readonly typeName: string | undefined
  readonly nodeOnFirstMessageOnly: boolean
  readonly rateLimit?: { readonly maxTokens: number; readonly fillRate: number }
  readonly clock: Clock
  /** The end of this turn of the loop. */
  readonly turn: { defer(work: TurnWork): void }
  readonly log: Log
  readonly metrics: Metrics
  /** Of Envoy's `control_plane.*`, with its dot or empty; undefined: they are not counted. */
  readonly statPrefix: string | undefined
  /** Told when something is wanted and there was nothing before, and the other way round. */
  onWanted(wanted: boolean): void
}

/** Envoy's counters of a stream. */
interface StreamCells {
  readonly connected: Gauge
  readonly rateLimited: Counter
  readonly pending: Gauge
  /** What the server calls itself. */
  readonly identifier: TextCell
}

/**
 * What is said and heard on a stream of discovery, of one type or of all, without the stream itself: whoever has one tells
 * `connected`, hands responses to `received`, and tells `disconnected`. Goes on over any number of streams.
 *
 * Requests leave when a turn of the loop has ended, so that what is wanted in one turn is asked for in one request.
 */
export class DiscoverySession implements TurnWork {
  readonly #options: SessionOptions
  readonly #types = new Map<string, TypeProtocol>()
  /** That may have something to say, in the order in which they came to. */
  readonly #dirty = new Set<TypeProtocol>()
  readonly #strangers = new Set<string>()
  readonly #refusals: Refusals<TypeProtocol>
  readonly #bucket: TokenBucket | undefined
  readonly #cells: StreamCells
  #outlet: Outlet | undefined = undefined
  #room = true
  #nodeSent = false
  #deferred = false
  #wanted = false
  #refill: Cancel | undefined = undefined
  /** A response has come, on whatever stream. */
  #everAnswered = false
  #answered = false
  #established = false

  constructor(options: SessionOptions) {
    const { rateLimit, clock, metrics, statPrefix } = options
    this.#options = options
    this.#refusals = new Refusals(clock)
    this.#bucket = rateLimit === undefined ? undefined : bucketOf(rateLimit, clock)
    const prefix = statPrefix === undefined ? undefined : `${statPrefix}control_plane.`
    this.#cells = {
      connected: prefix === undefined ? { v: 0 } : metrics.gauge(`${prefix}connected_state`),
      rateLimited: prefix === undefined ? { v: 0 } : metrics.counter(`${prefix}rate_limit_enforced`),
      pending: prefix === undefined ? { v: 0 } : metrics.gauge(`${prefix}pending_requests`),
      identifier: (prefix === undefined ? undefined : metrics.text?.(`${prefix}identifier`)) ?? { v: '' },
    }
  }

  /** A response has come on this stream. */
  get answered(): boolean {
    return this.#answered
  }

  /** Anything is wanted. */
  get wanted(): boolean {
    return this.#wanted
  }

  /** Somebody has subscribed. */
  get used(): boolean {
    for (const { interest } of this.#types.values()) if (interest.used) return true
    return false
  }

  subscribe(options: SubscribeOptions, watcher: DiscoveryWatcher): Subscription {
    return this.#type(options.typeName).interest.subscribe(options, watcher)
  }

  #type(typeName: string): TypeProtocol {
    let type = this.#types.get(typeName)
    if (type === undefined) {
      const { clock, log, metrics, variant } = this.#options
      const changed = (): void => this.#changed(type as TypeProtocol)
      const interest = new TypeInterest(typeName, { clock, log, metrics, changed })
      type = variant === 'delta' ? new DeltaState(interest) : new WholeState(interest)
      this.#types.set(typeName, type)
      if (this.#everAnswered && !this.#established) interest.link(false)
    }
    return type
  }

  #changed(type: TypeProtocol): void {
    this.#dirty.add(type)
    this.#defer()
  }

  #defer(): void {
    if (this.#deferred) return
    this.#deferred = true
    this.#options.turn.defer(this)
  }

  /** @internal */
  turnEnds(): void {
    this.#deferred = false
    let wanted = false
    for (const { interest } of this.#types.values()) if (!interest.empty) wanted = true
    if (wanted !== this.#wanted) {
      this.#wanted = wanted
      this.#options.onWanted(wanted)
    }
    this.#flush()
  }

  // --- the stream ---------------------------------------------------------------------------------------------------

  /** There is a stream to write to. What is wanted is asked for at once. */
  connected(outlet: Outlet): void {
    this.#outlet = outlet
    this.#room = true
    this.#nodeSent = false
    this.#answered = false
    for (const type of this.#types.values()) {
      type.begin()
      this.#dirty.add(type)
    }
    this.#flush()
  }

  /** Its connection is made: what does not come now is missing. */
  established(): void {
    if (this.#established || this.#outlet === undefined) return
    this.#established = true
    this.#cells.connected.v = 1
    // Until anything has ever come names are given up by the time since they were asked for, as in Envoy: a server that is
    // not there must not hold up what does without it. Afterwards only the time counts in which it could have answered.
    if (this.#everAnswered) for (const { interest } of this.#types.values()) interest.link(true)
  }

  disconnected(): void {
    this.#outlet = undefined
    this.#answered = false
    this.#refill?.()
    this.#refill = undefined
    this.#dirty.clear()
    this.#refusals.interrupted()
    this.#cells.pending.v = 0
    this.#cells.connected.v = 0
    this.#established = false
    for (const { interest } of this.#types.values()) {
      if (this.#everAnswered) interest.link(false)
      if (!interest.empty) interest.failed()
    }
  }

  drained(): void {
    this.#room = true
    this.#flush()
  }

  /** Takes a response over, at once; its verdict leaves when the turn has ended, or later where it is the same again. */
  received(response: DiscoveryResponse): void {
    this.established()
    this.#answered = this.#everAnswered = true
    if (response.controlPlane !== '') this.#cells.identifier.v = response.controlPlane
    const { log, name } = this.#options
    // On a stream of one type servers may leave it unsaid.
    const typeName = response.typeName === '' ? (this.#options.typeName ?? '') : response.typeName
    const type = this.#types.get(typeName)
    if (type === undefined) {
      this.#stranger(typeName)
      return
    }
    const rejections = type.receive(response)
    if (rejections.length === 0) {
      this.#refusals.accepted(type)
      this.#changed(type)
      return
    }
    const waitMs = this.#refusals.refused(type, response.version, describeRejections(rejections))
    if (waitMs > 0) {
      this.#refusals.later(type, waitMs, () => this.#changed(type))
      return
    }
    this.#changed(type)
    log.warn('resources of the control plane were refused', {
      source: name,
      type: typeName,
      version: response.version,
      resources: rejections.length,
      reasons: reasonsOf(rejections),
    })
  }

  /** There is nobody whose verdict it could be: Envoy answers nothing either. */
  #stranger(typeName: string): void {
    const { log, name } = this.#options
    if (this.#strangers.has(typeName) || this.#strangers.size >= MOST_STRANGERS) return
    this.#strangers.add(typeName)
    log.warn('the control plane sent what nobody asked for', { source: name, type: typeName })
  }

  // --- requests -----------------------------------------------------------------------------------------------------

  #flush(): void {
    for (const type of this.#dirty) {
      if (!this.#say(type)) break
      this.#dirty.delete(type)
    }
    this.#cells.pending.v = this.#outlet === undefined ? 0 : this.#dirty.size
  }

  /** False: no more for now. */
  #say(type: TypeProtocol): boolean {
    while (type.due) {
      const outlet = this.#outlet
      if (outlet === undefined || !this.#room || this.#refill !== undefined) return false
      const bucket = this.#bucket
      if (bucket !== undefined && bucket.available < 1) {
        this.#waitForTokens(bucket)
        return false
      }
      const node = !this.#nodeSent || !this.#options.nodeOnFirstMessageOnly
      const request = type.next(node)
      if (request === undefined) return true
      bucket?.take()
      this.#nodeSent = true
      this.#room = outlet.send(request)
    }
    return true
  }

  #waitForTokens(bucket: TokenBucket): void {
    this.#cells.rateLimited.v++
    this.#refill = this.#options.clock.schedule(bucket.waitMs(), () => {
      this.#refill = undefined
      this.#flush()
    })
  }

  dispose(): void {
    if (this.#outlet !== undefined) this.disconnected()
    this.#refill?.()
    for (const { interest } of this.#types.values()) interest.dispose()
  }
}

/** Types that nobody asked for are named once each; a server that makes them up is not followed for ever. */
const MOST_STRANGERS = 64

function bucketOf({ maxTokens, fillRate }: { maxTokens: number; fillRate: number }, clock: Clock): TokenBucket {
  // Rates have fractions, buckets have none: so many in a thousand seconds.
  const tokensPerFill = Math.max(1, Math.round(fillRate * 1000))
  return new TokenBucket({ maxTokens, tokensPerFill, fillIntervalMs: 1_000_000 }, clock)
}
