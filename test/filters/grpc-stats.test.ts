import t from 'tap'
import { grpcStats } from '../../filters/grpc-stats/index.ts'
import type { HttpFilter, Route } from '../../lib/chain/filter.ts'
import type { JsonObject } from '../../lib/core/errors.ts'
import { GrpcFrames } from '../../lib/core/grpc-frames.ts'
import { Headers } from '../../lib/core/headers.ts'
import { MAX_METHOD_NAMES, METHOD_NAMES_GAUGE } from '../../lib/telemetry/grpc-method-stats.ts'
import {
  build,
  type Driven,
  type DriveOptions,
  drive,
  parseJson,
  ROUTE,
  type TestScope,
  testScope,
} from '../support/chain-driver.ts'
import { everyFeed, sameHoweverSplit } from '../support/splits.ts'

const GRPC = ['content-type', 'application/grpc']
const HEALTH = { c: { healthy: 1, degraded: 0, total: 1 } }
const CALL = { method: 'POST', path: '/pkg.v1.Greeter/Hello' }

function frame(length: number): Buffer {
  const bytes = Buffer.alloc(5 + length, 7)
  bytes[0] = 0
  bytes.writeUInt32BE(length, 1)
  return bytes
}

interface Setup {
  readonly scope: TestScope
  start(more?: Partial<DriveOptions>): Driven
  /** Cluster counters, the prefix `cluster.c.grpc.` taken off. */
  counted(): Record<string, number>
}

function setup(config: JsonObject, scope: TestScope = testScope({ health: HEALTH })): Setup {
  const filters = [build(grpcStats, config, { scope })]
  return {
    scope,
    start: (more) => drive({ filters, head: CALL, request: GRPC, end: false, bufferLimit: 1 << 20, ...more }),
    counted: () => {
      const own = [...scope.counters].filter(([name]) => name.startsWith('cluster.'))
      return Object.fromEntries(own.map(([name, cell]) => [name.replace('cluster.c.grpc.', ''), cell.v]))
    },
  }
}

/** A call that the upstream answers in full. */
function run(
  driven: Driven,
  status = '0',
  requests: readonly Buffer[] = [],
  responses: readonly Buffer[] = [],
): Driven {
  for (const chunk of requests) driven.exchange.requestData(chunk, false)
  driven.exchange.requestData(Buffer.alloc(0), true)
  const { exchange } = driven.upstream
  exchange?.upstreamHeaders(200, new Headers([...GRPC]), false)
  for (const chunk of responses) exchange?.upstreamData(chunk, false)
  exchange?.upstreamTrailers(new Headers(['grpc-status', status]))
  return driven
}

t.test('frames are found wherever they are cut', async (t) => {
  const body = Buffer.concat([frame(0), frame(3), frame(0), frame(300), frame(1).subarray(0, 4)])
  const found = sameHoweverSplit(body, (pieces) => {
    const frames = new GrpcFrames()
    let begun = 0
    for (const piece of pieces) begun += frames.scan(piece)
    return { begun, count: frames.count, between: frames.between }
  })
  t.same(found, { begun: 5, count: 5, between: false })
  const large = new GrpcFrames()
  large.scan(Buffer.from([1, 0xff, 0xff, 0xff, 0xff]))
  t.equal(large.advance(Buffer.alloc(1000), 0), 1000, 'lengths have 32 bits without a sign')
  t.equal(large.count, 1)
})

t.test('calls are counted per cluster unless methods are named', async (t) => {
  for (const config of [{}, { stats_for_all_methods: false }] as JsonObject[]) {
    const { start, counted } = setup(config)
    run(start(), '0', [frame(3), frame(2)], [frame(9)])
    run(start({ head: { ...CALL, path: '/other/Call?q=1' } }), '14')
    t.same(counted(), {
      total: 2,
      success: 1,
      0: 1,
      failure: 1,
      14: 1,
      request_message_count: 2,
      response_message_count: 1,
    })
  }
})

