import type { Cluster } from '../../lib/core/attempt.ts'
import type { TcpProxyPlan } from './filter.ts'

/**
 * Asks for a cluster that is not there (`on_demand`), and answers it when it is. Counted under Envoy's names, which appear
 * with the first connection that needs them. Never rejects.
 */
export async function demandCluster(name: string, { config, scope }: TcpProxyPlan): Promise<Cluster | undefined> {
  const { demand, metrics, wheel } = scope
  if (config.demand === undefined || demand === undefined) return undefined
  const { source, timeoutMs } = config.demand
  const prefix = `tcp.${config.statPrefix}.on_demand_cluster_`
  metrics.counter(`${prefix}attempt`).v++
  const endMs = wheel.clock.now() + timeoutMs
  await demand.cluster(name, source, timeoutMs)
  const cluster = scope.clusters.get(name)
  const outcome = cluster !== undefined ? 'success' : wheel.clock.now() >= endMs ? 'timeout' : 'missing'
  metrics.counter(prefix + outcome).v++
  return cluster
}
