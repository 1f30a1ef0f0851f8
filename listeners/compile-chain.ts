import type { Scope } from '../lib/chain/filter.ts'
import { missingNetworkFilter } from '../lib/chain/missing.ts'
import type { NetworkFilter, NetworkScope } from '../lib/chain/network.ts'
import type { FilterChainConfig, ListenerConfig, NetworkFilterConfig } from '../lib/config/listener.ts'
import { sameJson, sameJsonSteps } from '../lib/core/same-json.ts'
import { type ChainIdentity, identityOf, keyOf } from './chain-identity.ts'
import type { ListenerCompileDeps } from './compile.ts'
import { managerSteps } from './http/compile.ts'
import type { ConnectionManager } from './http/connection-manager.ts'
import type { MisdirectedCheck } from './http/misdirected.ts'
import type { Lifetime } from './lifetime.ts'
import { compileConnectionLogs } from './network/access-log.ts'
import type { Usage } from './usage.ts'

export interface CompiledNetworkFilter {
  readonly name: string
  readonly filter: NetworkFilter
}

/** One version of a filter chain. What stays from one version to the next is shared by both. */
export interface CompiledChain {
  readonly config: FilterChainConfig
  readonly networkFilters: readonly CompiledNetworkFilter[]
  /** Undefined where the chain ends in a network filter, or in nothing. */
  readonly manager: ConnectionManager | undefined
  readonly identity: ChainIdentity
  /** Connections that its network filters look after. */
  readonly usage: Usage
  /** Of the network filters. */
  readonly lower: Lifetime
  /** Of the connection manager. */
  readonly upper: Lifetime | undefined
}

/** What a filter chain is compiled with, besides its configuration. */
export interface ChainSurroundings {
  readonly listener: ListenerConfig
  readonly deps: ListenerCompileDeps
  readonly misdirected: MisdirectedCheck
  /** It is the listener's default chain. */
  readonly otherwise: boolean
  /** The version that is in force; undefined: there is none, or nothing of it may be kept. */
  readonly before: CompiledChain | undefined
}

/**
 * Compiles one filter chain, or takes over from the version in force what has not changed: all of it, its network filters, or
 * its connection manager with all filters. What is new is held once, for the caller, who adds it to `made` where it fails.
 */
export function* chainSteps(
  config: FilterChainConfig,
  surroundings: ChainSurroundings,
  made: Lifetime[],
): Generator<undefined, CompiledChain> {
  const around = placed(config, surroundings)
  const { before, deps, otherwise } = around
  const identity = before === undefined ? undefined : yield* identitySteps(config, before, otherwise)
  if (before !== undefined && identity === before.identity && (yield* sameParts(config, before))) {
    // A new object that says the same takes the place of the old one, which can be forgotten.
    return { ...before, config }
  }
  const lower =
    before !== undefined && sameJson(before.config.networkFilters, config.networkFilters)
      ? before
      : compileLower(config, around, made)
  const { http } = config
  let { manager, upper } = NO_HTTP
  if (http !== undefined && before?.manager !== undefined && (yield* sameJsonSteps(before.config.http, http))) {
    ;({ manager, upper } = before)
  } else if (http !== undefined) {
    upper = hold(deps, made)
    const { bufferLimitBytes, statPrefix: listenerStats } = around.listener
    const { misdirected } = around
    manager = yield* managerSteps(http, { ...deps, bufferLimitBytes, listenerStats, misdirected }, upper)
  }
  return {
    config,
    networkFilters: lower.networkFilters,
    manager,
    identity: identity ?? identityOf(config, otherwise),
    usage: lower.lower.usage,
    lower: lower.lower,
    upper,
  }
}

/** Filters are told where they stand. */
function placed(config: FilterChainConfig, around: ChainSurroundings): ChainSurroundings {
  const { listener, deps, otherwise } = around
  let place: string | undefined
  const scopeFor: ListenerCompileDeps['scopeFor'] = (name, prefix, own) => {
    // Most chains of an update stay as they were, and compile nothing.
    place ??= `${listener.name}/${keyOf(config, otherwise)}`
    return { ...deps.scopeFor(name, prefix, own), place }
  }
  return { ...around, deps: { ...deps, scopeFor } }
}

const NO_HTTP: { readonly manager: ConnectionManager | undefined; readonly upper: Lifetime | undefined } =
  Object.freeze({ manager: undefined, upper: undefined })

/** That of `before` where everything that it is made of is the same. */
function* identitySteps(
  config: FilterChainConfig,
  before: CompiledChain,
  otherwise: boolean,
): Generator<undefined, ChainIdentity> {
  const { name, match, tls, networkFilters, http } = before.config
  const same =
    name === config.name &&
    sameJson(match, config.match) &&
    sameJson(tls, config.tls) &&
    sameJson(networkFilters, config.networkFilters) &&
    (http === undefined) === (config.http === undefined)
  yield
  return same ? before.identity : identityOf(config, otherwise)
}

/** Besides what the identity is made of. */
function* sameParts(config: FilterChainConfig, before: CompiledChain): Generator<undefined, boolean> {
  if (config.transportConnectTimeoutMs !== before.config.transportConnectTimeoutMs) return false
  return yield* sameJsonSteps(before.config.http, config.http)
}

interface Lower {
  readonly networkFilters: readonly CompiledNetworkFilter[]
  readonly lower: Lifetime
}

function compileLower({ networkFilters }: FilterChainConfig, around: ChainSurroundings, made: Lifetime[]): Lower {
  const lower = hold(around.deps, made)
  const compiled = networkFilters.map((entry) => ({
    name: entry.name,
    filter: compileNetworkFilter(entry, networkScope(entry.name, lower.own, around), around),
  }))
  return { networkFilters: compiled, lower }
}

function compileNetworkFilter(
  { name, typeUrl, config, missing }: NetworkFilterConfig,
  scope: NetworkScope,
  { deps, listener }: ChainSurroundings,
): NetworkFilter {
  if (missing === true) {
    return missingNetworkFilter(
      deps.metrics.counter(`listener.${listener.statPrefix}.network_extension_config_missing`),
    )
  }
  const factory = deps.filters.network.byType.get(typeUrl)
  if (factory === undefined) throw new Error(`network filter "${name}": no filter has the type "${typeUrl}"`)
  return factory.compile(config, scope)
}

function networkScope(name: string, own: Scope['own'], { listener, deps }: ChainSurroundings): NetworkScope {
  const openLogs: NetworkScope['openLogs'] = (configs) =>
    compileConnectionLogs(configs, 'TcpConnectionEnd', { ...deps, own })
  return { ...deps.scopeFor(name, '', own), listenerName: listener.name, openLogs }
}

/** A lifetime that is held for what is being compiled. */
export function hold(deps: ListenerCompileDeps, made: Lifetime[]): Lifetime {
  const lifetime = deps.lifetimes.create()
  lifetime.hold()
  made.push(lifetime)
  return lifetime
}
