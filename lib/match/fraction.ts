import type { Runtime } from '../core/metrics.ts'
import type { FractionConfig } from './config.ts'

/** The names of Envoy's `FractionalPercent.DenominatorType`, as a runtime layer spells them. */
const DENOMINATORS: ReadonlyMap<unknown, number> = new Map<unknown, number>([
  ['HUNDRED', 100],
  ['TEN_THOUSAND', 10_000],
  ['MILLION', 1_000_000],
  [100, 100],
  [10_000, 10_000],
  [1_000_000, 1_000_000],
])

/**
 * Compiles a share of requests: the function is given the exchange's one draw in [0, 1) and answers whether it falls in.
 *
 * A runtime value under `runtimeKey` is looked up at each call, since it may change while the configuration stays: a
 * plain number is a percentage whatever the configured denominator (Envoy's legacy rule), an object carries its own
 * `numerator` and `denominator`, anything else leaves the configured share in force.
 */
export function compileFraction(config: FractionConfig, runtime: Runtime): (random: number) => boolean {
  const share = config.numerator / config.denominator
  const key = config.runtimeKey
  if (key === undefined || key === '') return (random) => random < share
  return (random) => random < (overriddenShare(runtime.get(key)) ?? share)
}

function overriddenShare(value: unknown): number | undefined {
  if (typeof value === 'number') return Number.isInteger(value) && value >= 0 ? value / 100 : undefined
  if (typeof value === 'string') return /^[0-9]{1,15}$/.test(value) ? Number(value) / 100 : undefined
  if (typeof value !== 'object' || value === null) return undefined
  const { numerator = 0, denominator = 'HUNDRED' } = value as { numerator?: unknown; denominator?: unknown }
  const of = DENOMINATORS.get(denominator)
  if (of === undefined || typeof numerator !== 'number' || !(numerator >= 0)) return undefined
  return numerator / of
}
