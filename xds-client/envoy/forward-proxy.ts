import type { ExtensionReader, FieldReader } from '../../lib/core/field-reader.ts'
import type { UpstreamTlsConfig } from '../../lib/tls/config.ts'
import type {
  AddressFilterConfig,
  BalancerConfig,
  ClusterConfig,
  DnsConfig,
  ForwardProxyConfig,
  NameStoreConfig,
} from '../../lib/upstream/config.ts'
import { translateCidr } from './address.ts'
import type { EnvoyContext } from './context.ts'
import {
  clusterResolvers,
  type Resolvers,
  translateDns,
  translateDnsCluster,
  translateFailureRefresh,
  translateFamily,
  typedResolvers,
  withTcp,
} from './dns.ts'
import { durationMs } from './durations.ts'
import { refuseExtension, typedExtension } from './refusals.ts'
import { hasAuthorities } from './tls/validation.ts'
import type { ServerName } from './upstream-protocol.ts'

export const FORWARD_PROXY = 'envoy.extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig'

/** Envoy's defaults of `DnsCacheConfig`. */
const HOST_TTL_MS = 300_000
const REFRESH_MS = 60_000
const MIN_REFRESH_MS = 5_000
const QUERY_TIMEOUT_MS = 5_000
const MAX_HOSTS = 1024
const MAX_PENDING = 1024
/** Of `FileBasedKeyValueStoreConfig`. */
const FLUSH_MS = 1_000
const STORED_NAMES = 1_000
const FILE_STORE = 'envoy.extensions.key_value.file_based.v3.FileBasedKeyValueStoreConfig'

type ForwardProxyParts = Pick<ClusterConfig, 'type' | 'localities' | 'dns' | 'forwardProxy'>

/** `cluster_type` of a dynamic forward proxy. Each cluster has a DNS cache of its own, whatever the cache's name. */
export function translateForwardProxy(
  cluster: FieldReader,
  { fields }: ExtensionReader,
  context: EnvoyContext,
): ForwardProxyParts {
  fields.unread('refuse')
  // Connections are pooled for each name here: there is nothing to coalesce.
  fields.ignore('allow_coalesced_connections')
  if (cluster.has('load_assignment')) cluster.refuse('load_assignment', 'a dynamic forward proxy has no endpoints')
  const inherited = clusterResolvers(cluster, context)
  const subClusters = fields.message('sub_clusters_config')
  if (subClusters !== undefined) return translateSubClusters(cluster, subClusters, inherited)
  cluster.ignore('dns_refresh_rate', 'dns_failure_refresh_rate', 'respect_dns_ttl', 'dns_jitter', 'dns_lookup_family')
  const cache = fields.message('dns_cache_config')
  if (cache === undefined) {
    fields.error('dns_cache_config', 'or sub_clusters_config is required')
    return { type: 'dynamic-forward-proxy', localities: [] }
  }
  cache.unread('refuse')
  cache.refuse('dns_resolution_config', 'use typed_dns_resolver_config')
  return {
    type: 'dynamic-forward-proxy',
    localities: [],
    dns: translateCacheDns(cache, withTcp(cache, typedResolvers(cache), inherited)),
    forwardProxy: translateCache(cache),
  }
}

/**
 * TLS to hosts that clients name: SNI is the host's name, and the certificate must have it, unless
 * `allow_insecure_cluster_options`.
 */
export function forwardedTls(
  cluster: FieldReader,
  tls: UpstreamTlsConfig,
  { at, autoSni, autoSanValidation }: ServerName,
): UpstreamTlsConfig {
  const extension = cluster.message('cluster_type')?.any('typed_config')
  if (extension?.fields.bool('allow_insecure_cluster_options') !== false) return tls
  if (at !== undefined) {
    if (!autoSni || autoSanValidation === undefined) {
      const why = 'a dynamic forward proxy needs auto_sni and auto_san_validation, or allow_insecure_cluster_options'
      at.error(undefined, why)
    }
    return tls
  }
  const validated = hasAuthorities(tls.validation) || tls.secrets?.validation !== undefined
  return {
    ...tls,
    autoSni: tls.autoSni === 'none' ? 'host' : tls.autoSni,
    autoSanValidation: tls.autoSanValidation || validated,
  }
}

function translateCacheDns(cache: FieldReader, resolvers: Resolvers): DnsConfig {
  const refreshMs = durationMs(cache, 'dns_refresh_rate') ?? REFRESH_MS
  const queryTimeoutMs = durationMs(cache, 'dns_query_timeout') ?? QUERY_TIMEOUT_MS
  const addresses = translateAddressFilter(cache.message('resolved_address_filter'))
  return {
    ...translateFailureRefresh(cache, refreshMs),
    refreshMs,
    jitterMs: 0,
    respectTtl: true,
    minRefreshMs: durationMs(cache, 'dns_min_refresh_rate') ?? MIN_REFRESH_MS,
    family: translateFamily(cache),
    ...resolvers,
    ...(queryTimeoutMs > 0 && { queryTimeoutMs }),
    ...(addresses && { addresses }),
  }
}

