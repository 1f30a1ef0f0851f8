import type { FieldReader } from '../../lib/core/field-reader.ts'
import { refuseExtension, typedExtension } from './refusals.ts'

const PRESERVE = 'envoy.extensions.http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig'

/** How HTTP/1 header names are written: `Http1ProtocolOptions.header_key_format`. */
export function translateHeaderCase(http1: FieldReader | undefined): 'lower' | 'proper' | 'preserve' {
  const format = http1?.message('header_key_format')
  switch (format?.which('header_format')) {
    case 'proper_case_words':
      format.message('proper_case_words')
      return 'proper'
    case 'stateful_formatter':
      return translateFormatter(format.message('stateful_formatter'))
    default:
      return 'lower'
  }
}

function translateFormatter(at: FieldReader | undefined): 'lower' | 'preserve' {
  const extension = typedExtension(at)
  if (at === undefined || extension === undefined) return 'lower'
  if (extension.typeUrl === PRESERVE) {
    extension.fields.ignore('forward_reason_phrase', 'formatter_type_on_envoy_headers')
    return 'preserve'
  }
  refuseExtension(at, 'typed_config', extension, `header formatter "${extension.typeUrl}" is not available`)
  return 'lower'
}
