import { ScalarType } from '@bufbuild/protobuf'
import type { Json, JsonObject } from '../core/errors.ts'
import type { ExtensionReader, FieldReader } from '../core/field-reader.ts'
import type { AnyMessage } from './any.ts'
import { decodeJson, isTypedStruct, typeNameOf } from './decode-json.ts'
import { decodeDuration, decodeScalar, Wrong } from './decode-scalar.ts'
import { describe, isObject, setKey, withoutSecret } from './describe.ts'
import { fieldPath, indexPath, keyPath, namePath, type PathSource, pathText } from './path.ts'
import {
  CONSUMED,
  type Consumed,
  type ReadContext,
  type TrackedExtension,
  type TrackedReader,
  type UnreadPolicy,
} from './read-context.ts'

const NONE: ReadonlyMap<string, Consumed> = new Map()

/**
 * `FieldReader` over a JSON object without a schema. Fields are found in snake_case and camelCase; null is not set, and
 * so is an empty list. A key that nothing reads is an unknown field, an error unless `unread('report')` was asked for.
 */
export class JsonFields implements TrackedReader {
  readonly typeName: string
  readonly #where: PathSource
  readonly #context: ReadContext
  readonly #value: JsonObject
  #consumed: Map<string, Consumed> | undefined = undefined
  #complaints: Set<string> | undefined = undefined
  #policy: UnreadPolicy = 'refuse'
  #whole = false

  constructor(context: ReadContext, value: JsonObject, path: PathSource, typeName: string) {
    this.#where = path
    this.typeName = typeName
    this.#context = context
    this.#value = value
  }

  get path(): string {
    return pathText(this.#where)
  }

  has(name: string): boolean {
    const value = this.#value[this.#key(name)]
    return value !== undefined && value !== null && !(Array.isArray(value) && value.length === 0)
  }

  string(name: string): string {
    return (this.#scalar(name, ScalarType.STRING) as string | undefined) ?? ''
  }

  strings(name: string): string[] {
    return this.#list(name, (json) => decodeScalar(ScalarType.STRING, json)) as string[]
  }

  bool(name: string): boolean {
    return this.optionalBool(name) ?? false
  }

  optionalBool(name: string): boolean | undefined {
    return this.#scalar(name, ScalarType.BOOL) as boolean | undefined
  }

  number(name: string): number | undefined {
    return this.#scalar(name, ScalarType.DOUBLE) as number | undefined
  }

  numbers(name: string): number[] {
    return this.#list(name, (json) => decodeScalar(ScalarType.DOUBLE, json)) as number[]
  }

  durationMs(name: string): number | undefined {
    return this.#single(name, (json) => {
      if (typeof json === 'number' && Number.isFinite(json)) return json * 1000
      const duration = decodeDuration(json)
      return duration instanceof Wrong ? duration : Number(duration.seconds) * 1000 + duration.nanos / 1e6
    }) as number | undefined
  }

  /** The name as it is written; '' where it is not set, since the enum is not known. */
  enumName(name: string): string {
    return this.string(name)
  }

  enumNames(name: string): string[] {
    return this.strings(name)
  }

  bytes(name: string): Buffer | undefined {
    const value = this.#scalar(name, ScalarType.BYTES) as Uint8Array | undefined
    return value === undefined ? undefined : Buffer.from(value)
  }

