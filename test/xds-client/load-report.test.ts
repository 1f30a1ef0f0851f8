import { type DescMessage, fromBinary, type Message, toBinary } from '@bufbuild/protobuf'
import { Server, ServerCredentials, type ServerDuplexStream } from '@grpc/grpc-js'
import t, { type Test } from 'tap'
import { systemClock } from '../../lib/core/clock.ts'
import type { JsonObject } from '../../lib/core/errors.ts'
import type { ClusterLoad, HostLoad } from '../../lib/core/status.ts'
import { TimerWheel } from '../../lib/core/timer-wheel.ts'
import { GrpcClient } from '../../lib/grpc/client.ts'
import { ENVOY_HTTP2 } from '../../lib/http2/config.ts'
import { decodeJson } from '../../lib/proto/decode-json.ts'
import { encodeJson } from '../../lib/proto/encode-json.ts'
import { createProtoRegistry } from '../../lib/proto/registry.ts'
import { MetricsStore } from '../../lib/telemetry/metrics.ts'
import { UpstreamCluster } from '../../lib/upstream/cluster.ts'
import { DnsResolvers } from '../../lib/upstream/discovery/dns/resolver.ts'
import { LoadReporter } from '../../xds-client/load-report/reporter.ts'
import { TestClock } from '../support/clock.ts'

/** Load reports to a server that everybody has on Node; reports come when the test moves the clock. */

const registry = createProtoRegistry()
const REQUEST = registry.expect('envoy.service.load_stats.v3.LoadStatsRequest')
const RESPONSE = registry.expect('envoy.service.load_stats.v3.LoadStatsResponse')
const THRESHOLDS = { maxConnections: 1024, maxPendingRequests: 1024, maxRequests: 1024, maxRetries: 3 }
const quiet = { debug() {}, info() {}, warn() {}, error() {} }
const PATIENCE_MS = 10_000

function message(desc: DescMessage, json: JsonObject): Message {
  const decoded = decodeJson(registry, desc, json, '')
  if (decoded.message === undefined || decoded.errors.length > 0) throw new Error(decoded.errors.join('\n'))
  return decoded.message
}

type Stream = ServerDuplexStream<Buffer, Buffer>

interface Lab {
  readonly clock: TestClock
  readonly metrics: MetricsStore
  /** What is handed out next. */
  readonly pending: ClusterLoad[]
  readonly clusters: { name: string; serviceName: string }[]
  readonly reporter: LoadReporter
  figuresFail: boolean
  /** Clients that were asked for. */
  clients: number
  /** So many more are not to be had. */
  refusals: number
  /** The next stream that is opened. */
  stream(): Promise<Stream>
  /** The next message of any stream. */
  request(): Promise<JsonObject>
  answer(stream: Stream, json: JsonObject): void
  /** Moves the clock and waits for the report that follows. */
  report(ms: number): Promise<JsonObject>
  counter(name: string): number
  stopServer(): void
}

class Queue<T> {
  readonly #items: T[] = []
  readonly #waiting: ((item: T) => void)[] = []

  push(item: T): void {
    const next = this.#waiting.shift()
    if (next === undefined) this.#items.push(item)
    else next(item)
  }

  take(what: string): Promise<T> {
    const item = this.#items.shift()
    if (item !== undefined) return Promise.resolve(item)
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`no ${what}`)), PATIENCE_MS)
      this.#waiting.push((found) => {
        clearTimeout(timer)
        resolve(found)
      })
    })
  }

  get length(): number {
    return this.#items.length
  }
}

