import { describeNode, type NodeExtension } from '../../../xds-client/node.ts'
import type { LowerFilters } from '../../chain/factories.ts'
import type { FilterRegistry } from '../../chain/registry.ts'
import type { JsonObject } from '../../core/errors.ts'
import { packageVersion } from '../version.ts'

interface Factory {
  readonly name: string
  readonly typeUrls: readonly string[]
}

/** The node as control planes see it: that of the bootstrap, and what we are and have. */
export function nodeFor(node: JsonObject, registry: FilterRegistry, { network, listener }: LowerFilters): JsonObject {
  const extensions: NodeExtension[] = []
  const add = (category: string, byType: ReadonlyMap<string, Factory>): void => {
    // A filter stands there once for each of its types.
    for (const { name, typeUrls } of new Set(byType.values())) extensions.push({ category, name, typeUrls })
  }
  add('envoy.filters.http', registry.byType)
  add('envoy.filters.network', network.byType)
  add('envoy.filters.listener', listener.byType)
  return describeNode({ node, version: packageVersion(), extensions })
}
