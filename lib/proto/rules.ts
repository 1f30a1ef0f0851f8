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
import { fieldValue, isSet, unwrapped } from './fields.ts'
import { fieldPath, indexPath, keyPath } from './path.ts'
import type { ProtoRegistry } from './registry.ts'
import { assertKnown, compileChecks, type Rules, ruleOf, type ValueCheck } from './rule-compile.ts'

/** What is to be checked of one field, made once for its message type. */
interface FieldPlan {
  readonly field: DescField
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
  readonly #rules: DescExtension | undefined
  readonly #required: DescExtension | undefined

  constructor(registry: ProtoRegistry) {
    this.#registry = registry
    this.#rules = registry.files.getExtension('validate.rules')
    this.#required = registry.files.getExtension('validate.required')
  }

  /** Every violation in the whole tree; paths begin with `path` and use protobuf names. */
  check(desc: DescMessage, message: Message, path: string): ConfigError[] {
    const errors: ConfigError[] = []
    this.#message(desc, message, { path, depth: 0, errors })
    return errors
  }

  #message(desc: DescMessage, message: Message, at: Position): void {
    if (at.depth >= MAX_DEPTH) {
      at.errors.push(new ConfigError(at.path, `is nested too deeply: more than ${MAX_DEPTH} levels`))
      return
    }
    const plan = this.#planOf(desc)
    for (let i = 0; i < plan.fields.length; i++) this.#field(plan.fields[i], message, at)
    for (const oneof of plan.oneofs) {
      if (oneof.fields.some((field) => isSet(message, field))) continue
      const names = oneof.fields.map((field) => field.name).join(', ')
      at.errors.push(new ConfigError(fieldPath(at.path, oneof.name), `value is required: one of ${names}`))
    }
  }

  #field(plan: FieldPlan, message: Message, at: Position): void {
    const field = plan.field
    const value = fieldValue(message, field)
    switch (field.fieldKind) {
      case 'list':
        this.#list(plan, value as unknown[], at)
        return
      case 'map':
        this.#map(plan, value as object, at)
        return
    }
    if (plan.onlySet && !isSet(message, field)) {
      if (plan.required) at.errors.push(new ConfigError(fieldPath(at.path, field.name), 'value is required'))
      return
    }
    if (plan.checks.length > 0) run(plan.checks, unwrapped(value), fieldPath(at.path, field.name), at.errors)
    if (plan.descend !== undefined) this.#descend(plan.descend, value as Message, fieldPath(at.path, field.name), at)
  }

  #list(plan: FieldPlan, list: unknown[], at: Position): void {
    if (list.length === 0 && plan.collectionChecks.length === 0) return
    const path = fieldPath(at.path, plan.field.name)
    run(plan.collectionChecks, list, path, at.errors)
    for (let i = 0; i < list.length; i++) {
      if (plan.checks.length > 0) run(plan.checks, unwrapped(list[i]), indexPath(path, i), at.errors)
      if (plan.descend !== undefined) this.#descend(plan.descend, list[i] as Message, indexPath(path, i), at)
    }
  }

  #map(plan: FieldPlan, map: object, at: Position): void {
    const path = fieldPath(at.path, plan.field.name)
    const entries = Object.entries(map)
    run(plan.collectionChecks, entries, path, at.errors)
    for (const [key, value] of entries) {
      const entryPath = keyPath(path, key)
      run(plan.keyChecks, key, entryPath, at.errors)
      run(plan.checks, unwrapped(value), entryPath, at.errors)
      if (plan.descend !== undefined) this.#descend(plan.descend, value as Message, entryPath, at)
    }
  }

  #descend(desc: DescMessage, message: Message, path: string, at: Position): void {
    const below = { path, depth: at.depth + 1, errors: at.errors }
    if (this.#registry.shape(desc).kind !== 'any') {
      this.#message(desc, message, below)
      return
    }
    const content = unpackAny(this.#registry, message as AnyMessage)
    if (content.kind !== 'message') return
    if (content.suffix !== '') below.path = fieldPath(path, content.suffix)
    this.#message(content.desc, content.message, below)
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
    const fields = desc.fields.map((field) => this.#fieldPlan(field)).filter((plan) => plan !== undefined)
    return fields.length === 0 && oneofs.length === 0 ? NOTHING : { fields, oneofs }
  }

  /** Undefined where there is nothing to check in or below the field. */
  #fieldPlan(field: DescField): FieldPlan | undefined {
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
    return { field, required, checks, keyChecks, collectionChecks, descend, onlySet }
  }

  #goesInto(desc: DescMessage): boolean {
    const { kind } = this.#registry.shape(desc)
    return kind === 'plain' || kind === 'any'
  }
}

/** Where a check stands; one object for each message. */
interface Position {
  path: string
  readonly depth: number
  readonly errors: ConfigError[]
}

function run(checks: readonly ValueCheck[], value: unknown, path: string, errors: ConfigError[]): void {
  for (let i = 0; i < checks.length; i++) {
    const wrong = checks[i](value)
    if (wrong !== undefined) errors.push(new ConfigError(path, wrong))
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
