import type { FieldReader } from '../../lib/core/field-reader.ts'
import { translateCluster } from './cluster.ts'
import type { EnvoyContext } from './context.ts'
import { translateEndpoints } from './endpoints.ts'
import { translateListener } from './listener.ts'
import { WHY } from './refusals.ts'
import { translateRouteConfiguration } from './route-configuration.ts'

/** One kind of xDS resource. */
interface ResourceKind {
  /** The field that holds its name. */
  readonly name: string
  translate(reader: FieldReader, context: EnvoyContext): unknown
}

const KINDS: ReadonlyMap<string, ResourceKind> = new Map<string, ResourceKind>([
  ['envoy.config.listener.v3.Listener', { name: 'name', translate: translateListener }],
  ['envoy.config.route.v3.RouteConfiguration', { name: 'name', translate: translateRouteConfiguration }],
  ['envoy.config.cluster.v3.Cluster', { name: 'name', translate: translateCluster }],
  [
    'envoy.config.endpoint.v3.ClusterLoadAssignment',
    { name: 'cluster_name', translate: (reader) => translateEndpoints(reader, 'ip') },
  ],
])

/** What became of a resource; its translation is worth something only where nothing was found wrong. */
export interface TranslatedResource {
  readonly name: string
  /** A `ListenerConfig`, `RouteTableConfig`, `ClusterConfig` or a list of `LocalityEndpointsConfig`. */
  readonly config: unknown
}

/**
 * Translates one resource by its type. References to other resources are not checked unless the context knows them.
 * Mistakes, an unknown type included, go to the reader.
 */
export function translateResource(typeName: string, reader: FieldReader, context: EnvoyContext): TranslatedResource {
  const kind = KINDS.get(typeName)
  if (kind === undefined) {
    const json = reader.toJson()
    const why = typeName.startsWith('envoy.extensions.transport_sockets.tls.') ? WHY.secrets : 'is not available'
    reader.error(undefined, `resource type "${typeName}": ${why}`)
    return { name: typeof json.name === 'string' ? json.name : '', config: undefined }
  }
  const name = reader.string(kind.name)
  return { name, config: kind.translate(reader, context) }
}
