/**
 * What HPACK costs: CPU nanoseconds per typical request and response head, decoded and encoded on a warm connection, and
 * of the alternatives that the design was chosen from. `node benchmarks/micro/hpack.ts [part of a title]`
 *
 * Values that change per request are made anew each time (as a codec does, so that no string is hashed or the same object
 * by luck); what that alone costs is measured and taken off. The variants take turns, and the turn is reversed each round.
 */
import { HpackDecoder } from '../../lib/http2/hpack/decoder.ts'
import { HpackEncoder, MAX_BEGIN_BYTES, maxEncodedBytes } from '../../lib/http2/hpack/encoder.ts'
import { CODE_BITS, CODES, decodeHuffman, encodeHuffman } from '../../lib/http2/hpack/huffman.ts'
import { writeString } from '../../lib/http2/hpack/string-literal.ts'

const ROUNDS = 7
const CALLS = 100_000
const HEADS = 256

interface Variant {
  readonly title: string
  /** Does the work once; `n` counts up. Answers something that depends on it. */
  readonly run: (n: number) => number
  /** What of `run` is not to be measured. */
  readonly overhead?: (n: number) => number
}

const REQUEST: readonly string[] = [
  ...[':method', 'GET', ':scheme', 'https', ':authority', 'www.example.com', ':path', '/api/v2/customers/{n}/orders'],
  ...['user-agent', 'Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0', 'accept', '*/*'],
  ...['accept-language', 'en-US,en;q=0.5', 'accept-encoding', 'gzip, deflate, br'],
  ...['cookie', 'session=0f8fad5bd9cb469fa16570867728950e', 'x-request-id', '3f2504e0-4f89-11d3-9a0c-{n}cb301'],
]
const RESPONSE: readonly string[] = [
  ...['date', 'Mon, 21 Oct 2013 20:13:21 GMT', 'server', 'headgate', 'content-type', 'application/json; charset=utf-8'],
  ...['content-length', '1{n}', 'cache-control', 'no-cache', 'vary', 'accept-encoding'],
  ...['x-envoy-upstream-service-time', '7', 'strict-transport-security', 'max-age=31536000'],
]

/** Heads whose changing values differ: each a list of names and values. */
function heads(fields: readonly string[]): string[][] {
  return Array.from({ length: HEADS }, (_, n) => fields.map((text) => text.replace('{n}', String(10_000 + n * 37))))
}

/** Strings as a decoder would hand them out: those that change are new each time. */
class Fresh {
  readonly #fixed: readonly (string | undefined)[]
  readonly #bytes: readonly Buffer[][]
  readonly fields: string[]

  constructor(fields: readonly string[]) {
    this.fields = fields.map((text) => Buffer.from(text).latin1Slice())
    this.#fixed = fields.map((text) => (text.includes('{n}') ? undefined : text))
    this.#bytes = heads(fields).map((head) => head.map((text) => Buffer.from(text)))
  }

