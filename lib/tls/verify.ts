import { createHash, type X509Certificate } from 'node:crypto'
import type { TLSSocket } from 'node:tls'
import { systemClock } from '../core/clock.ts'
import type { TlsPeer } from '../core/connection.ts'
import { compileString } from '../match/string.ts'
import { Authorities, type Purpose, timelessPath } from './authorities.ts'
import { otherNames } from './certificate-der.ts'
import type { CertificateValidationConfig, SanMatchConfig, TrustDomainConfig } from './config.ts'
import { authorities, identifiesPeers, needsChain, revocationLists, verifiesChain } from './context.ts'
import { type CertificateNames, certificateNames, dnsNameMatches, namesHost, plainIp } from './names.ts'
import { CertificatePeer, fingerprint, shownChain } from './peer.ts'
import { CERTIFICATE_LABEL, pemBlocks } from './pem.ts'
import { LeafRevocations, leafLists, PathRevocations } from './revocation.ts'

/**
 * Why a peer is refused. `host`: its certificate does not name the host that was asked for. `pin`: neither it nor its key
 * is among those listed.
 */
export type Refusal = 'no-certificate' | 'untrusted' | 'san' | 'host' | 'pin'

/** What a finished handshake says of the peer. Exactly one of `refusal` and the right to go on. */
export interface PeerVerdict {
  readonly refusal: Refusal | undefined
  /** Only of a certificate that was verified. */
  readonly peer: TlsPeer | undefined
  /** The peer showed a certificate, verified or not. */
  readonly certified: boolean
  /** OpenSSL's name of what is wrong with the chain (`CERT_HAS_EXPIRED`); undefined unless something is. */
  readonly fault: string | undefined
}

/** Demands on a peer beyond the validation context. */
export interface PeerDemands {
  /** Without a certificate it is refused. */
  readonly certificate: boolean
  /** The certificate must name this host; undefined: any. */
  readonly host: string | undefined
}

/** A certificate and the names in it. */
interface Shown {
  readonly certificate: X509Certificate
  readonly names: CertificateNames
}

/** A peer that is refused, and for what. */
interface Objection {
  readonly refusal: Refusal
  readonly fault?: string
}

const UNTRUSTED = 'CERT_UNTRUSTED'

/**
 * Judges peers after the handshake. Node lets every handshake finish and keeps the result of the chain check, so that a
 * refusal is a close and not an alert.
 */
export class PeerVerifier {
  /** Peers are asked for certificates. */
  readonly asks: boolean
  /**
   * The verdict needs all that the peer has sent. A resumed session has the peer's own certificate alone, so there must
   * be none: servers give no tickets.
   */
  readonly needsChain: boolean
  readonly #chain: boolean
  readonly #identifies: boolean
  readonly #validation: CertificateValidationConfig | undefined
  readonly #purpose: Purpose
  readonly #names: ((names: CertificateNames, certificate: X509Certificate) => boolean) | undefined
  readonly #hashes: ReadonlySet<string>
  readonly #spkis: ReadonlySet<string>
  readonly #authorities: Authorities | undefined
  readonly #domains: ReadonlyMap<string, Authorities> | undefined
  readonly #revocations: LeafRevocations | undefined
  /** Of whole paths; undefined: there are no lists, or the runtime looks at them alone. */
  readonly #pathRevocations: PathRevocations | undefined

  /**
   * `purpose`: what the peer's certificate is used for.
   *
   * @throws Error for what `checkTls` finds before: regexes that RE2 refuses, lists that cannot be read
   */
  constructor(validation: CertificateValidationConfig | undefined, purpose: Purpose = 'serverAuth') {
    this.#validation = validation
    this.#purpose = purpose
    this.#chain = verifiesChain(validation)
    this.#identifies = identifiesPeers(validation)
    this.asks = this.#identifies || validation?.acceptUntrusted === true
    const { sans = [], hashes = [], spkis = [], trustDomains, trustedCa = '' } = validation ?? {}
    this.needsChain = needsChain(validation)
    this.#names = sans.length === 0 ? undefined : compileSans(sans)
    this.#hashes = new Set(hashes)
    this.#spkis = new Set(spkis)
    this.#authorities =
      this.needsChain && trustDomains === undefined ? new Authorities(authorities(validation)) : undefined
    this.#domains = trustDomains && byDomain(trustDomains)
    this.#revocations =
      validation?.leafCrlOnly === true && leafLists(validation) !== ''
        ? new LeafRevocations(leafLists(validation), trustedCa)
        : undefined
    const lists = validation?.allowExpired === true ? revocationLists(validation) : []
    this.#pathRevocations = lists.length > 0 ? new PathRevocations(lists) : undefined
  }

  /**
   * Reads the certificate once. A resumed session carries the certificate and the verdict on its chain from the
   * handshake that began it; `authorized` alone says nothing there, as a session without a certificate has it too.
   */
  judge(socket: TLSSocket, demands: PeerDemands): PeerVerdict {
    const certificate = socket.getPeerX509Certificate()
    if (certificate === undefined) {
      const refused = demands.certificate || demands.host !== undefined
      const refusal = refused ? 'no-certificate' : undefined
      return { refusal, peer: undefined, certified: false, fault: undefined }
    }
    const names = certificateNames(certificate)
    const objection = this.#objection(socket, { certificate, names }, demands.host)
    const verified = this.#identifies && objection === undefined
    // A host that was asked for by name is not among what `acceptUntrusted` forgives.
    const pardoned = this.#validation?.acceptUntrusted === true && objection?.refusal !== 'host'
    return {
      refusal: pardoned ? undefined : objection?.refusal,
      peer: verified ? new CertificatePeer(certificate, names) : undefined,
      certified: true,
      fault: objection?.fault,
    }
  }

