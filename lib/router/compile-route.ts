import type { JsonObject } from '../core/errors.ts'
import { compileRateLimits, type RateLimitRules, type RouteRateLimits } from '../ratelimit/rules.ts'
import { compileHeaderEdits, type HeaderEdits, inTurn } from '../telemetry/header-edits.ts'
import { type ActionLevels, compileAction, forWeighted } from './action.ts'
import {
  type ClusterChoice,
  chooseByHeader,
  chooseByWeight,
  type GroupPlace,
  type WeightedChoice,
  weightedGroup,
} from './cluster-choice.ts'
import type {
  FilterConfigs,
  HeaderEditsConfig,
  MirrorConfig,
  RouteConfig,
  RouteTableConfig,
  VirtualHostConfig,
  WeightedClusterConfig,
} from './config.ts'
import type { PlanCache } from './plan-cache.ts'
import { httpsLocation } from './redirect.ts'
import { compileRetryPolicy, type RetryPolicy } from './retry/policy.ts'
import type { CompiledAction, CompiledRoute, RouteTableDeps } from './route.ts'

/** A compiled route, and what chooses its cluster where each request does. */
export interface RouteTarget<P> {
  readonly route: CompiledRoute<P>
  readonly choose: ClusterChoice<P> | undefined
}

/** Compiles the routes of one virtual host. */
export class RouteCompiler<P> {
  readonly #table: RouteTableConfig
  readonly #host: VirtualHostConfig
  readonly #deps: RouteTableDeps<P>
  readonly #plans: PlanCache<P>
  readonly #compiledEdits = new Map<HeaderEditsConfig, HeaderEdits>()
  #retryOfHost: RetryPolicy | undefined = undefined
  #rateLimitsOfHost: RateLimitRules | undefined = undefined

  constructor(table: RouteTableConfig, host: VirtualHostConfig, deps: RouteTableDeps<P>, plans: PlanCache<P>) {
    this.#table = table
    this.#host = host
    this.#deps = deps
    this.#plans = plans
  }

