import t from 'tap'
import type { Json } from '../../lib/core/errors.ts'
import { PartReader, partsInTurn, partsOf } from '../../lib/runtime/channel.ts'
import { CHUNK_CHARS, ChunkDecoder, encodeChunks } from '../../lib/runtime/chunks.ts'

function roundTrip(value: unknown): Json {
  const decoder = new ChunkDecoder()
  for (const text of encodeChunks(value)) decoder.add(text)
  return decoder.value()
}

t.test('chunks carry every kind of JSON value unchanged', async (t) => {
  const values: Json[] = [
    null,
    true,
    0,
    -1.5,
    '',
    'text "quoted" \u2028 \ud83d\ude00',
    [],
    {},
    [[[]]],
    { a: { b: [1, { c: null }] } },
  ]
  for (const value of values) t.strictSame(roundTrip(value), value)
})

t.test('a large configuration is cut into texts of bounded size and put together again', async (t) => {
  const routes = Array.from({ length: 10_000 }, (_, i) => ({
    name: `route-${i}`,
    match: { prefix: `/p/${i}` },
    weight: i,
  }))
  const value = {
    listeners: [{ name: 'a', virtualHosts: [{ routes }] }],
    clusters: [{ name: 'x'.repeat(9000) }],
    last: true,
  }
  const chunks = encodeChunks(value)
  t.ok(chunks.length > 8, `cut into ${chunks.length}`)
  for (const text of chunks) t.ok(text.length <= CHUNK_CHARS + 2, `a chunk of ${text.length}`)
  t.strictSame(roundTrip(value), value)
})

t.test('parts that are made one by one are those that are made at once', async (t) => {
  for (const value of [null, 'text', { list: Array.from({ length: 9000 }, (_, i) => `entry ${i}`), a: undefined }]) {
    t.strictSame([...partsInTurn('status', 7, value)], partsOf('status', 7, value))
  }
})

t.test('a string longer than a chunk passes whole', async (t) => {
  const value = { before: 1, body: 'é'.repeat(3 * CHUNK_CHARS), after: [2] }
  t.strictSame(roundTrip(value), value)
})

t.test('undefined properties are left out, and a key named __proto__ stays a key', async (t) => {
  t.strictSame(roundTrip({ a: undefined, b: 1 }), { b: 1 })
  const big = JSON.parse(`{"__proto__":{"polluted":"${'x'.repeat(10_000)}"},"b":1}`) as Json
  const back = roundTrip(big) as { polluted?: string }
  t.equal(back.polluted, undefined)
  t.ok(Object.hasOwn(back, '__proto__'))
  t.equal(JSON.stringify(back), JSON.stringify(big))
})

t.test('a decoder says so when chunks are missing or too many', async (t) => {
  const chunks = encodeChunks(Array.from({ length: 5000 }, (_, i) => `value number ${i} of the list`))
  t.ok(chunks.length > 1)
  const decoder = new ChunkDecoder()
  t.throws(() => decoder.value(), /has not arrived/)
  decoder.add(chunks[0])
  t.throws(() => decoder.value(), /has not arrived/)
  t.throws(() => new ChunkDecoder().add('[[3],[3]]'), /opened/)
})

t.test('a payload whose beginning was lost is dropped, and the next one is read', async (t) => {
  const value = { list: Array.from({ length: 9000 }, (_, i) => `entry ${i}`) }
  const [first, second, ...rest] = partsOf('status', 7, value)
  t.ok(second !== undefined)
  const reader = new PartReader()
  t.equal(reader.add(second), undefined)
  for (const part of rest) t.equal(reader.add(part), undefined)
  // Cut off by a new payload.
  t.equal(reader.add(first), undefined)
  const whole = partsOf('status', 8, value).map((part) => reader.add(part))
  t.strictSame(whole.at(-1), { value })
  t.ok(whole.slice(0, -1).every((answer) => answer === undefined))
})
