import type { DescField, DescMessage } from '@bufbuild/protobuf'
import type { Json, JsonObject } from '../../../lib/core/errors.ts'
import type { ProtoRegistry } from '../../../lib/proto/registry.ts'
import { isWithin, messageAt, type Step, spelled } from './place.ts'
import type { Values } from './values.ts'

/** What a document came to. */
export interface Judgement {
  readonly errors: readonly { readonly path: string; readonly message: string }[]
  readonly ignored: readonly string[]
}

/** Accepted, reported as without effect, or why it is refused. */
export type Verdict = 'accepted' | 'ignored' | { readonly refused: string }

/** What a field came to. */
export interface FieldVerdict {
  readonly verdict: Verdict
  /** Of an enum: values that came to something else than the field. */
  readonly values?: Readonly<Record<string, Verdict>>
}

/** What the fields of one message came to where it was reached. */
export interface MessageRecord {
  readonly type: string
  /** The resource or extension that it is part of. */
  readonly root: string
  /** `type.field` by which it was reached; '' for the root itself. */
  readonly edge: string
  readonly fields: ReadonlyMap<string, FieldVerdict>
}

/** What became of a type of extension in one place where it could stand. */
export interface ExtensionRecord {
  readonly point: string
  readonly type: string
  readonly edge: string
  readonly verdict: Verdict
  /** It stood in something that is not accepted itself. */
  readonly shadow: boolean
}

/** A document to begin with. */
export interface Root {
  readonly type: string
  readonly document: JsonObject
  judge(document: JsonObject): Judgement
}

export interface ProbeOptions {
  readonly registry: ProtoRegistry
  readonly values: Values
  /** A seed of an extension's configuration in that resource or extension, without its type. */
  seed(type: string, roots: readonly string[]): JsonObject
  /** The extension point at `type.field`, and the types that are tried there; undefined: not known. */
  pointAt(edge: string, by: string): { readonly name: string; readonly types: readonly string[] } | undefined
  /** Types that are roots of their own: not looked into elsewhere. */
  readonly apart: ReadonlySet<string>
  /**
   * Settings of the same message that a field needs, by `type.field`, `type.field=VALUE` or
   * `type.field>type.field`; null takes one away, `^` holds settings of the message above.
   */
  readonly beside: Readonly<Record<string, JsonObject>>
  /** `type.field` of those that are refused by an error at another place, since they do not go with what is there. */
  readonly elsewhere: ReadonlySet<string>
  /** Filters that must be the last of their chain. */
  readonly terminal: ReadonlySet<string>
}

interface Visit {
  readonly root: Root
  /** Type of the resource or extension that the message belongs to, then of what holds that. */
  readonly labels: readonly string[]
  readonly edge: string
  readonly desc: DescMessage
  readonly document: JsonObject
  readonly steps: readonly Step[]
  /** What it is part of is not accepted: only extensions that could stand in it are noted, with what becomes of them there. */
  readonly shadow: boolean
}

const TYPED: ReadonlySet<string> = new Set([
  'envoy.config.core.v3.TypedExtensionConfig',
  'xds.core.v3.TypedExtensionConfig',
])

/** Deeper than this nothing that is not accepted is looked into. */
const MAX_STEPS = 24

/** Sets every field of every message that a root can hold, one at a time, and notes what becomes of it. */
export class Prober {
  readonly messages: MessageRecord[] = []
  readonly extensions: ExtensionRecord[] = []
  /** What the prober could not do: each is a mistake in its data, not in what is probed. */
  readonly problems: string[] = []
  probes = 0
  readonly #options: ProbeOptions
  readonly #seen = new Set<string>()
  readonly #shadows: Visit[] = []

  constructor(options: ProbeOptions) {
    this.#options = options
  }

  run(root: Root): void {
    const desc = this.#options.registry.expect(root.type)
    const { errors } = root.judge(root.document)
    if (errors.length > 0) this.problems.push(`the seed of ${root.type}: ${describe(errors)}`)
    else this.#walk([{ root, labels: [root.type], edge: '', desc, document: root.document, steps: [], shadow: false }])
  }

