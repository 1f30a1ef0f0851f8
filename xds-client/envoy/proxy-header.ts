import type { FieldReader } from '../../lib/core/field-reader.ts'
import { parseFormat } from '../../lib/telemetry/parse.ts'
import type { AddedTlvConfig, ProxyProtocolLayerConfig } from '../../lib/upstream/config.ts'

/** `config.core.v3.ProxyProtocolConfig`: the header in front of what we send; version 1 where it is not set. */
export function translateProxyHeader(reader: FieldReader | undefined): ProxyProtocolLayerConfig {
  if (reader === undefined) return { kind: 'proxy-protocol', version: 1, passTlvs: 'none', addedTlvs: [] }
  reader.unread('refuse')
  const version = reader.enumName('version') === 'V2' ? 2 : 1
  // Version 1 has no room for them.
  if (version === 1) reader.ignore('pass_through_tlvs', 'added_tlvs')
  const pass = version === 2 ? reader.message('pass_through_tlvs') : undefined
  const types = pass?.numbers('tlv_type') ?? []
  const all = pass?.enumName('match_type') === 'INCLUDE_ALL'
  return {
    kind: 'proxy-protocol',
    version,
    passTlvs: pass === undefined ? 'none' : all ? 'all' : types,
    addedTlvs: version === 2 ? translateTlvs(reader) : [],
  }
}

/** `added_tlvs` of a ProxyProtocolConfig or a PerHostConfig. */
export function translateTlvs(reader: FieldReader): AddedTlvConfig[] {
  return reader.messages('added_tlvs').map((entry) => {
    const format = parseFormat(entry.message('format_string'))
    const value = entry.bytes('value') ?? Buffer.alloc(0)
    if (format !== undefined && value.length > 0) entry.error('value', 'value and format_string exclude each other')
    if (value.length > 0xff00) entry.error('value', `is ${value.length} bytes long, a header has room for ${0xff00}`)
    return { type: entry.number('type') ?? 0, value: value.toString('base64'), ...(format && { format }) }
  })
}
