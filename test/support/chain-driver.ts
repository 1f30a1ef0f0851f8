import { type ChainPlan, compileChain } from '../../lib/chain/compile.ts'
import type { Downstream, ExchangeOwner } from '../../lib/chain/contract.ts'
import { Exchange } from '../../lib/chain/exchange.ts'
import type {
  FilterFactory,
  HttpFilter,
  LocalReply,
  Route,
  Scope,
  Terminal,
  TerminalExchange,
  TerminalStream,
} from '../../lib/chain/filter.ts'
import type { Cluster, Clusters } from '../../lib/core/attempt.ts'
import { type ConnectionInfo, plainConnection } from '../../lib/core/connection.ts'
import type { Demand } from '../../lib/core/demand.ts'
import { Findings, type JsonObject } from '../../lib/core/errors.ts'
import { FAILURES, type Failure } from '../../lib/core/failure.ts'
import type { FieldReader } from '../../lib/core/field-reader.ts'
import type { RequestHead } from '../../lib/core/head.ts'
import { Headers } from '../../lib/core/headers.ts'
import { LocalLeases } from '../../lib/core/local-leases.ts'
import type { Counter } from '../../lib/core/metrics.ts'
import { StreamInfo } from '../../lib/core/stream-info.ts'
import { TimerWheel } from '../../lib/core/timer-wheel.ts'
import { createJsonReader } from '../../lib/proto/json-reader.ts'
import { TestClock } from './clock.ts'

/** A codec that writes down what it is told. */
export class FakeDownstream implements Downstream {
  readonly informational: number[] = []
  status = 0
  headers: Headers = new Headers()
  readonly chunks: Buffer[] = []
  trailers: Headers | undefined = undefined
  /** A clean end was written. */
  ended = false
  resetWith: Failure | undefined = undefined
  /** Calls of pauseRequest and resumeRequest, in order. */
  readonly flow: ('pause' | 'resume')[] = []
  upgraded = false
  /** What `write` answers. */
  ready = true

  /** True while the client is told to wait. */
  get paused(): boolean {
    return this.flow.at(-1) === 'pause'
  }

  get body(): string {
    return Buffer.concat(this.chunks).toString()
  }

  writeInformational(status: number): void {
    this.informational.push(status)
  }

  writeHeaders(status: number, headers: Headers, end: boolean): void {
    if (this.status !== 0) throw new Error('response headers were written twice')
    this.status = status
    this.headers = headers.clone()
    this.ended = end
  }

  write(chunk: Buffer, end: boolean): boolean {
    if (this.status === 0 || this.ended) throw new Error('a body outside of a response')
    if (chunk.length > 0) this.chunks.push(chunk)
    this.ended = end
    return this.ready
  }

  writeTrailers(trailers: Headers): void {
    if (this.status === 0 || this.ended) throw new Error('trailers outside of a response')
    this.trailers = trailers.clone()
    this.ended = true
  }

  reset(why: Failure): void {
    this.resetWith = why
  }

  pauseRequest(): void {
    this.flow.push('pause')
  }

  resumeRequest(): void {
    this.flow.push('resume')
  }

  writeUpgrade(status: number, headers: Headers): void {
    if (this.status !== 0) throw new Error('response headers were written twice')
    this.status = status
    this.headers = headers.clone()
    this.upgraded = true
  }

  closeAfterResponse(): void {}

  exchangeEnded(): void {}
}

/** An upstream that writes down what it gets and answers when the test says so. */
export class FakeUpstream implements Terminal, TerminalStream {
  /** Undefined until the request was forwarded. */
  exchange: TerminalExchange | undefined = undefined
  head: RequestHead | undefined = undefined
  headers: Headers = new Headers()
  readonly chunks: Buffer[] = []
  trailersReceived: Headers | undefined = undefined
  ended = false
  begun = 0
  cancelled = 0
  readonly flow: ('pause' | 'resume')[] = []
  /** What `write` answers. */
  ready = true
  /** Called at the end of `begin`. */
  onBegin: (() => void) | undefined = undefined

  get body(): string {
    return Buffer.concat(this.chunks).toString()
  }

  get paused(): boolean {
    return this.flow.at(-1) === 'pause'
  }

  begin(exchange: TerminalExchange, end: boolean): TerminalStream {
    this.begun++
    this.exchange = exchange
    this.head = { ...exchange.head }
    this.headers = exchange.request.clone()
    // The stream of an upgrade stays open for the tunnel.
    this.ended = end && this.head.protocol === undefined && this.head.method !== 'CONNECT'
    this.onBegin?.()
    return this
  }

