import { z } from 'zod'
import type { Json } from '../../../core/errors.ts'
import { describe, isObject } from '../../../proto/describe.ts'

/*
 * What the schemas of this folder are made of. Schemas only judge: what they answer is never used, the configuration is
 * read from the author's own objects, so that filter objects keep their identity.
 */

/** JSON may nest this deep; deeper is a mistake or a cycle. */
const MAX_DEPTH = 64

/** A schema for each field of an interface: the compiler sees to it that none is forgotten. */
export type Shape<T> = { readonly [K in keyof T]-?: z.ZodType<T[K]> }

/** An object with these fields and no others; the message about others lists the fields, so that one can be suggested. */
export function object<T>(shape: Shape<T>): z.ZodType<T> {
  const known = Object.keys(shape).join(' ')
  return z.strictObject(shape as { [key: string]: z.ZodType }, {
    error: (issue) => (issue.code === 'unrecognized_keys' ? known : undefined),
  }) as unknown as z.ZodType<T>
}

/**
 * A value that may be written in several ways; `pick` chooses the schema by looking at it. Unlike a zod union, mistakes
 * inside are those of the form that was meant.
 */
export function choose<T>(expected: string, pick: (value: unknown) => z.ZodType | undefined): z.ZodType<T> {
  return z.unknown().check((context) => {
    const { value } = context
    const schema = pick(value)
    if (schema === undefined) {
      context.issues.push({ code: 'custom', input: value, message: mustBe(expected, value) })
      return
    }
    judge(schema, value, { context, path: [] })
  }) as unknown as z.ZodType<T>
}

/** An object whose field `kind` says which of these it is. Each schema is made when it is first needed: some hold themselves. */
export function byKind<T>(kinds: { readonly [kind: string]: () => z.ZodType }): z.ZodType<T> {
  const names = Object.keys(kinds)
  const unknownKind = z.looseObject({ kind: z.literal(names) })
  const made = new Map<string, z.ZodType>()
  return choose(`an object with a kind: ${names.join(', ')}`, (value) => {
    if (!isObject(value)) return undefined
    const { kind } = value
    if (typeof kind !== 'string' || !Object.hasOwn(kinds, kind)) return unknownKind
    const schema = made.get(kind) ?? kinds[kind]()
    made.set(kind, schema)
    return schema
  })
}

/** Requires exactly one (or, where `atMost`, at most one) of some fields. */
export function oneOf<T>(schema: z.ZodType<T>, fields: readonly (keyof T & string)[], atMost = false): z.ZodType<T> {
  return schema.check((context) => {
    const value: unknown = context.value
    if (!isObject(value)) return
    const set = fields.filter((field) => value[field] !== undefined)
    if (set.length === 1 || (atMost && set.length === 0)) return
    const message =
      set.length === 0 ? `one of ${fields.join(', ')} is required` : `only one of ${set.join(', ')} may be set`
    context.issues.push({ code: 'custom', input: value, message })
  })
}

export function text(): z.ZodType<string> {
  return z.string()
}

/** A text that is not empty. */
export function name(): z.ZodType<string> {
  return z.string().min(1)
}

/** A duration in milliseconds, 0 or more. */
export function ms(): z.ZodNumber {
  return z.number().min(0).max(MAX_MS)
}

/** A whole number, `from` or more. */
export function count(from = 0): z.ZodNumber {
  return z.number().int().min(from)
}

/** Keys of objects, and places in lists. */
export function metadataPath(): z.ZodType<readonly (string | number)[]> {
  return z
    .array(choose<string | number>('a key or a place', (step) => (typeof step === 'number' ? count() : name())))
    .min(1)
}

/** A port number; 0 where any will do. */
export function port(): z.ZodType<number> {
  return z.number().int().min(0).max(65_535)
}

/** Any JSON value. */
export function json(): z.ZodType<Json> {
  return z.unknown().refine((value) => isJson(value, 0), 'must be plain JSON data') as unknown as z.ZodType<Json>
}

/** A JSON object. */
export function jsonObject(): z.ZodType<{ [key: string]: Json }> {
  return choose('an object', (value) => (isObject(value) ? json() : undefined))
}

/** An object with any keys, and values of one kind. */
export function dictionary<T>(values: z.ZodType<T>): z.ZodType<{ readonly [key: string]: T }> {
  return z.unknown().check((context) => {
    const { value } = context
    if (!isObject(value)) {
      context.issues.push({ code: 'custom', input: value, message: mustBe('an object', value) })
      return
    }
    for (const [key, item] of Object.entries(value)) judge(values, item, { context, path: [key] })
  }) as unknown as z.ZodType<{ readonly [key: string]: T }>
}

/** Adds what a schema finds wrong with a value to the issues of the value around it. */
function judge(
  schema: z.ZodType,
  value: unknown,
  at: { readonly context: z.core.ParsePayload; readonly path: readonly PropertyKey[] },
): void {
  const result = schema.safeParse(value, { reportInput: true })
  if (result.success) return
  const { issues } = at.context
  for (const issue of result.error.issues) {
    issues.push({ ...issue, input: issue.input, path: [...at.path, ...issue.path] } as (typeof issues)[number])
  }
}

export function isJson(value: unknown, depth: number): value is Json {
  if (value === null || typeof value === 'string' || typeof value === 'boolean') return true
  if (typeof value === 'number') return Number.isFinite(value)
  if (typeof value !== 'object' || depth > MAX_DEPTH) return false
  if (Array.isArray(value)) return value.every((item) => isJson(item, depth + 1))
  const prototype: unknown = Object.getPrototypeOf(value)
  if (prototype !== Object.prototype && prototype !== null) return false
  return Object.values(value).every((item) => isJson(item, depth + 1))
}

export function mustBe(expected: string, value: unknown): string {
  return value === undefined ? 'is required' : `must be ${expected}, is ${describe(value)}`
}

/** What Node's timers can count. */
const MAX_MS = 2_147_483_647
