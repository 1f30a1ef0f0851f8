import { KINDS, type Kind } from '../../../xds-client/dynamic/kinds.ts'
import type { ResourceCheck } from '../../../xds-client/dynamic/verdicts.ts'
import type { LowerFilters } from '../../chain/factories.ts'
import type { FilterRegistry } from '../../chain/registry.ts'
import { checkCluster } from '../../config/checks/clusters.ts'
import { checkListener } from '../../config/checks/listeners.ts'
import { checkRouteTable } from '../../config/checks/routes.ts'
import { type CheckContext, Spot } from '../../config/checks/spot.ts'
import type { ListenerConfig } from '../../config/listener.ts'
import type { ConfigError } from '../../core/errors.ts'
import type { RouteTableConfig } from '../../router/config.ts'
import type { ClusterConfig } from '../../upstream/config.ts'

/** The same by the types of resources. */
export function resourceTypeCheck(
  registry: FilterRegistry,
  lower: LowerFilters,
): (typeName: string, config: unknown) => readonly ConfigError[] {
  const check = resourceCheck(registry, lower)
  return (typeName, config) => {
    for (const { kind, typeName: of, members } of KINDS.values()) {
      if (of === typeName && members === undefined) return check(kind, config)
    }
    return NOTHING
  }
}

const NOTHING: readonly never[] = Object.freeze([])

/** Names of clusters that may come at any time: none is unknown. */
class AnyName extends Set<string> {
  override has(): boolean {
    return true
  }
}

/**
 * Judges resources that were delivered as a whole configuration is judged: every text that is compiled later, certificates
 * and keys, chains that end. References to clusters are not looked at: those may come at any time.
 */
export function resourceCheck(registry: FilterRegistry, { network, listener }: LowerFilters): ResourceCheck {
  return (kind: Kind, config: unknown) => {
    if (kind !== 'listener' && kind !== 'cluster' && kind !== 'routes') return NOTHING
    const context: CheckContext = {
      errors: [],
      origins: undefined,
      clusters: new AnyName(),
      isTerminal: (typeUrl) => registry.byType.get(typeUrl)?.terminal === true,
      networkFilter: (typeUrl) => network.byType.get(typeUrl),
      listenerFilter: (typeUrl) => listener.byType.get(typeUrl),
    }
    const spot = new Spot(context, '')
    if (kind === 'listener') checkListener(config as ListenerConfig, spot)
    else if (kind === 'cluster') checkCluster(config as ClusterConfig, spot)
    else checkRouteTable(config as RouteTableConfig, spot, new Set())
    return context.errors
  }
}
