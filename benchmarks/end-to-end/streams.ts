import { startStreams } from '../load/http2/streams.ts'
import { type Bar, type Column, figure, type Table } from '../report.ts'
import { HEADGATE } from './headgate.ts'
import { type RunningProxy, startProxy } from './running-proxy.ts'
import { measureRounds, type Suite, type SuiteContext, speaking, type Unit } from './suite.ts'
import type { Traffic, Variant } from './variant.ts'
import { BASE } from './variants.ts'
import { withOrigin } from './workload.ts'

const CONNECTIONS = 50
const STREAMS = 100
const TOTAL = CONNECTIONS * STREAMS
/** What both origins send on each stream. */
const EVENTS = 10
const MEASURED_SECONDS = 4
const KIB_PER_STREAM = 20

const METHOD = `${TOTAL} answers at once on ${CONNECTIONS} HTTP/2 connections, each a stream of ${EVENTS} server-sent events of 64 bytes, one a second, spread over the
second. Growth of the resident set (all processes) from before the first of them to the middle of the run, and CPU over
${MEASURED_SECONDS} s of it. Every event is compared with the one that is due, and every stream must get all of them and then end. An HTTP/1
origin takes one more connection of the proxy for each stream.`

const COLUMNS: readonly Column[] = [
  { key: 'perStream', title: 'KiB per stream', digits: 1, spread: true, ratio: true },
  { key: 'cpu', title: 'CPU µs/event', digits: 1, spread: true, ratio: true },
  { key: 'core', title: 'core used', digits: 2 },
  { key: 'base', title: 'before, MiB', digits: 0 },
  { key: 'held', title: 'held, MiB', digits: 0 },
]

/** Memory and CPU of many slow streams, to both kinds of origin. */
export const streams: Suite = async (outer) => {
  const overHttp2: Traffic = { client: 'http2', upstream: 'http2' }
  const overHttp1: Traffic = { client: 'http2', upstream: 'http1' }
  const tables = [
    await withOrigin('events', speaking(overHttp2, outer), (context) => tableOf(overHttp2, context)),
    await tableOf(overHttp1, speaking(overHttp1, outer)),
  ]
  const { skipped } = speaking(overHttp1, outer)
  return { suite: 'streams', method: METHOD, tables, bars: tables.flatMap(barsOf), skipped }
}

async function tableOf(traffic: Traffic, context: SuiteContext): Promise<Table> {
  const rows = await measureRounds(
    context.variants.map((variant) => unitOf(variant, traffic, context)),
    context,
  )
  const title = `${TOTAL} streams, HTTP/2 → ${traffic.upstream === 'http2' ? 'HTTP/2' : 'HTTP/1'}`
  return { title, base: BASE, columns: COLUMNS, rows }
}

function barsOf(table: Table): Bar[] {
  const value = figure(table, HEADGATE, 'perStream')
  if (value === undefined) return []
  return [{ what: `${HEADGATE}, ${table.title}`, value, limit: KIB_PER_STREAM, unit: 'KiB per stream' }]
}

/** A request with content has a short answer from the HTTP/2 origin of events, so that the start need not wait for ten. */
const PROBE = {
  request: { method: 'POST', path: '/', content: Buffer.from('x') },
  check: (): void => {},
}

function unitOf(variant: Variant, traffic: Traffic, context: SuiteContext): Unit {
  return {
    name: variant.name,
    measure: async () => {
      const probe = traffic.upstream === 'http2' ? PROBE : undefined
      const proxy = await startProxy(variant, context.bench, { traffic, probe, longLived: true })
      try {
        return await holdStreams(proxy, context)
      } finally {
        await proxy.stop()
      }
    },
  }
}

async function holdStreams(proxy: RunningProxy, context: SuiteContext): Promise<Record<string, number>> {
  const { machine, folder } = context.bench
  await pause(1)
  const base = proxy.rssBytes
  const task = { kind: 'events', port: proxy.port, path: '/_/events', connections: CONNECTIONS } as const
  const client = startStreams({ ...task, streams: STREAMS, events: EVENTS }, machine, folder)
  try {
    await client.all('started', 6000)
    const begin = performance.now()
    const before = await client.count()
    const { cpu, result: after } = await proxy.cpuDuring(async () => {
      await pause(MEASURED_SECONDS)
      return client.count()
    })
    const seconds = (performance.now() - begin) / 1000
    if (after.ended > 0) throw new Error('streams ended before they were measured: opening them took too long')
    const held = proxy.rssBytes
    const { messages } = await client.all('ended', 30_000)
    if (messages !== TOTAL * EVENTS) throw new Error(`${messages} of ${TOTAL * EVENTS} events were delivered`)
    const used = cpu.userUs + cpu.systemUs
    return {
      perStream: (held - base) / 1024 / TOTAL,
      cpu: used / (after.messages - before.messages),
      core: used / 1e6 / seconds,
      base: base / 2 ** 20,
      held: held / 2 ** 20,
    }
  } finally {
    await client.close()
  }
}

function pause(seconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, seconds * 1000))
}
