import type {
  CertificateConfig,
  CertificateValidationConfig,
  DownstreamTlsConfig,
  UpstreamTlsConfig,
} from '../../../lib/tls/config.ts'
import type { SecretValue } from '../translated.ts'
import { ANY_CERTIFICATE } from './contexts.ts'
import { isUnfounded, mergeValidation } from './merge-validation.ts'
import { hasAuthorities } from './validation.ts'

/** Secrets as they are now, by key; undefined where one has not come. One of another kind than is wanted counts as none. */
export type Secrets = (key: string) => SecretValue | undefined

type AnyTls = DownstreamTlsConfig | UpstreamTlsConfig

/**
 * A TLS configuration with what its secrets are now; itself where it has none. Where one is missing, or the whole demands
 * names of certificates that it could not verify, it is `notReady`: handshakes fail, rather than go on unverified.
 */
export function bindTls<T extends AnyTls>(config: T, secrets: Secrets): T {
  const needs = config.secrets
  if (needs === undefined) return config
  const { secrets: _, notReady: __, validation: own, ...rest } = config
  const certificates: CertificateConfig[] = [...config.certificates]
  let ready = true
  for (const key of needs.certificates) {
    const secret = secrets(key)
    if (secret?.kind === 'certificate') certificates.push(secret.certificate)
    else ready = false
  }
  const trust = bindTrust(own, config, secrets)
  ready &&= trust.ready
  const ticketKeys = needs.ticketKeys === undefined ? undefined : secrets(needs.ticketKeys)
  if (needs.ticketKeys !== undefined && ticketKeys?.kind !== 'ticket-keys') ready = false
  return {
    ...rest,
    certificates,
    ...(trust.validation && { validation: trust.validation }),
    ...(ticketKeys?.kind === 'ticket-keys' && { ticketKeys: ticketKeys.keys }),
    ...(!ready && { notReady: true }),
  } as unknown as T
}

function bindTrust(
  own: CertificateValidationConfig | undefined,
  config: AnyTls,
  secrets: Secrets,
): { readonly validation: CertificateValidationConfig | undefined; readonly ready: boolean } {
  const key = config.secrets?.validation
  if (key === undefined) return { validation: own, ready: true }
  const secret = secrets(key)
  // What is there of it demands what only the rest can verify.
  if (secret?.kind !== 'validation') return { validation: undefined, ready: false }
  const merged = mergeValidation(own, secret, config.secrets?.defaultSans === true)
  if (isUnfounded(merged)) return { validation: undefined, ready: false }
  if ('requireClientCertificate' in config) {
    return { validation: merged ?? (config.requireClientCertificate ? ANY_CERTIFICATE : undefined), ready: true }
  }
  if (!config.autoSanValidation) return { validation: merged, ready: true }
  if (merged === undefined || !hasAuthorities(merged)) return { validation: undefined, ready: false }
  // The name that is sent replaces all others that are expected, as in Envoy.
  return { validation: config.sni === '' ? merged : { ...merged, sans: [] }, ready: true }
}
