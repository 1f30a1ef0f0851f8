import { type DescField, type DescMessage, isFieldSet, type Message, ScalarType, toJson } from '@bufbuild/protobuf'
import type { Json, JsonObject } from '../core/errors.ts'
import { type AnyMessage, unpackAny } from './any.ts'
import { MAX_DEPTH } from './decode-json.ts'
import { setKey } from './describe.ts'
import { fieldValue } from './fields.ts'
import type { ProtoRegistry } from './registry.ts'

/**
 * A message as proto-JSON with protobuf names (`snake_case`, as Envoy's admin prints them). Never throws: an Any whose
 * type is unknown or whose bytes do not decode keeps its bytes, as `{"@type", "value": base64}`; what is nested deeper
 * than configuration can be is cut off as null. TypedStructs stay what they are.
 */
export function encodeJson(registry: ProtoRegistry, desc: DescMessage, message: Message): Json {
  return new Encoder(registry).message(desc, message)
}

/** One set field of a message, as `encodeJson` writes it. */
export function encodeField(registry: ProtoRegistry, message: Message, field: DescField): Json {
  return new Encoder(registry).field(field, fieldValue(message, field))
}

class Encoder {
  readonly #registry: ProtoRegistry
  #depth = 0

  constructor(registry: ProtoRegistry) {
    this.#registry = registry
  }

  message(desc: DescMessage, message: Message): Json {
    if (this.#depth >= MAX_DEPTH) return null
    this.#depth++
    const json = this.#byKind(desc, message)
    this.#depth--
    return json
  }

  #byKind(desc: DescMessage, message: Message): Json {
    switch (this.#registry.shape(desc).kind) {
      case 'plain':
        return this.#plain(desc, message)
      case 'any':
        return this.#any(message as AnyMessage)
      case 'wrapper':
        return this.#scalar(desc.fields[0].scalar, (message as Message & { value: unknown }).value)
      default:
        return wellKnown(desc, message)
    }
  }

  #plain(desc: DescMessage, message: Message): JsonObject {
    const json: JsonObject = {}
    for (const field of desc.fields) {
      if (isFieldSet(message, field)) json[field.name] = this.field(field, fieldValue(message, field))
    }
    return json
  }

  #any(any: AnyMessage): JsonObject {
    if (any.typeUrl === '') return {}
    const content = unpackAny(this.#registry, any)
    if (content.kind === 'json' && content.suffix === '') return { '@type': content.typeUrl, ...content.value }
    if (content.kind === 'message' && content.suffix === '') {
      const inner = this.message(content.desc, content.message)
      const plain = this.#registry.shape(content.desc).kind === 'plain'
      return plain ? { '@type': any.typeUrl, ...(inner as JsonObject) } : { '@type': any.typeUrl, value: inner }
    }
    if (content.kind === 'message')
      return this.#typedStruct(any, content.typeUrl, this.message(content.desc, content.message))
    if (content.kind === 'json') return this.#typedStruct(any, content.typeUrl, content.value)
    return { '@type': any.typeUrl, value: Buffer.from(any.value).toString('base64') }
  }

  #typedStruct(any: AnyMessage, typeUrl: string, value: Json): JsonObject {
    return { '@type': any.typeUrl, type_url: typeUrl, value }
  }

  /** `value` as protobuf-es keeps it in that field. */
  field(field: DescField, value: unknown): Json {
    switch (field.fieldKind) {
      case 'list':
        return (value as unknown[]).map((item) => this.#single(field, item))
      case 'map': {
        const json: JsonObject = {}
        for (const [key, item] of Object.entries(value as object)) setKey(json, key, this.#single(field, item))
        return json
      }
      default:
        return this.#single(field, value)
    }
  }

  #single(field: DescField, value: unknown): Json {
    const desc = field.message
    if (desc !== undefined) {
      if (desc.typeName === 'google.protobuf.Struct' && field.parent.typeName !== 'google.protobuf.Value') {
        return (value ?? {}) as JsonObject
      }
      const bare = this.#registry.shape(desc).kind === 'wrapper' && field.fieldKind === 'message' && !field.oneof
      return bare ? this.#scalar(desc.fields[0].scalar, value) : this.message(desc, value as Message)
    }
    if (field.enum !== undefined) {
      if (field.enum.typeName === 'google.protobuf.NullValue') return null
      return field.enum.value[value as number]?.name ?? (value as number)
    }
    return this.#scalar(field.scalar, value)
  }

  #scalar(type: ScalarType | undefined, value: unknown): Json {
    if (typeof value === 'bigint') return value.toString()
    if (type === ScalarType.BYTES) return Buffer.from(value as Uint8Array).toString('base64')
    if (typeof value === 'number' && !Number.isFinite(value)) return String(value)
    return value as Json
  }
}

/** Durations, times, masks and values that came from bytes may be out of the range that JSON can say. */
function wellKnown(desc: DescMessage, message: Message): Json {
  try {
    return toJson(desc, message) as Json
  } catch {
    return null
  }
}
