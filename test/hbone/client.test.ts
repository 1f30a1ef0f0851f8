import { once } from 'node:events'
import { createServer as createTlsServer } from 'node:tls'
import t, { type Test } from 'tap'
import type { UpstreamTlsConfig } from '../../lib/tls/config.ts'
import type { ClusterConfig, HboneLayerConfig } from '../../lib/upstream/config.ts'
import type { Issued } from '../support/certificates.ts'
import { Origin } from '../support/origin.ts'
import { type Call, type Lab, type LabOptions, lab, until } from '../upstream/http2-lab.ts'
import { HboneServer, joinTo, Mesh, spiffe } from './peers.ts'

/** Clusters whose connections are HBONE tunnels, against a server by `node:http2`. */

function tlsOf(mesh: Mesh, who: Issued, ...expected: readonly string[]): UpstreamTlsConfig {
  return {
    certificates: [{ certificateChain: who.chain, privateKey: who.key }],
    alpn: ['h2'],
    minVersion: 'TLSv1.3',
    maxVersion: 'TLSv1.3',
    groups: ['X25519'],
    sni: '',
    autoSni: 'none',
    autoSanValidation: false,
    maxSessionKeys: 0,
    validation: {
      trustedCa: mesh.authority.pem,
      systemRoots: false,
      acceptUntrusted: false,
      sans: expected.map((value) => ({ type: 'uri', match: { kind: 'exact', value } })),
    },
  }
}

interface Rig {
  readonly mesh: Mesh
  readonly server: HboneServer
  readonly origin: Origin
  /** A cluster of the origin, reached through the server. */
  start(more?: Partial<HboneLayerConfig>, cluster?: Partial<ClusterConfig>, lab?: Partial<LabOptions>): Promise<Lab>
}

async function rig(t: Test, settings: object = {}): Promise<Rig> {
  const mesh = await Mesh.create()
  const server = await HboneServer.start(t, mesh, await mesh.workload('waypoint'), settings)
  const origin = await Origin.start((request, reply) => void reply.send({ body: `got ${request.target}` }))
  t.teardown(() => origin.close())
  server.serve = joinTo(origin.port)
  const own = await mesh.workload('client')
  return {
    mesh,
    server,
    origin,
    start: (more = {}, cluster = {}, options = {}) => {
      const hbone: HboneLayerConfig = {
        kind: 'hbone',
        port: server.port,
        authority: 'address',
        tls: tlsOf(mesh, own, spiffe('other'), spiffe('waypoint')),
        headers: [],
        ...more,
      }
      return lab(t, { port: origin.port, cluster: { protocol: 'http1', layers: [hbone], ...cluster }, ...options })
    },
  }
}

async function ended(call: Call): Promise<Call> {
  await until(() => call.over, 'the end of a request')
  return call
}

t.test(
  'connections are tunnels, side by side on one connection, each with the endpoint as its authority',
  async (t) => {
    const { server, origin, start } = await rig(t)
    const { call, stat, metrics } = await start({
      headers: ['baggage', 'k8s.cluster.name=a', 'x-forwarded-network', 'n1'],
    })
    const calls = [1, 2, 3].map((n) => call({ path: `/${n}` }))
    for (const [i, one] of calls.entries()) t.equal((await ended(one)).text, `got /${i + 1}`)
    t.equal((await ended(call({ path: '/again' }))).text, 'got /again')
    t.equal(stat('upstream_cx_total'), 3)
    t.equal(server.seen.length, 3, 'a pooled connection is a tunnel that stays')
    t.equal(new Set(server.seen.map(({ session }) => session)).size, 1)
    t.equal(metrics.counter('cluster.web.hbone.upstream_cx_total').v, 1)
    const [{ authority, headers, peer }] = server.seen
    t.equal(authority, `127.0.0.1:${origin.port}`)
    t.match(headers, { ':method': 'CONNECT', baggage: 'k8s.cluster.name=a', 'x-forwarded-network': 'n1' })
    t.equal(peer, `URI:${spiffe('client')}`)
    t.equal(calls[0].info[0].remoteAddress, `127.0.0.1:${origin.port}`)
  },
)

t.test('large bodies pass both ways under back-pressure', async (t) => {
  const { server, start } = await rig(t)
  const echo = await Origin.start(
    async (request, reply) => void (await reply.send({ body: (await request.body).bytes })),
  )
  t.teardown(() => echo.close())
  server.serve = joinTo(echo.port)
  const { call } = await start()
  const one = call({ method: 'POST', body: 'streamed', headers: ['transfer-encoding', 'chunked'] })
  const size = 12 * 1024 * 1024
  one.flowing = false
  for (let sent = 0; sent < size; sent += 64 * 1024) {
    const drains = one.drains
    if (one.stream?.write(Buffer.alloc(64 * 1024, 7), sent + 64 * 1024 >= size) === false) {
      await until(() => one.drains > drains, 'room')
    }
  }
  await until(() => one.chunks.length > 0, 'the first bytes')
  one.flowing = true
  one.stream?.resume()
  await until(() => one.over, 'the end')
  t.equal(one.bytes, size)
})

