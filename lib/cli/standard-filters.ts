import { buffer } from '../../filters/buffer/index.ts'
import { cors } from '../../filters/cors/index.ts'
import { grpcHttp1Bridge } from '../../filters/grpc-http1-bridge/index.ts'
import { grpcStats } from '../../filters/grpc-stats/index.ts'
import { grpcWeb } from '../../filters/grpc-web/index.ts'
import { headerMutation } from '../../filters/header-mutation/index.ts'
import { healthCheck } from '../../filters/health-check/index.ts'
import { createLowerFilters, type LowerFilters } from '../chain/factories.ts'
import type { AnyListenerFilterFactory, AnyNetworkFilterFactory } from '../chain/network.ts'
import type { AnyFilterFactory } from '../chain/registry.ts'
import { routerFactory } from '../router/router.ts'

/** The filters that the reference binary has. A custom gateway makes its own list, usually beginning with this one. */
export function standardFilters(): readonly AnyFilterFactory[] {
  return [buffer, cors, grpcHttp1Bridge, grpcStats, grpcWeb, headerMutation, healthCheck, routerFactory]
}

/** Network filters of the reference binary (layer 4). */
export function standardNetworkFilters(): readonly AnyNetworkFilterFactory[] {
  return []
}

/** Listener filters of the reference binary: what looks at first bytes. */
export function standardListenerFilters(): readonly AnyListenerFilterFactory[] {
  return []
}

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
