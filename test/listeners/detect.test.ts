import { once } from 'node:events'
import { connect as connect2 } from 'node:http2'
import { type ConnectionOptions, connect as connectTls, type TLSSocket } from 'node:tls'
import t, { type Test } from 'tap'
import type { GatewayConfig } from '../../lib/config/model.ts'
import type { DownstreamTlsConfig } from '../../lib/tls/config.ts'
import { matchPreface } from '../../listeners/detect/preface.ts'
import { bootstrap, cluster } from '../end-to-end/bootstrap.ts'
import { get, type SetupSpec, setup } from '../end-to-end/setup.ts'
import { Authority, type Issued } from '../support/certificates.ts'
import { withChains } from '../support/chains.ts'
import { settle, TestClock } from '../support/clock.ts'
import { describe, FrameReader, headers, PREFACE, request, settings, T } from '../support/http2-wire.ts'
import { downstream } from '../tls/rig.ts'
import { Client, FrameWire } from './http2-client.ts'

/** Which protocol a connection turns out to speak. */

const ANSWER = [{ match: { prefix: '/' }, direct_response: { status: 200, body: { inline_string: 'ok' } } }]

t.test('the preface is known whatever its pieces, and from its first wrong byte on it is none', async (t) => {
  for (let at = 0; at <= PREFACE.length; at++) {
    const seen = matchPreface(PREFACE.subarray(0, at), 0)
    t.equal(seen, at)
    t.equal(matchPreface(Buffer.concat([PREFACE.subarray(at), Buffer.from('more')]), seen), PREFACE.length)
    if (at === PREFACE.length) continue
    const wrong = Buffer.from(PREFACE)
    wrong[at] ^= 1
    t.equal(matchPreface(wrong, 0), -1)
    t.equal(matchPreface(wrong.subarray(0, at), 0), at)
  }
})

t.test('HTTP/2 is found at every split of its first bytes', async (t) => {
  const { gateway, connect } = await setup(t, { routes: ANSWER })
  const first = Buffer.concat([PREFACE, settings(), headers(1, request('GET'), true)])
  for (let at = 1; at < first.length; at++) {
    const wire = new FrameWire(await connect())
    await wire.wire.writeSplit(first, [at])
    const frame = await wire.until((f) => f.type === T.HEADERS)
    t.equal(frame.streamId, 1)
    await wire.wire.close()
  }
  const wire = new FrameWire(await connect())
  await wire.wire.writePieces(Array.from(first, (_, i) => first.subarray(i, i + 1)))
  t.equal((await wire.until((f) => f.type === T.DATA)).payload.toString(), 'ok')
  t.equal(gateway.stat('http.test.downstream_cx_http2_total'), first.length)
  t.equal(gateway.stat('http.test.downstream_cx_http1_total'), 0)
})

t.test('HTTP/1 that begins like the preface arrives unharmed, at every split', async (t) => {
  const { gateway, origin, connect } = await setup(t)
  let count = 0
  for (const method of ['P', 'PR', 'PRI', 'PRINT', 'PUT', 'GET']) {
    const bytes = Buffer.from(`${method} /x HTTP/1.1\r\nhost: a.example\r\ncontent-length: 2\r\n\r\nhi`)
    for (let at = 1; at <= method.length + 3; at++) {
      const wire = await connect()
      await wire.writeSplit(bytes, [at])
      const response = await wire.readResponse()
      t.equal(response.text(), 'hi')
      t.equal(origin.requests[count++].method, method)
      await wire.close()
    }
  }
  t.equal(gateway.stat('http.test.downstream_cx_http1_total'), count)
  t.equal(gateway.stat('http.test.downstream_rq_http1_total'), count)
  t.equal(gateway.stat('http.test.downstream_cx_http2_total'), 0)
})

