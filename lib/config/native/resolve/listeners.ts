import { type Address, formatAddress } from '../../../core/address.ts'
import type { CidrConfig } from '../../../match/config.ts'
import { indexPath } from '../../../proto/path.ts'
import { TLS_HANDSHAKE_MS } from '../../defaults.ts'
import type { FilterChainConfig, FilterChainMatchConfig, ListenerConfig } from '../../listener.ts'
import type { NativeAddress } from '../clusters.ts'
import type { NativeFilterChain, NativeFilterChainMatch, NativeListener } from '../listeners.ts'
import { readAddress, readCidr } from './addresses.ts'
import { readHttp } from './http.ts'
import { readAccessLog } from './logs.ts'
import { readListenerFilters, readNetworkFilters } from './lower-filters.ts'
import type { Reading } from './reading.ts'
import { readDownstreamTls } from './tls.ts'

const MAX_CONNECTIONS = 10_000
const BUFFER_BYTES = 32 * 1024
/** The kernel cuts a larger number down to its own limit. */
const BACKLOG = 65_535
const LISTENER_FILTERS_MS = 5_000

export function readListener(listener: NativeListener, path: string, reading: Reading): ListenerConfig {
  const addresses = readAddresses(listener.address ?? [], `${path}.address`, reading)
  const first = addresses.length === 0 ? '' : formatAddress(addresses[0])
  const name = listener.name ?? first
  const { chainMatcher, defaultFilterChain: standard, keepalive, metadata } = listener
  const filterChains = readChains(listener, name, { path, reading })
  const filters = listener.listenerFilters ?? []
  const internal = listener.internal ?? false
  const chains = { reading, chains: filterChains, matcher: chainMatcher, internal }
  return reading.origins.at(path, {
    name,
    statPrefix: listener.statPrefix ?? (first.replaceAll(':', '_') || name),
    addresses,
    bufferLimitBytes: listener.bufferLimitBytes ?? BUFFER_BYTES,
    internal,
    filterChains,
    ...(standard && {
      defaultFilterChain: readChain(standard, name, { path: `${path}.defaultFilterChain`, reading }),
    }),
    ...(chainMatcher && { chainMatcher: structuredClone(chainMatcher) }),
    listenerFilters: readListenerFilters(filters, `${path}.listenerFilters`, chains),
    listenerFiltersTimeoutMs: listener.listenerFiltersTimeoutMs ?? LISTENER_FILTERS_MS,
    continueOnListenerFiltersTimeout: listener.continueOnListenerFiltersTimeout ?? false,
    backlog: listener.backlog ?? BACKLOG,
    ...(keepalive && { keepalive: { ...keepalive } }),
    ...readLimits(listener),
    drainType: listener.drainType ?? 'default',
    accessLogs: (listener.accessLogs ?? []).map((log, i) =>
      readAccessLog(log, indexPath(`${path}.accessLogs`, i), reading),
    ),
    ...(metadata && { metadata: structuredClone(metadata) }),
  })
}

type Limits = 'maxConnections' | 'maxConnectionsPerSource' | 'ignoreGlobalLimit' | 'bypassOverload' | 'trafficDirection'

function readLimits(listener: NativeListener): Pick<ListenerConfig, Limits> {
  const { maxConnections = MAX_CONNECTIONS, maxConnectionsPerSource, ignoreGlobalLimit = false } = listener
  const { trafficDirection } = listener
  return {
    maxConnections,
    ...(maxConnectionsPerSource !== undefined && { maxConnectionsPerSource }),
    ignoreGlobalLimit,
    ...(listener.bypassOverload === true && { bypassOverload: true }),
    ...(trafficDirection && { trafficDirection }),
  }
}

interface Part {
  readonly path: string
  readonly reading: Reading
}

/** Of the short form there is one chain, whose fields are the listener's. */
function readChains(listener: NativeListener, name: string, { path, reading }: Part): FilterChainConfig[] {
  const { filterChains, http, networkFilters, tls } = listener
  if (filterChains === undefined && http === undefined && networkFilters === undefined) return []
  if (filterChains === undefined) return [readChain({ http, networkFilters, tls }, name, { path, reading })]
  return filterChains.map((chain, i) => {
    const at = indexPath(`${path}.filterChains`, i)
    return readChain(chain, name, { path: at, reading })
  })
}

/** `listener`: its name, which statistics of HTTP have unless they are given another. */
function readChain(chain: NativeFilterChain, listener: string, { path, reading }: Part): FilterChainConfig {
  const { match, tls } = chain
  const http = chain.http && readHttp(chain.http, listener, { path: `${path}.http`, reading })
  const networkFilters = readNetworkFilters(chain.networkFilters ?? [], `${path}.networkFilters`, reading)
  return reading.origins.at(path, {
    name: chain.name ?? '',
    ...(match && { match: readMatch(match, `${path}.match`, reading) }),
    networkFilters,
    ...(http && { http }),
    ...(tls && { tls: readDownstreamTls(tls, http?.codec, { path: `${path}.tls`, reading }) }),
    transportConnectTimeoutMs: tls?.handshakeTimeoutMs ?? TLS_HANDSHAKE_MS,
  })
}

function readMatch(match: NativeFilterChainMatch, path: string, reading: Reading): FilterChainMatchConfig {
  const ranges = (field: 'destinations' | 'directSources' | 'sources'): CidrConfig[] =>
    (match[field] ?? []).map((range, i) => readCidr(range, indexPath(`${path}.${field}`, i), reading))
  const { destinationPort, transportProtocol } = match
  return reading.origins.at(path, {
    ...(destinationPort !== undefined && { destinationPort }),
    destinations: ranges('destinations'),
    serverNames: (match.serverNames ?? []).map((name) => name.toLowerCase()),
    ...(transportProtocol && { transportProtocol }),
    applicationProtocols: [...(match.applicationProtocols ?? [])],
    directSources: ranges('directSources'),
    sourceType: match.sourceType ?? 'any',
    sources: ranges('sources'),
    sourcePorts: [...(match.sourcePorts ?? [])],
  })
}

function readAddresses(value: NativeAddress | readonly NativeAddress[], path: string, reading: Reading): Address[] {
  if (!isList(value)) {
    const address = readAddress(value, path, reading)
    return address === undefined ? [] : [address]
  }
  return value
    .map((address, i) => readAddress(address, indexPath(path, i), reading))
    .filter((address) => address !== undefined)
}

function isList(value: NativeAddress | readonly NativeAddress[]): value is readonly NativeAddress[] {
  return Array.isArray(value)
}
