import type { JsonObject } from '../../lib/core/errors.ts'
import type { FieldReader } from '../../lib/core/field-reader.ts'
import type { AccessLogConfig } from '../../lib/telemetry/config.ts'
import { parseAccessLogs } from '../../lib/telemetry/parse.ts'
import { parseTunneling, type TunnelingConfig } from './tunnel-config.ts'

export interface WeightedTcpCluster {
  readonly name: string
  readonly weight: number
  /** That hosts must have, those of the whole filter included; for balancers of subsets. */
  readonly labels?: JsonObject
}

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
  readonly tunneling?: TunnelingConfig
}

const HOUR_MS = 3_600_000
/** Timers cannot run for longer. */
const MAX_MS = 0x7fff_ffff
const MAX_WEIGHT = 0xffff_ffff

/** Reported: Envoy takes the two timeouts without effect as well; a drain leaves these connections to their deadline. */
const WITHOUT_EFFECT = ['downstream_idle_timeout', 'upstream_idle_timeout', 'check_drain_close'] as const

/** `envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy` */
export function parseTcpProxy(fields: FieldReader): TcpProxyConfig {
  fields.unread('refuse')
  const statPrefix = fields.string('stat_prefix')
  if (statPrefix === '') fields.error('stat_prefix', 'must not be empty')
  fields.refuse('on_demand', 'clusters on demand are not available')
  // Hashing chooses among hosts that all serve; without it the balancer does.
  fields.ignore('hash_policy', ...WITHOUT_EFFECT)
  const labels = parseLabels(fields)
  parseConnectMode(fields)
  refuseTlvs(fields)
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

function parseConnectMode(fields: FieldReader): void {
  const mode = fields.enumName('upstream_connect_mode')
  // The handshake is over when this filter sees a connection.
  if (mode === 'ON_DOWNSTREAM_TLS_HANDSHAKE' || mode === 'ON_DOWNSTREAM_DATA') fields.ignore('upstream_connect_mode')
  fields.ignore('max_early_data_bytes')
}

function refuseTlvs(fields: FieldReader): void {
  fields.refuse('proxy_protocol_tlvs', 'TLVs are added by the PROXY protocol of the cluster')
  fields.ignore('proxy_protocol_tlv_merge_policy')
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

function parseLogOptions(fields: FieldReader): Pick<TcpProxyConfig, 'logIntervalMs' | 'logOnConnected'> {
  const options = fields.message('access_log_options')
  if (options !== undefined) {
    for (const name of ['access_log_flush_interval', 'flush_access_log_on_connected']) {
      if (fields.has(name)) fields.error(name, 'must not be set beside access_log_options')
    }
    options.ignore('flush_access_log_on_start')
  }
  const reader = options ?? fields
  const logIntervalMs = duration(reader, 'access_log_flush_interval')
  if (logIntervalMs !== undefined && logIntervalMs < 1) {
    reader.error('access_log_flush_interval', 'must be at least 1 ms')
  }
  return { logIntervalMs: logIntervalMs ?? 0, logOnConnected: reader.bool('flush_access_log_on_connected') }
}

function duration(fields: FieldReader, name: string): number | undefined {
  const ms = fields.durationMs(name)
  if (ms === undefined || ms >= 0) return ms === undefined ? undefined : Math.min(ms, MAX_MS)
  fields.error(name, `must not be negative, is ${ms / 1000}s`)
  return 0
}
