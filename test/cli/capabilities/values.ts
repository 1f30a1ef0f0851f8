import { type DescEnum, type DescField, type DescMessage, getOption, hasOption, ScalarType } from '@bufbuild/protobuf'
import type { Json, JsonObject } from '../../../lib/core/errors.ts'
import type { ProtoRegistry } from '../../../lib/proto/registry.ts'

/** A decoded rule message: members are there only where they are set. */
type Rules = { readonly [name: string]: unknown }

/** Values that rules cannot tell. */
export interface Hints {
  /** A valid message of each type that the rules alone do not make one of; `root>type` within one resource or extension. */
  readonly seeds: Readonly<Record<string, JsonObject>>
  /** By `type.field`, or `type.field>type.field` for messages that are reached by the first: a valid value. */
  readonly values: Readonly<Record<string, Json>>
  /** By the `type.field` of a DataSource: the name of the file that holds what it should. */
  readonly content: Readonly<Record<string, string>>
  /** By path. */
  readonly files: ReadonlyMap<string, Buffer>
}

/** Where a value is to stand. */
export interface At {
  /** The resource or extension, and those that hold it, innermost first. */
  readonly roots: readonly string[]
  /** The `type.field` by which its message is reached. */
  readonly edge: string
  readonly depth: number
}

const HERE: At = Object.freeze({ roots: Object.freeze([]), edge: '', depth: 0 })
const DATA_SOURCE = 'envoy.config.core.v3.DataSource'

const MAX_DEPTH = 6

/** Makes plausible values for fields: such that the validation rules of Envoy's API hold, and none is a default. */
export class Values {
  readonly #registry: ProtoRegistry
  readonly #hints: Hints

  constructor(registry: ProtoRegistry, hints: Hints) {
    this.#registry = registry
    this.#hints = hints
  }

  /** A minimal message of the type: what its rules require, and nothing else. */
  message(desc: DescMessage, at: At = HERE): JsonObject {
    const { seeds } = this.#hints
    const { depth } = at
    const own = at.roots.map((root) => seeds[`${root}>${desc.typeName}`]).find((one) => one !== undefined)
    const seed = own ?? seeds[desc.typeName]
    if (seed !== undefined) return structuredClone(seed)
    if (depth > MAX_DEPTH) throw new Error(`${desc.typeName} needs itself: give it a seed`)
    const made: JsonObject = {}
    for (const field of desc.fields) {
      if (field.oneof === undefined && this.#isRequired(field)) made[field.name] = this.values(desc, field, at)[0]
    }
    for (const oneof of desc.oneofs) {
      if (this.#option(oneof, 'validate.required') !== true) continue
      Object.assign(made, this.#member(desc, oneof.fields, at))
    }
    return made
  }

  /** The first member of a oneof that can be made; deprecated ones last. */
  #member(desc: DescMessage, fields: readonly DescField[], at: At): JsonObject {
    const sorted = [...fields.filter((one) => !one.deprecated), ...fields.filter((one) => one.deprecated)]
    for (const field of sorted) {
      try {
        return { [field.name]: this.values(desc, field, at)[0] }
      } catch {
        // It holds its own kind, or an extension.
      }
    }
    throw new Error(`no member of ${desc.typeName} can be made: give it a seed`)
  }

  /** Values to set the field to, each by itself: one, but of enums all that are not the default. */
  values(owner: DescMessage, field: DescField, at: At = HERE): readonly Json[] {
    const { values, content } = this.#hints
    const { edge } = at
    const name = `${owner.typeName}.${field.name}`
    const hint = values[`${edge}>${name}`] ?? values[name]
    if (hint !== undefined) return [structuredClone(hint)]
    if (owner.typeName === DATA_SOURCE) return [this.#source(field.name, content[edge] ?? 'text.txt')]
    if (field.message?.typeName === DATA_SOURCE && content[name] !== undefined) {
      const source = { filename: `/probe/${content[name]}` }
      return [field.fieldKind === 'list' ? [source] : field.fieldKind === 'map' ? { probe: source } : source]
    }
    switch (field.fieldKind) {
      case 'list': {
        const inner = this.#inner(field, 'repeated', 'items')
        const values = this.#singular(field, inner, at)
        const least = Number(this.#type(field)?.minItems ?? 1n)
        return values.map((value) => Array.from({ length: Math.max(1, least) }, () => value))
      }
      case 'map':
        return this.#singular(field, this.#inner(field, 'map', 'values'), at).map((value) => ({
          [field.mapKey === ScalarType.STRING ? 'probe' : '1']: value,
        }))
      default:
        return this.#singular(field, this.#rules(field), at)
    }
  }

  /** One member of a DataSource that leads to the content of a file. */
  #source(member: string, file: string): Json {
    const bytes = this.#hints.files.get(`/probe/${file}`)
    if (bytes === undefined) throw new Error(`no file ${file}`)
    if (member === 'inline_bytes') return bytes.toString('base64')
    if (member === 'inline_string') return bytes.toString('utf8')
    if (member === 'environment_variable') return file
    return member === 'filename' ? `/probe/${file}` : { path: '/probe' }
  }

  #singular(field: DescField, rules: Rules | undefined, at: At): readonly Json[] {
    if (field.message !== undefined) {
      return [this.#content(field.message, rules, { ...at, edge: '', depth: at.depth + 1 })]
    }
    if (field.enum !== undefined) return enumValues(field.enum, typeRules(rules))
    return [scalar(field, typeRules(rules))]
  }

