import { type DescField, type DescMessage, ScalarType } from '@bufbuild/protobuf'
import { WRAPPER } from './fields.ts'

/** Which getter of a `FieldReader` a field belongs to. */
export type Getter = 'string' | 'bool' | 'number' | 'bytes' | 'enum' | 'duration' | 'message' | 'any' | 'scalar'

export type Arity = 'singular' | 'list' | 'map'

/** What reading asks of a field again and again, looked up once. */
export interface Slot {
  readonly field: DescField
  /** Among the fields of its message, in the order of the schema. */
  readonly index: number
  readonly name: string
  /** The property of protobuf-es. */
  readonly local: string
  /** The property of the oneof that it belongs to. */
  readonly oneof: string | undefined
  readonly arity: Arity
  readonly getter: Getter
  /** Of a singular field without presence: its value where it is not set. Undefined: presence is a property of its own. */
  readonly zero: unknown
  readonly explicit: boolean
}

/** The slots of a message type, in the order of the schema. */
export function slotsOf(desc: DescMessage): readonly Slot[] {
  return desc.fields.map((field, index) => ({
    field,
    index,
    name: field.name,
    local: field.localName,
    oneof: field.oneof?.localName,
    arity: field.fieldKind === 'list' || field.fieldKind === 'map' ? field.fieldKind : 'singular',
    getter: getterOf(field),
    zero: zeroOf(field),
    explicit: hasPresence(field),
  }))
}

/** True where a field is set: explicit presence, a scalar that is not zero, a list or map that is not empty. */
export function isSlotSet(message: object, slot: Slot): boolean {
  const members = message as { readonly [name: string]: unknown }
  if (slot.oneof !== undefined) return (members[slot.oneof] as { case: string | undefined }).case === slot.local
  const value = members[slot.local]
  if (slot.explicit) return value !== undefined && Object.hasOwn(message, slot.local)
  if (slot.arity === 'list') return (value as unknown[]).length > 0
  if (slot.arity === 'map') {
    for (const _ in value as object) return true
    return false
  }
  return slot.getter === 'bytes' ? (value as Uint8Array).length > 0 : value !== slot.zero
}

/** The value of a field as protobuf-es keeps it; undefined for a member of a oneof that is not the one set. */
export function slotValue(message: object, slot: Slot): unknown {
  const members = message as { readonly [name: string]: unknown }
  if (slot.oneof === undefined) return members[slot.local]
  const oneof = members[slot.oneof] as { case: string | undefined; value?: unknown }
  return oneof.case === slot.local ? oneof.value : undefined
}

/** `google.protobuf.FeatureSet.FieldPresence.IMPLICIT` */
const IMPLICIT = 2

function hasPresence(field: DescField): boolean {
  return field.oneof !== undefined || field.presence !== IMPLICIT
}

function zeroOf(field: DescField): unknown {
  if (field.fieldKind === 'enum') return field.enum.values[0].number
  if (field.fieldKind !== 'scalar') return undefined
  switch (field.scalar) {
    case ScalarType.STRING:
      return ''
    case ScalarType.BOOL:
      return false
    case ScalarType.INT64:
    case ScalarType.UINT64:
    case ScalarType.SINT64:
    case ScalarType.FIXED64:
    case ScalarType.SFIXED64:
      return 0n
    default:
      return 0
  }
}

function getterOf(field: DescField): Getter {
  if (field.enum !== undefined) return 'enum'
  const desc = field.message
  if (desc === undefined) return getterOfScalar(field.scalar)
  if (desc.typeName === 'google.protobuf.Any') return 'any'
  if (desc.typeName === 'google.protobuf.Duration') return 'duration'
  return WRAPPER.test(desc.typeName) ? getterOfScalar(desc.fields[0].scalar) : 'message'
}

function getterOfScalar(type: ScalarType | undefined): Getter {
  if (type === ScalarType.STRING) return 'string'
  if (type === ScalarType.BOOL) return 'bool'
  return type === ScalarType.BYTES ? 'bytes' : 'number'
}
