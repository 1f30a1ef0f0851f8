import t, { type Test } from 'tap'
import { TestClock } from '../support/clock.ts'
import { type DnsServer, startDnsServer } from '../support/dns-server.ts'
import { ask as askOn, assignment, LiveGateway, Parts, removing, setting } from '../support/live-gateway.ts'
import { Origin, type OriginScript } from '../support/origin.ts'
import type { WireResponse } from '../support/wire.ts'
import { cluster, endpoint, type Fields } from './bootstrap.ts'
import { get, type Setup, setup } from './setup.ts'

/** Clusters whose hosts are those of other clusters, or those that requests name. */

const TYPE = 'type.googleapis.com/envoy.extensions'

function says(body: string, status = 200): OriginScript {
  return async (_request, reply) => {
    await reply.send({ status, body })
  }
}

async function named(t: Test, word: string, status = 200): Promise<Origin> {
  const origin = await Origin.start(says(word, status))
  t.teardown(() => origin.close())
  return origin
}

/** A port that nobody listens on. */
async function closedPort(): Promise<number> {
  const origin = await Origin.start()
  await origin.close()
  return origin.port
}

function aggregate(name: string, members: readonly string[], fields: Fields = {}): Fields {
  return {
    name,
    lb_policy: 'CLUSTER_PROVIDED',
    cluster_type: {
      name: 'envoy.clusters.aggregate',
      typed_config: { '@type': `${TYPE}.clusters.aggregate.v3.ClusterConfig`, clusters: members },
    },
    ...fields,
  }
}

function composite(name: string, members: readonly string[]): Fields {
  return {
    name,
    lb_policy: 'CLUSTER_PROVIDED',
    cluster_type: {
      name: 'envoy.clusters.composite',
      typed_config: {
        '@type': `${TYPE}.clusters.composite.v3.ClusterConfig`,
        clusters: members.map((member) => ({ name: member })),
      },
    },
  }
}

function to(name: string, more: Fields = {}): readonly Fields[] {
  return [{ match: { prefix: '/' }, route: { cluster: name, ...more } }]
}

const UNHEALTHY: Fields = { health_status: 'UNHEALTHY' }

function withHealth(name: string, hosts: readonly (readonly [port: number, healthy: boolean])[]): Fields {
  const lbEndpoints = hosts.map(([port, healthy]) => endpoint('127.0.0.1', port, healthy ? {} : UNHEALTHY))
  return cluster(name, [], {
    load_assignment: { cluster_name: name, endpoints: [{ lb_endpoints: lbEndpoints }] },
  })
}

async function ask(s: Setup, ...lines: readonly string[]): Promise<WireResponse> {
  const wire = await s.connect()
  return wire.exchange(['GET / HTTP/1.1', ...lines, '', ''].join('\r\n'))
}

t.test('an aggregate sends all to its first cluster, and to the next where that one is unhealthy', async (t) => {
  const [first, second] = [await named(t, 'first'), await named(t, 'second')]
  const members = ['a', 'nobody', 'b']
  const well = await setup(t, {
    clusters: [cluster('a', first.port), cluster('b', second.port), aggregate('both', members)],
    routes: to('both'),
  })
  for (let i = 0; i < 5; i++) t.equal((await ask(well, 'host: x')).text(), 'first')
  t.equal(well.gateway.stat('cluster.a.upstream_rq_total'), 5, 'requests count where they go')
  t.equal(well.gateway.stat('cluster.both.upstream_rq_200'), 5, 'responses count where they are for')
  t.equal(well.gateway.stat('cluster.both.upstream_cx_total'), 0)
  const sick = await setup(t, {
    clusters: [withHealth('a', [[first.port, false]]), cluster('b', second.port), aggregate('both', members)],
    routes: to('both'),
  })
  for (let i = 0; i < 5; i++) t.equal((await ask(sick, 'host: x')).text(), 'second')
})

