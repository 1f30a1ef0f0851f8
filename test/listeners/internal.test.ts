import { once } from 'node:events'
import type { Duplex } from 'node:stream'
import t from 'tap'
import type { ListenerConfig } from '../../lib/config/listener.ts'
import type { GatewayConfig } from '../../lib/config/model.ts'
import { type ConnectionInfo, ConnectionState, plainConnection, verifiedPeer } from '../../lib/core/connection.ts'
import type { PipeEnd } from '../../lib/core/pipe.ts'
import { MetricsStore } from '../../lib/telemetry/metrics.ts'
import { Entrance } from '../../listeners/entrance.ts'
import { InternalListenerTable } from '../../listeners/internal.ts'
import { ConnectionBudget } from '../../listeners/limits.ts'
import { receptionStats } from '../../listeners/stats.ts'
import { bootstrap, cluster, type Fields } from '../end-to-end/bootstrap.ts'
import { get, post, setup } from '../end-to-end/setup.ts'
import { workerLeases } from '../filters/worker-leases.ts'
import { settle, TestClock } from '../support/clock.ts'
import { TestGateway } from '../support/gateway.ts'
import { Origin } from '../support/origin.ts'
import { WireClient } from '../support/wire.ts'

/** A cluster whose endpoint is an internal listener. */
export function toInternal(name: string, listener: string, fields: Fields = {}): Fields {
  const address = { envoy_internal_address: { server_listener_name: listener } }
  return {
    name,
    type: 'STATIC',
    load_assignment: { cluster_name: name, endpoints: [{ lb_endpoints: [{ endpoint: { address } }] }] },
    ...fields,
  }
}

function routeTo(name: string): readonly Fields[] {
  return [{ match: { prefix: '/' }, route: { cluster: name } }]
}

const INTERNAL: Fields = { address: undefined, internal_listener: {} }

t.test('a cluster reaches an internal listener, with bodies both ways and the client known there', async (t) => {
  const { gateway, origin, client, connect } = await setup(t, {
    origin: async (request, reply) => void (await reply.send({ body: (await request.body).bytes })),
    listeners: [
      { name: 'outer', routes: routeTo('inner'), hcm: { stat_prefix: 'outer' } },
      { name: 'inside', fields: INTERNAL, hcm: { stat_prefix: 'inside', use_remote_address: true } },
    ],
    clusters: [toInternal('inner', 'inside')],
  })
  const wire = await connect()
  t.equal((await wire.exchange(post('x'.repeat(300_000)))).text().length, 300_000)
  t.equal((await wire.exchange(get('/again'))).status, 200)
  t.equal(gateway.stat('listener.inside.downstream_cx_total'), 1, 'the connection within was used again')
  t.equal(gateway.stat('http.inside.downstream_rq_total'), 2)
  t.equal(origin.requests.length, 2)
  await client.closeAll()
  await gateway.close()
  t.equal(gateway.stat('listener.inside.downstream_cx_active'), 0)
})

t.test('no listener of that name, one that is not internal, and one that is full: a refused connection', async (t) => {
  const { gateway, connect } = await setup(t, {
    listeners: [
      {
        name: 'outer',
        routes: [
          { match: { prefix: '/missing' }, route: { cluster: 'missing' } },
          { match: { prefix: '/outer' }, route: { cluster: 'outer' } },
          { match: { prefix: '/' }, route: { cluster: 'inner' } },
        ],
      },
      { name: 'inside', fields: INTERNAL },
    ],
    clusters: [toInternal('missing', 'nowhere'), toInternal('outer', 'outer'), toInternal('inner', 'inside')],
    gateway: {
      adjust: (config: GatewayConfig) => ({
        ...config,
        listeners: config.listeners.map((l) => (l.internal ? { ...l, maxConnections: 0 } : l)),
      }),
    },
  })
  for (const path of ['/missing', '/outer', '/']) {
    const response = await (await connect()).exchange(get(path))
    t.equal(response.status, 503, path)
    t.match(response.text(), /reset reason: remote connection failure/)
  }
  t.equal(gateway.stat('listener.inside.downstream_cx_overflow'), 1)
})

