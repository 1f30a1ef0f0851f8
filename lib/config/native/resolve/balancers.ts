import type {
  BalancerConfig,
  LocalityBalancingConfig,
  MaglevConfig,
  RingHashConfig,
  SlowStartConfig,
} from '../../../upstream/config.ts'
import type {
  NativeBalancer,
  NativeLocalityBalancing,
  NativeMaglev,
  NativeRingHash,
  NativeSlowStart,
} from '../balancers.ts'

const DECAY_MS = 10_000
const MIN_RING_SIZE = 1024
const MAX_RING_SIZE = 8 * 1024 * 1024
const TABLE_SIZE = 65_537

/** The policy of a cluster with every default filled in. */
export function readBalancer(value: NativeBalancer): BalancerConfig {
  const balancer: Exclude<NativeBalancer, string> = typeof value === 'string' ? { kind: value } : value
  switch (balancer.kind) {
    case 'round-robin':
      return { kind: 'round-robin', ...readLocalities(balancer.localities), ...readSlowStart(balancer.slowStart) }
    case 'random':
      return { kind: 'random', ...readLocalities(balancer.localities) }
    case 'least-request':
      return {
        kind: 'least-request',
        choiceCount: balancer.choiceCount ?? 2,
        activeRequestBias: balancer.activeRequestBias ?? 1,
        ...(balancer.fullScan === true && { fullScan: true as const }),
        ...readLocalities(balancer.localities),
        ...readSlowStart(balancer.slowStart),
      }
    case 'peak-ewma':
      return { kind: 'peak-ewma', decayMs: balancer.decayMs ?? DECAY_MS, ...readLocalities(balancer.localities) }
    case 'ring-hash':
      return {
        kind: 'ring-hash',
        minSize: balancer.minSize ?? MIN_RING_SIZE,
        maxSize: balancer.maxSize ?? MAX_RING_SIZE,
        hash: balancer.hash ?? 'xx',
        ...readHashing(balancer),
      }
    case 'maglev':
      return { kind: 'maglev', tableSize: balancer.tableSize ?? TABLE_SIZE, ...readHashing(balancer) }
  }
}

type Hashing = Pick<RingHashConfig | MaglevConfig, 'byHostname' | 'balanceFactor' | 'localities'>

function readHashing({ byHostname, balanceFactor, localities }: Partial<NativeRingHash | NativeMaglev>): Hashing {
  return {
    byHostname: byHostname ?? false,
    ...(balanceFactor !== undefined && { balanceFactor }),
    ...(localities !== undefined && { localities: { kind: 'weighted' } as const }),
  }
}

function readLocalities(value: NativeLocalityBalancing | undefined): { readonly localities?: LocalityBalancingConfig } {
  if (value === undefined) return {}
  if (value === 'weighted' || value.kind === 'weighted') return { localities: { kind: 'weighted' } }
  const { enabledPercent = 100, minClusterSize = 6, failOnPanic = false, forceLocalMinHosts } = value
  const zoneAware = { kind: 'zone-aware', enabledPercent, minClusterSize, failOnPanic } as const
  return { localities: forceLocalMinHosts === undefined ? zoneAware : { ...zoneAware, forceLocalMinHosts } }
}

function readSlowStart(value: NativeSlowStart | undefined): { readonly slowStart?: SlowStartConfig } {
  if (value === undefined) return {}
  const { windowMs, aggression = 1, aggressionKey, minWeightPercent = 10 } = value
  return {
    slowStart: { windowMs, aggression, minWeightPercent, ...(aggressionKey !== undefined && { aggressionKey }) },
  }
}
