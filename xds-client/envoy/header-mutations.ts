import type { HeaderMutationConfig } from '../../lib/config/listener.ts'
import type { FieldReader } from '../../lib/core/field-reader.ts'
import type { EnvoyContext } from './context.ts'
import { checkedName, translateHeaderValue } from './header-edits.ts'
import { refuseExtension, typedExtension } from './refusals.ts'
import { translateStringMatch } from './string-match.ts'

const EARLY = 'envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation'

/** `early_header_mutation_extensions` of a connection manager, all lists joined in order. */
export function translateEarlyHeaderMutations(reader: FieldReader, context: EnvoyContext): HeaderMutationConfig[] {
  return reader.messages('early_header_mutation_extensions').flatMap((entry) => {
    const extension = typedExtension(entry)
    if (extension === undefined) return []
    if (extension.typeUrl === EARLY) return translateHeaderMutations(extension.fields, 'mutations', context)
    refuseExtension(entry, 'typed_config', extension, `early header mutation "${extension.typeUrl}" is not available`)
    return []
  })
}

/** A list of `config.common.mutation_rules.v3.HeaderMutation`. */
export function translateHeaderMutations(
  reader: FieldReader,
  field: string,
  context: EnvoyContext,
): HeaderMutationConfig[] {
  return reader.messages(field).map((entry) => translateMutation(entry, context))
}

function translateMutation(reader: FieldReader, context: EnvoyContext): HeaderMutationConfig {
  reader.unread('refuse')
  switch (reader.which('action')) {
    case 'remove':
      return { remove: checkedName(reader, 'remove', reader.string('remove')) }
    case 'append': {
      const option = reader.message('append')
      return option === undefined ? {} : { append: translateHeaderValue(option, context) }
    }
    case 'remove_on_match': {
      const matcher = reader.message('remove_on_match')?.message('key_matcher')
      return { removeOnMatch: translateStringMatch(matcher) }
    }
    default:
      return {}
  }
}
