import { once } from 'node:events'
import { createServer, connect as netConnect, type Server, type Socket } from 'node:net'
import t, { type Test } from 'tap'
import { cluster, endpoint, type Fields } from '../end-to-end/bootstrap.ts'
import { type SetupSpec, setup } from '../end-to-end/setup.ts'
import { setup2 } from '../listeners/http2-client.ts'
import { settle, TestClock } from '../support/clock.ts'

/** Routes that end CONNECT: what follows goes to the cluster as bytes (`connect_config`). */

const HCM: Fields = {
  upgrade_configs: [{ upgrade_type: 'CONNECT' }],
  http2_protocol_options: { allow_connect: true },
}

function routes(connect: Fields = {}, more: Fields = {}): readonly Fields[] {
  const route = { cluster: 'tcp', upgrade_configs: [{ upgrade_type: 'CONNECT', connect_config: connect }], ...more }
  return [
    { match: { connect_matcher: {} }, route },
    { match: { prefix: '/tunnel' }, route },
    { match: { prefix: '/' }, route: { cluster: 'origin' } },
  ]
}

interface Far {
  readonly server: Server
  readonly port: number
  readonly sockets: Socket[]
  /** All that has arrived on the first connection. */
  text(): string
}

/** Takes connections and does nothing by itself. */
async function far(t: Test): Promise<Far> {
  const sockets: Socket[] = []
  let got = ''
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.push(socket)
    socket.on('data', (chunk: Buffer) => {
      got += chunk.toString('latin1')
    })
    socket.on('error', () => {})
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return { server, port: (server.address() as { port: number }).port, sockets, text: () => got }
}

async function ready(t: Test, spec: Partial<SetupSpec> = {}): Promise<{ peer: Far; spec: SetupSpec }> {
  const peer = await far(t)
  return { peer, spec: { hcm: HCM, routes: routes(), clusters: [cluster('tcp', peer.port)], ...spec } }
}

const ASK = 'CONNECT 10.1.2.3:99 HTTP/1.1\r\nhost: 10.1.2.3:99\r\n\r\n'

t.test('over HTTP/1: 200 once the host is connected, bytes both ways, each end by itself', async (t) => {
  const { peer, spec } = await ready(t)
  const { gateway, connect, finish } = await setup(t, spec)
  const wire = await connect({ halfOpen: true })
  await wire.write(`${ASK}early;`)
  const response = await wire.readResponse({ method: 'CONNECT' })
  t.equal(response.status, 200)
  t.equal(response.get('transfer-encoding'), undefined)
  t.equal(response.get('content-length'), undefined)
  await gateway.until(() => peer.text() === 'early;', 'bytes that came with the head')
  peer.sockets[0].write('down;')
  t.equal((await wire.readBytes(5)).toString(), 'down;')
  wire.end()
  await once(peer.sockets[0], 'end')
  peer.sockets[0].end('after the half-close')
  t.equal((await wire.readToEnd()).bytes.toString(), 'after the half-close')
  await gateway.until(() => gateway.stat('cluster.tcp.upstream_cx_active') === 0, 'end of the connection')
  t.equal(gateway.stat('cluster.tcp.upstream_cx_total'), 1)
  const [line] = await finish()
  t.match(line, { method: 'CONNECT', status: 200, flags: '-', received: 6, sent: 25, attempts: 1 })
  t.equal(line.host, `127.0.0.1:${peer.port}`)
})

t.test(
  'the host is chosen as for other requests: by what the client asks for, and by labels of the route',
  async (t) => {
    const { peer } = await ready(t)
    const other = await far(t)
    const type = 'type.googleapis.com/envoy.extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig'
    const forward = {
      name: 'dfp',
      lb_policy: 'CLUSTER_PROVIDED',
      cluster_type: {
        name: 'envoy.clusters.dynamic_forward_proxy',
        typed_config: { '@type': type, dns_cache_config: { name: 'names', dns_lookup_family: 'V4_ONLY' } },
      },
    }
    const labelled = (port: number, zone: string): Fields =>
      endpoint('127.0.0.1', port, { metadata: { filter_metadata: { 'envoy.lb': { zone } } } })
    const subsets = {
      name: 'subsets',
      type: 'STATIC',
      lb_subset_config: { fallback_policy: 'NO_FALLBACK', subset_selectors: [{ keys: ['zone'] }] },
      load_assignment: {
        cluster_name: 'subsets',
        endpoints: [{ lb_endpoints: [labelled(other.port, 'a'), labelled(peer.port, 'b')] }],
      },
    }
    const [ends] = routes({}, { cluster: 'dfp' })
    const labels = { cluster: 'subsets', metadata_match: { filter_metadata: { 'envoy.lb': { zone: 'b' } } } }
    const [bySubset] = routes({}, labels)
    const match = { connect_matcher: {}, headers: [{ name: 'x-zone', string_match: { exact: 'b' } }] }
    const list = [{ ...bySubset, match }, ends]
    const { connect } = await setup(t, { hcm: HCM, routes: list, clusters: [forward, subsets] })
    const target = `127.0.0.1:${peer.port}`
    for (const zone of ['', 'x-zone: b\r\n']) {
      const wire = await connect()
      await wire.write(`CONNECT ${target} HTTP/1.1\r\nhost: ${target}\r\n${zone}\r\n`)
      t.equal((await wire.readResponse({ method: 'CONNECT' })).status, 200, zone)
      wire.reset()
    }
    t.equal(peer.sockets.length, 2)
    t.equal(other.sockets.length, 0)
  },
)

