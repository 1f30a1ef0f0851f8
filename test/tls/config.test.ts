import { X509Certificate } from 'node:crypto'
import t from 'tap'
import { checkTls } from '../../lib/tls/check.ts'
import { cipherList } from '../../lib/tls/cipher-suites.ts'
import type { UpstreamTlsConfig } from '../../lib/tls/config.ts'
import { groupList } from '../../lib/tls/groups.ts'
import { type CertificateNames, certificateNames, dnsNameMatches, namesHost, subjectText } from '../../lib/tls/names.ts'
import { compileSans } from '../../lib/tls/verify.ts'
import { Authority, encryptedKey } from '../support/certificates.ts'
import { certificate, downstream, GROUPS, trusting } from './rig.ts'

const authority = await Authority.create()
const leaf = await authority.issue({ dns: ['a.example'] })
const other = await authority.issue({ dns: ['b.example'] })

function paths(problems: readonly { path: string; message: string }[]): string[] {
  return problems.map(({ path, message }) => `${path}: ${message}`)
}

t.test('a configuration in order has no problems', async (t) => {
  t.same(checkTls(downstream([leaf])), [])
  const locked = { ...certificate(leaf), privateKey: encryptedKey(leaf, 'secret'), passphrase: 'secret' }
  const validation = trusting(authority.pem, {
    crl: await authority.revoke(other),
    sans: [{ type: 'dns', match: { kind: 'regex', value: '[a-z]+\\.example' } }],
  })
  t.same(checkTls({ ...downstream([]), certificates: [locked], validation, alpn: ['h2', 'http/1.1'] }), [])
  t.same(
    checkTls(downstream([leaf], { cipherSuites: ['[ECDHE-ECDSA-AES128-GCM-SHA256|ECDHE-ECDSA-CHACHA20-POLY1305]'] })),
    [],
  )
})

t.test('every mistake is reported, with its path and without secrets', async (t) => {
  const pair = certificate(leaf)
  const certificates = [
    { ...pair, privateKey: other.key },
    { ...pair, certificateChain: 'no certificate', privateKey: encryptedKey(leaf, 'secret') },
    { ...pair, privateKey: encryptedKey(leaf, 'secret'), passphrase: 'guess' },
    { certificateChain: '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----', privateKey: 'nor a key' },
  ]
  const config = {
    ...downstream([]),
    certificates,
    minVersion: 'TLSv1.3' as const,
    maxVersion: 'TLSv1.2' as const,
    cipherSuites: ['[ECDHE-ECDSA-AES128-GCM-SHA256|NONSENSE]', 'HIGH', '!MD5', 'ecdhe-rsa-aes128-gcm-sha256'],
    groups: ['X25519', 'P-999', '?P-256'],
    alpn: ['h2', ''],
    validation: trusting('nothing', { crl: 'nothing', sans: [{ type: 'uri', match: { kind: 'regex', value: '(' } }] }),
  }
  const found = paths(checkTls(config))
  t.same(found, [
    'certificates[0].privateKey: does not belong to the first certificate of the chain',
    'certificates[1].certificateChain: holds no PEM certificate',
    'certificates[1].passphrase: the private key is encrypted',
    'certificates[2].passphrase: does not open the private key',
    'certificates[3].certificateChain: certificate 1 of 1 cannot be parsed',
    'certificates[3].privateKey: cannot be parsed as a PEM private key',
    'minVersion: TLSv1.3 is above the maximum, TLSv1.2',
    'cipherSuites[0]: unknown cipher "NONSENSE"',
    'cipherSuites[1]: unknown cipher "HIGH"',
    'cipherSuites[2]: unknown cipher "!MD5"',
    'cipherSuites[3]: unknown cipher "ecdhe-rsa-aes128-gcm-sha256"',
    `groups[1]: unknown group "P-999" (this runtime has OpenSSL ${process.versions.openssl})`,
    `groups[2]: unknown group "?P-256" (this runtime has OpenSSL ${process.versions.openssl})`,
    'alpn[1]: must be 1 to 255 bytes long',
    'validation.trustedCa: holds no PEM certificate',
    'validation.crl: holds no PEM revocation list (X509 CRL)',
    'validation.sans[0].match: invalid regex "(": missing closing ): `(`',
  ])
  t.notMatch(found.join(), /secret|guess/)
})

t.test('what a certificate cannot be used for is found before it is used', async (t) => {
  const weak = await authority.issue({ key: 'rsa', bits: 1024 })
  t.match(paths(checkTls(downstream([weak]))), [
    /^certificates\[0\]\.certificateChain: cannot be used: ee key too small/,
  ])
  t.same(paths(checkTls(downstream([]))), ['certificates: a server needs a certificate'])
  const broken = '-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----'
  t.same(paths(checkTls(downstream([leaf], { validation: trusting(authority.pem, { crl: broken }) }))), [
    'validation.crl: list 1 of 1 cannot be parsed',
  ])
  const bundle = { trustedCa: authority.pem + broken, systemRoots: false, sans: [], acceptUntrusted: false }
  t.same(paths(checkTls(downstream([leaf], { validation: bundle }))), [
    'validation.trustedCa: list 1 of 1 cannot be parsed',
  ])
  // What has no end would be passed over: fewer authorities, and fewer revocations.
  const cut = (await authority.revoke(leaf)).slice(0, 200)
  const passedOver = trusting(authority.pem.slice(0, 200) + authority.pem, { crl: cut + (await authority.revoke()) })
  t.same(paths(checkTls(downstream([leaf], { validation: passedOver }))), [
    'validation.trustedCa: has a certificate without an end',
    'validation.crl: has a revocation list without an end',
  ])
})

