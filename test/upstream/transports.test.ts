import { connect, createServer, Socket } from 'node:net'
import { createSecureContext, createServer as createTlsServer, type SecureContext, type TLSSocket } from 'node:tls'
import t, { type Test } from 'tap'
import type { Address } from '../../lib/core/address.ts'
import { type ConnectionInfo, plainConnection } from '../../lib/core/connection.ts'
import { FAILURES } from '../../lib/core/failure.ts'
import type { UpstreamTlsConfig } from '../../lib/tls/config.ts'

import { ClusterTable } from '../../lib/upstream/cluster-table.ts'
import type { ClusterConfig, EndpointConfig, ProxyProtocolLayerConfig } from '../../lib/upstream/config.ts'
import { DnsResolvers } from '../../lib/upstream/discovery/dns/resolver.ts'
import { Race, raceOrder } from '../../lib/upstream/race.ts'
import { Authority, encryptedKey, type Issued } from '../support/certificates.ts'
import { settle, TestClock } from '../support/clock.ts'
import { socketPath } from '../support/socket-path.ts'
import { configOf, type Lab, type LabOptions, lab, listen, until } from './http2-lab.ts'

/** What stands between HTTP and the socket: PROXY headers, CONNECT proxies, TLS, and the choice among several addresses. */

const authority = await Authority.create()
const leaf = await authority.issue({ dns: ['web.example'] })

function tlsOf(more: Partial<UpstreamTlsConfig> = {}): UpstreamTlsConfig {
  return {
    certificates: [],
    alpn: [],
    minVersion: 'TLSv1.2',
    maxVersion: 'TLSv1.3',
    groups: ['X25519MLKEM768', 'X25519', 'P-256'],
    sni: 'web.example',
    autoSni: 'none',
    autoSanValidation: true,
    maxSessionKeys: 1,
    validation: { trustedCa: authority.pem, systemRoots: false, sans: [], acceptUntrusted: false },
    ...more,
  }
}

function client(id: number, more: Partial<ConnectionInfo> = {}): ConnectionInfo {
  const facts = { localAddress: '198.51.100.1', localPort: 443, kind: 'ip', listenerName: 'in' } as const
  return { ...plainConnection({ id, remoteAddress: '192.0.2.1', remotePort: 1000 + id, ...facts }), ...more }
}

const PROXY: ProxyProtocolLayerConfig = { kind: 'proxy-protocol', version: 1, passTlvs: 'none', addedTlvs: [] }

/** An HTTP/1 server that is spoken to behind a PROXY header, and remembers each. */
interface ProxyPeer {
  readonly port: number
  /** By connection, as they came. */
  readonly headers: Buffer[]
  requests: number
}

function take(bytes: Buffer): number {
  if (bytes[0] !== 0x0d) return bytes.indexOf('\r\n') + 2
  return bytes.length < 16 ? 0 : 16 + bytes.readUInt16BE(14)
}

function serveHttp(socket: Socket, onRequest: () => void): void {
  let text = ''
  socket.on('data', (chunk: Buffer) => {
    text += chunk.toString('latin1')
    for (let end = text.indexOf('\r\n\r\n'); end >= 0; end = text.indexOf('\r\n\r\n')) {
      text = text.slice(end + 4)
      onRequest()
      socket.write('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok')
    }
  })
}

async function proxyPeer(t: Test, over: 'plain' | 'tls' = 'plain'): Promise<ProxyPeer> {
  const inner = createTlsServer({ cert: leaf.chain, key: leaf.key })
  const server = createServer((socket) => {
    let held = Buffer.alloc(0)
    const onData = (chunk: Buffer): void => {
      held = Buffer.concat([held, chunk])
      const size = take(held)
      if (size < 2 || held.length < size) return
      socket.off('data', onData)
      socket.pause()
      peer.headers.push(held.subarray(0, size))
      if (held.length > size) socket.unshift(held.subarray(size))
      if (over === 'tls') inner.emit('connection', socket)
      else serveHttp(socket, () => peer.requests++)
      if (over === 'plain') socket.resume()
    }
    socket.on('data', onData)
  })
  inner.on('secureConnection', (socket: TLSSocket) => {
    socket.on('error', () => {})
    serveHttp(socket, () => peer.requests++)
  })
  inner.on('tlsClientError', () => {})
  const peer: ProxyPeer = { port: await listen(t, server), headers: [], requests: 0 }
  return peer
}

