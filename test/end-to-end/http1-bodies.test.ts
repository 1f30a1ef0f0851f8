import { createHash, type Hash } from 'node:crypto'
import t from 'tap'
import { settle, TestClock } from '../support/clock.ts'
import { fieldValues } from '../support/http1-message.ts'
import { Origin, type OriginScript } from '../support/origin.ts'
import { seeded } from '../support/random.ts'
import { upstreamOptions } from './bootstrap.ts'
import { get, post, setup } from './setup.ts'

const MIB = 1 << 20
const WS = ['connection: Upgrade', 'upgrade: websocket']
const ENABLE_WS = { upgrade_configs: [{ upgrade_type: 'websocket' }] }

/** Bytes that differ everywhere, so that a lost, doubled or swapped piece shows. */
const block = seeded(7).bytes(MIB)

function blockAt(i: number): Buffer {
  const copy = Buffer.from(block)
  copy.writeUInt32BE(i)
  return copy
}

function hashOfBlocks(count: number): string {
  const hash = createHash('sha256')
  for (let i = 0; i < count; i++) hash.update(blockAt(i))
  return hash.digest('hex')
}

t.test('bodies of known length keep it, chunked ones are chunked anew, in both directions', async (t) => {
  const { origin, connect, finish } = await setup(t, {
    origin: async (request, reply) => {
      const { bytes } = await request.body
      if (request.target === '/chunked') await reply.send({ chunks: [bytes.subarray(0, 2), bytes.subarray(2)] })
      else await reply.send({ body: bytes })
    },
  })
  const wire = await connect()
  const known = await wire.exchange(post('hello'))
  t.equal(known.get('content-length'), '5')
  t.equal(known.text(), 'hello')
  const chunked = await wire.exchange(
    'POST /chunked HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3;ext=1\r\nabc\r\n2\r\nde\r\n0\r\n\r\n',
  )
  t.equal(chunked.framing, 'chunked')
  t.equal(chunked.get('content-length'), undefined)
  t.equal(chunked.text(), 'abcde')
  const [first, second] = origin.requests
  t.equal(first.get('content-length'), '5')
  t.equal(first.get('transfer-encoding'), undefined)
  t.equal(second.get('transfer-encoding'), 'chunked')
  t.equal(second.get('content-length'), undefined)
  t.equal((await second.body).bytes.toString(), 'abcde')
  const empty = await wire.exchange('POST / HTTP/1.1\r\nhost: a\r\n\r\n')
  t.equal(empty.status, 200)
  t.equal(origin.requests[2].get('content-length'), '0', 'a POST without a body says so')
  t.equal((await wire.exchange(get())).status, 200)
  t.equal(origin.requests[3].get('content-length'), undefined, 'a GET does not')
  t.same(
    (await finish()).map((line) => [line.received, line.sent]),
    [
      [5, 5],
      [5, 5],
      [0, 0],
      [0, 0],
    ],
  )
})

const withTrailers: OriginScript = async (request, reply) => {
  await request.body
  await reply.send({ chunks: ['hello'], trailers: [['x-sum', '2']] })
}
const TRAILED = 'POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 1\r\n\r\n'

t.test('trailers are dropped by default', async (t) => {
  const { origin, connect } = await setup(t, { origin: withTrailers })
  const wire = await connect()
  const response = await wire.exchange(TRAILED)
  t.equal(response.text(), 'hello')
  t.same(response.trailers, [])
  t.same((await origin.requests[0].body).trailers, [])
  t.equal((await wire.exchange(get())).clean, true, 'the connection goes on')
})

t.test('trailers pass where both sides enable them', async (t) => {
  const { origin, connect } = await setup(t, {
    origin: withTrailers,
    hcm: { http_protocol_options: { enable_trailers: true } },
    cluster: upstreamOptions({}, { enable_trailers: true }),
  })
  const wire = await connect()
  const response = await wire.exchange(TRAILED)
  t.same(response.trailers, [['x-sum', '2']])
  t.same((await origin.requests[0].body).trailers, [['x-sum', '1']])
})

