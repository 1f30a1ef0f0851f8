import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { createServer, type Server, type Socket } from 'node:net'
import t from 'tap'
import { systemClock } from '../../lib/core/clock.ts'
import { addressOf, askFor, MalformedAnswer, readAnswer, serviceOf } from '../../lib/upstream/discovery/dns/message.ts'
import { parseServer } from '../../lib/upstream/discovery/dns/name-server.ts'
import { DnsResolvers } from '../../lib/upstream/discovery/dns/resolver.ts'
import { WireTransport } from '../../lib/upstream/discovery/dns/wire-transport.ts'
import { settle, TestClock } from '../support/clock.ts'
import { startDnsServer } from '../support/dns-server.ts'
import { watchLeaks } from '../support/leaks.ts'
import { seeded } from '../support/random.ts'

const PLAIN = { id: 0x1234, ednsBytes: 0 }
/** An answer to PLAIN for web.test, A: an alias, the address of what it stands for, and one of somebody else. */
const ANSWER = Buffer.from(
  '1234818000010003000000000377656204746573740000010001' +
    'c00c00050001000000640006036c6f6ec010' +
    '036c6f6ec010000100010000000a00040a000001' +
    '03666f6fc010000100010000000a00040a0606ff',
  'hex',
)

t.test('a question is what RFC 1035 says it is', async (t) => {
  const plain = askFor('Web.Test', 1, PLAIN)
  t.equal(plain?.bytes.toString('hex'), '123401000001000000000000' + '0357656204546573740000010001')
  t.equal(plain?.name, 'web.test')
  const edns = askFor('web.test', 33, { id: 1, ednsBytes: 1232 })
  t.equal(edns?.bytes.subarray(-11).toString('hex'), '00002904d0000000000000')
  t.equal(edns?.bytes.readUInt16BE(10), 1)
  t.equal(askFor('', 33, PLAIN)?.bytes.length, 17, 'the root')
  const long = `${'a'.repeat(63)}.${'b'.repeat(63)}.${'c'.repeat(63)}.${'d'.repeat(61)}`
  t.ok(askFor(long, 1, PLAIN))
  for (const wrong of ['a..b', '.', 'a.', `${'a'.repeat(64)}.b`, `${long}d`, 'a b', 'ä', 'a\\b', 'a\0']) {
    t.equal(askFor(wrong, 1, PLAIN), undefined, JSON.stringify(wrong))
  }
})

t.test('an answer is read with its aliases, and belongs to its question', async (t) => {
  const question = askFor('WEB.test', 1, PLAIN)!
  const answer = readAnswer(ANSWER, question)!
  t.equal(answer.rcode, 0)
  t.same(
    answer.records.map((record) => [addressOf(answer.message, record), record.ttlS]),
    [['10.0.0.1', 10]],
  )
  const changed = (at: number, value: number): Buffer => {
    const copy = Buffer.from(ANSWER)
    copy[at] = value
    return copy
  }
  t.equal(readAnswer(changed(1, 0x35), question), undefined, 'another number')
  t.equal(readAnswer(changed(2, 0x01), question), undefined, 'a question')
  t.equal(readAnswer(changed(13, 0x78), question), undefined, 'another name')
  t.equal(readAnswer(changed(23, 28), question), undefined, 'another type')
  t.equal(readAnswer(changed(25, 3), question), undefined, 'another class')
  t.equal(readAnswer(changed(3, 0x83), question)?.rcode, 3)
  t.match(readAnswer(changed(2, 0x83), question), { truncated: true, records: [] })
  t.same(readAnswer(Buffer.from('12348182' + '0000'.repeat(4), 'hex'), question)?.rcode, 2, 'no question, a failure')
  t.equal(readAnswer(Buffer.from('12348180' + '0000'.repeat(4), 'hex'), question), undefined)
})

