import t, { type Test } from 'tap'
import { Origin, type OriginScript } from '../support/origin.ts'
import type { Wire } from '../support/wire.ts'
import { cluster, type Fields } from './bootstrap.ts'
import { get, type Setup, setup } from './setup.ts'

/** Limits of clusters over real sockets: pools, connections of one host, and what the runtime says of each. */

interface Held {
  readonly script: OriginScript
  /** Answers what waits, and whatever comes. */
  release(): void
}

/** Holds `/held` back. */
function holding(name: string): Held {
  const { promise, resolve } = Promise.withResolvers<void>()
  return {
    script: async (request, reply) => {
      if (request.target.startsWith('/held')) await promise
      await reply.send({ body: name })
    },
    release: resolve,
  }
}

interface Hosts {
  readonly s: Setup
  readonly origins: readonly Origin[]
  release(): void
  /** Sends a request and leaves it at the host. */
  hold(): Promise<Wire>
  ask(): Promise<string>
  stat(name: string): number
}

/** A cluster `many` of so many hosts, in turns. */
async function hosts(t: Test, count: number, fields: Fields, runtime?: Fields): Promise<Hosts> {
  const held = Array.from({ length: count }, (_, i) => holding(`${i}`))
  const origins = await Promise.all(held.map(({ script }) => Origin.start(script)))
  t.teardown(() => Promise.all(origins.map((origin) => origin.close())))
  const s = await setup(t, {
    clusters: [
      cluster(
        'many',
        origins.map(({ port }) => port),
        fields,
      ),
    ],
    routes: [{ match: { prefix: '/' }, route: { cluster: 'many', timeout: '0s' } }],
    ...(runtime && { runtime }),
  })
  const seen = (): number => origins.reduce((sum, { requests }) => sum + requests.length, 0)
  return {
    s,
    origins,
    release: () => {
      for (const one of held) one.release()
    },
    hold: async () => {
      const before = seen()
      const wire = await s.connect()
      await wire.write(get('/held'))
      while (seen() === before) await new Promise(setImmediate)
      return wire
    },
    ask: async () => {
      const wire = await s.connect()
      const response = await wire.exchange(get())
      await wire.close()
      return response.status === 200 ? response.text() : String(response.status)
    },
    stat: (name) => s.gateway.stat(`cluster.many.${name}`),
  }
}

const limits = (fields: Fields): Fields => ({ circuit_breakers: { thresholds: [fields] } })

t.test(
  'max_connection_pools: a host beyond gets none while the others are busy, and then the place of one',
  async (t) => {
    const { ask, hold, release, stat } = await hosts(t, 2, limits({ max_connection_pools: 1, track_remaining: true }))
    t.equal(stat('circuit_breakers.default.remaining_cx_pools'), 1)
    const busy = await hold()
    t.equal(stat('circuit_breakers.default.cx_pool_open'), 1)
    t.equal(stat('circuit_breakers.default.remaining_cx_pools'), 0)
    t.equal(await ask(), '503', 'the other host')
    t.equal(stat('upstream_cx_pool_overflow'), 1)
    t.equal(await ask(), '0', 'the host that has one')
    release()
    t.equal((await busy.readResponse()).text(), '0')
    t.equal(await ask(), '1', 'the pool that serves nobody has made room')
    t.equal(await ask(), '0')
    t.equal(stat('upstream_cx_pool_overflow'), 1)
    t.equal(stat('circuit_breakers.default.cx_pool_open'), 1)
  },
)

t.test('per_host_thresholds: each host has so many connections, whatever the cluster may have', async (t) => {
  const { hold, s, origins, release, stat } = await hosts(t, 2, {
    circuit_breakers: { per_host_thresholds: [{ max_connections: 1 }], thresholds: [{ max_connections: 9 }] },
  })
  const first = [await hold(), await hold()]
  t.same(
    origins.map(({ requests }) => requests.length),
    [1, 1],
  )
  const waiting = [await s.connect(), await s.connect()]
  for (const wire of waiting) await wire.write(get('/held'))
  while (stat('upstream_rq_pending_active') < 2) await new Promise(setImmediate)
  t.equal(stat('upstream_cx_active'), 2)
  t.equal(stat('upstream_cx_overflow'), 2)
  t.equal(stat('circuit_breakers.default.cx_open'), 0, 'the cluster has room')
  release()
  for (const wire of [...first, ...waiting]) t.equal((await wire.readResponse()).status, 200)
  t.equal(stat('upstream_cx_total'), 2)
})

interface KeyCase {
  readonly thresholds: Fields
  readonly open: string
  readonly overflow: string
}

