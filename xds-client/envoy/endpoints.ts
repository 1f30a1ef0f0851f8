import type { Address } from '../../lib/core/address.ts'
import type { FieldReader } from '../../lib/core/field-reader.ts'
import type {
  AssignmentConfig,
  AssignmentPolicyConfig,
  EndpointCheckConfig,
  EndpointConfig,
  LocalityConfig,
  LocalityEndpointsConfig,
} from '../../lib/upstream/config.ts'
import { type HostKind, translateAddress, translateEndpointAddress } from './address.ts'
import { sourceOf } from './authorities.ts'
import type { EnvoyContext } from './context.ts'
import { translateFraction } from './fraction.ts'
import { translateHostMetadata } from './host-metadata.ts'
import { referenceKey } from './references.ts'

const HEALTH: Readonly<Record<string, EndpointConfig['health']>> = {
  UNKNOWN: 'healthy',
  HEALTHY: 'healthy',
  UNHEALTHY: 'unhealthy',
  DRAINING: 'draining',
  TIMEOUT: 'timeout',
  DEGRADED: 'degraded',
}

const MAX_WEIGHT = 0xffff_ffff

/** What hosts may be, and who hears of localities whose endpoints are delivered; undefined: those are refused. */
interface Endpoints {
  readonly hosts: HostKind
  readonly context: EnvoyContext | undefined
}

/** `config.endpoint.v3.ClusterLoadAssignment` as a discovery service delivers it. */
export function translateAssignment(reader: FieldReader, context: EnvoyContext): AssignmentConfig {
  reader.unread('refuse')
  const policy = translateAssignmentPolicy(reader.message('policy'))
  const localities = translateLocalities(reader, { hosts: 'ip', context })
  return { name: reader.string('cluster_name'), localities, ...(policy && { policy }) }
}

/** `ClusterLoadAssignment.Policy`; undefined where nothing of it has an effect. */
export function translateAssignmentPolicy(reader: FieldReader | undefined): AssignmentPolicyConfig | undefined {
  if (reader === undefined) return undefined
  reader.ignore('endpoint_stale_after')
  const overprovisioningFactor = reader.number('overprovisioning_factor')
  const weighted = reader.bool('weighted_priority_health')
  const drops = reader.messages('drop_overloads').map((drop) => {
    const category = drop.string('category')
    const { numerator, denominator } = translateFraction(drop.message('drop_percentage'))
    return { share: Math.min(1, numerator / denominator), category }
  })
  if (drops.length > 1) reader.error('drop_overloads', `there may be one category, these are ${drops.length}`)
  const policy = {
    ...(overprovisioningFactor !== undefined && { overprovisioningFactor }),
    ...(weighted && { weightedPriorityHealth: true as const }),
    ...(drops.length > 0 && drops[0].share > 0 && { dropOverload: drops[0].share, dropCategory: drops[0].category }),
  }
  return Object.keys(policy).length === 0 ? undefined : policy
}

/** `config.endpoint.v3.LbEndpoint` as a discovery service delivers it, for a locality. */
export function translateEndpoint(reader: FieldReader): EndpointConfig | undefined {
  reader.unread('refuse')
  return translateLbEndpoint(reader, 'ip')
}

/** The endpoints of one cluster, by locality and priority, inside its configuration. */
export function translateEndpoints(reader: FieldReader, hosts: HostKind): LocalityEndpointsConfig[] {
  reader.string('cluster_name')
  return translateLocalities(reader, { hosts, context: undefined })
}

function translateLocalities(reader: FieldReader, how: Endpoints): LocalityEndpointsConfig[] {
  reader.refuse('named_endpoints', 'named endpoints are not available')
  const seen = new Set<string>()
  return reader.messages('endpoints').map((locality) => {
    const translated = translateLocality(locality, how)
    const key = JSON.stringify([translated.priority, translated.locality])
    if (translated.locality !== undefined && seen.has(key)) {
      locality.error('locality', `a second group of the same locality in priority ${translated.priority}`)
    }
    seen.add(key)
    return translated
  })
}

/** `config.core.v3.Locality`; undefined where nothing of it is set. */
export function translateNodeLocality(reader: FieldReader | undefined): LocalityConfig | undefined {
  if (reader === undefined) return undefined
  const locality = { region: reader.string('region'), zone: reader.string('zone'), subZone: reader.string('sub_zone') }
  return locality.region === '' && locality.zone === '' && locality.subZone === '' ? undefined : locality
}