async function lab(t: Test): Promise<Lab> {
  const streams = new Queue<Stream>()
  const requests = new Queue<JsonObject>()
  const server = new Server()
  const pass = (value: Buffer): Buffer => value
  const path = '/envoy.service.load_stats.v3.LoadReportingService/StreamLoadStats'
  const codecs = {
    requestSerialize: pass,
    requestDeserialize: pass,
    responseSerialize: pass,
    responseDeserialize: pass,
  }
  server.addService(
    { StreamLoadStats: { path, requestStream: true, responseStream: true, ...codecs } },
    {
      StreamLoadStats(stream: Stream) {
        stream.on('error', () => undefined)
        stream.on('data', (bytes: Buffer) => {
          requests.push(encodeJson(registry, REQUEST, fromBinary(REQUEST, bytes)) as JsonObject)
        })
        streams.push(stream)
      },
    },
  )
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, at) =>
      error ? reject(error) : resolve(at),
    ),
  )
  const clock = new TestClock()
  const wheel = new TimerWheel(systemClock)
  const metrics = new MetricsStore()
  const cluster = peer(port, wheel, metrics)
  await cluster.warm()
  const client = new GrpcClient({ cluster: () => cluster, authority: 'lrs', wheel, log: quiet })
  const made: Omit<Lab, 'reporter'> = {
    clock,
    metrics,
    pending: [],
    clusters: [
      { name: 'a', serviceName: 'service-a' },
      { name: 'b', serviceName: '' },
    ],
    figuresFail: false,
    clients: 0,
    refusals: 0,
    stream: () => streams.take('stream'),
    request: () => requests.take('request'),
    answer: (stream, json) => void stream.write(Buffer.from(toBinary(RESPONSE, message(RESPONSE, json)))),
    async report(ms) {
      clock.advance(ms)
      return requests.take('report')
    },
    counter: (name) => metrics.counter(`load_reporter.${name}`).v,
    stopServer: () => server.forceShutdown(),
  }
  const node = message(registry.expect('envoy.config.core.v3.Node'), { id: 'n1', client_features: ['x'] })
  const reporter = new LoadReporter({
    client: () => {
      if (made.refusals > 0) throw new TypeError(`no credentials, ${made.refusals--}`)
      made.clients++
      return client
    },
    registry,
    node,
    figures: async () => {
      if (made.figuresFail) throw new Error('no worker answers')
      return made.pending.splice(0)
    },
    clusters: () => made.clusters,
    clock,
    random: () => 1,
    metrics,
    log: quiet,
  })
  t.teardown(() => {
    reporter[Symbol.dispose]()
    cluster.destroy()
    wheel.close()
    server.forceShutdown()
  })
  reporter.start()
  return Object.assign(made, { reporter })
}

function peer(port: number, wheel: TimerWheel, metrics: MetricsStore): UpstreamCluster {
  const address = { kind: 'ip', host: '127.0.0.1', port } as const
  let connections = 0
  return new UpstreamCluster(
    {
      name: 'lrs',
      statName: 'lrs',
      type: 'static',
      localities: [{ priority: 0, endpoints: [{ address, weight: 1, health: 'healthy' }] }],
      balancer: { kind: 'round-robin' },
      connectTimeoutMs: 5_000,
      bufferLimitBytes: 1 << 20,
      thresholds: { default: THRESHOLDS, high: THRESHOLDS },
      idleTimeoutMs: 3_600_000,
      maxResponseHeaderBytes: 61_440,
      maxResponseHeaders: 100,
      protocol: 'http2',
      http1: { headerCase: 'lower', enableTrailers: false },
      http2: ENVOY_HTTP2,
      preconnectRatio: 1,
    },
    {
      metrics,
      wheel,
      random: Math.random,
      log: quiet,
      dns: new DnsResolvers({ clock: systemClock }),
      nextConnectionId: () => ++connections,
    },
  )
}

function load(name: string, hosts: readonly Partial<HostLoad>[], dropped = 0): ClusterLoad {
  const none = { priority: 0, region: 'r', zone: 'z', subZone: '', issued: 0, success: 0, error: 0, active: 0 }
  return { name, dropped, hosts: hosts.map((host, i) => ({ ...none, address: `10.0.0.${i + 1}:80`, ...host })) }
}

/** Until the reporter has taken the answer in: its requests counter tells. */
async function taken(lab: Lab, answers: number): Promise<void> {
  const until = Date.now() + PATIENCE_MS
  while (lab.counter('requests') < answers && Date.now() < until) await new Promise((resolve) => setImmediate(resolve))
  // The figures that it then asks for come in the next turns.
  for (let i = 0; i < 5; i++) await new Promise((resolve) => setImmediate(resolve))
}

