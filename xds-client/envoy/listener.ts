import type { ListenerConfig } from '../../lib/config/listener.ts'
import { type Address, formatAddress } from '../../lib/core/address.ts'
import type { FieldReader } from '../../lib/core/field-reader.ts'
import { translateAccessLogs } from './access-log.ts'
import { translateAddress } from './address.ts'
import { translateBufferLimit } from './buffer-limit.ts'
import { type EnvoyContext, runtimeNumber } from './context.ts'
import { durationMs } from './durations.ts'
import { translateFilterChain } from './filter-chain.ts'
import { translateMetadata } from './metadata.ts'
import { refuseExtension, refuseTrue, WHY } from './refusals.ts'

const LISTENER_FILTERS_TIMEOUT_MS = 15_000

/** Envoy asks for the system's limit; the kernel cuts a larger number down to it. */
const BACKLOG = 65_535

/** Known, neither selecting nor admitting, and not built yet: reported. */
const REPORTED = [
  'stats_matcher',
  'per_connection_buffer_high_watermark_timeout',
  'drain_type',
  'continue_on_listener_filters_timeout',
  'socket_options',
  'tcp_fast_open_queue_length',
  'traffic_direction',
  'connection_balance_config',
  'reuse_port',
  'enable_reuse_port',
  'max_connections_to_accept_per_socket_event',
  'enable_mptcp',
  'ignore_global_conn_limit',
  'bypass_overload_manager',
  'tcp_keepalive',
] as const

const INSPECTORS: ReadonlySet<string> = new Set([
  'envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector',
  'envoy.extensions.filters.listener.http_inspector.v3.HttpInspector',
])

/** `config.listener.v3.Listener`; undefined where it has no usable address or no filter chain. */
export function translateListener(reader: FieldReader, context: EnvoyContext): ListenerConfig | undefined {
  reader.unread('refuse')
  reader.ignore(...REPORTED)
  refuseUnavailable(reader)
  const addresses = translateAddresses(reader)
  const filterChain = translateOnlyChain(reader, context)
  for (const filter of reader.messages('listener_filters')) refuseListenerFilter(filter)
  const fallback = addresses.length === 0 ? '' : formatAddress(addresses[0])
  const name = reader.string('name') || fallback
  const metadata = translateMetadata(reader)
  const maxConnections = runtimeNumber(context, `envoy.resource_limits.listener.${name}.connection_limit`)
  const accessLogs = translateAccessLogs(reader, 'access_log', context)
  const statPrefix = reader.string('stat_prefix') || fallback.replaceAll(':', '_')
  const bufferLimitBytes = translateBufferLimit(reader)
  const listenerFiltersTimeoutMs = durationMs(reader, 'listener_filters_timeout') ?? LISTENER_FILTERS_TIMEOUT_MS
  const backlog = reader.number('tcp_backlog_size') ?? BACKLOG
  if (addresses.length === 0 || filterChain === undefined) return undefined
  return {
    name,
    statPrefix,
    addresses,
    bufferLimitBytes,
    internal: false,
    filterChains: [filterChain],
    listenerFilters: [],
    listenerFiltersTimeoutMs,
    continueOnListenerFiltersTimeout: false,
    drainType: 'default',
    ignoreGlobalLimit: false,
    backlog,
    ...(maxConnections !== undefined && { maxConnections }),
    accessLogs,
    ...(metadata && { metadata }),
  }
}

function refuseUnavailable(reader: FieldReader): void {
  reader.refuse('udp_listener_config', WHY.udp)
  reader.refuse('internal_listener', 'internal listeners are not available')
  reader.refuse('api_listener', 'API listeners are not available')
  reader.refuse('fcds_config', WHY.dynamic)
  reader.refuse('filter_chain_matcher', 'matching filter chains is not available yet')
  refuseTrue(reader, 'use_original_dst', 'is not available')
  refuseTrue(reader, 'transparent', 'is not available')
  refuseTrue(reader, 'freebind', 'is not available')
  const deprecated = reader.message('deprecated_v1')?.optionalBool('bind_to_port') ?? true
  if (!(reader.optionalBool('bind_to_port') ?? deprecated)) {
    reader.error('bind_to_port', 'listeners without a port of their own are not available')
  }
}

function translateAddresses(reader: FieldReader): Address[] {
  const addresses: Address[] = []
  const main = reader.message('address')
  if (main === undefined && !reader.has('internal_listener')) reader.error('address', 'is required')
  const address = translateAddress(main, 'ip')
  if (address !== undefined) addresses.push(address)
  for (const entry of reader.messages('additional_addresses')) {
    entry.ignore('socket_options', 'tcp_keepalive')
    const additional = translateAddress(entry.message('address'), 'ip')
    if (additional !== undefined) addresses.push(additional)
  }
  return addresses
}

/** One filter chain, from `filter_chains` or as the default: this version cannot choose between several. */
function translateOnlyChain(
  reader: FieldReader,
  context: EnvoyContext,
): ListenerConfig['filterChains'][number] | undefined {
  const chains = reader.messages('filter_chains')
  const standard = reader.message('default_filter_chain')
  const all = standard === undefined ? chains : [...chains, standard]
  if (all.length > 1) {
    reader.error('filter_chains', `has ${all.length} filter chains; choosing between several is not available yet`)
  } else if (all.length === 0 && !reader.has('api_listener')) {
    reader.error('filter_chains', 'a listener needs a filter chain')
  }
  const translated = all.map((chain) => translateFilterChain(chain, context))
  return translated[0]
}

/** Filters that look for what several filter chains are chosen by are without effect where there is one: reported. */
function refuseListenerFilter(reader: FieldReader): void {
  const name = reader.string('name')
  reader.message('filter_disabled')?.toJson()
  if (reader.has('config_discovery')) reader.refuse('config_discovery', WHY.dynamic)
  const extension = reader.any('typed_config')
  const type = extension?.typeUrl || name
  if (INSPECTORS.has(type)) {
    reader.ignore('typed_config')
    return
  }
  const why = `listener filter "${type}" is not available yet`
  if (extension === undefined) reader.error(undefined, why)
  else refuseExtension(reader, 'typed_config', extension, why)
}
