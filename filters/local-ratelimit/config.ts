import type { ConfigSources } from '../../lib/core/config-sources.ts'
import type { FieldReader } from '../../lib/core/field-reader.ts'
import { httpStatus } from '../../lib/core/http-status.ts'
import { parseTokenBucket, type TokenBucketConfig } from '../../lib/core/token-bucket.ts'
import type { FractionConfig } from '../../lib/match/config.ts'
import { parseRuntimeFraction } from '../../lib/match/parse.ts'
import type { RateLimitConfig } from '../../lib/ratelimit/config.ts'
import { entryKey } from '../../lib/ratelimit/descriptor.ts'
import { parseRateLimits } from '../../lib/ratelimit/parse.ts'
import type { VirtualHostOption } from '../../lib/ratelimit/rules.ts'
import type { HeaderValueConfig } from '../../lib/router/config.ts'
import { parseHeaderValue } from '../../lib/telemetry/parse-header-value.ts'

/** A bucket for the requests that have these entries. */
export interface LocalDescriptorConfig {
  /** `[key, value, key, value, ...]`; the value '' stands for any, each of which gets a bucket of its own. */
  readonly entries: readonly string[]
  readonly bucket: TokenBucketConfig
  /** Requests that find no token pass, and are counted. */
  readonly shadow: boolean
}

/** A parsed `LocalRateLimit`. */
export interface LocalRateLimitConfig {
  /**
   * Where it was written, '' for the filter's own: what different routes say is different, although it be the same, because
   * each of them has buckets of its own.
   */
  readonly written: string
  readonly statPrefix: string
  readonly status: number
  /** Undefined: only descriptors limit. A bucket of 0 tokens lets nothing through. */
  readonly bucket?: TokenBucketConfig
  /** Undefined: none of the requests. */
  readonly enabled?: FractionConfig
  readonly enforced?: FractionConfig
  readonly requestHeaders: readonly HeaderValueConfig[]
  readonly responseHeaders: readonly HeaderValueConfig[]
  readonly descriptors: readonly LocalDescriptorConfig[]
  /** What requests are counted by; empty: what their routes say of this stage. */
  readonly rateLimits: readonly RateLimitConfig[]
  readonly stage: number
  readonly virtualHost: VirtualHostOption
  /** Buckets for each connection, instead of for the gateway. */
  readonly perConnection: boolean
  /** The cluster of gateways that share the limit evenly; undefined: it holds for this one. */
  readonly sharedWith?: string
  readonly rateLimitHeaders: boolean
  readonly retryAfter: boolean
  /** The bucket for all takes part where a descriptor matches, too. */
  readonly alwaysConsumeDefault: boolean
  readonly resourceExhausted: boolean
  /** Buckets that one descriptor with values of '' has at once. */
  readonly maxDynamicDescriptors: number
}

const DEFAULT_STATUS = 429
const MAX_STAGE = 10
const MAX_HEADERS = 10
const DYNAMIC_DESCRIPTORS = 20
/** Of one descriptor; each holds memory that clients can make us use. */
const MAX_DYNAMIC_DESCRIPTORS = 1_000_000

/** `envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit` */
export function parseLocalRateLimit(fields: FieldReader, sources?: ConfigSources): LocalRateLimitConfig {
  return parse(fields, sources, '')
}

/** The same at a route or virtual host, where a token bucket is required. */
export function parseRouteLocalRateLimit(fields: FieldReader, sources?: ConfigSources): LocalRateLimitConfig {
  if (!fields.has('token_bucket')) fields.error('token_bucket', 'is required at routes and virtual hosts')
  return parse(fields, sources, `${sources?.within ?? ''} ${fields.path}`)
}

function parse(fields: FieldReader, sources: ConfigSources | undefined, written: string): LocalRateLimitConfig {
  fields.unread('refuse')
  const statPrefix = fields.string('stat_prefix')
  if (statPrefix === '') fields.error('stat_prefix', 'must not be empty')
  const status = fields.message('status')
  const code = status === undefined ? DEFAULT_STATUS : httpStatus(status)
  const bucket = fields.message('token_bucket')
  const enabled = fields.message('filter_enabled')
  const enforced = fields.message('filter_enforced')
  const perConnection = fields.bool('local_rate_limit_per_downstream_connection')
  const sharedWith = parseShare(fields, sources, perConnection)
  return {
    written,
    statPrefix,
    // As in Envoy: what is no error is 429.
    status: code < 400 ? DEFAULT_STATUS : code,
    ...(bucket && { bucket: parseBucket(bucket) }),
    ...(enabled && { enabled: parseRuntimeFraction(enabled) }),
    ...(enforced && { enforced: parseRuntimeFraction(enforced) }),
    requestHeaders: parseHeaders(fields, 'request_headers_to_add_when_not_enforced'),
    responseHeaders: parseHeaders(fields, 'response_headers_to_add'),
    descriptors: parseDescriptors(fields),
    rateLimits: parseRateLimits(fields, 'rate_limits', 'local-filter'),
    stage: parseStage(fields),
    virtualHost: VIRTUAL_HOST.get(fields.enumName('vh_rate_limits')) ?? unknownOption(fields),
    perConnection,
    ...(sharedWith !== undefined && { sharedWith }),
    rateLimitHeaders: fields.enumName('enable_x_ratelimit_headers') === 'DRAFT_VERSION_03',
    retryAfter: fields.bool('enable_retry_after_header'),
    alwaysConsumeDefault: fields.optionalBool('always_consume_default_token_bucket') ?? true,
    resourceExhausted: fields.bool('rate_limited_as_resource_exhausted'),
    maxDynamicDescriptors: parseMaxDynamic(fields),
  }
}