t.test('over HTTP/2: streams are tunnels side by side, resets go through both ways', async (t) => {
  const { peer, spec } = await ready(t)
  const { gateway, client2 } = await setup2(t, spec)
  const { session } = client2()
  const ask = { ':method': 'CONNECT', ':authority': 'some.name:1' }
  const first = session.request(ask, { endStream: false })
  const [head] = await once(first, 'response')
  t.equal(head[':status'], 200)
  const second = session.request(ask, { endStream: false })
  await once(second, 'response')
  await gateway.until(() => peer.sockets.length === 2, 'two connections')
  first.write('one')
  await gateway.until(() => peer.text() === 'one', 'bytes')
  const broken = once(second, 'error')
  peer.sockets[1].resetAndDestroy()
  const [error] = (await broken) as [Error]
  t.match(error.message, /CONNECT_ERROR|NGHTTP2_CONNECT_ERROR/)
  const gone = once(peer.sockets[0], 'end')
  first.on('error', () => {})
  first.close(8)
  await gone
  await gateway.until(() => gateway.stat('cluster.tcp.upstream_cx_active') === 0, 'end of both')
  t.equal(gateway.stat('http.test.downstream_rq_active'), 0)
})

t.test('a reader that stops holds up the writer, and nothing is lost', async (t) => {
  const { peer, spec } = await ready(t)
  const { gateway } = await setup(t, spec)
  const socket = netConnect(gateway.port(), '127.0.0.1')
  t.teardown(() => socket.destroy())
  socket.write(ASK)
  await once(socket, 'data')
  socket.pause()
  const size = 64 * 1024 * 1024
  peer.sockets[0].end(Buffer.alloc(size, 'x'))
  await settle(200)
  t.ok(peer.sockets[0].writableLength > 0, 'the gateway has not taken everything')
  let got = 0
  socket.on('data', (chunk: Buffer) => {
    got += chunk.length
  })
  socket.resume()
  await once(socket, 'end')
  t.equal(got, size)
  await gateway.until(() => gateway.stat('cluster.tcp.upstream_cx_active') === 0, 'end')
})

t.test('a host that cannot be reached is 503, none to choose from as well, a silent one 504', async (t) => {
  const { peer, spec } = await ready(t)
  const { port } = peer
  await new Promise((resolve) => peer.server.close(resolve))
  const { connect, finish } = await setup(t, {
    ...spec,
    routes: [
      { match: { connect_matcher: {}, headers: [{ name: 'x-to', string_match: { exact: 'none' } }] }, ...to('none') },
      ...routes(),
    ],
    clusters: [cluster('tcp', port), cluster('none', [])],
  })
  const refused = await (await connect()).exchange(ASK, { method: 'CONNECT' })
  t.equal(refused.status, 503)
  t.match(refused.text(), /upstream connect error.*remote connection failure/)
  const none = ASK.replace('\r\n\r\n', '\r\nx-to: none\r\n\r\n')
  t.equal((await (await connect()).exchange(none, { method: 'CONNECT' })).status, 503)
  t.same(
    (await finish()).map(({ flags, status }) => [status, flags]),
    [
      [503, 'UF'],
      [503, 'UH'],
    ],
  )
})

function to(name: string): Fields {
  return { route: { cluster: name, upgrade_configs: [{ upgrade_type: 'CONNECT', connect_config: {} }] } }
}

t.test('deadlines: the connect timeout, and a tunnel that is idle', async (t) => {
  const clock = new TestClock()
  const { peer, spec } = await ready(t)
  const { gateway, connect, finish } = await setup(t, {
    ...spec,
    hcm: { ...HCM, stream_idle_timeout: '20s' },
    gateway: { clock },
  })
  const wire = await connect({ halfOpen: true })
  await wire.write(ASK)
  t.equal((await wire.readResponse({ method: 'CONNECT' })).status, 200)
  clock.advance(16_000)
  await settle()
  peer.sockets[0].write('still here')
  t.equal((await wire.readBytes(10)).toString(), 'still here', 'the route timeout does not count any more')
  clock.advance(16_000)
  await settle()
  t.equal(gateway.stat('http.test.downstream_rq_active'), 1, 'what it carries counts as activity')
  clock.advance(10_000)
  t.equal(await wire.expectEnd(), 'reset')
  await gateway.until(() => gateway.stat('cluster.tcp.upstream_cx_active') === 0, 'end of the upstream connection')
  t.match((await finish())[0], { status: 200, flags: 'SI' })
})

