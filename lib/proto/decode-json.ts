import { create, type DescField, type DescMessage, type Message, ScalarType, toBinary } from '@bufbuild/protobuf'
import { ConfigError, type JsonObject } from '../core/errors.ts'
import type { Unpacked } from './any.ts'
import { decodeDuration, decodeEnum, decodeFieldMask, decodeScalar, decodeTimestamp, Wrong } from './decode-scalar.ts'
import { describe, isObject, setKey, withoutSecret } from './describe.ts'
import { fieldPath, indexPath, keyPath, namePath } from './path.ts'
import type { MessageShape, ProtoRegistry } from './registry.ts'
import { didYouMean } from './suggest.ts'

/** What `decodeJson` made of a document. */
export interface Decoded {
  /**
   * Undefined where the document is not an object. With errors it is what remains when the mistaken fields are left
   * out: good for finding more mistakes, never for use.
   */
  readonly message?: Message
  readonly errors: ConfigError[]
}

/** Messages, lists of values and Anys inside one another; a configuration that means something has about 25. */
export const MAX_DEPTH = 64

/** JSON names under which `google.protobuf.Any` names its type. */
const TYPE = '@type'
const XDS_TYPED_STRUCT = 'xds.type.v3.TypedStruct'
const UDPA_TYPED_STRUCT = 'udpa.type.v1.TypedStruct'

/** True for the two messages that carry a message of any type as JSON. */
export function isTypedStruct(typeName: string): boolean {
  return typeName === XDS_TYPED_STRUCT || typeName === UDPA_TYPED_STRUCT
}

/** The message name in a type URL: what follows the last slash. */
export function typeNameOf(typeUrl: string): string {
  return typeUrl.slice(typeUrl.lastIndexOf('/') + 1)
}

/**
 * Reads a message from JSON, strictly by its schema, and finds every mistake in one pass. Field names may be written in
 * snake_case or camelCase; error paths use the author's spelling. An Any of an unknown type becomes an
 * `xds.type.v3.TypedStruct`, so that the translator can decide what a stranger's type means.
 *
 * Never throws for anything that JSON can hold; `path` is where `json` stands in its document.
 */
export function decodeJson(registry: ProtoRegistry, desc: DescMessage, json: unknown, path: string): Decoded {
  const decoder = new Decoder(registry)
  const message = decoder.message(desc, json, path)
  return { message, errors: decoder.errors }
}

class Decoder {
  readonly errors: ConfigError[] = []
  readonly #registry: ProtoRegistry
  #depth = 0

  constructor(registry: ProtoRegistry) {
    this.#registry = registry
  }

  message(desc: DescMessage, json: unknown, path: string): Message | undefined {
    if (this.#depth >= MAX_DEPTH) return this.#wrong(path, `is nested too deeply: more than ${MAX_DEPTH} levels`)
    this.#depth++
    const message = this.#byKind(this.#registry.shape(desc), json, path)
    this.#depth--
    return message
  }

  #wrong(path: string, message: string): undefined {
    this.errors.push(new ConfigError(path, withoutSecret(path, message)))
    return undefined
  }

