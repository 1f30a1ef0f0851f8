import type { TrustDomainConfig } from './config.ts'
import { pemOf } from './der.ts'

/**
 * Reads trust bundles of several domains in SPIFFE's format: `{"trust_domains": {"example.org": {"keys": [...]}}}`, each
 * key a JWK of the use `x509-svid` with one certificate in `x5c` (SPIFFE Trust Domain and Bundle §4).
 *
 * @throws Error that says what is wrong
 */
export function parseTrustBundles(text: string): readonly TrustDomainConfig[] {
  let parsed: unknown
  try {
    parsed = JSON.parse(text)
  } catch (error) {
    throw new Error('is no JSON', { cause: error })
  }
  const domains = isObject(parsed) ? parsed.trust_domains : undefined
  if (!isObject(domains)) throw new Error('has no object trust_domains')
  return Object.entries(domains).map(([name, bundle]) => ({ name, trustedCa: bundlePem(name, bundle) }))
}

function bundlePem(name: string, bundle: unknown): string {
  const keys = isObject(bundle) ? bundle.keys : undefined
  if (!Array.isArray(keys)) throw new Error(`the trust domain "${name}" has no list keys`)
  const pems = keys.map((key: unknown) => {
    if (!isObject(key) || key.use !== 'x509-svid') return ''
    const { x5c } = key
    const [certificate] = Array.isArray(x5c) ? x5c : []
    if (typeof certificate !== 'string') throw new Error(`the trust domain "${name}" has a key without x5c`)
    return pemOf('CERTIFICATE', Buffer.from(certificate, 'base64'))
  })
  return pems.join('')
}

function isObject(value: unknown): value is { readonly [key: string]: unknown } {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
