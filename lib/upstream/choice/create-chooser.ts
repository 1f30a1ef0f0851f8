import type { Clock } from '../../core/clock.ts'
import type { Counter, Metrics } from '../../core/metrics.ts'
import type { UpstreamCluster } from '../cluster.ts'
import type { ClusterConfig } from '../config.ts'
import type { Discovery } from '../discovery/discovery.ts'
import { DEFAULT_FORWARD_PROXY } from '../discovery/forward-proxy.ts'
import { wantedHost } from '../discovery/wanted-host.ts'
import type { HostSet } from '../host-set.ts'
import { Aggregate } from './aggregate.ts'
import type { Chooser } from './chooser.ts'
import { Composite } from './composite.ts'
import type { FindCluster } from './members.ts'
import { NamedHosts } from './named.ts'
import { originalDestination } from './original-dst.ts'
import { SubClusters } from './sub-clusters.ts'

/** What choosers work with. */
export interface ChooserParts {
  readonly hosts: HostSet
  readonly discovery: Discovery
  readonly clock: Clock
  readonly random: () => number
  readonly metrics: Metrics
  /** Clusters of the gateway as they are now; undefined: there are no others. */
  readonly find: FindCluster | undefined
  /** Makes a cluster that nobody else knows. */
  readonly makeCluster: (config: ClusterConfig) => UpstreamCluster
  /** Requests without a host. */
  readonly none: () => Counter
}

/** Whether `createChooser` makes one. */
export function choosesItself({ type }: ClusterConfig): boolean {
  return CHOOSING.includes(type)
}

const CHOOSING: readonly ClusterConfig['type'][] = Object.freeze([
  'aggregate',
  'composite',
  'original-dst',
  'dynamic-forward-proxy',
])

/** What finds the hosts of requests where no balancer does; undefined: the balancer does. */
export function createChooser(config: ClusterConfig, parts: ChooserParts): Chooser | undefined {
  const { hosts, discovery, none, clock, makeCluster, metrics, random } = parts
  const find = parts.find ?? (() => undefined)
  const secure = config.tls !== undefined
  switch (config.type) {
    case 'aggregate':
      return new Aggregate({ names: config.members ?? [], find, rules: () => hosts.rules, random, none })
    case 'composite':
      return new Composite(config.members ?? [], find, none)
    case 'original-dst': {
      const invalid = (): Counter => metrics.counter(`cluster.${config.statName}.original_dst_host_invalid`)
      const wanted = originalDestination(config.originalDst ?? { cleanupMs: 0 }, invalid)
      return new NamedHosts({ hosts, discovery, wanted, none })
    }
    case 'dynamic-forward-proxy': {
      const wanted = (context: Parameters<typeof wantedHost>[0]) => wantedHost(context, secure)
      const limits = config.forwardProxy ?? DEFAULT_FORWARD_PROXY
      const { subClusters } = limits
      if (subClusters === undefined) return new NamedHosts({ hosts, discovery, wanted, none })
      return new SubClusters({ config, limits, balancer: subClusters.balancer, clock, wanted, makeCluster })
    }
    default:
      return undefined
  }
}
