import { once } from 'node:events'
import { setImmediate as turn } from 'node:timers/promises'
import type { TLSSocket } from 'node:tls'
import t from 'tap'
import type { TlsInfo } from '../../lib/core/connection.ts'
import { ScaledTimeout } from '../../lib/core/overload.ts'
import { isKnownGroup } from '../../lib/tls/groups.ts'
import { rawSocket } from '../../lib/tls/raw-socket.ts'
import { sessionGroup } from '../../lib/tls/session-group.ts'
import { resetSocket } from '../../listeners/http1/reset.ts'
import { Authority } from '../support/certificates.ts'
import { watchLeaks } from '../support/leaks.ts'
import {
  AcceptorRig,
  assertNoLeaks,
  downstream,
  echo,
  GROUPS,
  type Outcome,
  recordHello,
  trusting,
  within,
} from '../tls/rig.ts'

const authority = await Authority.create()
const stranger = await Authority.create('CN=Stranger')
const leaf = await authority.issue({ dns: ['a.example'] })

function info(outcome: Outcome): TlsInfo {
  if ('why' in outcome) throw new Error(`the handshake failed: ${outcome.why}`)
  return outcome.info
}

function why(outcome: Outcome): string {
  return 'why' in outcome ? outcome.why : 'accepted'
}

/** The common name or first DNS name of what the server showed. */
function shown(socket: TLSSocket): string | undefined {
  return socket.getPeerX509Certificate()?.subjectAltName
}

t.test('bytes pass both ways and the connection is described', async (t) => {
  const leaks = watchLeaks()
  const rig = await AcceptorRig.start(downstream([leaf], { alpn: ['h2', 'http/1.1'] }))
  const client = await rig.connect({ servername: 'A.Example', ALPNProtocols: ['http/1.1', 'h2'] })
  t.equal(await echo(client, 'hello'), 'hello')
  t.equal(client.alpnProtocol, 'h2', 'in the order of the server')
  const group = isKnownGroup('X25519MLKEM768') ? 'X25519MLKEM768' : 'X25519'
  t.same(info(await rig.outcome(0)), {
    version: 'TLSv1.3',
    cipher: client.getCipher().name,
    group,
    serverName: 'a.example',
    alpn: 'h2',
    peer: undefined,
    peerUnverified: false,
    local: { subject: 'CN=leaf', uriSans: [], dnsSans: ['a.example'] },
    sessionId: '',
  })
  t.same(rig.counted, {
    handshake: 1,
    no_certificate: 1,
    [`ciphers.${client.getCipher().name}`]: 1,
    'versions.TLSv1.3': 1,
    [`curves.${group}`]: 1,
  })
  // Half-close: the answer comes after the client's end.
  const ended = once(client, 'end')
  client.end('bye')
  t.equal(String((await within(once(client, 'data'), 'the rest'))[0]), 'bye')
  await within(ended, 'the end')
  t.equal(rig.wheel.armed, 0)
  await rig.close()
  await assertNoLeaks(leaks)
})

t.test('versions, ciphers and groups are those configured', async (t) => {
  const rsa = await authority.issue({ key: 'rsa', dns: ['a.example'] })
  const cipherSuites = ['TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384']
  const rig = await AcceptorRig.start(downstream([rsa], { maxVersion: 'TLSv1.2', cipherSuites, groups: ['P-256'] }))
  const client = await rig.connect()
  t.equal(client.getProtocol(), 'TLSv1.2')
  t.match(info(await rig.outcome(0)), { version: 'TLSv1.2', cipher: 'ECDHE-RSA-AES256-GCM-SHA384', group: 'P-256' })
  await t.rejects(rig.connect({ minVersion: 'TLSv1.3' }))
  await t.rejects(rig.connect({ ciphers: 'ECDHE-RSA-AES128-GCM-SHA256' }))
  await t.rejects(rig.connect({ ecdhCurve: 'X25519' }))
  t.equal(rig.counted.connection_error, 3)
  await rig.close()
  const only13 = await AcceptorRig.start(downstream([leaf], { minVersion: 'TLSv1.3' }))
  await t.rejects(only13.connect({ maxVersion: 'TLSv1.2' }), { code: 'ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION' })
  await only13.close()
})

