import type { Restart } from '../chain/filter.ts'
import type { RequestHead } from '../core/head.ts'
import type { Headers } from '../core/headers.ts'
import { isAuthority } from '../http1/tokens.ts'
import { type FilterStateSource, plainObject } from '../match/filter-state.ts'
import type { ForwardingStart } from './attempt.ts'
import type { InternalRedirectConfig, RedirectPredicateConfig } from './config.ts'
import type { Replay } from './replay.ts'

/** Keys of the filter state by which a request that goes on as another exchange knows of its redirects (Envoy's names). */
const COUNT = 'num_internal_redirects'
const USED_ROUTES = 'envoy.internal_redirect.previous_routes_predicate_state'

/** A response that may be a redirect to follow. */
export interface RedirectResponse {
  readonly status: number
  readonly headers: Headers
  /** Of a request with a body: what has been sent of it. */
  readonly replay: Replay | undefined
}

/** Where a redirect leads to. */
interface Target {
  readonly head: RequestHead
  readonly headers: Headers
  readonly keepsBody: boolean
}

/** Routes that redirects of a request have led to, by the route they came from. */
type UsedRoutes = ReadonlyMap<string, ReadonlySet<string>>

/**
 * Follows the redirect of a response as the route's policy says (Envoy's `internal_redirect_policy`). Answers what ends
 * the exchange with that response and runs the request as another one, to its Location; undefined: the client gets the
 * response. Counts either in the cluster, and why not under `passthrough_internal_redirect_*`.
 */
export function redirectOf(start: ForwardingStart, response: RedirectResponse): (() => void) | undefined {
  const { exchange, cluster } = start
  const policy = start.action.internalRedirect
  const followed: readonly number[] = policy?.statuses ?? []
  if (policy === undefined || !followed.includes(response.status)) return undefined
  const { redirects } = cluster.counters
  const go = exchange.restart === undefined ? undefined : follow(start, exchange.restart, policy, response)
  if (redirects !== undefined) {
    if (go === undefined) redirects.failed.v++
    else redirects.succeeded.v++
  }
  return go
}

function follow(
  start: ForwardingStart,
  restart: Restart,
  policy: InternalRedirectConfig,
  { status, headers: response, replay }: RedirectResponse,
): (() => void) | undefined {
  const { exchange } = start
  const location = response.get('location')
  // Without all of the body there is nothing that could be sent elsewhere.
  if (location === undefined || replay?.whole === false) return undefined
  const { scheme } = exchange.head
  const url = parseLocation(location)
  if (url === undefined) return passThrough(start, 'bad_location')
  if (!policy.crossScheme && url.scheme !== scheme) return passThrough(start, 'unsafe_scheme')
  const followed = (exchange.filterState.get(COUNT) as number | undefined) ?? 0
  if (followed >= policy.max) return passThrough(start, 'too_many_redirects')
  const target = targetOf(start, policy, { url, status, response })
  const route = restart.routeOf(target.head, target.headers)
  if (route === undefined) return passThrough(start, 'no_route')
  const from = start.route.name
  const before = exchange.filterState.get(USED_ROUTES) as UsedRoutes | undefined
  const tls = url.scheme === 'https'
  const { filterState: state } = exchange
  const step = { to: route.name, used: before?.get(from), downgrades: scheme === 'https', tls, state }
  if (!policy.predicates.every((predicate) => accepts(predicate, step))) return passThrough(start, 'predicate')
  const used = new Map(before).set(from, new Set(step.used).add(route.name))
  return () =>
    restart.begin({
      head: target.head,
      headers: target.headers,
      body: target.keepsBody ? replay : undefined,
      answeredBy: { status, headers: response, details: 'internal_redirect' },
      filterState: [
        [COUNT, followed + 1],
        [USED_ROUTES, used],
      ],
    })
}

interface Step {
  /** Name of the route it would lead to. */
  readonly to: string
  /** Those that redirects of this request have led to from the route it is at. */
  readonly used: ReadonlySet<string> | undefined
  /** The request came by https, and may go anywhere. */
  readonly downgrades: boolean
  /** It leads to https. */
  readonly tls: boolean
  readonly state: FilterStateSource
}

function accepts(predicate: RedirectPredicateConfig, { to, used, downgrades, tls, state }: Step): boolean {
  switch (predicate.kind) {
    case 'previous-routes':
      return used?.has(to) !== true
    case 'allow-listed-routes':
      return predicate.routes.includes(to)
    case 'safe-cross-scheme':
      return downgrades || !tls
    case 'filter-state':
      return flagAt(state.get(predicate.key)) ?? predicate.ifAbsent
  }
}

/** Undefined: it says neither. */
function flagAt(value: unknown): boolean | undefined {
  const text = plainObject(value)
  return text === 'true' ? true : text === 'false' ? false : undefined
}

function passThrough({ router }: ForwardingStart, why: string): undefined {
  const { metrics, statPrefix } = router.scope
  // Few gateways follow redirects: made when there is something to count.
  metrics.counter(`${statPrefix}passthrough_internal_redirect_${why}`).v++
  return undefined
}

interface Url {
  readonly scheme: 'http' | 'https'
  readonly authority: string
  readonly path: string
}

/** An absolute http or https URL without credentials, its fragment taken off; undefined: it is none. */
function parseLocation(location: string): Url | undefined {
  const match = /^(https?):\/\/([^/?]+)([/?][\x21-\x7e]*)?(?:#|$)/i.exec(stripFragment(location))
  if (match === null || !isAuthority(match[2])) return undefined
  const rest = match[3] ?? '/'
  return {
    scheme: match[1].toLowerCase() === 'https' ? 'https' : 'http',
    authority: match[2],
    path: rest.startsWith('?') ? `/${rest}` : rest,
  }
}

function stripFragment(location: string): string {
  const at = location.indexOf('#')
  return at < 0 ? location : location.slice(0, at)
}

/** The request as it goes on; that of the exchange stays as it is, for its log. */
function targetOf(
  { exchange }: ForwardingStart,
  { headersToCopy }: InternalRedirectConfig,
  { url, status, response }: { readonly url: Url; readonly status: number; readonly response: Headers },
): Target {
  const { head } = exchange
  const headers = exchange.request.clone()
  for (const name of headersToCopy) {
    headers.delete(name)
    for (const value of response.getAll(name)) headers.append(name, value)
  }
  headers.put('x-envoy-original-url', `${head.scheme}://${head.authority}${head.path}`)
  // RFC 9110 §15.4.4: See Other is asked for with GET, unless it was HEAD.
  const becomesGet = status === 303 && head.method !== 'GET' && head.method !== 'HEAD'
  if (becomesGet) headers.delete('content-length')
  const { scheme, authority, path } = url
  const method = becomesGet ? 'GET' : head.method
  return { head: { ...head, method, scheme, authority, path }, headers, keepsBody: !becomesGet }
}
