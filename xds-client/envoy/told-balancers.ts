import type { JsonObject } from '../../lib/core/errors.ts'
import type { FieldReader } from '../../lib/core/field-reader.ts'
import { type MetadataPath, parseKeyPath } from '../../lib/match/parse-metadata.ts'
import type {
  ClientWeightedConfig,
  OutOfBandConfig,
  OverrideHostConfig,
  OverrideSourceConfig,
} from '../../lib/upstream/config.ts'
import { durationMs } from './durations.ts'
import { translateSlowStart } from './locality-balancing.ts'

/** Envoy's defaults. */
const BLACKOUT_MS = 10_000
const EXPIRATION_MS = 180_000
const UPDATE_MS = 1_000
const MIN_UPDATE_MS = 100
const PERIOD_MS = 10_000

/** `ClientSideWeightedRoundRobin` */
export function clientWeighted(fields: FieldReader): ClientWeightedConfig {
  const updateMs = durationMs(fields, 'weight_update_period') ?? UPDATE_MS
  const errorPenalty = fields.number('error_utilization_penalty') ?? 1
  if (errorPenalty < 0) fields.error('error_utilization_penalty', `must not be negative, is ${errorPenalty}`)
  const outOfBand = translateOutOfBand(fields)
  return {
    kind: 'client-weighted',
    blackoutMs: durationMs(fields, 'blackout_period') ?? BLACKOUT_MS,
    expirationMs: durationMs(fields, 'weight_expiration_period') ?? EXPIRATION_MS,
    updateMs: Math.max(MIN_UPDATE_MS, updateMs),
    errorPenalty,
    metrics: fields.strings('metric_names_for_computing_utilization'),
    ...(outOfBand && { outOfBand }),
    ...translateSlowStart(fields.message('slow_start_config')),
  }
}

function translateOutOfBand(fields: FieldReader): OutOfBandConfig | undefined {
  const enabled = fields.bool('enable_oob_load_report')
  const periodMs = durationMs(fields, 'oob_reporting_period') ?? PERIOD_MS
  const how = fields.message('oob_reporting_config')
  how?.unread('refuse')
  const port = how?.number('port_value') ?? 0
  const authority = how?.string('authority') ?? ''
  const labels = how?.json('transport_socket_match_criteria') as JsonObject | undefined
  if (!enabled) return undefined
  return {
    // 0 is the default, as in Envoy.
    periodMs: periodMs === 0 ? PERIOD_MS : periodMs,
    ...(port !== 0 && { port }),
    ...(authority !== '' && { authority }),
    ...(labels && { labels }),
  }
}

/** `OverrideHost` without its fallback policy. */
export function overrideHost(fields: FieldReader): Omit<OverrideHostConfig, 'otherwise'> {
  const sources = fields.messages('override_host_sources').map(translateSource)
  if (sources.length === 0) fields.error('override_host_sources', 'must not be empty')
  const selected = fields.message('selected_host_key')
  return {
    kind: 'override-host',
    sources,
    ...(selected && { selected: writtenKey(selected) }),
  }
}

function translateSource(reader: FieldReader): OverrideSourceConfig {
  const header = reader.string('header').toLowerCase()
  const metadata = reader.message('metadata')
  if ((header === '') === (metadata === undefined)) {
    reader.error(undefined, 'exactly one of header and metadata must be set')
  }
  return metadata === undefined ? { header } : metadataKey(metadata)
}

/** `type.metadata.v3.MetadataKey` */
export function metadataKey(reader: FieldReader): { readonly namespace: string; readonly path: MetadataPath } {
  const path = parseKeyPath(reader)
  if (path.length === 0) reader.error('path', 'must not be empty')
  return { namespace: reader.string('key'), path }
}

/** A key that is written: into lists nothing is. */
function writtenKey(reader: FieldReader): NonNullable<OverrideHostConfig['selected']> {
  const path = reader.messages('path').map((segment) => {
    segment.refuse('index', 'is not available where it is written')
    return segment.string('key')
  })
  if (path.length === 0) reader.error('path', 'must not be empty')
  return { namespace: reader.string('key'), path }
}
