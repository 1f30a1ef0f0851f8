import { fromBinary, type Message } from '@bufbuild/protobuf'
import { ConfigError } from '../../lib/core/errors.ts'
import { ErrorList } from './error-list.ts'
import { readPlainAssignment } from './plain-assignment.ts'
import { translateResource } from './resources.ts'
import { type EnvoyLoadContext, type Source, translateMessage } from './run.ts'
import type { ResourceConfigs, ResourceType, TranslatedResource } from './translated.ts'

/**
 * Translates one resource as a management server sent it: decodes it, checks the validation rules of Envoy's API, makes the
 * intermediate representation and says what it needs from elsewhere. The verdict is that of `headgate validate --resources`
 * for the same message. Never throws for what the bytes may hold; keeps none of them.
 *
 * @param typeName full name of the message, without `type.googleapis.com/`
 * @param context that of the bootstrap (`LoadedBootstrap.context`), with `self` where the resource comes from
 */
export function translateBytes<T extends ResourceType>(
  typeName: T,
  bytes: Uint8Array,
  context: EnvoyLoadContext,
): TranslatedResource<ResourceConfigs[T]>
export function translateBytes(typeName: string, bytes: Uint8Array, context: EnvoyLoadContext): TranslatedResource
export function translateBytes(typeName: string, bytes: Uint8Array, context: EnvoyLoadContext): TranslatedResource {
  if (typeName === ENDPOINTS) {
    const config = readPlainAssignment(bytes)
    if (config !== undefined) return { ...EMPTY, name: config.name, config }
  }
  const desc = context.registry.message(typeName)
  if (desc === undefined) return refused('', new ConfigError('', `resource type "${typeName}": is not available`))
  let message: Message
  try {
    message = fromBinary(desc, bytes)
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause)
    return refused('', new ConfigError('', `cannot be decoded as ${typeName}: ${why}`))
  }
  try {
    return translateDecoded(typeName, { desc, message, path: '' }, context)
  } catch (cause) {
    // Messages inside Anys inside messages: each is shallow, and all of them together deeper than the stack.
    if (!(cause instanceof RangeError)) throw cause
    return refused('', new ConfigError('', 'is nested too deeply'))
  }
}

function translateDecoded(typeName: string, source: Source, context: EnvoyLoadContext): TranslatedResource {
  const errors = new ErrorList()
  const { value, ...rest } = translateMessage(source, context, errors, (reader, inner) =>
    translateResource(typeName, reader, inner),
  )
  const config = errors.all.length === 0 ? value.config : undefined
  return { ...rest, name: value.name, config, errors: errors.all } as TranslatedResource
}

const NONE: readonly never[] = Object.freeze([])

const ENDPOINTS = 'envoy.config.endpoint.v3.ClusterLoadAssignment'

/** Nothing was found, and nothing is needed from elsewhere. */
const EMPTY: TranslatedResource = Object.freeze({
  name: '',
  config: undefined,
  references: NONE,
  errors: NONE,
  ignored: NONE,
  files: NONE,
  directories: NONE,
  clusters: NONE,
})

function refused(name: string, error: ConfigError): TranslatedResource {
  return { ...EMPTY, name, errors: [error] }
}
