import type { ConnectionInfo } from '../core/connection.ts'
import type { Failure } from '../core/failure.ts'
import type { RequestHead } from '../core/head.ts'
import type { Headers } from '../core/headers.ts'
import type { StreamInfo } from '../core/stream-info.ts'
import type { TimerWheel } from '../core/timer-wheel.ts'
import type { ChainPlan } from './compile.ts'
import type { Exchange } from './exchange.ts'
import type { HostOnDemand, LocalReply, Restart, Route } from './filter.ts'

/** The codec's side of one exchange: where the response goes and what the request can be slowed by. */
export interface Downstream {
  writeInformational(status: number, headers: Headers): void
  writeHeaders(status: number, headers: Headers, end: boolean): void
  /** False: stop until `Exchange.downstreamDrained`. */
  write(chunk: Buffer, end: boolean): boolean
  /** Sends what may go now. True: nothing of what was written is kept, and its memory may be used again. */
  settled?(): boolean
  writeTrailers(trailers: Headers): void
  /** Ends the exchange so that the client can tell it from a clean end. */
  reset(why: Failure): void
  pauseRequest(): void
  resumeRequest(): void
  /**
   * The head of a granted upgrade (101) or CONNECT (2xx). From now on `write` and `Exchange.requestData` carry the tunnel's
   * bytes, and `end` in either ends that direction alone.
   */
  writeUpgrade(status: number, headers: Headers): void
  /** Where requests and connections are one to one (HTTP/1), the connection ends with this answer. */
  closeAfterResponse(): void
  /** The owner has logged and released the exchange. */
  exchangeEnded(): void
  /** Instead of the one that has just ended without an answer, this exchange is to answer. Undefined: it cannot be. */
  continueWith?(next: Exchange): void
}

/** What the connection manager does around the chain. */
export interface ExchangeOwner {
  /** Its `nowMs` is the time of an exchange's last activity. */
  readonly wheel: TimerWheel
  /** Finds the route and its plan again (refreshRoute). */
  route(exchange: Exchange): { route: Route | undefined; plan: ChainPlan }
  /** As `TerminalExchange.restart`; default: undefined. */
  restart?(exchange: Exchange): Restart | undefined
  /** As `HttpStream.hostOnDemand`; default: undefined. */
  hostOnDemand?(exchange: Exchange): HostOnDemand | undefined
  /** Last touch on response headers, after all hooks: server, via, date, request id, hop-by-hop. */
  finishResponse(exchange: Exchange, fromUpstream: boolean): void
  /** Local reply configuration may change status, body and headers. */
  mapReply(exchange: Exchange, reply: LocalReply): LocalReply
  /** Exactly once, after all `onEnd` hooks. */
  onEnd(exchange: Exchange): void
  /** A hook threw: log it with the filter's name. */
  onFilterError(exchange: Exchange, filter: string, error: unknown): void
  /** The exchange's deadline passed. */
  onDue(exchange: Exchange, nowMs: number): void
}

/** Where an exchange stands; each phase is entered once, in this order. */
export const Phase = {
  REQUEST: 0,
  FORWARDED: 1,
  RESPONDING: 2,
  HEADERS_SENT: 3,
  ENDED: 4,
} as const
export type Phase = (typeof Phase)[keyof typeof Phase]

export interface ExchangeStart {
  readonly owner: ExchangeOwner
  readonly downstream: Downstream
  readonly connection: ConnectionInfo
  readonly head: RequestHead
  readonly headers: Headers
  readonly info: StreamInfo
  readonly bufferLimit: number
  readonly random: () => number
}
