import { TLS_HANDSHAKE_MS } from '../../../lib/config/defaults.ts'
import type { FieldReader } from '../../../lib/core/field-reader.ts'
import type {
  CertificateConfig,
  CertificateValidationConfig,
  DownstreamTlsConfig,
  OcspPolicy,
  TlsSecretsConfig,
  UpstreamTlsConfig,
} from '../../../lib/tls/config.ts'
import type { EnvoyContext } from '../context.ts'
import { refuseTrue, WHY } from '../refusals.ts'
import { translateCertificate } from './certificates.ts'
import { translateParameters } from './parameters.ts'
import { reportProblems, type TlsPlaces } from './places.ts'
import { translateKeyLog, translateResumption } from './resumption.ts'
import { translateSecretReference } from './secret-reference.ts'
import { translateTrust } from './trust.ts'
import { asWhole, hasAuthorities } from './validation.ts'

/** Envoy remembers one session per upstream. */
const SESSION_KEYS = 1

/** Anybody with any certificate: what Envoy makes of a required certificate without authorities. */
export const ANY_CERTIFICATE: CertificateValidationConfig = Object.freeze({
  systemRoots: false,
  sans: [],
  acceptUntrusted: true,
})

const OCSP_POLICIES: ReadonlyMap<string, OcspPolicy> = new Map([
  ['LENIENT_STAPLING', 'lenient'],
  ['STRICT_STAPLING', 'strict'],
  ['MUST_STAPLE', 'must'],
])

/** Where certificates may come from besides the context and its secrets. */
const CERTIFICATE_SOURCES = [
  'tls_certificate_provider_instance',
  'tls_certificate_certificate_provider',
  'tls_certificate_certificate_provider_instance',
  'custom_tls_certificate_selector',
] as const

const REFUSED_COMMON: readonly (readonly [field: string, why: string])[] = [
  ['tls_certificate_provider_instance', WHY.certificateProviders],
  ['tls_certificate_certificate_provider', WHY.certificateProviders],
  ['tls_certificate_certificate_provider_instance', WHY.certificateProviders],
  ['validation_context_certificate_provider', WHY.certificateProviders],
  ['validation_context_certificate_provider_instance', WHY.certificateProviders],
  ['custom_tls_certificate_selector', 'certificate selectors are not available'],
  ['custom_handshaker', 'custom handshakers are not available'],
]

/**
 * `DownstreamTlsContext` with Envoy's defaults filled in. Everything that decides whom to let in is honoured or refused.
 *
 * @param handshakeTimeoutMs of the filter chain; undefined or 0: ours, which is never off
 */
export function translateDownstreamTls(
  reader: FieldReader,
  context: EnvoyContext,
  handshakeTimeoutMs: number | undefined,
): DownstreamTlsConfig {
  reader.unread('refuse')
  const common = translateCommon(reader, context)
  const requireClientCertificate = reader.bool('require_client_certificate')
  const anybody = requireClientCertificate && common.secrets.validation === undefined
  const validation = common.config.validation ?? (anybody ? ANY_CERTIFICATE : undefined)
  const ocspPolicy = OCSP_POLICIES.get(reader.enumName('ocsp_staple_policy')) ?? 'lenient'
  const { resumption, delivered } = translateResumption(reader, context)
  const config: DownstreamTlsConfig = {
    ...common.config,
    ...withSecrets({ ...common.secrets, ...(delivered !== undefined && { ticketKeys: delivered }) }),
    ...(validation && { validation }),
    requireClientCertificate,
    handshakeTimeoutMs: handshakeTimeoutMs || TLS_HANDSHAKE_MS,
    ...resumption,
    ...(reader.bool('require_sni') && { requireSni: true }),
    ...(reader.bool('full_scan_certs_on_sni_mismatch') && { fullScan: true }),
    ...(reader.bool('prefer_client_ciphers') && { preferClientCiphers: true }),
    ...(ocspPolicy !== 'lenient' && { ocspPolicy }),
  }
  checkPresent(config, common, context)
  return config
}