t.test('an answer that breaks off anywhere, or points in a circle, is none', async (t) => {
  const question = askFor('web.test', 1, PLAIN)!
  for (let size = 12; size < ANSWER.length; size++) {
    t.throws(() => readAnswer(ANSWER.subarray(0, size), question), /breaks off/, `${size} bytes`)
  }
  for (let size = 0; size < 12; size++) t.equal(readAnswer(ANSWER.subarray(0, size), question), undefined)
  const circle = Buffer.from(ANSWER)
  circle.writeUInt16BE(0xc000 | 26, 26)
  t.throws(() => readAnswer(circle, question), /does not lead back/)
  const record = { ttlS: 1, start: 0, end: 5 }
  t.throws(() => addressOf(Buffer.alloc(5), record), /too long or too short/)
  t.throws(() => serviceOf(Buffer.alloc(9), { ttlS: 1, start: 0, end: 6 }), /too short/)
  t.throws(() => serviceOf(Buffer.alloc(9), { ttlS: 1, start: 0, end: 9 }), /longer or shorter/)
})

t.test('whatever comes is an answer, none, or malformed', async (t) => {
  const random = seeded(7)
  const question = askFor('web.test', 1, PLAIN)!
  let [read, none, bad] = [0, 0, 0]
  for (let i = 0; i < 20_000; i++) {
    const message = Buffer.from(ANSWER)
    for (let n = random.below(4); n >= 0; n--) message[random.below(message.length)] = random.below(256)
    try {
      const answer = readAnswer(message, question)
      if (answer === undefined) none++
      else {
        read++
        for (const record of answer.records) if (record.end - record.start === 4) addressOf(message, record)
      }
    } catch (error) {
      if (!(error instanceof MalformedAnswer)) throw error
      bad++
    }
  }
  t.ok(read > 100 && none > 100 && bad > 100, `${read} ${none} ${bad}`)
})

t.test('name servers are addresses, with a port or without', async (t) => {
  t.same(parseServer('192.0.2.1'), { host: '192.0.2.1', port: 53, v6: false })
  t.same(parseServer('192.0.2.1:5353'), { host: '192.0.2.1', port: 5353, v6: false })
  t.same(parseServer('2001:db8::1'), { host: '2001:db8::1', port: 53, v6: true })
  t.same(parseServer('[2001:db8::1]:5353'), { host: '2001:db8::1', port: 5353, v6: true })
  for (const wrong of ['', 'ns.test', '192.0.2.1:0', '192.0.2.1:65536', '[::1', '::1]:53', '[]:53']) {
    t.throws(() => parseServer(wrong), /not the address of a name server/, wrong)
  }
})

