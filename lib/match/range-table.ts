import { maskedKey, parseIp } from './cidr.ts'

/**
 * Finds what belongs to the longest range that an address is in; undefined where it is in none, or is no IP address.
 * `below`: only ranges that are shorter than that.
 */
export type RangeTable<T> = (address: string, below?: number) => T | undefined

/** Ranges of one length, by what is left of an address under the mask. */
interface Level<T> {
  readonly prefixLength: number
  readonly byKey: Map<string | number, T>
}

/**
 * Compiles a table of address ranges as `canonicalRange` spells them: one look-up for each length that occurs, the longest
 * first. Addresses that are looked for may have any spelling. Of equal ranges the last one counts.
 *
 * @throws Error where a text is no address range
 */
export function compileRangeTable<T>(entries: readonly (readonly [range: string, value: T])[]): RangeTable<T> {
  const levels4: Level<T>[] = []
  const levels6: Level<T>[] = []
  const words = new Int32Array(4)
  for (const [range, value] of entries) {
    const slash = range.lastIndexOf('/')
    const kind = parseIp(range.slice(0, slash), words)
    const prefixLength = Number(range.slice(slash + 1))
    const bits = kind === 4 ? 32 : 128
    if (slash < 0 || kind === 0 || !Number.isInteger(prefixLength) || prefixLength < 0 || prefixLength > bits) {
      throw new Error(`"${range}" is not an IP address range`)
    }
    const level = levelOf(kind === 4 ? levels4 : levels6, prefixLength)
    level.byKey.set(maskedKey(words, kind, prefixLength), value)
  }
  return tableOf(sorted(levels4), sorted(levels6))
}

function levelOf<T>(levels: Level<T>[], prefixLength: number): Level<T> {
  const known = levels.find((level) => level.prefixLength === prefixLength)
  if (known !== undefined) return known
  const level = { prefixLength, byKey: new Map<string | number, T>() }
  levels.push(level)
  return level
}

function sorted<T>(levels: Level<T>[]): readonly Level<T>[] {
  return levels.sort((a, b) => b.prefixLength - a.prefixLength)
}

function tableOf<T>(levels4: readonly Level<T>[], levels6: readonly Level<T>[]): RangeTable<T> {
  const words = new Int32Array(4)
  return (address, below = 129) => {
    const kind = parseIp(address, words)
    if (kind === 0) return undefined
    for (const { prefixLength, byKey } of kind === 4 ? levels4 : levels6) {
      if (prefixLength >= below) continue
      const value = byKey.get(maskedKey(words, kind, prefixLength))
      if (value !== undefined) return value
    }
    return undefined
  }
}
