import type { HttpFilter, HttpStream, Next, Replied, Scope } from '../../lib/chain/filter.ts'
import type { Headers } from '../../lib/core/headers.ts'
import { compileFraction } from '../../lib/match/fraction.ts'
import { compileString } from '../../lib/match/string.ts'
import type { CorsPolicy } from './config.ts'

/** What one request leaves for its response: the origin that was found allowed, '' where there is none. */
interface CorsState {
  allowedOrigin: string
}

type Decision = (random: number) => boolean

/**
 * Compiles a policy to the filter that enforces it (the Fetch standard's CORS protocol, as Envoy speaks it).
 *
 * Preflights of allowed origins are answered here. Other requests go on; their responses say who may read them, and what
 * an upstream said about that itself is overwritten. No `Vary: Origin` is added, as in Envoy.
 */
export function compileCors(policy: CorsPolicy, scope: Scope): HttpFilter<unknown> {
  const isAllowed = compileOrigins(policy)
  const isEnabled: Decision =
    policy.filterEnabled === undefined ? () => true : compileFraction(policy.filterEnabled, scope.runtime)
  const isShadowed: Decision =
    policy.shadowEnabled === undefined ? () => false : compileFraction(policy.shadowEnabled, scope.runtime)
  const forwardsOthers = policy.forwardNotMatchingPreflights ?? true
  const originValid = scope.metrics.counter(`${scope.statPrefix}cors.origin_valid`)
  const originInvalid = scope.metrics.counter(`${scope.statPrefix}cors.origin_invalid`)

  const filter: HttpFilter<CorsState> = {
    createState: () => ({ allowedOrigin: '' }),

    onRequestHeaders(stream, _end, state): Next {
      // Redirects and direct responses are left alone, as Envoy documents.
      if (stream.route === undefined || stream.route.cluster === '') return
      // Repeated Origin fields become one value, which then matches nothing exactly.
      const origin = stream.request.join('origin')
      if (origin === undefined || origin === '') return
      const enabled = isEnabled(stream.random)
      if (!enabled && !isShadowed(stream.random)) return
      const allowed = isAllowed(origin)
      if (allowed) originValid.v++
      else originInvalid.v++
      if (!enabled) return
      if (allowed) state.allowedOrigin = origin
      if (!isPreflight(stream) || (!allowed && forwardsOthers)) return
      return answerPreflight(stream, policy, state)
    },

    onResponseHeaders(stream, _end, state): Next {
      if (state.allowedOrigin !== '') allowReading(stream.response, policy, state)
    },
  }
  return Object.freeze(filter) as HttpFilter<unknown>
}

function compileOrigins(policy: CorsPolicy): (origin: string) => boolean {
  const matchers = policy.allowOrigins.map(compileString)
  // A matcher that takes the text `*` stands for every origin.
  if (matchers.some((matches) => matches('*'))) return () => true
  return (origin) => {
    for (const matches of matchers) if (matches(origin)) return true
    return false
  }
}

function isPreflight(stream: HttpStream): boolean {
  if (stream.head.method !== 'OPTIONS') return false
  const method = stream.request.get('access-control-request-method')
  return method !== undefined && method !== ''
}

function answerPreflight(stream: HttpStream, policy: CorsPolicy, state: CorsState): Replied {
  const { request } = stream
  const headers: string[] = []
  const add = (name: string, value: string | undefined): void => {
    if (value !== undefined && value !== '') headers.push(name, value)
  }
  add('access-control-allow-origin', state.allowedOrigin)
  if (policy.allowCredentials === true) add('access-control-allow-credentials', 'true')
  // `*` is not sent but made concrete: browsers take it literally for requests with credentials.
  add('access-control-allow-methods', concrete(policy.allowMethods, request, 'access-control-request-method'))
  add('access-control-allow-headers', concrete(policy.allowHeaders, request, 'access-control-request-headers'))
  add('access-control-max-age', policy.maxAge)
  if (policy.allowPrivateNetworkAccess && request.get('access-control-request-private-network') === 'true') {
    add('access-control-allow-private-network', 'true')
  }
  return stream.reply({ status: 200, headers, details: 'cors_response', grpcStatus: 0 })
}

function concrete(configured: string, request: Headers, asked: string): string | undefined {
  return configured === '*' ? request.join(asked) : configured
}

function allowReading(response: Headers, policy: CorsPolicy, state: CorsState): void {
  response.set('access-control-allow-origin', state.allowedOrigin)
  if (policy.allowCredentials === true) response.set('access-control-allow-credentials', 'true')
  if (policy.exposeHeaders !== '') response.set('access-control-expose-headers', policy.exposeHeaders)
}
