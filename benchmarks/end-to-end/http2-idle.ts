import { IdleSessions } from '../load/http2/idle-sessions.ts'
import type { Table } from '../report.ts'
import { startProxy } from './running-proxy.ts'
import { measureRounds, type Suite, type SuiteContext, speaking, type Unit } from './suite.ts'
import type { Traffic, Variant } from './variant.ts'
import { BASE } from './variants.ts'

const CONNECTIONS = 1000
const SETTLE_MS = 2000
/** Opened before the first reading, so that what is made lazily once is not counted. */
const FIRST = 100
const TRAFFIC: Traffic = { client: 'http2', upstream: 'http1' }

const METHOD = `Growth of the resident set (all processes) per idle HTTP/2 connection: ${CONNECTIONS} client connections are opened beside the
first ${FIRST}, each has one request answered and stays. No load before, as in \`idle\`. Kernel memory of the sockets is not in the
resident set.`

const COLUMNS = [
  { key: 'perConnection', title: 'KiB per connection', digits: 1, spread: true, ratio: true },
  { key: 'base', title: 'before, MiB', digits: 0 },
  { key: 'held', title: 'held, MiB', digits: 0 },
]

/** Memory of idle HTTP/2 client connections. */
export const http2Idle: Suite = async (outer) => {
  const context = speaking(TRAFFIC, outer)
  const units = context.variants.map((variant) => unitOf(variant, context))
  const rows = await measureRounds(units, context)
  const table: Table = { title: `${CONNECTIONS} idle HTTP/2 connections`, base: BASE, columns: COLUMNS, rows }
  return { suite: 'http2-idle', method: METHOD, tables: [table], bars: [], skipped: context.skipped }
}

function unitOf(variant: Variant, context: SuiteContext): Unit {
  return {
    name: variant.name,
    measure: async () => {
      const proxy = await startProxy(variant, context.bench, { traffic: TRAFFIC })
      const sessions = new IdleSessions()
      try {
        await sessions.open(proxy.port, FIRST)
        await settle()
        const before = proxy.rssBytes
        await sessions.open(proxy.port, CONNECTIONS)
        await settle()
        const held = proxy.rssBytes
        if (sessions.lost > 0) throw new Error(`${sessions.lost} idle connections were closed by the proxy`)
        return { perConnection: (held - before) / 1024 / CONNECTIONS, base: before / 2 ** 20, held: held / 2 ** 20 }
      } finally {
        sessions.close()
        await proxy.stop()
      }
    },
  }
}

function settle(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, SETTLE_MS))
}
