import type { DescMessage } from '@bufbuild/protobuf'
import type { ResourceStatus } from '../../config/status.ts'
import type { JsonObject } from '../../core/errors.ts'
import { redactDocument } from '../redact-document.ts'
import type { SecretSchema } from '../secret-schema.ts'
import { endpointsSection } from './endpoints.ts'
import { type DumpNode, jsonNode, mapNodes } from './node.ts'
import {
  activeList,
  CLUSTER,
  type DumpInput,
  type DumpSection,
  delivered,
  LISTENER,
  listOf,
  section,
  staticAny,
  written,
} from './parts.ts'
import { conditionJson, timeJson, versionJson } from './resource-json.ts'
import { routesSection, scopedRoutesSection } from './routes.ts'
import { nameOf } from './source-json.ts'

const SECRET = 'envoy.extensions.transport_sockets.tls.v3.Secret'
const EXTENSION = 'envoy.config.core.v3.TypedExtensionConfig'

/** The parts of a dump, in the order of Envoy's. */
export function dumpSections(input: DumpInput): DumpSection[] {
  const sections = [bootstrapSection(input), clustersSection(input), extensionsSection(input)]
  if (input.engine !== undefined) sections.push(endpointsSection(input, input.engine))
  sections.push(listenersSection(input), scopedRoutesSection(input), routesSection(input), secretsSection(input))
  return sections
}

/** As the last response had it: said so, or else by the newest resource. */
function versionOf(input: DumpInput, typeName: string): readonly (readonly [string, DumpNode])[] {
  let version = input.dynamic?.versions?.get(typeName)
  if (version === undefined) {
    let newestMs = -1
    for (const { typeName: type, source, active } of input.dynamic?.resources ?? []) {
      if (type !== typeName || source === '' || active === undefined || active.updatedMs <= newestMs) continue
      newestMs = active.updatedMs
      version = active.version
    }
  }
  const known = version ?? ''
  return known === '' ? [] : [['version_info', jsonNode(() => known)]]
}

function bootstrapSection(input: DumpInput): DumpSection {
  const updated = timeJson(input.updatedMs)
  return section(input, 'BootstrapConfigDump', [
    ['bootstrap', { kind: 'object', fields: bootstrapFields(input) }],
    ['last_updated', jsonNode(() => updated)],
  ])
}

/** Resources one by one, since there may be many. */
function* bootstrapFields(input: DumpInput): Generator<readonly [string, DumpNode], void, void> {
  const { schema } = input
  const desc = schema.registry.expect('envoy.config.bootstrap.v3.Bootstrap')
  const { bySpelling } = schema.registry.shape(desc)
  for (const [key, value] of Object.entries(input.config.source ?? {})) {
    const known = bySpelling.get(key)
    const name = known?.name ?? key
    if (name !== 'static_resources' || known?.message === undefined) {
      yield [name, jsonNode(() => (redactDocument(schema, desc, { [key]: value }) as JsonObject)[name] ?? null)]
      continue
    }
    yield [name, { kind: 'object', fields: listFields(schema, known.message, value as JsonObject) }]
  }
}

function* listFields(
  schema: SecretSchema,
  desc: DescMessage,
  object: JsonObject,
): Generator<readonly [string, DumpNode], void, void> {
  const { bySpelling } = schema.registry.shape(desc)
  for (const [key, value] of Object.entries(object)) {
    const known = bySpelling.get(key)
    const item = known?.message
    if (known === undefined || item === undefined || !Array.isArray(value)) continue
    yield [
      known.name,
      { kind: 'list', items: mapNodes(value, (one) => jsonNode(() => redactDocument(schema, item, one))) },
    ]
  }
}

function clustersSection(input: DumpInput): DumpSection {
  const { schema } = input
  const last_updated = timeJson(input.updatedMs)
  const all = delivered(input, CLUSTER)
  return section(input, 'ClustersConfigDump', [
    ...versionOf(input, CLUSTER),
    [
      'static_clusters',
      listOf(written(input, 'clusters'), (c) => ({ cluster: staticAny(input, CLUSTER, c), last_updated })),
    ],
    ['dynamic_active_clusters', activeList(schema, all, 'cluster')],
    ['dynamic_warming_clusters', warmingList(schema, all, 'cluster')],
  ])
}

/** Those that wait, and those of which there is nothing but a version that cannot be used. */
function warmingList(schema: SecretSchema, all: readonly ResourceStatus[], name: string): DumpNode {
  const waiting = all.filter(({ active, warming }) => warming !== undefined || active === undefined)
  return listOf(waiting, (resource) => {
    const { active, warming } = resource
    const version = warming && versionJson(schema, resource.typeName, { version: warming, field: name })
    return { ...version, ...(active === undefined && conditionJson(schema, resource)) }
  })
}

function listenersSection(input: DumpInput): DumpSection {
  const { schema } = input
  const last_updated = timeJson(input.updatedMs)
  return section(input, 'ListenersConfigDump', [
    ...versionOf(input, LISTENER),
    [
      'static_listeners',
      listOf(written(input, 'listeners'), (l) => ({ listener: staticAny(input, LISTENER, l), last_updated })),
    ],
    ['dynamic_listeners', listOf(delivered(input, LISTENER), (resource) => dynamicListener(schema, resource))],
  ])
}

function dynamicListener(schema: SecretSchema, resource: ResourceStatus): JsonObject {
  const { active, warming, draining } = resource
  const out: JsonObject = { name: resource.name }
  const states = { active_state: active, warming_state: warming, draining_state: draining }
  for (const [name, version] of Object.entries(states)) {
    if (version !== undefined) out[name] = versionJson(schema, LISTENER, { version, field: 'listener' })
  }
  return { ...out, ...conditionJson(schema, resource) }
}

function secretsSection(input: DumpInput): DumpSection {
  const { schema } = input
  const last_updated = timeJson(input.updatedMs)
  const all = delivered(input, SECRET)
  const named = (list: readonly ResourceStatus[], version: 'active' | 'warming'): DumpNode =>
    listOf(list, (resource) => {
      const of = resource[version]
      const content = of && versionJson(schema, SECRET, { version: of, field: 'secret' })
      const last = version === 'active' || resource.active === undefined
      return { name: resource.name, ...content, ...(last && conditionJson(schema, resource)) }
    })
  return section(input, 'SecretsConfigDump', [
    [
      'static_secrets',
      listOf(written(input, 'secrets'), (secret) => ({
        name: nameOf(secret),
        last_updated,
        secret: staticAny(input, SECRET, secret),
      })),
    ],
    [
      'dynamic_active_secrets',
      named(
        all.filter(({ active }) => active !== undefined),
        'active',
      ),
    ],
    [
      'dynamic_warming_secrets',
      named(
        all.filter(({ active, warming }) => warming !== undefined || active === undefined),
        'warming',
      ),
    ],
  ])
}

function extensionsSection(input: DumpInput): DumpSection {
  const { schema } = input
  return section(input, 'EcdsConfigDump', [
    [
      'ecds_filters',
      listOf(delivered(input, EXTENSION), (resource) => {
        const version = resource.active ?? resource.warming
        return {
          ...(version && versionJson(schema, EXTENSION, { version, field: 'ecds_filter' })),
          ...conditionJson(schema, resource),
        }
      }),
    ],
  ])
}
