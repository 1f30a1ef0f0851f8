import { circleMessage, circlesOf } from '../../lib/config/checks/cluster-types.ts'
import type { ListenerConfig } from '../../lib/config/listener.ts'
import type { AdminConfig, GatewayConfig, NodeConfig } from '../../lib/config/model.ts'
import { formatAddress } from '../../lib/core/address.ts'
import type { JsonObject } from '../../lib/core/errors.ts'
import type { FieldReader } from '../../lib/core/field-reader.ts'
import type { ClusterConfig } from '../../lib/upstream/config.ts'
import type { DynamicConfig } from '../config.ts'
import { translateAddress } from './address.ts'
import { translateAuthorities } from './authorities.ts'
import { translateCluster } from './cluster.ts'
import { translateBindConfig } from './connection-options.ts'
import type { ClusterDefaults, EnvoyContext } from './context.ts'
import { translateResolvers, withTcp } from './dns.ts'
import { isDelivered, managementClusters, nodeJson, refuseDelegates, translateDynamic } from './dynamic.ts'
import { translateNodeLocality } from './endpoints.ts'
import { translateListener } from './listener.ts'
import { translateOverload } from './overload.ts'
import { type Reference, ReferenceList } from './references.ts'
import { consume, refuseExtension, typedExtension, WHY } from './refusals.ts'
import { translateRuntime } from './runtime-layers.ts'
import { translateSecret } from './tls/secret.ts'
import type { SecretValue } from './translated.ts'
import { translateWatchdogs } from './watchdogs.ts'

const RE2 = 'envoy.extensions.regex_engines.v3.GoogleRE2'
const LISTENER_MANAGER = 'envoy.config.listener.v3.ListenerManager'

