import t from 'tap'
import { parseForwardProxy, parseHostRewrite } from '../../filters/dynamic-forward-proxy/config.ts'
import { dynamicForwardProxy } from '../../filters/dynamic-forward-proxy/index.ts'
import type { HttpFilter } from '../../lib/chain/filter.ts'
import type { Cluster, PickContext } from '../../lib/core/attempt.ts'
import type { JsonObject } from '../../lib/core/errors.ts'
import { FAILURES, type Failure } from '../../lib/core/failure.ts'
import { build, drive, parseJson, type TestScope, testScope } from '../support/chain-driver.ts'
import { settle } from '../support/clock.ts'

const CACHE: JsonObject = { dns_cache_config: { name: 'c' } }

type Found = Failure | undefined | Promise<Failure | undefined>

interface Lab {
  readonly asked: PickContext[]
  readonly scope: TestScope
}

/** A scope whose cluster `c` answers `found` when it is asked to find a host. */
function lab(found: () => Found, forwards = true): Lab {
  const asked: PickContext[] = []
  const cluster = {
    name: 'c',
    forwards,
    prepare(context: PickContext): Found {
      asked.push(context)
      return found()
    },
    pick: () => ({ addressText: '192.0.2.7:80' }),
  } as unknown as Cluster
  return { asked, scope: { ...testScope(), clusters: { get: (name) => (name === 'c' ? cluster : undefined) } } }
}

function filter(config: JsonObject, { scope }: Lab, ...levels: readonly JsonObject[]): HttpFilter<unknown> | undefined {
  return build(dynamicForwardProxy, config, { scope, levels })
}

t.test('a request goes on when its host is known, at once or later', async (t) => {
  const at = lab(() => undefined)
  t.equal(drive({ filters: [filter(CACHE, at)] }).upstream.begun, 1)
  t.equal(at.asked[0].authority, 'a.test')
  const wait = Promise.withResolvers<Failure | undefined>()
  const later = drive({
    filters: [
      filter(
        CACHE,
        lab(() => wait.promise),
      ),
    ],
  })
  t.equal(later.upstream.begun, 0)
  wait.resolve(undefined)
  await settle()
  t.equal(later.upstream.begun, 1)
})

t.test('clusters of other types are left alone, and so are routes without a cluster', async (t) => {
  const other = lab(() => FAILURES.dnsFailed, false)
  const rewrite = { host_rewrite_literal: 'b.test' }
  const driven = drive({ filters: [filter(CACHE, other, rewrite)] })
  t.equal(driven.upstream.begun, 1)
  t.equal(driven.exchange.head.authority, 'a.test')
  t.equal(other.asked.length, 0)
  t.equal(drive({ filters: [filter(CACHE, other)], route: undefined }).upstream.begun, 1)
})

t.test('what cannot be found is answered in the words of Envoy', async (t) => {
  const cases: readonly (readonly [Failure, string, string])[] = [
    [FAILURES.dnsFailed, 'DNS resolution failure', 'dns_resolution_failure'],
    [FAILURES.dnsCacheOverflow, 'DNS cache overflow', 'dns_cache_overflow'],
    [
      FAILURES.dnsPendingOverflow,
      'Dynamic forward proxy pending request overflow',
      'dynamic_forward_proxy_pending_request_overflow',
    ],
    [FAILURES.subClusterOverflow, 'Sub cluster overflow', 'sub_cluster_overflow'],
  ]
  for (const [failure, body, details] of cases) {
    for (const found of [failure, Promise.resolve(failure)]) {
      const driven = drive({
        filters: [
          filter(
            CACHE,
            lab(() => found),
          ),
        ],
      })
      await settle()
      t.equal(driven.downstream.status, 503)
      t.equal(driven.downstream.body, body)
      t.equal(driven.exchange.info.details, details)
      t.equal(driven.upstream.begun, 0)
    }
  }
  const unnamed = drive({
    filters: [
      filter(
        CACHE,
        lab(() => FAILURES.noHealthyHost),
      ),
    ],
  })
  t.equal(unnamed.upstream.begun, 1, 'the rest is for the router to say')
})

