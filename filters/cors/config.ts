import type { FieldReader } from '../../lib/core/field-reader.ts'
import type { FractionConfig, StringMatchConfig } from '../../lib/match/config.ts'
import { parseRuntimeFraction, parseStringMatch } from '../../lib/match/parse.ts'

/**
 * A parsed `CorsPolicy`. Plain data: it is made in one process and compiled in others.
 *
 * What is empty or missing was not set, so that a less specific level can fill it in.
 */
export interface CorsPolicy {
  readonly allowOrigins: readonly StringMatchConfig[]
  /** Header values as they are sent: `GET, POST`, or `*`. */
  readonly allowMethods: string
  readonly allowHeaders: string
  readonly exposeHeaders: string
  /** Seconds, as text. */
  readonly maxAge: string
  readonly allowCredentials?: boolean
  readonly allowPrivateNetworkAccess?: boolean
  readonly forwardNotMatchingPreflights?: boolean
  /** Share of requests the policy acts on; missing: all. */
  readonly filterEnabled?: FractionConfig
  /** Share of requests that are only counted where the policy does not act; missing: none. */
  readonly shadowEnabled?: FractionConfig
}

/** `envoy.extensions.filters.http.cors.v3.Cors` has no fields: without a policy of the route the filter does nothing. */
export function parseCors(fields: FieldReader): CorsPolicy {
  fields.unread('refuse')
  return NO_POLICY
}

/** `envoy.extensions.filters.http.cors.v3.CorsPolicy` */
export function parseCorsPolicy(fields: FieldReader): CorsPolicy {
  // Each field decides what browsers are allowed: one that nobody reads must not pass in silence.
  fields.unread('refuse')
  const filterEnabled = fields.message('filter_enabled')
  const shadowEnabled = fields.message('shadow_enabled')
  return {
    allowOrigins: fields.messages('allow_origin_string_match').map(parseStringMatch),
    allowMethods: headerValue(fields, 'allow_methods'),
    allowHeaders: headerValue(fields, 'allow_headers'),
    exposeHeaders: headerValue(fields, 'expose_headers'),
    maxAge: headerValue(fields, 'max_age'),
    ...optionalBool(fields, 'allow_credentials', 'allowCredentials'),
    ...optionalBool(fields, 'allow_private_network_access', 'allowPrivateNetworkAccess'),
    ...optionalBool(fields, 'forward_not_matching_preflights', 'forwardNotMatchingPreflights'),
    ...(filterEnabled && { filterEnabled: parseRuntimeFraction(filterEnabled) }),
    ...(shadowEnabled && { shadowEnabled: parseRuntimeFraction(shadowEnabled) }),
  }
}

/**
 * The policy in force: each setting comes from the most specific level that has it. The switches come from the most
 * specific level alone.
 *
 * @param levels least specific first.
 * @returns undefined where no level has a policy: the filter is off there.
 */
export function mergePolicies(levels: readonly CorsPolicy[]): CorsPolicy | undefined {
  if (levels.length === 0) return undefined
  return levels.reduce((general, specific) => ({
    allowOrigins: specific.allowOrigins.length > 0 ? specific.allowOrigins : general.allowOrigins,
    allowMethods: specific.allowMethods || general.allowMethods,
    allowHeaders: specific.allowHeaders || general.allowHeaders,
    exposeHeaders: specific.exposeHeaders || general.exposeHeaders,
    maxAge: specific.maxAge || general.maxAge,
    allowCredentials: specific.allowCredentials ?? general.allowCredentials,
    allowPrivateNetworkAccess: specific.allowPrivateNetworkAccess ?? general.allowPrivateNetworkAccess,
    forwardNotMatchingPreflights: specific.forwardNotMatchingPreflights ?? general.forwardNotMatchingPreflights,
    filterEnabled: specific.filterEnabled,
    shadowEnabled: specific.shadowEnabled,
  }))
}

const NO_POLICY: CorsPolicy = Object.freeze({
  allowOrigins: [],
  allowMethods: '',
  allowHeaders: '',
  exposeHeaders: '',
  maxAge: '',
})

function headerValue(fields: FieldReader, name: string): string {
  const value = fields.string(name)
  if (/[\0\r\n]/.test(value)) fields.error(name, 'must not contain NUL, CR or LF')
  return value
}

/** Nothing where the field is not set: "not set" must survive, because another level may say yes or no. */
function optionalBool<K extends string>(fields: FieldReader, name: string, key: K): { readonly [P in K]?: boolean } {
  const value = fields.optionalBool(name)
  return value === undefined ? {} : ({ [key]: value } as { readonly [P in K]: boolean })
}
