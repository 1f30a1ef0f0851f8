/**
 * A small scanner of TypeScript sources for the architecture test: no parser, only as much as the rules need. It knows
 * comments, strings, templates, regular expressions and brackets; sources formatted by Biome are what it is made for.
 */

export interface ImportStatement {
  readonly from: string
  /** `import type`, or every name in the braces is marked `type`. */
  readonly typeOnly: boolean
  /** Names between the braces, without `type` and without their local names; [] for namespaces and side effects. */
  readonly names: readonly string[]
  readonly line: number
}

export interface FunctionSpan {
  readonly name: string
  readonly line: number
  readonly lines: number
}

export interface TopLevelStatement {
  /** Comments and the insides of strings are blanks. */
  readonly text: string
  readonly line: number
}

const REGEX_MAY_FOLLOW = /(?:^|[(,=:[!&|?{};+\-*%<>~^]|\b(?:return|typeof|case|in|of|void|yield|await|throw|else|do))$/

/** The source with comments, and unless `keepStrings` the insides of strings and regexes too, turned into blanks. */
export function blank(source: string, keepStrings = false): string {
  const out = source.split('')
  const wipe = (from: number, to: number): void => {
    for (let i = from; i < to; i++) if (out[i] !== '\n') out[i] = ' '
  }
  /** Depth of braces at which a template's `${` was opened. */
  const templates: number[] = []
  let depth = 0
  let i = 0
  while (i < source.length) {
    const c = source[i]
    const start = i
    if (c === '/' && source[i + 1] === '/') {
      while (i < source.length && source[i] !== '\n') i++
      wipe(start, i)
    } else if (c === '/' && source[i + 1] === '*') {
      i = source.indexOf('*/', i) + 2
      wipe(start, i)
    } else if (c === "'" || c === '"') {
      i = stringEnd(source, i)
      if (!keepStrings) wipe(start + 1, i - 1)
    } else if (c === '`' || (c === '}' && templates.at(-1) === depth)) {
      if (c === '}') templates.pop()
      i = templateEnd(source, i)
      const opens = source[i - 1] === '{'
      if (opens) templates.push(depth)
      if (!keepStrings) wipe(start + 1, opens ? i - 2 : i - 1)
      // `${` and its `}` stand for one bracket pair, which the blanks must not unbalance.
      if (!keepStrings && opens) wipe(i - 2, i)
      if (!keepStrings && c === '}') wipe(start, start + 1)
    } else if (c === '/' && REGEX_MAY_FOLLOW.test(before(out, i))) {
      i = regexEnd(source, i)
      if (!keepStrings) wipe(start + 1, i - 1)
    } else {
      if (c === '{') depth++
      else if (c === '}') depth--
      i++
    }
  }
  return out.join('')
}

/** The code before a place, blanks and line ends skipped. */
function before(out: readonly string[], at: number): string {
  let to = at
  while (to > 0 && /\s/.test(out[to - 1])) to--
  return out.slice(Math.max(0, to - 8), to).join('')
}

function stringEnd(source: string, at: number): number {
  const quote = source[at++]
  while (at < source.length && source[at] !== quote) at += source[at] === '\\' ? 2 : 1
  return at + 1
}

/** Behind the closing back-tick, or behind the next `${`. */
function templateEnd(source: string, at: number): number {
  for (at++; at < source.length; at++) {
    if (source[at] === '\\') at++
    else if (source[at] === '`') return at + 1
    else if (source[at] === '$' && source[at + 1] === '{') return at + 2
  }
  return at
}

function regexEnd(source: string, at: number): number {
  let inClass = false
  for (at++; at < source.length; at++) {
    if (source[at] === '\\') at++
    else if (source[at] === '[') inClass = true
    else if (source[at] === ']') inClass = false
    else if (source[at] === '/' && !inClass) break
  }
  at++
  while (/[a-z]/.test(source[at] ?? '')) at++
  return at
}

export function lineAt(text: string, offset: number): number {
  let line = 1
  for (let at = text.indexOf('\n'); at >= 0 && at < offset; at = text.indexOf('\n', at + 1)) line++
  return line
}

/** Static imports, re-exports and `import('...')` with a literal. */
export function importsOf(source: string): ImportStatement[] {
  const text = blank(source, true)
  const found: ImportStatement[] = []
  const statement = /^(?:import|export)\b(\s+type\b)?([^'"`;]*?)\bfrom\s*['"]([^'"]+)['"]|^import\s*['"]([^'"]+)['"]/gm
  for (const match of text.matchAll(statement)) {
    const parts = (/\{([^}]*)\}/.exec(match[2] ?? '')?.[1] ?? '')
      .split(',')
      .map((p) => p.trim())
      .filter((p) => p !== '')
    const outside = (match[2] ?? '').replace(/\{[^}]*\}/, '').replace(/[\s,]/g, '')
    const allTypes = parts.length > 0 && outside === '' && parts.every((p) => p.startsWith('type '))
    found.push({
      from: match[3] ?? match[4],
      typeOnly: match[1] !== undefined || allTypes,
      names: parts.map((p) => p.replace(/^type\s+/, '').replace(/\s+as\s+.*$/, '')),
      line: lineAt(text, match.index),
    })
  }
  for (const match of text.matchAll(/\bimport\(\s*['"]([^'"]+)['"]/g)) {
    found.push({ from: match[1], typeOnly: false, names: [], line: lineAt(text, match.index) })
  }
  return found
}

/** The statements at the top level, in order; each ends where the next begins at the start of a line. */
export function topLevel(source: string): TopLevelStatement[] {
  const text = blank(source)
  const statements: TopLevelStatement[] = []
  let depth = 0
  let from = 0
  for (let i = 0; i <= text.length; i++) {
    const c = text[i]
    if (i === text.length || (depth === 0 && text[i - 1] === '\n' && /[A-Za-z_$([`'"!+\-;{@]/.test(c))) {
      const part = text.slice(from, i)
      if (part.trim() !== '')
        statements.push({ text: part.trim(), line: lineAt(text, from + (part.length - part.trimStart().length) + 1) })
      from = i
    }
    if (c === '{' || c === '(' || c === '[') depth++
    else if (c === '}' || c === ')' || c === ']') depth--
  }
  return statements
}

/** Functions, methods and arrows with a body in braces, however nested. */
export function functionsOf(source: string): FunctionSpan[] {
  const text = blank(source)
  const stack: ({ name: string; from: number } | undefined)[] = []
  const found: FunctionSpan[] = []
  for (let i = 0; i < text.length; i++) {
    if (text[i] === '{') stack.push(functionBefore(text, i))
    else if (text[i] === '}') {
      const open = stack.pop()
      if (open === undefined) continue
      const line = lineAt(text, open.from + 1)
      found.push({ name: open.name, line, lines: lineAt(text, i) - line + 1 })
    }
  }
  return found
}

const NO_FUNCTION: ReadonlySet<string> = new Set(['if', 'for', 'while', 'switch', 'catch', 'with'])

/** What function a brace opens, if it opens one. */
function functionBefore(text: string, brace: number): { name: string; from: number } | undefined {
  const head = text.slice(Math.max(0, brace - 600), brace)
  const base = brace - head.length
  const arrow = /=>\s*$/.exec(head)
  const rest = arrow === null ? head : head.slice(0, arrow.index)
  const close = /\)(\s*:[^;{}()]*)?\s*$/.exec(rest)
  if (close === null) return arrow === null ? undefined : { name: 'arrow', from: base + arrow.index }
  const open = openingOf(rest, close.index)
  if (open < 0) return undefined
  const word = /([\w#$]+)\s*(?:<[^()]*>)?\s*$/.exec(rest.slice(0, open))
  if (word === null) return { name: arrow === null ? '' : 'arrow', from: base + open }
  if (arrow === null && NO_FUNCTION.has(word[1])) return undefined
  return { name: arrow === null ? word[1] : 'arrow', from: base + word.index }
}

function openingOf(text: string, close: number): number {
  let depth = 0
  for (let i = close; i >= 0; i--) {
    if (text[i] === ')') depth++
    else if (text[i] === '(' && --depth === 0) return i
  }
  return -1
}

/** The text with everything that runs later (bodies of functions, methods and arrows) turned into blanks. */
export function withoutBodies(text: string): string {
  const out = text.split('')
  for (let i = 0; i < text.length; i++) {
    let from = -1
    if (text[i] === '{' && out[i] === '{') {
      const owner = functionBefore(text, i)
      if (owner !== undefined) from = owner.from
    } else if (text.startsWith('=>', i) && out[i] === '=' && !/^=>\s*\{/.test(text.slice(i, i + 40))) from = i
    if (from < 0) continue
    const to = text[i] === '{' ? closingOf(text, i) : expressionEnd(text, i + 2)
    for (let k = from; k < to; k++) if (out[k] !== '\n') out[k] = ' '
  }
  return out.join('')
}

function closingOf(text: string, open: number): number {
  let depth = 0
  for (let i = open; i < text.length; i++) {
    if ('{(['.includes(text[i])) depth++
    else if ('})]'.includes(text[i]) && --depth === 0) return i + 1
  }
  return text.length
}

function expressionEnd(text: string, from: number): number {
  let depth = 0
  for (let i = from; i < text.length; i++) {
    if ('{(['.includes(text[i])) depth++
    else if ('})]'.includes(text[i])) {
      if (depth-- === 0) return i
    } else if (depth === 0 && text[i] === ',') return i
  }
  return text.length
}
