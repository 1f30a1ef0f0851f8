import type { DownstreamTlsConfig, SanMatchConfig, UpstreamTlsConfig } from './config.ts'

/** What a workload of a mesh shows, and whom it believes; all PEM. */
export interface MeshMaterial {
  /** The workload's certificate first. */
  readonly certificateChain: string
  readonly privateKey: string
  /** Authorities of all trust domains that may be met. */
  readonly trustedCa: string
}

/** Post-quantum first, as everywhere. */
const GROUPS: readonly string[] = Object.freeze(['X25519MLKEM768', 'X25519', 'P-256'])
const COMMON = Object.freeze({ minVersion: 'TLSv1.2', maxVersion: 'TLSv1.3', groups: GROUPS } as const)
const HANDSHAKE_MS = 10_000

/** The name of a trust domain: lower case, no port (SPIFFE ID §2.1). */
export const TRUST_DOMAIN: RegExp = /^[a-z0-9._-]{1,255}$/
/** The identity of a workload: a trust domain and a path of plain segments (SPIFFE ID §2.2). */
export const SPIFFE_ID: RegExp = /^spiffe:\/\/[a-z0-9._-]{1,255}(?:\/(?!\.{1,2}(?:\/|$))[A-Za-z0-9._-]+)+$/

/**
 * The client side of HBONE: no server name, no resumption, and the peer must be one of these SPIFFE identities.
 *
 * @param identities `spiffe://...`; none: any that the authorities have issued.
 */
export function meshClientTls(material: MeshMaterial, identities: readonly string[]): UpstreamTlsConfig {
  return {
    ...COMMON,
    certificates: [ownCertificate(material)],
    alpn: ['h2'],
    sni: '',
    autoSni: 'none',
    autoSanValidation: false,
    maxSessionKeys: 0,
    validation: validation(
      material,
      identities.map((value) => ({ type: 'uri', match: { kind: 'exact', value } })),
    ),
  }
}

/**
 * The server side: clients show a certificate whose one URI is a SPIFFE identity of one of these trust domains
 * (`cluster.local`), or are refused.
 */
export function meshServerTls(material: MeshMaterial, trustDomains: readonly string[]): DownstreamTlsConfig {
  return {
    ...COMMON,
    certificates: [ownCertificate(material)],
    alpn: ['h2'],
    requireClientCertificate: true,
    handshakeTimeoutMs: HANDSHAKE_MS,
    sessionTickets: false,
    validation: validation(
      material,
      trustDomains.map((name) => ({ type: 'uri', match: { kind: 'prefix', value: `spiffe://${name}/` } })),
    ),
  }
}

function ownCertificate({ certificateChain, privateKey }: MeshMaterial): UpstreamTlsConfig['certificates'][number] {
  return { certificateChain, privateKey }
}

function validation(
  { trustedCa }: MeshMaterial,
  sans: readonly SanMatchConfig[],
): NonNullable<UpstreamTlsConfig['validation']> {
  return { trustedCa, systemRoots: false, acceptUntrusted: false, sans, svid: true }
}
