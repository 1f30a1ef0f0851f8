import { createCipheriv, createPrivateKey, pbkdf2Sync, randomBytes, X509Certificate } from 'node:crypto'
import forge from 'node-forge'
import t from 'tap'
import { createFilterRegistry } from '../../lib/chain/registry.ts'
import { standardFilters } from '../../lib/cli/standard-filters.ts'
import { readNativeConfig } from '../../lib/config/native/read.ts'
import { ConfigRefused } from '../../lib/core/errors.ts'
import { openPkcs12 } from '../../lib/tls/pkcs12.ts'
import { Authority } from '../support/certificates.ts'
import { der, oid, sequence } from '../support/ml-dsa.ts'

const authority = await Authority.create()
const between = await authority.intermediate()
const rsa = await authority.issue({ key: 'rsa', dns: ['a.example'] })
const ec = await between.issue({ dns: ['a.example'] })

const PASSWORD = 'open sesame'

function certificatesOf(pem: string): string[] {
  return pem.match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g) ?? []
}

/** As the library writes them, which knows no other keys than RSA. */
function forged(algorithm: '3des' | 'aes256'): Buffer {
  const { pki, pkcs12, asn1 } = forge
  const chain = [pki.certificateFromPem(rsa.chain)]
  const file = pkcs12.toPkcs12Asn1(pki.privateKeyFromPem(rsa.key), chain, PASSWORD, { algorithm })
  return Buffer.from(asn1.toDer(file).getBytes(), 'latin1')
}

const data = (content: Buffer): Buffer => sequence(oid('1.2.840.113549.1.7.1'), der(0xa0, der(0x04, content)))

/** One without MAC, as a store of public certificates has it: an EC key in PBES2, the certificates encrypted beside it. */
function written(password: string, prf = '1.2.840.113549.2.9'): Buffer {
  const bags = certificatesOf(ec.chain)
    .reverse()
    .map((pem) => {
      const bag = sequence(oid('1.2.840.113549.1.9.22.1'), der(0xa0, der(0x04, new X509Certificate(pem).raw)))
      return sequence(oid('1.2.840.113549.1.12.10.1.3'), der(0xa0, bag))
    })
  const [salt, iv] = [randomBytes(16), randomBytes(16)]
  const cipher = createCipheriv('aes-256-cbc', pbkdf2Sync(password, salt, 2048, 32, 'sha256'), iv)
  const bytes = Buffer.concat([cipher.update(sequence(...bags)), cipher.final()])
  const derivation = sequence(der(0x04, salt), der(0x02, Buffer.from([8, 0])), sequence(oid(prf), der(0x05)))
  const scheme = sequence(
    sequence(oid('1.2.840.113549.1.5.12'), derivation),
    sequence(oid('2.16.840.1.101.3.4.1.42'), der(0x04, iv)),
  )
  const content = sequence(
    oid('1.2.840.113549.1.7.1'),
    sequence(oid('1.2.840.113549.1.5.13'), scheme),
    der(0x80, bytes),
  )
  const encrypted = sequence(oid('1.2.840.113549.1.7.6'), der(0xa0, sequence(der(0x02, Buffer.from([0])), content)))
  const options = { type: 'pkcs8', format: 'der', cipher: 'aes-256-cbc', passphrase: password } as const
  const key = createPrivateKey(ec.key).export(options)
  const keys = data(sequence(sequence(oid('1.2.840.113549.1.12.10.1.2'), der(0xa0, key))))
  return sequence(der(0x02, Buffer.from([3])), data(sequence(encrypted, keys)))
}

t.test('files old and new are opened, their certificates in order', async (t) => {
  for (const algorithm of ['3des', 'aes256'] as const) {
    const opened = openPkcs12(forged(algorithm), PASSWORD)
    t.equal(opened.privateKey, rsa.key, algorithm)
    t.same(certificatesOf(opened.certificateChain).length, 1)
    t.ok(new X509Certificate(opened.certificateChain).checkPrivateKey(createPrivateKey(opened.privateKey)))
    t.throws(() => openPkcs12(forged(algorithm), 'guess'), { message: 'is not opened by its password' })
    t.throws(() => openPkcs12(forged(algorithm)), { message: 'is not opened by its password' })
  }
  const chain = openPkcs12(written(PASSWORD), PASSWORD)
  t.same(certificatesOf(chain.certificateChain), certificatesOf(ec.chain), 'the end entity first')
  t.throws(() => openPkcs12(written(PASSWORD), 'guess'), { message: 'is not opened by its password' })
})

t.test('what is no PKCS#12 file, or was cut or changed, is refused', async (t) => {
  for (const file of [Buffer.alloc(0), Buffer.from('-----BEGIN'), sequence(), sequence(der(0x02, Buffer.from([3])))]) {
    t.throws(() => openPkcs12(file), { message: 'is no PKCS#12 file' })
  }
  const whole = forged('aes256')
  for (let at = 0; at < whole.length; at += 7)
    t.throws(() => openPkcs12(whole.subarray(0, at), PASSWORD), `cut at ${at}`)
  const changed = Buffer.from(whole)
  changed[changed.length >> 1] ^= 1
  t.throws(() => openPkcs12(changed, PASSWORD))
  t.throws(() => openPkcs12(written(PASSWORD, '1.2.3'), PASSWORD), { message: 'is encrypted in an unknown way' })
})

t.test('a native configuration may name one', async (t) => {
  const registry = createFilterRegistry(standardFilters())
  const http = { routes: [{ match: {}, action: { kind: 'direct', status: 200 } }] }
  const read = (passphrase: string) =>
    readNativeConfig(
      {
        listeners: [
          { address: '127.0.0.1:0', tls: { certificates: [{ pkcs12: { file: 'x.p12' }, passphrase }] }, http },
        ],
      },
      { registry, readFile: () => forged('3des') },
    )
  const [chain] = read(PASSWORD).listeners[0].filterChains
  t.equal(chain.tls?.certificates[0].privateKey, rsa.key)
  try {
    read('guess')
    t.fail('accepted')
  } catch (error) {
    t.match((error as ConfigRefused).errors.map(String), [/certificates\[0\]\.pkcs12: is not opened by its password/])
    t.notMatch(String(error), /guess/)
  }
  t.ok(new ConfigRefused([]) instanceof Error)
})
