import fc from 'fast-check'
import t from 'tap'
import { Headers } from '../../lib/core/headers.ts'
import { Head, HeadParser } from '../../lib/http1/head-parser.ts'
import { fieldLines, LineMemo } from '../../lib/http1/head-writer.ts'

const LIMITS = { lineBytes: 8192, headerBytes: 60_000, headers: 100 }

function parser(): HeadParser {
  return new HeadParser(LIMITS, { keepCase: false, response: false })
}

function parsed(of: HeadParser, text: string): Head {
  const head = of.parse(text)
  if (!(head instanceof Head)) throw new Error(head.reason)
  return head
}

t.test('a head that comes again is parsed to an equal one that shares nothing that can change', async (t) => {
  const text = 'GET /a HTTP/1.1\r\nHost: x\r\nA: 1\r\nConnection: upgrade\r\nUpgrade: websocket\r\nB_c: 2\r\n\r\n'
  const one = parser()
  const first = parsed(one, text)
  const expected = structuredClone({ ...parsed(parser(), text) })
  first.raw.push('x-forwarded-for', '192.0.2.1')
  first.raw[1] = 'changed'
  const second = parsed(one, text)
  t.same({ ...second }, expected)
  second.raw.length = 0
  t.same({ ...parsed(one, text) }, expected)
})

t.test('a head of the same length with one other byte is not taken for the last one', async (t) => {
  const one = parser()
  const before = parsed(one, 'GET /a HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\n')
  t.equal(before.contentLength, 1)
  const after = parsed(one, 'GET /b HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n')
  t.equal(after.target, '/b')
  t.equal(after.contentLength, 2)
  t.match(one.parse('GET /b HTTP/1.1\r\nhost: x\r\ncontent-length: x\r\n\r\n'), { status: 400 })
  t.equal(parsed(one, 'GET /b HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n').contentLength, 2)
})

t.test('lines with a memory are the lines without, whatever the messages have in common', async (t) => {
  const name = fc.constantFrom('a', 'b', 'content-length', 'connection', 'host', 'x-request-id')
  const value = fc.constantFrom('', '1', '2', 'x'.repeat(300))
  const field = fc.tuple(name, value)
  const message = fc.record({
    fields: fc.array(field, { maxLength: 8 }),
    skip: fc.boolean(),
    spelling: fc.constantFrom('lower' as const, 'lower' as const, 'proper' as const),
    // As in traffic: most messages are the last one with a change.
    from: fc.nat(8),
  })
  fc.assert(
    fc.property(fc.array(message, { maxLength: 12 }), (messages) => {
      const memo = new LineMemo()
      let last: string[] = []
      for (const { fields, skip, spelling, from } of messages) {
        const raw = [...last.slice(0, from * 2), ...fields.flat()]
        last = raw
        const headers = new Headers([...raw])
        t.equal(memo.lines(headers, spelling, skip), fieldLines(new Headers([...raw]), spelling, skip))
      }
    }),
    { seed: 4, numRuns: 300 },
  )
})