t.test('100-continue is answered by us, before the origin has said anything', async (t) => {
  const { origin, connect } = await setup(t)
  const wire = await connect()
  await wire.write('POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\n')
  const interim = await wire.readResponse({ interim: true })
  t.equal(interim.status, 100)
  const response = await wire.exchange('hello')
  t.equal(response.text(), 'hello')
  t.same(response.informational, [])
  t.equal(origin.requests[0].get('expect'), undefined)
})

t.test('with proxy_100_continue the origin decides', async (t) => {
  const { origin, connect } = await setup(t, {
    hcm: { proxy_100_continue: true },
    origin: async (request, reply) => {
      if (request.target === '/no') {
        await reply.send({ status: 403, body: 'no', close: true })
        reply.close()
        return
      }
      await reply.inform(100)
      const { bytes } = await request.body
      await reply.send({ body: bytes })
    },
  })
  const wire = await connect()
  await wire.write('POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\n')
  t.equal((await wire.readResponse({ interim: true })).status, 100)
  t.equal(origin.requests[0].get('expect'), '100-continue')
  t.equal((await wire.exchange('hello')).text(), 'hello')
  await wire.write('POST /no HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\n')
  const refused = await wire.readResponse({ interim: true })
  t.equal(refused.status, 403)
  t.equal(refused.text(), 'no')
  t.equal(await wire.expectEnd(), 'fin', 'nobody can tell whether a body or a request would follow')
})

t.test('HEAD, 204 and 304 have no body, and the connections go on', async (t) => {
  const { origin, connect } = await setup(t, {
    origin: async (request, reply) => {
      await request.body
      if (request.target === '/204') await reply.send({ status: 204 })
      else if (request.target === '/304') {
        await reply.send({
          status: 304,
          fields: [
            ['content-length', '10'],
            ['etag', '"x"'],
          ],
        })
      } else await reply.send({ body: 'hello' })
    },
  })
  const wire = await connect()
  const head = await wire.exchange('HEAD / HTTP/1.1\r\nhost: a\r\n\r\n', { method: 'HEAD' })
  t.equal(head.get('content-length'), '5')
  t.equal(head.get('transfer-encoding'), undefined)
  const empty = await wire.exchange(get('/204'))
  t.equal(empty.status, 204)
  t.equal(empty.get('content-length'), undefined)
  t.equal(empty.get('transfer-encoding'), undefined)
  const unchanged = await wire.exchange(get('/304'))
  t.equal(unchanged.status, 304)
  t.equal(unchanged.get('content-length'), '10')
  t.equal((await wire.exchange(get())).text(), 'hello')
  t.equal(origin.connections, 1)
})

t.test('HTTP/1.0 is refused with 426 unless it is allowed', async (t) => {
  const { origin, connect, gateway } = await setup(t)
  const wire = await connect()
  const response = await wire.exchange('GET / HTTP/1.0\r\nhost: a\r\n\r\n')
  t.equal(response.status, 426)
  t.equal(response.get('connection'), 'close')
  t.equal(await wire.expectEnd(), 'fin')
  t.equal(origin.requests.length, 0)
  t.equal(gateway.stat('http.test.downstream_rq_http1_0_total'), 1)
})

t.test('HTTP/1.0 that is allowed: closed by default, kept on request, never chunked', async (t) => {
  const { origin, connect } = await setup(t, {
    hcm: { http_protocol_options: { accept_http_10: true, default_host_for_http_10: 'default.example' } },
    origin: async (request, reply) => {
      await request.body
      if (request.target === '/chunked') {
        await reply.inform(103)
        await reply.send({ chunks: ['he', 'llo'] })
      } else await reply.send({ body: 'hello' })
    },
  })
  const plain = await connect()
  const closed = await plain.exchange('GET / HTTP/1.0\r\n\r\n')
  t.equal(closed.text(), 'hello')
  t.equal(closed.version, 'HTTP/1.1')
  t.equal(closed.get('connection'), 'close')
  t.equal(await plain.expectEnd(), 'fin')
  t.equal(origin.requests[0].get('host'), 'default.example')
  t.equal(origin.requests[0].version, 'HTTP/1.1')

  const kept = await connect()
  const first = await kept.exchange('GET / HTTP/1.0\r\nhost: a\r\nconnection: keep-alive\r\n\r\n')
  t.equal(first.get('connection'), 'keep-alive')
  t.equal(first.text(), 'hello')
  const second = await kept.exchange('GET /chunked HTTP/1.0\r\nhost: a\r\nconnection: keep-alive\r\n\r\n')
  t.equal(second.framing, 'close', 'without a length only the close can end it')
  t.equal(second.get('connection'), 'close')
  t.equal(second.text(), 'hello')
  t.equal(second.clean, true)
  t.same(second.informational, [], 'HTTP/1.0 knows no interim responses')
})

