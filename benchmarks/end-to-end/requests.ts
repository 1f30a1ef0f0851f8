import { type Bar, type Column, figure, type Table } from '../report.ts'
import { HEADGATE } from './headgate.ts'
import { startProxy } from './running-proxy.ts'
import { measureLoaded, measureRounds, SMALL_GET, type Suite, type SuiteContext, type Unit } from './suite.ts'
import type { Variant } from './variant.ts'
import { BASE } from './variants.ts'

export const CPU_COLUMNS: readonly Column[] = [
  { key: 'cpu', title: 'CPU µs/request', digits: 1, spread: true, ratio: true },
  { key: 'busiest', title: 'busiest process', digits: 1 },
  { key: 'user', title: 'user', digits: 1 },
  { key: 'system', title: 'system', digits: 1 },
  { key: 'rate', title: 'requests/s', digits: 0 },
  { key: 'p99', title: 'p99 ms', digits: 2 },
  { key: 'core', title: 'core used', digits: 2 },
]

const METHOD = `CPU microseconds (user + system, all processes of the proxy) per proxied request: 64 keep-alive connections,
GET, an answer of 13 bytes, X-Forwarded-For and X-Request-Id added by every proxy. "Busiest process" is the worker alone,
where a proxy has others beside it. "Core used" is CPU time over elapsed time: below about 0.95 the load generator or the
origin, not the proxy, was what limited requests/s.`

/** CPU per small request, access log off and on, all proxies interleaved in one run. */
export const requests: Suite = async (context) => {
  const units = context.variants.flatMap((variant) =>
    // The floor writes no log.
    variant.floor === true
      ? [unitOf(variant, false, context)]
      : [unitOf(variant, false, context), unitOf(variant, true, context)],
  )
  const rows = await measureRounds(units, context)
  const tableOf = (log: boolean): Table => ({
    title: log ? 'Access log on, to a file' : 'Access log off',
    base: BASE,
    columns: CPU_COLUMNS,
    rows: rows
      .filter((row) => row.variant.endsWith(LOGGED) === log)
      .map((row) => ({ ...row, variant: row.variant.replace(LOGGED, '') })),
  })
  const tables = [tableOf(false), tableOf(true)]
  const bars = tables.flatMap((table) => context.variants.flatMap((variant) => barOf(table, variant)))
  return { suite: 'requests', method: METHOD, tables, bars, skipped: context.skipped }
}

const LOGGED = ' +log'

function unitOf(variant: Variant, log: boolean, context: SuiteContext): Unit {
  return { name: log ? variant.name + LOGGED : variant.name, measure: () => cpuPerRequest(variant, log, context) }
}

/** One round: a fresh proxy, warmed up, measured, ended. */
export async function cpuPerRequest(
  variant: Variant,
  log: boolean,
  context: SuiteContext,
): Promise<Record<string, number>> {
  const proxy = await startProxy(variant, context.bench, { log })
  try {
    const use = await measureLoaded(proxy, SMALL_GET, context)
    return perRequest(use)
  } finally {
    await proxy.stop()
  }
}

/** The figures of CPU_COLUMNS. */
export function perRequest(use: Awaited<ReturnType<typeof measureLoaded>>): Record<string, number> {
  const { requests: count, seconds, p99Us } = use.load
  return {
    cpu: (use.userUs + use.systemUs) / count,
    busiest: use.busiestUs / count,
    user: use.userUs / count,
    system: use.systemUs / count,
    rate: count / seconds,
    // h2load tells no percentiles.
    ...(Number.isNaN(p99Us) ? {} : { p99: p99Us / 1000 }),
    core: (use.userUs + use.systemUs) / 1e6 / seconds,
  }
}

function barOf(table: Table, variant: Variant): Bar[] {
  const value = figure(table, variant.name, 'cpu')
  const base = figure(table, BASE, 'cpu')
  if (variant.name !== HEADGATE || value === undefined || base === undefined) return []
  const what = `${variant.name}, ${table.title.toLowerCase()}`
  return [
    { what: `${what}: first step`, value: value / base, limit: 1.5, unit: `× ${BASE}` },
    { what: `${what}: goal`, value: value / base, limit: 1.2, unit: `× ${BASE}` },
  ]
}