const VIRTUAL_HOST: ReadonlyMap<string, VirtualHostOption> = new Map([
  ['', 'override'],
  ['OVERRIDE', 'override'],
  ['INCLUDE', 'include'],
  ['IGNORE', 'ignore'],
])

function unknownOption(fields: FieldReader): VirtualHostOption {
  fields.error('vh_rate_limits', `unknown option "${fields.enumName('vh_rate_limits')}"`)
  return 'override'
}

/** `LocalClusterRateLimit` has no fields: that it is there is what it says. */
function parseShare(
  fields: FieldReader,
  sources: ConfigSources | undefined,
  perConnection: boolean,
): string | undefined {
  if (fields.message('local_cluster_rate_limit') === undefined) return undefined
  const name = 'local_cluster_rate_limit'
  if (perConnection) fields.error(name, 'excludes local_rate_limit_per_downstream_connection')
  if (sources?.localCluster === undefined) fields.error(name, 'there is no local_cluster_name in the bootstrap')
  return sources?.localCluster
}

/** A bucket of no tokens at all is a way to say that nothing may pass: nothing else of it matters then. */
function parseBucket(fields: FieldReader): TokenBucketConfig {
  if ((fields.number('max_tokens') ?? 0) !== 0) return parseTokenBucket(fields)
  fields.unread('refuse')
  fields.number('tokens_per_fill')
  fields.durationMs('fill_interval')
  return { maxTokens: 0, tokensPerFill: 1, fillIntervalMs: 1_000 }
}

function parseHeaders(fields: FieldReader, name: string): HeaderValueConfig[] {
  const headers = fields.messages(name)
  if (headers.length > MAX_HEADERS)
    fields.error(name, `has ${headers.length} entries, at most ${MAX_HEADERS} are allowed`)
  return headers.map(parseHeaderValue)
}

function parseStage(fields: FieldReader): number {
  const stage = fields.number('stage') ?? 0
  if (Number.isInteger(stage) && stage >= 0 && stage <= MAX_STAGE) return stage
  fields.error('stage', `must be a whole number from 0 to ${MAX_STAGE}, not ${stage}`)
  return 0
}

function parseMaxDynamic(fields: FieldReader): number {
  const most = fields.number('max_dynamic_descriptors') ?? DYNAMIC_DESCRIPTORS
  if (Number.isInteger(most) && most >= 1 && most <= MAX_DYNAMIC_DESCRIPTORS) return most
  fields.error('max_dynamic_descriptors', `must be a whole number from 1 to ${MAX_DYNAMIC_DESCRIPTORS}, not ${most}`)
  return DYNAMIC_DESCRIPTORS
}

function parseDescriptors(fields: FieldReader): LocalDescriptorConfig[] {
  const known = new Set<string>()
  return fields.messages('descriptors').map((reader) => {
    const descriptor = parseDescriptor(reader)
    const key = entryKey(descriptor.entries)
    if (known.has(key)) reader.error('entries', 'another descriptor has the same entries')
    known.add(key)
    return descriptor
  })
}

/** `envoy.extensions.common.ratelimit.v3.LocalRateLimitDescriptor` */
function parseDescriptor(reader: FieldReader): LocalDescriptorConfig {
  reader.unread('refuse')
  const entries = reader.messages('entries').flatMap((entry) => {
    const key = entry.string('key')
    if (key === '') entry.error('key', 'must not be empty')
    return [key, entry.string('value')]
  })
  if (entries.length === 0) reader.error('entries', 'must not be empty')
  const bucket = reader.message('token_bucket')
  if (bucket === undefined) reader.error('token_bucket', 'is required')
  return { entries, bucket: bucket === undefined ? NO_BUCKET : parseBucket(bucket), shadow: reader.bool('shadow_mode') }
}

const NO_BUCKET: TokenBucketConfig = Object.freeze({ maxTokens: 0, tokensPerFill: 1, fillIntervalMs: 1_000 })