t.test('an HTTP/1.0 body that breaks off upstream is not ended cleanly', async (t) => {
  const { connect } = await setup(t, {
    hcm: { http_protocol_options: { accept_http_10: true } },
    origin: async (_, reply) => {
      await reply.write('HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n')
      await settle(5)
      reply.close()
    },
  })
  const wire = await connect()
  const response = await wire.exchange('GET / HTTP/1.0\r\nhost: a\r\n\r\n')
  t.equal(response.clean, false)
  t.equal(wire.stream.ending, 'reset')
})

/** Holds the first request until told to go on. */
function heldFirst(): { script: OriginScript; release: () => void } {
  let release = (): void => {}
  const held = new Promise<void>((resolve) => {
    release = resolve
  })
  return {
    release,
    script: async (request, reply) => {
      await request.body
      if (request.target === '/1') await held
      await reply.send({ body: `answer to ${request.target}` })
    },
  }
}

for (const [name, cuts] of [
  ['in one segment', []],
  ['in segments of their own', [41, 82, 123]],
  ['cut anywhere', [10, 60, 61, 100, 140]],
] as const) {
  t.test(`pipelined requests ${name} are answered in order, one at a time`, async (t) => {
    const { script, release } = heldFirst()
    const { origin, connect } = await setup(t, { origin: script })
    const wire = await connect()
    const targets = ['/1', '/2', '/3', '/4']
    const requests = targets.map((target) => get(target, 'x-p: 1')).join('')
    await wire.writeSplit(requests, cuts)
    await origin.seen(1)
    await settle(10)
    t.equal(origin.requests.length, 1, 'no other before the first is answered')
    release()
    for (const target of targets) t.equal((await wire.readResponse()).text(), `answer to ${target}`)
    t.same(
      origin.requests.map((r) => r.target),
      targets,
    )
    t.equal(origin.connections, 1)
  })
}

t.test('a request with a body behind a slow one is neither lost nor cut', async (t) => {
  const { script, release } = heldFirst()
  const { origin, connect } = await setup(t, { origin: script })
  const wire = await connect()
  await wire.write(get('/1'))
  await origin.seen(1)
  await wire.writeSplit(`${post('x'.repeat(1000))}${get('/3')}`, [50, 80, 300, 900])
  await settle(5)
  release()
  t.equal((await wire.readResponse()).text(), 'answer to /1')
  t.equal((await wire.readResponse()).text(), 'answer to /')
  t.equal((await wire.readResponse()).text(), 'answer to /3')
  t.equal((await origin.requests[1].body).bytes.length, 1000)
})

t.test('a pipelining client is not read without limit while it waits', async (t) => {
  const { script, release } = heldFirst()
  const { connect, origin } = await setup(t, { origin: script })
  const wire = await connect()
  await wire.write(get('/1'))
  await origin.seen(1)
  // What the kernel does not take any more shows that the gateway has stopped reading.
  const flood = Buffer.from(get('/x').repeat(20_000), 'latin1')
  let taken = 0
  for (let i = 0; i < 64; i++) {
    wire.socket.write(flood, () => {
      taken += flood.length
    })
  }
  await settle(200)
  t.ok(taken < 24 * MIB, `${taken} bytes were taken`)
  t.equal(origin.requests.length, 1)
  wire.reset()
  release()
})

t.test('sequential requests share one upstream connection, parallel ones do not', async (t) => {
  const { gateway, origin, connect } = await setup(t)
  const wire = await connect()
  for (let i = 0; i < 10; i++) t.equal((await wire.exchange(post(String(i)))).text(), String(i))
  t.equal(origin.connections, 1)
  t.equal(gateway.stat('cluster.origin.upstream_cx_total'), 1)
  t.equal(gateway.stat('cluster.origin.upstream_rq_total'), 10)
  t.equal(gateway.stat('http.test.downstream_cx_total'), 1)
  const others = await Promise.all([connect(), connect(), connect()])
  await Promise.all(others.map((other) => other.exchange(get())))
  t.ok(origin.connections <= 4)
  t.equal(gateway.stat('http.test.downstream_rq_total'), 13)
  t.equal(gateway.stat('http.test.downstream_rq_2xx'), 13)
})

