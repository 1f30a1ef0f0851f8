import { type Hash64, XxHash64 } from '../../core/hash64.ts'
import type { HashTable } from './hash-table.ts'
import { type HostShares, hashKey } from './host-shares.ts'
import { murmur2 } from './murmur2.ts'

export interface RingOptions {
  /** The ring has at least so many entries, as far as `maxSize` permits. */
  readonly minSize: number
  readonly maxSize: number
  readonly hash: 'xx' | 'murmur2'
  readonly byHostname: boolean
}

/** Entries that are hashed before others may have the loop: about a millisecond. */
const SLICE = 4096
const DIGIT_BITS = 11
const DIGITS = 1 << DIGIT_BITS

/** Ketama (Envoy's RING_HASH): hosts stand at many points of a circle, and a hash belongs to the next point. */
export class Ring implements HashTable {
  readonly #highs: Uint32Array
  readonly #lows: Uint32Array
  /** Indices of hosts. */
  readonly #owners: Uint32Array
  readonly fewest: number
  readonly most: number

  constructor(points: Points, counts: { readonly fewest: number; readonly most: number }) {
    this.#highs = points.highs
    this.#lows = points.lows
    this.#owners = points.owners
    this.fewest = counts.fewest
    this.most = counts.most
  }

  get size(): number {
    return this.#owners.length
  }

  /** Further attempts go on from point to point. */
  find({ high, low }: Hash64, attempt: number): number {
    const highs = this.#highs
    const lows = this.#lows
    const size = highs.length
    let from = 0
    let to = size
    while (from < to) {
      const middle = (from + to) >>> 1
      if (highs[middle] < high || (highs[middle] === high && lows[middle] < low)) from = middle + 1
      else to = middle
    }
    return this.#owners[(from + attempt) % size]
  }

  /** The points in order, for tests and measurements: `high`, `low` and the index of the host of each. */
  *entries(): Generator<readonly [high: number, low: number, host: number]> {
    for (let i = 0; i < this.size; i++) yield [this.#highs[i], this.#lows[i], this.#owners[i]]
  }
}

interface Points {
  readonly highs: Uint32Array
  readonly lows: Uint32Array
  readonly owners: Uint32Array
}

/**
 * Builds a ring in pauses, of which each host has points by its share. The size is such that the host with the smallest
 * share has a whole number of them, `minSize` at least and `maxSize` at most, Envoy's rule. There must be a host.
 */
export function* buildRing(of: HostShares, options: RingOptions): Generator<undefined, Ring> {
  const scale = Math.min(Math.ceil(of.smallest * options.minSize) / of.smallest, options.maxSize)
  const hasher = new RingHasher(options.hash)
  // One more than the scale says where rounding errors of the shares add up.
  let points = emptyPoints(Math.ceil(scale) + 1)
  let size = 0
  let target = 0
  let fewest = Number.POSITIVE_INFINITY
  let most = 0
  for (let host = 0; host < of.hosts.length; host++) {
    target += scale * of.shares[host]
    hasher.begin(hashKey(of.hosts[host], options.byHostname))
    let i = 0
    for (; size < target; i++, size++) {
      if (size === points.owners.length) points = resized(points, size * 2)
      hasher.point(i)
      points.highs[size] = hasher.high
      points.lows[size] = hasher.low
      points.owners[size] = host
      if (size % SLICE === SLICE - 1) yield
    }
    if (i < fewest) fewest = i
    if (i > most) most = i
  }
  const sorted = yield* sortPoints(resized(points, size))
  return new Ring(sorted, { fewest, most })
}

function emptyPoints(size: number): Points {
  return { highs: new Uint32Array(size), lows: new Uint32Array(size), owners: new Uint32Array(size) }
}

function resized(points: Points, size: number): Points {
  if (size <= points.owners.length) {
    const { highs, lows, owners } = points
    return { highs: highs.subarray(0, size), lows: lows.subarray(0, size), owners: owners.subarray(0, size) }
  }
  const larger = emptyPoints(size)
  larger.highs.set(points.highs)
  larger.lows.set(points.lows)
  larger.owners.set(points.owners)
  return larger
}

/** Radix sort, least digit first: six passes of eleven bits over two sets of arrays, without a comparison. */
function* sortPoints(points: Points): Generator<undefined, Points> {
  let from = points
  let to = emptyPoints(points.owners.length)
  const starts = new Uint32Array(DIGITS)
  for (let shift = 0; shift < 64; shift += DIGIT_BITS) {
    sortPass(from, to, shift, starts)
    const spare = from
    from = to
    to = spare
    if (points.owners.length > SLICE) yield
  }
  return from
}

function sortPass(from: Points, to: Points, shift: number, starts: Uint32Array): void {
  starts.fill(0)
  const size = from.owners.length
  for (let i = 0; i < size; i++) starts[digit(from.highs[i], from.lows[i], shift)]++
  let sum = 0
  for (let d = 0; d < DIGITS; d++) {
    const count = starts[d]
    starts[d] = sum
    sum += count
  }
  for (let i = 0; i < size; i++) {
    const at = starts[digit(from.highs[i], from.lows[i], shift)]++
    to.highs[at] = from.highs[i]
    to.lows[at] = from.lows[i]
    to.owners[at] = from.owners[i]
  }
}

function digit(high: number, low: number, shift: number): number {
  if (shift >= 32) return (high >>> (shift - 32)) & (DIGITS - 1)
  const bits = low >>> shift
  // The digit that lies across both halves.
  return (shift + DIGIT_BITS > 32 ? bits | (high << (32 - shift)) : bits) & (DIGITS - 1)
}

/** Hashes `<key>_<number>`: the key is written once, the number as digits behind it. */
class RingHasher implements Hash64 {
  high = 0
  low = 0
  readonly #murmur: boolean
  readonly #xx = new XxHash64()
  #text = Buffer.alloc(64)
  #keyLength = 0

  constructor(hash: 'xx' | 'murmur2') {
    this.#murmur = hash === 'murmur2'
  }

  begin(key: string): void {
    const length = Buffer.byteLength(key)
    // 20 digits are more than any number that is counted to.
    if (this.#text.length < length + 21) this.#text = Buffer.alloc(length + 21)
    this.#text.write(key)
    this.#text[length] = UNDERSCORE
    this.#keyLength = length + 1
  }

  point(number: number): void {
    const end = this.#number(number)
    const hash = this.#murmur ? murmur2(this.#text, end) : this.#xx.digest(this.#text, end)
    this.high = hash.high
    this.low = hash.low
  }

  #number(number: number): number {
    let digits = 1
    for (let bound = 10; number >= bound; bound *= 10) digits++
    let rest = number
    for (let i = digits - 1; i >= 0; i--) {
      this.#text[this.#keyLength + i] = ZERO + (rest % 10)
      rest = Math.floor(rest / 10)
    }
    return this.#keyLength + digits
  }
}

const UNDERSCORE = 0x5f
const ZERO = 0x30