  next(n: number): string[] {
    const bytes = this.#bytes[n % HEADS]
    for (let i = 0; i < this.fields.length; i++)
      if (this.#fixed[i] === undefined) this.fields[i] = bytes[i].latin1Slice()
    return this.fields
  }
}

function encodeHead(encoder: HpackEncoder, out: Buffer, fields: readonly string[], status: number): number {
  let at = encoder.begin(out, 0)
  if (status > 0) at = encoder.status(out, at, status)
  for (let i = 0; i < fields.length; i += 2) at = encoder.field(out, at, fields[i], fields[i + 1])
  return at
}

const OUT = Buffer.alloc(MAX_BEGIN_BYTES + REQUEST.reduce((sum, text) => sum + maxEncodedBytes(text, '{n}{n}'), 0))
const LIMITS = { maxListBytes: 61_440, maxFields: 100 }

/** Blocks of a connection that has settled: decoding them again and again leaves the table as it is. */
function settledBlocks(fields: readonly string[], status: number): { warm: Buffer[]; blocks: Buffer[] } {
  const encoder = new HpackEncoder({ maxTableBytes: 4096 })
  const all = [...heads(fields), ...heads(fields)].map((head) => {
    const end = encodeHead(encoder, OUT, head, status)
    return Buffer.from(OUT.subarray(0, end))
  })
  return { warm: all.slice(0, HEADS), blocks: all.slice(HEADS) }
}

function decoding(title: string, fields: readonly string[], status: number): Variant {
  const { warm, blocks } = settledBlocks(fields, status)
  const decoder = new HpackDecoder({ maxTableBytes: 4096 })
  const sink = { raw: [] as string[] }
  for (const block of warm) decoder.decode(block, 0, block.length, sink, LIMITS)
  const bytes = Math.round(blocks.reduce((sum, block) => sum + block.length, 0) / blocks.length)
  return {
    title: `decode ${title}, ${bytes} bytes`,
    run: (n) => {
      const block = blocks[n % HEADS]
      sink.raw = []
      if (decoder.decode(block, 0, block.length, sink, LIMITS) !== 0) throw new Error('a block was refused')
      return sink.raw.length
    },
  }
}

function encoding(title: string, fields: readonly string[], status: number): Variant {
  const encoder = new HpackEncoder({ maxTableBytes: 4096 })
  const fresh = new Fresh(fields)
  return {
    title: `encode ${title}`,
    run: (n) => encodeHead(encoder, OUT, fresh.next(n), status),
    overhead: (n) => fresh.next(n).length,
  }
}

/** How a field's entry could be found, its name being a new string as an HTTP/1 parser makes it. */
function lookups(): Variant[] {
  const known = REQUEST.filter((_, i) => i % 2 === 0)
  const bytes = known.map((name) => Buffer.from(name))
  const values = REQUEST.filter((_, i) => i % 2 === 1)
  const held = values.map((value) => Buffer.from(value).latin1Slice())
  const byName = new Map(known.map((name, i) => [name, held[i]]))
  const byField = new Map(known.map((name, i) => [`${name}\0${held[i]}`, i]))
  const ring = Array.from({ length: 64 }, (_, i) => held[i] ?? `value-${i}`)
  const variant = (title: string, found: (name: string, value: string, i: number) => boolean): Variant => ({
    title: `look up 10 fields: ${title}`,
    run: () => {
      let sum = 0
      for (let i = 0; i < bytes.length; i++) if (found(bytes[i].latin1Slice(), values[i], i)) sum++
      if (sum < bytes.length) throw new Error('a field was not found')
      return sum
    },
    overhead: () => {
      let sum = 0
      for (let i = 0; i < bytes.length; i++) sum += bytes[i].latin1Slice().length
      return sum
    },
  })
  return [
    variant('the next in order, compare value', (name, value, i) => name === known[i] && held[i] === value),
    variant('Map by name, compare value', (name, value) => byName.get(name) === value),
    variant('Map by name and value', (name, value) => byField.has(`${name}\0${value}`)),
    variant('probe 64 entries', (_name, value) => ring.lastIndexOf(value) >= 0),
  ]
}

/** A decoder by nibbles: a table of 16 KiB instead of 256. */
function nibbleDecoder(): (block: Buffer, out: Buffer) => number {
  const children: number[][] = [[-1, -1]]
  for (let symbol = 0; symbol < CODES.length; symbol++) {
    let node = 0
    for (let bit = CODE_BITS[symbol] - 1; bit > 0; bit--) {
      const side = (CODES[symbol] >>> bit) & 1
      if (children[node][side] < 0) children[node][side] = children.push([-1, -1]) - 1
      node = children[node][side]
    }
    children[node][CODES[symbol] & 1] = 1024 + symbol
  }
  const table = Int32Array.from({ length: children.length * 16 }, (_, at) => {
    let node = at >> 4
    let symbol = 0
    for (let bit = 3; bit >= 0; bit--) {
      node = children[node][(at >> bit) & 1]
      if (node < 1024) continue
      symbol = (node - 1024) | 0x10000
      node = 0
    }
    return (node << 18) | symbol
  })
  return (block, out) => {
    let state = 0
    let length = 0
    for (const byte of block) {
      let step = table[(state << 4) | (byte >> 4)]
      out[length] = step
      length += (step >> 16) & 3
      step = table[((step >> 18) << 4) | (byte & 15)]
      out[length] = step
      length += (step >> 16) & 3
      state = step >> 18
    }
    return length
  }
}

const TEXT = '/api/v2/customers/8231/orders?page=2&limit=50&sort=created_at'

function huffman(): Variant[] {
  const encoded = Buffer.from(OUT.subarray(0, encodeHuffman(TEXT, OUT, 0, 100)))
  const nibbles = nibbleDecoder()
  return [
    {
      title: `Huffman decode ${TEXT.length} chars by bytes`,
      run: () => decodeHuffman(encoded, 0, encoded.length, OUT),
    },
    { title: `Huffman decode ${TEXT.length} chars by nibbles`, run: () => nibbles(encoded, OUT) },
    { title: `latin1Slice of ${TEXT.length} bytes`, run: () => OUT.latin1Slice(0, TEXT.length).length },
    { title: `literal of ${TEXT.length} chars with Huffman`, run: () => writeString(OUT, 0, TEXT) },
    { title: `literal of ${TEXT.length} chars as it is`, run: () => OUT.write(TEXT, 1, 'latin1') },
  ]
}

/** Ten thousand references to one entry of 4,000 bytes: what a bomb costs in all. */
function bomb(): Variant {
  const decoder = new HpackDecoder({ maxTableBytes: 4096 })
  const value = Buffer.alloc(4000, 'a')
  const block = Buffer.concat([Buffer.from('4001787fa11e', 'hex'), value, Buffer.alloc(10_000, 0xbe)])
  const sink = { raw: [] as string[] }
  return {
    title: 'refuse a bomb of 10,000 references',
    run: () => {
      sink.raw = []
      return decoder.decode(block, 0, block.length, sink, LIMITS)
    },
  }
}

function nanoseconds(work: (n: number) => number, calls: number): number {
  const start = process.cpuUsage()
  let sum = 0
  for (let n = 0; n < calls; n++) sum += work(n)
  const { user, system } = process.cpuUsage(start)
  if (Number.isNaN(sum)) throw new Error('nothing was done')
  return ((user + system) * 1000) / calls
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1]
}

