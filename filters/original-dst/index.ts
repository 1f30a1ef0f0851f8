import type { ListenerFilterFactory } from '../../lib/chain/network.ts'
import { type OriginalDstConfig, parseOriginalDst } from './config.ts'
import { compileOriginalDst } from './filter.ts'

/**
 * Sets `localAddress` to where the client wanted to go before the connection was redirected to this port (iptables
 * REDIRECT). On internal listeners it restores the addresses that came along in metadata or filter state.
 * `unavailable`: why sockets do not tell, with which it is refused on listeners that have some.
 *
 * Posture: the answer comes from the kernel, or from filters of the gateway; clients cannot forge it, but where such a
 * filter copies a header of theirs.
 */
export function createOriginalDst(unavailable?: string): ListenerFilterFactory<OriginalDstConfig> {
  return Object.freeze({
    name: 'envoy.filters.listener.original_dst',
    typeUrls: ['envoy.extensions.filters.listener.original_dst.v3.OriginalDst'],
    ...(unavailable !== undefined && { internalOnly: `original destinations are not available: ${unavailable}` }),
    parse: parseOriginalDst,
    compile: compileOriginalDst,
  })
}
