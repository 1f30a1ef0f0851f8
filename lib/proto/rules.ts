import {
  type DescExtension,
  type DescField,
  type DescMessage,
  type DescOneof,
  getOption,
  hasOption,
  type Message,
} from '@bufbuild/protobuf'
import { ConfigError } from '../core/errors.ts'
import { type AnyMessage, unpackAny } from './any.ts'
import { MAX_DEPTH } from './decode-json.ts'
import { unwrapped } from './fields.ts'
import { stepPath } from './path.ts'
import type { ProtoRegistry } from './registry.ts'
import { assertKnown, compileChecks, type Rules, ruleOf, type ValueCheck } from './rule-compile.ts'
import { isSlotSet, type Slot, slotValue } from './slots.ts'

/** What is to be checked of one field, made once for its message type. */
interface FieldPlan {
  readonly slot: Slot
  readonly required: boolean
  /** On the value itself, or on each item of a list or value of a map. */
  readonly checks: readonly ValueCheck[]
  readonly keyChecks: readonly ValueCheck[]
  /** On the list or map as a whole. */
  readonly collectionChecks: readonly ValueCheck[]
  readonly descend: DescMessage | undefined
  /** Only where it is set: members of oneofs, messages and `optional` fields. */
  readonly onlySet: boolean
}

interface MessagePlan {
  readonly fields: readonly FieldPlan[]
  readonly oneofs: readonly DescOneof[]
}

const NOTHING: MessagePlan = Object.freeze({ fields: Object.freeze([]), oneofs: Object.freeze([]) })

/**
 * Checks messages against the protoc-gen-validate rules that Envoy's API carries as options (`validate.rules`,
 * `validate.required`, `validate.disabled`), Anys and TypedStructs of known types included, as Envoy does on loading.
 * An Any that does not decode is left to whoever reads it.
 *
 * Plans are made on first use of a type and kept in this object.
 */
export class RuleChecker {
  readonly #registry: ProtoRegistry
  readonly #plans = new Map<DescMessage, MessagePlan>()
  readonly #reached = new Map<DescMessage, boolean>()
  readonly #rules: DescExtension | undefined
  readonly #required: DescExtension | undefined

  constructor(registry: ProtoRegistry) {
    this.#registry = registry
    this.#rules = registry.files.getExtension('validate.rules')
    this.#required = registry.files.getExtension('validate.required')
  }

  /** Every violation in the whole tree; paths begin with `path` and use protobuf names. */
  check(desc: DescMessage, message: Message, path: string): ConfigError[] {
    const walk = new Walk(path)
    this.#message(desc, message, walk)
    return walk.errors
  }

