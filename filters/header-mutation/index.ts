import type { FilterFactory } from '../../lib/chain/filter.ts'
import {
  type HeaderMutationConfig,
  type Mutations,
  mergeHeaderMutation,
  parseHeaderMutation,
  parseHeaderMutationPerRoute,
} from './config.ts'
import { compileHeaderMutation } from './filter.ts'

/**
 * Adds, overwrites and removes headers, trailers and query parameters. The filter's own mutations come first, then those
 * of every level of the route: most specific first, or last where `most_specific_header_mutations_wins` is set.
 *
 * It runs after the route was chosen and does not choose again. Trailers are changed where there are any, never made.
 *
 * Posture: robust against untrusted clients and upstreams: what formats take from a request is made safe for a header.
 * Parameter names are compared decoded, so another spelling does not get past a removal.
 */
export const headerMutation: FilterFactory<HeaderMutationConfig, Mutations> = Object.freeze({
  name: 'envoy.filters.http.header_mutation',
  typeUrls: ['envoy.extensions.filters.http.header_mutation.v3.HeaderMutation'],
  upstream: true,
  routeTypeUrls: ['envoy.extensions.filters.http.header_mutation.v3.HeaderMutationPerRoute'],
  parse: parseHeaderMutation,
  parseRoute: parseHeaderMutationPerRoute,
  merge: mergeHeaderMutation,
  compile: compileHeaderMutation,
})
