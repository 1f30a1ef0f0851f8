import type { RE2JS } from 're2js'
import {
  ALT,
  ALT_MATCH,
  BEGIN_TEXT,
  CAPTURE,
  EMPTY_WIDTH,
  END_TEXT,
  FOLD_CASE,
  foldedLetter,
  type Instruction,
  isAny,
  isLetter,
  MATCH,
  NOP,
  type Program,
  programOf,
  RUNE,
  RUNE1,
  skipSilent,
} from './regex-instructions.ts'

/**
 * Reads what a compiled RE2 program demands of its input, so that most patterns of real route tables become string
 * comparisons and the rest can be found by the literals they need. It reads the program, never the pattern's text: what
 * RE2 understood is what holds.
 */

const MAX_ALTERNATIVES = 16
const MAX_TEXT = 256
/** Analysing larger programs would cost more than it saves. */
const MAX_PROGRAM = 5_000

/** One text that the pattern matches, and what may follow it: nothing, `.*` or `.+`. */
export interface Alternative {
  readonly text: string
  readonly rest: 'none' | 'any' | 'some'
}

/** What full matches of a pattern have in common. */
export interface RegexShape {
  /** Texts are ASCII and lower-cased, and hold for the input folded by `foldAscii`. */
  readonly folded: boolean
  /** Begins with `.*`; `alternatives` then say how the input ends (with a rest: what it contains). */
  readonly anyStart: boolean
  /** All the ways to match, where they can be listed. Exact for inputs without a newline, which `.` may refuse. */
  readonly alternatives: readonly Alternative[] | undefined
  /** Every match begins with this. */
  readonly prefix: string
  /** Every match contains each of these. */
  readonly literals: readonly string[]
}

const NOTHING: RegexShape = { folded: false, anyStart: false, alternatives: undefined, prefix: '', literals: [] }

export function shapeOf(pattern: RE2JS): RegexShape {
  const program = programOf(pattern)
  if (program.inst.length > MAX_PROGRAM) return NOTHING
  const folded = program.inst.some((i) => foldedLetter(i) !== 0)
  const literals = new LiteralReader(program, folded)
  const open = openLoopAt(program, program.start)
  const alternatives = new AlternativeReader(program, folded).read(open < 0 ? program.start : open)
  return { folded, anyStart: open >= 0, alternatives, prefix: literals.prefix(), literals: literals.required() }
}

/** The one ASCII character this instruction takes, folded where the shape is; 0 where it takes another or several. */
function literalCode(i: Instruction, folded: boolean): number {
  if (i.op !== RUNE && i.op !== RUNE1) return 0
  const letter = foldedLetter(i)
  if (letter !== 0) return letter
  const single = i.runes.length === 1 || (i.runes.length === 2 && i.runes[0] === i.runes[1])
  if (!single || i.runes[0] >= 0x80 || (i.runes.length === 1 && (i.arg & FOLD_CASE) !== 0 && isLetter(i.runes[0]))) {
    return 0
  }
  const code = i.runes[0]
  return folded && code >= 0x41 && code <= 0x5a ? code | 32 : code
}

/** Where `at` is the loop of `.*`, the instruction after the loop; otherwise -1. */
function openLoopAt(program: Program, at: number): number {
  const loop = skipSilent(program, at, BEGIN_TEXT)
  const i = program.inst[loop]
  if (i.op !== ALT && i.op !== ALT_MATCH) return -1
  if (loopsBack(program, i.out, loop)) return i.arg
  if (loopsBack(program, i.arg, loop)) return i.out
  return -1
}

function loopsBack(program: Program, body: number, loop: number): boolean {
  const first = skipSilent(program, body, 0)
  const i = program.inst[first]
  if (!isAny(i)) return false
  return skipSilent(program, i.out, 0) === loop
}

function leadsToMatch(program: Program, at: number): boolean {
  return program.inst[skipSilent(program, at, END_TEXT)].op === MATCH
}

/** Lists the language of a program where it is small, `.*` at its end aside. */
class AlternativeReader {
  readonly #program: Program
  readonly #folded: boolean
  readonly #found: Alternative[] = []
  #steps = 0

  constructor(program: Program, folded: boolean) {
    this.#program = program
    this.#folded = folded
  }

  read(from: number): readonly Alternative[] | undefined {
    return this.#follow(from, '') && this.#found.length > 0 ? this.#found : undefined
  }

