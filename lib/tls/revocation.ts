import { verify, X509Certificate } from 'node:crypto'
import { systemClock } from '../core/clock.ts'
import { certificateParts, readExtensions } from './certificate-der.ts'
import type { CertificateValidationConfig } from './config.ts'
import {
  DER,
  type DerElement,
  derChildren,
  derContent,
  derOf,
  derOfPem,
  derOid,
  derRaw,
  derSerial,
  derTime,
  derWhole,
  plainHex,
} from './der.ts'
import { CERTIFICATE_LABEL, CRL_LABEL, pemBlocks } from './pem.ts'

/** Digests by signature algorithm; null: the algorithm has its own. */
const DIGESTS: ReadonlyMap<string, string | null> = new Map([
  ['1.2.840.113549.1.1.11', 'sha256'],
  ['1.2.840.113549.1.1.12', 'sha384'],
  ['1.2.840.113549.1.1.13', 'sha512'],
  ['1.2.840.10045.4.3.2', 'sha256'],
  ['1.2.840.10045.4.3.3', 'sha384'],
  ['1.2.840.10045.4.3.4', 'sha512'],
  ['1.3.101.112', null],
  ['2.16.840.1.101.3.4.3.17', null],
  ['2.16.840.1.101.3.4.3.18', null],
  ['2.16.840.1.101.3.4.3.19', null],
])

const EXTENSIONS_TAG = 0xa0

interface RevocationList {
  /** When it was made, ms since the epoch. */
  readonly fromMs: number
  /** When the next one is due. */
  readonly untilMs: number
  readonly serials: ReadonlySet<string>
}

/** PEM of the lists that count where revocation is checked for the end entity; '' where there are none: nothing is then. */
export function leafLists({ trustedCa = '', crl = '' }: CertificateValidationConfig): string {
  return [...pemBlocks(crl, CRL_LABEL), ...pemBlocks(trustedCa, CRL_LABEL)].join('')
}

interface ListParts {
  readonly tbs: DerElement
  readonly issuer: string
  readonly algorithm: string
  readonly signature: Buffer
  readonly list: RevocationList
}

/** A list, and the authority that has signed it. */
interface SignedList extends RevocationList {
  readonly authority: X509Certificate
}

/**
 * Revocation of end entities alone: with a list the runtime wants one for every authority of a chain, so here the lists
 * are read by hand (RFC 5280 §5). A list is believed where an authority that is trusted has signed it, of what that very
 * authority has issued: after a change of keys there are two of one name. Of several lists the newest counts.
 */
export class LeafRevocations {
  /** By issuer name, DER in hexadecimal. */
  readonly #lists = new Map<string, SignedList[]>()

  /** @throws Error that says which list cannot be used */
  constructor(lists: string, authorities: string) {
    const trusted = pemBlocks(authorities, CERTIFICATE_LABEL).map((pem) => new X509Certificate(pem))
    for (const [i, pem] of pemBlocks(lists, CRL_LABEL).entries()) {
      const parts = readList(pem, i + 1)
      const authority = trusted.find((one) => signed(parts, one))
      if (authority === undefined) throw new Error(`list ${i + 1} is not signed by a trusted authority`)
      const known = this.#lists.get(parts.issuer) ?? []
      this.#lists.set(parts.issuer, [...known, { ...parts.list, authority }])
    }
  }

  /** A word of OpenSSL's for why a certificate, whose chain has been verified, is refused; undefined where it is good. */
  fault(leaf: X509Certificate): string | undefined {
    const named = this.#lists.get(certificateParts(leaf.raw).issuer.toString('hex')) ?? []
    const lists = named.filter(({ authority }) => leaf.verify(authority.publicKey))
    return newestFault(leaf, lists)
  }
}

