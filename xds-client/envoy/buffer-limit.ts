import type { FieldReader } from '../../lib/core/field-reader.ts'

const STANDARD_BYTES = 1024 * 1024

/** The largest value of the field: what "no limit" means where there is always one. */
const MAX_BYTES = 0xffff_ffff

/** `per_connection_buffer_limit_bytes` of a listener or a cluster: 1 MiB unless set, no limit where it is 0. */
export function translateBufferLimit(reader: FieldReader): number {
  const limit = reader.number('per_connection_buffer_limit_bytes') ?? STANDARD_BYTES
  return limit === 0 ? MAX_BYTES : limit
}