  write(chunk: Buffer, end: boolean): boolean {
    if (this.ended) throw new Error('data after the end of the request')
    if (chunk.length > 0) this.chunks.push(chunk)
    this.ended = end
    return this.ready
  }

  trailers(trailers: Headers): void {
    if (this.ended) throw new Error('trailers after the end of the request')
    this.trailersReceived = trailers.clone()
    this.ended = true
  }

  pause(): void {
    this.flow.push('pause')
  }

  resume(): void {
    this.flow.push('resume')
  }

  cancel(): void {
    this.cancelled++
  }

  /** Answers: headers, and a body where there is one. */
  respond(status: number, headers: readonly string[] = [], body?: string): void {
    const exchange = this.exchange
    if (exchange === undefined) throw new Error('nothing was forwarded')
    exchange.upstreamHeaders(status, new Headers([...headers]), body === undefined)
    if (body !== undefined) exchange.upstreamData(Buffer.from(body), true)
  }
}

export interface DriveOptions {
  /** In chain order; undefined: off. */
  readonly filters: readonly (HttpFilter<never> | HttpFilter<unknown> | undefined)[]
  readonly names?: readonly string[]
  readonly head?: Partial<RequestHead>
  readonly request?: readonly string[]
  /** Default: one for all. */
  readonly connection?: ConnectionInfo
  /** False: a body follows. Default: true. */
  readonly end?: boolean
  readonly route?: Route | undefined
  readonly random?: number
  readonly bufferLimit?: number
  readonly upstream?: FakeUpstream
  /** What `refreshRoute` finds. */
  readonly reroute?: (exchange: Exchange) => { route: Route | undefined; plan: ChainPlan }
  readonly mapReply?: (reply: LocalReply) => LocalReply
}

export const ROUTE: Route = Object.freeze({ name: 'r', virtualHost: 'v', cluster: 'c', metadata: undefined })

export const CONNECTION: ConnectionInfo = Object.freeze({
  ...plainConnection({
    id: 1,
    remoteAddress: '192.0.2.1',
    remotePort: 1234,
    localAddress: '192.0.2.2',
    localPort: 80,
    kind: 'ip',
    listenerName: 'listener',
  }),
  filterChainName: 'chain',
})

/** One exchange under test: the real engine between a fake codec and a fake upstream. */
export interface Driven {
  readonly exchange: Exchange
  readonly downstream: FakeDownstream
  readonly upstream: FakeUpstream
  /** What `onFilterError` was told: `name: message`. */
  readonly errors: string[]
  /** How often the owner's `onEnd` was called. */
  readonly ends: () => number
  readonly plan: ChainPlan
  /** A piece of the request's body. */
  send(text: string, end?: boolean): void
  clientGone(): void
}

/** Starts an exchange through `filters`; whatever they do synchronously has been done when it returns. */
export function drive(options: DriveOptions): Driven {
  const downstream = new FakeDownstream()
  const upstream = options.upstream ?? new FakeUpstream()
  const errors: string[] = []
  let ends = 0
  const filters = options.filters as readonly (HttpFilter<unknown> | undefined)[]
  const plan = compileChain(filters, options.names ?? filters.map((_, i) => `f${i}`), upstream)
  const clock = new TestClock()
  const owner: ExchangeOwner = {
    wheel: new TimerWheel(clock),
    route: options.reroute ?? (() => ({ route: options.route, plan })),
    finishResponse() {},
    mapReply: (_exchange, reply) => options.mapReply?.(reply) ?? reply,
    onEnd() {
      ends++
    },
    onFilterError(_exchange, filter, error) {
      errors.push(`${filter}: ${error instanceof Error ? error.message : String(error)}`)
    },
    onDue() {},
  }
  const exchange = new Exchange({
    owner,
    downstream,
    connection: options.connection ?? CONNECTION,
    head: { method: 'GET', scheme: 'http', authority: 'a.test', path: '/', protocol: undefined, ...options.head },
    headers: new Headers([...(options.request ?? [])]),
    info: new StreamInfo(clock.now(), clock.wall()),
    bufferLimit: options.bufferLimit ?? 1024,
    random: () => options.random ?? 0.5,
  })
  exchange.start('route' in options ? options.route : ROUTE, plan, options.end ?? true)
  return {
    exchange,
    downstream,
    upstream,
    errors,
    ends: () => ends,
    plan,
    send: (text, end = false) => exchange.requestData(Buffer.from(text), end),
    clientGone: () => exchange.downstreamFailed(FAILURES.clientClosed),
  }
}