async function http1(t: Test, options: LabOptions): Promise<Lab> {
  return lab(t, { ...options, cluster: { protocol: 'http1', ...options.cluster } })
}

async function ask({ call }: Lab, connection?: ConnectionInfo, authorityOf = 'web.example'): Promise<string> {
  const made = call({ authority: authorityOf, ...(connection && { connection }) })
  await until(() => made.over, 'an answer')
  return made.failure === undefined ? made.text : `${made.failure.flag}: ${made.detail}`
}

t.test('a PROXY header of version 1 says who the client is, and connections are its own', async (t) => {
  const peer = await proxyPeer(t)
  const made = await http1(t, { port: peer.port, cluster: { layers: [PROXY] } })
  t.equal(await ask(made, client(1)), 'ok')
  t.equal(await ask(made, client(1)), 'ok')
  t.equal(await ask(made, client(2)), 'ok')
  t.equal(await ask(made, client(1)), 'ok')
  t.same(peer.headers.map(String), [
    'PROXY TCP4 192.0.2.1 198.51.100.1 1001 443\r\n',
    'PROXY TCP4 192.0.2.1 198.51.100.1 1002 443\r\n',
  ])
  t.equal(peer.requests, 4)
  t.equal(made.stat('upstream_cx_total'), 2)
  const six = client(3, { remoteAddress: '2001:db8::1', localAddress: '2001:db8::2' })
  const mixed = client(4, { remoteAddress: '2001:db8::1' })
  const path = client(5, { kind: 'pipe', remoteAddress: '/run/a.sock', localAddress: '/run/b.sock' })
  for (const connection of [six, mixed, path, undefined]) t.equal(await ask(made, connection), 'ok')
  t.same(peer.headers.slice(2).map(String), [
    'PROXY TCP6 2001:db8::1 2001:db8::2 1003 443\r\n',
    'PROXY TCP6 2001:db8::1 ::ffff:198.51.100.1 1004 443\r\n',
    'PROXY UNKNOWN\r\n',
    'PROXY UNKNOWN\r\n',
  ])
})

t.test('a PROXY header of version 2 has addresses and TLVs', async (t) => {
  const peer = await proxyPeer(t)
  const value = (text: string): string => Buffer.from(text).toString('base64')
  const layer: ProxyProtocolLayerConfig = {
    kind: 'proxy-protocol',
    version: 2,
    passTlvs: [0xe0, 0xe1, 0x03],
    addedTlvs: [
      { type: 0xe1, value: value('ours') },
      { type: 0xe5, value: value('layer') },
    ],
  }
  const endpoint = { addedTlvs: [{ type: 0xe5, value: value('host') }] }
  const made = await http1(t, { port: peer.port, endpoint, cluster: { layers: [layer] } })
  const tlvs = [
    { type: 0xe0, value: Buffer.from('passed') },
    { type: 0xe1, value: Buffer.from('replaced') },
    { type: 0xe2, value: Buffer.from('not wanted') },
    { type: 0x03, value: Buffer.from('sum!') },
  ]
  const told = client(1, { proxyProtocol: { version: 2, tlvs } })
  const other = client(1, { proxyProtocol: { version: 2, tlvs: [{ type: 0xe0, value: Buffer.from('other') }] } })
  for (const connection of [told, other, undefined]) t.equal(await ask(made, connection), 'ok')
  const tlv = (type: number, text: string): Buffer =>
    Buffer.concat([Buffer.from([type, 0, text.length]), Buffer.from(text)])
  const header = (passed: string): string => {
    const addresses = Buffer.from([192, 0, 2, 1, 198, 51, 100, 1, 0x03, 0xe9, 0x01, 0xbb])
    const body = Buffer.concat([addresses, tlv(0xe5, 'host'), tlv(0xe1, 'ours'), tlv(0xe0, passed)])
    return Buffer.concat([
      Buffer.from('\r\n\r\n\0\r\nQUIT\n', 'latin1'),
      Buffer.from([0x21, 0x11, 0, body.length]),
      body,
    ]).toString('hex')
  }
  t.same(
    peer.headers.map((bytes) => bytes.toString('hex')),
    [header('passed'), header('other'), '0d0a0d0a000d0a515549540a20000000'],
  )
})

