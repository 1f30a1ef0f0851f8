import type { Json, JsonObject } from '../../lib/core/errors.ts'
import type { ExtensionReader, FieldReader } from '../../lib/core/field-reader.ts'
import type { DownstreamTlsConfig } from '../../lib/tls/config.ts'
import type { TransportConfig, TransportLayerConfig, TransportMatchConfig } from '../../lib/upstream/config.ts'
import { translateAddress } from './address.ts'
import type { EnvoyContext } from './context.ts'
import { translateProxyHeader } from './proxy-header.ts'
import { consume, WHY } from './refusals.ts'
import { translateDownstreamTls, translateUpstreamTls } from './tls/contexts.ts'

const RAW_BUFFER = 'envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer'
const RAW_BUFFER_NAME = 'envoy.transport_sockets.raw_buffer'
const TLS = 'envoy.extensions.transport_sockets.tls.v3.'
const PROXY_PROTOCOL = 'envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport'
const HTTP_PROXY = 'envoy.extensions.transport_sockets.http_11_proxy.v3.Http11ProxyUpstreamTransport'

const INTERNAL_UPSTREAM = 'envoy.extensions.transport_sockets.internal_upstream.v3.InternalUpstreamTransport'

/**
 * The transport socket of a filter chain: TLS, or plain TCP (undefined), which is also what its absence means. All others
 * are refused by name.
 */
export function translateDownstreamSocket(
  reader: FieldReader,
  context: EnvoyContext,
  handshakeTimeoutMs: number | undefined,
): DownstreamTlsConfig | undefined {
  const extension = openSocket(reader, `${TLS}DownstreamTlsContext`)
  return extension && translateDownstreamTls(extension.fields, context, handshakeTimeoutMs)
}

/**
 * The transport socket of a cluster or of a match: TLS, plain TCP, or something that stands around one of them. Sockets
 * around others become layers, the outermost first.
 */
export function translateTransport(reader: FieldReader, context: EnvoyContext): TransportConfig {
  const socket = openAny(reader)
  if (socket === undefined) return {}
  const { type, name, extension } = socket
  switch (type) {
    case `${TLS}UpstreamTlsContext`:
      return { tls: translateUpstreamTls(extension.fields, context) }
    case PROXY_PROTOCOL:
      return around(translateProxyProtocol(extension.fields), extension.fields, context)
    case HTTP_PROXY:
      return around(translateHttpProxy(extension.fields), extension.fields, context)
    case INTERNAL_UPSTREAM:
      return around(translateInternalUpstream(extension.fields), extension.fields, context)
  }
  consume(extension)
  const why = whyNot(type, `${TLS}UpstreamTlsContext`)
  reader.error('transport_socket', `transport socket "${type || name}" cannot be used: ${why}`)
  return {}
}

function around(layer: TransportLayerConfig, reader: FieldReader, context: EnvoyContext): TransportConfig {
  const inner = translateTransport(reader, context)
  return { ...inner, layers: [layer, ...(inner.layers ?? [])] }
}

function translateProxyProtocol(reader: FieldReader): TransportLayerConfig {
  reader.unread('refuse')
  // Clients without IP addresses are always told of as such, and TLVs of theirs are always part of what tells them apart.
  reader.bool('allow_unspecified_address')
  reader.bool('tlv_as_pool_key')
  return translateProxyHeader(reader.message('config'))
}

function translateHttpProxy(reader: FieldReader): TransportLayerConfig {
  reader.unread('refuse')
  const proxyAddress = translateAddress(reader.message('default_proxy_address'), 'ip')
  return { kind: 'http-connect', ...(proxyAddress && { proxyAddress }), target: 'address' }
}

/** What internal listeners get of metadata; filter state that is shared goes along by itself. */
function translateInternalUpstream(reader: FieldReader): TransportLayerConfig {
  reader.unread('refuse')
  const metadata = reader.messages('passthrough_metadata').flatMap((source) => {
    source.unread('refuse')
    const namespace = source.string('name')
    const kind = source.message('kind')
    const from = kind?.which('kind')
    if (kind !== undefined && from !== undefined) kind.message(from)
    if (from === 'host' || from === 'cluster') return [{ from, namespace } as const]
    // As in Envoy: a connection serves many requests.
    source.error('kind', `metadata of "${from ?? ''}" cannot be passed on, only of host and cluster`)
    return []
  })
  return { kind: 'internal', metadata }
}

/** `transport_socket_matches`: the transports of endpoints with labels. */
export function translateTransportMatches(reader: FieldReader, context: EnvoyContext): TransportMatchConfig[] {
  const names = new Set<string>()
  return reader.messages('transport_socket_matches').map((match) => {
    match.unread('refuse')
    const name = match.string('name')
    if (names.has(name)) match.error('name', `"${name}" is the name of an earlier match`)
    names.add(name)
    const labels = match.json('match')
    const transport = translateTransport(match, context)
    return { name, labels: isLabels(labels) ? labels : {}, transport }
  })
}

function isLabels(value: Json | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** A transport socket that is more than plain TCP. */
interface Socket {
  readonly type: string
  readonly name: string
  readonly extension: ExtensionReader
}

/** Undefined for plain TCP, and where a type that must be given is missing, which is recorded. */
function openAny(reader: FieldReader): Socket | undefined {
  const socket = reader.message('transport_socket')
  if (socket === undefined) return undefined
  const name = socket.string('name')
  const extension = socket.any('typed_config')
  const type = extension?.typeUrl ?? ''
  if (type === RAW_BUFFER || (type === '' && name === RAW_BUFFER_NAME)) {
    if (extension !== undefined) consume(extension)
    return undefined
  }
  if (extension !== undefined) return { type, name, extension }
  reader.error('transport_socket', `transport socket "${name}" cannot be used: it has no typed_config`)
  return undefined
}

/** The extension, where it is of the type that is wanted; undefined for plain TCP, and where it was refused. */
function openSocket(reader: FieldReader, wanted: string): ExtensionReader | undefined {
  const socket = openAny(reader)
  if (socket === undefined) return undefined
  const { type, name, extension } = socket
  if (type === wanted) return extension
  consume(extension)
  reader.error('transport_socket', `transport socket "${type || name}" cannot be used: ${whyNot(type, wanted)}`)
  return undefined
}

function whyNot(type: string, wanted: string): string {
  if (type.includes('.quic.')) return WHY.http3
  return type.startsWith(TLS) ? `it belongs to the other side, here it is ${wanted}` : 'it is not available'
}
