import { once } from 'node:events'
import { createServer } from 'node:net'
import t, { type Test } from 'tap'
import type { AnyFilterFactory } from '../../lib/chain/registry.ts'
import type { GatewayConfig } from '../../lib/config/model.ts'
import type { Address } from '../../lib/core/address.ts'
import { ConfigRefused } from '../../lib/core/errors.ts'
import { settle, TestClock } from '../support/clock.ts'
import { startDnsServer } from '../support/dns-server.ts'
import { Origin, type OriginScript } from '../support/origin.ts'
import { socketPath } from '../support/socket-path.ts'
import { bootstrap, cluster, endpoint, type Fields, type ListenerSpec, toOrigin } from './bootstrap.ts'
import { get, type Setup, type SetupSpec, setup } from './setup.ts'

/** What an old configuration leaves behind, and what the next one takes over from it. */

const TYPE = 'envoy.extensions.filters.http.alternate_protocols_cache.v3.FilterConfig'

interface Resource {
  alive: boolean
}

/** A filter with one resource per configuration; requests are answered with whether it is alive. */
function owner(made: Resource[], dispose: (index: number) => void = () => {}): AnyFilterFactory {
  return {
    name: 'owner',
    // Any message without fields.
    typeUrls: [TYPE],
    parse: () => ({}),
    compile: (_config, scope) => {
      const index = made.length
      const resource = {
        alive: true,
        [Symbol.dispose](): void {
          dispose(index)
          resource.alive = false
        },
      }
      made.push(scope.own(resource))
      return {
        onResponseHeaders: (stream): void => stream.response.set('x-alive', String(resource.alive)),
      }
    },
  }
}

const OWNER: Fields = { name: 'owner', typed_config: { '@type': `type.googleapis.com/${TYPE}` } }

/** `setup` with listeners that the test replaces. */
async function replaceable(
  t: Test,
  first: ListenerSpec,
  spec: SetupSpec = {},
): Promise<Setup & { apply(...listeners: readonly ListenerSpec[]): Promise<void> }> {
  const s = await setup(t, { ...spec, ...first })
  const clusters = [cluster('origin', s.origin.port, spec.cluster), ...(spec.clusters ?? [])]
  return { ...s, apply: (...listeners) => s.gateway.apply(bootstrap({ listeners, clusters })) }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  server.close()
  await once(server, 'close')
  return port
}

t.test(
  'filters of a removed listener live until its connections have ended, for which these have limited time',
  async (t) => {
    const made: Resource[] = []
    const clock = new TestClock()
    const { gateway, connect, apply } = await replaceable(
      t,
      { filters: [OWNER], hcm: { drain_timeout: '5s' } },
      { gateway: { clock, filters: [owner(made)] } },
    )
    const [asks, idle] = [await connect(), await connect()]
    t.equal((await asks.exchange(get())).get('x-alive'), 'true')
    await apply({ name: 'other', filters: [OWNER] })
    await settle(10)
    const last = await asks.exchange(get())
    t.equal(last.status, 200)
    t.equal(last.get('x-alive'), 'true')
    t.equal(last.get('connection'), 'close')
    await asks.expectEnd()
    t.equal(made[0].alive, true, 'there is another connection')
    clock.advance(5_100)
    t.equal(await idle.expectEnd(), 'fin')
    await gateway.until(() => !made[0].alive, 'end of the resource')
    t.equal(made[1].alive, true)
  },
)

t.test('filters of a cluster live until no attempt is within them, with a connection or without', async (t) => {
  const made: Resource[] = []
  const [within, gate] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
  const factory = owner(made)
  const slow: AnyFilterFactory = {
    ...factory,
    upstream: true,
    compile: (config, scope) => {
      const index = made.length
      factory.compile(config, scope)
      return {
        async onRequestHeaders(stream): Promise<void> {
          within.resolve()
          await gate.promise
          stream.request.set('x-alive', String(made[index].alive))
        },
      }
    },
  }
  const options = 'envoy.extensions.upstreams.http.v3.HttpProtocolOptions'
  const { gateway, origin, connect } = await setup(t, {
    gateway: { filters: [slow] },
    cluster: {
      typed_extension_protocol_options: {
        [options]: {
          '@type': `type.googleapis.com/${options}`,
          explicit_http_config: { http_protocol_options: {} },
          http_filters: [
            OWNER,
            {
              name: 'codec',
              typed_config: {
                '@type': 'type.googleapis.com/envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec',
              },
            },
          ],
        },
      },
    },
  })
  const client = await connect()
  await client.write(get())
  await within.promise
  const listeners = [{ hcm: { drain_timeout: '5s' } }]
  await gateway.apply(bootstrap({ listeners, clusters: [cluster('origin', origin.port, { connect_timeout: '2s' })] }))
  await settle(10)
  t.equal(made[0].alive, true)
  gate.resolve()
  await client.readResponse()
  t.equal(origin.requests[0].get('x-alive'), 'true')
  await gateway.until(() => !made[0].alive, 'end of the resource')
})

