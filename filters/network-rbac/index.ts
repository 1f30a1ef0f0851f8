import type { NetworkFilterFactory } from '../../lib/chain/network.ts'
import { type NetworkRbacConfig, parseNetworkRbac } from './config.ts'
import { compileNetworkRbac } from './filter.ts'

/**
 * Lets connections in, or closes them, by policies over addresses, ports, server names and verified certificates
 * (`lib/rbac`). Conditions on headers, paths and routes are refused: they would hold for no connection.
 *
 * Decides when the connection is established, TLS included, and before any later filter hears of it: stricter than
 * Envoy, which waits for the first byte. With `CONTINUOUS` each chunk is decided on as it comes.
 *
 * Posture: robust against untrusted clients; it reads facts of the connection and keeps nothing.
 *
 * Counters: `<stat_prefix>.rbac.allowed`, `.denied`, and with `shadow_rules_stat_prefix` in front of their last part
 * `.shadow_allowed`, `.shadow_denied`. Metadata: `envoy.filters.network.rbac`.
 */
export const networkRbac: NetworkFilterFactory<NetworkRbacConfig> = Object.freeze({
  name: 'envoy.filters.network.rbac',
  typeUrls: ['envoy.extensions.filters.network.rbac.v3.RBAC'],
  parse: parseNetworkRbac,
  compile: compileNetworkRbac,
})
