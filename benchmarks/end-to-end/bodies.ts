import { type Suite, speaking } from './suite.ts'
import { throughputTable } from './throughput.ts'
import { WORKLOADS } from './workload.ts'

const METHOD = `Bodies of 1 MiB on 16 keep-alive connections: how much a CPU-second of the proxy moves (higher is better).
The load generator and the origin share a core and limit MiB/s, so only the first figure compares proxies.`

/** Bytes per CPU-second with large bodies, both directions. */
export const bodies: Suite = async (context) => {
  const { download, upload } = WORKLOADS
  const tables = [
    await throughputTable('Download', download, context),
    await throughputTable('Upload', upload, context),
  ]
  return { suite: 'bodies', method: METHOD, tables, bars: [], skipped: speaking(download.traffic, context).skipped }
}
