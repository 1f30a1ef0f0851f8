import type { Column } from '../report.ts'
import { startProxy } from './running-proxy.ts'
import { type LoadShape, measureLoaded, measureRounds, type Suite, type SuiteContext, type Unit } from './suite.ts'
import type { Variant } from './variant.ts'
import { BASE } from './variants.ts'

const BODY_BYTES = 1024 * 1024
const CONNECTIONS = 16

const DOWNLOAD: LoadShape = { connections: CONNECTIONS, requests: [{ method: 'GET', path: `/_/bytes/${BODY_BYTES}` }] }
const UPLOAD: LoadShape = { connections: CONNECTIONS, requests: [{ method: 'PUT', path: '/' }], bodyBytes: BODY_BYTES }

const COLUMNS: readonly Column[] = [
  { key: 'efficiency', title: 'MiB per CPU-second', digits: 0, spread: true, ratio: true },
  { key: 'rate', title: 'MiB/s', digits: 0 },
  { key: 'core', title: 'core used', digits: 2 },
]

const METHOD = `Bodies of 1 MiB on ${CONNECTIONS} keep-alive connections: how much a CPU-second of the proxy moves (higher is better).
The load generator and the origin share a core and limit MiB/s, so only the first figure compares proxies.`

/** Bytes per CPU-second with large bodies, both directions. */
export const bodies: Suite = async (context) => {
  const units = context.variants.flatMap((variant) => [
    unitOf(variant, DOWNLOAD, context),
    unitOf(variant, UPLOAD, context),
  ])
  const rows = await measureRounds(units, context)
  const tables = [DOWNLOAD, UPLOAD].map((shape) => ({
    title: shape === DOWNLOAD ? 'Download' : 'Upload',
    base: BASE,
    columns: COLUMNS,
    rows: rows
      .filter((row) => row.variant.endsWith(UP) === (shape === UPLOAD))
      .map((row) => ({ ...row, variant: row.variant.replace(UP, '') })),
  }))
  return { suite: 'bodies', method: METHOD, tables, bars: [], skipped: context.skipped }
}

const UP = ' +upload'

function unitOf(variant: Variant, shape: LoadShape, context: SuiteContext): Unit {
  return {
    name: shape === UPLOAD ? variant.name + UP : variant.name,
    measure: async () => {
      const proxy = await startProxy(variant, context.bench)
      try {
        const use = await measureLoaded(proxy, shape, context)
        const cpuSeconds = (use.userUs + use.systemUs) / 1e6
        // The partial bodies of the requests in flight at the end are left out: at most 16 MiB of several thousand.
        const mebibytes = (use.load.requests * BODY_BYTES) / (1024 * 1024)
        return {
          efficiency: mebibytes / cpuSeconds,
          rate: mebibytes / use.load.seconds,
          core: cpuSeconds / use.load.seconds,
        }
      } finally {
        await proxy.stop()
      }
    },
  }
}
