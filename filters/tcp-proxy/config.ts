import type { ConfigSources } from '../../lib/core/config-sources.ts'
import type { JsonObject } from '../../lib/core/errors.ts'
import type { FieldReader } from '../../lib/core/field-reader.ts'
import type { AccessLogConfig, FormatConfig } from '../../lib/telemetry/config.ts'
import { parseAccessLogs, parseFormat } from '../../lib/telemetry/parse.ts'
import { parseTunneling, type TunnelingConfig } from './tunnel-config.ts'

export interface WeightedTcpCluster {
  readonly name: string
  readonly weight: number
  /** That hosts must have, those of the whole filter included; for balancers of subsets. */
  readonly labels?: JsonObject
}

/** What a connection is hashed by. */
export type TcpHashConfig =
  | { readonly kind: 'source-ip' }
  /** A plain object of the connection's filter state. */
  | { readonly kind: 'filter-state'; readonly key: string }

/** A TLV that upstream PROXY headers may get: its value as base64, or made of each connection. */
export type TcpTlvConfig =
  | { readonly type: number; readonly value: string }
  | { readonly type: number; readonly format: FormatConfig }

/** What becomes of TLVs of the client's own PROXY header. `if-absent`: where there is a header, it stays as it is. */
export type TlvMerge = 'if-absent' | 'overwrite' | 'append'

/** A parsed `TcpProxy`. Times in ms, 0: none. */
export interface TcpProxyConfig {
  readonly statPrefix: string
  /** At least one; a single one takes all, whatever its weight. */
  readonly clusters: readonly WeightedTcpCluster[]
  /** Of clusters that other filters choose. */
  readonly labels?: JsonObject
  /** No bytes in either direction, on either side. */
  readonly idleTimeoutMs: number
  readonly maxDurationMs: number
  /** The maximum duration of each connection is longer by up to this share of it, 0 to 1. */
  readonly maxDurationJitter: number
  readonly maxConnectAttempts: number
  /** Undefined: the next attempt follows at once. */
  readonly backoff?: { readonly baseMs: number; readonly maxMs: number }
  readonly accessLogs: readonly AccessLogConfig[]
  /** A line each so often; 0: only when the connection ends. */
  readonly logIntervalMs: number
  readonly logOnConnected: boolean
  readonly logOnStart?: true
  readonly tunneling?: TunnelingConfig
  readonly hash?: TcpHashConfig
  /** Bytes that are read before the upstream is connected; undefined: none are. */
  readonly earlyBytes?: number
  /** No upstream before the client has said something; needs `earlyBytes`. */
  readonly connectOnData?: true
  readonly tlvs?: { readonly list: readonly TcpTlvConfig[]; readonly merge: TlvMerge }
  /** Clusters that are not there are asked for. */
  readonly demand?: { readonly source: string; readonly timeoutMs: number }
}

const HOUR_MS = 3_600_000
/** Timers cannot run for longer. */
const MAX_MS = 0x7fff_ffff
/** What the values of a PROXY header have room for. */
const MAX_TLV_BYTES = 0xff00
const MAX_WEIGHT = 0xffff_ffff

/** Reported: Envoy takes the two timeouts without effect as well; a drain leaves these connections to their deadline. */
const WITHOUT_EFFECT = ['downstream_idle_timeout', 'upstream_idle_timeout', 'check_drain_close'] as const

/** How long a connection waits for a cluster that is asked for: Envoy's. */
const DEMAND_TIMEOUT_MS = 60_000

/** `envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy` */
export function parseTcpProxy(fields: FieldReader, sources?: ConfigSources): TcpProxyConfig {
  fields.unread('refuse')
  const statPrefix = fields.string('stat_prefix')
  if (statPrefix === '') fields.error('stat_prefix', 'must not be empty')
  fields.ignore(...WITHOUT_EFFECT)
  const labels = parseLabels(fields)
  const tunneling = fields.message('tunneling_config')
  return {
    statPrefix,
    clusters: parseClusters(fields, labels),
    ...(labels && { labels }),
    idleTimeoutMs: duration(fields, 'idle_timeout') ?? HOUR_MS,
    maxDurationMs: parseMaxDuration(fields),
    maxDurationJitter: parseJitter(fields),
    maxConnectAttempts: parseAttempts(fields),
    ...parseBackoff(fields),
    accessLogs: parseAccessLogs(fields, 'access_log'),
    ...parseLogOptions(fields),
    ...(tunneling && { tunneling: parseTunneling(tunneling) }),
    ...parseHash(fields),
    ...parseConnectMode(fields),
    ...parseTlvs(fields),
    ...parseDemand(fields, sources),
  }
}

