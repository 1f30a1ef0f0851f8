import { IdleSessions } from '../load/http2/idle-sessions.ts'
import { IdleConnections } from '../load/idle-connections.ts'
import { type Bar, figure, type Table } from '../report.ts'
import { HEADGATE } from './headgate.ts'
import { startProxy } from './running-proxy.ts'
import { measureRounds, type Suite, type SuiteContext, speaking, type Unit } from './suite.ts'
import { PLAIN_HTTP1, type Traffic, type Variant } from './variant.ts'
import { BASE } from './variants.ts'

const SETTLE_MS = 2000

/** Opened before the first reading, so that what is made lazily once is not counted. */
const FIRST = 100

const METHOD = `Growth of the resident set (all processes) per idle connection: so many client connections are opened beside the first
${FIRST}, each has one request answered and stays. No load before: it would leave free heap that hides the growth, so the
figure includes what V8's heap grows by meanwhile. Kernel memory of the sockets is not in the resident set.`

const COLUMNS = [
  { key: 'perConnection', title: 'KiB per connection', digits: 1, spread: true, ratio: true },
  { key: 'base', title: 'before, MiB', digits: 0 },
  { key: 'held', title: 'held, MiB', digits: 0 },
]

/** Connections of one kind. */
interface Kind {
  readonly title: string
  readonly traffic: Traffic
  readonly connections: number
  /** KiB of headgate's for each; undefined: no bar. */
  readonly limitKib?: number
}

const HTTP2: Traffic = { client: 'http2', upstream: 'http1' }

/** Memory of idle client connections. */
export const idle = idleSuite('idle', [
  { title: '5000 idle keep-alive connections', traffic: PLAIN_HTTP1, connections: 5000, limitKib: 12 },
])

/** Memory of idle HTTP/2 client connections. */
export const http2Idle = idleSuite('http2-idle', [
  { title: '1000 idle HTTP/2 connections', traffic: HTTP2, connections: 1000 },
])

/** Memory of idle client connections behind TLS. */
export const tlsIdle = idleSuite('tls-idle', [
  {
    title: '2000 idle keep-alive connections over TLS',
    traffic: { ...PLAIN_HTTP1, tls: true },
    connections: 2000,
    limitKib: 60,
  },
  { title: '1000 idle HTTP/2 connections over TLS', traffic: { ...HTTP2, tls: true }, connections: 1000, limitKib: 70 },
])

function idleSuite(suite: string, kinds: readonly Kind[]): Suite {
  return async (context) => {
    const tables: Table[] = []
    const bars: Bar[] = []
    for (const kind of kinds) {
      const table = await tableOf(kind, speaking(kind.traffic, context))
      tables.push(table)
      const value = figure(table, HEADGATE, 'perConnection')
      if (value === undefined || kind.limitKib === undefined) continue
      bars.push({ what: `${HEADGATE}, ${kind.title}, each`, value, limit: kind.limitKib, unit: 'KiB' })
    }
    const { skipped } = speaking(kinds[0].traffic, context)
    return { suite, method: METHOD, tables, bars, skipped }
  }
}

async function tableOf(kind: Kind, context: SuiteContext): Promise<Table> {
  const variants = context.variants.filter((variant) => variant.floor !== true)
  const rows = await measureRounds(
    variants.map((variant) => unitOf(kind, variant, context)),
    context,
  )
  return { title: kind.title, base: BASE, columns: COLUMNS, rows }
}

function unitOf({ traffic, connections: count }: Kind, variant: Variant, context: SuiteContext): Unit {
  return {
    name: variant.name,
    measure: async () => {
      const proxy = await startProxy(variant, context.bench, { traffic })
      const connections = traffic.client === 'http2' ? new IdleSessions() : new IdleConnections()
      try {
        await connections.open(proxy.port, FIRST, traffic.tls)
        await settle()
        const before = proxy.rssBytes
        await connections.open(proxy.port, count, traffic.tls)
        await settle()
        const held = proxy.rssBytes
        if (connections.lost > 0) throw new Error(`${connections.lost} idle connections were closed by the proxy`)
        return { perConnection: (held - before) / 1024 / count, base: before / 2 ** 20, held: held / 2 ** 20 }
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
