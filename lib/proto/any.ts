import { type DescMessage, fromBinary, type Message } from '@bufbuild/protobuf'
import { ConfigError, type JsonObject } from '../core/errors.ts'
import { decodeJson, isTypedStruct, typeNameOf } from './decode-json.ts'
import type { ProtoRegistry } from './registry.ts'

/**
 * What a `google.protobuf.Any` holds, a `TypedStruct` inside it unwrapped. `typeName` is what follows the last slash of
 * `typeUrl`, which is kept as it was written.
 */
export type Unpacked =
  | {
      readonly kind: 'message'
      readonly typeName: string
      readonly typeUrl: string
      readonly desc: DescMessage
      readonly message: Message
      /** What to put between the Any's path and the paths inside it: `value` where a TypedStruct was written out. */
      readonly suffix: '' | 'value'
      /** The Any has no bytes. */
      readonly empty: boolean
    }
  | {
      /** A type we have no schema of, given as JSON. */
      readonly kind: 'json'
      readonly typeName: string
      readonly typeUrl: string
      readonly value: JsonObject
      readonly suffix: '' | 'value'
      readonly empty: boolean
    }
  | {
      /** A type we have no schema of, given as bytes. */
      readonly kind: 'opaque'
      readonly typeName: string
      readonly bytes: Uint8Array
      readonly empty: boolean
    }
  | {
      /** Does not decode as the type it says it is; the paths of the errors begin at the Any. */
      readonly kind: 'broken'
      readonly typeName: string
      readonly errors: readonly ConfigError[]
    }

/** The fields of `google.protobuf.Any` as protobuf-es keeps them. */
export type AnyMessage = Message & { readonly typeUrl: string; readonly value: Uint8Array }

/** Unpacks an Any, once: asking again for the same object gives the same answer. Never throws for bad bytes. */
export function unpackAny(registry: ProtoRegistry, any: AnyMessage): Unpacked {
  return registry.unpacked(any) ?? registry.remember(any, unpack(registry, any))
}

function unpack(registry: ProtoRegistry, any: AnyMessage): Unpacked {
  const typeName = typeNameOf(any.typeUrl)
  const empty = any.value.length === 0
  const desc = registry.message(typeName)
  if (desc === undefined) return { kind: 'opaque', typeName, bytes: any.value, empty }
  let message: Message
  try {
    message = fromBinary(desc, any.value)
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause)
    return { kind: 'broken', typeName, errors: [new ConfigError('', `cannot be decoded as ${typeName}: ${why}`)] }
  }
  const itself: Unpacked = { kind: 'message', typeName, typeUrl: any.typeUrl, desc, message, suffix: '', empty }
  return isTypedStruct(typeName) ? unwrap(registry, message, itself) : itself
}

/** A TypedStruct that says what it holds is taken for what it holds. */
function unwrap(registry: ProtoRegistry, message: Message, itself: Unpacked): Unpacked {
  const { typeUrl, value = {} } = message as Message & { typeUrl: string; value?: JsonObject }
  if (typeUrl === '') return itself
  const typeName = typeNameOf(typeUrl)
  const desc = registry.message(typeName)
  if (desc === undefined) return { kind: 'json', typeName, typeUrl, value, suffix: 'value', empty: false }
  const decoded = decodeJson(registry, desc, value, 'value')
  if (decoded.message === undefined || decoded.errors.length > 0) {
    return { kind: 'broken', typeName, errors: decoded.errors }
  }
  return { kind: 'message', typeName, typeUrl, desc, message: decoded.message, suffix: 'value', empty: false }
}
