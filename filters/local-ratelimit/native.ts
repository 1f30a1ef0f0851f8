import type { FilterFactory } from '../../lib/chain/filter.ts'
import type { JsonObject } from '../../lib/core/errors.ts'
import { httpStatusName } from '../../lib/core/http-status.ts'
import { type RateLimitBy as Entry, entryNameOf } from '../../lib/ratelimit/by.ts'
import type { LocalRateLimitConfig } from './config.ts'
import { localRateLimitFilter } from './index.ts'

/** A token bucket: so many requests at once, and so many more in each `perMs`. */
export interface RequestBucket {
  /** 0: none at all. */
  readonly tokens: number
  /** Default: `tokens`. */
  readonly refill?: number
  /** At least 50. Default: 1,000. */
  readonly perMs?: number
}

/** What requests are told apart by; without a value each one has a bucket of its own. */
export type RateLimitBy = Entry & { readonly value?: string }

/** A limit for the requests that have all of `by`. */
export interface LocalLimit extends RequestBucket {
  readonly by: readonly RateLimitBy[]
  /** How much a request counts: a number, or a format that prints one, such as `%REQ(x-cost)%`. Default: 1. */
  readonly hits?: number | string
  /** How much it counts besides when it has ended (`%BYTES_SENT%`): as far as there is something left. Default: 0. */
  readonly hitsWhenDone?: number | string
  /** Counts requests beyond the limit and lets them pass. Default: false. */
  readonly shadow?: boolean
}

/** Settings of `localRateLimit`: a bucket for all requests, limits for some of them, or both. */
export interface LocalRateLimitOptions {
  readonly all?: RequestBucket
  readonly limits?: readonly LocalLimit[]
  /** Requests count under the limits that their routes name (`rateLimits`), and under no others. Default: false. */
  readonly byRoutes?: boolean
  /** Of what routes say, with `byRoutes`. Default: 0. */
  readonly stage?: number
  /** Buckets for each connection, instead of for the whole gateway. Default: false. */
  readonly perConnection?: boolean
  /** Default: 429. */
  readonly status?: number
  /** Answers say what is left, in X-RateLimit headers. Default: false. */
  readonly headers?: boolean
  /** Refusals say when to come again. Default: true. */
  readonly retryAfter?: boolean
  /** Counts only, nothing is refused. Default: false. */
  readonly shadow?: boolean
  /** Buckets at once for the values of one limit. Default: 20. */
  readonly maxValues?: number
  /** Name in statistics. Default: `local`. */
  readonly statPrefix?: string
}

/** A filter as native listeners take it; `config` is what routes take that want limits of their own. */
export interface NativeLocalRateLimit {
  readonly factory: FilterFactory<LocalRateLimitConfig>
  readonly config: JsonObject
}

/**
 * A filter that lets so many requests through and answers the others with 429.
 *
 * @example
 * filters: [localRateLimit({ all: { tokens: 100 }, limits: [{ by: [{ client: 'address' }], tokens: 10, perMs: 60_000 }] })]
 */
export function localRateLimit(options: LocalRateLimitOptions): NativeLocalRateLimit {
  const { all, limits = [], status = 429, maxValues, statPrefix = 'local' } = options
  return {
    factory: localRateLimitFilter,
    config: {
      stat_prefix: statPrefix,
      ...(all && { token_bucket: bucketOf(all) }),
      filter_enabled: SHARE_OF_ALL,
      ...(options.shadow !== true && { filter_enforced: SHARE_OF_ALL }),
      status: { code: httpStatusName(status) ?? String(status) },
      descriptors: limits.map(({ by, shadow = false, hits: _hits, hitsWhenDone: _done, ...bucket }) => ({
        entries: by.map((one) => ({ key: entryNameOf(one), value: textOf(one) })),
        token_bucket: bucketOf(bucket),
        shadow_mode: shadow,
      })),
      rate_limits: options.byRoutes === true ? [] : distinct(limits.flatMap(rulesOf)),
      ...(options.stage !== undefined && { stage: options.stage }),
      local_rate_limit_per_downstream_connection: options.perConnection ?? false,
      enable_x_ratelimit_headers: options.headers === true ? 'DRAFT_VERSION_03' : 'OFF',
      enable_retry_after_header: options.retryAfter ?? true,
      rate_limited_as_resource_exhausted: true,
      ...(maxValues !== undefined && { max_dynamic_descriptors: maxValues }),
    },
  }
}

const SHARE_OF_ALL = Object.freeze({ default_value: Object.freeze({ numerator: 100 }) })

function bucketOf({ tokens, refill = tokens, perMs = 1_000 }: RequestBucket): JsonObject {
  return {
    max_tokens: tokens,
    ...(refill > 0 && { tokens_per_fill: refill }),
    fill_interval: `${perMs / 1_000}s`,
  }
}

function textOf(by: RateLimitBy): string {
  return 'client' in by ? '' : (by.value ?? '')
}

function actionOf(by: RateLimitBy): JsonObject {
  if ('header' in by) return { request_headers: { header_name: by.header, descriptor_key: entryNameOf(by) } }
  if ('query' in by) return { query_parameters: { query_parameter_name: by.query, descriptor_key: entryNameOf(by) } }
  if ('key' in by) return { generic_key: { descriptor_key: by.key, descriptor_value: by.value ?? '' } }
  if (by.client === 'address') return { remote_address: {} }
  const { v4Bits = 32, v6Bits = 128 } = by.client
  return { masked_remote_address: { v4_prefix_mask_len: v4Bits, v6_prefix_mask_len: v6Bits } }
}

function rulesOf({ by, hits = 1, hitsWhenDone }: LocalLimit): JsonObject[] {
  const actions = by.map(actionOf)
  const rule = { actions, ...(hits !== 1 && { hits_addend: hitsOf(hits) }) }
  if (hitsWhenDone === undefined) return [rule]
  return [rule, { actions, hits_addend: hitsOf(hitsWhenDone), apply_on_stream_done: true }]
}

function hitsOf(hits: number | string): JsonObject {
  return typeof hits === 'number' ? { number: hits } : { format: hits }
}

/** Limits for several values of one thing are told apart by one rule: each request takes part in it once. */
function distinct(rules: readonly JsonObject[]): JsonObject[] {
  return [...new Map(rules.map((rule) => [JSON.stringify(rule), rule])).values()]
}
