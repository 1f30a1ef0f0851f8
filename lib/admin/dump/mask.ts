import type { DescMessage } from '@bufbuild/protobuf'
import type { Json, JsonObject } from '../../core/errors.ts'
import type { DumpNode } from './node.ts'

/** What a `google.protobuf.FieldMask` keeps: fields by protobuf name; one without fields of its own is kept whole. */
export interface FieldMask {
  readonly paths: readonly string[]
  readonly fields: MaskFields
}

type MaskFields = ReadonlyMap<string, MaskFields>
type MutableFields = Map<string, MutableFields>

/** From the text form: paths with commas between them. */
export function parseMask(text: string): FieldMask {
  return maskOf(text.split(',').filter((path) => path !== ''))
}

export function maskOf(paths: readonly string[]): FieldMask {
  const fields: MutableFields = new Map()
  const whole = new Set<MutableFields>()
  for (const path of paths) {
    let at = fields
    for (const name of path.split('.')) {
      // A path above this one keeps all of it already.
      if (whole.has(at)) break
      let next = at.get(name)
      if (next === undefined) at.set(name, (next = new Map()))
      at = next
    }
    at.clear()
    whole.add(at)
  }
  return { paths, fields }
}

/** True where every path names a field of the message; a path cannot go through lists and maps, as in Envoy. */
export function maskFits(mask: FieldMask, desc: DescMessage): boolean {
  return mask.paths.every((path) => {
    let at: DescMessage | undefined = desc
    for (const name of path.split('.')) {
      const field: DescMessage['fields'][number] | undefined = at?.fields.find((f) => f.name === name)
      if (field === undefined) return false
      at = field.fieldKind === 'message' ? field.message : undefined
    }
    return true
  })
}

/** What is left of a message; a mask without paths leaves all. */
export function applyMask(value: Json, fields: MaskFields): Json {
  if (fields.size === 0 || typeof value !== 'object' || value === null || Array.isArray(value)) return value
  const out: JsonObject = {}
  for (const [name, item] of Object.entries(value)) {
    const inner = fields.get(name)
    if (inner !== undefined || name === '@type') out[name] = applyMask(item, inner ?? WHOLE)
  }
  return out
}

/** The same for what is not made yet. */
export function maskNode(node: DumpNode, fields: MaskFields): DumpNode {
  if (fields.size === 0 || node.kind === 'list') return node
  if (node.kind === 'json') return { kind: 'json', make: () => applyMask(node.make(), fields) }
  return { kind: 'object', fields: maskFields(node.fields, fields) }
}

function* maskFields(
  all: Iterable<readonly [string, DumpNode]>,
  fields: MaskFields,
): Generator<readonly [string, DumpNode], void, void> {
  for (const [name, node] of all) {
    const inner = fields.get(name)
    if (inner !== undefined || name === '@type') yield [name, maskNode(node, inner ?? WHOLE)]
  }
}

const WHOLE: MaskFields = Object.freeze(new Map<string, MaskFields>())