t.test('every group that is configured can be agreed on, and is told', async (t) => {
  // A P-256 certificate would need that group in TLS 1.2.
  const rsa = await authority.issue({ key: 'rsa', dns: ['a.example'] })
  const rig = await AcceptorRig.start(downstream([rsa], { groups: [...GROUPS, 'P-384', 'P-521'] }))
  const groups = ['X25519MLKEM768', 'X25519', 'P-256', 'P-384', 'P-521'].filter(isKnownGroup)
  let index = 0
  for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
    for (const group of groups) {
      // Hybrid groups came with TLS 1.3.
      if (version === 'TLSv1.2' && group.includes('MLKEM')) continue
      await rig.connect({ ecdhCurve: group, maxVersion: version })
      t.equal(info(await rig.outcome(index++)).group, group, `${version} ${group}`)
    }
  }
  await rig.close()
  t.equal(sessionGroup(undefined), undefined)
  for (const hex of [
    '',
    '30',
    '3000',
    '30820003',
    '3003b30102',
    '3005b303020111',
    '3084ffffffff',
    '3006b30402020000',
  ]) {
    t.equal(sessionGroup(Buffer.from(hex, 'hex')), undefined, hex)
  }
})

t.test('certificates are chosen by name: exact, then wildcard, then the first', async (t) => {
  const first = await authority.issue({ dns: ['first.example'] })
  const wild = await authority.issue({ dns: ['*.web.example'] })
  const exact = await authority.issue({ dns: ['API.web.example'] })
  const common = await authority.issue({ subject: 'CN=old.example' })
  const rig = await AcceptorRig.start(downstream([first, wild, exact, common]))
  for (const [servername, expected] of [
    ['first.example', 'DNS:first.example'],
    ['www.web.example', 'DNS:*.web.example'],
    ['api.WEB.example', 'DNS:API.web.example'],
    ['a.b.web.example', 'DNS:first.example'],
    ['web.example', 'DNS:first.example'],
    ['old.example', undefined],
    ['unknown.example', 'DNS:first.example'],
    [undefined, 'DNS:first.example'],
  ] as const) {
    const client = await rig.connect(servername === undefined ? {} : { servername })
    t.equal(shown(client), expected, servername ?? 'no name')
  }
  t.equal(info(await rig.outcome(2)).serverName, 'api.web.example')
  t.equal(info(await rig.outcome(7)).serverName, undefined)
  await rig.close()
})

t.test('an RSA and an ECDSA certificate of one name are both offered', async (t) => {
  const rsa = await authority.issue({ key: 'rsa', dns: ['a.example'] })
  const other = await authority.issue({ dns: ['other.example'] })
  for (const certificates of [
    [rsa, leaf],
    [rsa, leaf, other],
  ]) {
    const rig = await AcceptorRig.start(downstream(certificates))
    for (const servername of ['a.example', 'unknown.example']) {
      const types = []
      for (const sigalgs of ['rsa_pss_rsae_sha256', 'ecdsa_secp256r1_sha256']) {
        const client = await rig.connect({ servername, sigalgs })
        types.push(client.getPeerX509Certificate()?.publicKey.asymmetricKeyType)
      }
      t.same(types, ['rsa', 'ec'], `${servername}, ${certificates.length} certificates`)
    }
    await rig.close()
  }
})

t.test('the chain of an intermediate is sent whole', async (t) => {
  const between = await authority.intermediate()
  const rig = await AcceptorRig.start(downstream([await between.issue({ dns: ['a.example'] })]))
  const client = await rig.connect({ ca: authority.pem, servername: 'a.example', rejectUnauthorized: true })
  t.equal(client.authorized, true)
  await rig.close()
})

