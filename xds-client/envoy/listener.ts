import type { KeepaliveConfig, ListenerConfig } from '../../lib/config/listener.ts'
import { type Address, formatAddress } from '../../lib/core/address.ts'
import type { FieldReader } from '../../lib/core/field-reader.ts'
import { translateAccessLogs } from './access-log.ts'
import { translateAddress } from './address.ts'
import { translateBufferLimit } from './buffer-limit.ts'
import { translateChainMatcher } from './chain-matcher.ts'
import type { EnvoyContext } from './context.ts'
import { durationMs } from './durations.ts'
import { translateFilterChain } from './filter-chain.ts'
import { checkChains, type ReadChain } from './filter-chain-checks.ts'
import { translateListenerFilters } from './listener-filters.ts'
import { translateMetadata } from './metadata.ts'
import { refuseTrue, WHY } from './refusals.ts'

const LISTENER_FILTERS_TIMEOUT_MS = 15_000

/** Envoy asks for the system's limit; the kernel cuts a larger number down to it. */
const BACKLOG = 65_535

/** Known, neither selecting nor admitting, and nothing that Node.js can set: reported. */
const REPORTED = [
  'stats_matcher',
  'per_connection_buffer_high_watermark_timeout',
  'socket_options',
  'tcp_fast_open_queue_length',
  'connection_balance_config',
  'reuse_port',
  'enable_reuse_port',
  'max_connections_to_accept_per_socket_event',
  'enable_mptcp',
] as const

const DIRECTIONS: ReadonlyMap<string, 'inbound' | 'outbound'> = new Map([
  ['INBOUND', 'inbound'],
  ['OUTBOUND', 'outbound'],
])

/** `config.listener.v3.Listener`; undefined where it has no usable address or no filter chain. */
export function translateListener(reader: FieldReader, context: EnvoyContext): ListenerConfig | undefined {
  reader.unread('refuse')
  reader.ignore(...REPORTED)
  refuseUnavailable(reader)
  const internal = reader.has('internal_listener')
  const addresses = internal ? noAddresses(reader) : translateAddresses(reader)
  const chains = reader.messages('filter_chains').map((entry) => translateChain(entry, context))
  const defaultChain = translateDefaultChain(reader, context)
  const useless = chains.length === 0 && defaultChain === undefined
  if (useless && !reader.has('api_listener')) reader.error('filter_chains', 'a listener needs a filter chain')
  const filterChains = chains.map(({ config }) => config)
  const listenerFilters = translateListenerFilters(reader, context, filterChains)
  const fallback = addresses.length === 0 ? '' : formatAddress(addresses[0])
  const name = reader.string('name') || fallback
  if (internal && name === '') reader.error('name', 'is required: internal listeners are reached by name')
  const chainMatcher = translateChainMatcher(reader, filterChains)
  checkChains(chains, chainMatcher !== undefined)
  const settings = translateSettings(reader, name)
  const accessLogs = translateAccessLogs(reader, 'access_log', context)
  const statPrefix = reader.string('stat_prefix') || fallback.replaceAll(':', '_') || name
  if ((addresses.length === 0 && !internal) || useless) return undefined
  return {
    name,
    statPrefix,
    addresses,
    internal,
    filterChains,
    ...(defaultChain && { defaultFilterChain: defaultChain.config }),
    ...(chainMatcher && { chainMatcher }),
    listenerFilters,
    ...settings,
    accessLogs,
  }
}

function refuseUnavailable(reader: FieldReader): void {
  reader.refuse('udp_listener_config', WHY.udp)
  reader.refuse('api_listener', 'API listeners are not available')
  reader.refuse('fcds_config', 'filter chains that are delivered apart are not available')
  refuseTrue(reader, 'use_original_dst', 'is not available: handing connections over takes SO_ORIGINAL_DST')
  refuseTrue(reader, 'transparent', 'is not available: Node.js has no IP_TRANSPARENT')
  refuseTrue(reader, 'freebind', 'is not available: Node.js has no IP_FREEBIND')
  const deprecated = reader.message('deprecated_v1')?.optionalBool('bind_to_port') ?? true
  if (!(reader.optionalBool('bind_to_port') ?? deprecated)) {
    const why = 'listeners without a port of their own are not available: they are reached by SO_ORIGINAL_DST alone'
    reader.error('bind_to_port', why)
  }
}

