import type { FilterFactory } from '../../lib/chain/filter.ts'
import { type HealthCheckConfig, parseHealthCheck } from './config.ts'
import { compileHealthCheck } from './filter.ts'

/**
 * Answers the health checks of a load balancer in front: 200, or 503 while the gateway drains, was told to fail, or its
 * clusters have too few healthy hosts. In pass-through mode the upstream answers, and its answer may be remembered.
 * While the gateway is failing, all other responses carry `x-envoy-immediate-health-check-fail: true`.
 *
 * Health checks are marked for access logs (`not_health_check_filter`), and their answers name the node's cluster in
 * `x-envoy-upstream-healthchecked-cluster`. In pass-through mode the upstream's `x-envoy-degraded` is remembered with its
 * status.
 *
 * Posture: robust against untrusted clients. It says how healthy clusters are to whoever matches its headers.
 */
export const healthCheck: FilterFactory<HealthCheckConfig> = Object.freeze({
  name: 'envoy.filters.http.health_check',
  typeUrls: ['envoy.extensions.filters.http.health_check.v3.HealthCheck'],
  routeTypeUrls: [],
  parse: parseHealthCheck,
  compile: compileHealthCheck,
})
