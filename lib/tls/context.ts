import { constants } from 'node:crypto'
import { createSecureContext, getCACertificates, type SecureContext, type SecureContextOptions } from 'node:tls'
import { cipherList } from './cipher-suites.ts'
import type {
  CertificateConfig,
  CertificateValidationConfig,
  DownstreamTlsConfig,
  UpstreamTlsConfig,
} from './config.ts'
import { groupList } from './groups.ts'
import { CERTIFICATE_LABEL, CRL_LABEL, pemBlocks } from './pem.ts'

/** The runtime lets either side of TLS 1.2 renegotiate: other certificates could come after they were judged. */
const NO_RENEGOTIATION = constants.SSL_OP_NO_RENEGOTIATION

/** Whether peers are checked against authorities at all. Envoy: without them a validation context verifies no chain. */
export function verifiesChain(validation: CertificateValidationConfig | undefined): boolean {
  if (validation === undefined) return false
  return validation.trustedCa !== undefined || validation.systemRoots || validation.trustDomains !== undefined
}

/** Whether the checks of a configuration look at more than the peer's own certificate. */
export function needsChain(validation: CertificateValidationConfig | undefined): boolean {
  if (validation === undefined) return false
  const { maxDepth, allowExpired, trustDomains } = validation
  return maxDepth !== undefined || allowExpired === true || trustDomains !== undefined
}

/** Whether a peer that is let in is known: by its chain, or since its very certificate or key is listed. */
export function identifiesPeers(validation: CertificateValidationConfig | undefined): boolean {
  const { hashes = [], spkis = [] } = validation ?? {}
  return verifiesChain(validation) || hashes.length + spkis.length > 0
}

/**
 * What `tls.createSecureContext` needs for a configuration, with these of its certificates.
 *
 * @throws Error where the configuration has not passed `checkTls`.
 */
export function contextOptions(
  config: DownstreamTlsConfig | UpstreamTlsConfig,
  certificates: readonly CertificateConfig[] = config.certificates,
): SecureContextOptions {
  const { validation, cipherSuites } = config
  const options: SecureContextOptions = {
    minVersion: config.minVersion,
    maxVersion: config.maxVersion,
    // An empty list, and not undefined, which would load all roots of the runtime.
    ca: authorities(validation),
    // An intermediate authority may be an anchor, as in Envoy.
    allowPartialTrustChain: true,
    honorCipherOrder: !('preferClientCiphers' in config && config.preferClientCiphers === true),
    secureOptions: givesTickets(config) ? NO_RENEGOTIATION : NO_RENEGOTIATION | constants.SSL_OP_NO_TICKET,
  }
  if (config.signatureAlgorithms !== undefined) options.sigalgs = config.signatureAlgorithms.join(':')
  if (certificates.length > 0) {
    options.cert = certificates.map((certificate) => certificate.certificateChain)
    options.key = certificates.map(({ privateKey, passphrase }) => ({ pem: privateKey, passphrase }))
  }
  const suites = cipherSuites !== undefined && cipherSuites.length > 0 ? cipherSuites : defaultSuites(config)
  if (suites !== undefined) options.ciphers = cipherList(suites)
  const groups = groupList(config.groups)
  if (groups !== undefined) options.ecdhCurve = groups
  const lists = revocationLists(validation)
  if (lists.length > 0) options.crl = lists
  return options
}

/** Clients get tickets as always. Servers give none where a verdict needs more of a peer than resumption shows. */
function givesTickets(config: DownstreamTlsConfig | UpstreamTlsConfig): boolean {
  return !('sessionTickets' in config) || (config.sessionTickets && !needsChain(config.validation))
}

/** Of TLS 1.2, for servers: forward secrecy and AEAD, as in Envoy. The runtime's own list still has CBC in it. */
const SERVER_SUITES: readonly string[] = Object.freeze([
  'ECDHE-ECDSA-AES128-GCM-SHA256',
  'ECDHE-RSA-AES128-GCM-SHA256',
  'ECDHE-ECDSA-CHACHA20-POLY1305',
  'ECDHE-RSA-CHACHA20-POLY1305',
  'ECDHE-ECDSA-AES256-GCM-SHA384',
  'ECDHE-RSA-AES256-GCM-SHA384',
])

function defaultSuites(config: DownstreamTlsConfig | UpstreamTlsConfig): readonly string[] | undefined {
  return 'requireClientCertificate' in config ? SERVER_SUITES : undefined
}

/** As `contextOptions`, made. */
export function secureContext(
  config: DownstreamTlsConfig | UpstreamTlsConfig,
  certificates?: readonly CertificateConfig[],
): SecureContext {
  return createSecureContext(contextOptions(config, certificates))
}

/**
 * One by one, since the runtime reads only the first of a PEM. Lists among the authorities count, as in Envoy: whoever
 * put them there wants them obeyed.
 */
export function revocationLists(validation: CertificateValidationConfig | undefined): string[] {
  if (validation === undefined || validation.leafCrlOnly === true) return []
  const { trustedCa = '', crl = '' } = validation
  return [...pemBlocks(trustedCa, CRL_LABEL), ...pemBlocks(crl, CRL_LABEL)]
}

/** PEM of each authority that is trusted, those of the system included. */
export function authorities(validation: CertificateValidationConfig | undefined): string[] {
  if (validation === undefined) return []
  const { trustedCa = '', trustDomains = [] } = validation
  const own = pemBlocks([trustedCa, ...trustDomains.map((domain) => domain.trustedCa)].join('\n'), CERTIFICATE_LABEL)
  return validation.systemRoots ? [...systemRoots(), ...own] : own
}

function systemRoots(): string[] {
  const system = getCACertificates('system')
  // Minimal images have no store of their own.
  return system.length > 0 ? system : getCACertificates('bundled')
}
