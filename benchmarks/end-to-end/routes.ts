import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { fetchOnce } from '../load/client.ts'
import { type Bar, figure, type SuiteResult, type Table } from '../report.ts'
import { HEADGATE, headgate } from './headgate.ts'
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
  const lookup = await lookupAlone(context)
  const skipped: SuiteResult['skipped'][number][] = [...lookup.skipped]
  if (missing !== undefined) skipped.push({ name: 'headgate with generated routes', reason: missing })
  const units = missing === undefined ? [unitOf(FEW, context), unitOf(MANY, context)] : []
  const rows = [...lookup.rows, ...(await measureRounds(units, context))]
  const table: Table = { title: 'End to end', base: nameOf(FEW), columns: CPU_COLUMNS, rows }
  return { suite: 'routes', method: METHOD, tables: [table], bars: barsOf(table), skipped, text: lookup.text }
}

const LOOKUP = 'micro/routes.ts'

/** Runs the micro-benchmark in a process of its own, on the proxy's core; what it prints is taken as it is. */
async function lookupAlone(
  context: SuiteContext,
): Promise<Pick<SuiteResult, 'skipped' | 'text'> & { rows: Table['rows'] }> {
  const script = join(import.meta.dirname, '..', LOOKUP)
  if (!existsSync(script))
    return { skipped: [{ name: LOOKUP, reason: 'it does not exist in this checkout' }], rows: [] }
  const { taskset, proxyCores } = context.bench.machine
  const pin = taskset === undefined || proxyCores === undefined ? [] : [taskset, '-c', proxyCores]
  const [program, ...args] = [...pin, process.execPath, script]
  context.progress(LOOKUP)
  try {
    const { stdout } = await promisify(execFile)(program, args, { timeout: 120_000 })
    return { skipped: [], text: stdout, rows: [] }
  } catch (error) {
    return {
      skipped: [],
      rows: [{ variant: LOOKUP, samples: {}, failure: error instanceof Error ? error.message : String(error) }],
    }
  }
}

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
