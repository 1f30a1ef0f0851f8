import type { ExtensionReader, FieldReader } from '../../lib/core/field-reader.ts'

/** The wording of refusals that many messages share. */
export const WHY = {
  certificateProviders: 'certificate providers are not available',
  http3: 'HTTP/3 and QUIC are not available',
  udp: 'UDP and QUIC listeners are not available',
} as const

/** Refuses a boolean (or BoolValue) that is true; false, the default, is fine. */
export function refuseTrue(reader: FieldReader, name: string, why: string): void {
  if (reader.bool(name)) reader.error(name, why)
}

/** An API version that is no longer spoken; AUTO is taken for the only one that is. */
export function refuseV2(reader: FieldReader, field: string): void {
  if (reader.enumName(field) === 'V2') reader.error(field, 'V2 is not available: resources and servers are those of V3')
}

/** Refuses an extension whose type has been looked at: one error at its field, none for what is inside. */
export function refuseExtension(reader: FieldReader, name: string, extension: ExtensionReader, why: string): void {
  consume(extension)
  reader.error(name, why)
}

/** Marks everything in an extension as read. */
export function consume(extension: ExtensionReader): void {
  extension.fields.toJson()
}

/**
 * The extension inside a `TypedExtensionConfig` or any message of that shape (`name`, `typed_config`), or undefined where
 * it is missing, which its validation rules report.
 */
export function typedExtension(reader: FieldReader | undefined): ExtensionReader | undefined {
  if (reader === undefined) return undefined
  reader.string('name')
  return reader.any('typed_config')
}
