import type { NetworkConnection } from '../../lib/chain/network.ts'
import type { ConnectionInfo } from '../../lib/core/connection.ts'
import type { JsonObject } from '../../lib/core/errors.ts'
import type { TcpProxyPlan } from './filter.ts'

/*
 * What filters in front of tcp_proxy may decide for one connection, by Envoy's keys of filter state.
 */

/** Envoy's `PerConnectionCluster`. */
const CLUSTER_KEY = 'envoy.tcp_proxy.cluster'
/** A number of ms that goes before `idle_timeout`. */
const IDLE_KEY = 'envoy.tcp_proxy.per_connection_idle_timeout_ms'
/** The connection goes upstream as it is, whatever `tunneling_config` says. */
const NO_TUNNEL_KEY = 'envoy.tcp_proxy.disable_tunneling'

/** Timers cannot run for longer. */
const MAX_MS = 0x7fff_ffff

/** The cluster that filters in front have chosen, or one of those configured, and the labels that its hosts must have. */
export function targetOf(
  connection: NetworkConnection,
  { config, chooseCluster }: TcpProxyPlan,
): { readonly name: string; readonly labels: JsonObject | undefined } {
  const chosen = connection.facts.state.object(CLUSTER_KEY)
  const { name, labels } =
    typeof chosen === 'string' && chosen !== '' ? { name: chosen, labels: config.labels } : chooseCluster()
  return { name, labels: withNoted(labels, connection) }
}

/** What filters have noted of the connection goes before what the configuration says. */
function withNoted(labels: JsonObject | undefined, { facts }: NetworkConnection): JsonObject | undefined {
  const noted = facts.state.metadata('envoy.lb')
  if (typeof noted !== 'object' || noted === null || Array.isArray(noted)) return labels
  return { ...labels, ...noted }
}

/** ms without bytes after which the connection ends; 0: never. */
export function idleLimit({ facts }: NetworkConnection, configured: number): number {
  const own = facts.state.object(IDLE_KEY)
  const ms = typeof own === 'string' && /^[0-9]{1,10}$/.test(own) ? Number(own) : own
  return typeof ms === 'number' && ms >= 0 ? Math.min(ms, MAX_MS) : configured
}

export function isUntunnelled({ state }: ConnectionInfo): boolean {
  const flag = state.object(NO_TUNNEL_KEY)
  return flag === true || flag === 'true'
}
