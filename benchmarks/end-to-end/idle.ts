import { IdleConnections } from '../load/idle-connections.ts'
import { figure, type Table } from '../report.ts'
import { HEADGATE } from './headgate.ts'
import { startProxy } from './running-proxy.ts'
import { measureRounds, type Suite, type SuiteContext, type Unit } from './suite.ts'
import type { Variant } from './variant.ts'
import { BASE } from './variants.ts'

const CONNECTIONS = 5000
const SETTLE_MS = 2000

/** Opened before the first reading, so that what is made lazily once is not counted. */
const FIRST = 100

const METHOD = `Growth of the resident set (all processes) per idle connection: ${CONNECTIONS} client connections are opened beside the first
${FIRST}, each has one request answered and stays. No load before: it would leave free heap that hides the growth, so the
figure includes what V8's heap grows by meanwhile. Kernel memory of the sockets is not in the resident set.`

/** Memory of idle client connections. */
export const idle: Suite = async (context) => {
  const rows = await measureRounds(
    context.variants.filter((variant) => variant.floor !== true).map((variant) => unitOf(variant, context)),
    context,
  )
  const columns = [
    { key: 'perConnection', title: 'KiB per connection', digits: 1, spread: true, ratio: true },
    { key: 'base', title: 'before, MiB', digits: 0 },
    { key: 'held', title: 'held, MiB', digits: 0 },
  ]
  const table: Table = { title: `${CONNECTIONS} idle keep-alive connections`, base: BASE, columns, rows }
  const bars = context.variants.flatMap((variant) => {
    const value = variant.name === HEADGATE ? figure(table, variant.name, 'perConnection') : undefined
    return value === undefined ? [] : [{ what: `${variant.name}, per idle connection`, value, limit: 12, unit: 'KiB' }]
  })
  return { suite: 'idle', method: METHOD, tables: [table], bars, skipped: context.skipped }
}

function unitOf(variant: Variant, context: SuiteContext): Unit {
  return {
    name: variant.name,
    measure: async () => {
      const proxy = await startProxy(variant, context.bench)
      const connections = new IdleConnections()
      try {
        await connections.open(proxy.port, FIRST)
        await settle()
        const before = proxy.rssBytes
        await connections.open(proxy.port, CONNECTIONS)
        await settle()
        const held = proxy.rssBytes
        if (connections.lost > 0) throw new Error(`${connections.lost} idle connections were closed by the proxy`)
        return { perConnection: (held - before) / 1024 / CONNECTIONS, base: before / 2 ** 20, held: held / 2 ** 20 }
      } finally {
        connections.close()
        await proxy.stop()
      }
    },
  }
}

function settle(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, SETTLE_MS))
}
