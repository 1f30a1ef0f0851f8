import type { DescField, DescMessage } from '@bufbuild/protobuf'
import { ScalarType } from '@bufbuild/protobuf'
import type { Json, JsonObject } from '../core/errors.ts'
import { isTypedStruct, MAX_DEPTH, typeNameOf } from '../proto/decode-json.ts'
import { redact } from './redact.ts'
import { isPlace, isSecretHeader, REDACTED, REDACTED_BYTES } from './secret-names.ts'
import type { SecretSchema } from './secret-schema.ts'

/**
 * A copy of a message that its author wrote as JSON or YAML, with protobuf names (`snake_case`) whatever its spelling and
 * without secrets. What has no schema here is kept, by the rules of `redact`.
 */
export function redactDocument(schema: SecretSchema, desc: DescMessage, value: Json): Json {
  return new DocumentRedactor(schema).message(desc, value, false)
}

class DocumentRedactor {
  readonly #schema: SecretSchema
  #depth = 0

  constructor(schema: SecretSchema) {
    this.#schema = schema
  }

  message(desc: DescMessage, value: Json, secret: boolean): Json {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      return secret && typeof value === 'string' ? REDACTED : value
    }
    if (this.#depth >= MAX_DEPTH) return null
    this.#depth++
    const shape = this.#schema.registry.shape(desc)
    let out: Json = value
    if (shape.kind === 'any') out = this.#any(value, secret)
    else if (shape.kind === 'plain') out = this.#fields(desc, value, secret)
    else if (secret) out = {}
    else if (shape.kind === 'struct') out = redact(value)
    this.#depth--
    return out
  }

  #fields(desc: DescMessage, value: JsonObject, secret: boolean): JsonObject {
    const { bySpelling } = this.#schema.registry.shape(desc)
    const header = this.#schema.headerOf(desc)
    const credentials = header !== undefined && isSecretHeader(String(value[header.name] ?? ''))
    const out: [string, Json][] = []
    for (const [key, item] of Object.entries(value)) {
      const field = bySpelling.get(key)
      if (field === undefined) out.push([key, secret ? REDACTED : redact({ [key]: item })[key]])
      else if (item !== null) {
        const hidden = (secret && !isPlace(field.name)) || (credentials && header.isValue(field))
        out.push([field.name, this.#field(field, item, hidden || this.#schema.isSecret(field))])
      }
    }
    return Object.fromEntries(out)
  }

  #field(field: DescField, value: Json, secret: boolean): Json {
    if (field.fieldKind === 'list' && Array.isArray(value))
      return value.map((item) => this.#single(field, item, secret))
    if (field.fieldKind !== 'map' || typeof value !== 'object' || value === null || Array.isArray(value)) {
      return this.#single(field, value, secret)
    }
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, this.#single(field, item, secret)]))
  }

  #single(field: DescField, value: Json, secret: boolean): Json {
    if (field.message !== undefined) return this.message(field.message, value, secret)
    if (!secret) return value
    if (field.enum !== undefined) return field.enum.values[0].name
    if (typeof value === 'boolean') return false
    if (typeof value === 'number') return 0
    return field.scalar === ScalarType.BYTES ? REDACTED_BYTES : REDACTED
  }

  #any(value: JsonObject, secret: boolean): JsonObject {
    const { '@type': typeUrl, ...content } = value
    if (typeof typeUrl !== 'string') return secret ? {} : redact(value)
    const typeName = typeNameOf(typeUrl)
    const desc = this.#schema.registry.message(typeName)
    if (desc === undefined) return { '@type': typeUrl, ...(secret ? {} : redact(content)) }
    if (isTypedStruct(typeName)) return { '@type': typeUrl, ...this.#typedStruct(content, secret) }
    const { kind } = this.#schema.registry.shape(desc)
    if (kind === 'plain') return { '@type': typeUrl, ...(this.message(desc, content, secret) as JsonObject) }
    if (secret) return kind === 'struct' ? { '@type': typeUrl, value: {} } : { '@type': typeUrl }
    return { '@type': typeUrl, ...redact(content) }
  }

  #typedStruct(content: JsonObject, secret: boolean): JsonObject {
    const typeUrl = content.type_url ?? content.typeUrl
    const { value } = content
    if (secret || typeof typeUrl !== 'string') return secret ? {} : redact(content)
    const desc = this.#schema.registry.message(typeNameOf(typeUrl))
    if (desc !== undefined && value !== undefined) return { type_url: typeUrl, value: this.message(desc, value, false) }
    const clean = redact({ value: value ?? {} })
    return { type_url: typeUrl, value: clean.value }
  }
}
