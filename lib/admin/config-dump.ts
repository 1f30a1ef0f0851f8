import type { GatewayConfig } from '../config/model.ts'
import type { DynamicStatus } from '../config/status.ts'
import { ConfigError, type JsonObject } from '../core/errors.ts'
import { compileRegex } from '../match/regex.ts'
import { typeNameOf } from '../proto/decode-json.ts'
import type { ProtoRegistry } from '../proto/registry.ts'
import { applyMask, type FieldMask, maskFits, maskNode, maskOf, parseMask } from './dump/mask.ts'
import { type DumpNode, jsonNode, writeNode } from './dump/node.ts'
import { Pace } from './dump/pace.ts'
import type { DumpInput, DumpSection } from './dump/parts.ts'
import { TYPE_PREFIX } from './dump/resource-json.ts'
import { dumpSections } from './dump/sections.ts'
import { isObject } from './dump/source-json.ts'
import type { AdminAnswer, AdminRequest } from './endpoint.ts'
import { text } from './endpoint.ts'
import { redact } from './redact.ts'
import type { SecretSchema } from './secret-schema.ts'

/**
 * Envoy's `/config_dump` (`envoy.admin.v3.ConfigDump`) with its parameters: `resource` (one list of one part), `mask`,
 * `name_regex` (RE2, the whole name) and `include_eds`. Secrets are left out. It is written resource by resource, and the
 * event loop turns in between. The last entry, a `Struct`, is ours: the fields that are set and have no effect here, and
 * resources that come from an earlier run. A native configuration has no source and is shown as it is, in a `Struct`.
 */
export async function configDump({ query, backend }: AdminRequest, schema: SecretSchema): Promise<AdminAnswer> {
  const running = backend.configuration()
  if (running === undefined) return text('there is no configuration yet\n', 503)
  const wanted = nameMatcher(query.get('name_regex'))
  if (wanted instanceof ConfigError) return text(`INVALID_ARGUMENT: ${wanted.message}\n`, 400)
  const dynamic = backend.dynamic()
  const engine = query.has('include_eds') ? await backend.status() : undefined
  const input: DumpInput = { ...running, schema, dynamic, engine, wanted }
  const maskText = query.get('mask')
  const mask = maskText === null ? undefined : parseMask(maskText)
  const resource = query.get('resource')
  const sections = dumpSections(input)
  if (resource !== null) return oneResource(sections, resource, { mask, registry: schema.registry })
  const entries = sections.flatMap((part) => entryOf(part, mask) ?? [])
  if (mask === undefined) {
    if (running.config.source === undefined)
      entries.splice(
        0,
        1,
        jsonNode(() => nativeDump(running.config)),
      )
    entries.push(jsonNode(() => ownEntry(running.config, dynamic)))
  } else if (entries.length === 0) {
    return text(`FieldMask ${maskText} could not be successfully applied to any configs.`, 400)
  }
  return answer(entries)
}

function nameMatcher(pattern: string | null): ((name: string) => boolean) | ConfigError {
  if (pattern === null || pattern === '') return () => true
  try {
    const regex = compileRegex(pattern)
    return (name) => regex.matches(name)
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error)
    return new ConfigError('name_regex', `Error while parsing name_regex from ${pattern}: ${why}`)
  }
}

/** A part of the dump; undefined where the mask names fields that it does not have. */
function entryOf({ desc, fields }: DumpSection, mask: FieldMask | undefined): DumpNode | undefined {
  if (mask !== undefined && !maskFits(mask, desc)) return undefined
  const type: readonly [string, DumpNode] = ['@type', jsonNode(() => TYPE_PREFIX + desc.typeName)]
  const node: DumpNode = { kind: 'object', fields: [type, ...fields] }
  return mask === undefined ? node : maskNode(node, mask.fields)
}

