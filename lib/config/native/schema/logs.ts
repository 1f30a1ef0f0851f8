import { z } from 'zod'
import { isObject } from '../../../proto/describe.ts'
import type { ComparisonConfig, FormatConfig } from '../../../telemetry/config.ts'
import type { NativeAccessLog, NativeFormat, NativeLogFilter } from '../logs.ts'
import { fraction, headerMatch, metadataMatch } from './matches.ts'
import { byKind, choose, count, json, name, object, text } from './pieces.ts'

type TextFormat = { text: string; omitEmpty?: boolean; contentType?: string }
type JsonFormat = { json: Extract<FormatConfig, { kind: 'json' }>['json']; omitEmpty?: boolean; contentType?: string }

export function format(): z.ZodType<NativeFormat> {
  const rest = { omitEmpty: z.boolean().optional(), contentType: name().optional() }
  const short = {
    text: object<TextFormat>({ text: text(), ...rest }),
    json: object<JsonFormat>({ json: json(), ...rest }),
  }
  const long = byKind<FormatConfig>({
    text: () => object({ kind: z.literal('text'), text: text(), ...rest }),
    json: () => object({ kind: z.literal('json'), json: json(), ...rest }),
  })
  const bare = z.string()
  return choose('a format: a text, or an object with text or json', (value) => {
    if (typeof value === 'string') return bare
    if (!isObject(value)) return undefined
    if (value.kind !== undefined) return long
    return value.json === undefined ? short.text : short.json
  })
}

export function logFilter(): z.ZodType<NativeLogFilter> {
  const comparison = object<ComparisonConfig>({
    op: z.enum(['EQ', 'GE', 'LE', 'NE']),
    value: z.number(),
    runtimeKey: name().optional(),
  })
  const compared = (): z.ZodType => object({ kind: z.enum(['status', 'duration']), comparison })
  const several = (): z.ZodType => object({ kind: z.enum(['and', 'or']), filters: z.array(logFilter()).min(1) })
  const bare = (): z.ZodType => object({ kind: z.enum(['not-health-check', 'traceable']) })
  const exclude = z.boolean().optional()
  return byKind<NativeLogFilter>({
    status: compared,
    duration: compared,
    'not-health-check': bare,
    traceable: bare,
    runtime: () => object({ kind: z.literal('runtime'), fraction: fraction() }),
    and: several,
    or: several,
    header: () => object({ kind: z.literal('header'), header: headerMatch() }),
    'response-flag': () => object({ kind: z.literal('response-flag'), flags: z.array(name()) }),
    'grpc-status': () => object({ kind: z.literal('grpc-status'), statuses: z.array(count()), exclude }),
    metadata: () =>
      object({
        kind: z.literal('metadata'),
        matcher: metadataMatch(),
        matchIfKeyNotFound: z.boolean().optional(),
      }),
    'log-type': () => object({ kind: z.literal('log-type'), types: z.array(name()), exclude }),
  })
}

export function accessLog(): z.ZodType<NativeAccessLog> {
  const file = object<{ file: string }>({ file: name() })
  return object<NativeAccessLog>({
    sink: choose<NonNullable<NativeAccessLog['sink']>>('stdout, stderr or an object with file', (value) =>
      value === 'stdout' || value === 'stderr' ? z.string() : isObject(value) ? file : undefined,
    ).optional(),
    format: format().optional(),
    filter: logFilter().optional(),
  })
}
