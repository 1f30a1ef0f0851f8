import type { HttpStream } from '../chain/filter.ts'
import type { Json } from '../core/errors.ts'
import { valueAt } from '../match/value.ts'
import type { LogStream } from '../telemetry/format/operator.ts'
import { compileFormat } from '../telemetry/format.ts'
import { type Action, compileAction } from './actions.ts'
import type { HitsConfig, RateLimitConfig, RateLimitHeaders, RateLimitOverrideConfig, RateLimitUnit } from './config.ts'
import type { RateLimitDescriptor, RateLimitOverride } from './descriptor.ts'

/** Which rules a filter goes by. Made once, for all requests. */
export interface RateLimitSelection {
  readonly stage: number
  /** What this proxy calls itself. */
  readonly serviceCluster: string
  /** True: rules with this key do not count now. */
  disabled(key: string): boolean
  /** Rules for the end of the exchange, or those for its beginning. */
  readonly onStreamDone: boolean
}

/** Compiled rate limits: what requests are counted by. */
export interface RateLimitRules {
  readonly empty: boolean
  /** Adds the descriptors that a request has, in the order of the configuration. */
  collect(stream: HttpStream, selection: RateLimitSelection, into: RateLimitDescriptor[]): void
}

/** The rules that stand at a route and at its virtual host. */
export interface RouteRateLimits {
  readonly route: RateLimitRules
  readonly virtualHost: RateLimitRules
  /** The route wants both, whatever the filter says (`include_vh_rate_limits`). */
  readonly includeVirtualHost: boolean
}

/** What a filter makes of a virtual host's rules where the route has some of its own. */
export type VirtualHostOption = 'override' | 'include' | 'ignore'

interface Rule {
  readonly actions: readonly Action[]
  readonly stage: number
  readonly disableKey: string
  readonly onStreamDone: boolean
  readonly headers: RateLimitHeaders | undefined
  readonly negative: boolean
  /** -1: not to be told, and there is no descriptor. */
  readonly hits: ((stream: HttpStream) => number) | undefined
  readonly limit: ((stream: HttpStream) => RateLimitOverride | undefined) | undefined
}

/** @throws Error for what cannot be compiled. */
export function compileRateLimits(configs: readonly RateLimitConfig[]): RateLimitRules {
  if (configs.length === 0) return NO_RULES
  const rules = configs.map(compileRule)
  return {
    empty: false,
    collect(stream, selection, into) {
      for (const rule of rules) {
        if (rule.stage !== selection.stage || rule.onStreamDone !== selection.onStreamDone) continue
        if (rule.disableKey !== '' && selection.disabled(rule.disableKey)) continue
        const descriptor = describe(rule, stream, selection.serviceCluster)
        if (descriptor !== undefined) into.push(descriptor)
      }
    },
  }
}

/** As `RateLimitRules.collect`, by the rules of the route that a request is on. */
export function collectByRoute(
  stream: HttpStream,
  option: VirtualHostOption,
  selection: RateLimitSelection,
  into: RateLimitDescriptor[],
): void {
  const limits = stream.route?.rateLimits
  if (limits === undefined) return
  const { route, virtualHost, includeVirtualHost } = limits
  route.collect(stream, selection, into)
  if (includeVirtualHost || option === 'include' || (option === 'override' && route.empty)) {
    virtualHost.collect(stream, selection, into)
  }
}

const NO_RULES: RateLimitRules = Object.freeze({ empty: true, collect() {} })

function describe(rule: Rule, stream: HttpStream, serviceCluster: string): RateLimitDescriptor | undefined {
  const entries: string[] = []
  for (const action of rule.actions) if (!action(stream, serviceCluster, entries)) return undefined
  if (entries.length === 0) return undefined
  const hits = rule.hits === undefined ? 1 : rule.hits(stream)
  if (hits < 0) return undefined
  return { entries, hits, negative: rule.negative, limit: rule.limit?.(stream), headers: rule.headers }
}

function compileRule(config: RateLimitConfig): Rule {
  const { actions, stage = 0, disableKey = '', limit, hits, onStreamDone = false, headers } = config
  return {
    actions: actions.map(compileAction),
    stage,
    disableKey,
    onStreamDone,
    headers,
    negative: hits?.negative === true,
    hits: hits && compileHits(hits),
    limit: limit && compileOverride(limit),
  }
}

/** Envoy's bound. */
export const MAX_HITS = 1_000_000_000

function compileHits(config: HitsConfig): (stream: HttpStream) => number {
  if (config.kind === 'number') {
    const { number } = config
    return () => number
  }
  const format = compileFormat(config.format, { missing: '', output: 'body' })
  return (stream) => {
    const text = format(stream as LogStream)
    const hits = /^\d{1,10}(?:\.0+)?$/.test(text) ? Number(text) : -1
    return hits <= MAX_HITS ? hits : -1
  }
}

function compileOverride(config: RateLimitOverrideConfig): (stream: HttpStream) => RateLimitOverride | undefined {
  if (config.kind === 'fixed') {
    const fixed = Object.freeze({ requestsPerUnit: config.requestsPerUnit, unit: config.unit })
    return () => fixed
  }
  const { namespace, path } = config
  return ({ metadata }) => overrideIn(valueAt(metadata.get(namespace), path))
}

/** The names of Envoy's `RateLimitUnit`. */
export const RATE_LIMIT_UNITS: ReadonlyMap<unknown, RateLimitUnit> = new Map<unknown, RateLimitUnit>([
  ['SECOND', 'second'],
  ['MINUTE', 'minute'],
  ['HOUR', 'hour'],
  ['DAY', 'day'],
  ['MONTH', 'month'],
  ['YEAR', 'year'],
])

/** `{"requests_per_unit": 10, "unit": "HOUR"}`; anything else is no override. */
function overrideIn(value: Json | undefined): RateLimitOverride | undefined {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined
  const { requests_per_unit: requests, unit } = value
  const known = RATE_LIMIT_UNITS.get(unit)
  if (known === undefined || typeof requests !== 'number' || !(requests >= 0)) return undefined
  return { requestsPerUnit: Math.trunc(requests), unit: known }
}
