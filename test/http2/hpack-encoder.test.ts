import fc from 'fast-check'
import t from 'tap'
import { DECODED, HpackDecoder } from '../../lib/http2/hpack/decoder.ts'
import { HpackEncoder, MAX_BEGIN_BYTES, MAX_STATUS_BYTES, maxEncodedBytes } from '../../lib/http2/hpack/encoder.ts'

const LIMITS = { maxListBytes: 1_000_000, maxFields: 10_000 }

type Field = readonly [name: string, value: string]

/** One encoder with the decoder that its peer would have, held in step by every block. */
class Pair {
  readonly encoder: HpackEncoder
  readonly decoder: HpackDecoder

  constructor(ownBytes = 4096, peerBytes = 4096) {
    this.encoder = new HpackEncoder({ maxTableBytes: ownBytes })
    this.decoder = new HpackDecoder({ maxTableBytes: peerBytes })
  }

  /** The block as hex; throws where the peer reads anything else, or where a bound is broken. */
  send(...fields: Field[]): string {
    const room = fields.reduce((sum, [name, value]) => sum + maxEncodedBytes(name, value), MAX_BEGIN_BYTES)
    const out = Buffer.alloc(room)
    let at = this.encoder.begin(out, 0)
    if (at > MAX_BEGIN_BYTES) throw new Error('begin wrote too much')
    for (const [name, value] of fields) {
      const end = this.encoder.field(out, at, name, value)
      if (end - at > maxEncodedBytes(name, value)) throw new Error(`${name} took ${end - at} bytes`)
      at = end
    }
    this.read(out, at, fields.flat())
    return out.toString('hex', 0, at)
  }

  read(out: Buffer, end: number, raw: readonly string[]): void {
    const sink = { raw: [] as string[] }
    const code = this.decoder.decode(out, 0, end, sink, LIMITS)
    if (code !== DECODED) throw new Error(`the peer answered ${code} for ${out.toString('hex', 0, end)}`)
    if (sink.raw.join('\n') !== raw.join('\n')) throw new Error(`the peer read ${JSON.stringify(sink.raw)}`)
    if (this.decoder.tableBytes !== this.encoder.tableBytes) throw new Error('the tables are out of step')
  }
}

t.test('requests are encoded as in RFC 7541 C.4', async (t) => {
  const pair = new Pair()
  const first: Field[] = [
    [':method', 'GET'],
    [':scheme', 'http'],
    [':path', '/'],
    [':authority', 'www.example.com'],
  ]
  t.equal(pair.send(...first), '828684418cf1e3c2e5f23a6ba0ab90f4ff')
  t.equal(pair.send(...first, ['cache-control', 'no-cache']), '828684be5886a8eb10649cbf')
  const third: Field[] = [
    [':method', 'GET'],
    [':scheme', 'https'],
    [':path', '/index.html'],
    [':authority', 'www.example.com'],
    ['custom-key', 'custom-value'],
  ]
  t.equal(pair.send(...third), '828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf')
  t.equal(pair.encoder.tableBytes, 164)
  t.equal(pair.send(...third), '828785c0be', 'all of it by index')
})

t.test('status codes take one byte where the static table has them, and few at any time', async (t) => {
  const pair = new Pair()
  const out = Buffer.alloc(MAX_STATUS_BYTES)
  for (const [status, byte] of [
    [200, '88'],
    [204, '89'],
    [206, '8a'],
    [304, '8b'],
    [400, '8c'],
    [404, '8d'],
    [500, '8e'],
  ] as const) {
    t.equal(out.toString('hex', 0, pair.encoder.status(out, pair.encoder.begin(out, 0), status)), byte)
  }
  t.equal(out.toString('hex', 0, pair.encoder.status(out, pair.encoder.begin(out, 0), 302)), '48826402')
  t.equal(out.toString('hex', 0, pair.encoder.status(out, pair.encoder.begin(out, 0), 302)), 'be')
  for (let status = 100; status < 600; status++) {
    const end = pair.encoder.status(out, pair.encoder.begin(out, 0), status)
    if (end > MAX_STATUS_BYTES) t.fail(`${status} took ${end} bytes`)
  }
})

t.test('literals are Huffman-coded only where that is shorter', async (t) => {
  const pair = new Pair()
  t.equal(pair.send(['x-empty', '']).slice(-2), '00')
  t.equal(pair.send(['etag', 'a']), '0f130161')
  t.equal(pair.send(['etag', '012012']), '0f13840044008b')
  t.equal(pair.send(['etag', '\\\\\\']), '0f13035c5c5c')
  t.equal(pair.send(['etag', '!!!!']), '0f130421212121', 'five bytes with Huffman')
  const long = pair.send(['etag', 'e'.repeat(300)])
  t.equal(long.slice(0, 10), `0f13ff${(188 - 127).toString(16)}29`, '188 bytes instead of 300')
  t.equal(pair.send(['etag', '!'.repeat(300)]).slice(0, 10), '0f137fad01')
  t.equal(pair.send(['etag', '\u00ff'.repeat(200)]).slice(0, 8), '0f137f49')
})

