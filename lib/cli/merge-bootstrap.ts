import type { DescField, DescMessage } from '@bufbuild/protobuf'
import type { ParsedConfig } from '../config/parse.ts'
import { stepsOf } from '../config/place.ts'
import type { Json, JsonObject, Place } from '../core/errors.ts'
import type { ProtoRegistry } from '../proto/registry.ts'

/** A list that was made of two: so many of its items are of the first. */
interface Joint {
  readonly steps: readonly (string | number)[]
  readonly first: number
}

/**
 * A bootstrap with another one merged into it, as Envoy merges `--config-yaml` into `--config-path` and as protobuf merges
 * messages: single values are replaced, messages are merged field by field, lists get longer, maps get or replace entries, a
 * member of a oneof takes the place of the other. What is not what the schema expects is replaced; whoever reads it says so.
 */
export function mergeBootstraps(first: ParsedConfig, second: ParsedConfig, registry: ProtoRegistry): ParsedConfig {
  const desc = registry.expect('envoy.config.bootstrap.v3.Bootstrap')
  const joints: Joint[] = []
  const value = new Merge(registry, joints).message(desc, first.value, second.value, [])
  return { value, place: (path) => placeOf(path, { first, second, joints }) }
}

class Merge {
  readonly #registry: ProtoRegistry
  readonly #joints: Joint[]

  constructor(registry: ProtoRegistry, joints: Joint[]) {
    this.#registry = registry
    this.#joints = joints
  }

  message(desc: DescMessage, first: Json, second: Json, at: readonly (string | number)[]): Json {
    // Well-known types (durations, Any, structs) are values in JSON; an Any is replaced as a whole, as its bytes would be.
    const { kind } = this.#registry.shape(desc)
    if (!isObject(first) || !isObject(second)) return second
    if (kind === 'struct') return { ...first, ...second }
    if (kind !== 'plain') return second
    const merged = new Map(Object.entries(first))
    const { bySpelling } = this.#registry.shape(desc)
    for (const [key, value] of Object.entries(second)) {
      const field = bySpelling.get(key)
      const known = field === undefined ? key : spellingIn(merged, field)
      const before = merged.get(known ?? key)
      if (field?.oneof !== undefined && known === undefined) {
        for (const other of field.oneof.fields) {
          merged.delete(other.name)
          merged.delete(other.jsonName)
        }
      }
      // Null is as good as absent.
      if (value === null && before !== undefined) continue
      const name = known ?? key
      merged.set(
        name,
        field === undefined || before === undefined ? value : this.#field(field, before, value, [...at, name]),
      )
    }
    return Object.fromEntries(merged)
  }

  #field(field: DescField, first: Json, second: Json, at: readonly (string | number)[]): Json {
    if (field.fieldKind === 'message') return this.message(field.message, first, second, at)
    if (field.fieldKind === 'map') return isObject(first) && isObject(second) ? { ...first, ...second } : second
    if (field.fieldKind === 'list' && Array.isArray(first) && Array.isArray(second)) {
      this.#joints.push({ steps: at, first: first.length })
      return [...first, ...second]
    }
    return second
  }
}

/** How a message spells a field that it has. */
function spellingIn(message: ReadonlyMap<string, Json>, { name, jsonName }: DescField): string | undefined {
  if (message.has(name)) return name
  return message.has(jsonName) ? jsonName : undefined
}

function isObject(value: Json): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** In the second where it has the field itself: what it says counts. Items of a list are where they came from. */
function placeOf(
  path: string,
  {
    first,
    second,
    joints,
  }: { readonly first: ParsedConfig; readonly second: ParsedConfig; readonly joints: readonly Joint[] },
): Place | undefined {
  const steps = stepsOf(path)
  for (const joint of joints) {
    const index = steps[joint.steps.length]
    if (typeof index !== 'number' || !joint.steps.every((step, i) => step === steps[i])) continue
    if (index < joint.first) return first.place(path)
    const own = [...joint.steps, index - joint.first, ...steps.slice(joint.steps.length + 1)]
    return second.place(pathOf(own))
  }
  return (has(second.value, steps) ? second : first).place(path)
}

function has(value: Json, steps: readonly (string | number)[]): boolean {
  let at: Json | undefined = value
  for (const step of steps) {
    if (typeof at !== 'object' || at === null || !Object.hasOwn(at, step)) return false
    at = (at as { readonly [key: string | number]: Json })[step]
  }
  return true
}

function pathOf(steps: readonly (string | number)[]): string {
  let path = ''
  for (const step of steps) {
    if (typeof step === 'number') path += `[${step}]`
    else path += path === '' ? step : `.${step}`
  }
  return path
}
