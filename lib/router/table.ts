import type { MatcherTreeConfig, OnMatchConfig } from '../match/config.ts'
import { compileHeaderValue } from '../match/header.ts'
import { compileMatcherTree } from '../match/tree.ts'
import { RouteCompiler } from './compile-route.ts'
import type { RouteConfig, RouteTableConfig, VirtualHostConfig } from './config.ts'
import { compileCriteria } from './criteria.ts'
import { type IndexEntry, type PathIndex, PathIndexBuilder } from './path-index.ts'
import { PlanCache } from './plan-cache.ts'
import { forwardedScheme } from './redirect.ts'
import type { RouteRequest } from './request.ts'
import type { CompiledRoute, RouteTableDeps } from './route.ts'
import { VirtualHosts } from './virtual-hosts.ts'

/** Routes compiled between two pauses of `routeTableSteps`: 2 ms where all of them are regexes. */
const SLICE = 16

/** A compiled route table. Immutable; `match` is not re-entrant. */
export interface RouteTable<P> {
  readonly name: string
  /** Request headers that are removed from external requests, besides Envoy's own. */
  readonly internalOnlyHeaders: readonly string[]
  /** The route of a request, its cluster resolved; undefined: 404, `NR`. */
  match(request: RouteRequest): CompiledRoute<P> | undefined
}

/**
 * Compiles a route table.
 *
 * @throws Error where a regex, template, format or domain of it is wrong; the message says where.
 */
export function compileRouteTable<P>(config: RouteTableConfig, deps: RouteTableDeps<P>): RouteTable<P> {
  return drained(routeTableSteps(config, deps))
}

/** What a generator of steps makes, at once. */
function drained<T>(steps: Generator<undefined, T>): T {
  for (;;) {
    const step = steps.next()
    if (step.done === true) return step.value
  }
}

/** As `compileRouteTable`, pausing after a few milliseconds of work at most, so that a large table need not block the loop. */
export function* routeTableSteps<P>(
  config: RouteTableConfig,
  deps: RouteTableDeps<P>,
): Generator<undefined, RouteTable<P>> {
  const plans = new PlanCache(deps.planFor.bind(deps))
  const hosts: { name: string; domains: readonly string[]; value: CompiledHost<P> }[] = []
  for (const host of config.virtualHosts) {
    const compiler = new RouteCompiler(config, host, deps, plans)
    const value = yield* compileHost(host, compiler, deps)
    hosts.push({ name: host.name, domains: host.domains, value })
    yield
  }
  return new HashedRouteTable(config, new VirtualHosts(hosts, config.ignorePortInHostMatching))
}

interface CompiledHost<P> {
  readonly requireTls: VirtualHostConfig['requireTls']
  readonly httpsRedirect: CompiledRoute<P>
  readonly find: (request: RouteRequest) => CompiledRoute<P> | undefined
}

function* compileHost<P>(
  host: VirtualHostConfig,
  compiler: RouteCompiler<P>,
  deps: RouteTableDeps<P>,
): Generator<undefined, CompiledHost<P>> {
  const common = { requireTls: host.requireTls, httpsRedirect: compiler.httpsRedirect() }
  const file = (route: RouteConfig): IndexEntry<CompiledRoute<P>> => {
    const { route: target, choose } = compiler.compile(route)
    return { path: route.match.path, criteria: compileCriteria(route.match, deps.runtime), target, choose }
  }
  if (host.matcher !== undefined) {
    const tree = compileMatcherTree(
      mapActions(host.matcher, (route) => compiler.blame(route, () => indexOf(file(route)))),
    )
    // The tree answers a route, which must then match the request by itself.
    return { ...common, find: (request) => tree(request)?.find(request) }
  }
  const builder = new PathIndexBuilder<CompiledRoute<P>>()
  for (const [number, route] of host.routes.entries()) {
    compiler.blame(route, () => builder.add(file(route)))
    if (number % SLICE === SLICE - 1) yield
  }
  const index = yield* builder.steps()
  return { ...common, find: (request) => index.find(request) }
}

function indexOf<T>(entry: IndexEntry<T>): PathIndex<T> {
  const builder = new PathIndexBuilder<T>()
  builder.add(entry)
  return drained(builder.steps())
}

/** The same tree with each action replaced. */
function mapActions<A, B>(tree: MatcherTreeConfig<A>, change: (action: A) => B): MatcherTreeConfig<B> {
  const onMatch = (on: OnMatchConfig<A>): OnMatchConfig<B> =>
    'matcher' in on
      ? { matcher: mapActions(on.matcher, change), keepMatching: on.keepMatching }
      : { action: change(on.action), keepMatching: on.keepMatching }
  const { list, tree: byValue } = tree
  return {
    list: list?.map((entry) => ({ predicate: entry.predicate, onMatch: onMatch(entry.onMatch) })),
    tree: byValue && { ...byValue, map: byValue.map.map(([key, on]) => [key, onMatch(on)] as const) },
    onNoMatch: tree.onNoMatch && onMatch(tree.onNoMatch),
  }
}

class HashedRouteTable<P> implements RouteTable<P> {
  readonly name: string
  readonly internalOnlyHeaders: readonly string[]
  readonly #hosts: VirtualHosts<CompiledHost<P>>
  readonly #hostHeader: ReturnType<typeof compileHeaderValue> | undefined

  constructor(config: RouteTableConfig, hosts: VirtualHosts<CompiledHost<P>>) {
    this.name = config.name
    this.internalOnlyHeaders = (config.internalOnlyHeaders ?? []).map((name) => name.toLowerCase())
    this.#hosts = hosts
    const header = config.virtualHostHeader
    this.#hostHeader = header === undefined || header === '' ? undefined : compileHeaderValue(header)
  }

  match(request: RouteRequest): CompiledRoute<P> | undefined {
    const read = this.#hostHeader
    const authority = read === undefined ? request.head.authority : read(request.request, request.head)
    const host = this.#hosts.find(authority ?? '')
    if (host === undefined) return undefined
    if (host.requireTls !== 'none' && mustRedirect(host.requireTls, request)) return host.httpsRedirect
    return host.find(request)
  }
}

function mustRedirect(requireTls: 'external' | 'all', request: RouteRequest): boolean {
  if (forwardedScheme(request.request, request.head.scheme) === 'https') return false
  return requireTls === 'all' || !request.info.internal
}
