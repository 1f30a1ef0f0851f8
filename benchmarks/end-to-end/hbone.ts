import type { Table } from '../report.ts'
import { measureRounds, type Suite, speaking, type Unit } from './suite.ts'
import { THROUGHPUT_COLUMNS, throughputUnit } from './throughput.ts'
import { WORKLOADS } from './workload.ts'

const METHOD = `What an HBONE tunnel costs: the load of \`tcp\` through one TCP proxy; through two of them one behind the other in one
process; and through the same two with a tunnel between them (a CONNECT per connection over HTTP/2 over mutual TLS), so
that the third row less the second is the tunnel with both its ends.`

const ONE = 'one TCP proxy'

/** Bytes per CPU-second through a tunnel against those of a plain TCP proxy, both directions. */
export const hbone: Suite = async (context) => {
  const { variants, skipped } = speaking(WORKLOADS['hbone-download'].traffic, context)
  const tables: Table[] = []
  for (const variant of variants) {
    const of = (direction: 'download' | 'upload'): Unit[] => [
      throughputUnit(ONE, WORKLOADS[`tcp-${direction}`], variant, context),
      throughputUnit('two TCP proxies', WORKLOADS[`tcp-twice-${direction}`], variant, context),
      throughputUnit('HBONE between the two', WORKLOADS[`hbone-${direction}`], variant, context),
    ]
    for (const [title, direction] of [
      ['Down', 'download'],
      ['Up', 'upload'],
    ] as const) {
      const rows = await measureRounds(of(direction), context)
      tables.push({ title: `${title}, ${variant.name}`, base: ONE, columns: THROUGHPUT_COLUMNS, rows })
    }
  }
  return { suite: 'hbone', method: METHOD, tables, bars: [], skipped }
}