t.test('ALPN: what both know, and none where nothing is offered, configured or shared', async (t) => {
  const rig = await AcceptorRig.start(downstream([leaf], { alpn: ['h2', 'http/1.1'] }))
  const plain = await AcceptorRig.start(downstream([leaf]))
  let index = 0
  for (const [offered, expected] of [
    [['h2'], 'h2'],
    [['http/1.1'], 'http/1.1'],
    [['acme', 'http/1.1'], 'http/1.1'],
    [undefined, undefined],
    [['acme'], undefined],
    [['h3', 'acme'], undefined],
  ] as const) {
    const options = offered === undefined ? {} : { ALPNProtocols: [...offered] }
    const client = await rig.connect(options)
    t.equal(client.alpnProtocol || undefined, expected, `${offered}`)
    t.equal(info(await rig.outcome(index)).alpn, expected)
    t.equal(await echo(client, 'x'), 'x')
    t.equal((await plain.connect(options)).alpnProtocol || undefined, undefined)
    t.equal(info(await plain.outcome(index++)).alpn, undefined)
  }
  await rig.close()
  await plain.close()
})

t.test('client certificates: good ones give an identity, others are refused and counted', async (t) => {
  const good = await authority.issue({
    subject: 'CN=client, O=Ex',
    uri: ['spiffe://td/client'],
    dns: ['client.example'],
    email: ['client@example'],
    ip: ['2001:db8:0::1'],
  })
  const wrongName = await authority.issue({ uri: ['spiffe://td/other'] })
  const expired = await authority.issue({ uri: ['spiffe://td/client'], fromDays: -9, toDays: -1 })
  const untrusted = await stranger.issue({ uri: ['spiffe://td/client'] })
  const revoked = await authority.issue({ uri: ['spiffe://td/client'] })
  const validation = trusting(authority.pem, {
    sans: [{ type: 'uri', match: { kind: 'exact', value: 'spiffe://td/client' } }],
    crl: (await stranger.revoke()) + (await authority.revoke(revoked)),
  })
  for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
    const rig = await AcceptorRig.start(downstream([leaf], { validation, requireClientCertificate: true, maxVersion }))
    const open = async (issued?: { chain: string; key: string }): Promise<void> => {
      const options = issued === undefined ? {} : { cert: issued.chain, key: issued.key }
      const socket = await rig.connect(options).catch(() => undefined)
      // Where the handshake ended well on the client's side it meets a close.
      if (socket !== undefined && issued !== good) await within(once(socket.resume(), 'close'), 'the close')
    }
    await open(good)
    for (const issued of [undefined, untrusted, expired, revoked, wrongName]) await open(issued)
    await rig.outcome(5)
    const { peer } = info(rig.outcomes[0])
    t.match(peer, {
      subject: 'O=Ex,CN=client',
      issuer: 'CN=Test Root',
      serial: good.certificate.serialNumber,
      uriSans: ['spiffe://td/client'],
      dnsSans: ['client.example'],
      emailSans: ['client@example'],
      ipSans: ['2001:db8::1'],
      sha256: /^[0-9a-f]{64}$/,
      sha1: /^[0-9a-f]{40}$/,
      validFromMs: good.certificate.notBefore.getTime(),
      validToMs: good.certificate.notAfter.getTime(),
      pem: good.chain,
      chainPem: good.chain,
    })
    const failed = 'CERTIFICATE_VERIFY_FAILED:verify cert failed'
    const chain = `${failed}: X509_verify_cert: certificate verification error`
    t.same(
      rig.outcomes.slice(1).map((outcome) => /OPENSSL_internal:(.*):TLS_error_end$/.exec(why(outcome))?.[1]),
      [
        'PEER_DID_NOT_RETURN_A_CERTIFICATE',
        `${chain}: crl signature failure`,
        `${chain}: certificate has expired`,
        `${chain}: certificate revoked`,
        `${failed}: SAN matcher`,
      ],
    )
    t.match(rig.counted, { handshake: 1, fail_verify_no_cert: 1, fail_verify_error: 3, fail_verify_san: 1 })
    t.equal(rig.counted.connection_error, undefined)
    await rig.close()
  }
})

