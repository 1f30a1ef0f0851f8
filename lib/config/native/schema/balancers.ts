import { z } from 'zod'
import { isObject } from '../../../proto/describe.ts'
import type { ZoneAwareConfig } from '../../../upstream/config.ts'
import type {
  NativeBalancer,
  NativeLeastRequest,
  NativeLocalityBalancing,
  NativeMaglev,
  NativePeakEwma,
  NativeRandom,
  NativeRingHash,
  NativeRoundRobin,
  NativeSlowStart,
} from '../balancers.ts'
import { byKind, choose, count, ms, name, object } from './pieces.ts'

const KINDS = ['round-robin', 'random', 'least-request', 'peak-ewma', 'ring-hash', 'maglev'] as const
const LARGEST_TABLE = 5_000_011

/** A word, or an object with its kind. */
export function balancer(): z.ZodType<NativeBalancer> {
  const long = byKind<NativeBalancer>({
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
    'ring-hash': ringHash,
    maglev: maglev,
  })
  return choose(`${KINDS.join(', ')} or an object with one of these as its kind`, (value) => {
    if (isObject(value)) return long
    return typeof value === 'string' ? z.enum(KINDS) : undefined
  })
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
