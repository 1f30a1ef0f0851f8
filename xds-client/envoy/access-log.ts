import type { ExtensionReader, FieldReader } from '../../lib/core/field-reader.ts'
import type { AccessLogConfig, FormatConfig } from '../../lib/telemetry/config.ts'
import { parseAccessLogFilter } from '../../lib/telemetry/parse.ts'
import type { EnvoyContext } from './context.ts'
import { checkedJson, checkedText, translateFormat } from './format.ts'
import { refuseExtension } from './refusals.ts'

type Sink = AccessLogConfig['sink']

/** A list of `config.accesslog.v3.AccessLog`; sinks other than files and standard streams are refused. */
export function translateAccessLogs(reader: FieldReader, field: string, context: EnvoyContext): AccessLogConfig[] {
  const logs: AccessLogConfig[] = []
  for (const entry of reader.messages(field)) {
    const log = translateAccessLog(entry, context)
    if (log !== undefined) logs.push(log)
  }
  return logs
}

function translateAccessLog(reader: FieldReader, context: EnvoyContext): AccessLogConfig | undefined {
  reader.string('name')
  const filterReader = reader.message('filter')
  const filter = filterReader === undefined ? undefined : parseAccessLogFilter(filterReader)
  const extension = reader.any('typed_config')
  if (extension === undefined) {
    if (!reader.has('typed_config')) reader.error('typed_config', 'is required')
    return undefined
  }
  const sink = translateSink(reader, extension)
  if (sink === undefined) return undefined
  const format = translateLogFormat(extension.fields, context)
  return { sink, ...(format && { format }), ...(filter && { filter }) }
}

function translateSink(reader: FieldReader, extension: ExtensionReader): Sink | undefined {
  switch (extension.typeUrl) {
    case 'envoy.extensions.access_loggers.stream.v3.StdoutAccessLog':
      return { kind: 'stdout' }
    case 'envoy.extensions.access_loggers.stream.v3.StderrAccessLog':
      return { kind: 'stderr' }
    case 'envoy.extensions.access_loggers.file.v3.FileAccessLog':
      return fileSink(extension.fields.string('path'))
    default:
      refuseExtension(reader, 'typed_config', extension, `access logger "${extension.typeUrl}" is not available`)
      return undefined
  }
}

function fileSink(path: string): Sink {
  if (path === '/dev/stdout') return { kind: 'stdout' }
  if (path === '/dev/stderr') return { kind: 'stderr' }
  return { kind: 'file', path }
}

/** The oneof `access_log_format`, deprecated members included; undefined: Envoy's default format. */
function translateLogFormat(reader: FieldReader, context: EnvoyContext): FormatConfig | undefined {
  const kind = reader.which('access_log_format')
  switch (kind) {
    case 'log_format':
      return translateFormat(reader.message('log_format'), context)
    case 'format': {
      const text = checkedText(reader, 'format', context)
      return text === '' ? undefined : { kind: 'text', text }
    }
    case 'json_format':
    case 'typed_json_format':
      return { kind: 'json', json: checkedJson(reader, kind, context) }
    default:
      return undefined
  }
}
