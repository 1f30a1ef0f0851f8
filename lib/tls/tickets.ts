import { createHash, hkdfSync } from 'node:crypto'
import type { DownstreamTlsConfig } from './config.ts'

/** Ticket keys live for a day: whoever learns one can read no older TLS 1.2 sessions than that. */
const EPOCH_MS = 86_400_000
const TICKET_KEY_BYTES = 48

/**
 * Keeps tickets within the context that gave them. Two servers with equal keys and session contexts would accept each
 * other's tickets, and with them peers that one of them has never asked for a certificate. So both are derived from what
 * decides who is let in: authorities, names, revocations, whether a certificate is required, the names served, ALPN. A
 * new certificate for the same names keeps the tickets.
 */
export class TicketIdentity {
  /** Hexadecimal, 32 characters: what a session context may hold at most. */
  readonly sessionContext: string
  readonly #secret: Uint8Array
  readonly #context: Buffer

  /** `secret`: at least 32 bytes, shared by all workers of a gateway, so that each can open the others' tickets. */
  constructor(config: DownstreamTlsConfig, servedNames: readonly string[], secret: Uint8Array) {
    const { validation, requireClientCertificate, alpn } = config
    const admission = JSON.stringify([validation ?? null, requireClientCertificate, alpn, servedNames])
    this.#context = createHash('sha256').update(admission).digest()
    this.sessionContext = this.#context.toString('hex', 0, 16)
    this.#secret = secret
  }

  /** Which keys are in force; they change when this number does. */
  epoch(wallMs: number): number {
    return Math.floor(wallMs / EPOCH_MS)
  }

  keys(epoch: number): Buffer {
    const info = `tls session tickets ${epoch}`
    return Buffer.from(hkdfSync('sha256', this.#secret, this.#context, info, TICKET_KEY_BYTES))
  }
}
