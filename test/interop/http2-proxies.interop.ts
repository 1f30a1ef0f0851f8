import { randomBytes } from 'node:crypto'
import { mkdirSync, writeFileSync } from 'node:fs'
import http2 from 'node:http2'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { type CertificateFolder, certificatesFor } from './certificates.ts'
import { startEcho, startHttp2Echo } from './echo.ts'
import { cluster } from './envoy/group.ts'
import { EXCHANGES, exchangeBodies, exchangeHttp2Bodies, hash, MIB } from './exchange-bodies.ts'
import { envoyGateway, type Gateway, startGateway } from './gateway.ts'
import { autoCluster, downstreamTls, http2Cluster, upstreamTls } from './gateway-config.ts'
import { needing, program } from './programs.ts'
import { folderFor, startHaproxy, startNghttpd, startNghttpx, startNginx } from './servers.ts'

/** Other proxies in front of Headgate and behind it, in HTTP/2: every body comes back whole, over HTTP/1 and HTTP/2. */

t.setTimeout(600_000)

const TLS = { dns: ['localhost'], ip: ['127.0.0.1'] }

interface Behind {
  readonly gateway: Gateway
  readonly certificates: CertificateFolder
  readonly requests: () => number
}

/** Headgate before an echo: `ingress` in plaintext, `secure` over TLS. */
async function gatewayBeforeEcho(t: Test): Promise<Behind> {
  const [origin, certificates] = [await startHttp2Echo(t), await certificatesFor(t)]
  const tls = downstreamTls([await certificates.issue(TLS)])
  const clusters = [http2Cluster('origin', origin.port)]
  const gateway = await startGateway(t, [{}, { name: 'secure', tls }], clusters)
  return { gateway, certificates, requests: origin.requests }
}

/** Through a proxy in front: HTTP/2 and HTTP/1 clients, and every request has reached Headgate in HTTP/2. */
async function exchangeThroughFront(t: Test, front: number, behind: Behind, listener = 'ingress'): Promise<void> {
  await exchangeBodies(t, front)
  t.equal(behind.requests(), EXCHANGES)
  const lines = await behind.gateway.log(EXCHANGES, listener)
  t.same(
    lines.map(({ protocol, code }) => `${protocol} ${code}`),
    Array.from({ length: EXCHANGES }, () => 'HTTP/2 200'),
  )
  await behind.gateway.assertUnharmed(t)
}

/** Headgate before a proxy that is spoken to in HTTP/2: HTTP/1 and HTTP/2 clients of Headgate. */
async function exchangeBeforeUpstream(t: Test, gateway: Gateway): Promise<void> {
  await exchangeBodies(t, gateway.port())
  await exchangeHttp2Bodies(t, gateway.port())
  const total = await gateway.stat('cluster.origin.upstream_cx_http2_total', 1, 3_000)
  t.ok(total >= 1, `${total} connections of HTTP/2`)
  t.equal(await gateway.stat('cluster.origin.upstream_rq_total', 2 * EXCHANGES), 2 * EXCHANGES, 'none was tried twice')
  await gateway.assertUnharmed(t)
}

t.test('nghttpx in front speaks HTTP/2 to Headgate, in plaintext and over TLS', needing('nghttpx'), async (t) => {
  const behind = await gatewayBeforeEcho(t)
  const { gateway, certificates } = behind
  const front = { options: 'no-tls' }
  const plain = { port: gateway.port(), options: 'proto=h2' }
  await exchangeThroughFront(t, await startNghttpx(t, program('nghttpx'), front, plain), behind)
  const tls = { port: gateway.port('secure'), options: 'proto=h2;tls;sni=localhost' }
  const secure = await startNghttpx(t, program('nghttpx'), front, {
    ...tls,
    arguments: [`--cacert=${certificates.ca}`],
  })
  await exchangeHttp2Bodies(t, secure)
  t.equal((await gateway.log(EXCHANGES, 'secure')).length, EXCHANGES)
})

t.test('nghttpx behind is spoken to in HTTP/2', needing('nghttpx'), async (t) => {
  const origin = await startEcho(t)
  const back = { port: origin.port, options: 'proto=http/1.1' }
  const port = await startNghttpx(t, program('nghttpx'), { options: 'no-tls' }, back)
  await exchangeBeforeUpstream(t, await startGateway(t, [{}], [http2Cluster('origin', port)]))
})

