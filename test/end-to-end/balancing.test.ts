import t, { type Test } from 'tap'
import { createGateway } from '../../lib/cli/gateway.ts'
import { TestClock } from '../support/clock.ts'
import { Origin, type OriginScript } from '../support/origin.ts'
import { WireClient } from '../support/wire.ts'
import { cluster, endpoint, type Fields } from './bootstrap.ts'
import { get, type Setup, setup } from './setup.ts'

/** Balancers as clients see them: who gets which request. */

const SHARED: Fields = { lb_policy: 'MAGLEV' }

function says(body: string, status = 200): OriginScript {
  return async (_request, reply) => {
    await reply.send({ status, body })
  }
}

async function origins(t: Test, count: number): Promise<readonly Origin[]> {
  const list = await Promise.all(Array.from({ length: count }, (_, i) => Origin.start(says(`origin ${i}`))))
  t.teardown(() => Promise.all(list.map((origin) => origin.close())))
  return list
}

async function hashing(t: Test, hashPolicy: readonly Fields[], fields: Fields = SHARED): Promise<Setup> {
  const ports = (await origins(t, 4)).map(({ port }) => port)
  return setup(t, {
    clusters: [cluster('four', ports, fields)],
    routes: [{ match: { prefix: '/' }, route: { cluster: 'four', hash_policy: hashPolicy } }],
  })
}

t.test('requests with the same header go to the same endpoint, those of others elsewhere', async (t) => {
  for (const fields of [SHARED, { lb_policy: 'RING_HASH' }]) {
    const s = await hashing(t, [{ header: { header_name: 'x-user' } }], fields)
    const seen = new Map<string, Set<string>>()
    for (let round = 0; round < 3; round++) {
      const wire = await s.connect()
      for (let user = 0; user < 20; user++) {
        const response = await wire.exchange(get('/', `x-user: user-${user}`))
        const places = seen.get(`user-${user}`) ?? new Set()
        seen.set(`user-${user}`, places.add(response.text()))
      }
    }
    for (const [user, places] of seen) t.equal(places.size, 1, `${user}: ${[...places]}`)
    t.equal(new Set([...seen.values()].flatMap((places) => [...places])).size, 4, 'all endpoints are in use')
  }
})

t.test('a client without its cookie gets one, and comes back to the same endpoint with it', async (t) => {
  const s = await hashing(t, [{ cookie: { name: 'sid', ttl: '3600s', path: '/' } }])
  const places = new Set<string>()
  for (let client = 0; client < 12; client++) {
    const first = await s.connect()
    const response = await first.exchange(get('/'))
    const cookie = response.get('set-cookie') ?? ''
    t.match(cookie, /^sid="[0-9a-f]{16}"; Max-Age=3600; Path=\/; HttpOnly$/)
    const place = response.text()
    places.add(place)
    const again = await s.connect()
    for (let i = 0; i < 3; i++) {
      const next = await again.exchange(get('/', `cookie: a=b; ${cookie.split(';')[0]}`))
      t.equal(next.text(), place)
      t.equal(next.get('set-cookie'), undefined)
    }
  }
  t.ok(places.size > 1, 'another client, another endpoint')
})

t.test('a hash policy costs nothing where the balancer does not hash', async (t) => {
  const s = await hashing(t, [{ cookie: { name: 'sid', ttl: '0s' } }], { lb_policy: 'ROUND_ROBIN' })
  const wire = await s.connect()
  const places = new Set<string>()
  for (let i = 0; i < 4; i++) {
    const response = await wire.exchange(get('/'))
    t.equal(response.get('set-cookie'), undefined)
    places.add(response.text())
  }
  t.equal(places.size, 4)
})

t.test('a share of the requests is dropped where the control plane says so', async (t) => {
  const [origin] = await origins(t, 1)
  const assignment = (numerator: number): Fields => ({
    load_assignment: {
      cluster_name: 'one',
      policy: { drop_overloads: [{ category: 'load', drop_percentage: { numerator } }] },
      endpoints: [{ lb_endpoints: [endpoint('127.0.0.1', origin.port)] }],
    },
  })
  const s = await setup(t, {
    clusters: [cluster('one', origin.port, assignment(100))],
    routes: [{ match: { prefix: '/' }, route: { cluster: 'one' } }],
  })
  const wire = await s.connect()
  const response = await wire.exchange(get('/'))
  t.equal(response.status, 503)
  t.equal(response.text(), 'drop overload')
  t.equal(origin.requests.length, 0)
  t.equal(s.gateway.stat('cluster.one.upstream_rq_drop_overload'), 1)
  const [line] = await s.finish()
  t.match(line, { status: 503, flags: 'UDO', details: 'drop_overload', attempts: 1 })
})

t.test('retries are not dropped', async (t) => {
  let draw = 0.9
  const failing = await Origin.start(async (_request, reply) => {
    // From now on whatever is asked is dropped.
    draw = 0.1
    await reply.send({ status: 500, body: '' })
  })
  t.teardown(() => failing.close())
  const s = await setup(t, {
    gateway: { random: () => draw },
    clusters: [
      cluster('one', failing.port, {
        load_assignment: {
          cluster_name: 'one',
          policy: { drop_overloads: [{ category: 'load', drop_percentage: { numerator: 50 } }] },
          endpoints: [{ lb_endpoints: [endpoint('127.0.0.1', failing.port)] }],
        },
      }),
    ],
    routes: [{ match: { prefix: '/' }, route: { cluster: 'one', retry_policy: { retry_on: '5xx' } } }],
  })
  const wire = await s.connect()
  t.equal((await wire.exchange(get('/'))).status, 500)
  t.equal(failing.requests.length, 2)
  t.equal(s.gateway.stat('cluster.one.upstream_rq_drop_overload'), 0)
})

t.test('the native default leaves endpoints alone that fail at once, and comes back to them', async (t) => {
  const list = await origins(t, 4)
  const well = list[0].script
  const clock = new TestClock()
  const gateway = createGateway(
    {
      listeners: [
        {
          name: 'l',
          address: '127.0.0.1:0',
          http: { routes: [{ match: { prefix: '/' }, action: { kind: 'route', cluster: 'four' } }] },
        },
      ],
      clusters: [{ name: 'four', endpoints: list.map(({ port }) => `127.0.0.1:${port}`), outlier: false }],
    },
    { clock },
  )
  const client = new WireClient()
  t.teardown(async () => {
    await client.closeAll()
    await gateway.close()
  })
  await gateway.start()
  const [address] = gateway.addresses.l
  const failed = async (count: number): Promise<number> => {
    const wire = await client.connect(address.kind === 'ip' ? address.port : 0)
    let bad = 0
    for (let i = 0; i < count; i++) {
      clock.advance(5)
      if ((await wire.exchange(get('/'))).status >= 500) bad++
    }
    return bad
  }
  t.equal(await failed(100), 0)
  list[0].script = says('sick', 500)
  const before = list[0].requests.length
  const bad = await failed(400)
  t.ok(bad > 0 && bad <= 10, `${bad} of 400 failed; an equal share is 100`)
  t.equal(list[0].requests.length - before, bad)
  list[0].script = well
  await failed(400)
  const recovered = list[0].requests.length
  t.equal(await failed(200), 0)
  t.ok(list[0].requests.length - recovered > 20, `${list[0].requests.length - recovered} of 200 after 2 s`)
})
