import type { FieldReader } from '../core/field-reader.ts'
import type { AppendAction, HeaderValueConfig } from '../router/config.ts'
import { checkFormat } from './format.ts'

const ACTIONS: ReadonlyMap<string, AppendAction> = new Map([
  ['', 'append'],
  ['APPEND_IF_EXISTS_OR_ADD', 'append'],
  ['ADD_IF_ABSENT', 'add-if-absent'],
  ['OVERWRITE_IF_EXISTS_OR_ADD', 'overwrite-or-add'],
  ['OVERWRITE_IF_EXISTS', 'overwrite-if-exists'],
])

/** `config.core.v3.HeaderValueOption`, of a filter. Mistakes go to the reader; what is answered then is never used. */
export function parseHeaderValue(fields: FieldReader): HeaderValueConfig {
  fields.unread('refuse')
  const header = fields.message('header')
  if (header === undefined) fields.error('header', 'is required')
  header?.refuse('raw_value', 'use value')
  const name = header === undefined ? '' : editableName(header, 'key')
  const value = header?.string('value') ?? ''
  if (header !== undefined) checkHeaderText(header, 'value', value)
  let action = parseAppendAction(fields, 'append_action')
  const append = fields.optionalBool('append')
  if (append !== undefined) {
    if (action !== 'append') fields.error('append', 'append and append_action must not both be set')
    action = append ? 'append' : 'overwrite-or-add'
  }
  return fields.bool('keep_empty_value') ? { name, value, action, keepEmpty: true } : { name, value, action }
}

/** `HeaderValueOption.HeaderAppendAction` */
export function parseAppendAction(fields: FieldReader, name: string): AppendAction {
  const word = fields.enumName(name)
  const action = ACTIONS.get(word)
  if (action === undefined) fields.error(name, `unknown action "${word}"`)
  return action ?? 'append'
}

/** RFC 9110 section 5.6.2: token. */
const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/

/** A header that filters may change, lower case. Request line and Host decide where a request goes: routes have settings for them. */
export function editableName(fields: FieldReader, field: string): string {
  const name = fields.string(field).toLowerCase()
  if (name.startsWith(':') || name === 'host') {
    fields.error(field, `"${name}" can't be changed this way: use the route's path and host rewrites`)
  } else if (!TOKEN.test(name)) fields.error(field, `"${name}" is not a valid header name`)
  return name
}

/** A `%...%` format that goes into a header. */
export function checkHeaderText(fields: FieldReader, name: string, text: string): void {
  if (/[\0\r\n]/.test(text)) fields.error(name, 'must not contain NUL, CR or LF')
  for (const problem of checkFormat({ kind: 'text', text }).errors) fields.error(name, problem)
}
