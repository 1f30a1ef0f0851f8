import type { FilterFactory } from '../../lib/chain/filter.ts'
import { type OnDemandConfig, parseOnDemand } from './config.ts'
import { compileOnDemand } from './filter.ts'

/**
 * Asks the control plane for what a request lacks while the request waits: the virtual host, of route tables that get theirs
 * so (VHDS), and with `odcds` the cluster of its route (on-demand CDS). What does not come in time is not there: the router
 * answers 404, or 503.
 *
 * Posture: every request for an unknown name becomes a question to the control plane; put what decides who may ask (and how
 * often) in front of it.
 */
export const onDemand: FilterFactory<OnDemandConfig> = Object.freeze({
  name: 'envoy.filters.http.on_demand',
  typeUrls: ['envoy.extensions.filters.http.on_demand.v3.OnDemand'],
  routeTypeUrls: ['envoy.extensions.filters.http.on_demand.v3.PerRouteConfig'],
  parse: parseOnDemand,
  compile: compileOnDemand,
})