t.test('Connection: close is kept to on each side by itself', async (t) => {
  const { origin, connect } = await setup(t, {
    origin: async (request, reply) => {
      await request.body
      await reply.send({ body: 'x', close: request.target === '/close' })
      if (reply.closing) reply.close()
    },
  })
  const wire = await connect()
  const upstreamCloses = await wire.exchange(get('/close'))
  t.equal(upstreamCloses.get('connection'), undefined, 'the origin closes its connection, we keep ours')
  t.equal((await wire.exchange(get('/2'))).text(), 'x')
  t.equal(origin.requests[1].connection, 2, 'a new connection upstream')
  const clientCloses = await wire.exchange(get('/3', 'connection: close'))
  t.equal(clientCloses.get('connection'), 'close')
  t.equal(await wire.expectEnd(), 'fin')
  t.equal(origin.requests[2].get('connection'), undefined)
  const other = await connect()
  await other.exchange(get('/4'))
  t.equal(origin.requests[3].connection, 2, 'the connection upstream outlived the client')
})

t.test('an early answer reaches the client while its upload goes on', async (t) => {
  const { origin, connect } = await setup(t, {
    origin: async (request, reply) => {
      await reply.write('HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n')
      await reply.chunk('early')
      const { bytes } = await request.body
      await reply.chunk(`got ${bytes.length}`)
      await reply.write('0\r\n\r\n')
    },
  })
  const wire = await connect()
  await wire.write('POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\n')
  await wire.write('x'.repeat(400))
  await wire.readUntil('early')
  await wire.write('x'.repeat(600))
  const { bytes } = { bytes: await wire.readUntil('0\r\n\r\n') }
  t.match(bytes.toString(), /got 1000/)
  const next = await wire.exchange(get('/next'))
  t.equal(next.clean, true, 'the connection goes on')
  t.equal(origin.requests[1].connection, 1, 'upstream too')
})

t.test('an early answer that ends before the upload does: complete, and the connections end', async (t) => {
  const { gateway, origin, connect } = await setup(t, {
    origin: {
      script: async (_, reply) => void (await reply.send({ status: 413, body: 'too much' })),
      readBodies: false,
    },
  })
  const wire = await connect()
  await wire.write('POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\npart')
  const response = await wire.readResponse()
  t.equal(response.status, 413)
  t.equal(response.text(), 'too much')
  t.equal(response.clean, true)
  // The client goes on sending for a while: it must be able to read the answer all the same.
  await wire.write('x'.repeat(5000))
  t.equal(await wire.expectEnd(), 'fin')
  await gateway.until(() => gateway.stat('cluster.origin.upstream_cx_active') === 0, 'end of the upstream connection')
  t.equal((await origin.requests[0].body).clean, false)
})

t.test('a client that does not read stops the origin; then every byte arrives (64 MiB)', async (t) => {
  const COUNT = 64
  let sent = 0
  const { gateway, connect } = await setup(t, {
    origin: async (_, reply) => {
      await reply.write(`HTTP/1.1 200 OK\r\ncontent-length: ${COUNT * MIB}\r\n\r\n`)
      for (let i = 0; i < COUNT; i++) {
        if (!(await reply.write(blockAt(i)))) return
        sent += MIB
      }
    },
  })
  const wire = await connect()
  wire.stream.hold()
  await wire.write(get())
  await gateway.until(() => gateway.stat('cluster.origin.upstream_rq_total') === 1, 'request upstream')
  let before = -1
  for (let quiet = 0; quiet < 20; quiet = sent === before ? quiet + 1 : 0) {
    before = sent
    await settle(20)
  }
  // Both kernels' buffers of two connections, and a little of our own.
  t.ok(sent < 32 * MIB, `${sent / MIB} MiB were taken from the origin`)
  wire.stream.release()
  const hash: Hash = createHash('sha256')
  const response = await wire.readResponse({ consume: (chunk) => void hash.update(chunk) })
  t.equal(response.clean, true)
  t.equal(hash.digest('hex'), hashOfBlocks(COUNT))
})

