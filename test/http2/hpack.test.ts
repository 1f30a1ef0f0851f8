import fc from 'fast-check'
import t, { type Test } from 'tap'
import { COMPRESSION, DECODED, HpackDecoder, TOO_LARGE } from '../../lib/http2/hpack/decoder.ts'
import {
  CODE_BITS,
  CODES,
  decodeHuffman,
  encodeHuffman,
  huffmanLength,
  maxDecodedBytes,
} from '../../lib/http2/hpack/huffman.ts'
import { IntegerReader, MAX_INTEGER_BYTES, writeInteger } from '../../lib/http2/hpack/integer.ts'
import { STATIC_ENTRIES, STATIC_INDEX, STATIC_NAMES, STATIC_VALUES } from '../../lib/http2/hpack/static-table.ts'
import { DynamicTable } from '../../lib/http2/hpack/table.ts'

const LIMITS = { maxListBytes: 65_536, maxFields: 100 }

function bytes(hex: string): Buffer {
  return Buffer.from(hex.replaceAll(/\s/g, ''), 'hex')
}

/** Decodes one block; the code and the fields as lines. */
function decode(decoder: HpackDecoder, block: Buffer, limits = LIMITS): { code: number; fields: string[] } {
  // At an offset and with something behind it, so that nothing outside is read.
  const framed = Buffer.concat([Buffer.from('ffff', 'hex'), block, Buffer.from('82', 'hex')])
  const sink = { raw: [] as string[] }
  const code = decoder.decode(framed, 2, 2 + block.length, sink, limits)
  const fields: string[] = []
  for (let i = 0; i < sink.raw.length; i += 2) fields.push(`${sink.raw[i]}: ${sink.raw[i + 1]}`)
  return { code, fields }
}

function codeOf(
  hex: string,
  options: { decoder?: HpackDecoder; maxListBytes?: number; maxFields?: number } = {},
): number {
  const decoder = options.decoder ?? new HpackDecoder({ maxTableBytes: 4096 })
  return decode(decoder, bytes(hex), { ...LIMITS, ...options }).code
}

/** What the decoder's table holds, newest first, read through the wire. */
function tableOf(decoder: HpackDecoder): string[] {
  const out: string[] = []
  for (let index = STATIC_ENTRIES + 1; index < 127; index++) {
    const { code, fields } = decode(decoder, Buffer.of(0x80 | index))
    if (code !== DECODED) break
    out.push(fields[0])
  }
  return out
}

interface Step {
  readonly hex: string
  readonly fields: readonly string[]
  readonly table: readonly string[]
  readonly bytes: number
}

function runSteps(t: Test, decoder: HpackDecoder, steps: readonly Step[]): void {
  for (const step of steps) {
    t.same(decode(decoder, bytes(step.hex)), { code: DECODED, fields: step.fields })
    t.same(tableOf(decoder), step.table)
    t.equal(decoder.tableBytes, step.bytes)
  }
}

t.test('integers are written and read as in RFC 7541 C.1', async (t) => {
  const vectors: readonly [number, number, string][] = [
    [10, 0x1f, '0a'],
    [1337, 0x1f, '1f9a0a'],
    [42, 0xff, '2a'],
    [0, 0x1f, '00'],
    [30, 0x1f, '1e'],
    [31, 0x1f, '1f00'],
    [127, 0x7f, '7f00'],
    [255, 0x7f, '7f8001'],
    [0xffffffff, 0x0f, '0ff0ffffff0f'],
    [0x7fffffff, 0x7f, '7f80ffffff07'],
  ]
  for (const [value, mask, hex] of vectors) {
    const out = Buffer.alloc(8)
    t.equal(out.toString('hex', 0, writeInteger(out, 0, 0, mask, value)), hex)
    const encoded = bytes(hex)
    if (encoded.length === 1) continue
    const reader = new IntegerReader()
    t.equal(reader.rest(encoded, 1, encoded.length, mask), value)
    t.equal(reader.next, encoded.length)
  }
})

