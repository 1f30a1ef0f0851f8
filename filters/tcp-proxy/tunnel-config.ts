import type { FieldReader } from '../../lib/core/field-reader.ts'
import type { HeaderEditsConfig } from '../../lib/router/config.ts'
import { checkFormat } from '../../lib/telemetry/format.ts'

/** A parsed `TcpProxy.TunnelingConfig`. */
export interface TunnelingConfig {
  /** A format: `host:port` of the tunnel's target. */
  readonly hostname: string
  /** `POST` instead of CONNECT; undefined: CONNECT. */
  readonly postPath?: string
  readonly headers: HeaderEditsConfig['add']
  readonly propagateHeaders: boolean
  readonly propagateTrailers: boolean
}

type Action = HeaderEditsConfig['add'][number]['action']

const ACTIONS: ReadonlyMap<string, Action> = new Map<string, Action>([
  ['APPEND_IF_EXISTS_OR_ADD', 'append'],
  ['ADD_IF_ABSENT', 'add-if-absent'],
  ['OVERWRITE_IF_EXISTS_OR_ADD', 'overwrite-or-add'],
  ['OVERWRITE_IF_EXISTS', 'overwrite-if-exists'],
])

/** RFC 9110 section 5.6.2: token. */
const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/

export function parseTunneling(fields: FieldReader): TunnelingConfig {
  fields.unread('refuse')
  const hostname = fields.string('hostname')
  if (hostname === '') fields.error('hostname', 'must not be empty')
  checkText(fields, 'hostname', hostname)
  const usePost = fields.bool('use_post')
  const postPath = fields.string('post_path')
  if (postPath !== '' && !usePost) fields.error('post_path', 'needs use_post')
  if (postPath !== '' && !postPath.startsWith('/')) fields.error('post_path', `must begin with "/", is "${postPath}"`)
  for (const name of ['request_id_extension', 'request_id_header', 'request_id_metadata_key']) {
    fields.ignore(name)
  }
  // Their commands are part of every format.
  fields.ignore('formatters')
  return {
    hostname,
    ...(usePost && { postPath: postPath === '' ? '/' : postPath }),
    headers: fields.messages('headers_to_add').map(parseHeader),
    propagateHeaders: fields.bool('propagate_response_headers'),
    propagateTrailers: fields.bool('propagate_response_trailers'),
  }
}

/** `config.core.v3.HeaderValueOption`; the value is a `%...%` format. */
function parseHeader(reader: FieldReader): HeaderEditsConfig['add'][number] {
  const header = reader.message('header')
  const name = (header?.string('key') ?? '').toLowerCase()
  if (!TOKEN.test(name) || name === 'host') reader.error('header', `"${name}" cannot be added to a tunnel's request`)
  header?.refuse('raw_value', 'use value')
  const value = header?.string('value') ?? ''
  if (header !== undefined) checkText(header, 'value', value)
  const append = reader.optionalBool('append')
  const action = ACTIONS.get(reader.enumName('append_action')) ?? 'append'
  return {
    name,
    value,
    action: append === false ? 'overwrite-or-add' : action,
    ...(reader.bool('keep_empty_value') && { keepEmpty: true }),
  }
}

function checkText(reader: FieldReader, field: string, text: string): void {
  if (/[\0\r\n]/.test(text)) reader.error(field, 'must not contain NUL, CR or LF')
  for (const error of checkFormat({ kind: 'text', text }).errors) reader.error(field, error)
}
