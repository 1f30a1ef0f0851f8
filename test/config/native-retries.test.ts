import t from 'tap'
import { createFilterRegistry } from '../../lib/chain/registry.ts'
import { readNativeConfig } from '../../lib/config/native/read.ts'
import { ConfigRefused } from '../../lib/core/errors.ts'
import type { RouteActionConfig } from '../../lib/router/config.ts'
import { routerFactory } from '../../lib/router/router.ts'
import { managerOf, tableOf } from '../support/chains.ts'

const registry = createFilterRegistry([routerFactory])

/** A gateway with one route to one cluster, with these settings of retries. */
function config(settings: { route?: object; host?: object; cluster?: object }): object {
  const route = { match: {}, action: { kind: 'route', cluster: 'web', ...settings.route } }
  return {
    listeners: [
      {
        name: 'main',
        address: '127.0.0.1:0',
        http: { virtualHosts: [{ name: 'all', domains: ['*'], routes: [route], ...settings.host }] },
      },
    ],
    clusters: [{ name: 'web', endpoints: ['127.0.0.1:1'], ...settings.cluster }],
  }
}

function mistakes(settings: Parameters<typeof config>[0]): string[] {
  try {
    readNativeConfig(config(settings), { registry })
    return []
  } catch (error) {
    if (!(error instanceof ConfigRefused)) throw error
    return error.errors.map(String)
  }
}

const DEFAULTS = { retries: 1, backOff: { baseMs: 25, maxMs: 250 }, selectionAttempts: 1 }

t.test('retries of routes, virtual hosts and clusters are read with their defaults', (t) => {
  const read = readNativeConfig(
    config({
      route: {
        hedge: true,
        retry: {
          on: ['5xx', 'unavailable'],
          retries: 4,
          perTryTimeoutMs: 300,
          perTryIdleTimeoutMs: 0,
          statuses: [429],
          responseHeaders: [{ name: 'X-Again' }],
          requestHeaders: [{ name: ':method', value: 'GET' }],
          backOff: { baseMs: 10 },
          resetBackOff: { headers: [{ name: 'Retry-After' }, { name: 'X-Reset', format: 'unix-timestamp' }] },
          avoid: { previous: true, labels: [{ stage: 'old' }] },
          selectionAttempts: 3,
          otherPriorities: true,
          otherClusters: true,
        },
      },
      host: { retry: { on: ['reset'] }, hedge: false, includeTimeoutRetry: true },
      cluster: {
        retryPolicy: { on: ['connect-failure'], otherPriorities: 2 },
        thresholds: { default: { retryBudget: { percent: 12.5, minConcurrency: 2 } } },
      },
    }),
    { registry },
  )
  const [host] = tableOf(managerOf(read.listeners[0])).virtualHosts
  const action = host.routes[0].action as RouteActionConfig
  t.same(action.retry, {
    on: ['5xx', 'unavailable'],
    retries: 4,
    perTryTimeoutMs: 300,
    statuses: [429],
    responseHeaders: [{ name: 'x-again', match: { kind: 'present', present: true } }],
    requestHeaders: [{ name: ':method', match: { kind: 'string', string: { kind: 'exact', value: 'GET' } } }],
    backOff: { baseMs: 10, maxMs: 100 },
    resetBackOff: {
      headers: [
        { name: 'retry-after', format: 'seconds' },
        { name: 'x-reset', format: 'unix-timestamp' },
      ],
      maxMs: 300_000,
    },
    avoid: { previous: true, labels: [{ stage: 'old' }] },
    selectionAttempts: 3,
    otherPriorities: { updateFrequency: 1 },
    otherClusters: true,
  })
  t.same(action.hedge, { onPerTryTimeout: true })
  t.same(host.retry, { on: ['reset'], ...DEFAULTS })
  t.same(host.hedge, { onPerTryTimeout: false })
  t.equal(host.includeTimeoutRetry, true)
  const [cluster] = read.clusters
  t.same(cluster.retryPolicy, { on: ['connect-failure'], ...DEFAULTS, otherPriorities: { updateFrequency: 2 } })
  t.match(cluster.thresholds.default, { maxRetries: 3, retryBudget: { percent: 12.5, minConcurrency: 2 } })
  t.notOk('retryBudget' in cluster.thresholds.high)
  t.end()
})

t.test('what requests are hashed and counted by', (t) => {
  const header = { kind: 'header', name: 'X-User' } as const
  const limits = [
    { by: [{ header: 'X-User' }, { key: 'plan', value: 'free' }] },
    { by: [{ client: 'address' }, { client: { v4Bits: 24 } }, { query: 'q' }], stage: 2 },
  ]
  const read = readNativeConfig(
    config({ route: { rateLimits: limits }, host: { rateLimits: [limits[0]] }, cluster: { hashPolicies: [header] } }),
    { registry },
  )
  const [host] = tableOf(managerOf(read.listeners[0])).virtualHosts
  const user = { kind: 'request-header', name: 'x-user', key: 'header x-user', skipIfAbsent: false }
  const first = { actions: [user, { kind: 'generic-key', key: 'plan', value: 'free' }] }
  t.same((host.routes[0].action as RouteActionConfig).rateLimits, [
    first,
    {
      actions: [
        { kind: 'remote-address' },
        { kind: 'masked-remote-address', v4Bits: 24, v6Bits: 128 },
        { kind: 'query-parameter', name: 'q', key: 'query q', skipIfAbsent: false },
      ],
      stage: 2,
    },
  ])
  t.same(host.rateLimits, [first])
  t.same(read.clusters[0].hashPolicies, [{ kind: 'header', name: 'x-user' }])
  const of = (rateLimits: unknown): string => mistakes({ route: { rateLimits } }).join('\n')
  t.match(of([{ by: [] }]), /rateLimits\[0\]\.by/)
  t.match(of([{ by: [{ key: 'a' }] }]), /by\[0\]\.value/)
  t.match(of([{ by: [{ client: 'name' }] }]), /by\[0\]\.client/)
  t.match(of([{ by: [{ header: 'a' }], stage: 11 }]), /stage/)
  const rewrite = { regex: '(', substitution: '' }
  t.match(mistakes({ cluster: { hashPolicies: [{ ...header, rewrite }] } }).join(), /hashPolicies\[0\]\.rewrite\.regex/)
  t.end()
})

t.test('mistakes in retries are told with their place', (t) => {
  const of = (retry: object): string => mistakes({ route: { retry } }).join('\n')
  t.match(of({ on: ['6xx'] }), /action\.retry\.on\[0\]/)
  t.match(of({ on: [], retries: -1 }), /action\.retry\.retries/)
  t.match(of({ on: [], backOff: { baseMs: 100, maxMs: 50 } }), /retry\.backOff\.maxMs: must not be less than baseMs/)
  t.match(of({ on: [], statuses: [99] }), /retry\.statuses\[0\]/)
  t.match(of({ on: [], otherPriorities: 0 }), /retry\.otherPriorities/)
  t.match(of({}), /retry\.on/)
  t.match(
    mistakes({ cluster: { thresholds: { high: { retryBudget: { percent: 101, minConcurrency: 1 } } } } }).join('\n'),
    /thresholds\.high\.retryBudget\.percent/,
  )
  t.end()
})
