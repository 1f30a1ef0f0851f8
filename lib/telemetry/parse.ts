import type { Json } from '../core/errors.ts'
import type { ExtensionReader, FieldReader } from '../core/field-reader.ts'
import { parseHeaderMatch } from '../match/parse.ts'
import { parseMetadataMatch } from '../match/parse-metadata.ts'
import type { AccessLogConfig, AccessLogFilterConfig, ComparisonConfig, FormatConfig } from './config.ts'
import { checkFormat } from './format.ts'

/*
 * Reading Envoy's access log messages: those of filters that have logs of their own, and the filters of all logs. The members of a oneof are asked for one by
 * one, so that readers without a schema (plain JSON) serve as well. Mistakes go to the reader.
 */

const LOGGERS = 'envoy.extensions.access_loggers.'
const FILE_LOGGER = `${LOGGERS}file.v3.FileAccessLog`

/** A list of `config.accesslog.v3.AccessLog`; sinks other than files and standard streams are refused. */
export function parseAccessLogs(reader: FieldReader, field: string): AccessLogConfig[] {
  return reader
    .messages(field)
    .map(parseAccessLog)
    .filter((log) => log !== undefined)
}

function parseAccessLog(reader: FieldReader): AccessLogConfig | undefined {
  reader.string('name')
  const filterReader = reader.message('filter')
  const filter = filterReader === undefined ? undefined : parseAccessLogFilter(filterReader)
  const extension = reader.any('typed_config')
  if (extension === undefined) {
    if (!reader.has('typed_config')) reader.error('typed_config', 'is required')
    return undefined
  }
  const sink = parseSink(reader, extension)
  if (sink === undefined) return undefined
  const format = parseLogFormat(extension)
  return { sink, ...(format && { format }), ...(filter && { filter }) }
}

function parseSink(reader: FieldReader, { typeUrl, fields }: ExtensionReader): AccessLogConfig['sink'] | undefined {
  switch (typeUrl) {
    case `${LOGGERS}stream.v3.StdoutAccessLog`:
      return { kind: 'stdout' }
    case `${LOGGERS}stream.v3.StderrAccessLog`:
      return { kind: 'stderr' }
    case FILE_LOGGER: {
      const path = fields.string('path')
      if (path === '') fields.error('path', 'must not be empty')
      if (path === '/dev/stdout') return { kind: 'stdout' }
      return path === '/dev/stderr' ? { kind: 'stderr' } : { kind: 'file', path }
    }
    default:
      fields.toJson()
      reader.error('typed_config', `access logger "${typeUrl}" is not available`)
      return undefined
  }
}

/** The oneof `access_log_format`, the deprecated members of files included; undefined: Envoy's default format. */
function parseLogFormat({ typeUrl, fields: reader }: ExtensionReader): FormatConfig | undefined {
  if (reader.has('log_format')) return parseFormat(reader.message('log_format'))
  if (typeUrl !== FILE_LOGGER) return undefined
  if (reader.has('format')) return checked(reader, 'format', { kind: 'text', text: reader.string('format') })
  for (const field of ['json_format', 'typed_json_format']) {
    if (reader.has(field)) return checked(reader, field, { kind: 'json', json: reader.json(field) ?? {} })
  }
  return undefined
}

/** `config.core.v3.SubstitutionFormatString`; undefined where it is not set or unusable. */
export function parseFormat(reader: FieldReader | undefined): FormatConfig | undefined {
  if (reader === undefined) return undefined
  const extras = {
    ...(reader.bool('omit_empty_values') && { omitEmpty: true }),
    ...(reader.has('content_type') && { contentType: reader.string('content_type') }),
  }
  reader.ignore('json_format_options')
  // Formatter extensions that exist here bring commands that every format knows.
  if (reader.has('formatters')) reader.ignore('formatters')
  if (reader.has('text_format')) {
    return checked(reader, 'text_format', { kind: 'text', text: reader.string('text_format'), ...extras })
  }
  if (reader.has('text_format_source')) {
    const source = reader.message('text_format_source')
    const text = source === undefined ? '' : parseInlineSource(source).toString('utf8')
    return checked(reader, 'text_format_source', { kind: 'text', text, ...extras })
  }
  if (!reader.has('json_format')) return undefined
  const json: Json = reader.json('json_format') ?? {}
  return checked(reader, 'json_format', { kind: 'json', json, ...extras })
}

function checked(reader: FieldReader, field: string, format: FormatConfig): FormatConfig {
  for (const error of checkFormat(format).errors) reader.error(field, error)
  return format
}

