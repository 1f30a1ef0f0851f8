import type { Clusters } from '../core/attempt.ts'
import type { Sink } from '../core/body.ts'
import type { Clock } from '../core/clock.ts'
import type { ConfigSources } from '../core/config-sources.ts'
import type { ConnectionInfo } from '../core/connection.ts'
import type { Demand } from '../core/demand.ts'
import type { Json } from '../core/errors.ts'
import type { Failure, ResponseFlag } from '../core/failure.ts'
import type { FieldReader } from '../core/field-reader.ts'
import type { RequestHead } from '../core/head.ts'
import type { Headers } from '../core/headers.ts'
import type { Leases } from '../core/lease.ts'
import type { Log, Metrics, Runtime } from '../core/metrics.ts'
import type { StreamInfo } from '../core/stream-info.ts'
import type { TimerWheel } from '../core/timer-wheel.ts'
import type { RouteRateLimits } from '../ratelimit/rules.ts'
import type { AccessLogConfig } from '../telemetry/config.ts'

/** What a hook returns after `stream.reply(...)`. */
export interface Replied {
  readonly replied: true
}

/** Nothing: go on. `Replied`: stop, the answer is on its way. A promise: this direction pauses until it settles. */
export type Next = void | undefined | Replied | PromiseLike<void | undefined | Replied>

/**
 * Nothing: pass the chunk on. A Buffer: pass that instead. `null`: swallow it. `Replied`: stop, the answer is on its way.
 * A promise: this direction pauses until it settles.
 */
export type NextChunk =
  | void
  | undefined
  | Buffer
  | null
  | Replied
  | PromiseLike<void | undefined | Buffer | null | Replied>

/** An answer of the proxy's own. It passes the response hooks of the whole chain once, as Envoy's local replies do. */
export interface LocalReply {
  readonly status: number
  readonly body?: string | Buffer
  /** Flat list as in `Headers.raw`; `content-type` defaults to text/plain where there is a body. */
  readonly headers?: readonly string[]
  /** Envoy's RESPONSE_CODE_DETAILS: snake_case, says who answered and why. */
  readonly details: string
  readonly flag?: ResponseFlag
  /** For gRPC requests; default: mapped from the status. */
  readonly grpcStatus?: number
}

/** Dynamic metadata: JSON by namespace (usually the filter's type name). */
export interface Metadata {
  get(namespace: string): Json | undefined
  /** Objects are merged key by key, anything else replaces. */
  merge(namespace: string, value: Json): void
}

/** Typed objects that filters leave for later ones, by key. */
export interface FilterState {
  get(key: string): unknown
  set(key: string, value: unknown): void
}

/** The route an exchange was matched to, as filters may see it. */
export interface Route {
  readonly name: string
  readonly virtualHost: string
  /** The cluster it forwards to, '' where it does not forward. */
  readonly cluster: string
  readonly metadata: { readonly [namespace: string]: Json } | undefined
  /** Where it forwards and something stands there, or at its virtual host: what requests are counted by. */
  readonly rateLimits?: RouteRateLimits | undefined
}

/** A virtual host that a route table may get when it is asked for. */
export interface HostOnDemand {
  readonly table: string
  /** As the request names it, lower case. */
  readonly host: string
}

/** One exchange as filters see it. Valid until `onEnd`; nothing of it may be kept beyond. */
export interface HttpStream {
  readonly connection: ConnectionInfo
  readonly route: Route | undefined
  /** Of a route table that gets virtual hosts on demand, what it can be asked for; undefined: it knows all that there are. */
  readonly hostOnDemand?: HostOnDemand | undefined
  readonly head: RequestHead
  readonly request: Headers
  /** Response headers; empty until the response begins. */
  readonly response: Headers
  status: number
  /**
   * Undefined until response trailers have arrived: a filter that holds the response with `collectResponse` has them
   * when it gets the body. This is what logs read; a filter that empties the trailers, because they go on in another
   * form, leaves a copy here.
   */
  responseTrailers: Headers | undefined
  /** What either direction may hold for a filter that has no limit of its own (Envoy: the connection's buffer limit). */
  readonly bufferLimit: number
  readonly info: StreamInfo
  readonly metadata: Metadata
  readonly filterState: FilterState
  /** Made on first use; aborts however the exchange ends before its response is complete. */
  readonly signal: AbortSignal
  /** One draw per exchange, in [0, 1): every decision by chance uses it. */
  readonly random: number
  /** Match again, after a change to headers; only before the request has been forwarded. */
  refreshRoute(): void
  /** Answer at once: request hooks and the upstream are abandoned, response hooks run. */
  reply(reply: LocalReply): Replied
  /**
   * A streamed answer of the filter's own (MCP, cache): response hooks run on it too. Where `write` has answered false,
   * `onDrain` is called once when more may be written; never after the end, which `signal` and `onEnd` tell of.
   */
  respond(status: number, headers: Headers, onDrain?: () => void): Sink
  /** Hold the whole body, at most `limit` bytes; beyond it the 413 has been sent and a Failure is returned. */
  collectRequest(limit: number): Promise<Buffer | Failure>
  /** As `collectRequest`, for responses; beyond the limit 500 is sent. */
  collectResponse(limit: number): Promise<Buffer | Failure>
  /** Look at the first `limit` bytes (fewer where the body ends earlier) and leave them in place. */
  peekRequest(limit: number): Promise<Buffer>
  peekResponse(limit: number): Promise<Buffer>
  /**
   * Emit an extra chunk after this filter, from within a data or trailers hook; false: pause if you can. From within the
   * header hook of a request without a body it is the body, whole.
   */
  writeRequest(chunk: Buffer): boolean
  /** Emit an extra chunk after this filter, from within a data or trailers hook; false: pause if you can. */
  writeResponse(chunk: Buffer): boolean
  /**
   * Trailers for a body that has none of its own; from a data hook that saw `end`, or earlier. A request without a body
   * stays one: they are dropped, because HTTP/1 would have to announce a body for them.
   */
  setRequestTrailers(trailers: Headers): void
  /**
   * As `setRequestTrailers`. A response that ended at its headers gets them where its framing has a place for them: not
   * with a Content-Length, not for HEAD, 204 and 304. What the codec cannot send, it drops.
   */
  setResponseTrailers(trailers: Headers): void
}

