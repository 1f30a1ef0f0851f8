import { once } from 'node:events'
import { connect as connectRaw, type Socket } from 'node:net'
import { createServer, type Server, TLSSocket, type TlsOptions } from 'node:tls'
import t from 'tap'
import type { UpstreamTlsConfig } from '../../lib/tls/config.ts'
import { rawSocket } from '../../lib/tls/raw-socket.ts'
import { tlsStats } from '../../lib/tls/stats.ts'
import { UpstreamTls } from '../../lib/upstream/tls/client.ts'
import { serverIdentity } from '../../lib/upstream/tls/sni.ts'
import { resetSocket } from '../../listeners/http1/reset.ts'
import { Authority } from '../support/certificates.ts'
import { watchLeaks } from '../support/leaks.ts'
import { assertNoLeaks, Counters, certificate, echo, GROUPS, trusting, within } from './rig.ts'

const authority = await Authority.create()
const stranger = await Authority.create('CN=Stranger')
const leaf = await authority.issue({ dns: ['a.example', '*.web.example'], ip: ['10.0.0.1'], uri: ['spiffe://td/web'] })

function upstream(more: Partial<UpstreamTlsConfig> = {}): UpstreamTlsConfig {
  return {
    certificates: [],
    alpn: [],
    minVersion: 'TLSv1.2',
    maxVersion: 'TLSv1.3',
    groups: GROUPS,
    sni: 'a.example',
    autoSni: 'none',
    autoSanValidation: false,
    maxSessionKeys: 10,
    validation: trusting(authority.pem),
    ...more,
  }
}

type Opened = { readonly socket: TLSSocket } | { readonly error: string }

/** A TLS server of Node's own that echoes, and the client under test. */
class Peer {
  readonly counters = new Counters()
  readonly names: (string | false)[] = []
  readonly certificates: (string | undefined)[] = []
  readonly #server: Server
  readonly #sockets: Socket[] = []