  #byKind(shape: MessageShape, json: unknown, path: string): Message | undefined {
    switch (shape.kind) {
      case 'plain':
        return this.#plain(shape, json, path, false)
      case 'any':
        return this.#any(shape.desc, json, path)
      case 'duration':
        return this.#whole(shape.desc, decodeDuration(json), path)
      case 'timestamp':
        return this.#whole(shape.desc, decodeTimestamp(json), path)
      case 'field-mask': {
        const paths = decodeFieldMask(json)
        return this.#whole(shape.desc, paths instanceof Wrong ? paths : { paths }, path)
      }
      case 'wrapper': {
        const value = decodeScalar(shape.desc.fields[0].scalar ?? ScalarType.STRING, json)
        return this.#whole(shape.desc, value instanceof Wrong ? value : { value }, path)
      }
      case 'struct':
        return this.#struct(shape.desc, json, path)
      case 'value':
        return this.#value(shape.desc, json, path)
      case 'list-value':
        return this.#listValue(shape.desc, json, path)
    }
  }

  #whole(desc: DescMessage, content: object | Wrong, path: string): Message | undefined {
    if (content instanceof Wrong) return this.#wrong(path, content.message)
    return Object.assign(create(desc), content)
  }

  #plain(shape: MessageShape, json: unknown, path: string, inAny: boolean): Message | undefined {
    if (!isObject(json)) return this.#wrong(path, `expected an object, got ${describe(json)}`)
    const message = create(shape.desc)
    const members = message as unknown as { [name: string]: unknown }
    for (const key of Object.keys(json)) {
      const field = shape.bySpelling.get(key)
      if (field === undefined) {
        if (!(inAny && key === TYPE)) this.#unknownField(shape, key, path)
        continue
      }
      const at = fieldPath(path, key)
      if (key !== field.name && Object.hasOwn(json, field.name)) {
        this.#wrong(at, `is set twice: "${key}" and "${field.name}" are one field`)
        continue
      }
      this.#field(members, field, json[key], at)
    }
    return message
  }

  #unknownField(shape: MessageShape, key: string, path: string): void {
    const hint = didYouMean(key, shape.byName.keys())
    this.#wrong(namePath(path, key), `unknown field of ${shape.desc.typeName}${hint}`)
  }

  #field(members: { [name: string]: unknown }, field: DescField, json: unknown, path: string): void {
    // ProtoJSON: null is the same as absent, but for the two types that have a null of their own.
    if (json === null && !holdsNull(field)) return
    switch (field.fieldKind) {
      case 'list':
        this.#list(members[field.localName] as unknown[], field, json, path)
        return
      case 'map':
        this.#map(members[field.localName] as { [key: string]: unknown }, field, json, path)
        return
    }
    const oneof = field.oneof
    if (oneof !== undefined) {
      const set = (members[oneof.localName] as { case: string | undefined }).case
      if (set !== undefined) {
        const other = oneof.fields.find((member) => member.localName === set)?.name
        this.#wrong(path, `only one of "${other}" and "${field.name}" may be set`)
        return
      }
    }
    const value = this.#single(field, json, path)
    if (oneof !== undefined) {
      // Set even where the value is wrong: which member it is meant to be is known, and two members are a second error.
      members[oneof.localName] = { case: field.localName, value: value ?? emptyOf(field) }
    } else if (value !== undefined) {
      members[field.localName] = value
    }
  }

  /** A value in the form that protobuf-es keeps in a field of that kind, or undefined after an error. */
  #single(field: DescField, json: unknown, path: string): unknown {
    if (field.message !== undefined) return this.#singleMessage(field, field.message, json, path)
    const value =
      field.enum !== undefined ? decodeEnum(field.enum, json) : decodeScalar(field.scalar ?? ScalarType.STRING, json)
    return value instanceof Wrong ? this.#wrong(path, value.message) : value
  }

  /** protobuf-es keeps Structs as plain JSON in every field, and wrappers bare but in a oneof, list or map. */
  #singleMessage(field: DescField, desc: DescMessage, json: unknown, path: string): unknown {
    const errorsBefore = this.errors.length
    const message = this.message(desc, json, path)
    if (message === undefined) return undefined
    const kind = this.#registry.shape(desc).kind
    // A Struct with a mistake in it is left out whole: it may be too deep for whoever walks it next.
    if (kind === 'struct') return this.errors.length === errorsBefore ? json : undefined
    const bare = kind === 'wrapper' && field.fieldKind === 'message' && field.oneof === undefined
    return bare ? (message as Message & { value: unknown }).value : message
  }

  #list(list: unknown[], field: DescField, json: unknown, path: string): void {
    if (!Array.isArray(json)) {
      // One message stands for a list of one, as in Envoy: bootstraps of Consul say `grpc_services: {…}`.
      const one = isObject(json) && this.#isPlain(field) ? this.#single(field, json, path) : undefined
      if (one !== undefined) list.push(one)
      else if (!isObject(json) || !this.#isPlain(field)) this.#wrong(path, `expected a list, got ${describe(json)}`)
      return
    }
    for (let i = 0; i < json.length; i++) {
      const at = indexPath(path, i)
      if (json[i] === null && !holdsNull(field)) {
        this.#wrong(at, 'must not be null')
        continue
      }
      const value = this.#single(field, json[i], at)
      if (value !== undefined) list.push(value)
    }
  }

  #isPlain({ message }: DescField): boolean {
    return message !== undefined && this.#registry.shape(message).kind === 'plain'
  }

  #map(map: { [key: string]: unknown }, field: DescField, json: unknown, path: string): void {
    if (!isObject(json)) {
      this.#wrong(path, `expected an object, got ${describe(json)}`)
      return
    }
    for (const key of Object.keys(json)) {
      const at = keyPath(path, key)
      const wrongKey = field.fieldKind === 'map' ? checkMapKey(field.mapKey, key) : undefined
      if (wrongKey !== undefined) this.#wrong(at, wrongKey)
      else if (json[key] === null && !holdsNull(field)) this.#wrong(at, 'must not be null')
      else {
        const value = this.#single(field, json[key], at)
        if (value !== undefined) setKey(map, key, value)
      }
    }
  }

  #any(desc: DescMessage, json: unknown, path: string): Message | undefined {
    if (!isObject(json)) return this.#wrong(path, `expected an object with "${TYPE}", got ${describe(json)}`)
    const typeUrl = json[TYPE]
    if (typeUrl === undefined) {
      if (Object.keys(json).length === 0) return create(desc)
      return this.#wrong(path, `"${TYPE}" is missing`)
    }
    if (typeof typeUrl !== 'string' || !/^[!-~]+\/[!-.0-~]+$/.test(typeUrl)) {
      const wanted = '"type.googleapis.com/" and the name of a message'
      return this.#wrong(fieldPath(path, TYPE), `expected ${wanted}, got ${describe(typeUrl)}`)
    }
    const inner = this.#registry.message(typeNameOf(typeUrl))
    if (inner === undefined) return this.#strangerAny(desc, typeUrl, json, path)
    const shape = this.#registry.shape(inner)
    const message = shape.kind === 'plain' ? this.#plain(shape, json, path, true) : this.#anyOfValue(inner, json, path)
    if (message === undefined) return undefined
    const value = toBinary(inner, message)
    const any = Object.assign(create(desc), { typeUrl, value })
    this.#registry.remember(any, this.#content(inner, message, json, path, value.length === 0))
    return any
  }

  /** Types with a JSON form of their own stand in an Any under the key `value`. */
  #anyOfValue(inner: DescMessage, json: { [key: string]: unknown }, path: string): Message | undefined {
    for (const key of Object.keys(json)) {
      if (key !== TYPE && key !== 'value') this.#wrong(namePath(path, key), `unknown field of ${inner.typeName}`)
    }
    if (!Object.hasOwn(json, 'value')) return this.#wrong(path, `"value" is missing for ${inner.typeName}`)
    return this.message(inner, json.value, fieldPath(path, 'value'))
  }

  /** Checks what an explicit TypedStruct carries where its type is known, and keeps the result for who reads it. */
  #content(
    desc: DescMessage,
    message: Message,
    json: { [key: string]: unknown },
    path: string,
    empty: boolean,
  ): Unpacked {
    const typeName = desc.typeName
    const own: Unpacked = { kind: 'message', typeName, typeUrl: String(json[TYPE]), desc, message, suffix: '', empty }
    if (!isTypedStruct(typeName)) return own
    const { typeUrl, value = {} } = message as Message & { typeUrl: string; value?: JsonObject }
    if (typeUrl === '') return own
    const innerName = typeNameOf(typeUrl)
    const inner = this.#registry.message(innerName)
    const rest = { typeName: innerName, typeUrl, suffix: 'value', empty: false } as const
    if (inner === undefined) return { ...rest, kind: 'json', value }
    const decoded = this.message(inner, value, fieldPath(path, 'value')) ?? create(inner)
    return { ...rest, kind: 'message', desc: inner, message: decoded }
  }

  #strangerAny(
    desc: DescMessage,
    typeUrl: string,
    json: { [key: string]: unknown },
    path: string,
  ): Message | undefined {
    const value: JsonObject = {}
    for (const key of Object.keys(json)) if (key !== TYPE) setKey(value, key, json[key])
    const typedStruct = this.#registry.expect(XDS_TYPED_STRUCT)
    const errorsBefore = this.errors.length
    this.message(this.#registry.expect('google.protobuf.Struct'), value, path)
    if (this.errors.length > errorsBefore) return undefined
    const content = toBinary(typedStruct, Object.assign(create(typedStruct), { typeUrl, value }))
    const any = Object.assign(create(desc), { typeUrl: `type.googleapis.com/${XDS_TYPED_STRUCT}`, value: content })
    const empty = Object.keys(value).length === 0
    this.#registry.remember(any, { kind: 'json', typeName: typeNameOf(typeUrl), typeUrl, value, suffix: '', empty })
    return any
  }

  #struct(desc: DescMessage, json: unknown, path: string): Message | undefined {
    if (!isObject(json)) return this.#wrong(path, `expected an object, got ${describe(json)}`)
    const fields: { [key: string]: unknown } = {}
    const valueDesc = this.#registry.expect('google.protobuf.Value')
    for (const key of Object.keys(json)) {
      const at = namePath(path, key)
      const value = this.message(valueDesc, json[key], at)
      if (!key.isWellFormed()) this.#wrong(at, 'the key is not valid Unicode: half of a surrogate pair')
      else if (value !== undefined) setKey(fields, key, value)
    }
    return Object.assign(create(desc), { fields })
  }

  #listValue(desc: DescMessage, json: unknown, path: string): Message | undefined {
    if (!Array.isArray(json)) return this.#wrong(path, `expected a list, got ${describe(json)}`)
    const values: Message[] = []
    const valueDesc = this.#registry.expect('google.protobuf.Value')
    for (let i = 0; i < json.length; i++) {
      const value = this.message(valueDesc, json[i], indexPath(path, i))
      if (value !== undefined) values.push(value)
    }
    return Object.assign(create(desc), { values })
  }

  #value(desc: DescMessage, json: unknown, path: string): Message | undefined {
    let kind: { case: string; value: unknown } | undefined
    if (json === null) kind = { case: 'nullValue', value: 0 }
    else if (typeof json === 'boolean') kind = { case: 'boolValue', value: json }
    else if (typeof json === 'string') {
      if (!json.isWellFormed()) return this.#wrong(path, 'is not valid Unicode: half of a surrogate pair')
      kind = { case: 'stringValue', value: json }
    } else if (typeof json === 'number') {
      if (!Number.isFinite(json)) return this.#wrong(path, `must be a finite number, is ${json}`)
      kind = { case: 'numberValue', value: json }
    } else {
      const [name, type] = Array.isArray(json) ? ['listValue', 'ListValue'] : ['structValue', 'Struct']
      const value = this.message(this.#registry.expect(`google.protobuf.${type}`), json, path)
      if (value === undefined) return undefined
      kind = { case: name, value }
    }
    return Object.assign(create(desc), { kind })
  }
}

function holdsNull(field: DescField): boolean {
  return field.message?.typeName === 'google.protobuf.Value' || field.enum?.typeName === 'google.protobuf.NullValue'
}

/** What stands in a oneof for a member whose value was refused. */
function emptyOf(field: DescField): unknown {
  if (field.message !== undefined)
    return field.message.typeName === 'google.protobuf.Struct' ? {} : create(field.message)
  if (field.enum !== undefined) return field.enum.values[0].number
  const text = decodeScalar(field.scalar ?? ScalarType.STRING, '')
  if (!(text instanceof Wrong)) return text
  return field.scalar === ScalarType.BOOL ? false : decodeScalar(field.scalar ?? ScalarType.STRING, 0)
}

function checkMapKey(type: ScalarType, key: string): string | undefined {
  if (type === ScalarType.BOOL) return key === 'true' || key === 'false' ? undefined : 'the key must be true or false'
  const decoded = decodeScalar(type, key)
  return decoded instanceof Wrong ? `the key ${decoded.message}` : undefined
}
