import type { FilterFactory } from '../../lib/chain/filter.ts'
import {
  mergeStatefulSession,
  parseStatefulSession,
  parseStatefulSessionPerRoute,
  type StatefulSessionConfig,
  type StatefulSessionRouteConfig,
} from './config.ts'
import { compileStatefulSession } from './filter.ts'

/**
 * Requests of a session go to the host that the first of them went to: its address is kept by the client, in a cookie or a
 * header (or, in an envelope, around the value of a header of the upstream's). Where that host is gone or unhealthy the
 * cluster chooses another, or with `strict` the answer is 503.
 *
 * Posture: robust against untrusted clients: an address only chooses among the hosts of the route's cluster. Clients see the
 * addresses of hosts, and may choose theirs; who minds uses hash policies instead.
 *
 * Counters, with a `stat_prefix`: `stateful_session.<stat_prefix>.routed`, `.failed_open`, `.failed_closed`, `.no_session`.
 */
export const statefulSession: FilterFactory<StatefulSessionConfig, StatefulSessionRouteConfig> = Object.freeze({
  name: 'envoy.filters.http.stateful_session',
  typeUrls: ['envoy.extensions.filters.http.stateful_session.v3.StatefulSession'],
  routeTypeUrls: ['envoy.extensions.filters.http.stateful_session.v3.StatefulSessionPerRoute'],
  parse: parseStatefulSession,
  parseRoute: parseStatefulSessionPerRoute,
  merge: mergeStatefulSession,
  compile: compileStatefulSession,
})
