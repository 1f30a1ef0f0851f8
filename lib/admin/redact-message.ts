import {
  create,
  type DescField,
  type DescMessage,
  fromJson,
  isFieldSet,
  type Message,
  ScalarType,
  toBinary,
  toJson,
} from '@bufbuild/protobuf'
import type { Json, JsonObject } from '../core/errors.ts'
import { type AnyMessage, unpackAny } from '../proto/any.ts'
import { MAX_DEPTH, typeNameOf } from '../proto/decode-json.ts'
import { encodeJson } from '../proto/encode-json.ts'
import { fieldValue } from '../proto/fields.ts'
import { redact } from './redact.ts'
import { isPlace, isSecretHeader, REDACTED } from './secret-names.ts'
import type { HeaderFields, SecretSchema } from './secret-schema.ts'

const STRUCT = 'google.protobuf.Struct'

type Members = { [name: string]: unknown }

/**
 * Takes the secrets out of a message in place, Anys and TypedStructs inside it included: texts and bytes become
 * `[redacted]`, other values go. An Any of a type that is not known stays as it is, unless it is a secret itself; one that
 * does not decode as its type, or that lies deeper than configuration can, loses its content. The message must be the
 * caller's own. Answers whether anything has changed.
 */
export function redactMessage(schema: SecretSchema, desc: DescMessage, message: Message): boolean {
  return new MessageRedactor(schema).message(desc, message, false)
}

class MessageRedactor {
  readonly #schema: SecretSchema
  #depth = 0

  constructor(schema: SecretSchema) {
    this.#schema = schema
  }

  /** `secret`: all of it is, but where it says where something is. */
  message(desc: DescMessage, message: Message, secret: boolean): boolean {
    const { kind } = this.#schema.registry.shape(desc)
    if (kind === 'any') return this.#any(message as AnyMessage, secret)
    if (kind === 'wrapper' && secret) return this.#field(message, desc.fields[0], true)
    if (kind !== 'plain') return false
    const header = this.#schema.headerOf(desc)
    if (header !== undefined && this.#hasCredentials(message, header)) return this.#header(desc, message, header)
    this.#depth++
    let changed = false
    if (secret) {
      for (const field of desc.fields) {
        if (!isPlace(field.name) && isFieldSet(message, field)) changed = this.#field(message, field, true) || changed
      }
    } else {
      for (const { field, secret: itself } of this.#schema.plan(desc)) {
        if (isFieldSet(message, field)) changed = this.#field(message, field, itself) || changed
      }
    }
    this.#depth--
    return changed
  }

  #hasCredentials(message: Message, { name }: HeaderFields): boolean {
    return isSecretHeader(String((message as unknown as Members)[name]))
  }

  #header(desc: DescMessage, message: Message, header: HeaderFields): boolean {
    let changed = false
    for (const field of desc.fields) {
      if (header.isValue(field) && isFieldSet(message, field)) changed = this.#field(message, field, true) || changed
    }
    return changed
  }

  #field(message: Message, field: DescField, secret: boolean): boolean {
    const value = fieldValue(message, field)
    if (field.fieldKind === 'list') {
      const list = value as unknown[]
      return this.#items(field, list, { secret, keys: list.keys() })
    }
    if (field.fieldKind === 'map') {
      const map = value as Members
      return this.#items(field, map, { secret, keys: Object.keys(map) })
    }
    const after = this.#value(field, value, secret)
    if (after === UNCHANGED) return false
    if (after !== CHANGED_INSIDE) setField(message, field, after)
    return true
  }

  #items(
    field: DescField,
    items: unknown[] | Members,
    { secret, keys }: { readonly secret: boolean; readonly keys: Iterable<string | number> },
  ): boolean {
    const all = items as { [key: string | number]: unknown }
    let changed = false
    for (const key of keys) {
      const after = this.#value(field, all[key], secret)
      if (after === UNCHANGED) continue
      changed = true
      if (after !== CHANGED_INSIDE) all[key] = after
    }
    return changed
  }

  /** What takes the value's place, or that it may stay, or that it was changed itself. */
  #value(field: DescField, value: unknown, secret: boolean): unknown {
    const desc = field.message
    if (desc === undefined) return secret ? withheld(field, value) : UNCHANGED
    if (desc.typeName === STRUCT) return secret ? {} : redactStruct(value as JsonObject)
    if (typeof value !== 'object' || value === null || !('$typeName' in value)) {
      // A wrapper, kept bare.
      return secret ? withheld(desc.fields[0], value) : UNCHANGED
    }
    return this.message(desc, value as Message, secret) ? CHANGED_INSIDE : UNCHANGED
  }

  #any(any: AnyMessage & { value: Uint8Array }, secret: boolean): boolean {
    if (any.typeUrl === '') return false
    const { registry } = this.#schema
    const content = unpackAny(registry, any)
    if (content.kind === 'broken' || this.#depth >= MAX_DEPTH || (secret && content.kind !== 'message')) {
      any.value = Buffer.from(REDACTED)
      registry.remember(any, { kind: 'opaque', typeName: content.typeName, bytes: any.value, empty: false })
      return true
    }
    if (content.kind === 'opaque') return false
    if (content.kind === 'json') {
      const value = redact(content.value)
      registry.remember(any, { ...content, value })
      any.value = this.#typedStruct(any, content.typeUrl, value)
      return true
    }
    let { desc, message } = content
    this.#depth++
    let changed = false
    if (desc.typeName === STRUCT) {
      // The configuration of something that has no schema.
      message = secret ? create(desc) : fromJson(desc, redact(toJson(desc, message) as JsonObject))
      registry.remember(any, { ...content, message })
      changed = true
    } else changed = this.message(desc, message, secret)
    this.#depth--
    if (!changed) return false
    any.value =
      content.suffix === ''
        ? toBinary(desc, message)
        : this.#typedStruct(any, content.typeUrl, encodeJson(registry, desc, message))
    return true
  }

  #typedStruct(any: AnyMessage, typeUrl: string, value: Json): Uint8Array {
    const desc = this.#schema.registry.expect(typeNameOf(any.typeUrl))
    return toBinary(desc, create(desc, { typeUrl, value }))
  }
}

/** `UNCHANGED` where it holds no secret. */
function redactStruct(value: JsonObject): JsonObject | typeof UNCHANGED {
  const clean = redact(value)
  return JSON.stringify(clean) === JSON.stringify(value) ? UNCHANGED : clean
}

const UNCHANGED: unique symbol = Symbol('unchanged')
const CHANGED_INSIDE: unique symbol = Symbol('changed inside')

function withheld(field: DescField, value: unknown): unknown {
  if (field.scalar === ScalarType.STRING) return REDACTED
  if (field.scalar === ScalarType.BYTES) return Buffer.from(REDACTED)
  if (typeof value === 'bigint') return 0n
  return typeof value === 'boolean' ? false : 0
}

function setField(message: Message, field: DescField, value: unknown): void {
  const members = message as unknown as Members
  if (field.oneof === undefined) members[field.localName] = value
  else (members[field.oneof.localName] as { value: unknown }).value = value
}