/**
 * A filter: hooks on one immutable object that all requests share. Requests pass filters first to last, responses last
 * to first. Per-request state is what `createState` returns.
 *
 * Phases of one exchange:
 * ```
 * onRequestHeaders ─▶ onRequestData* ─▶ onRequestTrailers? ─▶ upstream
 *        │ reply()                                               │
 *        ▼                                                       ▼
 * onEnd ◀─ onResponseTrailers? ◀─ onResponseData* ◀─ onResponseHeaders ◀─ onInformational*
 * ```
 * Data that arrives while an earlier hook is paused waits, bounded, under back-pressure. No hook is called after `onEnd`.
 * What a hook throws ends the exchange with 500 and is logged with the filter's name; the worker lives.
 */
export interface HttpFilter<S = undefined> {
  createState?(stream: HttpStream): S
  onRequestHeaders?(stream: HttpStream, end: boolean, state: S): Next
  /** `end` may come with an empty chunk. With trailers, no chunk has `end`. Small chunks that waited may come as one. */
  onRequestData?(stream: HttpStream, chunk: Buffer, end: boolean, state: S): NextChunk
  onRequestTrailers?(stream: HttpStream, trailers: Headers, state: S): Next
  onInformational?(stream: HttpStream, status: number, headers: Headers, state: S): void
  onResponseHeaders?(stream: HttpStream, end: boolean, state: S): Next
  onResponseData?(stream: HttpStream, chunk: Buffer, end: boolean, state: S): NextChunk
  /** Trailers that have no fields behind the last hook are not sent: the body just ends. */
  onResponseTrailers?(stream: HttpStream, trailers: Headers, state: S): Next
  /** Exactly once per exchange in which this filter took part, however it ended: release, count, log. */
  onEnd?(stream: HttpStream, state: S): void
}

/** What a filter may reach when it is compiled. Whatever has a lifetime goes through `own`. */
export interface Scope {
  /** Instance name of the filter and the stat prefix (`http.<stat_prefix>.`) of its connection manager. */
  readonly filterName: string
  readonly statPrefix: string
  /** Where the filter stands (listener and filter chain), the same in all processes: for the keys of `leases`. */
  readonly place: string
  readonly runtime: Runtime
  /** Who this proxy is, as its configuration says; '' where it does not. */
  readonly node: { readonly id: string; readonly cluster: string }
  readonly clock: Clock
  /** Coarse timers for per-request deadlines. */
  readonly wheel: TimerWheel
  readonly random: () => number
  readonly log: Log
  readonly metrics: Metrics
  /** The clusters of the gateway as they are when they are asked for; one that was got stays usable. */
  readonly clusters: Clusters
  /** Limits that hold for the whole gateway. Keys are one space for all: begin them with the filter's kind. */
  readonly leases: Leases
  /** What filters were given to keep to themselves, as of now: `undefined` where there is none (yet) of that name. */
  readonly secret: (name: string) => Buffer | undefined
  /** Undefined where nothing can be had on demand. */
  readonly demand: Demand | undefined
  /** False while the gateway drains or was told to fail its health checks. */
  readonly serving: () => boolean
  /**
   * Opens standard output, standard error or a file for lines of the filter's own (with their newline), which it shares with
   * access logs; held as long as the filter. Writing never throws and never waits.
   *
   * @throws the system's error where a file cannot be opened
   */
  openLines(sink: AccessLogConfig['sink']): { write(line: string): void }
  /** Disposed of when no configuration has the filter any more and nothing uses it. */
  own<T extends Disposable | AsyncDisposable>(resource: T): T
}

