import { nodePeer } from './node-peer.ts'
import { startProxy } from './running-proxy.ts'
import { measureRounds, type Suite, type SuiteContext, type Unit } from './suite.ts'
import type { Variant } from './variant.ts'

const METHOD = `Milliseconds from starting the program to the end of its first answer from the origin, asked for every 2 ms.
"node itself" is a node:http server that answers alone: what any Node program pays.`

const NODE_ITSELF = 'node itself'

/** Start-up time. Three starts per round, as each is short. */
export const start: Suite = async (context) => {
  const variants = [
    ...context.variants.filter((one) => one.floor !== true),
    nodePeer(NODE_ITSELF, 'peers/answer.ts', { floor: true }),
  ]
  const options = { ...context.options, rounds: context.options.rounds * 3 }
  const rows = await measureRounds(
    variants.map((variant) => unitOf(variant, context)),
    { ...context, options },
  )
  const columns = [{ key: 'startMs', title: 'ms to the first answer', digits: 0, spread: true, ratio: true }]
  const tables = [{ title: 'Start-up', base: NODE_ITSELF, columns, rows }]
  return { suite: 'start', method: METHOD, tables, bars: [], skipped: context.skipped }
}

function unitOf(variant: Variant, context: SuiteContext): Unit {
  return {
    name: variant.name,
    measure: async () => {
      const proxy = await startProxy(variant, context.bench)
      await proxy.stop()
      return { startMs: proxy.startMs }
    },
  }
}
