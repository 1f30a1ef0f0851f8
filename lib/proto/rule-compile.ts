import type { DescEnum, Message } from '@bufbuild/protobuf'
import { RE2JS } from 're2js'
import { describe } from './describe.ts'
import { isHeaderName, isHeaderValue, WELL_KNOWN } from './rule-strings.ts'

/** Looks at one value (bare, as `unwrapped` gives it) and answers what is wrong with it. */
export type ValueCheck = (value: unknown) => string | undefined

/** A decoded `validate.*Rules` message. Its fields have presence: only own properties are set. */
export type Rules = Message & { readonly [rule: string]: unknown }

/** Seconds and nanoseconds, as durations, times and their bounds are kept. */
interface Instant {
  readonly seconds: bigint
  readonly nanos: number
}

/** How the bounds of a kind of value compare and print. */
interface Ordering {
  compare(a: unknown, b: unknown): number
  show(value: unknown): string
}

const numbers: Ordering = {
  compare: (a, b) => ((a as number) < (b as number) ? -1 : a === b ? 0 : 1),
  show: (value) => String(value),
}

const instants: Ordering = {
  compare(a, b) {
    const left = a as Instant
    const right = b as Instant
    if (left.seconds !== right.seconds) return left.seconds < right.seconds ? -1 : 1
    return left.nanos - right.nanos
  },
  show(value) {
    const { seconds, nanos } = value as Instant
    const sign = seconds < 0n || nanos < 0 ? '-' : ''
    const fraction = nanos === 0 ? '' : `.${String(Math.abs(nanos)).padStart(9, '0').replace(/0+$/, '')}`
    return `${sign}${String(seconds).replace('-', '')}${fraction}s`
  },
}

const RANGE_RULES: readonly string[] = ['const', 'lt', 'lte', 'gt', 'gte', 'in', 'notIn', 'ignoreEmpty', 'required']
const STRING_RULES: readonly string[] = [
  ...['const', 'len', 'minLen', 'maxLen', 'lenBytes', 'minBytes', 'maxBytes', 'pattern', 'prefix', 'suffix'],
  ...['contains', 'notContains', 'in', 'notIn', 'ignoreEmpty', 'strict', 'wellKnown'],
]
const BYTES_RULES = STRING_RULES.filter(
  (rule) => !['lenBytes', 'minBytes', 'maxBytes', 'notContains', 'strict'].includes(rule),
)

/** The value of a rule, or undefined where it is not given. */
export function ruleOf<T>(rules: Rules, name: string): T | undefined {
  return Object.hasOwn(rules, name) ? (rules[name] as T) : undefined
}

/**
 * Refuses rules that this interpreter does not know, so that a newer API can't bring a rule that is silently not
 * checked. @throws Error naming the rule.
 */
export function assertKnown(rules: Rules, known: readonly string[], where: string): void {
  for (const name of Object.keys(rules)) {
    const value = rules[name]
    const isEmpty = value === undefined || (Array.isArray(value) && value.length === 0)
    const given = !isEmpty && (value as { case?: unknown }).case !== undefined
    if (isEmpty || name.startsWith('$') || known.includes(name)) continue
    if (name === 'wellKnown' && !given) continue
    throw new Error(`unknown validation rule "${name}" on ${where}`)
  }
}

/** The checks of one scalar, enum, duration, timestamp or Any, from the member of `FieldRules.type` of that name. */
export function compileChecks(kind: string, rules: Rules, where: string, desc: DescEnum | undefined): ValueCheck[] {
  switch (kind) {
    case 'string':
      assertKnown(rules, STRING_RULES, where)
      return unlessEmpty(rules, stringChecks(rules), (value) => value === '')
    case 'bytes':
      assertKnown(rules, BYTES_RULES, where)
      return unlessEmpty(rules, bytesChecks(rules), (value) => (value as Uint8Array).length === 0)
    case 'bool':
      assertKnown(rules, ['const'], where)
      return listChecks(rules, numbers)
    case 'enum':
      assertKnown(rules, ['const', 'definedOnly', 'in', 'notIn'], where)
      return enumChecks(rules, desc)
    case 'any':
      assertKnown(rules, ['required', 'in', 'notIn'], where)
      return anyChecks(rules)
    case 'duration':
    case 'timestamp':
      assertKnown(rules, RANGE_RULES, where)
      return [...rangeCheck(rules, instants), ...listChecks(rules, instants)]
    default:
      assertKnown(rules, RANGE_RULES, where)
      return unlessEmpty(
        rules,
        [...rangeCheck(rules, numbers), ...listChecks(rules, numbers)],
        (value) => Number(value) === 0,
      )
  }
}

