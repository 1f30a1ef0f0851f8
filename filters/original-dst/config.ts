import type { FieldReader } from '../../lib/core/field-reader.ts'

/** `OriginalDst` has no settings. */
export type OriginalDstConfig = Readonly<Record<string, never>>

const NONE: OriginalDstConfig = Object.freeze({})

/** `envoy.extensions.filters.listener.original_dst.v3.OriginalDst` */
export function parseOriginalDst(fields: FieldReader): OriginalDstConfig {
  fields.unread('refuse')
  return NONE
}
