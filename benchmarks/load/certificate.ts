import { randomBytes, webcrypto } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import 'reflect-metadata'
import { SubjectAlternativeNameExtension, X509CertificateGenerator } from '@peculiar/x509'

/** Files of a certificate that every TLS variant of a run serves. */
export interface Certificate {
  readonly certificateFile: string
  readonly keyFile: string
  /** Both in one file, as haproxy wants it. */
  readonly bothFile: string
}

/** Makes a self-signed certificate for 127.0.0.1 (ECDSA P-256, one day) in `folder`. */
export async function makeCertificate(folder: string): Promise<Certificate> {
  const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' }
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify'])
  const day = 24 * 3600 * 1000
  const certificate = await X509CertificateGenerator.createSelfSigned(
    {
      serialNumber: `00${randomBytes(15).toString('hex')}`,
      name: 'CN=127.0.0.1',
      notBefore: new Date(Date.now() - day / 24),
      notAfter: new Date(Date.now() + day),
      signingAlgorithm: algorithm,
      keys,
      extensions: [new SubjectAlternativeNameExtension([{ type: 'ip', value: '127.0.0.1' }])],
    },
    webcrypto,
  )
  const pkcs8 = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey)).toString('base64')
  const key = `-----BEGIN PRIVATE KEY-----\n${pkcs8.replace(/.{1,64}/g, '$&\n')}-----END PRIVATE KEY-----\n`
  const pem = `${certificate.toString('pem').trim()}\n`
  const file = (name: string): string => join(folder, name)
  writeFileSync(file('certificate.pem'), pem)
  writeFileSync(file('key.pem'), key, { mode: 0o600 })
  writeFileSync(file('both.pem'), pem + key, { mode: 0o600 })
  return { certificateFile: file('certificate.pem'), keyFile: file('key.pem'), bothFile: file('both.pem') }
}