/** The inline members of `config.core.v3.DataSource`; filters read neither files nor the environment. */
export function parseInlineSource(reader: FieldReader): Buffer {
  reader.unread('refuse')
  reader.refuse('filename', 'use inline_string or inline_bytes here')
  reader.refuse('environment_variable', 'use inline_string or inline_bytes here')
  if (reader.has('inline_bytes')) return reader.bytes('inline_bytes') ?? Buffer.alloc(0)
  return Buffer.from(reader.string('inline_string'), 'utf8')
}

/** Numbers of `config.accesslog.v3.GrpcStatusFilter.Status`, which spells CANCELLED with one L. */
const GRPC_STATUSES: readonly string[] = (
  'OK CANCELED UNKNOWN INVALID_ARGUMENT DEADLINE_EXCEEDED NOT_FOUND ALREADY_EXISTS PERMISSION_DENIED ' +
  'RESOURCE_EXHAUSTED FAILED_PRECONDITION ABORTED OUT_OF_RANGE UNIMPLEMENTED INTERNAL UNAVAILABLE DATA_LOSS ' +
  'UNAUTHENTICATED'
).split(' ')

/** Stands where a mistake was recorded; never used. */
const NOTHING: AccessLogFilterConfig = Object.freeze({ kind: 'not-health-check' })

const FILTERS: Readonly<Record<string, (filter: FieldReader) => AccessLogFilterConfig>> = {
  status_code_filter: (filter) => ({ kind: 'status', comparison: parseComparison(filter) }),
  duration_filter: (filter) => ({ kind: 'duration', comparison: parseComparison(filter) }),
  not_health_check_filter: () => ({ kind: 'not-health-check' }),
  traceable_filter: () => ({ kind: 'traceable' }),
  runtime_filter: parseRuntimeFilter,
  and_filter: (filter) => ({ kind: 'and', filters: filter.messages('filters').map(parseAccessLogFilter) }),
  or_filter: (filter) => ({ kind: 'or', filters: filter.messages('filters').map(parseAccessLogFilter) }),
  header_filter: (filter) => {
    const header = filter.message('header')
    return header === undefined ? NOTHING : { kind: 'header', header: parseHeaderMatch(header) }
  },
  response_flag_filter: (filter) => ({ kind: 'response-flag', flags: filter.strings('flags') }),
  grpc_status_filter: (filter) => ({
    kind: 'grpc-status',
    statuses: filter.enumNames('statuses').map((name) => GRPC_STATUSES.indexOf(name)),
    exclude: filter.bool('exclude'),
  }),
  metadata_filter: parseMetadataFilter,
  log_type_filter: (filter) => ({
    kind: 'log-type',
    types: filter.enumNames('types'),
    exclude: filter.bool('exclude'),
  }),
}

/** `config.accesslog.v3.AccessLogFilter` */
export function parseAccessLogFilter(reader: FieldReader): AccessLogFilterConfig {
  reader.unread('refuse')
  for (const [field, parse] of Object.entries(FILTERS)) {
    if (!reader.has(field)) continue
    const filter = reader.message(field)
    return filter === undefined ? NOTHING : parse(filter)
  }
  if (!reader.has('extension_filter')) return NOTHING
  const extension = reader.message('extension_filter')
  extension?.string('name')
  const type = extension?.any('typed_config')
  type?.fields.toJson()
  reader.error('extension_filter', `access log filter "${type?.typeUrl ?? ''}" is not available`)
  return NOTHING
}

function parseComparison(reader: FieldReader): ComparisonConfig {
  const comparison = reader.message('comparison')
  const value = comparison?.message('value')
  const runtimeKey = value?.string('runtime_key') ?? ''
  const op = comparison?.enumName('op') ?? ''
  return {
    op: (op === '' ? 'EQ' : op) as ComparisonConfig['op'],
    value: value?.number('default_value') ?? 0,
    ...(runtimeKey !== '' && { runtimeKey }),
  }
}

const DENOMINATORS: Readonly<Record<string, 100 | 10_000 | 1_000_000>> = { TEN_THOUSAND: 10_000, MILLION: 1_000_000 }

function parseRuntimeFilter(reader: FieldReader): AccessLogFilterConfig {
  reader.ignore('use_independent_randomness')
  const runtimeKey = reader.string('runtime_key')
  const share = reader.message('percent_sampled')
  const denominator = DENOMINATORS[share?.enumName('denominator') ?? ''] ?? 100
  const fraction = { numerator: share?.number('numerator') ?? 0, denominator }
  return { kind: 'runtime', fraction: runtimeKey === '' ? fraction : { ...fraction, runtimeKey } }
}

function parseMetadataFilter(reader: FieldReader): AccessLogFilterConfig {
  const matchIfKeyNotFound = reader.optionalBool('match_if_key_not_found') ?? true
  const matcher = reader.message('matcher')
  if (matcher !== undefined) return { kind: 'metadata', matcher: parseMetadataMatch(matcher), matchIfKeyNotFound }
  reader.error('matcher', 'is required')
  return NOTHING
}
