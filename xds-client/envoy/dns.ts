import { formatAddress } from '../../lib/core/address.ts'
import type { FieldReader } from '../../lib/core/field-reader.ts'
import type { DnsConfig } from '../../lib/upstream/config.ts'
import { translateAddress } from './address.ts'
import type { EnvoyContext } from './context.ts'
import { durationMs } from './durations.ts'
import { refuseExtension, typedExtension } from './refusals.ts'

const CARES = 'envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig'

/** Envoy's default `dns_refresh_rate`. */
const REFRESH_MS = 5000

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
export function translateDns(reader: FieldReader, resolvers: readonly string[]): DnsConfig {
  const refreshMs = durationMs(reader, 'dns_refresh_rate') ?? REFRESH_MS
  return {
    ...translateFailureRefresh(reader, refreshMs),
    refreshMs,
    jitterMs: durationMs(reader, 'dns_jitter') ?? 0,
    respectTtl: reader.bool('respect_dns_ttl'),
    family: translateFamily(reader),
    resolvers,
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
export function translateResolvers(reader: FieldReader): readonly string[] | undefined {
  reader.ignore('use_tcp_for_dns_lookups')
  const legacy = reader.message('dns_resolution_config')
  const legacyResolvers = legacy === undefined ? undefined : resolverList(legacy)
  legacy?.ignore('dns_resolver_options')
  return typedResolvers(reader) ?? legacyResolvers
}

/** `typed_dns_resolver_config` alone. */
export function typedResolvers(reader: FieldReader): readonly string[] | undefined {
  const at = reader.message('typed_dns_resolver_config')
  const extension = typedExtension(at)
  if (at === undefined || extension === undefined) return undefined
  if (extension.typeUrl !== CARES) {
    refuseExtension(at, 'typed_config', extension, `DNS resolver "${extension.typeUrl}" is not available`)
    return undefined
  }
  extension.fields.unread('report')
  return resolverList(extension.fields)
}

/** `Cluster.dns_resolvers`, deprecated, and the bootstrap's choice where a cluster makes none. */
export function clusterResolvers(cluster: FieldReader, context: EnvoyContext): readonly string[] {
  const deprecated = cluster.has('dns_resolvers') ? resolverList(cluster, 'dns_resolvers') : undefined
  return translateResolvers(cluster) ?? deprecated ?? context.clusterDefaults?.resolvers ?? []
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
