import type { FieldReader } from '../../../lib/core/field-reader.ts'
import type { CertificateValidationConfig, TlsSecretsConfig } from '../../../lib/tls/config.ts'
import type { EnvoyContext } from '../context.ts'
import { WHY } from '../refusals.ts'
import { mergeValidation } from './merge-validation.ts'
import { translateSecretReference } from './secret-reference.ts'
import { translateValidation } from './validation.ts'

interface Read {
  readonly validation: CertificateValidationConfig | undefined
  /** Where it was written, for messages. */
  readonly reader: FieldReader | undefined
}

/** Whom a context trusts. */
export interface TranslatedTrust {
  /** What is at hand; a part where something is delivered. */
  readonly trust: CertificateValidationConfig | undefined
  /** Where that was written. */
  readonly reader: FieldReader | undefined
  readonly delivered: Pick<TlsSecretsConfig, 'validation' | 'defaultSans'>
}

/** The oneof `validation_context_type` of a CommonTlsContext: inline, a secret, or one merged over the other. */
export function translateTrust(common: FieldReader | undefined, context: EnvoyContext): TranslatedTrust {
  const kind = common?.which('validation_context_type')
  switch (kind) {
    case 'validation_context': {
      const reader = common?.message(kind)
      return { trust: reader && translateValidation(reader, context), reader, delivered: {} }
    }
    case 'validation_context_sds_secret_config': {
      const reader = common?.message(kind)
      return fromSecret(reader, context, { validation: undefined, reader }, false)
    }
    case 'combined_validation_context':
      return translateCombined(common?.message(kind), context)
    default:
      return { trust: undefined, reader: undefined, delivered: {} }
  }
}

function translateCombined(reader: FieldReader | undefined, context: EnvoyContext): TranslatedTrust {
  if (reader === undefined) return { trust: undefined, reader, delivered: {} }
  reader.unread('refuse')
  reader.refuse('validation_context_certificate_provider', WHY.certificateProviders)
  reader.refuse('validation_context_certificate_provider_instance', WHY.certificateProviders)
  const standard = reader.message('default_validation_context')
  const validation = standard && translateValidation(standard, context, 'part')
  const legacy = standard?.has('match_subject_alt_names') === true && !standard.has('match_typed_subject_alt_names')
  const secret = reader.message('validation_context_sds_secret_config')
  return fromSecret(secret, context, { validation, reader: standard }, legacy)
}

function fromSecret(
  reader: FieldReader | undefined,
  context: EnvoyContext,
  own: Read,
  legacy: boolean,
): TranslatedTrust {
  const secret = translateSecretReference(reader, context, 'validation')
  if (secret === undefined) return { trust: own.validation, reader: own.reader, delivered: {} }
  if (secret.kind === 'static') {
    const merged = mergeValidation(own.validation, secret.secret, legacy)
    return { trust: merged, reader: own.reader, delivered: {} }
  }
  const delivered = { validation: secret.key, ...(legacy && ({ defaultSans: true } as const)) }
  return { trust: own.validation, reader: own.reader, delivered }
}
