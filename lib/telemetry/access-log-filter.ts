import type { Clock } from '../core/clock.ts'
import { RESPONSE_FLAGS } from '../core/failure.ts'
import type { Runtime } from '../core/metrics.ts'
import { runtimeInteger } from '../core/runtime-value.ts'
import { compileFraction } from '../match/fraction.ts'
import { compileHeader } from '../match/header.ts'
import { compileMetadata, valueAt } from '../match/value.ts'
import type { AccessLogFilterConfig, ComparisonConfig } from './config.ts'
import { grpcStatus } from './format/grpc-status.ts'
import type { LogStream } from './format/operator.ts'

/** Answers whether an exchange is to be logged. */
export type AccessLogFilter = (stream: LogStream) => boolean

export interface AccessLogFilterDeps {
  readonly runtime: Runtime
  readonly clock: Clock
  /** Envoy's AccessLogType of the lines that are filtered, for example `DownstreamEnd`. */
  readonly logType: string
}

type FilterOf<K extends AccessLogFilterConfig['kind']> = Extract<AccessLogFilterConfig, { kind: K }>

/** The filter state key by which the health check filter marks its requests: `true`. */
export const HEALTH_CHECK_KEY = 'health_check'

/**
 * Compiles an access-log filter with Envoy's semantics. Local reply mappers use the same filters.
 *
 * @throws Error for a pattern that RE2 refuses or an unknown response flag; validation finds both before.
 */
export function compileAccessLogFilter(config: AccessLogFilterConfig, deps: AccessLogFilterDeps): AccessLogFilter {
  switch (config.kind) {
    case 'status': {
      const compare = compileComparison(config.comparison, deps.runtime)
      return (stream) => compare(stream.status)
    }
    case 'duration':
      return durationFilter(compileComparison(config.comparison, deps.runtime), deps.clock)
    case 'not-health-check':
      return (stream) => !isHealthCheck(stream)
    case 'traceable':
      return (stream) => !isHealthCheck(stream) && isTraced(requestId(stream))
    case 'runtime':
      return runtimeFilter(config, deps.runtime)
    case 'and':
    case 'or':
      return combined(
        config.kind,
        config.filters.map((filter) => compileAccessLogFilter(filter, deps)),
      )
    case 'header': {
      const matches = compileHeader(config.header)
      return (stream) => matches(stream.request, stream.head)
    }
    case 'response-flag': {
      const wanted = flagBits(config.flags)
      return (stream) => (stream.info.flags & wanted) !== 0
    }
    case 'grpc-status':
      return grpcFilter(config)
    case 'metadata':
      return metadataFilter(config)
    case 'log-type': {
      const taken = config.types.includes(deps.logType) !== config.exclude
      return () => taken
    }
  }
}

const COMPARE: { readonly [K in ComparisonConfig['op']]: (actual: number, bound: number) => boolean } = {
  EQ: (actual, bound) => actual === bound,
  NE: (actual, bound) => actual !== bound,
  GE: (actual, bound) => actual >= bound,
  LE: (actual, bound) => actual <= bound,
}

function compileComparison({ op, value, runtimeKey }: ComparisonConfig, runtime: Runtime): (actual: number) => boolean {
  const compare = COMPARE[op]
  if (runtimeKey === undefined) return (actual) => compare(actual, value)
  return (actual) => compare(actual, runtimeInteger(runtime, runtimeKey) ?? value)
}

/** Whole milliseconds, as `%DURATION%` prints them. */
function durationFilter(compare: (actual: number) => boolean, clock: Clock): AccessLogFilter {
  return ({ info }) => compare(Math.floor((info.endMs === 0 ? clock.now() : info.endMs) - info.startMs))
}

function isHealthCheck(stream: LogStream): boolean {
  return stream.filterState.get(HEALTH_CHECK_KEY) === true
}

function requestId(stream: LogStream): string {
  return stream.info.requestId || (stream.request.get('x-request-id') ?? '')
}

/**
 * Envoy writes the tracing decision into the version digit of the request id's UUID: 4 is not traced, 9 sampled, a forced
 * by the server, b forced by the client.
 */
function isTraced(id: string): boolean {
  const digit = id.length === 36 ? id[14] : ''
  return digit === '9' || digit === 'a' || digit === 'b'
}

/** Envoy's pivot: the id's first eight hex digits decide, so that every hop and every log decides alike. */
function runtimeFilter({ fraction }: FilterOf<'runtime'>, runtime: Runtime): AccessLogFilter {
  const taken = compileFraction(fraction, runtime)
  const buckets = fraction.denominator
  return (stream) => {
    const digits = requestId(stream).slice(0, 8)
    if (!/^[0-9a-fA-F]{8}$/.test(digits)) return taken(stream.random)
    // The middle of its bucket: no rounding can move it across a bound.
    return taken(((Number.parseInt(digits, 16) % buckets) + 0.5) / buckets)
  }
}

function combined(kind: 'and' | 'or', filters: readonly AccessLogFilter[]): AccessLogFilter {
  const decides = kind === 'or'
  return (stream) => {
    for (const filter of filters) if (filter(stream) === decides) return decides
    return !decides
  }
}

/** No flags named: any flag will do. */
function flagBits(flags: readonly string[]): number {
  if (flags.length === 0) return -1
  let bits = 0
  for (const flag of flags) {
    if (!Object.hasOwn(RESPONSE_FLAGS, flag)) throw new Error(`unknown response flag "${flag}"`)
    bits |= RESPONSE_FLAGS[flag as keyof typeof RESPONSE_FLAGS][1]
  }
  return bits
}

function grpcFilter({ statuses, exclude }: FilterOf<'grpc-status'>): AccessLogFilter {
  const unknown = 2
  return (stream) => statuses.includes(grpcStatus(stream) ?? unknown) !== exclude
}

function metadataFilter({ matcher, matchIfKeyNotFound }: FilterOf<'metadata'>): AccessLogFilter {
  const matches = compileMetadata(matcher)
  const { namespace, path } = matcher
  return ({ metadata }) => {
    if (valueAt(metadata.get(namespace), path) === undefined) return matchIfKeyNotFound
    return matches(metadata)
  }
}