  #content(desc: DescMessage, rules: Rules | undefined, at: At): Json {
    switch (this.#registry.shape(desc).kind) {
      case 'wrapper':
        return scalar(desc.fields[0], typeRules(rules))
      case 'duration':
        return duration(typeRules(rules))
      case 'timestamp':
        return '2030-01-01T00:00:00Z'
      case 'field-mask':
        return 'probe'
      case 'struct':
        return { probe: 'value' }
      case 'value':
        return 'probe'
      case 'list-value':
        return ['probe']
      case 'any':
        throw new Error('an Any is no value: it needs an extension point')
      default:
        return this.message(desc, at)
    }
  }

  #isRequired(field: DescField): boolean {
    const rules = this.#rules(field)
    const type = this.#type(field)
    if ((rules?.message as Rules | undefined)?.required === true || type?.required === true) return true
    if (type === undefined || type.ignoreEmpty === true) return false
    const { minLen, minBytes, minItems, len, pattern, wellKnown, gt, gte, notIn, prefix, in: among } = type
    if ([minLen, minBytes, minItems, len].some((least) => Number(least ?? 0n) > 0)) return true
    if (field.message !== undefined || hasPresence(field)) return false
    if (typeof pattern === 'string' && pattern !== '' && !new RegExp(pattern).test('')) return true
    if ((wellKnown as { case?: string } | undefined)?.case !== undefined || (prefix ?? '') !== '') return true
    if (Number(gt ?? -1) >= 0 || Number(gte ?? 0) > 0) return true
    if (Array.isArray(among) && among.length > 0 && !among.some((one) => Number(one) === 0)) return true
    return Array.isArray(notIn) && notIn.some((one) => Number(one) === 0)
  }

  #inner(field: DescField, kind: string, member: string): Rules | undefined {
    const type = this.#rules(field)?.type as { case?: string; value?: Rules } | undefined
    return type?.case === kind ? (type.value?.[member] as Rules | undefined) : undefined
  }

  #type(field: DescField): Rules | undefined {
    return typeRules(this.#rules(field))
  }

  #rules(field: DescField): Rules | undefined {
    const extension = this.#registry.files.getExtension('validate.rules')
    if (extension === undefined || !hasOption(field, extension)) return undefined
    return own(getOption(field, extension) as unknown as Rules)
  }

  #option(desc: Parameters<typeof getOption>[0], name: string): unknown {
    const extension = this.#registry.files.getExtension(name)
    return extension === undefined ? undefined : getOption(desc as DescField, extension)
  }
}

function typeRules(rules: Rules | undefined): Rules | undefined {
  const type = rules?.type as { case?: string; value?: Rules } | undefined
  return type?.case === undefined ? undefined : own(type.value)
}

/** What is not given has its default in the prototype. */
function own(rules: Rules | undefined): Rules | undefined {
  return rules && Object.assign(Object.create(null) as Rules, rules)
}

function hasPresence(field: DescField): boolean {
  return field.oneof !== undefined || field.presence === 1
}

function enumValues(desc: DescEnum, rules: Rules | undefined): readonly Json[] {
  const forbidden = new Set((rules?.notIn as number[] | undefined) ?? [])
  const allowed = rules?.in as number[] | undefined
  const values = desc.values.filter(({ number }) => {
    return (
      number !== 0 &&
      !forbidden.has(number) &&
      (allowed === undefined || allowed.length === 0 || allowed.includes(number))
    )
  })
  return (values.length > 0 ? values : desc.values).map(({ name }) => name)
}

function scalar(field: DescField, rules: Rules | undefined): Json {
  switch (field.scalar) {
    case ScalarType.BOOL:
      return true
    case ScalarType.STRING:
      return text(field.name, rules)
    case ScalarType.BYTES:
      return Buffer.from('probe').toString('base64')
    default:
      return number(rules)
  }
}

function text(name: string, rules: Rules | undefined): string {
  const among = rules?.in as string[] | undefined
  if (among !== undefined && among.length > 0) return among[0]
  if (typeof rules?.const === 'string' && rules.const !== '') return rules.const
  const known = (rules?.wellKnown as { case?: string } | undefined)?.case
  if (known === 'address' || known === 'ip' || known === 'ipv4') return '192.0.2.1'
  if (known === 'uri' || known === 'uriRef') return 'http://probe.example/'
  if (/header/.test(name)) return 'x-probe'
  if (/path/.test(name)) return '/probe'
  const text = `${(rules?.prefix as string | undefined) ?? ''}probe${(rules?.suffix as string | undefined) ?? ''}`
  return text.padEnd(Number(rules?.minLen ?? rules?.minBytes ?? 0n), 'x')
}

function number(rules: Rules | undefined): number {
  const among = rules?.in as (number | bigint)[] | undefined
  if (among !== undefined && among.length > 0) return Number(among.find((one) => Number(one) !== 0) ?? among[0])
  const at = (name: string): number | undefined => (rules?.[name] === undefined ? undefined : Number(rules[name]))
  const least = at('gte') ?? (at('gt') === undefined ? undefined : (at('gt') as number) + 1)
  const most = at('lte') ?? (at('lt') === undefined ? undefined : (at('lt') as number) - 1)
  if (least !== undefined && least > 1) return least
  return most !== undefined && most < 1 ? most : 1
}

function duration(rules: Rules | undefined): string {
  const seconds = (name: string): number | undefined => {
    const value = rules?.[name] as { seconds: bigint; nanos: number } | undefined
    return value === undefined ? undefined : Number(value.seconds) + value.nanos / 1e9
  }
  const least = Math.max(seconds('gte') ?? 0, seconds('gt') ?? 0)
  const most = Math.min(seconds('lte') ?? Number.POSITIVE_INFINITY, seconds('lt') ?? Number.POSITIVE_INFINITY)
  if (least >= 1) return `${least + 1}s`
  return most <= 1 ? `${most / 2}s` : '1s'
}
