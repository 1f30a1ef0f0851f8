import type { z } from 'zod'
import { ConfigError } from '../../core/errors.ts'
import { describe, withoutSecret } from '../../proto/describe.ts'
import { indexPath, namePath } from '../../proto/path.ts'
import { didYouMean } from '../../proto/suggest.ts'
import type { NativeConfig } from './config.ts'
import { configSchema } from './schema/config.ts'

/** What the shape of a configuration came to. */
export interface ShapeResult {
  readonly errors: readonly ConfigError[]
  /**
   * The configuration, where it can be read: as given, or without the fields that are wrong where that still makes one, so
   * that the rest of it can be judged in the same run. Undefined where it cannot.
   */
  readonly readable: NativeConfig | undefined
}

/** Judges types, ranges and unknown fields of a configuration; never throws for what it may hold. */
export function checkShape(value: unknown): ShapeResult {
  const schema = configSchema()
  const issues = issuesOf(schema, value)
  if (issues.length === 0) return { errors: [], readable: value as NativeConfig }
  const errors = issues.flatMap((issue) => errorsOf(issue))
  const pruned = prune(value, issues)
  const readable = issuesOf(schema, pruned).length === 0 ? (pruned as NativeConfig) : undefined
  return { errors, readable }
}

type Issue = z.core.$ZodIssue

function issuesOf(schema: z.ZodType, value: unknown): Issue[] {
  return schema.safeParse(value, { reportInput: true }).error?.issues ?? []
}

/** `listeners[0].http.routes[2].action`. */
export function pathOf(steps: readonly PropertyKey[]): string {
  let path = ''
  for (const step of steps) path = typeof step === 'number' ? indexPath(path, step) : namePath(path, String(step))
  return path
}

function errorsOf(issue: Issue): ConfigError[] {
  const path = pathOf(issue.path)
  if (issue.code !== 'unrecognized_keys') return [new ConfigError(path, withoutSecret(path, messageOf(issue)))]
  const known = issue.message.split(' ')
  return issue.keys.map(
    (key) => new ConfigError(namePath(path, key), `unknown field "${key}"${didYouMean(key, known)}`),
  )
}

function messageOf(issue: Issue): string {
  const { input } = issue
  switch (issue.code) {
    case 'invalid_type':
      return input === undefined
        ? 'is required'
        : `must be ${KINDS.get(issue.expected) ?? issue.expected}, is ${describe(input)}`
    case 'invalid_value':
      return input === undefined
        ? 'is required'
        : `must be ${orList(issue.values.map((value) => describe(value)))}, is ${describe(input)}`
    case 'too_small':
      if (issue.origin === 'string' || issue.origin === 'array') return 'must not be empty'
      return `must be at least ${issue.minimum}, is ${describe(input)}`
    case 'too_big':
      return `must be at most ${issue.maximum}, is ${describe(input)}`
    default:
      return issue.message
  }
}

const KINDS: ReadonlyMap<string, string> = new Map([
  ['string', 'a text'],
  ['number', 'a number'],
  ['int', 'a whole number'],
  ['boolean', 'true or false'],
  ['array', 'a list'],
  ['object', 'an object'],
  ['tuple', 'a pair'],
])

function orList(words: readonly string[]): string {
  return words.length < 2 ? words.join('') : `${words.slice(0, -1).join(', ')} or ${words.at(-1)}`
}

/** A copy without the fields that issues are about; objects off their paths are shared with the original. */
function prune(value: unknown, issues: readonly Issue[]): unknown {
  let pruned = value
  for (const issue of issues) {
    if (issue.code === 'unrecognized_keys') {
      for (const key of issue.keys) pruned = without(pruned, [...issue.path, key])
    } else if (issue.path.length > 0) pruned = without(pruned, issue.path)
  }
  return pruned
}

/** Items of lists stay, since their removal would move the paths of all that follow. */
function without(value: unknown, path: readonly PropertyKey[]): unknown {
  if (typeof value !== 'object' || value === null) return value
  const [step, ...rest] = path
  if (Array.isArray(value)) {
    if (rest.length === 0 || typeof step !== 'number') return value
    return value.with(step, without(value[step], rest))
  }
  if (!Object.hasOwn(value, step)) return value
  const copy: { [key: PropertyKey]: unknown } = { ...value }
  if (rest.length === 0) delete copy[step]
  else copy[step] = without(copy[step], rest)
  return copy
}
