import type { FieldReader } from '../../../lib/core/field-reader.ts'
import type { TlsProblem } from '../context.ts'

/** Where the parts of a TLS context were written. */
export interface TlsPlaces {
  readonly around: FieldReader
  readonly common: FieldReader | undefined
  readonly parameters: FieldReader | undefined
  /** Of the certificates that the IR has. */
  readonly certificates: readonly FieldReader[]
  /** There were others, which are refused: what their absence leads to is no news. */
  readonly certificatesRefused: boolean
  readonly validation: FieldReader | undefined
}

type Place = readonly [reader: FieldReader | undefined, field: string]

const CERTIFICATE_FIELDS: Readonly<Record<string, string>> = {
  certificateChain: 'certificate_chain',
  privateKey: 'private_key',
  passphrase: 'password',
  ocspStaple: 'ocsp_staple',
}

const VALIDATION_FIELDS: Readonly<Record<string, string>> = {
  trustedCa: 'trusted_ca',
  systemRoots: 'system_root_certs',
  sans: 'match_typed_subject_alt_names',
  crl: 'crl',
  hashes: 'verify_certificate_hash',
  spkis: 'verify_certificate_spki',
  maxDepth: 'max_verify_depth',
  allowExpired: 'allow_expired_certificate',
  trustDomains: 'custom_validator_config',
}

const PARAMETER_FIELDS: Readonly<Record<string, string>> = {
  cipherSuites: 'cipher_suites',
  groups: 'ecdh_curves',
  signatureAlgorithms: 'signature_algorithms',
  minVersion: 'tls_minimum_protocol_version',
  maxVersion: 'tls_maximum_protocol_version',
}

/** Records what is wrong with a TLS context at the fields it was read from. */
export function reportProblems(problems: readonly TlsProblem[], places: TlsPlaces): void {
  for (const { path, message } of problems) {
    if (path === 'certificates' && places.certificatesRefused) continue
    const [reader, field] = placeOf(path, places)
    if (reader === undefined) places.around.error(undefined, message)
    else reader.error(field, message)
  }
}

/** Steps of a path such as `certificates[0].privateKey`. */
function placeOf(path: string, places: TlsPlaces): Place {
  const [first, second = '', third = ''] = path.split(/[.[\]]+/)
  if (path === 'certificates') return [places.common, 'tls_certificates']
  if (first === 'certificates') {
    const field = CERTIFICATE_FIELDS[third]
    return [places.certificates[Number(second)], field ?? 'certificate_chain']
  }
  if (path.startsWith('validation.sans') && !places.validation?.has('match_typed_subject_alt_names')) {
    return [places.validation, 'match_subject_alt_names']
  }
  if (first === 'validation') return [places.validation, VALIDATION_FIELDS[second] ?? 'trusted_ca']
  if (first === 'ticketKeys') {
    return places.around.typeName.endsWith('.TlsSessionTicketKeys')
      ? [places.around, 'keys']
      : [places.around, 'session_ticket_keys']
  }
  if (first === 'keyLog') return [places.common, 'key_log']
  if (first === 'alpn') return [places.common, 'alpn_protocols']
  const parameter = PARAMETER_FIELDS[first]
  return parameter === undefined ? [undefined, ''] : [places.parameters, parameter]
}