/** Localities whose endpoints are a collection of their own (LEDS): the key of the collection. */
function translateDelivered(reader: FieldReader, context: EnvoyContext | undefined): string | undefined {
  const at = reader.message('leds_cluster_locality_config')
  if (at === undefined) return undefined
  at.unread('refuse')
  const name = at.string('leds_collection_name')
  if (context?.references === undefined) {
    reader.error('leds_cluster_locality_config', 'is for endpoints that are delivered, not for those of a cluster')
    at.toJson()
    return undefined
  }
  const source = sourceOf(name, at.message('leds_config'), context)
  if (source === undefined) {
    if (!at.has('leds_config')) at.error('leds_config', 'is required')
    return undefined
  }
  const key = referenceKey(name, source)
  context.references.add({ kind: 'endpoints', name, key, source })
  return key
}

function translateLocality(reader: FieldReader, { hosts, context }: Endpoints): LocalityEndpointsConfig {
  reader.ignore('proximity')
  const { metadata, proxyAddress } = translateHostMetadata(reader, 'locality')
  const delivered = translateDelivered(reader, context)
  const locality = translateNodeLocality(reader.message('locality'))
  const priority = reader.number('priority') ?? 0
  const weight = reader.number('load_balancing_weight')
  if (delivered !== undefined && reader.has('lb_endpoints')) {
    reader.error('lb_endpoints', 'excludes leds_cluster_locality_config: endpoints are listed or delivered')
  }
  const list = [
    ...reader.messages('lb_endpoints'),
    ...(reader.message('load_balancer_endpoints')?.messages('lb_endpoints') ?? []),
  ]
  const endpoints = list
    .map((entry) => translateLbEndpoint(entry, hosts))
    .filter((endpoint) => endpoint !== undefined)
    // A proxy of the locality is that of its endpoints without their own.
    .map((endpoint) => (proxyAddress === undefined ? endpoint : { proxyAddress, ...endpoint }))
  const sum = endpoints.reduce((total, endpoint) => total + endpoint.weight, 0)
  if (sum > MAX_WEIGHT) reader.error('lb_endpoints', `the weights add up to ${sum}, the limit is ${MAX_WEIGHT}`)
  return {
    ...(locality && { locality }),
    priority,
    ...(weight !== undefined && { weight }),
    endpoints,
    ...(delivered !== undefined && { delivered }),
    ...(metadata && { metadata }),
  }
}

function translateLbEndpoint(reader: FieldReader, hosts: HostKind): EndpointConfig | undefined {
  reader.refuse('endpoint_name', 'named endpoints are not available')
  const health = HEALTH[reader.enumName('health_status')] ?? 'healthy'
  const weight = reader.number('load_balancing_weight') ?? 1
  const told = translateHostMetadata(reader, 'endpoint')
  const endpoint = reader.message('endpoint')
  if (endpoint === undefined) return undefined
  endpoint.ignore('observability_name')
  const check = translateCheckConfig(endpoint.message('health_check_config'))
  const hostname = endpoint.string('hostname')
  const at = endpoint.message('address')
  if (at === undefined) {
    endpoint.error('address', 'is required')
    return undefined
  }
  const address = translateEndpointAddress(at, hosts)
  if (address === undefined) return undefined
  if (hosts === 'name' && address.kind === 'pipe') at.error('pipe', 'a DNS cluster cannot have Unix sockets')
  if (hosts === 'name' && address.kind === 'internal') {
    at.error('envoy_internal_address', 'a DNS cluster cannot have internal listeners')
  }
  const additionalAddresses = translateAdditional(endpoint, hosts, address.kind === 'ip')
  return {
    address,
    ...(hostname !== '' && { hostname }),
    weight,
    health,
    ...told,
    ...(check && { check }),
    ...(additionalAddresses.length > 0 && { additionalAddresses }),
  }
}

/** Where and how an endpoint is checked, where that differs from how it is used. */
function translateCheckConfig(reader: FieldReader | undefined): EndpointCheckConfig | undefined {
  if (reader === undefined) return undefined
  const at = reader.message('address')
  const address = at === undefined ? undefined : translateEndpointAddress(at, 'ip')
  const port = reader.number('port_value') ?? 0
  if (port > 65_535) reader.error('port_value', `${port} is not a port`)
  return {
    ...(address && { address }),
    port,
    hostname: reader.string('hostname'),
    disabled: reader.bool('disable_active_health_check'),
  }
}

/** Further IP addresses of an endpoint whose first address is one. */
function translateAdditional(endpoint: FieldReader, hosts: HostKind, ip: boolean): Address[] {
  return endpoint.messages('additional_addresses').flatMap((entry) => {
    const at = entry.message('address')
    if (at === undefined) entry.error('address', 'is required')
    const address = translateAddress(at, 'ip')
    if (address === undefined) return []
    if (hosts === 'name') entry.error('address', 'the endpoints of a DNS cluster get their addresses from DNS')
    else if (!ip || address.kind !== 'ip') entry.error('address', 'only IP addresses can stand beside each other')
    return [address]
  })
}