t.test('a client that speaks TLS to a port of plain HTTP is told so by an alert', async (t) => {
  const { gateway, connect } = await setup(t, { routes: ANSWER })
  const hello = Buffer.from('160301000501000001ff', 'hex')
  for (let at = 1; at <= hello.length; at++) {
    const wire = await connect()
    await wire.writeSplit(hello, [at])
    t.equal((await wire.readToEnd()).bytes.toString('hex'), '15030100020228', `cut at ${at}`)
  }
  const port = gateway.port()
  const client = connectTls({ host: '127.0.0.1', port, rejectUnauthorized: false })
  const [error] = (await once(client, 'error')) as [Error & { code: string }]
  t.match(error.code, /HANDSHAKE_FAILURE/)
  t.equal(gateway.stat('http.test.downstream_cx_protocol_error'), hello.length + 1)
  await gateway.until(() => gateway.stat('http.test.downstream_cx_active') === 0, 'the end of all')
  t.equal((await (await connect()).exchange(get())).status, 200)
})

t.test('a listener for HTTP/2 alone takes nothing else, one for HTTP/1 no preface', async (t) => {
  const two = await setup(t, { routes: ANSWER, hcm: { codec_type: 'HTTP2' } })
  for (const bytes of [
    get(),
    '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03',
    'PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n',
    '\0'.repeat(50),
  ]) {
    const wire = await two.connect()
    await wire.write(bytes)
    const { bytes: answer, ending } = await wire.readToEnd()
    const frames = new FrameReader().read(answer)
    t.equal(describe(frames[frames.length - 1]), 'GOAWAY 0 code 1')
    t.equal(ending, 'fin')
  }
  t.equal(two.gateway.stat('http.test.downstream_cx_protocol_error'), 4)
  const one = await setup(t, { routes: ANSWER, hcm: { codec_type: 'HTTP1' } })
  const wire = await one.connect()
  await wire.write(Buffer.concat([PREFACE, settings()]))
  t.equal((await wire.readResponse()).status, 505)
  t.equal(await wire.expectEnd(), 'fin')
})

t.test('a beginning of the preface that stops is answered as a head that stalls, on its own deadline', async (t) => {
  const clock = new TestClock()
  const { gateway, connect } = await setup(t, {
    routes: ANSWER,
    hcm: { request_headers_timeout: '3s' },
    gateway: { clock },
  })
  const wire = await connect()
  await wire.write('PRI')
  await settle(10)
  await clock.advanceAsync(2_000)
  await wire.write(' * HTT')
  await settle(10)
  await clock.advanceAsync(900)
  t.equal(gateway.stat('http.test.downstream_rq_header_timeout'), 0)
  await clock.advanceAsync(200)
  t.equal((await wire.readResponse()).status, 408)
  t.equal(gateway.stat('http.test.downstream_rq_header_timeout'), 1)
  // A byte that shows at last what it is does not begin the time anew.
  const late = await connect()
  await late.write('PRI')
  await settle(10)
  await clock.advanceAsync(2_900)
  await late.write('NT')
  await settle(10)
  await clock.advanceAsync(200)
  t.equal((await late.readResponse()).status, 408)
})

t.test('connections that say nothing: idle timeout, drain, limits and endings', async (t) => {
  const clock = new TestClock()
  const { gateway, connect } = await setup(t, {
    routes: ANSWER,
    hcm: { common_http_protocol_options: { idle_timeout: '10s' } },
    gateway: {
      clock,
      adjust: (config) => ({ ...config, listeners: config.listeners.map((l) => ({ ...l, maxConnections: 3 })) }),
    },
  })
  const active = (): number => gateway.stat('http.test.downstream_cx_active')
  const [first, second, third] = [await connect({ halfOpen: true }), await connect({ halfOpen: true }), await connect()]
  await gateway.until(() => active() === 3, 'three connections')
  const over = await connect().then(
    async (wire) => (await wire.readToEnd()).ending,
    () => 'reset',
  )
  t.equal(over, 'reset')
  t.equal(gateway.stat('listener.127.0.0.1_0.downstream_cx_overflow'), 1)
  first.end()
  t.equal(await first.expectEnd(), 'fin')
  third.reset()
  await gateway.until(() => active() === 1, 'the end of two')
  await clock.advanceAsync(10_100)
  t.equal(await second.expectEnd(), 'fin')
  t.equal(gateway.stat('http.test.downstream_cx_idle_timeout'), 1)
  await gateway.until(() => active() === 0, 'the end of all')
  const last = await connect()
  await gateway.until(() => active() === 1, 'another one')
  const drained = gateway.engine.drain(5_000)
  await clock.advanceAsync(4_100)
  t.equal(await last.expectEnd(), 'fin')
  await drained
})

