import { randomBytes, X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type ConnectionOptions, connect, type TLSSocket } from 'node:tls'
import t from 'tap'
import type { TlsInfo } from '../../lib/core/connection.ts'
import { checkTls } from '../../lib/tls/check.ts'
import { isKnownGroup } from '../../lib/tls/groups.ts'
import { parseOcspResponse } from '../../lib/tls/ocsp.ts'
import { RecentlyUsed } from '../../listeners/tls/recently-used.ts'
import { Authority, type Issued } from '../support/certificates.ts'
import { settle } from '../support/clock.ts'
import { der, hasMlDsa, type MlDsa, MlDsaAuthority, oid, sequence, utcTime } from '../support/ml-dsa.ts'
import { AcceptorRig, certificate, downstream, echo, type Outcome, trusting, within } from '../tls/rig.ts'

const HYBRIDS = ['X25519MLKEM768', 'SecP256r1MLKEM768', 'SecP384r1MLKEM1024']
const quantum = HYBRIDS.every(isKnownGroup)
const classical = quantum ? false : 'this runtime has no post-quantum groups'
const noMlDsa = hasMlDsa() ? false : 'this runtime has no ML-DSA'

const authority = await Authority.create()
const leaf = await authority.issue({ dns: ['a.example'] })

function info(outcome: Outcome): TlsInfo {
  if ('why' in outcome) throw new Error(`the handshake failed: ${outcome.why}`)
  return outcome.info
}

function why(outcome: Outcome): string {
  return 'why' in outcome ? outcome.why : 'accepted'
}

/** A session that the other side may resume. */
async function sessionOf(socket: TLSSocket): Promise<Buffer> {
  let session: Buffer | undefined = socket.getSession()
  socket.on('session', (later: Buffer) => {
    session = later
  })
  await echo(socket, 'x')
  return session as Buffer
}

t.test(
  'post-quantum groups are agreed on and told, and need not be known to all clients',
  { skip: classical },
  async (t) => {
    const rig = await AcceptorRig.start(downstream([leaf], { groups: HYBRIDS }))
    for (const [i, group] of HYBRIDS.entries()) {
      const client = await rig.connect({ ecdhCurve: group })
      t.equal(info(await rig.outcome(i)).group, group)
      t.equal(await echo(client, 'x'), 'x')
    }
    // None but those: a classical client is refused, in both versions.
    await t.rejects(rig.connect({ ecdhCurve: 'X25519:P-256' }))
    await t.rejects(rig.connect({ maxVersion: 'TLSv1.2' }))
    t.match(why(await rig.outcome(3)), /NO_SUITABLE_KEY_SHARE/)
    t.equal(rig.counted.connection_error, 2)
    t.equal(rig.counted['curves.SecP256r1MLKEM768'], 1)
    // A client that guesses wrong is asked again.
    await rig.connect({ ecdhCurve: 'X25519:SecP384r1MLKEM1024' })
    t.equal(info(await rig.outcome(5)).group, 'SecP384r1MLKEM1024')
    await rig.close()
  },
)

t.test('groups that the runtime lacks are named, with its version', async (t) => {
  const { openssl } = process.versions
  t.same(checkTls(downstream([leaf], { groups: ['X25519', 'X448MLKEM1024'] })), [
    {
      path: 'groups[1]',
      message: `unknown group "X448MLKEM1024" (this runtime has OpenSSL ${openssl}; post-quantum groups came with OpenSSL 3.5)`,
    },
  ])
  t.same(checkTls(downstream([leaf], { groups: ['X25519MLKEM768'] })).length, quantum ? 0 : 1)
})

t.test('ML-DSA certificates are served, beside others, and verified', { skip: noMlDsa }, async (t) => {
  const rsa = await authority.issue({ key: 'rsa', dns: ['a.example'] })
  for (const kind of ['ml-dsa-44', 'ml-dsa-65', 'ml-dsa-87'] as const satisfies readonly MlDsa[]) {
    const root = new MlDsaAuthority(kind)
    const own = root.issue('a.example')
    const config = downstream([], {
      certificates: [rsa, leaf, own].map(({ chain, key }) => ({ certificateChain: chain, privateKey: key })),
      validation: trusting(root.pem),
    })
    t.same(checkTls(config), [])
    const rig = await AcceptorRig.start(config)
    const types: (string | undefined)[] = []
    for (const sigalgs of ['rsa_pss_rsae_sha256', 'ecdsa_secp256r1_sha256', `mldsa${kind.slice(7)}`]) {
      const client = await rig.connect({ servername: 'a.example', sigalgs })
      types.push(client.getPeerX509Certificate()?.publicKey.asymmetricKeyType)
    }
    t.same(types, ['rsa', 'ec', kind])
    const pair = { cert: own.chain, key: own.key }
    const client = await rig.connect({ servername: 'a.example', ca: root.pem, rejectUnauthorized: false, ...pair })
    t.equal(await echo(client, 'x'), 'x')
    t.same(info(await rig.outcome(3)).peer?.dnsSans, ['a.example'])
    const other = new MlDsaAuthority(kind).issue('a.example')
    await rig.connect({ servername: 'a.example', cert: other.chain, key: other.key }).catch(() => undefined)
    t.match(why(await rig.outcome(4)), /certificate signature failure|issuer certificate/)
    await rig.close()
    t.match(checkTls({ ...config, maxVersion: 'TLSv1.2' }), [
      { path: 'certificates[2].certificateChain', message: /only TLS 1\.3 can use/ },
    ])
  }
})

