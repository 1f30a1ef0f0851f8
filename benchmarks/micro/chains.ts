/**
 * What choosing a filter chain costs: CPU nanoseconds per connection among 10, 100, 1,000 and 10,000 chains by server
 * name, each asked for equally often. `node benchmarks/micro/chains.ts`
 *
 * "exact" are exact names alone. "mixed": a quarter are wildcards (`*.team-7.example.com`), and each chain takes TLS with
 * one application protocol only and one destination port, as chains of a service mesh do.
 */

import type { FilterChainConfig, FilterChainMatchConfig } from '../../lib/config/listener.ts'
import { type ConnectionInfo, plainConnection } from '../../lib/core/connection.ts'
import { type ChainChoice, compileChainChoice } from '../../listeners/chain-match.ts'
import { inTurns, lineOf, shuffledOrder } from './measure.ts'

const SIZES = [10, 100, 1_000, 10_000]
const ROUNDS = 9
const CHOICES = 400_000

type Shape = 'exact' | 'mixed'

const ANY: FilterChainMatchConfig = {
  destinations: [],
  serverNames: [],
  applicationProtocols: [],
  directSources: [],
  sourceType: 'any',
  sources: [],
  sourcePorts: [],
}

function chainOf(index: number, shape: Shape): FilterChainConfig {
  const wildcard = shape === 'mixed' && index % 4 === 0
  const serverNames = [wildcard ? `*.team-${index}.example.com` : `service-${index}.example.com`]
  const more = { destinationPort: 8443, transportProtocol: 'tls', applicationProtocols: ['h2'] } as const
  const match = shape === 'mixed' ? { ...ANY, ...more, serverNames } : { ...ANY, serverNames }
  return { name: `chain-${index}`, match, networkFilters: [] }
}

function nameFor(index: number, shape: Shape): string {
  return shape === 'mixed' && index % 4 === 0 ? `api.team-${index}.example.com` : `service-${index}.example.com`
}

const SOCKET = plainConnection({
  id: 1,
  remoteAddress: '192.0.2.1',
  remotePort: 40_000,
  localAddress: '192.0.2.2',
  localPort: 8443,
  kind: 'ip',
  listenerName: '',
})

/** One set of chains, asked in random order with names that are read out of a buffer each time, as an inspector does. */
class Workload {
  readonly compileMs: number
  readonly #choose: ChainChoice
  readonly #names: Buffer
  readonly #offsets: Int32Array
  readonly #order: Int32Array

  constructor(size: number, shape: Shape) {
    const chains = Array.from({ length: size }, (_, i) => chainOf(i, shape))
    const before = performance.now()
    this.#choose = compileChainChoice(chains)
    this.compileMs = performance.now() - before
    const names = chains.map((_, i) => nameFor(i, shape))
    this.#names = Buffer.from(names.join(''), 'latin1')
    this.#offsets = new Int32Array(size + 1)
    for (let i = 0; i < size; i++) this.#offsets[i + 1] = this.#offsets[i] + names[i].length
    this.#order = shuffledOrder(size)
  }

  #facts(i: number): ConnectionInfo {
    const serverName = this.#names.latin1Slice(this.#offsets[i], this.#offsets[i + 1])
    return { ...SOCKET, transportProtocol: 'tls', serverName, applicationProtocols: PROTOCOLS }
  }

  /** Fails where any name does not find its own chain. */
  check(): void {
    for (const i of this.#order) {
      const found = this.#choose(this.#facts(i))
      if (found !== i) throw new Error(`expected chain ${i}, found ${found}`)
    }
  }

  /** CPU nanoseconds each; without `choose`, of the facts alone. */
  measure(choose: boolean): number {
    const start = process.cpuUsage()
    let found = 0
    for (let n = 0; n < CHOICES; n++) {
      const facts = this.#facts(this.#order[n & 0xffff])
      if (!choose || this.#choose(facts) >= 0) found++
    }
    if (found !== CHOICES) throw new Error('a connection found no chain')
    const { user, system } = process.cpuUsage(start)
    return ((user + system) * 1000) / CHOICES
  }
}

const PROTOCOLS: readonly string[] = ['h2', 'http/1.1']

for (const shape of ['exact', 'mixed'] as const) {
  const workloads = SIZES.map((size) => new Workload(size, shape))
  for (const workload of workloads) workload.check()
  const rounds = inTurns(workloads.length, ROUNDS, (w) => workloads[w].measure(true) - workloads[w].measure(false))
  process.stdout.write(`${shape}\n`)
  for (const [w, size] of SIZES.entries()) {
    const what = `${String(size).padStart(6)} chains`
    process.stdout.write(lineOf(what, rounds[w], rounds[0], workloads[w].compileMs))
  }
}
