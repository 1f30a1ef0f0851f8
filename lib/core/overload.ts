import type { Counter } from './metrics.ts'

/** An action against overload as far as it is on. Who acts reads it; the overload manager of the process moves it. */
export class Lever {
  /** 0: off, 1: saturated; in between the share of cases in which it acts. */
  scale = 0
  readonly #random: () => number

  constructor(random: () => number) {
    this.#random = random
  }

  /** Whether it acts in this case. */
  acts(): boolean {
    const { scale } = this
    return scale > 0 && (scale >= 1 || this.#random() < scale)
  }
}

/** A place on a connection's or request's way where load may be shed. */
export class ShedPoint extends Lever {
  /** `shed_load_count`; undefined: nothing moves it. */
  count: Counter | undefined = undefined

  /** As `acts`, counted. */
  sheds(): boolean {
    if (this.scale === 0 || !this.acts()) return false
    if (this.count !== undefined) this.count.v++
    return true
  }
}

/** How a timeout shrinks: to so many ms, or to that share of itself. */
export type TimeoutMinimum = { readonly ms: number } | { readonly share: number }

/** One kind of timeout, which shrinks under overload: whatever is armed with it is shortened too (`TimerWheel.reconsider`). */
export class ScaledTimeout {
  /** 0: as configured, 1: as short as it gets. */
  scale = 0
  minimum: TimeoutMinimum | undefined = undefined

  /** What `configuredMs` comes to now. 0, no timeout, stays that. */
  of(configuredMs: number): number {
    const { scale, minimum } = this
    if (scale === 0 || minimum === undefined || configuredMs <= 0) return configuredMs
    const least = 'ms' in minimum ? Math.min(minimum.ms, configuredMs) : configuredMs * minimum.share
    return Math.max(1, least + (configuredMs - least) * (1 - scale))
  }
}

/**
 * All that an overload manager moves in one process; everybody who sheds has the same one. At rest, and for listeners that
 * bypass the overload manager, every scale is 0.
 */
export class OverloadLevers {
  /** New requests are answered 503. */
  readonly stopAcceptingRequests: Lever
  /** Answers close their connections; HTTP/2 connections drain. */
  readonly disableKeepalive: Lever
  /** Nothing is taken out of the queues of listening sockets. */
  readonly stopAcceptingConnections: Lever
  /** What comes is reset at once. */
  readonly rejectConnections: Lever
  /** Garbage is collected, and memory given back. */
  readonly shrinkHeap: Lever
  readonly reduceTimeouts: Lever
  /** The streams that hold most are reset. */
  readonly resetStreams: Lever
  /** HTTP connections on which nothing is under way are closed. */
  readonly closeIdleConnections: Lever

  readonly accept: ShedPoint
  readonly decodeHeaders: ShedPoint
  readonly http1Abort: ShedPoint
  readonly http2GoAway: ShedPoint
  readonly http2GoAwayAndClose: ShedPoint
  readonly createCodec: ShedPoint
  readonly filterCheck: ShedPoint
  readonly poolConnect: ShedPoint

  readonly connectionIdle = new ScaledTimeout()
  readonly connectionMax = new ScaledTimeout()
  readonly streamIdle = new ScaledTimeout()
  readonly streamFlush = new ScaledTimeout()
  readonly transportConnect = new ScaledTimeout()

  /** @param random in [0, 1) */
  constructor(random: () => number = Math.random) {
    this.stopAcceptingRequests = new Lever(random)
    this.disableKeepalive = new Lever(random)
    this.stopAcceptingConnections = new Lever(random)
    this.rejectConnections = new Lever(random)
    this.shrinkHeap = new Lever(random)
    this.reduceTimeouts = new Lever(random)
    this.resetStreams = new Lever(random)
    this.closeIdleConnections = new Lever(random)
    this.accept = new ShedPoint(random)
    this.decodeHeaders = new ShedPoint(random)
    this.http1Abort = new ShedPoint(random)
    this.http2GoAway = new ShedPoint(random)
    this.http2GoAwayAndClose = new ShedPoint(random)
    this.createCodec = new ShedPoint(random)
    this.filterCheck = new ShedPoint(random)
    this.poolConnect = new ShedPoint(random)
  }

  /** Whether a connection that comes is turned away. */
  refusesConnection(): boolean {
    return this.rejectConnections.acts() || this.accept.sheds()
  }

  /** Whether a request whose head is complete is answered 503. */
  refusesRequest(): boolean {
    return this.decodeHeaders.sheds() || this.stopAcceptingRequests.acts()
  }
}
