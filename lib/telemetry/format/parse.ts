import { FormatError } from './operator.ts'

/** One piece of a format: literal text, or a command as written. */
export type Piece =
  | { readonly kind: 'literal'; readonly text: string }
  | {
      readonly kind: 'command'
      readonly name: string
      /** Undefined: no parentheses. */
      readonly argument: string | undefined
      /** Of `:N`; undefined: not given. */
      readonly length: number | undefined
      /** Of its `%` in the text. */
      readonly position: number
    }

const COMMAND = /%([A-Z][A-Z0-9_]*)(?:\(([^)]*)\))?(?::(\d{1,9}))?%/y

/** Splits a format at its operators `%NAME(argument):length%`; `%%` is a percent sign. Throws `FormatError`. */
export function parseFormat(text: string): Piece[] {
  const pieces: Piece[] = []
  let literal = ''
  let at = 0
  while (at < text.length) {
    const percent = text.indexOf('%', at)
    if (percent < 0) {
      literal += text.slice(at)
      break
    }
    literal += text.slice(at, percent)
    if (text[percent + 1] === '%') {
      literal += '%'
      at = percent + 2
      continue
    }
    COMMAND.lastIndex = percent
    const match = COMMAND.exec(text)
    if (match === null) throw new FormatError(explain(text, percent), percent)
    if (literal !== '') pieces.push({ kind: 'literal', text: literal })
    literal = ''
    const length = match[3] === undefined ? undefined : Number(match[3])
    pieces.push({ kind: 'command', name: match[1], argument: match[2], length, position: percent })
    at = percent + match[0].length
  }
  if (literal !== '') pieces.push({ kind: 'literal', text: literal })
  return pieces
}

function explain(text: string, percent: number): string {
  const name = /^[A-Z][A-Z0-9_]*/.exec(text.slice(percent + 1))
  if (name === null) return 'a "%" must begin a command such as %PROTOCOL%, or be written "%%"'
  const after = percent + 1 + name[0].length
  if (text[after] === '(' && text.indexOf(')', after) < 0) return `%${name[0]}(…)% has no closing parenthesis`
  if (text.indexOf('%', after) < 0) return `%${name[0]} has no closing "%"`
  return `%${name[0]}% is not of the form %NAME(argument):length%`
}
