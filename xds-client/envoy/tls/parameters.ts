import { TLS_GROUPS } from '../../../lib/config/defaults.ts'
import type { FieldReader } from '../../../lib/core/field-reader.ts'
import type { TlsVersion } from '../../../lib/tls/config.ts'
import type { CommonTls } from './contexts.ts'

type Parameters = Pick<CommonTls, 'minVersion' | 'maxVersion' | 'cipherSuites' | 'groups' | 'signatureAlgorithms'>

/** Of TLS 1.3, which Envoy's setting does not cover. */
const SUITES_13 = /\bTLS_(?:AES|CHACHA20)_/

/** `TlsParameters`: TLS 1.2 and 1.3 unless it says otherwise, on both sides. */
export function translateParameters(reader: FieldReader | undefined): Parameters {
  if (reader === undefined) return { minVersion: 'TLSv1.2', maxVersion: 'TLSv1.3', groups: TLS_GROUPS }
  reader.refuse('compliance_policies', 'compliance policies are not available')
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
