import type { ExtensionReader, FieldReader } from '../../lib/core/field-reader.ts'
import type { ClusterConfig, DnsConfig, ForwardProxyConfig } from '../../lib/upstream/config.ts'
import type { EnvoyContext } from './context.ts'
import { clusterResolvers, translateFailureRefresh, translateFamily, typedResolvers } from './dns.ts'
import { durationMs } from './durations.ts'

export const FORWARD_PROXY = 'envoy.extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig'

/** Envoy's defaults of `DnsCacheConfig`. */
const HOST_TTL_MS = 300_000
const REFRESH_MS = 60_000
const MIN_REFRESH_MS = 5_000
const MAX_HOSTS = 1024
const MAX_PENDING = 1024

/** `cluster_type` of a dynamic forward proxy. Each cluster has a DNS cache of its own, whatever the cache's name. */
export function translateForwardProxy(
  cluster: FieldReader,
  { fields }: ExtensionReader,
  context: EnvoyContext,
): Pick<ClusterConfig, 'type' | 'localities' | 'dns' | 'forwardProxy'> {
  fields.unread('refuse')
  fields.refuse('sub_clusters_config', 'a cluster for each host is not available')
  // Connections are pooled for each name here: there is nothing to coalesce, and names of certificates stay checked.
  fields.ignore('allow_coalesced_connections', 'allow_insecure_cluster_options')
  if (cluster.enumName('lb_policy') !== 'CLUSTER_PROVIDED') {
    cluster.error('lb_policy', 'must be CLUSTER_PROVIDED for a dynamic forward proxy')
  }
  if (cluster.has('load_assignment')) cluster.refuse('load_assignment', 'a dynamic forward proxy has no endpoints')
  cluster.ignore('dns_refresh_rate', 'dns_failure_refresh_rate', 'respect_dns_ttl', 'dns_jitter', 'dns_lookup_family')
  const inherited = clusterResolvers(cluster, context)
  const cache = fields.message('dns_cache_config')
  if (cache === undefined) {
    fields.error('dns_cache_config', 'is required')
    return { type: 'dynamic-forward-proxy', localities: [] }
  }
  cache.unread('refuse')
  cache.string('name')
  cache.ignore('disable_dns_refresh_on_failure', 'dns_query_timeout', 'key_value_config', 'use_tcp_for_dns_lookups')
  cache.refuse('resolved_address_filter', 'filtering resolved addresses is not available')
  cache.refuse('dns_resolution_config', 'use typed_dns_resolver_config')
  return {
    type: 'dynamic-forward-proxy',
    localities: [],
    dns: translateCacheDns(cache, typedResolvers(cache) ?? inherited),
    forwardProxy: translateCache(cache),
  }
}

function translateCacheDns(cache: FieldReader, resolvers: readonly string[]): DnsConfig {
  const refreshMs = durationMs(cache, 'dns_refresh_rate') ?? REFRESH_MS
  return {
    ...translateFailureRefresh(cache, refreshMs),
    refreshMs,
    jitterMs: 0,
    respectTtl: true,
    minRefreshMs: durationMs(cache, 'dns_min_refresh_rate') ?? MIN_REFRESH_MS,
    family: translateFamily(cache),
    resolvers,
  }
}

function translateCache(cache: FieldReader): ForwardProxyConfig {
  const hostTtlMs = durationMs(cache, 'host_ttl') ?? HOST_TTL_MS
  if (hostTtlMs < 1) cache.error('host_ttl', 'must be at least 1 ms')
  return {
    hostTtlMs: Math.max(1, hostTtlMs),
    maxHosts: cache.number('max_hosts') ?? MAX_HOSTS,
    maxPending: cache.message('dns_cache_circuit_breaker')?.number('max_pending_requests') ?? MAX_PENDING,
    preresolve: cache.messages('preresolve_hostnames').map((at) => {
      const host = at.string('address')
      const port = at.number('port_value') ?? 0
      if (host === '' || port === 0) at.error(undefined, 'needs an address and a port_value')
      at.ignore('protocol')
      return { host, port }
    }),
  }
}
