import { RE2JS } from 're2js'
import { foldAscii } from './fold.ts'
import { compileDfa, DfaTables, type RegexDfa, UNKNOWN, YES } from './regex-dfa.ts'
import { type Alternative, type RegexShape, shapeOf } from './regex-program.ts'

/** A compiled RE2 pattern. Immutable to its users; safe to share between requests. */
export interface CompiledRegex {
  readonly pattern: string
  /** What its matches have in common; for indexes. */
  readonly shape: RegexShape
  /** The whole text matches. */
  readonly matches: (text: string) => boolean
  /** As `matches`, for texts that are known to begin with `shape.prefix` (folded, where the shape is). */
  readonly matchesPrefixed: (text: string) => boolean
  /** What `matchesPrefixed` runs, for tables of many; undefined where it runs something else. */
  readonly dfa: RegexDfa | undefined
  /** Some part of the text matches. */
  readonly test: (text: string) => boolean
  /** Number of capture groups, the whole match not counted. */
  readonly groupCount: number
  /** Replaces all occurrences, as `compileSubstitution` does once for many texts. */
  replaceAll(text: string, substitution: string): string
  /** The groups of a match of the whole text by name, or undefined where it does not match. */
  captures(text: string): ReadonlyMap<string, string> | undefined
}

/**
 * Compiles a user's pattern. RE2 syntax only: lookaround and back-references, which cannot run in linear time, are
 * refused, and so is whatever RE2 does not know.
 *
 * @throws Error with the pattern and RE2's reason.
 */
export function compileRegex(pattern: string): CompiledRegex {
  const re2 = parse(pattern)
  const shape = shapeOf(re2)
  return {
    pattern,
    shape,
    ...fullMatch(re2, shape),
    test: (text) => re2.test(text),
    groupCount: re2.groupCount(),
    replaceAll: (text, substitution) => replaceAll(re2, text, parseSubstitution(substitution, re2.groupCount())),
    captures: (text) => captures(re2, text),
  }
}

/**
 * Compiles Envoy's RegexMatchAndSubstitute: all occurrences are replaced; in the substitution `\0` is the match, `\1` to
 * `\9` its groups (empty where they took no part), `\\` a backslash.
 *
 * @throws Error for a bad pattern, or a substitution that names a group which the pattern has not.
 */
export function compileSubstitution(pattern: string, substitution: string): (text: string) => string {
  const re2 = parse(pattern)
  const parts = parseSubstitution(substitution, re2.groupCount())
  return (text) => replaceAll(re2, text, parts)
}

function parse(pattern: string): RE2JS {
  try {
    return RE2JS.compile(pattern)
  } catch (error) {
    const reason = error instanceof Error ? error.message.replace(/^error parsing regexp: /, '') : String(error)
    throw new Error(`invalid regex "${pattern}": ${reason}`)
  }
}

/** Literals and group numbers in turn. */
type Substitution = readonly (string | number)[]

function parseSubstitution(text: string, groups: number): Substitution {
  const parts: (string | number)[] = []
  let literal = ''
  for (let i = 0; i < text.length; i++) {
    if (text[i] !== '\\') {
      literal += text[i]
      continue
    }
    const next = text[++i]
    if (next === '\\') literal += next
    else if (next !== undefined && next >= '0' && next <= '9') {
      if (Number(next) > groups) throw new Error(`substitution "${text}" names group ${next}, the regex has ${groups}`)
      if (literal !== '') parts.push(literal)
      literal = ''
      parts.push(Number(next))
    } else throw new Error(`substitution "${text}" has a backslash that is followed by neither a digit nor a backslash`)
  }
  if (literal !== '') parts.push(literal)
  return parts
}