t.test(
  'a worker that could not take a connection from within has room for the next, where the gateway has',
  async (t) => {
    const clock = new TestClock()
    const [leases] = await workerLeases(2, clock)
    const config = { maxConnections: 2, ignoreGlobalLimit: false } as ListenerConfig
    const stats = receptionStats(new MetricsStore(), '')
    const entrance = new Entrance('inside', { budget: new ConnectionBudget(), stats, leases })
    const enter = (id: number): boolean => {
      const facts = plainConnection({
        id,
        remoteAddress: '',
        remotePort: 0,
        localAddress: '',
        localPort: 0,
        kind: 'ip',
        listenerName: 'inside',
      })
      return entrance.enter({ ...facts, state: new ConnectionState(1) }, config)
    }
    t.same([enter(1), enter(2)], [true, false], 'its half is used')
    await settle(10)
    t.same([enter(3), enter(4)], [true, false], 'two is the limit')
  },
)

t.test('a circle of internal listeners ends, with a log line and a count', async (t) => {
  const { gateway, connect } = await setup(t, {
    listeners: [
      { name: 'outer', routes: routeTo('circle') },
      { name: 'inside', fields: INTERNAL, routes: routeTo('circle') },
    ],
    clusters: [toInternal('circle', 'inside')],
  })
  t.equal((await (await connect()).exchange(get('/'))).status, 503)
  t.equal(gateway.stat('internal_listener.depth_exceeded'), 1)
  t.equal(gateway.stat('listener.inside.downstream_cx_total'), 8)
  t.match(gateway.complaints, [/comes back through internal listeners again and again {"listener":"inside"}/])
})

t.test('an update changes, removes and brings back an internal listener under open connections', async (t) => {
  const origin = await Origin.start((request, reply) => void reply.send({ body: request.get('x-by') ?? '' }))
  const client = new WireClient()
  const config = (by: string | undefined): object =>
    bootstrap({
      listeners: [
        { name: 'outer', routes: routeTo('inner') },
        ...(by === undefined
          ? []
          : [
              {
                name: 'inside',
                fields: INTERNAL,
                routes: [
                  {
                    ...routeTo('origin')[0],
                    request_headers_to_add: [{ header: { key: 'x-by', value: by } }],
                  },
                ],
              },
            ]),
      ],
      clusters: [cluster('origin', origin.port), toInternal('inner', 'inside')],
    })
  const gateway = await TestGateway.start(config('one'))
  t.teardown(async () => {
    await client.closeAll()
    await gateway.close()
    await origin.close()
  })
  const wire = await client.connect(gateway.port('outer'))
  t.equal((await wire.exchange(get('/'))).text(), 'one')
  await gateway.apply(config('two'))
  t.equal((await wire.exchange(get('/'))).text(), 'two')
  t.equal(gateway.stat('listener.inside.downstream_cx_total'), 1, 'the connection within stayed')
  await gateway.apply(config(undefined))
  await wire.exchange(get('/'))
  await settle(5)
  t.equal((await wire.exchange(get('/'))).status, 503)
  await gateway.apply(config('three'))
  t.equal((await wire.exchange(get('/'))).text(), 'three')
})

