import { compileRegex } from './regex.ts'

/** What Envoy's uri_template lets stand in a segment (RFC 3986 pchar without `*`). */
const SEGMENT = "a-zA-Z0-9._~%!$&'()+,;:@=-"
const LITERAL = /^[a-zA-Z0-9._~%!$&'()+,;:@=-]+$/
const REWRITE_LITERAL = /^[a-zA-Z0-9._~%!$&'()+,;:@=/-]+$/
const NAME = /^[a-zA-Z][a-zA-Z0-9_]*$/
const PRINTABLE = /^\/[\x21-\x7e]*$/
const SPECIAL = /[$()+.]/g
const MAX_VARIABLES = 5
const MAX_NAME = 16

/**
 * Translates Envoy's uri_template pattern to RE2, variables as named groups.
 *
 * ```
 * pattern  = "/" *( "/" / literal / glob / variable )      no two slashes in a row
 * variable = "{" name [ "=" 1*( "/" / literal / glob ) ] "}"      within it a slash must follow a glob
 * glob     = "*" (one segment) / "**" (any number of segments; the last glob)
 * ```
 *
 * @throws Error that says what is wrong with the pattern.
 */
export function templateToRegex(pattern: string): string {
  if (!PRINTABLE.test(pattern)) throw invalid(pattern, 'must begin with "/" and be printable')
  return new TemplateReader(pattern).read()
}

function invalid(pattern: string, reason: string): Error {
  return new Error(`invalid URI template "${pattern}": ${reason}`)
}

class TemplateReader {
  readonly #pattern: string
  readonly #names = new Set<string>()
  #rest: string
  #sawTextGlob = false

  constructor(pattern: string) {
    this.#pattern = pattern
    this.#rest = pattern
  }

  read(): string {
    let out = ''
    let slash = false
    while (this.#rest !== '') {
      const startsWithSlash = this.#startsWithSlash()
      if (slash && startsWithSlash) throw this.#error('two slashes in a row')
      slash = startsWithSlash
      out += this.#rest.startsWith('{') ? this.#variable() : this.#part()
    }
    return out
  }

  /** As Envoy judges it: of a variable, its pattern's first character counts. */
  #startsWithSlash(): boolean {
    return this.#rest.startsWith('/') || /^\{[^}=]*=\//.test(this.#rest)
  }

  #part(): string {
    if (this.#rest.startsWith('*')) return this.#glob()
    if (this.#rest.startsWith('/')) {
      this.#rest = this.#rest.slice(1)
      return '/'
    }
    const end = this.#rest.search(/[/{]/)
    return this.#literal(end < 0 ? this.#rest.length : end)
  }

  #literal(length: number): string {
    const literal = this.#rest.slice(0, length)
    if (!LITERAL.test(literal)) throw this.#error(`"${literal}" is not a literal segment`)
    this.#rest = this.#rest.slice(length)
    return literal.replace(SPECIAL, '\\$&')
  }

  #glob(): string {
    if (this.#sawTextGlob) throw this.#error('"**" must be the last glob')
    this.#sawTextGlob = this.#rest.startsWith('**')
    this.#rest = this.#rest.slice(this.#sawTextGlob ? 2 : 1)
    return this.#sawTextGlob ? `[/${SEGMENT}]*` : `[${SEGMENT}]+`
  }

  #variable(): string {
    const close = this.#rest.indexOf('}')
    if (close < 0) throw this.#error('"{" without "}"')
    const inner = this.#rest.slice(1, close)
    const after = this.#rest.slice(close + 1)
    const equals = inner.indexOf('=')
    const name = equals < 0 ? inner : inner.slice(0, equals)
    this.#declare(name)
    this.#rest = equals < 0 ? '*' : inner.slice(equals + 1)
    if (this.#rest === '') throw this.#error(`variable "${name}" has an empty pattern`)
    let out = ''
    let glob = false
    while (this.#rest !== '') {
      if (glob && !this.#rest.startsWith('/')) throw this.#error(`variable "${name}": only "/" may follow a glob`)
      glob = this.#rest.startsWith('*')
      out += this.#part()
    }
    this.#rest = after
    return `(?P<${name}>${out})`
  }

  #declare(name: string): void {
    if (!NAME.test(name) || name.length > MAX_NAME) throw this.#error(`"${name}" is not a variable name`)
    if (this.#names.has(name)) throw this.#error(`variable "${name}" stands twice`)
    if (this.#names.size >= MAX_VARIABLES) throw this.#error(`more than ${MAX_VARIABLES} variables`)
    this.#names.add(name)
  }

  #error(reason: string): Error {
    return invalid(this.#pattern, reason)
  }
}

/**
 * Compiles Envoy's uri_template rewriter: `rewrite` is literal text and `{name}` for variables of `pattern`. The function
 * takes a path without query and answers undefined where it does not match the pattern.
 *
 * @throws Error for a bad pattern, a bad rewrite, or a variable that the pattern does not have.
 */
export function compileTemplateRewrite(pattern: string, rewrite: string): (path: string) => string | undefined {
  const regex = compileRegex(templateToRegex(pattern))
  const parts = parseRewrite(pattern, rewrite)
  return (path) => {
    const values = regex.captures(path)
    if (values === undefined) return undefined
    let out = ''
    for (const part of parts) out += part.variable ? (values.get(part.text) ?? '') : part.text
    return out
  }
}

interface RewritePart {
  readonly text: string
  readonly variable: boolean
}

function parseRewrite(pattern: string, rewrite: string): RewritePart[] {
  const fail = (reason: string): Error => new Error(`invalid URI template rewrite "${rewrite}": ${reason}`)
  if (!rewrite.startsWith('/') || rewrite.includes('//')) throw fail('must begin with "/" and not contain "//"')
  const parts: RewritePart[] = []
  let at = 0
  while (at < rewrite.length) {
    const open = rewrite.indexOf('{', at)
    const literal = rewrite.slice(at, open < 0 ? rewrite.length : open)
    if (literal !== '' && !REWRITE_LITERAL.test(literal)) throw fail(`"${literal}" is not a literal`)
    if (literal !== '') parts.push({ text: literal, variable: false })
    if (open < 0) break
    const close = rewrite.indexOf('}', open)
    if (close < 0) throw fail('"{" without "}"')
    const name = rewrite.slice(open + 1, close)
    const known = NAME.test(name) && (pattern.includes(`{${name}}`) || pattern.includes(`{${name}=`))
    if (!known) throw fail(`"${pattern}" has no variable "${name}"`)
    parts.push({ text: name, variable: true })
    at = close + 1
  }
  return parts
}