for (const framing of ['content-length', 'chunked'] as const) {
  t.test(`an origin that does not read stops the client; then every byte arrives (64 MiB, ${framing})`, async (t) => {
    const COUNT = 64
    let release = (): void => {}
    const held = new Promise<void>((resolve) => {
      release = resolve
    })
    const hash: Hash = createHash('sha256')
    const { origin, connect } = await setup(t, {
      origin: {
        readBodies: false,
        consume: () => (chunk) => void hash.update(chunk),
        script: async (request, reply) => {
          await held
          reply.readBody()
          const { clean } = await request.body
          await reply.send({ body: `${clean} ${hash.digest('hex')}` })
        },
      },
    })
    const wire = await connect()
    const length = framing === 'chunked' ? 'transfer-encoding: chunked' : `content-length: ${COUNT * MIB}`
    await wire.write(`POST / HTTP/1.1\r\nhost: a\r\n${length}\r\n\r\n`)
    let taken = 0
    const sending = (async () => {
      for (let i = 0; i < COUNT; i++) {
        if (framing === 'chunked') await wire.write(`${MIB.toString(16)}\r\n`)
        await wire.write(blockAt(i))
        if (framing === 'chunked') await wire.write('\r\n')
        taken += MIB
      }
      if (framing === 'chunked') await wire.write('0\r\n\r\n')
    })()
    await origin.seen(1)
    let before = -1
    for (let quiet = 0; quiet < 20; quiet = taken === before ? quiet + 1 : 0) {
      before = taken
      await settle(20)
    }
    t.ok(taken < 32 * MIB, `${taken / MIB} MiB were taken from the client`)
    release()
    await sending
    t.equal((await wire.readResponse()).text(), `true ${hashOfBlocks(COUNT)}`)
  })
}

t.test('a client that disappears within its request cancels it upstream', async (t) => {
  const { gateway, origin, connect, finish } = await setup(t)
  for (const how of ['reset', 'fin'] as const) {
    const wire = await connect()
    await wire.write('POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\nhalf')
    const count = how === 'reset' ? 1 : 2
    await origin.seen(count)
    if (how === 'reset') wire.reset()
    else wire.end()
    const body = await origin.requests[count - 1].body
    t.equal(body.clean, false, how)
    await gateway.until(() => gateway.stat('http.test.downstream_cx_active') === 0, 'end of the connection')
  }
  t.equal(gateway.stat('cluster.origin.upstream_cx_active'), 0)
  t.equal(gateway.stat('cluster.origin.upstream_rq_cancelled'), 2)
  for (const line of await finish()) {
    t.equal(line.flags, 'DC')
    t.equal(line.status, 0)
    t.equal(line.received, 4)
  }
})

t.test('a client that disappears while it waits, or within the response, cancels it upstream', async (t) => {
  const { gateway, origin, connect, finish } = await setup(t, {
    origin: async (request, reply) => {
      if (request.target === '/begun') await reply.write('HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf')
      await reply.stall()
    },
  })
  const waiting = await connect()
  await waiting.write(get('/waiting'))
  await origin.seen(1)
  waiting.reset()
  t.not(await origin.requests[0].ended, 'open')
  const begun = await connect()
  await begun.write(get('/begun'))
  await begun.readUntil('half')
  begun.end()
  t.not(await origin.requests[1].ended, 'open')
  await gateway.until(() => gateway.stat('http.test.downstream_cx_active') === 0, 'end of the connections')
  const lines = await finish()
  t.same(
    lines.map((line) => [line.path, line.status, line.flags]),
    [
      ['/waiting', 0, 'DC'],
      ['/begun', 200, 'DC'],
    ],
  )
})

t.test('an HTTP/1.0 client that half-closes never sees a cut body end cleanly', async (t) => {
  const { connect } = await setup(t, {
    hcm: { http_protocol_options: { accept_http_10: true } },
    origin: async (_, reply) => {
      await reply.write('HTTP/1.1 200 OK\r\n\r\nhalf')
      await reply.stall()
    },
  })
  const wire = await connect({ halfOpen: true })
  await wire.write('GET / HTTP/1.0\r\nhost: a\r\n\r\n')
  await wire.readUntil('half')
  wire.end()
  t.equal((await wire.readToEnd()).ending, 'reset')
})

