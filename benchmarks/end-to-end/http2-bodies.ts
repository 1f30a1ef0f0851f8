import type { Bar, Table } from '../report.ts'
import { type Suite, speaking } from './suite.ts'
import { throughputTable } from './throughput.ts'
import { HTTP2_LIMITS } from './variant.ts'
import { ratioBars, WORKLOADS, type Workload } from './workload.ts'

const METHOD = `Bodies of 1 MiB over HTTP/2, 16 connections with 4 at once each: how much a CPU-second of the proxy moves (higher is
better). Every proxy announces windows of ${HTTP2_LIMITS.streamWindow / 1024} KiB a stream where it can be told; the load generator and the HTTP/2 origin announce
theirs so large that the proxy need not wait. Load generator and origin share a core and limit MiB/s, so only the first
figure compares proxies.`

/** Bytes per CPU-second with large bodies over HTTP/2, both directions, to both kinds of origin. */
export const http2Bodies: Suite = async (context) => {
  const tables: Table[] = []
  const bars: Bar[] = []
  const add = async (title: string, workload: Workload): Promise<void> => {
    const table = await throughputTable(title, workload, context)
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
