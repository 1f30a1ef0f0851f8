import type { Address } from '../core/address.ts'
import { formatAddress } from '../core/address.ts'
import type { Json, JsonObject } from '../core/errors.ts'
import type { OutlierFigures } from '../core/status.ts'
import type { ClusterStatus, EngineStatus, HostStatus } from '../runtime/engine.ts'
import type { AdminBackend } from './endpoint.ts'

/** Statistics of a host that are gauges; all others are counters. */
const HOST_GAUGES: ReadonlySet<string> = new Set(['cx_active', 'rq_active'])

/** What is known of clusters besides what engines say. */
export interface ClusterOrigin {
  /** Delivered by a discovery service. */
  readonly viaApi: ReadonlySet<string>
  /** What their endpoints are asked for by, where they are delivered. */
  readonly serviceNames: ReadonlyMap<string, string>
}

/** Where the clusters of a gateway come from. */
export function clusterOrigin(backend: AdminBackend): ClusterOrigin {
  const viaApi = new Set<string>()
  for (const { typeName, name, source } of backend.dynamic()?.resources ?? []) {
    if (typeName === 'envoy.config.cluster.v3.Cluster' && source !== '') viaApi.add(name)
  }
  const serviceNames = new Map<string, string>()
  for (const { name, assignment } of backend.configuration()?.config.clusters ?? []) {
    if (assignment !== undefined) serviceNames.set(name, assignment)
  }
  return { viaApi, serviceNames }
}

/** Envoy's `/clusters`: one `cluster::...::value` per line. */
export function clustersText(status: EngineStatus, origin: ClusterOrigin): string {
  return status.clusters.map((cluster) => clusterText(cluster, origin)).join('')
}

function clusterText(cluster: ClusterStatus, { viaApi, serviceNames }: ClusterOrigin): string {
  const { name } = cluster
  let out = `${name}::observability_name::${cluster.statName ?? name}\n`
  if (cluster.outlier !== undefined) out += outlierText(name, cluster.outlier)
  for (const t of cluster.thresholds) {
    const prefix = `${name}::${t.priority}_priority`
    out += `${prefix}::max_connections::${t.maxConnections}\n${prefix}::max_pending_requests::${t.maxPendingRequests}\n`
    out += `${prefix}::max_requests::${t.maxRequests}\n${prefix}::max_retries::${t.maxRetries}\n`
  }
  out += `${name}::added_via_api::${viaApi.has(name)}\n`
  const service = serviceNames.get(name)
  if (service !== undefined) out += `${name}::eds_service_name::${service}\n`
  for (const host of cluster.hosts) {
    const facts: [string, string | number][] = [
      ...Object.entries(host.stats),
      ['hostname', host.hostname],
      ['health_flags', host.health],
      ['weight', host.weight],
      ['region', host.region],
      ['zone', host.zone],
      ['sub_zone', host.subZone],
      ['canary', 'false'],
      ['priority', host.priority],
      ['success_rate', host.rates?.external ?? -1],
      ['local_origin_success_rate', host.rates?.local ?? -1],
    ]
    for (const [fact, value] of facts) out += `${name}::${host.address}::${fact}::${value}\n`
  }
  return out
}

function outlierText(name: string, { external, local }: OutlierFigures): string {
  const prefix = `${name}::outlier::`
  return (
    `${prefix}success_rate_average::${general(external.average)}\n` +
    `${prefix}success_rate_ejection_threshold::${general(external.threshold)}\n` +
    `${prefix}local_origin_success_rate_average::${general(local.average)}\n` +
    `${prefix}local_origin_success_rate_ejection_threshold::${general(local.threshold)}\n`
  )
}

/** As C's `%g`: six digits that count, without zeros at the end. */
function general(value: number): string {
  return String(Number(value.toPrecision(6)))
}

/** Envoy's `/clusters?format=json` (`envoy.admin.v3.Clusters`). */
export function clustersJson(status: EngineStatus, origin: ClusterOrigin): JsonObject {
  return { cluster_statuses: status.clusters.map((cluster) => clusterJson(cluster, origin)) }
}