/** `type.matcher.v3.AddressMatcher`: what it matches is taken out of answers. */
function translateAddressFilter(reader: FieldReader | undefined): AddressFilterConfig | undefined {
  if (reader === undefined) return undefined
  reader.unread('refuse')
  return { ranges: reader.messages('ranges').map(translateCidr), kind: reader.bool('invert_match') ? 'allow' : 'deny' }
}

function translateCache(cache: FieldReader): ForwardProxyConfig {
  const store = translateStore(cache.message('key_value_config'))
  return {
    hostTtlMs: translateTtl(cache, 'host_ttl'),
    maxHosts: cache.number('max_hosts') ?? MAX_HOSTS,
    maxPending: cache.message('dns_cache_circuit_breaker')?.number('max_pending_requests') ?? MAX_PENDING,
    preresolve: translateAhead(cache, 'preresolve_hostnames'),
    cache: cache.string('name'),
    ...(store && { store }),
    ...(cache.bool('disable_dns_refresh_on_failure') && { dropFailed: true }),
  }
}

/** `KeyValueStoreConfig`, of which the file based one is there. */
function translateStore(reader: FieldReader | undefined): NameStoreConfig | undefined {
  const at = reader?.message('config')
  const extension = typedExtension(at)
  if (at === undefined || extension === undefined) return undefined
  const { typeUrl, fields } = extension
  if (typeUrl !== FILE_STORE) {
    refuseExtension(at, 'typed_config', extension, `key value store "${typeUrl}" is not available`)
    return undefined
  }
  fields.unread('refuse')
  const path = fields.string('filename')
  if (path === '') fields.error('filename', 'must not be empty')
  return {
    path,
    flushMs: durationMs(fields, 'flush_interval') ?? FLUSH_MS,
    maxEntries: fields.number('max_entries') ?? STORED_NAMES,
  }
}

/** `SubClustersConfig`: a cluster for each name; DNS settings are its own, or those of the cluster around it. */
function translateSubClusters(cluster: FieldReader, reader: FieldReader, inherited: Resolvers): ForwardProxyParts {
  reader.unread('refuse')
  const own = reader.message('dns_cluster_config')
  own?.unread('refuse')
  own?.ignore('all_addresses_in_single_endpoint')
  const ofCluster = translateDns(cluster, inherited)
  const policy = reader.enumName('lb_policy')
  const balancer = BALANCERS.get(policy)
  if (balancer === undefined) reader.error('lb_policy', `${policy} is not available for sub clusters`)
  return {
    type: 'dynamic-forward-proxy',
    localities: [],
    dns: own === undefined ? ofCluster : translateDnsCluster(own, inherited),
    forwardProxy: {
      hostTtlMs: translateTtl(reader, 'sub_cluster_ttl'),
      maxHosts: reader.number('max_sub_clusters') ?? MAX_HOSTS,
      maxPending: MAX_PENDING,
      preresolve: translateAhead(reader, 'preresolve_clusters'),
      subClusters: { balancer: balancer ?? { kind: 'round-robin' } },
    },
  }
}

/** As Envoy has them by default. */
const BALANCERS: ReadonlyMap<string, BalancerConfig> = new Map<string, BalancerConfig>([
  ['ROUND_ROBIN', { kind: 'round-robin' }],
  ['RANDOM', { kind: 'random' }],
  ['LEAST_REQUEST', { kind: 'least-request', choiceCount: 2, activeRequestBias: 1 }],
  ['RING_HASH', { kind: 'ring-hash', minSize: 1024, maxSize: 8 * 1024 * 1024, hash: 'xx', byHostname: false }],
  ['MAGLEV', { kind: 'maglev', tableSize: 65_537, byHostname: false }],
])

function translateTtl(reader: FieldReader, field: string): number {
  const ttlMs = durationMs(reader, field) ?? HOST_TTL_MS
  if (ttlMs < 1) reader.error(field, 'must be at least 1 ms')
  return Math.max(1, ttlMs)
}

function translateAhead(reader: FieldReader, field: string): ForwardProxyConfig['preresolve'] {
  return reader.messages(field).map((at) => {
    const host = at.string('address')
    const port = at.number('port_value') ?? 0
    if (host === '' || port === 0) at.error(undefined, 'needs an address and a port_value')
    at.ignore('protocol')
    return { host, port }
  })
}
