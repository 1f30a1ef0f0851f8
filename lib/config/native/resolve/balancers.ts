import type {
  BalancerConfig,
  ClientWeightedConfig,
  ListBalancerConfig,
  LocalityBalancingConfig,
  MaglevConfig,
  RingHashConfig,
  SlowStartConfig,
  SubsetConfig,
} from '../../../upstream/config.ts'
import type {
  NativeBalancer,
  NativeClientWeighted,
  NativeListBalancer,
  NativeLocalityBalancing,
  NativeMaglev,
  NativeRingHash,
  NativeSlowStart,
  NativeSubset,
} from '../balancers.ts'

const DECAY_MS = 10_000
const MIN_RING_SIZE = 1024
const MAX_RING_SIZE = 8 * 1024 * 1024
const TABLE_SIZE = 65_537
/** Between load reports. */
const REPORT_MS = 10_000

/** The policy of a cluster with every default filled in. */
export function readBalancer(value: NativeBalancer): BalancerConfig {
  if (typeof value === 'string') return readList({ kind: value })
  if (value.kind === 'subset') return readSubset(value)
  if (value.kind !== 'override-host') return readList(value)
  const { sources, selected, otherwise = 'peak-ewma' } = value
  return {
    kind: 'override-host',
    sources: sources.map((source) =>
      'header' in source ? { header: source.header.toLowerCase() } : structuredClone(source),
    ),
    ...(selected && { selected: structuredClone(selected) }),
    otherwise: readWithin(otherwise),
  }
}

function readSubset(value: NativeSubset): SubsetConfig {
  const { selectors, fallback = 'none', defaultLabels = {}, within = 'peak-ewma' } = value
  return {
    kind: 'subset',
    fallback,
    defaultLabels: structuredClone(defaultLabels),
    selectors: structuredClone(selectors),
    ...(value.localityWeights === true && { localityWeights: true as const }),
    ...(value.scaleLocalityWeights === true && { scaleLocalityWeights: true as const }),
    ...(value.panicAny === true && { panicAny: true as const }),
    ...(value.listAsAny === true && { listAsAny: true as const }),
    ...(value.fallbackList === true && { fallbackList: true as const }),
    ...(value.redundantKeys === true && { redundantKeys: true as const }),
    within: readWithin(within),
  }
}

function readWithin(value: NonNullable<NativeSubset['within']>): SubsetConfig['within'] {
  if (typeof value === 'string') return readList({ kind: value })
  return value.kind === 'subset' ? readSubset(value) : readList(value)
}

function readClientWeighted(value: NativeClientWeighted): ClientWeightedConfig {
  const { outOfBand, metrics = [] } = value
  return {
    kind: 'client-weighted',
    blackoutMs: value.blackoutMs ?? 10_000,
    expirationMs: value.expirationMs ?? 180_000,
    updateMs: value.updateMs ?? 1_000,
    errorPenalty: value.errorPenalty ?? 1,
    metrics: [...metrics],
    ...(outOfBand && { outOfBand: { periodMs: REPORT_MS, ...structuredClone(outOfBand) } }),
    ...readLocalities(value.localities),
    ...readSlowStart(value.slowStart),
  }
}

function readList(balancer: NativeListBalancer): ListBalancerConfig {
  switch (balancer.kind) {
    case 'client-weighted':
      return readClientWeighted(balancer)
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
