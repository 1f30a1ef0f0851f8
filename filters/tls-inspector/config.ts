import type { FieldReader } from '../../lib/core/field-reader.ts'

/** A parsed `TlsInspector`. Plain data. */
export interface TlsInspectorConfig {
  readonly ja3: boolean
  readonly ja4: boolean
  /** Of everything up to the end of the hello. */
  readonly maxHelloBytes: number
  /** What is no readable hello is closed, instead of being taken for plaintext. */
  readonly closeOnError: boolean
}

/** Envoy's default, and the most it allows. */
const MAX_HELLO_BYTES = 16_384
/** Envoy's least, of both sizes. */
const MIN_BYTES = 256
const MAX_INITIAL_BYTES = 65_536

/** `envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector` */
export function parseTlsInspector(fields: FieldReader): TlsInspectorConfig {
  fields.unread('refuse')
  // How much is asked of the kernel at first: here it is asked for what has come.
  size(fields, 'initial_read_buffer_size', MAX_INITIAL_BYTES)
  fields.ignore('initial_read_buffer_size')
  return {
    ja3: fields.bool('enable_ja3_fingerprinting'),
    ja4: fields.bool('enable_ja4_fingerprinting'),
    maxHelloBytes: size(fields, 'max_client_hello_size', MAX_HELLO_BYTES) ?? MAX_HELLO_BYTES,
    closeOnError: fields.bool('close_connection_on_client_hello_parsing_errors'),
  }
}

function size(fields: FieldReader, name: string, most: number): number | undefined {
  const value = fields.number(name)
  if (value === undefined) return undefined
  if (Number.isInteger(value) && value >= MIN_BYTES && value <= most) return value
  fields.error(name, `must be from ${MIN_BYTES} to ${most}, not ${value}`)
  return undefined
}
