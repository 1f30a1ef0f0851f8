import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Random, seeded } from './random.ts'

/** Where corpora lie: one folder per target, one file per input, read back as regression cases for ever. */
export const CORPUS_FOLDER = join(import.meta.dirname, '..', 'corpus')

export interface CorpusEntry {
  readonly name: string
  readonly bytes: Buffer
}

/** All inputs of a target, by name; none where there is no such folder yet. */
export function readCorpus(target: string, folder = CORPUS_FOLDER): CorpusEntry[] {
  const path = join(folder, target)
  if (!existsSync(path)) return []
  const names = readdirSync(path)
    .filter((name) => name.endsWith('.bin'))
    .sort()
  return names.map((name) => ({ name, bytes: readFileSync(join(path, name)) }))
}

/** Stores a finding under a name made of its bytes, so that the same one is stored once; answers the file. */
export function writeFinding(target: string, bytes: Buffer, folder = CORPUS_FOLDER): string {
  const path = join(folder, target)
  mkdirSync(path, { recursive: true })
  const file = join(path, `finding-${createHash('sha256').update(bytes).digest('hex').slice(0, 12)}.bin`)
  writeFileSync(file, bytes)
  return file
}

type Mutation = (bytes: Buffer, random: Random, others: readonly Buffer[]) => Buffer

/** Bytes that parsers of text protocols get wrong. */
const HOSTILE = [
  '\r',
  '\n',
  '\0',
  ' ',
  '\t',
  '\v',
  '\f',
  ':',
  ';',
  ',',
  '"',
  '\\',
  '#',
  '%',
  '0',
  '-',
  '+',
  '\x7f',
  '\x80',
  '\xa0',
  '\xff',
]

/** Header lines that bring two readers to disagree. */
const LINES = [
  'Content-Length: 5',
  'Content-Length: 0',
  'Content-Length: +5',
  'Content-Length: 05',
  'Content-Length: 5, 5',
  'Content-Length : 5',
  'Transfer-Encoding: chunked',
  'Transfer-Encoding: xchunked',
  'Transfer-Encoding: chunked, identity',
  'Transfer-Encoding:\x0bchunked',
  'Transfer-Encoding : chunked',
  'Host: other.example',
  'Connection: close, Content-Length',
  'Connection: upgrade',
  'Upgrade: h2c',
  'Expect: 100-continue',
  ' folded',
  'Trailer: Host',
  'X\0Y: 1',
]

const MUTATIONS: Readonly<Record<string, Mutation>> = Object.freeze({
  'flip a bit': (bytes, random) => {
    const out = Buffer.from(bytes)
    if (out.length > 0) out[random.below(out.length)] ^= 1 << random.below(8)
    return out
  },
  delete: (bytes, random) => {
    const from = random.below(bytes.length + 1)
    return replace(bytes, from, Math.min(bytes.length, from + 1 + random.below(8)), Buffer.alloc(0))
  },
  duplicate: (bytes, random) => {
    const from = random.below(bytes.length + 1)
    const to = Math.min(bytes.length, from + 1 + random.below(40))
    return replace(bytes, to, to, bytes.subarray(from, to))
  },
  'insert a hostile byte': (bytes, random) => {
    const at = random.below(bytes.length + 1)
    return replace(bytes, at, at, Buffer.from(random.pick(HOSTILE), 'latin1'))
  },
  'change a line end': (bytes, random) => {
    const ends = lineEnds(bytes)
    if (ends.length === 0) return bytes
    const at = random.pick(ends)
    return replace(
      bytes,
      at,
      at + 2,
      Buffer.from(random.pick(['\n', '\r', '\r\r\n', '\n\r', '\r\n\r\n', '\r\n ', '']), 'latin1'),
    )
  },
  'inject a line': (bytes, random) => {
    const ends = lineEnds(bytes)
    if (ends.length === 0) return bytes
    const at = random.pick(ends) + 2
    return replace(bytes, at, at, Buffer.from(`${random.pick(LINES)}\r\n`, 'latin1'))
  },
  splice: (bytes, random, others) => {
    const other = random.pick(others)
    return Buffer.concat([
      bytes.subarray(0, random.below(bytes.length + 1)),
      other.subarray(random.below(other.length + 1)),
    ])
  },
  'change a number': (bytes, random) => {
    const text = bytes.toString('latin1')
    const numbers = [...text.matchAll(/[0-9]+/g)]
    if (numbers.length === 0) return bytes
    const number = random.pick(numbers)
    const value = random.pick([
      '0',
      '-1',
      '00',
      '1',
      'ffffffff',
      '9007199254740992',
      '18446744073709551616',
      '0x10',
      '1_0',
    ])
    return replace(bytes, number.index, number.index + number[0].length, Buffer.from(value))
  },
  truncate: (bytes, random) => bytes.subarray(0, random.below(bytes.length + 1)),
})

function replace(bytes: Buffer, from: number, to: number, by: Buffer): Buffer {
  return Buffer.concat([bytes.subarray(0, from), by, bytes.subarray(to)])
}

function lineEnds(bytes: Buffer): number[] {
  const ends: number[] = []
  for (let at = bytes.indexOf('\r\n'); at >= 0; at = bytes.indexOf('\r\n', at + 2)) ends.push(at)
  return ends
}

/** One to four mutations of an input; `trail` names them. The same random state gives the same answer. */
export function mutate(inputs: readonly Buffer[], random: Random): { bytes: Buffer; trail: string[] } {
  let bytes = random.pick(inputs)
  const trail: string[] = []
  const names = Object.keys(MUTATIONS)
  for (let left = 1 + random.below(4); left > 0; left--) {
    const name = random.pick(names)
    bytes = MUTATIONS[name](bytes, random, inputs)
    trail.push(name)
  }
  return { bytes, trail }
}

export interface FuzzOptions {
  /** Folder name beneath the corpus; its files are replayed first and serve as inputs beside `inputs`. */
  readonly target: string
  readonly inputs: readonly Buffer[]
  readonly seed: number
  readonly runs: number
  /** Throws where the bytes were treated wrongly. */
  readonly check: (bytes: Buffer) => void
  readonly folder?: string
}

export interface Finding {
  readonly bytes: Buffer
  readonly error: Error
  readonly trail: readonly string[]
  /** Where it was stored, or which corpus file it is. */
  readonly file: string
}

/** Stop after so many: one mistake has a thousand inputs. */
const MOST_FINDINGS = 5

/** Replays the corpus, then runs mutations of it; each finding is stored as a corpus file. Synchronous, bounded by `runs`. */
export function fuzz(options: FuzzOptions): { runs: number; findings: Finding[] } {
  const findings: Finding[] = []
  const corpus = readCorpus(options.target, options.folder)
  for (const entry of corpus) {
    const error = thrownBy(options.check, entry.bytes)
    if (error !== undefined) findings.push({ bytes: entry.bytes, error, trail: ['corpus'], file: entry.name })
  }
  const inputs = [...options.inputs, ...corpus.map((entry) => entry.bytes)]
  const random = seeded(options.seed)
  let runs = 0
  while (runs < options.runs && findings.length < MOST_FINDINGS) {
    runs++
    const { bytes, trail } = mutate(inputs, random)
    const error = thrownBy(options.check, bytes)
    if (error === undefined) continue
    findings.push({ bytes, error, trail, file: writeFinding(options.target, bytes, options.folder) })
  }
  return { runs: runs + corpus.length, findings }
}

function thrownBy(check: (bytes: Buffer) => void, bytes: Buffer): Error | undefined {
  try {
    check(bytes)
    return undefined
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error))
  }
}
