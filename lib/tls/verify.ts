import type { X509Certificate } from 'node:crypto'
import type { TLSSocket } from 'node:tls'
import { systemClock } from '../core/clock.ts'
import type { TlsPeer } from '../core/connection.ts'
import { compileString } from '../match/string.ts'
import type { CertificateValidationConfig, SanMatchConfig } from './config.ts'
import { verifiesChain } from './context.ts'
import { type CertificateNames, certificateNames, dnsNameMatches, namesHost, plainIp, subjectText } from './names.ts'

/** Why a peer is refused. `host`: its certificate does not name the host that was asked for. */
export type Refusal = 'no-certificate' | 'untrusted' | 'san' | 'host'

/** What a finished handshake says of the peer. Exactly one of `refusal` and the right to go on. */
export interface PeerVerdict {
  readonly refusal: Refusal | undefined
  /** Only of a certificate that was verified. */
  readonly peer: TlsPeer | undefined
  /** The peer showed a certificate, verified or not. */
  readonly certified: boolean
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

/**
 * Judges peers after the handshake. Node lets every handshake finish and keeps the result of the chain check, so that a
 * refusal is a close and not an alert.
 */
export class PeerVerifier {
  /** Peers are asked for certificates. */
  readonly asks: boolean
  readonly #chain: boolean
  readonly #acceptUntrusted: boolean
  readonly #names: ((names: CertificateNames) => boolean) | undefined

  /** @throws Error for a regex that RE2 refuses; `checkTls` finds it before. */
  constructor(validation: CertificateValidationConfig | undefined) {
    this.#chain = verifiesChain(validation)
    this.#acceptUntrusted = validation?.acceptUntrusted === true
    this.asks = this.#chain || this.#acceptUntrusted
    const sans = validation?.sans ?? []
    this.#names = sans.length === 0 ? undefined : compileSans(sans)
  }

  /**
   * Reads the certificate once. A resumed session carries the certificate and the verdict on its chain from the
   * handshake that began it; `authorized` alone says nothing there, as a session without a certificate has it too.
   */
  judge(socket: TLSSocket, demands: PeerDemands): PeerVerdict {
    const certificate = socket.getPeerX509Certificate()
    if (certificate === undefined) {
      const refused = demands.certificate || demands.host !== undefined
      return { refusal: refused ? 'no-certificate' : undefined, peer: undefined, certified: false }
    }
    const names = certificateNames(certificate)
    const refusal = this.#refusal(socket, { certificate, names }, demands.host)
    const verified = this.#chain && refusal === undefined
    // A host that was asked for by name is not among what `acceptUntrusted` forgives.
    const pardoned = this.#acceptUntrusted && refusal !== 'host'
    return {
      refusal: pardoned ? undefined : refusal,
      peer: verified ? peerOf(certificate, names) : undefined,
      certified: true,
    }
  }

  #refusal(socket: TLSSocket, { certificate, names }: Shown, host: string | undefined): Refusal | undefined {
    if (host !== undefined && !namesHost(names, host)) return 'host'
    if (this.#chain && (!socket.authorized || expired(certificate))) return 'untrusted'
    if (this.#names !== undefined && !this.#names(names)) return 'san'
    return undefined
  }
}

/** The runtime has looked when the session began, which through resumption upon resumption may be long ago. */
function expired(certificate: X509Certificate): boolean {
  return certificate.validToDate.getTime() < systemClock.wall()
}

function peerOf(certificate: X509Certificate, names: CertificateNames): TlsPeer {
  return {
    subject: subjectText(certificate.subject),
    uriSans: names.uri,
    dnsSans: names.dns,
    // As Envoy prints it: hexadecimal digits alone.
    sha256: certificate.fingerprint256.replaceAll(':', '').toLowerCase(),
  }
}

/** One of the names of a certificate must match one of these. Exact DNS names understand a certificate's wildcards. */
export function compileSans(sans: readonly SanMatchConfig[]): (names: CertificateNames) => boolean {
  const tests = sans.map(compileSan)
  return (names) => tests.some((test) => test(names))
}

function compileSan({ type, match }: SanMatchConfig): (names: CertificateNames) => boolean {
  if (match.kind === 'exact' && type === 'dns') {
    return (names) => names.dns.some((pattern) => dnsNameMatches(match.value, pattern))
  }
  const test = compileString(
    match.kind === 'exact' && type === 'ip' ? { ...match, value: plainIp(match.value) } : match,
  )
  return (names) => names[type].some(test)
}
