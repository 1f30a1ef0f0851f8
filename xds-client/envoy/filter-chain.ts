import type { FilterChainConfig, HttpConnectionManagerConfig, NetworkFilterConfig } from '../../lib/config/listener.ts'
import type { Json } from '../../lib/core/errors.ts'
import type { ExtensionReader, FieldReader } from '../../lib/core/field-reader.ts'
import { translateChainMatch } from './chain-match.ts'
import { configSources } from './config-sources.ts'
import type { EnvoyContext, NetworkFilterParser } from './context.ts'
import { durationMs } from './durations.ts'
import { translateDiscovery } from './extension-config.ts'
import { findExtensionParser } from './extension-parser.ts'
import { translateHttpConnectionManager } from './http-connection-manager.ts'
import { consume, refuseTrue } from './refusals.ts'
import { translateDownstreamSocket } from './transport-socket.ts'

const HTTP = 'envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager'

/** What Istio puts before the last filter, which changes nothing but telemetry here: accepted, reported. */
const HARMLESS: ReadonlySet<string> = new Set([
  'envoy.tcp.metadataexchange.config.MetadataExchange',
  'stats.PluginConfig',
])

/**
 * `config.listener.v3.FilterChain`: network filters, of which the last one ends the chain (an HTTP connection manager,
 * `tcp_proxy`). A chain without filters closes its connections, as in Envoy.
 */
export function translateFilterChain(reader: FieldReader, context: EnvoyContext): FilterChainConfig {
  reader.unread('refuse')
  reader.ignore('metadata')
  refuseTrue(
    reader,
    'use_proxy_proto',
    'is not available: list the listener filter envoy.filters.listener.proxy_protocol instead',
  )
  const match = translateChainMatch(reader.message('filter_chain_match'))
  const name = reader.string('name')
  const transportConnectTimeoutMs = durationMs(reader, 'transport_socket_connect_timeout')
  const tls = translateDownstreamSocket(reader, context, transportConnectTimeoutMs)
  const { http, networkFilters } = new FilterList(reader, context).read()
  return {
    name,
    ...(match && { match }),
    networkFilters,
    ...(http && { http }),
    ...(tls && { tls }),
    ...(transportConnectTimeoutMs && { transportConnectTimeoutMs }),
  }
}

/** `filters` of one chain, while they are read. */
class FilterList {
  readonly #chain: FieldReader
  readonly #context: EnvoyContext
  readonly #networkFilters: NetworkFilterConfig[] = []
  #http: HttpConnectionManagerConfig | undefined
  #refused = false

  constructor(chain: FieldReader, context: EnvoyContext) {
    this.#chain = chain
    this.#context = context
  }

  read(): Pick<FilterChainConfig, 'http' | 'networkFilters'> {
    const entries = this.#chain.messages('filters')
    let ended = false
    entries.forEach((entry, index) => {
      const terminal = this.#readFilter(entry, index === entries.length - 1)
      if (!terminal) return
      ended = true
      if (index === entries.length - 1) return
      entry.error(undefined, `"${entry.string('name')}" ends the filter chain and must be the last filter`)
    })
    if (!ended && !this.#refused && entries.length > 0) {
      const why = 'the last filter must be one that ends the chain: an HTTP connection manager, tcp_proxy or the like'
      this.#chain.error('filters', why)
    }
    return { networkFilters: this.#networkFilters, http: this.#http }
  }

  /** Answers whether it ends the chain. */
  #readFilter(entry: FieldReader, last: boolean): boolean {
    entry.unread('refuse')
    const name = entry.string('name')
    if (entry.has('config_discovery')) {
      const filter = translateDiscovery(entry, { name, place: 'network', last }, this.#context)
      if (filter === undefined) this.#refused = true
      else this.#networkFilters.push({ name, ...filter })
      // What is delivered last must end the chain, or is refused when it comes.
      return filter !== undefined && last
    }
    const extension = entry.any('typed_config')
    if (extension?.typeUrl === HTTP) {
      this.#http = translateHttpConnectionManager(extension.fields, this.#context)
      return true
    }
    if (extension !== undefined && HARMLESS.has(extension.typeUrl)) {
      entry.ignore('typed_config')
      consume(extension)
      return false
    }
    const parser = findExtensionParser(this.#context.networkFilters, name, extension)
    if (parser === undefined) return this.#lacks(entry, name, extension)
    return this.#readKnown(entry, name, { parser, extension })
  }

  #lacks(entry: FieldReader, name: string, extension: ExtensionReader | undefined): false {
    this.#refused = true
    if (extension !== undefined) consume(extension)
    // An Any that could not be decoded has been reported already.
    else if (entry.has('typed_config')) return false
    const why = `network filter "${extension?.typeUrl || name}" is not available`
    entry.error(extension === undefined ? undefined : 'typed_config', why)
    return false
  }

  #readKnown(entry: FieldReader, name: string, found: Found): boolean {
    const { parser, extension } = found
    const typeUrl = parser.typeUrls[0]
    const fields = extension?.fields ?? this.#context.emptyFields?.(typeUrl, entry.path)
    if (fields === undefined) {
      entry.error('typed_config', `is required by filter "${name}"`)
      this.#refused = true
      return parser.terminal === true
    }
    const config = parser.parse(fields, configSources(this.#context)) as Json
    this.#checkClusters(entry, parser, config)
    this.#networkFilters.push({ name, typeUrl, config })
    return parser.terminal === true
  }

  #checkClusters(entry: FieldReader, parser: NetworkFilterParser, config: Json): void {
    const { clusters, clustersDelivered, references } = this.#context
    if (parser.clusters === undefined) return
    for (const cluster of parser.clusters(config)) {
      if (cluster === '') continue
      references?.add({ kind: 'cluster', name: cluster, key: cluster, source: undefined })
      if (clusters === undefined || clusters.has(cluster) || clustersDelivered === true) continue
      entry.error('typed_config', `unknown cluster "${cluster}"`)
    }
  }
}

interface Found {
  readonly parser: NetworkFilterParser
  readonly extension: ExtensionReader | undefined
}