t.test('it says who it is, and reports the clusters that are named as often as it is asked', async (t) => {
  const at = await lab(t)
  const stream = await at.stream()
  t.strictSame(await at.request(), {
    node: { id: 'n1', client_features: ['x', 'envoy.lrs.supports_send_all_clusters'] },
  })
  at.pending.push(load('a', [{ issued: 100, success: 100 }], 100))
  at.answer(stream, { clusters: ['a', 'unknown'], load_reporting_interval: '2.5s' })
  await taken(at, 1)
  at.pending.push(
    load(
      'a',
      [
        { issued: 3, success: 2, active: 1 },
        { issued: 2, success: 1, error: 1, zone: 'y', priority: 1 },
        { issued: 1, success: 1 },
      ],
      4,
    ),
    { name: 'a', dropped: 3, drops: [['shed', 2]], hosts: [] },
    { name: 'a', dropped: 1, drops: [['shed', 1]], hosts: [] },
    load('b', [{ issued: 9 }]),
  )
  t.strictSame(await at.report(2500), {
    cluster_stats: [
      {
        cluster_name: 'a',
        cluster_service_name: 'service-a',
        upstream_locality_stats: [
          {
            locality: { region: 'r', zone: 'z' },
            total_successful_requests: '3',
            total_requests_in_progress: '1',
            total_issued_requests: '4',
          },
          {
            locality: { region: 'r', zone: 'y' },
            total_successful_requests: '1',
            total_error_requests: '1',
            total_issued_requests: '2',
            priority: 1,
          },
        ],
        total_dropped_requests: '8',
        dropped_requests: [{ category: 'shed', dropped_count: '3' }],
        load_report_interval: '2.500s',
      },
    ],
  })
  t.strictSame(await at.report(2500), {
    cluster_stats: [{ cluster_name: 'a', cluster_service_name: 'service-a', load_report_interval: '2.500s' }],
  })
  t.strictSame(
    ['requests', 'responses', 'errors', 'retries'].map((name) => at.counter(name)),
    [1, 3, 0, 0],
  )
})

t.test(
  'a cluster that is named again loses nothing, one that is named anew counts from then, by endpoint if asked',
  async (t) => {
    const at = await lab(t)
    const stream = await at.stream()
    await at.request()
    at.answer(stream, { clusters: ['a'], load_reporting_interval: '10s' })
    await taken(at, 1)
    at.clock.advance(4000)
    at.pending.push(load('a', [{ issued: 1, success: 1 }]), load('b', [{ issued: 5, success: 5 }], 5))
    at.answer(stream, { clusters: ['b', 'a'], load_reporting_interval: '6s', report_endpoint_granularity: true })
    await taken(at, 2)
    at.pending.push(
      load('a', [
        { issued: 2, error: 2 },
        { address: '/run/x', issued: 1, success: 1 },
      ]),
      load('b', [{ issued: 1, success: 1 }]),
    )
    const { cluster_stats } = await at.report(6000)
    t.match(cluster_stats, [
      {
        cluster_name: 'a',
        load_report_interval: '10s',
        upstream_locality_stats: [
          {
            total_issued_requests: '4',
            total_successful_requests: '2',
            total_error_requests: '2',
            upstream_endpoint_stats: [
              {
                address: { socket_address: { address: '10.0.0.1', port_value: 80 } },
                total_issued_requests: '3',
                total_successful_requests: '1',
                total_error_requests: '2',
              },
              { address: { pipe: { path: '/run/x' } }, total_issued_requests: '1' },
            ],
          },
        ],
      },
      { cluster_name: 'b', load_report_interval: '6s', upstream_locality_stats: [{ total_issued_requests: '1' }] },
    ])
  },
)

t.test('requests under way are those of now, also where nobody has told the end of earlier ones', async (t) => {
  const at = await lab(t)
  const stream = await at.stream()
  await at.request()
  const wish = { send_all_clusters: true, load_reporting_interval: '1s' }
  at.answer(stream, wish)
  await taken(at, 1)
  // Taken, but not for a report: the server asks again. Then the worker dies with what it had under way.
  at.pending.push(load('a', [{ issued: 4, active: 4 }]))
  at.answer(stream, wish)
  await taken(at, 2)
  t.match((await at.report(1000)).cluster_stats, [
    {
      cluster_name: 'a',
      upstream_locality_stats: [{ total_issued_requests: '4', total_requests_in_progress: undefined }],
    },
    { cluster_name: 'b' },
  ])
})

