import { TLS_HANDSHAKE_MS } from '../../../lib/config/defaults.ts'
import type { FieldReader } from '../../../lib/core/field-reader.ts'
import type {
  CertificateValidationConfig,
  DownstreamTlsConfig,
  OcspPolicy,
  UpstreamTlsConfig,
} from '../../../lib/tls/config.ts'
import type { EnvoyContext } from '../context.ts'
import { refuseTrue, WHY } from '../refusals.ts'
import { translateCertificate } from './certificates.ts'
import { translateParameters } from './parameters.ts'
import { reportProblems, type TlsPlaces } from './places.ts'
import { translateKeyLog, translateResumption } from './resumption.ts'
import { hasAuthorities, translateValidation } from './validation.ts'

/** Envoy remembers one session per upstream. */
const SESSION_KEYS = 1

/** Anybody with any certificate: what Envoy makes of a required certificate without authorities. */
const ANY_CERTIFICATE: CertificateValidationConfig = Object.freeze({
  systemRoots: false,
  sans: [],
  acceptUntrusted: true,
})

const OCSP_POLICIES: ReadonlyMap<string, OcspPolicy> = new Map([
  ['LENIENT_STAPLING', 'lenient'],
  ['STRICT_STAPLING', 'strict'],
  ['MUST_STAPLE', 'must'],
])

/** Where certificates may come from besides the context itself. */
const CERTIFICATE_SOURCES = [
  'tls_certificate_sds_secret_configs',
  'tls_certificate_provider_instance',
  'tls_certificate_certificate_provider',
  'tls_certificate_certificate_provider_instance',
  'custom_tls_certificate_selector',
] as const

const REFUSED_COMMON: readonly (readonly [field: string, why: string])[] = [
  ['tls_certificate_sds_secret_configs', WHY.secrets],
  ['tls_certificate_provider_instance', WHY.certificateProviders],
  ['tls_certificate_certificate_provider', WHY.certificateProviders],
  ['tls_certificate_certificate_provider_instance', WHY.certificateProviders],
  ['validation_context_sds_secret_config', WHY.secrets],
  ['combined_validation_context', WHY.secrets],
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
  const validation = common.config.validation ?? (requireClientCertificate ? ANY_CERTIFICATE : undefined)
  const ocspPolicy = OCSP_POLICIES.get(reader.enumName('ocsp_staple_policy')) ?? 'lenient'
  const config = {
    ...common.config,
    ...(validation && { validation }),
    requireClientCertificate,
    handshakeTimeoutMs: handshakeTimeoutMs || TLS_HANDSHAKE_MS,
    ...translateResumption(reader, context),
    ...(reader.bool('require_sni') && { requireSni: true }),
    ...(reader.bool('full_scan_certs_on_sni_mismatch') && { fullScan: true }),
    ...(reader.bool('prefer_client_ciphers') && { preferClientCiphers: true }),
    ...(ocspPolicy !== 'lenient' && { ocspPolicy }),
  }
  reportProblems(context.checks.tls(config), common.places)
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
  if (autoSanValidation && !hasAuthorities(common.config.validation)) {
    reader.error('auto_sni_san_validation', 'needs a validation_context with trusted_ca or system_root_certs')
  }
  const config: UpstreamTlsConfig = {
    ...common.config,
    sni,
    autoSni: reader.bool('auto_host_sni') ? 'host' : 'none',
    autoSanValidation,
    maxSessionKeys: reader.number('max_session_keys') ?? SESSION_KEYS,
  }
  reportProblems(context.checks.tls(config), common.places)
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
  readonly places: TlsPlaces
}

function translateCommon(around: FieldReader, context: EnvoyContext): Common {
  const common = around.message('common_tls_context')
  for (const [field, why] of REFUSED_COMMON) common?.refuse(field, why)
  const keyLog = translateKeyLog(common?.message('key_log'))
  const parameters = common?.message('tls_params')
  const readers = common?.messages('tls_certificates') ?? []
  const certificates = readers.map((reader) => translateCertificate(reader, context))
  const validation = common?.message('validation_context')
  const trust = validation && translateValidation(validation, context)
  return {
    config: {
      certificates: certificates.filter((certificate) => certificate !== undefined),
      alpn: common?.strings('alpn_protocols') ?? [],
      ...translateParameters(parameters),
      ...(trust && { validation: trust }),
      ...(keyLog && { keyLog }),
    },
    places: {
      around,
      common,
      parameters,
      certificates: readers.filter((_, i) => certificates[i] !== undefined),
      certificatesRefused: certificates.includes(undefined) || CERTIFICATE_SOURCES.some((field) => common?.has(field)),
      validation,
    },
  }
}
