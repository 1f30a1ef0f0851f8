import type { LowerFilters } from '../lib/chain/factories.ts'
import { missingListenerFilter } from '../lib/chain/missing.ts'
import type { ConnectionLogger, ListenerFilter } from '../lib/chain/network.ts'
import type {
  FilterChainConfig,
  ListenerConfig,
  ListenerFilterConditionConfig,
  ListenerFilterConfig,
} from '../lib/config/listener.ts'
import type { ConnectionInfo } from '../lib/core/connection.ts'
import { sameJson } from '../lib/core/same-json.ts'
import { keyOf } from './chain-identity.ts'
import { type ChainChoice, chainChoiceSteps, compileNamedChoice } from './chain-match.ts'
import { type CompiledChain, chainSteps, hold } from './compile-chain.ts'
import type { ManagerDeps } from './http/compile.ts'
import { type MisdirectedCheck, misdirectedBetween } from './http/misdirected.ts'
import type { Lifetime } from './lifetime.ts'
import { compileConnectionLogs } from './network/access-log.ts'
import type { Usage } from './usage.ts'

export type { CompiledChain, CompiledNetworkFilter } from './compile-chain.ts'

/** What compiling a listener needs of the gateway. */
export interface ListenerCompileDeps extends Omit<ManagerDeps, 'bufferLimitBytes' | 'listenerStats' | 'misdirected'> {
  readonly filters: LowerFilters
}

export interface CompiledListenerFilter {
  readonly config: ListenerFilterConfig
  readonly filter: ListenerFilter
  /** Connections that it leaves alone; undefined: none. */
  readonly skips: ((facts: ConnectionInfo) => boolean) | undefined
}

/** One version of a listener: everything but its sockets and connections. What stays is shared with the next. */
export interface CompiledListener {
  readonly config: ListenerConfig
  readonly listenerFilters: readonly CompiledListenerFilter[]
  /** As configured; the default one, if there is one, last. */
  readonly chains: readonly CompiledChain[]
  /** Answers an index of `chains`, -1 for none. */
  readonly choose: ChainChoice
  /** Undefined where the listener has no access log. */
  readonly logger: ConnectionLogger | undefined
  /** Connections that its listener filters look at. */
  readonly usage: Usage
  /** Of the listener filters. */
  readonly front: Lifetime
  /** Of the access log. */
  readonly back: Lifetime
  /** The version in force, for all versions: `Listener.update` changes it. */
  readonly directory: { current: CompiledListener | undefined }
  readonly misdirected: MisdirectedCheck
}

/** Calls `visit` for everything that a version of a listener holds. */
export function eachLifetime(compiled: CompiledListener, visit: (lifetime: Lifetime) => void): void {
  visit(compiled.front)
  visit(compiled.back)
  for (const chain of compiled.chains) eachLifetimeOf(chain, visit)
}

export function eachLifetimeOf({ lower, upper }: CompiledChain, visit: (lifetime: Lifetime) => void): void {
  visit(lower)
  if (upper !== undefined) visit(upper)
}

/**
 * Compiles one listener. A generator: it pauses every millisecond or so, so that it need not block the loop. `before`: the
 * version in force, of which everything that is configured as before is taken over. What it is made of is held for the
 * caller, once (`eachLifetime`); where it fails, nothing is left.
 */
export function* listenerSteps(
  config: ListenerConfig,
  deps: ListenerCompileDeps,
  before?: CompiledListener,
): Generator<undefined, CompiledListener> {
  const made: Lifetime[] = []
  let compiled: CompiledListener | undefined
  try {
    compiled = yield* versionSteps(config, { deps, made, before })
    // What was made is held already: now the rest.
    const known = new Set(made)
    eachLifetime(compiled, (lifetime) => {
      if (!known.has(lifetime)) lifetime.hold()
    })
    return compiled
  } finally {
    if (compiled === undefined) for (const lifetime of made) lifetime.release()
  }
}

interface Build {
  readonly deps: ListenerCompileDeps
  /** Everything new, held once. */
  readonly made: Lifetime[]
  readonly before: CompiledListener | undefined
}

function* versionSteps(config: ListenerConfig, build: Build): Generator<undefined, CompiledListener> {
  const { before } = build
  const directory: CompiledListener['directory'] = before?.directory ?? { current: undefined }
  // Asked when the first version is in force.
  const misdirected = before?.misdirected ?? misdirectedBetween(() => directory.current as CompiledListener)
  const { chains, choose } = yield* chainsSteps(config, misdirected, build)
  return { config, chains, choose, directory, misdirected, ...frontOf(config, build), ...backOf(config, build) }
}

