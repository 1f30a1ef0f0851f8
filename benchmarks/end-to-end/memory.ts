import { Transfer } from '../load/client.ts'
import { type Bar, figure, type Table } from '../report.ts'
import { HEADGATE } from './headgate.ts'
import { type RunningProxy, startProxy } from './running-proxy.ts'
import { measureLoaded, measureRounds, SMALL_GET, type Suite, type SuiteContext, type Unit } from './suite.ts'
import type { Variant } from './variant.ts'

const GIB = 1024 ** 3
const MIB = 1024 ** 2
const STALLED_READERS = 20
const STALLED_BYTES = 64 * MIB

const METHOD = `Highest growth of the resident set (all processes, read every 25 ms) over what it was after a warm-up under load:
one upload and one download of 1 GiB, and ${STALLED_READERS} clients that each ask for 64 MiB, read nothing for some seconds and then everything.`

const COLUMNS = [
  { key: 'download', title: '1 GiB down, MiB', digits: 0, spread: true },
  { key: 'upload', title: '1 GiB up, MiB', digits: 0, spread: true },
  { key: 'stalled', title: `${STALLED_READERS} stalled readers, MiB`, digits: 0, spread: true },
]

const LIMITS: ReadonlyMap<string, number> = new Map(Object.entries({ download: 64, upload: 64, stalled: 120 }))

/** Memory under large and stalled transfers: whether back-pressure holds. */
export const memory: Suite = async (context) => {
  const units = context.variants.map((variant) => unitOf(variant, context))
  const rows = await measureRounds(units, context)
  const table: Table = { title: 'Growth of the resident set', columns: COLUMNS, rows }
  const bars = context.variants.flatMap((variant) => barsOf(table, variant))
  return { suite: 'memory', method: METHOD, tables: [table], bars, skipped: context.skipped }
}

function barsOf(table: Table, variant: Variant): Bar[] {
  if (variant.name !== HEADGATE) return []
  return COLUMNS.flatMap((column) => {
    const value = figure(table, variant.name, column.key)
    const limit = LIMITS.get(column.key)!
    return value === undefined ? [] : [{ what: `${variant.name}, ${column.title}`, value, limit, unit: 'MiB' }]
  })
}

function unitOf(variant: Variant, context: SuiteContext): Unit {
  const inFreshProxy = async (work: (proxy: RunningProxy) => Promise<void>): Promise<number> => {
    const proxy = await startProxy(variant, context.bench)
    try {
      await measureLoaded(proxy, SMALL_GET, context)
      return await growthDuring(proxy, () => work(proxy))
    } finally {
      await proxy.stop()
    }
  }
  return {
    name: variant.name,
    measure: async () => ({
      download: await inFreshProxy(download),
      upload: await inFreshProxy(upload),
      stalled: await inFreshProxy((proxy) => stalledReaders(proxy, context.options.seconds)),
    }),
  }
}

/** Highest growth in MiB. */
async function growthDuring(proxy: RunningProxy, work: () => Promise<void>): Promise<number> {
  const before = proxy.rssBytes
  let highest = before
  const read = (): void => {
    highest = Math.max(highest, proxy.rssBytes)
  }
  const timer = setInterval(read, 25)
  try {
    await work()
    read()
  } finally {
    clearInterval(timer)
  }
  return (highest - before) / MIB
}

async function download(proxy: RunningProxy): Promise<void> {
  const transfer = new Transfer(proxy.port, `GET /_/bytes/${GIB} HTTP/1.1`)
  await checkedEnd(transfer, GIB)
}

async function upload(proxy: RunningProxy): Promise<void> {
  const transfer = new Transfer(proxy.port, `PUT / HTTP/1.1\r\nContent-Length: ${GIB}`)
  transfer.upload(GIB)
  // The origin answers 13 bytes once it has read all.
  await checkedEnd(transfer, 13)
}

async function stalledReaders(proxy: RunningProxy, seconds: number): Promise<void> {
  const head = `GET /_/bytes/${STALLED_BYTES} HTTP/1.1`
  const transfers = Array.from({ length: STALLED_READERS }, () => new Transfer(proxy.port, head, true))
  await new Promise((resolve) => setTimeout(resolve, seconds * 1000))
  for (const transfer of transfers) transfer.resume()
  await Promise.all(transfers.map((transfer) => checkedEnd(transfer, STALLED_BYTES)))
}

async function checkedEnd(transfer: Transfer, bodyBytes: number): Promise<void> {
  const status = await transfer.done
  if (status !== 200) throw new Error(`answered ${status}`)
  if (transfer.counter.bodyBytes !== bodyBytes)
    throw new Error(`${transfer.counter.bodyBytes} of ${bodyBytes} bytes arrived`)
}
