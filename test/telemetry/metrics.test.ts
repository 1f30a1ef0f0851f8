import assert from 'node:assert/strict'
import t from 'tap'
import { ConfigError } from '../../lib/core/errors.ts'
import type { MetricsChange } from '../../lib/core/status.ts'
import { StatsStore } from '../../lib/runtime/stats-store.ts'
import { HISTOGRAM_BOUNDS, type MetricsSnapshot, MetricsStore } from '../../lib/telemetry/metrics.ts'
import { PERCENTILES, percentile } from '../../lib/telemetry/percentiles.ts'
import { PrometheusRenderer } from '../../lib/telemetry/prometheus.ts'
import { compileStatFilter, type StatSelection } from '../../lib/telemetry/stat-filter.ts'
import { renderStatsJson, renderStatsText } from '../../lib/telemetry/stats-text.ts'
import { extractTags } from '../../lib/telemetry/tags.ts'

async function collect(chunks: AsyncGenerator<string, void, void>): Promise<string> {
  let out = ''
  for await (const chunk of chunks) out += chunk
  return out
}

function prometheus(snapshot: MetricsSnapshot, selection?: StatSelection): Promise<string> {
  return collect(new PrometheusRenderer().render(snapshot, selection))
}

/** Of a store with few cells: it comes in one piece. */
function changeOf(store: MetricsStore, full: boolean): MetricsChange {
  const pieces = [...store.changes(full)].filter((piece) => piece !== undefined)
  assert.equal(pieces.length, 1)
  return pieces[0]
}

t.test('a name always gives the same cell', async (t) => {
  const store = new MetricsStore()
  const counter = store.counter('cluster.web.upstream_rq_total')
  counter.v++
  store.counter('cluster.web.upstream_rq_total').v++
  store.gauge('server.live').v = 1
  store.histogram('h').record(3)
  store.histogram('h').record(4)
  t.equal(counter.v, 2)
  const snapshot = store.snapshot()
  t.same(snapshot.counters, [['cluster.web.upstream_rq_total', 2]])
  t.same(snapshot.gauges, [['server.live', 1]])
  t.equal(snapshot.histograms[0].count, 2)
  t.equal(snapshot.histograms[0].sum, 7)
  // A name that is a property of every object is a name like others.
  store.counter('__proto__').v = 5
  t.same(store.snapshot().counters[1], ['__proto__', 5])
})

t.test('a change carries only what has changed, counters as differences', async (t) => {
  const store = new MetricsStore()
  const none = {
    full: false,
    gone: [],
    counters: [],
    gauges: [],
    histograms: [],
    tables: [],
    declared: [],
    undeclared: [],
  }
  const a = store.counter('a')
  a.v = 1
  store.counter('zero')
  const g = store.gauge('g')
  g.v = 5
  const h = store.histogram('h')
  h.record(3)
  const first = changeOf(store, true)
  t.strictSame(first.counters, [
    ['a', 1],
    ['zero', 0],
  ])
  t.strictSame(first.gauges, [['g', 5]])
  t.equal(first.histograms[0].count, 1)
  t.equal(first.full, true)
  t.strictSame(changeOf(store, false), none)
  a.v = 4
  store.gauge('n')
  h.record(700)
  h.record(0)
  const second = changeOf(store, false)
  t.strictSame(second.counters, [['a', 3]])
  t.strictSame(second.gauges, [['n', 0]])
  t.strictSame([second.histograms[0].count, second.histograms[0].sum], [2, 700])
  t.equal(second.histograms[0].cumulative.at(-1), 2)
  h.record(0)
  t.equal(changeOf(store, false).histograms[0].count, 1, 'a value of 0 is a value')
  g.v = 0
  t.strictSame(changeOf(store, false).gauges, [['g', 0]])
  t.strictSame(changeOf(store, true).counters, [
    ['a', 4],
    ['zero', 0],
  ])
})

