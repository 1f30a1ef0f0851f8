import type { FilterChainConfig, HttpConnectionManagerConfig } from '../../lib/config/listener.ts'
import type { FieldReader } from '../../lib/core/field-reader.ts'
import type { EnvoyContext } from './context.ts'
import { durationMs } from './durations.ts'
import { translateHttpConnectionManager } from './http-connection-manager.ts'
import { refuseExtension, refuseTrue, WHY } from './refusals.ts'
import { translateDownstreamSocket } from './transport-socket.ts'

const HTTP = 'envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager'

/** What Istio puts before its connection managers, which changes nothing but telemetry here: accepted, reported. */
const HARMLESS: ReadonlySet<string> = new Set([
  'envoy.tcp.metadataexchange.config.MetadataExchange',
  'stats.PluginConfig',
])

/** `config.listener.v3.FilterChain`: for now without conditions, ending in an HTTP connection manager. */
export function translateFilterChain(reader: FieldReader, context: EnvoyContext): FilterChainConfig | undefined {
  reader.unread('refuse')
  reader.ignore('metadata')
  refuseTrue(reader, 'use_proxy_proto', 'is not available yet')
  refuseMatch(reader)
  const name = reader.string('name')
  const transportConnectTimeoutMs = durationMs(reader, 'transport_socket_connect_timeout')
  const tls = translateDownstreamSocket(reader, context, transportConnectTimeoutMs)
  const clientCertificates = tls !== undefined && (tls.requireClientCertificate || tls.validation !== undefined)
  const http = translateFilters(reader, context, clientCertificates)
  if (http === undefined) return undefined
  return {
    name,
    networkFilters: [],
    http,
    ...(tls && { tls }),
    ...(transportConnectTimeoutMs && { transportConnectTimeoutMs }),
  }
}

/** A match that sets nothing takes every connection and is fine. */
function refuseMatch(reader: FieldReader): void {
  const match = reader.message('filter_chain_match')
  if (match === undefined || Object.keys(match.toJson()).length === 0) return
  reader.error('filter_chain_match', 'matching filter chains is not available yet')
}

function translateFilters(
  reader: FieldReader,
  context: EnvoyContext,
  clientCertificates: boolean,
): HttpConnectionManagerConfig | undefined {
  const filters = reader.messages('filters')
  let http: HttpConnectionManagerConfig | undefined
  let refused = false
  filters.forEach((filter, index) => {
    const name = filter.string('name')
    if (filter.has('config_discovery')) {
      filter.refuse('config_discovery', WHY.dynamic)
      refused = true
      return
    }
    const extension = filter.any('typed_config')
    if (extension?.typeUrl === HTTP) {
      http = translateHttpConnectionManager(extension.fields, context, clientCertificates)
      if (index < filters.length - 1)
        filter.error(undefined, `"${name}" ends the filter chain and must be the last filter`)
      return
    }
    if (extension !== undefined && HARMLESS.has(extension.typeUrl)) {
      filter.ignore('typed_config')
      return
    }
    refused = true
    const why = `network filter "${extension?.typeUrl || name}" is not available yet`
    if (extension === undefined) filter.error(undefined, why)
    else refuseExtension(filter, 'typed_config', extension, why)
  })
  if (http === undefined && !refused) {
    reader.error('filters', 'a filter chain without an HTTP connection manager is not available yet')
  }
  return http
}