/** Known, neither selecting nor admitting, and not built yet: reported. */
const REPORTED = [
  'hds_config',
  'flags_path',
  'stats_sinks',
  'deferred_stat_options',
  'stats_config',
  'stats_flush_interval',
  'stats_flush_on_admin',
  'stats_eviction_interval',
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

/** Extensions of the bootstrap that something here does already. */
const BUILT_IN: ReadonlySet<string> = new Set([
  'envoy.extensions.bootstrap.internal_listener.v3.InternalListener',
  'envoy.extensions.network.socket_interface.v3.DefaultSocketInterface',
])

/** Those that only watch: without effect on traffic, reported. */
const ONLOOKERS: ReadonlySet<string> = new Set(['envoy.extensions.wasm.v3.WasmService'])

/** A bootstrap, translated. */
export interface TranslatedBootstrap {
  /** `ignored` is filled by whoever finishes the reader, `source` by whoever has the document. */
  readonly config: GatewayConfig
  readonly dynamic: DynamicConfig | undefined
  /** By `listener/NAME` and `cluster/NAME`. */
  readonly references: ReadonlyMap<string, readonly Reference[]>
  readonly secrets: ReadonlyMap<string, SecretValue>
  /** What resources that are delivered must know of it. */
  readonly known: Partial<EnvoyContext>
}

/** `config.bootstrap.v3.Bootstrap` */
export function translateBootstrap(reader: FieldReader, context: EnvoyContext): TranslatedBootstrap {
  reader.unread('report')
  reader.ignore(...REPORTED)
  refuseUnavailable(reader)
  const node = translateNode(reader.message('node'))
  const admin = translateAdmin(reader.message('admin'))
  const resources = reader.message('static_resources')
  const reachable = {
    hasAds: reader.message('dynamic_resources')?.has('ads_config') ?? false,
    managementClusters: managementClusters(resources),
  }
  const sources = { ...reachable, authorities: translateAuthorities(reader, { ...context, ...reachable }) }
  const { layers, values: runtime } = translateRuntime(reader.message('layered_runtime'), { ...context, ...sources })
  const clusterDefaults = translateClusterDefaults(reader)
  const known = { ...sources, clusterDefaults }
  const secrets = translateSecrets(resources, { ...context, ...known })
  const services = reader.message('dynamic_resources')
  const clustersDelivered =
    services?.has('cds_config') === true || (services?.string('cds_resources_locator') ?? '') !== ''
  const inner: EnvoyContext = { ...context, ...known, secrets, clustersDelivered }
  const references = new Map<string, readonly Reference[]>()
  const translated = translateResources(resources, inner, references)
  const parts = translateDynamic(reader, inner)
  const overload = translateOverload(reader.message('overload_manager'))
  const config: GatewayConfig = {
    node,
    ...(admin && { admin }),
    ...translated,
    ...staticSecrets(secrets),
    ...overload,
    ...translateWatchdogs(reader),
    runtime,
    ignored: [],
  }
  const reports = context.loadServers !== undefined && context.loadServers.size > 0
  const live =
    isDelivered(parts, layers) || references.size > 0 || reports || layers.some(({ kind }) => kind === 'admin')
  const dynamic = live ? { ...parts, runtime: layers, node: nodeJson(reader.message('node')) } : undefined
  return { config, dynamic, references, secrets, known: { ...known, secrets } }
}

/** What filters ask for by name. */
function staticSecrets(secrets: ReadonlyMap<string, SecretValue>): Pick<GatewayConfig, 'secrets'> {
  const list = [...secrets.values()].flatMap((secret) => {
    return secret.kind === 'generic' ? [{ name: secret.name, value: secret.value }] : []
  })
  return list.length === 0 ? {} : { secrets: list }
}

function refuseUnavailable(reader: FieldReader): void {
  refuseDelegates(reader)
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
    if (ONLOOKERS.has(extension.typeUrl)) {
      consume(extension)
      entry.ignore('typed_config')
    } else if (BUILT_IN.has(extension.typeUrl)) {
      extension.fields.unread('report')
    } else {
      refuseExtension(entry, 'typed_config', extension, `bootstrap extension "${extension.typeUrl}" is not available`)
    }
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
  manager?.ignore('enable_deferred_cluster_creation')
  const local = manager?.string('local_cluster_name') ?? ''
  const locality = translateNodeLocality(reader.message('node')?.message('locality'))
  const outlier = manager?.message('outlier_detection')
  outlier?.ignore('event_service')
  const outlierEventLogPath = outlier?.string('event_log_path') || undefined
  const bind = translateBindConfig(manager?.message('upstream_bind_config'))
  const localCluster = local === '' || locality === undefined ? undefined : { name: local, locality }
  const localClusterName = local || undefined
  return {
    bind,
    resolvers: withTcp(reader, translateResolvers(reader), { resolvers: [] }),
    outlierEventLogPath,
    localCluster,
    localClusterName,
  }
}

interface StaticResources {
  readonly listeners: readonly ListenerConfig[]
  readonly clusters: readonly ClusterConfig[]
}

/** `static_resources.secrets` */
function translateSecrets(reader: FieldReader | undefined, context: EnvoyContext): ReadonlyMap<string, SecretValue> {
  const secrets = new Map<string, SecretValue>()
  for (const entry of reader?.messages('secrets') ?? []) {
    const secret = translateSecret(entry, context)
    if (secret === undefined) continue
    if (secret.name !== '' && secrets.has(secret.name)) entry.error('name', `a second secret "${secret.name}"`)
    secrets.set(secret.name, secret)
  }
  return secrets
}

/** Clusters first: routes are checked against their names. */
function translateResources(
  reader: FieldReader | undefined,
  context: EnvoyContext,
  references: Map<string, readonly Reference[]>,
): StaticResources {
  if (reader === undefined) return { listeners: [], clusters: [] }
  const names = new Set<string>()
  const clusters = reader.messages('clusters').map((entry) => {
    const needs = new ReferenceList()
    const cluster = translateCluster(entry, { ...context, references: needs })
    if (cluster.name !== '' && names.has(cluster.name)) entry.error('name', `a second cluster "${cluster.name}"`)
    names.add(cluster.name)
    note(references, `cluster/${cluster.name}`, needs)
    return cluster
  })
  if (clusters.some(({ members }) => members !== undefined)) {
    const circles = circlesOf(clusters)
    reader.messages('clusters').forEach((entry, i) => {
      const circle = circles.get(clusters[i].name)
      if (circle !== undefined) entry.error('cluster_type', circleMessage(circle))
    })
  }
  return { listeners: translateListeners(reader, { ...context, clusters: names }, references), clusters }
}

/** What is in the bootstrap, or bound already, needs nobody's answer. */
function note(references: Map<string, readonly Reference[]>, key: string, { list }: ReferenceList): void {
  const needed = list.filter(({ source }) => source !== undefined)
  if (needed.length > 0) references.set(key, needed)
}

function translateListeners(
  reader: FieldReader,
  context: EnvoyContext,
  references: Map<string, readonly Reference[]>,
): ListenerConfig[] {
  const names = new Set<string>()
  const owners = new Map<string, string>()
  const listeners: ListenerConfig[] = []
  for (const entry of reader.messages('listeners')) {
    const needs = new ReferenceList()
    const listener = translateListener(entry, { ...context, references: needs })
    if (listener === undefined) continue
    note(references, `listener/${listener.name}`, needs)
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
