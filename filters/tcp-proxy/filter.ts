import type { ConnectionLogger, NetworkFilter, NetworkScope } from '../../lib/chain/network.ts'
import type { TcpProxyConfig, WeightedTcpCluster } from './config.ts'
import { type ConnectionHash, compileHash } from './hash.ts'
import { Session } from './session.ts'
import { type TcpProxyStats, tcpProxyStats } from './stats.ts'
import { compileTlvs, type WithTlvs } from './tlvs.ts'
import { compileTunnel, type TunnelPlan } from './tunnel-plan.ts'

/** One tcp_proxy, compiled: what all its connections share. */
export interface TcpProxyPlan {
  readonly config: TcpProxyConfig
  readonly scope: NetworkScope
  readonly stats: TcpProxyStats
  readonly logger: ConnectionLogger
  /** Undefined: raw connections. */
  readonly tunnel: TunnelPlan | undefined
  /** Undefined: balancers that hash get nothing to hash. */
  readonly hash: ConnectionHash | undefined
  /** Undefined: the upstream side is told the connection's facts as they are. */
  readonly withTlvs: WithTlvs | undefined
  /** One of the configured clusters, by weight. */
  chooseCluster(): WeightedTcpCluster
}

export function compileTcpProxy(config: TcpProxyConfig, scope: NetworkScope): NetworkFilter<Session> {
  const plan: TcpProxyPlan = {
    config,
    scope,
    stats: tcpProxyStats(scope.metrics, config.statPrefix),
    logger: scope.openLogs(config.accessLogs),
    tunnel: config.tunneling === undefined ? undefined : compileTunnel(config.tunneling, scope),
    hash: compileHash(config.hash),
    withTlvs: config.tlvs && compileTlvs(config.tlvs.list, config.tlvs.merge, scope),
    chooseCluster: compileChoice(config.clusters, scope.random),
  }
  const filter: NetworkFilter<Session> = {
    createState: (connection) => new Session(connection, plan),
    onConnect: (_, session) => session.begin(),
    onRead: (_, chunk, end, session) => session.read(chunk, end),
    onDrain: (_, session) => session.downstreamDrained(),
    onClose: (_, session) => session.downstreamClosed(),
  }
  return Object.freeze(filter)
}

function compileChoice(clusters: readonly WeightedTcpCluster[], random: () => number): () => WeightedTcpCluster {
  const total = clusters.reduce((sum, { weight }) => sum + weight, 0)
  const last = clusters[clusters.length - 1]
  return () => {
    if (clusters.length === 1) return last
    let draw = Math.floor(random() * total)
    for (const cluster of clusters) {
      if (draw < cluster.weight) return cluster
      draw -= cluster.weight
    }
    return last
  }
}
