import { type Bar, figure, type SuiteResult, type Table } from '../report.ts'
import { HEADGATE, headgate } from './headgate.ts'
import { CPU_COLUMNS, cpuPerRequest } from './requests.ts'
import { measureRounds, type Suite, type Unit } from './suite.ts'

const RESILIENT = 'headgate, resilient'
const LIMIT = 1.1

const METHOD = `The load of the suite "requests" (64 keep-alive connections, GET, an answer of 13 bytes, no access log) with
everything that is there for upstreams that fail, and nothing for it to do: a retry policy with a per-try timeout, outlier
detection, circuit breakers with a retry budget and limits per host, and what all of them count; against the same without.`

/** What retries, outlier detection and circuit breakers cost a request that needs none of them. */
export const resilience: Suite = async (context) => {
  const variants = [headgate(HEADGATE), headgate(RESILIENT, { resilient: true })]
  const skipped = variants.flatMap((one): SuiteResult['skipped'][number][] => {
    const reason = one.missing()
    return reason === undefined ? [] : [{ name: one.name, reason }]
  })
  const units: Unit[] =
    skipped.length > 0
      ? []
      : variants.map((one) => ({ name: one.name, measure: () => cpuPerRequest(one, false, context) }))
  const rows = await measureRounds(units, context)
  const table: Table = { title: 'Nothing fails', base: HEADGATE, columns: CPU_COLUMNS, rows }
  return { suite: 'resilience', method: METHOD, tables: [table], bars: barsOf(table), skipped }
}

function barsOf(table: Table): Bar[] {
  const without = figure(table, HEADGATE, 'cpu')
  const all = figure(table, RESILIENT, 'cpu')
  if (without === undefined || all === undefined) return []
  return [
    { what: 'with retries, outlier detection and breakers', value: all / without, limit: LIMIT, unit: '× without' },
  ]
}