t.test('signature algorithms are those configured', async (t) => {
  const rig = await AcceptorRig.start(downstream([leaf], { signatureAlgorithms: ['ecdsa_secp256r1_sha256'] }))
  await rig.connect({ sigalgs: 'ecdsa_secp256r1_sha256' })
  await t.rejects(rig.connect({ sigalgs: 'ecdsa_secp384r1_sha384' }))
  await rig.close()
  t.match(checkTls(downstream([leaf], { signatureAlgorithms: ['none', 'a:b', ''] })), [
    { path: 'signatureAlgorithms[0]' },
    { path: 'signatureAlgorithms[1]' },
    { path: 'signatureAlgorithms[2]' },
  ])
})

t.test('ticket keys of the configuration: the first encrypts, all decrypt', async (t) => {
  const [a, b, c] = [0, 1, 2].map(() => randomBytes(80).toString('base64'))
  for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
    const before = await AcceptorRig.start(downstream([leaf], { ticketKeys: [a], maxVersion }))
    const session = await sessionOf(await before.connect())
    await before.close()
    // Keys are shared by gateways that know nothing else of each other.
    const rotated = await AcceptorRig.start(downstream([leaf], { ticketKeys: [b, a], maxVersion }))
    const old = await rotated.connect({ session })
    t.equal(old.isSessionReused(), true)
    const next = await sessionOf(await rotated.connect())
    await rotated.close()
    const later = await AcceptorRig.start(downstream([leaf], { ticketKeys: [c, b], maxVersion }))
    t.equal((await later.connect({ session: next })).isSessionReused(), true, 'made with the first')
    t.equal((await later.connect({ session })).isSessionReused(), false, 'its key is gone')
    await later.close()
  }
})

t.test('certificates are exchanged in place: handshakes in progress end as they began', async (t) => {
  const next = await authority.issue({ subject: 'CN=next', dns: ['a.example'] })
  const rig = await AcceptorRig.start(downstream([leaf]))
  const session = await sessionOf(await rig.connect())
  const slow = rig.open()
  await within(once(slow, 'connect'), 'the connection')
  while (rig.acceptor.pending === 0) await settle(1)
  rig.acceptor.update(downstream([next]))
  const late = connect({ socket: slow, rejectUnauthorized: false })
  late.on('error', () => undefined)
  await within(once(late, 'secureConnect'), 'the slow handshake')
  t.equal(late.getPeerX509Certificate()?.subject, 'CN=leaf')
  t.equal(info(await rig.outcome(1)).local?.subject, 'CN=leaf')
  t.equal((await rig.connect()).getPeerX509Certificate()?.subject, 'CN=next')
  t.equal(info(await rig.outcome(2)).local?.subject, 'CN=next')
  t.equal((await rig.connect({ session })).isSessionReused(), true)
  t.equal(await echo(late, 'x'), 'x')
  late.destroy()
  await rig.close()
})

t.test('sessions may last for longer than the runtime can count', async (t) => {
  const config = downstream([leaf], { sessionTimeoutS: 2 ** 32 - 1 })
  t.same(checkTls(config), [])
  const rig = await AcceptorRig.start(config)
  const session = await sessionOf(await rig.connect())
  t.equal((await rig.connect({ session })).isSessionReused(), true)
  await rig.close()
})

t.test('a session does not go on under another name', async (t) => {
  const other = await authority.issue({ subject: 'CN=other', dns: ['b.example'] })
  for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
    for (const [first, then] of [
      ['a.example', 'b.example'],
      ['', 'b.example'],
      ['a.example', ''],
    ]) {
      const rig = await AcceptorRig.start(downstream([leaf, other], { maxVersion }))
      const session = await sessionOf(await rig.connect({ servername: first }))
      await rig.connect({ servername: then, session }).catch(() => undefined)
      const outcome = await rig.outcome(1)
      // Refused, or begun anew; told of as what the client has asked for.
      if ('why' in outcome) t.equal(outcome.why, 'the server name has changed', `${maxVersion} ${first}>${then}`)
      else t.equal(info(outcome).serverName, then === '' ? undefined : then)
      await rig.close()
    }
  }
})

