import { fromBinary } from '@bufbuild/protobuf'
import type { ServerDuplexStream } from '@grpc/grpc-js'
import t, { type Test } from 'tap'
import { registryOf } from '../../lib/cli/known-filters.ts'
import { envoyContext } from '../../lib/cli/load-config.ts'
import { lowerFilters, standardFilters } from '../../lib/cli/standard-filters.ts'
import { XdsLive } from '../../lib/cli/xds/live.ts'
import { readRecorded } from '../../lib/cli/xds/read.ts'
import { type ConfigChange, ConfigState } from '../../lib/config/change.ts'
import { parseConfigText } from '../../lib/config/parse.ts'
import { systemClock } from '../../lib/core/clock.ts'
import type { Json, JsonObject } from '../../lib/core/errors.ts'
import { encodeJson } from '../../lib/proto/encode-json.ts'
import { LoadLedger, type LoadReader } from '../../lib/runtime/load-ledger.ts'
import { ControlPlane, XDS } from '../support/control-plane.ts'
import { BOOTSTRAP, edsCluster, endpoints, listener, rds, routes, staticCluster } from './dynamic-rig.ts'

// The same rules as in dynamic.test.ts, with a server, its wire and the protocol between it and the gateway.

const context = envoyContext(standardFilters())
const registry = registryOf([])
const quiet = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} }

type Variant = 'GRPC' | 'DELTA_GRPC'

function bootstrap(variant: Variant, port: number): Json {
  const { ads_config } = BOOTSTRAP.dynamic_resources
  return {
    ...BOOTSTRAP,
    dynamic_resources: { ...BOOTSTRAP.dynamic_resources, ads_config: { ...ads_config, api_type: variant } },
    static_resources: {
      clusters: [
        {
          name: 'xds',
          type: 'STATIC',
          load_assignment: endpointsAt(port),
          typed_extension_protocol_options: {
            'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
              '@type': 'type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions',
              explicit_http_config: { http2_protocol_options: {} },
            },
          },
        },
      ],
    },
  }
}

function endpointsAt(port: number): Json {
  const address = { socket_address: { address: '127.0.0.1', port_value: port } }
  return { cluster_name: 'xds', endpoints: [{ lb_endpoints: [{ endpoint: { address } }] }] }
}

/** What a live configuration publishes. */
class Follower {
  readonly live: XdsLive
  readonly state: ConfigState
  readonly changes: ConfigChange[] = []
  readonly #waiters = new Set<() => void>()

