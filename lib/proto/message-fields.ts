import type { DescField, Message } from '@bufbuild/protobuf'
import type { Json, JsonObject } from '../core/errors.ts'
import type { ExtensionReader, FieldReader } from '../core/field-reader.ts'
import type { AnyMessage } from './any.ts'
import { encodeField, encodeJson } from './encode-json.ts'
import { unwrapped } from './fields.ts'
import { fieldPath, indexPath, type PathSource, PathStep, pathText } from './path.ts'
import type { ReadContext, TrackedExtension, TrackedReader, UnreadPolicy } from './read-context.ts'
import type { MessageShape, ProtoRegistry } from './registry.ts'
import { type Arity, type Getter, isSlotSet, type Slot, slotValue } from './slots.ts'

/** How many fields fit into one word of bits without leaving small integers. */
const WORD = 30

/** What was handed out for a field. */
interface Kept {
  readonly slot: Slot
  readonly value: unknown
  readonly readers: readonly TrackedReader[]
}

/** `FieldReader` over a protobuf message. A name or a type that the schema does not have is a bug of the caller: throws. */
export class MessageFields implements TrackedReader {
  readonly typeName: string
  readonly #where: PathSource
  readonly #context: ReadContext
  readonly #registry: ProtoRegistry
  readonly #shape: MessageShape
  readonly #message: Message
  // Fields that were consumed, by their index; those that are not set need not be remembered.
  #low = 0
  #high = 0
  #rest: Set<number> | undefined = undefined
  #kept: Kept[] | undefined = undefined
  #policy: UnreadPolicy
  #whole = false

  constructor(context: ReadContext & { registry: ProtoRegistry }, shape: MessageShape, message: Message, at: Place) {
    this.typeName = shape.desc.typeName
    this.#where = at.path
    this.#context = context
    this.#registry = context.registry
    this.#shape = shape
    this.#message = message
    this.#policy = at.policy
  }

