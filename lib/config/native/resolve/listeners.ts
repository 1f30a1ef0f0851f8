import { type Address, formatAddress } from '../../../core/address.ts'
import { indexPath } from '../../../proto/path.ts'
import { TLS_HANDSHAKE_MS } from '../../defaults.ts'
import type { ListenerConfig } from '../../listener.ts'
import type { NativeAddress } from '../clusters.ts'
import type { NativeListener } from '../config.ts'
import { readAddress } from './addresses.ts'
import { readHttp } from './http.ts'
import type { Reading } from './reading.ts'
import { readDownstreamTls } from './tls.ts'

const MAX_CONNECTIONS = 10_000
const BUFFER_BYTES = 32 * 1024
/** The kernel cuts a larger number down to its own limit. */
const BACKLOG = 65_535
const LISTENER_FILTERS_MS = 5_000

export function readListener(listener: NativeListener, path: string, reading: Reading): ListenerConfig {
  const addresses = readAddresses(listener.address, `${path}.address`, reading)
  const first = addresses.length === 0 ? '' : formatAddress(addresses[0])
  const name = listener.name ?? first
  const { metadata, tls } = listener
  const http = readHttp(listener.http, name, { path: `${path}.http`, reading })
  return reading.origins.at(path, {
    name,
    statPrefix: listener.statPrefix ?? first.replaceAll(':', '_'),
    addresses,
    bufferLimitBytes: listener.bufferLimitBytes ?? BUFFER_BYTES,
    internal: false,
    filterChains: [
      reading.origins.at(path, {
        name: '',
        networkFilters: [],
        http,
        ...(tls && { tls: readDownstreamTls(tls, http.codec, { path: `${path}.tls`, reading }) }),
        transportConnectTimeoutMs: tls?.handshakeTimeoutMs ?? TLS_HANDSHAKE_MS,
      }),
    ],
    listenerFilters: [],
    listenerFiltersTimeoutMs: LISTENER_FILTERS_MS,
    continueOnListenerFiltersTimeout: false,
    backlog: listener.backlog ?? BACKLOG,
    maxConnections: listener.maxConnections ?? MAX_CONNECTIONS,
    drainType: 'default',
    ignoreGlobalLimit: false,
    accessLogs: [],
    ...(metadata && { metadata: structuredClone(metadata) }),
  })
}

function readAddresses(value: NativeListener['address'], path: string, reading: Reading): Address[] {
  if (!isList(value)) {
    const address = readAddress(value, path, reading)
    return address === undefined ? [] : [address]
  }
  return value
    .map((address, i) => readAddress(address, indexPath(path, i), reading))
    .filter((address) => address !== undefined)
}

function isList(value: NativeListener['address']): value is readonly NativeAddress[] {
  return Array.isArray(value)
}