t.test('a certificate that is not required is still verified', async (t) => {
  const rig = await AcceptorRig.start(downstream([leaf], { validation: trusting(authority.pem) }))
  const good = await authority.issue()
  const untrusted = await stranger.issue()
  await rig.connect()
  await rig.connect({ cert: good.chain, key: good.key })
  await rig.connect({ cert: untrusted.chain, key: untrusted.key }).catch(() => undefined)
  await rig.outcome(2)
  t.equal(info(rig.outcomes[0]).peer, undefined)
  t.equal(info(rig.outcomes[1]).peer?.subject, 'CN=leaf')
  t.match(why(rig.outcomes[2]), /X509_verify_cert/)
  await rig.close()
})

t.test('an accepted certificate that was not verified gives no identity', async (t) => {
  const untrusted = await stranger.issue({ uri: ['spiffe://td/admin'] })
  const pair = { cert: untrusted.chain, key: untrusted.key }
  const sans = [{ type: 'uri' as const, match: { kind: 'prefix' as const, value: 'spiffe://' } }]
  const { trustedCa: _, ...anything } = trusting('', { acceptUntrusted: true })
  for (const config of [
    downstream([leaf], { validation: trusting(authority.pem, { acceptUntrusted: true, sans }) }),
    downstream([leaf], { validation: anything }),
    downstream([leaf], { requireClientCertificate: true }),
  ]) {
    const rig = await AcceptorRig.start(config)
    const client = await rig.connect(pair)
    t.match(info(await rig.outcome(0)), { peer: undefined, peerUnverified: true })
    t.equal(await echo(client, 'x'), 'x')
    t.equal(rig.counted.no_certificate, undefined, 'one was shown')
    await rig.close()
  }
})

/** A session that the other side may resume: in TLS 1.3 it comes after the handshake. */
async function sessionOf(socket: TLSSocket): Promise<Buffer> {
  let session: Buffer | undefined = socket.getSession()
  socket.on('session', (later: Buffer) => {
    session = later
  })
  await echo(socket, 'x')
  return session as Buffer
}

t.test('sessions are resumed within a context, with the identity of their certificate', async (t) => {
  const client = await authority.issue({ uri: ['spiffe://td/client'] })
  const pair = { cert: client.chain, key: client.key }
  const secret = Buffer.alloc(32, 1)
  const config = downstream([leaf], { validation: trusting(authority.pem), requireClientCertificate: true })
  for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
    const rig = await AcceptorRig.start({ ...config, maxVersion }, secret)
    const worker = await AcceptorRig.start({ ...config, maxVersion }, secret)
    const session = await sessionOf(await rig.connect(pair))
    const again = await rig.connect({ ...pair, session })
    t.equal(again.isSessionReused(), true)
    t.same(info(await rig.outcome(1)).peer?.uriSans, ['spiffe://td/client'])
    t.equal(info(rig.outcomes[1]).group, info(rig.outcomes[0]).group)
    t.equal(rig.counted.session_reused, 1)
    t.equal((await worker.connect({ ...pair, session })).isSessionReused(), true, 'workers share tickets')
    rig.clock.advance(86_400_000)
    const older = await rig.connect({ ...pair, session })
    t.equal(older.isSessionReused(), true, "yesterday's key opens tickets")
    t.equal((await rig.connect(pair)).isSessionReused(), false)
    rig.clock.advance(86_400_000)
    t.equal((await rig.connect({ ...pair, session })).isSessionReused(), false, 'and that of the day before does not')
    await rig.close()
    await worker.close()
  }
  const none = await AcceptorRig.start({ ...config, sessionTickets: false }, secret)
  const session = await sessionOf(await none.connect(pair))
  t.equal((await none.connect({ ...pair, session })).isSessionReused(), false, 'tickets can be switched off')
  await none.close()
})

