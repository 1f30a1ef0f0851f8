import type { RE2JS } from 're2js'
import {
  ALT,
  ALT_MATCH,
  BEGIN_TEXT,
  CAPTURE,
  EMPTY_WIDTH,
  END_TEXT,
  FAIL,
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
/** State 0 is dead, matching begins in state 1. One byte names a state. */
const MAX_STATES = 256
const MAX_TABLE_BYTES = 16_384
const MAX_INSTRUCTIONS = 500
const NEWLINE = 0x0a

/** What an automaton says of a text. */
export const NO = 0
export const YES = 1
/** It has a character beyond ASCII: ask the engine. */
export const UNKNOWN = 2

/**
 * A complete automaton for whole matches of a small pattern, made when the pattern is compiled: two table reads per
 * character, a few hundred bytes per pattern. The engine's own automaton is made lazily and spreads over many objects,
 * which a thousand patterns can't all keep in the cache.
 */
export interface RegexDfa {
  /** Per ASCII character its class. */
  readonly classes: Uint8Array
  /** Per state a row: whether it accepts, then the next state for each class. */
  readonly rows: Uint8Array
  readonly rowLength: number
  /** Where in a text it begins: behind the prefix, which has been compared. */
  readonly from: number
}

/**
 * The automaton for texts of which it is known that they begin with `prefix` (ASCII), which every match does. Undefined
 * where it would be too large, or the pattern asks what stands around a place.
 */
export function compileDfa(pattern: RE2JS, prefix: string): RegexDfa | undefined {
  const program = programOf(pattern)
  return program.inst.length > MAX_INSTRUCTIONS ? undefined : new DfaBuilder(program, prefix).build()
}

/** Automata in common tables: what a run reads of one is a few lines of the cache, and equal ones share them. */
export class DfaTables {
  readonly #classes: Uint8Array
  readonly #rows: Uint8Array
  /** Four words per automaton: where its classes and its rows begin, the length of a row, where in a text it begins. */
  readonly #places: Int32Array

  /** Automata by number; equal tables are stored once. */
  constructor(automata: readonly RegexDfa[]) {
    const classes = new Arena()
    const rows = new Arena()
    this.#places = Int32Array.from(
      automata.flatMap((dfa) => [classes.add(dfa.classes), rows.add(dfa.rows), dfa.rowLength, dfa.from]),
    )
    this.#classes = classes.bytes()
    this.#rows = rows.bytes()
  }

  /** Whether the first `end` characters of the text match automaton `number`: NO, YES or UNKNOWN. */
  run(number: number, text: string, end: number): number {
    const at = number << 2
    const classes = this.#classes
    const rows = this.#rows
    const classesAt = this.#places[at]
    const rowsAt = this.#places[at + 1]
    const rowLength = this.#places[at + 2]
    let row = rowsAt + rowLength
    for (let i = this.#places[at + 3]; i < end; i++) {
      const code = text.charCodeAt(i)
      if (code >= ASCII) return UNKNOWN
      const state = rows[row + 1 + classes[classesAt + code]]
      if (state === 0) return NO
      row = rowsAt + state * rowLength
    }
    return rows[row]
  }
}

/** Byte strings one behind the other, each distinct one once. */
class Arena {
  readonly #known = new Map<string, number>()
  readonly #parts: Uint8Array[] = []
  #length = 0

  add(part: Uint8Array): number {
    const key = Buffer.from(part.buffer, part.byteOffset, part.byteLength).latin1Slice()
    const known = this.#known.get(key)
    if (known !== undefined) return known
    const at = this.#length
    this.#known.set(key, at)
    this.#parts.push(part)
    this.#length += part.length
    return at
  }

  bytes(): Uint8Array {
    return new Uint8Array(Buffer.concat(this.#parts))
  }
}

class DfaBuilder {
  readonly #program: Program
  readonly #prefix: string
  readonly #classOf = new Uint8Array(ASCII)
  /** One character of each class. */
  readonly #samples: number[] = []
  #impossible = false

  constructor(program: Program, prefix: string) {
    this.#program = program
    this.#prefix = prefix
  }

  build(): RegexDfa | undefined {
    let start = this.#closure([this.#program.start], BEGIN_TEXT)
    for (let i = 0; i < this.#prefix.length; i++) start = this.#step(start, this.#prefix.charCodeAt(i))
    this.#classify(this.#reachable(start))
    const states: number[][] = [[], start]
    const numbers = new Map<string, number>([
      ['', 0],
      [start.join(), 1],
    ])
    const rowLength = this.#samples.length + 1
    const rows: number[] = new Array<number>(rowLength).fill(0)
    for (let s = 1; s < states.length; s++) {
      rows.push(this.#accepts(states[s]) ? YES : NO)
      for (const sample of this.#samples) rows.push(this.#number(this.#step(states[s], sample), states, numbers))
      if (this.#impossible || states.length > MAX_STATES || rows.length > MAX_TABLE_BYTES) return undefined
    }
    return { classes: this.#classOf, rows: Uint8Array.from(rows), rowLength, from: this.#prefix.length }
  }

  #number(state: number[], states: number[][], numbers: Map<string, number>): number {
    const key = state.join()
    let number = numbers.get(key)
    if (number === undefined) {
      number = states.push(state) - 1
      numbers.set(key, number)
    }
    return number
  }

  #reachable(start: readonly number[]): Instruction[] {
    const seen = new Set<number>()
    const pending = [...start]
    for (let at = pending.pop(); at !== undefined; at = pending.pop()) {
      if (seen.has(at)) continue
      seen.add(at)
      const i = this.#program.inst[at]
      if (i.op === ALT || i.op === ALT_MATCH) pending.push(i.out, i.arg)
      else if (i.op !== MATCH && i.op !== FAIL) pending.push(i.out)
    }
    return [...seen].sort((a, b) => a - b).map((at) => this.#program.inst[at])
  }

  /** Characters that no instruction tells apart share a class. */
  #classify(instructions: readonly Instruction[]): void {
    const takers = instructions.filter((i) => i.op >= RUNE)
    if (takers.some(foldsBeyondAscii)) this.#impossible = true
    const classes = new Map<string, number>()
    const starts = boundaries(takers)
    for (let b = 0; b < starts.length - 1; b++) {
      const sample = starts[b]
      const key = takers.map((i) => (takes(i, sample) ? '1' : '0')).join('')
      let number = classes.get(key)
      if (number === undefined) {
        number = this.#samples.push(sample) - 1
        classes.set(key, number)
      }
      this.#classOf.fill(number, sample, starts[b + 1])
    }
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

/** Where ranges of characters begin that no instruction splits, ascending, and the end of ASCII. */
function boundaries(takers: readonly Instruction[]): number[] {
  const out = new Set([0, NEWLINE, NEWLINE + 1, ASCII])
  const add = (first: number, last: number): void => {
    if (first < ASCII) out.add(first)
    if (last + 1 < ASCII) out.add(last + 1)
  }
  for (const i of takers) {
    const letter = foldedLetter(i)
    if (letter !== 0) {
      add(letter, letter)
      add(letter - 0x20, letter - 0x20)
    } else if (i.runes.length === 1) add(i.runes[0], i.runes[0])
    else for (let r = 0; r < i.runes.length; r += 2) add(i.runes[r], i.runes[r + 1])
  }
  return [...out].sort((a, b) => a - b)
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