  #message(desc: DescMessage, message: Message, walk: Walk): void {
    if (walk.depth >= MAX_DEPTH) {
      walk.wrong(undefined, undefined, `is nested too deeply: more than ${MAX_DEPTH} levels`)
      return
    }
    const plan = this.#planOf(desc)
    for (let i = 0; i < plan.fields.length; i++) this.#field(plan.fields[i], message, walk)
    for (let i = 0; i < plan.oneofs.length; i++) {
      const oneof = plan.oneofs[i]
      const members = message as unknown as { readonly [name: string]: { readonly case: string | undefined } }
      if (members[oneof.localName].case !== undefined) continue
      const names = oneof.fields.map((field) => field.name).join(', ')
      walk.wrong(oneof.name, undefined, `value is required: one of ${names}`)
    }
  }

  #field(plan: FieldPlan, message: Message, walk: Walk): void {
    const { slot } = plan
    const value = slotValue(message, slot)
    switch (slot.arity) {
      case 'list':
        this.#list(plan, value as unknown[], walk)
        return
      case 'map':
        this.#map(plan, value as { readonly [key: string]: unknown }, walk)
        return
    }
    if (plan.onlySet && !isSlotSet(message, slot)) {
      if (plan.required) walk.wrong(slot.name, undefined, 'value is required')
      return
    }
    if (plan.checks.length > 0) walk.run(plan.checks, unwrapped(value), slot.name, undefined)
    if (plan.descend !== undefined) this.#descend(plan.descend, value as Message, walk, slot.name, undefined)
  }

  #list({ slot: { name }, checks, collectionChecks, descend }: FieldPlan, list: unknown[], walk: Walk): void {
    if (collectionChecks.length > 0) walk.run(collectionChecks, list, name, undefined)
    for (let i = 0; i < list.length; i++) {
      if (checks.length > 0) walk.run(checks, unwrapped(list[i]), name, i)
      if (descend !== undefined) this.#descend(descend, list[i] as Message, walk, name, i)
    }
  }

  #map(plan: FieldPlan, map: { readonly [key: string]: unknown }, walk: Walk): void {
    const { slot, checks, keyChecks, collectionChecks, descend } = plan
    const keys = Object.keys(map)
    if (collectionChecks.length > 0) walk.run(collectionChecks, keys, slot.name, undefined)
    for (const key of keys) {
      if (keyChecks.length > 0) walk.run(keyChecks, key, slot.name, key)
      if (checks.length > 0) walk.run(checks, unwrapped(map[key]), slot.name, key)
      if (descend !== undefined) this.#descend(descend, map[key] as Message, walk, slot.name, key)
    }
  }

  #descend(desc: DescMessage, message: Message, walk: Walk, name: string, place: number | string | undefined): void {
    if (desc.typeName !== ANY) {
      walk.enter(name, place)
      this.#message(desc, message, walk)
      walk.leave()
      return
    }
    const content = unpackAny(this.#registry, message as AnyMessage)
    if (content.kind !== 'message') return
    walk.enter(name, place)
    if (content.suffix !== '') walk.enter(content.suffix, undefined)
    this.#message(content.desc, content.message, walk)
    if (content.suffix !== '') walk.leave()
    walk.leave()
  }

  #planOf(desc: DescMessage): MessagePlan {
    let plan = this.#plans.get(desc)
    if (plan === undefined) this.#plans.set(desc, (plan = this.#compile(desc)))
    return plan
  }

  #compile(desc: DescMessage): MessagePlan {
    const { files } = this.#registry
    for (const name of ['validate.disabled', 'validate.ignored']) {
      const option = files.getExtension(name)
      if (option !== undefined && getOption(desc, option) === true) return NOTHING
    }
    // Types with a JSON form of their own (Struct, Duration, ...) carry no rules; an Any at the top has been opened.
    if (this.#registry.shape(desc).kind !== 'plain') return NOTHING
    const required = this.#required
    const oneofs = desc.oneofs.filter((oneof) => required !== undefined && getOption(oneof, required) === true)
    const { slots } = this.#registry.shape(desc)
    const fields = slots.map((slot) => this.#fieldPlan(slot)).filter((plan) => plan !== undefined)
    return fields.length === 0 && oneofs.length === 0 ? NOTHING : { fields, oneofs }
  }

  /** Undefined where there is nothing to check in or below the field. */
  #fieldPlan(slot: Slot): FieldPlan | undefined {
    const { field } = slot
    const rules =
      this.#rules !== undefined && hasOption(field, this.#rules) ? (getOption(field, this.#rules) as Rules) : undefined
    const where = field.toString()
    const type = typeOf(rules)
    const own = { keyChecks: [] as ValueCheck[], collectionChecks: [] as ValueCheck[] }
    let item = rules
    if (type?.case === 'repeated') {
      own.collectionChecks = repeatedChecks(type.value, where)
      item = ruleOf<Rules>(type.value, 'items')
    } else if (type?.case === 'map') {
      own.collectionChecks = mapChecks(type.value, where)
      item = ruleOf<Rules>(type.value, 'values')
      own.keyChecks = valueChecks(ruleOf<Rules>(type.value, 'keys'), where, field)
    }
    const checks = valueChecks(item, where, field)
    const skip = item !== undefined && flag(ruleOf<Rules>(item, 'message'), 'skip')
    const descend = field.message === undefined || skip || !this.#goesInto(field.message) ? undefined : field.message
    // A required member of a oneof is required only where that member is the one set, and then it is there.
    const required = field.oneof === undefined && isRequired(rules)
    const { keyChecks, collectionChecks } = own
    if (checks.length + keyChecks.length + collectionChecks.length === 0 && descend === undefined && !required)
      return undefined
    const onlySet = field.message !== undefined || hasPresence(field)
    return { slot, required, checks, keyChecks, collectionChecks, descend, onlySet }
  }

  /** Whether there is anything to check in messages of that type, or in what they can hold. */
  #goesInto(desc: DescMessage): boolean {
    const known = this.#reached.get(desc)
    if (known !== undefined) return known
    const seen = new Set<DescMessage>()
    const found = this.#reaches(desc, seen)
    if (found) this.#reached.set(desc, true)
    else for (const type of seen) this.#reached.set(type, false)
    return found
  }

  #reaches(desc: DescMessage, seen: Set<DescMessage>): boolean {
    if (seen.has(desc)) return false
    seen.add(desc)
    const { kind } = this.#registry.shape(desc)
    if (kind === 'any') return true
    if (kind !== 'plain') return false
    const required = this.#required
    if (required !== undefined && desc.oneofs.some((oneof) => hasOption(oneof, required))) return true
    const rules = this.#rules
    if (rules !== undefined && desc.fields.some((field) => hasOption(field, rules))) return true
    return desc.fields.some((field) => field.message !== undefined && this.#reaches(field.message, seen))
  }
}

