import t from 'tap'
import type { Attempt, UpstreamEvents } from '../../lib/core/attempt.ts'
import { FAILURES } from '../../lib/core/failure.ts'
import { type Leases, RoomWait, type SlotLease } from '../../lib/core/lease.ts'
import { LocalLeases } from '../../lib/core/local-leases.ts'
import { openLater } from '../../lib/upstream/auto-stream.ts'
import { upstreamOptions } from '../end-to-end/bootstrap.ts'
import { get, post, setup } from '../end-to-end/setup.ts'
import { settle, TestClock } from '../support/clock.ts'
import type { OriginScript } from '../support/origin.ts'
import { RelayedLease } from '../support/relayed-lease.ts'
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

t.test('a client that leaves behind a body that waited for its connection is missed', async (t) => {
  for (const trailers of ['', 'x-last: 1\r\n']) {
    const { script, release } = held()
    t.teardown(release)
    const hcm = { http_protocol_options: { enable_trailers: true } }
    const { gateway, origin, connect } = await setup(t, { origin: script, hcm })
    const wire = await connect()
    const head = 'POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n'
    await wire.write(`${head}3\r\nabc\r\n2\r\nde\r\n0\r\n${trailers}\r\n`)
    await origin.seen(1)
    wire.reset()
    await gateway.until(() => gateway.stat('http.test.downstream_rq_active') === 0, 'end of the exchange')
    await gateway.until(() => gateway.stat('cluster.origin.upstream_rq_active') === 0, 'end of the attempt')
    t.equal(gateway.stat('cluster.origin.upstream_rq_cancelled'), 1)
  }
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

/** Leases of which one limit is larger once somebody has asked: so much lay unused in other processes. */
class Elsewhere implements Leases {
  readonly #key: string
  readonly #more: number
  readonly local = new LocalLeases(new TestClock())
  readonly tokens = this.local.tokens.bind(this.local)
  asked = 0
  #answer: Promise<void> | undefined = undefined
  /** Tells those that asked; undefined: nobody has. */
  tell: (() => void) | undefined = undefined

  constructor(resource: 'rq' | 'cx', more: number) {
    this.#key = `cluster.web.default.${resource}`
    this.#more = more
  }

  slots(key: string, limit: number): SlotLease {
    const lease = this.local.slots(key, limit)
    if (key !== this.#key) return lease
    return Object.assign(new RelayedLease(lease), {
      ask: () => {
        if (lease.remaining > 0) return undefined
        this.asked++
        this.#answer ??= new Promise<void>((resolve) => {
          this.tell = () => {
            this.local.slots(key, lease.limit + this.#more)[Symbol.dispose]()
            resolve()
          }
        })
        return this.#answer
      },
    })
  }
}

t.test('a request to a host that has connections waits for room that other processes may have', async (t) => {
  const { script, release } = held()
  const { origin } = await setup(t, { origin: script })
  const leases = new Elsewhere('rq', 1)
  const { call, stat } = await lab(t, {
    port: origin.port,
    cluster: { protocol: 'http1' },
    limits: { maxRequests: 1 },
    leases,
  })
  const [first, second] = [call({ path: '/1' }), call({ path: '/2' })]
  await origin.seen(1)
  t.equal(leases.asked, 1)
  t.equal(second.failure, undefined, 'it is not refused before there is an answer')
  leases.tell?.()
  await origin.seen(2)
  release()
  release()
  await until(() => first.over && second.over, 'the answers')
  t.same([first.text, second.text], ['/1', '/2'])
  t.equal(stat('upstream_rq_pending_overflow'), 0)
})

t.test('all who wait get connections when the gateway has room for them', async (t) => {
  const { script, release } = held()
  const { origin } = await setup(t, { origin: script })
  const leases = new Elsewhere('cx', 2)
  const { call, stat } = await lab(t, {
    port: origin.port,
    cluster: { protocol: 'http1' },
    limits: { maxConnections: 1 },
    leases,
  })
  const calls = ['/1', '/2', '/3'].map((path) => call({ path }))
  await origin.seen(1)
  leases.tell?.()
  await origin.seen(3)
  t.equal(origin.connections, 3)
  for (let i = 0; i < 3; i++) release()
  await until(() => calls.every(({ over }) => over), 'the answers')
  t.equal(stat('upstream_cx_overflow'), 0)
})

t.test('who has waited for room while the cluster ended is served, and nothing is kept for later', async (t) => {
  const { script, release } = held()
  const { origin } = await setup(t, { origin: script })
  const leases = new Elsewhere('rq', 1)
  const { call, cluster, wheel } = await lab(t, {
    port: origin.port,
    cluster: { protocol: 'http1' },
    limits: { maxRequests: 1 },
    leases,
  })
  const [first, second] = [call({ path: '/1' }), call({ path: '/2' })]
  await origin.seen(1)
  cluster.retire()
  release()
  await until(() => first.over, 'the first answer')
  leases.tell?.()
  await origin.seen(2)
  release()
  await until(() => second.over, 'the second answer')
  await until(() => wheel.armed === 0, 'end of its connection, which is for nobody else')
  t.equal(second.text, '/2', 'as a choice that was made just before the end, it is served')
})

t.test('who has waited for room does not begin on a cluster that was destroyed meanwhile', async (t) => {
  const { script } = held()
  const { origin } = await setup(t, { origin: script })
  const leases = new Elsewhere('rq', 1)
  const { call, cluster } = await lab(t, {
    port: origin.port,
    cluster: { protocol: 'http1' },
    limits: { maxRequests: 1 },
    leases,
  })
  const [first, second] = [call({ path: '/1' }), call({ path: '/2' })]
  await origin.seen(1)
  leases.tell?.()
  cluster.destroy()
  await until(() => first.over && second.over, 'the end of both')
  t.equal(second.failure?.reason, FAILURES.noHealthyHost.reason)
  t.equal(origin.requests.length, 1)
})

t.test('what is asked of a cluster for the first time after its end holds no room for good', async (t) => {
  const { origin } = await setup(t)
  const leases = new LocalLeases(new TestClock())
  const { call, cluster, host } = await lab(t, { port: origin.port, cluster: { protocol: 'http1' }, leases })
  const chosen = host()
  cluster.retire()
  const late = call({ host: chosen })
  await until(() => late.over, 'the answer')
  t.equal(late.status, 200)
  await until(() => leases.size === 0, 'end of the limits')
})

/** Leases whose limit on connections grows to `more` once the one answer comes. */
class ElsewhereConnections implements Leases {
  readonly local = new LocalLeases(new TestClock())
  readonly tokens = this.local.tokens.bind(this.local)
  tell: (() => void) | undefined = undefined
  readonly #more: number

  constructor(more: number) {
    this.#more = more
  }

  slots(key: string, limit: number): SlotLease {
    const lease = this.local.slots(key, limit)
    if (key !== 'cluster.web.default.cx') return lease
    const { promise, resolve } = Promise.withResolvers<void>()
    this.tell = () => {
      this.local.slots(key, this.#more)[Symbol.dispose]()
      resolve()
    }
    return Object.assign(new RelayedLease(lease), {
      ask: () => (lease.limit === this.#more ? undefined : promise),
    })
  }
}

t.test('all that wait for connections get theirs when the gateway has room for as many', async (t) => {
  const { script, release } = held()
  const { origin } = await setup(t, { origin: script })
  const leases = new ElsewhereConnections(3)
  const limits = { maxConnections: 1 }
  const { call } = await lab(t, { port: origin.port, cluster: { protocol: 'http1' }, limits, leases })
  const calls = [1, 2, 3, 4].map((i) => call({ path: `/${i}` }))
  await origin.seen(1)
  t.equal(origin.connections, 1)
  leases.tell?.()
  await origin.seen(3)
  t.equal(origin.connections, 3, 'none of them waits for the first to be answered')
  for (let i = 0; i < 4; i++) release()
  await until(() => calls.every(({ over }) => over), 'the answers')
  t.equal(origin.connections, 3)
})

t.test('what is written while a request waits for room is counted as kept', async (t) => {
  const { promise, resolve } = Promise.withResolvers<void>()
  const stream = openLater(new RoomWait(promise, []), {} as Attempt, {} as UpstreamEvents, { open: () => undefined })
  t.equal(stream.write(Buffer.from('01234'), false), false)
  stream.write(Buffer.from('56789'), true)
  t.equal(stream.pendingBytes, 10)
  resolve()
  await settle()
  t.equal(stream.pendingBytes, undefined, 'it has gone on')
})