t.test('a PROXY header comes before TLS', async (t) => {
  const peer = await proxyPeer(t, 'tls')
  const layers = [{ ...PROXY, version: 2 as const }]
  const made = await http1(t, { port: peer.port, cluster: { layers, tls: tlsOf() } })
  t.equal(await ask(made, client(1, { remoteAddress: '2001:db8::a:1', localAddress: '::1' })), 'ok')
  t.equal(peer.headers[0].length, 16 + 36)
  t.equal(peer.headers[0].subarray(16, 48).toString('hex'), `20010db80000000000000000000a0001${'0'.repeat(31)}1`)
  t.equal(await ask(made, client(2)), 'ok')
  t.equal(peer.headers.length, 2)
  t.equal(made.stat('ssl.handshake'), 2)
})

t.test('clients of a PROXY cluster have pools of their own, of which the oldest makes room', async (t) => {
  const peer = await proxyPeer(t)
  const made = await http1(t, { port: peer.port, cluster: { layers: [PROXY] } })
  for (let id = 1; id <= 1025; id++) t.equal(await ask(made, client(id)), 'ok')
  await until(() => made.stat('upstream_cx_active') === 1024, 'the first to be closed')
  t.equal(await ask(made, client(1025)), 'ok')
  t.equal(peer.headers.length, 1025)
  t.equal(await ask(made, client(1)), 'ok')
  t.equal(peer.headers.length, 1026)
})

interface Proxy {
  readonly address: Address
  readonly asked: string[]
}

/** An HTTP proxy that answers with `answer`, `|` standing for the bytes of the endpoint that follow. */
async function httpProxy(t: Test, answer: string): Promise<Proxy> {
  const asked: string[] = []
  const server = createServer((socket) => {
    let text = ''
    const onData = (chunk: Buffer): void => {
      text += chunk.toString('latin1')
      if (!text.includes('\r\n\r\n')) return
      socket.off('data', onData)
      asked.push(text)
      const [before, through] = answer.split('|')
      socket.write(before, 'latin1')
      if (through === undefined) return
      const [host, port] = text.split(' ')[1].split(':')
      const up = connect({ host: host === 'web.example' ? '127.0.0.1' : host, port: Number(port) })
      for (const end of [up, socket]) {
        end.on('error', () => {})
        end.on('close', () => (end === up ? socket : up).destroy())
      }
      up.pipe(socket)
      socket.pipe(up)
    }
    socket.on('data', onData)
  })
  return { address: { kind: 'ip', host: '127.0.0.1', port: await listen(t, server) }, asked }
}

async function secureHttp(t: Test, issued: Issued = leaf, more: object = {}): Promise<number> {
  const server = createTlsServer({ cert: issued.chain, key: issued.key, ...more }, (socket) =>
    serveHttp(socket, () => {}),
  )
  server.on('tlsClientError', () => {})
  return listen(t, server)
}

t.test('an HTTP proxy is asked for the endpoint, before TLS', async (t) => {
  const port = await secureHttp(t)
  const proxy = await httpProxy(t, 'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 Established\r\nvia: p\r\n\r\n|')
  for (const target of ['address', 'hostname'] as const) {
    const layers = [{ kind: 'http-connect', proxyAddress: proxy.address, target } as const]
    const made = await http1(t, { port, hostname: 'web.example', cluster: { layers, tls: tlsOf() } })
    t.equal(await ask(made), 'ok')
    t.equal(await ask(made), 'ok')
    t.equal(made.stat('upstream_cx_total'), 1, 'connections are shared')
  }
  t.same(proxy.asked, [
    `CONNECT 127.0.0.1:${port} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n\r\n`,
    `CONNECT web.example:${port} HTTP/1.1\r\nHost: web.example:${port}\r\n\r\n`,
  ])
})

t.test("an endpoint's own proxy comes before that of the layer, and one without any is connected to", async (t) => {
  const port = await secureHttp(t)
  const proxy = await httpProxy(t, 'HTTP/1.1 200 OK\r\n\r\n|')
  const other = await httpProxy(t, 'HTTP/1.1 403 Forbidden\r\n\r\n')
  const layer = { kind: 'http-connect', target: 'address' } as const
  const tls = tlsOf()
  const layers = [{ ...layer, proxyAddress: other.address }]
  const own = await http1(t, { port, endpoint: { proxyAddress: proxy.address }, cluster: { tls, layers } })
  t.equal(await ask(own), 'ok')
  const none = await http1(t, { port, cluster: { tls, layers: [layer] } })
  t.equal(await ask(none), 'ok')
  t.equal(proxy.asked.length, 1)
  t.equal(other.asked.length, 0)
})

