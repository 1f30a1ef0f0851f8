import type { FieldReader } from '../../lib/core/field-reader.ts'
import type { AppendAction, HeaderEditsConfig, HeaderValueConfig } from '../../lib/router/config.ts'
import type { EnvoyContext } from './context.ts'

const ACTIONS: Readonly<Record<string, AppendAction>> = {
  APPEND_IF_EXISTS_OR_ADD: 'append',
  ADD_IF_ABSENT: 'add-if-absent',
  OVERWRITE_IF_EXISTS_OR_ADD: 'overwrite-or-add',
  OVERWRITE_IF_EXISTS: 'overwrite-if-exists',
}

/** RFC 9110 section 5.6.2: token. */
const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/

/** RFC 9110 section 5.5 forbids these in field values; Envoy refuses them too. */
const BAD_VALUE = /[\0\r\n]/

/**
 * `<direction>_headers_to_add` and `<direction>_headers_to_remove` of a route table, virtual host, route or weighted
 * cluster; undefined where neither is set.
 */
export function translateHeaderEdits(
  reader: FieldReader,
  direction: 'request' | 'response',
  context: EnvoyContext,
): HeaderEditsConfig | undefined {
  const add = reader.messages(`${direction}_headers_to_add`).map((option) => translateHeaderValue(option, context))
  const removeField = `${direction}_headers_to_remove`
  const remove = reader.strings(removeField).map((name, i) => checkedName(reader, `${removeField}[${i}]`, name))
  return add.length === 0 && remove.length === 0 ? undefined : { remove, add }
}

/** `config.core.v3.HeaderValueOption`; the value is a `%...%` format. */
export function translateHeaderValue(reader: FieldReader, context: EnvoyContext): HeaderValueConfig {
  reader.unread('refuse')
  const header = reader.message('header')
  let name = ''
  let value = ''
  if (header !== undefined) {
    name = checkedName(header, 'key', header.string('key'))
    value = header.string('value')
    header.refuse('raw_value', 'use value')
    checkValue(header, value, context)
  }
  const action = translateAction(reader)
  return reader.bool('keep_empty_value') ? { name, value, action, keepEmpty: true } : { name, value, action }
}

function translateAction(reader: FieldReader): AppendAction {
  const append = reader.optionalBool('append')
  const action = ACTIONS[reader.enumName('append_action')] ?? 'append'
  if (append === undefined) return action
  if (action !== 'append') reader.error('append', 'append and append_action must not both be set')
  return append ? 'append' : 'overwrite-or-add'
}

/** The lower-case name of a header that configuration may write or remove; records a mistake where it may not. */
export function checkedName(reader: FieldReader, field: string, name: string): string {
  const lower = name.toLowerCase()
  if (lower.startsWith(':') || lower === 'host') {
    reader.error(field, `"${name}": :-prefixed or host headers may not be modified`)
  } else if (lower !== '' && !TOKEN.test(lower)) {
    reader.error(field, `"${name}" is not a valid header name`)
  }
  return lower
}

function checkValue(reader: FieldReader, value: string, context: EnvoyContext): void {
  if (BAD_VALUE.test(value)) reader.error('value', 'must not contain NUL, CR or LF')
  const problem = context.checks.format(value)
  if (problem !== undefined) reader.error('value', problem)
}
