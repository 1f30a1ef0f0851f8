import type { ExtensionReader, FieldReader } from '../core/field-reader.ts'
import type { StringMatchConfig } from '../match/config.ts'
import { parseCidr, parseFilterStateMatch, parseHeaderMatch, parseStringMatch } from '../match/parse.ts'
import { parseMetadataMatch } from '../match/parse-metadata.ts'
import { templateToRegex } from '../match/template.ts'
import type { ConditionConfig } from './config.ts'

const TEMPLATE = 'envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig'
const MTLS = 'envoy.extensions.rbac.principals.mtls_authenticated.v3.Config'

const SAN_TYPES: ReadonlyMap<string, 'uri' | 'dns' | 'email' | 'ip'> = new Map([
  ['URI', 'uri'],
  ['DNS', 'dns'],
  ['EMAIL', 'email'],
  ['IP_ADDRESS', 'ip'],
])

/** Stands where a mistake was recorded; never used, and would let nobody in. */
const NOTHING: ConditionConfig = Object.freeze({ kind: 'or', of: [] })
const NO_STRING: StringMatchConfig = Object.freeze({ kind: 'exact', value: '' })

type Parse = (reader: FieldReader, field: string) => ConditionConfig

/** `config.rbac.v3.Permission` */
export function parsePermission(reader: FieldReader): ConditionConfig {
  return parseOneOf(reader, PERMISSIONS)
}

/** `config.rbac.v3.Principal` */
export function parsePrincipal(reader: FieldReader): ConditionConfig {
  return parseOneOf(reader, PRINCIPALS)
}

/** The members of a oneof are asked for one by one, so that readers without a schema serve as well. */
function parseOneOf(
  reader: FieldReader,
  members: readonly (readonly [field: string, parse: Parse])[],
): ConditionConfig {
  reader.unread('refuse')
  for (const [field, parse] of members) if (reader.has(field)) return parse(reader, field)
  reader.error(undefined, `one of ${members.map(([field]) => field).join(', ')} is required`)
  return NOTHING
}

/** A parser of the sub-message in the field. */
function within(parse: (reader: FieldReader) => ConditionConfig): Parse {
  return (reader, field) => {
    const message = reader.message(field)
    return message === undefined ? NOTHING : parse(message)
  }
}

function set(kind: 'and' | 'or', list: string, parse: (reader: FieldReader) => ConditionConfig): Parse {
  return within((reader) => {
    const of = reader.messages(list).map(parse)
    // An empty conjunction would hold for everybody.
    if (of.length === 0) reader.error(list, 'must not be empty')
    return { kind, of }
  })
}

function any(reader: FieldReader, field: string): ConditionConfig {
  if (!reader.bool(field)) reader.error(field, 'must be true')
  return { kind: 'any' }
}

function address(kind: 'remote-ip' | 'connection-ip' | 'direct-remote-ip' | 'destination-ip'): Parse {
  return within((reader) => ({ kind, range: parseCidr(reader) }))
}

const header = within((reader) => ({ kind: 'header', header: parseHeaderMatch(reader) }))
const metadata = within((reader) => ({ kind: 'metadata', metadata: parseMetadataMatch(reader), source: 'dynamic' }))
const urlPath = within((reader) => ({ kind: 'path', string: required(reader, 'path') }))

function required(reader: FieldReader, field: string): StringMatchConfig {
  const string = reader.message(field)
  if (string !== undefined) return parseStringMatch(string)
  reader.error(field, 'is required')
  return NO_STRING
}

/** `config.rbac.v3.SourcedMetadata` */
function sourcedMetadata(reader: FieldReader): ConditionConfig {
  const word = reader.enumName('metadata_source')
  if (word !== '' && word !== 'DYNAMIC' && word !== 'ROUTE') {
    reader.error('metadata_source', `unknown source "${word}"`)
  }
  const matcher = reader.message('metadata_matcher')
  if (matcher === undefined) {
    reader.error('metadata_matcher', 'is required')
    return NOTHING
  }
  return { kind: 'metadata', metadata: parseMetadataMatch(matcher), source: word === 'ROUTE' ? 'route' : 'dynamic' }
}

const PERMISSIONS: readonly (readonly [string, Parse])[] = [
  ['and_rules', set('and', 'rules', parsePermission)],
  ['or_rules', set('or', 'rules', parsePermission)],
  ['not_rule', within((reader) => ({ kind: 'not', of: parsePermission(reader) }))],
  ['any', any],
  ['header', header],
  ['url_path', urlPath],
  ['uri_template', uriTemplate],
  ['destination_ip', address('destination-ip')],
  ['destination_port', destinationPort],
  ['destination_port_range', within(destinationPortRange)],
  ['metadata', metadata],
  ['sourced_metadata', within(sourcedMetadata)],
  ['requested_server_name', within((reader) => ({ kind: 'server-name', string: parseStringMatch(reader) }))],
  ['matcher', (reader, field) => refuseExtension(reader, field, 'permission matcher')],
]

