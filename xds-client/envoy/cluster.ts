import type { FieldReader } from '../../lib/core/field-reader.ts'
import type { UpstreamTlsConfig } from '../../lib/tls/config.ts'
import type {
  ClusterConfig,
  DnsConfig,
  ForwardProxyConfig,
  LocalityEndpointsConfig,
  OriginalDstConfig,
  TransportConfig,
} from '../../lib/upstream/config.ts'
import { sourceOf } from './authorities.ts'
import { translateBufferLimit } from './buffer-limit.ts'
import { translateCircuitBreakers } from './circuit-breakers.ts'
import {
  AGGREGATE,
  COMPOSITE,
  ORIGINAL_DST,
  translateAggregate,
  translateComposite,
  translateOriginalDst,
} from './cluster-types.ts'
import { translateBindConfig, translateConnectionOptions } from './connection-options.ts'
import type { EnvoyContext } from './context.ts'
import { clusterResolvers, translateDns, translateDnsCluster } from './dns.ts'
import { durationMs } from './durations.ts'
import { translateAssignmentPolicy, translateEndpoints } from './endpoints.ts'
import { FORWARD_PROXY, forwardedTls, translateForwardProxy } from './forward-proxy.ts'
import { translateHealthCheck } from './health-check.ts'
import { checkProvided, translateBalancing } from './load-balancing.ts'
import { translateLoadServer } from './load-server.ts'
import { percentage } from './locality-balancing.ts'
import { translateMetadata } from './metadata.ts'
import { translateOutlier } from './outlier.ts'
import { referenceKey } from './references.ts'
import { consume, refuseTrue } from './refusals.ts'
import { hasAuthorities } from './tls/validation.ts'
import { translateTransport, translateTransportMatches } from './transport-socket.ts'
import { type ServerName, translateUpstreamProtocol } from './upstream-protocol.ts'

const DNS_CLUSTER = 'envoy.extensions.clusters.dns.v3.DnsCluster'

const CONNECT_TIMEOUT_MS = 5000

/** Known, without effect on which host is chosen or admitted, and not built yet: reported. */
const REPORTED = [
  'stats_matcher',
  'per_connection_buffer_high_watermark_timeout',
  'wait_for_warm_on_init',
  'lrs_report_endpoint_metrics',
  'track_timeout_budgets',
  'track_cluster_stats',
  'queuing_policies',
] as const

/** `config.cluster.v3.Cluster` with every default of Envoy filled in. */
export function translateCluster(reader: FieldReader, context: EnvoyContext): ClusterConfig {
  reader.unread('refuse')
  reader.ignore(...REPORTED)
  refuseUnavailable(reader)
  const name = reader.string('name')
  const discovery = translateDiscovery(reader, context)
  const localCluster = context.clusterDefaults?.localCluster
  const assignmentPolicy = translateAssignmentPolicy(reader.message('load_assignment')?.message('policy'))
  const bindConfig = reader.message('upstream_bind_config')
  const bind = bindConfig === undefined ? context.clusterDefaults?.bind : translateBindConfig(bindConfig)
  const options = translateConnectionOptions(reader.message('upstream_connection_options'))
  const metadata = translateMetadata(reader)
  const loadServer = translateLoadServer(reader, context)
  const own = translateTransport(reader, context)
  const matches = translateTransportMatches(reader, context)
  const secure = own.tls !== undefined || matches.some(({ transport }) => transport.tls !== undefined)
  const { http, serverName } = translateUpstreamProtocol(reader, secure, context)
  const named = (tls: UpstreamTlsConfig): UpstreamTlsConfig =>
    discovery.type === 'dynamic-forward-proxy' ? forwardedTls(reader, tls, serverName) : tls
  const complete = (transport: TransportConfig): TransportConfig =>
    transport.tls === undefined
      ? transport
      : { ...transport, tls: named(completeTls(reader, transport.tls, serverName)) }
  const transportMatches = matches.map((match) => ({ ...match, transport: complete(match.transport) }))
  return {
    name,
    statName: reader.string('alt_stat_name') || name,
    ...discovery,
    ...(assignmentPolicy && { assignmentPolicy }),
    ...(localCluster && { localCluster }),
    ...(PROVIDED.has(discovery.type) ? providedBalancer(reader, discovery.type) : translateBalancing(reader)),
    connectTimeoutMs: durationMs(reader, 'connect_timeout') ?? CONNECT_TIMEOUT_MS,
    bufferLimitBytes: translateBufferLimit(reader),
    ...translateCircuitBreakers(reader.message('circuit_breakers')),
    ...translateOutlier(reader.message('outlier_detection'), context),
    ...translateHealthCheck(reader),
    ...(reader.bool('ignore_health_on_host_removal') && { ignoreHealthOnRemoval: true }),
    ...(reader.bool('close_connections_on_host_health_failure') && { closeOnHealthFailure: true }),
    ...http,
    ...complete(own),
    ...(transportMatches.length > 0 && { transportMatches }),
    ...translatePreconnect(reader.message('preconnect_policy')),
    ...options,
    ...bind,
    ...(metadata && { metadata }),
    ...(loadServer !== undefined && { loadServer }),
  }
}