  private constructor(options: TlsOptions) {
    this.#server = createServer(options, (socket) => {
      this.#sockets.push(socket)
      this.names.push((socket as TLSSocket & { servername: string | false }).servername)
      this.certificates.push(socket.getPeerX509Certificate()?.subject)
      socket.on('error', () => undefined)
      socket.pipe(socket)
    })
    this.#server.on('tlsClientError', (_, socket) => socket.on('error', () => undefined))
  }

  static async start(options: TlsOptions = {}): Promise<Peer> {
    const peer = new Peer({ cert: leaf.chain, key: leaf.key, ...options })
    peer.#server.listen(0, '127.0.0.1')
    await once(peer.#server, 'listening')
    return peer
  }

  client(config: UpstreamTlsConfig, protocols: readonly string[] = []): UpstreamTls {
    return new UpstreamTls(config, protocols, tlsStats(this.counters, 'cluster.test.'))
  }

  get counted(): Record<string, number> {
    return this.counters.counted('cluster.test.ssl.')
  }

  /** The newest connection, on its side. */
  get last(): TLSSocket {
    return this.#sockets.findLast((socket) => socket instanceof TLSSocket) as TLSSocket
  }

  get port(): number {
    return (this.#server.address() as { port: number }).port
  }

  /** Opens a connection and waits for its verdict. `secureConnect` after an error would be seen as an answer. */
  async open(client: UpstreamTls, authority = '', hostname = ''): Promise<Opened> {
    const raw = connectRaw({ port: this.port, host: '127.0.0.1', allowHalfOpen: true })
    this.#sockets.push(raw)
    const address = { kind: 'ip' as const, host: '127.0.0.1', port: this.port }
    const socket = client.connect({ address, hostname }, authority, raw)
    let secured = false
    socket.on('secureConnect', () => {
      secured = true
    })
    const { promise, resolve } = Promise.withResolvers<Opened>()
    socket.once('secureConnect', () => resolve({ socket }))
    socket.once('error', ({ message }) => {
      socket.once('close', () => resolve({ error: secured ? 'an error after secureConnect' : message }))
    })
    return within(promise, 'a verdict')
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy()
    this.#server.close()
    await once(this.#server, 'close')
  }
}

function secured(opened: Opened): TLSSocket {
  if ('error' in opened) throw new Error(opened.error)
  return opened.socket
}

function refused(opened: Opened): string {
  return 'error' in opened ? opened.error : 'accepted'
}

t.test('a verified server is connected, and described in counters', async (t) => {
  const leaks = watchLeaks()
  const peer = await Peer.start({ ALPNProtocols: ['h2'] })
  const socket = secured(await peer.open(peer.client(upstream(), ['h2', 'http/1.1'])))
  t.equal(socket.alpnProtocol, 'h2')
  t.equal(await echo(socket, 'hello'), 'hello')
  t.same(peer.names, ['a.example'])
  t.match(peer.counted, { handshake: 1, 'versions.TLSv1.3': 1 })
  t.equal(Object.keys(peer.counted).filter((name) => /^(ciphers|curves)\./.test(name)).length, 2)
  await peer.close()
  await assertNoLeaks(leaks)
})

t.test('servers are refused in the words of Envoy, before anything is said to them', async (t) => {
  const leaks = watchLeaks()
  const failed = /^TLS_error:\|268435581:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:verify cert failed: /
  const untrusted = await stranger.issue({ dns: ['a.example'] })
  const expired = await authority.issue({ dns: ['a.example'], fromDays: -9, toDays: -1 })
  const revoked = await authority.issue({ dns: ['a.example'] })
  const crl = await authority.revoke(revoked)
  const sans = [{ type: 'uri' as const, match: { kind: 'exact' as const, value: 'spiffe://td/db' } }]
  for (const [server, config, words, counter] of [
    [untrusted, upstream(), /X509_verify_cert: .*: unable to get local issuer certificate/, 'fail_verify_error'],
    [expired, upstream(), /certificate has expired/, 'fail_verify_error'],
    [revoked, upstream({ validation: trusting(authority.pem, { crl }) }), /certificate revoked/, 'fail_verify_error'],
    [leaf, upstream({ validation: trusting(authority.pem, { sans }) }), /SAN matcher/, 'fail_verify_san'],
    [leaf, upstream({ sni: 'b.example', autoSanValidation: true }), /verify SAN list/, 'fail_verify_san'],
  ] as const) {
    for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
      const peer = await Peer.start({ cert: server.chain, key: server.key, maxVersion })
      const message = refused(await peer.open(peer.client(config)))
      t.match(message, failed)
      t.match(message, words)
      t.match(message, /:TLS_error_end$/)
      t.same(peer.counted, { [counter]: 1 }, message)
      await peer.close()
    }
  }
  await assertNoLeaks(leaks)
})

t.test('without authorities nothing is verified, with acceptUntrusted nothing is refused', async (t) => {
  const untrusted = await stranger.issue({ dns: ['other.example'] })
  const peer = await Peer.start({ cert: untrusted.chain, key: untrusted.key })
  const { validation: _, ...unverified } = upstream()
  t.equal(await echo(secured(await peer.open(peer.client(unverified))), 'x'), 'x')
  const accepting = upstream({ validation: trusting(authority.pem, { acceptUntrusted: true }) })
  t.equal(await echo(secured(await peer.open(peer.client(accepting))), 'x'), 'x')
  // A name that is asked for is asked for, whoever vouches for it.
  t.match(refused(await peer.open(peer.client({ ...unverified, autoSanValidation: true }))), /verify SAN list/)
  t.match(refused(await peer.open(peer.client({ ...accepting, autoSanValidation: true }))), /verify SAN list/)
  await peer.close()
})

t.test('names: all values are seen, wildcards and IP addresses understood', async (t) => {
  const peer = await Peer.start()
  const open = async (more: Partial<UpstreamTlsConfig>, name = ''): Promise<string> =>
    refused(await peer.open(peer.client(upstream(more)), name))
  const san = (type: 'dns' | 'uri' | 'ip', value: string): Partial<UpstreamTlsConfig> => ({
    validation: trusting(authority.pem, {
      sans: [
        { type: 'dns', match: { kind: 'exact', value: 'no' } },
        { type, match: { kind: 'exact', value } },
      ],
    }),
  })
  t.equal(await open(san('dns', 'api.web.example')), 'accepted')
  t.equal(await open(san('uri', 'spiffe://td/web')), 'accepted')
  t.equal(await open(san('ip', '10.0.0.1')), 'accepted')
  t.match(await open(san('dns', 'a.api.web.example')), /SAN matcher/)
  const auto = { autoSni: 'authority' as const, autoSanValidation: true }
  t.equal(await open(auto, 'API.web.example:8443'), 'accepted')
  t.equal(await open(auto, '10.0.0.1:443'), 'accepted')
  t.match(await open(auto, '10.0.0.2'), /verify SAN list/)
  t.match(await open(auto, '[::1]:443'), /verify SAN list/)
  t.equal(peer.names[peer.names.length - 1], false, 'no SNI for an address')
  await peer.close()
})

t.test('the SNI comes from the configuration, the endpoint or the authority', async (t) => {
  const peer = await Peer.start()
  for (const [more, authorityText, hostname, expected] of [
    [{ sni: 'fixed.example' }, 'auth.example', 'host.example', 'fixed.example'],
    [{ sni: '' }, 'auth.example', 'host.example', false],
    [{ sni: '10.0.0.1' }, '', '', false],
    [{ sni: '', autoSni: 'host' }, 'auth.example', 'Host.Example.', 'host.example'],
    [{ sni: 'fixed.example', autoSni: 'host' }, 'auth.example', '', 'fixed.example'],
    [{ sni: '', autoSni: 'authority' }, 'Auth.Example:443', 'host.example', 'auth.example'],
    [{ sni: '', autoSni: 'authority' }, '127.0.0.1:443', 'host.example', false],
    [{ sni: '', autoSni: 'authority' }, '[::1]', 'host.example', false],
    [{ sni: 'fixed.example', autoSni: 'authority' }, '', 'host.example', 'fixed.example'],
    [{ sni: '', autoSni: 'authority' }, 'b\u00fccher.example', '', false],
  ] as const) {
    const opened = await peer.open(peer.client(upstream(more)), authorityText, hostname)
    await echo(secured(opened), 'x')
    t.equal(peer.names[peer.names.length - 1], expected, JSON.stringify([more, authorityText, hostname]))
  }
  await peer.close()
})

t.test('a client certificate is shown to whoever asks for it', async (t) => {
  const mine = await authority.issue({ subject: 'CN=proxy' })
  const peer = await Peer.start({ ca: authority.pem, requestCert: true, rejectUnauthorized: true })
  const config = upstream({ certificates: [certificate(mine)] })
  t.equal(await echo(secured(await peer.open(peer.client(config))), 'x'), 'x')
  t.same(peer.certificates, ['CN=proxy'])
  await peer.close()
})

t.test('sessions are resumed for the same identity only', async (t) => {
  for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
    const peer = await Peer.start({ maxVersion })
    const client = peer.client(upstream({ sni: '', autoSni: 'authority', autoSanValidation: true, maxSessionKeys: 2 }))
    const reused = async (name: string, by = client): Promise<boolean> => {
      const socket = secured(await peer.open(by, name))
      await echo(socket, 'x')
      return socket.isSessionReused()
    }
    t.equal(await reused('a.example'), false)
    t.equal(await reused('a.example:443'), true)
    t.equal(await reused('b.web.example'), false, 'another name')
    t.equal(await reused('a.example'), true)
    t.equal(await reused('c.web.example'), false)
    t.equal(await reused('b.web.example'), false, 'the oldest has made room')
    t.equal(await reused('a.example', peer.client(upstream())), false, 'another client')
    const none = peer.client(upstream({ maxSessionKeys: 0 }))
    t.same([await reused('', none), await reused('', none)], [false, false])
    t.equal(peer.counted.session_reused, 2)
    await peer.close()
  }
})

