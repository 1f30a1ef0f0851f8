import { ENVOY_OUTLIER } from '../../lib/config/defaults.ts'
import type { FieldReader } from '../../lib/core/field-reader.ts'
import type { OutlierConfig, OutlierMonitorConfig } from '../../lib/upstream/config.ts'
import type { EnvoyContext } from './context.ts'
import { durationMs } from './durations.ts'
import { refuseExtension, typedExtension } from './refusals.ts'

/** Percentages and counts that stand in the configuration under one name each. */
const NUMBERS = [
  ['maxEjectionPercent', 'max_ejection_percent'],
  ['consecutive5xx', 'consecutive_5xx'],
  ['consecutiveGatewayFailure', 'consecutive_gateway_failure'],
  ['consecutiveLocalOriginFailure', 'consecutive_local_origin_failure'],
  ['successRateMinimumHosts', 'success_rate_minimum_hosts'],
  ['successRateRequestVolume', 'success_rate_request_volume'],
  ['successRateStdevFactor', 'success_rate_stdev_factor'],
  ['failurePercentageThreshold', 'failure_percentage_threshold'],
  ['failurePercentageMinimumHosts', 'failure_percentage_minimum_hosts'],
  ['failurePercentageRequestVolume', 'failure_percentage_request_volume'],
] as const

const ENFORCING = [
  ['consecutive5xx', 'enforcing_consecutive_5xx'],
  ['consecutiveGatewayFailure', 'enforcing_consecutive_gateway_failure'],
  ['consecutiveLocalOriginFailure', 'enforcing_consecutive_local_origin_failure'],
  ['successRate', 'enforcing_success_rate'],
  ['successRateLocalOrigin', 'enforcing_local_origin_success_rate'],
  ['failurePercentage', 'enforcing_failure_percentage'],
  ['failurePercentageLocalOrigin', 'enforcing_failure_percentage_local_origin'],
] as const

/** `config.cluster.v3.OutlierDetection` with Envoy's defaults; undefined: the cluster has none. */
export function translateOutlier(
  reader: FieldReader | undefined,
  context: EnvoyContext,
): { readonly outlier?: OutlierConfig } {
  if (reader === undefined) return {}
  const intervalMs = durationMs(reader, 'interval') ?? ENVOY_OUTLIER.intervalMs
  const baseEjectionTimeMs = durationMs(reader, 'base_ejection_time') ?? ENVOY_OUTLIER.baseEjectionTimeMs
  const maximum = durationMs(reader, 'max_ejection_time')
  if (maximum !== undefined && maximum < baseEjectionTimeMs) {
    const times = `${maximum / 1000}s, base_ejection_time ${baseEjectionTimeMs / 1000}s`
    reader.error('max_ejection_time', `must not be shorter than base_ejection_time, is ${times}`)
  }
  const numbers = NUMBERS.map(([key, name]) => [key, reader.number(name) ?? ENVOY_OUTLIER[key]])
  const enforcing = ENFORCING.map(([key, name]) => [key, reader.number(name) ?? ENVOY_OUTLIER.enforcing[key]])
  const monitors = reader.messages('monitors').flatMap(translateMonitor)
  const eventLogPath = context.clusterDefaults?.outlierEventLogPath
  return {
    outlier: {
      ...ENVOY_OUTLIER,
      ...Object.fromEntries(numbers),
      intervalMs,
      baseEjectionTimeMs,
      maxEjectionTimeMs: maximum ?? Math.max(ENVOY_OUTLIER.maxEjectionTimeMs, baseEjectionTimeMs),
      maxEjectionTimeJitterMs: durationMs(reader, 'max_ejection_time_jitter') ?? 0,
      alwaysEjectOneHost: reader.optionalBool('always_eject_one_host') ?? false,
      ...(reader.optionalBool('detect_degraded_hosts') === true && { detectDegradedHosts: true }),
      splitExternalLocalOriginErrors: reader.bool('split_external_local_origin_errors'),
      enforcing: Object.fromEntries(enforcing),
      uneject: reader.optionalBool('successful_active_health_check_uneject_host') ?? true,
      ...(monitors.length > 0 && { monitors }),
      ...(eventLogPath !== undefined && { eventLogPath }),
    },
  }
}

const CONSECUTIVE_ERRORS = 'envoy.extensions.outlier_detection_monitors.consecutive_errors.v3.ConsecutiveErrors'

function translateMonitor(entry: FieldReader): OutlierMonitorConfig[] {
  const extension = typedExtension(entry)
  if (extension === undefined) return []
  const { typeUrl, fields } = extension
  if (typeUrl !== CONSECUTIVE_ERRORS) {
    refuseExtension(entry, 'typed_config', extension, `outlier detection monitor "${typeUrl}" is not available`)
    return []
  }
  const buckets = fields.message('error_buckets')
  buckets?.ignore('database_errors')
  const statuses = (buckets?.messages('http_errors') ?? []).map((bucket): readonly [number, number] => {
    const range = bucket.message('range')
    return [range?.number('start') ?? 0, range?.number('end') ?? 0]
  })
  const name = fields.string('name')
  return [
    {
      name: name === '' ? entry.string('name') : name,
      threshold: fields.number('threshold') ?? 3,
      enforcing: fields.number('enforcing') ?? 100,
      statuses,
      localOrigin: (buckets?.messages('local_origin_errors').length ?? 0) > 0,
    },
  ]
}
