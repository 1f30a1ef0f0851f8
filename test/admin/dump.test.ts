import { once } from 'node:events'
import type { IncomingHttpHeaders, IncomingMessage } from 'node:http'
import http from 'node:http'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import t, { type Test } from 'tap'
import { anyJson } from '../../lib/admin/dump/resource-json.ts'
import { redactDocument } from '../../lib/admin/redact-document.ts'
import { SecretSchema } from '../../lib/admin/secret-schema.ts'
import { startAdmin } from '../../lib/admin/server.ts'
import type { ResourceStatus } from '../../lib/config/status.ts'
import type { Json, JsonObject } from '../../lib/core/errors.ts'
import { createProtoRegistry } from '../../lib/proto/registry.ts'
import { Authority } from '../support/certificates.ts'
import {
  CLUSTER,
  delivered,
  dynamicStatus,
  ENDPOINTS,
  EXTENSION,
  type FakePanel,
  fakePanel,
  LISTENER,
  ROUTES,
  SCOPE,
  SECRET,
  TYPE,
  UPDATED,
  wire,
} from './panel.ts'

/** What an operator sees of a configuration that is delivered. */

const quiet = { debug() {}, info() {}, warn() {}, error() {} }
const registry = createProtoRegistry()
const KEY = 'MIIEvQ-this-is-a-private-key'
const at = new Date(UPDATED).toISOString()
const HCM = 'envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager'

interface Answer {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly body: string
}

type Ask = (path: string, options?: http.RequestOptions & { readonly body?: string }) => Promise<Answer>

async function start(t: Test, panel: FakePanel): Promise<Ask> {
  const server = await startAdmin({
    address: { kind: 'ip', host: '127.0.0.1', port: 0 },
    backend: panel,
    identity: { version: 'headgate/1', options: {} },
    log: quiet,
    registry: () => registry,
  })
  t.teardown(() => server.close())
  const { address } = server
  if (address.kind !== 'ip') throw new Error('no port')
  return async (path, { body, ...options } = {}) => {
    const req = http.request({ host: address.host, port: address.port, path, agent: false, ...options }).end(body)
    const [res] = (await once(req, 'response')) as [IncomingMessage]
    let text = ''
    for await (const chunk of res) text += chunk
    return { status: res.statusCode ?? 0, headers: res.headers, body: text }
  }
}

function cluster(name: string, more: JsonObject = {}): Uint8Array {
  return wire(registry, CLUSTER, { name, connect_timeout: '1s', ...more })
}

function listener(name: string, table = `${name}-routes`): Uint8Array {
  const manager = { '@type': TYPE + HCM, stat_prefix: 'x', route_config: { name: table } }
  return wire(registry, LISTENER, { name, filter_chains: [{ filters: [{ name: 'hcm', typed_config: manager }] }] })
}

/** Everything at once: one cluster in each state. */
function everything(): ResourceStatus[] {
  const secret = wire(registry, SECRET, {
    name: 'cert',
    tls_certificate: { certificate_chain: { inline_string: 'public' }, private_key: { inline_string: KEY } },
  })
  const scope = wire(registry, SCOPE, {
    name: 's',
    route_configuration_name: 'r',
    key: { fragments: [{ string_key: 'k' }] },
  })
  return [
    delivered(CLUSTER, 'static', { active: { version: '', bytes: cluster('static') }, source: '' }),
    delivered(CLUSTER, 'good', { active: { version: '7', bytes: cluster('good') } }),
    delivered(CLUSTER, 'half', {
      active: { version: '6', bytes: cluster('half') },
      failed: { version: '7', bytes: cluster('half', { connect_timeout: '2s' }) },
    }),
    delivered(CLUSTER, 'new', { warming: { version: '7', bytes: cluster('new') }, client: 'acked' }),
    delivered(CLUSTER, 'bad', { failed: { version: '7', bytes: cluster('bad') } }),
    delivered(LISTENER, 'web', {
      active: { version: 'l1', bytes: listener('web') },
      warming: { version: 'l2', bytes: listener('web', 'next') },
      draining: { version: 'l0', bytes: listener('web') },
    }),
    delivered(LISTENER, 'lost', { client: 'requested' }),
    delivered(ROUTES, 'r', { active: { version: 'r1', bytes: wire(registry, ROUTES, { name: 'r' }) } }),
    delivered(ROUTES, 'gone', { client: 'does-not-exist' }),
    delivered(SCOPE, 's', { active: { version: 's1', bytes: scope } }),
    delivered(SECRET, 'cert', { active: { version: 'c1', bytes: secret }, stale: true }),
    delivered(SECRET, 'late', { client: 'timeout' }),
    delivered(ENDPOINTS, 'good', {
      active: { version: 'e1', bytes: wire(registry, ENDPOINTS, { cluster_name: 'good' }) },
    }),
    delivered(EXTENSION, 'filter', {
      active: {
        version: 'x1',
        bytes: wire(registry, EXTENSION, { name: 'filter', typed_config: { '@type': TYPE + HCM, stat_prefix: 'f' } }),
      },
    }),
  ]
}