t.test('nghttpd behind: files, validators, trailers, uploads that come back', needing('nghttpd'), async (t) => {
  const folder = join(folderFor(t), 'files')
  mkdirSync(folder)
  const content = randomBytes(3 * MIB)
  writeFileSync(join(folder, 'one'), content)
  const files = await startNghttpd(t, program('nghttpd'), folder, '--trailer=x-end: yes')
  const echo = await startNghttpd(t, program('nghttpd'), folder, '--echo-upload')
  const toEcho = { match: { prefix: '/echo' }, route: { cluster: 'echo', timeout: '60s' } }
  const toFiles = { match: { prefix: '/' }, route: { cluster: 'files' } }
  const clusters = [http2Cluster('files', files), http2Cluster('echo', echo)]
  const gateway = await startGateway(t, [{ routes: [toEcho, toFiles] }], clusters)
  const url = `http://127.0.0.1:${gateway.port()}`
  const whole = await fetch(`${url}/one`)
  t.same([whole.status, hash(Buffer.from(await whole.arrayBuffer()))], [200, hash(content)])
  const modified = whole.headers.get('last-modified') ?? ''
  t.equal((await fetch(`${url}/one`, { headers: { 'if-modified-since': modified } })).status, 304)
  t.equal((await fetch(`${url}/nothing`)).status, 404)
  t.equal((await fetch(`${url}/one`, { method: 'HEAD' })).status, 200)
  t.equal((await trailersOf(gateway.port(), '/one'))['x-end'], 'yes')
  await exchangeHttp2Bodies(t, gateway.port())
  await gateway.assertUnharmed(t)
})

/** The trailers of an answer over HTTP/2. */
async function trailersOf(port: number, path: string): Promise<http2.IncomingHttpHeaders> {
  const session = http2.connect(`http://127.0.0.1:${port}`)
  try {
    return await new Promise((resolve, reject) => {
      session.on('error', reject)
      const request = session.request({ ':path': path }).on('error', reject)
      request.on('trailers', resolve).on('end', () => reject(new Error('no trailers')))
      request.resume()
    })
  } finally {
    session.destroy()
  }
}

t.test('haproxy in front speaks HTTP/2 to Headgate, in plaintext and over TLS', needing('haproxy'), async (t) => {
  const behind = await gatewayBeforeEcho(t)
  const { gateway, certificates } = behind
  const front = await startHaproxy(t, program('haproxy'), gateway.port(), { server: 'proto h2' })
  await exchangeThroughFront(t, front, behind)
  const own = await certificates.issue(TLS)
  const secure = await startHaproxy(t, program('haproxy'), gateway.port('secure'), {
    bind: `ssl crt ${own.both} alpn h2,http/1.1`,
    server: `ssl verify required ca-file ${certificates.ca} sni str(localhost) alpn h2`,
  })
  await exchangeHttp2Bodies(t, secure, { ca: certificates.caPem })
  t.equal((await gateway.log(EXCHANGES, 'secure')).length, EXCHANGES)
})

t.test('haproxy behind is spoken to in HTTP/2, in plaintext and over TLS by ALPN', needing('haproxy'), async (t) => {
  const [origin, certificates] = [await startEcho(t), await certificatesFor(t)]
  const plain = await startHaproxy(t, program('haproxy'), origin.port, { bind: 'proto h2' })
  await exchangeBeforeUpstream(t, await startGateway(t, [{}], [http2Cluster('origin', plain)]))
  const leaf = await certificates.issue(TLS)
  const secure = await startHaproxy(t, program('haproxy'), origin.port, {
    bind: `ssl crt ${leaf.both} alpn h2,http/1.1`,
  })
  const socket = { transport_socket: upstreamTls(certificates.ca, 'localhost', []) }
  await exchangeBeforeUpstream(t, await startGateway(t, [{}], [autoCluster('origin', secure, socket)]))
})