/** `UpstreamTlsContext` with Envoy's defaults filled in; the cluster adds what its protocol options say. */
export function translateUpstreamTls(reader: FieldReader, context: EnvoyContext): UpstreamTlsConfig {
  reader.unread('refuse')
  reader.ignore('enforce_rsa_key_usage')
  refuseTrue(reader, 'allow_renegotiation', 'renegotiation is not available')
  const sni = reader.string('sni')
  if (sni.includes('\0')) reader.error('sni', 'must not contain NUL')
  const common = translateCommon(reader, context)
  const autoSanValidation = reader.bool('auto_sni_san_validation')
  if (autoSanValidation && !hasAuthorities(common.config.validation) && common.secrets.validation === undefined) {
    reader.error('auto_sni_san_validation', 'needs a validation_context with trusted_ca or system_root_certs')
  }
  const count = common.config.certificates.length + common.secrets.certificates.length
  if (common.secrets.certificates.length > 0 && count > 1) {
    common.places.common?.error('tls_certificate_sds_secret_configs', 'a client presents one certificate, not several')
  }
  const config: UpstreamTlsConfig = {
    ...common.config,
    ...withSecrets(common.secrets),
    sni,
    autoSni: reader.bool('auto_host_sni') ? 'host' : 'none',
    autoSanValidation,
    maxSessionKeys: reader.number('max_session_keys') ?? SESSION_KEYS,
  }
  checkPresent(config, common, context)
  return autoSanValidation && sni !== '' ? withoutSans(config, common.places.validation) : config
}

/** The name that is sent replaces all others that are expected, as in Envoy. */
function withoutSans(config: UpstreamTlsConfig, reader: FieldReader | undefined): UpstreamTlsConfig {
  const { validation } = config
  if (validation === undefined || validation.sans.length === 0) return config
  reader?.ignore('match_typed_subject_alt_names', 'match_subject_alt_names')
  return { ...config, validation: { ...validation, sans: [] } }
}

/** What both sides have in common. */
export type CommonTls = Pick<
  UpstreamTlsConfig,
  | 'certificates'
  | 'alpn'
  | 'minVersion'
  | 'maxVersion'
  | 'cipherSuites'
  | 'groups'
  | 'signatureAlgorithms'
  | 'validation'
  | 'keyLog'
>

interface Common {
  readonly config: CommonTls
  readonly secrets: TlsSecretsConfig
  readonly places: TlsPlaces
}

function translateCommon(around: FieldReader, context: EnvoyContext): Common {
  const common = around.message('common_tls_context')
  for (const [field, why] of REFUSED_COMMON) common?.refuse(field, why)
  const keyLog = translateKeyLog(common?.message('key_log'))
  const parameters = common?.message('tls_params')
  const readers = common?.messages('tls_certificates') ?? []
  const certificates = readers.map((reader) => translateCertificate(reader, context))
  const delivered = translateDeliveredCertificates(common, context)
  const { trust, reader: validation, delivered: trusted } = translateTrust(common, context)
  return {
    config: {
      certificates: [...certificates.filter((certificate) => certificate !== undefined), ...delivered.certificates],
      alpn: common?.strings('alpn_protocols') ?? [],
      ...translateParameters(parameters),
      ...(trust && { validation: trust }),
      ...(keyLog && { keyLog }),
    },
    secrets: { certificates: delivered.keys, ...trusted },
    places: {
      around,
      common,
      parameters,
      certificates: readers.filter((_, i) => certificates[i] !== undefined),
      certificatesRefused:
        certificates.includes(undefined) || delivered.any || CERTIFICATE_SOURCES.some((field) => common?.has(field)),
      validation,
    },
  }
}

/** `tls_certificate_sds_secret_configs`: those of the bootstrap, and the keys of the others. */
function translateDeliveredCertificates(
  common: FieldReader | undefined,
  context: EnvoyContext,
): { readonly certificates: readonly CertificateConfig[]; readonly keys: readonly string[]; readonly any: boolean } {
  const certificates: CertificateConfig[] = []
  const keys: string[] = []
  const entries = common?.messages('tls_certificate_sds_secret_configs') ?? []
  for (const entry of entries) {
    const secret = translateSecretReference(entry, context, 'certificate')
    if (secret?.kind === 'static') certificates.push(secret.secret.certificate)
    else if (secret !== undefined) keys.push(secret.key)
  }
  return { certificates, keys, any: entries.length > 0 }
}

function withSecrets(secrets: TlsSecretsConfig): { readonly secrets?: TlsSecretsConfig } {
  const any = secrets.certificates.length > 0 || secrets.validation !== undefined || secrets.ticketKeys !== undefined
  return any ? { secrets } : {}
}

/**
 * Checks all of a context that is here; what comes later is checked when it comes. Names and rules of the part that is
 * merged with what comes may need authorities of that.
 */
function checkPresent(config: DownstreamTlsConfig | UpstreamTlsConfig, common: Common, context: EnvoyContext): void {
  const { validation } = config
  const waits = common.secrets.validation !== undefined && validation !== undefined
  const present = waits ? { ...config, validation: asWhole(validation) } : config
  reportProblems(context.checks.tls(present), common.places)
}
