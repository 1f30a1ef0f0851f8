import type { CertificateValidationConfig } from '../../../lib/tls/config.ts'
import type { SecretValue } from '../translated.ts'
import { hasAuthorities } from './validation.ts'

type ValidationSecret = Extract<SecretValue, { kind: 'validation' }>

/**
 * A `combined_validation_context`: what is delivered merged over the default, as protobuf merges messages. Single values of
 * the secret win, lists add up, switches that either has on are on.
 *
 * @param defaultSans the default's names are of the deprecated list, which does not count beside typed ones
 */
export function mergeValidation(
  own: CertificateValidationConfig | undefined,
  secret: ValidationSecret,
  defaultSans: boolean,
): CertificateValidationConfig | undefined {
  const delivered = secret.validation
  if (own === undefined || delivered === undefined) return settled(own ?? delivered)
  const trustDomains = delivered.trustDomains ?? own.trustDomains
  const trustedCa = trustDomains === undefined ? (delivered.trustedCa ?? own.trustedCa) : undefined
  const crl = delivered.crl ?? own.crl
  const maxDepth = delivered.maxDepth ?? own.maxDepth
  const hashes = [...(own.hashes ?? []), ...(delivered.hashes ?? [])]
  const spkis = [...(own.spkis ?? []), ...(delivered.spkis ?? [])]
  const systemRoots = own.systemRoots || delivered.systemRoots
  return settled({
    ...(trustedCa !== undefined && { trustedCa }),
    systemRoots: systemRoots && trustedCa === undefined && trustDomains === undefined,
    sans: mergeSans(own, delivered, { defaultSans, secretSans: secret.legacySans === true }),
    ...((own.svid || delivered.svid) && { svid: true }),
    acceptUntrusted: own.acceptUntrusted || delivered.acceptUntrusted,
    ...(crl !== undefined && { crl }),
    ...((own.leafCrlOnly || delivered.leafCrlOnly) && { leafCrlOnly: true }),
    ...(hashes.length > 0 && { hashes }),
    ...(spkis.length > 0 && { spkis }),
    ...(maxDepth !== undefined && { maxDepth }),
    ...((own.allowExpired || delivered.allowExpired) && { allowExpired: true }),
    ...(trustDomains && { trustDomains }),
  })
}

/** Rules for chains alone verify nothing, as in a context that is written out whole. */
function settled(validation: CertificateValidationConfig | undefined): CertificateValidationConfig | undefined {
  if (validation === undefined || hasAuthorities(validation)) return validation
  const { sans, hashes, spkis, crl } = validation
  const demands = sans.length > 0 || hashes !== undefined || spkis !== undefined || crl !== undefined
  return demands ? validation : undefined
}

function mergeSans(
  own: CertificateValidationConfig,
  delivered: CertificateValidationConfig,
  legacy: { readonly defaultSans: boolean; readonly secretSans: boolean },
): CertificateValidationConfig['sans'] {
  if (own.sans.length === 0) return delivered.sans
  if (delivered.sans.length === 0) return own.sans
  if (legacy.defaultSans === legacy.secretSans) return [...own.sans, ...delivered.sans]
  return legacy.defaultSans ? delivered.sans : own.sans
}

/**
 * Whether it demands what cannot be checked: names, or lists, without authorities that it could trust; lists for the whole
 * chain where it does not matter whether certificates have expired.
 */
export function isUnfounded(validation: CertificateValidationConfig | undefined): boolean {
  if (validation === undefined) return false
  const { sans, crl, allowExpired, leafCrlOnly } = validation
  if (allowExpired === true && crl !== undefined && leafCrlOnly !== true) return true
  if (hasAuthorities(validation)) return false
  return sans.length > 0 || crl !== undefined || allowExpired === true
}
