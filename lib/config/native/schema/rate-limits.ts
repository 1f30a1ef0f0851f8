import { z } from 'zod'
import { isObject } from '../../../proto/describe.ts'
import type { NativeRateLimit, NativeRateLimitBy } from '../rate-limits.ts'
import { choose, count, name, object } from './pieces.ts'

const MAX_STAGE = 10
const V4_BITS = 32
const V6_BITS = 128

/** What a route counts requests by. */
export function rateLimits(): z.ZodType<readonly NativeRateLimit[]> {
  return z.array(object<NativeRateLimit>({ by: z.array(by()).min(1), stage: count().max(MAX_STAGE).optional() }))
}

function by(): z.ZodType<NativeRateLimitBy> {
  const header = object<{ header: string }>({ header: name() })
  const query = object<{ query: string }>({ query: name() })
  const key = object<{ key: string; value: string }>({ key: name(), value: name() })
  const address = z.literal('address')
  const network = object<{ v4Bits?: number; v6Bits?: number }>({
    v4Bits: count().max(V4_BITS).optional(),
    v6Bits: count().max(V6_BITS).optional(),
  })
  const client = object<Extract<NativeRateLimitBy, { client: unknown }>>({
    client: choose('"address" or a network', (value) => (isObject(value) ? network : address)),
  })
  return choose('a header, a query parameter, the client, or a key and a value', (value) => {
    if (!isObject(value)) return undefined
    if ('header' in value) return header
    if ('query' in value) return query
    return 'key' in value ? key : 'client' in value ? client : undefined
  })
}
