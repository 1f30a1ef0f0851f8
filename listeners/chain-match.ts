import { groupChains, MATCH_ORDER, type MatchStepName } from '../lib/config/chain-match.ts'
import type { FilterChainConfig } from '../lib/config/listener.ts'
import type { ConnectionInfo } from '../lib/core/connection.ts'
import type { MatcherTreeConfig } from '../lib/match/config.ts'
import { isLocalConnection } from '../lib/match/connection.ts'
import { compileRangeTable } from '../lib/match/range-table.ts'
import { compileMatcherTree } from '../lib/match/tree.ts'

/** Chooses the filter chain of a connection: answers its place in the list it was compiled from, -1 for none. */
export type ChainChoice = (facts: ConnectionInfo) => number

const NONE = -1
const nothing: ChainChoice = () => NONE

/**
 * Compiles the choice between the chains of a listener as Envoy makes it: step by step (`MATCH_ORDER`), and at each step
 * only the chains with the most specific value that the connection has are left, also where none of them fits in the
 * end. Each step is a look-up, so ten thousand chains cost what ten do; steps that decide nothing are left out.
 *
 * @throws Error where nothing decides between two chains, which validation has refused
 */
export function compileChainChoice(chains: readonly FilterChainConfig[]): ChainChoice {
  const steps = chainChoiceSteps(chains)
  for (;;) {
    const step = steps.next()
    if (step.done === true) return step.value
  }
}

/** As `compileChainChoice`, with a pause after each chain or so. */
export function* chainChoiceSteps(chains: readonly FilterChainConfig[]): Generator<undefined, ChainChoice> {
  return chains.length === 0 ? nothing : yield* new Compiler(chains).choice([...chains.keys()], 0)
}

/**
 * Compiles the choice by a matcher over facts of the connection, whose actions are names of filter chains.
 *
 * @throws Error for a pattern that RE2 refuses
 */
export function compileNamedChoice(
  chains: readonly FilterChainConfig[],
  matcher: MatcherTreeConfig<string>,
): ChainChoice {
  const tree = compileMatcherTree(matcher)
  const byName = new Map(chains.map(({ name }, i) => [name, i]))
  return (connection) => {
    const { state } = connection
    const name = tree({
      connection,
      metadata: { get: (namespace) => state.metadata(namespace) },
      filterState: { get: (key) => state.object(key) },
    })
    return name === undefined ? NONE : (byName.get(name) ?? NONE)
  }
}

/** Chains that agree in what is left to look at share what was compiled for them. */
class Compiler {
  readonly #chains: readonly FilterChainConfig[]
  readonly #known = new Map<string, ChainChoice>()

  constructor(chains: readonly FilterChainConfig[]) {
    this.#chains = chains
  }

  *choice(members: readonly number[], from: number): Generator<undefined, ChainChoice> {
    for (let depth = from; depth < MATCH_ORDER.length; depth++) {
      const step = MATCH_ORDER[depth]
      const groups = groupChains(step, this.#chains, members)
      if (groups.size === 1 && groups.has('')) continue
      const key = `${depth}:${members.join()}`
      const known = this.#known.get(key)
      if (known !== undefined) return known
      const compiled = yield* this.#step(step, groups, depth + 1)
      this.#known.set(key, compiled)
      return compiled
    }
    const [index, other] = members
    if (other !== undefined) throw new Error(`filter chains ${index} and ${other} match the same connections`)
    return () => index
  }

  *#step(
    step: MatchStepName,
    groups: ReadonlyMap<string, readonly number[]>,
    next: number,
  ): Generator<undefined, ChainChoice> {
    const byValue = new Map<string, ChainChoice>()
    let otherwise = nothing
    for (const [value, members] of groups) {
      const choice = yield* this.choice(members, next)
      if (value === '') otherwise = choice
      else byValue.set(value, choice)
      yield
    }
    return STEPS[step](byValue, otherwise)
  }
}

type MakeStep = (byValue: ReadonlyMap<string, ChainChoice>, otherwise: ChainChoice) => ChainChoice

const STEPS: { readonly [S in MatchStepName]: MakeStep } = Object.freeze({
  destinationPort: (byValue, otherwise) => {
    const ports = byNumber(byValue)
    return (facts) => (ports.get(facts.localPort) ?? otherwise)(facts)
  },
  destination: ranges(({ localAddress }) => localAddress),
  serverName: compileServerNames,
  transportProtocol: (byValue, otherwise) => {
    const tls = byValue.get('tls') ?? otherwise
    // Envoy's default, also where nobody has looked.
    const plain = byValue.get('raw_buffer') ?? otherwise
    return (facts) => (facts.transportProtocol === 'tls' ? tls : plain)(facts)
  },
  applicationProtocol: compileProtocols,
  directSource: ranges(({ directRemoteAddress }) => directRemoteAddress),
  sourceType: (byValue, otherwise) => {
    const local = byValue.get('same-ip-or-loopback') ?? otherwise
    const external = byValue.get('external') ?? otherwise
    return (facts) => (isLocalConnection(facts) ? local : external)(facts)
  },
  source: ranges(({ remoteAddress }) => remoteAddress),
  sourcePort: (byValue, otherwise) => {
    const ports = byNumber(byValue)
    return (facts) => (ports.get(facts.remotePort) ?? otherwise)(facts)
  },
})

/** The first of the client's protocols that some chain wants. */
function compileProtocols(byValue: ReadonlyMap<string, ChainChoice>, otherwise: ChainChoice): ChainChoice {
  const [single] = byValue
  if (byValue.size === 1) {
    // Thousands of chains want `h2`: a map for each would be cold memory.
    const [name, choice] = single
    return (facts) => (facts.applicationProtocols.includes(name) ? choice : otherwise)(facts)
  }
  return (facts) => {
    for (const name of facts.applicationProtocols) {
      const choice = byValue.get(name)
      if (choice !== undefined) return choice(facts)
    }
    return otherwise(facts)
  }
}

/** Longest prefix first; what has no IP address is in no range. */
function ranges(addressOf: (facts: ConnectionInfo) => string): MakeStep {
  return (byValue, otherwise) => {
    const table = compileRangeTable([...byValue])
    return (facts) => (table(addressOf(facts)) ?? otherwise)(facts)
  }
}

function byNumber(byValue: ReadonlyMap<string, ChainChoice>): ReadonlyMap<number, ChainChoice> {
  return new Map([...byValue].map(([port, choice]) => [Number(port), choice]))
}

/** The name itself, then `*.` in front of ever fewer of its labels: a wildcard stands for one label or more. */
function compileServerNames(byValue: ReadonlyMap<string, ChainChoice>, otherwise: ChainChoice): ChainChoice {
  const exact = new Map<string, ChainChoice>()
  const suffixes = new Map<string, ChainChoice>()
  for (const [name, choice] of byValue) {
    if (name.startsWith('*.')) suffixes.set(name.slice(1), choice)
    else exact.set(name, choice)
  }
  return (facts) => {
    const name = facts.serverName ?? ''
    if (name === '') return otherwise(facts)
    const found = exact.get(name) ?? (suffixes.size === 0 ? undefined : bySuffix(suffixes, name))
    return (found ?? otherwise)(facts)
  }
}

function bySuffix(suffixes: ReadonlyMap<string, ChainChoice>, name: string): ChainChoice | undefined {
  for (let dot = name.indexOf('.', 1); dot > 0; dot = name.indexOf('.', dot + 1)) {
    const choice = suffixes.get(name.slice(dot))
    if (choice !== undefined) return choice
  }
  return undefined
}