t.test('a session of a refused server is not kept', async (t) => {
  const untrusted = await stranger.issue({ dns: ['a.example'] })
  const peer = await Peer.start({ cert: untrusted.chain, key: untrusted.key, maxVersion: 'TLSv1.2' })
  const client = peer.client(upstream())
  t.match(refused(await peer.open(client)), /VERIFY_FAILED/)
  t.match(refused(await peer.open(client)), /VERIFY_FAILED/)
  t.equal(peer.counted.fail_verify_error, 2)
  await peer.close()
})

t.test('a handshake that breaks is an error of the connection', async (t) => {
  const leaks = watchLeaks()
  const peer = await Peer.start({ maxVersion: 'TLSv1.2' })
  t.match(refused(await peer.open(peer.client(upstream({ minVersion: 'TLSv1.3' })))), /alert protocol version/)
  t.same(peer.counted, { connection_error: 1 })
  const client = peer.client(upstream())
  const nowhere = connectRaw({ port: peer.port, host: '127.0.0.1' })
  const address = { kind: 'ip' as const, host: '127.0.0.1', port: peer.port }
  const socket = client.connect({ address, hostname: '' }, '', nowhere)
  const closed = once(socket, 'close')
  socket.destroy()
  await within(closed, 'the close')
  await within(
    nowhere.closed ? Promise.resolve() : new Promise((resolve) => nowhere.once('close', resolve)),
    'the raw close',
  )
  t.equal(peer.counted.connection_error, 2)
  await peer.close()
  await assertNoLeaks(leaks)
})

