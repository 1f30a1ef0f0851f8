import type { HttpFilter, HttpStream, Next, Replied, Scope } from '../../lib/chain/filter.ts'
import type { ConnectionInfo } from '../../lib/core/connection.ts'
import { Headers } from '../../lib/core/headers.ts'
import type { FractionConfig } from '../../lib/match/config.ts'
import { compileFraction } from '../../lib/match/fraction.ts'
import type { RateLimitDescriptor } from '../../lib/ratelimit/descriptor.ts'
import { collectByRoute, compileRateLimits, type RateLimitSelection } from '../../lib/ratelimit/rules.ts'
import type { HeaderValueConfig } from '../../lib/router/config.ts'
import { compileFormat } from '../../lib/telemetry/format.ts'
import { compileHeaderEdits, type HeaderEdits } from '../../lib/telemetry/header-edits.ts'
import { leasedBuckets, ownBuckets } from './bucket.ts'
import type { LocalRateLimitConfig } from './config.ts'
import { Limiter, type Verdict } from './limiter.ts'

/** One request. */
interface Request {
  /** Undefined: it was not looked at. */
  verdict: Verdict | undefined
  looked: boolean
}

/** Compiles the filter. What routes have of their own has its own buckets. */
export function compileLocalRateLimit(config: LocalRateLimitConfig, scope: Scope): HttpFilter<unknown> {
  const { perConnection, responseHeaders, requestHeaders, rateLimits, rateLimitHeaders } = config
  const stats = cellsOf(config, scope)
  const enabled = compileShare(config.enabled, scope)
  const enforced = compileShare(config.enforced, scope)
  const limiterOf = perConnection ? limiterByConnection(config, scope) : sharedLimiter(config, scope)
  const describe = compileDescribe(config, scope)
  const members = compileMembers(config, scope)
  const refuse = compileRefusal(config, compileEdits(responseHeaders))
  const passAnyway = compileEdits(requestHeaders)

  const conclude = (stream: HttpStream, request: Request, verdict: Verdict): undefined | Replied => {
    request.verdict = verdict
    if (verdict.allowed) {
      stats.ok.v++
      return
    }
    stats.rateLimited.v++
    if (verdict.bucket?.shadow === true) {
      stats.shadow.v++
      return
    }
    if (!enforced(scope.random())) {
      passAnyway?.(stream.request, stream)
      return
    }
    stats.enforced.v++
    return refuse(stream, verdict)
  }

  const filter: HttpFilter<Request> = {
    createState: () => ({ verdict: undefined, looked: false }),

    onRequestHeaders(stream, _end, request): Next {
      if (!enabled(stream.random)) return
      stats.enabled.v++
      request.looked = true
      const verdict = limiterOf(stream.connection).decide(describe(stream), members())
      if (!('then' in verdict)) return conclude(stream, request, verdict)
      // For a client that has gone by then nothing is done; what was taken is spent.
      return verdict.then((settled) => conclude(stream, request, settled))
    },
  }
  if (rateLimitHeaders || rateLimits.some(({ headers }) => headers === 'draft-03')) {
    filter.onResponseHeaders = (stream, _end, { verdict }) => tell(stream.response, verdict, rateLimitHeaders)
  }
  const used = compileUsed(config, scope)
  if (used !== undefined) {
    filter.onEnd = (stream, { looked }) => {
      if (looked) limiterOf(stream.connection).settle(used(stream), members())
    }
  }
  return Object.freeze(filter) as HttpFilter<unknown>
}

function cellsOf({ statPrefix }: LocalRateLimitConfig, { metrics }: Scope) {
  const prefix = `${statPrefix}.http_local_rate_limit.`
  return {
    enabled: metrics.counter(`${prefix}enabled`),
    ok: metrics.counter(`${prefix}ok`),
    rateLimited: metrics.counter(`${prefix}rate_limited`),
    enforced: metrics.counter(`${prefix}enforced`),
    shadow: metrics.counter(`${prefix}shadow_mode`),
  }
}

/** Nobody, where no share is set: Envoy's default. */
function compileShare(config: FractionConfig | undefined, scope: Scope): (random: number) => boolean {
  return config === undefined ? () => false : compileFraction(config, scope.runtime)
}

function sharedLimiter(config: LocalRateLimitConfig, scope: Scope): () => Limiter {
  const key = `local_ratelimit/${scope.place}/${scope.filterName}/${config.written}`
  const limiter = new Limiter(config, leasedBuckets(scope.leases, key))
  scope.own({ [Symbol.dispose]: () => limiter.close() })
  return () => limiter
}