t.test('sessions end with the revocation list and the authorities that let them begin', async (t) => {
  const client = await authority.issue()
  const pair = { cert: client.chain, key: client.key }
  const validation = trusting(authority.pem, { crl: await authority.list([], -1, 1) })
  const ticketKeys = [Buffer.alloc(80, 3).toString('base64')]
  for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
    const config = downstream([leaf], { validation, requireClientCertificate: true, ticketKeys, maxVersion })
    const rig = await AcceptorRig.start(config)
    const session = await sessionOf(await rig.connect(pair))
    // What the next list says of it is for a whole handshake to find out, and so it is with the next authorities.
    for (const days of [0, 2, 100_000]) {
      rig.clock.setWall(Date.now() + days * 86_400_000)
      const again = await rig.connect({ ...pair, session })
      t.equal(again.isSessionReused(), days === 0, `after ${days} days`)
      const next = await sessionOf(await rig.connect(pair))
      t.equal((await rig.connect({ ...pair, session: next })).isSessionReused(), true, 'new ones begin')
    }
    await rig.close()
  }
})

t.test('a ticket of a context without client certificates opens no context that wants them', async (t) => {
  const secret = Buffer.alloc(32, 1)
  for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
    const open = await AcceptorRig.start(downstream([leaf], { maxVersion }), secret)
    const session = await sessionOf(await open.connect({ servername: 'a.example' }))
    t.equal((await open.connect({ session, servername: 'a.example' })).isSessionReused(), true, 'the ticket is good')
    for (const requireClientCertificate of [true, false]) {
      const validation = trusting(authority.pem)
      const guarded = await AcceptorRig.start(
        downstream([leaf], { validation, requireClientCertificate, maxVersion }),
        secret,
      )
      const socket = await guarded.connect({ session, servername: 'a.example' }).catch(() => undefined)
      const outcome = await guarded.outcome(0)
      t.equal(guarded.counted.session_reused, undefined)
      t.equal(socket?.isSessionReused() ?? false, false)
      if (requireClientCertificate) t.match(why(outcome), /PEER_DID_NOT_RETURN_A_CERTIFICATE/)
      else t.equal(info(outcome).peer, undefined)
      await guarded.close()
    }
    await open.close()
  }
})

t.test('a certificate of one authority does not pass by its ticket where another is trusted', async (t) => {
  const secret = Buffer.alloc(32, 1)
  const mine = await stranger.issue()
  const pair = { cert: mine.chain, key: mine.key }
  const strangers = downstream([leaf], { validation: trusting(stranger.pem), requireClientCertificate: true })
  const ours = downstream([leaf], { validation: trusting(authority.pem), requireClientCertificate: true })
  const theirs = await AcceptorRig.start(strangers, secret)
  const guarded = await AcceptorRig.start(ours, secret)
  const session = await sessionOf(await theirs.connect(pair))
  await guarded.connect({ ...pair, session }).catch(() => undefined)
  t.match(why(await guarded.outcome(0)), /X509_verify_cert/)
  t.equal((await theirs.connect({ ...pair, session })).isSessionReused(), true, 'the ticket was good')
  await theirs.close()
  await guarded.close()
})

t.test('a handshake that takes too long is reset, wherever it stands', async (t) => {
  const leaks = watchLeaks()
  const sent = await recordHello({ servername: 'a.example', ALPNProtocols: ['h2'] })
  for (const alpn of [['h2'], []]) {
    for (const bytes of [0, 3, 200, sent.length]) {
      const rig = await AcceptorRig.start(downstream([leaf], { alpn, handshakeTimeoutMs: 5_000 }))
      const client = rig.open()
      client.write(sent.subarray(0, bytes))
      if (bytes === sent.length) await within(once(client, 'data'), 'the server hello')
      else await until(() => rig.raw.length === 1 && (rig.raw[0].bytesRead === bytes || bytes === 0))
      await rig.clock.advanceAsync(4_900)
      t.same(rig.outcomes, [])
      const error = once(client, 'error')
      rig.clock.advance(200)
      t.equal(why(await rig.outcome(0)), 'the handshake took too long')
      t.equal(((await within(error, 'the reset')) as unknown as [{ code: string }])[0].code, 'ECONNRESET')
      t.same(rig.counted, { connection_error: 1 })
      t.equal(rig.wheel.armed, 0)
      t.equal(rig.acceptor.pending, 0)
      await rig.close()
    }
  }
  await assertNoLeaks(leaks)
})

