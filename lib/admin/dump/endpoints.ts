import type { Json, JsonObject } from '../../core/errors.ts'
import type { ClusterStatus, EngineStatus, HostStatus } from '../../runtime/engine.ts'
import { addressJson, parseHostAddress } from '../clusters.ts'
import { activeList, CLUSTER, type DumpInput, type DumpSection, delivered, listOf, section } from './parts.ts'
import { TYPE_PREFIX, timeJson } from './resource-json.ts'

const ASSIGNMENT = 'envoy.config.endpoint.v3.ClusterLoadAssignment'

/** Endpoints: as they are delivered, or, of all other clusters, as they are known by now. */
export function endpointsSection(input: DumpInput, engine: EngineStatus): DumpSection {
  const elsewhere = new Set(input.config.clusters.filter((c) => c.type === 'eds').map(({ name }) => name))
  const fromApi = new Set<string>()
  for (const { typeName, name, source } of input.dynamic?.resources ?? []) {
    if (typeName === CLUSTER && source !== '') fromApi.add(name)
  }
  const own = engine.clusters.filter(({ name }) => !elsewhere.has(name) && input.wanted(name))
  const last_updated = timeJson(input.updatedMs)
  const entry = (cluster: ClusterStatus): JsonObject => ({ endpoint_config: assignmentJson(cluster), last_updated })
  const assignments = activeList(input.schema, delivered(input, ASSIGNMENT), 'endpoint_config')
  const made = listOf(
    own.filter(({ name }) => fromApi.has(name)),
    entry,
  )
  const dynamic = [assignments, made].filter((list) => list.kind === 'list').flatMap((list) => [...list.items])
  return section(input, 'EndpointsConfigDump', [
    [
      'static_endpoint_configs',
      listOf(
        own.filter(({ name }) => !fromApi.has(name)),
        entry,
      ),
    ],
    ['dynamic_endpoint_configs', { kind: 'list', items: dynamic }],
  ])
}

/** A `ClusterLoadAssignment` of hosts that were found by DNS or stand in the cluster. */
function assignmentJson({ name, hosts }: ClusterStatus): JsonObject {
  const groups = new Map<string, HostStatus[]>()
  for (const host of hosts) {
    const key = JSON.stringify([host.priority, host.region, host.zone, host.subZone])
    const group = groups.get(key)
    if (group === undefined) groups.set(key, [host])
    else group.push(host)
  }
  return {
    '@type': TYPE_PREFIX + ASSIGNMENT,
    cluster_name: name,
    endpoints: [...groups.values()].map(localityJson),
  }
}

function localityJson(hosts: readonly HostStatus[]): JsonObject {
  const [{ region, zone, subZone, priority }] = hosts
  const locality: Record<string, Json> = {}
  if (region !== '') locality.region = region
  if (zone !== '') locality.zone = zone
  if (subZone !== '') locality.sub_zone = subZone
  return {
    locality,
    lb_endpoints: hosts.map((host) => ({
      endpoint: {
        address: addressJson(parseHostAddress(host.address)),
        ...(host.hostname !== '' && { hostname: host.hostname }),
      },
      health_status: healthOf(host.health),
      load_balancing_weight: host.weight,
    })),
    ...(priority > 0 && { priority }),
  }
}

function healthOf(flags: string): string {
  if (flags === 'healthy') return 'HEALTHY'
  if (flags.includes('draining')) return 'DRAINING'
  if (flags.includes('timeout')) return 'TIMEOUT'
  return flags.includes('degraded') ? 'DEGRADED' : 'UNHEALTHY'
}
