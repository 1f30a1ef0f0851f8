import { once } from 'node:events'
import { createServer } from 'node:net'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { settle, TestClock } from '../support/clock.ts'
import { startDnsServer } from '../support/dns-server.ts'
import { TestGateway } from '../support/gateway.ts'
import { Origin, type OriginScript } from '../support/origin.ts'
import { socketPath } from '../support/socket-path.ts'
import { WireClient } from '../support/wire.ts'
import { bootstrap, cluster, endpoint, type Fields, type LogLine } from './bootstrap.ts'
import { get, post, setup } from './setup.ts'

/** A port on which nobody listens. */
async function deadPort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  server.close()
  await once(server, 'close')
  return port
}

const RESET = 'upstream connect error or disconnect/reset before headers. reset reason: '

t.test('a host that refuses connections: 503 UF', async (t) => {
  const { connect, gateway, finish } = await setup(t, {
    clusters: [cluster('dead', await deadPort())],
    routes: [{ match: { prefix: '/' }, route: { cluster: 'dead' } }],
  })
  const wire = await connect()
  for (const request of [get(), post('x')]) {
    const response = await wire.exchange(request)
    t.equal(response.status, 503)
    t.ok(response.text().startsWith(`${RESET}remote connection failure`), response.text())
    t.equal(response.get('content-type'), 'text/plain')
    t.equal(response.get('server'), 'envoy')
  }
  t.equal(gateway.stat('cluster.dead.upstream_cx_connect_fail'), 2)
  t.equal(gateway.stat('cluster.dead.upstream_cx_active'), 0)
  t.equal(gateway.stat('cluster.dead.upstream_rq_pending_active'), 0)
  t.equal(gateway.stat('cluster.dead.upstream_rq_503'), 2)
  for (const line of await finish()) {
    t.equal(line.flags, 'UF')
    t.match(line.details, /^upstream_reset_before_response_started\{remote_connection_failure/)
    t.match(line.host, /^127\.0\.0\.1:/)
  }
})

t.test('everybody who waits for a host that refuses is told at once', async (t) => {
  const { client, gateway } = await setup(t, {
    clusters: [cluster('dead', await deadPort())],
    routes: [{ match: { prefix: '/' }, route: { cluster: 'dead' } }],
  })
  const wires = await Promise.all(Array.from({ length: 10 }, () => client.connect(gateway.port())))
  const responses = await Promise.all(wires.map((wire) => wire.exchange(get())))
  t.same(new Set(responses.map((response) => response.status)), new Set([503]))
})

t.test('a cluster without hosts: 503 UH; a cluster that is not there: the status of the route, NC', async (t) => {
  const { connect, gateway, finish } = await setup(t, {
    clusters: [cluster('empty', [])],
    routes: [
      { match: { prefix: '/empty' }, route: { cluster: 'empty' } },
      { match: { prefix: '/404' }, route: { cluster_header: 'x-to', cluster_not_found_response_code: 'NOT_FOUND' } },
      { match: { prefix: '/' }, route: { cluster_header: 'x-to' } },
    ],
  })
  const wire = await connect()
  const empty = await wire.exchange(get('/empty'))
  t.equal(empty.status, 503)
  t.equal(empty.text(), 'no healthy upstream')
  t.equal(gateway.stat('cluster.empty.upstream_cx_none_healthy'), 1)
  t.equal((await wire.exchange(get('/503', 'x-to: nowhere'))).status, 503)
  t.equal((await wire.exchange(get('/404', 'x-to: nowhere'))).status, 404)
  t.equal((await wire.exchange(get('/503'))).status, 503, 'nobody named a cluster')
  t.equal((await wire.exchange(get('/503', 'x-to: origin'))).status, 200)
  t.same(
    (await finish()).map((line) => line.flags),
    ['UH', 'NC', 'NC', 'NC', '-'],
  )
})

/** Answers when told to, in any order. */
function onDemand(): { script: OriginScript; release: () => void } {
  let go = (): void => {}
  const gate = new Promise<void>((resolve) => {
    go = resolve
  })
  return {
    release: () => go(),
    script: async (request, reply) => {
      await request.body
      await gate
      await reply.send({ body: request.target })
    },
  }
}

const limits = (thresholds: Fields): Fields => ({ circuit_breakers: { thresholds: [thresholds] } })

t.test('max_requests: one more is 503 UO, and says x-envoy-overloaded; afterwards there is room again', async (t) => {
  const { script, release } = onDemand()
  const { connect, gateway, origin, finish } = await setup(t, { origin: script, cluster: limits({ max_requests: 2 }) })
  const held = [await connect(), await connect()]
  await Promise.all(held.map((wire) => wire.write(get('/held'))))
  await origin.seen(2)
  t.equal(gateway.stat('cluster.origin.circuit_breakers.default.rq_open'), 1)
  const refused = await (await connect()).exchange(get('/over'))
  t.equal(refused.status, 503)
  t.equal(refused.text(), `${RESET}overflow`)
  t.equal(refused.get('x-envoy-overloaded'), 'true')
  t.equal(gateway.stat('cluster.origin.upstream_rq_pending_overflow'), 1)
  release()
  for (const wire of held) t.equal((await wire.readResponse()).text(), '/held')
  t.equal(gateway.stat('cluster.origin.circuit_breakers.default.rq_open'), 0)
  t.equal((await held[0].exchange(get('/after'))).text(), '/after')
  const lines = await finish()
  t.equal(lines.find((line) => line.path === '/over')?.flags, 'UO')
})

t.test(
  'max_connections and max_pending_requests: who finds no connection waits in line, and the line has an end',
  async (t) => {
    const { script, release } = onDemand()
    const { connect, gateway, origin } = await setup(t, {
      origin: script,
      cluster: limits({ max_connections: 1, max_pending_requests: 2 }),
    })
    const served = [await connect(), await connect(), await connect()]
    await served[0].write(get('/1'))
    await origin.seen(1)
    await served[1].write(get('/2'))
    await served[2].write(get('/3'))
    await gateway.until(() => gateway.stat('cluster.origin.upstream_rq_pending_active') === 2, 'two that wait')
    t.equal(origin.requests.length, 1)
    t.ok(gateway.stat('cluster.origin.upstream_cx_overflow') > 0)
    const refused = await (await connect()).exchange(get('/4'))
    t.equal(refused.status, 503)
    t.equal(refused.get('x-envoy-overloaded'), 'true')
    release()
    for (const [i, wire] of served.entries()) t.equal((await wire.readResponse()).text(), `/${i + 1}`)
    t.equal(origin.connections, 1)
    t.same(
      origin.requests.map((request) => request.target),
      ['/1', '/2', '/3'],
      'first come, first served',
    )
    t.equal(gateway.stat('cluster.origin.circuit_breakers.default.rq_pending_open'), 0)
  },
)

t.test('who waits in line and goes away leaves the line', async (t) => {
  const { script, release } = onDemand()
  const { connect, gateway, origin } = await setup(t, {
    origin: script,
    cluster: limits({ max_connections: 1, max_pending_requests: 1 }),
  })
  const [first, gone, next] = [await connect(), await connect(), await connect()]
  await first.write(get('/1'))
  await origin.seen(1)
  await gone.write(get('/gone'))
  await gateway.until(() => gateway.stat('cluster.origin.upstream_rq_pending_active') === 1, 'one that waits')
  gone.reset()
  await gateway.until(() => gateway.stat('cluster.origin.upstream_rq_pending_active') === 0, 'an empty line')
  await next.write(get('/next'))
  await gateway.until(() => gateway.stat('cluster.origin.upstream_rq_pending_active') === 1, 'one that waits')
  release()
  t.equal((await next.readResponse()).text(), '/next')
  t.same(
    origin.requests.map((request) => request.target),
    ['/1', '/next'],
  )
})

t.test('priorities have limits of their own', async (t) => {
  const { script, release } = onDemand()
  const { connect, origin } = await setup(t, {
    origin: script,
    cluster: {
      circuit_breakers: {
        thresholds: [
          { priority: 'DEFAULT', max_requests: 1 },
          { priority: 'HIGH', max_requests: 1 },
        ],
      },
    },
    routes: [
      { match: { prefix: '/high' }, route: { cluster: 'origin', priority: 'HIGH' } },
      { match: { prefix: '/' }, route: { cluster: 'origin' } },
    ],
  })
  const [low, high, over] = [await connect(), await connect(), await connect()]
  await low.write(get('/low'))
  await high.write(get('/high'))
  await origin.seen(2)
  t.equal((await over.exchange(get('/low'))).status, 503)
  t.equal((await over.exchange(get('/high'))).status, 503)
  release()
  t.equal((await low.readResponse()).status, 200)
  t.equal((await high.readResponse()).status, 200)
})

/** Answers the first request of a connection; ends the connection, saying only `bytes`, when a second one comes. */
const stale =
  (how: 'fin' | 'reset', bytes = ''): OriginScript =>
  async (request, reply) => {
    if (request.index === 1) {
      await request.body
      await reply.send({ body: `connection ${request.connection}` })
      return
    }
    if (bytes !== '') await reply.write(bytes)
    await settle(4)
    if (how === 'fin') reply.destroy()
    else reply.reset()
  }

for (const how of ['fin', 'reset'] as const) {
  t.test(`a pooled connection that turns out to be dead (${how}): a GET goes again, once`, async (t) => {
    const { connect, gateway, origin, finish } = await setup(t, {
      origin: stale(how),
      routeConfig: {
        virtual_hosts: [
          {
            name: 'all',
            domains: ['*'],
            include_request_attempt_count: true,
            routes: [{ match: { prefix: '/' }, route: { cluster: 'origin' } }],
          },
        ],
      },
    })
    const wire = await connect()
    t.equal((await wire.exchange(get('/1'))).text(), 'connection 1')
    t.equal((await wire.exchange(get('/2'))).text(), 'connection 2')
    t.same(
      origin.requests.map((r) => [r.target, r.connection, r.get('x-envoy-attempt-count')]),
      [
        ['/1', 1, '1'],
        ['/2', 1, '1'],
        ['/2', 2, '2'],
      ],
    )
    t.equal(gateway.stat('cluster.origin.upstream_rq_retry'), 1)
    const lines = await finish()
    t.same(
      lines.map((line) => [line.path, line.status, line.flags, line.attempts]),
      [
        ['/1', 200, '-', 1],
        ['/2', 200, '-', 2],
      ],
    )
  })

  t.test(`a pooled connection that turns out to be dead (${how}): what is not safe to repeat is not`, async (t) => {
    const { connect, gateway, origin, finish } = await setup(t, { origin: stale(how) })
    const wire = await connect()
    const chunkedGet = 'GET / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n'
    const getWithBody = 'GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nab'
    for (const request of [post('x'), post(''), chunkedGet, getWithBody]) {
      t.equal((await wire.exchange(get('/first'))).status, 200)
      const response = await wire.exchange(request)
      t.equal(response.status, 503, request)
      t.equal(response.text(), `${RESET}connection termination`)
    }
    t.equal(origin.requests.length, 8)
    t.equal(gateway.stat('cluster.origin.upstream_rq_retry'), 0)
    const lines = await finish()
    t.same(
      lines.filter((line) => line.status === 503).map((line) => line.flags),
      ['UC', 'UC', 'UC', 'UC'],
    )
  })
}

for (const bytes of ['H', 'HTTP/1.1 200 OK\r\ncontent-', 'HTTP/1.1 103 Early Hints\r\n\r\n']) {
  t.test(
    `a dead connection that had said ${JSON.stringify(bytes)}: the request was looked at, and does not go again`,
    async (t) => {
      const { connect, origin } = await setup(t, { origin: stale('fin', bytes) })
      const wire = await connect()
      t.equal((await wire.exchange(get('/1'))).status, 200)
      t.equal((await wire.exchange(get('/2'))).status, 503)
      t.equal(origin.requests.length, 2)
    },
  )
}

t.test('a new connection that breaks before the response is not tried again', async (t) => {
  for (const how of ['fin', 'reset'] as const) {
    const { connect, origin, finish } = await setup(t, {
      origin: (_, reply) => (how === 'fin' ? reply.destroy() : reply.reset()),
    })
    const wire = await connect()
    const response = await wire.exchange(get())
    t.equal(response.status, 503)
    t.equal(origin.requests.length, 1)
    const [line] = await finish()
    t.equal(line.flags, 'UC')
    t.match(line.details, /^upstream_reset_before_response_started\{connection_termination/)
  }
})

t.test('a connection that breaks within the response breaks the response', async (t) => {
  const { connect, finish } = await setup(t, {
    origin: async (_, reply) => {
      await reply.write('HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf')
      await settle(5)
      reply.reset()
    },
  })
  const wire = await connect()
  const response = await wire.exchange(get())
  t.equal(response.status, 200)
  t.equal(response.clean, false)
  const [line] = await finish()
  t.equal(line.flags, 'UC')
  t.equal(line.status, 200)
  t.match(line.details, /^upstream_reset_after_response_started\{/)
})

t.test('bytes on an idle connection end it; a FIN on an idle connection costs nothing', async (t) => {
  let push = (): unknown => undefined
  const { connect, gateway, origin } = await setup(t, {
    origin: async (request, reply) => {
      await request.body
      push = () => reply.write('HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil')
      await reply.send({ body: 'good' })
    },
  })
  const wire = await connect()
  t.equal((await wire.exchange(post('1'))).text(), 'good')
  push()
  await origin.requests[0].ended
  await gateway.until(() => gateway.stat('cluster.origin.upstream_cx_active') === 0, 'end of the connection')
  t.equal(gateway.stat('cluster.origin.upstream_cx_protocol_error'), 1)
  t.equal((await wire.exchange(post('2'))).text(), 'good')
  origin.resetAll()
  await gateway.until(() => gateway.stat('cluster.origin.upstream_cx_active') === 0, 'end of the connection')
  t.equal((await wire.exchange(post('3'))).text(), 'good')
  t.equal(origin.connections, 3)
})

t.test('an interim response that promises a body is refused', async (t) => {
  const { connect } = await setup(t, {
    origin: async (_, reply) => {
      await reply.write(
        'HTTP/1.1 103 Early Hints\r\ncontent-length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n',
      )
      await reply.stall()
    },
  })
  const wire = await connect()
  t.equal((await wire.exchange(get())).status, 502)
})

/** Origins that answer with their name. */
async function named(t: Test, names: readonly string[]): Promise<Origin[]> {
  const origins = await Promise.all(
    names.map((name) =>
      Origin.start(async (request, reply) => {
        await request.body
        await reply.send({ body: name })
      }),
    ),
  )
  t.teardown(() => Promise.all(origins.map((origin) => origin.close())))
  return origins
}

t.test('round robin goes around, by weight; random takes the draw', async (t) => {
  const origins = await named(t, ['a', 'b', 'c'])
  const [a, b, c] = origins.map((origin) => origin.port)
  const weighted = {
    name: 'weighted',
    type: 'STATIC',
    load_assignment: {
      cluster_name: 'weighted',
      endpoints: [
        {
          lb_endpoints: [
            endpoint('127.0.0.1', a, { load_balancing_weight: 3 }),
            endpoint('127.0.0.1', b, { load_balancing_weight: 1 }),
          ],
        },
      ],
    },
  }
  let draw = 0
  const { connect } = await setup(t, {
    gateway: { random: () => draw },
    clusters: [cluster('even', [a, b, c]), weighted, cluster('random', [a, b, c], { lb_policy: 'RANDOM' })],
    routes: [{ match: { prefix: '/' }, route: { cluster_header: 'x-to' } }],
  })
  const wire = await connect()
  const ask = async (to: string, count: number): Promise<string> => {
    let out = ''
    for (let i = 0; i < count; i++) out += (await wire.exchange(get('/', `x-to: ${to}`))).text()
    return [...out].sort().join('')
  }
  t.equal(await ask('even', 9), 'aaabbbccc')
  t.equal(await ask('weighted', 8), 'aaaaaabb')
  t.equal(await ask('random', 3), 'aaa')
  draw = 0.99
  t.equal(await ask('random', 3), 'ccc')
})

t.test('hosts that configuration calls unhealthy get nothing while others are well', async (t) => {
  const origins = await named(t, ['a', 'b'])
  const lb_endpoints = [
    endpoint('127.0.0.1', origins[0].port, { health_status: 'UNHEALTHY' }),
    endpoint('127.0.0.1', origins[1].port),
  ]
  const { connect } = await setup(t, {
    clusters: [
      { name: 'mixed', type: 'STATIC', load_assignment: { cluster_name: 'mixed', endpoints: [{ lb_endpoints }] } },
    ],
    routes: [{ match: { prefix: '/' }, route: { cluster: 'mixed' } }],
  })
  const wire = await connect()
  for (let i = 0; i < 4; i++) t.equal((await wire.exchange(get())).text(), 'b')
})

t.test('a host behind a Unix socket', async (t) => {
  const path = socketPath(t, 'origin.sock')
  const { connect, finish } = await setup(t, {
    clusters: [
      {
        name: 'pipe',
        type: 'STATIC',
        load_assignment: {
          cluster_name: 'pipe',
          endpoints: [{ lb_endpoints: [{ endpoint: { address: { pipe: { path } } } }] }],
        },
      },
    ],
    routes: [{ match: { prefix: '/' }, route: { cluster: 'pipe' } }],
  })
  const wire = await connect()
  const refused = await wire.exchange(get())
  t.equal(refused.status, 503, 'nobody is there yet')
  const origin = await Origin.start({ listen: { path } })
  t.teardown(() => origin.close())
  t.equal((await wire.exchange(post('hello'))).text(), 'hello')
  t.same(
    (await finish()).map((line) => [line.host, line.flags]),
    [
      [path, 'UF'],
      [path, '-'],
    ],
  )
})

function dnsCluster(name: string, type: string, resolver: string, hosts: readonly [string, number][]): Fields {
  const [address, port] = resolver.split(':')
  return {
    name,
    type,
    respect_dns_ttl: true,
    dns_lookup_family: 'V4_ONLY',
    typed_dns_resolver_config: {
      name: 'envoy.network.dns_resolver.cares',
      typed_config: {
        '@type': 'type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig',
        resolvers: [{ socket_address: { address, port_value: Number(port) } }],
      },
    },
    load_assignment: {
      cluster_name: name,
      endpoints: [{ lb_endpoints: hosts.map(([host, hostPort]) => endpoint(host, hostPort)) }],
    },
  }
}

t.test('DNS clusters: addresses come, change with their TTL, and the last good ones are kept', async (t) => {
  await using dns = await startDnsServer()
  const clock = new TestClock()
  const log = join(t.testdir(), 'access.log')
  // One port on two addresses.
  const first = await Origin.start(async (_, reply) => void (await reply.send({ body: 'first' })))
  const second = await Origin.start({
    script: async (_, reply) => void (await reply.send({ body: 'second' })),
    listen: { host: '127.0.0.2', port: first.port },
  })
  dns.set('A', 'web.test', { addresses: ['127.0.0.1'], ttlS: 30 })
  const gateway = await TestGateway.start(
    bootstrap({
      log,
      clusters: [
        dnsCluster('strict', 'STRICT_DNS', dns.address, [['web.test', first.port]]),
        dnsCluster('logical', 'LOGICAL_DNS', dns.address, [['web.test', first.port]]),
        dnsCluster('unknown', 'STRICT_DNS', dns.address, [['nowhere.test', first.port]]),
      ],
      routes: [{ match: { prefix: '/' }, route: { cluster_header: 'x-to', auto_host_rewrite: true } }],
    }),
    { clock, logPath: log },
  )
  const client = new WireClient()
  t.teardown(async () => {
    await client.closeAll()
    await gateway.close()
    await first.close()
    await second.close()
  })
  const wire = await client.connect(gateway.port())
  const ask = async (to: string): Promise<string> => (await wire.exchange(get('/', `x-to: ${to}`))).text()
  t.equal(await ask('strict'), 'first')
  t.equal(await ask('logical'), 'first')
  t.equal(await ask('unknown'), 'no healthy upstream')
  t.equal(first.requests[0].get('host'), 'web.test', 'the name, not the address')

  const refresh = async (ms: number): Promise<void> => {
    const before = dns.questions.filter((question) => question === 'A web.test.').length
    clock.advance(ms)
    const asked = (): boolean => dns.questions.filter((question) => question === 'A web.test.').length > before
    await gateway.until(asked, 'another question')
    for (let i = 0; i < 20; i++) await settle(5)
  }
  dns.set('A', 'web.test', { addresses: ['127.0.0.2'], ttlS: 30 })
  t.equal(await ask('strict'), 'first', 'not before its TTL')
  await refresh(31_000)
  t.equal(await ask('strict'), 'second')
  t.equal(await ask('logical'), 'first', 'a logical host keeps its connections; only new ones go to the new address')
  first.resetAll()
  await first.until(() => first.open === 0, 'end of old connections')
  await settle(10)
  t.equal(await ask('logical'), 'second')
  dns.set('A', 'web.test', 'SERVFAIL')
  await refresh(31_000)
  t.equal(await ask('strict'), 'second', 'the last good answer')
  t.equal(await ask('logical'), 'second')
  t.ok(gateway.stat('cluster.strict.update_failure') > 0)
  dns.set('A', 'web.test', { addresses: ['127.0.0.1', '127.0.0.2'], ttlS: 30 })
  await refresh(31_000)
  const both = [await ask('strict'), await ask('strict'), await ask('strict'), await ask('strict')].sort()
  t.same(both, ['first', 'first', 'second', 'second'])
  await client.closeAll()
  await gateway.close()
  const lines = gateway.lines().map((line) => JSON.parse(line) as LogLine)
  t.equal(lines[2].flags, 'UH')
})