t.test('under overload a handshake gets less time, one that is going on too', async (t) => {
  const rig = await AcceptorRig.start(downstream([leaf], { handshakeTimeoutMs: 10_000 }))
  const scaled = new ScaledTimeout()
  scaled.minimum = { ms: 2_000 }
  rig.scaled = scaled
  const slow = rig.open()
  await until(() => rig.acceptor.pending === 1)
  await rig.clock.advanceAsync(3_000)
  scaled.scale = 0.5
  rig.wheel.reconsider()
  await rig.clock.advanceAsync(2_900)
  t.equal(rig.outcomes.length, 0, 'of 10 and 2 seconds half the way')
  const error = once(slow, 'error')
  await rig.clock.advanceAsync(200)
  t.equal(why(await rig.outcome(0)), 'the handshake took too long')
  await within(error, 'the reset')
  scaled.scale = 1
  const late = rig.open()
  late.on('error', () => {})
  await until(() => rig.acceptor.pending === 1)
  await rig.clock.advanceAsync(1_900)
  t.equal(rig.outcomes.length, 1)
  await rig.clock.advanceAsync(200)
  t.equal(why(await rig.outcome(1)), 'the handshake took too long')
  t.equal(rig.wheel.armed, 0)
  await rig.close()
})

/** Lets the loop turn until it is so. */
async function until(condition: () => boolean): Promise<void> {
  for (const start = performance.now(); !condition(); await turn()) {
    if (performance.now() - start > 10_000) throw new Error('a condition was never met')
  }
}

t.test('a hello in many segments is put together', async (t) => {
  const sent = await recordHello({ servername: 'a.example', ALPNProtocols: ['h2'] })
  t.ok(sent.length > (isKnownGroup('X25519MLKEM768') ? 1_460 : 200), `${sent.length} bytes`)
  for (const alpn of [['h2'], []]) {
    const rig = await AcceptorRig.start(downstream([leaf], { alpn }))
    const client = rig.open()
    for (let at = 0; at < sent.length; at += 100) {
      client.write(sent.subarray(at, at + 100))
      const wanted = Math.min(at + 100, sent.length)
      await until(() => rig.raw.length === 1 && rig.raw[0].bytesRead >= wanted)
    }
    const [answer] = (await within(once(client, 'data'), 'the server hello')) as [Buffer]
    t.equal(answer[0], 22, 'a handshake record')
    t.equal(answer[5], 2, 'ServerHello')
    await rig.close()
  }
})

t.test('a client that closes after any byte of its hello does no harm', async (t) => {
  const leaks = watchLeaks()
  const sent = await recordHello({ servername: 'a.example', ALPNProtocols: ['h2'] })
  const cuts = Array.from({ length: sent.length }, (_, i) => i).filter((i) => i < 120 || i % 97 === 0)
  for (const alpn of [['h2'], []]) {
    const rig = await AcceptorRig.start(downstream([leaf], { alpn }))
    for (const [index, at] of cuts.entries()) {
      const client = rig.open()
      // By turns a FIN and a RST, the latter when all is there, as it would take the bytes with it.
      if (index % 2 === 0) client.end(sent.subarray(0, at))
      else {
        client.write(sent.subarray(0, at))
        await until(() => rig.raw.length > index && rig.raw[index].bytesRead === at)
        client.resetAndDestroy()
      }
      t.not(why(await rig.outcome(index)), 'accepted')
    }
    t.equal(rig.outcomes.length, cuts.length, 'one outcome each')
    t.same(rig.counted, { connection_error: cuts.length })
    t.equal(rig.acceptor.pending, 0)
    const client = await rig.connect()
    t.equal(await echo(client, 'alive'), 'alive')
    await rig.close()
  }
  await assertNoLeaks(leaks)
})

