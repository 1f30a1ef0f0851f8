import type { NetworkFilter, NetworkFilterFactory } from '../../lib/chain/network.ts'

/** What tcp_proxy reads. */
const CLUSTER_KEY = 'envoy.tcp_proxy.cluster'

const filter: NetworkFilter = Object.freeze({
  onConnect({ facts }) {
    if (facts.serverName !== undefined && facts.serverName !== '') facts.state.setObject(CLUSTER_KEY, facts.serverName)
  },
} satisfies NetworkFilter)

/**
 * Makes tcp_proxy use the cluster that is named as the client's SNI. Connections without SNI go where tcp_proxy says.
 *
 * Posture: clients choose among all clusters of the gateway: names of clusters that they must not reach must not be
 * names that they can ask for.
 */
export const sniCluster: NetworkFilterFactory<object> = Object.freeze({
  name: 'envoy.filters.network.sni_cluster',
  typeUrls: ['envoy.extensions.filters.network.sni_cluster.v3.SniCluster'],
  parse: () => ({}),
  compile: () => filter,
})
