import type { FieldReader } from '../../lib/core/field-reader.ts'
import type { FormatConfig } from '../../lib/telemetry/config.ts'
import { parseFormat } from '../../lib/telemetry/parse.ts'

export interface FilterStateValueConfig {
  readonly key: string
  readonly format: FormatConfig
  /** Connections within the gateway that are made on behalf of this one get it too. */
  readonly shared: boolean
  readonly skipIfEmpty: boolean
}

export interface SetFilterStateConfig {
  /** When filters see the connection: its TLS handshake is over then. */
  readonly onConnect: readonly FilterStateValueConfig[]
  readonly onData: readonly FilterStateValueConfig[]
}

/** `envoy.extensions.filters.network.set_filter_state.v3.Config` */
export function parseSetFilterState(fields: FieldReader): SetFilterStateConfig {
  fields.unread('refuse')
  return {
    onConnect: [...parseValues(fields, 'on_new_connection'), ...parseValues(fields, 'on_downstream_tls_handshake')],
    onData: parseValues(fields, 'on_downstream_data'),
  }
}

function parseValues(fields: FieldReader, name: string): FilterStateValueConfig[] {
  return fields.messages(name).map((reader) => {
    const key = reader.string('object_key')
    if (key === '') reader.error('object_key', 'must not be empty')
    // Objects are texts here, whatever type of Envoy's the factory would make.
    reader.ignore('factory_key', 'read_only')
    const format = parseFormat(reader.message('format_string'))
    if (format === undefined) reader.error('format_string', 'is required')
    const shared = reader.enumName('shared_with_upstream')
    return {
      key,
      format: format ?? { kind: 'text', text: '' },
      shared: shared === 'ONCE' || shared === 'TRANSITIVE',
      skipIfEmpty: reader.bool('skip_if_empty'),
    }
  })
}
