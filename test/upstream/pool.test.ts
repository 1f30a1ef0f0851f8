import t from 'tap'
import { upstreamOptions } from '../end-to-end/bootstrap.ts'
import { get, post, setup } from '../end-to-end/setup.ts'
import { settle } from '../support/clock.ts'
import type { OriginScript } from '../support/origin.ts'
import { lab, until } from './http2-lab.ts'

/** The connection pool of one host, seen from both of its sides. */

interface Held {
  readonly script: OriginScript
  /** Answers the oldest request that waits. */
  release(): void
}

function held(answer: 'keep' | 'close' = 'keep'): Held {
  const waiting: (() => void)[] = []
  /** Released before it had read its body. */
  let early = 0
  return {
    release: () => {
      const next = waiting.shift()
      if (next === undefined) early++
      else next()
    },
    script: async (request, reply) => {
      await request.body
      if (early > 0) early--
      else await new Promise<void>((resolve) => waiting.push(resolve))
      await reply.send({ body: request.target, close: answer === 'close' })
      if (answer === 'close') reply.close()
    },
  }
}

t.test('the connection that rested last serves first', async (t) => {
  const { script, release } = held()
  const { origin, connect } = await setup(t, { origin: script })
  const wires = [await connect(), await connect(), await connect()]
  for (const [i, wire] of wires.entries()) {
    await wire.write(get(`/${i}`))
    await origin.seen(i + 1)
  }
  t.equal(origin.connections, 3)
  for (const wire of wires) {
    release()
    await wire.readResponse()
  }
  for (let i = 0; i < 3; i++) {
    await wires[0].write(get('/again'))
    await origin.seen(4 + i)
    release()
    await wires[0].readResponse()
  }
  t.same(
    origin.requests.slice(3).map((request) => request.connection),
    [3, 3, 3],
  )
  t.equal(origin.connections, 3)
})

t.test('who waits for a connection that ends gets a new one', async (t) => {
  const { script, release } = held('close')
  const { gateway, origin, connect } = await setup(t, {
    origin: script,
    cluster: { circuit_breakers: { thresholds: [{ max_connections: 1 }] } },
  })
  const wires = [await connect(), await connect(), await connect()]
  for (const [i, wire] of wires.entries()) {
    await wire.write(get(`/${i}`))
    if (i === 0) await origin.seen(1)
    else await gateway.until(() => gateway.stat('cluster.origin.upstream_rq_pending_active') === i, 'a place in line')
  }
  for (const [i, wire] of wires.entries()) {
    await origin.seen(i + 1)
    release()
    t.equal((await wire.readResponse()).text(), `/${i}`)
  }
  t.same(
    origin.requests.map((request) => request.connection),
    [1, 2, 3],
  )
  await gateway.until(() => gateway.stat('cluster.origin.upstream_cx_active') === 0, 'end of the last')
})

t.test('who waits behind the last request that a connection serves gets a new one', async (t) => {
  const { script, release } = held()
  const { gateway, origin, connect } = await setup(t, {
    origin: script,
    cluster: {
      circuit_breakers: { thresholds: [{ max_connections: 1 }] },
      ...upstreamOptions({ max_requests_per_connection: 1 }),
    },
  })
  const [first, second] = [await connect(), await connect()]
  await first.write(get('/1'))
  await origin.seen(1)
  await second.write(get('/2'))
  await gateway.until(() => gateway.stat('cluster.origin.upstream_rq_pending_active') === 1, 'a place in line')
  release()
  t.equal((await first.readResponse()).text(), '/1')
  await origin.seen(2)
  release()
  t.equal((await second.readResponse()).text(), '/2')
  t.equal(origin.requests[1].connection, 2)
})

t.test('connections per host have a limit of their own', async (t) => {
  const { script, release } = held()
  const { gateway, origin, connect } = await setup(t, {
    origin: script,
    cluster: { circuit_breakers: { per_host_thresholds: [{ max_connections: 2 }] } },
  })
  const wires = [await connect(), await connect(), await connect()]
  await Promise.all(wires.map((wire, i) => wire.write(get(`/${i}`))))
  await origin.seen(2)
  await gateway.until(() => gateway.stat('cluster.origin.upstream_rq_pending_active') === 1, 'one that waits')
  t.equal(origin.connections, 2)
  for (let i = 1; i <= 3; i++) {
    release()
    await origin.seen(Math.min(3, 2 + i))
  }
  const texts = await Promise.all(wires.map(async (wire) => (await wire.readResponse()).text()))
  t.same(texts, ['/0', '/1', '/2'])
  t.equal(origin.connections, 2)
})

t.test('a connection whose request was given up while it was made serves the next one', async (t) => {
  const { gateway, origin, connect } = await setup(t)
  const gone = await connect()
  void gone.write(get('/gone'))
  gone.reset()
  await gateway.until(() => gateway.stat('http.test.downstream_cx_active') === 0, 'end of the client')
  const wire = await connect()
  t.equal((await wire.exchange(post('hello'))).text(), 'hello')
  await gateway.until(() => gateway.stat('cluster.origin.upstream_rq_active') === 0, 'no request')
  t.equal(gateway.stat('cluster.origin.upstream_rq_pending_active'), 0)
  t.ok(origin.connections <= 2)
})

t.test('a body that begins before there is a connection waits, whole and in order', async (t) => {
  const { origin, connect } = await setup(t)
  const wire = await connect()
  const body = Array.from({ length: 5_000 }, (_, i) => `${i};`).join('')
  await wire.writeSplit(post(body), [20, 60, 90, 100, 1_000, 1_001, 20_000])
  t.equal((await wire.readResponse()).text(), body)
  t.equal(origin.requests.length, 1)
  await wire.writeSplit(
    `POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n${body.length.toString(16)}\r\n${body}\r\n0\r\n\r\n`,
    [10, 70, 77, 78, 79, 80, 5_000],
  )
  t.equal((await wire.readResponse()).text(), body)
})

t.test('what is written as soon as there is a connection goes out behind the head', async (t) => {
  const { origin } = await setup(t)
  const { call } = await lab(t, { port: origin.port, cluster: { protocol: 'http1' } })
  const early = call({ method: 'POST', body: 'streamed', headers: ['content-length', '5'] })
  early.whenConnected = () => {
    early.stream?.write(Buffer.from('he'), false)
    early.stream?.write(Buffer.from('llo'), true)
  }
  await until(() => early.over, 'the answer')
  t.equal(early.status, 200)
  t.equal(early.text, 'hello')
  t.equal(origin.requests.length, 1)
  t.same(origin.violations, [])
})

t.test('a response that is complete before its request costs the connection', async (t) => {
  const { gateway, origin, connect } = await setup(t, {
    origin: {
      readBodies: false,
      script: async (_, reply) => void (await reply.send({ body: 'enough' })),
    },
  })
  const wire = await connect()
  await wire.write('POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhalf')
  t.equal((await wire.readResponse()).text(), 'enough')
  await settle(5)
  await gateway.until(() => gateway.stat('cluster.origin.upstream_cx_active') === 0, 'end of the connection')
  const next = await connect()
  t.equal((await next.exchange(get())).text(), 'enough')
  t.equal(origin.connections, 2)
})
