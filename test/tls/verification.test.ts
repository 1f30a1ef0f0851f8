import 'reflect-metadata'
import { X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import * as x509 from '@peculiar/x509'
import t from 'tap'
import { checkTls } from '../../lib/tls/check.ts'
import type { CertificateValidationConfig } from '../../lib/tls/config.ts'
import { fingerprint } from '../../lib/tls/peer.ts'
import { spkiPin } from '../../lib/tls/verify.ts'
import { Authority, type Issued } from '../support/certificates.ts'
import { der, oid, sequence } from '../support/ml-dsa.ts'
import { AcceptorRig, downstream, type Outcome, trusting, within } from './rig.ts'

const authority = await Authority.create()
const stranger = await Authority.create('CN=Stranger')
const server = await authority.issue({ dns: ['a.example'] })
const client = await authority.issue({ uri: ['spiffe://td.example/client'] })

const SERVER_AUTH = '1.3.6.1.5.5.7.3.1'
const CLIENT_AUTH = '1.3.6.1.5.5.7.3.2'

/** `accepted` or `unverified`, or OpenSSL's and Envoy's words for what is wrong. */
function verdict(outcome: Outcome): string {
  if ('info' in outcome) return outcome.info.peer === undefined ? 'unverified' : 'accepted'
  const words = /verify cert failed: (.*):TLS_error_end$/.exec(outcome.why)?.[1] ?? outcome.why
  return words.replace('X509_verify_cert: certificate verification error: ', '')
}

/** What becomes of clients with these certificates, one after the other. */
async function verdicts(
  validation: CertificateValidationConfig,
  clients: readonly { readonly chain: string; readonly key: string }[],
): Promise<string[]> {
  const config = downstream([server], { validation, requireClientCertificate: true })
  t.same(checkTls(config), [])
  const rig = await AcceptorRig.start(config)
  for (const [i, { chain, key }] of clients.entries()) {
    const socket = await rig.connect({ cert: chain, key }).catch(() => undefined)
    const outcome = await rig.outcome(i)
    if (socket !== undefined && 'why' in outcome) await within(once(socket.resume(), 'close'), 'the close')
  }
  await rig.close()
  return rig.outcomes.map(verdict)
}

function hashOf({ chain }: Issued): string {
  return fingerprint(new X509Certificate(chain).fingerprint256)
}

function keyPinOf({ chain }: Issued): string {
  return spkiPin(new X509Certificate(chain))
}

t.test('certificates for another purpose, by themselves, and of nobody known are refused', async (t) => {
  const serverOnly = await authority.issue({ usages: [SERVER_AUTH] })
  const clientOnly = await authority.issue({ usages: [CLIENT_AUTH] })
  const own = await Authority.create('CN=Self')
  const self = { ...(await own.issue()), chain: own.pem, key: await own.keyPem() }
  const notYet = await authority.issue({ fromDays: 2 })
  t.same(await verdicts(trusting(authority.pem), [clientOnly, serverOnly, self, notYet, await stranger.issue()]), [
    'accepted',
    'unsupported certificate purpose',
    'unsupported certificate purpose',
    'certificate is not yet valid',
    'unable to get local issuer certificate',
  ])
})

t.test('a certificate or its key may be pinned, with authorities or without', async (t) => {
  const other = await authority.issue()
  const foreign = await stranger.issue()
  const both = { hashes: [hashOf(other)], spkis: [keyPinOf(client)] }
  t.same(await verdicts(trusting(authority.pem, both), [client, other, server, foreign]), [
    'accepted',
    'accepted',
    'cert hash and spki',
    'unable to get local issuer certificate',
  ])
  const { trustedCa: _, ...alone } = trusting('', { hashes: [hashOf(foreign)] })
  t.same(await verdicts(alone, [foreign, client]), ['accepted', 'cert hash and spki'])
  t.same(await verdicts({ ...alone, acceptUntrusted: true }, [client]), ['unverified'])
})

t.test('the length of a chain is limited by what stands between leaf and authority', async (t) => {
  const first = await authority.intermediate('CN=First')
  const second = await first.intermediate('CN=Second')
  const chains = [client, await first.issue(), await second.issue()]
  const tooLong = 'certificate chain too long'
  const limit = (maxDepth: number) => verdicts(trusting(authority.pem, { maxDepth }), chains)
  t.same(await limit(0), ['accepted', tooLong, tooLong])
  t.same(await limit(1), ['accepted', 'accepted', tooLong])
  t.same(await limit(2), ['accepted', 'accepted', 'accepted'])
  // Whoever trusts an intermediate counts from there.
  t.same(await verdicts(trusting(first.pem, { maxDepth: 0 }), chains.slice(1)), ['accepted', tooLong])
})

t.test('certificates that have expired can be tolerated, and nothing else with them', async (t) => {
  const past = { fromDays: -9, toDays: -1 }
  const between = await authority.intermediate()
  const expired = await authority.issue(past)
  const below = await between.issue(past)
  const cases = [
    client,
    expired,
    below,
    await authority.issue({ fromDays: 3 }),
    await stranger.issue(past),
    { ...below, chain: below.chain.slice(0, below.chain.indexOf('-----END') + 26) },
    await authority.issue({ ...past, usages: [SERVER_AUTH] }),
    await authority.issue({ ...past, extensions: [new x509.Extension('1.2.3.4', true, new Uint8Array([5, 0]))] }),
    await authority.issue({ ...past, extensions: [new x509.KeyUsagesExtension(x509.KeyUsageFlags.dataEncipherment)] }),
  ]
  const found = await verdicts(trusting(authority.pem, { allowExpired: true }), cases)
  t.same(found.slice(0, 4), ['accepted', 'accepted', 'accepted', 'accepted'])
  for (const [i, word] of found.slice(4).entries()) t.not(word, 'accepted', `case ${i + 4}`)
  t.equal(found.length, cases.length)
})

t.test('a certificate that has expired is refused all the same where any of its chain was revoked', async (t) => {
  const past = { fromDays: -9, toDays: -1 }
  const between = await authority.intermediate()
  const [good, revoked, direct] = [await between.issue(past), await between.issue(past), await authority.issue(past)]
  const gone = await authority.issue(past)
  const tolerant = (crl: string): CertificateValidationConfig => trusting(authority.pem, { allowExpired: true, crl })
  const both = (await authority.revoke(gone)) + (await between.revoke(revoked))
  const words = ['accepted', 'certificate revoked', 'accepted', 'certificate revoked']
  t.same(await verdicts(tolerant(both), [good, revoked, direct, gone]), words)
  t.same(await verdicts(tolerant(both), [await between.issue()]), ['accepted'], 'in time')
  // The list of the one in between is missing; its own authority's is there.
  t.not((await verdicts(tolerant(await authority.revoke()), [good]))[0], 'accepted')
  t.same(await verdicts(tolerant(await authority.revoke()), [direct]), ['accepted'])
  const forged = await (await Authority.create()).revoke()
  t.not((await verdicts(tolerant(forged), [direct]))[0], 'accepted')
  const old = (await authority.list([], -9, -3)) + (await between.list([], -9, -3))
  t.not((await verdicts(tolerant(old), [good]))[0], 'accepted', 'the lists have expired')
  t.same(checkTls(downstream([server], { validation: tolerant(both) })), [])
  const broken = '-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n'
  t.not(checkTls(downstream([server], { validation: tolerant(broken) })).length, 0)
})

t.test('revocation can be checked for the end entity alone', async (t) => {
  const between = await authority.intermediate()
  const revoked = await between.issue()
  const good = await between.issue()
  const lists = { crl: await between.revoke(revoked), leafCrlOnly: true }
  const both = trusting(authority.pem + between.pem, lists)
  t.same(await verdicts(both, [good, revoked, client]), [
    'accepted',
    'certificate revoked',
    'unable to get certificate CRL',
  ])
  // For the whole chain the authority's own list is missing.
  t.same(await verdicts({ ...both, leafCrlOnly: false }, [good]), ['unable to get certificate CRL'])
  const problems = (crl: string) =>
    checkTls(downstream([server], { validation: trusting(authority.pem, { crl, leafCrlOnly: true }) }))
  const forged = await Authority.create()
  t.match(problems(await forged.revoke(client)), [{ message: 'list 1 is not signed by a trusted authority' }])
  const whole = await authority.revoke(client)
  const bytes = Buffer.from(whole.replace(/-----[^-]*-----/g, ''), 'base64')
  for (let at = 0; at < bytes.length; at++) {
    const cut = `-----BEGIN X509 CRL-----\n${bytes.toString('base64', 0, at)}\n-----END X509 CRL-----\n`
    t.not(problems(cut).length, 0, `cut at ${at}`)
  }
})

t.test('of several lists for the end entity the newest of its own authority counts', async (t) => {
  const revoked = await authority.issue()
  const old = await authority.list([], -3)
  const fresh = await authority.list([revoked], -2)
  const leafCrlOnly = true
  const refused = ['accepted', 'certificate revoked']
  // In any order, and wherever they stand.
  t.same(await verdicts(trusting(authority.pem, { leafCrlOnly, crl: old + fresh }), [client, revoked]), refused)
  t.same(await verdicts(trusting(authority.pem, { leafCrlOnly, crl: fresh + old }), [client, revoked]), refused)
  t.same(await verdicts(trusting(authority.pem + old, { leafCrlOnly, crl: fresh }), [client, revoked]), refused)
  // As of one time: revoked by either.
  const same = await authority.list([], -2)
  t.same(await verdicts(trusting(authority.pem, { leafCrlOnly, crl: fresh + same }), [revoked]), [refused[1]])
  // A key of the same name: after a change of keys, its list says nothing of what the other has issued.
  const [one, two] = [await Authority.create('CN=Twin'), await Authority.create('CN=Twin')]
  const issued = await one.issue()
  const twins = (crl: string) => verdicts(trusting(one.pem + two.pem, { leafCrlOnly, crl }), [issued])
  const ofTwo = await two.list([], 0)
  t.same(await twins(ofTwo), ['unable to get certificate CRL'])
  t.same(await twins(ofTwo + (await one.list([], -2))), ['accepted'])
  t.same(await twins((await one.list([issued], -2)) + ofTwo), ['certificate revoked'])
  // Without any list there is nothing to look at, as in Envoy.
  t.same(await verdicts(trusting(authority.pem, { leafCrlOnly }), [client]), ['accepted'])
})

t.test('lists among the authorities are checked before they are used for the end entity', async (t) => {
  const forged = await Authority.create()
  const among = trusting(authority.pem + (await forged.revoke(client)), { leafCrlOnly: true })
  const found = [{ message: 'list 1 is not signed by a trusted authority' }]
  t.match(checkTls(downstream([server], { validation: among })), found)
  t.match(checkTls(downstream([server], { validation: { ...among, crl: await authority.revoke() } })), [
    { message: 'list 2 is not signed by a trusted authority' },
  ])
})

t.test('names of every type are matched', async (t) => {
  const upn = '1.3.6.1.4.1.311.20.2.3'
  const other = (type: string, value: Buffer): x509.Extension => {
    const name = der(0xa0, oid(type), der(0xa0, value))
    return new x509.Extension('2.5.29.17', false, sequence(name, der(0x82, Buffer.from('b.example'))))
  }
  const utf8 = (text: string): Buffer => der(0x0c, Buffer.from(text))
  const sans = [
    { type: 'other' as const, oid: upn, match: { kind: 'exact' as const, value: 'user@corp' } },
    { type: 'other' as const, oid: '1.2.3', match: { kind: 'exact' as const, value: '-2' } },
    { type: 'email' as const, match: { kind: 'exact' as const, value: 'ops@example' } },
    { type: 'ip' as const, match: { kind: 'exact' as const, value: '10.0.0.1' } },
  ]
  const clients = await Promise.all(
    [
      { extensions: [other(upn, utf8('user@corp'))] },
      { extensions: [other('1.2.3', der(0x02, Buffer.from([0xfe])))] },
      { email: ['ops@example'] },
      { ip: ['10.0.0.1'] },
      { extensions: [other('1.2.4', utf8('user@corp'))] },
      { extensions: [other(upn, utf8('user@corp\0.evil'))] },
      { extensions: [other(upn, der(0x30))] },
      { uri: ['user@corp'] },
    ].map((options) => authority.issue(options)),
  )
  const refused = 'SAN matcher'
  t.same(await verdicts(trusting(authority.pem, { sans }), clients), [
    ...['accepted', 'accepted', 'accepted', 'accepted'],
    ...[refused, refused, refused, refused],
  ])
})

t.test('a SPIFFE ID is believed where the authorities of its trust domain have issued it', async (t) => {
  const { trustedCa: _, ...base } = trusting('')
  const other = await Authority.create('CN=Other Domain')
  const trustDomains = [
    { name: 'td.example', trustedCa: authority.pem },
    { name: 'other.example', trustedCa: other.pem },
  ]
  const between = await other.intermediate()
  const untrusted = 'certificate not trusted'
  t.same(
    await verdicts({ ...base, trustDomains }, [
      client,
      await between.issue({ uri: ['spiffe://other.example/b'] }),
      await other.issue({ uri: ['spiffe://td.example/client'] }),
      await authority.issue({ uri: ['spiffe://td.example/a', 'spiffe://td.example/b'] }),
      await authority.issue({ uri: ['spiffe://td.example.evil/a'] }),
      await authority.issue({ dns: ['td.example'] }),
      await stranger.issue({ uri: ['spiffe://td.example/client'] }),
    ]),
    ['accepted', 'accepted', untrusted, untrusted, untrusted, untrusted, 'unable to get local issuer certificate'],
  )
  t.match(
    checkTls(
      downstream([server], {
        validation: { ...base, trustedCa: authority.pem, trustDomains: [trustDomains[0], trustDomains[0]] },
      }),
    ),
    [{ path: 'validation.trustDomains[1].name' }, { path: 'validation.trustDomains' }],
  )
})

t.test('pins, depths and identifiers that are none are refused', async (t) => {
  const validation = trusting(authority.pem, {
    hashes: ['AB'.repeat(32), 'ab'],
    spkis: ['AAAA', hashOf(client)],
    maxDepth: -1,
    sans: [{ type: 'other', oid: '1..2', match: { kind: 'exact', value: 'x' } }],
  })
  t.same(
    checkTls(downstream([server], { validation })).map(({ path }) => path),
    [
      'validation.maxDepth',
      'validation.hashes[0]',
      'validation.hashes[1]',
      'validation.spkis[0]',
      'validation.spkis[1]',
      'validation.sans[0].oid',
    ],
  )
})

t.test('sessions whose verdict needs the whole chain are not resumed', async (t) => {
  const validation = trusting(authority.pem, { maxDepth: 3 })
  for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
    const rig = await AcceptorRig.start(
      downstream([server], { validation, requireClientCertificate: true, maxVersion }),
    )
    const pair = { cert: client.chain, key: client.key }
    let session: Buffer | undefined
    const first = await rig.connect(pair)
    first.on('session', (got) => (session = got))
    await rig.outcome(0)
    first.write('x')
    await once(first, 'data')
    session ??= first.getSession()
    t.equal((await rig.connect(session === undefined ? pair : { ...pair, session })).isSessionReused(), false)
    t.equal(verdict(await rig.outcome(1)), 'accepted')
    await rig.close()
  }
})
