import type { FieldReader } from '../../lib/core/field-reader.ts'
import type {
  LocalityBalancingConfig,
  LocalityWeightedConfig,
  SlowStartConfig,
  ZoneAwareConfig,
} from '../../lib/upstream/config.ts'
import { durationMs } from './durations.ts'

/** `type.v3.Percent`; undefined where it is not set. Its rules keep it within 0 and 100. */
export function percentage(reader: FieldReader | undefined, name: string): number | undefined {
  const percent = reader?.message(name)
  return percent === undefined ? undefined : (percent.number('value') ?? 0)
}

export interface Localities {
  readonly localities?: LocalityBalancingConfig
}

/** `LocalityLbConfig`, and what `common_lb_config` has of the same names. */
export function translateLocalities(reader: FieldReader | undefined): Localities {
  if (reader === undefined) return {}
  const weighted = reader.message('locality_weighted_lb_config')
  const zoneAware = reader.message('zone_aware_lb_config')
  if (weighted !== undefined) return { localities: { kind: 'weighted' } }
  return zoneAware === undefined ? {} : { localities: translateZoneAware(zoneAware) }
}

/** Of a policy that hashes, where localities count by weight or not at all. */
export function translateLocalityWeights(reader: FieldReader | undefined): {
  readonly localities?: LocalityWeightedConfig
} {
  return reader?.message('locality_weighted_lb_config') === undefined ? {} : { localities: { kind: 'weighted' } }
}

function translateZoneAware(reader: FieldReader): ZoneAwareConfig {
  const extension = reader.typeName.includes('load_balancing_policies')
  if (extension && reader.enumName('locality_basis') === 'HEALTHY_HOSTS_WEIGHT') {
    reader.error('locality_basis', 'HEALTHY_HOSTS_WEIGHT is not available')
  }
  const force = extension ? reader.message('force_local_zone') : undefined
  const direct = extension && reader.bool('force_locality_direct_routing')
  const forceLocalMinHosts = force === undefined ? (direct ? 1 : undefined) : (force.number('min_size') ?? 1)
  return {
    kind: 'zone-aware',
    enabledPercent: percentage(reader, 'routing_enabled') ?? 100,
    minClusterSize: reader.number('min_cluster_size') ?? 6,
    failOnPanic: reader.bool('fail_traffic_on_panic'),
    ...(forceLocalMinHosts !== undefined && { forceLocalMinHosts }),
  }
}

/** `SlowStartConfig`, of the cluster or of the extensions; without a window there is none. */
export function translateSlowStart(reader: FieldReader | undefined): { readonly slowStart?: SlowStartConfig } {
  const windowMs = durationMs(reader, 'slow_start_window')
  const aggression = reader?.message('aggression')
  const value = aggression?.number('default_value') ?? 1
  const aggressionKey = aggression?.string('runtime_key') ?? ''
  const minWeightPercent = percentage(reader, 'min_weight_percent') ?? 10
  if (value <= 0) aggression?.error('default_value', `must be above 0, is ${value}`)
  if (windowMs === undefined || windowMs === 0) return {}
  return {
    slowStart: {
      windowMs,
      aggression: value,
      ...(aggressionKey !== '' && { aggressionKey }),
      minWeightPercent,
    },
  }
}
