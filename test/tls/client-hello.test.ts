import t from 'tap'
import { type ClientHello, ClientHelloReader, type HelloStatus, plainServerName } from '../../lib/tls/client-hello.ts'
import { fuzz } from '../support/fuzz.ts'
import { cut, sameHoweverSplit } from '../support/splits.ts'
import { alpn, clientHello, extension, sized, sni } from './hellos.ts'
import { recordHello } from './rig.ts'

function read(pieces: readonly Uint8Array[], limit?: number): { status: HelloStatus; hello: ClientHello | undefined } {
  const reader = new ClientHelloReader(limit)
  for (const piece of pieces) reader.feed(piece)
  return { status: reader.status, hello: reader.hello }
}

/** A hello in one record, or in records of `recordBytes`. */
function hello(extensions: readonly Buffer[] | undefined, recordBytes?: number): Buffer {
  return clientHello({ ...(extensions && { extensions }), ...(recordBytes !== undefined && { recordBytes }) })
}

const real = await recordHello({ servername: 'WWW.Example.com', ALPNProtocols: ['h2', 'http/1.1'] })

t.test('the hello of a real client gives its name and protocols, however it is cut', async (t) => {
  const expected = { status: 'hello', hello: { serverName: 'www.example.com', alpn: ['h2', 'http/1.1'] } }
  t.same(sameHoweverSplit(real, read), expected)
  const classic = await recordHello({ minVersion: 'TLSv1.2', maxVersion: 'TLSv1.2', ecdhCurve: 'X25519' })
  t.same(sameHoweverSplit(classic, read), { status: 'hello', hello: { serverName: undefined, alpn: [] } })
})

t.test('a hello may be spread over many records', async (t) => {
  const bytes = hello([sni('a.example'), alpn('h2')], 7)
  t.same(sameHoweverSplit(bytes, read), { status: 'hello', hello: { serverName: 'a.example', alpn: ['h2'] } })
})

t.test('it wants more until the last byte, and looks at nothing behind it', async (t) => {
  const bytes = hello([sni('a.example')])
  for (let length = 0; length < bytes.length; length++) t.equal(read([bytes.subarray(0, length)]).status, 'more')
  const reader = new ClientHelloReader()
  t.equal(reader.feed(Buffer.concat([bytes, Buffer.alloc(100, 255)])), 'hello')
  t.equal(reader.feed(Buffer.alloc(100, 255)), 'hello', 'it stays')
})

t.test('a hello without extensions is one', async (t) => {
  t.same(read([hello(undefined)]), { status: 'hello', hello: { serverName: undefined, alpn: [] } })
  t.same(read([hello([])]), { status: 'hello', hello: { serverName: undefined, alpn: [] } })
})

t.test('other protocols are told by their first bytes', async (t) => {
  for (const text of ['GET / HTTP/1.1\r\n', 'PRI * HTTP/2.0\r\n', 'PROXY TCP4', '\x16\x02\x00', '\x80\x2e\x01\x03']) {
    t.equal(read([Buffer.from(text, 'latin1')]).status, 'not-tls', JSON.stringify(text))
  }
  t.equal(read([Buffer.from([22])]).status, 'more')
  t.equal(read([Buffer.from([22, 3, 1, 0, 0])]).status, 'not-tls', 'an empty record')
  t.equal(read([Buffer.from([22, 3, 1, 0x40, 1])]).status, 'not-tls', 'a record over 2^14 bytes')
})

t.test('what does not fit together is malformed', async (t) => {
  const cases: Record<string, Buffer> = {
    'another message': Buffer.from([22, 3, 1, 0, 5, 2, 0, 0, 70, 3]),
    'too short for a hello': Buffer.from([22, 3, 1, 0, 4, 1, 0, 0, 40]),
    'two names': hello([sni('a'), sni('b')]),
    'ALPN twice': hello([alpn('h2'), alpn('h2')]),
    'an empty name': hello([sni('')]),
    'a NUL in the name': hello([sni('a\0b')]),
    'a name that is not ASCII': hello([sni('\xe9.example')]),
    'an empty protocol': hello([alpn('')]),
    'no protocol': hello([extension(16, sized(Buffer.alloc(0)))]),
    'a name list that is too long': hello([extension(0, Buffer.from([0, 9, 0, 0, 1, 97]))]),
    'bytes behind the name': hello([extension(0, Buffer.from([0, 4, 0, 0, 1, 97, 0]))]),
    'an extension beyond the end': hello([Buffer.from([0, 9, 0, 9, 1])]),
    'half an extension': hello([Buffer.from([0, 9, 0])]),
  }
  for (const [name, bytes] of Object.entries(cases)) {
    t.same(sameHoweverSplit(bytes, read), { status: 'malformed', hello: undefined }, name)
  }
  const second = hello([sni('a.example')], 20)
  second[25] = 23
  t.equal(read([second]).status, 'malformed', 'a record of another type in the middle')
})

t.test('its size is bounded before anything is stored', async (t) => {
  t.equal(read([real], 500).status, 'malformed')
  t.equal(read([real], 2_000).status, 'hello')
  t.equal(read([Buffer.from([22, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff])]).status, 'malformed')
})

t.test('what is malformed for its size alone says so, and the message is kept where it is asked for', async (t) => {
  const large = new ClientHelloReader(500)
  large.feed(real)
  t.same([large.status, large.tooLarge, large.message], ['malformed', true, undefined])
  const other = new ClientHelloReader(500)
  other.feed(Buffer.from([22, 3, 1, 0, 5, 2, 0, 9, 0, 3]))
  t.same([other.status, other.tooLarge], ['malformed', false], 'another message')
  const [plain, keeping] = [new ClientHelloReader(), new ClientHelloReader(16_384, true)]
  for (const reader of [plain, keeping]) reader.feed(real)
  t.same([plain.message, keeping.message], [undefined, real.subarray(5)])
})

t.test('server names have one spelling', async (t) => {
  t.equal(plainServerName('A.Example'), 'a.example')
  for (const bad of ['', 'a b', 'a\0', 'é', 'a。b', 'x'.repeat(256)]) t.equal(plainServerName(bad), undefined)
})

t.test('mutations neither throw nor depend on how they are cut', async (t) => {
  const inputs = [real, hello([sni('a.example'), alpn('h2', 'http/1.1')], 30), hello(undefined)]
  const { runs, findings } = fuzz({
    target: 'client-hello',
    inputs,
    seed: 7,
    runs: 5_000,
    check(bytes) {
      const whole = JSON.stringify(read([bytes]))
      for (const at of [1, 5, 9, bytes.length >> 1]) {
        if (at < bytes.length && JSON.stringify(read(cut(bytes, [at]))) !== whole) throw new Error(`cut at ${at}`)
      }
    },
  })
  t.ok(runs >= 5_000)
  t.same(findings, [])
})