function replaceAll(re2: RE2JS, text: string, parts: Substitution): string {
  const matcher = re2.matcher(text)
  let out = ''
  let copied = 0
  let lastEnd = -1
  while (matcher.find()) {
    const start = matcher.start()
    const end = matcher.end()
    // As RE2: an empty match right behind another match is none.
    if (start === end && start === lastEnd) continue
    out += text.slice(copied, start)
    for (const part of parts) out += typeof part === 'string' ? part : (matcher.group(part) ?? '')
    copied = end
    lastEnd = end
  }
  return copied === 0 && out === '' ? text : out + text.slice(copied)
}

function captures(re2: RE2JS, text: string): ReadonlyMap<string, string> | undefined {
  const matcher = re2.matcher(text)
  if (!matcher.matches()) return undefined
  const out = new Map<string, string>()
  for (const [name, index] of Object.entries(re2.namedGroups())) out.set(name, matcher.group(index) ?? '')
  return out
}

type Tests = Pick<CompiledRegex, 'matches' | 'matchesPrefixed' | 'dfa'>

/**
 * The quickest exact tests for a whole match. Most patterns of route tables are literals, `literal.*`, `.*literal` or a
 * few of these, and become string comparisons; most others have a small automaton of their own. The engine is left with
 * large patterns, word boundaries, and texts beyond ASCII.
 */
function fullMatch(re2: RE2JS, shape: RegexShape): Tests {
  const engine = engineTests(re2, shape)
  const { alternatives } = shape
  if (alternatives === undefined) return engine
  const test = shape.anyStart ? testEnd(alternatives) : testStart(alternatives)
  const plain = !shape.anyStart && alternatives.every((a) => a.rest === 'none')
  let matches = test
  if (shape.folded) matches = (text) => (text.includes('\n') ? engine.matches(text) : test(foldAscii(text)))
  else if (!plain) matches = (text) => (text.includes('\n') ? engine.matches(text) : test(text))
  return { matches, matchesPrefixed: matches, dfa: undefined }
}

function engineTests(re2: RE2JS, shape: RegexShape): Tests {
  // A folded prefix is not one that the text itself begins with.
  const prefix = shape.folded ? '' : shape.prefix
  const dfa = compileDfa(re2, prefix)
  const matchesPrefixed = dfa === undefined ? (text: string) => re2.testExact(text) : dfaTest(re2, dfa)
  const matches = prefix === '' ? matchesPrefixed : (text: string) => text.startsWith(prefix) && matchesPrefixed(text)
  return { matches, matchesPrefixed, dfa }
}

function dfaTest(re2: RE2JS, dfa: RegexDfa): (text: string) => boolean {
  const tables = new DfaTables([dfa])
  return (text) => {
    const answer = tables.run(0, text, text.length)
    return answer === UNKNOWN ? re2.testExact(text) : answer === YES
  }
}

function testStart(alternatives: readonly Alternative[]): (text: string) => boolean {
  if (alternatives.length === 1) return testOneStart(alternatives[0])
  const tests = alternatives.map(testOneStart)
  return (text) => {
    for (const test of tests) if (test(text)) return true
    return false
  }
}

function testOneStart(alternative: Alternative): (text: string) => boolean {
  const { text: expected, rest } = alternative
  const atLeast = expected.length + 1
  switch (rest) {
    case 'none':
      return (text) => text === expected
    case 'any':
      return (text) => text.startsWith(expected)
    case 'some':
      return (text) => text.length >= atLeast && text.startsWith(expected)
  }
}

function testEnd(alternatives: readonly Alternative[]): (text: string) => boolean {
  const tests = alternatives.map(testOneEnd)
  return (text) => {
    for (const test of tests) if (test(text)) return true
    return false
  }
}

function testOneEnd(alternative: Alternative): (text: string) => boolean {
  const { text: expected, rest } = alternative
  switch (rest) {
    case 'none':
      return (text) => text.endsWith(expected)
    case 'any':
      return (text) => text.includes(expected)
    case 'some':
      return (text) => {
        const at = text.indexOf(expected)
        return at >= 0 && at + expected.length < text.length
      }
  }
}
