import { formatAddress } from '../../lib/core/address.ts'
import type { FieldReader } from '../../lib/core/field-reader.ts'
import type { DnsAskingConfig, DnsConfig } from '../../lib/upstream/config.ts'
import { translateAddress } from './address.ts'
import type { EnvoyContext } from './context.ts'
import { durationMs } from './durations.ts'
import { refuseExtension, typedExtension } from './refusals.ts'

const RESOLVERS = 'envoy.extensions.network.dns_resolver.'
const CARES = `${RESOLVERS}cares.v3.CaresDnsResolverConfig`
const GETADDRINFO = `${RESOLVERS}getaddrinfo.v3.GetAddrInfoDnsResolverConfig`
/** Resolvers that are somebody else's, and why they are not replaced by ours. */
const OTHERS: ReadonlyMap<string, string> = new Map([
  [`${RESOLVERS}apple.v3.AppleDnsResolverConfig`, 'is a service of macOS'],
  [`${RESOLVERS}hickory.v3.HickoryDnsResolverConfig`, 'has name servers over TLS and HTTPS, which are not available'],
])

/** Who is asked for names, and how. */
export type Resolvers = Pick<DnsConfig, 'resolvers' | 'asking'>

/** Envoy's default `dns_refresh_rate`. */
const REFRESH_MS = 5000
/** Timers wait no longer than 2^31 - 1 ms. */
const MAX_TIMEOUT_S = 86_400

const FAMILIES: Readonly<Record<string, DnsConfig['family']>> = {
  // The zero value of the DnsCluster extension's enum; documented to mean AUTO.
  UNSPECIFIED: 'auto',
  AUTO: 'auto',
  V4_ONLY: 'v4-only',
  V6_ONLY: 'v6-only',
  V4_PREFERRED: 'v4-preferred',
  ALL: 'all',
}

/**
 * The DNS settings of a cluster, which `Cluster` and the `DnsCluster` extension spell alike; `resolvers` comes from where
 * that message keeps them.
 */
export function translateDns(reader: FieldReader, resolvers: Resolvers): DnsConfig {
  const refreshMs = durationMs(reader, 'dns_refresh_rate') ?? REFRESH_MS
  return {
    ...translateFailureRefresh(reader, refreshMs),
    refreshMs,
    jitterMs: durationMs(reader, 'dns_jitter') ?? 0,
    respectTtl: reader.bool('respect_dns_ttl'),
    family: translateFamily(reader),
    ...resolvers,
  }
}

/** `DnsCluster`, whose name servers replace `inherited`. */
export function translateDnsCluster(fields: FieldReader, inherited: Resolvers): DnsConfig {
  const minRefreshMs = durationMs(fields, 'dns_min_refresh_rate')
  return {
    ...translateDns(fields, typedResolvers(fields) ?? inherited),
    ...(minRefreshMs !== undefined && { minRefreshMs }),
  }
}

/** `dns_lookup_family` of a cluster or a DNS cache. */
export function translateFamily(reader: FieldReader): DnsConfig['family'] {
  return FAMILIES[reader.enumName('dns_lookup_family')] ?? 'auto'
}

/** `dns_failure_refresh_rate`, by default the rate of success. */
export function translateFailureRefresh(
  reader: FieldReader,
  refreshMs: number,
): Pick<DnsConfig, 'failureRefreshMs' | 'failureRefreshMaxMs'> {
  const failure = reader.message('dns_failure_refresh_rate')
  const failureRefreshMs = durationMs(failure, 'base_interval') ?? refreshMs
  const standardMax = failure === undefined ? failureRefreshMs : failureRefreshMs * 10
  const failureRefreshMaxMs = durationMs(failure, 'max_interval') ?? standardMax
  if (failureRefreshMaxMs < failureRefreshMs) {
    failure?.error('max_interval', 'must not be shorter than base_interval')
  }
  return { failureRefreshMs, failureRefreshMaxMs }
}

