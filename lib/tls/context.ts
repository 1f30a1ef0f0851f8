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

/** Whether peers are checked against authorities at all. Envoy: without them a validation context verifies nothing. */
export function verifiesChain(validation: CertificateValidationConfig | undefined): boolean {
  return validation !== undefined && (validation.trustedCa !== undefined || validation.systemRoots)
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
    honorCipherOrder: true,
    secureOptions:
      'sessionTickets' in config && !config.sessionTickets
        ? NO_RENEGOTIATION | constants.SSL_OP_NO_TICKET
        : NO_RENEGOTIATION,
  }
  if (certificates.length > 0) {
    options.cert = certificates.map((certificate) => certificate.certificateChain)
    options.key = certificates.map(({ privateKey, passphrase }) => ({ pem: privateKey, passphrase }))
  }
  if (cipherSuites !== undefined && cipherSuites.length > 0) options.ciphers = cipherList(cipherSuites)
  const groups = groupList(config.groups)
  if (groups !== undefined) options.ecdhCurve = groups
  const lists = revocationLists(validation)
  if (lists.length > 0) options.crl = lists
  return options
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
  if (validation === undefined) return []
  const { trustedCa = '', crl = '' } = validation
  return [...pemBlocks(trustedCa, CRL_LABEL), ...pemBlocks(crl, CRL_LABEL)]
}

function authorities(validation: CertificateValidationConfig | undefined): string[] {
  if (validation === undefined) return []
  const own = validation.trustedCa === undefined ? [] : pemBlocks(validation.trustedCa, CERTIFICATE_LABEL)
  return validation.systemRoots ? [...systemRoots(), ...own] : own
}

function systemRoots(): string[] {
  const system = getCACertificates('system')
  // Minimal images have no store of their own.
  return system.length > 0 ? system : getCACertificates('bundled')
}
