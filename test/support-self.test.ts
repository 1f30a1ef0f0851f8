import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import type { ByteStream } from './support/byte-stream.ts'
import { settle, TestClock } from './support/clock.ts'
import { fuzz, mutate, readCorpus } from './support/fuzz.ts'
import { watchLeaks } from './support/leaks.ts'
import { Ledger, ledgerScript } from './support/ledger.ts'
import { haveLlhttpCases, parseCases, readLlhttpCases } from './support/llhttp-cases.ts'
import { echo, inTurn, Origin, respondWith } from './support/origin.ts'
import { seeded } from './support/random.ts'
import { byteByByte, everySplit, randomSplits, sameHoweverSplit } from './support/splits.ts'
import { type Wire, WireClient } from './support/wire.ts'

async function connected(
  script?: Parameters<typeof Origin.start>[0],
): Promise<{ origin: Origin; client: WireClient; wire: Wire }> {
  const origin = await Origin.start(script ?? echo)
  const client = new WireClient()
  const wire = await client.connect(origin.port, { deadlineMs: 2_000 })
  return { origin, client, wire }
}

t.test('TestClock', async (t) => {
  t.test('runs what is due in order of due time, then of scheduling, each at its own time', async (t) => {
    const clock = new TestClock(0)
    const seen: string[] = []
    clock.schedule(20, () => seen.push(`b${clock.now()}`))
    clock.schedule(10, () => {
      seen.push(`a${clock.now()}`)
      clock.schedule(5, () => seen.push(`nested${clock.now()}`))
    })
    clock.schedule(20, () => seen.push(`c${clock.now()}`))
    clock.schedule(21, () => seen.push('late'))
    clock.advance(20)
    t.same(seen, ['a10', 'nested15', 'b20', 'c20'])
    t.equal(clock.now(), 20)
    t.equal(clock.pending, 1)
    t.equal(clock.nextInMs, 1)
  })
  t.test('a cancelled call never runs, and to cancel twice or late is harmless', async (t) => {
    const clock = new TestClock()
    let runs = 0
    const cancel = clock.schedule(5, () => runs++)
    cancel()
    cancel()
    const late = clock.schedule(5, () => runs++)
    clock.advance(5)
    late()
    t.equal(runs, 1)
    t.equal(clock.pending, 0)
    t.equal(clock.nextInMs, undefined)
  })
  t.test('the wall clock can be stepped without moving timers', async (t) => {
    const clock = new TestClock(1_000, 50_000)
    let ran = false
    clock.schedule(10, () => {
      ran = true
    })
    clock.setWall(0)
    t.equal(clock.wall(), 0)
    t.equal(clock.now(), 1_000)
    t.notOk(ran)
    clock.advance(10)
    t.equal(clock.wall(), 10)
    t.ok(ran)
  })
  t.test('the async form lets promises and immediates run between two timers', async (t) => {
    const clock = new TestClock()
    const seen: string[] = []
    clock.schedule(1, () => void Promise.resolve().then(() => setImmediate(() => seen.push('after first'))))
    clock.schedule(2, () => seen.push('second'))
    await clock.advanceAsync(2)
    t.same(seen, ['after first', 'second'])
  })
  t.test('refuses delays that real timers would not keep', async (t) => {
    const clock = new TestClock()
    for (const delay of [Number.NaN, Number.POSITIVE_INFINITY, 2 ** 31])
      t.throws(() => clock.schedule(delay, () => {}), RangeError)
  })
})

