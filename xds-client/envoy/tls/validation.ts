import type { FieldReader } from '../../../lib/core/field-reader.ts'
import type { CertificateValidationConfig, SanMatchConfig } from '../../../lib/tls/config.ts'
import type { EnvoyContext } from '../context.ts'
import { readDataSource } from '../data-source.ts'
import { refuseTrue, WHY } from '../refusals.ts'
import { translateStringMatch } from '../string-match.ts'
import { watchDirectory } from './certificates.ts'
import { translateValidator } from './spiffe.ts'

/** What Envoy allows of a chain where nothing is said. */
const MAX_DEPTH = 100

/** Other ways to say whom to trust. */
const REFUSED: readonly (readonly [field: string, why: string])[] = [
  ['ca_certificate_provider_instance', WHY.certificateProviders],
]

const SAN_TYPES: ReadonlyMap<string, SanMatchConfig['type']> = new Map([
  ['DNS', 'dns'],
  ['URI', 'uri'],
  ['EMAIL', 'email'],
  ['IP_ADDRESS', 'ip'],
  ['OTHER_NAME', 'other'],
])

const ALL_TYPES: readonly Exclude<SanMatchConfig['type'], 'other'>[] = ['dns', 'uri', 'email', 'ip']

/**
 * `CertificateValidationContext`; undefined where it trusts nobody in particular, which in Envoy means that nothing is
 * verified. Everything that narrows whom to trust is honoured or refused.
 *
 * @param extent a `part` is merged with another, which may have the authorities that it lacks, or say nothing at all
 */
export function translateValidation(
  reader: FieldReader,
  context: EnvoyContext,
  extent: 'whole' | 'part' = 'whole',
): CertificateValidationConfig | undefined {
  // The list of authorities that a server sends is a hint.
  reader.ignore('suppress_client_ca_list')
  watchDirectory(reader, context)
  for (const [field, why] of REFUSED) reader.refuse(field, why)
  refuseTrue(reader, 'require_signed_certificate_timestamp', 'certificate transparency is not available')
  const trustedCa = readPem(reader, 'trusted_ca', context)
  const system = reader.message('system_root_certs') !== undefined
  const trustDomains = translateValidator(reader, context)
  const systemRoots = system && !reader.has('trusted_ca') && !reader.has('custom_validator_config')
  const crl = readPem(reader, 'crl', context)
  const sans = translateSans(reader)
  const pins = translatePins(reader)
  const acceptUntrusted = reader.enumName('trust_chain_verification') === 'ACCEPT_UNTRUSTED'
  const narrowed = translateChain(reader)
  const demands = sans.length > 0 || pins.hashes.length + pins.spkis.length > 0 || crl !== undefined
  const rules = narrowed.maxDepth ?? narrowed.allowExpired ?? narrowed.leafCrlOnly
  const kept = extent === 'part' && (rules !== undefined || acceptUntrusted)
  if (trustedCa === undefined && !systemRoots && trustDomains === undefined && !demands && !kept) {
    // Rules for chains, where none is verified.
    reader.ignore('max_verify_depth', 'only_verify_leaf_cert_crl')
    // As Envoy: nobody looks at dates where nobody looks at chains.
    if (narrowed.allowExpired === true) reader.error('allow_expired_certificate', 'needs trusted authorities')
    return undefined
  }
  if (trustDomains !== undefined) reader.ignore('trusted_ca', 'system_root_certs')
  const provided = REFUSED.some(([field]) => reader.has(field)) || reader.has('custom_validator_config')
  return {
    // The validator has its own authorities, and in Envoy looks at no other.
    ...(trustedCa !== undefined && trustDomains === undefined && { trustedCa }),
    systemRoots,
    // What is refused already could have been what names need.
    sans: provided && trustDomains === undefined ? [] : sans,
    acceptUntrusted,
    ...(crl !== undefined && { crl }),
    ...(pins.hashes.length > 0 && { hashes: pins.hashes }),
    ...(pins.spkis.length > 0 && { spkis: pins.spkis }),
    ...narrowed,
    ...(trustDomains !== undefined && { trustDomains }),
  }
}

/** Hashes may have colons between their bytes. */
function translatePins(reader: FieldReader): { readonly hashes: readonly string[]; readonly spkis: readonly string[] } {
  const hashes = reader.strings('verify_certificate_hash').map((hash) => hash.replaceAll(':', '').toLowerCase())
  return { hashes, spkis: reader.strings('verify_certificate_spki') }
}

type ChainRules = Pick<CertificateValidationConfig, 'maxDepth' | 'allowExpired' | 'leafCrlOnly'>

function translateChain(reader: FieldReader): ChainRules {
  const maxDepth = reader.number('max_verify_depth') ?? MAX_DEPTH
  return {
    // More than anybody sends.
    ...(maxDepth < MAX_DEPTH && { maxDepth }),
    ...(reader.bool('allow_expired_certificate') && { allowExpired: true }),
    ...(reader.bool('only_verify_leaf_cert_crl') && { leafCrlOnly: true }),
  }
}

/** Whether certificates are verified against any authorities. */
export function hasAuthorities(validation: CertificateValidationConfig | undefined): boolean {
  if (validation === undefined) return false
  return validation.trustedCa !== undefined || validation.systemRoots || validation.trustDomains !== undefined
}

/** A part as far as it can be judged by itself: the rest of the whole may have the authorities that it needs. */
export function asWhole(part: CertificateValidationConfig): CertificateValidationConfig {
  if (hasAuthorities(part)) return part
  const { leafCrlOnly: _, allowExpired: __, ...rest } = part
  return { ...rest, systemRoots: true }
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
  if (type === undefined) {
    reader.ignore('oid')
    return undefined
  }
  if (type === 'other') return { type, oid: reader.string('oid'), match }
  reader.refuse('oid', 'belongs to OTHER_NAME')
  return { type, match }
}