function newestFault(certificate: X509Certificate, lists: readonly RevocationList[]): string | undefined {
  if (lists.length === 0) return 'UNABLE_TO_GET_CRL'
  const newestMs = Math.max(...lists.map(({ fromMs }) => fromMs))
  const newest = lists.filter(({ fromMs }) => fromMs === newestMs)
  const serial = plainHex(certificate.serialNumber)
  if (newest.some(({ serials }) => serials.has(serial))) return 'CERT_REVOKED'
  const nowMs = systemClock.wall()
  return newest.some(({ untilMs }) => untilMs < nowMs) ? 'CRL_HAS_EXPIRED' : undefined
}

/**
 * Revocation along a whole path, for chains whose time is not looked at: of several faults the runtime tells one, so that a
 * wrong time can hide that a certificate was revoked. Each certificate but the authority at the end needs a list that its
 * own issuer has signed.
 */
export class PathRevocations {
  readonly #lists: readonly ListParts[]

  /** @throws Error that says which list cannot be used */
  constructor(lists: readonly string[]) {
    this.#lists = lists.map((pem, i) => readList(pem, i + 1))
  }

  /** As `LeafRevocations.fault`; the certificates of a path, leaf first. */
  fault(path: readonly X509Certificate[]): string | undefined {
    for (let i = 0; i + 1 < path.length; i++) {
      const issuer = certificateParts(path[i].raw).issuer.toString('hex')
      const lists = this.#lists.filter((parts) => parts.issuer === issuer && signed(parts, path[i + 1]))
      const fault = newestFault(
        path[i],
        lists.map(({ list }) => list),
      )
      if (fault !== undefined) return fault
    }
    return undefined
  }
}

/** When the next list after this one (PEM) is due, ms since the epoch; never where it does not say so. */
export function listUntilMs(pem: string): number {
  try {
    return parseList(derOfPem(pem)).list.untilMs
  } catch {
    // One that only the runtime understands.
    return Number.POSITIVE_INFINITY
  }
}

function readList(pem: string, number: number): ListParts {
  try {
    return parseList(derOfPem(pem))
  } catch (error) {
    throw new Error(`list ${number} ${(error as Error).message}`, { cause: error })
  }
}

function parseList(der: Buffer): ListParts {
  const [tbs, algorithm, signature] = derChildren(derWhole(der, DER.sequence))
  const fields = derOf(tbs, DER.sequence)
  const at = fields[0]?.tag === DER.integer ? 1 : 0
  derOf(fields[at + 1], DER.sequence)
  const isTime = (element: DerElement | undefined): boolean =>
    element?.tag === DER.utcTime || element?.tag === DER.generalizedTime
  const fromMs = derTime(fields[at + 2])
  const dated = isTime(fields[at + 3])
  const entries = fields.slice(at + (dated ? 4 : 3)).find(({ tag }) => tag === DER.sequence)
  const extensions = readExtensions(fields.find(({ tag }) => tag === EXTENSIONS_TAG))
  // Lists of some reasons or certificates only, and differences to other lists.
  const strange = [...extensions].find(([, { critical }]) => critical)
  if (strange !== undefined) throw new Error(`has a critical extension that is not understood, ${strange[0]}`)
  if (signature?.tag !== DER.bitString) throw new Error('has no signature')
  return {
    tbs,
    issuer: derRaw(fields[at + 1]).toString('hex'),
    algorithm: derOid(derOf(algorithm, DER.sequence)[0]),
    signature: derContent(signature).subarray(1),
    list: {
      fromMs,
      untilMs: dated ? derTime(fields[at + 3]) : Number.POSITIVE_INFINITY,
      serials: new Set(entries === undefined ? [] : derChildren(entries).map(revokedSerial)),
    },
  }
}

function revokedSerial(entry: DerElement): string {
  return derSerial(derOf(entry, DER.sequence)[0])
}

function signed({ tbs, issuer, algorithm, signature }: ListParts, authority: X509Certificate): boolean {
  if (certificateParts(authority.raw).subject.toString('hex') !== issuer) return false
  const digest = DIGESTS.get(algorithm)
  if (digest === undefined) return false
  return verify(digest, derRaw(tbs), authority.publicKey, signature)
}