t.test(
  "a name is the authority where the cluster says so, and TLS within the tunnel is the cluster's own",
  async (t) => {
    const { mesh, server, start } = await rig(t)
    const inner = await mesh.authority.issue({ dns: ['inner.test'] })
    const secure = createTlsServer({ cert: inner.chain, key: inner.key }, (socket) => {
      socket.on('error', () => {})
      socket.once('data', () => socket.end('HTTP/1.1 200 OK\r\ncontent-length: 6\r\nconnection: close\r\n\r\nsecure'))
    })
    secure.listen(0, '127.0.0.1')
    await once(secure, 'listening')
    t.teardown(() => secure.close())
    server.serve = joinTo((secure.address() as { port: number }).port)
    const tls: UpstreamTlsConfig = {
      ...tlsOf(mesh, inner),
      certificates: [],
      alpn: [],
      sni: 'inner.test',
      autoSanValidation: true,
    }
    const { call } = await start({ authority: 'hostname' }, { tls }, { hostname: 'svc.demo' })
    const one = await ended(call())
    t.equal(one.text, 'secure')
    t.match(server.seen[0].authority, /^svc\.demo:\d+$/)
    t.equal(one.info[0].tls?.version, 'TLSv1.3')
  },
)

t.test('a tunnel that is not granted is a connection that fails, and says why', async (t) => {
  const { server, start } = await rig(t)
  const { call, stat } = await start()
  for (const status of [404, 403, 503]) {
    server.answer = () => status
    const { failure, detail } = await ended(call())
    t.equal(failure?.code, 'connect-failed')
    t.match(detail, new RegExp(`HBONE CONNECT to 127\\.0\\.0\\.1:\\d+: status ${status}$`))
  }
  t.equal(stat('upstream_cx_connect_fail'), 3)
  server.answer = () => 200
  t.equal((await ended(call({ path: '/x' }))).text, 'got /x')
})

t.test('a peer of another identity, of another authority, or without TLS is refused', async (t) => {
  const { mesh, origin, server, start } = await rig(t)
  const own = await mesh.workload('client')
  const stranger = await start({ tls: tlsOf(mesh, own, spiffe('somebody-else')) })
  const one = await ended(stranger.call())
  t.equal(one.failure?.code, 'connect-failed')
  t.match(one.detail, /HBONE CONNECT to .*remote connection failure, TLS_error:.*/)
  const unknown = await start({ tls: tlsOf(await Mesh.create(), own, spiffe('waypoint')) })
  t.equal((await ended(unknown.call())).failure?.code, 'connect-failed')
  const plain = await start({ port: origin.port })
  const waiting = plain.call()
  await until(() => origin.open > 0, 'a connection')
  plain.clock.advance(6_000)
  t.match((await ended(waiting)).failure?.code, /^connect-/)
  t.equal(server.seen.length, 0)
  t.equal(origin.requests.length, 0, 'and nothing was sent in plaintext')
})

t.test(
  'what ends a tunnel ends its connection alone; another outer connection follows where one was lost',
  async (t) => {
    const { server, start } = await rig(t)
    const { call, stat, metrics } = await start()
    t.equal((await ended(call({ path: '/1' }))).text, 'got /1')
    for (const socket of server.sockets) socket.destroy()
    await until(() => stat('upstream_cx_active') === 0, 'end of the connection')
    t.equal((await ended(call({ path: '/2' }))).text, 'got /2')
    t.equal(metrics.counter('cluster.web.hbone.upstream_cx_total').v, 2)
  },
)

t.test('no more streams on a connection than 100, or than its peer permits', async (t) => {
  const { server, start } = await rig(t, { maxConcurrentStreams: 2 })
  server.serve = (stream) => void stream.resume()
  const { call, metrics } = await start()
  const calls: Call[] = []
  for (let i = 0; i < 5; i++) {
    calls.push(call())
    await until(() => server.seen.length === i + 1, 'a tunnel')
  }
  t.equal(metrics.gauge('cluster.web.hbone.upstream_cx_active').v, 3)
  for (const one of calls) one.stream?.cancel()
})

t.test('double HBONE: the gateway of the other network, and within its tunnel one connection per tunnel', async (t) => {
  const { mesh, server, origin, start } = await rig(t)
  const gateway = await HboneServer.start(t, mesh, await mesh.workload('gateway'))
  gateway.serve = joinTo(server.port)
  const own = await mesh.workload('client')
  const { call, metrics } = await start(
    {
      authority: 'hostname',
      gateway: {
        address: { kind: 'ip', host: '127.0.0.1', port: gateway.port },
        tls: tlsOf(mesh, own, spiffe('gateway')),
      },
    },
    {},
    { hostname: 'svc.demo' },
  )
  const calls = [call({ path: '/a' }), call({ path: '/b' })]
  for (const one of calls) t.match((await ended(one)).text, /^got \/[ab]$/)
  const authority = `svc.demo:${origin.port}`
  t.same(
    gateway.seen.map((seen) => seen.authority),
    [authority, authority],
  )
  t.same(
    server.seen.map((seen) => seen.authority),
    [authority, authority],
  )
  t.equal(new Set(gateway.seen.map(({ session }) => session)).size, 1, 'the outer connection is shared')
  t.equal(new Set(server.seen.map(({ session }) => session)).size, 2, 'the inner ones are not')
  t.equal(metrics.counter('cluster.web.hbone.hbone.upstream_cx_total').v, 1)
})
