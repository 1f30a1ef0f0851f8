import type { FilterFactory, Scope, Terminal, TerminalExchange, TerminalStream } from '../chain/filter.ts'
import type { Clusters } from '../core/attempt.ts'
import type { JsonObject } from '../core/errors.ts'
import type { FieldReader } from '../core/field-reader.ts'
import type { Counter } from '../core/metrics.ts'
import { Forwarding } from './attempt.ts'
import { ClusterPolicies } from './cluster-policies.ts'
import { ConnectTunnel, endsConnect } from './connect-tunnel.ts'
import { type HboneTargets, parseTarget } from './hbone-targets.ts'
import type { CompiledRoute, ForwardAction } from './route.ts'

export const ROUTER_TYPE = 'envoy.extensions.filters.http.router.v3.Router'

export type RouterConfig = JsonObject & {
  /** No `x-envoy-*` headers on requests upstream and responses downstream. */
  suppressEnvoyHeaders: boolean
  respectExpectedTimeout: boolean
}

/** What the router needs of the gateway, beside its configuration. */
export interface RouterParts {
  readonly config: RouterConfig
  readonly clusters: Clusters
  readonly scope: Scope
  readonly policies: ClusterPolicies
}

/** The filter that ends every chain: it forwards to the route's cluster, redirects, or answers by itself. */
export const routerFactory: FilterFactory<RouterConfig> = Object.freeze({
  name: 'envoy.filters.http.router',
  typeUrls: [ROUTER_TYPE],
  terminal: true,
  parse(fields: FieldReader): RouterConfig {
    // dynamic_stats and start_child_span only concern statistics and tracing that are not built; the rest would change
    // what is sent where.
    fields.ignore('dynamic_stats', 'start_child_span')
    const config = {
      suppressEnvoyHeaders: fields.bool('suppress_envoy_headers'),
      respectExpectedTimeout: fields.bool('respect_expected_rq_timeout'),
    }
    fields.unread('refuse')
    return config
  },
  compile(config: RouterConfig, scope: Scope): Terminal {
    return new Router({ config, clusters: scope.clusters, scope, policies: new ClusterPolicies() })
  },
})

/** A route as the router meets it; the chain plan is the engine's business. */
type RoutedTo = CompiledRoute<unknown>

class Router implements Terminal {
  readonly #parts: RouterParts
  readonly #noRoute: Counter
  readonly #noCluster: Counter
  readonly #direct: Counter
  readonly #overload: Counter

  constructor(parts: RouterParts) {
    this.#parts = parts
    const { metrics, statPrefix } = parts.scope
    this.#noRoute = metrics.counter(`${statPrefix}no_route`)
    this.#noCluster = metrics.counter(`${statPrefix}no_cluster`)
    this.#direct = metrics.counter(`${statPrefix}rq_direct_response`)
    this.#overload = metrics.counter(`${statPrefix}rq_overload_local_reply`)
  }

  begin(exchange: TerminalExchange, end: boolean): TerminalStream | undefined {
    const route = exchange.route as RoutedTo | undefined
    if (route === undefined) {
      this.#noRoute.v++
      exchange.reply({ status: 404, details: 'route_not_found', flag: 'NR' })
      return undefined
    }
    const { action } = route
    if (action.kind === 'route') return this.#forward(exchange, route, end)
    if (action.kind !== 'none') this.#direct.v++
    if (action.kind === 'redirect') {
      const headers = ['location', action.location(exchange)]
      exchange.reply({ status: action.status, details: 'direct_response', headers })
    } else if (action.kind === 'direct') {
      const body = action.body?.(exchange)
      const headers = action.contentType === undefined ? [] : ['content-type', action.contentType]
      const more = body === undefined ? {} : { body }
      exchange.reply({ status: action.status, details: 'direct_response', headers, ...more })
    } else exchange.reply({ status: 503, details: 'cluster_not_found', flag: 'NC' })
    return undefined
  }

  #forward(exchange: TerminalExchange, route: RoutedTo, end: boolean): TerminalStream | undefined {
    const action = route.action as ForwardAction
    const { connect } = action
    const targets = connect?.targets
    const name = targets === undefined ? route.cluster : this.#hboneCluster(exchange, targets)
    if (name === undefined) return undefined
    const cluster = name === '' ? undefined : this.#parts.clusters.get(name)
    exchange.info.upstreamCluster = cluster === undefined ? '' : name
    if (cluster === undefined) {
      this.#noCluster.v++
      exchange.reply({ status: action.clusterNotFoundStatus, details: 'cluster_not_found', flag: 'NC' })
      return undefined
    }
    if (exchange.connection.state.overload?.filterCheck.sheds() === true) {
      this.#overload.v++
      exchange.reply({ status: 503, body: 'envoy overloaded', details: 'overload', flag: 'OM' })
      return undefined
    }
    const start = { exchange, route, action, cluster, router: this.#parts }
    if (connect !== undefined && endsConnect(connect, exchange.head.method, exchange.head.protocol)) {
      return new ConnectTunnel(start, connect).begin(end)
    }
    return new Forwarding(start).begin(end)
  }

  /** The cluster that an HBONE server sends a tunnel to. Undefined where it has been answered. */
  #hboneCluster(exchange: TerminalExchange, targets: HboneTargets): string | undefined {
    const target = parseTarget(exchange.head.authority)
    if (target === undefined) {
      exchange.reply({ status: 400, details: 'hbone_malformed_target', body: 'the target must be host:port' })
      return undefined
    }
    const found = targets.find(target)
    if (typeof found !== 'string') return found.cluster
    const status = found === 'forbidden' ? 403 : 404
    exchange.reply({ status, details: `hbone_${found}_target`, ...(status === 404 && { flag: 'NR' as const }) })
    return undefined
  }
}
