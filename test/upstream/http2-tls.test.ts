import type { IncomingMessage, ServerResponse } from 'node:http'
import { constants, createSecureServer, type Http2SecureServer, type ServerHttp2Stream } from 'node:http2'
import { createServer as createHttpsServer } from 'node:https'
import { createServer } from 'node:net'
import { createServer as createTlsServer, type TLSSocket } from 'node:tls'
import t, { type Test } from 'tap'
import { FAILURES } from '../../lib/core/failure.ts'
import type { UpstreamTlsConfig } from '../../lib/tls/config.ts'
import { Authority, type Issued } from '../support/certificates.ts'
import { settle } from '../support/clock.ts'
import { settings, settingsAck } from '../support/http2-wire.ts'
import { type Call, lab, listen, until } from './http2-lab.ts'

/** Pools over TLS: ALPN decides or confirms the protocol, identities do not mix. */

interface Secured {
  readonly tls: UpstreamTlsConfig
  readonly issued: Issued
}

async function secured(overrides: Partial<UpstreamTlsConfig> = {}): Promise<Secured> {
  const authority = await Authority.create()
  const issued = await authority.issue({ dns: ['web.example', 'other.example'] })
  const tls: UpstreamTlsConfig = {
    certificates: [],
    alpn: [],
    minVersion: 'TLSv1.2',
    maxVersion: 'TLSv1.3',
    groups: ['X25519', 'P-256'],
    validation: { trustedCa: authority.pem, systemRoots: false, sans: [], acceptUntrusted: false },
    sni: 'web.example',
    autoSni: 'none',
    autoSanValidation: true,
    maxSessionKeys: 1,
    ...overrides,
  }
  return { tls, issued }
}

interface SecureUpstream {
  readonly port: number
  readonly names: (string | false | null)[]
  readonly offers: (string | false | null)[]
}

/** Speaks what `protocols` says at the time of each connection. */
async function secureUpstream(
  t: Test,
  { issued }: Secured,
  protocols: () => readonly string[],
): Promise<SecureUpstream> {
  const names: SecureUpstream['names'] = []
  const offers: SecureUpstream['offers'] = []
  const server: Http2SecureServer = createSecureServer(
    {
      key: issued.key,
      cert: issued.chain,
      allowHTTP1: true,
      ALPNCallback: ({ protocols: offered, servername }) => {
        names.push(servername)
        offers.push(offered.join())
        return protocols().find((protocol) => offered.includes(protocol))
      },
    },
    (request, response) => {
      response.writeHead(200, { 'x-version': request.httpVersion })
      response.end('hello')
    },
  )
  server.on('sessionError', () => {})
  server.on('tlsClientError', () => {})
  return { port: await listen(t, server), names, offers }
}

function versions(calls: readonly Call[]): (string | undefined)[] {
  return calls.map((c) => c.headers.get('x-version'))
}

t.test('HTTP/2 over TLS is offered by ALPN, with the scheme of the request', async (t) => {
  const cluster = await secured()
  const upstream = await secureUpstream(t, cluster, () => ['h2'])
  const { call, stat } = await lab(t, { port: upstream.port, cluster: { tls: cluster.tls } })
  const calls = [call(), call({ scheme: '' })]
  await until(() => calls.every((c) => c.ended), 'answers')
  t.same(versions(calls), ['2.0', '2.0'])
  t.same(upstream.offers, ['h2'])
  t.same(upstream.names, ['web.example'])
  t.equal(stat('upstream_cx_total'), 1)
  t.equal(stat('ssl.handshake'), 1)
  t.ok(stat('upstream_cx_connect_fail') === 0)
})

t.test('HTTP/1 over TLS is offered by ALPN', async (t) => {
  const cluster = await secured()
  const upstream = await secureUpstream(t, cluster, () => ['http/1.1'])
  const { call, stat } = await lab(t, { port: upstream.port, cluster: { tls: cluster.tls, protocol: 'http1' } })
  const first = call()
  await until(() => first.ended, 'answer')
  const second = call()
  await until(() => second.ended, 'answer')
  t.same(versions([first, second]), ['1.1', '1.1'])
  t.same(second.reused, [true])
  t.same(upstream.offers, ['http/1.1'])
  t.equal(stat('upstream_cx_http1_total'), 1)
})

