import { X509Certificate } from 'node:crypto'
import { certificateParts, EXTENSIONS, pathLength, signsHandshakes } from './certificate-der.ts'

/** Signatures that are looked at for one peer, at most: a hostile chain has more loops than that. */
const MAX_SIGNATURES = 64

/** Extensions that the check of a path understands; another critical one ends it (RFC 5280 §6.1). */
const UNDERSTOOD: ReadonlySet<string> = new Set([
  EXTENSIONS.basicConstraints,
  EXTENSIONS.keyUsage,
  EXTENSIONS.extendedKeyUsage,
  EXTENSIONS.subjectAltName,
])
const NAME_CONSTRAINTS = '2.5.29.30'
const ANY_PURPOSE = '2.5.29.37.0'

/** What a certificate may be used for (RFC 5280 §4.2.1.12). */
export const PURPOSES = Object.freeze({ serverAuth: '1.3.6.1.5.5.7.3.1', clientAuth: '1.3.6.1.5.5.7.3.2' })

export type Purpose = keyof typeof PURPOSES

/** A way from a certificate up to an authority that is trusted. */
export interface TrustPath {
  /** Leaf first; the authority last. */
  readonly certificates: readonly X509Certificate[]
  /** How many stand between leaf and authority. */
  readonly depth: number
}

/**
 * Authorities, and the ways that lead to them. The runtime verifies chains, but says neither which one it took nor what
 * it would have said at another time; where that matters, the way is looked for here, by issuers and signatures.
 */
export class Authorities {
  readonly #anchors: readonly X509Certificate[]

  /** @throws Error where one of the certificates (PEM) cannot be parsed; `checkTls` finds it before. */
  constructor(certificates: readonly string[]) {
    this.#anchors = certificates.map((pem) => new X509Certificate(pem))
  }

  /** The shortest path, over any of the certificates that the peer has sent; undefined: there is none. */
  path(leaf: X509Certificate, sent: readonly X509Certificate[]): TrustPath | undefined {
    let left = MAX_SIGNATURES
    const issues = (issuer: X509Certificate, subject: X509Certificate): boolean => {
      if (!issuer.ca || !subject.checkIssued(issuer) || left === 0) return false
      left--
      return subject.verify(issuer.publicKey)
    }
    if (this.#holds(leaf)) return { certificates: [leaf], depth: 0 }
    const seen = new Set<X509Certificate>([leaf])
    for (let paths: X509Certificate[][] = [[leaf]]; paths.length > 0; ) {
      const longer: X509Certificate[][] = []
      for (const path of paths) {
        const top = path[path.length - 1]
        const anchor = this.#anchors.find((one) => issues(one, top))
        if (anchor !== undefined) return { certificates: [...path, anchor], depth: path.length - 1 }
        for (const next of sent) {
          if (seen.has(next) || !issues(next, top)) continue
          seen.add(next)
          longer.push([...path, next])
        }
      }
      paths = longer
    }
    return undefined
  }

  #holds(certificate: X509Certificate): boolean {
    return this.#anchors.some((anchor) => anchor.raw.equals(certificate.raw))
  }
}

/**
 * Everything that the runtime checks of a path, but for the time: for certificates that have expired, where the runtime
 * tells no other fault. What is not understood is refused: other critical extensions, constraints on names.
 */
export function timelessPath({ certificates, depth }: TrustPath, purpose: Purpose): boolean {
  const accepted = certificates.every((certificate, at) => {
    const parts = certificateParts(certificate.raw)
    for (const [oid, { critical }] of parts.extensions) {
      if (oid === NAME_CONSTRAINTS || (critical && !UNDERSTOOD.has(oid))) return false
    }
    if (!serves(certificate, purpose)) return false
    if (at === 0) return signsHandshakes(parts)
    const length = pathLength(parts)
    return certificate.ca && (length === undefined || length >= at - 1)
  })
  return accepted && depth < MAX_SIGNATURES
}

/** The runtime calls them key usages; without any a certificate is for everything. */
function serves({ keyUsage }: X509Certificate, purpose: Purpose): boolean {
  return keyUsage === undefined || keyUsage.includes(PURPOSES[purpose]) || keyUsage.includes(ANY_PURPOSE)
}
