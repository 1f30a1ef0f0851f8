import type { FieldReader } from '../../lib/core/field-reader.ts'

/** A parsed `Buffer`. */
export interface BufferConfig {
  readonly maxRequestBytes: number
}

/** A parsed `BufferPerRoute`: off, or another limit. */
export interface BufferRouteConfig {
  readonly disabled: boolean
  readonly buffer?: BufferConfig
}

/** `envoy.extensions.filters.http.buffer.v3.Buffer` */
export function parseBuffer(fields: FieldReader): BufferConfig {
  fields.unread('refuse')
  const maxRequestBytes = fields.number('max_request_bytes')
  if (maxRequestBytes === undefined) fields.error('max_request_bytes', 'is required')
  else if (!Number.isInteger(maxRequestBytes) || maxRequestBytes <= 0 || maxRequestBytes > MAX_UINT32) {
    fields.error('max_request_bytes', `must be a whole number of bytes from 1 to ${MAX_UINT32}, got ${maxRequestBytes}`)
  }
  return { maxRequestBytes: maxRequestBytes ?? 0 }
}

/** `envoy.extensions.filters.http.buffer.v3.BufferPerRoute` */
export function parseBufferPerRoute(fields: FieldReader): BufferRouteConfig {
  fields.unread('refuse')
  const disabled = fields.bool('disabled')
  const buffer = fields.message('buffer')
  if (fields.has('disabled') && !disabled) fields.error('disabled', 'must be true where it is set')
  if (disabled && buffer !== undefined) fields.error(undefined, 'disabled and buffer exclude each other')
  if (!fields.has('disabled') && buffer === undefined) fields.error(undefined, 'one of disabled and buffer is required')
  return buffer === undefined ? { disabled } : { disabled, buffer: parseBuffer(buffer) }
}

/** The most specific level replaces the filter's own limit, or switches the filter off. */
export function mergeBuffer(base: BufferConfig, levels: readonly BufferRouteConfig[]): BufferConfig | undefined {
  const route = levels.at(-1)
  if (route === undefined) return base
  return route.disabled ? undefined : route.buffer
}

const MAX_UINT32 = 0xffff_ffff
