import type { FieldReader } from '../../lib/core/field-reader.ts'
import { consume, WHY } from './refusals.ts'

const RAW_BUFFER = 'envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer'
const RAW_BUFFER_NAME = 'envoy.transport_sockets.raw_buffer'

/** Accepts a `config.core.v3.TransportSocket` that is plain TCP, or its absence; refuses all others by name. */
export function requirePlainText(reader: FieldReader, field: string): void {
  const socket = reader.message(field)
  if (socket === undefined) return
  const name = socket.string('name')
  const extension = socket.any('typed_config')
  const type = extension?.typeUrl ?? ''
  if (extension !== undefined) consume(extension)
  if (type === RAW_BUFFER || (type === '' && name === RAW_BUFFER_NAME)) return
  reader.error(field, `transport socket "${type || name}" cannot be used: ${whyNot(type || name)}`)
}

function whyNot(type: string): string {
  if (type.includes('.quic.')) return WHY.http3
  return /\.(tls|starttls|alts|s2a)\b/.test(type) ? WHY.tls : 'it is not available'
}
