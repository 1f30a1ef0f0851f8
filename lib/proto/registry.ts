import { readFileSync } from 'node:fs'
import {
  createFileRegistry,
  type DescField,
  type DescMessage,
  type DescOneof,
  type FileRegistry,
  fromBinary,
  type Message,
} from '@bufbuild/protobuf'
import { FileDescriptorSetSchema } from '@bufbuild/protobuf/wkt'
import type { Unpacked } from './any.ts'
import { WRAPPER } from './fields.ts'
import { type Slot, slotsOf } from './slots.ts'

/** How a message is written in ProtoJSON: as an object of its fields, or in a form of its own. */
export type MessageKind =
  | 'plain'
  | 'any'
  | 'duration'
  | 'timestamp'
  | 'field-mask'
  | 'struct'
  | 'value'
  | 'list-value'
  | 'wrapper'

/** What readers ask of a message type again and again, looked up once. */
export interface MessageShape {
  readonly desc: DescMessage
  readonly kind: MessageKind
  /** By protobuf name (`connect_timeout`) and by JSON name (`connectTimeout`). */
  readonly bySpelling: ReadonlyMap<string, DescField>
  /** By protobuf name alone. */
  readonly byName: ReadonlyMap<string, DescField>
  readonly oneofs: ReadonlyMap<string, DescOneof>
  readonly slots: readonly Slot[]
  readonly slotByName: ReadonlyMap<string, Slot>
}

/**
 * All known message types, and what was learned about them. Everything that decodes, checks or reads configuration
 * shares one; it is never changed by what is read, apart from its caches.
 */
export class ProtoRegistry {
  /** For functions of @bufbuild/protobuf that want a registry. */
  readonly files: FileRegistry
  readonly #shapes = new Map<DescMessage, MessageShape>()
  /** What was found in an Any is kept in the Any: a map by object costs more than all that is saved. */
  readonly #unpacked = Symbol('unpacked')

  constructor(files: FileRegistry) {
    this.files = files
  }

  /** The message type of that full name (no leading URL), or undefined where it is unknown. */
  message(typeName: string): DescMessage | undefined {
    return this.files.getMessage(typeName)
  }

  /** The same for names written in our own code. @throws Error where it is unknown: a bug, or a wrong artefact. */
  expect(typeName: string): DescMessage {
    const desc = this.files.getMessage(typeName)
    if (desc === undefined) throw new Error(`no message type ${typeName} in the descriptor set`)
    return desc
  }

  shape(desc: DescMessage): MessageShape {
    let shape = this.#shapes.get(desc)
    if (shape === undefined) this.#shapes.set(desc, (shape = describe(desc)))
    return shape
  }

  /** What `unpackAny` found in this very Any object before; Anys are never changed after they were decoded. */
  unpacked(any: Message): Unpacked | undefined {
    return (any as { readonly [key: symbol]: Unpacked | undefined })[this.#unpacked]
  }

  remember(any: Message, content: Unpacked): Unpacked {
    ;(any as { [key: symbol]: Unpacked | undefined })[this.#unpacked] = content
    return content
  }
}

/**
 * Reads the checked-in descriptor set of Envoy's API and builds the registry: about 80 ms and 50 MB, so one per process
 * is enough and it is made where it is first needed.
 */
export function createProtoRegistry(): ProtoRegistry {
  const bytes = readFileSync(new URL('./generated/envoy.binpb', import.meta.url))
  return new ProtoRegistry(createFileRegistry(fromBinary(FileDescriptorSetSchema, bytes)))
}

function describe(desc: DescMessage): MessageShape {
  const byName = new Map<string, DescField>()
  const bySpelling = new Map<string, DescField>()
  for (const field of desc.fields) {
    byName.set(field.name, field)
    bySpelling.set(field.jsonName, field)
  }
  // Protobuf names win, should one field's JSON name be another's name.
  for (const field of desc.fields) bySpelling.set(field.name, field)
  const oneofs = new Map(desc.oneofs.map((oneof) => [oneof.name, oneof]))
  const slots = slotsOf(desc)
  const slotByName = new Map(slots.map((slot) => [slot.name, slot]))
  return { desc, kind: kindOf(desc), bySpelling, byName, oneofs, slots, slotByName }
}

function kindOf(desc: DescMessage): MessageKind {
  switch (desc.typeName) {
    case 'google.protobuf.Any':
      return 'any'
    case 'google.protobuf.Duration':
      return 'duration'
    case 'google.protobuf.Timestamp':
      return 'timestamp'
    case 'google.protobuf.FieldMask':
      return 'field-mask'
    case 'google.protobuf.Struct':
      return 'struct'
    case 'google.protobuf.Value':
      return 'value'
    case 'google.protobuf.ListValue':
      return 'list-value'
    default:
      return WRAPPER.test(desc.typeName) ? 'wrapper' : 'plain'
  }
}
