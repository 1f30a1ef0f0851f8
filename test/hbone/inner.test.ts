import { once } from 'node:events'
import { createServer, connect as netConnect, type Server, type Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { connect as tlsConnect } from 'node:tls'
import t, { type Test } from 'tap'
import {
  type ConnectionInfo,
  createGateway,
  type Gateway,
  type HttpFilter,
  type NativeConfig,
  type NativeHboneServer,
} from '../../lib/cli/library.ts'
import { settle } from '../support/clock.ts'
import { watchLeaks } from '../support/leaks.ts'
import { until } from '../upstream/http2-lab.ts'
import { ask, HboneClient, Mesh, spiffe, TRUST_DOMAIN } from './peers.ts'

/** What is within tunnels: detected protocols, ends of either side through all hops, tunnels that are dropped. */

const GET = 'GET / HTTP/1.1\r\nhost: any\r\n\r\n'
const silent = { debug() {}, info() {}, warn() {}, error() {} }

async function run(t: Test, config: NativeConfig): Promise<Gateway> {
  const gateway = createGateway(config, { log: silent })
  t.teardown(() => gateway.close({ drainMs: 0 }))
  await gateway.start()
  return gateway
}

function portOf(gateway: Gateway, name: string): number {
  const [address] = gateway.addresses[name]
  if (address.kind !== 'ip') throw new Error('no port')
  return address.port
}

function stat(gateway: Gateway, name: string): number {
  const { counters, gauges } = gateway.stats()
  return [...counters, ...gauges].find(([known]) => known === name)?.[1] ?? Number.NaN
}

async function hboneServer(mesh: Mesh, targets: NativeHboneServer['targets']): Promise<NativeHboneServer> {
  const { chain, key } = await mesh.workload('server')
  return {
    address: '127.0.0.1:0',
    identity: { certificate: { certificateChain: chain, privateKey: key }, trustedCa: mesh.authority.pem },
    trustDomains: [TRUST_DOMAIN],
    targets,
  }
}

/** `once` would fail where an error comes before. */
function closing(stream: Duplex): Promise<void> {
  return new Promise((resolve) => stream.once('close', () => resolve()))
}

interface Far {
  readonly port: number
  readonly sockets: Socket[]
  readonly server: Server
}

/** Takes connections, reads them, and does nothing by itself. */
async function far(t: Test): Promise<Far> {
  const sockets: Socket[] = []
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.push(socket)
    socket.on('error', () => {})
    socket.resume()
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return { port: (server.address() as { port: number }).port, sockets, server }
}

t.test(
  'plaintext and TLS within tunnels to one internal listener: each has its chain, and the client its identity',
  async (t) => {
    const mesh = await Mesh.create()
    const seen: ConnectionInfo[] = []
    const look = (body: string): HttpFilter => ({
      onRequestHeaders: (stream) => {
        seen.push(stream.connection)
        return stream.reply({ status: 200, body, details: 'test' })
      },
    })
    const http = (body: string) =>
      ({ filters: [{ name: 'look', filter: look(body) }], routes: [{ match: {}, action: { kind: 'none' } }] }) as const
    const inner = await mesh.authority.issue({ dns: ['a.test', 'b.test'] })
    const tls = { certificates: [{ certificateChain: inner.chain, privateKey: inner.key }] }
    const gateway = await run(t, {
      listeners: [
        {
          name: 'inside',
          internal: true,
          statPrefix: 'inside',
          listenerFiltersTimeoutMs: 60_000,
          filterChains: [
            { name: 'a', match: { serverNames: ['a.test'] }, tls, http: http('for a') },
            { name: 'tls', match: { transportProtocol: 'tls' }, tls, http: http('for others') },
            { name: 'plain', match: { transportProtocol: 'raw_buffer' }, http: http('in plaintext') },
          ],
        },
      ],
      hbone: [await hboneServer(mesh, [{ listener: 'inside' }])],
    })
    const client = await HboneClient.open(t, portOf(gateway, 'hbone'), mesh, await mesh.workload('client'))
    const plain = await client.tunnel('10.0.0.9:80')
    t.match(await ask(plain.stream, GET, 'plaintext'), /in plaintext$/)
    for (const [servername, expected] of [
      ['a.test', 'for a'],
      ['b.test', 'for others'],
    ]) {
      const { stream } = await client.tunnel('10.0.0.9:443')
      const secure = tlsConnect({ socket: stream, ca: mesh.authority.pem, servername })
      await once(secure, 'secureConnect')
      t.match(await ask(secure, GET.replace('any', servername), expected), new RegExp(`${expected}$`))
      secure.destroy()
    }
    t.same(
      seen.map(({ filterChainName, transportProtocol, serverName }) => [
        filterChainName,
        transportProtocol,
        serverName,
      ]),
      [
        ['plain', 'raw_buffer', undefined],
        ['a', 'tls', 'a.test'],
        ['tls', 'tls', 'b.test'],
      ],
    )
    for (const { state, tls: session } of seen) {
      t.same(state.tunnelPeer?.uriSans, [spiffe('client')])
      t.equal(session?.peer, undefined, 'nobody is proven by the connection within')
    }
    // Half a hello, and the tunnel is gone; one byte at a time is no obstacle.
    const half = await client.tunnel('10.0.0.9:443')
    half.stream.write(Buffer.from('160301020001', 'hex'))
    await until(() => stat(gateway, 'listener.inside.downstream_pre_cx_active') === 1, 'one that is looked at')
    half.stream.close(8)
    await until(() => stat(gateway, 'listener.inside.downstream_pre_cx_active') === 0, 'its end')
    const slow = await client.tunnel('10.0.0.9:80')
    for (const byte of GET.slice(0, -1)) {
      slow.stream.write(byte)
      await settle(1)
    }
    t.match(await ask(slow.stream, '\n', 'plaintext'), /in plaintext$/)
  },
)

t.test('thousands of tunnels that are dropped in every way leave nothing behind', async (t) => {
  const mesh = await Mesh.create()
  const gateway = await run(t, {
    listeners: [
      {
        name: 'inside',
        internal: true,
        statPrefix: 'inside',
        http: { routes: [{ match: {}, action: { kind: 'direct', status: 200, body: 'x' } }] },
      },
    ],
    hbone: [await hboneServer(mesh, [{ listener: 'inside' }])],
  })
  const client = await HboneClient.open(t, portOf(gateway, 'hbone'), mesh, await mesh.workload('client'))
  await (await client.tunnel('10.0.0.9:80')).stream.destroy()
  const gone = (): boolean =>
    stat(gateway, 'listener.inside.downstream_cx_active') === 0 &&
    stat(gateway, 'cluster.hbone to inside.upstream_cx_active') === 0 &&
    stat(gateway, 'cluster.hbone to inside.upstream_rq_active') === 0 &&
    stat(gateway, 'http.hbone.downstream_rq_active') === 0
  await until(gone, 'the first to end')
  const watch = watchLeaks()
  const waves = 25
  for (let wave = 0; wave < waves; wave++) {
    const ends: Promise<unknown>[] = []
    for (let i = 0; i < 100; i++) {
      const stream = client.session.request({ ':method': 'CONNECT', ':authority': '10.0.0.9:80' }, { endStream: false })
      stream.on('error', () => {})
      ends.push(closing(stream))
      stream.resume()
      if (i % 5 === 0) stream.close(8)
      else if (i % 5 === 1) stream.once('response', () => stream.close(8))
      else if (i % 5 === 2) stream.once('response', () => stream.destroy())
      else if (i % 5 === 3) stream.end()
      else stream.end(`${GET.slice(0, -2)}connection: close\r\n\r\n`)
    }
    await Promise.all(ends)
  }
  await until(gone, 'all to end')
  t.ok(stat(gateway, 'listener.inside.downstream_cx_total') > waves * 70)
  // One may be there: the next tick of the gateway's wheel.
  await until(() => watch.left().length <= 1, 'everything to be given back')
  t.match(watch.left().join(), /^(?:Timeout made at lib\/core\/clock\.ts:\d+)?$/)
  watch.stop()
})

interface Hops {
  readonly origin: Far
  readonly front: Gateway
  readonly server: Gateway
  connect(): Promise<Socket>
  /** All gauges of both are back at zero. */
  quiet(): Promise<void>
}

/** client → tcp_proxy → tunnel → HBONE server → origin */
async function hops(t: Test): Promise<Hops> {
  const mesh = await Mesh.create()
  const origin = await far(t)
  const server = await run(t, {
    listeners: [],
    clusters: [{ name: 'origin', endpoints: [`127.0.0.1:${origin.port}`] }],
    hbone: [await hboneServer(mesh, [{ cluster: 'origin' }])],
  })
  const { chain, key } = await mesh.workload('client')
  const front = await run(t, {
    listeners: [
      {
        name: 'front',
        statPrefix: 'front',
        address: '127.0.0.1:0',
        networkFilters: [{ name: 'tcp_proxy', config: { stat_prefix: 'tcp', cluster: 'far' } }],
      },
    ],
    clusters: [
      {
        name: 'far',
        endpoints: [`127.0.0.1:${origin.port}`],
        hbone: {
          identity: { certificate: { certificateChain: chain, privateKey: key }, trustedCa: mesh.authority.pem },
          identities: [spiffe('server')],
          port: portOf(server, 'hbone'),
        },
      },
    ],
  })
  return {
    origin,
    front,
    server,
    connect: async () => {
      const count = origin.sockets.length
      const socket = netConnect({ port: portOf(front, 'front'), host: '127.0.0.1', allowHalfOpen: true })
      t.teardown(() => socket.destroy())
      socket.on('error', () => {})
      await until(() => origin.sockets.length > count, 'a connection at the origin')
      return socket
    },
    quiet: () =>
      until(
        () =>
          stat(front, 'listener.front.downstream_cx_active') === 0 &&
          stat(front, 'cluster.far.upstream_cx_active') === 0 &&
          stat(front, 'cluster.far.hbone.upstream_rq_active') === 0 &&
          stat(server, 'http.hbone.downstream_rq_active') === 0 &&
          stat(server, 'cluster.origin.upstream_cx_active') === 0,
        'everything to end',
      ),
  }
}

t.test('half-close, resets and back-pressure go through both hops, both ways', async (t) => {
  const { origin, connect, quiet } = await hops(t)
  const one = await connect()
  one.end('question')
  await once(origin.sockets[0], 'end')
  t.equal(origin.sockets[0].bytesRead, 8)
  origin.sockets[0].write('first ')
  t.equal(String((await once(one, 'data'))[0]), 'first ')
  origin.sockets[0].end('last')
  t.equal(String((await once(one, 'data'))[0]), 'last')
  await once(one, 'end')
  await quiet()
  const two = await connect()
  origin.sockets[1].end('greeting')
  t.equal(String((await once(two, 'data'))[0]), 'greeting')
  await once(two, 'end')
  two.write('still ')
  two.end('there')
  await once(origin.sockets[1], 'end')
  t.equal(origin.sockets[1].bytesRead, 11)
  await quiet()
  const three = await connect()
  three.write('x')
  await until(() => origin.sockets[2].bytesRead === 1, 'a byte')
  const lost = closing(origin.sockets[2])
  three.resetAndDestroy()
  await lost
  await quiet()
  const four = await connect()
  four.resume()
  const closed = closing(four)
  origin.sockets[3].resetAndDestroy()
  await closed
  await quiet()
  const five = await connect()
  five.pause()
  const size = 96 * 1024 * 1024
  origin.sockets[4].end(Buffer.alloc(size, 'x'))
  await settle(300)
  t.ok(origin.sockets[4].writableLength > 0, 'the origin has to wait')
  let got = 0
  five.on('data', (chunk: Buffer) => {
    got += chunk.length
  })
  five.resume()
  await once(five, 'end')
  t.equal(got, size)
  five.end()
  await quiet()
})

t.test('a client that goes before its tunnel leads anywhere takes the upstream connection along', async (t) => {
  const mesh = await Mesh.create()
  const origin = await far(t)
  const gateway = await run(t, {
    listeners: [],
    clusters: [
      {
        name: 'slow',
        endpoints: [`127.0.0.1:${origin.port}`],
        // Nobody answers the hello.
        tls: { sni: 'slow.test', validation: { trustedCa: mesh.authority.pem, sans: [] } },
      },
    ],
    hbone: [await hboneServer(mesh, [{ cluster: 'slow' }])],
  } as NativeConfig)
  const client = await HboneClient.open(t, portOf(gateway, 'hbone'), mesh, await mesh.workload('client'))
  for (let i = 0; i < 3; i++) {
    const stream = client.session.request({ ':method': 'CONNECT', ':authority': 'a:1' }, { endStream: false })
    stream.on('error', () => {})
    stream.write('early')
    await until(() => origin.sockets[i]?.bytesRead > 0, 'the hello')
    const closed = closing(origin.sockets[i])
    if (i === 1) stream.end()
    stream.close(8)
    await closed
    await until(() => stat(gateway, 'cluster.slow.upstream_cx_active') === 0, 'the end')
    t.equal(stat(gateway, 'cluster.slow.upstream_rq_active'), 0)
    t.equal(stat(gateway, 'cluster.slow.upstream_rq_pending_active'), 0)
  }
  t.equal(stat(gateway, 'http.hbone.downstream_rq_active'), 0)
})