t.test('an aggregate shares load by the health of its levels, as one cluster would', async (t) => {
  const [first, second] = [await named(t, 'first'), await named(t, 'second')]
  let draw = 0
  const s = await setup(t, {
    // One of two is healthy: 1.4 × 50 % stay, the rest goes on.
    clusters: [
      withHealth('a', [
        [first.port, true],
        [await closedPort(), false],
      ]),
      cluster('b', second.port),
      aggregate('both', ['a', 'b'], { common_lb_config: { healthy_panic_threshold: { value: 10 } } }),
    ],
    routes: to('both'),
    gateway: { random: () => draw },
  })
  for (const [at, word] of [
    [0, 'first'],
    [0.699, 'first'],
    [0.701, 'second'],
    [0.999, 'second'],
  ] as const) {
    draw = at
    t.equal((await ask(s, 'host: x')).text(), word, `${at}`)
  }
})

t.test('retries of an aggregate go across its clusters by priority', async (t) => {
  const [sick, well] = [await named(t, 'sick', 503), await named(t, 'well')]
  const retry = {
    retry_on: '5xx',
    num_retries: 2,
    retry_priority: {
      name: 'envoy.retry_priorities.previous_priorities',
      typed_config: {
        '@type': `${TYPE}.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig`,
        update_frequency: 1,
      },
    },
  }
  const s = await setup(t, {
    clusters: [cluster('a', sick.port), cluster('b', well.port), aggregate('both', ['a', 'b'])],
    routes: to('both', { retry_policy: retry }),
  })
  t.equal((await ask(s, 'host: x')).text(), 'well')
  t.equal(sick.requests.length, 1)
  t.equal(s.gateway.stat('cluster.both.upstream_rq_retry'), 1)
})

t.test('aggregates within aggregates stand for their clusters, circles are refused', async (t) => {
  const [first, second] = [await named(t, 'first'), await named(t, 'second')]
  const s = await setup(t, {
    clusters: [
      withHealth('a', [[first.port, false]]),
      cluster('b', second.port),
      aggregate('inner', ['a']),
      aggregate('outer', ['inner', 'b']),
    ],
    routes: to('outer'),
  })
  t.equal((await ask(s, 'host: x')).text(), 'second')
  const circle = [aggregate('one', ['two']), aggregate('two', ['three']), composite('three', ['one'])]
  await t.rejects(setup(t, { clusters: circle }), /one → two → three → one/)
  await t.rejects(setup(t, { clusters: [aggregate('one', ['one'])] }), /"one" is the cluster itself/)
})

t.test('members of an aggregate come, change and go while it serves', async (t) => {
  const [first, second] = [await named(t, 'first'), await named(t, 'second')]
  const parts = new Parts()
  const live = await LiveGateway.start(t)
  const both = parts.cluster('both', { type: 'aggregate', assignment: undefined, members: ['a', 'b'] })
  await live.update({
    clusters: setting(both),
    routeTables: setting(parts.forwarding('r', 'both')),
    listeners: setting(parts.listener('l', { routeTable: 'r' })),
  })
  t.equal((await live.get('l')).status, 503, 'there are none yet')
  const wire = await live.connect('l')
  await live.update({ clusters: setting(parts.cluster('b')), assignments: setting(assignment('b', second.port)) })
  t.equal((await askOn(wire)).text(), 'second')
  await live.update({ clusters: setting(parts.cluster('a')), assignments: setting(assignment('a', first.port)) })
  t.equal((await askOn(wire)).text(), 'first')
  await live.update({ assignments: setting(assignment('a')) })
  t.equal((await askOn(wire)).text(), 'second', 'without endpoints it takes nothing')
  await live.update({ assignments: setting(assignment('a', first.port)) })
  t.equal((await askOn(wire)).text(), 'first')
  await live.update({ clusters: removing('a') })
  t.equal((await askOn(wire)).text(), 'second')
  // A circle that comes about by updates leads nowhere, and that is all.
  const circle = (name: string, member: string) =>
    parts.cluster(name, { type: 'composite', assignment: undefined, members: [member] })
  await live.update({ clusters: setting(circle('b', 'a'), circle('a', 'b')) })
  t.equal((await askOn(wire)).status, 503)
})

t.test('an aggregate without a usable cluster answers as a cluster without hosts', async (t) => {
  const s = await setup(t, { clusters: [aggregate('none', ['gone'])], routes: to('none') })
  const response = await ask(s, 'host: x')
  t.equal(response.status, 503)
  t.equal(response.text(), 'no healthy upstream')
  t.equal(s.gateway.stat('cluster.none.upstream_cx_none_healthy'), 1)
})

