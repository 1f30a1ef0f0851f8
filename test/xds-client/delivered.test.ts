import { generateKeyPairSync } from 'node:crypto'
import { toBinary } from '@bufbuild/protobuf'
import t, { type Test } from 'tap'
import { ConfigError, type Json, type JsonObject } from '../../lib/core/errors.ts'
import { decodeJson } from '../../lib/proto/decode-json.ts'
import { checkTls } from '../../lib/tls/check.ts'
import type { ClusterConfig } from '../../lib/upstream/config.ts'
import type { ApiSourceConfig } from '../../xds-client/config.ts'
import { bindCluster } from '../../xds-client/envoy/binding.ts'
import { ADS_SOURCE } from '../../xds-client/envoy/config-source.ts'
import type { FilterParser } from '../../xds-client/envoy/context.ts'
import { ErrorList } from '../../xds-client/envoy/error-list.ts'
import { type EnvoyLoadContext, loadResourceLine } from '../../xds-client/envoy/load.ts'
import { RESOURCE_TYPES } from '../../xds-client/envoy/resources.ts'
import { translateBytes } from '../../xds-client/envoy/translate-bytes.ts'
import type {
  ExtensionConfig,
  ResourceConfigs,
  ResourceType,
  TranslatedResource,
} from '../../xds-client/envoy/translated.ts'
import { Authority } from '../support/certificates.ts'
import { seeded } from '../support/random.ts'
import { FAKE_FILTERS } from './fake-filters.ts'
import { LOAD_CONTEXT } from './load-context.ts'

const TYPE = 'type.googleapis.com/'
const HTTP = 'envoy.extensions.filters.http.'
const NETWORK = 'envoy.extensions.filters.network.'
const SECRET = 'envoy.extensions.transport_sockets.tls.v3.Secret'
const CLUSTER = 'envoy.config.cluster.v3.Cluster'
const LISTENER = 'envoy.config.listener.v3.Listener'
const ROUTES = 'envoy.config.route.v3.RouteConfiguration'
const EXTENSION = 'envoy.config.core.v3.TypedExtensionConfig'
const ADS: JsonObject = { ads: {}, resource_api_version: 'V3' }
const TLS = `${TYPE}envoy.extensions.transport_sockets.tls.v3.`

const authority = await Authority.create()
const one = await authority.issue({ dns: ['one.example'] })
const two = await authority.issue({ dns: ['two.example'] })

const { registry } = LOAD_CONTEXT
const context: EnvoyLoadContext = {
  ...LOAD_CONTEXT,
  checks: { ...LOAD_CONTEXT.checks, tls: checkTls },
  hasAds: true,
  managementClusters: new Set(['xds', 'sds']),
  self: ADS_SOURCE,
}

function bytesOf(typeName: string, json: Json): Uint8Array {
  const desc = registry.expect(typeName)
  const { message, errors } = decodeJson(registry, desc, json, '')
  if (message === undefined || errors.length > 0) throw new Error(errors.join('\n'))
  return toBinary(desc, message)
}

/** Translates it both ways, and sees to it that both say the same. */
function deliver<T extends ResourceType>(
  t: Test,
  typeName: T,
  json: JsonObject,
  using = context,
): TranslatedResource<ResourceConfigs[T]> {
  const delivered = translateBytes(typeName, bytesOf(typeName, json), using)
  const line = loadResourceLine(JSON.stringify({ '@type': TYPE + typeName, ...json }), using)
  t.same(
    delivered.errors.map(({ path, message }) => ({ path, message })),
    line.errors,
    'a line of a file gets the same verdict',
  )
  t.same(delivered.ignored, line.errors.length > 0 ? delivered.ignored : line.ignored)
  t.equal(delivered.config === undefined, delivered.errors.length > 0)
  return delivered
}

function problems(resource: TranslatedResource<unknown>): string[] {
  return resource.errors.map(({ path, message }) => `${path}: ${message}`)
}

function sds(name: string): JsonObject {
  return { name, sds_config: ADS }
}

function listener(filters: readonly JsonObject[], more: JsonObject = {}): JsonObject {
  const address = { socket_address: { address: '127.0.0.1', port_value: 80 } }
  return { name: 'l', address, filter_chains: [{ filters: [...filters] }], ...more }
}

function manager(more: JsonObject): JsonObject {
  const router = { name: 'router', typed_config: { '@type': `${TYPE}${HTTP}router.v3.Router` } }
  const hcm = { '@type': `${TYPE}${NETWORK}http_connection_manager.v3.HttpConnectionManager`, stat_prefix: 's' }
  return { name: 'hcm', typed_config: { ...hcm, http_filters: [router], ...more } }
}

