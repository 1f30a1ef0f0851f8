import t from 'tap'
import { MessageReader } from '../../lib/grpc/message-reader.ts'
import { seeded } from '../support/random.ts'
import { byteByByte, everyFeed, randomSplits, sameHoweverSplit } from '../support/splits.ts'
import { frame } from './setup.ts'

function parse(pieces: readonly Buffer[], limit?: number): { messages: string[]; end: string } {
  const reader = new MessageReader(limit)
  const messages: string[] = []
  for (const piece of pieces) {
    reader.push(piece)
    for (;;) {
      const found = reader.next()
      if (found === 'more') break
      if (found !== 'message') return { messages, end: found }
      messages.push(`${reader.compressed ? 'z' : ''}${reader.payload.toString('latin1')}`)
    }
  }
  return { messages, end: reader.inMessage ? 'cut' : 'whole' }
}

t.test('messages are the same however the body is split', async (t) => {
  const body = Buffer.concat([frame('a'), frame(''), frame('hello', 1), frame('x'.repeat(300)), frame('')])
  t.same(sameHoweverSplit(body, parse), { messages: ['a', '', 'zhello', 'x'.repeat(300), ''], end: 'whole' })
})

t.test('a body that ends within a message is cut, at whichever byte', async (t) => {
  const body = Buffer.concat([frame('a'), frame('hello')])
  const first = frame('a').length
  for (let at = 1; at < body.length; at++) {
    const { end } = parse([body.subarray(0, at)])
    t.equal(end, at === first ? 'whole' : 'cut', `after ${at} bytes`)
  }
})

t.test('a flag other than 0 and 1, and a length over the limit, are found at every split', async (t) => {
  t.same(sameHoweverSplit(Buffer.concat([frame('ok'), frame('bad', 2)]), parse), { messages: ['ok'], end: 'broken' })
  const limited = (pieces: readonly Buffer[]): unknown => parse(pieces, 4)
  t.same(sameHoweverSplit(Buffer.concat([frame('four'), frame('fives')]), limited), {
    messages: ['four'],
    end: 'too-large',
  })
})

t.test('chunks may wait: what is pushed ahead comes out in order', async (t) => {
  const body = Buffer.concat([frame('one'), frame('two'), frame('three')])
  for (const pieces of everyFeed(body)) {
    const reader = new MessageReader(undefined)
    for (const piece of pieces) reader.push(piece)
    const messages: string[] = []
    while (reader.next() === 'message') messages.push(reader.payload.toString())
    if (messages.join() !== 'one,two,three') t.fail(`${messages} of ${pieces.length} pieces`)
  }
  t.pass('at every split')
})

t.test('a message within one chunk is not copied; a length alone takes no memory', async (t) => {
  const chunk = frame('inside')
  const reader = new MessageReader(undefined)
  reader.push(chunk)
  t.equal(reader.next(), 'message')
  t.equal(reader.payload.buffer, chunk.buffer)
  t.equal(reader.payload.byteOffset, chunk.byteOffset + 5)
  t.equal(reader.next(), 'more')
  t.equal(reader.payload.length, 0, 'and is let go of')

  const before = process.memoryUsage().arrayBuffers
  const readers = Array.from({ length: 100 }, () => new MessageReader(undefined))
  for (const each of readers) {
    each.push(Buffer.from([0, 0x7f, 0xff, 0xff, 0xff, 1]))
    t.equal(each.next(), 'more')
  }
  t.ok(process.memoryUsage().arrayBuffers - before < 100 * 128 * 1024, 'two GiB were announced by each')
})

t.test('a large message in tiny chunks costs its length, not the square of it', async (t) => {
  const payload = Buffer.alloc(4 << 20, 'abcdefgh')
  const body = frame(payload)
  let copied = 0
  const original = Buffer.prototype.copy
  Buffer.prototype.copy = function (this: Buffer, ...args: Parameters<Buffer['copy']>): number {
    const count = original.apply(this, args)
    copied += count
    return count
  } as Buffer['copy']
  t.teardown(() => {
    Buffer.prototype.copy = original
  })
  const reader = new MessageReader(undefined)
  let found = 'more'
  for (let at = 0; at < body.length; at += 100) {
    reader.push(body.subarray(at, at + 100))
    found = reader.next()
  }
  Buffer.prototype.copy = original
  t.equal(found, 'message')
  t.ok(reader.payload.equals(payload))
  t.ok(copied >= payload.length && copied < 3 * payload.length, `${copied} bytes copied`)
})

t.test('any bytes are read the same however they are split, and nothing throws', async (t) => {
  const random = seeded(20261121)
  const ends = new Map<string, number>()
  for (let run = 0; run < 2_000; run++) {
    const parts = Array.from({ length: 1 + random.below(4) }, () => {
      const payload = Buffer.alloc(random.below(20), random.below(256))
      const made = frame(payload, random.below(2))
      // Now and then a prefix is hurt.
      if (random.below(4) === 0) made[random.below(5)] = random.below(256)
      return made
    })
    const body = Buffer.concat(parts)
    const whole = parse([body], 1 << 20)
    ends.set(whole.end, (ends.get(whole.end) ?? 0) + 1)
    for (const pieces of [byteByByte(body), ...randomSplits(body, run, 3)]) {
      const split = parse(pieces, 1 << 20)
      if (JSON.stringify(split) !== JSON.stringify(whole)) t.same(split, whole, body.toString('hex'))
    }
  }
  t.same([...ends.keys()].sort(), ['broken', 'cut', 'too-large', 'whole'], 'every end was reached')
})