t.test('the attempts of a request go through the clusters of a composite in turn', async (t) => {
  const [sick, well] = [await named(t, 'sick', 503), await named(t, 'well')]
  const routes = to('chain', { retry_policy: { retry_on: '5xx,connect-failure', num_retries: 3 } })
  const clusters = [cluster('a', sick.port), cluster('b', well.port), cluster('empty', [])]
  const s = await setup(t, { clusters: [...clusters, composite('chain', ['a', 'b'])], routes })
  t.equal((await ask(s, 'host: x')).text(), 'well')
  t.equal(sick.requests.length, 1)

  const skipping = await setup(t, { clusters: [...clusters, composite('chain', ['gone', 'empty', 'b'])], routes })
  t.equal((await ask(skipping, 'host: x')).text(), 'well', 'clusters without a host are passed over')

  const short = await setup(t, { clusters: [...clusters, composite('chain', ['a'])], routes })
  const response = await ask(short, 'host: x')
  t.equal(response.status, 503)
  t.equal(response.text(), 'no healthy upstream', 'there is no cluster for the second attempt')
  t.equal(sick.requests.length, 2)
})

t.test('a cluster of original destinations goes where a header says', async (t) => {
  const origin = await named(t, 'there')
  const originalDst = (config: Fields): Fields => ({
    name: 'dst',
    type: 'ORIGINAL_DST',
    lb_policy: 'CLUSTER_PROVIDED',
    original_dst_lb_config: config,
  })
  const s = await setup(t, { clusters: [originalDst({ use_http_header: true })], routes: to('dst') })
  const header = (value: string): string => `x-envoy-original-dst-host: ${value}`
  t.equal((await ask(s, 'host: x', header(`127.0.0.1:${origin.port}`))).text(), 'there')
  t.equal((await ask(s, 'host: x', header(`127.0.0.1:${origin.port}`))).text(), 'there')
  t.equal(s.gateway.stat('cluster.dst.membership_total'), 1)
  for (const bad of ['localhost:80', '127.0.0.1', '127.0.0.1:0', '127.0.0.1:70000', ':80', '[::1', 'a b']) {
    const response = await ask(s, 'host: x', header(bad))
    t.equal(response.status, 503, bad)
    t.equal(response.text(), 'no healthy upstream')
  }
  t.equal((await ask(s, 'host: x')).status, 503, 'nothing is known of where it was meant to go')
  t.equal(s.gateway.stat('cluster.dst.original_dst_host_invalid'), 7)
  const other = await setup(t, {
    clusters: [originalDst({ use_http_header: true, http_header_name: 'X-To', upstream_port_override: origin.port })],
    routes: to('dst'),
  })
  t.equal((await ask(other, 'host: x', 'x-to: 127.0.0.1:1')).text(), 'there')
})

// --- forward proxy ---------------------------------------------------------------------------------------------------

const CACHE = { name: 'cache', dns_lookup_family: 'V4_ONLY' }

function resolver(dns: DnsServer): Fields {
  const [address, port] = dns.address.split(':')
  return {
    name: 'envoy.network.dns_resolver.cares',
    typed_config: {
      '@type': `${TYPE}.network.dns_resolver.cares.v3.CaresDnsResolverConfig`,
      resolvers: [{ socket_address: { address, port_value: Number(port) } }],
      query_timeout_seconds: 1,
      query_tries: 1,
    },
  }
}

function forwardProxy(config: Fields): Fields {
  return {
    name: 'dfp',
    lb_policy: 'CLUSTER_PROVIDED',
    cluster_type: {
      name: 'envoy.clusters.dynamic_forward_proxy',
      typed_config: { '@type': `${TYPE}.clusters.dynamic_forward_proxy.v3.ClusterConfig`, ...config },
    },
  }
}

const FILTER = 'envoy.filters.http.dynamic_forward_proxy'

function forwardFilter(config: Fields = { dns_cache_config: CACHE }): readonly Fields[] {
  const type = `${TYPE}.filters.http.dynamic_forward_proxy.v3.FilterConfig`
  return [{ name: FILTER, typed_config: { '@type': type, ...config } }]
}