t.test('an ALPN list of the TLS configuration is offered as it is', async (t) => {
  const cluster = await secured({ alpn: ['istio', 'h2'] })
  const upstream = await secureUpstream(t, cluster, () => ['h2'])
  const { call } = await lab(t, { port: upstream.port, cluster: { tls: cluster.tls } })
  const c = call()
  await until(() => c.ended, 'answer')
  t.same(upstream.offers, ['istio,h2'])
})

t.test('a peer that cannot be verified gets no request', async (t) => {
  const cluster = await secured({ sni: 'wrong.example' })
  const upstream = await secureUpstream(t, cluster, () => ['h2', 'http/1.1'])
  for (const protocol of ['http1', 'http2', 'auto'] as const) {
    const { call, stat } = await lab(t, { port: upstream.port, cluster: { tls: cluster.tls, protocol } })
    const calls = [call(), call()]
    await until(() => calls.every((c) => c.over), 'failures')
    for (const c of calls) {
      t.equal(c.failure, FAILURES.connectFailed, protocol)
      t.match(c.detail, /^TLS_error:\|.*verify SAN list/, protocol)
      t.equal(c.info.length, 0)
    }
    await until(() => stat('upstream_cx_active') === 0, 'end')
    t.ok(stat('upstream_cx_connect_fail') >= 1)
    t.equal(stat('upstream_rq_pending_failure_eject'), 2)
  }
})

t.test('a peer that speaks something else than TLS says so in the detail', async (t) => {
  const { tls } = await secured()
  const port = await listen(
    t,
    createServer((socket) => void socket.end('HTTP/1.1 400 Bad Request\r\n\r\n')),
  )
  const { call } = await lab(t, { port, cluster: { tls } })
  const c = call()
  await until(() => c.over, 'failure')
  t.equal(c.failure, FAILURES.connectFailed)
  t.match(c.detail, /^TLS_error:.+/)
})

t.test('a handshake that takes too long is broken off', async (t) => {
  const { tls } = await secured()
  const sockets: unknown[] = []
  const port = await listen(
    t,
    createServer((socket) => void sockets.push(socket)),
  )
  for (const protocol of ['http1', 'http2', 'auto'] as const) {
    const { call, clock, stat } = await lab(t, { port, cluster: { tls, protocol, connectTimeoutMs: 2_000 } })
    const before = sockets.length
    const c = call()
    await until(() => sockets.length > before, 'connection')
    await settle(5)
    clock.advance(2_100)
    await until(() => c.over && stat('upstream_cx_active') === 0, 'failure')
    t.equal(c.failure, FAILURES.connectTimeout, protocol)
    t.equal(stat('upstream_cx_connect_timeout'), 1, protocol)
  }
})

t.test('where the peer chooses, the first connection decides and whoever waited goes along', async (t) => {
  for (const [protocol, version] of [
    ['h2', '2.0'],
    ['http/1.1', '1.1'],
  ]) {
    const cluster = await secured()
    const upstream = await secureUpstream(t, cluster, () => [protocol])
    const { call, stat } = await lab(t, { port: upstream.port, cluster: { tls: cluster.tls, protocol: 'auto' } })
    const calls = [call(), call({ method: 'POST', body: 'streamed' }), call()]
    t.equal(calls[1].stream?.write(Buffer.from('a'), false), false)
    calls[1].stream?.write(Buffer.from('b'), true)
    const gone = call()
    gone.stream?.cancel()
    t.equal(stat('upstream_rq_pending_active'), 3)
    await until(() => calls.every((c) => c.ended), 'answers')
    t.same(versions(calls), [version, version, version])
    t.equal(upstream.offers[0], 'h2,http/1.1')
    t.equal(stat('upstream_cx_http2_total'), protocol === 'h2' ? 1 : 0)
    t.equal(stat('upstream_cx_http1_total'), protocol === 'h2' ? 0 : 3)
    t.equal(stat('upstream_cx_total'), protocol === 'h2' ? 1 : 3)
    t.equal(stat('upstream_rq_pending_total'), 4)
    const later = call()
    await until(() => later.ended, 'one more')
    t.same(later.reused, [true])
    t.equal(gone.info.length, 0)
  }
})

