import type {
  BalancerConfig,
  LocalityBalancingConfig,
  SlowStartConfig,
  ZoneAwareConfig,
} from '../../upstream/config.ts'

/** Endpoints that are new get a growing part of their weight. */
export type NativeSlowStart = Pick<SlowStartConfig, 'windowMs'> & Partial<SlowStartConfig>

/**
 * `weighted`: localities get requests by their weights; an object: they stay in the gateway's own locality as far as its
 * share permits.
 */
export type NativeLocalityBalancing =
  | 'weighted'
  | (Pick<ZoneAwareConfig, 'kind'> & Partial<ZoneAwareConfig>)
  | Extract<LocalityBalancingConfig, { kind: 'weighted' }>

interface ByLocality {
  /** Default: localities do not count. */
  readonly localities?: NativeLocalityBalancing
}

/** In turns. */
export interface NativeRoundRobin extends ByLocality {
  readonly kind: 'round-robin'
  /** Default: none. */
  readonly slowStart?: NativeSlowStart
}

export interface NativeRandom extends ByLocality {
  readonly kind: 'random'
}

/** Fewest requests under way. */
export interface NativeLeastRequest extends ByLocality {
  readonly kind: 'least-request'
  /** How many endpoints are compared. Default: 2. */
  readonly choiceCount?: number
  /** How much active requests take off an endpoint's weight. Default: 1. */
  readonly activeRequestBias?: number
  /** All endpoints are compared, whatever their weights. Default: false. */
  readonly fullScan?: boolean
  /** Default: none. */
  readonly slowStart?: NativeSlowStart
}

/** The better of two by latency, requests under way and failures: keeps away from endpoints that fail, hang or are slow. */
export interface NativePeakEwma extends ByLocality {
  readonly kind: 'peak-ewma'
  /** What was measured counts half after about this time. Default: 10,000. */
  readonly decayMs?: number
}

interface ByHash {
  /** Endpoints are hashed by their names instead of their addresses. Default: false. */
  readonly byHostname?: boolean
  /** Percent of its share of the active requests that an endpoint may have, at least 100. Default: no bound. */
  readonly balanceFactor?: number
  /** Default: localities do not count. */
  readonly localities?: 'weighted'
}

/** Requests of the same hash go to the same endpoint (`hashPolicies` of the route): ketama. */
export interface NativeRingHash extends ByHash {
  readonly kind: 'ring-hash'
  /** Default: 1,024. */
  readonly minSize?: number
  /** Default: 8,388,608. */
  readonly maxSize?: number
  /** Default: `xx`. */
  readonly hash?: 'xx' | 'murmur2'
}

/** As ring hash, with even shares from a small table. */
export interface NativeMaglev extends ByHash {
  readonly kind: 'maglev'
  /** A prime number, at most 5,000,011. Default: 65,537. */
  readonly tableSize?: number
}

/** How endpoints are chosen; a word stands for the policy with its defaults. */
export type NativeBalancer =
  | BalancerConfig['kind']
  | NativeRoundRobin
  | NativeRandom
  | NativeLeastRequest
  | NativePeakEwma
  | NativeRingHash
  | NativeMaglev
