import type { Bar, Column, Table } from '../report.ts'
import { measureRounds, type Suite, type SuiteContext, speaking } from './suite.ts'
import { HTTP2_LIMITS, type Variant } from './variant.ts'
import { BASE } from './variants.ts'
import { measureWorkload, ratioBars, WORKLOADS, type Workload, withOrigin } from './workload.ts'

const COLUMNS: readonly Column[] = [
  { key: 'efficiency', title: 'MiB per CPU-second', digits: 0, spread: true, ratio: true },
  { key: 'rate', title: 'MiB/s', digits: 0 },
  { key: 'core', title: 'core used', digits: 2 },
]

const METHOD = `Bodies of 1 MiB over HTTP/2, 16 connections with 4 at once each: how much a CPU-second of the proxy moves (higher is
better). Every proxy announces windows of ${HTTP2_LIMITS.streamWindow / 1024} KiB a stream where it can be told; the load generator and the HTTP/2 origin announce
theirs so large that the proxy need not wait. Load generator and origin share a core and limit MiB/s, so only the first
figure compares proxies.`

/** Bytes per CPU-second with large bodies over HTTP/2, both directions, to both kinds of origin. */
export const http2Bodies: Suite = async (context) => {
  const tables: Table[] = []
  const bars: Bar[] = []
  const add = async (title: string, workload: Workload): Promise<void> => {
    const table = await tableOf(title, workload, context)
    tables.push(table)
    bars.push(...ratioBars(table, 'efficiency', [{ what: '', limit: 0.8, atLeast: true }]))
  }
  await add('Download, HTTP/2 → HTTP/1', WORKLOADS['http2-download'])
  await add('Upload, HTTP/2 → HTTP/1', WORKLOADS['http2-upload'])
  if (context.options.quick !== true) {
    await add('Download, HTTP/2 → HTTP/2', WORKLOADS['http2-upstream-download'])
    await add('Upload, HTTP/2 → HTTP/2', WORKLOADS['http2-upstream-upload'])
  }
  const { skipped } = speaking(WORKLOADS['http2-download'].traffic, context)
  return { suite: 'http2-bodies', method: METHOD, tables, bars, skipped }
}

function tableOf(title: string, workload: Workload, outer: SuiteContext): Promise<Table> {
  return withOrigin(workload.answers, speaking(workload.traffic, outer), async (context) => {
    const units = context.variants.map((variant) => ({
      name: variant.name,
      measure: () => efficiency(workload, variant, context),
    }))
    return { title, base: BASE, columns: COLUMNS, rows: await measureRounds(units, context) }
  })
}

async function efficiency(
  workload: Workload,
  variant: Variant,
  context: SuiteContext,
): Promise<Record<string, number>> {
  const use = await measureWorkload(workload, variant, context)
  const cpuSeconds = (use.userUs + use.systemUs) / 1e6
  // A body is 1 MiB. The partial ones in flight at the end are left out: at most 64 of several thousand.
  const mebibytes = use.load.requests
  return {
    efficiency: mebibytes / cpuSeconds,
    rate: mebibytes / use.load.seconds,
    core: cpuSeconds / use.load.seconds,
  }
}
