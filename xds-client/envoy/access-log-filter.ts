import type { FieldReader } from '../../lib/core/field-reader.ts'
import type { AccessLogFilterConfig, ComparisonConfig } from '../../lib/telemetry/config.ts'
import type { EnvoyContext } from './context.ts'
import { translateFraction } from './fraction.ts'
import { translateHeaderMatch } from './header-match.ts'
import { translateMetadataMatch } from './metadata-match.ts'
import { typedExtension } from './refusals.ts'

/** Numbers of `config.accesslog.v3.GrpcStatusFilter.Status`, which spells CANCELLED with one L. */
const GRPC_STATUSES: readonly string[] = [
  'OK',
  'CANCELED',
  'UNKNOWN',
  'INVALID_ARGUMENT',
  'DEADLINE_EXCEEDED',
  'NOT_FOUND',
  'ALREADY_EXISTS',
  'PERMISSION_DENIED',
  'RESOURCE_EXHAUSTED',
  'FAILED_PRECONDITION',
  'ABORTED',
  'OUT_OF_RANGE',
  'UNIMPLEMENTED',
  'INTERNAL',
  'UNAVAILABLE',
  'DATA_LOSS',
  'UNAUTHENTICATED',
]

/** Stands where a mistake was recorded; never used. */
const NOTHING: AccessLogFilterConfig = Object.freeze({ kind: 'not-health-check' })

type Translate = (filter: FieldReader, context: EnvoyContext) => AccessLogFilterConfig

/** One entry per member of `AccessLogFilter.filter_specifier` that is available. */
const FILTERS: Readonly<Record<string, Translate>> = {
  status_code_filter: (filter) => ({ kind: 'status', comparison: translateComparison(filter) }),
  duration_filter: (filter) => ({ kind: 'duration', comparison: translateComparison(filter) }),
  not_health_check_filter: () => ({ kind: 'not-health-check' }),
  traceable_filter: () => ({ kind: 'traceable' }),
  runtime_filter: translateRuntimeFilter,
  and_filter: (filter, context) => ({ kind: 'and', filters: translateFilters(filter, context) }),
  or_filter: (filter, context) => ({ kind: 'or', filters: translateFilters(filter, context) }),
  header_filter: (filter) => {
    const header = filter.message('header')
    return header === undefined ? NOTHING : { kind: 'header', header: translateHeaderMatch(header) }
  },
  response_flag_filter: (filter) => ({ kind: 'response-flag', flags: filter.strings('flags') }),
  grpc_status_filter: (filter) => ({
    kind: 'grpc-status',
    statuses: filter.enumNames('statuses').map((name) => GRPC_STATUSES.indexOf(name)),
    exclude: filter.bool('exclude'),
  }),
  metadata_filter: translateMetadataFilter,
  log_type_filter: (filter) => ({
    kind: 'log-type',
    types: filter.enumNames('types'),
    exclude: filter.bool('exclude'),
  }),
}

/** `config.accesslog.v3.AccessLogFilter`, of access logs and of local reply mappers. */
export function translateAccessLogFilter(reader: FieldReader, context: EnvoyContext): AccessLogFilterConfig {
  reader.unread('refuse')
  const specifier = reader.which('filter_specifier')
  if (specifier === undefined) return NOTHING
  if (specifier === 'extension_filter') {
    const type = typedExtension(reader.message('extension_filter'))
    type?.fields.toJson()
    reader.error('extension_filter', `access log filter "${type?.typeUrl ?? ''}" is not available`)
    return NOTHING
  }
  const translate = FILTERS[specifier]
  const filter = reader.message(specifier)
  if (translate === undefined || filter === undefined) {
    reader.refuse(specifier, 'this access log filter is not available')
    return NOTHING
  }
  return translate(filter, context)
}

function translateFilters(reader: FieldReader, context: EnvoyContext): AccessLogFilterConfig[] {
  return reader.messages('filters').map((filter) => translateAccessLogFilter(filter, context))
}

function translateComparison(reader: FieldReader): ComparisonConfig {
  const comparison = reader.message('comparison')
  const value = comparison?.message('value')
  const runtimeKey = value?.string('runtime_key') ?? ''
  return {
    op: (comparison?.enumName('op') ?? 'EQ') as ComparisonConfig['op'],
    value: value?.number('default_value') ?? 0,
    ...(runtimeKey !== '' && { runtimeKey }),
  }
}

function translateRuntimeFilter(reader: FieldReader): AccessLogFilterConfig {
  reader.ignore('use_independent_randomness')
  const key = reader.string('runtime_key')
  return { kind: 'runtime', fraction: translateFraction(reader.message('percent_sampled'), key) }
}

function translateMetadataFilter(reader: FieldReader): AccessLogFilterConfig {
  const matchIfKeyNotFound = reader.optionalBool('match_if_key_not_found') ?? true
  const matcher = reader.message('matcher')
  if (matcher === undefined) {
    reader.error('matcher', 'is required')
    return NOTHING
  }
  return { kind: 'metadata', matcher: translateMetadataMatch(matcher), matchIfKeyNotFound }
}
