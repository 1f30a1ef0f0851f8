import { startStreams } from '../load/http2/streams.ts'
import type { Column, Table } from '../report.ts'
import { startProxy } from './running-proxy.ts'
import { measureRounds, type Suite, type SuiteContext, speaking, type Unit } from './suite.ts'
import type { Variant } from './variant.ts'
import { BASE } from './variants.ts'
import { cpuTables, GRPC_PROBE, WORKLOADS, withOrigin } from './workload.ts'

const CONNECTIONS = 10
const STREAMS = 100

const METHOD = `gRPC over plain HTTP/2 on both sides, messages of 16 bytes, the origin echoes. Unary: CPU microseconds of the proxy per
call, 16 connections with 32 calls at once each. Streams: ${CONNECTIONS * STREAMS} bidirectional calls at once on ${CONNECTIONS} connections, each with one message on
its way at any time; CPU microseconds per round trip. Every echo is compared with what was sent, and at the end every call
must be ended by trailers.`

const COLUMNS: readonly Column[] = [
  { key: 'cpu', title: 'CPU µs/round trip', digits: 1, spread: true, ratio: true },
  { key: 'user', title: 'user', digits: 1 },
  { key: 'system', title: 'system', digits: 1 },
  { key: 'rate', title: 'round trips/s', digits: 0 },
  { key: 'core', title: 'core used', digits: 2 },
]

/** CPU per unary call and per message of long calls. */
export const grpc: Suite = async (outer) => {
  const { answers, traffic } = WORKLOADS.grpc
  const unary = await cpuTables(WORKLOADS.grpc, { plain: 'Unary calls' }, outer)
  const streams = await withOrigin(answers, speaking(traffic, outer), async (context): Promise<Table> => {
    const rows = await measureRounds(
      context.variants.map((variant) => unitOf(variant, context)),
      context,
    )
    return { title: `${CONNECTIONS * STREAMS} bidirectional calls at once`, base: BASE, columns: COLUMNS, rows }
  })
  const { skipped } = speaking(traffic, outer)
  return { suite: 'grpc', method: METHOD, tables: [...unary, streams], bars: [], skipped }
}

function unitOf(variant: Variant, context: SuiteContext): Unit {
  const { traffic } = WORKLOADS.grpc
  const { bench, options } = context
  return {
    name: variant.name,
    measure: async () => {
      const proxy = await startProxy(variant, bench, { traffic, probe: GRPC_PROBE, longLived: true })
      const task = { kind: 'ping-pong', port: proxy.port, path: '/bench.Echo/Chat' } as const
      const streams = startStreams({ ...task, connections: CONNECTIONS, streams: STREAMS }, bench.machine, bench.folder)
      try {
        await streams.all('started', 10_000)
        await pause(options.warmUpSeconds)
        const begin = performance.now()
        const before = await streams.count()
        const { cpu, result: after } = await proxy.cpuDuring(async () => {
          await pause(options.seconds)
          return streams.count()
        })
        const seconds = (performance.now() - begin) / 1000
        await streams.stop()
        await streams.all('ended', 10_000)
        const trips = after.messages - before.messages
        return {
          cpu: (cpu.userUs + cpu.systemUs) / trips,
          user: cpu.userUs / trips,
          system: cpu.systemUs / trips,
          rate: trips / seconds,
          core: (cpu.userUs + cpu.systemUs) / 1e6 / seconds,
        }
      } finally {
        await streams.close()
        await proxy.stop()
      }
    },
  }
}

function pause(seconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, seconds * 1000))
}