t.test('what is not TLS is refused', async (t) => {
  const leaks = watchLeaks()
  const garbage = [
    'GET / HTTP/1.1\r\nhost: a\r\n\r\n',
    'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
    '\x16\x03\x01\x00\x04\x02\x00\x00\x00',
    '\x16\x03\x01\x00\x05\x01\xff\xff\xff\x00',
    '\x15\x03\x01\x00\x02\x02\x28',
    '\x16\x03\x01\xff\xff',
    '\x80\x2e\x01\x03\x01',
    '\x00'.repeat(64),
    '\xff'.repeat(20_000),
  ]
  for (const alpn of [['h2'], []]) {
    const rig = await AcceptorRig.start(downstream([leaf], { alpn }))
    for (const [index, text] of garbage.entries()) {
      const client = rig.open()
      let got = ''
      client.on('data', (chunk) => (got += chunk))
      client.end(Buffer.from(text, 'latin1'))
      t.not(why(await rig.outcome(index)), 'accepted', JSON.stringify(text.slice(0, 20)))
      await within(once(client, 'close'), 'the close')
      if (index === 0) t.match(got, /^HTTP\/1\.1 400 Bad Request\r\n[\s\S]*\r\n\r\nThis port speaks HTTPS/)
      else if (index === 1) t.equal(got, '')
    }
    t.match(why(rig.outcomes[0]), /HTTP_REQUEST/)
    t.match(why(rig.outcomes[1]), /HTTP_REQUEST/)
    t.match(why(rig.outcomes[7]), /WRONG_VERSION_NUMBER/)
    t.same(rig.counted, { connection_error: garbage.length, not_tls: 7 })
    t.equal(rig.acceptor.pending, 0)
    await rig.close()
  }
  await assertNoLeaks(leaks)
})

t.test('a server name that is not ASCII is refused', async (t) => {
  for (const certificates of [[leaf], [leaf, await authority.issue({ dns: ['b.example'] })]]) {
    const rig = await AcceptorRig.start(downstream(certificates))
    await rig.connect({ servername: 'a\u00e9.example' }).catch(() => undefined)
    t.equal(why(await rig.outcome(0)), 'the server name is not plain ASCII')
    await rig.close()
  }
})

t.test('an accepted connection can be reset, and errors nobody hears do no harm', async (t) => {
  const leaks = watchLeaks()
  const rig = await AcceptorRig.start(downstream([leaf]))
  const client = await rig.connect()
  const outcome = await rig.outcome(0)
  if ('why' in outcome) return t.fail(outcome.why)
  t.equal(rawSocket(outcome.socket), rig.raw[0])
  const error = once(client, 'error')
  const closed = once(outcome.socket, 'close')
  resetSocket(outcome.socket)
  t.equal(((await within(error, 'the reset')) as unknown as [{ code: string }])[0].code, 'ECONNRESET')
  await within(closed, 'the close')
  t.equal(rig.raw[0].destroyed, true)
  resetSocket(outcome.socket)
  const wire = rig.open()
  await rig.connect({ socket: wire })
  const other = await rig.outcome(1)
  if ('why' in other) return t.fail(other.why)
  const gone = once(other.socket, 'close')
  wire.resetAndDestroy()
  await within(gone, 'the close')
  await rig.close()
  return assertNoLeaks(leaks)
})

t.test('closing breaks off handshakes and leaves accepted connections alone', async (t) => {
  const rig = await AcceptorRig.start(downstream([leaf], { alpn: ['h2'] }))
  const client = await rig.connect()
  const half = rig.open()
  half.write('\x16\x03')
  await until(() => rig.raw.length === 2 && rig.raw[1].bytesRead === 2)
  rig.acceptor.close()
  t.equal(why(await rig.outcome(1)), 'the listener is closed')
  rig.open()
  t.equal(why(await rig.outcome(2)), 'the listener is closed')
  t.equal(await echo(client, 'still here'), 'still here')
  await rig.close()
})