function noAddresses(reader: FieldReader): Address[] {
  reader.message('internal_listener')?.toJson()
  for (const field of ['address', 'additional_addresses'] as const) {
    reader.refuse(field, 'an internal listener has no address: it is reached by its name')
  }
  return []
}

function translateAddresses(reader: FieldReader): Address[] {
  const addresses: Address[] = []
  const main = reader.message('address')
  if (main === undefined) reader.error('address', 'is required')
  const address = translateAddress(main, 'ip')
  if (address !== undefined) addresses.push(address)
  for (const entry of reader.messages('additional_addresses')) {
    entry.unread('refuse')
    entry.ignore('socket_options', 'tcp_keepalive')
    const additional = translateAddress(entry.message('address'), 'ip')
    if (additional !== undefined) addresses.push(additional)
  }
  return addresses
}

function translateChain(reader: FieldReader, context: EnvoyContext): ReadChain {
  return { reader, config: translateFilterChain(reader, context) }
}

/** Envoy reads a match of it and forgets it. */
function translateDefaultChain(reader: FieldReader, context: EnvoyContext): ReadChain | undefined {
  const entry = reader.message('default_filter_chain')
  if (entry === undefined) return undefined
  const { match, ...config } = translateFilterChain(entry, context)
  if (match !== undefined) entry.ignore('filter_chain_match')
  return { reader: entry, config }
}

type Settings = Omit<
  ListenerConfig,
  'name' | 'statPrefix' | 'addresses' | 'internal' | 'filterChains' | 'listenerFilters' | 'accessLogs'
>

function translateSettings(reader: FieldReader, name: string): Settings {
  const keepalive = translateKeepalive(reader.message('tcp_keepalive'))
  const trafficDirection = DIRECTIONS.get(reader.enumName('traffic_direction'))
  const metadata = translateMetadata(reader)
  // Whoever bypasses the overload manager bypasses its limit of connections.
  const ignoreGlobalLimit = reader.bool('ignore_global_conn_limit')
  const bypass = reader.bool('bypass_overload_manager')
  return {
    bufferLimitBytes: translateBufferLimit(reader),
    listenerFiltersTimeoutMs: durationMs(reader, 'listener_filters_timeout') ?? LISTENER_FILTERS_TIMEOUT_MS,
    continueOnListenerFiltersTimeout: reader.bool('continue_on_listener_filters_timeout'),
    backlog: reader.number('tcp_backlog_size') ?? BACKLOG,
    ...(keepalive && { keepalive }),
    ...(trafficDirection && { trafficDirection }),
    drainType: reader.enumName('drain_type') === 'MODIFY_ONLY' ? 'modify-only' : 'default',
    maxConnectionsKey: `envoy.resource_limits.listener.${name}.connection_limit`,
    ignoreGlobalLimit: ignoreGlobalLimit || bypass,
    ...(bypass && { bypassOverload: true }),
    ...(metadata && { metadata }),
  }
}

/** `config.core.v3.TcpKeepalive`: each value that is not set, or 0, is the system's. */
function translateKeepalive(reader: FieldReader | undefined): KeepaliveConfig | undefined {
  if (reader === undefined) return undefined
  reader.unread('refuse')
  const idleS = reader.number('keepalive_time') ?? 0
  const intervalS = reader.number('keepalive_interval') ?? 0
  const probes = reader.number('keepalive_probes') ?? 0
  return {
    ...(idleS > 0 && { idleS }),
    ...(intervalS > 0 && { intervalS }),
    ...(probes > 0 && { probes }),
  }
}
