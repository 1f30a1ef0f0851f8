import type { AnyListenerFilterFactory, AnyNetworkFilterFactory } from '../../chain/network.ts'
import type { JsonObject } from '../../core/errors.ts'
import type { MatcherTreeConfig } from '../../match/config.ts'
import type { KeepaliveConfig, ListenerFilterConditionConfig } from '../listener.ts'
import type { NativeAddress } from './clusters.ts'
import type { NativeHttp } from './http.ts'
import type { NativeAccessLog } from './logs.ts'
import type { NativeCidr, NativeMetadata } from './matches.ts'
import type { NativeDownstreamTls } from './tls.ts'

/** A filter below HTTP that the gateway knows, by name. */
export interface NativeKnownLowerFilter {
  /** Name in messages; also the filter's own name where `type` is not set. */
  readonly name: string
  /** The filter's name (`envoy.filters.network.tcp_proxy`, or just `tcp_proxy`) or the type URL of its configuration. */
  readonly type?: string
  /** As JSON; field names as in Envoy's API, in snake_case or camelCase. */
  readonly config?: JsonObject
}

/** A filter below HTTP by its factory, which the gateway thereby knows. */
export interface NativeLowerFactoryFilter<F> {
  readonly factory: F
  /** Default: the factory's. */
  readonly name?: string
  /** As JSON. Default: `{}`. */
  readonly config?: JsonObject
}

/** A filter of layer 4; a bare factory stands for itself with an empty configuration. */
export type NativeNetworkFilter =
  | NativeKnownLowerFilter
  | NativeLowerFactoryFilter<AnyNetworkFilterFactory>
  | AnyNetworkFilterFactory

/** A filter that looks at first bytes. */
export type NativeListenerFilter = (
  | NativeKnownLowerFilter
  | NativeLowerFactoryFilter<AnyListenerFilterFactory>
  | AnyListenerFilterFactory
) & {
  /** Connections that it leaves alone. Default: none. */
  readonly disabledFor?: ListenerFilterConditionConfig
}

/**
 * Which connections a filter chain takes; what is not set takes all. Of several chains the most specific one takes a
 * connection, step by step in the order of these fields, as in Envoy.
 */
export interface NativeFilterChainMatch {
  readonly destinationPort?: number
  readonly destinations?: readonly NativeCidr[]
  /** Exact names and `*.suffix`. The TLS inspector is added where one of these needs it. */
  readonly serverNames?: readonly string[]
  readonly transportProtocol?: 'raw_buffer' | 'tls'
  /** Of ALPN, or as the HTTP inspector finds them: `h2`, `http/1.1`, `h2c`. */
  readonly applicationProtocols?: readonly string[]
  /** Of the peer of the socket, whatever a PROXY header says. */
  readonly directSources?: readonly NativeCidr[]
  readonly sourceType?: 'any' | 'same-ip-or-loopback' | 'external'
  readonly sources?: readonly NativeCidr[]
  readonly sourcePorts?: readonly number[]
}

/** What is done with connections. Without `http` the last network filter must be one that ends the chain. */
export interface NativeFilterChain {
  /** Goes into logs; required and unique where the listener has a `chainMatcher`. */
  readonly name?: string
  /** Default: every connection. */
  readonly match?: NativeFilterChainMatch
  /** Default: none, plaintext. */
  readonly tls?: NativeDownstreamTls
  /** In order, before HTTP. */
  readonly networkFilters?: readonly NativeNetworkFilter[]
  readonly http?: NativeHttp
}

/** One listener: where it listens, and what it does with connections. */
export interface NativeListener {
  /** Unique. Default: the first address as text. */
  readonly name?: string
  /**
   * One address or several; port 0 takes any free port. Hosts are IP addresses: `0.0.0.0:80`, `[::]:80`. Required unless
   * `internal`.
   */
  readonly address?: NativeAddress | readonly NativeAddress[]
  /** Reached by clusters of this gateway alone, by its name. Default: false. */
  readonly internal?: boolean
  /** The only filter chain: `http`, `networkFilters` and `tls` are short for `filterChains` with one that takes all. */
  readonly http?: NativeHttp
  readonly networkFilters?: readonly NativeNetworkFilter[]
  readonly tls?: NativeDownstreamTls
  readonly filterChains?: readonly NativeFilterChain[]
  /** For connections that no other takes. Default: they are closed. */
  readonly defaultFilterChain?: Omit<NativeFilterChain, 'match'>
  /** Chooses between `filterChains` by their names, instead of their own `match`. */
  readonly chainMatcher?: MatcherTreeConfig<string>
  /** They look at the first bytes of every connection, in order. */
  readonly listenerFilters?: readonly NativeListenerFilter[]
  /** For all listener filters together; 0: none. Default: 5,000. */
  readonly listenerFiltersTimeoutMs?: number
  /** Connections whose listener filters take too long go on with what is known. Default: false, they are closed. */
  readonly continueOnListenerFiltersTimeout?: boolean
  /** Name in statistics: `listener.<statPrefix>.`. Default: the first address. */
  readonly statPrefix?: string
  /** Open connections, per worker; more are reset. Default: 10,000. */
  readonly maxConnections?: number
  /** The same for each address of clients. Default: no limit. */
  readonly maxConnectionsPerSource?: number
  /** Its connections do not count for the `maxConnections` of the gateway. Default: false. */
  readonly ignoreGlobalLimit?: boolean
  /** The overload manager leaves it alone: for health checks. Default: false. */
  readonly bypassOverload?: boolean
  /** What one connection holds in memory per direction before its sender has to wait. Default: 32 KiB. */
  readonly bufferLimitBytes?: number
  /** Connections that wait to be accepted. Default: 65,535, which the system cuts down to its own limit. */
  readonly backlog?: number
  /** TCP keep-alive. Default: none. */
  readonly keepalive?: KeepaliveConfig
  /** For drains that are asked for inbound traffic alone. Default: not said. */
  readonly trafficDirection?: 'inbound' | 'outbound'
  /** `modify-only`: its connections are not drained when the gateway fails its health checks. Default: `default`. */
  readonly drainType?: 'default' | 'modify-only'
  /** One line per connection. Default: none. */
  readonly accessLogs?: readonly NativeAccessLog[]
  readonly metadata?: NativeMetadata
}
