import type { DescMessage } from '@bufbuild/protobuf'
import type { GatewayConfig } from '../../config/model.ts'
import type { DynamicStatus, ResourceStatus } from '../../config/status.ts'
import type { JsonObject } from '../../core/errors.ts'
import type { EngineStatus } from '../../runtime/engine.ts'
import { redactDocument } from '../redact-document.ts'
import type { SecretSchema } from '../secret-schema.ts'
import { type DumpNode, jsonNode, mapNodes } from './node.ts'
import { conditionJson, TYPE_PREFIX, versionJson } from './resource-json.ts'
import { nameOf, objectField, objectsField } from './source-json.ts'

/** Everything that a dump is made of. */
export interface DumpInput {
  readonly schema: SecretSchema
  readonly config: GatewayConfig
  /** Epoch ms: since when the configuration runs. */
  readonly updatedMs: number
  readonly dynamic: DynamicStatus | undefined
  /** Undefined: without endpoints. */
  readonly engine: EngineStatus | undefined
  /** Whether a resource of that name is asked for. */
  readonly wanted: (name: string) => boolean
}

/** One message of the dump (`envoy.admin.v3.ClustersConfigDump`) with the fields that it has. */
export interface DumpSection {
  readonly desc: DescMessage
  readonly fields: readonly (readonly [name: string, node: DumpNode])[]
}

export const CLUSTER = 'envoy.config.cluster.v3.Cluster'
export const LISTENER = 'envoy.config.listener.v3.Listener'
/** A message of the dump; lists without entries are left out. */
export function section(input: DumpInput, name: string, fields: readonly (readonly [string, DumpNode])[]): DumpSection {
  const filled = fields.filter(([, node]) => node.kind !== 'list' || node !== EMPTY)
  return { desc: input.schema.registry.expect(`envoy.admin.v3.${name}`), fields: filled }
}

/** A list that is left out. */
const EMPTY: DumpNode = Object.freeze({ kind: 'list', items: Object.freeze([]) })

/** A list whose entries are made when they are written. */
export function listOf<T>(entries: readonly T[], make: (entry: T) => JsonObject): DumpNode {
  return entries.length === 0 ? EMPTY : { kind: 'list', items: mapNodes(entries, (e) => jsonNode(() => make(e))) }
}

/** Resources of a type that discovery delivers, if they are asked for. */
export function delivered(input: DumpInput, typeName: string): ResourceStatus[] {
  const all = input.dynamic?.resources ?? []
  return all.filter((r) => r.typeName === typeName && r.source !== '' && input.wanted(r.name))
}

/** Resources of the bootstrap, if they are asked for. */
export function written(input: DumpInput, list: string): JsonObject[] {
  const resources = objectField(input.config.source, 'static_resources')
  return objectsField(resources, list).filter((resource) => input.wanted(nameOf(resource)))
}

/** A resource of the bootstrap inside an Any. */
export function staticAny({ schema }: DumpInput, typeName: string, resource: JsonObject): JsonObject {
  const clean = redactDocument(schema, schema.registry.expect(typeName), resource) as JsonObject
  return { '@type': TYPE_PREFIX + typeName, ...clean }
}

/** Those that serve, with what became of a newer version. */
export function activeList(schema: SecretSchema, all: readonly ResourceStatus[], name: string): DumpNode {
  const active = all.filter((resource) => resource.active !== undefined)
  return listOf(active, (resource) => ({
    ...(resource.active && versionJson(schema, resource.typeName, { version: resource.active, field: name })),
    ...conditionJson(schema, resource),
  }))
}
