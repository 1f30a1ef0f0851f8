import type { JsonObject } from '../../core/errors.ts'
import type { HashPolicyConfig } from '../../core/hash-policy.ts'
import type { MetadataPath } from '../../match/value.ts'

/** New hosts get a growing part of their weight (Envoy's `SlowStartConfig`). */
export interface SlowStartConfig {
  readonly windowMs: number
  /** 1: linear; above: faster at first. */
  readonly aggression: number
  /** A positive number of the runtime under it goes before `aggression`. */
  readonly aggressionKey?: string
  /** Of the weight, at least so much. */
  readonly minWeightPercent: number
}

/** Localities are chosen by their weights. */
export interface LocalityWeightedConfig {
  readonly kind: 'weighted'
}

/** Requests stay in the gateway's own locality as far as its share permits; without a local cluster it has no effect. */
export interface ZoneAwareConfig {
  readonly kind: 'zone-aware'
  /** Percent of the requests (runtime `upstream.zone_routing.enabled`). */
  readonly enabledPercent: number
  /** Healthy hosts that the cluster must have (runtime `upstream.zone_routing.min_cluster_size`). */
  readonly minClusterSize: number
  /** Where too few hosts are usable there is no answer, instead of any host. */
  readonly failOnPanic: boolean
  /** Requests stay in the own locality whatever its share, where it has so many healthy hosts. */
  readonly forceLocalMinHosts?: number
}

export type LocalityBalancingConfig = LocalityWeightedConfig | ZoneAwareConfig

interface ByLocality {
  /** Default: `zone-aware` with Envoy's defaults. */
  readonly localities?: LocalityBalancingConfig
}

export interface RoundRobinConfig extends ByLocality {
  readonly kind: 'round-robin'
  readonly slowStart?: SlowStartConfig
}

export interface RandomConfig extends ByLocality {
  readonly kind: 'random'
}

export interface LeastRequestConfig extends ByLocality {
  readonly kind: 'least-request'
  readonly choiceCount: number
  readonly activeRequestBias: number
  /** A number of the runtime under it, if it is not negative, goes before `activeRequestBias`. */
  readonly activeRequestBiasKey?: string
  /** All hosts are looked at instead of `choiceCount` of them; weights do not count. */
  readonly fullScan?: true
  readonly slowStart?: SlowStartConfig
}

/** The better of two by latency, requests under way and recent failures. */
export interface PeakEwmaConfig extends ByLocality {
  readonly kind: 'peak-ewma'
  /** What was measured counts half after about this time. */
  readonly decayMs: number
}

interface ByHash {
  /** Endpoints are hashed by their names instead of their addresses. */
  readonly byHostname: boolean
  /** Percent of its share of the active requests that a host may have, at least 100; undefined: no bound. */
  readonly balanceFactor?: number
  /** What requests are hashed by, before what their cluster or route says. */
  readonly hashPolicies?: readonly HashPolicyConfig[]
  readonly localities?: LocalityWeightedConfig
}

export interface RingHashConfig extends ByHash {
  readonly kind: 'ring-hash'
  readonly minSize: number
  readonly maxSize: number
  readonly hash: 'xx' | 'murmur2'
}

export interface MaglevConfig extends ByHash {
  readonly kind: 'maglev'
  /** A prime number. */
  readonly tableSize: number
}

/**
 * Weights that hosts tell themselves, by ORCA load reports: requests per second divided by utilization (Envoy's
 * client_side_weighted_round_robin). Weights of the configuration do not count.
 */
export interface ClientWeightedConfig extends ByLocality {
  readonly kind: 'client-weighted'
  /** So long after a host's first report its reports do not count yet. */
  readonly blackoutMs: number
  /** A report counts so long. */
  readonly expirationMs: number
  /** Weights are worked out so often. */
  readonly updateMs: number
  /** Errors per request times this are added to the utilization. */
  readonly errorPenalty: number
  /** What utilization is: the largest of these (`named_metrics.foo`); without any of them the application's, else the CPU's. */
  readonly metrics: readonly string[]
  /** Undefined: reports come with responses alone. */
  readonly outOfBand?: OutOfBandConfig
  readonly slowStart?: SlowStartConfig
}

/** Reports that are asked for by a gRPC stream to each host (`xds.service.orca.v3.OpenRcaService`), instead of those of responses. */
export interface OutOfBandConfig {
  readonly periodMs: number
  /** In place of the endpoint's. */
  readonly port?: number
  readonly authority?: string
  /** Labels that choose the transport, in place of the endpoint's. */
  readonly labels?: JsonObject
}

/** Policies that choose among all hosts of a list. */
export type ListBalancerConfig =
  | RoundRobinConfig
  | RandomConfig
  | LeastRequestConfig
  | PeakEwmaConfig
  | ClientWeightedConfig
  | RingHashConfig
  | MaglevConfig

export type SubsetFallback = 'none' | 'any' | 'default'

/** Hosts that have labels for all of these keys are in subsets by the values. */
export interface SubsetSelectorConfig {
  /** At least one, each once. */
  readonly keys: readonly string[]
  /** A subset is the first host that has its values, whatever its priority and health. */
  readonly singleHost?: true
  /** Where there is no subset of the values asked for; undefined: as the policy says. `keys`: those of `fallbackKeys` alone. */
  readonly fallback?: SubsetFallback | 'keys'
  /** Of `keys`, and not all of them. */
  readonly fallbackKeys?: readonly string[]
}

/** Requests go to hosts with the labels that they ask for (Envoy's subsets), and among those by another policy. */
export interface SubsetConfig {
  readonly kind: 'subset'
  /** Where nothing is asked for, or there is nobody who has it. */
  readonly fallback: SubsetFallback
  /** What hosts of the fallback `default` have; without any it is all hosts. */
  readonly defaultLabels: JsonObject
  readonly selectors: readonly SubsetSelectorConfig[]
  /** Weights of localities count within subsets, and... */
  readonly localityWeights?: true
  /** ...are reduced to the share of the locality's hosts that is in the subset. */
  readonly scaleLocalityWeights?: true
  /** Any host at all where the fallback has none. */
  readonly panicAny?: true
  /** A host with a list as its label has all values of it. */
  readonly listAsAny?: true
  /** The label `fallback_list` of a request holds alternatives, tried in order. */
  readonly fallbackList?: true
  /** Labels beyond a selector's keys do not keep a request from its subsets. */
  readonly redundantKeys?: true
  /** Another of its kind has the same labels to go by. */
  readonly within: ListBalancerConfig | SubsetConfig
}

/** A header, or a string in dynamic metadata (a path of keys within a namespace), that lists addresses. */
export type OverrideSourceConfig =
  | { readonly header: string }
  | { readonly namespace: string; readonly path: MetadataPath }

/** Requests say themselves where they go: the first attempt to the first address, and so on; then another policy chooses. */
export interface OverrideHostConfig {
  readonly kind: 'override-host'
  /** At least one; the lists are taken one after another. */
  readonly sources: readonly OverrideSourceConfig[]
  /** Dynamic metadata that tells which address was chosen. */
  readonly selected?: { readonly namespace: string; readonly path: readonly string[] }
  readonly otherwise: ListBalancerConfig | SubsetConfig
}

/** How hosts are chosen within a priority. */
export type BalancerConfig = ListBalancerConfig | SubsetConfig | OverrideHostConfig