t.test('integers of any size come back, their prefix bits untouched', async () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 0xffffffff }), fc.constantFrom(4, 5, 6, 7), (value, prefix) => {
      const mask = 2 ** prefix - 1
      const out = Buffer.alloc(MAX_INTEGER_BYTES)
      const end = writeInteger(out, 0, 0xff & ~mask, mask, value)
      if ((out[0] & ~mask & 0xff) !== (0xff & ~mask) || end > MAX_INTEGER_BYTES) return false
      if (end === 1) return (out[0] & mask) === value
      const reader = new IntegerReader()
      return (
        reader.rest(out, 1, end, mask) === value && reader.next === end && reader.rest(out, 1, end - 1, mask) === -1
      )
    }),
  )
})

t.test('integers that are cut off, too long or too large are errors', async (t) => {
  const reader = new IntegerReader()
  const rest = (hex: string): number => reader.rest(bytes(hex), 0, bytes(hex).length, 0x1f)
  t.equal(rest(''), -1)
  t.equal(rest('8080'), -1)
  t.equal(rest('8080808000'), 31, 'leading zeros are legal while they fit')
  t.equal(rest('808080808000'), -1, 'a sixth group')
  t.equal(rest('e0ffffff0f'), 0xffffffff)
  t.equal(rest('e1ffffff0f'), -1, 'one above 2^32 - 1')
  t.equal(rest('ffffffff7f'), -1)
  t.equal(codeOf('ff'), COMPRESSION, 'an index')
  t.equal(codeOf('ffffffffffff7f'), COMPRESSION)
  t.equal(codeOf('7fffffffffff7f'), COMPRESSION, "a name's index")
  t.equal(codeOf('0fffffffffff7f'), COMPRESSION)
  t.equal(codeOf('04ffffffffff7f'), COMPRESSION, 'a length without Huffman')
  t.equal(codeOf('047fffffffff7f'), COMPRESSION, 'a length with Huffman')
  t.equal(codeOf('3fffffffff7f'), COMPRESSION, 'a size')
})

t.test('the static table is that of RFC 7541 Appendix A', async (t) => {
  t.equal(STATIC_NAMES.length, STATIC_ENTRIES + 1)
  t.equal(STATIC_VALUES.length, STATIC_ENTRIES + 1)
  const at: readonly [number, string, string][] = [
    [1, ':authority', ''],
    [2, ':method', 'GET'],
    [8, ':status', '200'],
    [14, ':status', '500'],
    [16, 'accept-encoding', 'gzip, deflate'],
    [28, 'content-length', ''],
    [32, 'cookie', ''],
    [38, 'host', ''],
    [46, 'location', ''],
    [55, 'set-cookie', ''],
    [58, 'user-agent', ''],
    [61, 'www-authenticate', ''],
  ]
  for (const [index, name, value] of at) t.same([STATIC_NAMES[index], STATIC_VALUES[index]], [name, value])
  t.equal(STATIC_INDEX.get(':status'), 8, 'a name is found by its first index')
  t.equal(STATIC_INDEX.size, 52)
})

t.test('literals and indices are decoded as in RFC 7541 C.2', async (t) => {
  const fresh = (): HpackDecoder => new HpackDecoder({ maxTableBytes: 4096 })
  runSteps(t, fresh(), [
    {
      hex: '400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572',
      fields: ['custom-key: custom-header'],
      table: ['custom-key: custom-header'],
      bytes: 55,
    },
  ])
  runSteps(t, fresh(), [
    { hex: '040c 2f73 616d 706c 652f 7061 7468', fields: [':path: /sample/path'], table: [], bytes: 0 },
  ])
  const decoder = fresh()
  t.same(decode(decoder, bytes('1008 7061 7373 776f 7264 0673 6563 7265 74')).fields, ['password: secret'])
  t.same(decoder.neverIndexed, ['password'])
  t.equal(decoder.tableBytes, 0)
  runSteps(t, decoder, [{ hex: '82', fields: [':method: GET'], table: [], bytes: 0 }])
  t.same(decoder.neverIndexed, [], 'only of the last block')
})

