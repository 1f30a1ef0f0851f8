import { compileRegex, compileSubstitution } from '../../match/regex.ts'
import type { HeaderEditsConfig, HeaderValueConfig, RegexRewriteConfig } from '../../router/config.ts'
import type { FormatConfig } from '../../telemetry/config.ts'
import { checkFormat } from '../../telemetry/format.ts'
import type { Spot } from './spot.ts'

/** RFC 9110 section 5.6.2: token. */
const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/
/** RFC 9110 section 5.5 forbids these in field values. */
const BAD_VALUE = /[\0\r\n]/

export function checkRegex(pattern: string, spot: Spot): void {
  spot.attempt(() => compileRegex(pattern))
}

/** A regex and a substitution that may name its groups. */
export function checkRegexRewrite({ regex, substitution }: RegexRewriteConfig, spot: Spot): void {
  let wrong = false
  try {
    compileRegex(regex)
  } catch (error) {
    wrong = true
    spot.field('regex').error(error instanceof Error ? error.message : String(error))
  }
  if (!wrong) spot.field('substitution').attempt(() => compileSubstitution(regex, substitution))
}

/** A `%...%` format in a text of its own. */
export function checkText(text: string, spot: Spot): void {
  if (!text.includes('%')) return
  for (const error of checkFormat({ kind: 'text', text }).errors) spot.error(error)
}

export function checkFormatConfig(format: FormatConfig | undefined, spot: Spot): void {
  if (format === undefined) return
  const where = spot.field(format.kind === 'json' ? 'json' : 'text')
  for (const error of checkFormat(format).errors) where.error(error)
}

/** The name of a header that configuration may read. */
export function checkHeaderName(name: string, spot: Spot): void {
  if (!TOKEN.test(name.startsWith(':') ? name.slice(1) : name)) spot.error(`"${name}" is not a valid header name`)
}

/** The name of a header that configuration may write or remove. */
export function checkEditableName(name: string, spot: Spot): void {
  if (name.startsWith(':') || name.toLowerCase() === 'host') {
    spot.error(`"${name}": :-prefixed or host headers may not be modified`)
  } else if (!TOKEN.test(name)) spot.error(`"${name}" is not a valid header name`)
}

/** A header to write. A short form is one spot: the name and the value then share it. */
export function checkHeaderValue(header: HeaderValueConfig, spot: Spot): void {
  checkEditableName(header.name, spot.field('name'))
  const value = spot.field('value')
  if (BAD_VALUE.test(header.value)) value.error('must not contain NUL, CR or LF')
  else checkText(header.value, value)
}

export function checkHeaderEdits(edits: HeaderEditsConfig | undefined, spot: Spot): void {
  if (edits === undefined) return
  spot.each('remove', edits.remove, (name, at) => checkEditableName(name, at))
  spot.each('add', edits.add, (header, at) => checkHeaderValue(header, at))
}