/**
 * Name servers of a bootstrap or a cluster: `typed_dns_resolver_config`, else `dns_resolution_config`; undefined where
 * neither is set.
 */
export function translateResolvers(reader: FieldReader): Resolvers | undefined {
  const legacy = reader.message('dns_resolution_config')
  const legacyResolvers = legacy && withOptions(legacy, resolverList(legacy), {})
  return typedResolvers(reader) ?? legacyResolvers
}

/**
 * The deprecated `use_tcp_for_dns_lookups` of a bootstrap, a cluster or a DNS cache, which says something of what it inherits;
 * without effect beside a resolver of its own, as in Envoy.
 */
export function withTcp(reader: FieldReader, own: Resolvers | undefined, inherited: Resolvers): Resolvers {
  if (own !== undefined) {
    reader.ignore('use_tcp_for_dns_lookups')
    return own
  }
  if (!reader.bool('use_tcp_for_dns_lookups')) return inherited
  return { ...inherited, asking: { ...inherited.asking, tcp: true } }
}

/** `typed_dns_resolver_config` alone. */
export function typedResolvers(reader: FieldReader): Resolvers | undefined {
  const at = reader.message('typed_dns_resolver_config')
  const extension = typedExtension(at)
  if (at === undefined || extension === undefined) return undefined
  const { typeUrl, fields } = extension
  if (typeUrl === CARES) return translateCares(fields)
  if (typeUrl === GETADDRINFO) {
    // Ours resolves as getaddrinfo(3) does, from the machine's files and name servers, without its threads.
    fields.ignore('num_retries', 'num_resolver_threads')
    return { resolvers: [] }
  }
  const why = OTHERS.get(typeUrl)
  refuseExtension(at, 'typed_config', extension, `DNS resolver "${typeUrl}" ${why ?? 'is not available'}`)
  return undefined
}

function translateCares(fields: FieldReader): Resolvers {
  fields.unread('report')
  const timeoutS = fields.number('query_timeout_seconds')
  const tries = fields.number('query_tries')
  const ednsBytes = fields.number('edns0_max_payload_size')
  return withOptions(fields, resolverList(fields), {
    ...(fields.bool('use_resolvers_as_fallback') && { fallback: true }),
    ...(fields.bool('rotate_nameservers') && { rotate: true }),
    ...(ednsBytes !== undefined && { ednsBytes }),
    ...(timeoutS !== undefined && { timeoutMs: Math.min(MAX_TIMEOUT_S, timeoutS) * 1000 }),
    ...(tries !== undefined && { tries }),
  })
}

/** `dns_resolver_options` beside them. */
function withOptions(reader: FieldReader, resolvers: readonly string[], asking: DnsAskingConfig): Resolvers {
  const options = reader.message('dns_resolver_options')
  const all: DnsAskingConfig = {
    ...asking,
    ...(options?.bool('no_default_search_domain') && { whole: true }),
    ...(options?.bool('use_tcp_for_dns_lookups') && { tcp: true }),
  }
  return Object.keys(all).length === 0 ? { resolvers } : { resolvers, asking: all }
}

/** `Cluster.dns_resolvers`, deprecated, and the bootstrap's choice where a cluster makes none. */
export function clusterResolvers(cluster: FieldReader, context: EnvoyContext): Resolvers {
  const deprecated = cluster.has('dns_resolvers') ? { resolvers: resolverList(cluster, 'dns_resolvers') } : undefined
  return withTcp(
    cluster,
    translateResolvers(cluster),
    deprecated ?? context.clusterDefaults?.resolvers ?? { resolvers: [] },
  )
}

function resolverList(reader: FieldReader, field = 'resolvers'): string[] {
  const list: string[] = []
  for (const at of reader.messages(field)) {
    const address = translateAddress(at, 'ip')
    if (address?.kind === 'ip') list.push(formatAddress(address.port === 0 ? { ...address, port: 53 } : address))
    else if (address?.kind === 'pipe') at.error('pipe', 'a name server must have an IP address')
  }
  return list
}
