import { type DescField, type Message, ScalarType } from '@bufbuild/protobuf'
import type { Json, JsonObject } from '../core/errors.ts'
import type { ExtensionReader, FieldReader } from '../core/field-reader.ts'
import type { AnyMessage } from './any.ts'
import { encodeField, encodeJson } from './encode-json.ts'
import { fieldValue, isSet, unwrapped } from './fields.ts'
import { fieldPath, indexPath, keyPath } from './path.ts'
import {
  CONSUMED,
  type Consumed,
  type ReadContext,
  type TrackedExtension,
  type TrackedReader,
  type UnreadPolicy,
} from './read-context.ts'
import type { MessageShape, ProtoRegistry } from './registry.ts'

type Getter = 'string' | 'bool' | 'number' | 'bytes' | 'enum' | 'duration' | 'message' | 'any' | 'scalar'

/** `FieldReader` over a protobuf message. A name or a type that the schema does not have is a bug of the caller: throws. */
export class MessageFields implements TrackedReader {
  readonly path: string
  readonly typeName: string
  readonly #context: ReadContext
  readonly #registry: ProtoRegistry
  readonly #shape: MessageShape
  readonly #message: Message
  readonly #consumed = new Map<string, Consumed>()
  #policy: UnreadPolicy
  #whole = false

  constructor(context: ReadContext & { registry: ProtoRegistry }, shape: MessageShape, message: Message, at: Place) {
    this.path = at.path
    this.typeName = shape.desc.typeName
    this.#context = context
    this.#registry = context.registry
    this.#shape = shape
    this.#message = message
    this.#policy = at.policy
  }

  has(name: string): boolean {
    return isSet(this.#message, this.#field(name))
  }

  string(name: string): string {
    return (this.#take(name, 'singular', 'string') as string | undefined) ?? ''
  }

  strings(name: string): string[] {
    return (this.#take(name, 'list', 'string') as unknown[]).map(unwrapped) as string[]
  }

  bool(name: string): boolean {
    return this.optionalBool(name) ?? false
  }

  optionalBool(name: string): boolean | undefined {
    return this.#take(name, 'singular', 'bool') as boolean | undefined
  }

  number(name: string): number | undefined {
    const value = this.#take(name, 'singular', 'number') as number | bigint | undefined
    return value === undefined ? undefined : this.#safeNumber(value, this.#at(name))
  }

  numbers(name: string): number[] {
    const out: number[] = []
    const values = this.#take(name, 'list', 'number') as (number | bigint)[]
    for (let i = 0; i < values.length; i++) {
      const value = this.#safeNumber(unwrapped(values[i]) as number | bigint, indexPath(this.#at(name), i))
      if (value !== undefined) out.push(value)
    }
    return out
  }

  #safeNumber(value: number | bigint, path: string): number | undefined {
    if (typeof value === 'number' || Number.isSafeInteger(Number(value))) return Number(value)
    this.#context.findings.error(path, `is beyond 2^53: ${value}`)
    return undefined
  }

  durationMs(name: string): number | undefined {
    const value = this.#take(name, 'singular', 'duration') as { seconds: bigint; nanos: number } | undefined
    if (value === undefined) return undefined
    const seconds = Number(value.seconds)
    const opposed = (seconds > 0 && value.nanos < 0) || (seconds < 0 && value.nanos > 0)
    if (opposed || Math.abs(value.nanos) > 999_999_999 || Math.abs(seconds) > 315_576_000_000) {
      this.error(name, `is not a duration: ${value.seconds} seconds and ${value.nanos} nanoseconds`)
      return undefined
    }
    return seconds * 1000 + value.nanos / 1e6
  }

  enumName(name: string): string {
    const value = this.#take(name, 'singular', 'enum') as number | undefined
    const field = this.#field(name)
    return this.#enumValue(field, value ?? zeroOf(field), this.#at(name)) ?? zeroName(field)
  }

  enumNames(name: string): string[] {
    const values = this.#take(name, 'list', 'enum') as number[]
    const field = this.#field(name)
    const names = values.map((value, i) => this.#enumValue(field, value, indexPath(this.#at(name), i)))
    return names.filter((value) => value !== undefined)
  }

  #enumValue(field: DescField, value: number, path: string): string | undefined {
    const known = field.enum?.value[value]?.name
    if (known === undefined) this.#context.findings.error(path, `${value} is not a value of ${field.enum?.typeName}`)
    return known
  }

  bytes(name: string): Buffer | undefined {
    const value = this.#take(name, 'singular', 'bytes') as Uint8Array | undefined
    return value === undefined ? undefined : Buffer.from(value.buffer, value.byteOffset, value.byteLength)
  }

  message(name: string): FieldReader | undefined {
    const value = this.#take(name, 'singular', 'message')
    return this.#keep(name, () => {
      const reader = value === undefined ? undefined : this.#open(name, value, this.#at(name))
      return { value: reader, readers: reader === undefined ? [] : [reader] }
    }) as TrackedReader | undefined
  }