t.test('WireClient', async (t) => {
  t.test('sends each piece as a segment of its own', async (t) => {
    const pieces: string[] = []
    const server = createServer((socket) => socket.on('data', (chunk) => pieces.push(chunk.toString('latin1'))))
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const client = new WireClient()
    const wire = await client.connect((server.address() as { port: number }).port)
    t.ok(await wire.writeSplit('abcdef', [1, 3]))
    t.ok(await wire.writePieces(byteByByte(Buffer.from('gh'))))
    await settle()
    t.same(pieces, ['a', 'bc', 'def', 'g', 'h'])
    await client.closeAll()
    t.equal(client.open, 0)
    server.close()
  })
  t.test('counts what is open until it is closed', async (t) => {
    const { origin, client, wire } = await connected()
    t.equal(client.open, 1)
    await wire.close()
    t.equal(client.open, 0)
    await origin.close()
    await t.rejects(client.connect(origin.port), { code: 'ECONNREFUSED' })
    t.equal(client.open, 0)
  })
  t.test('a deadline says what was waited for and what had come', async (t) => {
    const origin = await Origin.start(async (_, reply) => {
      await reply.write('HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab')
      await reply.stall()
    })
    const client = new WireClient()
    const wire = await client.connect(origin.port, { deadlineMs: 50 })
    await wire.write('GET / HTTP/1.1\r\nhost: a\r\n\r\n')
    await t.rejects(wire.readResponse(), { kind: 'deadline', message: /no body \(3 of 5 bytes left\) within 50 ms/ })
    await client.closeAll()
    await origin.close()
  })
  t.test('hold and release make a slow reader: the peer feels it, and no byte is lost', async (t) => {
    const size = 16 << 20
    const { origin, client, wire } = await connected(
      async (_, reply) => void (await reply.send({ body: Buffer.alloc(size, 'x') })),
    )
    wire.stream.hold()
    await wire.write('GET / HTTP/1.1\r\nhost: a\r\n\r\n')
    await origin.seen(1)
    await settle(20)
    t.notOk(origin.requests[0].answered)
    t.equal(wire.stream.received, 0)
    wire.stream.release()
    let got = 0
    const response = await wire.readResponse({ consume: (chunk) => void (got += chunk.length) })
    t.equal(got, size)
    t.ok(response.clean)
    await client.closeAll()
    await origin.close()
  })
})

