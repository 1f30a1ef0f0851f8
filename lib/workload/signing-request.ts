import { webcrypto } from 'node:crypto'

/** A key that nobody else has, and the request for its certificate; both PEM. */
export interface SigningRequest {
  readonly privateKey: string
  readonly csr: string
}

const ALGORITHM = Object.freeze({ name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const)

/** A new P-256 key and a PKCS#10 request with an empty subject and the SPIFFE identity as its only name. */
export async function createSigningRequest(identity: string): Promise<SigningRequest> {
  // Loaded when it is first needed: few gateways have a CA to ask.
  await import('reflect-metadata')
  const x509 = await import('@peculiar/x509')
  const keys = (await webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify'])) as webcrypto.CryptoKeyPair
  const request = await x509.Pkcs10CertificateRequestGenerator.create({
    name: '',
    keys,
    signingAlgorithm: ALGORITHM,
    extensions: [new x509.SubjectAlternativeNameExtension([{ type: 'url', value: identity }], true)],
  })
  const key = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey))
  return { privateKey: pem('PRIVATE KEY', key), csr: pem('CERTIFICATE REQUEST', Buffer.from(request.rawData)) }
}

function pem(label: string, der: Buffer): string {
  const lines = der.toString('base64').replace(/.{64}(?=.)/g, '$&\n')
  return `-----BEGIN ${label}-----\n${lines}\n-----END ${label}-----\n`
}