  get path(): string {
    return pathText(this.#where)
  }

  has(name: string): boolean {
    return isSlotSet(this.#message, this.#slot(name))
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
    const { field } = this.#slot(name)
    if (value === undefined) return zeroName(field)
    return this.#enumValue(field, value, name, undefined) ?? zeroName(field)
  }

  enumNames(name: string): string[] {
    const values = this.#take(name, 'list', 'enum') as number[]
    const { field } = this.#slot(name)
    const names = values.map((value, i) => this.#enumValue(field, value, name, i))
    return names.filter((value) => value !== undefined)
  }

  #enumValue(field: DescField, value: number, name: string, index: number | undefined): string | undefined {
    const known = field.enum?.value[value]?.name
    if (known === undefined) {
      const { path } = new PathStep(this, name, index)
      this.#context.findings.error(path, `${value} is not a value of ${field.enum?.typeName}`)
    }
    return known
  }

  bytes(name: string): Buffer | undefined {
    const value = this.#take(name, 'singular', 'bytes') as Uint8Array | undefined
    return value === undefined ? undefined : Buffer.from(value.buffer, value.byteOffset, value.byteLength)
  }

  message(name: string): FieldReader | undefined {
    const slot = this.#slot(name)
    const value = this.#takeSlot(slot, 'singular', 'message')
    if (value === undefined) return undefined
    const before = this.#keptOf(slot)
    if (before !== undefined) return before.value as TrackedReader
    const reader = this.#open(slot, value, undefined)
    return this.#keep(slot, reader, [reader])
  }

  messages(name: string): FieldReader[] {
    const slot = this.#slot(name)
    const items = this.#takeSlot(slot, 'list', 'message') as unknown[]
    if (items.length === 0) return []
    const before = this.#keptOf(slot)
    if (before !== undefined) return before.value as TrackedReader[]
    const readers: TrackedReader[] = []
    for (let i = 0; i < items.length; i++) readers.push(this.#open(slot, items[i], i))
    return this.#keep(slot, readers, readers)
  }

  messageMap(name: string): Map<string, FieldReader> {
    const slot = this.#slot(name)
    const entries = this.#takeSlot(slot, 'map', 'message') as { readonly [key: string]: unknown }
    const before = this.#keptOf(slot)
    if (before !== undefined) return before.value as Map<string, TrackedReader>
    const readers = new Map<string, TrackedReader>()
    for (const key of Object.keys(entries)) readers.set(key, this.#open(slot, entries[key], key))
    if (readers.size === 0) return readers
    return this.#keep(slot, readers, [...readers.values()])
  }

  scalarMap(name: string): Map<string, Json> {
    const slot = this.#slot(name)
    this.#takeSlot(slot, 'map', 'scalar')
    if (!isSlotSet(this.#message, slot)) return new Map()
    return new Map(Object.entries(encodeField(this.#registry, this.#message, slot.field) as JsonObject))
  }

  json(name: string): Json | undefined {
    const slot = this.#slot(name)
    if (!isSlotSet(this.#message, slot)) return undefined
    this.#consume(slot)
    return encodeField(this.#registry, this.#message, slot.field)
  }

  which(oneof: string): string | undefined {
    const desc = this.#shape.oneofs.get(oneof)
    if (desc === undefined) throw new Error(`${this.typeName} has no oneof "${oneof}"`)
    const members = this.#message as unknown as { readonly [name: string]: { readonly case: string | undefined } }
    const set = members[desc.localName].case
    return set === undefined ? undefined : desc.fields.find((field) => field.localName === set)?.name
  }

  any(name: string): ExtensionReader | undefined {
    const slot = this.#slot(name)
    const value = this.#takeSlot(slot, 'singular', 'any') as AnyMessage | undefined
    if (value === undefined) return undefined
    const before = this.#keptOf(slot)
    if (before !== undefined) return before.value as TrackedExtension | undefined
    const any = this.#context.openAny(value, new PathStep(this, name, undefined), this.#policy)
    return this.#keep(slot, any, any === undefined ? [] : [any.fields])
  }

  anyMap(name: string): Map<string, ExtensionReader> {
    const slot = this.#slot(name)
    const entries = this.#takeSlot(slot, 'map', 'any') as { readonly [key: string]: AnyMessage }
    const before = this.#keptOf(slot)
    if (before !== undefined) return before.value as Map<string, TrackedExtension>
    const readers = new Map<string, TrackedExtension>()
    for (const key of Object.keys(entries)) {
      const any = this.#context.openAny(entries[key], new PathStep(this, name, key), this.#policy)
      if (any !== undefined) readers.set(key, any)
    }
    if (readers.size === 0) return readers
    const fields = [...readers.values()].map((any) => any.fields)
    return this.#keep(slot, readers, fields)
  }

  error(name: string | undefined, message: string): void {
    this.#context.findings.error(name === undefined ? this.path : this.#at(name), message)
  }

  ignore(...names: string[]): void {
    for (let i = 0; i < names.length; i++) {
      const slot = this.#slot(names[i])
      if (!isSlotSet(this.#message, slot)) continue
      this.#context.findings.ignored.push(this.#at(names[i]))
      this.#consume(slot)
    }
  }

  refuse(name: string, why: string): void {
    const slot = this.#slot(name)
    if (!isSlotSet(this.#message, slot)) return
    this.error(name, why)
    this.#consume(slot)
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
    const { slots } = this.#shape
    for (let i = 0; i < slots.length; i++) {
      const slot = slots[i]
      if (!isSlotSet(this.#message, slot)) continue
      if (!this.#isConsumed(slot)) this.#unread(this.#at(slot.name), 'is not supported here')
      else if (this.#kept !== undefined) this.#finishKept(slot)
    }
    const unknown = this.#message.$unknown
    if (unknown !== undefined) this.#reportUnknown(unknown)
  }

  #finishKept(slot: Slot): void {
    const readers = this.#keptOf(slot)?.readers
    if (readers === undefined) return
    for (let i = 0; i < readers.length; i++) readers[i].finish()
  }

  #reportUnknown(unknown: readonly { readonly no: number }[]): void {
    const { unknownFields } = this.#context
    const policy = unknownFields === undefined ? this.#policy : unknownFields === 'reject' ? 'refuse' : 'report'
    for (const { no } of unknown) {
      this.#unread(this.#at(`#${no}`), `unknown field number ${no} of ${this.typeName}`, policy)
    }
  }

  #unread(path: string, why: string, policy = this.#policy): void {
    if (policy === 'refuse') this.#context.findings.error(path, why)
    else this.#context.findings.ignored.push(path)
  }

  #at(name: string): string {
    return fieldPath(this.path, name)
  }

  #slot(name: string): Slot {
    const slot = this.#shape.slotByName.get(name)
    if (slot === undefined) throw new Error(`${this.typeName} has no field "${name}"`)
    return slot
  }

  #take(name: string, arity: Arity, getter: Getter): unknown {
    return this.#takeSlot(this.#slot(name), arity, getter)
  }

  /** Marks a field as consumed and answers its value: undefined where a singular field is not set. */
  #takeSlot(slot: Slot, arity: Arity, getter: Getter): unknown {
    const actual = slot.getter
    const fits = actual === getter || (getter === 'scalar' && actual !== 'message' && actual !== 'any')
    if (arity !== slot.arity || !fits) {
      const read = `${this.typeName}.${slot.name} was read as ${arity} ${getter}`
      throw new Error(`${read}, but it is ${slot.arity} ${actual}`)
    }
    if (arity === 'singular' && !isSlotSet(this.#message, slot)) return undefined
    this.#consume(slot)
    const value = slotValue(this.#message, slot)
    // Wrappers are messages in oneofs alone.
    return slot.oneof !== undefined && getter !== 'message' && getter !== 'any' ? unwrapped(value) : value
  }

  #consume({ index }: Slot): void {
    if (index < WORD) this.#low |= 1 << index
    else if (index < 2 * WORD) this.#high |= 1 << (index - WORD)
    else {
      this.#rest ??= new Set()
      this.#rest.add(index)
    }
  }

  #isConsumed({ index }: Slot): boolean {
    if (index < WORD) return (this.#low & (1 << index)) !== 0
    if (index < 2 * WORD) return (this.#high & (1 << (index - WORD))) !== 0
    return this.#rest?.has(index) === true
  }

  /** The readers handed out for a field are made once, so that two callers' reads add up. */
  #keptOf(slot: Slot): Kept | undefined {
    const kept = this.#kept
    if (kept === undefined) return undefined
    for (let i = 0; i < kept.length; i++) if (kept[i].slot === slot) return kept[i]
    return undefined
  }

  #keep<T>(slot: Slot, value: T, readers: readonly TrackedReader[]): T {
    this.#kept ??= []
    this.#kept.push({ slot, value, readers })
    return value
  }

  #open(slot: Slot, value: unknown, place: number | string | undefined): TrackedReader {
    const desc = slot.field.message
    if (desc === undefined) throw new Error(`${this.typeName}.${slot.name} is not a message`)
    return this.#context.openMessage(desc, value as Message, new PathStep(this, slot.name, place), this.#policy)
  }
}

/** Where a reader stands, and what holds for what nobody reads. */
export interface Place {
  readonly path: PathSource
  readonly policy: UnreadPolicy
}

function zeroName(field: DescField): string {
  return field.enum?.values[0].name ?? ''
}
