import type { ExtensionReader, FieldReader } from '../../lib/core/field-reader.ts'
import type { DownstreamTlsConfig, UpstreamTlsConfig } from '../../lib/tls/config.ts'
import type { EnvoyContext } from './context.ts'
import { consume, WHY } from './refusals.ts'
import { translateDownstreamTls, translateUpstreamTls } from './tls/contexts.ts'

const RAW_BUFFER = 'envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer'
const RAW_BUFFER_NAME = 'envoy.transport_sockets.raw_buffer'
const TLS = 'envoy.extensions.transport_sockets.tls.v3.'

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

/** The transport socket of a cluster: TLS, or plain TCP (undefined). */
export function translateUpstreamSocket(reader: FieldReader, context: EnvoyContext): UpstreamTlsConfig | undefined {
  const extension = openSocket(reader, `${TLS}UpstreamTlsContext`)
  const tls = extension && translateUpstreamTls(extension.fields, context)
  refuseMatches(reader, tls !== undefined)
  return tls
}

/** Choosing by endpoint is harmless only where there is nothing to choose. */
function refuseMatches(reader: FieldReader, tls: boolean): void {
  for (const match of reader.messages('transport_socket_matches')) {
    match.string('name')
    match.json('match')
    if (!tls) openSocket(match, '')
    else match.json('transport_socket')
  }
  if (tls && reader.has('transport_socket_matches')) {
    reader.error('transport_socket_matches', 'choosing a transport socket by endpoint is not available yet')
  }
}

/** The extension, where it is of the type that is wanted; undefined for plain TCP, and where it was refused. */
function openSocket(reader: FieldReader, wanted: string): ExtensionReader | undefined {
  const socket = reader.message('transport_socket')
  if (socket === undefined) return undefined
  const name = socket.string('name')
  const extension = socket.any('typed_config')
  const type = extension?.typeUrl ?? ''
  if (extension !== undefined && type === wanted) return extension
  if (extension !== undefined) consume(extension)
  if (type === RAW_BUFFER || (type === '' && name === RAW_BUFFER_NAME)) return undefined
  reader.error('transport_socket', `transport socket "${type || name}" cannot be used: ${whyNot(type, wanted)}`)
  return undefined
}

function whyNot(type: string, wanted: string): string {
  if (type.includes('.quic.')) return WHY.http3
  if (type.startsWith(TLS) && wanted === '') return 'choosing a transport socket by endpoint is not available yet'
  return type.startsWith(TLS) ? `it belongs to the other side, here it is ${wanted}` : 'it is not available'
}