  constructor(t: Test, text: Json, stateDir?: string, loads?: () => LoadReader) {
    const read = () => readRecorded(parseConfigText(JSON.stringify(text), 'bootstrap.json'), context)
    const reading = read()
    this.state = new ConfigState({ ...reading.loaded.config, listeners: [], clusters: [] })
    this.live = new XdsLive({
      reading,
      again: read,
      registry,
      filters: lowerFilters(),
      clock: systemClock,
      random: Math.random,
      log: quiet,
      loads,
      ...(stateDir !== undefined && { stateDir }),
    })
    t.teardown(() => this.live[Symbol.dispose]())
    this.live.start({
      publish: (change) => {
        this.changes.push(change)
        this.state.apply(change)
        for (const look of [...this.#waiters]) look()
      },
    })
  }

  /** Resolves with the publication that makes it true. */
  async until(condition: () => boolean): Promise<void> {
    if (condition()) return
    await new Promise<void>((resolve) => {
      const look = (): void => {
        if (!condition()) return
        this.#waiters.delete(look)
        resolve()
      }
      this.#waiters.add(look)
    })
  }

  get summary(): unknown {
    const { clusters, assignments, routeTables, listeners } = this.state
    return [clusters, assignments, routeTables, listeners].map((map) => [...map.keys()].sort())
  }
}

function fill(plane: ControlPlane): void {
  plane.set(XDS.cluster, [edsCluster('a'), edsCluster('b')] as JsonObject[])
  plane.set(XDS.endpoints, [endpoints('a', 1), endpoints('b', 2)] as JsonObject[])
  plane.set(XDS.listener, [listener('web')] as JsonObject[])
  plane.set(XDS.routes, [routes('table', 'a', 'b')] as JsonObject[])
}

const FULL = [['a', 'b', 'xds'], ['a', 'b'], ['table'], ['web']]

for (const variant of ['GRPC', 'DELTA_GRPC'] as const) {
  t.test(`AGGREGATED_${variant}: an authority's resources of all types come by one stream`, async (t) => {
    const plane = await ControlPlane.start({ registry: context.registry })
    t.teardown(() => plane.close())
    const eds = 'xdstp://one/envoy.config.endpoint.v3.ClusterLoadAssignment/a'
    const table = 'xdstp://one/envoy.config.route.v3.RouteConfiguration/table'
    plane.set(XDS.endpoints, [endpoints(eds, 1)] as JsonObject[])
    plane.set(XDS.routes, [routes(table, 'a')] as JsonObject[])
    const { static_resources, node } = bootstrap(variant, plane.port) as typeof BOOTSTRAP
    const cluster = { ...(edsCluster('a') as JsonObject), eds_cluster_config: { service_name: eds } }
    const services = [{ envoy_grpc: { cluster_name: 'xds' } }]
    const source = { api_config_source: { api_type: `AGGREGATED_${variant}`, grpc_services: services } }
    const gateway = new Follower(t, {
      node,
      static_resources: {
        clusters: [...static_resources.clusters, cluster],
        listeners: [listener('web', { manager: rds(table, source) })],
      },
      config_sources: [{ ...source, authorities: [{ name: 'one' }] }],
    })
    await gateway.live.initialised
    await gateway.until(() => gateway.state.listeners.has('web'))
    t.equal(gateway.state.assignments.size, 1)
    t.equal(gateway.state.routeTables.size, 1)
    t.equal(new Set(plane.requests.map(({ stream }) => stream)).size, 1)
    const counted = new Map(gateway.live.metrics().gauges)
    t.equal(counted.get('control_plane.connected_state'), 1, 'there is no other: it counts as that of ADS')
  })

  t.test(`${variant}: everything comes, changes, is refused, and goes`, async (t) => {
    const plane = await ControlPlane.start({ registry: context.registry })
    t.teardown(() => plane.close())
    fill(plane)
    const gateway = new Follower(t, bootstrap(variant, plane.port))
    await gateway.live.confirmed
    t.same(gateway.summary, FULL)
    gateway.changes.length = 0
    plane.put(XDS.endpoints, endpoints('a', 1, 2) as JsonObject)
    await gateway.until(() => gateway.state.assignments.get('a')?.localities[0].endpoints.length === 2)
    t.same(gateway.changes.map(Object.keys), [['assignments']])

    const at = plane.requests.length
    plane.put(XDS.cluster, { name: 'a', type: 'STATIC', lb_policy: 'CLUSTER_PROVIDED' })
    plane.put(XDS.cluster, staticCluster('c') as JsonObject)
    const nack = await plane.request((r) => r.error !== undefined, 'a refusal', at)
    t.match(nack.error?.message, /CLUSTER_PROVIDED/)
    await gateway.until(() => gateway.state.clusters.has('c'))
    t.equal(
      gateway.state.clusters.get('a')?.type,
      'eds',
      'the good resource of the answer applies, the bad one stays as it was',
    )
    plane.put(XDS.cluster, edsCluster('a', { connect_timeout: '7s' }) as JsonObject)
    await gateway.until(() => gateway.state.clusters.get('a')?.connectTimeoutMs === 7000)

    plane.put(XDS.routes, routes('table', 'b', 'c') as JsonObject)
    await gateway.until(() => JSON.stringify(gateway.state.routeTables.get('table')).includes('"c"'))
    plane.remove(XDS.cluster, 'a')
    await gateway.until(() => !gateway.state.clusters.has('a'))
    t.same(gateway.summary, [['b', 'c', 'xds'], ['b'], ['table'], ['web']])
    plane.remove(XDS.listener, 'web')
    await gateway.until(() => gateway.state.listeners.size === 0)
    t.equal(gateway.state.routeTables.size, 0)
    t.match(
      gateway.live.status().sources.map(({ connected }) => connected),
      [true],
    )
  })

  t.test(`${variant}: a server that stops and starts again with the same changes nothing`, async (t) => {
    const plane = await ControlPlane.start({ registry: context.registry })
    t.teardown(() => plane.close())
    fill(plane)
    const gateway = new Follower(t, bootstrap(variant, plane.port))
    await gateway.live.confirmed
    gateway.changes.length = 0
    const at = plane.requests.length
    await plane.stop()
    await plane.restart()
    await plane.request((r) => r.kind === 'first' && r.typeName === XDS.routes, 'routes', at)
    plane.put(XDS.endpoints, endpoints('b', 5, 6) as JsonObject)
    await gateway.until(() => gateway.state.assignments.get('b')?.localities[0].endpoints.length === 2)
    t.same(gateway.changes.map(Object.keys), [['assignments']])
    t.same(gateway.summary, FULL)
  })

  t.test(`${variant}: a start without a server uses what was kept, and then what has changed`, async (t) => {
    const stateDir = t.testdir({})
    const plane = await ControlPlane.start({ registry: context.registry })
    t.teardown(() => plane.close())
    fill(plane)
    const text = bootstrap(variant, plane.port)
    const before = new Follower(t, text, stateDir)
    await before.live.confirmed
    before.live[Symbol.dispose]()
    await plane.stop()
    const gateway = new Follower(t, text, stateDir)
    await gateway.live.initialised
    t.same(gateway.summary, FULL)
    t.ok(gateway.live.status().stale)
    plane.put(XDS.endpoints, endpoints('a', 1, 2, 3) as JsonObject)
    await plane.restart()
    await gateway.live.confirmed
    await gateway.until(() => gateway.state.assignments.get('a')?.localities[0].endpoints.length === 3)
    t.same(gateway.summary, FULL)
  })
}

t.test(
  'a cluster names the server that its load is reported to, and what the server says of itself is shown',
  async (t) => {
    const streams: ServerDuplexStream<Buffer, Buffer>[] = []
    const reports: JsonObject[] = []
    const pass = (value: Buffer): Buffer => value
    const codecs = {
      requestSerialize: pass,
      requestDeserialize: pass,
      responseSerialize: pass,
      responseDeserialize: pass,
    }
    const path = '/envoy.service.load_stats.v3.LoadReportingService/StreamLoadStats'
    const desc = context.registry.expect('envoy.service.load_stats.v3.LoadStatsRequest')
    const plane = await ControlPlane.start({
      registry: context.registry,
      services: [
        {
          definition: { StreamLoadStats: { path, requestStream: true, responseStream: true, ...codecs } },
          implementation: {
            StreamLoadStats(stream: ServerDuplexStream<Buffer, Buffer>) {
              streams.push(stream)
              stream.on('error', () => undefined)
              stream.on('end', () => stream.end())
              stream.on('data', (bytes: Buffer) => {
                reports.push(encodeJson(context.registry, desc, fromBinary(desc, bytes)) as JsonObject)
                if (reports.length > 1) return
                const wish = { clusters: ['a', 'b'], load_reporting_interval: '0.1s' }
                stream.write(Buffer.from(plane.encode('envoy.service.load_stats.v3.LoadStatsResponse', wish)))
              })
            },
          },
        },
      ],
    })
    t.teardown(() => plane.close())
    const own = { ...(edsCluster('a') as JsonObject), lrs_server: { self: {} } }
    plane.set(XDS.cluster, [own, edsCluster('b')] as JsonObject[])
    plane.set(XDS.endpoints, [endpoints('a', 1), endpoints('b', 2)] as JsonObject[])
    plane.set(XDS.listener, [listener('web')] as JsonObject[])
    plane.set(XDS.routes, [routes('table', 'a', 'b')] as JsonObject[])
    const ledger = new LoadLedger({ refresh: async () => {} })
    const gateway = new Follower(t, bootstrap('GRPC', plane.port), undefined, () => ledger.reader())
    await gateway.live.confirmed
    t.equal(gateway.state.clusters.get('a')?.loadServer, '')
    const host = {
      address: '10.0.0.1:1',
      priority: 0,
      region: '',
      zone: '',
      subZone: '',
      success: 1,
      error: 0,
      active: 0,
    }
    while (!reports.some(({ cluster_stats = [] }) => JSON.stringify(cluster_stats).includes('total_issued_requests'))) {
      if (reports.length > 1) ledger.add(1, [{ name: 'a', dropped: 0, hosts: [{ ...host, issued: 1 }] }])
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
    t.match(reports[0], { node: { id: 'test-id' } })
    const named = reports.slice(1).flatMap(({ cluster_stats }) => cluster_stats as JsonObject[])
    t.same(new Set(named.map(({ cluster_name }) => cluster_name)), new Set(['a']), 'the others are not its business')
    const texts = new Map(gateway.live.metrics().texts)
    t.ok(texts.has('control_plane.identifier'))
    t.equal(texts.get('cluster_manager.cds.version_text'), plane.types.get(XDS.cluster)?.version)

    const ended = new Promise((resolve) => streams[0].once('cancelled', resolve).once('end', resolve))
    plane.put(XDS.cluster, edsCluster('a') as JsonObject)
    await ended
    t.equal(streams.length, 1, 'nobody names it any more')
  },
)
