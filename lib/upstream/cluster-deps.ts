import type { HealthLink } from '../core/host-health.ts'
import type { InternalListeners } from '../core/internal-listeners.ts'
import type { Leases } from '../core/lease.ts'
import type { Log, Metrics, Runtime } from '../core/metrics.ts'
import type { OverloadLevers } from '../core/overload.ts'
import type { TimerWheel } from '../core/timer-wheel.ts'
import type { AccessLogSinks } from '../telemetry/sinks/registry.ts'
import type { UpstreamCluster } from './cluster.ts'
import type { UpstreamFilterConfig } from './config.ts'
import type { AssignmentTable } from './discovery/assignments.ts'
import type { DnsResolvers } from './discovery/dns/resolver.ts'
import type { MadeFilters } from './filters/chain.ts'
import type { HostView } from './host-view.ts'
import type { ReadBuffer } from './socket-reader.ts'

/** What clusters share within a gateway. */
export interface ClusterDeps {
  readonly metrics: Metrics
  readonly wheel: TimerWheel
  readonly random: () => number
  readonly log: Log
  readonly dns: DnsResolvers
  readonly nextConnectionId: () => number
  /** For the reads of HTTP/1 sockets; undefined: they read as Node does by itself. */
  readonly readBuffer?: ReadBuffer
  /** Undefined: there is no overload manager. */
  readonly overload?: OverloadLevers
  /** Undefined: endpoints that are internal listeners cannot be reached. */
  readonly internal?: InternalListeners
  /** Undefined: clusters of type `eds` have no endpoints. */
  readonly assignments?: AssignmentTable
  /** Default: without any values. */
  readonly runtime?: Runtime
  /** Of the whole gateway. Default: each cluster counts for itself. */
  readonly leases?: Leases
  /** The hosts of a cluster as it is now; undefined: no routing by zone. */
  readonly hostsOf?: (cluster: string) => HostView | undefined
  /** Whoever judges hosts for the whole gateway; undefined: each cluster does so for itself. */
  readonly health?: HealthLink
  /** The cluster of that name as it is now, for those that are made of others; undefined: there are no others. */
  readonly clusterOf?: (name: string) => UpstreamCluster | undefined
  /** Compiles the HTTP filters of a cluster, for its name in statistics; undefined: requests go without them. @throws Error */
  readonly filters?: (statName: string, filters: readonly UpstreamFilterConfig[]) => MadeFilters
  /** Undefined: event logs of health checks and outlier detection are not written. */
  readonly sinks?: AccessLogSinks
}
