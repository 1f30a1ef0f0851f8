import type { RE2JS } from 're2js'

/** Instructions of re2js (and of Go's regexp/syntax, whose port it is). */
export const ALT = 1
export const ALT_MATCH = 2
export const CAPTURE = 3
export const EMPTY_WIDTH = 4
export const FAIL = 5
export const MATCH = 6
export const NOP = 7
export const RUNE = 8
export const RUNE1 = 9
export const RUNE_ANY = 10
export const RUNE_ANY_NOT_NEWLINE = 11

export const BEGIN_TEXT = 4
export const END_TEXT = 8
export const FOLD_CASE = 1

export interface Instruction {
  readonly op: number
  readonly out: number
  readonly arg: number
  readonly runes: ArrayLike<number>
}

export interface Program {
  readonly inst: readonly Instruction[]
  readonly start: number
}

export function programOf(pattern: RE2JS): Program {
  return pattern.re2().prog as unknown as Program
}

/** The letter (lower-case) that this instruction takes in either case; 0 for every other instruction. */
export function foldedLetter(i: Instruction): number {
  if (i.op !== RUNE && i.op !== RUNE1) return 0
  if (i.runes.length === 1 && (i.arg & FOLD_CASE) !== 0) {
    const lower = i.runes[0] | 32
    return i.runes[0] < 0x80 && lower >= 0x61 && lower <= 0x7a ? lower : 0
  }
  return 0
}

export function isLetter(code: number): boolean {
  const lower = code | 32
  return lower >= 0x61 && lower <= 0x7a
}

export function isAny(i: Instruction): boolean {
  return i.op === RUNE_ANY || i.op === RUNE_ANY_NOT_NEWLINE
}

/** Follows what consumes nothing and always leads on; conditions other than the begin of the text stop it. */
export function skipSilent(program: Program, at: number, conditions: number): number {
  for (;;) {
    const i = program.inst[at]
    const silent = i.op === CAPTURE || i.op === NOP || (i.op === EMPTY_WIDTH && (i.arg & ~conditions) === 0)
    if (!silent) return at
    at = i.out
  }
}