const PRINCIPALS: readonly (readonly [string, Parse])[] = [
  ['and_ids', set('and', 'ids', parsePrincipal)],
  ['or_ids', set('or', 'ids', parsePrincipal)],
  ['not_id', within((reader) => ({ kind: 'not', of: parsePrincipal(reader) }))],
  ['any', any],
  ['authenticated', within(authenticated)],
  // Deprecated; the connection's own address, whatever X-Forwarded-For says.
  ['source_ip', address('connection-ip')],
  ['direct_remote_ip', address('direct-remote-ip')],
  ['remote_ip', address('remote-ip')],
  ['header', header],
  ['url_path', urlPath],
  ['metadata', metadata],
  ['sourced_metadata', within(sourcedMetadata)],
  ['filter_state', within((reader) => ({ kind: 'filter-state', state: parseFilterStateMatch(reader) }))],
  ['custom', custom],
]

function destinationPort(reader: FieldReader, field: string): ConditionConfig {
  const port = reader.number(field) ?? -1
  if (!Number.isInteger(port) || port < 0 || port > 65_535) reader.error(field, `${port} is no port`)
  return { kind: 'destination-port', start: port, end: port + 1 }
}

/** `type.v3.Int32Range` */
function destinationPortRange(reader: FieldReader): ConditionConfig {
  const start = reader.number('start') ?? 0
  const end = reader.number('end') ?? 0
  for (const [field, value] of [['start', start] as const, ['end', end] as const]) {
    if (!Number.isInteger(value) || value < 0 || value > 65_536) reader.error(field, `${value} is out of bounds`)
  }
  if (start >= end) reader.error('end', `${end} is not behind the start, ${start}`)
  return { kind: 'destination-port', start, end }
}

/** `config.rbac.v3.Principal.Authenticated` */
function authenticated(reader: FieldReader): ConditionConfig {
  const name = reader.message('principal_name')
  return name === undefined ? { kind: 'authenticated' } : { kind: 'authenticated', name: parseStringMatch(name) }
}

function extensionOf(reader: FieldReader, field: string): ExtensionReader | undefined {
  const at = reader.message(field)
  at?.string('name')
  const extension = at?.any('typed_config')
  if (extension === undefined) reader.error(field, 'typed_config is required')
  return extension
}

function refuseExtension(reader: FieldReader, field: string, what: string): ConditionConfig {
  const extension = extensionOf(reader, field)
  if (extension !== undefined) refuse(reader, field, extension, what)
  return NOTHING
}

function refuse(reader: FieldReader, field: string, extension: ExtensionReader, what: string): void {
  extension.fields.toJson()
  reader.error(field, `${what} "${extension.typeUrl}" is not available`)
}

function uriTemplate(reader: FieldReader, field: string): ConditionConfig {
  const extension = extensionOf(reader, field)
  if (extension === undefined) return NOTHING
  if (extension.typeUrl !== TEMPLATE) {
    refuse(reader, field, extension, 'path matcher')
    return NOTHING
  }
  const template = extension.fields.string('path_template')
  try {
    templateToRegex(template)
  } catch (error) {
    extension.fields.error('path_template', (error as Error).message)
  }
  return { kind: 'path-template', template }
}

/** `extensions.rbac.principals.mtls_authenticated.v3.Config`, the one custom principal that is known. */
function custom(reader: FieldReader, field: string): ConditionConfig {
  const extension = extensionOf(reader, field)
  if (extension === undefined) return NOTHING
  if (extension.typeUrl !== MTLS) {
    refuse(reader, field, extension, 'principal')
    return NOTHING
  }
  const { fields } = extension
  fields.unread('refuse')
  const anyone = fields.bool('any_validated_client_certificate')
  const san = fields.message('san_matcher')
  if (san === undefined) {
    if (!anyone) fields.error(undefined, 'one of san_matcher and any_validated_client_certificate is required')
    return { kind: 'authenticated' }
  }
  if (anyone) fields.error('san_matcher', 'excludes any_validated_client_certificate')
  const word = san.enumName('san_type')
  const type = SAN_TYPES.get(word)
  if (type === undefined) san.error('san_type', `${word} cannot be matched: one of ${[...SAN_TYPES.keys()].join(', ')}`)
  san.refuse('oid', 'other names cannot be matched')
  return { kind: 'san', type: type ?? 'uri', name: required(san, 'matcher') }
}