t.test('names are gone with the last user of their group, and only those that were told of', async (t) => {
  const store = new MetricsStore()
  const group = store.group('cluster.x')
  const same = store.group('cluster.x')
  group.counter('cluster.x.rq').v = 2
  t.strictSame(changeOf(store, true).counters, [['cluster.x.rq', 2]])
  group.gauge('cluster.x.never told')
  group.release()
  t.strictSame(changeOf(store, false).gone, [])
  same.release()
  t.strictSame(changeOf(store, false).gone, ['cluster.x.rq', 'cluster.x.never told'])
  t.strictSame(changeOf(store, false).gone, [])
  // Back before anybody was told that it went: nothing is gone, and it begins at nothing.
  const again = store.group('cluster.x')
  again.counter('cluster.x.rq').v = 7
  changeOf(store, false)
  again.release()
  const back = store.group('cluster.x')
  back.counter('cluster.x.rq').v = 1
  const { counters, gone } = changeOf(store, false)
  t.strictSame([counters, gone], [[['cluster.x.rq', 1]], []])
})

t.test('declared names show with the value 0, cost no cells, and go with their group', async (t) => {
  const store = new MetricsStore()
  const names = { counters: ['rq', 'cx'], gauges: ['active'], histograms: ['time'] }
  const group = store.group('cluster.x')
  group.declare?.('cluster.x.', names)
  group.counter('cluster.x.rq').v = 3
  const { counters, gauges, histograms } = store.snapshot()
  t.strictSame(Object.fromEntries([...counters, ...gauges]), {
    'cluster.x.rq': 3,
    'cluster.x.cx': 0,
    'cluster.x.active': 0,
  })
  t.strictSame(
    histograms.map(({ name, count, bounds }) => [name, count, bounds]),
    [['cluster.x.time', 0, HISTOGRAM_BOUNDS]],
  )
  const told = changeOf(store, true)
  t.strictSame([told.tables, told.declared], [[[0, names]], [['cluster.x.', 0]]])
  store.declare('cluster.y.', names)
  const more = changeOf(store, false)
  t.strictSame([more.tables, more.declared, more.undeclared], [[], [['cluster.y.', 0]], []])
  group.release()
  t.strictSame(changeOf(store, false).undeclared, ['cluster.x.'])
  t.strictSame(changeOf(store, true).declared, [['cluster.y.', 0]])
})

t.test('what is declared twice behind one prefix shows, both of it', async (t) => {
  const store = new MetricsStore()
  const one = { counters: ['rq'], gauges: [], histograms: [] }
  const two = { counters: ['ejected'], gauges: ['active'], histograms: [] }
  for (const prefix of ['cluster.x.', 'cluster.y.']) {
    store.declare(prefix, one)
    store.declare(prefix, two)
    store.declare(prefix, one)
  }
  const { tables, declared } = changeOf(store, true)
  t.strictSame(
    declared.map(([prefix]) => prefix),
    ['cluster.x.', 'cluster.y.'],
  )
  t.equal(declared[0][1], declared[1][1], 'and it is one table for all who have both')
  t.ok(tables.length <= 2)
  t.strictSame(store.snapshot().counters, [
    ['cluster.x.rq', 0],
    ['cluster.x.ejected', 0],
    ['cluster.y.rq', 0],
    ['cluster.y.ejected', 0],
  ])
})

t.test('histogram bounds are inclusive, and every value falls into its bucket', async (t) => {
  for (let i = 0; i < HISTOGRAM_BOUNDS.length; i++) {
    for (const [value, bucket] of [
      [HISTOGRAM_BOUNDS[i], i],
      [HISTOGRAM_BOUNDS[i] * 1.0001, i + 1],
    ]) {
      const store = new MetricsStore()
      store.histogram('h').record(value)
      const { cumulative, count } = store.snapshot().histograms[0]
      t.equal(count, 1)
      t.same(
        cumulative,
        HISTOGRAM_BOUNDS.map((_, at) => (at >= bucket ? 1 : 0)),
        `${value}`,
      )
    }
  }
  const store = new MetricsStore()
  const histogram = store.histogram('h')
  for (const value of [0, -1, Number.NaN, Number.POSITIVE_INFINITY]) histogram.record(value)
  t.equal(store.snapshot().histograms[0].count, 1, 'only 0 counts')
  t.equal(store.snapshot().histograms[0].sum, 0)
})

t.test('percentiles are interpolated within their bucket', async (t) => {
  const store = new MetricsStore()
  const histogram = store.histogram('h')
  t.equal(percentile(store.snapshot().histograms[0], 50), undefined)
  for (let i = 1; i <= 100; i++) histogram.record(i)
  const at = (p: number): number => percentile(store.snapshot().histograms[0], p)!
  t.equal(at(0), 0.5)
  t.equal(at(50), 50)
  t.equal(at(75), 75)
  t.equal(at(100), 100)
  // Never decreasing, and never further from the truth than its bucket is wide.
  let last = 0
  for (const p of PERCENTILES) {
    t.ok(at(p) >= last && Math.abs(at(p) - p) <= 50, `P${p}`)
    last = at(p)
  }
  histogram.record(9_000_000)
  t.equal(at(100), 3_600_000, 'beyond the last bound: the last bound')
})

