import type { ConfigSources } from '../../lib/core/config-sources.ts'
import type { FieldReader } from '../../lib/core/field-reader.ts'
import { type FeatureFlagConfig, parseFeatureFlag } from '../../lib/match/feature-flag.ts'

/** A parsed `BandwidthLimit`. */
export interface BandwidthLimitConfig {
  /** Where it was written, '' for the filter's own: each route that says something has a limit of its own. */
  readonly written: string
  readonly statPrefix: string
  readonly request: boolean
  readonly response: boolean
  /** Undefined: no limit. */
  readonly bytesPerSecond?: number
  /** How often those that wait are looked at. */
  readonly fillIntervalMs: number
  readonly enabled: FeatureFlagConfig
  /** Responses say in their trailers how long bodies took. */
  readonly trailers: boolean
  /** Goes in front of the names of trailers, with its dash; '': nothing. */
  readonly trailerPrefix: string
}

const FILL_INTERVAL_MS = 50
const MIN_FILL_INTERVAL_MS = 20
const MAX_FILL_INTERVAL_MS = 1_000
/** 4 TiB a second. */
const MAX_KIB = 2 ** 32

/** `envoy.extensions.filters.http.bandwidth_limit.v3.BandwidthLimit` */
export function parseBandwidthLimit(fields: FieldReader): BandwidthLimitConfig {
  return parse(fields, '')
}

/** The same at a route or virtual host, where a limit is required. */
export function parseRouteBandwidthLimit(fields: FieldReader, sources?: ConfigSources): BandwidthLimitConfig {
  if (!fields.has('limit_kbps')) fields.error('limit_kbps', 'is required at routes and virtual hosts')
  return parse(fields, `${sources?.within ?? ''} ${fields.path}`)
}

const MODES: ReadonlyMap<string, readonly [request: boolean, response: boolean]> = new Map([
  ['', [false, false]],
  ['DISABLED', [false, false]],
  ['REQUEST', [true, false]],
  ['RESPONSE', [false, true]],
  ['REQUEST_AND_RESPONSE', [true, true]],
])

function parse(fields: FieldReader, written: string): BandwidthLimitConfig {
  fields.unread('refuse')
  const statPrefix = fields.string('stat_prefix')
  if (statPrefix === '') fields.error('stat_prefix', 'must not be empty')
  const word = fields.enumName('enable_mode')
  const mode = MODES.get(word)
  if (mode === undefined) fields.error('enable_mode', `unknown mode "${word}"`)
  const [request, response] = mode ?? [false, false]
  const kib = fields.number('limit_kbps')
  if (kib !== undefined && !(Number.isInteger(kib) && kib >= 1 && kib <= MAX_KIB)) {
    fields.error('limit_kbps', `must be a whole number from 1 to ${MAX_KIB}, not ${kib}`)
  }
  const prefix = fields.string('response_trailer_prefix').toLowerCase()
  if (!/^[!#$%&'*+.^_`|~0-9a-z-]*$/.test(prefix)) {
    fields.error('response_trailer_prefix', `"${prefix}" cannot be part of a header name`)
  }
  return {
    written,
    statPrefix,
    request,
    response,
    ...(kib !== undefined && { bytesPerSecond: kib * 1024 }),
    fillIntervalMs: parseInterval(fields),
    enabled: parseFeatureFlag(fields.message('runtime_enabled')),
    trailers: fields.bool('enable_response_trailers'),
    trailerPrefix: prefix === '' ? '' : `${prefix}-`,
  }
}

function parseInterval(fields: FieldReader): number {
  const intervalMs = fields.durationMs('fill_interval') ?? FILL_INTERVAL_MS
  if (intervalMs >= MIN_FILL_INTERVAL_MS && intervalMs <= MAX_FILL_INTERVAL_MS) return intervalMs
  fields.error('fill_interval', `must be from ${MIN_FILL_INTERVAL_MS} ms to 1 s, not ${intervalMs} ms`)
  return FILL_INTERVAL_MS
}
