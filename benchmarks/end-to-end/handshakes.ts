import { type HandshakeLoad, runHandshakes } from '../load/handshakes.ts'
import { type Bar, type Column, figure, type Table } from '../report.ts'
import { HEADGATE } from './headgate.ts'
import { nginx } from './peers/nginx.ts'
import { type RunningProxy, startProxy } from './running-proxy.ts'
import { measureRounds, type Suite, type SuiteContext, speaking, type Unit } from './suite.ts'
import { PLAIN_HTTP1, type Traffic, type Variant } from './variant.ts'

const CLASSICAL = 'X25519'
const HYBRID = 'X25519MLKEM768'
const CONNECTIONS = 16
const TRAFFIC: Traffic = { ...PLAIN_HTTP1, tls: true }

const METHOD = `New TLS connections, ${CONNECTIONS} at once: full TLS 1.3 handshakes with an ECDSA P-256 certificate, never resumed, no request; the
client ends and the proxy ends. The client is Node, which costs as much as a proxy: handshakes/s is what both do on a
core each, only the figures of CPU compare proxies. ${CLASSICAL} unless ${HYBRID} is named; the client offers that one group.`

export const HANDSHAKE_COLUMNS: readonly Column[] = [
  { key: 'efficiency', title: 'handshakes per CPU-second', digits: 0, spread: true, ratio: true },
  { key: 'cpu', title: 'CPU µs each', digits: 0 },
  { key: 'rate', title: 'handshakes/s', digits: 0 },
  { key: 'core', title: 'core used', digits: 2 },
]

const HYBRID_ROW = `${HEADGATE}, ${HYBRID}`

/** New handshakes per CPU-second, classical beside others, and our own with ML-KEM beside our classical ones. */
export const handshakes: Suite = async (outer) => {
  const context = speaking(TRAFFIC, outer)
  const units = context.variants.map((variant) => unitOf(variant.name, variant, CLASSICAL, context))
  const ours = context.variants.find((variant) => variant.name === HEADGATE)
  if (ours !== undefined) units.push(unitOf(HYBRID_ROW, ours, HYBRID, context))
  const rows = await measureRounds(units, context)
  const table: Table = { title: 'Full handshakes, TLS 1.3', base: nginx.name, columns: HANDSHAKE_COLUMNS, rows }
  const bars = [...barOf(table, HEADGATE, nginx.name), ...barOf(table, HYBRID_ROW, HEADGATE)]
  return { suite: 'handshakes', method: METHOD, tables: [table], bars, skipped: context.skipped }
}

function unitOf(name: string, variant: Variant, group: string, context: SuiteContext): Unit {
  return {
    name,
    measure: async () => {
      const proxy = await startProxy(variant, context.bench, { traffic: TRAFFIC })
      try {
        return await measureHandshakes(proxy, { connections: CONNECTIONS, group }, context)
      } finally {
        await proxy.stop()
      }
    },
  }
}

function barOf(table: Table, row: string, base: string): Bar[] {
  const value = figure(table, row, 'efficiency')
  const other = figure(table, base, 'efficiency')
  if (value === undefined || other === undefined) return []
  return [{ what: row, value: value / other, limit: 0.8, atLeast: true, unit: `× ${base}` }]
}

/** The figures of HANDSHAKE_COLUMNS, after a warm-up. Throws on any error of either stretch. */
export async function measureHandshakes(
  proxy: RunningProxy,
  shape: Pick<HandshakeLoad, 'connections' | 'group' | 'names'>,
  context: SuiteContext,
): Promise<Record<string, number>> {
  const { machine, folder } = context.bench
  const { seconds, warmUpSeconds } = context.options
  const clean = async (
    forSeconds: number,
    atLeast = 0,
  ): Promise<{ readonly handshakes: number; readonly seconds: number }> => {
    const result = await runHandshakes({ ...shape, port: proxy.port, seconds: forSeconds, atLeast }, machine, folder)
    const { handshakes: count, errors, firstError } = result
    if (errors > 0) throw new Error(`${errors} errors in ${count} handshakes, the first: ${firstError}`)
    if (count === 0) throw new Error('not one handshake was finished')
    return result
  }
  // Contexts are made when a name is asked for the first time.
  if (warmUpSeconds > 0) await clean(warmUpSeconds, shape.names?.length)
  const { cpu, result } = await proxy.cpuDuring(() => clean(seconds))
  const cpuSeconds = (cpu.userUs + cpu.systemUs) / 1e6
  return {
    efficiency: result.handshakes / cpuSeconds,
    cpu: (cpuSeconds * 1e6) / result.handshakes,
    rate: result.handshakes / result.seconds,
    core: cpuSeconds / result.seconds,
  }
}