  /** After all roots: what could stand in parts of them that are not accepted. Each place is visited once. */
  finish(): void {
    for (let visit = this.#shadows.shift(); visit !== undefined; visit = this.#shadows.shift()) {
      const key = keyOf(visit)
      if (this.#seen.has(key)) continue
      this.#seen.add(key)
      this.#look(visit)
    }
  }

  #walk(first: readonly Visit[]): void {
    const queue = [...first]
    for (let visit = queue.shift(); visit !== undefined; visit = queue.shift()) {
      const key = keyOf(visit)
      if (this.#seen.has(key)) continue
      this.#seen.add(key)
      const fields = new Map<string, FieldVerdict>()
      for (const field of visit.desc.fields) {
        try {
          fields.set(field.name, this.#field(visit, field, queue))
        } catch (error) {
          this.problems.push(
            `${visit.desc.typeName}.${field.name}: ${error instanceof Error ? error.message : String(error)}`,
          )
        }
      }
      this.messages.push({ type: visit.desc.typeName, root: visit.labels[0], edge: visit.edge, fields })
    }
  }

  /** Extensions below what is not accepted. */
  #look(visit: Visit): void {
    if (visit.steps.length > MAX_STEPS) return
    for (const field of visit.desc.fields) {
      if (field.message === undefined) continue
      const edge = `${visit.desc.typeName}.${field.name}`
      try {
        if (this.#isExtension(field.message)) {
          if (this.#options.pointAt(edge, visit.edge) !== undefined) this.#extension(visit, field, [])
          continue
        }
        const at = { roots: visit.labels, edge: visit.edge, depth: 0 }
        const [value] = this.#options.values.values(visit.desc, field, at)
        this.#descend({ ...visit, ...this.#with(visit, field, value), edge, desc: field.message }, [])
      } catch {
        // A message that cannot be made holds no extension that anybody has asked about.
      }
    }
  }

  #field(visit: Visit, field: DescField, queue: Visit[]): FieldVerdict {
    const edge = `${visit.desc.typeName}.${field.name}`
    if (field.message !== undefined && this.#isExtension(field.message)) return this.#extension(visit, field, queue)
    const verdicts = new Map<string, Verdict>()
    const options = this.#options
    for (const value of options.values.values(visit.desc, field, { roots: visit.labels, edge: visit.edge, depth: 0 })) {
      const { document, steps } = this.#with(visit, field, value)
      const verdict = this.#judge(visit, document, steps, edge)
      verdicts.set(Array.isArray(value) ? String(value[0]) : String(value), verdict)
      if (field.message !== undefined) {
        this.#descend({ ...visit, document, steps, edge, desc: field.message, shadow: verdict !== 'accepted' }, queue)
      }
    }
    return summary(verdicts, field.enum !== undefined)
  }

  #descend(visit: Visit, queue: Visit[]): void {
    const { registry, apart } = this.#options
    if (registry.shape(visit.desc).kind !== 'plain' || apart.has(visit.desc.typeName)) return
    if (visit.shadow) this.#shadows.push(visit)
    else queue.push(visit)
  }

  #isExtension(desc: DescMessage): boolean {
    return TYPED.has(desc.typeName) || desc.typeName === 'google.protobuf.Any'
  }

