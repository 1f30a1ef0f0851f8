import type { FilterFactory } from '../../lib/chain/filter.ts'
import { type CorsPolicy, mergePolicies, parseCors, parseCorsPolicy } from './config.ts'
import { compileCors } from './filter.ts'

/**
 * Answers CORS preflights and marks responses that other origins may read.
 *
 * Configured per route (`CorsPolicy`); the entry in the chain is empty. Put it before filters that authenticate:
 * preflights carry no credentials.
 *
 * Posture: robust against untrusted clients and upstreams; it reads single header values and keeps nothing.
 *
 * Counters: `http.<stat_prefix>.cors.origin_valid`, `http.<stat_prefix>.cors.origin_invalid`.
 */
export const cors: FilterFactory<CorsPolicy> = Object.freeze({
  name: 'envoy.filters.http.cors',
  typeUrls: ['envoy.extensions.filters.http.cors.v3.Cors'],
  routeTypeUrls: ['envoy.extensions.filters.http.cors.v3.CorsPolicy'],
  parse: parseCors,
  parseRoute: parseCorsPolicy,
  merge: (_chain: CorsPolicy, levels: readonly CorsPolicy[]) => mergePolicies(levels),
  compile: compileCors,
})
