import type { Counter } from '../core/metrics.ts'
import type { HttpFilter } from './filter.ts'
import type { ListenerFilter, NetworkFilter } from './network.ts'

/** Stands where the configuration of an HTTP filter has not come: 500 with the flag NFCF, as Envoy (which gives no details). */
export const MISSING_FILTER: HttpFilter = Object.freeze({
  onRequestHeaders: (stream) => stream.reply({ status: 500, details: 'no_filter_config_found', flag: 'NFCF' }),
} satisfies HttpFilter)

/** The same for a network filter: connections are closed, and counted. */
export function missingNetworkFilter(closed: Counter): NetworkFilter {
  return Object.freeze({
    onConnect(connection) {
      closed.v++
      connection.close('network_filter_config_missing', 'NFCF')
    },
  } satisfies NetworkFilter)
}

/** The same for a listener filter. */
export function missingListenerFilter(closed: Counter): ListenerFilter {
  return Object.freeze({
    maxBytes: 0,
    onAccept() {
      closed.v++
      return { refused: 'its configuration has not come' }
    },
  } satisfies ListenerFilter)
}