t.test('secrets are never indexed, whatever they are for the encoder', async (t) => {
  const pair = new Pair()
  const secrets: Field[] = [
    ['authorization', 'Bearer 0123456789'],
    ['proxy-authorization', 'Basic abc'],
    ['set-cookie', 'id=1234567890123456789012345; Path=/'],
    ['cookie', 'id=1'],
    ['x-api-key', 'k'],
  ]
  for (let round = 0; round < 4; round++) {
    pair.send(...secrets)
    t.same(
      pair.decoder.neverIndexed,
      secrets.map(([name]) => name),
    )
  }
  t.equal(pair.encoder.added, 0)
  t.equal(pair.send(['cookie', 'id=12345678901234567890']).slice(0, 2), '60', 'a long cookie is indexed')
  t.equal(pair.encoder.added, 1)
  const out = Buffer.alloc(100)
  pair.read(out, pair.encoder.fieldNeverIndexed(out, pair.encoder.begin(out, 0), 'x-user', 'alice'), [
    'x-user',
    'alice',
  ])
  t.same(pair.decoder.neverIndexed, ['x-user'])
  t.equal(pair.encoder.added, 1)
})

t.test('a secret that is encoded from memory is the same, and a new one is not the old', async (t) => {
  const pair = new Pair()
  const block = (token: string): string => pair.send(['authorization', `Bearer ${token}`])
  const first = block('a'.repeat(200))
  t.equal(block('a'.repeat(200)), first)
  t.equal(block('a'.repeat(200)), first)
  t.not(block('b'.repeat(200)), first)
  t.equal(block('a'.repeat(200)), first)
  block('c'.repeat(5000))
  block('c'.repeat(5000))
})

t.test('values that change on each request do not displace those that stay', async (t) => {
  const pair = new Pair()
  const stays: Field[] = Array.from({ length: 12 }, (_, i) => [`x-stays-${i}`, `value number ${i} that stays`])
  const names = [':path', 'x-request-id', 'content-length', 'traceparent', 'date', 'x-unheard-of', 'cookie']
  let indexed = 0
  for (let n = 0; n < 2000; n++) {
    const unique = `${n}-of-a-series-of-values-${n * 7919}`
    const changes = names.map((name): Field => [name, name === ':path' ? `/a/${unique}` : unique])
    const block = pair.send(...stays, ...changes)
    if (n > 0) indexed += /^(?:[89a-f][0-9a-f]){12}/.test(block) ? 1 : 0
  }
  t.equal(indexed, 1999, 'all twelve by index in every block but the first')
  t.ok(pair.encoder.added <= 12 + names.length * 5, `${pair.encoder.added} entries added by 38,000 fields`)
})

t.test('a value that repeats is indexed from its second or third time on', async (t) => {
  const pair = new Pair()
  t.equal(pair.send(['etag', 'one-of-them']).slice(0, 4), '0f13')
  t.equal(pair.send(['etag', 'one-of-them']).slice(0, 2), '62')
  t.equal(pair.send(['etag', 'one-of-them']), 'be')
  t.equal(pair.send([':path', '/search?q=1']).slice(0, 2), '04')
  t.equal(pair.send([':path', '/search?q=1']).slice(0, 2), '44')
  t.equal(pair.send([':path', '/package.Service/Method']).slice(0, 2), '44', 'a path without query at once')
  for (let n = 0; n < 50; n++) pair.send(['user-agent', `agent ${n}`])
  t.equal(pair.send(['user-agent', 'agent']).slice(0, 4), '0f2b', 'what never was of use has lost its credit')
  t.equal(pair.send(['user-agent', 'agent']).slice(0, 2), '7a')
  t.equal(pair.send(['user-agent', 'agent']), 'be')
})

t.test('several values of one name are found again while they last', async (t) => {
  const pair = new Pair()
  const method = (n: number): Field => [':path', `/package.Service/Method${n}`]
  for (let round = 0; round < 10; round++) for (let n = 0; n < 4; n++) pair.send(method(n))
  t.equal(pair.encoder.added, 4)
  for (let round = 0; round < 10; round++) for (let n = 0; n < 8; n++) pair.send(method(n))
  t.equal(pair.encoder.added, 8, 'those that were of use have paid for more')
})

t.test('the name of an unlisted field is spelled out once', async (t) => {
  const pair = new Pair()
  t.ok(pair.send(['x-request-id', 'first-id']).startsWith('40'))
  t.equal(pair.send(['x-request-id', 'second-id']).slice(0, 4), '0f2f')
  t.equal(pair.encoder.added, 1)
})