t.test('every type of resource is translated from its bytes', async (t) => {
  const address = { socket_address: { address: '192.0.2.1', port_value: 80 } }
  const endpoint = { endpoint: { address }, load_balancing_weight: 3 }
  const cases: { readonly [T in ResourceType]: readonly [json: JsonObject, name: string, config: object] } = {
    'envoy.config.listener.v3.Listener': [
      listener([manager({ rds: { route_config_name: 'r', config_source: ADS } })]),
      'l',
      { name: 'l', filterChains: [{ http: { routeTable: 'r' } }] },
    ],
    'envoy.config.route.v3.RouteConfiguration': [{ name: 'r' }, 'r', { name: 'r', virtualHosts: [] }],
    'envoy.config.route.v3.ScopedRouteConfiguration': [
      { name: 's', route_configuration_name: 'r', key: { fragments: [{ string_key: 'a' }] }, on_demand: true },
      's',
      { name: 's', key: ['a'], routeTable: 'r', onDemand: true },
    ],
    'envoy.config.route.v3.VirtualHost': [
      { name: 'v', domains: ['A.example'], routes: [{ match: { prefix: '/' }, route: { cluster: 'c' } }] },
      'v',
      { name: 'v', domains: ['a.example'] },
    ],
    'envoy.config.cluster.v3.Cluster': [
      { name: 'c', type: 'EDS', eds_cluster_config: { eds_config: ADS } },
      'c',
      { name: 'c', type: 'eds', assignment: 'c', localities: [] },
    ],
    'envoy.config.endpoint.v3.ClusterLoadAssignment': [
      { cluster_name: 'c', endpoints: [{ lb_endpoints: [endpoint] }] },
      'c',
      { name: 'c', localities: [{ priority: 0, endpoints: [{ weight: 3 }] }] },
    ],
    'envoy.config.endpoint.v3.LbEndpoint': [endpoint, '', { address: { host: '192.0.2.1' }, weight: 3 }],
    'envoy.extensions.transport_sockets.tls.v3.Secret': [
      { name: 'g', generic_secret: { secret: { inline_string: 'x' }, secrets: { other: { inline_bytes: 'AQI=' } } } },
      'g',
      { kind: 'generic', name: 'g', value: 'eA==', values: new Map([['other', 'AQI=']]) },
    ],
    'envoy.config.core.v3.TypedExtensionConfig': [
      { name: 'x', typed_config: { '@type': `${TYPE}${HTTP}buffer.v3.Buffer`, max_request_bytes: 9 } },
      'x',
      { name: 'x', place: 'http', terminal: false, config: { maxRequestBytes: 9 } },
    ],
    'envoy.service.runtime.v3.Runtime': [
      { name: 'rt', layer: { a: { b: 1 } } },
      'rt',
      { name: 'rt', values: { a: { b: 1 } } },
    ],
  }
  t.same(Object.keys(cases), [...RESOURCE_TYPES])
  for (const [typeName, [json, name, config]] of Object.entries(cases)) {
    const delivered = deliver(t, typeName as ResourceType, json)
    t.same(problems(delivered), [], typeName)
    t.equal(delivered.name, name, typeName)
    t.match(delivered.config, config, typeName)
  }
})

t.test('what cannot be decoded, and types that nobody takes, are refused and never thrown', async (t) => {
  const [error] = translateBytes(CLUSTER, Uint8Array.of(0x0a, 0xff), context).errors
  t.match(error?.message, /cannot be decoded as envoy\.config\.cluster\.v3\.Cluster/)
  t.match(
    problems(translateBytes('example.Unheard', new Uint8Array(), context))[0],
    /"example.Unheard": is not available/,
  )
  t.match(
    problems(translateBytes('envoy.config.core.v3.Node', bytesOf('envoy.config.core.v3.Node', {}), context))[0],
    /is not available/,
  )
})