const KEYS: Readonly<Record<string, KeyCase>> = {
  max_requests: { thresholds: {}, open: 'rq_open', overflow: 'upstream_rq_pending_overflow' },
  max_pending_requests: {
    thresholds: { max_connections: 1 },
    open: 'rq_pending_open',
    overflow: 'upstream_rq_pending_overflow',
  },
}

for (const [key, { thresholds, open, overflow }] of Object.entries(KEYS)) {
  t.test(`circuit_breakers.<cluster>.default.${key} of the runtime goes before the threshold`, async (t) => {
    const runtime = { [`circuit_breakers.many.default.${key}`]: 1 }
    const { s, ask, hold, release, stat } = await hosts(t, 1, limits(thresholds), runtime)
    const waiting: Wire[] = [await hold()]
    if (key === 'max_pending_requests') {
      const second = await s.connect()
      await second.write(get('/held'))
      while (stat('upstream_rq_pending_active') === 0) await new Promise(setImmediate)
      waiting.push(second)
    }
    t.equal(stat(`circuit_breakers.default.${open}`), 1)
    t.equal(await ask(), '503')
    t.equal(stat(overflow), 1)
    await s.gateway.engine.update({ runtime: { ...runtime, [`circuit_breakers.many.default.${key}`]: 3 } })
    const more = await s.connect()
    await more.write(get('/held'))
    const counted = key === 'max_requests' ? 'upstream_rq_active' : 'upstream_rq_pending_active'
    while (stat(counted) < 2) await new Promise(setImmediate)
    t.equal(stat(`circuit_breakers.default.${open}`), 0)
    await s.gateway.engine.update({ runtime: {} })
    release()
    for (const wire of [...waiting, more]) t.equal((await wire.readResponse()).status, 200)
    t.equal(stat(overflow), 1)
  })
}

t.test('circuit_breakers.<cluster>.default.max_connections and max_connection_pools of the runtime', async (t) => {
  const runtime = {
    'circuit_breakers.many.default.max_connections': 1,
    'circuit_breakers.many.default.max_connection_pools': 2,
  }
  const { s, hold, ask, release, stat } = await hosts(t, 2, limits({ max_connection_pools: 1 }), runtime)
  const held = [await hold(), await hold()]
  t.equal(stat('upstream_cx_pool_overflow'), 0)
  t.equal(stat('upstream_cx_active'), 2, 'a host without any connection always gets one')
  t.equal(stat('circuit_breakers.default.cx_open'), 1)
  await s.gateway.engine.update({ runtime: {} })
  t.equal(await ask(), '0')
  t.equal(stat('upstream_cx_active'), 3)
  t.equal(stat('circuit_breakers.default.cx_open'), 0)
  release()
  for (const wire of held) t.equal((await wire.readResponse()).status, 200)
})

t.test(
  'circuit_breakers.<cluster>.high.max_retries of the runtime is for requests of high priority alone',
  async (t) => {
    const failing = await Origin.start(async (_request, reply) => {
      await reply.send({ status: 503 })
    })
    t.teardown(() => failing.close())
    const route = { cluster: 'failing', retry_policy: { retry_on: '5xx' } }
    const s = await setup(t, {
      clusters: [cluster('failing', failing.port)],
      routes: [
        { match: { prefix: '/high' }, route: { ...route, priority: 'HIGH' } },
        { match: { prefix: '/' }, route },
      ],
      runtime: { 'circuit_breakers.failing.high.max_retries': 0 },
    })
    const wire = await s.connect()
    t.equal((await wire.exchange(get('/high'))).status, 503)
    t.equal(failing.requests.length, 1)
    t.equal(s.gateway.stat('cluster.failing.upstream_rq_retry_overflow'), 1)
    t.equal((await wire.exchange(get('/'))).status, 503)
    t.equal(failing.requests.length, 3)
    await s.gateway.engine.update({ runtime: {} })
    t.equal((await wire.exchange(get('/high'))).status, 503)
    t.equal(failing.requests.length, 5)
  },
)

t.test('a limit that the runtime moves below what is under way takes nothing away', async (t) => {
  const held = holding('ok')
  const s = await setup(t, { origin: held.script, cluster: limits({ max_requests: 2 }) })
  const wire = await s.connect()
  await wire.write(get('/held'))
  await s.origin.seen(1)
  await s.gateway.engine.update({ runtime: { 'circuit_breakers.origin.default.max_requests': 1 } })
  const second = await s.connect()
  t.equal((await second.exchange(get())).status, 503)
  await s.gateway.engine.update({ runtime: { 'circuit_breakers.origin.default.max_requests': 0 } })
  held.release()
  t.equal((await wire.readResponse()).status, 200, 'what has begun goes on')
  t.equal((await second.exchange(get())).status, 503)
  await s.gateway.engine.update({ runtime: {} })
  t.equal((await second.exchange(get())).status, 200)
})
