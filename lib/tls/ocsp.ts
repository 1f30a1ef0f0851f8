import { X509Certificate } from 'node:crypto'
import { certificateParts, mustStaple } from './certificate-der.ts'
import type { CertificateConfig, OcspPolicy } from './config.ts'
import {
  DER,
  type DerElement,
  derChildren,
  derContent,
  derOf,
  derOid,
  derSerial,
  derTime,
  derWhole,
  plainHex,
} from './der.ts'

const BASIC_RESPONSE = '1.3.6.1.5.5.7.48.1.1'
const SUCCESSFUL = 0
/** Context tags of RFC 6960 §4.2.1. */
const TAGS = Object.freeze({ bytes: 0xa0, version: 0xa0, nextUpdate: 0xa0, good: 0x80 })

/** What an OCSP response says of its one certificate. */
export interface OcspResponse {
  /** Of the certificate, hexadecimal, lower case, without leading zeros. */
  readonly serial: string
  readonly good: boolean
  /** Its time, ms since the epoch; without an end it is good as long as it is there. */
  readonly fromMs: number
  readonly untilMs: number
}

/**
 * Reads an OCSP response (RFC 6960 §4.2) of one certificate. Its signature is for clients to check.
 *
 * @throws Error that says what is wrong with it
 */
export function parseOcspResponse(der: Buffer): OcspResponse {
  const [status, bytes] = derChildren(derWhole(der, DER.sequence))
  if (status?.tag !== DER.enumerated || status.bytes[status.from] !== SUCCESSFUL) {
    throw new Error('is a response of the kind that tells an error')
  }
  const [type, content] = derOf(derOf(bytes, TAGS.bytes)[0], DER.sequence)
  if (derOid(type) !== BASIC_RESPONSE) throw new Error('is not a basic response')
  const [data] = derChildren(derWhole(derContent(content), DER.sequence))
  const fields = derOf(data, DER.sequence)
  // An optional version, who answers, when, then what.
  const single = derOf(fields[fields[0]?.tag === TAGS.version ? 3 : 2], DER.sequence)
  if (single.length !== 1) throw new Error(`tells of ${single.length} certificates, not of one`)
  return parseSingle(single[0])
}

function parseSingle(element: DerElement): OcspResponse {
  const [id, status, from, until] = derOf(element, DER.sequence)
  return {
    serial: derSerial(derOf(id, DER.sequence)[3]),
    good: status?.tag === TAGS.good,
    fromMs: derTime(from),
    untilMs: until?.tag === TAGS.nextUpdate ? derTime(derChildren(until)[0]) : Number.POSITIVE_INFINITY,
  }
}

/** `staple`: send this. `omit`: go on without. `fail`: break off the handshake. */
export type StapleAction = { readonly staple: Buffer } | 'omit' | 'fail'

interface Staple {
  readonly bytes: Buffer | undefined
  readonly untilMs: number
  readonly policy: OcspPolicy
}

/** The OCSP staples of a server's certificates, and what is done where there is none. As Envoy's `ocsp_staple_policy`. */
export class Staples {
  /** By the certificate's DER, hexadecimal. */
  readonly #staples = new Map<string, Staple>()
  /** There is anything to decide. */
  readonly any: boolean

  /** The configuration has passed `stapleProblem`. */
  constructor(certificates: readonly CertificateConfig[], policy: OcspPolicy) {
    for (const { certificateChain, ocspStaple } of certificates) {
      const { raw } = new X509Certificate(certificateChain)
      const bytes = ocspStaple === undefined ? undefined : Buffer.from(ocspStaple, 'base64')
      this.#staples.set(raw.toString('base64'), {
        bytes,
        untilMs: bytes === undefined ? 0 : parseOcspResponse(bytes).untilMs,
        // A certificate that says so itself knows better.
        policy: mustStaple(certificateParts(raw)) ? 'must' : policy,
      })
    }
    this.any = [...this.#staples.values()].some((staple) => staple.bytes !== undefined || staple.policy !== 'lenient')
  }

  /** For a client that has asked for the status of this certificate. */
  actionFor(certificate: Buffer, wallMs: number): StapleAction {
    const found = this.#staples.get(certificate.toString('base64'))
    if (found === undefined) return 'omit'
    const { bytes, untilMs, policy } = found
    if (bytes !== undefined && untilMs >= wallMs) return { staple: bytes }
    if (policy === 'lenient') return 'omit'
    return policy === 'must' || bytes !== undefined ? 'fail' : 'omit'
  }
}

/** Why the staple of a certificate, or its absence, is a mistake; undefined where it is none. */
export function stapleProblem(certificate: CertificateConfig, policy: OcspPolicy): string | undefined {
  const leaf = new X509Certificate(certificate.certificateChain)
  const { ocspStaple } = certificate
  if (ocspStaple === undefined) {
    if (mustStaple(certificateParts(leaf.raw))) return 'is missing: the certificate must be stapled (RFC 7633)'
    return policy === 'must' ? 'is missing, and the policy demands one' : undefined
  }
  try {
    const { serial, good } = parseOcspResponse(Buffer.from(ocspStaple, 'base64'))
    if (serial !== plainHex(leaf.serialNumber)) return 'does not match its certificate'
    return good ? undefined : 'does not say that the certificate is good'
  } catch (error) {
    return `cannot be used: ${(error as Error).message}`
  }
}
