import type { FieldReader } from '../../lib/core/field-reader.ts'
import { translateCluster } from './cluster.ts'
import type { EnvoyContext } from './context.ts'
import { translateAssignment, translateEndpoint } from './endpoints.ts'
import { translateExtensionConfig } from './extension-config.ts'
import { translateListener } from './listener.ts'
import { translateRouteConfiguration, translateVirtualHostResource } from './route-configuration.ts'
import { translateRuntimeResource } from './runtime-layers.ts'
import { translateScope } from './scoped-routes.ts'
import { translateSecret } from './tls/secret.ts'
import type { ResourceConfigs, ResourceType } from './translated.ts'

/** One kind of xDS resource. */
interface ResourceKind<C> {
  /** The field that holds its name; undefined: its name is told beside it. */
  readonly name: string | undefined
  /** Undefined where it cannot be used, with the mistakes recorded. */
  translate(reader: FieldReader, context: EnvoyContext): C | undefined
}

const KINDS: { readonly [T in ResourceType]: ResourceKind<ResourceConfigs[T]> } = {
  'envoy.config.listener.v3.Listener': { name: 'name', translate: translateListener },
  'envoy.config.route.v3.RouteConfiguration': { name: 'name', translate: translateRouteConfiguration },
  'envoy.config.route.v3.ScopedRouteConfiguration': { name: 'name', translate: translateScope },
  'envoy.config.route.v3.VirtualHost': { name: 'name', translate: translateVirtualHostResource },
  'envoy.config.cluster.v3.Cluster': { name: 'name', translate: translateCluster },
  'envoy.config.endpoint.v3.ClusterLoadAssignment': { name: 'cluster_name', translate: translateAssignment },
  'envoy.config.endpoint.v3.LbEndpoint': { name: undefined, translate: translateEndpoint },
  'envoy.extensions.transport_sockets.tls.v3.Secret': { name: 'name', translate: translateSecret },
  'envoy.config.core.v3.TypedExtensionConfig': { name: 'name', translate: translateExtensionConfig },
  'envoy.service.runtime.v3.Runtime': { name: 'name', translate: translateRuntimeResource },
}

/** Types of resources that are taken, without `type.googleapis.com/`. */
export const RESOURCE_TYPES: readonly ResourceType[] = Object.freeze(Object.keys(KINDS) as ResourceType[])

/**
 * Translates one resource by its type. References to other resources are not checked unless the context knows them.
 * Mistakes, an unknown type included, go to the reader.
 */
export function translateResource(
  typeName: string,
  reader: FieldReader,
  context: EnvoyContext,
): { readonly name: string; readonly config: ResourceConfigs[ResourceType] | undefined } {
  const kind = kindOf(typeName)
  if (kind === undefined) {
    const json = reader.toJson()
    reader.error(undefined, `resource type "${typeName}": is not available`)
    return { name: typeof json.name === 'string' ? json.name : '', config: undefined }
  }
  const name = kind.name === undefined ? '' : reader.string(kind.name)
  return { name, config: kind.translate(reader, context) }
}

function kindOf(typeName: string): ResourceKind<ResourceConfigs[ResourceType]> | undefined {
  return Object.hasOwn(KINDS, typeName) ? KINDS[typeName as ResourceType] : undefined
}
