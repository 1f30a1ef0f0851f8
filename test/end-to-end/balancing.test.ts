import t, { type Test } from 'tap'
import { statefulSession } from '../../filters/stateful-session/native.ts'
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

t.test('what a cluster says of hashes goes before its routes, and its balancer before both', async (t) => {
  const ports = (await origins(t, 4)).map(({ port }) => port)
  const options = {
    '@type': 'type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions',
    explicit_http_config: { http_protocol_options: {} },
    hash_policy: [{ header: { header_name: 'x-cluster' } }, { cookie: { name: 'cluster', ttl: '9s' } }],
  }
  const maglev = {
    '@type': 'type.googleapis.com/envoy.extensions.load_balancing_policies.maglev.v3.Maglev',
    consistent_hashing_lb_config: {
      hash_policy: [{ header: { header_name: 'x-balancer' }, terminal: true }, { cookie: { name: 'own', ttl: '9s' } }],
    },
  }
  const typed_extension_protocol_options = { 'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': options }
  const load_balancing_policy = { policies: [{ typed_extension_config: { name: 'm', typed_config: maglev } }] }
  const hash_policy = [{ header: { header_name: 'x-route' } }, { cookie: { name: 'route', ttl: '9s' } }]
  const s = await setup(t, {
    clusters: [
      cluster('options', ports, { ...SHARED, typed_extension_protocol_options }),
      cluster('both', ports, { load_balancing_policy, typed_extension_protocol_options }),
    ],
    routes: ['options', 'both'].map((name) => ({
      match: { prefix: `/${name}` },
      route: { cluster: name, hash_policy },
    })),
  })
  const places = async (path: string, ...lines: readonly string[]): Promise<[number, string]> => {
    const seen = new Set<string>()
    const cookies = new Set<string>()
    for (let i = 0; i < 12; i++) {
      const wire = await s.connect()
      const response = await wire.exchange(get(path, `x-route: ${i % 2}`, ...lines))
      seen.add(response.text())
      cookies.add(response.get('set-cookie')?.split('=')[0] ?? 'none')
      await wire.close()
    }
    return [seen.size, [...cookies].join()]
  }
  const [spread, made] = await places('/options')
  t.ok(spread > 1, 'each connection has a cookie of its own')
  t.equal(made, 'cluster')
  t.same(await places('/options', 'cookie: cluster=same'), [1, 'none'])
  const users = new Set<string>()
  for (let i = 0; i < 12; i++) {
    const wire = await s.connect()
    users.add((await wire.exchange(get('/options', `x-cluster: ${i}`, 'cookie: cluster=same'))).text())
  }
  t.equal(users.size > 1, true)
  t.same(await places('/both', 'x-balancer: a'), [1, 'none'], 'terminal: no cookie is looked at')
  t.equal((await places('/both'))[1], 'own')
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

t.test('sessions of a native gateway stay on their endpoint, by a cookie, a header or an envelope', async (t) => {
  const list = await origins(t, 3)
  const sessions = [
    statefulSession({ cookie: { name: 'on', path: '/', ttlS: 60, attributes: { SameSite: 'Strict' } } }),
    statefulSession({ header: 'X-Session', strict: true, status: 409, statPrefix: 'kept' }),
  ]
  const action = { kind: 'route', cluster: 'three' } as const
  const gateway = createGateway({
    listeners: sessions.map((session, i) => ({
      name: `l${i}`,
      address: '127.0.0.1:0',
      http: { filters: [session], routes: [{ match: { prefix: '/' }, action }] },
    })),
    clusters: [{ name: 'three', endpoints: list.map(({ port }) => `127.0.0.1:${port}`), balancer: 'round-robin' }],
  })
  const client = new WireClient()
  t.teardown(async () => {
    await client.closeAll()
    await gateway.close()
  })
  await gateway.start()
  const ask = async (listener: string, ...fields: readonly string[]) => {
    const [address] = gateway.addresses[listener]
    const wire = await client.connect(address.kind === 'ip' ? address.port : 0)
    return wire.exchange(get('/', ...fields))
  }
  const first = await ask('l0')
  const cookie = first.get('set-cookie') ?? ''
  t.match(cookie, /^on=.+; Max-Age=60; Path=\/; SameSite=Strict; HttpOnly$/)
  for (let i = 0; i < 4; i++) t.equal((await ask('l0', `cookie: ${cookie.split(';')[0]}`)).text(), first.text())
  const told = await ask('l1')
  const session = told.get('x-session') ?? ''
  for (let i = 0; i < 4; i++) t.equal((await ask('l1', `x-session: ${session}`)).text(), told.text())
  t.equal((await ask('l1', `x-session: ${Buffer.from('127.0.0.1:1').toString('base64')}`)).status, 409)
  t.throws(() => statefulSession({}), /exactly one of cookie, header and envelope/)
  t.throws(() => statefulSession({ header: 'a', envelope: 'b' }), /exactly one/)
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
