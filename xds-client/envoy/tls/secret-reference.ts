import type { FieldReader } from '../../../lib/core/field-reader.ts'
import { sourceOf } from '../authorities.ts'
import type { EnvoyContext } from '../context.ts'
import { referenceKey } from '../references.ts'
import type { SecretValue } from '../translated.ts'

/** A secret that somebody delivers, by its key; or one of the bootstrap, which is at hand. */
export type SecretReference<K extends SecretValue['kind']> =
  | { readonly kind: 'delivered'; readonly key: string }
  | { readonly kind: 'static'; readonly secret: Extract<SecretValue, { kind: K }> }

/** The fields of `Secret`. */
export const SECRET_FIELDS: Readonly<Record<SecretValue['kind'], string>> = Object.freeze({
  certificate: 'tls_certificate',
  validation: 'validation_context',
  'ticket-keys': 'session_ticket_keys',
  generic: 'generic_secret',
})

/**
 * `SdsSecretConfig`: without a source it names a secret of the bootstrap. Undefined where it cannot be had, with the
 * mistake recorded.
 */
export function translateSecretReference<K extends SecretValue['kind']>(
  reader: FieldReader | undefined,
  context: EnvoyContext,
  kind: K,
): SecretReference<K> | undefined {
  if (reader === undefined) return undefined
  reader.unread('refuse')
  const name = reader.string('name')
  const at = reader.message('sds_config')
  const source = sourceOf(name, at, context)
  if (source === undefined) return at === undefined ? findStatic(reader, name, context, kind) : undefined
  if (context.references === undefined) {
    reader.error('sds_config', 'secrets that are delivered are not available here')
    return undefined
  }
  const key = referenceKey(name, source)
  context.references.add({ kind: 'secret', name, key, source, secret: kind })
  return { kind: 'delivered', key }
}

function findStatic<K extends SecretValue['kind']>(
  reader: FieldReader,
  name: string,
  context: EnvoyContext,
  kind: K,
): SecretReference<K> | undefined {
  if (context.secrets === undefined) {
    // Nobody knows the bootstrap here: a resource is judged by itself.
    return { kind: 'delivered', key: name }
  }
  const secret = context.secrets.get(name)
  if (secret === undefined) {
    reader.error('name', `unknown static secret "${name}": set sds_config, or add it to static_resources.secrets`)
    return undefined
  }
  if (secret.kind !== kind) {
    reader.error(
      'name',
      `static secret "${name}" is a ${SECRET_FIELDS[secret.kind]}, here it must be a ${SECRET_FIELDS[kind]}`,
    )
    return undefined
  }
  context.references?.add({ kind: 'secret', name, key: name, source: undefined })
  return { kind: 'static', secret: secret as Extract<SecretValue, { kind: K }> }
}
