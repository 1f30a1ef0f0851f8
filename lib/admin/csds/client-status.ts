import { create, fromBinary, type Message, toBinary } from '@bufbuild/protobuf'
import type { ResourceFailure, ResourceStatus } from '../../config/status.ts'
import type { JsonObject } from '../../core/errors.ts'
import { ConfigRefused, Findings } from '../../core/errors.ts'
import type { FieldReader } from '../../core/field-reader.ts'
import { parseStringMatch } from '../../match/parse.ts'
import { parseMetadataPath, parseValueMatch } from '../../match/parse-metadata.ts'
import { compileString } from '../../match/string.ts'
import { compileValue, valueAt } from '../../match/value.ts'
import { decodeJson } from '../../proto/decode-json.ts'
import { createMessageReader } from '../../proto/message-reader.ts'
import { CLIENT_STATUS, failureDetails, TYPE_PREFIX } from '../dump/resource-json.ts'
import { nameOf, objectField, objectsField } from '../dump/source-json.ts'
import type { AdminBackend } from '../endpoint.ts'
import { nodeJson } from '../node-json.ts'
import { redactDocument } from '../redact-document.ts'
import { redactMessage } from '../redact-message.ts'
import { REDACTED } from '../secret-names.ts'
import type { SecretSchema } from '../secret-schema.ts'

const REQUEST = 'envoy.service.status.v3.ClientStatusRequest'

/** Static resources, by the list of the bootstrap that has them. */
const STATIC: readonly (readonly [list: string, typeName: string])[] = Object.freeze([
  ['clusters', 'envoy.config.cluster.v3.Cluster'],
  ['listeners', 'envoy.config.listener.v3.Listener'],
  ['secrets', 'envoy.extensions.transport_sockets.tls.v3.Secret'],
] as const)

/** What the client status discovery service answers of the one client that there is. */
export interface ClientStatusAnswer {
  readonly node: Message
  /** `ClientConfig.GenericXdsConfig`, each made when it is reached. */
  readonly configs: Iterable<Message>
}

/**
 * What the client status discovery service (CSDS) answers: one client, this gateway, with every resource that somebody asked
 * for or delivered; undefined, no client, where `node_matchers` are given and none fits it. Resources are as they were
 * delivered but for their secrets.
 *
 * @throws ConfigRefused for matchers that cannot be used
 */
export function clientStatus(
  backend: AdminBackend,
  schema: SecretSchema,
  request: Message,
): ClientStatusAnswer | undefined {
  const { registry } = schema
  const node = nodeJson(backend)
  if (!matchesNode(schema, request, node)) return undefined
  const desc = registry.expect('envoy.config.core.v3.Node')
  const contents = !(request as Message & { excludeResourceContents: boolean }).excludeResourceContents
  return {
    node: decodeJson(registry, desc, node, 'node').message ?? create(desc),
    configs: configs(schema, resourcesOf(backend, schema), contents),
  }
}

function* configs(
  schema: SecretSchema,
  resources: Iterable<ResourceStatus>,
  contents: boolean,
): Generator<Message, void, void> {
  for (const resource of resources) yield genericConfig(schema, resource, contents)
}

/** The request from its bytes. @throws Error where they are none */
export function clientStatusRequest(schema: SecretSchema, bytes: Uint8Array): Message {
  return fromBinary(schema.registry.expect(REQUEST), bytes)
}

/** The request from proto-JSON. @throws ConfigRefused */
export function clientStatusRequestJson(schema: SecretSchema, json: unknown): Message {
  const { message, errors } = decodeJson(schema.registry, schema.registry.expect(REQUEST), json, '')
  if (message === undefined || errors.length > 0) throw new ConfigRefused(errors)
  return message
}

function* resourcesOf(backend: AdminBackend, schema: SecretSchema): Generator<ResourceStatus, void, void> {
  const dynamic = backend.dynamic()?.resources ?? []
  yield* dynamic
  // Whoever keeps track of them says more of them than the bootstrap does.
  if (dynamic.some(({ source }) => source === '')) return
  const running = backend.configuration()
  const resources = objectField(running?.config.source, 'static_resources')
  for (const [list, typeName] of STATIC) {
    const desc = schema.registry.expect(typeName)
    for (const resource of objectsField(resources, list)) {
      const { message } = decodeJson(schema.registry, desc, redactDocument(schema, desc, resource), '')
      if (message === undefined) continue
      const active = { version: '', bytes: toBinary(desc, message), updatedMs: running?.updatedMs ?? 0 }
      const name = nameOf(resource)
      yield {
        typeName,
        name,
        source: '',
        client: 'acked',
        active,
        warming: undefined,
        failure: undefined,
        stale: false,
      }
    }
  }
}