t.test("names and tags follow Envoy's default rules", async (t) => {
  const expected: Record<string, [string, ...string[]]> = {
    'cluster.web.upstream_rq_total': ['cluster.upstream_rq_total', 'cluster_name=web'],
    'cluster.web.upstream_rq_503': ['cluster.upstream_rq', 'response_code=503', 'cluster_name=web'],
    'cluster.web.upstream_rq_2xx': ['cluster.upstream_rq_xx', 'response_code_class=2', 'cluster_name=web'],
    'cluster.web.external.upstream_rq_200': ['cluster.external.upstream_rq', 'response_code=200', 'cluster_name=web'],
    'cluster.a.b.upstream_rq_total': ['cluster.b.upstream_rq_total', 'cluster_name=a'],
    'cluster.web.ssl.ciphers.AES128-SHA': ['cluster.ssl.ciphers', 'ssl_cipher_suite=AES128-SHA', 'cluster_name=web'],
    'cluster.web.ext_authz.waf.ok': ['cluster.ext_authz.ok', 'cluster_name=web', 'ext_authz_prefix=waf'],
    'cluster.web.ext_authz.ok': ['cluster.ext_authz.ok', 'cluster_name=web'],
    'cluster.web.grpc.pkg_Svc.Get.success': [
      'cluster.grpc.success',
      'grpc_bridge_method=Get',
      'grpc_bridge_service=pkg_Svc',
      'cluster_name=web',
    ],
    'http.ingress.downstream_rq_xx': ['http.downstream_rq_xx', 'http_conn_manager_prefix=ingress'],
    'http.ingress.downstream_rq_5xx': [
      'http.downstream_rq_xx',
      'response_code_class=5',
      'http_conn_manager_prefix=ingress',
    ],
    'sds.default/web.cert.update_success': ['sds.update_success', 'xds_resource_name=default/web.cert'],
    'http.ingress.scoped_rds.scopes.a.version': [
      'http.scoped_rds.version',
      'http_conn_manager_prefix=ingress',
      'scoped_rds_config=scopes.a',
    ],
    'cluster_manager.cds.update_rejected': ['cluster_manager.cds.update_rejected'],
    'listener_manager.lds.version': ['listener_manager.lds.version'],
    'control_plane.connected_state': ['control_plane.connected_state'],
    'http.ingress.rds.local.route.update_success': [
      'http.rds.update_success',
      'http_conn_manager_prefix=ingress',
      'rds_route_config=local.route',
    ],
    'http.ingress.user_agent.ios.downstream_cx_total': [
      'http.user_agent.downstream_cx_total',
      'http_user_agent=ios',
      'http_conn_manager_prefix=ingress',
    ],
    'listener.0.0.0.0_8080.downstream_cx_total': ['listener.downstream_cx_total', 'listener_address=0.0.0.0_8080'],
    'listener.[__1]_80.downstream_cx_active': ['listener.downstream_cx_active', 'listener_address=[__1]_80'],
    'listener.web.downstream_cx_total': ['listener.downstream_cx_total', 'listener_address=web'],
    'listener.admin.downstream_cx_total': ['listener.admin.downstream_cx_total'],
    'listener.127.0.0.1_80.http.ingress.downstream_rq_2xx': [
      'listener.http.downstream_rq_xx',
      'response_code_class=2',
      'http_conn_manager_prefix=ingress',
      'listener_address=127.0.0.1_80',
    ],
    'listener.admin.http.admin.downstream_rq_2xx': [
      'listener.admin.http.downstream_rq_xx',
      'response_code_class=2',
      'http_conn_manager_prefix=admin',
    ],
    'listener.127.0.0.1_80.worker_1.downstream_cx_total': [
      'listener.worker_downstream_cx_total',
      'worker_id=1',
      'listener_address=127.0.0.1_80',
    ],
    'listener.127.0.0.1_80.ssl.curves.X25519': [
      'listener.ssl.curves',
      'ssl_curve=X25519',
      'listener_address=127.0.0.1_80',
    ],
    'vhost.shop.vcluster.cart.upstream_rq_total': [
      'vhost.vcluster.upstream_rq_total',
      'virtual_cluster=cart',
      'virtual_host=shop',
    ],
    'vhost.shop.route.r1.upstream_rq_503': [
      'vhost.route.upstream_rq',
      'response_code=503',
      'virtual_host=shop',
      'route=r1',
    ],
    'edge.http_local_rate_limit.ok': ['http_local_rate_limit.ok', 'local_http_ratelimit_prefix=edge'],
    'tcp.db.downstream_cx_total': ['tcp.downstream_cx_total', 'tcp_prefix=db'],
    'server.worker_0.watchdog_miss': ['server.worker_watchdog_miss', 'worker_id=0'],
    'cluster_manager.active_clusters': ['cluster_manager.active_clusters'],
    'cluster.web': ['cluster.web'],
    'server.live': ['server.live'],
  }
  for (const [metric, [name, ...tags]] of Object.entries(expected)) {
    const found = extractTags(metric)
    t.equal(found.name, name, metric)
    t.same(
      found.tags.map(([tag, value]) => `${tag.replace('envoy.', '')}=${value}`),
      tags,
      metric,
    )
  }
})

