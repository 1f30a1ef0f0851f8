import type { StringMatchConfig } from './config.ts'
import { foldAscii } from './fold.ts'
import { compileRegex } from './regex.ts'

/**
 * Compiles Envoy's StringMatcher. `ignoreCase` folds ASCII only and has no meaning for a regex, which is matched as a
 * whole.
 *
 * @throws Error for a pattern that RE2 refuses.
 */
export function compileString(config: StringMatchConfig): (value: string) => boolean {
  if (config.kind === 'regex') return compileRegex(config.value).matches
  const ignoreCase = config.ignoreCase === true
  const expected = ignoreCase ? foldAscii(config.value) : config.value
  const test = comparison(config.kind, expected)
  return ignoreCase ? (value) => test(foldAscii(value)) : test
}

function comparison(kind: 'exact' | 'prefix' | 'suffix' | 'contains', expected: string): (value: string) => boolean {
  switch (kind) {
    case 'exact':
      return (value) => value === expected
    case 'prefix':
      return (value) => value.startsWith(expected)
    case 'suffix':
      return (value) => value.endsWith(expected)
    case 'contains':
      return (value) => value.includes(expected)
  }
}