t.test('a client does not renegotiate: another certificate could come after the first was judged', async (t) => {
  const rig = await AcceptorRig.start(downstream([leaf], { maxVersion: 'TLSv1.2' }))
  const client = await rig.connect()
  t.equal(await echo(client, 'x'), 'x')
  const refused = once(client, 'error')
  let done = false
  client.renegotiate({}, () => {
    done = true
  })
  // An alert answers the runtime's client, which makes of it an error of what is written next.
  client.write('more')
  t.match((await within(refused, 'the refusal'))[0], /no renegotiation/)
  t.equal(done, false)
  await rig.close()
})

t.test('a certificate that expires is refused by its session, too', async (t) => {
  const soon = await authority.issue({ subject: 'CN=soon', toDays: 60 / 86_400 })
  for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
    const validation = trusting(authority.pem)
    const rig = await AcceptorRig.start(downstream([leaf], { validation, requireClientCertificate: true, maxVersion }))
    const pair = { cert: soon.chain, key: soon.key }
    const wall = Date.now
    try {
      const first = await rig.connect(pair)
      const session = maxVersion === 'TLSv1.2' ? first.getSession() : (await once(first, 'session'))[0]
      t.equal(info(await rig.outcome(0)).peer?.subject, 'CN=soon')
      const again = await rig.connect({ ...pair, session })
      t.equal(again.isSessionReused(), true)
      t.equal(info(await rig.outcome(1)).peer?.subject, 'CN=soon')
      Date.now = () => wall() + 61_000
      await rig.connect({ ...pair, session }).catch(() => undefined)
      t.match(why(await rig.outcome(2)), /certificate has expired/)
      t.match(rig.counted, { handshake: 2, session_reused: 1, fail_verify_error: 1 })
    } finally {
      Date.now = wall
      await rig.close()
    }
  }
})

t.test('revocation lists among the authorities are obeyed', async (t) => {
  const revoked = await authority.issue()
  const good = await authority.issue()
  const validation = trusting(`${await authority.revoke(revoked)}${authority.pem}`)
  const rig = await AcceptorRig.start(downstream([leaf], { validation, requireClientCertificate: true }))
  await rig.connect({ cert: good.chain, key: good.key })
  await rig.connect({ cert: revoked.chain, key: revoked.key }).catch(() => undefined)
  await rig.outcome(1)
  t.equal(why(rig.outcomes[0]), 'accepted')
  t.match(why(rig.outcomes[1]), /certificate revoked/)
  await rig.close()
})

t.test('a hello that only the runtime can read is refused', async (t) => {
  const second = await authority.issue({ dns: ['b.example'] })
  const rig = await AcceptorRig.start(downstream([leaf, second], { alpn: ['h2'] }))
  const many = Array.from({ length: 90 }, (_, i) => `p${i}`.padEnd(250, 'x'))
  await rig.connect({ servername: 'b.example', ALPNProtocols: [...many, 'h2'] }).catch(() => undefined)
  t.equal(why(await rig.outcome(0)), 'the hello could not be read')
  t.same(rig.counted, { connection_error: 1 })
  await rig.close()
})

t.test('a hello that trickles in is put together, and kept in one piece', async (t) => {
  const whole = await recordHello({ servername: 'a.example' })
  const message = whole.subarray(5)
  const records: Buffer[] = []
  for (const byte of message) records.push(Buffer.from([22, 3, 1, 0, 1, byte]))
  const rig = await AcceptorRig.start(downstream([leaf]))
  const client = rig.open()
  await within(once(client, 'connect'), 'the connection')
  for (const record of records.slice(0, -1)) client.write(record)
  await until(() => rig.raw.length === 1 && rig.raw[0].bytesRead === (records.length - 1) * 6)
  t.equal(rig.acceptor.pending, 1)
  const answer = once(client, 'data')
  client.write(records[records.length - 1])
  const [bytes] = (await within(answer, 'an answer')) as [Buffer]
  t.equal(bytes[0], 22, 'a handshake record, not an alert')
  await rig.close()
})
