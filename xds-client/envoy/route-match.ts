import type { FieldReader } from '../../lib/core/field-reader.ts'
import { parseFilterStateMatch, parseHeaderMatch, parseRegex, parseRuntimeFraction } from '../../lib/match/parse.ts'
import { parseMetadataMatch } from '../../lib/match/parse-metadata.ts'
import type { PathMatchConfig, RouteMatchConfig } from '../../lib/router/config.ts'
import type { EnvoyContext } from './context.ts'
import { translateCookieMatch, translateQueryParameterMatch } from './header-match.ts'
import { refuseExtension, typedExtension } from './refusals.ts'

const TEMPLATE = 'envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig'

/** `config.route.v3.RouteMatch`. Whatever of it is not understood is refused: a matcher that is dropped widens a route. */
export function translateRouteMatch(reader: FieldReader, context: EnvoyContext): RouteMatchConfig {
  reader.unread('refuse')
  const path = translatePathMatch(reader, context)
  const headers = reader.messages('headers').map(parseHeaderMatch)
  const queryParameters = reader.messages('query_parameters').map(translateQueryParameterMatch)
  const cookies = reader.messages('cookies').map(translateCookieMatch)
  const grpc = reader.message('grpc') !== undefined
  const fraction = reader.message('runtime_fraction')
  const metadata = reader.messages('dynamic_metadata').map(parseMetadataMatch)
  const tls = translateTls(reader.message('tls_context'))
  const filterState = reader.messages('filter_state').map(parseFilterStateMatch)
  return {
    path,
    ...(headers.length > 0 && { headers }),
    ...(queryParameters.length > 0 && { queryParameters }),
    ...(cookies.length > 0 && { cookies }),
    ...(grpc && { grpc }),
    ...(fraction && { fraction: parseRuntimeFraction(fraction) }),
    ...(metadata.length > 0 && { metadata }),
    ...(filterState.length > 0 && { filterState }),
    ...(tls && { tls }),
  }
}

function translatePathMatch(reader: FieldReader, context: EnvoyContext): PathMatchConfig {
  const caseSensitive = reader.optionalBool('case_sensitive') ?? true
  switch (reader.which('path_specifier')) {
    case 'prefix':
      return { kind: 'prefix', value: reader.string('prefix'), caseSensitive }
    case 'path':
      return { kind: 'exact', value: reader.string('path'), caseSensitive }
    case 'path_separated_prefix':
      return { kind: 'path-separated-prefix', value: reader.string('path_separated_prefix'), caseSensitive }
    case 'safe_regex':
      return { kind: 'regex', value: parseRegex(reader.message('safe_regex')) }
    case 'connect_matcher':
      reader.message('connect_matcher')
      return { kind: 'connect' }
    case 'path_match_policy':
      return translatePolicy(reader.message('path_match_policy'), context)
    default:
      return { kind: 'prefix', value: '/', caseSensitive }
  }
}

function translatePolicy(at: FieldReader | undefined, context: EnvoyContext): PathMatchConfig {
  const extension = typedExtension(at)
  if (at !== undefined && extension !== undefined && extension.typeUrl !== TEMPLATE) {
    refuseExtension(at, 'typed_config', extension, `path matcher "${extension.typeUrl}" is not available`)
  }
  if (extension?.typeUrl !== TEMPLATE) return { kind: 'template', value: '' }
  const value = extension.fields.string('path_template')
  const problem = value === '' ? undefined : context.checks.pathTemplate(value)
  if (problem !== undefined) extension.fields.error('path_template', problem)
  return { kind: 'template', value }
}

function translateTls(reader: FieldReader | undefined): RouteMatchConfig['tls'] {
  if (reader === undefined) return undefined
  const presented = reader.optionalBool('presented')
  const validated = reader.optionalBool('validated')
  return { ...(presented !== undefined && { presented }), ...(validated !== undefined && { validated }) }
}