  messages(name: string): FieldReader[] {
    const items = this.#take(name, 'list', 'message') as unknown[]
    return this.#keep(name, () => {
      const readers = items.map((item, i) => this.#open(name, item, indexPath(this.#at(name), i)))
      return { value: readers, readers }
    }) as TrackedReader[]
  }

  messageMap(name: string): Map<string, FieldReader> {
    const entries = Object.entries(this.#take(name, 'map', 'message') as object)
    return this.#keep(name, () => {
      const readers = new Map<string, TrackedReader>()
      for (const [key, item] of entries) readers.set(key, this.#open(name, item, keyPath(this.#at(name), key)))
      return { value: readers, readers: [...readers.values()] }
    }) as Map<string, TrackedReader>
  }

  scalarMap(name: string): Map<string, Json> {
    const field = this.#field(name)
    this.#take(name, 'map', 'scalar')
    if (!isSet(this.#message, field)) return new Map()
    return new Map(Object.entries(encodeField(this.#registry, this.#message, field) as JsonObject))
  }

  json(name: string): Json | undefined {
    const field = this.#field(name)
    this.#consumed.set(name, CONSUMED)
    return isSet(this.#message, field) ? encodeField(this.#registry, this.#message, field) : undefined
  }

  which(oneof: string): string | undefined {
    const desc = this.#shape.oneofs.get(oneof)
    if (desc === undefined) throw new Error(`${this.typeName} has no oneof "${oneof}"`)
    return desc.fields.find((field) => isSet(this.#message, field))?.name
  }

  any(name: string): ExtensionReader | undefined {
    const value = this.#take(name, 'singular', 'any') as AnyMessage | undefined
    return this.#keep(name, () => {
      const any = value === undefined ? undefined : this.#context.openAny(value, this.#at(name), this.#policy)
      return { value: any, readers: any === undefined ? [] : [any.fields] }
    }) as TrackedExtension | undefined
  }

  anyMap(name: string): Map<string, ExtensionReader> {
    const entries = Object.entries(this.#take(name, 'map', 'any') as object)
    return this.#keep(name, () => {
      const readers = new Map<string, TrackedExtension>()
      for (const [key, item] of entries) {
        const any = this.#context.openAny(item as AnyMessage, keyPath(this.#at(name), key), this.#policy)
        if (any !== undefined) readers.set(key, any)
      }
      return { value: readers, readers: [...readers.values()].map((any) => any.fields) }
    }) as Map<string, ExtensionReader>
  }

  error(name: string | undefined, message: string): void {
    this.#context.findings.error(name === undefined ? this.path : this.#at(name), message)
  }

  ignore(...names: string[]): void {
    for (const name of names) {
      if (this.has(name)) this.#context.findings.ignored.push(this.#at(name))
      this.#consumed.set(name, CONSUMED)
    }
  }

  refuse(name: string, why: string): void {
    if (this.has(name)) this.error(name, why)
    this.#consumed.set(name, CONSUMED)
  }

  unread(policy: UnreadPolicy): this {
    this.#policy = policy
    return this
  }

  toJson(): JsonObject {
    this.#whole = true
    return encodeJson(this.#registry, this.#shape.desc, this.#message) as JsonObject
  }

  finish(): void {
    if (this.#whole) return
    for (const field of this.#shape.desc.fields) {
      const consumed = this.#consumed.get(field.name)
      if (consumed !== undefined) for (const reader of consumed.readers) reader.finish()
      else if (isSet(this.#message, field)) this.#unread(this.#at(field.name), 'is not supported here')
    }
    for (const { no } of this.#message.$unknown ?? []) {
      this.#unread(this.#at(`#${no}`), `unknown field number ${no} of ${this.typeName}`)
    }
  }

  #unread(path: string, why: string): void {
    if (this.#policy === 'refuse') this.#context.findings.error(path, why)
    else this.#context.findings.ignored.push(path)
  }

  #at(name: string): string {
    return fieldPath(this.path, name)
  }

  #field(name: string): DescField {
    const field = this.#shape.byName.get(name)
    if (field === undefined) throw new Error(`${this.typeName} has no field "${name}"`)
    return field
  }

  /** Marks a field as consumed and answers its value: undefined where a singular field is not set. */
  #take(name: string, arity: 'singular' | 'list' | 'map', getter: Getter): unknown {
    const field = this.#field(name)
    const fieldArity = field.fieldKind === 'list' || field.fieldKind === 'map' ? field.fieldKind : 'singular'
    const actual = this.#getterOf(field)
    const fits = actual === getter || (getter === 'scalar' && actual !== 'message' && actual !== 'any')
    if (arity !== fieldArity || !fits) {
      throw new Error(`${this.typeName}.${name} was read as ${arity} ${getter}, but it is ${fieldArity} ${actual}`)
    }
    if (!this.#consumed.has(name)) this.#consumed.set(name, CONSUMED)
    if (arity === 'singular' && !isSet(this.#message, field)) return undefined
    const value = fieldValue(this.#message, field)
    return arity === 'singular' && getter !== 'message' && getter !== 'any' ? unwrapped(value) : value
  }

  /** The readers handed out for a field are made once, so that two callers' reads add up. */
  #keep(name: string, open: () => Consumed): unknown {
    const before = this.#consumed.get(name)
    if (before !== undefined && before !== CONSUMED) return before.value
    const opened = open()
    this.#consumed.set(name, opened)
    return opened.value
  }

  #open(name: string, value: unknown, path: string): TrackedReader {
    const desc = this.#field(name).message
    if (desc === undefined) throw new Error(`${this.typeName}.${name} is not a message`)
    return this.#context.openMessage(desc, value as Message, path, this.#policy)
  }

  #getterOf(field: DescField): Getter {
    if (field.enum !== undefined) return 'enum'
    const desc = field.message
    if (desc === undefined) return getterOfScalar(field.scalar)
    const kind = this.#registry.shape(desc).kind
    if (kind === 'any' || kind === 'duration') return kind
    return kind === 'wrapper' ? getterOfScalar(desc.fields[0].scalar) : 'message'
  }
}

/** Where a reader stands, and what holds for what nobody reads. */
export interface Place {
  readonly path: string
  readonly policy: UnreadPolicy
}

function getterOfScalar(type: ScalarType | undefined): Getter {
  if (type === ScalarType.STRING) return 'string'
  if (type === ScalarType.BOOL) return 'bool'
  return type === ScalarType.BYTES ? 'bytes' : 'number'
}

function zeroOf(field: DescField): number {
  return field.enum?.values[0].number ?? 0
}

function zeroName(field: DescField): string {
  return field.enum?.values[0].name ?? ''
}