t.test('the most specific route says which host it is', async (t) => {
  const host = (levels: readonly JsonObject[], request: readonly string[] = []): string => {
    const driven = drive({
      filters: [
        filter(
          CACHE,
          lab(() => undefined),
          ...levels,
        ),
      ],
      request,
    })
    return driven.exchange.head.authority
  }
  t.equal(host([{ host_rewrite_literal: 'b.test:81' }]), 'b.test:81')
  t.equal(host([{ host_rewrite_literal: 'b.test' }, { host_rewrite_header: 'X-To' }], ['x-to', 'c.test']), 'c.test')
  t.equal(host([{ host_rewrite_header: 'x-to' }]), 'a.test', 'a request without the field keeps its host')
})

t.test('filter state names the host where it may, and learns the address where it is wanted', async (t) => {
  const plain = lab(() => undefined)
  const driven = drive({ filters: [filter(CACHE, plain)] })
  t.equal(plain.asked[0].filterState, undefined)
  t.equal(driven.exchange.filterState.get('envoy.stream.upstream_address'), undefined)
  const told = lab(() => undefined)
  const config = { ...CACHE, allow_dynamic_host_from_filter_state: true, save_upstream_address: true }
  const saved = drive({ filters: [filter(config, told)] })
  t.equal(told.asked[0].filterState, saved.exchange.filterState)
  t.equal(saved.exchange.filterState.get('envoy.stream.upstream_address'), '192.0.2.7:80')
})

t.test('a cluster of its own is waited for as long as the filter says', async (t) => {
  const at = lab(() => new Promise(() => undefined))
  const driven = drive({ filters: [filter({ sub_cluster_config: { cluster_init_timeout: '2s' } }, at)] })
  at.scope.clock.advance(1_999)
  await settle()
  t.equal(driven.downstream.status, 0)
  at.scope.clock.advance(1)
  await settle()
  t.equal(driven.downstream.status, 503)
  t.equal(driven.downstream.body, 'Sub cluster warming timeout')
  t.equal(driven.exchange.info.details, 'sub_cluster_warming_timeout')
  const inTime = Promise.withResolvers<undefined>()
  const other = lab(() => inTime.promise)
  const served = drive({ filters: [filter({ sub_cluster_config: {} }, other)] })
  inTime.resolve(undefined)
  await settle()
  t.equal(served.upstream.begun, 1)
  t.equal(other.scope.clock.pending, 0, 'nothing is left of the wait')
})

t.test('a request whose cluster is replaced while it waits goes on with the successor', async (t) => {
  const before = Promise.withResolvers<Failure | undefined>()
  const after = Promise.withResolvers<Failure | undefined>()
  const [old, young] = [lab(() => before.promise), lab(() => after.promise)]
  let live = old
  const scope = { ...old.scope, clusters: { get: (name: string) => live.scope.clusters.get(name) } }
  const driven = drive({ filters: [filter(CACHE, { ...old, scope })] })
  live = young
  // As it is told to those who wait when a cluster retires.
  before.resolve(FAILURES.dnsFailed)
  await settle()
  t.equal(driven.downstream.status, 0)
  t.equal(young.asked.length, 1)
  after.resolve(undefined)
  await settle()
  t.equal(driven.upstream.begun, 1)
})

t.test('a client that leaves while its host is looked up is forgotten', async (t) => {
  const wait = Promise.withResolvers<Failure | undefined>()
  const driven = drive({
    filters: [
      filter(
        CACHE,
        lab(() => wait.promise),
      ),
    ],
  })
  driven.clientGone()
  wait.resolve(FAILURES.dnsFailed)
  await settle()
  t.equal(driven.upstream.begun, 0)
  t.equal(driven.ends(), 1)
  t.same(driven.errors, [])
})

t.test('mistakes have their places', async (t) => {
  const errors = (config: JsonObject): readonly string[] => parseJson(config, parseForwardProxy).errors
  t.same(errors({ dns_cache_config: {} }), ['dns_cache_config.name: must not be empty'])
  t.same(errors({ sub_cluster_config: { cluster_init_timeout: '0s' } }), [
    'sub_cluster_config.cluster_init_timeout: must be longer than 0',
  ])
  t.match(errors({ max_hosts: 1 }), [/max_hosts/])
  const rewrite = (config: JsonObject): readonly string[] => parseJson(config, parseHostRewrite).errors
  t.same(rewrite({ host_rewrite_literal: 'a b' }), [
    'host_rewrite_literal: "a b" holds a character that a host may not',
  ])
})