t.test('Prometheus text: one TYPE line per family, sorted, escaped, with histograms', async (t) => {
  const store = new MetricsStore()
  store.counter('cluster.web.upstream_rq_total').v = 3
  store.counter('cluster.api.upstream_rq_503').v = 1
  store.counter('cluster.a"b\\c\nd.upstream_rq_total').v = 2
  store.counter('http.in-gress.no_route').v = 9
  store.gauge('server.live').v = 1
  store.gauge('cluster.web.membership_healthy').v = 2
  store.histogram('cluster.web.upstream_rq_time').record(0.5)
  store.histogram('cluster.web.upstream_rq_time').record(700)
  store.histogram('cluster.web.upstream_rq_time').record(4e6)
  const counts: Record<number, number> = { 0.5: 1, 1000: 2 }
  let seen = 0
  const buckets = HISTOGRAM_BOUNDS.map((bound) => {
    seen = counts[bound] ?? seen
    return `envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name="web",le="${bound}"} ${seen}`
  })
  t.equal(
    await prometheus(store.snapshot()),
    [
      '# TYPE envoy_cluster_upstream_rq counter',
      'envoy_cluster_upstream_rq{envoy_response_code="503",envoy_cluster_name="api"} 1',
      '# TYPE envoy_cluster_upstream_rq_total counter',
      'envoy_cluster_upstream_rq_total{envoy_cluster_name="web"} 3',
      'envoy_cluster_upstream_rq_total{envoy_cluster_name="a\\"b\\\\c\\nd"} 2',
      '# TYPE envoy_http_no_route counter',
      'envoy_http_no_route{envoy_http_conn_manager_prefix="in-gress"} 9',
      '# TYPE envoy_cluster_membership_healthy gauge',
      'envoy_cluster_membership_healthy{envoy_cluster_name="web"} 2',
      '# TYPE envoy_server_live gauge',
      'envoy_server_live{} 1',
      '# TYPE envoy_cluster_upstream_rq_time histogram',
      ...buckets,
      'envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name="web",le="+Inf"} 3',
      'envoy_cluster_upstream_rq_time_sum{envoy_cluster_name="web"} 4000700.5',
      'envoy_cluster_upstream_rq_time_count{envoy_cluster_name="web"} 3',
      '',
    ].join('\n'),
  )
  t.match(buckets[0], /le="0.5"} 1$/)
})