t.test('a connection to nobody fails with the error of its socket', async (t) => {
  const peer = await Peer.start()
  const { port } = peer
  await peer.close()
  const raw = connectRaw({ port, host: '127.0.0.1' })
  const address = { kind: 'ip' as const, host: '127.0.0.1', port }
  const socket = peer.client(upstream()).connect({ address, hostname: '' }, '', raw)
  const [error] = (await within(once(socket, 'error'), 'an error')) as unknown as [{ code: string }]
  t.equal(error.code, 'ECONNREFUSED')
})

t.test('a connection can be reset', async (t) => {
  const leaks = watchLeaks()
  const peer = await Peer.start()
  const socket = secured(await peer.open(peer.client(upstream())))
  t.equal(rawSocket(socket)?.remotePort, peer.port)
  const closed = once(socket, 'close')
  resetSocket(socket)
  await within(closed, 'the close')
  t.equal(rawSocket(socket)?.destroyed, true)
  await peer.close()
  await assertNoLeaks(leaks)
})

t.test('a server does not renegotiate: it could become another one', async (t) => {
  const peer = await Peer.start({ maxVersion: 'TLSv1.2' })
  const socket = secured(await peer.open(peer.client(upstream())))
  t.equal(await echo(socket, 'x'), 'x')
  let done = false
  peer.last.renegotiate({}, () => {
    done = true
  })
  await within(once(peer.last, 'error'), 'the refusal')
  t.equal(done, false)
  await peer.close()
})

t.test('where the name is validated, no name finds no server good enough', async (t) => {
  const peer = await Peer.start()
  const validated = { sni: '', autoSanValidation: true }
  for (const autoSni of ['authority', 'host', 'none'] as const) {
    const client = peer.client(upstream({ ...validated, autoSni }))
    for (const none of ['', ':443', '.', '[']) t.match(refused(await peer.open(client, none)), /verify SAN list/)
  }
  const sans = [{ type: 'uri' as const, match: { kind: 'exact' as const, value: 'spiffe://td/web' } }]
  const named = upstream({ ...validated, autoSni: 'host', validation: trusting(authority.pem, { sans }) })
  t.equal(await echo(secured(await peer.open(peer.client(named))), 'x'), 'x', 'an endpoint is held to the names listed')
  const asked = upstream({ ...validated, autoSni: 'authority', validation: trusting(authority.pem, { sans }) })
  t.match(refused(await peer.open(peer.client(asked))), /verify SAN list/, 'a request is not')
  t.same(serverIdentity(asked, '', 'A.Example.:1'), serverIdentity(asked, '', 'a.example'), 'one spelling, one pool')
  await peer.close()
})

t.test('a session ends with the certificate that began it', async (t) => {
  const soon = await authority.issue({ dns: ['a.example'], toDays: 60 / 86_400 })
  for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
    const peer = await Peer.start({ cert: soon.chain, key: soon.key, maxVersion })
    const client = peer.client(upstream())
    const wall = Date.now
    try {
      for (const reused of [false, true, true]) {
        const socket = secured(await peer.open(client))
        await echo(socket, 'x')
        t.equal(socket.isSessionReused(), reused)
      }
      Date.now = () => wall() + 61_000
      t.match(refused(await peer.open(client)), /certificate has expired/)
      t.equal(peer.counted.session_reused, 2)
    } finally {
      Date.now = wall
      await peer.close()
    }
  }
})
