import type { ExtensionReader, FieldReader } from '../../lib/core/field-reader.ts'

const STATES = 'envoy.extensions.http.stateful_session.'
const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/

export interface CookieStateConfig {
  readonly kind: 'cookie'
  readonly name: string
  /** '' or `/`: all of them. */
  readonly path: string
  /** 0: until the browser is closed. */
  readonly ttlS: number
  readonly attributes: readonly { readonly name: string; readonly value: string }[]
}

/** Where the address of a session's host is kept. Names of headers are lower case. */
export type SessionStateConfig =
  | CookieStateConfig
  | { readonly kind: 'header'; readonly name: string }
  | { readonly kind: 'envelope'; readonly name: string }

/** A parsed `StatefulSession`. */
export interface StatefulSessionConfig {
  /** Undefined: requests stick to nothing. */
  readonly state?: SessionStateConfig
  /** The host of the session, or none. */
  readonly strict: boolean
  /** What a strict session is answered whose host is not to be had. */
  readonly status: number
  /** '': nothing is counted. */
  readonly statPrefix: string
}

/** A parsed `StatefulSessionPerRoute`: off, or other sessions. */
export interface StatefulSessionRouteConfig {
  readonly session?: StatefulSessionConfig
}

/** `envoy.extensions.filters.http.stateful_session.v3.StatefulSession` */
export function parseStatefulSession(fields: FieldReader): StatefulSessionConfig {
  fields.unread('refuse')
  const strict = fields.bool('strict')
  const status = fields.number('status_on_strict_destination_not_found') ?? 0
  if (status !== 0 && (status < 200 || status > 599)) {
    fields.error('status_on_strict_destination_not_found', `must be a status from 200 to 599, is ${status}`)
  }
  const extension = fields.message('session_state')
  const state = extension && parseState(extension)
  return {
    ...(state && { state }),
    strict,
    status: strict && status !== 0 ? status : 503,
    statPrefix: fields.string('stat_prefix'),
  }
}

/** `envoy.extensions.filters.http.stateful_session.v3.StatefulSessionPerRoute` */
export function parseStatefulSessionPerRoute(fields: FieldReader): StatefulSessionRouteConfig {
  fields.unread('refuse')
  const disabled = fields.bool('disabled')
  const session = fields.message('stateful_session')
  if (fields.has('disabled') && !disabled) fields.error('disabled', 'must be true where it is set')
  if (disabled && session !== undefined) fields.error(undefined, 'disabled and stateful_session exclude each other')
  if (!disabled && session === undefined) {
    fields.error(undefined, 'one of disabled and stateful_session is required')
  }
  return session === undefined ? {} : { session: parseStatefulSession(session) }
}

/** The most specific level replaces the filter's own sessions, or switches them off; counters are the filter's own. */
export function mergeStatefulSession(
  base: StatefulSessionConfig,
  levels: readonly StatefulSessionRouteConfig[],
): StatefulSessionConfig | undefined {
  const level = levels.at(-1)
  if (level === undefined) return base
  return level.session && { ...level.session, statPrefix: base.statPrefix }
}

function parseState(fields: FieldReader): SessionStateConfig | undefined {
  fields.unread('refuse')
  const name = fields.string('name')
  const extension = fields.any('typed_config')
  if (extension === undefined) {
    fields.error('typed_config', 'is required')
    return undefined
  }
  switch (extension.typeUrl) {
    case `${STATES}cookie.v3.CookieBasedSessionState`:
      return parseCookie(extension)
    case `${STATES}header.v3.HeaderBasedSessionState`:
      return { kind: 'header', name: parseName(extension.fields) }
    case `${STATES}envelope.v3.EnvelopeSessionState`:
      return parseEnvelope(extension)
    default:
      extension.fields.toJson()
      fields.error('typed_config', `session state "${extension.typeUrl || name}" is not available`)
      return undefined
  }
}

function parseCookie({ fields }: ExtensionReader): CookieStateConfig {
  const cookie = fields.message('cookie')
  if (cookie === undefined) fields.error('cookie', 'is required')
  const name = cookie?.string('name') ?? ''
  const ttlMs = cookie?.durationMs('ttl') ?? 0
  if (cookie !== undefined && !TOKEN.test(name)) cookie.error('name', `must be the name of a cookie, is "${name}"`)
  if (ttlMs < 0) cookie?.error('ttl', `must not be negative, is ${ttlMs / 1000}s`)
  return {
    kind: 'cookie',
    name,
    path: cookie?.string('path') ?? '',
    // Whole seconds, as Envoy.
    ttlS: Math.max(0, Math.trunc(ttlMs / 1000)),
    attributes: (cookie?.messages('attributes') ?? []).map((attribute) => ({
      name: attribute.string('name'),
      value: attribute.string('value'),
    })),
  }
}

function parseEnvelope({ fields }: ExtensionReader): SessionStateConfig {
  const header = fields.message('header')
  if (header === undefined) fields.error('header', 'is required')
  return { kind: 'envelope', name: header === undefined ? '' : parseName(header) }
}

function parseName(fields: FieldReader): string {
  const name = fields.string('name').toLowerCase()
  if (!TOKEN.test(name)) fields.error('name', `must be the name of a header, is "${name}"`)
  return name
}