  /** Runs `work` for a route; what it throws names the route and its virtual host. */
  blame<R>(route: RouteConfig, work: () => R): R {
    try {
      return work()
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error)
      throw new Error(`route "${route.name}" of virtual host "${this.#host.name}": ${reason}`)
    }
  }

  /** What a virtual host that requires TLS answers to plaintext. */
  httpsRedirect(): CompiledRoute<P> {
    const action: CompiledAction = { kind: 'redirect', status: 301, location: httpsLocation }
    return {
      ...this.#route({ name: '', cluster: '', action, metadata: undefined, statPrefix: '' }),
      requestHeaderEdits: undefined,
      responseHeaderEdits: undefined,
    }
  }

  /** @throws Error where something in it can't be compiled. */
  compile(route: RouteConfig): RouteTarget<P> {
    const action = compileAction(route, this.#levels(route), this.#deps)
    const parts = { name: route.name, action, metadata: route.metadata, statPrefix: route.statPrefix ?? '', own: route }
    const cluster = route.action.kind === 'route' ? route.action.cluster : undefined
    const compiled = this.#route({ ...parts, cluster: cluster?.kind === 'cluster' ? cluster.name : '' })
    if (cluster?.kind === 'header') return { route: compiled, choose: chooseByHeader(cluster.name, compiled) }
    if (cluster?.kind !== 'weighted') return { route: compiled, choose: undefined }
    const { runtime } = this.#deps
    const choices: WeightedChoice<P>[] = []
    const group = weightedGroup(choices, cluster.randomHeader, runtime)
    for (const [index, weighted] of cluster.clusters.entries()) {
      const choose = this.#weighted({ ...parts, cluster: weighted.name ?? '', weighted, place: { group, index } })
      choices.push({ weight: weighted.weight, runtimeKey: weighted.runtimeKey, choose })
    }
    return { route: compiled, choose: chooseByWeight(choices, cluster.randomHeader, runtime) }
  }

  #weighted(parts: RouteParts<P> & { readonly weighted: WeightedClusterConfig }): ClusterChoice<P> {
    const { weighted, action } = parts
    const own = action.kind === 'route' ? forWeighted(action, weighted) : action
    const route = this.#route({ ...parts, action: own })
    const byName = weighted.name !== undefined && weighted.name !== ''
    if (byName || weighted.clusterHeader === undefined) return () => route
    return chooseByHeader(weighted.clusterHeader, route)
  }

  /** The one place where these objects are born, so that they all have one shape. */
  #route(parts: RouteParts<P>): CompiledRoute<P> {
    const { own, weighted } = parts
    return {
      name: parts.name,
      virtualHost: this.#host.name,
      cluster: parts.cluster,
      metadata: parts.metadata,
      rateLimits: this.#rateLimits(own),
      plan: this.#plans.get(this.#filterLevels(own, weighted)),
      action: parts.action,
      requestHeaderEdits: this.#edits([weighted, own, this.#host, this.#table].map((l) => l?.requestHeaders)),
      responseHeaderEdits: this.#edits([weighted, own, this.#host, this.#table].map((l) => l?.responseHeaders)),
      includeAttemptCount: this.#host.includeAttemptCount === true,
      includeAttemptCountInResponse: this.#host.includeAttemptCountInResponse === true,
      includeTimeoutRetry: this.#host.includeTimeoutRetry === true,
      statPrefix: parts.statPrefix,
      place: parts.place,
    }
  }

  /** Only routes that forward have any, as in Envoy. */
  #rateLimits(route: RouteConfig | undefined): RouteRateLimits | undefined {
    if (route?.action.kind !== 'route') return undefined
    const { rateLimits: own = [], includeVirtualHostRateLimits: includeVirtualHost = false } = route.action
    const { rateLimits: ofHost = [] } = this.#host
    if (own.length === 0 && ofHost.length === 0) return undefined
    const virtualHost = (this.#rateLimitsOfHost ??= compileRateLimits(ofHost))
    return { route: compileRateLimits(own), virtualHost, includeVirtualHost }
  }

  #filterLevels(own: RouteConfig | undefined, weighted: WeightedClusterConfig | undefined): LevelsOfFilters {
    return [this.#table.filterConfigs, this.#host.filterConfigs, own?.filterConfigs, weighted?.filterConfigs]
  }

  /** `levels` most specific first, which is the order that lets the least specific have the last word. */
  #edits(levels: readonly (HeaderEditsConfig | undefined)[]): HeaderEdits | undefined {
    const steps = levels.map((level) => this.#editsOf(level)).filter((step) => step !== undefined)
    return inTurn(this.#table.mostSpecificHeaderMutationsWins ? steps.reverse() : steps)
  }

  /** Levels are compiled once each: that of the virtual host is shared by all its routes. */
  #editsOf(level: HeaderEditsConfig | undefined): HeaderEdits | undefined {
    if (level === undefined) return undefined
    const known = this.#compiledEdits.get(level)
    if (known !== undefined) return known
    const edits = compileHeaderEdits([level], this.#deps.compileFormat)
    if (edits !== undefined) this.#compiledEdits.set(level, edits)
    return edits
  }

  #levels(route: RouteConfig): ActionLevels {
    const own = route.action.kind === 'route' ? route.action : undefined
    const hedge = own?.hedge ?? this.#host.hedge
    return {
      mirrors: this.#mirrors(route),
      retry: own?.retry === undefined ? this.#hostRetry() : compileRetryPolicy(own.retry),
      hedge: hedge?.onPerTryTimeout === true,
    }
  }

  /** Compiled once for all routes. */
  #hostRetry(): RetryPolicy | undefined {
    if (this.#host.retry !== undefined) this.#retryOfHost ??= compileRetryPolicy(this.#host.retry)
    return this.#retryOfHost
  }

  #mirrors(route: RouteConfig): readonly MirrorConfig[] {
    const own = route.action.kind === 'route' ? route.action.mirrors : undefined
    for (const level of [own, this.#host.mirrors, this.#table.mirrors]) {
      if (level !== undefined && level.length > 0) return level
    }
    return []
  }
}

type LevelsOfFilters = readonly (FilterConfigs | undefined)[]

interface RouteParts<P> {
  readonly name: string
  readonly cluster: string
  readonly action: CompiledAction
  readonly metadata: JsonObject | undefined
  readonly statPrefix: string
  readonly own?: RouteConfig
  readonly weighted?: WeightedClusterConfig
  readonly place?: GroupPlace<P>
}
