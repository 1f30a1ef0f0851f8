import type { ListenerFilterFactory } from '../../lib/chain/network.ts'
import type { JsonObject } from '../../lib/core/errors.ts'
import type { ProxyProtocolConfig } from './config.ts'
import { trustedProxyProtocol } from './index.ts'

/** A TLV of version 2 that becomes dynamic metadata. */
export interface ProxyProtocolTlv {
  readonly type: number
  readonly key: string
  /** Default: `envoy.filters.listener.proxy_protocol`. */
  readonly namespace?: string
  /** Default: as UTF-8, in which each byte that is no character becomes `!`. */
  readonly base64?: boolean
}

/** Settings of `proxyProtocol`. */
export interface ProxyProtocolOptions {
  /**
   * Whose headers are believed, by the peer of the socket: addresses or ranges (`10.0.0.0/8`), `unix` for peers on Unix
   * sockets. At least one.
   */
  readonly trustedSources: readonly string[]
  /** Connections without a header pass. Default: they are closed, as are all from other sources. */
  readonly optional?: boolean
  /** Default: both. */
  readonly versions?: readonly (1 | 2)[]
  readonly tlvs?: readonly ProxyProtocolTlv[]
  /** Types of TLVs for clusters that send a PROXY header themselves. Default: none. */
  readonly passThrough?: 'all' | readonly number[]
  readonly statPrefix?: string
}

/** A listener filter as native listeners take it. */
export interface NativeProxyProtocol {
  readonly factory: ListenerFilterFactory<ProxyProtocolConfig>
  readonly config: JsonObject
}

/**
 * A listener filter for a listener behind load balancers that send PROXY headers.
 *
 * @example
 * listenerFilters: [proxyProtocol({ trustedSources: ['10.0.0.0/8'] })]
 */
export function proxyProtocol(options: ProxyProtocolOptions): NativeProxyProtocol {
  const { trustedSources, optional = false, versions = [1, 2], tlvs = [], passThrough = [], statPrefix = '' } = options
  const disallowed = ([1, 2] as const).filter((version) => !versions.includes(version))
  return {
    factory: trustedProxyProtocol,
    config: {
      trusted_sources: [...trustedSources],
      allow_requests_without_proxy_protocol: optional,
      disallowed_versions: disallowed.map((version) => `V${version}`),
      rules: tlvs.map(({ type, key, namespace = '', base64 = false }) => ({
        tlv_type: type,
        on_tlv_present: {
          key,
          metadata_namespace: namespace,
          value_string_encoding: base64 ? 'BASE64' : 'SANITIZED_UTF8',
        },
      })),
      stat_prefix: statPrefix,
      ...passedOn(passThrough),
    },
  }
}

function passedOn(passThrough: 'all' | readonly number[]): JsonObject {
  if (passThrough === 'all') return { pass_through_tlvs: { match_type: 'INCLUDE_ALL' } }
  if (passThrough.length === 0) return {}
  return { pass_through_tlvs: { match_type: 'INCLUDE', tlv_type: [...passThrough] } }
}
