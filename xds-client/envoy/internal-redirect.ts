import type { FieldReader } from '../../lib/core/field-reader.ts'
import type { InternalRedirectConfig, RedirectPredicateConfig } from '../../lib/router/config.ts'
import { consume, typedExtension } from './refusals.ts'

const PREDICATE = 'envoy.extensions.internal_redirect.'
const PREVIOUS_ROUTES = `${PREDICATE}previous_routes.v3.PreviousRoutesConfig`
const SAFE_CROSS_SCHEME = `${PREDICATE}safe_cross_scheme.v3.SafeCrossSchemeConfig`
const FILTER_STATE = `${PREDICATE}filter_state.v3.FilterStateConfig`
const ALLOW_LISTED = `${PREDICATE}allow_listed_routes.v3.AllowListedRoutesConfig`

type Status = InternalRedirectConfig['statuses'][number]

/** Envoy's default. */
const FOUND: readonly Status[] = [302]
const REDIRECTS: ReadonlySet<number> = new Set<Status>([301, 302, 303, 307, 308])

/**
 * `internal_redirect_policy` of a route, and the two deprecated fields that say part of it; undefined: clients follow
 * redirects themselves.
 */
export function translateInternalRedirect(parent: FieldReader): InternalRedirectConfig | undefined {
  const reader = parent.message('internal_redirect_policy')
  const deprecated = parent.enumName('internal_redirect_action') === 'HANDLE_INTERNAL_REDIRECT'
  const deprecatedMax = parent.number('max_internal_redirects')
  if (reader !== undefined) return translatePolicy(reader)
  if (!deprecated) return undefined
  return { max: deprecatedMax ?? 1, statuses: FOUND, crossScheme: false, headersToCopy: [], predicates: [] }
}

function translatePolicy(reader: FieldReader): InternalRedirectConfig {
  reader.unread('refuse')
  const given = reader.numbers('redirect_response_codes')
  // Envoy passes over codes that are no redirects; here they are reported.
  if (!given.every((status) => REDIRECTS.has(status))) reader.ignore('redirect_response_codes')
  const statuses = given.filter((status) => REDIRECTS.has(status)) as Status[]
  const headersToCopy = reader.strings('response_headers_to_copy').map((name) => name.toLowerCase())
  if (headersToCopy.some((name) => name.startsWith(':') || name === 'host')) {
    reader.error('response_headers_to_copy', 'must not name the host or a pseudo-header')
  }
  return {
    max: reader.number('max_internal_redirects') ?? 1,
    statuses: given.length === 0 ? FOUND : statuses,
    crossScheme: reader.bool('allow_cross_scheme_redirect'),
    headersToCopy,
    predicates: reader.messages('predicates').flatMap(translatePredicate),
  }
}

function translatePredicate(entry: FieldReader): RedirectPredicateConfig[] {
  const extension = typedExtension(entry)
  switch (extension?.typeUrl) {
    case PREVIOUS_ROUTES:
      consume(extension)
      return [{ kind: 'previous-routes' }]
    case SAFE_CROSS_SCHEME:
      consume(extension)
      return [{ kind: 'safe-cross-scheme' }]
    case ALLOW_LISTED: {
      const routes = extension.fields.unread('refuse').strings('allowed_route_names')
      return [{ kind: 'allow-listed-routes', routes }]
    }
    case FILTER_STATE: {
      const fields = extension.fields.unread('refuse')
      const key = fields.string('redirect_enabled_key')
      return [{ kind: 'filter-state', key, ifAbsent: fields.bool('redirect_if_absent') }]
    }
    default:
      if (extension !== undefined) consume(extension)
      entry.error('typed_config', `internal redirect predicate "${extension?.typeUrl ?? ''}" is not available`)
      return []
  }
}
