import 'reflect-metadata'
import { webcrypto } from 'node:crypto'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import * as x509 from '@peculiar/x509'

/*
 * Makes an authority and, signed by it, certificates for two servers and two clients, as files in a folder. Those of the
 * servers can be made again with the authority that is there: `node certificates.ts FOLDER`.
 */

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' }
const DAY_MS = 86_400_000

interface Made {
  readonly certificate: x509.X509Certificate
  readonly keys: webcrypto.CryptoKeyPair
}

async function make(subject: string, extensions: x509.Extension[], issuer?: Made): Promise<Made> {
  const keys = (await webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify'])) as webcrypto.CryptoKeyPair
  const certificate = await x509.X509CertificateGenerator.create({
    subject,
    issuer: issuer?.certificate.subject ?? subject,
    notBefore: new Date(Date.now() - DAY_MS),
    notAfter: new Date(Date.now() + 30 * DAY_MS),
    publicKey: keys.publicKey,
    signingKey: (issuer?.keys ?? keys).privateKey,
    signingAlgorithm: ALGORITHM,
    extensions,
  })
  return { certificate, keys }
}

async function write(folder: string, name: string, { certificate, keys }: Made): Promise<void> {
  writeFileSync(join(folder, `${name}.crt`), `${certificate.toString('pem')}\n`)
  const key = x509.PemConverter.encode(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey), 'PRIVATE KEY')
  writeFileSync(join(folder, `${name}.key`), `${key}\n`, { mode: 0o600 })
}

/** Files `ca`, `shop`, `api`, `client` and `stranger`, each with `.crt` and `.key`; the last is nobody's we know. */
export async function makeCertificates(folder: string): Promise<void> {
  mkdirSync(folder, { recursive: true })
  const authority = [new x509.BasicConstraintsExtension(true, undefined, true)]
  const ca = await make('CN=Example Authority', authority)
  const stranger = await make('CN=Another Authority', authority)
  const names = (...list: x509.JsonGeneralName[]): x509.Extension[] => [new x509.SubjectAlternativeNameExtension(list)]
  await write(folder, 'ca', ca)
  await write(folder, 'shop', await make('CN=shop', names({ type: 'dns', value: 'shop.example' }), ca))
  await write(folder, 'api', await make('CN=api', names({ type: 'dns', value: '*.api.example' }), ca))
  const client = names({ type: 'url', value: 'spiffe://example/client' })
  await write(folder, 'client', await make('CN=client,O=Example', client, ca))
  await write(folder, 'stranger', await make('CN=client,O=Example', client, stranger))
}

const [, program, folder] = process.argv
if (folder !== undefined && import.meta.url === pathToFileURL(program).href) await makeCertificates(folder)
