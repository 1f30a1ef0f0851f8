import type { Column, Table } from '../report.ts'
import { measureRounds, type SuiteContext, speaking, type Unit } from './suite.ts'
import type { Variant } from './variant.ts'
import { BASE } from './variants.ts'
import { measureWorkload, type Workload, withOrigin } from './workload.ts'

/** How much a CPU-second of a proxy moves. */
export const THROUGHPUT_COLUMNS: readonly Column[] = [
  { key: 'efficiency', title: 'MiB per CPU-second', digits: 0, spread: true, ratio: true },
  { key: 'rate', title: 'MiB/s', digits: 0 },
  { key: 'core', title: 'core used', digits: 2 },
]

/** Every variant that speaks the workload's protocols; its bodies are of 1 MiB. */
export function throughputTable(title: string, workload: Workload, outer: SuiteContext): Promise<Table> {
  return withOrigin(workload.answers, speaking(workload.traffic, outer), async (context) => {
    const units = context.variants.map((variant) => throughputUnit(variant.name, workload, variant, context))
    return { title, base: BASE, columns: THROUGHPUT_COLUMNS, rows: await measureRounds(units, context) }
  })
}

/** One line of such a table; the context's origin must be the workload's. */
export function throughputUnit(name: string, workload: Workload, variant: Variant, context: SuiteContext): Unit {
  return {
    name,
    measure: async () => {
      const use = await measureWorkload(workload, variant, context)
      const cpuSeconds = (use.userUs + use.systemUs) / 1e6
      // A body is 1 MiB. The partial ones in flight at the end are left out: at most 64 of several thousand.
      const mebibytes = use.load.requests
      return {
        efficiency: mebibytes / cpuSeconds,
        rate: mebibytes / use.load.seconds,
        core: cpuSeconds / use.load.seconds,
      }
    },
  }
}