t.test('messages are counted however bodies are cut, and bodies are not touched', async (t) => {
  const body = Buffer.concat([frame(3), frame(0), frame(40)])
  for (const pieces of everyFeed(body, 3, 30)) {
    const { start, counted } = setup({ emit_filter_state: true })
    const driven = run(start(), '0', pieces, pieces)
    t.same([counted().request_message_count, counted().response_message_count], [3, 3])
    t.same(Buffer.concat(driven.upstream.chunks), body)
    t.same(Buffer.concat(driven.downstream.chunks), body)
    t.equal(driven.downstream.trailers?.get('grpc-status'), '0')
    const state = driven.exchange.filterState.get('envoy.filters.http.grpc_stats')
    t.same(state, { request_message_count: 3, response_message_count: 3 })
  }
  const quiet = run(setup({}).start(), '0', [body], [body])
  t.equal(quiet.exchange.filterState.get('envoy.filters.http.grpc_stats'), undefined)
})

t.test('an allowlist names methods; the others share one set of counters', async (t) => {
  const services = [
    { name: 'pkg.v1.Greeter', method_names: ['Hello', 'Bye'] },
    { name: 'b', method_names: ['M'] },
  ]
  const { start, counted } = setup({
    individual_method_stats_allowlist: { services },
    replace_dots_in_grpc_service_name: true,
  })
  run(start(), '0', [frame(1)])
  run(start({ head: { ...CALL, path: '/pkg.v1.Greeter/Hello?a=/b' } }), '5')
  run(start({ head: { ...CALL, path: '/b/M' } }))
  run(start({ head: { ...CALL, path: '/b/Other' } }))
  const prefix = 'pkg.v1.Greeter.Hello.'
  t.same(counted(), {
    [`${prefix}total`]: 2,
    [`${prefix}success`]: 1,
    [`${prefix}0`]: 1,
    [`${prefix}failure`]: 1,
    [`${prefix}5`]: 1,
    [`${prefix}request_message_count`]: 1,
    'b.M.total': 1,
    'b.M.success': 1,
    'b.M.0': 1,
    total: 1,
    success: 1,
    0: 1,
  })
})

t.test('counters of all methods are named by what is called, dots replaced where asked', async (t) => {
  for (const replaces of [false, true]) {
    const { start, counted } = setup({
      stats_for_all_methods: true,
      replace_dots_in_grpc_service_name: replaces,
    })
    run(start())
    run(start())
    const prefix = replaces ? 'pkg_v1_Greeter.Hello.' : 'pkg.v1.Greeter.Hello.'
    t.same(counted(), { [`${prefix}total`]: 2, [`${prefix}success`]: 2, [`${prefix}0`]: 2 })
  }
})

t.test('clients cannot make counters without end, nor with names that no method has', async (t) => {
  const scope = testScope({ health: HEALTH })
  const first = setup({ stats_for_all_methods: true }, scope)
  for (const path of ['/a b/M', '/a-b/M', '/a/M.x', `/${'a'.repeat(201)}/M`, '/1a/M', '/a/%4d']) {
    run(first.start({ head: { ...CALL, path } }))
  }
  t.same(first.counted(), { total: 6, success: 6, 0: 6 })
  for (let i = 0; i < MAX_METHOD_NAMES + 10; i++) run(first.start({ head: { ...CALL, path: `/s/M${i}` } }))
  t.equal(first.counted()[`s.M${MAX_METHOD_NAMES - 1}.total`], 1)
  t.equal(first.counted()[`s.M${MAX_METHOD_NAMES}.total`], undefined)
  t.equal(first.counted().total, 16)
  // The next snapshot compiles the filter anew.
  const next = setup({ stats_for_all_methods: true }, scope)
  run(next.start({ head: { ...CALL, path: '/s/M0' } }))
  run(next.start({ head: { ...CALL, path: '/s/Fresh' } }))
  t.equal(next.counted()['s.M0.total'], 2, 'what was admitted stays admitted')
  t.equal(next.counted()['s.Fresh.total'], undefined)
  t.equal(scope.metrics.gauge(METHOD_NAMES_GAUGE).v, MAX_METHOD_NAMES)
})

