import { createHash, hkdfSync, X509Certificate } from 'node:crypto'
import type { CertificateValidationConfig, DownstreamTlsConfig } from './config.ts'
import { needsChain } from './context.ts'
import { CERTIFICATE_LABEL, CRL_LABEL, pemBlocks } from './pem.ts'
import { listUntilMs } from './revocation.ts'

/** Keys of our own live for a day, and open tickets for another: whoever learns one can read no older TLS 1.2 sessions. */
const EPOCH_MS = 86_400_000
const TICKET_KEY_BYTES = 48
const NAME_BYTES = 16
/** Of a key in a configuration, as Envoy and others write them to files. */
export const TICKET_KEY_FILE_BYTES = 80

/** A key for tickets; the runtime's name for it is at its start, and in the clear in each ticket. */
export interface TicketKey {
  /** Hexadecimal. */
  readonly name: string
  readonly key: Buffer
}

/**
 * Keeps tickets within the context that gave them. Two servers with equal keys and session contexts would accept each
 * other's tickets, and with them peers that one of them has never asked for a certificate. So both are derived from what
 * decides who is let in: authorities, names, revocations, whether a certificate is required, the names served, ALPN. A
 * new certificate for the same names keeps the tickets. A session keeps the verdict that it began with, so keys also
 * change when an authority or a revocation list of the configuration expires: the verdict may be another from then on.
 */
export class TicketIdentity {
  /** Hexadecimal, 32 characters: what a session context may hold at most. */
  readonly sessionContext: string
  /** Clients get tickets at all. */
  readonly given: boolean
  readonly #secret: Uint8Array
  readonly #context: Buffer
  readonly #configured: readonly Uint8Array[] | undefined
  /** When what verdicts rest on expires, ms since the epoch, in order. */
  readonly #deadlines: readonly number[]
  /** The last answer of `keys`, and what it was made for. */
  #epoch = -1
  #expired = -1
  #keys: readonly TicketKey[] = []

  /** `secret`: at least 32 bytes, shared by all workers of a gateway, so that each can open the others' tickets. */
  constructor(config: DownstreamTlsConfig, servedNames: readonly string[], secret: Uint8Array) {
    const { validation, requireClientCertificate, alpn } = config
    const admission = JSON.stringify([validation ?? null, requireClientCertificate, alpn, servedNames])
    this.#context = createHash('sha256').update(admission).digest()
    this.sessionContext = this.#context.toString('hex', 0, 16)
    this.#secret = secret
    this.given = config.sessionTickets && !needsChain(validation)
    this.#configured = config.ticketKeys?.map((key) => Buffer.from(key, 'base64'))
    this.#deadlines = this.given ? deadlinesOf(validation) : []
  }

  /**
   * The keys in force: the first makes tickets, the others open older ones. Those of the configuration, else one of our
   * own for today and the one of yesterday. The same array as long as they are the same.
   */
  keys(wallMs: number): readonly TicketKey[] {
    const configured = this.#configured
    const epoch = configured === undefined ? Math.floor(wallMs / EPOCH_MS) : 0
    const deadlines = this.#deadlines
    let expired = 0
    while (expired < deadlines.length && deadlines[expired] < wallMs) expired++
    if (epoch !== this.#epoch || expired !== this.#expired) {
      this.#epoch = epoch
      this.#expired = expired
      this.#keys =
        configured === undefined
          ? [epoch, epoch - 1].map((one) => this.#derive(this.#secret, `${one} ${expired}`))
          : configured.map((key) => this.#derive(key, `configured ${expired}`))
    }
    return this.#keys
  }

  #derive(secret: Uint8Array, what: string): TicketKey {
    const key = Buffer.from(hkdfSync('sha256', secret, this.#context, `tls session tickets ${what}`, TICKET_KEY_BYTES))
    return { name: key.toString('hex', 0, NAME_BYTES), key }
  }
}

function deadlinesOf(validation: CertificateValidationConfig | undefined): readonly number[] {
  const { trustedCa = '', crl = '' } = validation ?? {}
  const anchors = pemBlocks(trustedCa, CERTIFICATE_LABEL).map((pem) => new X509Certificate(pem).validToDate.getTime())
  const lists = [...pemBlocks(trustedCa, CRL_LABEL), ...pemBlocks(crl, CRL_LABEL)].map(listUntilMs)
  return [...anchors, ...lists].filter(Number.isFinite).sort((a, b) => a - b)
}
