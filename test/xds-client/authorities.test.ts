import t from 'tap'
import type { Json, JsonObject } from '../../lib/core/errors.ts'
import { ConfigRefused } from '../../lib/core/errors.ts'
import { withNodeContext } from '../../xds-client/envoy/node-context.ts'
import {
  ADS,
  BOOTSTRAP,
  edsCluster,
  endpoints,
  listener,
  load,
  Rig,
  rds,
  routes,
  staticCluster,
} from './dynamic-rig.ts'

/** A source by its authorities; each has initial metadata of its own, so that no two are the same. */
function source(api_type: string, ...names: string[]): JsonObject {
  const service = {
    envoy_grpc: { cluster_name: 'xds' },
    initial_metadata: [{ key: 'for', value: names.join('-') || '*' }],
  }
  return {
    ...(names.length > 0 && { authorities: names.map((name) => ({ name })) }),
    api_config_source: { api_type, grpc_services: [service] },
    resource_api_version: 'V3',
  }
}

const LISTENERS = 'xdstp://one/envoy.config.listener.v3.Listener/edge/*'
const CLUSTERS = 'xdstp://two/envoy.config.cluster.v3.Cluster/edge/*'

function bootstrap(more: JsonObject = {}, dynamic: JsonObject = {}): JsonObject {
  return {
    ...BOOTSTRAP,
    dynamic_resources: { lds_resources_locator: LISTENERS, cds_resources_locator: CLUSTERS, ...dynamic },
    config_sources: [source('AGGREGATED_GRPC', 'one'), source('AGGREGATED_DELTA_GRPC', 'two', 'three')],
    default_config_source: source('AGGREGATED_GRPC'),
    ...more,
  }
}

function mistakes(json: Json): string[] {
  try {
    load(json)
    return []
  } catch (error) {
    if (!(error instanceof ConfigRefused)) throw error
    return error.errors.map(String)
  }
}

t.test('collections and what they name come from the sources of their authorities', async (t) => {
  const rig = new Rig({ bootstrap: bootstrap() }).start()
  const [two] = [...rig.sources.values()]
  t.same(
    [...rig.sources.keys()].map((key) => key.split('#')[0]),
    ['delta-grpc:xds'],
  )
  t.same(two.asked, [`Cluster: ${CLUSTERS}`])
  const name = CLUSTERS.replace('*', 'web')
  const eds = 'xdstp://three/envoy.config.endpoint.v3.ClusterLoadAssignment/web'
  two.delta('cluster', {
    [name]: { ...(edsCluster(name) as JsonObject), eds_cluster_config: { service_name: eds } },
  })
  await rig.turn()
  t.same(two.wanted('assignment'), [eds], 'three is another name of that source')
  two.delta('assignment', { [eds]: { ...(endpoints(eds, 8080) as JsonObject) } })
  await rig.turn()
  t.same(rig.names.clusters, [name])

  const one = [...rig.sources.values()][1]
  t.same(one.wanted('listener'), [LISTENERS])
  const table = 'xdstp:///envoy.config.route.v3.RouteConfiguration/all'
  const edge = LISTENERS.replace('*', 'a')
  t.same(one.whole('listener', { [edge]: listener(edge, { manager: rds(table, ADS2) }) }), [])
  await rig.turn()
  const fallback = [...rig.sources.values()][2]
  t.same(fallback.wanted('routes'), [table], 'a name without an authority is that of the default source')
  fallback.whole('routes', { [table]: routes(table, name) })
  await rig.turn()
  t.same(rig.names.listeners, [edge])
  t.ok(rig.initialised)
  t.same(rig.broken, [])
})

/** What is next to a name counts where its authority has no source. */
const ADS2 = source('AGGREGATED_GRPC', 'elsewhere')

t.test('what is next to a name counts where it lists the authority, or where nobody else has it', async (t) => {
  const eds = (authority: string, config: JsonObject, more: JsonObject = {}): string | undefined => {
    const cluster = {
      ...(edsCluster('c') as JsonObject),
      eds_cluster_config: {
        service_name: `xdstp://${authority}/envoy.config.endpoint.v3.ClusterLoadAssignment/c`,
        eds_config: config,
      },
    }
    const { references } = load(
      bootstrap(
        { ...more, static_resources: { clusters: [...BOOTSTRAP.static_resources.clusters, cluster] } },
        {
          ads_config: BOOTSTRAP.dynamic_resources.ads_config,
        },
      ),
    )
    return references.get('cluster/c')?.[0].source?.key.split('#')[0]
  }
  t.equal(eds('two', ADS), 'delta-grpc:xds')
  t.equal(eds('two', source('GRPC', 'two')), 'grpc:xds')
  t.equal(eds('stranger', ADS), 'grpc:xds', 'the default one')
  t.equal(eds('stranger', ADS, { default_config_source: undefined } as never), '', 'ADS')
})

