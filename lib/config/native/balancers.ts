import type { JsonObject } from '../../core/errors.ts'
import type {
  LocalityBalancingConfig,
  OutOfBandConfig,
  OverrideSourceConfig,
  SlowStartConfig,
  SubsetFallback,
  SubsetSelectorConfig,
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

/** By the weights that endpoints tell themselves, in ORCA load reports; weights of the configuration do not count. */
export interface NativeClientWeighted extends ByLocality {
  readonly kind: 'client-weighted'
  /** So long after its first report an endpoint's reports do not count yet. Default: 10,000. */
  readonly blackoutMs?: number
  /** A report counts so long. Default: 180,000. */
  readonly expirationMs?: number
  /** Weights are worked out so often, at least 100. Default: 1,000. */
  readonly updateMs?: number
  /** Errors per request times this are added to the utilization. Default: 1. */
  readonly errorPenalty?: number
  /** What utilization is (`named_metrics.foo`), the largest of them. Default: the application's, else the CPU's. */
  readonly metrics?: readonly string[]
  /** Endpoints are asked for reports by a gRPC stream to each. Default: reports come with responses. */
  readonly outOfBand?: Partial<OutOfBandConfig>
  /** Default: none. */
  readonly slowStart?: NativeSlowStart
}

/** Policies that choose among all endpoints. */
export type NativeListBalancer =
  | NativeRoundRobin
  | NativeRandom
  | NativeLeastRequest
  | NativePeakEwma
  | NativeClientWeighted
  | NativeRingHash
  | NativeMaglev

/** Among endpoints whose metadata `envoy.lb` has the labels that routes ask for (`metadataMatch`). */
export interface NativeSubset {
  readonly kind: 'subset'
  /** By which labels there are subsets. */
  readonly selectors: readonly SubsetSelectorConfig[]
  /** Where nothing is asked for, or nobody has it. Default: `none`, 503. */
  readonly fallback?: SubsetFallback
  /** What endpoints of the fallback `default` have. Default: nothing, so that it is all of them. */
  readonly defaultLabels?: JsonObject
  /** Weights of localities count within subsets. Default: false. */
  readonly localityWeights?: boolean
  /** By the share of the locality's endpoints that is in the subset. Default: false. */
  readonly scaleLocalityWeights?: boolean
  /** Any endpoint where the fallback has none. Default: false. */
  readonly panicAny?: boolean
  /** An endpoint with a list as its label has all values of it. Default: false. */
  readonly listAsAny?: boolean
  /** The label `fallback_list` of a request holds alternatives, tried in order. Default: false. */
  readonly fallbackList?: boolean
  /** Labels beyond a selector's keys do not keep a request from its subsets. Default: false. */
  readonly redundantKeys?: boolean
  /** Another of its kind goes by the same labels. Default: `peak-ewma`. */
  readonly within?: NativeListBalancer['kind'] | NativeListBalancer | NativeSubset
}

/** Requests name endpoints by their addresses; the first attempt goes to the first, and so on. */
export interface NativeOverrideHost {
  readonly kind: 'override-host'
  /** Headers, or strings in dynamic metadata. */
  readonly sources: readonly OverrideSourceConfig[]
  /** Dynamic metadata that tells which address was chosen. Default: none. */
  readonly selected?: { readonly namespace: string; readonly path: readonly string[] }
  /** For requests that name none (any more). Default: `peak-ewma`. */
  readonly otherwise?: NativeListBalancer['kind'] | NativeListBalancer | NativeSubset
}

/** How endpoints are chosen; a word stands for the policy with its defaults. */
export type NativeBalancer = NativeListBalancer['kind'] | NativeListBalancer | NativeSubset | NativeOverrideHost
