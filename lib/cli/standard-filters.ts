import { adaptiveConcurrencyFilter } from '../../filters/adaptive-concurrency/index.ts'
import { admissionControlFilter } from '../../filters/admission-control/index.ts'
import { bandwidthLimitFilter } from '../../filters/bandwidth-limit/index.ts'
import { buffer } from '../../filters/buffer/index.ts'
import { connectionLimit } from '../../filters/connection-limit/index.ts'
import { cors } from '../../filters/cors/index.ts'
import { directResponse } from '../../filters/direct-response/index.ts'
import { dynamicForwardProxy } from '../../filters/dynamic-forward-proxy/index.ts'
import { echo } from '../../filters/echo/index.ts'
import { grpcHttp1Bridge } from '../../filters/grpc-http1-bridge/index.ts'
import { grpcStats } from '../../filters/grpc-stats/index.ts'
import { grpcWeb } from '../../filters/grpc-web/index.ts'
import { headerMutation } from '../../filters/header-mutation/index.ts'
import { healthCheck } from '../../filters/health-check/index.ts'
import { httpInspector } from '../../filters/http-inspector/index.ts'
import { localRateLimitFilter } from '../../filters/local-ratelimit/index.ts'
import { listenerLocalRateLimit } from '../../filters/local-ratelimit-listener/index.ts'
import { networkLocalRateLimit } from '../../filters/network-local-ratelimit/index.ts'
import { networkRbac } from '../../filters/network-rbac/index.ts'
import { onDemand } from '../../filters/on-demand/index.ts'
import { createOriginalDst } from '../../filters/original-dst/index.ts'
import { proxyProtocol, trustedProxyProtocol } from '../../filters/proxy-protocol/index.ts'
import { setFilterState } from '../../filters/set-filter-state/index.ts'
import { sniCluster } from '../../filters/sni-cluster/index.ts'
import { sniDynamicForwardProxy } from '../../filters/sni-dynamic-forward-proxy/index.ts'
import { statefulSession } from '../../filters/stateful-session/index.ts'
import { tcpProxy } from '../../filters/tcp-proxy/index.ts'
import { tlsInspector } from '../../filters/tls-inspector/index.ts'
import { createLowerFilters, type LowerFilters } from '../chain/factories.ts'
import type { AnyListenerFilterFactory, AnyNetworkFilterFactory } from '../chain/network.ts'
import type { AnyFilterFactory } from '../chain/registry.ts'
import { routerFactory } from '../router/router.ts'

/** The filters that the reference binary has. A custom gateway makes its own list, usually beginning with this one. */
export function standardFilters(): readonly AnyFilterFactory[] {
  return [
    adaptiveConcurrencyFilter,
    admissionControlFilter,
    bandwidthLimitFilter,
    buffer,
    cors,
    dynamicForwardProxy,
    grpcHttp1Bridge,
    grpcStats,
    grpcWeb,
    headerMutation,
    healthCheck,
    localRateLimitFilter,
    onDemand,
    routerFactory,
    statefulSession,
  ]
}

/** Network filters of the reference binary (layer 4). */
export function standardNetworkFilters(): readonly AnyNetworkFilterFactory[] {
  return [
    connectionLimit,
    directResponse,
    echo,
    networkLocalRateLimit,
    networkRbac,
    setFilterState,
    sniCluster,
    sniDynamicForwardProxy,
    tcpProxy,
  ]
}

/** Listener filters of the reference binary: what looks at first bytes. */
export function standardListenerFilters(): readonly AnyListenerFilterFactory[] {
  return [
    httpInspector,
    listenerLocalRateLimit,
    createOriginalDst(NO_ORIGINAL_DESTINATION),
    proxyProtocol,
    tlsInspector,
    trustedProxyProtocol,
  ]
}

const NO_ORIGINAL_DESTINATION =
  'they take the socket option SO_ORIGINAL_DST, which Node.js has only in its experimental module node:ffi'

/** Both kinds, and these besides. */
export function lowerFilters(
  network: readonly AnyNetworkFilterFactory[] = [],
  listener: readonly AnyListenerFilterFactory[] = [],
): LowerFilters {
  return createLowerFilters(
    [...new Set([...standardNetworkFilters(), ...network])],
    [...new Set([...standardListenerFilters(), ...listener])],
  )
}