t.test('the context of a locator has what the bootstrap says of the node', async (t) => {
  const node = {
    id: 'i 1',
    cluster: 'c',
    locality: { region: 'r', zone: 'z' },
    metadata: { role: 'edge', n: 1 },
    dynamic_parameters: { 'envoy.config.listener.v3.Listener': { params: { shard: '1' } } },
  }
  const { dynamic } = load(
    bootstrap(
      { node, node_context_params: ['id', 'locality.region', 'locality.sub_zone', 'metadata'] },
      { lds_resources_locator: `${LISTENERS}?xds.node.id=other&a=b` },
    ),
  )
  const common =
    'xds.node.locality.region=r&xds.node.locality.sub_zone=&xds.node.metadata.n=1&xds.node.metadata.role=%22edge%22'
  t.equal(dynamic?.ldsLocator, `${LISTENERS}?a=b&xds.node.id=other&${common}`)
  t.equal(dynamic?.cdsLocator, `${CLUSTERS}?xds.node.id=i%201&${common}`)
  t.match(dynamic?.node, { dynamic_parameters: {} }, 'dynamic parameters are part of the node')
  t.equal(withNodeContext('xdstp:', new Map([['a', 'b']])), 'xdstp:', 'what is no name stays')
})

t.test('mistakes in authorities are told at their fields', async (t) => {
  t.same(mistakes(bootstrap()), [])
  t.match(
    mistakes(bootstrap({ config_sources: [source('AGGREGATED_GRPC')] })).join('\n'),
    /config_sources\[0\]\.authorities: at least one/,
  )
  t.match(
    mistakes(bootstrap({ config_sources: [source('AGGREGATED_GRPC', 'a', 'a')] })).join('\n'),
    /a second authority "a"/,
  )
  t.match(
    mistakes(bootstrap({ config_sources: [source('GRPC', 'a')] })).join('\n'),
    /api_type: must be AGGREGATED_GRPC/,
  )
  const file = { path_config_source: { path: '/x' }, authorities: [{ name: 'a' }] }
  t.match(mistakes(bootstrap({ config_sources: [file] })).join('\n'), /must be an api_config_source/)
  const none = { default_config_source: undefined as never, config_sources: [source('AGGREGATED_GRPC', 'one')] }
  t.match(mistakes(bootstrap(none)), [/cds_resources_locator: needs cds_config: .* is of an authority/])
  const wrong = { lds_resources_locator: CLUSTERS }
  t.match(mistakes(bootstrap({}, wrong)), [/lds_resources_locator: .* must be a collection of envoy\.config\.listener/])
  t.match(mistakes(bootstrap({ node_context_params: ['x'] })), [/node_context_params\[0\]: "x" is not a field/])
})

t.test(
  'clusters on demand come from the source that the filter names, or with the collection that it names',
  async (t) => {
    const filter = (odcds: JsonObject): Json => ({
      name: 'envoy.filters.http.on_demand',
      typed_config: { '@type': 'type.googleapis.com/envoy.extensions.filters.http.on_demand.v3.OnDemand', odcds },
    })
    const rig = new Rig({ bootstrap: bootstrap({}, { cds_resources_locator: '' }) }).start()
    const [one] = [...rig.sources.values()]
    const own = source('GRPC', 'own')
    const locator = CLUSTERS.replace('edge', 'late')
    const edge = LISTENERS.replace('*', 'a')
    const direct = { route_config: { name: 'r', virtual_hosts: [] } }
    one.whole('listener', {
      [edge]: listener(edge, {
        manager: direct,
        filters: [
          filter({ source: own }),
          { ...(filter({ source: own, resources_locator: locator }) as JsonObject), name: 'second' },
        ],
      }),
    })
    await rig.turn()
    t.same(rig.names.listeners, [edge])
    const filters = rig.state.listeners.get(edge)?.filterChains[0].http?.filters ?? []
    const [byName, byCollection] = filters.map(
      ({ config }) => (config as { clusters?: { source: string } }).clusters?.source ?? '',
    )
    t.match(byName, /^grpc:xds#/)
    t.match(byCollection, /^delta-grpc:xds#.*\/late\/\*$/)

    const asked = rig.gateway.demand({ kind: 'cluster', name: 'plain', source: byName }, 1_000)
    await rig.turn()
    t.same(rig.source(byName).wanted('cluster'), ['plain'])
    rig.source(byName).delta('cluster', { plain: staticCluster('plain') })
    t.equal(await asked, true)

    const name = locator.replace('*', 'x')
    const collected = rig.gateway.demand({ kind: 'cluster', name, source: byCollection }, 1_000)
    const nobody = rig.gateway.demand({ kind: 'cluster', name: locator.replace('*', 'y'), source: byCollection }, 1_000)
    await rig.turn()
    const two = rig.source(byCollection.split('/xdstp')[0])
    t.same(two.wanted('cluster'), [locator])
    two.delta('cluster', { [name]: staticCluster(name) })
    t.equal(await collected, true)
    rig.clock.advance(1_000)
    t.equal(await nobody, false)
    t.same(two.wanted('cluster'), [locator], 'the collection stays')

    const single = 'xdstp://stranger/envoy.config.cluster.v3.Cluster/one'
    const found = rig.gateway.demand({ kind: 'cluster', name: single, source: byName }, 1_000)
    await rig.turn()
    const fallback = [...rig.sources.values()].find((source) => source.wanted('cluster').includes(single))
    t.not(fallback, rig.source(byName), 'its authority says where')
    fallback?.delta('cluster', { [single]: staticCluster(single) })
    t.equal(await found, true)
  },
)
