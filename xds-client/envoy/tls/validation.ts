import type { FieldReader } from '../../../lib/core/field-reader.ts'
import type { CertificateValidationConfig, SanMatchConfig } from '../../../lib/tls/config.ts'
import type { EnvoyContext } from '../context.ts'
import { readDataSource } from '../data-source.ts'
import { refuseTrue, WHY } from '../refusals.ts'
import { translateStringMatch } from '../string-match.ts'

/** What Envoy allows of a chain where nothing is said. */
const MAX_DEPTH = 100

/** Other ways to say whom to trust. */
const REFUSED: readonly (readonly [field: string, why: string])[] = [
  ['ca_certificate_provider_instance', WHY.certificateProviders],
  ['verify_certificate_spki', 'pinning public keys is not available'],
  ['verify_certificate_hash', 'pinning certificates is not available'],
  ['custom_validator_config', 'certificate validators are not available'],
]

const SAN_TYPES: ReadonlyMap<string, SanMatchConfig['type']> = new Map([
  ['DNS', 'dns'],
  ['URI', 'uri'],
  ['EMAIL', 'email'],
  ['IP_ADDRESS', 'ip'],
])

const ALL_TYPES: readonly SanMatchConfig['type'][] = ['dns', 'uri', 'email', 'ip']

/**
 * `CertificateValidationContext`; undefined where it trusts nobody in particular, which in Envoy means that nothing is
 * verified. Everything that narrows whom to trust is honoured or refused.
 */
export function translateValidation(
  reader: FieldReader,
  context: EnvoyContext,
): CertificateValidationConfig | undefined {
  // The list of authorities that a server sends is a hint; files are read once.
  reader.ignore('watched_directory', 'suppress_client_ca_list')
  refuseUnavailable(reader)
  const trustedCa = readPem(reader, 'trusted_ca', context)
  const system = reader.message('system_root_certs') !== undefined
  const systemRoots = system && !reader.has('trusted_ca')
  const crl = readPem(reader, 'crl', context)
  const sans = translateSans(reader)
  const acceptUntrusted = reader.enumName('trust_chain_verification') === 'ACCEPT_UNTRUSTED'
  const provided = REFUSED.some(([field]) => reader.has(field))
  if (trustedCa === undefined && !systemRoots && sans.length === 0 && crl === undefined) return undefined
  return {
    ...(trustedCa !== undefined && { trustedCa }),
    systemRoots,
    // What is refused already could have been what names need.
    sans: provided ? [] : sans,
    acceptUntrusted,
    ...(crl !== undefined && { crl }),
  }
}

/** Whether certificates are verified against any authorities. */
export function hasAuthorities(validation: CertificateValidationConfig | undefined): boolean {
  return validation !== undefined && (validation.trustedCa !== undefined || validation.systemRoots)
}

function refuseUnavailable(reader: FieldReader): void {
  for (const [field, why] of REFUSED) reader.refuse(field, why)
  refuseTrue(reader, 'require_signed_certificate_timestamp', 'certificate transparency is not available')
  refuseTrue(reader, 'allow_expired_certificate', 'is not available: certificates that have expired are never accepted')
  refuseTrue(reader, 'only_verify_leaf_cert_crl', 'is not available: with a CRL all of the chain is checked')
  const depth = reader.number('max_verify_depth') ?? MAX_DEPTH
  if (depth < MAX_DEPTH) reader.error('max_verify_depth', 'limiting the length of a chain is not available')
}

function readPem(reader: FieldReader, field: string, context: EnvoyContext): string | undefined {
  const bytes = readDataSource(reader.message(field), context)
  if (bytes === undefined || bytes.length > 0) return bytes?.toString('utf8')
  reader.error(field, 'is empty')
  return undefined
}

/** The deprecated list takes a name of any type, and is without effect beside the typed one. */
function translateSans(reader: FieldReader): SanMatchConfig[] {
  const typed = reader.messages('match_typed_subject_alt_names')
  if (typed.length > 0) {
    reader.ignore('match_subject_alt_names')
    return typed.map(translateSan).filter((san) => san !== undefined)
  }
  return reader.messages('match_subject_alt_names').flatMap((entry) => {
    const match = translateStringMatch(entry)
    return ALL_TYPES.map((type) => ({ type, match }))
  })
}

function translateSan(reader: FieldReader): SanMatchConfig | undefined {
  const name = reader.enumName('san_type')
  const type = SAN_TYPES.get(name)
  const match = translateStringMatch(reader.message('matcher'))
  if (type !== undefined) {
    reader.refuse('oid', 'belongs to OTHER_NAME')
    return { type, match }
  }
  reader.ignore('oid')
  if (name === 'OTHER_NAME') reader.error('san_type', 'OTHER_NAME is not available')
  return undefined
}