t.test('contexts that have gone unused are dropped where there are many; what they began goes on', async (t) => {
  const dropped: string[] = []
  const map = new RecentlyUsed<string, string>(2, (value) => dropped.push(value))
  for (const key of ['a', 'b']) map.set(key, key.toUpperCase())
  t.equal(map.get('a'), 'A')
  map.set('c', 'C')
  t.same(dropped, ['B'])
  t.same([map.get('a'), map.get('b'), map.get('c'), map.size], ['A', undefined, 'C', 2])
  map.set('a', 'again')
  map.delete('c')
  map.set('d', 'D')
  t.same(dropped, ['B'], 'what is set again or deleted is not dropped')
  const other = await authority.issue({ subject: 'CN=other', dns: ['b.example'] })
  const rig = await AcceptorRig.start(downstream([leaf, other]), undefined, 1)
  const session = await sessionOf(await rig.connect({ servername: 'a.example' }))
  const clients = await Promise.all(
    ['a', 'b', 'a', 'b', 'b', 'a'].map((name) => rig.connect({ servername: `${name}.example` })),
  )
  const shown = clients.map((client) => client.getPeerX509Certificate()?.subject)
  t.same(
    shown,
    ['leaf', 'other', 'leaf', 'other', 'other', 'leaf'].map((name) => `CN=${name}`),
  )
  for (const client of clients) t.equal(await echo(client, 'x'), 'x')
  await rig.connect({ servername: 'b.example' })
  t.equal((await rig.connect({ servername: 'a.example', session })).isSessionReused(), true, 'tickets stay good')
  await rig.close()
})

/** An OCSP response as an authority would give it; its signature is nobody's here. */
function ocsp({ certificate: { serialNumber } }: Issued, options: { status?: number; untilMs?: number } = {}): string {
  const time = (ms: number): Buffer => {
    const text = new Date(ms).toISOString().replace(/[-:T]|\.\d+/g, '')
    return der(0x18, Buffer.from(text))
  }
  const id = sequence(
    sequence(oid('1.3.14.3.2.26')),
    der(0x04, randomBytes(20)),
    der(0x04, randomBytes(20)),
    der(0x02, Buffer.from(serialNumber, 'hex')),
  )
  const until = options.untilMs === undefined ? [] : [der(0xa0, time(options.untilMs))]
  const single = sequence(id, der(options.status ?? 0x80), time(Date.UTC(2024, 0, 1)), ...until)
  const data = sequence(der(0xa2, der(0x04, randomBytes(20))), time(Date.UTC(2024, 0, 1)), sequence(single))
  const basic = sequence(data, sequence(oid('1.2.840.10045.4.3.2')), der(0x03, Buffer.from([0, 1])))
  const bytes = sequence(oid('1.3.6.1.5.5.7.48.1.1'), der(0x04, basic))
  return sequence(der(0x0a, Buffer.from([0])), der(0xa0, bytes)).toString('base64')
}

/** The staple that a client gets; null: none. Undefined where the handshake failed. */
async function stapleOf(rig: AcceptorRig, options: ConnectionOptions = {}): Promise<Buffer | null | undefined> {
  const client = connect({
    port: rig.port,
    host: '127.0.0.1',
    rejectUnauthorized: false,
    requestOCSP: true,
    ...options,
  })
  client.on('error', () => undefined)
  let response: Buffer | null | undefined
  client.on('OCSPResponse', (got: Buffer | null) => {
    response = got
  })
  await within(Promise.race([once(client, 'secureConnect'), once(client, 'close')]), 'the handshake').catch(
    () => undefined,
  )
  client.destroy()
  return response
}

t.test('OCSP staples are sent while they are valid; what then is the policy', async (t) => {
  // The rig's clock begins in 2024.
  const untilMs = Date.UTC(2024, 0, 2)
  const ocspStaple = ocsp(leaf, { untilMs })
  const stapled = { ...certificate(leaf), ocspStaple }
  for (const [ocspPolicy, expired] of [
    ['lenient', null],
    ['strict', undefined],
    ['must', undefined],
  ] as const) {
    const config = { ...downstream([]), certificates: [stapled], ocspPolicy }
    t.same(checkTls(config), [])
    for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
      const rig = await AcceptorRig.start({ ...config, maxVersion })
      t.equal((await stapleOf(rig))?.toString('base64'), ocspStaple)
      rig.clock.advance(2 * 86_400_000)
      t.equal((await stapleOf(rig)) ?? (expired === null ? null : undefined), expired, `${ocspPolicy}, ${maxVersion}`)
      t.match(rig.counted, { ocsp_staple_requests: 2, ocsp_staple_responses: 1 })
      t.equal(rig.counted[expired === null ? 'ocsp_staple_omitted' : 'ocsp_staple_failed'], 1)
      // Clients that do not ask are served whatever the policy.
      t.equal(await echo(await rig.connect(), 'x'), 'x')
      await rig.close()
    }
  }
})

