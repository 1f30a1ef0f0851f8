import 'reflect-metadata'
import { webcrypto } from 'node:crypto'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import * as x509 from '@peculiar/x509'

/*
 * A mesh's authority in a few lines: a root, and a certificate with a SPIFFE identity for each workload that is named.
 *
 *   node authority.ts <folder> client server
 *
 * In a cluster this is the work of istiod, and `createWorkloadIdentity` asks it.
 */

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const
const DAY_MS = 86_400_000
const [folder, ...accounts] = process.argv.slice(2)

const makeKeys = async (): Promise<webcrypto.CryptoKeyPair> =>
  (await webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify'])) as webcrypto.CryptoKeyPair

const rootKeys = await makeKeys()
const root = await x509.X509CertificateGenerator.createSelfSigned({
  name: 'CN=Example Mesh',
  keys: rootKeys,
  signingAlgorithm: ALGORITHM,
  notBefore: new Date(Date.now() - 60_000),
  notAfter: new Date(Date.now() + 30 * DAY_MS),
  extensions: [
    new x509.BasicConstraintsExtension(true, undefined, true),
    new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign, true),
  ],
})

mkdirSync(folder, { recursive: true })
writeFileSync(join(folder, 'root.pem'), root.toString('pem'))
for (const account of accounts) {
  const keys = await makeKeys()
  const uri = `spiffe://cluster.local/ns/demo/sa/${account}`
  const certificate = await x509.X509CertificateGenerator.create({
    subject: '',
    issuer: root.subject,
    publicKey: keys.publicKey,
    signingKey: rootKeys.privateKey,
    signingAlgorithm: ALGORITHM,
    notBefore: new Date(Date.now() - 60_000),
    notAfter: new Date(Date.now() + DAY_MS),
    extensions: [new x509.SubjectAlternativeNameExtension([{ type: 'url', value: uri }], true)],
  })
  const key = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey))
  writeFileSync(join(folder, `${account}.pem`), certificate.toString('pem'))
  writeFileSync(join(folder, `${account}.key`), x509.PemConverter.encode(key, 'PRIVATE KEY'), { mode: 0o600 })
}
console.log(`certificates of ${accounts.join(', ')} are in ${folder}`)
