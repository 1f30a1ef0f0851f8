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
  MATCH,
  NOP,
  type Program,
  programOf,
  RUNE,
  RUNE_ANY_NOT_NEWLINE,
  RUNE1,
} from './regex-instructions.ts'

/** Characters that the table knows; others are left to the engine. */
const ASCII = 128
/** State 0 is dead. One byte names a state. */
const MAX_STATES = 256
const MAX_TABLE_BYTES = 16_384
const MAX_INSTRUCTIONS = 500
const NEWLINE = 0x0a

/** What a table says of a text. */
export const NO = 0
export const YES = 1
/** It has a character beyond ASCII: ask the engine. */
export const UNKNOWN = 2

/**
 * A complete automaton for whole matches of a small pattern, made when the pattern is compiled: two table reads per
 * character, a few hundred bytes per pattern. The engine's own automaton is made lazily and spreads over many objects,
 * which a thousand patterns can't all keep in the cache.
 */
export class RegexDfa {
  /** Per ASCII character its class, per state whether it accepts, then per state and class the next state. */
  readonly #table: Uint8Array
  readonly #next: number
  readonly #width: number
  readonly #skip: number

  private constructor(table: Uint8Array, states: number, width: number, skip: number) {
    this.#table = table
    this.#next = ASCII + states
    this.#width = width
    this.#skip = skip
  }

  /**
   * The automaton for texts of which it is known that they begin with `prefix` (ASCII), which every match does.
   * Undefined where it would be too large, or the pattern asks what stands around a place.
   */
  static of(this: void, pattern: RE2JS, prefix: string): RegexDfa | undefined {
    const program = programOf(pattern)
    if (program.inst.length > MAX_INSTRUCTIONS) return undefined
    const builder = new DfaBuilder(program)
    const built = builder.build(prefix)
    return built === undefined ? undefined : new RegexDfa(built.table, built.states, built.width, prefix.length)
  }

  /** Of the whole text, whose prefix has been compared. */
  test(text: string): number {
    const table = this.#table
    const next = this.#next
    const width = this.#width
    let state = 1
    for (let i = this.#skip; i < text.length; i++) {
      const code = text.charCodeAt(i)
      if (code >= ASCII) return UNKNOWN
      state = table[next + state * width + table[code]]
      if (state === 0) return NO
    }
    return table[ASCII + state]
  }
}

interface Built {
  readonly table: Uint8Array
  readonly states: number
  readonly width: number
}

class DfaBuilder {
  readonly #program: Program
  readonly #classOf = new Uint8Array(ASCII)
  /** One character of each class. */
  readonly #samples: number[] = []
  #impossible = false

  constructor(program: Program) {
    this.#program = program
    this.#classify()
  }

  build(prefix: string): Built | undefined {
    let start = this.#closure([this.#program.start], BEGIN_TEXT)
    for (let i = 0; i < prefix.length; i++) start = this.#step(start, prefix.charCodeAt(i))
    const states: number[][] = [[], start]
    const numbers = new Map<string, number>([
      ['', 0],
      [start.join(), 1],
    ])
    const width = this.#samples.length
    const rows: number[][] = [new Array<number>(width).fill(0)]
    for (let s = 1; s < states.length; s++) {
      const row: number[] = []
      for (const sample of this.#samples) {
        const next = this.#step(states[s], sample)
        const key = next.join()
        let number = numbers.get(key)
        if (number === undefined) {
          number = states.push(next) - 1
          numbers.set(key, number)
        }
        row.push(number)
      }
      rows.push(row)
      if (this.#impossible || states.length > MAX_STATES || states.length * width > MAX_TABLE_BYTES) return undefined
    }
    const table = this.#table(states, rows)
    return this.#impossible ? undefined : { table, states: states.length, width }
  }

  #table(states: readonly (readonly number[])[], rows: readonly (readonly number[])[]): Uint8Array {
    const width = this.#samples.length
    const table = new Uint8Array(ASCII + states.length * (1 + width))
    table.set(this.#classOf)
    for (const [s, row] of rows.entries()) {
      table[ASCII + s] = this.#accepts(states[s]) ? YES : NO
      table.set(row, ASCII + states.length + s * width)
    }
    return table
  }

  /** Characters that no instruction tells apart share a class. */
  #classify(): void {
    const classes = new Map<string, number>()
    const takers = this.#program.inst.map((i, at) => ({ i, at })).filter(({ i }) => i.op >= RUNE)
    for (let code = 0; code < ASCII; code++) {
      let key = ''
      for (const { i, at } of takers) if (takes(i, code)) key += `${at},`
      let number = classes.get(key)
      if (number === undefined) {
        number = this.#samples.push(code) - 1
        classes.set(key, number)
      }
      this.#classOf[code] = number
    }
    for (const { i } of takers) if (foldsBeyondAscii(i)) this.#impossible = true
  }

  /** The instructions that take a character or end the match, reached from these; `END_TEXT` conditions are kept. */
  #closure(from: readonly number[], conditions: number): number[] {
    const seen = new Set<number>()
    const pending = [...from]
    const out: number[] = []
    for (let at = pending.pop(); at !== undefined; at = pending.pop()) {
      if (seen.has(at)) continue
      seen.add(at)
      const i = this.#program.inst[at]
      if (i.op === ALT || i.op === ALT_MATCH) pending.push(i.out, i.arg)
      else if (i.op === CAPTURE || i.op === NOP) pending.push(i.out)
      else if (i.op === EMPTY_WIDTH) this.#condition(i, at, conditions, pending, out)
      else if (i.op === MATCH || i.op >= RUNE) out.push(at)
    }
    return out.sort((a, b) => a - b)
  }

  #condition(i: Instruction, at: number, conditions: number, pending: number[], out: number[]): void {
    // A begin behind an end holds only for the empty text, and a state does not know where it stands.
    const beginBehindEnd = conditions === END_TEXT && (i.arg & BEGIN_TEXT) !== 0
    if ((i.arg & ~(BEGIN_TEXT | END_TEXT)) !== 0 || beginBehindEnd) this.#impossible = true
    else if ((i.arg & ~conditions) === 0) pending.push(i.out)
    // The end may come here: decided when it does.
    else if ((i.arg & ~conditions) === END_TEXT) out.push(at)
  }

  #step(state: readonly number[], code: number): number[] {
    const next: number[] = []
    for (const at of state) {
      const i = this.#program.inst[at]
      if (i.op >= RUNE && takes(i, code)) next.push(i.out)
    }
    return this.#closure(next, 0)
  }

  #accepts(state: readonly number[]): boolean {
    const ends = state.filter((at) => this.#program.inst[at].op === EMPTY_WIDTH).map((at) => this.#program.inst[at].out)
    return [...state, ...this.#closure(ends, END_TEXT)].some((at) => this.#program.inst[at].op === MATCH)
  }
}

function takes(i: Instruction, code: number): boolean {
  if (isAny(i)) return i.op !== RUNE_ANY_NOT_NEWLINE || code !== NEWLINE
  if (i.op !== RUNE && i.op !== RUNE1) return false
  const letter = foldedLetter(i)
  if (letter !== 0) return (code | 0x20) === letter
  if (i.runes.length === 1) return i.runes[0] === code
  for (let r = 0; r < i.runes.length; r += 2) if (code >= i.runes[r] && code <= i.runes[r + 1]) return true
  return false
}

/** Letters beyond ASCII fold to several others, some of them ASCII: not worth knowing here. */
function foldsBeyondAscii(i: Instruction): boolean {
  return i.runes.length === 1 && (i.arg & FOLD_CASE) !== 0 && i.runes[0] >= ASCII
}