const ANY = 'google.protobuf.Any'

/** Where a check stands, and what it has found. */
class Walk {
  readonly errors: ConfigError[] = []
  readonly #base: string
  readonly #names: string[] = []
  readonly #places: (number | string | undefined)[] = []

  constructor(base: string) {
    this.#base = base
  }

  get depth(): number {
    return this.#names.length
  }

  enter(name: string, place: number | string | undefined): void {
    this.#names.push(name)
    this.#places.push(place)
  }

  leave(): void {
    this.#names.pop()
    this.#places.pop()
  }

  run(checks: readonly ValueCheck[], value: unknown, name: string, place: number | string | undefined): void {
    for (let i = 0; i < checks.length; i++) {
      const wrong = checks[i](value)
      if (wrong !== undefined) this.wrong(name, place, wrong)
    }
  }

  /** `name` undefined blames the message itself. */
  wrong(name: string | undefined, place: number | string | undefined, message: string): void {
    let path = this.#base
    for (let i = 0; i < this.#names.length; i++) path = stepPath(path, this.#names[i], this.#places[i])
    this.errors.push(new ConfigError(name === undefined ? path : stepPath(path, name, place), message))
  }
}

function typeOf(rules: Rules | undefined): { case: string; value: Rules } | undefined {
  const type = rules?.type as { case: string | undefined; value: Rules } | undefined
  return type?.case === undefined ? undefined : (type as { case: string; value: Rules })
}

function flag(rules: Rules | undefined, name: string): boolean {
  return rules !== undefined && ruleOf<boolean>(rules, name) === true
}

/** `message.required`, and the `required` of durations, timestamps and Anys. */
function isRequired(rules: Rules | undefined): boolean {
  if (rules === undefined) return false
  return flag(ruleOf<Rules>(rules, 'message'), 'required') || flag(typeOf(rules)?.value, 'required')
}

/** Explicit presence without a message: members of oneofs and `optional` fields (FeatureSet.FieldPresence.EXPLICIT). */
function hasPresence(field: DescField): boolean {
  return field.oneof !== undefined || field.presence === 1
}

function valueChecks(rules: Rules | undefined, where: string, field: DescField): ValueCheck[] {
  const type = typeOf(rules)
  if (type === undefined || type.case === 'repeated' || type.case === 'map') return []
  return compileChecks(type.case, type.value, where, field.enum)
}

function repeatedChecks(rules: Rules, where: string): ValueCheck[] {
  assertKnown(rules, ['minItems', 'maxItems', 'unique', 'items', 'ignoreEmpty'], where)
  const checks = sizeChecks(rules, 'minItems', 'maxItems', 'item')
  if (flag(rules, 'unique')) checks.push((list) => firstRepeated((list as unknown[]).map(unwrapped)))
  return checks
}

function mapChecks(rules: Rules, where: string): ValueCheck[] {
  // no_sparse forbids entries without a value; the decoders give none.
  assertKnown(rules, ['minPairs', 'maxPairs', 'noSparse', 'keys', 'values', 'ignoreEmpty'], where)
  return sizeChecks(rules, 'minPairs', 'maxPairs', 'entry')
}

function sizeChecks(rules: Rules, minRule: string, maxRule: string, what: string): ValueCheck[] {
  const min = ruleOf<bigint>(rules, minRule)
  const max = ruleOf<bigint>(rules, maxRule)
  const ignoreEmpty = flag(rules, 'ignoreEmpty')
  const checks: ValueCheck[] = []
  if (min !== undefined) {
    checks.push((list) => {
      const size = (list as unknown[]).length
      if (size >= min || (ignoreEmpty && size === 0)) return undefined
      return `value must contain at least ${min} ${what}(s), has ${size}`
    })
  }
  if (max !== undefined) {
    checks.push((list) => {
      const size = (list as unknown[]).length
      return size <= max ? undefined : `value must contain no more than ${max} ${what}(s), has ${size}`
    })
  }
  return checks
}

function firstRepeated(list: readonly unknown[]): string | undefined {
  const seen = new Set<unknown>()
  for (const item of list) {
    if (seen.has(item)) return `items must be unique, ${String(item)} is repeated`
    seen.add(item)
  }
  return undefined
}
