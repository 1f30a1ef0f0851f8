import type { Json, JsonObject } from '../../core/errors.ts'
import type { Host } from '../host.ts'

/** Where hosts have the labels that subsets go by. */
const NAMESPACE = 'envoy.lb'

/** Labels that are asked for, ready to be looked up. */
export interface Criteria {
  readonly labels: JsonObject
  /** In order, so that `key` does not depend on theirs. */
  readonly keys: readonly string[]
  /** Equal for equal keys and values. */
  readonly key: string
}

export function criteriaOf(labels: JsonObject): Criteria {
  const keys = Object.keys(labels).sort()
  let key = ''
  for (const name of keys) key += spellPair(name, labels[name])
  return { labels, keys, key }
}

/** Those of the labels that have these keys. */
export function onlyKeys(labels: JsonObject, keys: readonly string[]): JsonObject {
  const left: JsonObject = Object.create(null)
  for (const key of keys) if (Object.hasOwn(labels, key)) left[key] = labels[key]
  return left
}

/** Undefined where the host has none. */
export function labelsOf({ metadata }: Host): JsonObject | undefined {
  const labels = metadata?.[NAMESPACE]
  return isObject(labels) ? labels : undefined
}

/**
 * The subsets by these keys that a host is in, as `Criteria.key` names them: one, or none where it lacks a key; with
 * `listAsAny` one for each combination of the values of lists. `keys` are in order.
 */
export function subsetKeys(host: Host, keys: readonly string[], listAsAny: boolean): readonly string[] {
  const labels = labelsOf(host)
  let found: string[] = ['']
  for (const key of keys) {
    if (labels === undefined || !Object.hasOwn(labels, key)) return []
    const value = labels[key]
    if (!listAsAny || !Array.isArray(value)) found = found.map((before) => before + spellPair(key, value))
    else found = found.flatMap((before) => value.map((one) => before + spellPair(key, one)))
  }
  return found.length > 1 ? [...new Set(found)] : found
}

/** Whether a host has all of these; a list of its own with `listAsAny` where one of its values is equal. */
export function hasLabels(host: Host, wanted: JsonObject, listAsAny: boolean): boolean {
  const labels = labelsOf(host)
  for (const key of Object.keys(wanted)) {
    if (labels === undefined || !Object.hasOwn(labels, key)) return false
    const spelling = spell(wanted[key])
    const value = labels[key]
    const any = listAsAny && Array.isArray(value) && value.some((one) => spell(one) === spelling)
    if (!any && spell(value) !== spelling) return false
  }
  return true
}

export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function spellPair(key: string, value: Json): string {
  return `${JSON.stringify(key)}:${spell(value)},`
}

/** JSON with the keys of objects in order. */
function spell(value: Json): string {
  if (Array.isArray(value)) return `[${value.map(spell).join()}]`
  if (!isObject(value)) return JSON.stringify(value)
  return `{${Object.keys(value)
    .sort()
    .map((key) => `${JSON.stringify(key)}:${spell(value[key])}`)
    .join()}}`
}