  /** False: it cannot be listed. */
  #follow(from: number, text: string): boolean {
    if (++this.#steps > 4 * MAX_TEXT || text.length > MAX_TEXT) return false
    const at = skipSilent(this.#program, from, text === '' ? BEGIN_TEXT : 0)
    const i = this.#program.inst[at]
    if (leadsToMatch(this.#program, at)) return this.#add(text, 'none')
    if (i.op === ALT || i.op === ALT_MATCH) {
      const after = openLoopAt(this.#program, at)
      if (after >= 0) return leadsToMatch(this.#program, after) && this.#add(text, 'any')
      return this.#follow(i.out, text) && this.#follow(i.arg, text)
    }
    if (isAny(i)) return this.#openEnd(i) && this.#add(text, 'some')
    if (i.op !== RUNE && i.op !== RUNE1) return false
    return this.#followRunes(i, text)
  }

  /** `any` is the body of `.+` or `..*` at the end of the pattern. */
  #openEnd(any: Instruction): boolean {
    const after = openLoopAt(this.#program, any.out)
    return after >= 0 && leadsToMatch(this.#program, after)
  }

  #followRunes(i: Instruction, text: string): boolean {
    const letter = foldedLetter(i)
    if (letter !== 0) return this.#follow(i.out, text + String.fromCharCode(letter))
    if (i.runes.length === 1) return this.#followRune(i, i.runes[0], text)
    for (let r = 0; r < i.runes.length; r += 2) {
      if (i.runes[r + 1] - i.runes[r] >= MAX_ALTERNATIVES) return false
      for (let rune = i.runes[r]; rune <= i.runes[r + 1]; rune++) {
        if (!this.#followRune(i, rune, text)) return false
      }
    }
    return true
  }

  #followRune(i: Instruction, rune: number, text: string): boolean {
    // A letter whose case counts can't be told in a folded text; a fold of a non-letter has no other case.
    if (rune >= 0x80 || (this.#folded && isLetter(rune))) return false
    return this.#follow(i.out, text + String.fromCharCode(rune))
  }

  #add(text: string, rest: Alternative['rest']): boolean {
    this.#found.push({ text, rest })
    return this.#found.length <= MAX_ALTERNATIVES
  }
}

/** Finds the literals that every match must have. */
class LiteralReader {
  readonly #program: Program
  readonly #folded: boolean

  constructor(program: Program, folded: boolean) {
    this.#program = program
    this.#folded = folded
  }

  prefix(): string {
    return this.#runFrom(this.#program.start, BEGIN_TEXT)
  }

  #runFrom(from: number, conditions: number): string {
    let text = ''
    let at = from
    while (text.length < MAX_TEXT) {
      at = skipSilent(this.#program, at, conditions)
      const code = literalCode(this.#program.inst[at], this.#folded)
      if (code === 0) break
      text += String.fromCharCode(code)
      at = this.#program.inst[at].out
    }
    return text
  }

  /** Runs of instructions that no match can avoid: the dominators of the end that take one character each. */
  required(): string[] {
    const out: string[] = []
    const dominators = this.#dominators()
    let last = -1
    let text = ''
    for (const at of dominators) {
      const i = this.#program.inst[at]
      const code = literalCode(i, this.#folded)
      const takes = i.op >= RUNE
      if (!takes) continue
      const adjacent = last >= 0 && skipSilent(this.#program, this.#program.inst[last].out, -1) === at
      if (!adjacent || code === 0) {
        if (text !== '') out.push(text)
        text = ''
      }
      if (code !== 0) text += String.fromCharCode(code)
      last = code === 0 ? -1 : at
    }
    if (text !== '') out.push(text)
    return out
  }

  /** Instructions that every way from the start to the end passes, in the order in which it passes them. */
  #dominators(): number[] {
    const path = this.#anyWay()
    const place = new Map<number, number>()
    for (const [index, at] of path.entries()) place.set(at, index)
    const seen = new Uint8Array(this.#program.inst.length)
    const out: number[] = []
    let furthest = 0
    for (const [index, at] of path.entries()) {
      // Nothing before this place leads past it: it can't be avoided.
      if (furthest <= index) out.push(at)
      const pending = [...this.#successors(at)]
      for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
        const on = place.get(next)
        if (on !== undefined) furthest = Math.max(furthest, on)
        else if (seen[next] === 0) {
          seen[next] = 1
          pending.push(...this.#successors(next))
        }
      }
    }
    return out
  }

  #successors(at: number): number[] {
    const i = this.#program.inst[at]
    if (i.op === ALT || i.op === ALT_MATCH) return [i.out, i.arg]
    if (i.op === CAPTURE || i.op === EMPTY_WIDTH || i.op === NOP || i.op >= RUNE) return [i.out]
    return []
  }

  /** The instructions of one way from the start to the end; none where there is no match at all. */
  #anyWay(): number[] {
    const from = new Map<number, number>([[this.#program.start, -1]])
    const pending = [this.#program.start]
    for (let at = pending.shift(); at !== undefined; at = pending.shift()) {
      if (this.#program.inst[at].op === MATCH) {
        const path: number[] = []
        for (let step = at; step >= 0; step = from.get(step) ?? -1) path.unshift(step)
        return path
      }
      for (const next of this.#successors(at)) {
        if (from.has(next)) continue
        from.set(next, at)
        pending.push(next)
      }
    }
    return []
  }
}
