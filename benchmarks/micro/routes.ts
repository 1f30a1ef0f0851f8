/**
 * What finding a route costs: CPU nanoseconds per match in one virtual host of 10, 100, 1,000 and 10,000 routes, each hit
 * equally often. Nine routes in ten are prefixes, path-separated prefixes and exact paths with header matchers, the last
 * tenth are regexes. `node benchmarks/micro/routes.ts`
 *
 * A request's path is read out of one buffer into a new string each time, as a codec does, so that the string is neither
 * hashed nor in the cache by luck; what that alone costs is measured and taken off.
 */
import type { Metadata } from '../../lib/chain/filter.ts'
import { type ConnectionInfo, plainConnection } from '../../lib/core/connection.ts'
import { Headers } from '../../lib/core/headers.ts'
import { noRuntime } from '../../lib/core/metrics.ts'
import type { RouteConfig, RouteMatchConfig, RouteTableConfig } from '../../lib/router/config.ts'
import type { RouteRequest } from '../../lib/router/request.ts'
import { compileRouteTable, type RouteTable } from '../../lib/router/table.ts'
import { inTurns, lineOf, shuffledOrder } from './measure.ts'

const SIZES = [10, 100, 1_000, 10_000]
const ROUNDS = 9
const MATCHES = 400_000

type Shape = 'distinct regex prefixes' | 'shared regex prefix' | 'no regex prefix'
const SHAPES: readonly Shape[] = ['distinct regex prefixes', 'shared regex prefix', 'no regex prefix']

interface Sample {
  readonly match: RouteMatchConfig
  readonly path: string
  readonly version: string
}

function plain(i: number): Sample {
  const version = `v${i % 7}`
  const headers = [{ name: 'x-version', match: { kind: 'string', string: { kind: 'exact', value: version } } } as const]
  const value = `/team-${i % 97}/service-${i}-api`
  const kind = (['prefix', 'exact', 'path-separated-prefix'] as const)[i % 3]
  const path = kind === 'exact' ? value : `${value}/items/${(i * 7919) % 1000}?page=2`
  return { match: { path: { kind, value, caseSensitive: true }, headers }, path, version }
}

function regex(i: number, shape: Shape): Sample {
  const id = (i * 7919) % 1000
  const [value, path] =
    shape === 'distinct regex prefixes'
      ? [`/report-${i}/[0-9]+/(pages|files)/[^/]+`, `/report-${i}/${id}/files/summary?x=1`]
      : shape === 'shared regex prefix'
        ? [`/api/v[0-9]+/resource-${i}/[^/]+`, `/api/v2/resource-${i}/item-${id}?x=1`]
        : [`/[a-z]+/[0-9]+/resource-${i}/.*`, `/things/${id}/resource-${i}/a/b?x=1`]
  return { match: { path: { kind: 'regex', value } }, path, version: 'v0' }
}

function table(samples: readonly Sample[]): RouteTableConfig {
  const routes = samples.map(
    (sample, i): RouteConfig => ({
      name: `route-${i}`,
      match: sample.match,
      action: {
        kind: 'route',
        cluster: { kind: 'cluster', name: `cluster-${i % 50}` },
        clusterNotFoundStatus: 503,
        timeoutMs: 15_000,
        priority: 'default',
      },
    }),
  )
  return {
    name: 'benchmark',
    virtualHosts: [{ name: 'all', domains: ['*.example.com'], routes, requireTls: 'none' }],
    ignorePortInHostMatching: true,
    mostSpecificHeaderMutationsWins: false,
    validateClusters: false,
    maxDirectResponseBodyBytes: 4096,
  }
}

function compile(config: RouteTableConfig): RouteTable<undefined> {
  return compileRouteTable(config, {
    planFor: () => undefined,
    runtime: noRuntime,
    compileFormat: (text) => () => text,
    compileBody: (_format, body) => () => body,
  })
}

const CONNECTION: ConnectionInfo = plainConnection({
  id: 1,
  remoteAddress: '192.0.2.1',
  remotePort: 40_000,
  localAddress: '192.0.2.2',
  localPort: 80,
  kind: 'ip',
  listenerName: '',
})
const NO_STATE = { get: () => undefined }
const METADATA: Metadata = { get: () => undefined, merge: () => undefined }

/** One set of samples ready to be asked for in random order. */
class Workload {
  readonly table: RouteTable<undefined>
  readonly compileMs: number
  readonly #paths: Buffer
  readonly #offsets: Int32Array
  readonly #versions: readonly string[]
  readonly #order: Int32Array
  readonly #request: RouteRequest
  readonly #headers: string[]

  constructor(samples: readonly Sample[]) {
    const config = table(samples)
    const before = performance.now()
    this.table = compile(config)
    this.compileMs = performance.now() - before
    this.#paths = Buffer.from(samples.map((s) => s.path).join(''), 'latin1')
    this.#offsets = new Int32Array(samples.length + 1)
    for (let i = 0; i < samples.length; i++) this.#offsets[i + 1] = this.#offsets[i] + samples[i].path.length
    // A codec's strings are neither the configuration's own nor cold.
    const strings = new Map<string, string>()
    for (const { version } of samples) strings.set(version, Buffer.from(version).latin1Slice())
    this.#versions = samples.map((s) => strings.get(s.version) ?? '')
    this.#order = shuffledOrder(samples.length)
    this.#headers = ['user-agent', 'curl/8.5.0', 'accept', '*/*', 'x-request-id', 'b1a7', 'x-version', '']
    this.#request = {
      head: { method: 'GET', scheme: 'http', authority: 'www.example.com:8080', path: '', protocol: undefined },
      request: new Headers(this.#headers),
      connection: CONNECTION,
      metadata: METADATA,
      filterState: NO_STATE,
      info: { internal: false, clientAddress: '192.0.2.1' },
      random: 0.5,
    }
  }

  #prepare(n: number): number {
    const i = this.#order[n & 0xffff]
    this.#request.head.path = this.#paths.latin1Slice(this.#offsets[i], this.#offsets[i + 1])
    this.#headers[7] = this.#versions[i]
    return i
  }

  /** Fails where any sample does not find its own route. */
  check(): void {
    for (let n = 0; n < 0x10000; n++) {
      const i = this.#prepare(n)
      const found = this.table.match(this.#request)?.name
      if (found !== `route-${i}`) throw new Error(`expected route-${i}, found ${found} for ${this.#request.head.path}`)
    }
  }

  /** CPU nanoseconds per match; without `match`, per request made. */
  measure(match: boolean): number {
    const start = process.cpuUsage()
    let hits = 0
    for (let n = 0; n < MATCHES; n++) {
      this.#prepare(n)
      if (!match || this.table.match(this.#request) !== undefined) hits++
    }
    if (hits !== MATCHES) throw new Error('a request found no route')
    const { user, system } = process.cpuUsage(start)
    return ((user + system) * 1000) / MATCHES
  }
}

function samplesFor(size: number, shape: Shape): Sample[] {
  return Array.from({ length: size }, (_, i) => (i < size * 0.9 ? plain(i) : regex(i, shape)))
}

for (const shape of SHAPES) {
  const workloads = SIZES.map((size) => new Workload(samplesFor(size, shape)))
  for (const workload of workloads) workload.check()
  const rounds = inTurns(workloads.length, ROUNDS, (w) => workloads[w].measure(true) - workloads[w].measure(false))
  process.stdout.write(`${shape}\n`)
  for (const [w, size] of SIZES.entries()) {
    const what = `${String(size).padStart(6)} routes`
    process.stdout.write(lineOf(what, rounds[w], rounds[0], workloads[w].compileMs))
  }
}
