import type { DescField, Message } from '@bufbuild/protobuf'

/** The types of google/protobuf/wrappers.proto. */
export const WRAPPER = /^google\.protobuf\.(Double|Float|U?Int64|U?Int32|Bool|String|Bytes)Value$/

/** The value of a field as protobuf-es keeps it; undefined for a member of a oneof that is not the one set. */
export function fieldValue(message: Message, field: DescField): unknown {
  const members = message as unknown as { [name: string]: unknown }
  if (field.oneof === undefined) return members[field.localName]
  const oneof = members[field.oneof.localName] as { case: string | undefined; value?: unknown }
  return oneof.case === field.localName ? oneof.value : undefined
}

/**
 * A wrapper's bare value (`UInt32Value`, `BoolValue`, ...). Wrappers are kept bare in singular fields and as messages in
 * oneofs, lists and maps.
 */
export function unwrapped(value: unknown): unknown {
  if (typeof value !== 'object' || value === null || !('$typeName' in value)) return value
  return WRAPPER.test(String(value.$typeName)) ? (value as unknown as { value: unknown }).value : value
}
