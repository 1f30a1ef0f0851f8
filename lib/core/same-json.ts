/** What two pieces of data have in common: all, all but material, or less. */
export type Likeness = 'same' | 'material' | 'different'

/** What may differ without making two things different ones. */
export interface MaterialRule {
  /** Keys of texts of which only that they are there counts. */
  readonly material: ReadonlySet<string>
  /** Keys of which all may differ, that they are there too. */
  readonly whole: ReadonlySet<string>
  /** Keys below which nothing is material: what users name as they like. */
  readonly free: ReadonlySet<string>
}

/**
 * Whether two pieces of plain data say the same. What is undefined counts as absent, the order of keys does not matter;
 * what is no plain data (functions, objects of classes) is the same only if it is the same object.
 */
export function sameJson(a: unknown, b: unknown): boolean {
  if (a === b) return true
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return false
  if (Array.isArray(a)) return Array.isArray(b) && sameItems(a, b)
  return isPlain(a) && isPlain(b) && sameFields(a, b)
}

function sameItems(a: readonly unknown[], b: readonly unknown[]): boolean {
  if (a.length !== b.length) return false
  for (let i = 0; i < a.length; i++) if (!sameJson(a[i], b[i])) return false
  return true
}

type Fields = { readonly [key: string]: unknown }

function sameFields(a: Fields, b: Fields): boolean {
  for (const key in a) if (!sameJson(a[key], b[key])) return false
  // Whatever is in both has been looked at.
  for (const key in b) if (b[key] !== undefined && isAbsent(a, key)) return false
  return true
}

/** As `sameJson`, a piece at a time: pauses after every few items of long lists. Objects with many keys are one piece. */
export function* sameJsonSteps(a: unknown, b: unknown): Generator<undefined, boolean> {
  if (a === b) return true
  if (Array.isArray(a) && Array.isArray(b)) {
    if (a.length !== b.length) return false
    for (let i = 0; i < a.length; i++) {
      if (!(yield* sameJsonSteps(a[i], b[i]))) return false
      if (i % PIECE === PIECE - 1) yield
    }
    return true
  }
  if (!isPlain(a) || !isPlain(b)) return sameJson(a, b)
  for (const key in a) {
    const [one, other] = [a[key], b[key]]
    // A generator for each number and text would cost more than it looks at.
    if (typeof one !== 'object') {
      if (one !== other) return false
    } else if (!(yield* sameJsonSteps(one, other))) return false
  }
  for (const key in b) if (b[key] !== undefined && isAbsent(a, key)) return false
  return true
}

const PIECE = 16

/** Compares plain data of which some texts may be exchanged. */
export function likeness(a: unknown, b: unknown, rule: MaterialRule): Likeness {
  if (a === b) return 'same'
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return 'different'
  if (Array.isArray(a)) {
    if (!Array.isArray(b) || a.length !== b.length) return 'different'
    let found: Likeness = 'same'
    for (let i = 0; i < a.length; i++) {
      const one = likeness(a[i], b[i], rule)
      if (one === 'different') return one
      if (one === 'material') found = one
    }
    return found
  }
  if (!isPlain(a) || !isPlain(b)) return 'different'
  let found: Likeness = 'same'
  for (const key in a) {
    const one = likenessOf(key, a[key], { other: b[key], rule })
    if (one === 'different') return one
    if (one === 'material') found = one
  }
  for (const key in b) {
    if (b[key] === undefined || !isAbsent(a, key)) continue
    if (!rule.whole.has(key)) return 'different'
    found = 'material'
  }
  return found
}

function likenessOf(
  key: string,
  value: unknown,
  { other, rule }: { readonly other: unknown; readonly rule: MaterialRule },
): Likeness {
  if (rule.free.has(key)) return sameJson(value, other) ? 'same' : 'different'
  if (rule.whole.has(key)) return sameJson(value, other) ? 'same' : 'material'
  if (typeof value !== 'string' || typeof other !== 'string' || !rule.material.has(key)) {
    return likeness(value, other, rule)
  }
  return value === other ? 'same' : 'material'
}

/** Of its own: a key may be called as something that every object inherits. */
function isAbsent(fields: Fields, key: string): boolean {
  return fields[key] === undefined || !Object.hasOwn(fields, key)
}

function isPlain(value: unknown): value is Fields {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false
  const prototype: unknown = Object.getPrototypeOf(value)
  return prototype === Object.prototype || prototype === null
}
