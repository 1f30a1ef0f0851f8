import { TLS_GROUPS } from '../../../lib/config/defaults.ts'
import type { FieldReader } from '../../../lib/core/field-reader.ts'
import type { TlsVersion } from '../../../lib/tls/config.ts'
import type { CommonTls } from './contexts.ts'

type Parameters = Pick<CommonTls, 'minVersion' | 'maxVersion' | 'cipherSuites' | 'groups' | 'signatureAlgorithms'>

/** Of TLS 1.3, which Envoy's setting does not cover. */
const SUITES_13 = /\bTLS_(?:AES|CHACHA20)_/

/** What NIST SP 800-52r2 lets pass of what Envoy's library has: its policy of that name, version by version and list by list. */
const FIPS_202205: Parameters = Object.freeze({
  minVersion: 'TLSv1.2',
  maxVersion: 'TLSv1.3',
  cipherSuites: Object.freeze([
    'TLS_AES_128_GCM_SHA256',
    'TLS_AES_256_GCM_SHA384',
    'ECDHE-ECDSA-AES128-GCM-SHA256',
    'ECDHE-RSA-AES128-GCM-SHA256',
    'ECDHE-ECDSA-AES256-GCM-SHA384',
    'ECDHE-RSA-AES256-GCM-SHA384',
  ]),
  groups: Object.freeze(['P-256', 'P-384']),
  signatureAlgorithms: Object.freeze([
    'rsa_pkcs1_sha256',
    'rsa_pkcs1_sha384',
    'rsa_pkcs1_sha512',
    'ecdsa_secp256r1_sha256',
    'ecdsa_secp384r1_sha384',
    'rsa_pss_rsae_sha256',
    'rsa_pss_rsae_sha384',
    'rsa_pss_rsae_sha512',
  ]),
} as const)

const OVERRULED = [
  'tls_minimum_protocol_version',
  'tls_maximum_protocol_version',
  'cipher_suites',
  'ecdh_curves',
  'signature_algorithms',
] as const

/** `TlsParameters`: TLS 1.2 and 1.3 unless it says otherwise, on both sides. */
export function translateParameters(reader: FieldReader | undefined): Parameters {
  if (reader === undefined) return { minVersion: 'TLSv1.2', maxVersion: 'TLSv1.3', groups: TLS_GROUPS }
  const policies = reader.enumNames('compliance_policies')
  const unknown = policies.find((name) => name !== 'FIPS_202205')
  if (unknown !== undefined) reader.error('compliance_policies', `the policy ${unknown} is not available`)
  // A policy goes before all that is said besides, as with Envoy.
  if (policies.length > 0) {
    reader.ignore(...OVERRULED)
    return FIPS_202205
  }
  const cipherSuites = translateSuites(reader)
  const groups = reader.strings('ecdh_curves')
  const signatureAlgorithms = reader.strings('signature_algorithms')
  return {
    minVersion: translateMinimum(reader),
    maxVersion: translateMaximum(reader),
    ...(cipherSuites.length > 0 && { cipherSuites }),
    groups: groups.length > 0 ? groups : TLS_GROUPS,
    ...(signatureAlgorithms.length > 0 && { signatureAlgorithms }),
  }
}

/** Older versions are never spoken: a minimum that lets them in is met by a stricter one, and reported. */
function translateMinimum(reader: FieldReader): TlsVersion {
  const version = reader.enumName('tls_minimum_protocol_version')
  if (version === 'TLSv1_0' || version === 'TLSv1_1') reader.ignore('tls_minimum_protocol_version')
  return version === 'TLSv1_3' ? 'TLSv1.3' : 'TLSv1.2'
}

function translateMaximum(reader: FieldReader): TlsVersion {
  const version = reader.enumName('tls_maximum_protocol_version')
  if (version === 'TLSv1_0' || version === 'TLSv1_1') {
    reader.error('tls_maximum_protocol_version', `${version} is not available: versions before TLS 1.2 are not secure`)
  }
  return version === 'TLSv1_2' ? 'TLSv1.2' : 'TLSv1.3'
}

/** Names by IANA or OpenSSL, several with colons between them, equals as `[A|B]`. */
function translateSuites(reader: FieldReader): string[] {
  const entries = reader.strings('cipher_suites').flatMap((entry) => entry.split(':'))
  const ofTls13 = entries.find((entry) => SUITES_13.test(entry))
  if (ofTls13 === undefined) return entries
  reader.error('cipher_suites', `"${ofTls13}": the suites of TLS 1.3 cannot be chosen`)
  return []
}
