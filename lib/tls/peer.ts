import type { X509Certificate } from 'node:crypto'
import type { TlsLocal, TlsPeer } from '../core/connection.ts'
import { plainHex } from './der.ts'
import { type CertificateNames, certificateNames, subjectText } from './names.ts'

/** What a peer may have sent, at most. */
const MAX_CHAIN = 16

/** A peer's certificate that was verified; the rarer facts are read when they are first asked for. */
export class CertificatePeer implements TlsPeer {
  readonly subject: string
  readonly uriSans: readonly string[]
  readonly dnsSans: readonly string[]
  readonly emailSans: readonly string[]
  readonly ipSans: readonly string[]
  readonly sha256: string
  readonly #certificate: X509Certificate

  constructor(certificate: X509Certificate, names: CertificateNames) {
    this.#certificate = certificate
    this.subject = subjectText(certificate.subject)
    this.uriSans = names.uri
    this.dnsSans = names.dns
    this.emailSans = names.email
    this.ipSans = names.ip
    this.sha256 = fingerprint(certificate.fingerprint256)
  }

  get issuer(): string {
    return subjectText(this.#certificate.issuer)
  }

  get serial(): string {
    return plainHex(this.#certificate.serialNumber)
  }

  get sha1(): string {
    return fingerprint(this.#certificate.fingerprint)
  }

  get validFromMs(): number {
    return this.#certificate.validFromDate.getTime()
  }

  get validToMs(): number {
    return this.#certificate.validToDate.getTime()
  }

  get pem(): string {
    return this.#certificate.toString()
  }

  get chainPem(): string {
    return shownChain(this.#certificate).map(String).join('')
  }
}

/** The certificate and those that came with it, in order. A resumed session has the first alone. */
export function shownChain(certificate: X509Certificate): X509Certificate[] {
  const chain: X509Certificate[] = []
  let next: X509Certificate | undefined = certificate
  while (next !== undefined && chain.length < MAX_CHAIN) {
    chain.push(next)
    next = next.issuerCertificate
  }
  return chain
}

/** As Envoy prints them: hexadecimal digits alone. */
export function fingerprint(colons: string): string {
  return colons.replaceAll(':', '').toLowerCase()
}

/** What this side shows of itself. */
export function localCertificate(certificate: X509Certificate): TlsLocal {
  const { uri, dns } = certificateNames(certificate)
  return { subject: subjectText(certificate.subject), uriSans: uri, dnsSans: dns }
}