t.test('plaintext goes through an HTTP proxy too, with a PROXY header for the endpoint', async (t) => {
  const peer = await proxyPeer(t)
  const proxy = await httpProxy(t, 'HTTP/1.1 204 No Content\r\n\r\n|')
  const layers = [{ kind: 'http-connect', proxyAddress: proxy.address, target: 'address' } as const, PROXY]
  const made = await http1(t, { port: peer.port, cluster: { layers } })
  t.equal(await ask(made, client(1)), 'ok')
  t.equal(proxy.asked.length, 1)
  t.equal(String(peer.headers[0]), 'PROXY TCP4 192.0.2.1 198.51.100.1 1001 443\r\n')
})

t.test('what an HTTP proxy answers otherwise is a failure that says so', async (t) => {
  const port = await secureHttp(t)
  const cases: readonly (readonly [answer: string, why: RegExp])[] = [
    ['HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n', /the proxy answered 407$/],
    ['HTTP/1.1 302 Found\r\n\r\n', /the proxy answered 302$/],
    ['SSH-2.0-x\r\n\r\n', /the proxy's answer is malformed: /],
    [`HTTP/1.1 200 OK\r\nx: ${'a'.repeat(70_000)}\r\n\r\n|`, /the proxy's answer is malformed: /],
    ['HTTP/1.1 100 Continue\r\n\r\n'.repeat(12), /interim responses alone$/],
    ['HTTP/1.1 101 Switching Protocols\r\n\r\n', /interim responses alone$/],
  ]
  for (const [answer, why] of cases) {
    const proxy = await httpProxy(t, answer)
    const layers = [{ kind: 'http-connect', proxyAddress: proxy.address, target: 'address' } as const]
    const made = await http1(t, { port, cluster: { layers, tls: tlsOf() } })
    const told = await ask(made)
    t.match(told, why)
    t.match(told, new RegExp(`^UF: HTTP CONNECT to 127.0.0.1:${port}: `))
    t.equal(made.stat('upstream_cx_connect_fail'), 1)
    t.equal(made.stat('ssl.connection_error'), 0)
  }
})

t.test('an HTTP proxy that closes, or says nothing, is a failure to connect', async (t) => {
  const silent: Socket[] = []
  const port = await listen(
    t,
    createServer((socket) => void silent.push(socket)),
  )
  const layers = [
    { kind: 'http-connect', proxyAddress: { kind: 'ip', host: '127.0.0.1', port }, target: 'address' } as const,
  ]
  const made = await http1(t, { port: 1, cluster: { layers, tls: tlsOf(), connectTimeoutMs: 1_000 } })
  const closed = made.call({})
  await until(() => silent.length === 1, 'a connection')
  silent[0].end('HTTP/1.1 200 O')
  await until(() => closed.over, 'the failure')
  t.match(closed.detail, /the proxy closed the connection$/)
  const late = made.call({})
  await until(() => silent.length === 2, 'a connection')
  made.clock.advance(1_100)
  await until(() => late.over, 'the timeout')
  t.equal(late.failure, FAILURES.connectTimeout)
  t.equal(made.stat('upstream_cx_connect_timeout'), 1)
})

t.test('what comes right behind the answer of an HTTP proxy is not lost', async (t) => {
  const server = createServer((socket) => {
    socket.once('data', () => {
      socket.write('HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nearly')
    })
  })
  const port = await listen(t, server)
  const proxyAddress = { kind: 'ip', host: '127.0.0.1', port } as const
  const made = await lab(t, {
    port: 1,
    cluster: { layers: [{ kind: 'http-connect', proxyAddress, target: 'address' }] },
  })
  const chunks: Buffer[] = []
  made.cluster.connect(
    made.host(),
    { priority: 'default', downstream: undefined },
    {
      onConnected() {},
      onData: (chunk) => chunks.push(chunk) > 0,
      onEnd() {},
      onDrain() {},
      onClosed() {},
    },
  )
  await until(() => Buffer.concat(chunks).toString().endsWith('early'), 'the bytes')
  t.equal(Buffer.concat(chunks).toString(), 'HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nearly')
})

// --- several addresses ----------------------------------------------------------------------------------------------

t.test('addresses take turns by family', (t) => {
  const ip = (host: string): Address => ({ kind: 'ip', host, port: 1 })
  const hosts = (list: readonly Address[]): string => list.map((one) => (one.kind === 'ip' ? one.host : '')).join(' ')
  const given = ['::1', '::2', '::3', '1.1.1.1', '2.2.2.2'].map(ip)
  t.equal(hosts(raceOrder(given)), '::1 1.1.1.1 ::2 2.2.2.2 ::3')
  t.equal(hosts(raceOrder(given, { firstFamily: 'v4', firstFamilyCount: 1 })), '1.1.1.1 ::1 2.2.2.2 ::2 ::3')
  t.equal(hosts(raceOrder(given, { firstFamily: 'v6', firstFamilyCount: 2 })), '::1 ::2 1.1.1.1 ::3 2.2.2.2')
  t.equal(hosts(raceOrder(given, { firstFamily: 'v4', firstFamilyCount: 9 })), '1.1.1.1 2.2.2.2 ::1 ::2 ::3')
  t.equal(hosts(raceOrder(['1.1.1.1', '2.2.2.2'].map(ip))), '1.1.1.1 2.2.2.2')
  t.end()
})

/** Closed at once after it was found free. */
async function deadPort(t: Test): Promise<number> {
  const server = createServer()
  const port = await listen(t, server)
  await new Promise((resolve) => server.close(resolve))
  return port
}

for (const secure of [false, true]) {
  t.test(`${secure ? 'TLS' : 'plaintext'}: an address that refuses is followed at once by the next`, async (t) => {
    const port = secure
      ? await secureHttp(t)
      : await listen(
          t,
          createServer((socket) => serveHttp(socket, () => {})),
        )
    const additionalAddresses: Address[] = [
      { kind: 'ip', host: '127.0.0.1', port: await deadPort(t) },
      { kind: 'ip', host: '127.0.0.1', port },
    ]
    const cluster = secure ? { tls: tlsOf() } : {}
    const made = await http1(t, { port: await deadPort(t), endpoint: { additionalAddresses }, cluster })
    const call = made.call({})
    await until(() => call.over, 'an answer')
    t.equal(call.text, 'ok')
    t.equal(call.info[0].remoteAddress, `127.0.0.1:${port}`, 'the one that answered')
    t.equal(made.stat('upstream_cx_total'), 1, 'it is one connection')
    t.equal(made.stat('upstream_cx_connect_fail'), 0)
  })
}

/** A race between sockets that do nothing by themselves. */
function race(count: number): { clock: TestClock; sockets: Socket[]; results: unknown[]; race: Race } {
  const clock = new TestClock()
  const sockets: Socket[] = []
  const results: unknown[] = []
  const dial = (): Socket => {
    const socket = new Socket()
    sockets.push(socket)
    return socket
  }
  const addresses = Array.from({ length: count }, (_, port): Address => ({ kind: 'ip', host: '127.0.0.1', port }))
  const events = { won: (socket: Socket) => results.push(socket), lost: (error: unknown) => results.push(error) }
  return { clock, sockets, results, race: new Race(addresses, { clock, dial }, events) }
}

t.test('an address that does not answer has a head start, and no more', async (t) => {
  const { clock, sockets, results } = race(4)
  t.equal(sockets.length, 1)
  clock.advance(299)
  t.equal(sockets.length, 1)
  clock.advance(1)
  t.equal(sockets.length, 2)
  sockets[1].destroy(new Error('refused'))
  await settle(2)
  t.equal(sockets.length, 3, 'the next one follows a failure at once')
  clock.advance(299)
  t.equal(sockets.length, 3, 'and has its own head start')
  sockets[0].emit('connect')
  t.same(results, [sockets[0]])
  t.same(
    sockets.map(({ destroyed }) => destroyed),
    [false, true, true],
  )
  t.equal(clock.pending, 0)
  await settle(2)
  t.equal(results.length, 1)
  t.equal(sockets[0].listenerCount('error') + sockets[0].listenerCount('close'), 0, 'it belongs to whoever was told')
})

t.test('a race that is given up ends once, and leaves nothing', async (t) => {
  const { clock, sockets, results, race: given } = race(3)
  clock.advance(300)
  given.abort()
  given.abort()
  t.same(results, [])
  await settle(2)
  t.same(results, [undefined])
  t.ok(sockets.every(({ destroyed }) => destroyed))
  t.equal(clock.pending, 0)
})

t.test('a race that nobody wins tells of the last failure', async (t) => {
  const { sockets, results, clock } = race(2)
  clock.advance(300)
  sockets[1].destroy(new Error('second'))
  await settle(2)
  t.same(results, [])
  const last = new Error('first')
  sockets[0].destroy(last)
  await settle(2)
  t.equal(results.length, 1)
  t.equal(results[0], last)
})

t.test('all addresses refuse: one failure', async (t) => {
  const additionalAddresses: Address[] = [{ kind: 'ip', host: '127.0.0.1', port: await deadPort(t) }]
  const made = await http1(t, { port: await deadPort(t), endpoint: { additionalAddresses } })
  t.equal(await ask(made), 'UF: delayed connect error: Connection refused')
  t.equal(made.stat('upstream_cx_connect_fail'), 1)
})

t.test('connections come from the bind address of their family', async (t) => {
  const from: (string | undefined)[] = []
  const server = createServer((socket) => {
    from.push(socket.remoteAddress)
    serveHttp(socket, () => {})
  })
  const port = await listen(t, server)
  const cluster = { bindAddress: '::1', extraBindAddresses: ['::2', '127.0.0.7', '127.0.0.8'] }
  const made = await http1(t, { port, cluster: { ...cluster, keepalive: { idleS: 10, intervalS: 5, probes: 3 } } })
  const call = made.call({})
  await until(() => call.over, 'an answer')
  t.equal(call.text, 'ok')
  t.same(from, ['127.0.0.7'])
  t.match(call.info[0].localAddress, /^127\.0\.0\.7:\d+$/)
  const foreign = await http1(t, { port, cluster: { bindAddress: '192.0.2.77' } })
  t.match(await ask(foreign), /^UF: /)
  t.equal(foreign.stat('bind_errors'), 1)
})

t.test('an abstract Unix socket is reached', async (t) => {
  const name = `hg-${process.pid}-${socketPath(t, 'x').replaceAll('/', '-')}`
  const server = createServer((socket) => serveHttp(socket, () => {}))
  await new Promise<void>((resolve) => server.listen(`\0${name}`, resolve))
  t.teardown(() => void server.close())
  const made = await http1(t, { port: 0, path: `@${name}` })
  t.equal(await ask(made), 'ok')
  made.cluster.destroy()
})

// --- transports by label --------------------------------------------------------------------------------------------

const LABELS = 'envoy.transport_socket_match'

/** Endpoints with these labels of their own, or of their locality. */
function matching(port: number, labels: object | undefined, locality?: object): Partial<ClusterConfig> {
  const address = { kind: 'ip', host: '127.0.0.1', port } as const
  const metadata = labels && { [LABELS]: labels }
  const endpoint = { address, weight: 1, health: 'healthy', ...(metadata && { metadata }) } as EndpointConfig
  const group = { priority: 0, endpoints: [endpoint], ...(locality && { metadata: { [LABELS]: locality } }) }
  return {
    protocol: 'http1',
    localities: [group] as ClusterConfig['localities'],
    tls: tlsOf({ sni: 'nobody.example' }),
    transportMatches: [
      { name: 'both', labels: { a: '1', b: true }, transport: { tls: tlsOf() } },
      { name: 'one', labels: { a: '1' }, transport: {} },
      { name: 'plain', labels: { plain: 'yes' }, transport: {} },
    ],
  }
}

t.test('the first transport whose labels an endpoint has is its own', async (t) => {
  const secure = await secureHttp(t)
  const plain = await listen(
    t,
    createServer((socket) => serveHttp(socket, () => {})),
  )
  const cases: readonly (readonly [
    port: number,
    labels: object | undefined,
    locality: object | undefined,
    name: string,
  ])[] = [
    [secure, { a: '1', b: true, c: 1 }, undefined, 'both'],
    [plain, { a: '1', b: 'true' }, undefined, 'one'],
    [plain, { other: 1 }, { plain: 'yes' }, 'plain'],
    [secure, { a: '1', b: true }, { plain: 'yes' }, 'both'],
    [plain, undefined, { a: '1' }, 'one'],
  ]
  for (const [port, labels, locality, name] of cases) {
    const made = await lab(t, { port, cluster: matching(port, labels, locality) })
    t.equal(await ask(made), 'ok', name)
    t.equal(made.stat(`transport_socket_match.${name}.total_match_count`), 1)
    t.equal(made.stat('transport_socket_match.default.total_match_count'), 0)
  }
  for (const labels of [{ a: '2' }, undefined]) {
    const made = await lab(t, { port: secure, cluster: matching(secure, labels) })
    t.match(await ask(made), /^UF: .*verify SAN list/)
    t.equal(made.stat('transport_socket_match.default.total_match_count'), 1)
  }
})

// --- TLS material ---------------------------------------------------------------------------------------------------

function tableOf(t: Test, made: Lab): ClusterTable {
  const dns = new DnsResolvers({ clock: made.clock })
  t.teardown(() => dns[Symbol.dispose]())
  let id = 0
  const log = { debug() {}, info() {}, warn() {}, error() {} }
  const { metrics, wheel } = made
  return new ClusterTable({ metrics, wheel, dns, log, random: () => 0, nextConnectionId: () => ++id })
}

t.test('new certificates and authorities are used by new connections, and the old ones stay', async (t) => {
  const stranger = await Authority.create('CN=Stranger')
  const theirs = await stranger.issue({ dns: ['web.example'] })
  const [first, second] = [
    await authority.issue({ subject: 'CN=first' }),
    await authority.issue({ subject: 'CN=second' }),
  ]
  const subjects: (string | undefined)[] = []
  const served: { issued: Issued } = { issued: leaf }
  const server = createTlsServer(
    {
      SNICallback: (_, done) => done(null, createContext(served.issued)),
      requestCert: true,
      rejectUnauthorized: false,
    },
    (socket) => {
      subjects.push(socket.getPeerX509Certificate()?.subject)
      serveHttp(socket, () => {})
    },
  )
  server.on('tlsClientError', () => {})
  const port = await listen(t, server)
  const made = await lab(t, { port })
  const table = tableOf(t, made)
  const config = (issued: Issued, trustedCa: string, more: Partial<UpstreamTlsConfig> = {}): ClusterConfig => {
    const certificates = [{ certificateChain: issued.chain, privateKey: issued.key }]
    const validation = { trustedCa, systemRoots: false, sans: [], acceptUntrusted: false }
    return configOf({
      port,
      cluster: { protocol: 'http1', tls: tlsOf({ certificates, validation, maxSessionKeys: 0, ...more }) },
    })
  }
  table.change([config(first, authority.pem)], [])
  const [cluster] = table.all()
  t.teardown(async () => {
    table.destroy()
    await cluster.drained()
  })
  const own: Lab = { ...made, cluster, call: (options) => made.callOn(cluster, options) }
  t.equal(await ask(own), 'ok')
  const step = drained(table.prepare([config(second, stranger.pem)], []))
  t.equal(await ask(own), 'ok')
  t.same(subjects, ['CN=first'], 'until the update is in force nothing changes')
  step.commit()
  drained(step.settle())
  t.equal(table.get('web'), cluster, 'the cluster stays')
  t.equal(cluster.retired, false)
  t.equal(await ask(own), 'ok', 'the connection that is open serves on')
  t.equal(subjects.length, 1)
  // One of two at once needs a connection of its own.
  const [a, b] = [own.call({}), own.call({})]
  await until(() => a.over && b.over && own.stat('ssl.fail_verify_error') === 1, 'the refusal')
  served.issued = theirs
  const [c, d] = [own.call({}), own.call({})]
  await until(() => c.over && d.over && subjects.length === 2, 'another connection')
  t.same([c.text, d.text], ['ok', 'ok'])
  t.same(subjects, ['CN=first', 'CN=second'])
  const { tls: before } = cluster.config
  table.change([config(second, stranger.pem)], [])
  t.equal(cluster.config.tls, before, 'what is the same is not made anew')
  table.change([config(second, stranger.pem, { sni: 'other.example' })], [])
  const [other] = table.all()
  t.not(other, cluster, 'anything else is another cluster')
  t.equal(cluster.retired, true)
  const none = configOf({ port, cluster: { protocol: 'http1', tls: tlsOf({ maxSessionKeys: 0 }) } })
  table.change([none], [])
  t.not(table.all()[0], other, 'and so is one without the certificate')
})

t.test('a session of the old authorities does not get past the new ones', async (t) => {
  const stranger = await Authority.create('CN=Stranger')
  const port = await secureHttp(t)
  const made = await lab(t, { port })
  const table = tableOf(t, made)
  const config = (trustedCa: string): ClusterConfig => {
    const validation = { trustedCa, systemRoots: false, sans: [], acceptUntrusted: false }
    const more = { protocol: 'http1', maxRequestsPerConnection: 1 } as const
    return configOf({ port, cluster: { ...more, tls: tlsOf({ validation, maxSessionKeys: 4 }) } })
  }
  table.change([config(authority.pem)], [])
  const [cluster] = table.all()
  t.teardown(async () => {
    table.destroy()
    await cluster.drained()
  })
  const own: Lab = { ...made, cluster, call: (options) => made.callOn(cluster, options) }
  const inTurn = async (): Promise<string> => {
    const told = await ask(own)
    await until(() => own.stat('upstream_cx_active') === 0, 'the end of the connection')
    return told
  }
  t.same([await inTurn(), await inTurn()], ['ok', 'ok'])
  t.equal(own.stat('ssl.session_reused'), 1)
  table.change([config(stranger.pem)], [])
  t.equal(table.get('web'), cluster)
  t.match(await inTurn(), /^UF: .*certificate verification error/)
  t.equal(own.stat('ssl.session_reused'), 1)
  table.change([config(authority.pem)], [])
  t.equal(await inTurn(), 'ok')
  t.equal(own.stat('ssl.session_reused'), 1, 'nor does it come back with the old ones')
})

t.test('what users call like material is none', async (t) => {
  const made = await lab(t, { port: 1 })
  const labels = (crl: string): Partial<ClusterConfig> => ({
    transportMatches: [{ name: 'm', labels: { crl }, transport: {} }],
  })
  const cases: readonly (readonly [Partial<ClusterConfig>, Partial<ClusterConfig>])[] = [
    [{ metadata: { my: { privateKey: 'a' } } }, { metadata: { my: { privateKey: 'b' } } }],
    [labels('a'), labels('b')],
  ]
  for (const [before, after] of cases) {
    const table = tableOf(t, made)
    table.change([configOf({ port: 1, cluster: before })], [])
    const [one] = table.all()
    table.change([configOf({ port: 1, cluster: before })], [])
    t.equal(table.get('web'), one)
    table.change([configOf({ port: 1, cluster: after })], [])
    t.not(table.get('web'), one)
    table.destroy()
  }
})

function createContext(issued: Issued): SecureContext {
  return createSecureContext({ cert: issued.chain, key: issued.key })
}

t.test('what was negotiated is told, of resumed sessions too', async (t) => {
  const own = await authority.issue({ subject: 'CN=gate', uri: ['spiffe://td/gate'] })
  const port = await secureHttp(t, leaf, { requestCert: true, rejectUnauthorized: false, ALPNProtocols: ['http/1.1'] })
  const certificates = [{ certificateChain: own.chain, privateKey: encryptedKey(own, 'secret'), passphrase: 'secret' }]
  const cluster = { tls: tlsOf({ certificates }), maxRequestsPerConnection: 1 }
  const made = await http1(t, { port, cluster })
  for (let i = 0; i < 2; i++) {
    const call = made.call({})
    await until(() => call.over, 'an answer')
    t.equal(call.text, 'ok')
    t.match(call.info[0].tls, {
      version: 'TLSv1.3',
      cipher: /^TLS_AES/,
      group: 'X25519MLKEM768',
      serverName: 'web.example',
      alpn: 'http/1.1',
      peer: { dnsSans: ['web.example'], subject: 'CN=leaf' },
      peerUnverified: false,
      local: { subject: 'CN=gate', uriSans: ['spiffe://td/gate'] },
      sessionId: '',
    })
    await until(() => made.stat('upstream_cx_active') === 0, 'its end')
  }
  t.equal(made.stat('ssl.session_reused'), 1)
  t.equal(made.stat('ssl.curves.X25519MLKEM768'), 2)
  const older = await http1(t, { port, cluster: { tls: tlsOf({ maxVersion: 'TLSv1.2', groups: ['P-256'] }) } })
  const call = older.call({})
  await until(() => call.over, 'an answer')
  t.match(call.info[0].tls, { version: 'TLSv1.2', group: 'P-256', local: undefined, alpn: 'http/1.1' })
})

t.test('a peer that is tolerated unverified is nobody', async (t) => {
  const port = await secureHttp(t)
  const validation = { systemRoots: false, sans: [], acceptUntrusted: true }
  const made = await http1(t, { port, cluster: { tls: tlsOf({ validation, autoSanValidation: false }) } })
  const call = made.call({})
  await until(() => call.over, 'an answer')
  t.match(call.info[0].tls, { peer: undefined, peerUnverified: true, local: undefined })
})

/** The result of steps, at once. */
function drained<T>(steps: Generator<undefined, T>): T {
  for (;;) {
    const step = steps.next()
    if (step.done === true) return step.value
  }
}