function parseClusters(fields: FieldReader, labels: JsonObject | undefined): WeightedTcpCluster[] {
  const weighted = fields.message('weighted_clusters')
  const name = fields.string('cluster')
  if (weighted === undefined) {
    if (name === '') fields.error(undefined, 'one of cluster and weighted_clusters is required')
    return [{ name, weight: 1, ...(labels && { labels }) }]
  }
  if (name !== '') fields.error('cluster', 'cluster and weighted_clusters exclude each other')
  const clusters = weighted.messages('clusters').map((entry) => {
    const own = parseLabels(entry)
    const all = own === undefined ? labels : { ...labels, ...own }
    const cluster = { name: entry.string('name'), weight: entry.number('weight') ?? 0, ...(all && { labels: all }) }
    if (cluster.name === '') entry.error('name', 'must not be empty')
    if (cluster.weight < 1) entry.error('weight', `must be at least 1, is ${cluster.weight}`)
    return cluster
  })
  const sum = clusters.reduce((total, cluster) => total + cluster.weight, 0)
  if (clusters.length === 0) weighted.error('clusters', 'must not be empty')
  else if (sum > MAX_WEIGHT) weighted.error('clusters', `the weights add up to ${sum}, which is over ${MAX_WEIGHT}`)
  return clusters
}

/** The `envoy.lb` part of `metadata_match`, which alone chooses hosts. */
function parseLabels(fields: FieldReader): JsonObject | undefined {
  const metadata = fields.message('metadata_match')
  metadata?.ignore('typed_filter_metadata')
  let labels: JsonObject | undefined
  for (const [namespace, value] of metadata?.messageMap('filter_metadata') ?? []) {
    const json = value.toJson()
    if (namespace === 'envoy.lb') labels = json
  }
  return labels
}

/** Envoy has room for one policy. */
function parseHash(fields: FieldReader): Pick<TcpProxyConfig, 'hash'> {
  const [policy] = fields.messages('hash_policy')
  if (policy === undefined) return {}
  policy.unread('refuse')
  if (policy.message('source_ip') !== undefined) return { hash: { kind: 'source-ip' } }
  const state = policy.message('filter_state')
  if (state === undefined) return {}
  const key = state.string('key')
  if (key === '') state.error('key', 'must not be empty')
  return { hash: { kind: 'filter-state', key } }
}

/** The handshake is over when this filter sees a connection: waiting for it is no mode of its own. */
function parseConnectMode(fields: FieldReader): Pick<TcpProxyConfig, 'earlyBytes' | 'connectOnData'> {
  const mode = fields.enumName('upstream_connect_mode')
  const early = fields.has('max_early_data_bytes') ? fields.number('max_early_data_bytes') : undefined
  if (early === undefined && mode !== '' && mode !== 'IMMEDIATE') {
    fields.error('max_early_data_bytes', `is required with upstream_connect_mode ${mode}`)
  }
  return {
    ...(early !== undefined && { earlyBytes: early }),
    ...(mode === 'ON_DOWNSTREAM_DATA' && { connectOnData: true }),
  }
}

const MERGES: ReadonlyMap<string, TlvMerge> = new Map<string, TlvMerge>([
  ['OVERWRITE_BY_TYPE_IF_EXISTS_OR_ADD', 'overwrite'],
  ['APPEND_IF_EXISTS_OR_ADD', 'append'],
])

function parseTlvs(fields: FieldReader): Pick<TcpProxyConfig, 'tlvs'> {
  const merge = MERGES.get(fields.enumName('proxy_protocol_tlv_merge_policy')) ?? 'if-absent'
  const list = fields.messages('proxy_protocol_tlvs').map(parseTlv)
  return list.length === 0 ? {} : { tlvs: { list, merge } }
}