function perRoute(config: Fields): Fields {
  const type = `${TYPE}.filters.http.dynamic_forward_proxy.v3.PerRouteConfig`
  return { typed_per_filter_config: { [FILTER]: { '@type': type, ...config } } }
}

async function dnsServer(t: Test): Promise<DnsServer> {
  const dns = await startDnsServer()
  t.teardown(() => dns.close())
  return dns
}

t.test('a forward proxy sends requests to the host that they name', async (t) => {
  const [origin, dns] = [await named(t, 'there'), await dnsServer(t)]
  dns.set('A', 'web.test', { addresses: ['127.0.0.1'], ttlS: 60 })
  const cache = { ...CACHE, typed_dns_resolver_config: resolver(dns), max_hosts: 2 }
  const s = await setup(t, {
    clusters: [forwardProxy({ dns_cache_config: cache })],
    filters: forwardFilter(),
    routes: [
      {
        match: { path: '/literal' },
        route: { cluster: 'dfp' },
        ...perRoute({ host_rewrite_literal: `web.test:${origin.port}` }),
      },
      { match: { path: '/header' }, route: { cluster: 'dfp' }, ...perRoute({ host_rewrite_header: 'x-to' }) },
      ...to('dfp'),
    ],
  })
  const host = `host: web.test:${origin.port}`
  t.equal((await ask(s, host)).text(), 'there')
  t.equal((await ask(s, host)).text(), 'there')
  t.same(dns.questions, ['A web.test.'], 'the name is looked up once')
  t.equal(origin.requests[0].get('host'), `web.test:${origin.port}`)
  const wire = await s.connect()
  t.equal((await wire.exchange(get('/literal'))).text(), 'there')
  t.equal(origin.requests.at(-1)?.get('host'), `web.test:${origin.port}`, 'the rewritten host is what is sent')
  t.equal((await wire.exchange(get('/header', `x-to: web.test:${origin.port}`))).text(), 'there')
  const failed = await ask(s, 'host: gone.test')
  t.equal(failed.status, 503)
  t.equal(failed.text(), 'DNS resolution failure')
  const full = await ask(s, 'host: more.test')
  t.equal(full.status, 503)
  t.equal(full.text(), 'DNS cache overflow')
  t.equal(s.gateway.stat('dns_cache.cache.host_overflow'), 1)
  t.equal(s.gateway.stat('dns_cache.cache.host_added'), 2)
  t.equal(s.gateway.stat('dns_cache.cache.dns_query_success'), 1)
  const lines = await s.finish()
  t.match(lines.at(-2), { flags: 'DF', details: 'dns_resolution_failure' })
  t.match(lines.at(-1), { flags: 'UO', details: 'dns_cache_overflow' })
})

t.test('forward proxies within a composite are asked for the name before the request goes on', async (t) => {
  const [origin, other, dns] = [await named(t, 'there'), await named(t, 'other'), await dnsServer(t)]
  dns.set('A', 'web.test', { addresses: ['127.0.0.1'] })
  const cache = { ...CACHE, typed_dns_resolver_config: resolver(dns) }
  const clusters = [
    forwardProxy({ dns_cache_config: cache }),
    cluster('b', other.port),
    composite('chain', ['dfp', 'b']),
    composite('late', ['b', 'dfp']),
  ]
  const s = await setup(t, { clusters, filters: forwardFilter(), routes: to('chain') })
  t.equal((await ask(s, `host: web.test:${origin.port}`)).text(), 'there', 'the first request waits for the name')
  t.equal((await ask(s, 'host: gone.test')).text(), 'other', 'without an address the next cluster is taken')
  const late = await setup(t, { clusters, filters: forwardFilter(), routes: to('late') })
  dns.set('A', 'mute.test', 'silence')
  t.equal((await ask(late, 'host: mute.test')).text(), 'other', 'nobody waits for a cluster of a later attempt')
})

