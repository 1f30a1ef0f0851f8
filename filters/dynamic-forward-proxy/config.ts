import type { FieldReader } from '../../lib/core/field-reader.ts'

/** A parsed `FilterConfig`, with what the route's `PerRouteConfig` says. */
export interface ForwardProxyFilterConfig {
  /** How long a request waits for the cluster of its name; undefined: names are looked up, in their own time. */
  readonly subClusterTimeoutMs?: number
  readonly saveUpstreamAddress: boolean
  /** The host may be named by filter state, before the request's own. */
  readonly fromFilterState: boolean
  readonly rewrite?: HostRewriteConfig
}

/** What takes the place of the request's host; undefined in full: nothing does. */
export interface HostRewriteConfig {
  readonly literal?: string
  /** Lower case; where the request has no such field its host stays. */
  readonly header?: string
}

const INIT_TIMEOUT_MS = 5_000

/** `envoy.extensions.filters.http.dynamic_forward_proxy.v3.FilterConfig` */
export function parseForwardProxy(fields: FieldReader): ForwardProxyFilterConfig {
  fields.unread('refuse')
  const subClusters = fields.message('sub_cluster_config')
  const cache = fields.message('dns_cache_config')
  if (cache !== undefined) {
    // The cluster looks names up, in a cache of its own: what is said here of the same cache stands there too.
    if (cache.string('name') === '') cache.error('name', 'must not be empty')
    cache.unread('report')
  }
  const timeoutMs = subClusters?.durationMs('cluster_init_timeout') ?? INIT_TIMEOUT_MS
  if (timeoutMs <= 0) subClusters?.error('cluster_init_timeout', 'must be longer than 0')
  return {
    ...(subClusters !== undefined && { subClusterTimeoutMs: timeoutMs }),
    saveUpstreamAddress: fields.bool('save_upstream_address'),
    fromFilterState: fields.bool('allow_dynamic_host_from_filter_state'),
  }
}

/** `PerRouteConfig` */
export function parseHostRewrite(fields: FieldReader): HostRewriteConfig {
  fields.unread('refuse')
  const literal = fields.string('host_rewrite_literal')
  const header = fields.string('host_rewrite_header').toLowerCase()
  if (!/^[\x21-\x7e]*$/.test(literal)) {
    fields.error('host_rewrite_literal', `"${literal}" holds a character that a host may not`)
  }
  return { ...(literal !== '' && { literal }), ...(header !== '' && { header }) }
}