const wanted = process.argv[2] ?? ''
const variants = [
  decoding('request of 10 fields', REQUEST, 0),
  decoding('response of 9 fields', RESPONSE, 200),
  encoding('request of 10 fields', REQUEST, 0),
  encoding('response of 9 fields', RESPONSE, 200),
  ...lookups(),
  ...huffman(),
  bomb(),
].filter((variant) => variant.title.includes(wanted))

const rounds = variants.map((): number[] => [])
for (let round = 0; round <= ROUNDS; round++) {
  const turn = [...variants.keys()]
  if (round % 2 === 1) turn.reverse()
  for (const v of turn) {
    const { run, overhead, title } = variants[v]
    const calls = title.includes('bomb') ? CALLS / 100 : CALLS
    const ns = nanoseconds(run, calls) - (overhead === undefined ? 0 : nanoseconds(overhead, calls))
    // The first round warms up.
    if (round > 0) rounds[v].push(ns)
  }
}
for (const [v, { title }] of variants.entries()) {
  const range = `${Math.min(...rounds[v]).toFixed(0)}-${Math.max(...rounds[v]).toFixed(0)}`
  process.stdout.write(`${title.padEnd(56)} ${median(rounds[v]).toFixed(0).padStart(6)} ns (${range})\n`)
}
