import type { DescMessage, Message } from '@bufbuild/protobuf'
import type { Findings, JsonObject } from '../core/errors.ts'
import { type AnyMessage, unpackAny } from './any.ts'
import { encodeJson } from './encode-json.ts'
import { JsonFields } from './json-fields.ts'
import { MessageFields } from './message-fields.ts'
import { fieldPath, joinPath, type PathSource, pathText } from './path.ts'
import type { ReadContext, TrackedExtension, TrackedReader, UnknownPolicy, UnreadPolicy } from './read-context.ts'
import type { ProtoRegistry } from './registry.ts'

type WithRegistry = ReadContext & { registry: ProtoRegistry }

/** What readers of one document share. This is where the two kinds of reader meet: either may hold the other. */
export function createReadContext(
  findings: Findings,
  registry: ProtoRegistry | undefined,
  unknownFields?: UnknownPolicy,
): ReadContext {
  const context: ReadContext = {
    findings,
    registry,
    unknownFields,
    openJson: (value, path, typeName) => new JsonFields(context, value, path, typeName),
    openMessage: (desc, message, path, policy) => openMessage(withRegistry(context), desc, message, { path, policy }),
    openAny: (any, path, policy) => openAny(withRegistry(context), any, { path, policy }),
  }
  return context
}

function withRegistry(context: ReadContext): WithRegistry {
  if (context.registry === undefined) throw new Error('protobuf messages cannot be read without a registry')
  return context as WithRegistry
}

type At = { readonly path: PathSource; readonly policy: UnreadPolicy }

/** A Struct has no schema, so it is read as JSON; as a field's value it is JSON already. */
function openMessage(context: WithRegistry, desc: DescMessage, message: Message | JsonObject, at: At): TrackedReader {
  const shape = context.registry.shape(desc)
  if (shape.kind !== 'struct') return new MessageFields(context, shape, message as Message, at)
  return context.openJson(message as JsonObject, at.path, desc.typeName)
}

function openAny(context: WithRegistry, any: AnyMessage, at: At): TrackedExtension | undefined {
  const content = unpackAny(context.registry, any)
  const { typeName } = content
  if (content.kind === 'broken') {
    for (const error of content.errors) {
      context.findings.error(joinPath(pathText(at.path), error.path), error.message)
    }
    return undefined
  }
  if (content.kind === 'opaque') {
    // No schema and no JSON: there is nothing to read but the bytes. Whether the type may be there is the caller's call.
    const value = Buffer.from(content.bytes).toString('base64')
    const fields = context.openJson(content.empty ? {} : { value }, at.path, typeName)
    return new Extension(typeName, content.empty, fields)
  }
  const path = content.suffix === '' ? at.path : fieldPath(pathText(at.path), content.suffix)
  const { empty } = content
  if (content.kind === 'json') {
    return new Extension(typeName, empty, context.openJson(content.value, path, typeName))
  }
  if (context.registry.shape(content.desc).kind === 'struct') {
    const value = encodeJson(context.registry, content.desc, content.message) as JsonObject
    const inside = context.openJson(value, fieldPath(pathText(path), 'value'), typeName)
    return new Extension(typeName, empty, inside, pathText(path))
  }
  return new Extension(typeName, empty, context.openMessage(content.desc, content.message, path, at.policy))
}

class Extension implements TrackedExtension {
  readonly typeUrl: string
  readonly empty: boolean
  readonly fields: TrackedReader
  readonly #path: string | undefined

  /** @param path undefined: that of its fields */
  constructor(typeUrl: string, empty: boolean, fields: TrackedReader, path?: string) {
    this.typeUrl = typeUrl
    this.empty = empty
    this.fields = fields
    this.#path = path
  }

  get path(): string {
    return this.#path ?? this.fields.path
  }
}