t.test('a POST is a tunnel where the route says so, with the framing of HTTP', async (t) => {
  const { peer, spec } = await ready(t, { routes: routes({ allow_post: true }) })
  const { gateway, connect } = await setup(t, spec)
  const wire = await connect()
  await wire.write('POST /tunnel HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nup\r\n')
  await gateway.until(() => peer.text() === 'up', 'its body')
  peer.sockets[0].write('down')
  await wire.write('5\r\n more\r\n0\r\n\r\n')
  await once(peer.sockets[0], 'end')
  t.equal(peer.text(), 'up more')
  peer.sockets[0].end(' and end')
  const response = await wire.readResponse()
  t.equal(response.status, 200)
  t.equal(response.text(), 'down and end')
  // An upstream that ends first leaves nobody to read the rest of the body.
  const other = await connect()
  await other.write('POST /tunnel HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nup\r\n')
  await gateway.until(() => peer.sockets.length === 2, 'a second connection')
  peer.sockets[1].end('done')
  t.equal((await other.readResponse()).text(), 'done')
  await gateway.until(() => gateway.stat('cluster.tcp.upstream_cx_active') === 0, 'end of both')
  await (await connect()).write('GET /tunnel HTTP/1.1\r\nhost: a\r\n\r\n')
  await gateway.until(() => peer.text().includes('GET /tunnel HTTP/1.1\r\n'), 'others, which go as HTTP')
})

t.test('without connect_config CONNECT is forwarded, and a POST is a POST', async (t) => {
  const { peer, spec } = await ready(t)
  const { connect } = await setup(t, spec)
  const wire = await connect()
  await wire.write('POST /tunnel HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nup')
  while (!peer.text().includes('up')) await settle()
  t.match(peer.text(), /^POST \/tunnel HTTP\/1\.1\r\n/)
})

t.test('a client that goes away takes the upstream connection with it, connected or not', async (t) => {
  const { peer, spec } = await ready(t)
  const { gateway, connect, finish } = await setup(t, spec)
  const wire = await connect()
  await wire.write(ASK)
  await wire.readResponse({ method: 'CONNECT' })
  await gateway.until(() => peer.sockets.length === 1, 'the connection')
  const gone = once(peer.sockets[0], 'error')
  wire.reset()
  t.match(((await gone) as [Error])[0], { code: 'ECONNRESET' })
  await gateway.until(() => gateway.stat('cluster.tcp.upstream_cx_active') === 0, 'end')
  t.match((await finish())[0], { status: 200, flags: 'DC' })
})

t.test('a PROXY header goes in front of the bytes', async (t) => {
  const { peer, spec } = await ready(t, { routes: routes({ proxy_protocol_config: { version: 'V1' } }) })
  const { gateway, connect } = await setup(t, spec)
  const wire = await connect()
  await wire.write(`${ASK}first bytes`)
  await wire.readResponse({ method: 'CONNECT' })
  await gateway.until(() => peer.text().endsWith('first bytes'), 'bytes')
  t.match(
    peer.text(),
    new RegExp(`^PROXY TCP4 127\\.0\\.0\\.1 127\\.0\\.0\\.1 \\d+ ${gateway.port()}\\r\\nfirst bytes$`),
  )
})

t.test('over HTTP/1 a CONNECT has no body of its own: one that announces it is refused', async (t) => {
  const { peer, spec } = await ready(t)
  const { gateway, connect } = await setup(t, spec)
  for (const framing of ['content-length: 5', 'transfer-encoding: chunked']) {
    const wire = await connect({ halfOpen: true })
    await wire.write(`CONNECT 10.1.2.3:99 HTTP/1.1\r\nhost: 10.1.2.3:99\r\n${framing}\r\n\r\nhello`)
    t.equal((await wire.readResponse({ method: 'CONNECT' })).status, 400, framing)
  }
  t.equal(peer.sockets.length, 0)
  t.equal(gateway.stat('cluster.tcp.upstream_cx_total'), 0)
})

t.test(
  'a client that goes before its host is connected takes the attempt along, and every count goes back',
  async (t) => {
    const { peer, spec } = await ready(t)
    // A handshake that nobody answers.
    const tls = {
      transport_socket: {
        name: 'tls',
        typed_config: {
          '@type': 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext',
        },
      },
    }
    const { gateway, connect, finish } = await setup(t, {
      ...spec,
      clusters: [{ ...cluster('tcp', peer.port), ...tls, circuit_breakers: { thresholds: [{ max_connections: 1 }] } }],
    })
    for (let i = 0; i < 2; i++) {
      const wire = await connect()
      await wire.write(ASK)
      await gateway.until(() => peer.sockets.length === i + 1, 'a connection')
      const full = await (await connect()).exchange(ASK, { method: 'CONNECT' })
      t.equal(full.status, 503, 'the breaker')
      const gone = new Promise((resolve) => peer.sockets[i].once('close', resolve))
      wire.reset()
      await gone
      for (const gauge of ['upstream_cx_active', 'upstream_rq_active', 'upstream_rq_pending_active']) {
        await gateway.until(() => gateway.stat(`cluster.tcp.${gauge}`) === 0, gauge)
      }
      t.equal(gateway.stat('cluster.tcp.circuit_breakers.default.cx_open'), 0)
    }
    t.same((await finish()).map(({ flags }) => flags).sort(), ['DC', 'DC', 'UO', 'UO'])
  },
)
