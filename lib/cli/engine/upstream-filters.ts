import type { Lifetimes } from '../../../listeners/lifetime.ts'
import type { HttpFilter, Scope } from '../../chain/filter.ts'
import type { FilterRegistry } from '../../chain/registry.ts'
import type { ClusterDeps } from '../../upstream/cluster-deps.ts'

/** What compiling the filters of clusters takes. */
export interface UpstreamFilterParts {
  readonly registry: FilterRegistry
  readonly lifetimes: Lifetimes
  /** Asked for when a cluster is made. */
  readonly scopeFor: () => (filterName: string, statPrefix: string, own: Scope['own']) => Scope
}

/** Filters of clusters count under `cluster.<name>.`, as in Envoy, and live as long as their cluster. */
export function upstreamFilters({ registry, lifetimes, scopeFor }: UpstreamFilterParts): ClusterDeps['filters'] {
  return (statName, configs) => {
    const lifetime = lifetimes.create()
    lifetime.hold()
    const filters: HttpFilter<unknown>[] = []
    try {
      for (const config of configs) {
        const scope = scopeFor()(config.name, `cluster.${statName}.`, lifetime.own)
        const filter = registry.compile({ ...config, disabled: false }, [], scope)
        if (filter !== undefined && 'begin' in filter) throw new Error(`filter "${config.name}" ends a chain`)
        if (filter !== undefined) filters.push(filter)
      }
    } catch (error) {
      lifetime.release()
      throw error
    }
    return { filters, names: configs.map(({ name }) => name), release: () => lifetime.release() }
  }
}
