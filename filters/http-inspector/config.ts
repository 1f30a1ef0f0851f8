import type { FieldReader } from '../../lib/core/field-reader.ts'

/** `HttpInspector` has no settings. */
export type HttpInspectorConfig = Readonly<Record<string, never>>

const NONE: HttpInspectorConfig = Object.freeze({})

/** `envoy.extensions.filters.listener.http_inspector.v3.HttpInspector` */
export function parseHttpInspector(fields: FieldReader): HttpInspectorConfig {
  fields.unread('refuse')
  return NONE
}