function unlessEmpty(rules: Rules, checks: ValueCheck[], isEmpty: (value: unknown) => boolean): ValueCheck[] {
  if (ruleOf<boolean>(rules, 'ignoreEmpty') !== true) return checks
  return checks.map((check) => (value) => (isEmpty(value) ? undefined : check(value)))
}

/** Bounds, both inclusive or not; where the lower one is the higher, the range between them is what is forbidden. */
function rangeCheck(rules: Rules, by: Ordering): ValueCheck[] {
  const openLow = ruleOf<unknown>(rules, 'gt')
  const low = openLow ?? ruleOf<unknown>(rules, 'gte')
  const openHigh = ruleOf<unknown>(rules, 'lt')
  const high = openHigh ?? ruleOf<unknown>(rules, 'lte')
  // Written so that NaN, which compares as 1 here, is above every bound and inside no range.
  const isAbove = (value: unknown): boolean => by.compare(value, low) > (openLow === undefined ? -1 : 0)
  const isBelow = (value: unknown): boolean => by.compare(value, high) < (openHigh === undefined ? 1 : 0)
  const is = (value: unknown): string => `, is ${by.show(value)}`
  if (low === undefined && high === undefined) return []
  if (high === undefined) {
    const words = openLow === undefined ? 'greater than or equal to' : 'greater than'
    return [
      (value) =>
        isAbove(value) && !Number.isNaN(value) ? undefined : `value must be ${words} ${by.show(low)}${is(value)}`,
    ]
  }
  if (low === undefined) {
    const words = openHigh === undefined ? 'less than or equal to' : 'less than'
    return [(value) => (isBelow(value) ? undefined : `value must be ${words} ${by.show(high)}${is(value)}`)]
  }
  if (by.compare(low, high) <= 0) {
    const range = `${openLow === undefined ? '[' : '('}${by.show(low)}, ${by.show(high)}${openHigh === undefined ? ']' : ')'}`
    return [
      (value) => (isAbove(value) && isBelow(value) ? undefined : `value must be inside range ${range}${is(value)}`),
    ]
  }
  const gap = `${openHigh === undefined ? '(' : '['}${by.show(high)}, ${by.show(low)}${openLow === undefined ? ')' : ']'}`
  return [(value) => (isAbove(value) || isBelow(value) ? undefined : `value must be outside range ${gap}${is(value)}`)]
}

/** `const`, `in` and `not_in`. */
function listChecks(rules: Rules, by: Ordering): ValueCheck[] {
  const checks: ValueCheck[] = []
  const only = ruleOf<unknown>(rules, 'const')
  const allowed = ruleOf<unknown[]>(rules, 'in') ?? []
  const forbidden = ruleOf<unknown[]>(rules, 'notIn') ?? []
  const among = (list: unknown[], value: unknown): boolean => list.some((item) => by.compare(item, value) === 0)
  const show = (list: unknown[]): string => `[${list.map((item) => by.show(item)).join(', ')}]`
  if (only !== undefined) {
    checks.push((value) =>
      among([only], value) ? undefined : `value must equal ${by.show(only)}, is ${by.show(value)}`,
    )
  }
  if (allowed.length > 0) {
    checks.push((value) =>
      among(allowed, value) ? undefined : `value must be in list ${show(allowed)}, is ${by.show(value)}`,
    )
  }
  if (forbidden.length > 0) {
    checks.push((value) =>
      among(forbidden, value) ? `value must not be in list ${show(forbidden)}, is ${by.show(value)}` : undefined,
    )
  }
  return checks
}

function enumChecks(rules: Rules, desc: DescEnum | undefined): ValueCheck[] {
  const show = (value: unknown): string => desc?.value[value as number]?.name ?? String(value)
  const checks = listChecks(rules, { compare: numbers.compare, show })
  if (ruleOf<boolean>(rules, 'definedOnly') === true && desc !== undefined) {
    const message = 'value must be one of the defined enum values'
    checks.push((value) => (desc.value[value as number] === undefined ? `${message}, is ${value}` : undefined))
  }
  return checks
}

function anyChecks(rules: Rules): ValueCheck[] {
  const typeUrls: Ordering = { compare: numbers.compare, show: (value) => String(value) }
  return listChecks(rules, typeUrls).map((check) => (value) => check((value as { typeUrl: string }).typeUrl))
}

