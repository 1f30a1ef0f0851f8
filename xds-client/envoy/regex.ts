import { RE2JS } from 're2js'
import type { FieldReader } from '../../lib/core/field-reader.ts'
import type { RegexRewriteConfig } from '../../lib/router/config.ts'

/** `type.matcher.v3.RegexMatcher`: an RE2 pattern. The engine choice inside it is the only one there is. */
export function translateRegex(reader: FieldReader | undefined): string {
  if (reader === undefined) return ''
  const engine = reader.message('google_re2')
  // Of xds.type.matcher.v3 it is empty.
  if (engine?.typeName.startsWith('xds.') === false) engine.ignore('max_program_size')
  const regex = reader.string('regex')
  if (regex !== '') compile(reader, regex)
  return regex
}

/** `type.matcher.v3.RegexMatchAndSubstitute`; the substitution may name groups as `\1`. */
export function translateRegexRewrite(reader: FieldReader): RegexRewriteConfig {
  const pattern = reader.message('pattern')
  const regex = translateRegex(pattern)
  const substitution = reader.string('substitution')
  if (pattern !== undefined && regex !== '') {
    const problem = substitutionProblem(regex, substitution)
    if (problem !== undefined) reader.error('substitution', problem)
  }
  return { regex, substitution }
}

function compile(reader: FieldReader, regex: string): void {
  try {
    RE2JS.compile(regex)
  } catch (error) {
    const reason = error instanceof Error ? error.message.replace(/^error parsing regexp: /, '') : String(error)
    reader.error('regex', `invalid regex "${regex}": ${reason}`)
  }
}

function substitutionProblem(regex: string, substitution: string): string | undefined {
  let groups: number
  try {
    groups = RE2JS.compile(regex).groupCount()
  } catch {
    return undefined
  }
  for (let i = 0; i < substitution.length; i++) {
    if (substitution[i] !== '\\') continue
    i++
    const next = substitution[i]
    if (next === '\\') continue
    if (next === undefined || next < '0' || next > '9') {
      return `invalid substitution "${substitution}": a backslash must be followed by a digit or a backslash`
    }
    if (Number(next) > groups) {
      return `invalid substitution "${substitution}": the regex has ${groups} groups, \\${next} names none of them`
    }
  }
  return undefined
}