for (const stalls of [false, true]) {
  const name = stalls ? 'stalls for good is cut off' : 'is slow gets all of it'
  t.test(`a reader of a last response that ${name}`, async (t) => {
    const SIZE = 12 * MIB
    const clock = new TestClock()
    const { gateway, connect } = await setup(t, {
      gateway: { clock },
      routeConfig: {
        max_direct_response_body_size_bytes: SIZE,
        virtual_hosts: [
          {
            name: 'all',
            domains: ['*'],
            routes: [
              {
                match: { prefix: '/' },
                direct_response: { status: 200, body: { inline_string: 'x'.repeat(SIZE) } },
              },
            ],
          },
        ],
      },
    })
    const wire = await connect()
    wire.stream.hold()
    await wire.write(get('/', 'connection: close'))
    await gateway.until(() => gateway.stat('http.test.downstream_rq_completed') === 1, 'response')
    if (stalls) {
      for (let i = 0; i < 400 && gateway.stat('http.test.downstream_cx_active') === 1; i++) {
        clock.advance(1_000)
        await settle(1)
      }
      t.equal(gateway.stat('http.test.downstream_cx_active'), 0, 'not for ever')
      wire.stream.release()
      t.equal((await wire.readToEnd()).ending, 'reset')
      return
    }
    // 1 MiB every 900 ms: longer than the delayed close in all, but never without progress for that long.
    wire.stream.release()
    await wire.readUntil('\r\n\r\n')
    let size = 0
    for (;;) {
      const chunk = await wire.stream.takeSome(MIB, 'body')
      if (chunk === undefined) break
      if (Math.floor(size / MIB) !== Math.floor((size + chunk.length) / MIB)) {
        wire.stream.hold()
        clock.advance(900)
        await settle(2)
        wire.stream.release()
      }
      size += chunk.length
    }
    t.equal(size, SIZE)
    t.equal(wire.stream.ending, 'fin')
  })
}

const echoTunnel: OriginScript = async (request, reply) => {
  if (request.target === '/plain') {
    await reply.send({ body: 'still HTTP' })
    return
  }
  const socket = reply.takeOver()
  await reply.write('HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: websocket\r\nx-a: b\r\n\r\nearly-down;')
  const held = reply.stream.take(reply.stream.buffered)
  if (held.length > 0) await reply.write(held)
  // The stream that gathers for scripts would stop reading at its limit.
  socket.removeAllListeners('data')
  socket.on('data', (chunk: Buffer) => {
    if (!socket.write(chunk)) socket.pause()
  })
  socket.on('drain', () => socket.resume())
  socket.on('end', () => socket.end('bye'))
}

t.test('a permitted upgrade becomes a tunnel: early bytes both ways, echo, half-close', async (t) => {
  const { gateway, origin, connect, finish } = await setup(t, { hcm: ENABLE_WS, origin: echoTunnel })
  const wire = await connect({ halfOpen: true })
  await wire.write(`${get('/chat', ...WS)}early-up;`)
  const response = await wire.readResponse({ interim: true })
  t.equal(response.status, 101)
  t.equal(response.get('upgrade'), 'websocket')
  t.equal(response.get('connection')?.toLowerCase(), 'upgrade')
  t.equal(response.get('x-a'), 'b')
  t.equal(response.get('content-length'), undefined)
  t.equal(response.get('transfer-encoding'), undefined)
  t.equal(origin.requests[0].get('upgrade'), 'websocket')
  t.equal(origin.requests[0].get('connection')?.toLowerCase(), 'upgrade')
  t.same(fieldValues(origin.requests[0].fields, 'content-length'), [])
  t.equal((await wire.readUntil('early-up;')).toString(), 'early-down;early-up;')
  await wire.write('GET / HTTP/1.1\r\n\r\n')
  t.equal((await wire.readUntil('\r\n\r\n')).toString(), 'GET / HTTP/1.1\r\n\r\n', 'bytes, not requests')
  wire.end()
  const { bytes, ending } = await wire.readToEnd()
  t.equal(bytes.toString(), 'bye', 'our FIN went through, and the other half went on')
  t.equal(ending, 'fin')
  await gateway.until(() => gateway.stat('http.test.downstream_cx_active') === 0, 'end of the tunnel')
  await gateway.until(() => gateway.stat('cluster.origin.upstream_cx_active') === 0, 'end upstream')
  const [line] = await finish()
  t.equal(line.status, 101)
  t.equal(line.received, 'early-up;GET / HTTP/1.1\r\n\r\n'.length)
  t.equal(line.sent, 'early-down;early-up;GET / HTTP/1.1\r\n\r\nbye'.length)
})