t.test('a cluster that comes back is reported from then on, not from before it went', async (t) => {
  const at = await lab(t)
  const stream = await at.stream()
  await at.request()
  at.answer(stream, { send_all_clusters: true, load_reporting_interval: '1s' })
  await taken(at, 1)
  await at.report(1000)
  const [gone] = at.clusters.splice(0, 1)
  for (let i = 0; i < 3; i++) await at.report(1000)
  at.clusters.unshift(gone)
  at.pending.push(load('a', [{ issued: 1, success: 1 }]))
  const [first] = (await at.report(1000)).cluster_stats as JsonObject[]
  // It is not known when in between it came.
  t.match(first, { cluster_name: 'a', upstream_locality_stats: [{ total_issued_requests: '1' }] })
  t.not(first.load_report_interval, '4s')
})

t.test('all clusters are those that there are, each from when it is there', async (t) => {
  const at = await lab(t)
  const stream = await at.stream()
  await at.request()
  at.pending.push(load('a', [{ issued: 50, success: 50 }]))
  at.answer(stream, { send_all_clusters: true, load_reporting_interval: '1s' })
  await taken(at, 1)
  at.clusters.push({ name: 'new', serviceName: '' })
  at.pending.push(load('new', [{ issued: 7, success: 7 }]))
  const first = (await at.report(1000)).cluster_stats as JsonObject[]
  t.strictSame(
    first.map(({ cluster_name }) => cluster_name),
    ['a', 'b', 'new'],
  )
  t.match(first[2], { upstream_locality_stats: [{ total_issued_requests: '7' }] })
  t.equal(first[0].upstream_locality_stats, undefined)
  at.clusters.splice(0, 1)
  at.figuresFail = true
  at.pending.push(load('b', [{ issued: 1, success: 1 }]))
  const second = (await at.report(1000)).cluster_stats as JsonObject[]
  t.strictSame(second, [
    { cluster_name: 'b', load_report_interval: '1s' },
    { cluster_name: 'new', load_report_interval: '1s' },
  ])
  at.figuresFail = false
  t.match((await at.report(1000)).cluster_stats, [
    { cluster_name: 'b', upstream_locality_stats: [{ total_issued_requests: '1' }] },
  ])
})

t.test(
  'a stream that breaks off is begun anew after a while that grows, and what was counted meanwhile is reported',
  async (t) => {
    const at = await lab(t)
    let stream = await at.stream()
    await at.request()
    at.answer(stream, { clusters: ['a'], load_reporting_interval: '1s' })
    await taken(at, 1)
    const ended = async (errors: number): Promise<void> => {
      const until = Date.now() + PATIENCE_MS
      while (at.counter('errors') < errors && Date.now() < until) await new Promise((resolve) => setImmediate(resolve))
    }
    stream.emit('error', { code: 14, details: 'gone' })
    await ended(1)
    at.clock.advance(499)
    t.equal(at.counter('retries'), 0)
    at.clock.advance(1)
    stream = await at.stream()
    t.match(await at.request(), { node: { id: 'n1' }, cluster_stats: undefined })
    stream.emit('error', { code: 14, details: 'gone again' })
    await ended(2)
    at.clock.advance(999)
    t.equal(at.counter('retries'), 1)
    at.pending.push(load('a', [{ issued: 3, success: 3 }]))
    at.clock.advance(1)
    stream = await at.stream()
    await at.request()
    at.answer(stream, { clusters: ['a'], load_reporting_interval: '1s' })
    await taken(at, 2)
    t.match(await at.report(1000), {
      cluster_stats: [{ cluster_name: 'a', upstream_locality_stats: [{ total_issued_requests: '3' }] }],
    })
    t.equal(at.counter('retries'), 2)
    at.reporter[Symbol.dispose]()
    at.clock.advance(60_000)
    t.equal(at.counter('retries'), 2)
  },
)

t.test('credentials are read anew for each stream, and where there are none it tries again', async (t) => {
  const at = await lab(t)
  const stream = await at.stream()
  await at.request()
  t.equal(at.clients, 1)
  at.refusals = 1
  stream.emit('error', { code: 16, details: 'the token has expired' })
  const until = Date.now() + PATIENCE_MS
  while (at.counter('errors') < 1 && Date.now() < until) await new Promise((resolve) => setImmediate(resolve))
  at.clock.advance(500)
  t.equal(at.counter('errors'), 2)
  at.clock.advance(1000)
  await at.stream()
  t.match(await at.request(), { node: { id: 'n1' } })
  t.equal(at.clients, 2)
})
