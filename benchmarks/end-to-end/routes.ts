import { fetchOnce } from '../load/client.ts'
import { type Bar, figure, type SuiteResult, type Table } from '../report.ts'
import { HEADGATE, headgate } from './headgate.ts'
import { runMicro } from './micro-benchmark.ts'
import { CPU_COLUMNS, perRequest } from './requests.ts'
import { requestsFor } from './route-set.ts'
import { startProxy } from './running-proxy.ts'
import { measureLoaded, measureRounds, type Suite, type SuiteContext, type Unit } from './suite.ts'

const FEW = 10
const MANY = 10_000
const LIMIT = 1.5

const METHOD = `headgate with ${FEW} and with ${MANY} routes in one virtual host: nine tenths by turns prefixes, exact paths and paths with
a header matcher, the last tenth regular expressions; each route is hit equally often. The figures of the lookup alone are
printed by benchmarks/micro/routes.ts itself.`

/** What a large route table costs: the lookup alone, then end to end. */
export const routes: Suite = async (context) => {
  const missing = headgate(HEADGATE).missing()
  const lookup = await runMicro(LOOKUP, context)
  const skipped: SuiteResult['skipped'][number][] = [...lookup.skipped]
  if (missing !== undefined) skipped.push({ name: 'headgate with generated routes', reason: missing })
  const units = missing === undefined ? [unitOf(FEW, context), unitOf(MANY, context)] : []
  const rows = [...lookup.rows, ...(await measureRounds(units, context))]
  const table: Table = { title: 'End to end', base: nameOf(FEW), columns: CPU_COLUMNS, rows }
  return { suite: 'routes', method: METHOD, tables: [table], bars: barsOf(table), skipped, text: lookup.text }
}

const LOOKUP = 'micro/routes.ts'

function nameOf(count: number): string {
  return `headgate, ${count} routes`
}

function unitOf(count: number, context: SuiteContext): Unit {
  const requests = requestsFor(count)
  return {
    name: nameOf(count),
    measure: async () => {
      const proxy = await startProxy(headgate(nameOf(count)), context.bench, {
        routes: count,
        probePath: requests[0].path,
      })
      try {
        // With no route for everything, an answer 200 to each request of the load shows that its route was found.
        const { status } = await fetchOnce(proxy.port, '/no-such-route')
        if (status !== 404) throw new Error(`a path without a route was answered with ${status}`)
        return perRequest(await measureLoaded(proxy, { connections: 64, requests }, context))
      } finally {
        await proxy.stop()
      }
    },
  }
}

function barsOf(table: Table): Bar[] {
  const few = figure(table, nameOf(FEW), 'cpu')
  const many = figure(table, nameOf(MANY), 'cpu')
  if (few === undefined || many === undefined) return []
  return [{ what: `${MANY} routes against ${FEW}`, value: many / few, limit: LIMIT, unit: '× CPU per request' }]
}