  message(name: string): FieldReader | undefined {
    const value = this.#single(name, asObject) as JsonObject | undefined
    return this.#keep(name, () => {
      const reader = value === undefined ? undefined : this.#open(value, this.#at(name))
      return { value: reader, readers: reader === undefined ? [] : [reader] }
    }) as TrackedReader | undefined
  }

  messages(name: string): FieldReader[] {
    const list = (this.#single(name, asList) ?? []) as Json[]
    return this.#keep(name, () => {
      const readers: TrackedReader[] = []
      for (let i = 0; i < list.length; i++) {
        const json = list[i]
        const path = indexPath(this.#at(name), i)
        if (isObject(json)) readers.push(this.#open(json as JsonObject, path))
        else this.#complain(path, asObject(json) as Wrong)
      }
      return { value: readers, readers }
    }) as TrackedReader[]
  }

  messageMap(name: string): Map<string, FieldReader> {
    const entries = Object.entries((this.#single(name, asObject) ?? {}) as JsonObject)
    return this.#keep(name, () => {
      const readers = new Map<string, TrackedReader>()
      for (const [key, json] of entries) {
        const path = keyPath(this.#at(name), key)
        if (isObject(json)) readers.set(key, this.#open(json as JsonObject, path))
        else this.#complain(path, asObject(json) as Wrong)
      }
      return { value: readers, readers: [...readers.values()] }
    }) as Map<string, TrackedReader>
  }

  scalarMap(name: string): Map<string, Json> {
    const map = new Map<string, Json>()
    for (const [key, json] of Object.entries((this.#single(name, asObject) ?? {}) as JsonObject)) {
      if (typeof json === 'object') {
        this.#context.findings.error(keyPath(this.#at(name), key), `expected a plain value, got ${describe(json)}`)
      } else map.set(key, json)
    }
    return map
  }

  json(name: string): Json | undefined {
    const key = this.#key(name)
    this.#consume(name, CONSUMED)
    return Object.hasOwn(this.#value, key) ? this.#value[key] : undefined
  }

  /** JSON does not say what is a oneof. @throws Error always: ask `has` for each member. */
  which(oneof: string): string | undefined {
    throw new Error(`${this.typeName} has no schema: "${oneof}" can't be asked for its member`)
  }

  any(name: string): ExtensionReader | undefined {
    const value = this.#single(name, asObject) as JsonObject | undefined
    return this.#keep(name, () => {
      const any = value === undefined ? undefined : this.#openAny(value, this.#at(name))
      return { value: any, readers: any === undefined ? [] : [any.fields] }
    }) as TrackedExtension | undefined
  }

  anyMap(name: string): Map<string, ExtensionReader> {
    const entries = Object.entries((this.#single(name, asObject) ?? {}) as JsonObject)
    return this.#keep(name, () => {
      const readers = new Map<string, TrackedExtension>()
      for (const [key, json] of entries) {
        const any = this.#openAny(json, keyPath(this.#at(name), key))
        if (any !== undefined) readers.set(key, any)
      }
      return { value: readers, readers: [...readers.values()].map((any) => any.fields) }
    }) as Map<string, ExtensionReader>
  }

  /** With a registry an Any inside JSON is as strict as anywhere; without one it is JSON with a type's name. */
  #openAny(json: Json, path: string): TrackedExtension | undefined {
    const { registry, findings } = this.#context
    if (registry !== undefined) {
      const { message, errors } = decodeJson(registry, registry.expect('google.protobuf.Any'), json, path)
      for (const error of errors) findings.errors.push(error)
      return message === undefined ? undefined : this.#context.openAny(message as AnyMessage, path, this.#policy)
    }
    const typeUrl = isObject(json) ? json['@type'] : undefined
    if (!isObject(json) || typeof typeUrl !== 'string') {
      findings.error(path, `expected an object with "@type", got ${describe(json)}`)
      return undefined
    }
    const name = typeNameOf(typeUrl)
    if (isTypedStruct(name) && typeof json.type_url === 'string') {
      const value = (isObject(json.value) ? json.value : {}) as JsonObject
      return this.#extension(typeNameOf(json.type_url), value, fieldPath(path, 'value'))
    }
    const value: JsonObject = {}
    for (const key of Object.keys(json)) if (key !== '@type') setKey(value, key, json[key])
    return this.#extension(name, value, path)
  }

  #extension(typeUrl: string, value: JsonObject, path: string): TrackedExtension {
    const empty = Object.keys(value).length === 0
    return { path, typeUrl, empty, fields: this.#context.openJson(value, path, typeUrl) }
  }

  error(name: string | undefined, message: string): void {
    this.#context.findings.error(name === undefined ? this.path : this.#at(name), message)
  }

  ignore(...names: string[]): void {
    for (const name of names) {
      if (this.has(name)) this.#context.findings.ignored.push(this.#at(name))
      this.#consume(name, CONSUMED)
    }
  }

  refuse(name: string, why: string): void {
    if (this.has(name)) this.error(name, why)
    this.#consume(name, CONSUMED)
  }

  unread(policy: UnreadPolicy): this {
    this.#policy = policy
    return this
  }

  toJson(): JsonObject {
    this.#whole = true
    return this.#value
  }

  finish(): void {
    if (this.#whole) return
    const read = new Set<string>()
    for (const [name, { readers }] of this.#consumed ?? NONE) {
      read.add(this.#key(name))
      for (const reader of readers) reader.finish()
    }
    for (const key of Object.keys(this.#value)) {
      if (read.has(key)) continue
      const path = namePath(this.path, key)
      if (this.#policy === 'report') this.#context.findings.ignored.push(path)
      else this.#context.findings.error(path, 'unknown field')
    }
  }

  /** The spelling that the author used, so that paths lead to the right line; the protobuf name where there is none. */
  #key(name: string): string {
    if (Object.hasOwn(this.#value, name)) return name
    const camel = name.replace(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase())
    return Object.hasOwn(this.#value, camel) ? camel : name
  }

  #consume(name: string, consumed: Consumed): void {
    this.#consumed ??= new Map()
    this.#consumed.set(name, consumed)
  }

  #at(name: string): string {
    return fieldPath(this.path, this.#key(name))
  }

  #open(value: JsonObject, path: string): TrackedReader {
    return this.#context.openJson(value, path, this.typeName).unread(this.#policy)
  }

  #keep(name: string, open: () => Consumed): unknown {
    const before = this.#consumed?.get(name)
    if (before !== undefined && before !== CONSUMED) return before.value
    const opened = open()
    this.#consume(name, opened)
    return opened.value
  }

  #scalar(name: string, type: ScalarType): unknown {
    return this.#single(name, (json) => decodeScalar(type, json))
  }

  /** Consumes a field and answers what `decode` makes of it; after a `Wrong` it is as if the field were not set. */
  #single(name: string, decode: (json: Json) => unknown): unknown {
    const key = this.#key(name)
    const json = Object.hasOwn(this.#value, key) ? this.#value[key] : null
    if (this.#consumed?.has(name) !== true) this.#consume(name, CONSUMED)
    if (json === null) return undefined
    const value = decode(json)
    if (!(value instanceof Wrong)) return value
    this.#complain(this.#at(name), value)
    return undefined
  }

  #list(name: string, decode: (json: Json) => unknown): unknown[] {
    const out: unknown[] = []
    const list = (this.#single(name, asList) ?? []) as Json[]
    for (let i = 0; i < list.length; i++) {
      const value = decode(list[i])
      if (value instanceof Wrong) this.#complain(indexPath(this.#at(name), i), value)
      else out.push(value)
    }
    return out
  }

  /** Once for each place, however often the field is read. */
  #complain(path: string, wrong: Wrong): void {
    this.#complaints ??= new Set()
    if (this.#complaints.has(path)) return
    this.#complaints.add(path)
    this.#context.findings.error(path, withoutSecret(path, wrong.message))
  }
}

function asObject(json: Json): JsonObject | Wrong {
  return isObject(json) ? (json as JsonObject) : new Wrong(`expected an object, got ${describe(json)}`)
}

function asList(json: Json): Json[] | Wrong {
  return Array.isArray(json) ? json : new Wrong(`expected a list, got ${describe(json)}`)
}