  /** The document with the field set, and where its value is then: the first item or entry of a list or map. */
  #with(visit: Visit, field: DescField, value: Json, choice = String(value)): { document: JsonObject; steps: Step[] } {
    const document = structuredClone(visit.document)
    const message = messageAt(document, visit.steps)
    for (const other of field.oneof?.fields ?? []) if (other !== field) delete message[other.name]
    const { beside } = this.#options
    const name = `${visit.desc.typeName}.${field.name}`
    const { '^': above, ...own } = structuredClone(
      beside[`${name}=${choice}`] ?? beside[`${visit.edge}>${name}`] ?? beside[name] ?? {},
    )
    assign(message, own)
    if (above !== undefined) assign(messageAt(document, holder(visit.steps)), above as JsonObject)
    message[field.name] = value
    const steps: Step[] = [...visit.steps, { field: field.name }]
    if (field.fieldKind === 'list') steps.push({ index: 0 })
    if (field.fieldKind === 'map') steps.push({ key: Object.keys(value as object)[0] })
    return { document, steps }
  }

  #judge(visit: Visit, document: JsonObject, steps: readonly Step[], edge: string, typed = false): Verdict {
    this.probes++
    const { errors, ignored } = visit.root.judge(document)
    // Of a list or map what is said about it as a whole counts as well.
    const last = steps.at(-1)
    const place = spelled(last !== undefined && 'field' in last ? steps : steps.slice(0, -1))
    if (errors.length > 0) {
      const own = errors.filter(({ path }) => isWithin(path, place) || (visit.shadow && isWithin(place, path)))
      const { elsewhere } = this.#options
      const known = visit.shadow || elsewhere.has(edge) || elsewhere.has(`${visit.edge}>${edge}`)
      if (own.length === 0 && !known) this.problems.push(`${edge} at ${place}: ${describe(errors)}`)
      const reasons = new Set((own.length > 0 ? own : errors).map(({ message }) => message))
      return { refused: [...reasons].join('; ') }
    }
    const own = spelled(typed ? [...steps, { field: 'typed_config' }] : steps)
    return ignored.some((path) => isWithin(place, path) || isWithin(own, path) || isLeaf(path, place))
      ? 'ignored'
      : 'accepted'
  }

  #extension(visit: Visit, field: DescField, queue: Visit[]): FieldVerdict {
    const edge = `${visit.desc.typeName}.${field.name}`
    const point = this.#options.pointAt(edge, visit.edge)
    if (point === undefined) {
      this.problems.push(`no extension point is known at ${edge}`)
      return { verdict: { refused: 'not probed' } }
    }
    const verdicts: Verdict[] = []
    for (const type of point.types) {
      const any: JsonObject = { '@type': `type.googleapis.com/${type}`, ...this.#options.seed(type, visit.labels) }
      const typed = TYPED.has(field.message?.typeName ?? '')
      const value: Json = typed ? { name: 'probe', typed_config: any } : any
      const wrapped = field.fieldKind === 'list' ? [value] : field.fieldKind === 'map' ? { probe: value } : value
      const { document, steps } = this.#with(visit, field, wrapped, type)
      if (this.#options.terminal.has(type)) endChain(document, visit.steps)
      const verdict = this.#judge(visit, document, steps, edge, typed)
      verdicts.push(verdict)
      this.extensions.push({ point: point.name, type, edge, verdict, shadow: visit.shadow })
      const desc = this.#options.registry.message(type)
      if (desc === undefined) continue
      const inside: Step[] = typed ? [...steps, { field: 'typed_config' }] : steps
      const shadow = visit.shadow || verdict !== 'accepted'
      this.#descend(
        { root: visit.root, labels: [type, ...visit.labels], edge: '', desc, document, steps: inside, shadow },
        queue,
      )
    }
    return {
      verdict: verdicts.find((one) => one === 'accepted') ?? verdicts.find((one) => one === 'ignored') ?? verdicts[0],
    }
  }
}

function keyOf({ labels, edge, desc }: Visit): string {
  return `${labels[0]} ${edge || desc.typeName} ${desc.typeName}`
}

function assign(message: JsonObject, settings: JsonObject): void {
  Object.assign(message, settings)
  for (const [name, set] of Object.entries(message)) if (set === null) delete message[name]
}

/** The message that holds the one there. */
function holder(steps: readonly Step[]): readonly Step[] {
  const last = steps.findLastIndex((step) => 'field' in step)
  return steps.slice(0, Math.max(last, 0))
}

/** Takes away what follows in the list that the message is in. */
function endChain(document: JsonObject, steps: readonly Step[]): void {
  const last = steps.at(-1)
  if (last !== undefined && 'index' in last) {
    const list = messageAt(document, steps.slice(0, -1)) as unknown as Json[]
    list.length = last.index + 1
  }
}

/** Something that is said about part of a value which is no message. */
function isLeaf(path: string, place: string): boolean {
  return path.startsWith(`${place}[`) && /^\[(?:\d+|"(?:[^"\\]|\\.)*")\]$/.test(path.slice(place.length))
}

function summary(verdicts: ReadonlyMap<string, Verdict>, isEnum: boolean): FieldVerdict {
  const all = [...verdicts.values()]
  const verdict = all.find((one) => one === 'accepted') ?? all.find((one) => one === 'ignored') ?? all[0]
  if (!isEnum) return { verdict }
  const others = [...verdicts].filter(([, one]) => JSON.stringify(one) !== JSON.stringify(verdict))
  return others.length === 0 ? { verdict } : { verdict, values: Object.fromEntries(others) }
}

function describe(errors: Judgement['errors']): string {
  return errors.map(({ path, message }) => `${path}: ${message}`).join(' | ')
}
