import type { LowerFilters } from '../lib/chain/factories.ts'
import type { Scope } from '../lib/chain/filter.ts'
import type { ConnectionLogger, ListenerFilter, NetworkFilter, NetworkScope } from '../lib/chain/network.ts'
import type { FilterChainConfig, ListenerConfig, ListenerFilterConfig } from '../lib/config/listener.ts'
import type { AccessLogConfig } from '../lib/telemetry/config.ts'
import { type ChainChoice, compileChainChoice } from './chain-match.ts'
import { type ManagerDeps, managerSteps } from './http/compile.ts'
import type { ConnectionManager } from './http/connection-manager.ts'

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
}

export interface CompiledListenerFilter {
  readonly config: ListenerFilterConfig
  readonly filter: ListenerFilter
}

/** A listener of one snapshot: everything but its sockets and connections. */
export interface CompiledListener {
  readonly config: ListenerConfig
  readonly listenerFilters: readonly CompiledListenerFilter[]
  /** As configured; the default one, if there is one, last. */
  readonly chains: readonly CompiledChain[]
  /** Answers an index of `chains`, -1 for none. */
  readonly choose: ChainChoice
  readonly logger: ConnectionLogger
}

/** Compiles one listener. A generator: it pauses every millisecond or so, so that it need not block the loop. */
export function* listenerSteps(
  config: ListenerConfig,
  deps: ListenerCompileDeps,
): Generator<undefined, CompiledListener> {
  const { bufferLimitBytes, filterChains, defaultFilterChain } = config
  const configs = defaultFilterChain === undefined ? filterChains : [...filterChains, defaultFilterChain]
  const chains: CompiledChain[] = []
  for (const chain of configs) {
    const scopeOf = (name: string): NetworkScope => networkScope(deps.scopeFor(name, ''), config, deps)
    const networkFilters = chain.networkFilters.map((entry) => ({
      name: entry.name,
      filter: find(deps.filters.network.byType, entry, 'network').compile(entry.config, scopeOf(entry.name)),
    }))
    const { http } = chain
    const manager = http === undefined ? undefined : yield* managerSteps(http, { ...deps, bufferLimitBytes })
    chains.push({ config: chain, networkFilters, manager })
    yield
  }
  const choose = compileChainChoice(filterChains)
  const otherwise = defaultFilterChain === undefined ? -1 : filterChains.length
  return {
    config,
    listenerFilters: config.listenerFilters.map((entry) => ({
      config: entry,
      filter: find(deps.filters.listener.byType, entry, 'listener').compile(
        entry.config,
        deps.scopeFor(entry.name, `listener.${config.statPrefix}.`),
      ),
    })),
    chains,
    choose(facts) {
      const found = choose(facts)
      return found < 0 ? otherwise : found
    },
    logger: connectionLogger(config.accessLogs, deps),
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
  return { ...scope, listenerName: config.name, openLogs: (configs) => connectionLogger(configs, deps) }
}

/** Access logs of connections are compiled with the layer 4 engine. */
function connectionLogger(_configs: readonly AccessLogConfig[], _deps: ListenerCompileDeps): ConnectionLogger {
  return { log: () => {} }
}