t.test('a peer without ALPN speaks HTTP/1', async (t) => {
  const { tls, issued } = await secured()
  const server = createHttpsServer({ key: issued.key, cert: issued.chain, ALPNProtocols: [] }, (_, response) => {
    response.end('hello')
  })
  const port = await listen(t, server)
  const { call } = await lab(t, { port, cluster: { tls, protocol: 'auto' } })
  const c = call()
  await until(() => c.over, 'answer')
  t.equal(c.info[0]?.protocol, 'HTTP/1.1')
  t.equal(c.text, 'hello')
})

t.test('a peer that changes its mind is noticed', async (t) => {
  const cluster = await secured()
  let speaks = ['http/1.1']
  const upstream = await secureUpstream(t, cluster, () => speaks)
  const { call, clock, stat } = await lab(t, {
    port: upstream.port,
    cluster: { tls: cluster.tls, protocol: 'auto', idleTimeoutMs: 1_000 },
  })
  const run = async (): Promise<Call> => {
    const c = call({ repeat: true })
    await until(() => c.over, 'answer')
    await settle(5)
    clock.advance(2_500)
    await until(() => stat('upstream_cx_active') === 0, 'end of the idle connection')
    return c
  }
  const first = await run()
  speaks = ['h2']
  const second = await run()
  speaks = ['http/1.1']
  const third = await run()
  t.same(versions([first, second, third]), ['1.1', '2.0', '1.1'])
  t.equal(third.attempts, 2)
  t.equal(third.failures[0], FAILURES.upstreamUnsent, 'which the router repeats')
  t.equal(stat('upstream_cx_connect_fail'), 1)
})

t.test('a peer that demands HTTP/1 gets it, with the requests that it has refused', async (t) => {
  for (const how of ['stream', 'connection'] as const) {
    const { tls, issued } = await secured()
    const offers: string[] = []
    const served: string[] = []
    const server = createSecureServer({
      key: issued.key,
      cert: issued.chain,
      allowHTTP1: true,
      ALPNCallback: ({ protocols }) => {
        offers.push(protocols.join())
        return protocols[0]
      },
    })
    server.on('stream', (stream: ServerHttp2Stream) => {
      stream.on('error', () => {})
      if (how === 'stream') stream.close(constants.NGHTTP2_HTTP_1_1_REQUIRED)
      else {
        // It serves what it has accepted.
        if (stream.id === 1) stream.session?.goaway(constants.NGHTTP2_HTTP_1_1_REQUIRED)
        stream.respond({ ':status': 200 })
        stream.end('two')
      }
    })
    server.on('request', (request: IncomingMessage, response: ServerResponse) => {
      if (request.httpVersionMajor !== 1) return
      request.resume().on('end', () => {
        served.push(`${request.method} ${request.url}`)
        response.end('one')
      })
    })
    const port = await listen(t, server)
    const { call, clock, stat } = await lab(t, { port, cluster: { tls, protocol: 'auto', idleTimeoutMs: 1_000 } })
    const run = async (count: number): Promise<Call[]> => {
      const calls = Array.from({ length: count }, (_, i) => call({ path: `/${i}`, method: 'DELETE', repeat: true }))
      await until(() => calls.every((c) => c.over), `answers (${how})`)
      return calls
    }
    const first = await run(how === 'stream' ? 3 : 1)
    for (const c of first) {
      t.equal(c.text, how === 'stream' ? 'one' : 'two')
      t.same(c.failures, how === 'stream' ? [FAILURES.upstreamRefused] : [])
    }
    for (const c of await run(2)) t.match(c, { text: 'one', attempts: 1 })
    t.same(served.slice(-2).sort(), ['DELETE /0', 'DELETE /1'])
    t.equal(served.length, how === 'stream' ? 5 : 2)
    const idle = async (ms: number): Promise<void> => {
      await settle(5)
      clock.advance(ms)
      await until(() => stat('upstream_cx_active') === 0, 'end of the idle connections')
    }
    await idle(2_500)
    offers.length = 0
    await run(1)
    t.same(offers, ['http/1.1'], 'it is not asked again')
    await idle(601_000)
    offers.length = 0
    await run(1)
    t.equal(offers[0], 'h2,http/1.1', 'but after ten minutes')
  }
})