t.test('a real name server is asked over UDP, over TCP where that is wanted, and for services', async (t) => {
  const leaks = watchLeaks()
  const server = await startDnsServer()
  const many = Array.from({ length: 300 }, (_, i) => `10.0.${i >> 8}.${i & 255}`)
  server.set('A', 'web.test', { addresses: ['10.0.0.2', '10.0.0.1'], ttlS: 17 })
  server.set('AAAA', 'web.test', { addresses: ['fd00:1::2'], ttlS: 5 })
  server.set('A', 'alias.test', { alias: 'web.test', aliasTtlS: 3, addresses: ['10.0.0.3'], ttlS: 9 })
  server.set('A', 'big.test', { addresses: many, ttlS: 1 })
  server.set('SRV', '_http._tcp.web.test', {
    services: [
      { priority: 1, weight: 5, port: 8080, target: 'A.web.test' },
      { priority: 2, weight: 0, port: 80, target: '.' },
    ],
    ttlS: 11,
  })
  for (const word of ['NODATA', 'NXDOMAIN', 'SERVFAIL', 'REFUSED', 'garbage', 'silence'] as const) {
    server.set('A', `${word.toLowerCase()}.test`, word)
  }
  for (const lie of ['id', 'question', 'rdata', 'count'] as const) {
    server.set('A', `${lie}.test`, { lie, addresses: ['10.6.6.6'] })
  }
  const expected: readonly [string, string][] = [
    ['nodata.test', 'ENODATA'],
    ['nxdomain.test', 'ENOTFOUND'],
    ['servfail.test', 'ESERVFAIL'],
    ['refused.test', 'EREFUSED'],
    ['garbage.test', 'ETIMEOUT'],
    ['silence.test', 'ETIMEOUT'],
    ['id.test', 'ETIMEOUT'],
    ['question.test', 'ETIMEOUT'],
    ['rdata.test', 'EBADRESP'],
    ['count.test', 'EBADRESP'],
    ['bad..name', 'EBADNAME'],
  ]
  for (const tcp of [undefined, true] as const) {
    const wire = new WireTransport({ servers: [server.address], timeoutMs: 60, attempts: 1, tcp }, systemClock)
    const way = tcp === true ? '/tcp' : ''
    server.questions.length = 0
    t.same(await wire.query('Web.Test', 4), {
      code: '',
      records: [
        { address: '10.0.0.2', ttlS: 17 },
        { address: '10.0.0.1', ttlS: 17 },
      ],
    })
    t.same(await wire.query('web.test', 6), { code: '', records: [{ address: 'fd00:1:0:0:0:0:0:2', ttlS: 5 }] })
    t.same(await wire.query('alias.test', 4), { code: '', records: [{ address: '10.0.0.3', ttlS: 3 }] })
    t.same(await wire.services('_http._tcp.web.test'), {
      code: '',
      records: [
        { priority: 1, weight: 5, port: 8080, target: 'a.web.test', ttlS: 11 },
        { priority: 2, weight: 0, port: 80, target: '', ttlS: 11 },
      ],
    })
    t.same(server.questions, [
      `A${way} Web.Test.`,
      `AAAA${way} web.test.`,
      `A${way} alias.test.`,
      `SRV${way} _http._tcp.web.test.`,
    ])
    server.questions.length = 0
    t.equal((await wire.query('big.test', 4)).records.length, 300)
    t.same(server.questions, tcp === true ? ['A/tcp big.test.'] : ['A big.test.', 'A/tcp big.test.'])
    for (const [name, code] of expected) t.same(await wire.query(name, 4), { code, records: [] }, `${name}${way}`)
    const late = wire.query('silence.test', 4)
    await settle()
    wire.close()
    t.same(await late, { code: 'ECANCELLED', records: [] })
    t.same(await wire.query('web.test', 4), { code: 'ECANCELLED', records: [] })
  }
  await server.close()
  for (const tcp of [undefined, true] as const) {
    const wire = new WireTransport({ servers: [server.address], timeoutMs: 1_000, attempts: 1, tcp }, systemClock)
    t.same(await wire.query('web.test', 4), { code: 'ECONNREFUSED', records: [] })
    wire.close()
  }
  await leaks.assertNone()
})

t.test('the next server is asked where one fails, in turns where that is wanted', async (t) => {
  const [sick, well] = [await startDnsServer(), await startDnsServer()]
  sick.set('A', 'web.test', 'SERVFAIL')
  well.set('A', 'web.test', { addresses: ['10.0.0.1'] })
  const servers = [sick.address, well.address]
  const wire = new WireTransport({ servers, timeoutMs: 1_000, attempts: 2 }, systemClock)
  t.equal((await wire.query('web.test', 4)).code, '')
  t.equal((await wire.query('web.test', 4)).code, '')
  t.equal(sick.questions.length, 2)
  t.equal((await wire.query('gone.test', 4)).code, 'ENOTFOUND', 'an answer is an answer')
  t.equal(well.questions.length, 2)
  const turns = new WireTransport({ servers, timeoutMs: 1_000, attempts: 1, rotate: true }, systemClock)
  sick.questions.length = 0
  for (let i = 0; i < 4; i++) t.equal((await turns.query('web.test', 4)).code, '')
  t.equal(sick.questions.length, 2, 'every other question')
  wire.close()
  turns.close()
  await Promise.all([sick.close(), well.close()])
})