/**
 * Makes filters of one kind. `C` is the parsed configuration, `R` that of routes; both JSON-safe.
 *
 * parse (once, in the control process) → merge (once per distinct route) → compile (in each worker)
 */
export interface FilterFactory<C = Json, R = C> {
  /** Envoy's canonical name, for example `envoy.filters.http.cors`. */
  readonly name: string
  /** Without `type.googleapis.com/`. The first is the canonical one. */
  readonly typeUrls: readonly string[]
  /** Types of per-route configuration; default: `typeUrls`. */
  readonly routeTypeUrls?: readonly string[]
  /** True for filters that end the chain (the router). */
  readonly terminal?: boolean
  /** True for filters that may also stand between the router and the hosts of a cluster, where they know no route. */
  readonly upstream?: boolean
  /**
   * Pure. Collects errors in the reader; the result is used only where there are none. `sources` is undefined where nothing
   * is delivered by anybody.
   */
  parse(fields: FieldReader, sources?: ConfigSources): C
  /** Default: `parse`. */
  parseRoute?(fields: FieldReader, sources?: ConfigSources): R
  /**
   * Combines the filter's own configuration with those of route table, virtual host, route and weighted cluster, least
   * specific first. Default: the most specific level replaces. May answer undefined: the filter is off there.
   */
  merge?(base: C, levels: readonly R[]): C | undefined
  compile(config: C, scope: Scope): HttpFilter<unknown> | Terminal
}

/** Ends a chain: takes requests onward. Compiled once, shared by all requests. */
export interface Terminal {
  /** All request header hooks have passed; called exactly once per exchange that was not answered before. */
  begin(exchange: TerminalExchange, end: boolean): TerminalStream | undefined
}

/** The request direction of one exchange beyond the chain. */
export interface TerminalStream {
  /** False: wait for `TerminalExchange.drained()`. */
  write(chunk: Buffer, end: boolean): boolean
  /** As `UpstreamStream.settled`. */
  settled?(): boolean
  trailers(trailers: Headers): void
  /** What it keeps of the request, to send it or to send it again; default: nothing. */
  readonly bufferedBytes?: number
  /** Response direction back-pressure. */
  pause(): void
  resume(): void
  /** The exchange is over or was answered otherwise; nothing may be delivered after this. Idempotent. */
  cancel(why: Failure | undefined): void
}

/** How a request goes on as another exchange, for redirects that are followed here. */
export interface Restart {
  /** The route that a request with these would have, the head first being made what it would be then; undefined: none. */
  routeOf(head: RequestHead, headers: Headers): Route | undefined
  /** Ends the exchange, and begins the next one on the same stream of the client's. Takes ownership of all it is given. */
  begin(next: RestartedRequest): void
}

/** A request that has been answered, but not to the client, and runs through the chain again. */
export interface RestartedRequest {
  readonly head: RequestHead
  readonly headers: Headers
  /** Undefined: it has none. */
  readonly body: { sendTo(stream: Pick<TerminalStream, 'write' | 'trailers'>): void } | undefined
  /** What the exchange that ends is logged with. */
  readonly answeredBy: { readonly status: number; readonly headers: Headers; readonly details: string }
  /** What the next one finds there. */
  readonly filterState: readonly (readonly [key: string, value: unknown])[]
}

/** What a terminal may do to its exchange, besides what filters may. */
export interface TerminalExchange extends HttpStream {
  /** The compiled route, opaque to the engine. */
  readonly route: Route | undefined
  /** True once the whole request has arrived from downstream. */
  readonly requestComplete: boolean
  /** Undefined where the request cannot run again: it is not complete, is no plain one, or its answer is on its way. */
  readonly restart?: Restart | undefined
  upstreamInformational(status: number, headers: Headers): void
  /** Comes before `upstreamHeaders`, so that formats in the route's header edits read the response. */
  upstreamAnswers(status: number, headers: Headers): void
  /** Takes ownership of `headers`. */
  upstreamHeaders(status: number, headers: Headers, end: boolean): void
  /** False: `TerminalStream.pause` semantics, stop until `resume`. */
  upstreamData(chunk: Buffer, end: boolean): boolean
  /**
   * Asked after `upstreamData` by whoever could use the memory of its chunks again: sends what may go now. True: nobody
   * keeps any of them.
   */
  responseSettled(): boolean
  upstreamTrailers(trailers: Headers): void
  /** The request sink can take more. */
  drained(): void
  /** After response headers: aborts downstream. Before: a local reply, by the failure's status or another; 204 has no body. */
  upstreamFailed(why: Failure, detail?: string, status?: number): void
  /**
   * A permitted upgrade that the upstream has accepted: from now on `upstreamData` and `TerminalStream.write` carry the
   * tunnel's bytes, without hooks, and `end` in either ends that direction alone.
   */
  upstreamUpgraded(status: number, headers: Headers): void
}