const REQUEST_1 = [':method: GET', ':scheme: http', ':path: /', ':authority: www.example.com']
const REQUEST_2 = [...REQUEST_1, 'cache-control: no-cache']
const REQUEST_3 = [
  ...[':method: GET', ':scheme: https', ':path: /index.html', ':authority: www.example.com'],
  'custom-key: custom-value',
]

function requestSteps(blocks: readonly string[]): Step[] {
  const table = [':authority: www.example.com']
  return [
    { hex: blocks[0], fields: REQUEST_1, table, bytes: 57 },
    { hex: blocks[1], fields: REQUEST_2, table: ['cache-control: no-cache', ...table], bytes: 110 },
    {
      hex: blocks[2],
      fields: REQUEST_3,
      table: ['custom-key: custom-value', 'cache-control: no-cache', ...table],
      bytes: 164,
    },
  ]
}

t.test('requests without Huffman coding are decoded as in RFC 7541 C.3', async (t) => {
  const blocks = [
    '8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d',
    '8286 84be 5808 6e6f 2d63 6163 6865',
    '8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65',
  ]
  runSteps(t, new HpackDecoder({ maxTableBytes: 4096 }), requestSteps(blocks))
})

t.test('requests with Huffman coding are decoded as in RFC 7541 C.4', async (t) => {
  const blocks = [
    '8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff',
    '8286 84be 5886 a8eb 1064 9cbf',
    '8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf',
  ]
  runSteps(t, new HpackDecoder({ maxTableBytes: 4096 }), requestSteps(blocks))
})

const DATE_21 = 'date: Mon, 21 Oct 2013 20:13:21 GMT'
const DATE_22 = 'date: Mon, 21 Oct 2013 20:13:22 GMT'
const LOCATION = 'location: https://www.example.com'
const PRIVATE = 'cache-control: private'
const COOKIE = 'set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1'

function responseSteps(blocks: readonly string[]): Step[] {
  return [
    {
      hex: blocks[0],
      fields: [':status: 302', PRIVATE, DATE_21, LOCATION],
      table: [LOCATION, DATE_21, PRIVATE, ':status: 302'],
      bytes: 222,
    },
    {
      hex: blocks[1],
      fields: [':status: 307', PRIVATE, DATE_21, LOCATION],
      table: [':status: 307', LOCATION, DATE_21, PRIVATE],
      bytes: 222,
    },
    {
      hex: blocks[2],
      fields: [':status: 200', PRIVATE, DATE_22, LOCATION, 'content-encoding: gzip', COOKIE],
      table: [COOKIE, 'content-encoding: gzip', DATE_22],
      bytes: 215,
    },
  ]
}

/** The examples suppose a table of 256 bytes. */
function smallDecoder(t: Test): HpackDecoder {
  const decoder = new HpackDecoder({ maxTableBytes: 256 })
  t.equal(codeOf('3fe101', { decoder }), DECODED)
  t.equal(decoder.tableLimitBytes, 256)
  return decoder
}

t.test('responses without Huffman coding evict as in RFC 7541 C.5', async (t) => {
  const blocks = [
    `4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120
     474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d`,
    '4803 3330 37c1 c0bf',
    `88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 7738
     666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33
     3630 303b 2076 6572 7369 6f6e 3d31`,
  ]
  runSteps(t, smallDecoder(t), responseSteps(blocks))
})

t.test('responses with Huffman coding evict as in RFC 7541 C.6', async (t) => {
  const blocks = [
    `4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718
     63c7 8f0b 97c8 e9ae 82ae 43d3`,
    '4883 640e ffc1 c0bf',
    `88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7
     b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07`,
  ]
  runSteps(t, smallDecoder(t), responseSteps(blocks))
})

