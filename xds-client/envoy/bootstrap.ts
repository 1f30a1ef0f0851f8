import type { ListenerConfig } from '../../lib/config/listener.ts'
import type { AdminConfig, GatewayConfig, NodeConfig } from '../../lib/config/model.ts'
import { formatAddress } from '../../lib/core/address.ts'
import type { JsonObject } from '../../lib/core/errors.ts'
import type { FieldReader } from '../../lib/core/field-reader.ts'
import type { ClusterConfig } from '../../lib/upstream/config.ts'
import { translateAddress } from './address.ts'
import { translateCluster } from './cluster.ts'
import { translateBindConfig } from './connection-options.ts'
import type { ClusterDefaults, EnvoyContext } from './context.ts'
import { translateResolvers } from './dns.ts'
import { translateNodeLocality } from './endpoints.ts'
import { translateListener } from './listener.ts'
import { translateConnectionLimit } from './overload.ts'
import { consume, refuseExtension, typedExtension, WHY } from './refusals.ts'
import { translateRuntime } from './runtime-layers.ts'

const RE2 = 'envoy.extensions.regex_engines.v3.GoogleRE2'
const LISTENER_MANAGER = 'envoy.config.listener.v3.ListenerManager'

/** Known, neither selecting nor admitting, and not built yet: reported. */
const REPORTED = [
  'node_context_params',
  'hds_config',
  'flags_path',
  'stats_sinks',
  'deferred_stat_options',
  'stats_config',
  'stats_flush_interval',
  'stats_flush_on_admin',
  'stats_eviction_interval',
  'watchdog',
  'watchdogs',
  'tracing',
  'enable_dispatcher_stats',
  'stats_server_version_override',
  'fatal_actions',
  'default_socket_interface',
  'inline_headers',
  'perf_tracing_file_path',
  'application_log_config',
  'grpc_async_client_manager_config',
  'memory_allocator_manager',
  'enable_worker_cpu_affinity',
] as const

const DYNAMIC = ['lds_config', 'lds_resources_locator', 'cds_config', 'cds_resources_locator', 'ads_config'] as const

/**
 * `config.bootstrap.v3.Bootstrap`. `ignored` of the answer is filled by whoever finishes the reader, `source` by whoever
 * has the document.
 */
export function translateBootstrap(reader: FieldReader, context: EnvoyContext): GatewayConfig {
  reader.unread('report')
  reader.ignore(...REPORTED)
  refuseUnavailable(reader)
  const node = translateNode(reader.message('node'))
  const admin = translateAdmin(reader.message('admin'))
  const runtime = translateRuntime(reader.message('layered_runtime'))
  const clusterDefaults = translateClusterDefaults(reader)
  const resources = translateResources(reader.message('static_resources'), { ...context, runtime, clusterDefaults })
  const maxConnections = translateConnectionLimit(reader.message('overload_manager'), { ...context, runtime })
  return {
    node,
    ...(admin && { admin }),
    ...resources,
    ...(maxConnections !== undefined && { maxConnections }),
    runtime,
    ignored: [],
  }
}

function refuseUnavailable(reader: FieldReader): void {
  const dynamic = reader.message('dynamic_resources')
  for (const field of DYNAMIC) dynamic?.refuse(field, WHY.dynamic)
  for (const field of ['config_sources', 'default_config_source', 'xds_delegate_extension'] as const) {
    reader.refuse(field, WHY.dynamic)
  }
  reader.refuse('xds_config_tracker_extension', WHY.dynamic)
  reader.refuse('certificate_provider_instances', WHY.certificateProviders)
  const prefix = reader.string('header_prefix')
  if (prefix !== '' && prefix.toLowerCase() !== 'x-envoy') {
    reader.error('header_prefix', `"${prefix}" cannot be used: only x-envoy is available`)
  }
  requireExtension(reader, 'default_regex_engine', RE2)
  requireExtension(reader, 'listener_manager', LISTENER_MANAGER)
  for (const entry of reader.messages('bootstrap_extensions')) {
    const extension = typedExtension(entry)
    if (extension === undefined) continue
    refuseExtension(entry, 'typed_config', extension, `bootstrap extension "${extension.typeUrl}" is not available`)
  }
}

/** An extension point of which only the built-in kind exists. */
function requireExtension(reader: FieldReader, field: string, type: string): void {
  const at = reader.message(field)
  const extension = typedExtension(at)
  if (at === undefined || extension === undefined) return
  if (extension.typeUrl === type) consume(extension)
  else refuseExtension(at, 'typed_config', extension, `"${extension.typeUrl}" is not available`)
}

function translateNode(reader: FieldReader | undefined): NodeConfig {
  reader?.ignore('dynamic_parameters', 'user_agent_name', 'user_agent_version', 'user_agent_build_version')
  reader?.ignore('extensions', 'client_features', 'listening_addresses')
  const locality = translateNodeLocality(reader?.message('locality'))
  const metadata = reader?.json('metadata') as JsonObject | undefined
  return {
    id: reader?.string('id') ?? '',
    cluster: reader?.string('cluster') ?? '',
    ...(locality && { locality }),
    ...(metadata && { metadata }),
  }
}

/** `Admin`; without an address there is no admin server, as in Envoy. */
function translateAdmin(reader: FieldReader | undefined): AdminConfig | undefined {
  reader?.ignore('access_log', 'access_log_path', 'profile_path', 'socket_options', 'ignore_global_conn_limit')
  reader?.refuse('allow_paths', 'limiting the admin server to some paths is not available')
  const address = translateAddress(reader?.message('address'), 'ip')
  return address && { address }
}

/** Settings of the bootstrap that clusters fall back to. */
function translateClusterDefaults(reader: FieldReader): ClusterDefaults {
  const manager = reader.message('cluster_manager')
  manager?.ignore('local_cluster_name', 'outlier_detection', 'load_stats_config', 'enable_deferred_cluster_creation')
  const bind = translateBindConfig(manager?.message('upstream_bind_config'))
  return { bind, resolvers: translateResolvers(reader) ?? [] }
}

interface StaticResources {
  readonly listeners: readonly ListenerConfig[]
  readonly clusters: readonly ClusterConfig[]
}

/** Clusters first: routes are checked against their names. */
function translateResources(reader: FieldReader | undefined, context: EnvoyContext): StaticResources {
  if (reader === undefined) return { listeners: [], clusters: [] }
  reader.refuse('secrets', WHY.secrets)
  const names = new Set<string>()
  const clusters = reader.messages('clusters').map((entry) => {
    const cluster = translateCluster(entry, context)
    if (cluster.name !== '' && names.has(cluster.name)) entry.error('name', `a second cluster "${cluster.name}"`)
    names.add(cluster.name)
    return cluster
  })
  return { listeners: translateListeners(reader, { ...context, clusters: names }), clusters }
}

function translateListeners(reader: FieldReader, context: EnvoyContext): ListenerConfig[] {
  const names = new Set<string>()
  const owners = new Map<string, string>()
  const listeners: ListenerConfig[] = []
  for (const entry of reader.messages('listeners')) {
    const listener = translateListener(entry, context)
    if (listener === undefined) continue
    if (names.has(listener.name)) entry.error('name', `a second listener "${listener.name}"`)
    names.add(listener.name)
    for (const address of listener.addresses) {
      const text = formatAddress(address)
      const owner = owners.get(text)
      // Port 0 is a different port each time.
      if (owner !== undefined && !(address.kind === 'ip' && address.port === 0)) {
        entry.error('address', `${text} is the address of listener "${owner}" already`)
      }
      owners.set(text, listener.name)
    }
    listeners.push(listener)
  }
  return listeners
}
