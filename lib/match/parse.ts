import { canonicalIp, isIp } from '../core/address.ts'
import type { FieldReader } from '../core/field-reader.ts'
import type {
  CidrConfig,
  FilterStateMatchConfig,
  FractionConfig,
  HeaderMatchConfig,
  StringMatchConfig,
} from './config.ts'
import { compileRegex } from './regex.ts'

/*
 * Reading Envoy's matcher messages into the configuration types of this room. The members of a oneof are asked for one
 * by one, so that readers without a schema (plain JSON) serve as well. Mistakes go to the reader; what is answered then is
 * never used.
 */

const PATTERNS = ['exact', 'prefix', 'suffix', 'contains'] as const

/** The deprecated specifiers of HeaderMatcher that are one kind of string match each. */
const DEPRECATED = [
  ['exact_match', 'exact'],
  ['prefix_match', 'prefix'],
  ['suffix_match', 'suffix'],
  ['contains_match', 'contains'],
] as const

const DENOMINATORS: ReadonlyMap<string, FractionConfig['denominator']> = new Map([
  ['HUNDRED', 100],
  ['TEN_THOUSAND', 10_000],
  ['MILLION', 1_000_000],
])

/** `type.matcher.v3.StringMatcher` */
export function parseStringMatch(reader: FieldReader): StringMatchConfig {
  reader.unread('refuse')
  for (const kind of PATTERNS) {
    if (!reader.has(kind)) continue
    const value = reader.string(kind)
    if (value === '' && kind !== 'exact') reader.error(kind, 'must not be empty')
    return reader.bool('ignore_case') ? { kind, value, ignoreCase: true } : { kind, value }
  }
  if (reader.has('safe_regex')) {
    // Envoy documents `ignore_case` as without effect on regexes.
    reader.ignore('ignore_case')
    return { kind: 'regex', value: parseRegex(reader.message('safe_regex')) }
  }
  if (reader.has('custom')) reader.refuse('custom', 'custom string matchers are not available')
  else reader.error(undefined, 'one of exact, prefix, suffix, contains and safe_regex is required')
  return { kind: 'exact', value: '' }
}

/** `type.matcher.v3.RegexMatcher`: an RE2 pattern. The engine choice inside it is the only one there is. */
export function parseRegex(reader: FieldReader | undefined): string {
  if (reader === undefined) return ''
  const engine = reader.message('google_re2')
  // Of xds.type.matcher.v3 it is empty.
  if (engine?.typeName.startsWith('xds.') === false) engine.ignore('max_program_size')
  const regex = reader.string('regex')
  if (regex === '') {
    reader.error('regex', 'must not be empty')
    return regex
  }
  try {
    compileRegex(regex)
  } catch (error) {
    reader.error('regex', error instanceof Error ? error.message : String(error))
  }
  return regex
}

/** `config.route.v3.HeaderMatcher`; without a specifier the header must be present. */
export function parseHeaderMatch(reader: FieldReader): HeaderMatchConfig {
  reader.unread('refuse')
  const name = reader.string('name').toLowerCase()
  if (name === '') reader.error('name', 'must not be empty')
  const match = parseSpecifier(reader)
  const invert = reader.bool('invert_match')
  const treatMissingAsEmpty = reader.bool('treat_missing_header_as_empty')
  return { name, match, ...(invert && { invert }), ...(treatMissingAsEmpty && { treatMissingAsEmpty }) }
}

function parseSpecifier(reader: FieldReader): HeaderMatchConfig['match'] {
  if (reader.has('string_match')) {
    const string = reader.message('string_match')
    if (string !== undefined) return { kind: 'string', string: parseStringMatch(string) }
  }
  if (reader.has('safe_regex_match')) {
    return { kind: 'string', string: { kind: 'regex', value: parseRegex(reader.message('safe_regex_match')) } }
  }
  if (reader.has('range_match')) {
    const range = reader.message('range_match')
    return { kind: 'range', start: range?.number('start') ?? 0, end: range?.number('end') ?? 0 }
  }
  for (const [field, kind] of DEPRECATED) {
    if (reader.has(field)) return { kind: 'string', string: { kind, value: reader.string(field) } }
  }
  return { kind: 'present', present: reader.has('present_match') ? reader.bool('present_match') : true }
}

/** `config.core.v3.RuntimeFractionalPercent` */
export function parseRuntimeFraction(reader: FieldReader): FractionConfig {
  const share = reader.message('default_value')
  const numerator = share?.number('numerator') ?? 0
  const word = share?.enumName('denominator') ?? ''
  const denominator = word === '' ? 100 : DENOMINATORS.get(word)
  if (denominator === undefined) share?.error('denominator', `unknown denominator "${word}"`)
  if (!Number.isInteger(numerator) || numerator < 0) share?.error('numerator', 'must be a whole number, 0 or more')
  const runtimeKey = reader.string('runtime_key')
  const fraction = { numerator, denominator: denominator ?? 100 }
  return runtimeKey === '' ? fraction : { ...fraction, runtimeKey }
}

/** `config.core.v3.CidrRange` and `xds.core.v3.CidrRange`; an unset prefix length is 0, as in Envoy. */
export function parseCidr(reader: FieldReader): CidrConfig {
  reader.unread('refuse')
  const address = reader.string('address_prefix')
  const prefixLength = reader.number('prefix_len') ?? 0
  if (!isIp(address)) {
    reader.error('address_prefix', `malformed IP address "${address}"`)
    return NO_RANGE
  }
  if (!Number.isInteger(prefixLength) || prefixLength < 0 || prefixLength > (address.includes(':') ? 128 : 32)) {
    reader.error('prefix_len', `${prefixLength} is longer than the address`)
    return NO_RANGE
  }
  const canonical = canonicalIp(address)
  const mapped = address.includes(':') && !canonical.includes(':')
  // A range of v4-mapped addresses is the IPv4 range that matchers will see; a shorter prefix holds more than those.
  if (!mapped) return { address: canonical, prefixLength }
  if (prefixLength >= 96) return { address: canonical, prefixLength: prefixLength - 96 }
  return { address: address.toLowerCase(), prefixLength }
}

/** Stands where a mistake was recorded; never used. */
const NO_RANGE: CidrConfig = Object.freeze({ address: '0.0.0.0', prefixLength: 32 })

/** `type.matcher.v3.FilterStateMatcher` */
export function parseFilterStateMatch(reader: FieldReader): FilterStateMatchConfig {
  reader.unread('refuse')
  const key = reader.string('key')
  if (key === '') reader.error('key', 'must not be empty')
  const string = reader.message('string_match')
  if (string !== undefined) return { key, string: parseStringMatch(string) }
  const address = reader.message('address_match')
  if (address === undefined) {
    reader.error(undefined, 'one of string_match and address_match is required')
    return { key, ranges: [] }
  }
  const ranges = address.messages('ranges').map(parseCidr)
  return address.bool('invert_match') ? { key, ranges, invert: true } : { key, ranges }
}
