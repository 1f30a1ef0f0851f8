import type { FieldReader } from '../../lib/core/field-reader.ts'
import type { RouteConfig, RouteMatchConfig } from '../../lib/router/config.ts'
import { translateDirectResponse, translateRedirect } from './direct-answers.ts'
import { translateFilterOverrides } from './filter-overrides.ts'
import { translateHeaderEdits } from './header-edits.ts'
import { translateMetadata } from './metadata.ts'
import { translateRouteAction } from './route-action.ts'
import { translateRouteMatch } from './route-match.ts'
import type { RouteScope } from './route-scope.ts'

/** `config.route.v3.Route`; undefined where it has no match or no action, which its validation rules report. */
export function translateRoute(reader: FieldReader, scope: RouteScope): RouteConfig | undefined {
  reader.unread('refuse')
  reader.ignore('decorator', 'tracing')
  reader.refuse('route_specifiers', 'route specifier extensions are not available')
  const name = reader.string('name')
  const matchReader = reader.message('match')
  const match = matchReader === undefined ? undefined : translateRouteMatch(matchReader, scope.context)
  const bodyBufferLimitBytes = bodyBufferLimit(reader) ?? scope.bodyBufferLimitBytes
  const action = translateAction(reader, { ...scope, bodyBufferLimitBytes }, name, match?.path)
  const requestHeaders = translateHeaderEdits(reader, 'request', scope.context)
  const responseHeaders = translateHeaderEdits(reader, 'response', scope.context)
  const filterConfigs = translateFilterOverrides(reader, scope)
  const metadata = translateMetadata(reader)
  const statPrefix = reader.string('stat_prefix')
  if (match === undefined || action === undefined) return undefined
  return {
    name,
    match,
    action,
    ...(requestHeaders && { requestHeaders }),
    ...(responseHeaders && { responseHeaders }),
    ...(filterConfigs && { filterConfigs }),
    ...(metadata && { metadata }),
    ...(statPrefix !== '' && { statPrefix }),
  }
}

function translateAction(
  reader: FieldReader,
  scope: RouteScope,
  route: string,
  path: RouteMatchConfig['path'] | undefined,
): RouteConfig['action'] | undefined {
  const kind = reader.which('action')
  const action = kind === undefined || kind === 'filter_action' ? undefined : reader.message(kind)
  switch (kind) {
    case 'route':
      return action && translateRouteAction(action, { ...scope, route, path })
    case 'redirect':
      return action && translateRedirect(action)
    case 'direct_response':
      return action && translateDirectResponse(action, scope)
    case 'non_forwarding_action':
      return { kind: 'none' }
    default:
      reader.refuse('filter_action', 'is not available')
      return undefined
  }
}

/** How much of a request body may be kept for mirrors and retries; of a route or a virtual host. */
export function bodyBufferLimit(reader: FieldReader): number | undefined {
  const deprecated = reader.number('per_request_buffer_limit_bytes')
  const limit = reader.number('request_body_buffer_limit')
  if (limit !== undefined && deprecated !== undefined) {
    reader.error('request_body_buffer_limit', 'excludes per_request_buffer_limit_bytes')
  }
  return limit ?? deprecated
}