t.test('the Huffman code is that of RFC 7541 Appendix B', async (t) => {
  const at: readonly [number | string, number, number][] = [
    [0, 0x1ff8, 13],
    [1, 0x7fffd8, 23],
    [10, 0x3ffffffc, 30],
    [' ', 0x14, 6],
    ['0', 0x0, 5],
    ['A', 0x21, 6],
    ['\\', 0x7fff0, 19],
    ['z', 0x7b, 7],
    ['~', 0x1ffd, 13],
    [127, 0xffffffc, 28],
    [128, 0xfffe6, 20],
    [200, 0x3ffffe2, 26],
    [249, 0xffffffe, 28],
    [255, 0x3ffffee, 26],
    [256, 0x3fffffff, 30],
  ]
  for (const [symbol, code, length] of at) {
    const index = typeof symbol === 'string' ? symbol.charCodeAt(0) : symbol
    t.same([CODES[index], CODE_BITS[index]], [code, length], `symbol ${index}`)
  }
  let space = 0
  for (const length of CODE_BITS) space += 2 ** -length
  t.equal(space, 1, 'the code is complete')
})

t.test('every byte comes back from Huffman coding, wherever it begins', async (t) => {
  const out = Buffer.alloc(64)
  for (let before = 0; before < 8; before++) {
    for (let symbol = 0; symbol < 256; symbol++) {
      const text = [...Array.from({ length: before }, () => 48), symbol, 48]
      const block = slowHuffman(text)
      const length = decodeHuffman(block, 0, block.length, out)
      if (!out.subarray(0, length).equals(Buffer.from(text))) t.fail(`byte ${symbol} behind ${before} digits`)
    }
  }
})

/** Huffman coding bit by bit, of any byte. */
function slowHuffman(text: Iterable<number>): Buffer {
  let bits = ''
  for (const symbol of text) bits += CODES[symbol].toString(2).padStart(CODE_BITS[symbol], '0')
  while (bits.length % 8 > 0) bits += '1'
  return Buffer.from((bits.match(/.{8}/g) ?? []).map((byte) => Number.parseInt(byte, 2)))
}

t.test('the Huffman encoder agrees with the code, and keeps to its room', async () => {
  const text = fc.string({ unit: fc.integer({ min: 0, max: 255 }).map((code) => String.fromCharCode(code)) })
  fc.assert(
    fc.property(fc.oneof(text, fc.string()), fc.integer({ min: 0, max: 80 }), (text, room) => {
      const latin1 = Buffer.from(text, 'latin1')
      const expected = slowHuffman(latin1)
      const out = Buffer.alloc(200, 0xaa)
      const end = encodeHuffman(text, out, 3, room)
      if (!out.subarray(3 + room).every((byte) => byte === 0xaa)) return false
      if (latin1.some((symbol) => CODE_BITS[symbol] > 15) || expected.length > room) return end === -1
      if (end !== 3 + expected.length || !out.subarray(3, end).equals(expected)) return false
      const back = Buffer.alloc(maxDecodedBytes(expected.length))
      const length = decodeHuffman(out, 3, end, back)
      return huffmanLength(out, 3, end) === length && back.subarray(0, length).equals(latin1)
    }),
  )
})

t.test('EOS and wrong padding are errors', async (t) => {
  const out = Buffer.alloc(64)
  const judge = (hex: string): number => {
    const block = bytes(hex)
    const length = decodeHuffman(block, 0, block.length, out)
    t.equal(huffmanLength(block, 0, block.length), length)
    return length
  }
  t.equal(judge(''), 0)
  t.equal(judge('1f'), 1, '"a" and three ones')
  t.equal(judge('07'), 1, '"0" and three ones')
  t.equal(judge('ff'), -1, 'eight ones')
  t.equal(judge('1fff'), -1, 'eleven ones')
  t.equal(judge('1fffff'), -1)
  t.equal(judge('00'), -1, 'padding of zeros')
  t.equal(judge('1e'), -1, 'padding that ends in a zero')
  t.equal(judge('fffffffc'), -1, 'EOS')
  t.equal(judge('fffffffffc'), -1, 'EOS and more')
  t.equal(judge('ff9fffffff'), -1, 'cut off within a long symbol')
  t.equal(codeOf('0481ff'), COMPRESSION)
  t.equal(codeOf('048100'), COMPRESSION)
  t.equal(codeOf('0084fffffffc0161'), COMPRESSION, 'in a name')
  t.equal(codeOf('0481ff', { maxFields: 0 }), COMPRESSION, 'even where nobody wants the string')
})