/** A scope to compile filters in, and what they did to it. */
export interface TestScope extends Scope {
  readonly clock: TestClock
  /** Counters by name. */
  readonly counters: ReadonlyMap<string, Counter>
  /** What histograms were given: name and value. */
  readonly recorded: readonly (readonly [string, number])[]
  readonly owned: (Disposable | AsyncDisposable)[]
  /** Lines of `openLines`. */
  readonly written: readonly string[]
}

export interface ScopeOptions {
  readonly runtime?: JsonObject
  readonly serving?: () => boolean
  readonly secrets?: Readonly<Record<string, Buffer>>
  readonly demand?: Demand
  /** Cluster name to its health; the clusters cannot be used otherwise. */
  readonly health?: Readonly<Record<string, ReturnType<Cluster['health']>>>
}

export function testScope(options: ScopeOptions = {}): TestScope {
  const clock = new TestClock()
  const counters = new Map<string, Counter>()
  const recorded: [string, number][] = []
  const owned: (Disposable | AsyncDisposable)[] = []
  const clusters: Clusters = {
    get(name) {
      const health = options.health?.[name]
      return health === undefined ? undefined : ({ name, statName: name, health: () => health } as Cluster)
    },
  }
  const cell = (name: string): Counter => {
    const known = counters.get(name) ?? { v: 0 }
    counters.set(name, known)
    return known
  }
  const written: string[] = []
  const silent = (): void => {}
  return {
    filterName: 'filter',
    statPrefix: 'http.ingress.',
    place: 'listener/chain',
    runtime: { get: (key) => options.runtime?.[key] },
    node: { id: 'gate-1', cluster: 'edge' },
    clock,
    wheel: new TimerWheel(clock),
    random: () => 0.5,
    log: { debug: silent, info: silent, warn: silent, error: silent },
    metrics: {
      has: (name) => counters.has(name),
      counter: cell,
      gauge: cell,
      histogram: (name) => ({ record: (value) => void recorded.push([name, value]) }),
    },
    clusters,
    leases: new LocalLeases(clock),
    secret: (name) => options.secrets?.[name],
    demand: options.demand,
    openLines: () => ({ write: (line) => void written.push(line) }),
    serving: options.serving ?? (() => true),
    own(resource) {
      owned.push(resource)
      return resource
    },
    counters,
    recorded,
    owned,
    written,
  }
}

/** What reading a configuration gave: the result, and every mistake as `path: message`. */
export interface ParseResult<T> {
  readonly value: T
  readonly errors: string[]
}

/** Reads plain JSON as a configuration, unread fields included. The result has been through JSON, as between processes. */
export function parseJson<T>(value: JsonObject, parse: (fields: FieldReader) => T): ParseResult<T> {
  const findings = new Findings()
  const open = createJsonReader({ findings, value, path: '', typeName: 'test' })
  const parsed = parse(open.reader)
  open.finish()
  return { value: JSON.parse(JSON.stringify(parsed)) as T, errors: findings.errors.map((error) => error.toString()) }
}

/**
 * The filter a route gets: parsed, merged with the route's levels (least specific first) and compiled. Throws where a
 * configuration has mistakes; undefined where the filter is off.
 */
export function build<C, R>(
  factory: FilterFactory<C, R>,
  config: JsonObject,
  how: { readonly levels?: readonly JsonObject[]; readonly scope?: Scope } = {},
): HttpFilter<unknown> | undefined {
  const base = correct(parseJson(config, (fields) => factory.parse(fields)))
  const parseRoute = (fields: FieldReader): R => factory.parseRoute?.(fields) ?? (factory.parse(fields) as unknown as R)
  const levels = (how.levels ?? []).map((level) => correct(parseJson(level, parseRoute)))
  const merged = factory.merge === undefined ? ((levels.at(-1) as unknown as C) ?? base) : factory.merge(base, levels)
  if (merged === undefined) return undefined
  return factory.compile(JSON.parse(JSON.stringify(merged)) as C, how.scope ?? testScope()) as HttpFilter<unknown>
}

function correct<T>(result: ParseResult<T>): T {
  if (result.errors.length > 0) throw new Error(result.errors.join('\n'))
  return result.value
}

/** `name: value` lines, for comparison. */
export function lines(headers: Headers | undefined): string[] {
  const out: string[] = []
  const raw = headers?.raw ?? []
  for (let i = 0; i < raw.length; i += 2) out.push(`${raw[i]}: ${raw[i + 1]}`)
  return out
}