t.test('what is no gRPC call to a known cluster is not counted', async (t) => {
  const { start, counted } = setup({ stats_for_all_methods: true })
  const calls: Partial<DriveOptions>[] = [
    { request: ['content-type', 'application/json'] },
    { request: ['content-type', 'application/grpc-web'] },
    { request: ['content-type', 'application/connect+proto'] },
    { request: [] },
    { head: { ...CALL, path: '/only' } },
    { head: { ...CALL, path: '/a/b/c' } },
    { route: undefined },
    { route: { ...ROUTE, cluster: '' } as Route },
    { route: { ...ROUTE, cluster: 'invented-by-a-header' } as Route },
  ]
  for (const more of calls) run(start(more), '0', [frame(1)], [frame(1)])
  t.same(counted(), {})
})

t.test('statuses are counted once, wherever they stand; what gRPC does not know is a failure', async (t) => {
  const { start, counted } = setup({})
  start().upstream.respond(200, [...GRPC, 'grpc-status', '12'])
  const both = start()
  both.upstream.exchange?.upstreamHeaders(200, new Headers([...GRPC, 'grpc-status', '0']), false)
  both.upstream.exchange?.upstreamTrailers(new Headers(['grpc-status', '0']))
  for (const odd of ['17', '-1', '00', 'x'.repeat(100), '']) run(start(), odd)
  const none = start()
  none.upstream.exchange?.upstreamHeaders(200, new Headers([...GRPC]), false)
  none.upstream.exchange?.upstreamTrailers(new Headers(['x', '1']))
  t.same(counted(), { total: 7, success: 1, 0: 1, failure: 6, 12: 1, other: 5 })
})

t.test('answers of the gateway count, and bodies that are no gRPC have no messages', async (t) => {
  const { start, counted } = setup({})
  const filter: HttpFilter<unknown> = {
    onRequestHeaders: (stream) => stream.reply({ status: 503, body: 'no', details: 'd' }),
  }
  const { scope } = setup({})
  const filters = [build(grpcStats, {}, { scope }), filter]
  drive({ filters, head: CALL, request: GRPC, end: true })
  t.equal(scope.counters.get('cluster.c.grpc.14')?.v, 1)
  const html = start()
  html.upstream.respond(502, ['content-type', 'text/html'], '<html>\0\0\0\0')
  t.same(counted(), { total: 0 })
})

t.test('the time of the upstream is recorded for calls that came to their end', async (t) => {
  const scope = testScope({ health: HEALTH })
  const timed = (driven: Driven, sentMs: number, receivedMs: number): Driven => {
    driven.exchange.info.upstreamLastSentMs = sentMs
    driven.exchange.info.upstreamLastReceivedMs = receivedMs
    return driven
  }
  const { start } = setup({ enable_upstream_stats: true, stats_for_all_methods: true }, scope)
  run(timed(start(), 1000, 1025))
  timed(start(), 1000, 1007).upstream.respond(200, [...GRPC, 'grpc-status', '0'])
  run(timed(start(), 1000, 0))
  timed(start(), 1000, 1001).clientGone()
  const name = 'cluster.c.grpc.pkg.v1.Greeter.Hello.upstream_rq_time'
  t.same(scope.recorded, [
    [name, 25],
    [name, 7],
  ])
  const off = setup({}, testScope({ health: HEALTH }))
  run(timed(off.start(), 1000, 1025))
  t.same(off.scope.recorded, [])
})

t.test('its configuration is read with all its mistakes', async (t) => {
  const good = parseJson(
    {
      emit_filter_state: true,
      enable_upstream_stats: true,
      individual_method_stats_allowlist: { services: [{ name: 's', method_names: ['M'] }] },
    },
    grpcStats.parse,
  )
  t.same(good, {
    value: { emitFilterState: true, methods: [['s', 'M']], upstreamTime: true, replaceDots: false },
    errors: [],
  })
  const bad = parseJson(
    {
      stats_for_all_methods: false,
      individual_method_stats_allowlist: { services: [{ method_names: ['', 'x'] }, { name: 's' }] },
    },
    grpcStats.parse,
  )
  t.same(bad.errors, [
    'individual_method_stats_allowlist and stats_for_all_methods exclude each other',
    'individual_method_stats_allowlist.services[0].name: must not be empty',
    'individual_method_stats_allowlist.services[0].method_names: must not hold an empty name',
    'individual_method_stats_allowlist.services[1].method_names: must name at least one method',
  ])
})