/** The entries of one repeated field of any part, each as an entry of the dump. */
function oneResource(
  sections: readonly DumpSection[],
  name: string,
  { mask, registry }: { readonly mask: FieldMask | undefined; readonly registry: ProtoRegistry },
): AdminAnswer {
  for (const { desc, fields } of sections) {
    const field = desc.fields.find((f) => f.name === name)
    if (field === undefined) continue
    if (field.fieldKind !== 'list' || field.message === undefined) {
      return text(`${name} is not a repeated field. Use ?mask=${name} to get only this field`, 400)
    }
    const type = { '@type': TYPE_PREFIX + field.message.typeName }
    const node = fields.find(([of]) => of === name)?.[1]
    const masked = mask === undefined ? undefined : new ResourceMask(mask, field.message, registry)
    const items = (node?.kind === 'list' ? node.items : [])[Symbol.iterator]()
    // The mask looks into the resource, whose type shows only there.
    const first = items.next()
    if (first.done === true) return answer([])
    const before = first.value.kind === 'json' ? (first.value.make() as JsonObject) : {}
    if (masked !== undefined && !masked.fits(before)) {
      const paths = (mask as FieldMask).paths.map((path) => `paths: ${JSON.stringify(path)}\n`).join('')
      return text(`FieldMask ${paths} could not be successfully used.`, 400)
    }
    const entry = (value: JsonObject): JsonObject => ({ ...type, ...(masked?.apply(value) ?? value) })
    return answer(rest(before, items, entry))
  }
  return text(`${name} not found in config dump`, 404)
}

function* rest(
  first: JsonObject,
  others: Iterator<DumpNode>,
  entry: (value: JsonObject) => JsonObject,
): Generator<DumpNode, void, void> {
  yield jsonNode(() => entry(first))
  for (let next = others.next(); next.done !== true; next = others.next()) {
    const item = next.value
    if (item.kind === 'json') yield jsonNode(() => entry(item.make() as JsonObject))
  }
}

/** A mask for an entry that has its resource in an Any: paths below that one mean the resource's own fields. */
class ResourceMask {
  readonly #outer: FieldMask
  readonly #inner: FieldMask
  readonly #any: string | undefined
  readonly #desc: DumpSection['desc']
  readonly #registry: ProtoRegistry

  constructor(mask: FieldMask, desc: DumpSection['desc'], registry: ProtoRegistry) {
    const any = desc.fields.find((f) => f.fieldKind === 'message' && f.message.typeName === 'google.protobuf.Any')?.name
    const within = (path: string): boolean => path === any || path.startsWith(`${any}.`)
    const inside = mask.paths.filter(within)
    this.#desc = desc
    this.#registry = registry
    this.#any = inside.length > 0 ? any : undefined
    this.#outer = maskOf(mask.paths.map((path) => (within(path) ? String(any) : path)))
    this.#inner = maskOf(inside.includes(String(any)) ? [] : inside.map((path) => path.slice(String(any).length + 1)))
  }

  fits(entry: JsonObject): boolean {
    if (!maskFits(this.#outer, this.#desc)) return false
    const resource = this.#any === undefined ? undefined : entry[this.#any]
    // Without a schema there is nothing that says which fields it has.
    if (!isObject(resource) || this.#inner.paths.length === 0) return true
    const desc = this.#registry.message(typeNameOf(String(resource['@type'])))
    return desc !== undefined && maskFits(this.#inner, desc)
  }

  apply(entry: JsonObject): JsonObject {
    const out = applyMask(entry, this.#outer.fields) as JsonObject
    const resource = this.#any === undefined ? undefined : out[this.#any]
    if (this.#any === undefined || !isObject(resource)) return out
    return { ...out, [this.#any]: applyMask(resource, this.#inner.fields) }
  }
}

function answer(entries: Iterable<DumpNode>): AdminAnswer {
  const configs: DumpNode = { kind: 'list', items: entries }
  const body = writeNode({ kind: 'object', fields: [['configs', configs]] }, new Pace())
  return { status: 200, type: 'application/json', body }
}

/** What Envoy's dump has no place for. */
function ownEntry(config: GatewayConfig, dynamic: DynamicStatus | undefined): JsonObject {
  const stale = (dynamic?.resources ?? []).filter((resource) => resource.stale)
  const value: JsonObject = { ignored_fields: [...config.ignored] }
  if (stale.length > 0) {
    value.stale_resources = stale.map(({ typeName, name, source }) => ({ type: typeName, name, source }))
  }
  return { '@type': `${TYPE_PREFIX}google.protobuf.Struct`, value }
}

/** The data only: filter objects of an embedded gateway are code. */
export function nativeDump(config: GatewayConfig): JsonObject {
  const value = JSON.parse(
    JSON.stringify(config, (key, item: unknown) => (key === 'instance' ? '[object]' : item)),
  ) as JsonObject
  return { '@type': `${TYPE_PREFIX}google.protobuf.Struct`, value: redact(value) }
}
