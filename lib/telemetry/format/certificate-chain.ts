import { X509Certificate } from 'node:crypto'

/** One certificate of a chain, as logs tell of it: lower-case hexadecimal. */
export interface ChainEntry {
  readonly sha256: string
  readonly sha1: string
  readonly serial: string
}

const CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g

/** Reads a chain in PEM, leaf first. What is no certificate is left out. */
export function chainFacts(pem: string): ChainEntry[] {
  const out: ChainEntry[] = []
  for (const [text] of pem.matchAll(CERTIFICATE)) {
    try {
      const { fingerprint, fingerprint256, serialNumber } = new X509Certificate(text)
      out.push({
        sha256: plainHex(fingerprint256),
        sha1: plainHex(fingerprint),
        serial: plainHex(serialNumber).replace(/^0+(?=.)/, ''),
      })
    } catch {
      // A log line is not where to fail.
    }
  }
  return out
}

function plainHex(text: string): string {
  return text.replaceAll(':', '').toLowerCase()
}
