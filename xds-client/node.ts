import { toBinary } from '@bufbuild/protobuf'
import { ConfigRefused, type JsonObject } from '../lib/core/errors.ts'
import { decodeJson } from '../lib/proto/decode-json.ts'
import type { ProtoRegistry } from '../lib/proto/registry.ts'

/** One kind of extension that we have. */
export interface NodeExtension {
  /** Envoy's: `envoy.filters.http`. */
  readonly category: string
  /** Canonical. */
  readonly name: string
  readonly typeUrls: readonly string[]
}

export interface NodeOptions {
  /** As the bootstrap has it, Envoy's field names; what it says wins, its client features are added to. */
  readonly node: JsonObject
  /** Ours: `1.2.3`, whatever follows a `-` is left out. */
  readonly version: string
  readonly extensions: readonly NodeExtension[]
  /** Besides those of the protocol: only what is really done may be claimed. */
  readonly clientFeatures?: readonly string[]
}

/** What this client does of itself. */
const FEATURES: readonly string[] = Object.freeze([
  'xds.config.supports-resource-ttl',
  'xds.config.supports-resource-in-sotw',
])

/** The node as requests carry it: that of the bootstrap, and who we are. */
export function describeNode(options: NodeOptions): JsonObject {
  const { node, version, extensions, clientFeatures = [] } = options
  const [major = 0, minor = 0, patch = 0] = version.split('-')[0].split('.').map(Number)
  const given = Array.isArray(node.client_features) ? node.client_features : []
  const agent: JsonObject =
    node.user_agent_version === undefined && node.user_agent_build_version === undefined
      ? { user_agent_build_version: { version: { major_number: major, minor_number: minor, patch } } }
      : {}
  return {
    user_agent_name: 'headgate',
    ...agent,
    extensions: extensions.map(({ category, name, typeUrls }) => ({ name, category, type_urls: [...typeUrls] })),
    ...node,
    client_features: [...new Set([...given, ...FEATURES, ...clientFeatures])],
  }
}

/** `envoy.config.core.v3.Node`, encoded once for all requests. @throws ConfigRefused for a node that is none */
export function encodeNode(registry: ProtoRegistry, node: JsonObject): Uint8Array {
  const desc = registry.expect('envoy.config.core.v3.Node')
  const { message, errors } = decodeJson(registry, desc, node, 'node')
  if (message === undefined || errors.length > 0) throw new ConfigRefused(errors)
  return toBinary(desc, message)
}
