import { z } from 'zod'
import type { MetadataPath } from '../../../match/value.ts'
import { isObject } from '../../../proto/describe.ts'
import type {
  OutOfBandConfig,
  OverrideSourceConfig,
  SubsetSelectorConfig,
  ZoneAwareConfig,
} from '../../../upstream/config.ts'
import type {
  NativeBalancer,
  NativeClientWeighted,
  NativeLeastRequest,
  NativeListBalancer,
  NativeLocalityBalancing,
  NativeMaglev,
  NativeOverrideHost,
  NativePeakEwma,
  NativeRandom,
  NativeRingHash,
  NativeRoundRobin,
  NativeSlowStart,
  NativeSubset,
} from '../balancers.ts'
import { byKind, choose, count, jsonObject, metadataPath, ms, name, object } from './pieces.ts'

const KINDS = ['round-robin', 'random', 'least-request', 'peak-ewma', 'client-weighted', 'ring-hash', 'maglev'] as const
const LARGEST_TABLE = 5_000_011

/** A word, or an object with its kind. */
export function balancer(): z.ZodType<NativeBalancer> {
  return wordOr<NativeBalancer>({ ...lists(), subset, 'override-host': overrideHost })
}

function subset(): z.ZodType<NativeSubset> {
  return object<NativeSubset>({
    kind: z.literal('subset'),
    selectors: z.array(selector()),
    fallback: z.enum(['none', 'any', 'default']).optional(),
    defaultLabels: jsonObject().optional(),
    localityWeights: z.boolean().optional(),
    scaleLocalityWeights: z.boolean().optional(),
    panicAny: z.boolean().optional(),
    listAsAny: z.boolean().optional(),
    fallbackList: z.boolean().optional(),
    redundantKeys: z.boolean().optional(),
    within: z.lazy(() => wordOr<NonNullable<NativeSubset['within']>>({ ...lists(), subset })).optional(),
  })
}

function selector(): z.ZodType<SubsetSelectorConfig> {
  return object<SubsetSelectorConfig>({
    keys: z.array(name()).min(1),
    singleHost: z.literal(true).optional(),
    fallback: z.enum(['none', 'any', 'default', 'keys']).optional(),
    fallbackKeys: z.array(name()).min(1).optional(),
  })
}

function overrideHost(): z.ZodType<NativeOverrideHost> {
  const place = { namespace: name(), path: z.array(name()).min(1) }
  const header = object<{ header: string }>({ header: name() })
  const metadata = object<{ namespace: string; path: MetadataPath }>({ namespace: name(), path: metadataPath() })
  return object<NativeOverrideHost>({
    kind: z.literal('override-host'),
    sources: z
      .array(
        choose<OverrideSourceConfig>('a header, or a namespace and a path', (value) => {
          if (!isObject(value)) return undefined
          return 'header' in value ? header : metadata
        }),
      )
      .min(1),
    selected: object<{ namespace: string; path: readonly string[] }>(place).optional(),
    otherwise: wordOr<NonNullable<NativeOverrideHost['otherwise']>>({ ...lists(), subset }).optional(),
  })
}

function clientWeighted(): z.ZodType<NativeClientWeighted> {
  return object<NativeClientWeighted>({
    kind: z.literal('client-weighted'),
    blackoutMs: ms().optional(),
    expirationMs: ms().optional(),
    updateMs: ms().min(100).optional(),
    errorPenalty: z.number().min(0).optional(),
    metrics: z.array(name()).optional(),
    outOfBand: object<Partial<OutOfBandConfig>>({
      periodMs: ms().min(1).optional(),
      port: count(1).max(65_535).optional(),
      authority: name().optional(),
      labels: jsonObject().optional(),
    }).optional(),
    localities: localities().optional(),
    slowStart: slowStart().optional(),
  })
}

/** One of these kinds, or its word where it has one. */
function wordOr<T>(kinds: { readonly [kind: string]: () => z.ZodType }): z.ZodType<T> {
  const long = byKind<T>(kinds)
  return choose(`${KINDS.join(', ')} or an object with one of these as its kind`, (value) => {
    if (isObject(value)) return long
    return typeof value === 'string' ? z.enum(KINDS) : undefined
  })
}

function lists(): { readonly [kind in NativeListBalancer['kind']]: () => z.ZodType } {
  return {
    'round-robin': () =>
      object<NativeRoundRobin>({
        kind: z.literal('round-robin'),
        localities: localities().optional(),
        slowStart: slowStart().optional(),
      }),
    random: () => object<NativeRandom>({ kind: z.literal('random'), localities: localities().optional() }),
    'least-request': () =>
      object<NativeLeastRequest>({
        kind: z.literal('least-request'),
        choiceCount: count(2).optional(),
        activeRequestBias: z.number().min(0).optional(),
        fullScan: z.boolean().optional(),
        localities: localities().optional(),
        slowStart: slowStart().optional(),
      }),
    'peak-ewma': () =>
      object<NativePeakEwma>({
        kind: z.literal('peak-ewma'),
        decayMs: count(1).optional(),
        localities: localities().optional(),
      }),
    'client-weighted': clientWeighted,
    'ring-hash': ringHash,
    maglev: maglev,
  }
}

function ringHash(): z.ZodType<NativeRingHash> {
  return object<NativeRingHash>({
    kind: z.literal('ring-hash'),
    minSize: count(1).optional(),
    maxSize: count(1).optional(),
    hash: z.enum(['xx', 'murmur2']).optional(),
    byHostname: z.boolean().optional(),
    balanceFactor: count(100).optional(),
    localities: z.literal('weighted').optional(),
  })
}

function maglev(): z.ZodType<NativeMaglev> {
  return object<NativeMaglev>({
    kind: z.literal('maglev'),
    tableSize: count(2).max(LARGEST_TABLE).optional(),
    byHostname: z.boolean().optional(),
    balanceFactor: count(100).optional(),
    localities: z.literal('weighted').optional(),
  })
}

function localities(): z.ZodType<NativeLocalityBalancing> {
  const weighted = object<{ kind: 'weighted' }>({ kind: z.literal('weighted') })
  const zoneAware = object<Pick<ZoneAwareConfig, 'kind'> & Partial<ZoneAwareConfig>>({
    kind: z.literal('zone-aware'),
    enabledPercent: z.number().min(0).max(100).optional(),
    minClusterSize: count().optional(),
    failOnPanic: z.boolean().optional(),
    forceLocalMinHosts: count(1).optional(),
  })
  return choose('weighted, or an object with kind weighted or zone-aware', (value) => {
    if (typeof value === 'string') return z.literal('weighted')
    return isObject(value) ? (value.kind === 'weighted' ? weighted : zoneAware) : undefined
  })
}

function slowStart(): z.ZodType<NativeSlowStart> {
  return object<NativeSlowStart>({
    windowMs: ms().min(1),
    aggression: z.number().gt(0).optional(),
    aggressionKey: name().optional(),
    minWeightPercent: z.number().min(0).max(100).optional(),
  })
}
