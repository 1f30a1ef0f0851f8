import type { FieldReader } from '../../../lib/core/field-reader.ts'
import type { CertificateConfig, DownstreamTlsConfig } from '../../../lib/tls/config.ts'
import type { EnvoyContext } from '../context.ts'
import { readDataSource } from '../data-source.ts'
import type { SecretValue } from '../translated.ts'
import { translateCertificate } from './certificates.ts'
import { translateParameters } from './parameters.ts'
import { reportProblems, type TlsPlaces } from './places.ts'
import { asWhole, translateValidation } from './validation.ts'

/**
 * `Secret`: its files are read, and what it holds is checked by itself as far as it can be (a key belongs to its certificate,
 * authorities and lists are readable). Undefined where it cannot be used, with the mistakes recorded.
 */
export function translateSecret(reader: FieldReader, context: EnvoyContext): SecretValue | undefined {
  reader.unread('refuse')
  const name = reader.string('name')
  switch (reader.which('type')) {
    case 'tls_certificate': {
      const at = reader.message('tls_certificate')
      const certificate = at && translateCertificate(at, context)
      if (at === undefined || certificate === undefined) return undefined
      check({ certificates: [certificate] }, context, { ...NOWHERE, around: reader, certificates: [at] })
      return { kind: 'certificate', name, certificate }
    }
    case 'validation_context':
      return translateValidationSecret(reader, name, context)
    case 'session_ticket_keys': {
      const at = reader.message('session_ticket_keys')
      const keys = at === undefined ? [] : translateTicketKeys(at, context)
      check({ ticketKeys: keys }, context, { ...NOWHERE, around: at ?? reader })
      return { kind: 'ticket-keys', name, keys }
    }
    case 'generic_secret':
      return translateGeneric(reader.message('generic_secret'), name, context)
    default:
      reader.error(
        undefined,
        'holds nothing: one of tls_certificate, validation_context, session_ticket_keys, generic_secret',
      )
      return undefined
  }
}

/** `TlsSessionTicketKeys`: base64. */
export function translateTicketKeys(reader: FieldReader, context: EnvoyContext): string[] {
  return reader.messages('keys').map((key) => readDataSource(key, context)?.toString('base64') ?? '')
}

function translateValidationSecret(reader: FieldReader, name: string, context: EnvoyContext): SecretValue | undefined {
  const at = reader.message('validation_context')
  if (at === undefined) return undefined
  const validation = translateValidation(at, context, 'part')
  if (validation !== undefined) {
    check({ validation: asWhole(validation) }, context, { ...NOWHERE, around: reader, validation: at })
  }
  const legacySans = at.has('match_subject_alt_names') && !at.has('match_typed_subject_alt_names')
  return { kind: 'validation', name, validation, ...(legacySans && ({ legacySans: true } as const)) }
}

function translateGeneric(
  reader: FieldReader | undefined,
  name: string,
  context: EnvoyContext,
): SecretValue | undefined {
  if (reader === undefined) return undefined
  reader.unread('refuse')
  const base64 = (at: FieldReader): string => readDataSource(at, context)?.toString('base64') ?? ''
  const secret = reader.message('secret')
  const values = new Map<string, string>()
  for (const [key, at] of reader.messageMap('secrets')) values.set(key, base64(at))
  return { kind: 'generic', name, value: secret === undefined ? '' : base64(secret), values }
}

const NOWHERE = {
  common: undefined,
  parameters: undefined,
  certificates: [],
  // A secret is a part of a context; that other parts are missing is no news.
  certificatesRefused: true,
  validation: undefined,
} as const satisfies Partial<TlsPlaces>

/** Checks a part of a context as if there were nothing else in it. */
function check(
  part: { readonly certificates?: readonly CertificateConfig[] } & Pick<
    DownstreamTlsConfig,
    'validation' | 'ticketKeys'
  >,
  context: EnvoyContext,
  places: TlsPlaces,
): void {
  const config: DownstreamTlsConfig = {
    certificates: [],
    alpn: [],
    ...translateParameters(undefined),
    requireClientCertificate: false,
    handshakeTimeoutMs: 0,
    sessionTickets: true,
    ...part,
  }
  reportProblems(context.checks.tls(config), places)
}