t.test('a gateway that closes disposes of what retired listeners still used', async (t) => {
  const made: Resource[] = []
  const { gateway, connect, apply } = await replaceable(
    t,
    { filters: [OWNER] },
    { gateway: { filters: [owner(made)] } },
  )
  await connect()
  await gateway.until(() => gateway.stat('http.test.downstream_cx_active') === 1, 'connection')
  await apply({ name: 'other', filters: [OWNER] })
  await apply({ name: 'third', filters: [OWNER] })
  await settle(10)
  t.same(
    made.map((resource) => resource.alive),
    [true, false, true],
  )
  await gateway.close()
  t.same(
    made.map((resource) => resource.alive),
    [false, false, false],
  )
})

t.test('a resource that cannot be disposed of is told of, and keeps neither the others nor the gateway', async (t) => {
  const made: Resource[] = []
  const fails = (index: number): void => {
    if (index === 1) throw new Error('it does not want to')
  }
  const { gateway, connect, apply } = await replaceable(
    t,
    { filters: [OWNER, { ...OWNER, name: 'second' }] },
    { gateway: { filters: [owner(made, fails)] } },
  )
  await apply({ filters: [] })
  await settle(10)
  t.same(
    made.map((resource) => resource.alive),
    [false, true],
  )
  t.match(gateway.complaints.join(), /it does not want to/)
  t.equal((await (await connect()).exchange(get())).status, 200)
})

t.test('a connection is counted under one prefix, whatever becomes of its listener meanwhile', async (t) => {
  const { gateway, connect, apply } = await replaceable(t, {})
  const wire = await connect()
  t.equal((await wire.exchange(get())).status, 200)
  await apply({ hcm: { stat_prefix: 'renamed' } })
  t.equal((await wire.exchange(get())).status, 200)
  const other = await connect()
  t.equal((await other.exchange(get())).status, 200)
  await other.close()
  await wire.close()
  await gateway.until(() => gateway.stat('http.test.downstream_cx_active') === 0, 'end of the first connection')
  await gateway.until(() => gateway.stat('http.renamed.downstream_cx_active') === 0, 'end of the second connection')
  for (const prefix of ['test', 'renamed']) t.equal(gateway.stat(`http.${prefix}.downstream_cx_destroy`), 1)
})

t.test('mirrored requests end with the gateway, also those to clusters and hosts that are gone', async (t) => {
  await using dns = await startDnsServer()
  const clock = new TestClock()
  const stall: OriginScript = async (_, reply) => void (await reply.stall())
  const [retired, removed] = [await Origin.start(stall), await Origin.start(stall)]
  t.teardown(() => Promise.all([retired.close(), removed.close()]))
  dns.set('A', 'web.test', { addresses: ['127.0.0.1'], ttlS: 1 })
  const [address, port] = dns.address.split(':')
  const named: Fields = {
    name: 'named',
    type: 'STRICT_DNS',
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
      cluster_name: 'named',
      endpoints: [{ lb_endpoints: [endpoint('web.test', removed.port)] }],
    },
  }
  const mirrors = [{ cluster: 'retired' }, { cluster: 'named' }]
  const { gateway, origin, connect } = await setup(t, {
    gateway: { clock },
    clusters: [cluster('retired', retired.port), named],
    routes: [{ match: { prefix: '/' }, route: { cluster: 'origin', request_mirror_policies: mirrors } }],
  })
  const wire = await connect()
  t.equal((await wire.exchange(get())).status, 200)
  await retired.seen(1)
  await removed.seen(1)
  await gateway.apply(bootstrap({ clusters: [cluster('origin', origin.port), named] }))
  dns.set('A', 'web.test', { addresses: ['127.0.0.2'], ttlS: 100 })
  const changes = gateway.stat('cluster.named.membership_change')
  for (let i = 0; i < 5 && gateway.stat('cluster.named.membership_change') === changes; i++) {
    clock.advance(1_100)
    for (let j = 0; j < 20; j++) await settle(5)
  }
  t.equal(gateway.stat('cluster.named.membership_change'), changes + 2, 'one host for another')
  await wire.close()
  await settle(10)
  for (const name of ['retired', 'named']) t.equal(gateway.stat(`cluster.${name}.upstream_rq_active`), 1)
  // It insists that no connection and no request is left.
  await gateway.close()
  t.equal(await retired.requests[0].ended, 'fin')
  t.equal(await removed.requests[0].ended, 'fin')
})

// --- listening sockets ----------------------------------------------------------------------------------------------