t.test('fields that the schema does not have are treated as the switches say', async (t) => {
  // Field 4000 of a cluster, which selects; the same of a runtime layer.
  const unknown = Uint8Array.of(0x82, 0xfa, 0x01, 0x01, 0x61)
  const cluster = Buffer.concat([bytesOf(CLUSTER, { name: 'c' }), unknown])
  t.match(problems(translateBytes(CLUSTER, cluster, context))[0], /^#4000: unknown field number 4000/)
  t.match(translateBytes(CLUSTER, cluster, { ...context, unknownFields: 'ignore' }), { errors: [], ignored: ['#4000'] })
  const bytes = Buffer.concat([bytesOf('envoy.service.runtime.v3.Runtime', { name: 'rt' }), unknown])
  t.match(problems(translateBytes('envoy.service.runtime.v3.Runtime', bytes, context)), [/#4000/])
  t.match(problems(translateBytes(CLUSTER, cluster, { ...context, unknownFields: 'reject' })), [/#4000/])
})

t.test('what a route table needs of clusters is told, each once', async (t) => {
  const routes: JsonObject[] = [
    { match: { prefix: '/a' }, route: { cluster: 'a', request_mirror_policies: [{ cluster: 'shadow' }] } },
    {
      match: { prefix: '/b' },
      route: {
        weighted_clusters: {
          clusters: [
            { name: 'a', weight: 1 },
            { name: 'b', weight: 1 },
          ],
        },
      },
    },
    { match: { prefix: '/c' }, route: { cluster_header: 'x-to' } },
  ]
  const { references } = deliver(t, ROUTES, { name: 'r', virtual_hosts: [{ name: 'v', domains: ['*'], routes }] })
  t.same(references.map(({ kind, key, source }) => [kind, key, source]).sort(), [
    ['cluster', 'a', undefined],
    ['cluster', 'b', undefined],
    ['cluster', 'shadow', undefined],
  ])
  const tcp = {
    name: 't',
    typed_config: { '@type': `${TYPE}${NETWORK}tcp_proxy.v3.TcpProxy`, cluster: 'raw', stat_prefix: 's' },
  }
  t.match(deliver(t, LISTENER, listener([tcp])).references, [{ kind: 'cluster', name: 'raw' }])
})

t.test('virtual hosts on demand need a delta source', async (t) => {
  const by = (api_type: string): JsonObject => ({
    name: 'r',
    vhds: {
      config_source: { api_config_source: { api_type, grpc_services: [{ envoy_grpc: { cluster_name: 'xds' } }] } },
    },
  })
  const good = deliver(t, ROUTES, by('DELTA_GRPC'))
  t.match(good.config, { onDemand: true })
  t.match(good.references, [{ kind: 'virtual-hosts', name: 'r', source: { source: { api: 'delta-grpc' } } }])
  t.match(problems(deliver(t, ROUTES, by('GRPC'))), [/^vhds\.config_source: must be a delta source/])
})

t.test('self is the server that a resource came from', async (t) => {
  const json = { name: 'c', type: 'EDS', eds_cluster_config: { eds_config: { self: {}, initial_fetch_timeout: '0s' } } }
  const source = { kind: 'api', api: 'delta-grpc' } as never
  const self = { key: 'delta-grpc:xds#1', source, initialFetchTimeoutMs: 9 }
  const { config, references } = deliver(t, CLUSTER, json, { ...context, self })
  t.equal(config?.assignment, 'delta-grpc:xds#1/c')
  t.match(references, [{ source: { key: 'delta-grpc:xds#1', initialFetchTimeoutMs: 0 } }])
  const { self: _, ...nowhere } = context
  t.match(problems(translateBytes(CLUSTER, bytesOf(CLUSTER, json), nowhere)), [/eds_config\.self: means the server/])
  const file = { key: 'file:/x', source: { kind: 'file', path: '/x' }, initialFetchTimeoutMs: 0 } as const
  t.match(problems(deliver(t, CLUSTER, json, { ...context, self: file })), [/this one is from a file/])
})

t.test('sources that cannot be had are refused, each at its field', async (t) => {
  const grpc = (more: JsonObject): JsonObject => ({
    api_config_source: { api_type: 'GRPC', grpc_services: [{ envoy_grpc: { cluster_name: 'xds' } }], ...more },
  })
  const google = (more: JsonObject): JsonObject =>
    grpc({ grpc_services: [{ google_grpc: { target_uri: 'x.example:443', stat_prefix: 's', ...more } }] })
  const at = 'eds_cluster_config.eds_config'
  const api = `${at}.api_config_source`
  const g = `${api}.grpc_services[0].google_grpc`
  const plugin = { name: 'p', typed_config: { '@type': `${TYPE}google.protobuf.Struct`, value: {} } }
  const cases: readonly (readonly [source: JsonObject, ...errors: RegExp[]])[] = [
    [{ ads: {}, resource_api_version: 'V2' }, /resource_api_version: V2 is not available/],
    [grpc({ transport_api_version: 'V2' }), /transport_api_version: V2/],
    [grpc({ config_validators: [plugin] }), /config_validators/],
    [grpc({ cluster_names: ['xds'] }), /cluster_names: belongs to REST/],
    [grpc({ grpc_services: [] }), /grpc_services: is required/],
    [grpc({ grpc_services: [{ envoy_grpc: { cluster_name: 'nobody' } }] }), /cluster_name: "nobody" must be a cluster/],
    [
      grpc({
        grpc_services: [{ envoy_grpc: { cluster_name: 'xds' }, initial_metadata: [{ key: 'a b', value: 'x' }] }],
      }),
      /initial_metadata\[0\]\.key/,
    ],
    [{ api_config_source: { api_type: 'REST', cluster_names: ['xds'] } }, /refresh_delay: is required/],
    [
      { api_config_source: { api_type: 'REST', cluster_names: ['nobody'], refresh_delay: '1s' } },
      /cluster_names\[0\]: "nobody" must be/,
    ],
    [google({ target_uri: 'xds:///x' }), /target_uri: "xds:\/\/\/x" has the scheme "xds"/],
    [google({ target_uri: 'dns://8.8.8.8/x' }), /names a DNS server/],
    [google({ target_uri: 'ipv4:host:1' }), /where an IP address belongs/],
    [google({ channel_credentials: { google_default: {} } }), /google_default: Google's application default/],
    [google({ call_credentials: [{ access_token: 't' }] }), /call_credentials: need ssl_credentials/],
    [
      google({ call_credentials: [{ access_token: 't\n' }] }),
      /access_token: must not contain NUL, CR or LF/,
      /call_credentials: need ssl_credentials/,
    ],
    [google({ call_credentials: [{ google_compute_engine: {} }] }), /google_compute_engine: is not available/],
    [google({ call_credentials: [{ from_plugin: plugin }] }), /from_plugin\.typed_config: credentials/],
    [google({ credentials_factory_name: 'f' }), /credentials_factory_name: "f" is not available/],
    [google({ channel_credentials_plugin: [{ '@type': `${TYPE}google.protobuf.Struct`, value: {} }] }), /by plugin/],
  ]
  for (const [source, ...errors] of cases) {
    const found = problems(deliver(t, CLUSTER, { name: 'c', type: 'EDS', eds_cluster_config: { eds_config: source } }))
    t.equal(found.length, errors.length, found.join(' | '))
    t.match(found, errors)
    for (const error of found) t.ok(error.startsWith(at), error)
  }
  t.ok(g.startsWith(api))
})

t.test('a google_grpc target becomes a cluster that goes along with the resource', async (t) => {
  const service = {
    google_grpc: {
      target_uri: 'dns:///sds.example:8443',
      stat_prefix: 'sds',
      channel_credentials: { ssl_credentials: { root_certs: { inline_string: authority.pem } } },
      call_credentials: [{ access_token: 'token' }],
      channel_args: {
        args: {
          'grpc.keepalive_time_ms': { int_value: 1000 },
          'grpc.ssl_target_name_override': { string_value: 'other.example' },
          'grpc.unheard': { int_value: 1 },
        },
      },
    },
    timeout: '2s',
  }
  const source = { api_config_source: { api_type: 'DELTA_GRPC', grpc_services: [service] } }
  const json = { name: 'c', type: 'EDS', eds_cluster_config: { eds_config: source } }
  const { references, clusters, ignored } = deliver(t, CLUSTER, json)
  const [cluster] = clusters
  t.match(cluster, {
    statName: 'sds',
    type: 'strict-dns',
    protocol: 'http2',
    http2: { keepalive: { intervalMs: 1000, timeoutMs: 20_000 } },
    tls: { sni: 'other.example', autoSanValidation: true, validation: { trustedCa: authority.pem } },
    localities: [{ endpoints: [{ address: { host: 'sds.example', port: 8443 } }] }],
  })
  t.match(references, [
    {
      kind: 'assignment',
      source: {
        source: {
          targets: [
            {
              cluster: cluster?.name,
              authority: 'sds.example:8443',
              timeoutMs: 2000,
              initialMetadata: ['authorization', 'Bearer token'],
            },
          ],
        },
      },
    },
  ])
  t.ok(
    ignored.some((path) => path.includes('grpc.unheard')),
    'arguments of the library are reported',
  )
})

t.test('secrets are checked by themselves', async (t) => {
  const pem = (text: string): JsonObject => ({ inline_string: text })
  const pair = { certificate_chain: pem(one.chain), private_key: pem(one.key) }
  const good = deliver(t, SECRET, { name: 'c', tls_certificate: pair })
  t.match(good.config, { kind: 'certificate', certificate: { privateKey: one.key } })
  t.match(problems(deliver(t, SECRET, { name: 'c', tls_certificate: { ...pair, private_key: pem(two.key) } })), [
    /^tls_certificate\.private_key: /,
  ])
  t.match(problems(deliver(t, SECRET, { name: 'c', validation_context: { trusted_ca: pem('garbage') } })), [
    /^validation_context\.trusted_ca: /,
  ])
  const names = { match_typed_subject_alt_names: [{ san_type: 'DNS', matcher: { exact: 'a' } }] }
  t.match(deliver(t, SECRET, { name: 'c', validation_context: names }).config, {
    validation: { sans: [{ match: { value: 'a' } }] },
  })
  t.match(problems(deliver(t, SECRET, { name: 'k', session_ticket_keys: { keys: [{ inline_string: 'short' }] } })), [
    /^session_ticket_keys\.keys: is 5 bytes long/,
  ])
  t.match(problems(deliver(t, SECRET, { name: 'n' })), [/holds nothing/])
})

t.test('files inside a secret are told, and the directories that announce their changes', async (t) => {
  const files = new Map([
    ['/tls/crt', one.chain],
    ['/tls/key', one.key],
  ])
  const readFile = (path: string): Buffer => Buffer.from(files.get(path) ?? '')
  const certificate = {
    certificate_chain: { filename: '/tls/crt' },
    private_key: { filename: '/tls/key' },
    watched_directory: { path: '/tls' },
  }
  const json = { name: 'c', tls_certificate: certificate }
  const delivered = deliver(t, SECRET, json, { ...context, readFile })
  t.same([delivered.files, delivered.directories], [['/tls/crt', '/tls/key'], ['/tls']])
  files.set('/tls/crt', two.chain)
  const mixed = translateBytes(SECRET, bytesOf(SECRET, json), { ...context, readFile })
  t.match(problems(mixed), [/private_key/])
  t.same(mixed.files, ['/tls/crt', '/tls/key'], 'a pair that does not match may match when the other file has come')
})

t.test('filters that are delivered stand as placeholders, with what is taken in their place', async (t) => {
  const discovery = (type: string, more: JsonObject = {}): JsonObject => ({
    config_source: ADS,
    type_urls: [TYPE + type],
    ...more,
  })
  const buffer = `${HTTP}buffer.v3.Buffer`
  const http = (config_discovery: JsonObject, last = false): JsonObject => {
    const router = { name: 'router', typed_config: { '@type': `${TYPE}${HTTP}router.v3.Router` } }
    const filter = { name: 'late', config_discovery }
    return listener([manager({ route_config: {}, http_filters: last ? [filter] : [filter, router] })])
  }
  const filterOf = (resource: TranslatedResource<ResourceConfigs[typeof LISTENER]>): unknown =>
    resource.config?.filterChains[0].http?.filters[0]
  const bare = deliver(t, LISTENER, http(discovery(buffer)))
  t.same(filterOf(bare), { name: 'late', typeUrl: '', config: null, missing: true, extension: 'late', disabled: false })
  t.match(bare.references, [
    { kind: 'extension', name: 'late', extension: { place: 'http', typeUrls: [buffer], last: false } },
  ])
  const withDefault = deliver(
    t,
    LISTENER,
    http(discovery(buffer, { default_config: { '@type': TYPE + buffer, max_request_bytes: 3 } })),
  )
  t.match(filterOf(withDefault), { typeUrl: buffer, config: { maxRequestBytes: 3 }, extension: 'late' })
  t.same(problems(deliver(t, LISTENER, http(discovery(`${HTTP}router.v3.Router`), true))), [])
  const wrong = { default_config: { '@type': `${TYPE}${HTTP}router.v3.Router` } }
  const cases: readonly (readonly [JsonObject, RegExp])[] = [
    [discovery('example.Unheard'), /type_urls\[0\]: http filter "example.Unheard" is not available/],
    [discovery(buffer, wrong), /default_config: has the type/],
    [discovery(buffer, { apply_default_config_without_warming: true }), /needs default_config/],
  ]
  for (const [config, error] of cases) t.match(problems(deliver(t, LISTENER, http(config)))[0], error)
})

t.test('settings of routes for a filter that is delivered wait for it', async (t) => {
  const late = {
    name: 'late',
    config_discovery: { config_source: ADS, type_urls: [`${TYPE}${HTTP}buffer.v3.Buffer`] },
  }
  const router = { name: 'router', typed_config: { '@type': `${TYPE}${HTTP}router.v3.Router` } }
  const settings = { late: { '@type': `${TYPE}${HTTP}buffer.v3.BufferPerRoute`, disabled: true } }
  const hcm = manager({ route_config: { typed_per_filter_config: settings }, http_filters: [late, router] })
  const { config } = deliver(t, LISTENER, listener([hcm]))
  t.match(config?.filterChains[0].http?.routes, { filterConfigs: { late: { config: { value: { disabled: true } } } } })
})

t.test('an extension says where it may stand', async (t) => {
  const tcp = { '@type': `${TYPE}${NETWORK}tcp_proxy.v3.TcpProxy`, stat_prefix: 's', cluster: 'c' }
  const delivered = deliver(t, EXTENSION, { name: 'x', typed_config: tcp })
  t.match(delivered.config, { place: 'network', terminal: true, sentType: `${NETWORK}tcp_proxy.v3.TcpProxy` })
  t.match(delivered.references, [{ kind: 'cluster', name: 'c' }])
  const hcm = manager({ route_config: {} })
  t.match(problems(deliver(t, EXTENSION, { name: 'x', typed_config: hcm.typed_config })), [
    /cannot be delivered by itself/,
  ])
  t.match(problems(deliver(t, EXTENSION, { name: 'x' })), [/typed_config: /])
})

t.test('scopes must be told apart by their names and keys', async (t) => {
  const scope = (name: string, key: string, more: JsonObject = { route_configuration_name: 'r' }): JsonObject => ({
    name,
    key: { fragments: [{ string_key: key }] },
    ...more,
  })
  const scoped = (scopes: readonly JsonObject[], more: JsonObject = { rds_config_source: ADS }): JsonObject =>
    listener([
      manager({
        scoped_routes: {
          name: 's',
          scope_key_builder: { fragments: [{ header_value_extractor: { name: 'x', index: 0 } }] },
          scoped_route_configurations_list: { scoped_route_configurations: [...scopes] },
          ...more,
        },
      }),
    ])
  const good = deliver(t, LISTENER, scoped([scope('a', '1'), scope('b', '2')]))
  t.match(good.config?.filterChains[0].http?.scopedRoutes, {
    key: [{ header: 'x', element: { kind: 'index', index: 0 } }],
    scopes: [
      { name: 'a', key: ['1'], routeTable: 'r' },
      { name: 'b', key: ['2'], routeTable: 'r' },
    ],
  })
  t.match(good.references, [{ kind: 'routes', key: 'r' }])
  t.equal(good.references.length, 1)
  const cases: readonly (readonly [JsonObject, RegExp])[] = [
    [scoped([scope('a', '1'), scope('a', '2')]), /a second scope "a"/],
    [scoped([scope('a', '1'), scope('b', '1')]), /is the key of scope "a" already/],
    [scoped([scope('a', '1')], {}), /has no rds_config_source/],
    [scoped([scope('a', '1', {})]), /exactly one of route_configuration and route_configuration_name/],
    [
      scoped([
        { name: 'a', route_configuration_name: 'r', key: { fragments: [{ string_key: '1' }, { string_key: '2' }] } },
      ]),
      /has 2 fragments/,
    ],
  ]
  for (const [json, error] of cases) t.match(problems(deliver(t, LISTENER, json)), [error])
})

t.test('endpoints of a locality may be a collection of their own, for clusters that are delivered', async (t) => {
  const group = {
    locality: { region: 'r' },
    leds_cluster_locality_config: { leds_config: ADS, leds_collection_name: 'xdstp://a/*' },
  }
  const { config, references } = deliver(t, 'envoy.config.endpoint.v3.ClusterLoadAssignment', {
    cluster_name: 'c',
    endpoints: [group],
  })
  t.match(config?.localities, [{ delivered: 'xdstp://a/*', endpoints: [] }])
  t.match(references, [{ kind: 'endpoints', name: 'xdstp://a/*' }])
  const inside = { name: 'c', load_assignment: { cluster_name: 'c', endpoints: [group] } }
  t.match(problems(deliver(t, CLUSTER, inside)), [/leds_cluster_locality_config: is for endpoints that are delivered/])
})

t.test('upstream filters are the codec, last, and one credential', async (t) => {
  const cluster = (http_filters: readonly JsonObject[]): JsonObject => ({
    name: 'c',
    typed_extension_protocol_options: {
      'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
        '@type': `${TYPE}envoy.extensions.upstreams.http.v3.HttpProtocolOptions`,
        explicit_http_config: { http_protocol_options: {} },
        http_filters: [...http_filters],
      },
    },
  })
  const filter = (type: string, more: JsonObject = {}): JsonObject => ({
    name: type,
    typed_config: { '@type': `${TYPE}${HTTP}${type}`, ...more },
  })
  const codec = filter('upstream_codec.v3.UpstreamCodec')
  const generic = {
    '@type': `${TYPE}envoy.extensions.http.injected_credentials.generic.v3.Generic`,
    credential: { name: 'token', sds_config: ADS },
  }
  const injector = filter('credential_injector.v3.CredentialInjector', {
    credential: { name: 'generic', typed_config: generic },
  })
  const good = deliver(t, CLUSTER, cluster([injector, codec]))
  t.match(good.config?.credential, {
    header: 'authorization',
    value: '',
    secret: 'token',
    required: true,
    overwrite: false,
  })
  t.match(good.references, [{ kind: 'secret', name: 'token' }])
  const cases: readonly (readonly [readonly JsonObject[], RegExp])[] = [
    [[injector], /http_filters: the last upstream filter must be the codec/],
    [[codec, injector], /the codec must be the last upstream filter/],
    [[injector, injector, codec], /a second credential injector/],
    [[filter('buffer.v3.Buffer', { max_request_bytes: 1 }), codec], /upstream filter ".*Buffer" is not available/],
  ]
  for (const [filters, error] of cases) t.match(problems(deliver(t, CLUSTER, cluster(filters)))[0], error)

  const buffer = `${HTTP}buffer.v3.Buffer`
  const dual = { ...FAKE_FILTERS.get(buffer), upstream: true } as FilterParser
  const able = { ...context, filters: new Map<string, FilterParser>(FAKE_FILTERS).set(buffer, dual) }
  const own = filter('buffer.v3.Buffer', { max_request_bytes: 1 })
  const late = (type: string): JsonObject => ({
    name: 'late',
    config_discovery: { config_source: ADS, type_urls: [`${TYPE}${type}`] },
  })
  const both = deliver(t, CLUSTER, cluster([own, late(buffer), { ...own, name: 'off', disabled: true }, codec]), able)
  t.same(problems(both), [])
  t.match(both.config?.filters, [
    { name: 'buffer.v3.Buffer', typeUrl: buffer },
    { name: 'late', missing: true, extension: 'late' },
  ])
  t.equal(both.config?.filters?.length, 2)
  t.match(both.references, [{ kind: 'extension', key: 'late', extension: { place: 'http', last: false } }])
  const delivered: ExtensionConfig = {
    name: 'late',
    place: 'http',
    sentType: buffer,
    typeUrl: buffer,
    config: { bytes: 2 },
    terminal: false,
  }
  const bound = bindCluster(
    both.config as ClusterConfig,
    () => undefined,
    (key) => (key === 'late' ? delivered : undefined),
  )
  t.strictSame(bound.filters?.[1], { name: 'late', typeUrl: buffer, config: { bytes: 2 } })
  t.match(problems(deliver(t, CLUSTER, cluster([late(`${HTTP}router.v3.Router`), codec]), able)), [
    /config_discovery\.type_urls\[0\]: upstream filter ".*Router" is not available/,
  ])
})

t.test('a static secret does not hide one of the same name that is delivered', async (t) => {
  const certificate = { certificateChain: one.chain, privateKey: one.key }
  const secrets = new Map([['a', { kind: 'certificate', name: 'a', certificate } as const]])
  const context_ = { common_tls_context: { tls_certificate_sds_secret_configs: [{ name: 'a' }, sds('a')] } }
  const socket = { name: 'tls', typed_config: { '@type': `${TLS}DownstreamTlsContext`, ...context_ } }
  const chain = { filters: [manager({ route_config: {} })], transport_socket: socket }
  const json = listener([], { filter_chains: [chain] })
  const { references, config } = deliver(t, LISTENER, json, { ...context, secrets })
  t.match(config?.filterChains[0].tls?.secrets, { certificates: ['a'] })
  t.ok(references.some(({ kind, name, source }) => kind === 'secret' && name === 'a' && source === ADS_SOURCE))
})

t.test('an upstream filter without a configuration is not passed over', async (t) => {
  const type = 'envoy.extensions.upstreams.http.v3.HttpProtocolOptions'
  const cluster = (...http_filters: JsonObject[]): JsonObject => ({
    name: 'c',
    typed_extension_protocol_options: {
      [type]: { '@type': TYPE + type, explicit_http_config: { http_protocol_options: {} }, http_filters },
    },
  })
  const codec = { name: 'c', typed_config: { '@type': `${TYPE}${HTTP}upstream_codec.v3.UpstreamCodec` } }
  const bare = { name: 'envoy.filters.http.rbac' }
  t.match(problems(deliver(t, CLUSTER, cluster(bare, codec))), [
    /http_filters\[0\].typed_config: .*"envoy.filters.http.rbac"/,
  ])
  t.match(problems(deliver(t, CLUSTER, cluster(bare)))[0], /http_filters\[0\].typed_config: /)
  t.same(problems(deliver(t, CLUSTER, cluster({ ...bare, is_optional: true }, codec))), [])
})

t.test('endpoints of a locality are listed or delivered, not both', async (t) => {
  const address = { socket_address: { address: '192.0.2.1', port_value: 80 } }
  const leds_cluster_locality_config = { leds_config: ADS, leds_collection_name: 'xdstp://a/*' }
  const group = { lb_endpoints: [{ endpoint: { address } }], leds_cluster_locality_config }
  const json = { cluster_name: 'c', endpoints: [group] }
  t.match(problems(deliver(t, 'envoy.config.endpoint.v3.ClusterLoadAssignment', json)), [/lb_endpoints: excludes leds/])
})

t.test('virtual hosts on demand belong to route tables that are delivered', async (t) => {
  const table = { name: 'r', vhds: { config_source: ADS } }
  t.match(problems(deliver(t, LISTENER, listener([manager({ route_config: table })]))), [/vhds: .*delivered/])
  const scope = { name: 's', key: { fragments: [{ string_key: 'a' }] }, route_configuration: table }
  t.match(problems(deliver(t, 'envoy.config.route.v3.ScopedRouteConfiguration', scope)), [/vhds: .*delivered/])
})

t.test('a filter that stands in for one that is delivered names its clusters', async (t) => {
  const type = `${TYPE}${NETWORK}tcp_proxy.v3.TcpProxy`
  const default_config = { '@type': type, stat_prefix: 's', cluster: 'standby' }
  const late = { name: 'late', config_discovery: { config_source: ADS, type_urls: [type], default_config } }
  const { references } = deliver(t, LISTENER, listener([late]))
  t.match(
    references.filter(({ kind }) => kind === 'cluster'),
    [{ name: 'standby' }],
  )
})

t.test('a filter that is not available and off answers for routes of other resources that switch it on', async (t) => {
  const router = { name: 'router', typed_config: { '@type': `${TYPE}${HTTP}router.v3.Router` } }
  const auth = { name: 'auth', disabled: true, typed_config: { '@type': `${TYPE}${HTTP}ext_authz.v3.ExtAuthz` } }
  const rds = { route_config_name: 'r', config_source: ADS }
  const filtersOf = (filter: JsonObject): unknown => {
    const { config } = deliver(t, LISTENER, listener([manager({ rds, http_filters: [filter, router] })]))
    return config?.filterChains[0].http?.filters.map(({ name, disabled, missing }) => [name, disabled, missing])
  }
  t.same(filtersOf(auth), [
    ['auth', true, true],
    ['router', false, undefined],
  ])
  t.same(filtersOf({ ...auth, is_optional: true }), [['router', false, undefined]], 'done without, as in Envoy')
})

t.test('settings of another filter than the one they are for are refused where that is known', async (t) => {
  const settings = { '@type': `${TYPE}${HTTP}header_mutation.v3.HeaderMutationPerRoute` }
  const router = { name: 'router', typed_config: { '@type': `${TYPE}${HTTP}router.v3.Router` } }
  const buffer = { name: 'b', typed_config: { '@type': `${TYPE}${HTTP}buffer.v3.Buffer`, max_request_bytes: 3 } }
  const route_config = { typed_per_filter_config: { b: settings } }
  t.match(problems(deliver(t, LISTENER, listener([manager({ route_config, http_filters: [buffer, router] })]))), [
    /typed_per_filter_config\["b"\]: .*HeaderMutationPerRoute.*are not for filter "b"/,
  ])
})

t.test('credentials of calls do not leave the machine unprotected', async (t) => {
  const cluster = (target_uri: string, more: JsonObject): JsonObject => {
    const google_grpc = { target_uri, stat_prefix: 's', ...more }
    const api_config_source = { api_type: 'GRPC', transport_api_version: 'V3', grpc_services: [{ google_grpc }] }
    return { name: 'c', type: 'EDS', eds_cluster_config: { eds_config: { api_config_source } } }
  }
  const token = { call_credentials: [{ access_token: 't' }] }
  const local = { channel_credentials: { local_credentials: {} } }
  for (const uri of ['127.0.0.1:1', 'localhost:1', 'unix:/x', '[::1]:1']) {
    t.same(problems(deliver(t, CLUSTER, cluster(uri, token))), [])
    t.same(problems(deliver(t, CLUSTER, cluster(uri, local))), [])
  }
  for (const uri of ['127.example.com:1', 'localhost.example.com:1', '192.0.2.1:1']) {
    t.match(problems(deliver(t, CLUSTER, cluster(uri, token))), [/call_credentials: need ssl_credentials/], uri)
    t.match(problems(deliver(t, CLUSTER, cluster(uri, local))), [/local_credentials: .*local/], uri)
  }
})

t.test('service accounts sign tokens, and say why they cannot', async (t) => {
  const { privateKey } = generateKeyPairSync('rsa', {
    modulusLength: 2048,
    publicKeyEncoding: { type: 'spki', format: 'pem' },
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
  })
  const key = { client_email: 'a@b.example', private_key_id: 'k1', private_key: privateKey }
  const errors = (json_key: string): string[] => {
    const credential = { service_account_jwt_access: { json_key, token_lifetime_seconds: 60 } }
    const google_grpc = { target_uri: 'x.example:443', stat_prefix: 's', call_credentials: [credential] }
    const channel_credentials = { ssl_credentials: {} }
    const api_config_source = {
      api_type: 'GRPC',
      grpc_services: [{ google_grpc: { ...google_grpc, channel_credentials } }],
    }
    const json = { name: 'c', type: 'EDS', eds_cluster_config: { eds_config: { api_config_source } } }
    const resource = deliver(t, CLUSTER, json)
    const source = resource.references[0]?.source?.source as ApiSourceConfig | undefined
    if (resource.errors.length === 0) {
      const account = { email: 'a@b.example', keyId: 'k1', privateKey, lifetimeS: 60 }
      t.strictSame(source?.targets[0].serviceAccount, account)
    }
    return problems(resource)
  }
  t.same(errors(JSON.stringify(key)), [])
  t.match(errors('x'), [/json_key: is no JSON object/])
  t.match(errors('[]'), [/json_key: is no JSON object/])
  t.match(errors(JSON.stringify({ ...key, private_key_id: undefined })), [/json_key: must have client_email/])
  const broken = errors(JSON.stringify({ ...key, private_key: 'secret' }))
  t.match(broken, [/json_key: its private_key cannot be read/])
  t.notMatch(broken, /secret/)
})

t.test('what can be judged of a secret by itself is judged when it comes', async (t) => {
  const trust = (validation_context: JsonObject): string[] =>
    problems(deliver(t, SECRET, { name: 's', validation_context }))
  const san = { san_type: 'DNS', matcher: { exact: 'a' } }
  t.same(trust({ match_typed_subject_alt_names: [san] }), [], 'names, for authorities of another part')
  t.same(trust({ allow_expired_certificate: true }), [])
  t.match(trust({ crl: { inline_string: 'x' } }), [/validation_context.crl: /])
  t.match(trust({ verify_certificate_hash: ['z'.repeat(64)] }), [/validation_context.verify_certificate_hash: /])
  const other = { san_type: 'OTHER_NAME', oid: 'none', matcher: { exact: 'a' } }
  t.match(trust({ match_typed_subject_alt_names: [other] }), [/match_typed_subject_alt_names: .*object identifier/])
  const common_tls_context = {
    combined_validation_context: {
      default_validation_context: { crl: { inline_string: 'x' } },
      validation_context_sds_secret_config: sds('v'),
    },
  }
  const transport_socket = { name: 't', typed_config: { '@type': `${TLS}UpstreamTlsContext`, common_tls_context } }
  t.match(problems(deliver(t, CLUSTER, { name: 'c', transport_socket })), [/default_validation_context.crl: /])
})

t.test('however many mistakes there are, they are told', async (t) => {
  const errors = Array.from({ length: 200_000 }, (_, i) => new ConfigError(`routes[${i}]`, 'is wrong'))
  t.equal(new ErrorList(errors).all.length, errors.length)
})

/** A field with a length before it. */
function field(no: number, content: Uint8Array | string): Buffer {
  const bytes = Buffer.from(content as string)
  const varint = (value: number): number[] => (value < 128 ? [value] : [(value & 127) | 128, ...varint(value >>> 7)])
  return Buffer.concat([Buffer.from([...varint((no << 3) | 2), ...varint(bytes.length)]), bytes])
}

t.test('what is nested beyond all sense is refused', async (t) => {
  const proxy = `${TYPE}envoy.extensions.transport_sockets.http_11_proxy.v3.Http11ProxyUpstreamTransport`
  const raw = field(1, `${TYPE}envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer`)
  for (const depth of [100, 1000]) {
    let any = raw
    for (let i = 0; i < depth; i++) {
      const socket = Buffer.concat([field(1, 'n'), field(3, any)])
      any = Buffer.concat([field(1, proxy), field(2, field(1, socket))])
    }
    const cluster = Buffer.concat([field(1, 'c'), field(24, Buffer.concat([field(1, 'n'), field(3, any)]))])
    const found = problems(translateBytes(CLUSTER, cluster, context))
    t.ok(
      found.some((error) => error.includes('nested too deeply')),
      `${depth} levels`,
    )
  }
})

t.test('bytes that were damaged on the way are refused or taken, and never thrown', async (t) => {
  const random = seeded(20261121)
  const router = { name: 'router', typed_config: { '@type': `${TYPE}${HTTP}router.v3.Router` } }
  const sds = { name: 's', sds_config: ADS }
  const tls = {
    '@type': `${TYPE}envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext`,
    common_tls_context: { tls_certificate_sds_secret_configs: [sds], validation_context_sds_secret_config: sds },
  }
  const samples: readonly (readonly [ResourceType, JsonObject])[] = [
    [
      LISTENER,
      {
        ...listener([]),
        filter_chains: [
          {
            filters: [manager({ rds: { route_config_name: 'r', config_source: ADS }, http_filters: [router] })],
            transport_socket: { name: 'tls', typed_config: tls },
          },
        ],
      },
    ],
    [CLUSTER, { name: 'c', type: 'EDS', eds_cluster_config: { eds_config: ADS }, connect_timeout: '1s' }],
    [SECRET, { name: 's', generic_secret: { secret: { inline_string: 'x' } } }],
    [ROUTES, { name: 'r', virtual_hosts: [{ name: 'v', domains: ['*'], routes: [{ match: { prefix: '/' } }] }] }],
  ]
  let refused = 0
  for (const [typeName, json] of samples) {
    const good = bytesOf(typeName, json)
    for (let round = 0; round < 400; round++) {
      const bytes = Buffer.from(good)
      for (let i = random.below(3); i >= 0; i--) bytes[random.below(bytes.length)] = random.below(256)
      const cut = random.below(4) === 0 ? bytes.subarray(0, random.below(bytes.length)) : bytes
      const { config, errors } = translateBytes(typeName, cut, context)
      if ((config === undefined) !== errors.length > 0) t.fail(`neither or both: ${cut.toString('hex')}`)
      if (errors.length > 0) refused++
    }
  }
  t.ok(refused > 400, `${refused} of 1600 were refused`)
  t.ok(refused < 1600, `${refused} of 1600 were refused`)
})