t.test('a client that leaves makes room for another one who waits for a name', async (t) => {
  const [origin, dns] = [await named(t, 'there'), await dnsServer(t)]
  dns.set('A', 'mute.test', 'silence')
  dns.set('A', 'web.test', { addresses: ['127.0.0.1'] })
  const cache = {
    ...CACHE,
    typed_dns_resolver_config: resolver(dns),
    dns_cache_circuit_breaker: { max_pending_requests: 1 },
  }
  const s = await setup(t, {
    clusters: [forwardProxy({ dns_cache_config: cache })],
    filters: forwardFilter(),
    routes: to('dfp'),
  })
  const wire = await s.connect()
  await wire.write('GET / HTTP/1.1\r\nhost: mute.test\r\n\r\n')
  while (s.gateway.stat('dns_cache.cache.circuit_breakers.rq_pending_open') === 0) await new Promise(setImmediate)
  t.equal((await ask(s, `host: web.test:${origin.port}`)).text(), 'Dynamic forward proxy pending request overflow')
  await wire.close()
  while (s.gateway.stat('dns_cache.cache.circuit_breakers.rq_pending_open') === 1) await new Promise(setImmediate)
  t.equal((await ask(s, `host: web.test:${origin.port}`)).text(), 'there')
  t.equal(s.gateway.stat('dns_cache.cache.dns_rq_pending_overflow'), 1)
})

t.test('a forward proxy does not connect to what its configuration denies', async (t) => {
  const [origin, dns] = [await named(t, 'there'), await dnsServer(t)]
  dns.set('A', 'inside.test', { addresses: ['127.0.0.1', '10.0.0.1'] })
  dns.set('A', 'mixed.test', { addresses: ['10.0.0.1', '127.0.0.1'] })
  dns.set('AAAA', 'mapped.test', { addresses: ['0:0:0:0:0:ffff:7f00:1'] })
  const deny = (...ranges: readonly (readonly [string, number])[]): Fields => ({
    ranges: ranges.map(([address_prefix, prefix_len]) => ({ address_prefix, prefix_len })),
  })
  const cache = { ...CACHE, dns_lookup_family: 'ALL', typed_dns_resolver_config: resolver(dns) }
  const guarded = (filter: Fields): Promise<Setup> =>
    setup(t, {
      clusters: [forwardProxy({ dns_cache_config: { ...cache, resolved_address_filter: filter } })],
      filters: forwardFilter(),
      routes: to('dfp'),
    })
  const s = await guarded(deny(['127.0.0.0', 8], ['10.0.0.0', 8], ['::1', 128]))
  const hosts = [
    'inside.test',
    'mapped.test',
    '127.0.0.1',
    '[::1]',
    '[::ffff:127.0.0.1]',
    '[::ffff:7f00:1]',
    'localhost',
  ]
  for (const host of hosts) {
    const response = await ask(s, `host: ${host}:${origin.port}`)
    t.equal(response.status, 503, host)
    t.equal(response.text(), 'DNS resolution failure', host)
  }
  // Other spellings of addresses are neither addresses nor names here, and nobody is asked for them.
  for (const host of ['0x7f000001', '2130706433', '127.1', '0177.0.0.1']) {
    t.equal((await ask(s, `host: ${host}:${origin.port}`)).status, 503, host)
  }
  t.equal(origin.connections, 0)
  const part = await guarded(deny(['10.0.0.0', 8]))
  t.equal((await ask(part, `host: mixed.test:${origin.port}`)).text(), 'there', 'what is left of an answer is used')
})

t.test('a forward proxy with a cluster for each name balances over all of its addresses', async (t) => {
  const dns = await dnsServer(t)
  const [one, other] = [await named(t, 'one'), await Origin.start({ listen: { host: '127.0.0.2', port: 0 } })]
  await other.close()
  const second = await Origin.start({
    script: says('two'),
    listen: { host: '127.0.0.2', port: one.port },
  })
  t.teardown(() => second.close())
  dns.set('A', 'web.test', { addresses: ['127.0.0.1', '127.0.0.2'], ttlS: 60 })
  const s = await setup(t, {
    clusters: [
      {
        ...forwardProxy({ sub_clusters_config: { max_sub_clusters: 1 } }),
        dns_lookup_family: 'V4_ONLY',
        typed_dns_resolver_config: resolver(dns),
      },
    ],
    // There is no one address to be saved before a host is chosen.
    filters: forwardFilter({ sub_cluster_config: {}, save_upstream_address: true }),
    routes: to('dfp'),
  })
  const words: string[] = []
  for (let i = 0; i < 4; i++) words.push((await ask(s, `host: web.test:${one.port}`)).text())
  t.same(words.sort(), ['one', 'one', 'two', 'two'])
  const full = await ask(s, 'host: more.test')
  t.equal(full.status, 503)
  t.equal(full.text(), 'Sub cluster overflow')
  t.equal(s.gateway.stat(`cluster.DFPCluster:web.test:${one.port}.upstream_rq_total`), 4)
})