t.test('the response reader', async (t) => {
  const read = async (
    bytes: string,
    options = {},
    offsets: number[] = [],
  ): Promise<{ wire: Wire; stop(): Promise<void>; response: ReturnType<Wire['readResponse']> }> => {
    const { origin, client, wire } = await connected(async (request, reply) => {
      await respondWith(bytes, offsets)(request, reply)
      reply.close()
    })
    await wire.write('GET / HTTP/1.1\r\nhost: a\r\n\r\n')
    const stop = async (): Promise<void> => {
      await client.closeAll()
      await origin.close()
    }
    return { wire, stop, response: wire.readResponse(options) }
  }
  const chunked =
    'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nX-T: 1\r\n\r\nrest'
  t.test('reads chunks, trailers and what is left over, at every split', async (t) => {
    for (let at = 1; at < chunked.length; at += 3) {
      const { wire, stop, response } = await read(chunked, {}, [at])
      const r = await response
      t.same(
        [r.status, r.framing, r.text(), r.trailers, r.clean],
        [200, 'chunked', 'abcde', [['X-T', '1']], true],
        `at ${at}`,
      )
      t.same(await wire.readToEnd(), { bytes: Buffer.from('rest'), ending: 'fin' })
      await stop()
    }
  })
  const facts: [string, string, object, object][] = [
    [
      'Content-Length',
      'HTTP/1.1 201 Made it\r\nContent-Length: 3\r\n\r\nabc',
      {},
      { status: 201, reason: 'Made it', framing: 'length', clean: true },
    ],
    ['up to the close', 'HTTP/1.0 200 OK\r\n\r\nabc', {}, { framing: 'close', clean: true, version: 'HTTP/1.0' }],
    ['HEAD', 'HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n', { method: 'HEAD' }, { framing: 'none', clean: true }],
    ['304', 'HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n', {}, { framing: 'none', clean: true }],
    ['CONNECT', 'HTTP/1.1 200 OK\r\n\r\ntunnel', { method: 'CONNECT' }, { framing: 'none', clean: true }],
    [
      'interim',
      'HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 204 No\r\n\r\n',
      {},
      { status: 204, informational: [{ status: 103, fields: [['Link', 'x']] }] },
    ],
    [
      'interim by itself',
      'HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 204 No\r\n\r\n',
      { interim: true },
      { status: 103 },
    ],
    ['cut short', 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc', {}, { clean: false, bytes: Buffer.from('abc') }],
    ['chunks cut short', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n', {}, { clean: false }],
    [
      'chunks without the last line',
      'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n',
      {},
      { clean: false },
    ],
  ]
  for (const [name, bytes, options, wanted] of facts) {
    t.test(`knows the framing: ${name}`, async (t) => {
      const { stop, response } = await read(bytes, options)
      t.match(await response, wanted)
      await stop()
    })
  }
  const broken: [string, string, RegExp][] = [
    ['bare LF', 'HTTP/1.1 200 OK\r\na: b\nc: d\r\n\r\n', /bare CR, LF/],
    ['a fold', 'HTTP/1.1 200 OK\r\na: b\r\n c\r\n\r\n', /field line/],
    ['both framings', 'HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n', /both/],
    ['two lengths', 'HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n', /Content-Length 1 \| 1/],
    ['a length with a sign', 'HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n', /Content-Length \+1/],
    ['another coding', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n', /Transfer-Encoding gzip/],
    ['a chunk size with a blank', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3 \r\nabc\r\n', /chunk size/],
    ['a chunk that is too long', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n', /followed by/],
    ['no status', 'HTTP/1.1 OK\r\n\r\n', /status line/],
    ['nothing at all', '', /a response was expected/],
    ['half a head', 'HTTP/1.1 200', /inside of a head/],
  ]
  for (const [name, bytes, message] of broken) {
    t.test(`refuses ${name}`, async (t) => {
      const { stop, response } = await read(bytes)
      await t.rejects(response, { name: 'WireError', message })
      await stop()
    })
  }
  t.test('tells a reset from an end', async (t) => {
    const { origin, client, wire } = await connected((_, reply) =>
      reply.resetAt(Buffer.from('HTTP/1.1 200 OK\r\n\r\nabc'), 20),
    )
    await wire.write('GET / HTTP/1.1\r\nhost: a\r\n\r\n')
    const response = await wire.readResponse()
    t.same([response.clean, wire.stream.ending], [false, 'reset'])
    await client.closeAll()
    await origin.close()
  })
})

t.test('Origin', async (t) => {
  t.test('records pipelined requests with their bytes, and answers them in order', async (t) => {
    const { origin, client, wire } = await connected()
    const bytes =
      'POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabcPUT /b HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nz\r\n0\r\nT: 1\r\n\r\n'
    await wire.writeSplit(bytes, [10, 50, 52, 100])
    const first = await wire.readResponse()
    const second = await wire.readResponse()
    t.same([first.text(), second.text(), second.get('X-Echo-Method')], ['abc', 'z', 'PUT'])
    t.same(
      origin.requests.map((r) => [r.connection, r.index, r.method, r.target, r.get('host')]),
      [
        [1, 1, 'POST', '/a', 'x'],
        [1, 2, 'PUT', '/b', undefined],
      ],
    )
    t.match(await origin.requests[1].body, { framing: 'chunked', trailers: [['T', '1']], clean: true })
    t.equal(origin.requests[0].rawHead.toString(), 'POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n')
    t.same(origin.violations, [])
    await client.closeAll()
    await origin.until(() => origin.open === 0, 'end of the connection')
    await origin.close()
  })
  t.test('can answer before the request is complete, inform, stall, reset, hand over', async (t) => {
    const { origin, client, wire } = await connected(
      inTurn(
        async (request, reply) => {
          await reply.inform(103, [['Link', 'a']])
          await reply.send({ chunks: ['a', 'b'], trailers: [['T', '1']] })
          await request.body
        },
        async (_, reply) => {
          const socket = reply.takeOver()
          socket.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n')
          await reply.stream.need(4, 'ping')
          socket.end(reply.stream.take(4))
        },
      ),
    )
    await wire.write('POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\n')
    const early = await wire.readResponse()
    t.same([early.text(), early.trailers, early.informational.length], ['ab', [['T', '1']], 1])
    await wire.write('abcGET /ws HTTP/1.1\r\nUpgrade: x\r\n\r\n')
    t.equal((await wire.readResponse()).status, 101)
    await wire.write('ping')
    t.same(await wire.readToEnd(), { bytes: Buffer.from('ping'), ending: 'fin' })
    t.equal(await origin.requests[1].ended, 'fin')
    await client.closeAll()
    await origin.close()
  })
  t.test('notes what peers do wrong, and a vanished client is told from it', async (t) => {
    const { origin, client, wire } = await connected()
    await wire.write('GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n')
    await wire.stream.untilEnd()
    t.match(origin.violations, [/^#1: the peer broke HTTP\/1.1: both/])
    const other = await client.connect(origin.port)
    await other.write('POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc')
    await origin.seen(1)
    other.reset()
    t.equal(await origin.requests[0].ended, 'reset')
    t.match(await origin.requests[0].body, { clean: false, bytes: Buffer.from('abc') })
    t.equal(origin.violations.length, 1)
    await client.closeAll()
    await origin.close()
    t.equal(origin.open, 0)
  })
  t.test('can leave a body in the kernel: the uploader feels it until the script reads', async (t) => {
    const size = 16 << 20
    let got = 0
    let read = (): void => {}
    const origin = await Origin.start({
      readBodies: false,
      consume: () => (chunk) => {
        got += chunk.length
      },
      script: async (request, reply) => {
        await new Promise<void>((resolve) => {
          read = resolve
        })
        reply.readBody()
        await request.body
        await reply.send({ body: 'read' })
      },
    })
    const client = new WireClient()
    const wire = await client.connect(origin.port)
    let written = false
    const writing = wire
      .write(Buffer.concat([Buffer.from(`POST / HTTP/1.1\r\nContent-Length: ${size}\r\n\r\n`), Buffer.alloc(size)]))
      .then(() => {
        written = true
      })
    await origin.seen(1)
    await settle(30)
    t.same([written, got], [false, 0])
    read()
    t.equal((await wire.readResponse()).text(), 'read')
    await writing
    t.equal(got, size)
    await client.closeAll()
    await origin.close()
  })
  t.test('can speak before it is asked, reset all it has, and stop accepting while it serves', async (t) => {
    const origin = await Origin.start({ onConnection: (socket) => void socket.write('HTTP/1.1 408 Early\r\n\r\n') })
    const client = new WireClient()
    const wire = await client.connect(origin.port)
    await wire.readUntil('\r\n\r\n')
    origin.stopListening()
    await t.rejects(client.connect(origin.port), { code: 'ECONNREFUSED' })
    t.equal((await wire.exchange('GET / HTTP/1.1\r\n\r\n')).status, 200)
    origin.resetAll()
    t.equal(await wire.expectEnd(), 'reset')
    await client.closeAll()
    await origin.close()
    t.equal(origin.connections, 1)
  })
  t.test('a client that has sent its FIN still gets its answer', async (t) => {
    const { origin, client, wire } = await connected()
    await wire.write('GET / HTTP/1.1\r\n\r\n')
    wire.end()
    t.equal((await wire.readResponse()).status, 200)
    t.equal(await wire.expectEnd(), 'fin')
    t.notOk(await wire.write('too late'))
    await client.closeAll()
    await origin.close()
  })
  t.test('waiting for a request that never comes fails by name', async (t) => {
    const origin = await Origin.start()
    await t.rejects(
      origin.until(() => false, 'second coming', 20),
      { message: 'origin: no second coming within 20 ms' },
    )
    await origin.close()
  })
})

t.test('Ledger', async (t) => {
  const body = (text: string) => ({ bytes: Buffer.from(text), clean: true })
  const answer = (seq: string, text: string, more = {}) => ({
    status: 200,
    get: (n: string) => (n === 'x-seq' ? seq : undefined),
    body: Buffer.from(text),
    clean: true,
    ...more,
  })
  t.test('a run over real sockets adds up', async (t) => {
    const ledger = new Ledger()
    const { origin, client, wire } = await connected(ledgerScript(ledger))
    for (const text of ['', 'one', 'two'.repeat(1000)]) {
      const request = ledger.open('POST', text)
      const lines = request.fields.map(([n, v]) => `${n}: ${v}\r\n`).join('')
      const response = await wire.exchange(
        Buffer.concat([
          Buffer.from(`POST / HTTP/1.1\r\n${lines}content-length: ${request.body.length}\r\n\r\n`),
          request.body,
        ]),
      )
      ledger.answered(request.seq, { ...response, body: response.bytes })
    }
    ledger.readAccessLog('{"seq":"1"}\n{"seq":"2"}\n\n{"seq":"3","other":1}\n{"seq":null}\n')
    ledger.assertClean()
    t.same(ledger.judge(), { lost: [], duplicated: [], crossed: [], silent: [], truncatedClean: [] })
    await client.closeAll()
    await origin.close()
  })
  t.test('names each kind of fault', async (t) => {
    const ledger = new Ledger()
    const open = (method = 'POST'): { seq: string; hash: string } => {
      const request = ledger.open(method, 'body')
      return { seq: request.seq, hash: request.fields[1][1] }
    }
    const [lost, twice, crossed, silent, short, cut, fine, killed] = Array.from({ length: 8 }, () => open())
    ledger.failed(lost.seq, 'ECONNRESET')
    for (let i = 0; i < 2; i++) ledger.delivered(twice.seq, twice.hash, body('body'))
    for (const r of [crossed, silent, cut, fine, killed]) ledger.delivered(r.seq, r.hash, body('body'))
    ledger.delivered(short.seq, short.hash, body('bo'))
    for (const r of [twice, silent, short, fine]) ledger.answered(r.seq, answer(r.seq, ''))
    ledger.answered(crossed.seq, answer(fine.seq, ''))
    ledger.answered(
      cut.seq,
      answer(cut.seq, 'bo', { get: (n: string) => (n === 'x-body-sha256' ? cut.hash : undefined) }),
    )
    ledger.failed(killed.seq, 'we killed it')
    ledger.excuse(killed.seq)
    for (const r of [lost, twice, crossed, short, cut, fine]) ledger.logged(r.seq)
    ledger.delivered('999', '', body(''))
    t.match(ledger.judge(), {
      lost: [/^POST 1: ECONNRESET$/],
      duplicated: [/^POST 2 came to the origin 2 times$/],
      crossed: [/^3 was answered with the response to 7$/, /nobody sent \(x-seq 999\)/],
      silent: [/^POST 4 has 0 lines/],
      truncatedClean: [/^7?5: request of 2 bytes/, /^6: response of 2 bytes/],
    })
    t.equal(Object.values(ledger.judge()).flat().length, 7)
    t.throws(() => ledger.assertClean(), /of 8 requests: lost 1: POST 1: ECONNRESET \| duplicated 1/)
  })
  t.test('no outcome is a loss, two log lines are one too many, a repeated GET is none', async (t) => {
    const ledger = new Ledger()
    const request = ledger.open('GET')
    const hash = request.fields[1][1]
    ledger.delivered(request.seq, hash, body(''))
    ledger.delivered(request.seq, hash, body(''))
    ledger.logged(request.seq)
    ledger.logged(request.seq)
    t.match(ledger.judge(), {
      lost: ['GET 1: no outcome'],
      duplicated: [],
      silent: ['GET 1 has 2 lines in the access log'],
    })
  })
})

t.test('watchLeaks', async (t) => {
  t.test('is content when all is closed', async () => {
    const watch = watchLeaks()
    const { origin, client, wire } = await connected()
    await wire.exchange('GET / HTTP/1.1\r\n\r\n')
    await client.closeAll()
    await origin.close()
    await watch.assertNone()
  })
  t.test('finds a socket, a server and a timer, and says where they were made', async (t) => {
    const watch = watchLeaks()
    const timer = setTimeout(() => {}, 100_000).unref()
    const { origin, client } = await connected()
    await origin.until(() => origin.open === 1, 'connection')
    await t.rejects(watch.assertNone(30), {
      message: /4 leaked: (?=.*Timeout made at test\/support-self\.test\.ts:\d+)(?=.*TCPSERVERWRAP)(?=.*TCPWRAP)/,
    })
    clearTimeout(timer)
    await client.closeAll()
    await origin.close()
  })
})

t.test('splits', async (t) => {
  const bytes = Buffer.from('abcd')
  const texts = (feeds: Iterable<Buffer[]>): string[] => Array.from(feeds, (pieces) => pieces.join('|'))
  t.same(texts(everySplit(bytes)), ['a|bcd', 'ab|cd', 'abc|d'])
  t.equal(byteByByte(bytes).join('|'), 'a|b|c|d')
  t.same(texts(randomSplits(bytes, 7, 5)), texts(randomSplits(bytes, 7, 5)))
  t.not(texts(randomSplits(bytes, 7, 5)).join(), texts(randomSplits(bytes, 8, 5)).join())
  for (const pieces of randomSplits(bytes, 3, 50)) t.equal(Buffer.concat(pieces).toString(), 'abcd')
  t.equal(
    sameHoweverSplit(bytes, (pieces) => Buffer.concat(pieces).toString()),
    'abcd',
  )
  t.throws(() => sameHoweverSplit(bytes, (pieces) => pieces.length), /split 1\+1\+1\+1 of "abcd": 4, whole: 1/)
  t.not(byteByByte(bytes)[0].buffer, bytes.buffer, 'pieces have memory of their own')
})

t.test('fuzz', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'headgate-fuzz-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const inputs = [Buffer.from('GET / HTTP/1.1\r\nHost: a\r\n\r\n')]
  t.test('the same seed gives the same inputs, and every kind of mutation comes up', async (t) => {
    const run = (seed: number): string[] => {
      const random = seeded(seed)
      return Array.from({ length: 300 }, () => mutate(inputs, random)).map(
        (m) => `${m.trail} ${m.bytes.toString('latin1')}`,
      )
    }
    t.same(run(1), run(1))
    t.strictNotSame(run(1), run(2))
    const trails = new Set(run(3).flatMap((line) => line.split(' GET')[0].split(',')))
    t.ok(trails.size >= 9)
  })
  t.test('a finding is stored, and is replayed from then on', async (t) => {
    const check = (bytes: Buffer): void => {
      if (bytes.includes('\0')) throw new Error('NUL')
    }
    const options = { target: 'self', inputs, seed: 4, runs: 5_000, check, folder }
    const first = fuzz(options)
    t.ok(first.findings.length > 0)
    t.ok(readFileSync(first.findings[0].file).includes('\0'))
    t.equal(readCorpus('self', folder).length, new Set(first.findings.map((f) => f.file)).size)
    const replay = fuzz({ ...options, runs: 0 })
    t.same(replay.findings[0].trail, ['corpus'])
    t.same(fuzz({ ...options, check: () => {}, runs: 10 }).findings, [])
    t.same(readCorpus('nowhere', folder), [])
  })
})

t.test('the reader of llhttp cases', async (t) => {
  t.test('understands line ends, continuations and escapes', async (t) => {
    const text =
      '## A title\n\n<!-- meta={"type": "request-lenient-x"} -->\n```http\nGET / \\\nHTTP/1.1\nA: \\t\\x41\\101\\r\\n\n\n\n```\n\n```log\noff=0 message complete\noff=1 error code=10 reason="Bad"\n```\n'
    const [only] = parseCases('f.md', text)
    t.match(only, { file: 'f.md', title: 'A title', lenient: true, expectError: true, reason: 'Bad', completed: 1 })
    t.equal(only.bytes.toString('latin1'), 'GET / HTTP/1.1\r\nA: \tAA\r\n\r\n\r\n')
    t.throws(() => parseCases('f.md', '```http\nGET\n```\n'), /without a log/)
    t.throws(() => parseCases('f.md', '```log\nx\n```\n'), /without a request/)
  })
  const skip = haveLlhttpCases() ? false : 'SKIPPED: the llhttp cases do not lie beside this checkout'
  t.test('reads every block of the files, with the bytes where the logs say they are', { skip }, async (t) => {
    const cases = readLlhttpCases()
    t.equal(cases.length, 153)
    t.equal(cases.filter((c) => c.lenient).length, 29)
    for (const c of cases) {
      for (const span of c.spans) {
        const at = c.bytes.subarray(span.offset, span.offset + span.bytes.length)
        if (!at.equals(span.bytes)) t.fail(`${c.file} ${c.title}: ${span.offset} ${span.bytes} is ${at}`)
      }
    }
    t.ok(cases.filter((c) => c.expectError && !c.lenient).length > 40)
  })
})

t.test('ByteStream refuses two reads at once', async (t) => {
  let accepted: Socket | undefined
  const server = createServer((socket) => {
    accepted = socket
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const client = new WireClient()
  const wire = await client.connect((server.address() as { port: number }).port)
  const stream: ByteStream = wire.stream
  const first = stream.more('one')
  t.throws(() => stream.more('two'), /two reads at once/)
  await client.closeAll()
  t.equal(await first, false)
  accepted?.destroy()
  server.close()
})
