import type { FilterFactory } from '../../lib/chain/filter.ts'
import { type BufferConfig, type BufferRouteConfig, mergeBuffer, parseBuffer, parseBufferPerRoute } from './config.ts'
import { compileBuffer } from './filter.ts'

/**
 * Holds a request until all of it has arrived, for upstreams that cannot bear slow or partial ones. Bodies of more than
 * `max_request_bytes` are answered with 413. A request without `content-length` gets one.
 *
 * Posture: robust against untrusted clients: memory is bounded by the limit for each request, and a slow body is subject
 * to the connection manager's timeouts.
 */
export const buffer: FilterFactory<BufferConfig, BufferRouteConfig> = Object.freeze({
  name: 'envoy.filters.http.buffer',
  typeUrls: ['envoy.extensions.filters.http.buffer.v3.Buffer'],
  upstream: true,
  routeTypeUrls: ['envoy.extensions.filters.http.buffer.v3.BufferPerRoute'],
  parse: parseBuffer,
  parseRoute: parseBufferPerRoute,
  merge: mergeBuffer,
  compile: compileBuffer,
})