/** `ClientConfig.GenericXdsConfig` */
function genericConfig(schema: SecretSchema, resource: ResourceStatus, contents: boolean): Message {
  const { registry } = schema
  const { typeName, failure } = resource
  const version = resource.active ?? resource.warming
  const statuses = registry.files.getEnum('envoy.admin.v3.ClientResourceStatus')
  const client = CLIENT_STATUS[resource.client]
  return create(registry.expect('envoy.service.status.v3.ClientConfig.GenericXdsConfig'), {
    typeUrl: TYPE_PREFIX + typeName,
    name: resource.name,
    versionInfo: version?.version ?? '',
    ...(version !== undefined && contents && { xdsConfig: cleanAny(schema, typeName, version.bytes) }),
    ...(version !== undefined && { lastUpdated: timestamp(version.updatedMs) }),
    clientStatus: statuses?.values.find(({ name }) => name === client)?.number ?? 0,
    ...(failure !== undefined && { errorState: errorState(schema, typeName, { failure, contents }) }),
    isStaticResource: resource.source === '',
  })
}

function errorState(
  schema: SecretSchema,
  typeName: string,
  { failure, contents }: { readonly failure: ResourceFailure; readonly contents: boolean },
): Message {
  const { bytes } = failure
  return create(schema.registry.expect('envoy.admin.v3.UpdateFailureState'), {
    ...(bytes !== undefined && contents && { failedConfiguration: cleanAny(schema, typeName, bytes) }),
    lastUpdateAttempt: timestamp(failure.attemptedMs),
    details: failureDetails(failure),
    versionInfo: failure.version,
  })
}

/** An Any without secrets; what does not decode as its type loses its content. */
function cleanAny(schema: SecretSchema, typeName: string, bytes: Uint8Array): Message {
  const any = schema.registry.expect('google.protobuf.Any')
  const typeUrl = TYPE_PREFIX + typeName
  const desc = schema.registry.message(typeName)
  if (desc === undefined) return create(any, { typeUrl, value: bytes })
  try {
    const message = fromBinary(desc, bytes)
    const changed = redactMessage(schema, desc, message)
    return create(any, { typeUrl, value: changed ? toBinary(desc, message) : bytes })
  } catch {
    return create(any, { typeUrl, value: Buffer.from(REDACTED) })
  }
}

function timestamp(epochMs: number): { seconds: bigint; nanos: number } {
  const seconds = Math.floor(epochMs / 1000)
  return { seconds: BigInt(seconds), nanos: Math.round((epochMs - seconds * 1000) * 1e6) }
}

/** No matcher, or one that fits: its node id and all of its paths into the metadata. */
function matchesNode(schema: SecretSchema, request: Message, node: JsonObject): boolean {
  const findings = new Findings()
  const desc = schema.registry.expect(REQUEST)
  const { reader } = createMessageReader({ registry: schema.registry, findings, desc, message: request, path: '' })
  const tests = reader.messages('node_matchers').map((matcher) => nodeTest(matcher))
  if (findings.errors.length > 0) throw new ConfigRefused(findings.errors)
  return tests.length === 0 || tests.some((test) => test(node))
}

function nodeTest(matcher: FieldReader): (node: JsonObject) => boolean {
  const id = matcher.message('node_id')
  const idConfig = id === undefined ? undefined : parseStringMatch(id)
  const metadata = matcher.messages('node_metadatas').map((struct) => {
    const value = struct.message('value')
    if (value === undefined) struct.error('value', 'is required')
    return { path: parseMetadataPath(struct), value: value === undefined ? undefined : parseValueMatch(value) }
  })
  return (node) => {
    if (idConfig !== undefined && !compileString(idConfig)(String(node.id ?? ''))) return false
    return metadata.every(({ path, value }) => value !== undefined && compileValue(value)(valueAt(node.metadata, path)))
  }
}
