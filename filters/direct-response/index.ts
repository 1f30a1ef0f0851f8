import type { NetworkFilter, NetworkFilterFactory } from '../../lib/chain/network.ts'
import { type DirectResponseConfig, parseDirectResponse } from './config.ts'

/**
 * Ends a chain of layer 4: sends fixed bytes as soon as a connection is there, and closes.
 *
 * Posture: robust against untrusted clients: one that does not read is reset in bounded time.
 */
export const directResponse: NetworkFilterFactory<DirectResponseConfig> = Object.freeze({
  name: 'envoy.filters.network.direct_response',
  typeUrls: ['envoy.extensions.filters.network.direct_response.v3.Config'],
  terminal: true,
  parse: parseDirectResponse,
  compile({ base64 }: DirectResponseConfig): NetworkFilter {
    const response = Buffer.from(base64, 'base64')
    return Object.freeze({
      onConnect(connection) {
        if (response.length > 0) connection.write(response)
        connection.close('direct_response')
      },
    } satisfies NetworkFilter)
  },
})