t.test('names without number are forgotten, and nothing else', async (t) => {
  const pair = new Pair()
  const host: Field = [':authority', 'www.example.com']
  pair.send(host)
  for (let n = 0; n < 5000; n++) {
    pair.send(host, [`x-${n}`, 'v'])
    if (pair.encoder.tableFields > 128) t.fail('more fields than the table may have')
  }
  t.ok(pair.encoder.added < 130, `${pair.encoder.added} entries added for 5,000 names`)
  const before = pair.encoder.added
  pair.send(host)
  t.equal(pair.encoder.added, before)
})

t.test('what is larger than half the table is not added', async (t) => {
  const pair = new Pair()
  for (let n = 0; n < 3; n++) pair.send(['x-large', 'v'.repeat(2048 - 32 - 7 + 1)])
  t.equal(pair.encoder.added, 0)
  pair.send(['x-large', 'v'.repeat(2048 - 32 - 7)])
  t.equal(pair.encoder.added, 1)
})

t.test('the size of the table is announced as RFC 7541 §4.2 demands', async (t) => {
  const encoder = (own: number, ...settings: number[]): string => {
    const encoder = new HpackEncoder({ maxTableBytes: own })
    for (const bytes of settings) encoder.setMaxTableBytes(bytes)
    const out = Buffer.alloc(MAX_BEGIN_BYTES)
    const first = out.toString('hex', 0, encoder.begin(out, 0))
    t.equal(encoder.begin(out, 0), 0, 'once')
    return first
  }
  t.equal(encoder(4096), '')
  t.equal(encoder(4096, 4096), '')
  t.equal(encoder(4096, 65_536), '', 'bounded by ours')
  t.equal(encoder(256), '3fe101', 'ours is less than the initial size')
  t.equal(encoder(0), '20')
  t.equal(encoder(65_536), '')
  t.equal(encoder(65_536, 65_536), '3fe1ff03')
  t.equal(encoder(4096, 100), '3f45')
  t.equal(encoder(4096, 0), '20')
  t.equal(encoder(4096, 0, 4096), '203fe11f', 'the lowest in between, then the last')
  t.equal(encoder(4096, 100, 50, 200), '3f133fa901')
  t.equal(encoder(4096, 200, 100), '3f45')
  t.equal(encoder(65_536, 0xffffffff, 0), '20')
  t.equal(encoder(0xffffffff, 1, 0xffffffff), '213fe0ffffff0f')
})

t.test('a table of no size works', async (t) => {
  const pair = new Pair(0)
  for (let n = 0; n < 3; n++) pair.send([':method', 'GET'], ['x-a', 'b'], ['date', 'today'])
  t.equal(pair.encoder.added, 0)
})

t.test('strings cut from a larger text are found again', async (t) => {
  const pair = new Pair()
  const whole = `x-some-longer-name: ${'some longer value '.repeat(3)}${'-'.repeat(1000)}`
  const field: Field = [whole.slice(0, 18), whole.slice(20, 60)]
  pair.send(field)
  t.equal(pair.send(field), 'be')
})

t.test('both ends stay in step, whatever is sent and whatever the table may have', async () => {
  const name = fc.oneof(
    fc.constantFrom(
      ':path',
      ':status',
      'cookie',
      'authorization',
      'date',
      'x-request-id',
      'content-type',
      'x-a',
      'x-b',
    ),
    fc.string({ unit: fc.constantFrom(...'abcxyz-0'), minLength: 1, maxLength: 20 }),
  )
  const latin1 = fc.integer({ min: 0, max: 255 }).map((code) => String.fromCharCode(code))
  const value = fc.oneof(
    fc.constantFrom(
      '',
      '/',
      'GET',
      '200',
      'a value',
      'another value',
      'v'.repeat(126),
      'v'.repeat(127),
      'w'.repeat(600),
    ),
    fc.string({ maxLength: 40 }).map((text) => text.replaceAll(/[^\0-\xff]/g, '?')),
    fc.string({ unit: latin1, maxLength: 300 }),
  )
  const block = fc.array(fc.tuple(name, value), { maxLength: 12 })
  const sizes = fc.array(fc.constantFrom(0, 40, 100, 300, 1000, 4096, 9000), { minLength: 1, maxLength: 3 })
  const step = fc.oneof({ weight: 5, arbitrary: block }, { weight: 1, arbitrary: sizes })
  fc.assert(
    fc.property(fc.constantFrom(0, 100, 4096, 65_536), fc.array(step, { maxLength: 40 }), (own, steps) => {
      const pair = new Pair(own)
      for (const step of steps) {
        for (const item of step) {
          if (typeof item !== 'number') continue
          pair.decoder.setMaxTableBytes(item)
          pair.encoder.setMaxTableBytes(item)
        }
        if (typeof step[0] !== 'number') pair.send(...(step as Field[]))
        if (pair.encoder.tableBytes > pair.encoder.tableLimitBytes) return false
      }
      return true
    }),
    { numRuns: 400 },
  )
})