  #objection(socket: TLSSocket, { certificate, names }: Shown, host: string | undefined): Objection | undefined {
    if (host !== undefined && !namesHost(names, host)) return { refusal: 'host' }
    const fault = this.#chain ? this.#chainFault(socket, { certificate, names }) : undefined
    if (fault !== undefined) return { refusal: 'untrusted', fault }
    if (this.#names !== undefined && !this.#names(names, certificate)) return { refusal: 'san' }
    if (this.#validation?.svid === true && names.uri.length !== 1) return { refusal: 'san' }
    return this.#pinned(certificate) ? undefined : { refusal: 'pin' }
  }

  #chainFault(socket: TLSSocket, shown: Shown): string | undefined {
    const { certificate } = shown
    const timeless = this.#validation?.allowExpired === true
    if (!socket.authorized) {
      // The runtime tells one fault only, and a wrong time hides all others.
      const result = socket.authorizationError as unknown as string | null
      if (!timeless || !TIME_FAULTS.has(result ?? '')) return result ?? UNTRUSTED
      const fault = this.#timelessFault(shown)
      if (fault !== undefined) return fault
    } else if (!timeless && expired(certificate)) return 'CERT_HAS_EXPIRED'
    return this.#pathFault(shown) ?? this.#revocations?.fault(certificate)
  }

  /** What the runtime does not look at. */
  #pathFault(shown: Shown): string | undefined {
    const { maxDepth } = this.#validation ?? {}
    if (this.#domains === undefined && maxDepth === undefined) return undefined
    const path = this.#authoritiesFor(shown)?.path(shown.certificate, shownChain(shown.certificate))
    if (path === undefined) return UNTRUSTED
    return maxDepth !== undefined && path.depth > maxDepth ? 'CERT_CHAIN_TOO_LONG' : undefined
  }

  /** All that is wrong with a chain besides its time. */
  #timelessFault(shown: Shown): string | undefined {
    try {
      const path = this.#authoritiesFor(shown)?.path(shown.certificate, shownChain(shown.certificate))
      if (path === undefined || !timelessPath(path, this.#purpose)) return UNTRUSTED
      return this.#pathRevocations?.fault(path.certificates)
    } catch {
      return UNTRUSTED
    }
  }

  /** A SPIFFE ID names the trust domain whose authorities count, and is the only URI (X509-SVID §2). */
  #authoritiesFor({ names }: Shown): Authorities | undefined {
    if (this.#domains === undefined) return this.#authorities
    const [id, ...others] = names.uri
    if (id === undefined || others.length > 0) return undefined
    const domain = /^spiffe:\/\/([a-z0-9._-]+)(?:\/|$)/.exec(id)
    return domain === null ? undefined : this.#domains.get(domain[1])
  }

  #pinned(certificate: X509Certificate): boolean {
    if (this.#hashes.size + this.#spkis.size === 0) return true
    if (this.#hashes.has(fingerprint(certificate.fingerprint256))) return true
    return this.#spkis.size > 0 && this.#spkis.has(spkiPin(certificate))
  }
}

const TIME_FAULTS: ReadonlySet<string> = new Set(['CERT_HAS_EXPIRED', 'CERT_NOT_YET_VALID'])

function byDomain(domains: readonly TrustDomainConfig[]): ReadonlyMap<string, Authorities> {
  return new Map(domains.map(({ name, trustedCa }) => [name, new Authorities(pemBlocks(trustedCa, CERTIFICATE_LABEL))]))
}

/** The runtime has looked when the session began, which through resumption upon resumption may be long ago. */
function expired(certificate: X509Certificate): boolean {
  return certificate.validToDate.getTime() < systemClock.wall()
}

/** SHA-256 of the key of a certificate, base64, as pins are written. */
export function spkiPin(certificate: X509Certificate): string {
  return createHash('sha256')
    .update(certificate.publicKey.export({ type: 'spki', format: 'der' }))
    .digest('base64')
}

/** One of the names of a certificate must match one of these. Exact DNS names understand a certificate's wildcards. */
export function compileSans(
  sans: readonly SanMatchConfig[],
): (names: CertificateNames, certificate?: X509Certificate) => boolean {
  const tests = sans.map(compileSan)
  return (names, certificate) => tests.some((test) => test(names, certificate))
}

function compileSan({
  type,
  oid,
  match,
}: SanMatchConfig): (names: CertificateNames, certificate?: X509Certificate) => boolean {
  if (match.kind === 'exact' && type === 'dns') {
    return (names) => names.dns.some((pattern) => dnsNameMatches(match.value, pattern))
  }
  const test = compileString(
    match.kind === 'exact' && type === 'ip' ? { ...match, value: plainIp(match.value) } : match,
  )
  if (type !== 'other') return (names) => names[type].some(test)
  return (_, certificate) =>
    certificate !== undefined &&
    otherNames(certificate.raw).some((name) => name.oid === oid && name.value !== undefined && test(name.value))
}