t.test('indices that lead nowhere are errors', async (t) => {
  t.equal(codeOf('80'), COMPRESSION, 'index 0')
  t.equal(codeOf('bd'), DECODED, 'the last static entry')
  t.equal(codeOf('be'), COMPRESSION, 'the first dynamic one of an empty table')
  t.equal(codeOf('7e0161'), COMPRESSION, 'as a name')
  t.equal(codeOf('0f2f0161'), COMPRESSION)
  t.equal(codeOf('4001610162bf'), COMPRESSION, 'one beyond the newest')
  t.equal(codeOf('4001610162be'), DECODED)
  t.equal(codeOf('ff80ffffff07'), COMPRESSION, 'a very large one')
})

t.test('blocks cut off anywhere are errors, and those that are whole are not', async (t) => {
  const block = bytes('8286 84be 4003 6162 6381 1f 0f2f 0161 5886 a8eb 1064 9cbf')
  const fields = [1, 2, 3, 4, 11, 15, 23]
  for (let length = 0; length <= block.length; length++) {
    const decoder = new HpackDecoder({ maxTableBytes: 4096 })
    t.equal(codeOf('418cf1e3c2e5f23a6ba0ab90f4ff', { decoder }), DECODED)
    const whole = length === 0 || fields.includes(length)
    t.equal(decode(decoder, block.subarray(0, length)).code, whole ? DECODED : COMPRESSION, `${length} bytes`)
  }
})

t.test('size updates belong at the start and keep to what was announced', async (t) => {
  const decoder = new HpackDecoder({ maxTableBytes: 8192 })
  t.equal(codeOf('40016101622082', { decoder }), COMPRESSION, 'behind a field')
  t.equal(codeOf('8220'), COMPRESSION)
  t.equal(codeOf('203fe11f82'), DECODED, 'two at the start')
  t.equal(codeOf('3fe21f'), COMPRESSION, '4,097 where 4,096 were announced')
  const larger = new HpackDecoder({ maxTableBytes: 8192 })
  t.equal(larger.tableLimitBytes, 4096, 'the table grows by an update only')
  t.equal(codeOf('3fe13f82', { decoder: larger }), DECODED)
  t.equal(larger.tableLimitBytes, 8192)
  const none = new HpackDecoder({ maxTableBytes: 0 })
  t.equal(codeOf('4001610162be', { decoder: none }), DECODED, 'the peer does not know yet')
  none.setMaxTableBytes(0)
  t.equal(codeOf('204001610162', { decoder: none }), DECODED)
  t.equal(none.tableBytes, 0)
  t.equal(codeOf('3f', { decoder: none }), COMPRESSION, 'cut off')
  t.equal(codeOf('21', { decoder: none }), COMPRESSION)
})

