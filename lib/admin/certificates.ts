import { X509Certificate } from 'node:crypto'
import type { FilterChainConfig } from '../config/listener.ts'
import type { GatewayConfig } from '../config/model.ts'
import type { Json, JsonObject } from '../core/errors.ts'
import type { CertificateConfig, DownstreamTlsConfig, UpstreamTlsConfig } from '../tls/config.ts'
import { certificateNames } from '../tls/names.ts'
import { parseOcspResponse } from '../tls/ocsp.ts'
import { CERTIFICATE_LABEL, pemBlocks } from '../tls/pem.ts'
import type { ClusterConfig, TransportConfig } from '../upstream/config.ts'
import { type DumpNode, jsonNode, writeNode } from './dump/node.ts'
import { Pace } from './dump/pace.ts'
import type { AdminAnswer, AdminRequest } from './endpoint.ts'

type TlsConfig = DownstreamTlsConfig | UpstreamTlsConfig

const DAY_MS = 86_400_000
/** The configuration has the certificates themselves, wherever they came from. */
const INLINE = '<inline>'

/**
 * Envoy's `/certs` (`envoy.admin.v3.Certificates`): of every TLS context of listeners and clusters the authorities that it
 * trusts and the certificates that it shows. Contexts with the same certificates appear once.
 */
export function certs({ backend }: AdminRequest): AdminAnswer {
  const config = backend.configuration()?.config
  const items = config === undefined ? [] : contextNodes(config)
  const body = writeNode({ kind: 'object', fields: [['certificates', { kind: 'list', items }]] }, new Pace())
  return { status: 200, type: 'application/json', body }
}

function* contextNodes(config: GatewayConfig): Generator<DumpNode, void, void> {
  const seen = new Set<string>()
  for (const tls of contexts(config)) {
    const { certificates, validation } = tls
    const authorities = [validation?.trustedCa, ...(validation?.trustDomains ?? []).map((domain) => domain.trustedCa)]
    const key = JSON.stringify([authorities, certificates.map((c) => [c.certificateChain, c.ocspStaple])])
    if (seen.has(key) || (certificates.length === 0 && authorities.every((pem) => pem === undefined))) continue
    seen.add(key)
    yield jsonNode(() => ({
      ca_cert: authorities.flatMap((pem) => details(pem ?? '')),
      cert_chain: certificates.flatMap(leafDetails),
    }))
  }
}

function* contexts({ listeners, clusters }: GatewayConfig): Generator<TlsConfig, void, void> {
  for (const { filterChains, defaultFilterChain } of listeners) {
    const chains: readonly (FilterChainConfig | undefined)[] = [...filterChains, defaultFilterChain]
    for (const chain of chains) if (chain?.tls !== undefined) yield chain.tls
  }
  for (const cluster of clusters) for (const transport of transports(cluster)) yield* transportContexts(transport)
}

function transports(cluster: ClusterConfig): readonly TransportConfig[] {
  return [cluster, ...(cluster.transportMatches ?? []).map(({ transport }) => transport)]
}

function* transportContexts({ tls, layers = [] }: TransportConfig): Generator<TlsConfig, void, void> {
  if (tls !== undefined) yield tls
  for (const layer of layers) {
    if (layer.kind !== 'hbone') continue
    yield layer.tls
    if (layer.gateway !== undefined) yield layer.gateway.tls
  }
}

/** Of a chain the certificate itself. */
function leafDetails({ certificateChain, ocspStaple }: CertificateConfig): JsonObject[] {
  const [leaf] = details(certificateChain)
  if (leaf === undefined) return []
  if (ocspStaple !== undefined) {
    const ocsp = ocspDetails(ocspStaple)
    if (ocsp !== undefined) leaf.ocsp_details = ocsp
  }
  return [leaf]
}

function details(pem: string): JsonObject[] {
  return pemBlocks(pem, CERTIFICATE_LABEL).flatMap((block) => {
    try {
      return [certificateDetails(new X509Certificate(block))]
    } catch {
      return []
    }
  })
}

/** `envoy.admin.v3.CertificateDetails` */
function certificateDetails(certificate: X509Certificate): JsonObject {
  const { validFromDate, validToDate } = certificate
  const names = certificateNames(certificate)
  const left = Math.floor((validToDate.getTime() - Date.now()) / DAY_MS)
  const out: Record<string, Json> = { path: INLINE, serial_number: certificate.serialNumber.toLowerCase() }
  const alternatives: JsonObject[] = [
    ...names.dns.map((dns) => ({ dns })),
    ...names.uri.map((uri) => ({ uri })),
    ...names.ip.map((ip) => ({ ip_address: ip })),
  ]
  if (alternatives.length > 0) out.subject_alt_names = alternatives
  out.days_until_expiration = String(Math.max(0, left))
  out.valid_from = timeText(validFromDate)
  out.expiration_time = timeText(validToDate)
  return out
}

function ocspDetails(staple: string): JsonObject | undefined {
  try {
    const { fromMs, untilMs } = parseOcspResponse(Buffer.from(staple, 'base64'))
    const out: JsonObject = { valid_from: timeText(new Date(fromMs)) }
    if (Number.isFinite(untilMs)) out.expiration = timeText(new Date(untilMs))
    return out
  } catch {
    // The configuration would have been refused.
    return undefined
  }
}

function timeText(date: Date): string {
  return date.toISOString().replace('.000Z', 'Z')
}