t.test('staples that are none, of another certificate or bad news are refused', async (t) => {
  const other = await authority.issue()
  const problem = (ocspStaple: string | undefined, ocspPolicy: 'lenient' | 'must' = 'lenient'): string | undefined => {
    const own = ocspStaple === undefined ? certificate(leaf) : { ...certificate(leaf), ocspStaple }
    return checkTls({ ...downstream([]), certificates: [own], ocspPolicy })[0]?.message
  }
  t.equal(problem(ocsp(leaf)), undefined)
  t.match(problem(ocsp(other)), /does not match/)
  t.match(problem(ocsp(leaf, { status: 0xa1 })), /does not say that the certificate is good/)
  t.match(problem(undefined, 'must'), /is missing/)
  t.match(problem(sequence(der(0x0a, Buffer.from([6]))).toString('base64')), /tells an error/)
  const bytes = Buffer.from(ocsp(leaf), 'base64')
  t.equal(parseOcspResponse(bytes).untilMs, Number.POSITIVE_INFINITY)
  for (let at = 0; at < bytes.length; at++) t.throws(() => parseOcspResponse(bytes.subarray(0, at)), `cut at ${at}`)
  t.ok(utcTime(0).length > 0)
})

t.test('secrets of sessions are written only where and for whom it is configured', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'headgate-'))
  t.teardown(() => rmSync(dir, { recursive: true }))
  const keyLog = (name: string, address: string) => ({
    path: join(dir, name),
    localRanges: [],
    remoteRanges: [{ address, prefixLength: 8 }],
  })
  const rig = await AcceptorRig.start(downstream([leaf], { keyLog: keyLog('keys', '127.0.0.0') }))
  await rig.connect()
  await rig.outcome(0)
  let text = ''
  for (let i = 0; i < 2000 && text.split('\n').length < 6; i++) {
    await settle(1)
    text =
      statSync(join(dir, 'keys'), { throwIfNoEntry: false }) === undefined
        ? ''
        : readFileSync(join(dir, 'keys'), 'utf8')
  }
  t.match(text, /^CLIENT_TRAFFIC_SECRET_0 [0-9a-f]{64} [0-9a-f]+$/m)
  t.equal(statSync(join(dir, 'keys')).mode & 0o777, 0o600)
  await rig.close()
  const elsewhere = await AcceptorRig.start(downstream([leaf], { keyLog: keyLog('none', '10.0.0.0') }))
  await elsewhere.connect()
  await elsewhere.outcome(0)
  await settle(20)
  t.equal(statSync(join(dir, 'none'), { throwIfNoEntry: false }), undefined)
  await elsewhere.close()
  const wrong = { ...keyLog('', '10.0.0.0'), path: '', localRanges: [{ address: 'x', prefixLength: 1 }] }
  t.match(checkTls(downstream([leaf], { keyLog: wrong })), [{ path: 'keyLog.path' }, { path: 'keyLog.localRanges' }])
})

t.test('a name can be demanded, and unknown names can be met by every kind of key', async (t) => {
  const named = await AcceptorRig.start(downstream([leaf], { requireSni: true }))
  await named.connect({ servername: 'a.example' })
  await t.rejects(named.connect())
  t.equal(why(await named.outcome(1)), 'the client names no server')
  await named.close()
  const rsa = await authority.issue({ key: 'rsa', dns: ['b.example'] })
  for (const fullScan of [false, true]) {
    const rig = await AcceptorRig.start(downstream([leaf, rsa], { fullScan }))
    const options = { servername: 'unknown.example', sigalgs: 'rsa_pss_rsae_sha256' }
    const client = await rig.connect(options).catch(() => undefined)
    t.equal(client?.getPeerX509Certificate()?.subjectAltName, fullScan ? 'DNS:b.example' : undefined)
    t.equal(new X509Certificate(leaf.chain).subjectAltName, 'DNS:a.example')
    if (fullScan) t.same(info(await rig.outcome(0)).local?.dnsSans, ['b.example'])
    await rig.close()
  }
})

t.test("the order of ciphers is the server's, or the client's where that is wanted", async (t) => {
  const suites = ['ECDHE-ECDSA-AES256-GCM-SHA384', 'ECDHE-ECDSA-AES128-GCM-SHA256']
  for (const [preferClientCiphers, expected] of [
    [false, suites[0]],
    [true, suites[1]],
  ] as const) {
    const rig = await AcceptorRig.start(
      downstream([leaf], { cipherSuites: suites, preferClientCiphers, maxVersion: 'TLSv1.2' }),
    )
    const client = await rig.connect({ ciphers: [...suites].reverse().join(':') })
    t.equal(client.getCipher().name, expected)
    await rig.close()
  }
})
