import { type Bar, figure, type SuiteResult, type Table } from '../report.ts'
import { chainAnswer, chainName } from './chain-set.ts'
import { HANDSHAKE_COLUMNS, measureHandshakes } from './handshakes.ts'
import { HEADGATE, headgate } from './headgate.ts'
import { runMicro } from './micro-benchmark.ts'
import { startProxy } from './running-proxy.ts'
import { measureRounds, type Suite, type SuiteContext, type Unit } from './suite.ts'
import { PLAIN_HTTP1 } from './variant.ts'

const FEW = 10
const MANY = 10_000
const LIMIT = 1.5
const CONNECTIONS = 16

const METHOD = `headgate with ${FEW} and with ${MANY} filter chains, each chosen by a server name of its own and each with a TLS context of one
certificate: new TLS connections that ask for one name after the other, and must be told by their chain which it is; all
names have been asked for once in the warm-up. The
figures of the choice alone are printed by benchmarks/micro/chains.ts itself.`

/** What many filter chains cost: the choice alone, then end to end. */
export const chains: Suite = async (context) => {
  const missing = headgate(HEADGATE).missing()
  const choice = await runMicro('micro/chains.ts', context)
  const skipped: SuiteResult['skipped'][number][] = [...choice.skipped]
  if (missing !== undefined) skipped.push({ name: 'headgate with generated filter chains', reason: missing })
  const units = missing === undefined ? [unitOf(FEW, context), unitOf(MANY, context)] : []
  const rows = [...choice.rows, ...(await measureRounds(units, context))]
  const table: Table = { title: 'End to end', base: nameOf(FEW), columns: HANDSHAKE_COLUMNS, rows }
  return { suite: 'chains', method: METHOD, tables: [table], bars: barsOf(table), skipped, text: choice.text }
}

function nameOf(count: number): string {
  return `headgate, ${count} chains`
}

function unitOf(count: number, context: SuiteContext): Unit {
  // 7919 is prime and divides neither count, so every name comes exactly once before the first comes again.
  const indices = Array.from({ length: count }, (_, i) => (i * 7919) % count)
  const names = indices.map((i) => ({ serverName: chainName(i), answer: chainAnswer(i) }))
  return {
    name: nameOf(count),
    measure: async () => {
      const traffic = { ...PLAIN_HTTP1, tls: true }
      const proxy = await startProxy(headgate(nameOf(count)), context.bench, { traffic, chains: count })
      try {
        return await measureHandshakes(proxy, { connections: CONNECTIONS, group: 'X25519', names }, context)
      } finally {
        await proxy.stop()
      }
    },
  }
}

function barsOf(table: Table): Bar[] {
  const few = figure(table, nameOf(FEW), 'cpu')
  const many = figure(table, nameOf(MANY), 'cpu')
  if (few === undefined || many === undefined) return []
  return [
    { what: `${MANY} filter chains against ${FEW}`, value: many / few, limit: LIMIT, unit: '× CPU per handshake' },
  ]
}
