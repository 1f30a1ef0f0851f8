import type { Json, JsonObject } from '../../../lib/core/errors.ts'
import { fieldPath, indexPath, keyPath } from '../../../lib/proto/path.ts'

/** A step from a message of a document to what is in it: a field, an item of a list, an entry of a map. */
export type Step = { readonly field: string } | { readonly index: number } | { readonly key: string }

/** How error paths spell the way; an Any adds nothing. */
export function spelled(steps: readonly Step[]): string {
  let path = ''
  for (const step of steps) {
    if ('field' in step) path = fieldPath(path, step.field)
    else path = 'index' in step ? indexPath(path, step.index) : keyPath(path, step.key)
  }
  return path
}

/** The message there. @throws where the document has none, which is a mistake of the prober. */
export function messageAt(document: JsonObject, steps: readonly Step[]): JsonObject {
  let at: Json = document
  for (const step of steps) {
    const name = 'field' in step ? step.field : 'key' in step ? step.key : step.index
    at = (at as { [name: string | number]: Json })[name]
    if (typeof at !== 'object' || at === null) throw new Error(`nothing at ${spelled(steps)}`)
  }
  return at as JsonObject
}

/** Whether what is said about `path` is about the field at `field` or something inside of it. */
export function isWithin(path: string, field: string): boolean {
  if (!path.startsWith(field)) return false
  const next = path[field.length]
  return next === undefined || next === '.' || next === '['
}