// --- TLS --------------------------------------------------------------------------------------------------------------

interface TlsSetup extends Awaited<ReturnType<typeof setup>> {
  readonly authority: Authority
  readonly issued: Issued
  dial(options?: ConnectionOptions): Promise<TLSSocket>
}

function withTls(tls: DownstreamTlsConfig, connectMs?: number): (config: GatewayConfig) => GatewayConfig {
  return (config) =>
    withChains(config, (chain) => ({ ...chain, tls, ...(connectMs && { transportConnectTimeoutMs: connectMs }) }))
}

async function setupTls(t: Test, spec: SetupSpec & { alpn?: string[]; connectMs?: number } = {}): Promise<TlsSetup> {
  const authority = await Authority.create()
  const issued = await authority.issue({ dns: ['a.example'] })
  const tls = downstream([issued], { alpn: spec.alpn ?? ['h2', 'http/1.1'] })
  const base = await setup(t, { ...spec, gateway: { ...spec.gateway, adjust: withTls(tls, spec.connectMs) } })
  const dial = async (options: ConnectionOptions = {}): Promise<TLSSocket> => {
    const socket = connectTls({
      host: '127.0.0.1',
      port: base.gateway.port(),
      ca: authority.pem,
      servername: 'a.example',
      ...options,
    })
    base.client.adopt(socket)
    await once(socket, 'secureConnect')
    return socket
  }
  return { ...base, authority, issued, dial }
}

t.test('over TLS, ALPN decides, and where it says nothing the first bytes do', async (t) => {
  const { gateway, origin, authority, dial, client } = await setupTls(t)
  const session = connect2(`https://a.example:${gateway.port()}`, {
    ca: authority.pem,
    lookup: undefined,
    host: '127.0.0.1',
  })
  t.teardown(() => session.destroy())
  const answer = await new Client(session).request({ ':authority': 'a.example' })
  t.equal(answer.status, 200)
  t.equal(session.alpnProtocol, 'h2')
  t.equal(origin.requests[0].get('x-forwarded-proto'), 'https')
  const one = client.adopt(await dial({ ALPNProtocols: ['http/1.1'] }))
  t.equal((await one.exchange(get())).status, 200)
  const none = client.adopt(await dial())
  t.equal((await none.exchange(get())).status, 200)
  const sniffed = new FrameWire(client.adopt(await dial()))
  await sniffed.start()
  await sniffed.write(headers(1, request('GET'), true))
  t.equal((await sniffed.until((f) => f.type === T.HEADERS)).streamId, 1)
  t.equal(gateway.stat('http.test.downstream_cx_http1_total'), 2)
  t.equal(gateway.stat('http.test.downstream_cx_http2_total'), 2)
  t.equal(gateway.stat('http.test.downstream_cx_ssl_total'), 4)
  t.equal(gateway.stat('http.test.downstream_cx_ssl_active'), 4)
  t.equal(gateway.stat('listener.127.0.0.1_0.ssl.handshake'), 4)
  session.destroy()
  await client.closeAll()
  await gateway.until(() => gateway.stat('http.test.downstream_cx_active') === 0, 'the end of all')
  t.equal(gateway.stat('http.test.downstream_cx_ssl_active'), 0)
})

t.test('over TLS, what was negotiated holds whatever the first bytes are', async (t) => {
  const { gateway, dial, client } = await setupTls(t)
  const one = client.adopt(await dial({ ALPNProtocols: ['http/1.1'] }))
  await one.write(Buffer.concat([PREFACE, settings()]))
  t.equal((await one.readResponse()).status, 505)
  const two = new FrameWire(client.adopt(await dial({ ALPNProtocols: ['h2'] })))
  await two.wire.write(get())
  t.equal(describe(await two.until((f) => f.type === T.GOAWAY)), 'GOAWAY 0 code 1')
  t.equal(gateway.stat('http.test.downstream_cx_http1_total'), 1)
  t.equal(gateway.stat('http.test.downstream_cx_http2_total'), 1)
})

