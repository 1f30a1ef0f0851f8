import type { Metrics } from '../../core/metrics.ts'

/** Cells that nobody reads: the connections of checks are not traffic. */
export const uncounted: Metrics = Object.freeze({
  has: () => false,
  counter: () => ({ v: 0 }),
  gauge: () => ({ v: 0 }),
  histogram: () => ({ record: () => {} }),
})
