import type { FieldReader } from '../../lib/core/field-reader.ts'

export interface SniForwardProxyConfig {
  readonly port: number
}

const DEFAULT_PORT = 443

/** `envoy.extensions.filters.network.sni_dynamic_forward_proxy.v3.FilterConfig` */
export function parseSniForwardProxy(fields: FieldReader): SniForwardProxyConfig {
  fields.unread('refuse')
  const cache = fields.message('dns_cache_config')
  if (cache === undefined) fields.error('dns_cache_config', 'is required')
  else {
    // The cluster looks names up, in a cache of its own: what is said here of the same cache stands there too.
    if (cache.string('name') === '') cache.error('name', 'must not be empty')
    cache.unread('report')
  }
  fields.ignore('save_upstream_address')
  const port = fields.has('port_value') ? (fields.number('port_value') ?? 0) : DEFAULT_PORT
  if (port < 1 || port > 65_535) fields.error('port_value', `${port} is not a port`)
  return { port }
}