t.test('a tunnel carries 32 MiB each way, and ends upstream when the client resets', async (t) => {
  const { gateway, origin, connect } = await setup(t, { hcm: ENABLE_WS, origin: echoTunnel })
  const wire = await connect()
  await wire.write(get('/chat', ...WS))
  await wire.readUntil('early-down;')
  const sending = (async () => {
    for (let i = 0; i < 32; i++) await wire.write(blockAt(i))
  })()
  const hash = createHash('sha256')
  for (let left = 32 * MIB; left > 0; ) {
    const chunk = await wire.stream.takeSome(left, 'echo')
    if (chunk === undefined) break
    hash.update(chunk)
    left -= chunk.length
  }
  await sending
  t.equal(hash.digest('hex'), hashOfBlocks(32))
  wire.reset()
  await origin.until(() => origin.open === 0, 'end of the upstream connection')
  await gateway.until(() => gateway.stat('http.test.downstream_cx_active') === 0, 'end of the tunnel')
})

t.test('a 200 to an upgrade stays HTTP, and the bytes behind the request are never a request', async (t) => {
  const { origin, connect } = await setup(t, { hcm: ENABLE_WS, origin: echoTunnel })
  const wire = await connect()
  await wire.write(get('/plain', ...WS) + get('/plain'))
  const response = await wire.readResponse()
  t.equal(response.status, 200)
  t.equal(response.text(), 'still HTTP')
  t.equal(response.get('upgrade'), undefined)
  t.equal(response.get('connection'), 'close')
  t.equal(await wire.expectEnd(), 'fin')
  t.equal(origin.requests.length, 1)
})

t.test('a 101 with another protocol than was asked for is refused', async (t) => {
  const { connect } = await setup(t, {
    hcm: ENABLE_WS,
    origin: async (_, reply) => {
      await reply.write('HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: other\r\n\r\n')
      await reply.stall()
    },
  })
  const wire = await connect()
  t.equal((await wire.exchange(get('/', ...WS))).status, 502)
})

t.test('an upgrade is refused unless enabled; a route may enable or disable it', async (t) => {
  const { origin, connect } = await setup(t, {
    hcm: { upgrade_configs: [{ upgrade_type: 'websocket' }, { upgrade_type: 'off', enabled: false }] },
    routes: [
      {
        match: { prefix: '/no' },
        route: { cluster: 'origin', upgrade_configs: [{ upgrade_type: 'websocket', enabled: false }] },
      },
      { match: { prefix: '/yes' }, route: { cluster: 'origin', upgrade_configs: [{ upgrade_type: 'off' }] } },
      { match: { prefix: '/' }, route: { cluster: 'origin' } },
    ],
    origin: async (request, reply) => {
      const socket = reply.takeOver()
      await reply.write(`HTTP/1.1 101 S\r\nconnection: upgrade\r\nupgrade: ${request.get('upgrade')}\r\n\r\n`)
      socket.on('end', () => socket.end())
    },
  })
  for (const refused of [
    get('/no', ...WS),
    get('/', 'connection: upgrade', 'upgrade: off'),
    get('/', 'connection: upgrade', 'upgrade: websocket, h2c'),
  ]) {
    const response = await (await connect()).exchange(refused)
    t.equal(response.status, 403)
    t.equal(response.get('connection'), 'close')
  }
  t.equal(origin.requests.length, 0)
  const wire2 = await connect()
  t.equal((await wire2.exchange(get('/yes', 'connection: upgrade', 'upgrade: OFF'), { interim: true })).status, 101)
  const wire3 = await connect()
  t.equal((await wire3.exchange(get('/', ...WS), { interim: true })).status, 101)
})