t.test('nginx in front: HTTP/2 to nginx, HTTP/1 and gRPC’s HTTP/2 to Headgate', needing('nginx'), async (t) => {
  const behind = await gatewayBeforeEcho(t)
  const { gateway } = behind
  const one = await startNginx(
    t,
    program('nginx'),
    'location / { proxy_pass http://headgate; proxy_http_version 1.1; proxy_request_buffering off; proxy_set_header Connection ""; }',
    `upstream headgate { server 127.0.0.1:${gateway.port()}; keepalive 8; }`,
    'http2',
  )
  await exchangeHttp2Bodies(t, one)
  t.equal(behind.requests(), EXCHANGES)
  const grpc = await startNginx(
    t,
    program('nginx'),
    `location / { grpc_pass grpc://127.0.0.1:${gateway.port()}; grpc_buffer_size 64k; }`,
    '',
    'http2',
  )
  await exchangeHttp2Bodies(t, grpc)
  t.equal(behind.requests(), 2 * EXCHANGES)
  const lines = await gateway.log(2 * EXCHANGES)
  const protocols = ['HTTP/1.1', 'HTTP/2'].map((protocol) => lines.filter((line) => line.protocol === protocol).length)
  t.same(protocols, [EXCHANGES, EXCHANGES], 'half in HTTP/1, half in HTTP/2')
  await gateway.assertUnharmed(t)
})

t.test(
  'nginx behind is spoken to in HTTP/2; requests that its GOAWAY cuts off are repeated',
  needing('nginx'),
  async (t) => {
    const origin = await startEcho(t)
    const toEcho = `location / { proxy_pass http://127.0.0.1:${origin.port}; proxy_http_version 1.1; proxy_request_buffering off; proxy_set_header Connection ""; }`
    const patient = await startNginx(t, program('nginx'), toEcho, '', 'http2')
    await exchangeBeforeUpstream(t, await startGateway(t, [{}], [http2Cluster('origin', patient)]))
    t.equal(origin.requests(), 2 * EXCHANGES)
    // Each connection ends after 7 requests, in one step: what was sent behind them is refused.
    const hasty = await startNginx(t, program('nginx'), toEcho, 'keepalive_requests 7;', 'http2')
    const gateway = await startGateway(t, [{}], [http2Cluster('origin', hasty)])
    // What is kept of a body for a repetition ends there.
    const kept = { mostBytes: 65_536 }
    await exchangeHttp2Bodies(t, gateway.port(), kept)
    await exchangeHttp2Bodies(t, gateway.port(), kept)
    const answered = origin.requests() - 2 * EXCHANGES
    t.equal(answered, 48, 'each came to the origin once')
    const connections = await gateway.stat('cluster.origin.upstream_cx_total', -1, 2_000)
    t.ok(connections >= 7, `${connections} connections`)
    await gateway.assertUnharmed(t)
  },
)

t.test('Envoy in front speaks HTTP/2 to Headgate, in plaintext and over TLS', needing('envoy'), async (t) => {
  const behind = await gatewayBeforeEcho(t)
  const { gateway, certificates } = behind
  const toSecure = [{ match: { prefix: '/' }, route: { cluster: 'secure', timeout: '60s' } }]
  const socket = { transport_socket: upstreamTls(certificates.ca, 'localhost') }
  const envoy = await envoyGateway(
    t,
    program('envoy'),
    [{}, { name: 'secure', routes: toSecure }],
    [http2Cluster('origin', gateway.port()), http2Cluster('secure', gateway.port('secure'), socket)],
  )
  await exchangeThroughFront(t, envoy.port(), behind)
  await exchangeHttp2Bodies(t, envoy.port('secure'))
  t.equal((await gateway.log(EXCHANGES, 'secure')).length, EXCHANGES)
})

t.test('Envoy behind is spoken to in HTTP/2, in plaintext and over TLS', needing('envoy'), async (t) => {
  const [origin, certificates] = [await startEcho(t), await certificatesFor(t)]
  const tls = downstreamTls([await certificates.issue(TLS)])
  const toOrigin = [cluster('origin', [origin.port])]
  const envoy = await envoyGateway(t, program('envoy'), [{}, { name: 'secure', tls }], toOrigin)
  await exchangeBeforeUpstream(t, await startGateway(t, [{}], [http2Cluster('origin', envoy.port())]))
  const socket = { transport_socket: upstreamTls(certificates.ca, 'localhost') }
  await exchangeBeforeUpstream(t, await startGateway(t, [{}], [http2Cluster('origin', envoy.port('secure'), socket)]))
  t.equal(origin.requests(), 4 * EXCHANGES)
})