function stringChecks(rules: Rules): ValueCheck[] {
  const checks = [
    ...lengthChecks(rules, ['len', 'minLen', 'maxLen'], 'characters', (value) => countCharacters(value as string)),
    ...lengthChecks(rules, ['lenBytes', 'minBytes', 'maxBytes'], 'bytes', (value) =>
      Buffer.byteLength(value as string),
    ),
    ...textChecks(rules, (text) => text as string),
    ...listChecks(rules, { compare: numbers.compare, show: describe }),
  ]
  const wellKnown = ruleOf<{ case: string | undefined; value: unknown }>(rules, 'wellKnown')
  if (wellKnown?.case === 'wellKnownRegex')
    checks.push(headerCheck(wellKnown.value, ruleOf<boolean>(rules, 'strict') ?? true))
  else if (wellKnown?.case !== undefined && wellKnown.value === true) {
    const [what, test] = WELL_KNOWN[wellKnown.case]
    checks.push((value) => (test(value as string) ? undefined : `value must be ${what}, is ${describe(value)}`))
  }
  return checks
}

function headerCheck(known: unknown, strict: boolean): ValueCheck {
  if (known === 1) {
    return (value) =>
      isHeaderName(value as string, strict) ? undefined : `value must be a header name, is ${describe(value)}`
  }
  if (known !== 2) return () => undefined
  return (value) =>
    isHeaderValue(value as string, strict) ? undefined : `value must be a header value, is ${describe(value)}`
}

function bytesChecks(rules: Rules): ValueCheck[] {
  const text = (value: unknown): string => Buffer.from(value as Uint8Array).toString('latin1')
  const bytes: Ordering = {
    compare: (a, b) => Buffer.compare(a as Uint8Array, b as Uint8Array),
    show: (value) => describe(text(value)),
  }
  const checks = [
    ...lengthChecks(rules, ['len', 'minLen', 'maxLen'], 'bytes', (value) => (value as Uint8Array).length),
    ...textChecks(rules, text),
    ...listChecks(rules, bytes),
  ]
  const wellKnown = ruleOf<{ case: string | undefined; value: unknown }>(rules, 'wellKnown')
  if (wellKnown?.case !== undefined && wellKnown.value === true) {
    const sizes = wellKnown.case === 'ipv4' ? [4] : wellKnown.case === 'ipv6' ? [16] : [4, 16]
    const message = `value must be an IP address of ${sizes.join(' or ')} bytes`
    checks.push((value) => (sizes.includes((value as Uint8Array).length) ? undefined : message))
  }
  return checks
}

function lengthChecks(
  rules: Rules,
  [exact, min, max]: readonly [string, string, string],
  unit: string,
  length: (value: unknown) => number,
): ValueCheck[] {
  const checks: ValueCheck[] = []
  const add = (rule: string, words: string, fits: (length: number, limit: number) => boolean): void => {
    const limit = ruleOf<bigint>(rules, rule)
    if (limit === undefined) return
    const bound = Number(limit)
    checks.push((value) => {
      const actual = length(value)
      if (fits(actual, bound)) return undefined
      return `value length must be ${words}${bound}${actual === 0 ? '' : ` ${unit}, is ${actual}`}`
    })
  }
  add(exact, '', (actual, limit) => actual === limit)
  add(min, 'at least ', (actual, limit) => actual >= limit)
  add(max, 'at most ', (actual, limit) => actual <= limit)
  return checks
}

/** `pattern`, `prefix`, `suffix`, `contains` and `not_contains`; bytes are compared as latin1 text. */
function textChecks(rules: Rules, text: (value: unknown) => string): ValueCheck[] {
  const checks: ValueCheck[] = []
  const add = (rule: string, words: string, test: (value: string, wanted: string) => boolean): void => {
    const given = ruleOf<unknown>(rules, rule)
    if (given === undefined) return
    const wanted = typeof given === 'string' ? given : text(given)
    checks.push((value) => {
      const actual = text(value)
      return test(actual, wanted) ? undefined : `value ${words} ${describe(wanted)}, is ${describe(actual)}`
    })
  }
  const pattern = ruleOf<string>(rules, 'pattern')
  const regex = pattern === undefined ? undefined : RE2JS.compile(pattern)
  add('pattern', 'must match regex', (value) => regex?.matcher(value).find() ?? true)
  add('prefix', 'must have prefix', (value, prefix) => value.startsWith(prefix))
  add('suffix', 'must have suffix', (value, suffix) => value.endsWith(suffix))
  add('contains', 'must contain', (value, part) => value.includes(part))
  add('notContains', 'must not contain', (value, part) => !value.includes(part))
  return checks
}

/** Unicode code points, which is what protoc-gen-validate calls the length of a string. */
function countCharacters(value: string): number {
  let count = value.length
  for (let i = 0; i < value.length; i++) {
    const unit = value.charCodeAt(i)
    if (unit >= 0xd800 && unit <= 0xdbff && i + 1 < value.length) count--
  }
  return count
}