/** Says under which listener it was asked. */
const named = (name: string, more: ListenerSpec = {}): ListenerSpec => ({
  name,
  routes: [{ ...toOrigin, response_headers_to_add: [{ header: { key: 'x-listener', value: name } }] }],
  ...more,
})

t.test(
  'a listener may get another name, further addresses, or the address of another, and nobody is refused',
  async (t) => {
    const ports = [await freePort(), await freePort(), await freePort()]
    const ip = (i: number): Address => ({ kind: 'ip', host: '127.0.0.1', port: ports[i] })
    let addresses: Readonly<Record<string, readonly Address[]>> = { old: [ip(0)] }
    const adjust = (config: GatewayConfig): GatewayConfig => ({
      ...config,
      listeners: config.listeners.map((l) => ({ ...l, addresses: addresses[l.name] })),
    })
    const { gateway, client, apply, origin } = await replaceable(t, named('old'), { gateway: { adjust } })
    const stage = (next: typeof addresses): Promise<void> => {
      addresses = next
      return apply(...Object.keys(next).map((name) => named(name)))
    }
    let stop = false
    let answered = 0
    const visitor = (async () => {
      while (!stop) {
        const wire = await client.connect(ports[0])
        if ((await wire.exchange(get())).status !== 200) throw new Error('no answer')
        answered++
        await wire.close()
      }
    })()
    const asked = async (i: number): Promise<string | undefined> => {
      const wire = await client.connect(ports[i])
      return (await wire.exchange(get())).get('x-listener')
    }
    const before = await client.connect(ports[0])
    t.equal((await before.exchange(get())).get('x-listener'), 'old')
    await stage({ new: [ip(0)] })
    t.equal(await asked(0), 'new')
    const last = await before.exchange(get())
    t.equal(last.get('connection'), 'close', 'the listener that it came through is gone')
    await before.expectEnd()
    await stage({ new: [ip(1), ip(0)] })
    t.same([await asked(0), await asked(1)], ['new', 'new'])
    t.same(gateway.engine.status().listeners[0].addresses, [ip(1), ip(0)])
    await stage({ a: [ip(0)], b: [ip(1)] })
    t.same([await asked(0), await asked(1)], ['a', 'b'])
    await stage({ a: [ip(1)], b: [ip(0), ip(2)] })
    t.same([await asked(0), await asked(1), await asked(2)], ['b', 'a', 'b'])
    const taken = createServer().listen(0, '127.0.0.1')
    await once(taken, 'listening')
    const { port } = taken.address() as { port: number }
    const refused = stage({ c: [ip(0)], d: [{ kind: 'ip', host: '127.0.0.1', port }] })
    await t.rejects(refused, ConfigRefused)
    taken.close()
    t.same([await asked(0), await asked(1), await asked(2)], ['b', 'a', 'b'], 'what is refused changes nothing')
    await stage({ b: [ip(0)] })
    t.equal(await asked(0), 'b')
    for (const i of [1, 2]) await t.rejects(client.connect(ports[i]), { code: 'ECONNREFUSED' })
    stop = true
    await visitor
    t.ok(answered > 0)
    t.same(origin.violations, [])
  },
)

t.test('two addresses with port 0 are two ports, kept by a listener of the same name only', async (t) => {
  const any: Address = { kind: 'ip', host: '127.0.0.1', port: 0 }
  let addresses: readonly Address[] = [any]
  const adjust = (config: GatewayConfig): GatewayConfig => ({
    ...config,
    listeners: config.listeners.map((l) => ({ ...l, addresses })),
  })
  const { gateway, client, apply } = await replaceable(t, named('a'), { gateway: { adjust } })
  const bound = (): number[] =>
    gateway.engine.status().listeners[0].addresses.map((address) => (address as { port: number }).port)
  const [first] = bound()
  addresses = [any, any]
  await apply(named('a'))
  const both = bound()
  t.equal(both.length, 2)
  t.equal(both[0], first)
  t.not(both[1], first)
  for (const port of both) t.equal((await (await client.connect(port)).exchange(get())).status, 200)
  await apply(named('b'))
  for (const port of bound()) t.notOk(both.includes(port))
  for (const port of both) await t.rejects(client.connect(port), { code: 'ECONNREFUSED' })
})

// A short name: it is part of the path, and sockets have short ones.
t.test('a Unix socket', async (t) => {
  const path = socketPath(t, 'gate.sock')
  const pipe = { fields: { address: { pipe: { path } } } }
  const { client, apply } = await replaceable(t, named('old', pipe))
  t.equal((await (await client.connect({ path })).exchange(get())).get('x-listener'), 'old')
  await apply(named('new', pipe))
  t.equal((await (await client.connect({ path })).exchange(get())).get('x-listener'), 'new')
})