function limiterByConnection(config: LocalRateLimitConfig, { clock }: Scope): (connection: ConnectionInfo) => Limiter {
  const limiters = new WeakMap<ConnectionInfo, Limiter>()
  return (connection) => {
    let limiter = limiters.get(connection)
    if (limiter === undefined) {
      limiter = new Limiter(config, ownBuckets(clock))
      limiters.set(connection, limiter)
    }
    return limiter
  }
}

const NOTHING: readonly RateLimitDescriptor[] = Object.freeze([])

/** What a request is counted by, besides being one. */
function compileDescribe(
  config: LocalRateLimitConfig,
  { node }: Scope,
): (stream: HttpStream) => readonly RateLimitDescriptor[] {
  if (config.descriptors.length === 0) return () => NOTHING
  const rules = compileRateLimits(config.rateLimits)
  const selection: RateLimitSelection = {
    stage: rules.empty ? config.stage : 0,
    serviceCluster: node.cluster,
    // As in Envoy: keys that switch a rule off are for the filter that asks a service; here such rules never count.
    disabled: () => true,
    onStreamDone: false,
  }
  return (stream) => {
    const descriptors: RateLimitDescriptor[] = []
    if (rules.empty) collectByRoute(stream, config.virtualHost, selection, descriptors)
    else rules.collect(stream, selection, descriptors)
    return descriptors
  }
}

/** What an exchange that has ended counts for what comes (`apply_on_stream_done`); undefined: nothing. */
function compileUsed(
  { descriptors: wanted, rateLimits }: LocalRateLimitConfig,
  { node }: Scope,
): ((stream: HttpStream) => readonly RateLimitDescriptor[]) | undefined {
  if (wanted.length === 0 || !rateLimits.some(({ onStreamDone }) => onStreamDone === true)) return undefined
  const rules = compileRateLimits(rateLimits)
  const selection = { stage: 0, serviceCluster: node.cluster, disabled: () => true, onStreamDone: true }
  return (stream) => {
    const descriptors: RateLimitDescriptor[] = []
    rules.collect(stream, selection, descriptors)
    return descriptors
  }
}

/** How many gateways share the limit: each request counts for as many, so that all together keep to it. */
function compileMembers({ sharedWith }: LocalRateLimitConfig, { clusters }: Scope): () => number {
  if (sharedWith === undefined) return () => 1
  return () => Math.max(1, clusters.get(sharedWith)?.health().total ?? 1)
}

function compileEdits(headers: readonly HeaderValueConfig[]): HeaderEdits | undefined {
  return compileHeaderEdits([{ remove: [], add: headers }], (text, missing) => compileFormat(text, { missing }))
}

const TOO_MANY_REQUESTS = 429
/** gRPC's RESOURCE_EXHAUSTED. */
const RESOURCE_EXHAUSTED = 8

function compileRefusal(
  { status, retryAfter, resourceExhausted }: LocalRateLimitConfig,
  edit: HeaderEdits | undefined,
): (stream: HttpStream, verdict: Verdict) => Replied {
  const tellsWhen = retryAfter && status === TOO_MANY_REQUESTS
  return (stream, { bucket }) => {
    const headers = new Headers()
    edit?.(headers, stream)
    if (tellsWhen && bucket !== undefined && !headers.has('retry-after')) {
      headers.append('retry-after', String(Math.max(1, secondsOf(bucket))))
    }
    return stream.reply({
      status,
      body: 'local_rate_limited',
      headers: headers.raw,
      details: 'local_rate_limited',
      flag: 'RL',
      ...(resourceExhausted && { grpcStatus: RESOURCE_EXHAUSTED }),
    })
  }
}

/** X-RateLimit headers of the draft's version 03. */
function tell(response: Headers, verdict: Verdict | undefined, byDefault: boolean): void {
  const bucket = verdict?.bucket
  if (bucket === undefined || !(verdict?.headers === undefined ? byDefault : verdict.headers === 'draft-03')) return
  response.append('x-ratelimit-limit', String(bucket.maxTokens))
  response.append('x-ratelimit-remaining', String(Math.max(0, bucket.remaining)))
  response.append('x-ratelimit-reset', String(secondsOf(bucket)))
}

function secondsOf({ waitMs }: Bucket): number {
  return Math.ceil(waitMs / 1000)
}

type Bucket = NonNullable<Verdict['bucket']>