/** `config.core.v3.TlvEntry` */
function parseTlv(entry: FieldReader): TcpTlvConfig {
  entry.unread('refuse')
  const type = entry.number('type') ?? 0
  if (type > 255) entry.error('type', `must be less than 256, is ${type}`)
  const format = parseFormat(entry.message('format_string'))
  const value = entry.bytes('value') ?? Buffer.alloc(0)
  if (format === undefined) {
    if (value.length === 0) entry.error('value', 'value or format_string is required')
    if (value.length > MAX_TLV_BYTES) {
      entry.error('value', `is ${value.length} bytes long, a header has room for ${MAX_TLV_BYTES}`)
    }
    return { type, value: value.toString('base64') }
  }
  if (value.length > 0) entry.error('value', 'value and format_string exclude each other')
  return { type, format }
}

/** Whether and where clusters are asked for. Without a source nobody is, as in Envoy. */
function parseDemand(fields: FieldReader, sources: ConfigSources | undefined): Pick<TcpProxyConfig, 'demand'> {
  const demand = fields.message('on_demand')
  if (demand === undefined) return {}
  demand.unread('refuse')
  const timeoutMs = duration(demand, 'timeout') ?? DEMAND_TIMEOUT_MS
  const locator = demand.string('resources_locator')
  const source = demand.message('odcds_config')
  if (source === undefined) return {}
  if (sources !== undefined) return { demand: { source: sources.demandedClusters(source, locator) ?? '', timeoutMs } }
  source.toJson()
  demand.error('odcds_config', 'clusters on demand come from a control plane alone')
  return {}
}

function parseMaxDuration(fields: FieldReader): number {
  const ms = duration(fields, 'max_downstream_connection_duration')
  if (ms !== undefined && ms < 1) fields.error('max_downstream_connection_duration', 'must be at least 1 ms')
  return ms ?? 0
}

function parseJitter(fields: FieldReader): number {
  const name = 'max_downstream_connection_duration_jitter_percentage'
  const percent = fields.message(name)?.number('value') ?? 0
  if (percent >= 0 && percent <= 100) return percent / 100
  fields.error(name, `must be a percentage, is ${percent}`)
  return 0
}

function parseAttempts(fields: FieldReader): number {
  const attempts = fields.number('max_connect_attempts') ?? 1
  if (attempts < 1) fields.error('max_connect_attempts', `must be at least 1, is ${attempts}`)
  return attempts
}

function parseBackoff(fields: FieldReader): Pick<TcpProxyConfig, 'backoff'> {
  const options = fields.message('backoff_options')
  if (options === undefined) return {}
  const baseMs = duration(options, 'base_interval') ?? 0
  if (baseMs < 1) options.error('base_interval', 'must be at least 1 ms')
  const maxMs = duration(options, 'max_interval') ?? baseMs * 10
  if (maxMs < baseMs) options.error('max_interval', 'must not be shorter than base_interval')
  return { backoff: { baseMs, maxMs } }
}

function parseLogOptions(fields: FieldReader): Pick<TcpProxyConfig, 'logIntervalMs' | 'logOnConnected' | 'logOnStart'> {
  const options = fields.message('access_log_options')
  if (options !== undefined) {
    for (const name of ['access_log_flush_interval', 'flush_access_log_on_connected']) {
      if (fields.has(name)) fields.error(name, 'must not be set beside access_log_options')
    }
  }
  const reader = options ?? fields
  const logIntervalMs = duration(reader, 'access_log_flush_interval')
  if (logIntervalMs !== undefined && logIntervalMs < 1) {
    reader.error('access_log_flush_interval', 'must be at least 1 ms')
  }
  return {
    logIntervalMs: logIntervalMs ?? 0,
    logOnConnected: reader.bool('flush_access_log_on_connected'),
    ...(options?.bool('flush_access_log_on_start') && { logOnStart: true }),
  }
}

function duration(fields: FieldReader, name: string): number | undefined {
  const ms = fields.durationMs(name)
  if (ms === undefined || ms >= 0) return ms === undefined ? undefined : Math.min(ms, MAX_MS)
  fields.error(name, `must not be negative, is ${ms / 1000}s`)
  return 0
}
