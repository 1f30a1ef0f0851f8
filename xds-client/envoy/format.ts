import type { Json } from '../../lib/core/errors.ts'
import type { FieldReader } from '../../lib/core/field-reader.ts'
import type { FormatConfig } from '../../lib/telemetry/config.ts'
import type { EnvoyContext } from './context.ts'
import { readDataSource } from './data-source.ts'
import { refuseExtension, typedExtension } from './refusals.ts'

/** Formatter extensions whose operators are part of our formats; the format check knows the operators themselves. */
const FORMATTERS: ReadonlySet<string> = new Set([
  'envoy.extensions.formatter.req_without_query.v3.ReqWithoutQuery',
  'envoy.extensions.formatter.metadata.v3.Metadata',
])

/** `config.core.v3.SubstitutionFormatString`; undefined where it is not set or unusable. */
export function translateFormat(reader: FieldReader | undefined, context: EnvoyContext): FormatConfig | undefined {
  if (reader === undefined) return undefined
  checkFormatters(reader)
  const extras = {
    ...(reader.bool('omit_empty_values') && { omitEmpty: true }),
    ...(reader.has('content_type') && { contentType: reader.string('content_type') }),
  }
  reader.ignore('json_format_options')
  switch (reader.which('format')) {
    case 'text_format':
      return { kind: 'text', text: checkedText(reader, 'text_format', context), ...extras }
    case 'text_format_source': {
      const text = readDataSource(reader.message('text_format_source'), context)?.toString('utf8') ?? ''
      checkText(reader, 'text_format_source', text, context)
      return { kind: 'text', text, ...extras }
    }
    case 'json_format':
      return { kind: 'json', json: checkedJson(reader, 'json_format', context), ...extras }
    default:
      return undefined
  }
}

/** A text field of its own that is a format; empty where it is not set. */
export function checkedText(reader: FieldReader, field: string, context: EnvoyContext): string {
  const text = reader.string(field)
  checkText(reader, field, text, context)
  return text
}

/** A Struct whose strings, at any depth, are formats. */
export function checkedJson(reader: FieldReader, field: string, context: EnvoyContext): Json {
  const json = reader.json(field) ?? {}
  const problem = jsonProblem(json, context)
  if (problem !== undefined) reader.error(field, problem)
  return json
}

function checkText(reader: FieldReader, field: string, text: string, context: EnvoyContext): void {
  const problem = context.checks.format(text)
  if (problem !== undefined) reader.error(field, problem)
}

function jsonProblem(json: Json, context: EnvoyContext): string | undefined {
  if (typeof json === 'string') return context.checks.format(json)
  if (typeof json !== 'object' || json === null) return undefined
  for (const value of Array.isArray(json) ? json : Object.values(json)) {
    const problem = jsonProblem(value, context)
    if (problem !== undefined) return problem
  }
  return undefined
}

function checkFormatters(reader: FieldReader): void {
  for (const formatter of reader.messages('formatters')) {
    const extension = typedExtension(formatter)
    if (extension === undefined || FORMATTERS.has(extension.typeUrl)) continue
    refuseExtension(formatter, 'typed_config', extension, `formatter "${extension.typeUrl}" is not available`)
  }
}