function refuseUnavailable(reader: FieldReader): void {
  reader.refuse('transport_socket_matcher', 'choosing a transport socket is not available yet')
  reader.refuse('filters', 'upstream network filters are not available')
  reader.refuse('upstream_config', 'upstream extensions are not available')
  refuseTrue(reader, 'connection_pool_per_downstream_connection', 'is not available')
}

/** Adds what the protocol options say about TLS; SNI by request wins over all other kinds, as in Envoy. */
function completeTls(
  reader: FieldReader,
  tls: UpstreamTlsConfig,
  { autoSni, autoSanValidation }: ServerName,
): UpstreamTlsConfig {
  if (autoSanValidation !== undefined && !autoSni) {
    autoSanValidation.error('auto_san_validation', 'needs auto_sni')
  } else if (autoSanValidation !== undefined && !hasAuthorities(tls.validation) && !tls.secrets?.validation) {
    autoSanValidation.error('auto_san_validation', 'needs a validation_context with trusted_ca or system_root_certs')
  }
  const named = tls.validation?.sans.length || tls.secrets?.validation !== undefined
  if (tls.autoSanValidation && !autoSni && tls.sni === '' && tls.autoSni === 'none' && !named) {
    reader.error('transport_socket', 'auto_sni_san_validation needs a name: sni, auto_host_sni or auto_sni')
  }
  return {
    ...tls,
    autoSni: autoSni ? 'authority' : tls.autoSni,
    autoSanValidation: tls.autoSanValidation || autoSanValidation !== undefined,
  }
}

/** Connections ahead of the need of one endpoint, and of those that are likely to be chosen next. */
function translatePreconnect(
  reader: FieldReader | undefined,
): Pick<ClusterConfig, 'preconnectRatio' | 'predictiveRatio'> {
  reader?.ignore('preconnect_enabled_metadata')
  const predictiveRatio = reader?.number('predictive_preconnect_ratio') ?? 1
  return {
    preconnectRatio: reader?.number('per_upstream_preconnect_ratio') ?? 1,
    ...(predictiveRatio > 1 && { predictiveRatio }),
  }
}

interface Discovery {
  readonly type: ClusterConfig['type']
  readonly assignment?: string
  readonly localities: readonly LocalityEndpointsConfig[]
  readonly dns?: DnsConfig
  readonly forwardProxy?: ForwardProxyConfig
  readonly members?: readonly string[]
  readonly originalDst?: OriginalDstConfig
}

/** Types that choose hosts by themselves (`CLUSTER_PROVIDED`). */
const PROVIDED: ReadonlySet<ClusterConfig['type']> = new Set([
  'dynamic-forward-proxy',
  'original-dst',
  'aggregate',
  'composite',
])

function providedBalancer(
  reader: FieldReader,
  type: ClusterConfig['type'],
): Pick<ClusterConfig, 'balancer' | 'panicThreshold'> {
  const common = reader.message('common_lb_config')
  // Levels of an aggregate have shares, and there is a threshold below which a level is used whole.
  const panicThreshold = type === 'aggregate' ? percentage(common, 'healthy_panic_threshold') : undefined
  common?.unread('report')
  if (type !== 'original-dst') reader.refuse('original_dst_lb_config', 'belongs to clusters of type ORIGINAL_DST')
  checkProvided(reader)
  return { balancer: { kind: 'round-robin' }, ...(panicThreshold !== undefined && { panicThreshold }) }
}

