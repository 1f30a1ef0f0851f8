import { createPrivateKey, X509Certificate } from 'node:crypto'
import { Authorities } from '../tls/authorities.ts'
import type { MeshMaterial } from '../tls/mesh.ts'
import { CERTIFICATE_LABEL, pemBlocks } from '../tls/pem.ts'

/** What the CA's clock may be ahead of ours. */
const SKEW_MS = 60_000

/** A certificate in use. */
export interface WorkloadCertificate extends MeshMaterial {
  /** When it is to be renewed, ms since the epoch: half of its life. */
  readonly renewAtMs: number
  readonly expiresAtMs: number
}

/** What an answer of the CA is held against. */
export interface Expected {
  readonly identity: string
  readonly privateKey: string
  /** ms since the epoch. */
  readonly nowMs: number
}

/**
 * Takes the answer of a CA apart, and insists that it is the answer to our request.
 *
 * @throws Error where there is no certificate or authority in it, or it is for another identity or key, or not valid now.
 */
export function readCertificate(chain: readonly string[], expected: Expected): WorkloadCertificate {
  if (chain.length < 2) throw new Error(`the answer has ${chain.length} certificates: one and its authority are wanted`)
  const leaf = new X509Certificate(chain[0])
  const names = (leaf.subjectAltName ?? '').split(', ')
  if (names.length !== 1 || names[0] !== `URI:${expected.identity}`) {
    throw new Error(`the certificate is for "${leaf.subjectAltName ?? ''}", not for "${expected.identity}"`)
  }
  if (!leaf.checkPrivateKey(createPrivateKey(expected.privateKey)))
    throw new Error('the certificate is for another key')
  const from = leaf.validFromDate.getTime()
  const to = leaf.validToDate.getTime()
  if (to <= expected.nowMs) throw new Error(`the certificate has expired at ${leaf.validToDate.toISOString()}`)
  if (from > expected.nowMs + SKEW_MS) {
    throw new Error(`the certificate is not valid before ${leaf.validFromDate.toISOString()}`)
  }
  const trustedCa = ended(chain[chain.length - 1])
  checkAuthorities(leaf, chain, expected.nowMs)
  return {
    certificateChain: chain.slice(0, -1).map(ended).join(''),
    privateKey: expected.privateKey,
    trustedCa,
    renewAtMs: from + (to - from) / 2,
    expiresAtMs: to,
  }
}

/** Whoever trusts the bundle must believe the certificate: others would refuse us, and we them. */
function checkAuthorities(leaf: X509Certificate, chain: readonly string[], nowMs: number): void {
  const blocks = pemBlocks(chain[chain.length - 1], CERTIFICATE_LABEL)
  const known = blocks.map((pem) => new X509Certificate(pem)).filter((authority) => authority.ca)
  if (known.length === 0) throw new Error('the answer has no authority')
  const inTime = known.filter((authority) => authority.validToDate.getTime() > nowMs)
  if (inTime.length === 0) throw new Error('the authorities of the answer have expired')
  const sent = pemBlocks(chain.slice(0, -1).map(ended).join(''), CERTIFICATE_LABEL).slice(1)
  const between = sent.map((pem) => new X509Certificate(pem))
  const anchors = new Authorities(inTime.map(String))
  if (anchors.path(leaf, between) === undefined) {
    throw new Error('the certificate is of none of the authorities of the answer')
  }
}

function ended(text: string): string {
  return text.endsWith('\n') ? text : `${text}\n`
}