t.test('usedonly and filter choose series by their dotted names', async (t) => {
  const store = new MetricsStore()
  store.counter('cluster.web.used').v = 1
  store.counter('cluster.web.unused')
  const gauge = store.gauge('cluster.web.gauge')
  store.gauge('cluster.web.never')
  store.histogram('cluster.web.time')
  const renderer = new PrometheusRenderer()
  const scrape = (): Promise<string> => collect(renderer.render(store.snapshot(), { usedOnly: true }))
  gauge.v = 1
  t.match(await scrape(), /envoy_cluster_gauge\{.*} 1/)
  gauge.v = 0
  const second = await scrape()
  t.match(second, /envoy_cluster_gauge\{.*} 0/, 'a gauge that was used stays')
  t.match(second, /envoy_cluster_used\{/)
  t.notMatch(second, /unused|never|time/)

  const filter = compileStatFilter('^cluster\\.web\\.(un)?used$')
  if (filter instanceof ConfigError) throw new Error('the pattern is valid')
  t.equal((await prometheus(store.snapshot(), { filter })).match(/^envoy_/gm)?.length, 2)
  t.match(compileStatFilter('(?<=a)b'), { path: 'filter', message: /invalid regular expression/ }, 'RE2, not V8')
  t.match(await collect(renderStatsText(store.snapshot(), { usedOnly: true, filter })), /^cluster.web.used: 1\n$/)
})

t.test('a scrape of any size lets the event loop turn, and what it cached does not grow for ever', async (t) => {
  const store = new MetricsStore()
  for (let i = 0; i < 10_000; i++) store.counter(`cluster.c${i}.upstream_rq_total`).v = i
  let turns = 0
  let counting = true
  const count = (): void => {
    turns++
    if (counting) setImmediate(count)
  }
  setImmediate(count)
  const renderer = new PrometheusRenderer()
  const chunks: string[] = []
  for await (const chunk of renderer.render(store.snapshot())) chunks.push(chunk)
  counting = false
  t.ok(turns >= 18, 'after every thousand, collecting and writing')
  t.ok(chunks.every((chunk) => chunk.length < 66_000))
  t.equal(chunks.join('').split('\n').length, 10_002)
  // The same renderer after all those clusters have gone.
  const small = new MetricsStore()
  small.counter('cluster.x.upstream_rq_total').v = 1
  t.equal((await collect(renderer.render(small.snapshot()))).split('\n').length, 3)
})

t.test("/stats as text and JSON, as Envoy's", async (t) => {
  const store = new MetricsStore()
  store.counter('b.counter').v = 2
  store.gauge('a.gauge').v = 7
  const histogram = store.histogram('h.time')
  store.histogram('h.empty')
  for (let i = 1; i <= 100; i++) histogram.record(i)
  t.equal(
    await collect(renderStatsText(store.snapshot())),
    'a.gauge: 7\nb.counter: 2\nh.empty: No recorded values\n' +
      'h.time: P0(nan,0.5) P25(nan,25) P50(nan,50) P75(nan,75) P90(nan,90) P95(nan,95) P99(nan,99) P99.5(nan,99.5) ' +
      'P99.9(nan,99.9) P100(nan,100)\n',
  )
  t.match(renderStatsJson(store.snapshot()), {
    stats: [
      { name: 'a.gauge', value: 7 },
      { name: 'b.counter', value: 2 },
      {
        histograms: {
          supported_quantiles: PERCENTILES,
          computed_quantiles: [
            { name: 'h.empty', values: [{ interval: null, cumulative: null }] },
            { name: 'h.time', values: PERCENTILES.map((p) => ({ interval: null, cumulative: p || 0.5 })) },
          ],
        },
      },
    ],
  })
  t.same(renderStatsJson({ counters: [], gauges: [], histograms: [] }), { stats: [] })
})

t.test('changes of many cells come in pieces, between which cells come, go and change', async (t) => {
  const store = new MetricsStore()
  const group = store.group('many')
  const cells = Array.from({ length: 2_500 }, (_, i) => group.counter(`c.${i}`))
  for (let i = 0; i < 1_200; i++) store.gauge(`g.${i}`).v = i
  for (const [i, cell] of cells.entries()) cell.v = i
  const reader = new StatsStore()
  const read = (full: boolean, between: (piece: number) => void = () => {}): number => {
    let pieces = 0
    for (const change of store.changes(full)) {
      if (change === undefined) continue
      reader.add(0, change)
      between(pieces++)
    }
    return pieces
  }
  const pieces = read(true, (piece) => {
    // One that has been told already, one that has not, and one that is new.
    cells[0].v += 10
    cells[2_400].v += 10
    store.counter(`new.${piece}`).v = piece + 1
  })
  t.equal(pieces, 4)
  t.equal(read(false), 1)
  t.strictSame(total(reader), total(store))
  group.release()
  read(false)
  t.strictSame(total(reader), total(store))
  t.equal(read(false), 1, 'where nothing has changed a piece says so')
})

function total(of: { snapshot(): MetricsSnapshot }): readonly [string, number][] {
  const { counters, gauges } = of.snapshot()
  return [...counters, ...gauges].map(([name, v]): [string, number] => [name, v]).sort(([a], [b]) => (a < b ? -1 : 1))
}
