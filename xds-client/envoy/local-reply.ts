import type { HttpConnectionManagerConfig, LocalReplyMapperConfig } from '../../lib/config/listener.ts'
import type { FieldReader } from '../../lib/core/field-reader.ts'
import { parseAccessLogFilter } from '../../lib/telemetry/parse.ts'
import type { EnvoyContext } from './context.ts'
import { readDataSource } from './data-source.ts'
import { translateFormat } from './format.ts'
import { translateHeaderValue } from './header-edits.ts'

/** `LocalReplyConfig`: mappers in order, and the format of bodies they do not format themselves. */
export function translateLocalReplies(
  reader: FieldReader | undefined,
  context: EnvoyContext,
): HttpConnectionManagerConfig['localReply'] {
  reader?.unread('refuse')
  const mappers: LocalReplyMapperConfig[] = []
  for (const entry of reader?.messages('mappers') ?? []) {
    const mapper = translateMapper(entry, context)
    if (mapper !== undefined) mappers.push(mapper)
  }
  const bodyFormat = translateFormat(reader?.message('body_format'), context)
  return { mappers, ...(bodyFormat && { bodyFormat }) }
}

/** `ResponseMapper`; undefined without a filter, which its validation rules report. */
function translateMapper(reader: FieldReader, context: EnvoyContext): LocalReplyMapperConfig | undefined {
  const filter = reader.message('filter')
  const status = reader.number('status_code')
  const body = readDataSource(reader.message('body'), context)
  const bodyFormat = translateFormat(reader.message('body_format_override'), context)
  const headers = reader.messages('headers_to_add').map((option) => translateHeaderValue(option, context))
  if (filter === undefined) return undefined
  return {
    filter: parseAccessLogFilter(filter),
    ...(status !== undefined && { status }),
    ...(body && { body: body.toString('utf8') }),
    ...(bodyFormat && { bodyFormat }),
    headers,
  }
}
