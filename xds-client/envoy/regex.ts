import { RE2JS } from 're2js'
import type { FieldReader } from '../../lib/core/field-reader.ts'
import { parseRegex } from '../../lib/match/parse.ts'
import type { RegexRewriteConfig } from '../../lib/router/config.ts'

/** `type.matcher.v3.RegexMatchAndSubstitute`; the substitution may name groups as `\1`. */
export function translateRegexRewrite(reader: FieldReader): RegexRewriteConfig {
  const pattern = reader.message('pattern')
  const regex = parseRegex(pattern)
  const substitution = reader.string('substitution')
  if (pattern !== undefined && regex !== '') {
    const problem = substitutionProblem(regex, substitution)
    if (problem !== undefined) reader.error('substitution', problem)
  }
  return { regex, substitution }
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