t.test('CONNECT becomes a tunnel only where a route takes it, and only after a 2xx', async (t) => {
  const { origin, connect } = await setup(t, {
    hcm: { upgrade_configs: [{ upgrade_type: 'CONNECT' }] },
    routes: [{ match: { connect_matcher: {} }, route: { cluster: 'origin' } }],
    origin: async (request, reply) => {
      if (request.get('x-no') !== undefined) {
        await reply.send({ status: 407, body: 'who?' })
        return
      }
      const socket = reply.takeOver()
      await reply.write('HTTP/1.1 200 Established\r\n\r\n')
      const held = reply.stream.take(reply.stream.buffered)
      if (held.length > 0) socket.write(held)
      socket.on('data', (chunk: Buffer) => void socket.write(chunk))
      socket.on('end', () => socket.end())
    },
  })
  const head = 'CONNECT a.example:443 HTTP/1.1\r\nhost: a.example:443\r\n'
  const first = await connect()
  const no = await first.exchange(`${head}x-no: 1\r\n\r\nbytes of no tunnel`, { method: 'CONNECT' })
  t.equal(no.status, 407)
  t.equal(no.text(), 'who?')
  t.equal(no.get('connection'), 'close')
  t.equal(await first.expectEnd(), 'fin', 'what follows is no request')
  const wire = await connect({ halfOpen: true })
  await wire.write(`${head}\r\nearly`)
  const yes = await wire.readResponse({ method: 'CONNECT' })
  t.equal(yes.status, 200)
  t.equal(yes.get('transfer-encoding'), undefined)
  t.equal(yes.get('content-length'), undefined)
  t.equal(origin.requests[1].target, 'a.example:443')
  t.equal(origin.requests[1].get('host'), 'a.example:443')
  t.equal(origin.requests[1].get('connection'), undefined)
  t.equal((await wire.readBytes(5)).toString(), 'early')
  wire.end()
  t.equal(await wire.expectEnd(), 'fin')
})

t.test('header names are lower-case by default, and keep their case where that is asked for', async (t) => {
  const preserve = {
    header_key_format: {
      stateful_formatter: {
        name: 'preserve_case',
        typed_config: {
          '@type':
            'type.googleapis.com/envoy.extensions.http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig',
        },
      },
    },
  }
  const script: OriginScript = async (request, reply) => {
    await request.body
    await reply.write('HTTP/1.1 200 OK\r\nX-MixEd: 1\r\nContent-Length: 0\r\n\r\n')
  }
  const lower = await setup(t, { origin: script })
  const kept = await setup(t, {
    origin: script,
    hcm: { http_protocol_options: preserve },
    cluster: upstreamOptions({}, preserve),
  })
  for (const [s, name] of [
    [lower, 'x-mixed'],
    [kept, 'X-MixEd'],
  ] as const) {
    const wire = await s.connect()
    const response = await wire.exchange('GET / HTTP/1.1\r\nHost: a\r\nX-MixEd: 1\r\n\r\n')
    t.ok(response.fields.some((f) => f[0] === name))
    t.ok(s.origin.requests[0].fields.some((f) => f[0] === name))
  }
})

t.test('what an origin sends before it is asked is never taken for an answer', async (t) => {
  const evil = await Origin.start({
    onConnection: (socket) => void socket.write('HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil'),
    script: async (_, reply) => void (await reply.send({ body: 'good' })),
  })
  t.teardown(() => evil.close())
  const { connect } = await setup(t, {
    clusters: [
      {
        name: 'evil',
        type: 'STATIC',
        load_assignment: {
          cluster_name: 'evil',
          endpoints: [
            {
              lb_endpoints: [
                { endpoint: { address: { socket_address: { address: '127.0.0.1', port_value: evil.port } } } },
              ],
            },
          ],
        },
      },
    ],
    routes: [{ match: { prefix: '/' }, route: { cluster: 'evil' } }],
  })
  const wire = await connect()
  const first = await wire.exchange(get('/1'))
  // Nobody can tell an answer that came too early from one in time on a new connection; a second one must not follow.
  t.equal(first.clean, true)
  const second = await wire.exchange(get('/2'))
  t.equal(second.clean, true)
  t.equal(evil.connections, 2, 'no connection that said more than it was asked serves again')
})