t.test('a response that breaks off is a reset over TLS too', async (t) => {
  const { client, dial } = await setupTls(t, {
    origin: async (_, reply) => {
      await reply.write('HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf')
      await settle(5)
      reply.reset()
    },
  })
  const wire = client.adopt(await dial())
  const response = await wire.exchange(get())
  t.equal(response.clean, false)
  t.equal(response.text(), 'half')
})

t.test('handshakes that fail or take too long are counted, and leave nothing', async (t) => {
  const clock = new TestClock()
  const { gateway, connect } = await setupTls(t, { gateway: { clock }, connectMs: 2_000 })
  const active = (): number => gateway.stat('http.test.downstream_cx_active')
  const garbage = await connect()
  await garbage.write(get())
  await garbage.readToEnd()
  await gateway.until(() => active() === 0 && gateway.stat('http.test.downstream_cx_total') === 1, 'its end')
  const silent = await connect()
  await gateway.until(() => active() === 1, 'the handshake')
  t.equal(gateway.stat('http.test.downstream_cx_ssl_active'), 1)
  await clock.advanceAsync(2_100)
  t.equal((await silent.readToEnd()).ending, 'reset')
  await gateway.until(() => active() === 0, 'its end')
  t.equal(gateway.stat('listener.127.0.0.1_0.downstream_cx_transport_socket_connect_timeout'), 1)
  t.equal(gateway.stat('listener.127.0.0.1_0.ssl.connection_error'), 2)
  t.equal(gateway.stat('http.test.downstream_cx_ssl_active'), 0)
  const cut = await connect()
  await gateway.until(() => active() === 1, 'another handshake')
  cut.reset()
  await gateway.until(() => active() === 0, 'its end')
})

t.test('new certificates are for new connections; a handshake in progress ends as it began', async (t) => {
  const { gateway, authority, dial, client, connect, origin } = await setupTls(t)
  const old = client.adopt(await dial())
  const between = await connect()
  await gateway.until(() => gateway.stat('http.test.downstream_cx_active') === 2, 'both connections')
  const fresh = await authority.issue({ subject: 'CN=fresh', dns: ['a.example'] })
  const config = bootstrap({ clusters: [cluster('origin', origin.port)] })
  const next = withTls(downstream([fresh], { alpn: ['h2', 'http/1.1'] }))
  await swapAdjust(gateway, config, next)
  const secured = connectTls({ socket: between.socket, ca: authority.pem, servername: 'a.example' })
  await once(secured, 'secureConnect')
  t.equal(secured.getPeerCertificate().subject.CN, 'leaf')
  t.equal((await dial()).getPeerCertificate().subject.CN, 'fresh')
  t.equal((await old.exchange(get())).status, 200)
})

t.test('a drain waits for handshakes, and closes what they become', async (t) => {
  const { gateway, authority, connect } = await setupTls(t)
  const wire = await connect()
  await gateway.until(() => gateway.stat('http.test.downstream_cx_active') === 1, 'the connection')
  const drained = gateway.engine.drain(10_000)
  const secured = connectTls({
    socket: wire.socket,
    ca: authority.pem,
    servername: 'a.example',
    ALPNProtocols: ['h2'],
  })
  await once(secured, 'secureConnect')
  const session = connect2('https://a.example', { createConnection: () => secured })
  const client = new Client(session)
  await client.closed
  t.equal(client.goaways[0]?.code, 0)
  await drained
})

/** The gateway's own `adjust` stays as it was given: this one is applied on top of it. */
async function swapAdjust(
  gateway: TlsSetup['gateway'],
  source: object,
  adjust: (config: GatewayConfig) => GatewayConfig,
): Promise<void> {
  const { engine } = gateway
  const apply = engine.apply.bind(engine)
  engine.apply = (config) => apply(adjust(config))
  await gateway.apply(source)
}