function translateDiscovery(reader: FieldReader, context: EnvoyContext): Discovery {
  const type = reader.enumName('type')
  const custom = reader.message('cluster_type')
  if (custom !== undefined) return translateClusterType(reader, custom, context)
  if (type === 'ORIGINAL_DST') {
    return translateOriginalDst(reader, reader.message('original_dst_lb_config'), context)
  }
  reader.ignore('cleanup_interval')
  if (type === 'EDS') return translateEds(reader, context)
  reader.refuse('eds_cluster_config', 'belongs to clusters of type EDS')
  const resolvers = clusterResolvers(reader, context)
  const dns = translateDns(reader, resolvers)
  switch (type) {
    case 'STRICT_DNS':
      return { type: 'strict-dns', localities: translateAssignment(reader, 'strict-dns'), dns }
    case 'LOGICAL_DNS':
      return { type: 'logical-dns', localities: translateAssignment(reader, 'logical-dns'), dns }
  }
  return { type: 'static', localities: translateAssignment(reader, 'static') }
}

/** Of a cluster whose endpoints are delivered: its assignment is called like it, unless it says otherwise. */
function translateEds(reader: FieldReader, context: EnvoyContext): Discovery {
  const config = reader.message('eds_cluster_config')
  config?.unread('refuse')
  reader.refuse('load_assignment', 'belongs to other types: the endpoints of an EDS cluster are delivered')
  reader.ignore('dns_refresh_rate', 'dns_failure_refresh_rate', 'respect_dns_ttl', 'dns_jitter', 'dns_lookup_family')
  clusterResolvers(reader, context)
  const service = config?.string('service_name') ?? ''
  const name = service || reader.string('name')
  const source = sourceOf(name, config?.message('eds_config'), context)
  if (source === undefined && !config?.has('eds_config')) {
    const where = config ?? reader
    where.error(config === undefined ? 'eds_cluster_config' : 'eds_config', 'is required by type EDS')
  }
  if (context.references === undefined) reader.error('type', 'EDS is not available here')
  if (source?.source.kind === 'file' && name.startsWith('xdstp:')) {
    config?.error('service_name', `"${name}" cannot be had from a file`)
  }
  const key = referenceKey(name, source)
  if (source !== undefined) context.references?.add({ kind: 'assignment', name, key, source })
  return { type: 'eds', assignment: key, localities: [] }
}

/** `cluster_type`: a dynamic forward proxy, or the DnsCluster extension: the two DNS types under another name. */
function translateClusterType(reader: FieldReader, custom: FieldReader, context: EnvoyContext): Discovery {
  const name = custom.string('name')
  const extension = custom.any('typed_config')
  if (extension?.typeUrl === ORIGINAL_DST) return translateOriginalDst(reader, extension.fields, context)
  reader.ignore('cleanup_interval')
  if (extension?.typeUrl === FORWARD_PROXY) return translateForwardProxy(reader, extension, context)
  if (extension?.typeUrl === AGGREGATE) return translateAggregate(reader, extension, context)
  if (extension?.typeUrl === COMPOSITE) return translateComposite(reader, extension, context)
  if (extension?.typeUrl !== DNS_CLUSTER) {
    if (extension !== undefined) consume(extension)
    custom.error('typed_config', `cluster type "${extension?.typeUrl || name}" is not available`)
    return { type: 'static', localities: translateAssignment(reader, 'static') }
  }
  const { fields } = extension
  fields.unread('refuse')
  const type = fields.bool('all_addresses_in_single_endpoint') ? 'logical-dns' : 'strict-dns'
  // The extension's own settings replace those of the cluster, which are then without effect.
  const inherited = clusterResolvers(reader, context)
  reader.ignore('dns_refresh_rate', 'dns_failure_refresh_rate', 'respect_dns_ttl', 'dns_jitter', 'dns_lookup_family')
  const dns = translateDnsCluster(fields, inherited)
  return { type, localities: translateAssignment(reader, type), dns }
}

function translateAssignment(reader: FieldReader, type: ClusterConfig['type']): LocalityEndpointsConfig[] {
  const assignment = reader.message('load_assignment')
  const localities = assignment === undefined ? [] : translateEndpoints(assignment, type === 'static' ? 'ip' : 'name')
  const count = localities.reduce((total, locality) => total + locality.endpoints.length, 0)
  if (type === 'logical-dns' && (count !== 1 || localities.length !== 1)) {
    reader.error('load_assignment', `a LOGICAL_DNS cluster must have a single endpoint, this one has ${count}`)
  }
  return localities
}
