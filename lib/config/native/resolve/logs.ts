import { indexPath } from '../../../proto/path.ts'
import type { AccessLogConfig, AccessLogFilterConfig, FormatConfig } from '../../../telemetry/config.ts'
import type { NativeAccessLog, NativeFormat, NativeLogFilter } from '../logs.ts'
import { readFraction, readHeaderMatch } from './matches.ts'
import type { Reading } from './reading.ts'

export function readFormat(value: NativeFormat, path: string, { origins }: Reading): FormatConfig {
  if (typeof value === 'string') return origins.whole(path, { kind: 'text', text: value })
  if ('kind' in value) return origins.at(path, value)
  const rest = {
    ...(value.omitEmpty !== undefined && { omitEmpty: value.omitEmpty }),
    ...(value.contentType !== undefined && { contentType: value.contentType }),
  }
  const format: FormatConfig =
    'json' in value
      ? { kind: 'json', json: structuredClone(value.json), ...rest }
      : { kind: 'text', text: value.text, ...rest }
  return origins.at(path, format)
}

export function readLogFilter(filter: NativeLogFilter, path: string, reading: Reading): AccessLogFilterConfig {
  switch (filter.kind) {
    case 'runtime':
      return { kind: 'runtime', fraction: readFraction(filter.fraction) }
    case 'and':
    case 'or': {
      const filters = filter.filters.map((inner, i) => readLogFilter(inner, indexPath(`${path}.filters`, i), reading))
      return { kind: filter.kind, filters }
    }
    case 'header':
      return { kind: 'header', header: readHeaderMatch(filter.header, `${path}.header`, reading) }
    case 'grpc-status':
      return { ...filter, exclude: filter.exclude ?? false }
    case 'log-type':
      return { ...filter, exclude: filter.exclude ?? false }
    case 'metadata':
      return { ...filter, matchIfKeyNotFound: filter.matchIfKeyNotFound ?? true }
    default:
      return filter
  }
}

export function readAccessLog(log: NativeAccessLog, path: string, reading: Reading): AccessLogConfig {
  const sink = log.sink ?? 'stdout'
  return reading.origins.at(path, {
    sink: typeof sink === 'string' ? { kind: sink } : { kind: 'file', path: sink.file },
    ...(log.format !== undefined && { format: readFormat(log.format, `${path}.format`, reading) }),
    ...(log.filter !== undefined && { filter: readLogFilter(log.filter, `${path}.filter`, reading) }),
  })
}