function* chainsSteps(
  config: ListenerConfig,
  misdirected: MisdirectedCheck,
  { deps, made, before }: Build,
): Generator<undefined, Pick<CompiledListener, 'chains' | 'choose'>> {
  const { filterChains, defaultFilterChain, chainMatcher, bufferLimitBytes, statPrefix } = config
  const configs = defaultFilterChain === undefined ? filterChains : [...filterChains, defaultFilterChain]
  // Connection managers have the limit and the cells of their listener.
  const kept = before?.config.bufferLimitBytes === bufferLimitBytes && before.config.statPrefix === statPrefix
  const predecessors = new Predecessors(kept ? before : undefined)
  const chains: CompiledChain[] = []
  let inPlace = before !== undefined && before.chains.length === configs.length
  for (const [i, chain] of configs.entries()) {
    const otherwise = chain === defaultFilterChain
    const known = predecessors.of(chain, i, otherwise)
    chains.push(yield* chainSteps(chain, { listener: config, deps, misdirected, otherwise, before: known }, made))
    if (known === undefined || known !== before?.chains[i]) inPlace = false
    yield
  }
  const last = defaultFilterChain === undefined ? -1 : filterChains.length
  // The choice is made by what tells chains apart.
  if (inPlace && before !== undefined && sameJson(chainMatcher, before.config.chainMatcher)) {
    return { chains, choose: before.choose }
  }
  const choice = chainMatcher ? compileNamedChoice(filterChains, chainMatcher) : yield* chainChoiceSteps(filterChains)
  return { chains, choose: (facts) => orLast(choice(facts), last) }
}

function orLast(found: number, last: number): number {
  return found < 0 ? last : found
}

/** Finds the chain of the version in force that a chain takes the place of: mostly the one at its place. */
class Predecessors {
  readonly #before: CompiledListener | undefined
  #byKey: Map<string, CompiledChain> | undefined = undefined

  constructor(before: CompiledListener | undefined) {
    this.#before = before
  }

  of(chain: FilterChainConfig, place: number, otherwise: boolean): CompiledChain | undefined {
    if (this.#before === undefined) return undefined
    const { chains, config } = this.#before
    const there = chains[place]
    if (
      there !== undefined &&
      there.config.name === chain.name &&
      (there.config === config.defaultFilterChain) === otherwise &&
      sameJson(there.config.match, chain.match)
    ) {
      return there
    }
    this.#byKey ??= new Map(chains.map((one) => [one.identity.key, one]))
    return this.#byKey.get(keyOf(chain, otherwise))
  }
}

function frontOf(
  config: ListenerConfig,
  { deps, made, before }: Build,
): Pick<CompiledListener, 'listenerFilters' | 'front' | 'usage'> {
  if (before !== undefined && sameJson(before.config.listenerFilters, config.listenerFilters)) {
    const { listenerFilters, front, usage } = before
    return { listenerFilters, front, usage }
  }
  const front = hold(deps, made)
  const listenerFilters = config.listenerFilters.map((entry) => ({
    config: entry,
    filter: compileListenerFilter(entry, config, deps, front),
    skips: entry.disabledFor && compileCondition(entry.disabledFor),
  }))
  return { listenerFilters, front, usage: front.usage }
}

function compileListenerFilter(
  entry: ListenerFilterConfig,
  { statPrefix, name: place }: ListenerConfig,
  deps: ListenerCompileDeps,
  { own }: Lifetime,
): ListenerFilter {
  const { name, typeUrl, config, missing } = entry
  const prefix = `listener.${statPrefix}.`
  if (missing === true) return missingListenerFilter(deps.metrics.counter(`${prefix}extension_config_missing`))
  const factory = deps.filters.listener.byType.get(typeUrl)
  if (factory === undefined) throw new Error(`listener filter "${name}": no filter has the type "${typeUrl}"`)
  return factory.compile(config, { ...deps.scopeFor(name, prefix, own), place })
}

function backOf(config: ListenerConfig, { deps, made, before }: Build): Pick<CompiledListener, 'logger' | 'back'> {
  if (before !== undefined && sameJson(before.config.accessLogs, config.accessLogs)) {
    return { logger: before.logger, back: before.back }
  }
  const back = hold(deps, made)
  const { own } = back
  const logger =
    config.accessLogs.length === 0 ? undefined : compileConnectionLogs(config.accessLogs, 'NotSet', { ...deps, own })
  return { logger, back }
}

/** `filter_disabled` of Envoy. */
function compileCondition(config: ListenerFilterConditionConfig): (facts: ConnectionInfo) => boolean {
  switch (config.kind) {
    case 'any':
      return () => true
    case 'destination-ports': {
      const { start, end } = config
      return ({ localPort }) => localPort >= start && localPort < end
    }
    case 'not': {
      const inner = compileCondition(config.of)
      return (facts) => !inner(facts)
    }
    case 'and': {
      const all = config.of.map(compileCondition)
      return (facts) => all.every((test) => test(facts))
    }
    case 'or': {
      const any = config.of.map(compileCondition)
      return (facts) => any.some((test) => test(facts))
    }
  }
}