t.test('connections for one name never serve another', async (t) => {
  const cluster = await secured({ autoSni: 'authority', sni: '' })
  const upstream = await secureUpstream(t, cluster, () => ['h2', 'http/1.1'])
  for (const protocol of ['http1', 'http2', 'auto', 'downstream'] as const) {
    upstream.names.length = 0
    const { call, cluster: web, stat } = await lab(t, { port: upstream.port, cluster: { tls: cluster.tls, protocol } })
    const authorities = ['web.example', 'other.example:8443', 'web.example:443', 'stranger.example', 'other.example']
    const calls: Call[] = []
    for (const authority of authorities) {
      const c = call({ authority })
      await until(() => c.over, 'end')
      calls.push(c)
    }
    t.same(upstream.names, ['web.example', 'other.example', 'stranger.example'], protocol)
    t.same(
      calls.map((c) => c.status),
      [200, 200, 200, 0, 200],
    )
    t.match(calls[3].detail, /verify SAN list/)
    t.equal(stat('upstream_cx_total'), 3)
    web.retire()
    await web.drained()
  }
})

t.test('names that clients make up do not pile up', async (t) => {
  const cluster = await secured({ autoSni: 'authority', autoSanValidation: false, sni: '' })
  const upstream = await secureUpstream(t, cluster, () => ['h2'])
  const { call, stat } = await lab(t, { port: upstream.port, cluster: { tls: cluster.tls } })
  for (let i = 0; i < 103; i++) {
    const c = call({ authority: `n${i}.example` })
    await until(() => c.over, 'answer')
    t.equal(c.status, 200)
  }
  await until(() => stat('upstream_cx_active') === 100, 'the oldest to go')
  const again = call({ authority: 'n50.example' })
  await until(() => again.over, 'answer')
  t.same(again.reused, [true])
})

t.test('a dead peer behind TLS is reset', async (t) => {
  const { tls, issued } = await secured()
  const ends: string[] = []
  const server = createTlsServer(
    { key: issued.key, cert: issued.chain, ALPNProtocols: ['h2'] },
    (socket: TLSSocket) => {
      socket.resume()
      socket.write(Buffer.concat([settings(), settingsAck()]))
      socket.on('close', () => ends.push('close'))
    },
  )
  const port = await listen(t, server)
  const keepalive = { intervalMs: 1_000, timeoutMs: 1_000, jitterPercent: 0, idleIntervalMs: 0 }
  const { call, clock, stat } = await lab(t, { port, cluster: { tls }, http2: { keepalive } })
  const c = call()
  await until(() => c.info.length > 0, 'request')
  await settle(10)
  clock.advance(1_100)
  await settle(5)
  clock.advance(1_100)
  await until(() => c.over, 'end')
  t.equal(c.detail, 'http2 keepalive timeout')
  await until(() => ends.length === 1 && stat('upstream_cx_active') === 0, 'end of both sides')
})