t.test('a size update that has become due must come, and not be too large', async (t) => {
  const lowered = (...sizes: number[]): HpackDecoder => {
    const decoder = new HpackDecoder({ maxTableBytes: 4096 })
    t.equal(codeOf('4001610162', { decoder }), DECODED)
    for (const size of sizes) decoder.setMaxTableBytes(size)
    return decoder
  }
  t.equal(codeOf('be', { decoder: lowered(4096) }), DECODED, 'nothing changed')
  t.equal(codeOf('be', { decoder: lowered(9000) }), DECODED, 'more is no duty')
  t.equal(codeOf('be', { decoder: lowered(100) }), COMPRESSION, 'missing')
  t.equal(codeOf('', { decoder: lowered(100) }), COMPRESSION, 'missing in an empty block')
  t.equal(codeOf('3f45be', { decoder: lowered(100) }), DECODED, 'to 100')
  t.equal(codeOf('3f46be', { decoder: lowered(100) }), COMPRESSION, 'to 101')
  t.equal(codeOf('20be', { decoder: lowered(100) }), COMPRESSION, 'to 0: the entry is gone')
  t.equal(codeOf('3f45be', { decoder: lowered(50, 100) }), COMPRESSION, 'the lowest has to be named')
  t.equal(codeOf('3f133f45be', { decoder: lowered(50, 100) }), DECODED, 'and the last may follow')
  t.equal(codeOf('3f13be', { decoder: lowered(50, 100) }), DECODED)
  t.equal(codeOf('be', { decoder: lowered(50, 4096) }), COMPRESSION, 'even if all is as before')
  const decoder = lowered(100)
  t.equal(codeOf('3f45be', { decoder }), DECODED)
  t.equal(codeOf('be', { decoder }), DECODED, 'once is enough')
})

t.test('lists above a limit are refused without losing step', async (t) => {
  const decoder = new HpackDecoder({ maxTableBytes: 4096 })
  // :method GET is 42 bytes, a: b 34, c: d 34.
  const block = bytes('82 4001610162 4001630164')
  t.same(decode(decoder, block, { maxListBytes: 110, maxFields: 3 }).code, DECODED)
  const fresh = new HpackDecoder({ maxTableBytes: 4096 })
  t.same(decode(fresh, block, { maxListBytes: 109, maxFields: 3 }), {
    code: TOO_LARGE,
    fields: [':method: GET', 'a: b'],
  })
  t.same(tableOf(fresh), ['c: d', 'a: b'], 'what was not kept is in the table')
  const counted = new HpackDecoder({ maxTableBytes: 4096 })
  t.same(decode(counted, block, { maxListBytes: 110, maxFields: 2 }), {
    code: TOO_LARGE,
    fields: [':method: GET', 'a: b'],
  })
  t.same(tableOf(counted), ['c: d', 'a: b'])
  t.same(
    decode(counted, bytes('bfbe')),
    { code: DECODED, fields: ['a: b', 'c: d'] },
    'the next block is as good as ever',
  )
  t.equal(codeOf('8280', { decoder: counted, maxFields: 0 }), COMPRESSION, 'errors behind the limit are errors')
})

t.test('strings above the limit are counted, not kept', async (t) => {
  const limits = { maxListBytes: 1000, maxFields: 10 }
  for (const huffman of [false, true]) {
    for (const first of ['00', '40', '10']) {
      const decoder = new HpackDecoder({ maxTableBytes: 4096 })
      codeOf('3fe10140016f0170', { decoder }) // 256 bytes, o: p
      const text = Buffer.alloc(3000, 'a')
      const body = huffman ? slowHuffman(text) : text
      const length = Buffer.alloc(8)
      const end = writeInteger(length, 0, huffman ? 0x80 : 0, 0x7f, body.length)
      const block = Buffer.concat([bytes(`82${first}0161`), length.subarray(0, end), body, bytes('84')])
      t.same(decode(decoder, block, limits), { code: TOO_LARGE, fields: [':method: GET'] })
      t.same(tableOf(decoder), first === '40' ? [] : ['o: p'], 'a field larger than the table empties it')
    }
  }
})

t.test('a long Huffman string within the limits is decoded whole', async (t) => {
  const text = Buffer.alloc(50_000, 'abcdefghij')
  const body = slowHuffman(text)
  const length = Buffer.alloc(8)
  const end = writeInteger(length, 0, 0x80, 0x7f, body.length)
  const decoder = new HpackDecoder({ maxTableBytes: 4096 })
  const block = Buffer.concat([bytes('000161'), length.subarray(0, end), body])
  t.same(decode(decoder, block), { code: DECODED, fields: [`a: ${text.toString()}`] })
  t.equal(decode(decoder, block, { maxListBytes: 50_033, maxFields: 1 }).code, DECODED)
  t.equal(decode(decoder, block, { maxListBytes: 50_032, maxFields: 1 }).code, TOO_LARGE)
})

