import type { FieldReader } from '../../lib/core/field-reader.ts'
import { type FeatureFlagConfig, parseFeatureFlag } from '../../lib/match/feature-flag.ts'

/** A number that the runtime may say under a key ('': none). */
export interface RuntimeValueConfig {
  readonly value: number
  readonly runtimeKey: string
}

/** A parsed `AdmissionControl`. */
export interface AdmissionControlConfig {
  readonly enabled: FeatureFlagConfig
  /** `[start, end)` of statuses that are successes. */
  readonly httpSuccess: readonly (readonly [start: number, end: number])[]
  readonly grpcSuccess: readonly number[]
  readonly windowS: number
  readonly aggression: RuntimeValueConfig
  /** Percent. */
  readonly successThreshold: RuntimeValueConfig
  readonly rpsThreshold: RuntimeValueConfig
  /** Percent. */
  readonly maxRejection: RuntimeValueConfig
}

const WINDOW_MS = 30_000
const AGGRESSION = 1
const SUCCESS_THRESHOLD = 95
const MAX_REJECTION = 80
const MAX_GRPC_STATUS = 16
/** An hour: the counts of each second are kept. */
const MAX_WINDOW_S = 3_600

/** `envoy.extensions.filters.http.admission_control.v3.AdmissionControl` */
export function parseAdmissionControl(fields: FieldReader): AdmissionControlConfig {
  fields.unread('refuse')
  const criteria = fields.message('success_criteria')
  if (criteria === undefined) fields.error('success_criteria', 'is required')
  const successThreshold = parsePercent(fields, 'sr_threshold', SUCCESS_THRESHOLD)
  if (successThreshold.value < 1) fields.error('sr_threshold', 'must be at least 1 %')
  return {
    enabled: parseFeatureFlag(fields.message('enabled')),
    httpSuccess: parseHttp(criteria?.message('http_criteria')),
    grpcSuccess: parseGrpc(criteria?.message('grpc_criteria')),
    windowS: parseWindow(fields),
    aggression: parseNumber(fields, 'aggression', AGGRESSION),
    successThreshold,
    rpsThreshold: parseNumber(fields, 'rps_threshold', 0),
    maxRejection: parsePercent(fields, 'max_rejection_probability', MAX_REJECTION),
  }
}

function parseWindow(fields: FieldReader): number {
  const seconds = Math.round((fields.durationMs('sampling_window') ?? WINDOW_MS) / 1000)
  if (seconds >= 1 && seconds <= MAX_WINDOW_S) return seconds
  fields.error('sampling_window', `must be from 1 s to ${MAX_WINDOW_S} s, not ${seconds} s`)
  return WINDOW_MS / 1000
}

/** Default: whatever is no error of the server's. */
function parseHttp(reader: FieldReader | undefined): (readonly [number, number])[] {
  if (reader === undefined) return [[100, 500]]
  reader.unread('refuse')
  const ranges = reader.messages('http_success_status').map((range): [number, number] => {
    const start = range.number('start') ?? 0
    const end = range.number('end') ?? 0
    const valid = Number.isInteger(start) && Number.isInteger(end) && start >= 100 && start <= end && end <= 600
    if (!valid || start === 600) range.error(undefined, `[${start}, ${end}) is no range of statuses`)
    return [start, end]
  })
  if (ranges.length === 0) reader.error('http_success_status', 'must not be empty')
  return ranges
}

/** Default: what is no error of the server's, or of the way to it. */
function parseGrpc(reader: FieldReader | undefined): number[] {
  if (reader === undefined) return [0, 1, 2, 3, 5, 6, 9, 11, 12, 16]
  reader.unread('refuse')
  const statuses = reader.numbers('grpc_success_status')
  for (const status of statuses) {
    if (!Number.isInteger(status) || status < 0 || status > MAX_GRPC_STATUS) {
      reader.error('grpc_success_status', `${status} is no gRPC status`)
    }
  }
  if (statuses.length === 0) reader.error('grpc_success_status', 'must not be empty')
  return statuses
}

/** `RuntimeDouble` and `RuntimeUInt32` */
function parseNumber(fields: FieldReader, name: string, otherwise: number): RuntimeValueConfig {
  const reader = fields.message(name)
  if (reader === undefined) return { value: otherwise, runtimeKey: '' }
  const value = reader.number('default_value') ?? 0
  if (!Number.isFinite(value) || value < 0) reader.error('default_value', `must not be negative, but is ${value}`)
  return { value, runtimeKey: reader.string('runtime_key') }
}

/** `RuntimePercent` */
function parsePercent(fields: FieldReader, name: string, otherwise: number): RuntimeValueConfig {
  const reader = fields.message(name)
  if (reader === undefined) return { value: otherwise, runtimeKey: '' }
  const value = reader.message('default_value')?.number('value') ?? 0
  if (!(value >= 0 && value <= 100)) reader.error('default_value', `must be from 0 to 100 %, not ${value}`)
  return { value, runtimeKey: reader.string('runtime_key') }
}