/** A name server of TCP alone, by hand. */
async function byHand(onData: (socket: Socket, chunk: Buffer) => void): Promise<{ server: Server; address: string }> {
  const server = createServer((socket) => {
    socket.on('data', (chunk: Buffer) => onData(socket, chunk))
    socket.on('error', () => undefined)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  return { server, address: `127.0.0.1:${port}` }
}

t.test('questions over TCP share a connection, and answers come in any order and any pieces', async (t) => {
  const clock = new TestClock()
  const asked: Buffer[] = []
  const sockets = new Set<Socket>()
  let received = Buffer.alloc(0)
  const { server, address } = await byHand((socket, chunk) => {
    sockets.add(socket)
    received = Buffer.concat([received, chunk])
    while (received.length >= 2 && received.length >= 2 + received.readUInt16BE(0)) {
      asked.push(received.subarray(2, 2 + received.readUInt16BE(0)))
      received = received.subarray(2 + received.readUInt16BE(0))
    }
    if (asked.length < 3) return
    const frames = asked.map((question) => {
      // An empty answer: the question without EDNS, as a response.
      const message = Buffer.concat([question.subarray(0, 10), Buffer.alloc(2), question.subarray(12, -11)])
      message.writeUInt16BE(0x8180, 2)
      return Buffer.concat([Buffer.from([0, message.length]), message])
    })
    const bytes = Buffer.concat([Buffer.from([0, 1, 9]), ...frames.reverse()])
    for (const byte of bytes) socket.write(Buffer.from([byte]))
  })
  const wire = new WireTransport({ servers: [address], timeoutMs: 5_000, attempts: 1, tcp: true }, clock)
  const replies = await Promise.all(['a.test', 'b.test', 'c.test'].map((name) => wire.query(name, 4)))
  t.same(
    replies.map(({ code }) => code),
    ['ENODATA', 'ENODATA', 'ENODATA'],
  )
  t.equal(sockets.size, 1)
  t.equal(clock.pending, 1, 'the connection is closed a while later')
  const closed = once([...sockets][0], 'close')
  clock.advance(2_000)
  await closed
  t.equal(clock.pending, 0)
  wire.close()
  server.close()
})

t.test('what was asked on a connection that breaks is asked again on another', async (t) => {
  let connections = 0
  const { server, address } = await byHand((socket, chunk) => {
    connections++
    if (connections === 1) {
      socket.end()
      return
    }
    const message = Buffer.concat([chunk.subarray(2, 12), Buffer.alloc(2), chunk.subarray(14, -11)])
    message.writeUInt16BE(0x8183, 2)
    socket.write(Buffer.concat([Buffer.from([0, message.length]), message]))
  })
  const wire = new WireTransport({ servers: [address], timeoutMs: 5_000, attempts: 2, tcp: true }, systemClock)
  t.same(await wire.query('a.test', 4), { code: 'ENOTFOUND', records: [] })
  t.equal(connections, 2)
  wire.close()
  server.close()
})

t.test('a connection that nothing has come on in all that time is not asked again', async (t) => {
  const clock = new TestClock()
  const first = Promise.withResolvers<Socket>()
  const sockets = new Set<Socket>()
  const { server, address } = await byHand((socket, chunk) => {
    sockets.add(socket)
    first.resolve(socket)
    if (sockets.size === 1) return
    const message = Buffer.concat([chunk.subarray(2, 12), Buffer.alloc(2), chunk.subarray(14, -11)])
    message.writeUInt16BE(0x8183, 2)
    socket.write(Buffer.concat([Buffer.from([0, message.length]), message]))
  })
  const wire = new WireTransport({ servers: [address], timeoutMs: 5_000, attempts: 2, tcp: true }, clock)
  const reply = wire.query('a.test', 4)
  const closed = once(await first.promise, 'close')
  clock.advance(5_000)
  await closed
  t.equal((await reply).code, 'ENOTFOUND')
  t.equal(sockets.size, 2)
  wire.close()
  t.equal(clock.pending, 0)
  server.close()
})

t.test('a server that knows nothing of EDNS is asked without', async (t) => {
  const sizes: number[] = []
  const { server, address } = await byHand((socket, chunk) => {
    sizes.push(chunk.length)
    const edns = chunk.readUInt16BE(12) === 1
    const end = edns ? -11 : chunk.length
    const message = Buffer.concat([chunk.subarray(2, 12), Buffer.alloc(2), chunk.subarray(14, end)])
    message.writeUInt16BE(edns ? 0x8181 : 0x8180, 2)
    socket.write(Buffer.concat([Buffer.from([0, message.length]), message]))
  })
  const wire = new WireTransport({ servers: [address], timeoutMs: 5_000, attempts: 1, tcp: true }, systemClock)
  t.same(await wire.query('a.test', 4), { code: 'ENODATA', records: [] })
  t.equal(sizes[0] - sizes[1], 11)
  wire.close()
  server.close()
})

t.test('a server that knows nothing of EDNS is asked without it over TCP too', async (t) => {
  const asked: string[] = []
  const answered = (question: Buffer, way: string): Buffer => {
    const edns = question.readUInt16BE(10) === 1
    asked.push(edns ? `${way} edns` : way)
    const message = Buffer.from(edns ? question.subarray(0, -11) : question)
    // A format error, cut, or no such name.
    message.writeUInt16BE(edns ? 0x8181 : way === 'udp' ? 0x8380 : 0x8183, 2)
    message.writeUInt16BE(0, 10)
    return message
  }
  const { server, address } = await byHand((socket, chunk) => {
    const message = answered(chunk.subarray(2), 'tcp')
    socket.write(Buffer.concat([Buffer.from([0, message.length]), message]))
  })
  const udp = createSocket('udp4')
  udp.on('message', (question, { port, address: from }) => udp.send(answered(question, 'udp'), port, from))
  udp.bind(parseServer(address).port, '127.0.0.1')
  await once(udp, 'listening')
  const wire = new WireTransport({ servers: [address], timeoutMs: 5_000, attempts: 1, rotate: true }, systemClock)
  t.same(await wire.query('a.test', 4), { code: 'ENOTFOUND', records: [] })
  t.same(asked, ['udp edns', 'udp', 'tcp'])
  wire.close()
  udp.close()
  server.close()
})

t.test('a name server that no datagram may be sent to is a failure like others', async (t) => {
  // The system refuses to connect: a broadcast address needs a permission that nobody asked for.
  const wire = new WireTransport(
    { servers: ['255.255.255.255'], timeoutMs: 5_000, attempts: 1, rotate: true },
    systemClock,
  )
  t.same(await wire.query('a.test', 4), { code: 'EACCES', records: [] })
  wire.close()
})

t.test('an answer that is cut over TCP too is no absence', async (t) => {
  const { server, address } = await byHand((socket, chunk) => {
    const message = Buffer.from(chunk.subarray(2, -11))
    message.writeUInt16BE(0x8380, 2)
    message.writeUInt16BE(0, 10)
    socket.write(Buffer.concat([Buffer.from([0, message.length]), message]))
  })
  const wire = new WireTransport({ servers: [address], timeoutMs: 5_000, attempts: 1, tcp: true }, systemClock)
  t.same(await wire.query('a.test', 4), { code: 'EBADRESP', records: [] })
  wire.close()
  server.close()
})

t.test('a resolver asks the way its configuration says', async (t) => {
  const server = await startDnsServer()
  server.set('A', 'web.test', { addresses: ['10.0.0.1'], ttlS: 7 })
  server.set('SRV', '_x._tcp.web.search.test', {
    services: [{ priority: 1, weight: 1, port: 1, target: 'a.test' }],
    ttlS: 4,
  })
  const readText = async (path: string): Promise<string> => (path.endsWith('resolv.conf') ? 'search search.test' : '')
  const resolvers = new DnsResolvers({ clock: systemClock, readText })
  const byTcp = resolvers.for([server.address], { tcp: true })
  t.same(await byTcp.resolve('web.test', 'v4-only'), { ok: true, addresses: ['10.0.0.1'], ttlMs: 7_000 })
  t.same(await byTcp.services('_X._tcp.web'), {
    ok: true,
    records: [{ priority: 1, weight: 1, port: 1, target: 'a.test', ttlS: 4 }],
    ttlMs: 4_000,
  })
  t.ok(server.questions.every((question) => question.includes('/tcp')))
  t.same(await resolvers.for([server.address]).services('_x._tcp.web.'), { ok: false, reason: 'ENOTFOUND' })
  t.match(await resolvers.for([server.address], { whole: true }).services('_x._tcp.web.search.test'), { ok: true })
  t.throws(() => resolvers.for(['ns.test'], { tcp: true }))
  resolvers[Symbol.dispose]()
  await server.close()
})
