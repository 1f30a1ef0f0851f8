import type { FilterFactory } from '../../lib/chain/filter.ts'
import type { JsonObject } from '../../lib/core/errors.ts'
import type { StatefulSessionConfig, StatefulSessionRouteConfig } from './config.ts'
import { statefulSession as statefulSessionFilter } from './index.ts'

/** A cookie that says which endpoint a session is on. */
export interface SessionCookie {
  readonly name: string
  /** Requests below it belong to the session. Default: all. */
  readonly path?: string
  /** 0: until the browser is closed. Default: 0. */
  readonly ttlS?: number
  /** `{ SameSite: 'Strict', Secure: '' }`. Default: none but HttpOnly. */
  readonly attributes?: Readonly<Record<string, string>>
}

/** Settings of `statefulSession`: exactly one of `cookie`, `header` and `envelope`. */
export interface StatefulSessionOptions {
  readonly cookie?: SessionCookie
  /** A header that clients send back as they got it. */
  readonly header?: string
  /** A header of the upstream's own, around whose value the endpoint's address is put. */
  readonly envelope?: string
  /** Where the session's endpoint is gone or unhealthy the answer is `status`; otherwise another is chosen. Default: false. */
  readonly strict?: boolean
  /** Default: 503. */
  readonly status?: number
  /** Name in statistics. Default: nothing is counted. */
  readonly statPrefix?: string
}

/** A filter as native listeners take it; `config` in `{ stateful_session: config }` is what routes take. */
export interface NativeStatefulSession {
  readonly factory: FilterFactory<StatefulSessionConfig, StatefulSessionRouteConfig>
  readonly config: JsonObject
}

const STATES = 'type.googleapis.com/envoy.extensions.http.stateful_session.'

/**
 * A filter that keeps the requests of a session on the endpoint of the first of them.
 *
 * @example
 * filters: [statefulSession({ cookie: { name: 'on', ttlS: 3600 }, strict: true })]
 */
export function statefulSession(options: StatefulSessionOptions): NativeStatefulSession {
  const { strict = false, status, statPrefix } = options
  return {
    factory: statefulSessionFilter,
    config: {
      session_state: { name: 'session', typed_config: stateOf(options) },
      strict,
      ...(status !== undefined && { status_on_strict_destination_not_found: status }),
      ...(statPrefix !== undefined && { stat_prefix: statPrefix }),
    },
  }
}

/** @throws TypeError where it is not exactly one. */
function stateOf({ cookie, header, envelope }: StatefulSessionOptions): JsonObject {
  const given = [cookie, header, envelope].filter((one) => one !== undefined)
  if (given.length !== 1) throw new TypeError('statefulSession: exactly one of cookie, header and envelope is needed')
  if (header !== undefined) return { '@type': `${STATES}header.v3.HeaderBasedSessionState`, name: header }
  if (envelope !== undefined) {
    return { '@type': `${STATES}envelope.v3.EnvelopeSessionState`, header: { name: envelope } }
  }
  const { name = '', path = '', ttlS = 0, attributes = {} } = cookie ?? {}
  const list = Object.entries(attributes).map(([key, value]) => ({ name: key, value }))
  return {
    '@type': `${STATES}cookie.v3.CookieBasedSessionState`,
    cookie: { name, path, ttl: `${ttlS}s`, attributes: list },
  }
}