function clusterJson(cluster: ClusterStatus, { viaApi, serviceNames }: ClusterOrigin): JsonObject {
  const service = serviceNames.get(cluster.name)
  return {
    name: cluster.name,
    ...(viaApi.has(cluster.name) && { added_via_api: true }),
    ...(service !== undefined && { eds_service_name: service }),
    circuit_breakers: {
      thresholds: cluster.thresholds.map((t) => ({
        priority: t.priority.toUpperCase(),
        max_connections: t.maxConnections,
        max_pending_requests: t.maxPendingRequests,
        max_requests: t.maxRequests,
        max_retries: t.maxRetries,
      })),
    },
    observability_name: cluster.statName ?? cluster.name,
    ...thresholdsJson(cluster.outlier),
    host_statuses: cluster.hosts.map(hostJson),
  }
}

/** `envoy.type.v3.Percent`; left out where there was too little traffic to have one. */
function percentJson<K extends string>(name: K, value: number | undefined): JsonObject {
  return value === undefined || value < 0 ? {} : { [name]: { value } }
}

/** A threshold of 0 is none (as Envoy). */
function thresholdsJson(outlier: OutlierFigures | undefined): JsonObject {
  const { external, local } = outlier ?? {}
  return {
    ...percentJson('success_rate_ejection_threshold', external?.threshold || undefined),
    ...percentJson('local_origin_success_rate_ejection_threshold', local?.threshold || undefined),
  }
}

function hostJson(host: HostStatus): JsonObject {
  return {
    address: addressJson(parseHostAddress(host.address)),
    stats: Object.entries(host.stats).map(statJson),
    health_status: healthJson(host.health),
    ...percentJson('success_rate', host.rates?.external),
    ...percentJson('local_origin_success_rate', host.rates?.local),
    weight: host.weight,
    hostname: host.hostname,
    locality: { region: host.region, zone: host.zone, sub_zone: host.subZone },
    priority: host.priority,
  }
}

/** 64-bit numbers are strings in proto-JSON; the type of a counter is the default and left out. */
function statJson([name, value]: [string, number]): JsonObject {
  const stat: JsonObject = { name, value: String(value) }
  if (HOST_GAUGES.has(name)) stat.type = 'GAUGE'
  return stat
}

/** `/failed_active_hc/failed_outlier_check` becomes one true field per flag; what EDS said stands apart. */
function healthJson(health: string): JsonObject {
  const out: Record<string, Json> = {}
  let eds = 'HEALTHY'
  for (const flag of health.split('/')) {
    if (flag === 'failed_eds_health') eds = 'UNHEALTHY'
    else if (flag === 'degraded_eds_health') eds = 'DEGRADED'
    else if (flag === 'eds_status_draining') eds = 'DRAINING'
    else if (flag === 'failed_active_hc') out.failed_active_health_check = true
    else if (flag === 'degraded_active_hc') out.failed_active_degraded_check = true
    else if (flag === 'degraded_outlier_detection') out.failed_degraded_outlier_detection = true
    else if (flag !== '' && flag !== 'healthy') out[flag] = true
  }
  return { ...out, eds_health_status: eds }
}

export function parseHostAddress(address: string): Address {
  const colon = address.lastIndexOf(':')
  const port = Number(address.slice(colon + 1))
  if (colon <= 0 || !Number.isInteger(port)) return { kind: 'pipe', path: address }
  return { kind: 'ip', host: address.slice(0, colon).replace(/^\[|\]$/g, ''), port }
}

/** `envoy.config.core.v3.Address`. */
export function addressJson(address: Address): JsonObject {
  if (address.kind === 'pipe') return { pipe: { path: address.path } }
  return { socket_address: { address: address.host, port_value: address.port } }
}

/** Envoy's `/listeners`: `name::address`, one line per address. */
export function listenersText(status: EngineStatus): string {
  return status.listeners.map((l) => l.addresses.map((a) => `${l.name}::${formatAddress(a)}\n`).join('')).join('')
}

/** Envoy's `/listeners?format=json` (`envoy.admin.v3.Listeners`). */
export function listenersJson(status: EngineStatus): JsonObject {
  return {
    listener_statuses: status.listeners.map((listener) => {
      const [first, ...more] = listener.addresses.map(addressJson)
      const out: Record<string, Json> = { name: listener.name }
      if (first !== undefined) out.local_address = first
      if (more.length > 0) out.additional_local_addresses = more
      return out
    }),
  }
}