t.test('a cluster that goes away while a connection is made gives no peace to those who wait', async (t) => {
  const { tls } = await secured()
  const sockets: unknown[] = []
  const port = await listen(
    t,
    createServer((socket) => void sockets.push(socket)),
  )
  for (const protocol of ['http1', 'http2', 'auto'] as const) {
    const before = sockets.length
    const { call, cluster } = await lab(t, { port, cluster: { tls, protocol } })
    const c = call()
    await until(() => sockets.length > before, 'connection')
    cluster.retire()
    await settle(5)
    t.notOk(c.over, 'retiring waits for it')
    cluster.destroy()
    await cluster.drained()
    t.equal(c.failure, FAILURES.connectFailed, protocol)
  }
})

// --- ahead of need ----------------------------------------------------------------------------------------------------

for (const [protocol, version, connections] of [
  ['h2', '2.0', 1],
  ['http/1.1', '1.1', 1],
] as const) {
  t.test(`a connection that is opened ahead of need asks what the host speaks: ${protocol}`, async (t) => {
    const cluster = await secured()
    const upstream = await secureUpstream(t, cluster, () => [protocol])
    const auto = { tls: cluster.tls, protocol: 'auto', predictiveRatio: 2 } as const
    const { cluster: web, call, host, stat } = await lab(t, { port: upstream.port, cluster: auto })
    web.pick({ authority: 'web.example', protocol: 'HTTP/1.1' })
    await until(() => upstream.offers.length === 1, 'the connection')
    t.equal(stat('upstream_rq_total'), 0)
    const picked = host()
    const one = call({ host: picked })
    await until(() => one.ended, 'the answer')
    t.same(versions([one]), [version])
    t.equal(stat('upstream_cx_total'), connections)
    t.equal(stat('upstream_rq_pending_failure_eject'), 0)
  })
}

t.test('a host that cannot be asked ahead of need is asked by the next request', async (t) => {
  const cluster = await secured()
  const dead = createServer()
  const port = await listen(t, dead)
  await new Promise((resolve) => dead.close(resolve))
  const auto = { tls: cluster.tls, protocol: 'auto', predictiveRatio: 2 } as const
  const { cluster: web, call, stat } = await lab(t, { port, cluster: auto })
  web.pick({})
  await until(() => stat('upstream_cx_connect_fail') === 1, 'the failure')
  t.equal(stat('upstream_rq_pending_failure_eject'), 0)
  const failed = call({ host: web.hosts.all[0] })
  await until(() => failed.failure !== undefined, 'the failure of the request')
  t.equal(failed.failure, FAILURES.connectFailed)
})

t.test('connections that are opened ahead of need are for the name that the request has', async (t) => {
  const cluster = await secured({ sni: undefined, autoSni: 'authority' })
  const upstream = await secureUpstream(t, cluster, () => ['h2'])
  const ahead = { tls: cluster.tls, predictiveRatio: 2 }
  const { cluster: web, call, stat } = await lab(t, { port: upstream.port, cluster: ahead })
  web.pick({ authority: 'other.example' })
  await until(() => upstream.names.length === 1, 'the connection')
  t.same(upstream.names, ['other.example'])
  const same = call({ authority: 'other.example', host: web.hosts.all[0] })
  await until(() => same.ended, 'the answer')
  t.equal(stat('upstream_cx_total'), 1)
  const another = call({ authority: 'web.example', host: web.hosts.all[0] })
  await until(() => another.ended, 'the other answer')
  t.same(upstream.names, ['other.example', 'web.example'])
})

t.test('connections that are opened ahead of need speak what the client speaks', async (t) => {
  for (const [protocol, name, other] of [
    ['HTTP/2', 'http2', 'http1'],
    ['HTTP/1.1', 'http1', 'http2'],
  ] as const) {
    const server = createServer()
    const port = await listen(t, server)
    const { cluster: web, stat } = await lab(t, { port, cluster: { protocol: 'downstream', predictiveRatio: 3 } })
    web.pick({ protocol })
    t.equal(stat(`upstream_cx_${name}_total`), 1)
    t.equal(stat(`upstream_cx_${other}_total`), 0)
  }
})