t.test('a bomb of references costs no copies and stops at the limit', async (t) => {
  const decoder = new HpackDecoder({ maxTableBytes: 4096 })
  const block = Buffer.concat([bytes('4001787fa11e'), Buffer.alloc(4000, 'a'), Buffer.alloc(12_000, 0xbe)])
  const sink = { raw: [] as string[] }
  t.equal(decoder.decode(block, 0, block.length, sink, { maxListBytes: 61_440, maxFields: 10_000 }), TOO_LARGE)
  t.equal(sink.raw.length / 2, 15, 'as many as 61,440 bytes hold')
  t.equal(new Set(sink.raw).size, 2)
  t.equal(decoder.tableBytes, 4033)
  const counted = { raw: [] as string[] }
  t.equal(decoder.decode(block, 4006, block.length, counted, { maxListBytes: 1e9, maxFields: 100 }), TOO_LARGE)
  t.equal(counted.raw.length / 2, 100)
})

t.test('bytes beyond ASCII stay what they are', async (t) => {
  const decoder = new HpackDecoder({ maxTableBytes: 4096 })
  const raw = bytes('00016103e282ac')
  t.same(decode(decoder, raw).fields, ['a: \u00e2\u0082\u00ac'])
  const text = slowHuffman([0xe2, 0x82, 0xac, 0x00, 0x0d])
  const block = Buffer.concat([bytes('000161'), Buffer.of(0x80 | text.length), text])
  t.same(decode(decoder, block).fields, ['a: \u00e2\u0082\u00ac\0\r'])
})

t.test('names may be empty for HPACK; judging them is the session\u2019s', async (t) => {
  const decoder = new HpackDecoder({ maxTableBytes: 4096 })
  t.same(decode(decoder, bytes('40000161be7e0162')), { code: DECODED, fields: [': a', ': a', ': b'] })
})

t.test('the table keeps its sizes, whatever is added, and grows with what it holds', async () => {
  const field = fc.tuple(fc.string({ maxLength: 30 }), fc.string({ maxLength: 90 }))
  const step = fc.oneof({ weight: 9, arbitrary: field }, { weight: 1, arbitrary: fc.nat({ max: 3000 }) })
  fc.assert(
    fc.property(fc.array(step, { maxLength: 300 }), (steps) => {
      const table = new DynamicTable(4096)
      let model: [string, string][] = []
      const size = (): number => model.reduce((sum, [name, value]) => sum + name.length + value.length + 32, 0)
      for (const step of steps) {
        if (typeof step === 'number') table.resize(step)
        else {
          table.add(step[0], step[1])
          model.unshift(step)
        }
        while (size() > table.maxBytes) model.pop()
        if (table.bytes !== size() || table.length !== model.length) return false
      }
      const held = model.map((_, i) => [table.name(table.newest - i), table.value(table.newest - i)])
      model = model.filter(([name, value], i) => held[i][0] !== name || held[i][1] !== value)
      return model.length === 0
    }),
  )
})

t.test('no input makes the decoder throw or keep more than its table', async () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 80 }), { maxLength: 6 }), (blocks) => {
      const decoder = new HpackDecoder({ maxTableBytes: 4096 })
      for (const block of blocks) {
        const sink = { raw: [] as string[] }
        const code = decoder.decode(Buffer.from(block), 0, block.length, sink, { maxListBytes: 500, maxFields: 5 })
        if (code < DECODED || code > TOO_LARGE || sink.raw.length > 10 || decoder.tableBytes > 4096) return false
        if (code === COMPRESSION) return true
      }
      return true
    }),
    { numRuns: 2000 },
  )
})
