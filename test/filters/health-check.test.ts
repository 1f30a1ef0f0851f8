import t from 'tap'
import { healthCheck } from '../../filters/health-check/index.ts'
import type { JsonObject } from '../../lib/core/errors.ts'
import { FAILURES, flagBit } from '../../lib/core/failure.ts'
import { build, type Driven, drive, lines, parseJson, type ScopeOptions, testScope } from '../support/chain-driver.ts'

const ON_PATH = { headers: [{ name: ':path', string_match: { exact: '/healthz' } }] }
const CHECK = { head: { path: '/healthz' } }

function through(
  config: JsonObject,
  more: Partial<Parameters<typeof drive>[0]> = {},
  scope: ScopeOptions = {},
): Driven {
  return drive({
    filters: [build(healthCheck, { ...ON_PATH, ...config }, { scope: testScope(scope) })],
    ...CHECK,
    ...more,
  })
}

function verdict(driven: Driven): unknown {
  const { status, headers } = driven.downstream
  const { details, flags } = driven.exchange.info
  return {
    status,
    details,
    failed: (flags & flagBit('LH')) !== 0,
    immediate: headers.has('x-envoy-immediate-health-check-fail'),
  }
}

t.test('outside pass-through mode it answers health checks itself and marks them for the log', async (t) => {
  const driven = through({ pass_through_mode: false })
  t.same(verdict(driven), { status: 200, details: 'health_check_ok', failed: false, immediate: false })
  t.same(lines(driven.downstream.headers), ['content-length: 0', 'x-envoy-upstream-healthchecked-cluster: edge'])
  t.equal(driven.upstream.begun, 0)
  t.equal(driven.exchange.filterState.get('health_check'), true)
  const failing = through({ pass_through_mode: false }, {}, { serving: () => false })
  t.same(verdict(failing), { status: 503, details: 'health_check_failed', failed: true, immediate: false })
})

t.test('a health check is what all header matchers match', async (t) => {
  const headers: JsonObject[] = [
    ...ON_PATH.headers,
    { name: 'user-agent', prefix_match: 'LB' },
    { name: 'x-real', present_match: false },
  ]
  const answered = (request: readonly string[], path = '/healthz'): boolean =>
    through({ pass_through_mode: false, headers }, { head: { path }, request }).upstream.begun === 0
  t.ok(answered(['user-agent', 'LB/2']))
  t.notOk(answered(['user-agent', 'LB/2'], '/other'))
  t.notOk(answered([]))
  t.notOk(answered(['user-agent', 'LB/2', 'x-real', '1']))
  const every = through({ pass_through_mode: false, headers: [] }, { head: { path: '/any' } })
  t.equal(every.upstream.begun, 0, 'without matchers every request is one')
})

t.test('other requests pass, and tell that the gateway is failing', async (t) => {
  for (const serving of [true, false]) {
    const driven = through({ pass_through_mode: false }, { head: { path: '/' } }, { serving: () => serving })
    driven.upstream.respond(200)
    t.equal(driven.downstream.headers.get('x-envoy-immediate-health-check-fail'), serving ? undefined : 'true')
    t.equal(driven.exchange.filterState.get('health_check'), undefined)
  }
})

t.test('clusters must have the share of healthy and degraded hosts that is asked for', async (t) => {
  const asked = { a: { value: 50 }, b: { value: 33.9 } }
  const answer = (health: ScopeOptions['health'], percentages: JsonObject = asked): unknown => {
    const config = { pass_through_mode: false, cluster_min_healthy_percentages: percentages }
    const driven = through(config, {}, { health })
    return [driven.downstream.status, driven.exchange.info.details]
  }
  const good = { healthy: 1, degraded: 1, total: 4 }
  const third = { healthy: 33, degraded: 0, total: 100 }
  t.same(answer({ a: good, b: third }), [200, 'health_check_ok_cluster_healthy'])
  t.same(answer({ a: { ...good, degraded: 0 }, b: third }), [503, 'health_check_failed_cluster_unhealthy'])
  t.same(answer({ a: good, b: { ...third, healthy: 32 } }), [503, 'health_check_failed_cluster_unhealthy'])
  t.same(answer({ a: good }), [503, 'health_check_failed_no_cluster_found'])
  const empty = { healthy: 0, degraded: 0, total: 0 }
  t.same(answer({ a: empty, b: third }), [503, 'health_check_failed_cluster_empty'])
  t.same(answer({ a: empty }, { a: { value: 0 } }), [200, 'health_check_ok_cluster_healthy'])
})

t.test('in pass-through mode the upstream answers, unless the gateway is failing', async (t) => {
  const driven = through({ pass_through_mode: true })
  driven.upstream.respond(418)
  t.equal(driven.downstream.status, 418)
  t.equal(driven.exchange.filterState.get('health_check'), true)
  const failing = through({ pass_through_mode: true, cache_time: '1s' }, {}, { serving: () => false })
  t.same(verdict(failing), { status: 503, details: 'health_check_failed', failed: true, immediate: false })
  t.equal(failing.upstream.begun, 0)
})

t.test('an answer is remembered for the cache time, and its repetition does not prolong it', async (t) => {
  const scope = testScope()
  const filters = [build(healthCheck, { ...ON_PATH, pass_through_mode: true, cache_time: '2s' }, { scope })]
  const check = (): Driven => drive({ filters, ...CHECK })
  const first = check()
  first.upstream.respond(200, ['x-envoy-degraded', '', 'server', 's'])
  scope.clock.advance(1_500)
  const second = check()
  t.equal(second.upstream.begun, 0)
  t.same(verdict(second), { status: 200, details: 'health_check_cached', failed: false, immediate: false })
  t.same(lines(second.downstream.headers), [
    'x-envoy-degraded: ',
    'content-length: 0',
    'x-envoy-upstream-healthchecked-cluster: edge',
  ])
  scope.clock.advance(500)
  const third = check()
  t.equal(third.upstream.begun, 1, 'asked again')
  third.exchange.upstreamFailed(FAILURES.connectFailed)
  t.same(verdict(check()), { status: 503, details: 'health_check_cached', failed: true, immediate: false })
  const other = drive({ filters, head: { path: '/' } })
  other.upstream.respond(200)
  t.equal(check().downstream.status, 503, 'other responses are not remembered')
})

t.test('without a cache time every check is passed on', async (t) => {
  const filters = [build(healthCheck, { ...ON_PATH, pass_through_mode: true })]
  for (let i = 0; i < 2; i++) {
    const driven = drive({ filters, ...CHECK })
    t.equal(driven.upstream.begun, 1)
    driven.upstream.respond(200)
  }
})

t.test('mistakes are found', async (t) => {
  const errors = (value: JsonObject): string[] => parseJson(value, (fields) => healthCheck.parse(fields)).errors
  t.same(errors({}), ['pass_through_mode: is required'])
  t.same(errors({ pass_through_mode: false, cache_time: '1s' }), [
    'cache_time: must not be set unless pass_through_mode is on',
  ])
  t.same(
    errors({
      pass_through_mode: true,
      endpoint: '/x',
      headers: [{ string_match: { exact: 'x' } }, { name: 'x', wish: 1 }],
      cluster_min_healthy_percentages: { a: { value: 101 } },
    })
      .map((error) => error.slice(0, error.indexOf(': ')))
      .sort(),
    ['cluster_min_healthy_percentages["a"].value', 'endpoint', 'headers[0].name', 'headers[1].wish'],
  )
})