t.test('names are asked for over TCP alone where that is wanted', async (t) => {
  const [origin, dns] = [await named(t, 'there'), await dnsServer(t)]
  dns.set('A', 'web.test', { addresses: ['127.0.0.1'] })
  const { typed_config: cares, ...rest } = resolver(dns) as { name: string; typed_config: Fields }
  const options = { no_default_search_domain: true, use_tcp_for_dns_lookups: true }
  const s = await setup(t, {
    clusters: [
      {
        ...cluster('web', []),
        type: 'STRICT_DNS',
        dns_lookup_family: 'V4_ONLY',
        typed_dns_resolver_config: { ...rest, typed_config: { ...cares, dns_resolver_options: options } },
        load_assignment: { cluster_name: 'web', endpoints: [{ lb_endpoints: [endpoint('web.test', origin.port)] }] },
      },
    ],
    routes: to('web'),
  })
  t.equal((await ask(s, 'host: x')).text(), 'there')
  t.same(dns.questions, ['A/tcp web.test.'])
})

t.test('the endpoints of a service are used by priority, and follow its records', async (t) => {
  const [first, second, dns] = [await named(t, 'first'), await named(t, 'second'), await dnsServer(t)]
  dns.set('A', 'a.test', { addresses: ['127.0.0.1'] })
  const record = (priority: number, { port }: Origin, target = 'a.test') => ({ priority, weight: 0, port, target })
  dns.set(
    'SRV',
    '_http._tcp.web.test',
    { services: [record(10, first), record(20, second)], ttlS: 1 },
    { services: [record(20, first), record(10, second)], ttlS: 1 },
    { services: [{ priority: 0, weight: 0, port: 0, target: '.' }] },
  )
  const clock = new TestClock()
  const parts = new Parts()
  const live = await LiveGateway.start(t, { clock })
  const service = parts.cluster('web', {
    type: 'srv',
    assignment: undefined,
    service: '_http._tcp.web.test',
    dns: {
      refreshMs: 5_000,
      failureRefreshMs: 5_000,
      failureRefreshMaxMs: 5_000,
      jitterMs: 0,
      respectTtl: true,
      family: 'v4-only',
      resolvers: [dns.address],
    },
  })
  await live.update({
    clusters: setting(service),
    listeners: setting(parts.listener('l', { routes: parts.forwarding('', 'web') })),
  })
  const said = async (): Promise<string> => (await live.get('l')).text()
  t.equal(await said(), 'first')
  clock.advance(1_000)
  let now = 'first'
  while (now === 'first') now = await said()
  t.equal(now, 'second')
  clock.advance(1_000)
  while (now === 'second') now = await said()
  t.equal(now, 'no healthy upstream', 'there is no such service any more')
  t.equal(live.stat('cluster.web.update_failure'), 0)
})

t.test('a cluster that does not come in time is not waited for', async (t) => {
  const dns = await dnsServer(t)
  dns.set('A', 'mute.test', 'silence')
  const s = await setup(t, {
    clusters: [
      {
        ...forwardProxy({ sub_clusters_config: {} }),
        dns_lookup_family: 'V4_ONLY',
        typed_dns_resolver_config: resolver(dns),
      },
    ],
    filters: forwardFilter({ sub_cluster_config: { cluster_init_timeout: '0.05s' } }),
    routes: to('dfp'),
  })
  const response = await ask(s, 'host: mute.test')
  t.equal(response.status, 503)
  t.equal(response.text(), 'Sub cluster warming timeout')
})
