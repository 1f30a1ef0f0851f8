import type { LowerFilters } from '../lib/chain/factories.ts'
import type { Scope } from '../lib/chain/filter.ts'
import type { ConnectionLogger, ListenerFilter, NetworkFilter, NetworkScope } from '../lib/chain/network.ts'
import type {
  FilterChainConfig,
  ListenerConfig,
  ListenerFilterConditionConfig,
  ListenerFilterConfig,
} from '../lib/config/listener.ts'
import type { ConnectionInfo } from '../lib/core/connection.ts'
import { type ChainIdentity, identityOf } from './chain-identity.ts'
import { type ChainChoice, chainChoiceSteps, compileNamedChoice } from './chain-match.ts'
import { type ManagerDeps, managerSteps } from './http/compile.ts'
import type { ConnectionManager } from './http/connection-manager.ts'
import { misdirectedBetween } from './http/misdirected.ts'
import { compileConnectionLogs } from './network/access-log.ts'
import { Usage } from './usage.ts'

/** What compiling a listener needs of the gateway. */
export interface ListenerCompileDeps extends Omit<ManagerDeps, 'bufferLimitBytes'> {
  readonly filters: LowerFilters
}

export interface CompiledNetworkFilter {
  readonly name: string
  readonly filter: NetworkFilter
}

/** A filter chain of one snapshot. */
export interface CompiledChain {
  readonly config: FilterChainConfig
  readonly networkFilters: readonly CompiledNetworkFilter[]
  /** Undefined where the chain ends in a network filter, or in nothing. */
  readonly manager: ConnectionManager | undefined
  readonly identity: ChainIdentity
  /** Connections that the network filters of this snapshot look after. */
  readonly usage: Usage
}

export interface CompiledListenerFilter {
  readonly config: ListenerFilterConfig
  readonly filter: ListenerFilter
  /** Connections that it leaves alone; undefined: none. */
  readonly skips: ((facts: ConnectionInfo) => boolean) | undefined
}

/** A listener of one snapshot: everything but its sockets and connections. */
export interface CompiledListener {
  readonly config: ListenerConfig
  readonly listenerFilters: readonly CompiledListenerFilter[]
  /** As configured; the default one, if there is one, last. */
  readonly chains: readonly CompiledChain[]
  /** Answers an index of `chains`, -1 for none. */
  readonly choose: ChainChoice
  /** Undefined where the listener has no access log. */
  readonly logger: ConnectionLogger | undefined
  /** Connections that the listener filters of this snapshot look at. */
  readonly usage: Usage
}

/** Compiles one listener. A generator: it pauses every millisecond or so, so that it need not block the loop. */
export function* listenerSteps(
  config: ListenerConfig,
  deps: ListenerCompileDeps,
): Generator<undefined, CompiledListener> {
  const { bufferLimitBytes, filterChains, defaultFilterChain } = config
  const configs = defaultFilterChain === undefined ? filterChains : [...filterChains, defaultFilterChain]
  const chains: CompiledChain[] = []
  let compiled: CompiledListener
  const elsewhere = configs.length > 1 ? { misdirected: misdirectedBetween(() => compiled) } : {}
  for (const chain of configs) {
    const scopeOf = (name: string): NetworkScope => networkScope(deps.scopeFor(name, ''), config, deps)
    const networkFilters = chain.networkFilters.map((entry) => ({
      name: entry.name,
      filter: find(deps.filters.network.byType, entry, 'network').compile(entry.config, scopeOf(entry.name)),
    }))
    const { http } = chain
    const manager =
      http === undefined ? undefined : yield* managerSteps(http, { ...deps, bufferLimitBytes, ...elsewhere })
    chains.push({
      config: chain,
      networkFilters,
      manager,
      identity: identityOf(chain, chain === defaultFilterChain),
      usage: new Usage(),
    })
    yield
  }
  const { chainMatcher } = config
  const choose = chainMatcher ? compileNamedChoice(filterChains, chainMatcher) : yield* chainChoiceSteps(filterChains)
  const otherwise = defaultFilterChain === undefined ? -1 : filterChains.length
  compiled = {
    config,
    listenerFilters: config.listenerFilters.map((entry) => ({
      config: entry,
      filter: find(deps.filters.listener.byType, entry, 'listener').compile(
        entry.config,
        deps.scopeFor(entry.name, `listener.${config.statPrefix}.`),
      ),
      skips: entry.disabledFor && compileCondition(entry.disabledFor),
    })),
    chains,
    choose(facts) {
      const found = choose(facts)
      return found < 0 ? otherwise : found
    },
    logger: config.accessLogs.length === 0 ? undefined : compileConnectionLogs(config.accessLogs, 'NotSet', deps),
    usage: new Usage(),
  }
  return compiled
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

function find<F>(
  factories: ReadonlyMap<string, F>,
  { name, typeUrl }: { readonly name: string; readonly typeUrl: string },
  kind: string,
): F {
  const factory = factories.get(typeUrl)
  if (factory === undefined) throw new Error(`${kind} filter "${name}": no filter has the type "${typeUrl}"`)
  return factory
}

function networkScope(scope: Scope, config: ListenerConfig, deps: ListenerCompileDeps): NetworkScope {
  const openLogs: NetworkScope['openLogs'] = (configs) => compileConnectionLogs(configs, 'TcpConnectionEnd', deps)
  return { ...scope, listenerName: config.name, openLogs }
}