t.test(
  '`internal_upstream` brings metadata of host and cluster along, each client on connections of its own',
  async (t) => {
    const { gateway, origin, connect } = await setup(t, {
      listeners: [
        { name: 'outer', routes: routeTo('inner') },
        {
          name: 'inside',
          fields: INTERNAL,
          hcm: { use_remote_address: true, skip_xff_append: false },
          routes: [
            {
              ...routeTo('origin')[0],
              request_headers_to_add: [
                { header: { key: 'x-client', value: '%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%' } },
              ],
            },
          ],
        },
      ],
      clusters: [
        toInternal('inner', 'inside', {
          metadata: { filter_metadata: { ns: { a: 1 } } },
          transport_socket: {
            name: 'internal',
            typed_config: {
              '@type':
                'type.googleapis.com/envoy.extensions.transport_sockets.internal_upstream.v3.InternalUpstreamTransport',
              passthrough_metadata: [{ kind: { cluster: {} }, name: 'ns' }],
              transport_socket: {
                name: 'raw',
                typed_config: {
                  '@type': 'type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer',
                },
              },
            },
          },
        }),
      ],
    })
    for (let i = 0; i < 2; i++) t.equal((await (await connect()).exchange(get('/'))).status, 200)
    t.equal(gateway.stat('listener.inside.downstream_cx_total'), 2)
    t.equal(origin.requests[0].get('x-client'), '127.0.0.1')
  },
)

function table(accepted: { end: PipeEnd; facts: ConnectionInfo }[]): InternalListenerTable {
  const config = { name: 'inside', internal: true } as ListenerConfig
  return new InternalListenerTable({
    find: (name) =>
      name === 'inside'
        ? {
            config,
            acceptInternal: (end, facts) => {
              accepted.push({ end, facts })
              return true
            },
          }
        : undefined,
    nextConnectionId: () => 7,
    metrics: new MetricsStore(),
    log: { debug() {}, info() {}, warn() {}, error() {} },
  })
}

t.test('the far side knows whose connection it is, where it should go, and what was sent along', async (t) => {
  const accepted: { end: PipeEnd; facts: ConnectionInfo }[] = []
  const internal = table(accepted)
  const peer = { uriSans: ['spiffe://a/ns/b/sa/c'] } as unknown as NonNullable<ReturnType<typeof verifiedPeer>>
  const state = new ConnectionState(3)
  const downstream: ConnectionInfo = {
    ...plainConnection({
      id: 1,
      remoteAddress: '192.0.2.1',
      remotePort: 555,
      localAddress: '10.0.0.1',
      localPort: 15_008,
      kind: 'ip',
      listenerName: 'outer',
    }),
    directRemoteAddress: '192.0.2.99',
    directRemotePort: 9,
    state,
  }
  const near = internal.connect('inside', {
    downstream,
    destination: { address: '10.9.9.9', port: 80 },
    metadata: new Map([['ns', { a: 1 }]]),
    objects: new Map([['key', 'value']]),
    peer,
  }) as Duplex
  await once(near, 'connect')
  const [{ end, facts }] = accepted
  t.match(facts, {
    id: 7,
    kind: 'internal',
    listenerName: 'inside',
    remoteAddress: '192.0.2.1',
    remotePort: 555,
    directRemoteAddress: '192.0.2.99',
    directRemotePort: 9,
    localAddress: '10.9.9.9',
    localPort: 80,
    tls: undefined,
  })
  t.equal(facts.state.depth, 4)
  t.same(facts.state.metadata('ns'), { a: 1 })
  t.equal(facts.state.object('key'), 'value')
  t.same([...(facts.state.sharedObjects ?? [])], [['key', 'value']])
  t.equal(verifiedPeer(facts), peer)
  t.same([end.remoteAddress, end.remotePort, end.localAddress], ['192.0.2.1', 555, '10.9.9.9'])
  near.write('hello')
  t.equal(String((await once(end, 'data'))[0]), 'hello')
  near.destroy()
  t.equal(internal.connect('elsewhere', { downstream: undefined }), undefined)
  t.equal(internal.connect('inside', { downstream: { ...downstream, state: new ConnectionState(8) } }), undefined)
  t.match(internal.connect('inside', { downstream: undefined }), { remoteAddress: '' })
  t.equal(accepted[1].facts.state.depth, 1)
})