const source: JsonObject = {
  node: { id: 'n1' },
  staticResources: {
    clusters: [{ name: 'static', connectTimeout: '1s' }],
    listeners: [],
    secrets: [{ name: 'own', genericSecret: { secret: { inlineString: KEY } } }],
  },
  dynamicResources: { adsConfig: { grpcServices: [{ envoyGrpc: { clusterName: 'xds' } }] } },
}

function parts(body: string): Map<string, JsonObject> {
  const { configs } = JSON.parse(body) as { configs: JsonObject[] }
  return new Map(configs.map((part) => [String(part['@type']).replace(`${TYPE}envoy.admin.v3.`, ''), part]))
}

t.test('every part of the dump shows what serves, what waits and what was refused', async (t) => {
  const ask = await start(t, fakePanel(dynamicStatus(everything()), { source }))
  const answer = await ask('/config_dump')
  t.equal(answer.headers['content-type'], 'application/json')
  t.match(answer.body, /^\{\n "configs": \[\n {2}\{\n {3}"@type"/)
  const dump = parts(answer.body)
  t.strictSame(
    [...dump.keys()],
    [
      'BootstrapConfigDump',
      'ClustersConfigDump',
      'EcdsConfigDump',
      'ListenersConfigDump',
      'ScopedRoutesConfigDump',
      'RoutesConfigDump',
      'SecretsConfigDump',
      `${TYPE}google.protobuf.Struct`,
    ],
  )
  const any = (name: string, connect = '1s') => ({ '@type': TYPE + CLUSTER, name, connect_timeout: connect })
  t.strictSame(dump.get('ClustersConfigDump'), {
    '@type': `${TYPE}envoy.admin.v3.ClustersConfigDump`,
    version_info: '7',
    static_clusters: [{ cluster: any('static'), last_updated: at }],
    dynamic_active_clusters: [
      { version_info: '7', cluster: any('good'), last_updated: at, client_status: 'ACKED' },
      {
        version_info: '6',
        cluster: any('half'),
        last_updated: at,
        error_state: {
          failed_configuration: any('half', '2s'),
          last_update_attempt: '2026-01-02T00:00:01.000Z',
          details: 'name: is taken; and more',
          version_info: '7',
        },
        client_status: 'NACKED',
      },
    ],
    dynamic_warming_clusters: [
      { version_info: '7', cluster: any('new'), last_updated: at, client_status: 'ACKED' },
      {
        error_state: {
          failed_configuration: any('bad'),
          last_update_attempt: '2026-01-02T00:00:01.000Z',
          details: 'name: is taken; and more',
          version_info: '7',
        },
        client_status: 'NACKED',
      },
    ],
  })
  t.match(dump.get('ListenersConfigDump'), {
    version_info: 'l1',
    dynamic_listeners: [
      {
        name: 'web',
        active_state: { version_info: 'l1', listener: { '@type': TYPE + LISTENER, name: 'web' }, last_updated: at },
        warming_state: { version_info: 'l2' },
        draining_state: { version_info: 'l0' },
        client_status: 'ACKED',
      },
      { name: 'lost', client_status: 'REQUESTED' },
    ],
  })
  t.match(dump.get('RoutesConfigDump'), {
    static_route_configs: [{ route_config: { '@type': TYPE + ROUTES, name: 'web-routes' }, last_updated: at }],
    dynamic_route_configs: [
      { version_info: 'r1', route_config: { name: 'r' }, client_status: 'ACKED' },
      { client_status: 'DOES_NOT_EXIST' },
    ],
  })
  t.match(dump.get('ScopedRoutesConfigDump'), {
    dynamic_scoped_route_configs: [
      { name: 's', version_info: 's1', scoped_route_configs: [{ '@type': TYPE + SCOPE, name: 's' }] },
    ],
  })
  t.match(dump.get('EcdsConfigDump'), {
    ecds_filters: [{ version_info: 'x1', ecds_filter: { '@type': TYPE + EXTENSION, name: 'filter' } }],
  })
  t.match(dump.get('SecretsConfigDump'), {
    static_secrets: [{ name: 'own', secret: { generic_secret: { secret: { inline_string: '[redacted]' } } } }],
    dynamic_active_secrets: [
      {
        name: 'cert',
        version_info: 'c1',
        secret: {
          '@type': TYPE + SECRET,
          tls_certificate: {
            certificate_chain: { inline_string: 'public' },
            private_key: { inline_string: '[redacted]' },
          },
        },
      },
    ],
    dynamic_warming_secrets: [{ name: 'late', client_status: 'TIMEOUT' }],
  })
  t.match(dump.get('BootstrapConfigDump'), {
    bootstrap: {
      static_resources: { clusters: [{ name: 'static', connect_timeout: '1s' }] },
      dynamic_resources: { ads_config: { grpc_services: [{ envoy_grpc: { cluster_name: 'xds' } }] } },
    },
  })
  t.strictSame(dump.get(`${TYPE}google.protobuf.Struct`)?.value, {
    ignored_fields: [],
    stale_resources: [{ type: SECRET, name: 'cert', source: 'ads' }],
  })
  t.notMatch(answer.body, KEY)
})

t.test('resource, mask and name_regex choose, alone and together, with the errors of Envoy', async (t) => {
  const ask = await start(t, fakePanel(dynamicStatus(everything()), { source }))
  const configs = async (query: string) => JSON.parse((await ask(`/config_dump?${query}`)).body).configs as JsonObject[]
  const clusters = await configs('resource=dynamic_active_clusters')
  t.strictSame(
    clusters.map((entry) => [entry['@type'], (entry.cluster as JsonObject).name]),
    ['good', 'half'].map((name) => [`${TYPE}envoy.admin.v3.ClustersConfigDump.DynamicCluster`, name]),
  )
  t.strictSame(await configs('resource=dynamic_active_clusters&mask=version_info,cluster.name&name_regex=h.*'), [
    {
      '@type': `${TYPE}envoy.admin.v3.ClustersConfigDump.DynamicCluster`,
      version_info: '6',
      cluster: { '@type': TYPE + CLUSTER, name: 'half' },
    },
  ])
  t.strictSame(await configs('resource=dynamic_listeners&name_regex=we'), [], 'the whole name must match')
  t.strictSame(await configs('mask=bootstrap.node.id'), [
    { '@type': `${TYPE}envoy.admin.v3.BootstrapConfigDump`, bootstrap: { node: { id: 'n1' } } },
  ])
  const masked = await configs('mask=dynamic_listeners,version_info&name_regex=lost')
  t.strictSame(masked, [
    {
      '@type': `${TYPE}envoy.admin.v3.ListenersConfigDump`,
      version_info: 'l1',
      dynamic_listeners: [{ name: 'lost', client_status: 'REQUESTED' }],
    },
  ])
  t.match(await ask('/config_dump?resource=nothing'), { status: 404, body: 'nothing not found in config dump' })
  t.match(await ask('/config_dump?resource=version_info'), {
    status: 400,
    body: 'version_info is not a repeated field. Use ?mask=version_info to get only this field',
  })
  t.match(await ask('/config_dump?mask=nowhere'), {
    status: 400,
    body: 'FieldMask nowhere could not be successfully applied to any configs.',
  })
  for (const mask of ['nowhere', 'cluster.nowhere', 'error_state.details.x']) {
    t.match(await ask(`/config_dump?resource=dynamic_active_clusters&mask=${mask}`), {
      status: 400,
      body: `FieldMask paths: "${mask}"\n could not be successfully used.`,
    })
  }
  t.match(await ask('/config_dump?name_regex=('), { status: 400, body: /Error while parsing name_regex from \(/ })
})

t.test('endpoints come when they are asked for: delivered ones, and those that clusters have by now', async (t) => {
  const panel = fakePanel(dynamicStatus(everything()), { source })
  const host = { hostname: 'h', weight: 3, priority: 0, region: 'r', zone: 'z', subZone: '', health: 'healthy' }
  const seen = (name: string, address: string) => ({ name, thresholds: [], hosts: [{ ...host, address, stats: {} }] })
  panel.status_ = {
    listeners: [],
    clusters: [seen('static', '10.0.0.1:80'), seen('half', '[::1]:81'), seen('good', 'x')],
  }
  panel.config = {
    ...panel.config,
    clusters: [{ name: 'good', type: 'eds', assignment: 'good' }],
  } as unknown as FakePanel['config']
  const ask = await start(t, panel)
  t.equal(parts((await ask('/config_dump')).body).has('EndpointsConfigDump'), false)
  const dump = parts((await ask('/config_dump?include_eds')).body).get('EndpointsConfigDump')
  t.match(dump, {
    static_endpoint_configs: [
      {
        endpoint_config: {
          '@type': TYPE + ENDPOINTS,
          cluster_name: 'static',
          endpoints: [
            {
              locality: { region: 'r', zone: 'z' },
              lb_endpoints: [
                {
                  endpoint: { address: { socket_address: { address: '10.0.0.1', port_value: 80 } }, hostname: 'h' },
                  health_status: 'HEALTHY',
                  load_balancing_weight: 3,
                },
              ],
            },
          ],
        },
      },
    ],
    dynamic_endpoint_configs: [
      { version_info: 'e1', endpoint_config: { cluster_name: 'good' } },
      { endpoint_config: { cluster_name: 'half' } },
    ],
  })
  t.equal(JSON.parse((await ask('/config_dump?include_eds&resource=dynamic_endpoint_configs')).body).configs.length, 2)
  const lines = (await ask('/clusters')).body.split('\n')
  t.ok(lines.includes('half::added_via_api::true'))
  t.ok(lines.includes('static::added_via_api::false'))
  t.ok(lines.includes('good::eds_service_name::good'))
})

/** Sets every field that may hold a secret, wherever the schema has it, and looks for the text in the dump. */
t.test('no field that the API calls sensitive leaves, wherever it stands', async (t) => {
  const tls = { '@type': `${TYPE}envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext` }
  const typed = (type: string, value: JsonObject): JsonObject => ({ '@type': `${TYPE}${type}`, ...value })
  const inline = { inline_string: KEY }
  const secrets: JsonObject[] = [
    {
      transport_socket: {
        name: 'tls',
        typed_config: {
          ...tls,
          common_tls_context: {
            tls_certificates: [
              {
                private_key: { inline_bytes: Buffer.from(KEY).toString('base64') },
                password: inline,
                pkcs12: { inline_bytes: Buffer.from(KEY).toString('base64') },
                private_key_provider: {
                  provider_name: 'p',
                  typed_config: typed('google.protobuf.StringValue', { value: KEY }),
                },
              },
            ],
          },
        },
      },
    },
    {
      typed_extension_protocol_options: {
        a: typed('envoy.extensions.filters.network.redis_proxy.v3.RedisProtocolOptions', { auth_password: inline }),
        b: typed('xds.type.v3.TypedStruct', {
          type_url: `${TYPE}${SECRET}`,
          value: { generic_secret: { secret: inline, secrets: { x: inline } } },
        }),
        c: typed('udpa.type.v1.TypedStruct', {
          type_url: 'type.googleapis.com/unknown.Thing',
          value: { password: KEY },
        }),
        d: typed('envoy.extensions.filters.http.basic_auth.v3.BasicAuth', { users: inline }),
        e: typed('envoy.extensions.filters.http.ext_authz.v3.CheckSettings', { context_extensions: { k: KEY } }),
        f: typed('google.protobuf.Struct', { value: { api_key: KEY } }),
        g: typed('envoy.config.core.v3.GrpcService', {
          google_grpc: { target_uri: 'x', stat_prefix: 'x', call_credentials: [{ access_token: KEY }] },
          initial_metadata: [{ key: 'Authorization', value: KEY }],
        }),
        h: typed('envoy.extensions.transport_sockets.tls.v3.TlsSessionTicketKeys', {
          keys: [{ inline_bytes: Buffer.from(KEY).toString('base64') }],
        }),
      },
    },
  ]
  const wanted = [KEY, Buffer.from(KEY).toString('base64')]
  const resources = secrets.map((more, i) =>
    delivered(CLUSTER, `c${i}`, {
      active: { version: '1', bytes: cluster(`c${i}`, more) },
      failed: { version: '2', bytes: cluster(`c${i}`, more) },
    }),
  )
  const cut = wire(registry, SECRET, { name: 'x', generic_secret: { secret: inline } }).subarray(0, -1)
  resources.push(delivered(SECRET, 'cut', { failed: { version: '1', bytes: cut } }))
  const document = { static_resources: { clusters: secrets.map((more, i) => ({ name: `s${i}`, ...more })) } }
  const panel = fakePanel(dynamicStatus(resources), { source: document })
  const ask = await start(t, panel)
  const { body } = await ask('/config_dump')
  for (const text of wanted) t.notMatch(body, text)
  t.match(body, 'W3JlZGFjdGVkXQ==')
  t.equal(body.match(/"stat_prefix": "x"/g)?.length, 4, 'what is not secret stays, delivered, refused and written')
  const status = await ask('/v3/discovery:client_status', { method: 'POST' })
  for (const text of wanted) t.notMatch(status.body, text)
  t.equal(status.body.match(/"stat_prefix": "x"/g)?.length, 3)
})

t.test('credentials leave in no form: headers by name, Structs, fields that have no schema', async (t) => {
  const struct = (value: JsonObject): JsonObject => ({ '@type': `${TYPE}google.protobuf.Struct`, value })
  const typed = (type: string, value: JsonObject): JsonObject => ({
    '@type': `${TYPE}xds.type.v3.TypedStruct`,
    type_url: TYPE + type,
    value,
  })
  const secret = (i: number): string => `hidden-${i}`
  const header = (key: string, i: number): JsonObject => ({ header: { key, value: secret(i) } })
  const table: JsonObject = {
    name: 'r',
    request_headers_to_add: [
      header('Authorization', 1),
      header('x-amz-security-token', 2),
      header('X-Goog-Api-Key', 3),
      header('grpc-auth-bin', 4),
      { header: { key: 'x-plain', value: 'shown-1' } },
    ],
    response_headers_to_add: [header('set-cookie', 5)],
    virtual_hosts: [
      {
        name: 'v',
        domains: ['*'],
        routes: [
          {
            match: {
              prefix: '/',
              headers: [
                { name: 'authorization', string_match: { exact: secret(6), ignore_case: true }, invert_match: true },
                { name: 'x-api-key', present_match: true },
                { name: 'x-plain', string_match: { exact: 'shown-2' } },
              ],
            },
            direct_response: { status: 200 },
            metadata: { filter_metadata: { mine: { bearer_token: secret(7), token_uri: 'shown-3' } } },
          },
        ],
      },
    ],
  }
  const options = (any: JsonObject): JsonObject => ({
    name: 'c',
    connect_timeout: '1s',
    typed_extension_protocol_options: { x: any },
  })
  const resources: readonly (readonly [string, JsonObject])[] = [
    [ROUTES, table],
    [CLUSTER, options(struct({ admin_password: secret(8), tokens: { a: secret(9), name: 'shown-4' } }))],
    [CLUSTER, options(struct({ headers: [{ name: 'Authorization', value: secret(10) }], secrets: [secret(11)] }))],
    [CLUSTER, options(typed('not.Known', { auth: { hmacSecret: secret(12) }, password: { value: secret(13) } }))],
    [CLUSTER, options(typed('google.protobuf.Struct', { client_secret: secret(14) }))],
    [
      CLUSTER,
      options({
        '@type': `${TYPE}envoy.extensions.filters.http.aws_lambda.v3.Config`,
        arn: 'shown-5',
        credentials: { access_key_id: 'shown-6', secret_access_key: secret(15), session_token: secret(16) },
      }),
    ],
    [
      SECRET,
      {
        name: 's',
        tls_certificate: {
          private_key_provider: { provider_name: 'shown-7', typed_config: struct({ anything: secret(17) }) },
        },
      },
    ],
  ]
  const schema = new SecretSchema(registry)
  const shown: string[] = []
  for (const [type, json] of resources) {
    const document = redactDocument(schema, registry.expect(type), json)
    const message = anyJson(schema, type, wire(registry, type, json))
    for (const [form, text] of Object.entries({ document, message }).map(([f, v]) => [f, JSON.stringify(v)])) {
      t.notMatch(text, /hidden-/, `${form} of ${JSON.stringify(json)}`)
      shown.push(...(text.match(/shown-\d/g) ?? []))
    }
    t.ok(wire(registry, type, document as JsonObject), 'what is left is still one')
  }
  t.strictSame(
    [...new Set(shown)].sort(),
    [1, 2, 3, 4, 5, 6, 7].map((i) => `shown-${i}`),
  )
  const unknown = redactDocument(schema, registry.expect(CLUSTER), { name: 'c', of_a_later_version: { token: 'x' } })
  t.strictSame(unknown, { name: 'c', of_a_later_version: { token: '[redacted]' } })
})

t.test('what is not known is kept: types without a schema, and names of files', async (t) => {
  const desc = registry.expect(EXTENSION)
  const unknown = wire(registry, EXTENSION, { name: 'u' })
  const any = Buffer.from([0x0a, 0x05, ...Buffer.from('a/b.C'), 0x12, 0x02, 1, 2])
  const bytes = Buffer.concat([unknown, Buffer.from([0x12, any.length]), any])
  const secret = wire(registry, SECRET, { name: 'f', tls_certificate: { private_key: { filename: '/etc/key.pem' } } })
  const ask = await start(
    t,
    fakePanel(
      dynamicStatus([
        delivered(EXTENSION, 'u', { active: { version: '1', bytes } }),
        delivered('company.Thing', 't', { active: { version: '1', bytes: Buffer.from([7]) } }),
        delivered(SECRET, 'f', { active: { version: '1', bytes: secret } }),
      ]),
    ),
  )
  t.equal(desc.fields[1].number, 2)
  const { body } = await ask('/config_dump')
  t.match(parts(body).get('EcdsConfigDump'), {
    ecds_filters: [{ ecds_filter: { name: 'u', typed_config: { '@type': 'a/b.C', value: 'AQI=' } } }],
  })
  t.match(body, '/etc/key.pem')
  const status = await ask('/v3/discovery:client_status', { method: 'POST' })
  t.match(JSON.parse(status.body).config[0].generic_xds_configs[1], {
    type_url: `${TYPE}company.Thing`,
    xds_config: { '@type': `${TYPE}company.Thing`, value: 'Bw==' },
  })
})

t.test('documents lose their secrets in either spelling, by schema where there is one', async (t) => {
  const schema = new SecretSchema(registry)
  const clean = redactDocument(schema, registry.expect(SECRET), {
    name: 'n',
    tlsCertificate: {
      certificateChain: { inlineString: 'public' },
      privateKey: { inlineBytes: 'QUJD', filename: '/k', watchedDirectory: null },
      ocsp_staple: { inline_string: 'staple' },
    },
    sessionTicketKeys: { keys: [{ inlineString: 'k' }, 'not a source'] },
    strange: 1,
  })
  t.strictSame(clean, {
    name: 'n',
    tls_certificate: {
      certificate_chain: { inline_string: 'public' },
      private_key: { inline_bytes: 'W3JlZGFjdGVkXQ==', filename: '/k' },
      ocsp_staple: { inline_string: 'staple' },
    },
    session_ticket_keys: { keys: [{ inline_string: '[redacted]' }, '[redacted]'] },
    strange: 1,
  })
})

t.test('a dump of ten thousand clusters lets the event loop turn', async (t) => {
  const bytes = cluster('c', { metadata: { filter_metadata: { m: { a: 'b'.repeat(200) } } } })
  const resources = Array.from({ length: 10_000 }, (_, i) =>
    delivered(CLUSTER, `c${i}`, { active: { version: '1', bytes } }),
  )
  const statics = Array.from({ length: 10_000 }, (_, i) => ({ name: `s${i}`, connect_timeout: '1s' }))
  const panel = fakePanel(dynamicStatus(resources), { source: { static_resources: { clusters: statics } } })
  const ask = await start(t, panel)
  await ask('/config_dump?resource=static_secrets')
  const delay = monitorEventLoopDelay({ resolution: 5 })
  delay.enable()
  const { body } = await ask('/config_dump')
  delay.disable()
  t.equal((body.match(/"version_info": "1"/g) ?? []).length, 10_001)
  t.comment(`${delay.max / 1e6} ms`)
  t.ok(delay.max / 1e6 < 500, `${delay.max / 1e6} ms at a stretch`)
})

t.test('what is not ready is listed with what it waits for', async (t) => {
  const waiting = [
    { target: 'listener web', for: ['Secret cert of ads', 'RouteConfiguration r of ads'] },
    { target: 'cluster api', for: ['ClusterLoadAssignment api of ads'] },
  ]
  const panel = fakePanel(dynamicStatus([], { waiting }))
  const ask = await start(t, panel)
  const dumps = async (query: string) => JSON.parse((await ask(`/init_dump${query}`)).body) as JsonObject
  t.strictSame(await dumps(''), {
    unready_targets_dumps: waiting.map((one) => ({ name: one.target, target_names: one.for })),
  })
  t.match(await dumps('?mask=listener'), { unready_targets_dumps: [{ name: 'listener web' }] })
  t.strictSame(await dumps('?mask=other'), {})
  panel.dynamic_ = undefined
  t.strictSame(await dumps(''), {})
})

t.test('the runtime shows every layer, and its admin layer takes values by query and by form', async (t) => {
  const layers = [
    {
      name: 'static',
      values: new Map<string, unknown>([
        ['a', 1],
        ['b.c', true],
      ]),
    },
    { name: 'rtds', values: new Map<string, unknown>([['a', { numerator: 5 }]]) },
    { name: 'admin', values: new Map<string, unknown>() },
  ]
  const panel = fakePanel(dynamicStatus([], { layers }))
  const ask = await start(t, panel)
  const shown = async (): Promise<Json> => JSON.parse((await ask('/runtime')).body) as Json
  t.strictSame(await shown(), {
    layers: ['static', 'rtds', 'admin'],
    entries: {
      a: { layer_values: ['1', '{"numerator":5}', ''], final_value: '{"numerator":5}' },
      'b.c': { layer_values: ['true', '', ''], final_value: 'true' },
    },
  })
  const post = { method: 'POST' }
  t.match(await ask('/runtime_modify?a=1&b=', post), { status: 200, body: 'OK\n' })
  const form = { ...post, headers: { 'content-type': 'application/x-www-form-urlencoded; charset=utf-8' } }
  t.match(await ask('/runtime_modify', { ...form, body: 'c=d+e&f=%26' }), { status: 200 })
  t.strictSame(panel.modified, [
    { a: '1', b: '' },
    { c: 'd e', f: '&' },
  ])
  t.match(await ask('/runtime_modify', { ...post, body: 'c=d' }), { status: 400, body: /^usage: \/runtime_modify\?/ })
  t.equal((await ask('/runtime_modify?a=1')).status, 405)
  t.equal((await ask('/runtime_modify', { ...form, body: 'x'.repeat(1024 * 1024 + 1) })).status, 413)
  panel.adminLayer = false
  t.match(await ask('/runtime_modify?a=1', post), { status: 503, body: 'No admin layer specified' })
  panel.dynamic_ = undefined
  const layered: JsonObject = {
    layers: [{ name: 'l0', static_layer: { x: { y: 2 }, z: { numerator: 1 } } }, { name: 'l1' }],
  }
  panel.config = { ...panel.config, source: { layered_runtime: layered } }
  t.match(await shown(), { layers: ['l0', 'l1'], entries: { 'x.y': { final_value: '2' }, z: {} } })
})

t.test('certificates of listeners and clusters show until when they are good', async (t) => {
  const authority = await Authority.create()
  const issued = await authority.issue({ dns: ['a.example'], uri: ['spiffe://x/y'], ip: ['10.0.0.1'], toDays: 10 })
  const tls = {
    certificates: [{ certificateChain: issued.chain, privateKey: KEY }],
    validation: { trustedCa: authority.pem },
  }
  const config = {
    listeners: [{ name: 'l', filterChains: [{ tls }, { tls }], defaultFilterChain: undefined }],
    clusters: [
      { name: 'c', tls: { certificates: [], validation: { trustedCa: authority.pem } } },
      { name: 'plain' },
      { name: 'none', tls: { certificates: [] } },
    ],
  }
  const panel = fakePanel(undefined, config as never)
  const ask = await start(t, panel)
  const { body } = await ask('/certs')
  const { certificates } = JSON.parse(body) as { certificates: JsonObject[] }
  t.equal(certificates.length, 2, 'the same certificates appear once')
  t.match(certificates[0], {
    ca_cert: [{ path: '<inline>' }],
    cert_chain: [
      {
        path: '<inline>',
        serial_number: /^[0-9a-f]+$/,
        subject_alt_names: [{ dns: 'a.example' }, { uri: 'spiffe://x/y' }, { ip_address: '10.0.0.1' }],
        days_until_expiration: /^(9|10)$/,
        valid_from: /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/,
        expiration_time: /Z$/,
      },
    ],
  })
  t.match(certificates[1], { ca_cert: [{ path: '<inline>' }], cert_chain: [] })
  t.notMatch(body, KEY)
})