t.test('names and revocations without authorities are refused', async (t) => {
  const { trustedCa: _, ...validation } = trusting('', {
    sans: [{ type: 'dns', match: { kind: 'exact', value: 'a' } }],
    crl: await authority.revoke(),
  })
  t.match(paths(checkTls(downstream([leaf], { validation }))), [/^validation\.sans: needs/, /^validation\.crl: needs/])
})

t.test('a client presents at most one certificate', async (t) => {
  const client: UpstreamTlsConfig = {
    ...downstream([]),
    sni: '',
    autoSni: 'none',
    autoSanValidation: false,
    maxSessionKeys: 1,
  }
  const { requireClientCertificate: _, ...config } = client as UpstreamTlsConfig & {
    requireClientCertificate?: boolean
  }
  t.same(checkTls(config), [])
  const two = { ...config, certificates: [certificate(leaf), certificate(other)] }
  t.same(paths(checkTls(two)), ['certificates: a client presents one certificate, not several'])
})

t.test('cipher lists are written in the words of OpenSSL', async (t) => {
  const list = cipherList([
    '[ECDHE-ECDSA-AES128-GCM-SHA256|ECDHE-ECDSA-CHACHA20-POLY1305]',
    'TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384',
    'ECDHE-ECDSA-AES128-GCM-SHA256',
    'TLS_AES_128_GCM_SHA256',
  ])
  t.equal(
    list,
    'ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-AES256-GCM-SHA384:TLS_AES_128_GCM_SHA256',
  )
})

t.test('groups are passed on; none means those of the runtime', async (t) => {
  t.equal(groupList(['X25519', 'P-256']), 'X25519:P-256')
  t.equal(groupList([]), undefined)
  t.match(groupList(GROUPS), /X25519:P-256$/)
})

t.test('names are read out of certificates as they are, and hostile ones are one name', async (t) => {
  const issued = await authority.issue({
    subject: 'CN=a, OU=é, O=Ex',
    dns: ['a.example', '*.b.example', 'evil, URI:spiffe://x/admin', 'quo"te\\", DNS:good.example', 'nul\0.example'],
    uri: ['spiffe://x/a,b'],
    email: ['a@b.example'],
    ip: ['10.0.0.1', '2001:db8::1'],
  })
  const parsed = new X509Certificate(issued.chain)
  const names = certificateNames(parsed)
  t.same(names, {
    dns: ['a.example', '*.b.example'],
    uri: ['spiffe://x/a,b'],
    email: ['a@b.example'],
    ip: ['10.0.0.1', '2001:db8::1'],
  })
  t.equal(subjectText(parsed.subject), 'O=Ex,OU=\\C3\\A9,CN=a')
  t.equal(subjectText(undefined), '')
  t.equal(namesHost(names, 'A.Example'), true)
  t.equal(namesHost(names, 'x.b.example'), true)
  t.equal(namesHost(names, '2001:DB8:0::1'), true)
  t.equal(namesHost(names, '::ffff:10.0.0.1'), true)
  t.equal(namesHost(names, '10.0.0.2'), false)
})

t.test('wildcards stand for one whole label', async (t) => {
  for (const [host, pattern, expected] of [
    ['a.example', '*.example', true],
    ['a.b.example', '*.example', false],
    ['example', '*.example', false],
    ['.example', '*.example', false],
    ['fa.example', 'f*.example', false],
    ['a.b.example', '*.*.example', false],
    ['A.EXAMPLE', '*.example', true],
    ['*.example', '*.example', true],
  ] as const) {
    t.equal(dnsNameMatches(host, pattern), expected, `${host} ${pattern}`)
  }
})

t.test('a subject alternative name of the right type must match', async (t) => {
  const names: CertificateNames = {
    dns: ['first.example', '*.web.example'],
    uri: ['spiffe://td/ns/a/sa/b'],
    email: ['ops@example'],
    ip: ['2001:db8::1'],
  }
  const matches = (type: keyof CertificateNames, kind: 'exact' | 'prefix' | 'suffix' | 'contains', value: string) =>
    compileSans([{ type, match: { kind, value } }])(names)
  t.equal(matches('dns', 'exact', 'api.web.example'), true, 'exact names understand wildcards')
  t.equal(matches('dns', 'suffix', '.web.example'), true, 'the second value is seen')
  t.equal(matches('dns', 'exact', 'spiffe://td/ns/a/sa/b'), false, 'types are not mixed')
  t.equal(matches('uri', 'prefix', 'spiffe://td/'), true)
  t.equal(matches('uri', 'exact', 'spiffe://td/ns/a/sa/B'), false)
  t.equal(matches('email', 'contains', '@'), true)
  t.equal(matches('ip', 'exact', '2001:DB8:0:0:0:0:0:1'), true)
  const regex = compileSans([{ type: 'uri', match: { kind: 'regex', value: 'spiffe://td/ns/[a-z]+/sa/b' } }])
  t.equal(regex(names), true)
  t.equal(regex({ ...names, uri: ['spiffe://td/ns/a/sa/bc'] }), false, 'as a whole')
  t.equal(compileSans([{ type: 'dns', match: { kind: 'exact', value: 'x' } }])({ ...names, dns: [] }), false)
})
