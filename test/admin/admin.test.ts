import { once } from 'node:events'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import type { IncomingHttpHeaders, IncomingMessage } from 'node:http'
import http from 'node:http'
import net from 'node:net'
import { tmpdir } from 'node:os'
import type { Test } from 'tap'
import t from 'tap'
import { nativeDump } from '../../lib/admin/config-dump.ts'
import type { AdminBackend } from '../../lib/admin/endpoint.ts'
import { refusal } from '../../lib/admin/guard.ts'
import { redact } from '../../lib/admin/redact.ts'
import type { AdminServer } from '../../lib/admin/server.ts'
import { startAdmin } from '../../lib/admin/server.ts'
import type { GatewayConfig } from '../../lib/config/model.ts'
import type { Address } from '../../lib/core/address.ts'
import { formatAddress } from '../../lib/core/address.ts'
import type { JsonObject } from '../../lib/core/errors.ts'
import { ConfigRefused } from '../../lib/core/errors.ts'
import type { EngineStatus, MetricsSnapshot } from '../../lib/runtime/engine.ts'
import type { ServerState } from '../../lib/runtime/server-state.ts'

const quiet = { debug() {}, info() {}, warn() {}, error() {} }

const status: EngineStatus = {
  listeners: [
    {
      name: 'ingress',
      addresses: [
        { kind: 'ip', host: '0.0.0.0', port: 10000 },
        { kind: 'ip', host: '::1', port: 10001 },
      ],
    },
    { name: 'local', addresses: [{ kind: 'pipe', path: '/run/x' }] },
  ],
  clusters: [
    {
      name: 'web',
      thresholds: [{ priority: 'default', maxConnections: 1024, maxPendingRequests: 2, maxRequests: 3, maxRetries: 4 }],
      hosts: [
        {
          address: '10.0.0.1:80',
          hostname: 'one',
          weight: 7,
          priority: 1,
          region: 'r',
          zone: 'z',
          subZone: 's',
          health: '/failed_outlier_check/failed_eds_health',
          stats: { cx_active: 2, cx_total: 9 },
        },
      ],
    },
  ],
}

const metrics: MetricsSnapshot = {
  counters: [
    ['cluster.web.upstream_rq_total', 5],
    ['cluster.web.upstream_rq_unused', 0],
  ],
  gauges: [['cluster.web.upstream_rq_active', 1]],
  histograms: [],
}

const config: GatewayConfig = {
  node: { id: 'n1', cluster: 'c1', locality: { region: 'eu', zone: 'a', subZone: '' } },
  listeners: [],
  clusters: [],
  runtime: {},
  ignored: ['static_resources.clusters[0].outlier_detection'],
  source: {
    node: { id: 'n1' },
    static_resources: {
      listeners: [
        {
          name: 'ingress',
          filterChains: [
            {
              filters: [
                {
                  name: 'hcm',
                  typed_config: {
                    '@type':
                      'type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager',
                    route_config: { name: 'local_route', virtual_hosts: [] },
                  },
                },
              ],
            },
          ],
        },
      ],
      clusters: [{ name: 'web', connect_timeout: '1s' }],
    },
  },
}

interface Fake extends AdminBackend {
  readonly calls: unknown[]
  current: ServerState
  running: boolean
  broken: boolean
}

function fakeBackend(): Fake {
  const calls: unknown[] = []
  let level: string | undefined
  return {
    calls,
    current: 'LIVE',
    running: true,
    broken: false,
    state() {
      return this.current
    },
    uptimeMs: () => 61_999,
    workers: () => 2,
    configuration() {
      return this.running ? { config, updatedMs: Date.UTC(2026, 0, 2) } : undefined
    },
    async stats() {
      if (this.broken) throw new Error('broken')
      return metrics
    },
    status: async () => status,
    memory: async () => ({ rss: 300, heapUsed: 10, heapTotal: 20, external: 5 }),
    dynamic: () => undefined,
    modifyRuntime: () => 'No admin layer specified',
    loads: () => {
      throw new Error('not asked for here')
    },
    logLevel: () => level,
    setLogLevel(next) {
      level = next
      calls.push(['level', next])
    },
    drainListeners: (wish) => void calls.push(['drain', wish]),
    setHealthy: (ok) => void calls.push(['healthy', ok]),
    reopenLogs: () => void calls.push('reopen'),
    restartWorkers: () => calls.push('restart') > 0,
    quit: () => void calls.push('quit'),
  }
}

interface Answer {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly body: string
}

interface Admin {
  readonly backend: Fake
  readonly server: AdminServer
  ask(path: string, options?: http.RequestOptions): Promise<Answer>
  post(path: string): Promise<Answer>
}

async function start(t: Test, address: Address = { kind: 'ip', host: '127.0.0.1', port: 0 }): Promise<Admin> {
  const backend = fakeBackend()
  const identity = { version: 'headgate/1', options: { config_path: '/etc/x', config_yaml: 'a: {password: x}' } }
  const server = await startAdmin({ address, backend, identity, log: quiet })
  t.teardown(() => server.close())
  const at = server.address
  const target = at.kind === 'ip' ? { host: at.host, port: at.port } : { socketPath: at.path }
  const ask = async (path: string, options: http.RequestOptions = {}): Promise<Answer> => {
    const req = http.request({ ...target, path, agent: false, ...options }).end()
    const [res] = (await once(req, 'response')) as [IncomingMessage]
    let body = ''
    for await (const chunk of res) body += chunk
    return { status: res.statusCode ?? 0, headers: res.headers, body }
  }
  return { backend, server, ask, post: (path) => ask(path, { method: 'POST' }) }
}

t.test('the state is answered in Envoy words, 200 only when live', async (t) => {
  const { ask, backend } = await start(t)
  t.match(await ask('/ready'), { status: 200, body: 'LIVE\n' })
  for (const state of ['PRE_INITIALIZING', 'INITIALIZING', 'DRAINING'] as const) {
    backend.current = state
    t.match(await ask('/ready'), { status: 503, body: `${state}\n` })
  }
})

t.test('the index and an unknown path list every endpoint', async (t) => {
  const { ask } = await start(t)
  const index = await ask('/')
  t.match(index.headers['content-type'], /^text\/html/)
  t.match(index.headers['content-security-policy'], /frame-ancestors 'none'/)
  const missing = await ask('/nothing')
  t.equal(missing.status, 404)
  const help = await ask('/help')
  const paths =
    '/certs /clusters /config_dump /drain_listeners /healthcheck/fail /healthcheck/ok /init_dump /listeners /logging /memory /quitquitquit /ready /reopen_logs /restart_workers /runtime /runtime_modify /server_info /stats /stats/prometheus /v3/discovery:client_status'
  for (const path of paths.split(' ')) {
    t.match(index.body, `"${path}"`)
    t.match(missing.body, `  ${path}`)
    t.match(help.body, `  ${path}`)
  }
})

t.test('what changes something takes POST only, what looks takes GET and HEAD only', async (t) => {
  const { ask, post, backend } = await start(t)
  for (const path of [
    '/quitquitquit',
    '/drain_listeners',
    '/healthcheck/fail',
    '/logging?level=debug',
    '/reopen_logs',
    '/restart_workers',
  ]) {
    const answer = await ask(path)
    t.equal(answer.status, 405)
    t.equal(answer.headers.allow, 'POST')
  }
  const looked = await post('/ready')
  t.equal(looked.status, 405)
  t.equal(looked.headers.allow, 'GET, HEAD')
  t.strictSame(backend.calls, [])
  const head = await ask('/ready', { method: 'HEAD' })
  t.equal(head.headers['content-length'], '5')
  t.equal(head.body, '')
  t.match(await ask('/stats', { method: 'HEAD' }), { status: 200, body: '' })
})

t.test('POST drains, fails and heals, reopens, sets the level and quits', async (t) => {
  const { post, backend } = await start(t)
  t.match(await post('/logging'), { status: 200, body: /headgate: as started/ })
  t.match(await post('/logging?level=warning'), { status: 200, body: 'active loggers:\n  headgate: warn\n' })
  t.match(await post('/logging?level=loud'), { status: 400, body: /must be one of trace, debug, .*not "loud"/ })
  t.match(await post('/logging?paths=http:debug'), { status: 400, body: /paths: is not a parameter/ })
  t.match(await post('/drain_listeners?skip_exit'), { status: 400, body: 'skip_exit requires graceful\n' })
  for (const path of [
    '/drain_listeners',
    '/drain_listeners?inboundonly',
    '/drain_listeners?graceful&skip_exit',
    '/healthcheck/fail',
    '/healthcheck/ok',
    '/reopen_logs',
    '/restart_workers',
    '/quitquitquit',
  ]) {
    t.match(await post(path), { status: 200, body: 'OK\n' })
  }
  const now = { inboundOnly: false, graceful: false, skipExit: false }
  t.strictSame(backend.calls, [
    ['level', 'warn'],
    ['drain', now],
    ['drain', { ...now, inboundOnly: true }],
    ['drain', { ...now, graceful: true, skipExit: true }],
    ['healthy', false],
    ['healthy', true],
    'reopen',
    'restart',
    'quit',
  ])
})

t.test('server info, clusters, listeners and memory have the shapes of Envoy', async (t) => {
  const { ask } = await start(t)
  t.strictSame(JSON.parse((await ask('/server_info')).body), {
    version: 'headgate/1',
    state: 'LIVE',
    uptime_current_epoch: '61s',
    uptime_all_epochs: '61s',
    hot_restart_version: 'disabled',
    command_line_options: { concurrency: 2, config_path: '/etc/x', config_yaml: '[redacted]' },
    node: { id: 'n1', cluster: 'c1', user_agent_name: 'headgate', locality: { region: 'eu', zone: 'a', sub_zone: '' } },
  })
  const clusters = (await ask('/clusters')).body.split('\n')
  for (const line of [
    'web::observability_name::web',
    'web::default_priority::max_connections::1024',
    'web::added_via_api::false',
    'web::10.0.0.1:80::cx_total::9',
    'web::10.0.0.1:80::hostname::one',
    'web::10.0.0.1:80::health_flags::/failed_outlier_check/failed_eds_health',
    'web::10.0.0.1:80::weight::7',
    'web::10.0.0.1:80::sub_zone::s',
  ]) {
    t.ok(clusters.includes(line), line)
  }
  t.notOk(
    clusters.some((line) => line.includes('::outlier::')),
    'it has no outlier detection',
  )
  const [cluster] = JSON.parse((await ask('/clusters?format=json')).body).cluster_statuses
  t.match(cluster, {
    name: 'web',
    circuit_breakers: { thresholds: [{ priority: 'DEFAULT', max_retries: 4 }] },
    host_statuses: [
      {
        address: { socket_address: { address: '10.0.0.1', port_value: 80 } },
        stats: [
          { name: 'cx_active', value: '2', type: 'GAUGE' },
          { name: 'cx_total', value: '9' },
        ],
        health_status: { failed_outlier_check: true, eds_health_status: 'UNHEALTHY' },
        locality: { sub_zone: 's' },
      },
    ],
  })
  t.equal((await ask('/listeners')).body, 'ingress::0.0.0.0:10000\ningress::[::1]:10001\nlocal::/run/x\n')
  t.strictSame(JSON.parse((await ask('/listeners?format=json')).body), {
    listener_statuses: [
      {
        name: 'ingress',
        local_address: { socket_address: { address: '0.0.0.0', port_value: 10000 } },
        additional_local_addresses: [{ socket_address: { address: '::1', port_value: 10001 } }],
      },
      { name: 'local', local_address: { pipe: { path: '/run/x' } } },
    ],
  })
  t.match(JSON.parse((await ask('/memory')).body), { allocated: '15', heap_size: '25', total_physical_bytes: '300' })
  t.match(await ask('/clusters?format=xml'), { status: 400, body: /format: must be text or json, not "xml"/ })
})

t.test('clusters show success rates and thresholds where there are some', async (t) => {
  const { ask, backend } = await start(t)
  const [web] = (await backend.status()).clusters
  const figures = { average: 66.666666666, threshold: 12.5 }
  const rated = {
    ...web,
    statName: 'other',
    outlier: { external: figures, local: { average: -1, threshold: -1 } },
    hosts: web.hosts.map((host) => ({ ...host, rates: { external: 40, local: -1 } })),
  }
  backend.status = async () => ({ listeners: [], clusters: [rated] })
  const lines = (await ask('/clusters')).body.split('\n')
  t.same(lines.slice(0, 5), [
    'web::observability_name::other',
    'web::outlier::success_rate_average::66.6667',
    'web::outlier::success_rate_ejection_threshold::12.5',
    'web::outlier::local_origin_success_rate_average::-1',
    'web::outlier::local_origin_success_rate_ejection_threshold::-1',
  ])
  t.ok(lines.includes('web::10.0.0.1:80::success_rate::40'))
  t.ok(lines.includes('web::10.0.0.1:80::local_origin_success_rate::-1'))
  const [status] = JSON.parse((await ask('/clusters?format=json')).body).cluster_statuses
  t.match(status, {
    observability_name: 'other',
    success_rate_ejection_threshold: { value: 12.5 },
    host_statuses: [{ success_rate: { value: 40 } }],
  })
  t.notOk('local_origin_success_rate_ejection_threshold' in status)
  t.notOk('local_origin_success_rate' in status.host_statuses[0])
})

t.test('statistics come as text, JSON and for Prometheus, all or selected', async (t) => {
  const { ask, backend } = await start(t)
  t.equal(
    (await ask('/stats')).body,
    'cluster.web.upstream_rq_active: 1\ncluster.web.upstream_rq_total: 5\ncluster.web.upstream_rq_unused: 0\n',
  )
  t.equal((await ask('/stats?usedonly&filter=rq_(total|unused)')).body, 'cluster.web.upstream_rq_total: 5\n')
  t.strictSame(JSON.parse((await ask('/stats?format=json&filter=total')).body), {
    stats: [{ name: 'cluster.web.upstream_rq_total', value: 5 }],
  })
  for (const path of ['/stats/prometheus', '/stats?format=prometheus']) {
    const answer = await ask(`${path}${path.includes('?') ? '&' : '?'}usedonly`)
    t.match(answer.headers['content-type'], /version=0\.0\.4/)
    t.match(answer.body, /^# TYPE envoy_cluster_upstream_rq_total counter$/m)
    t.match(answer.body, /^envoy_cluster_upstream_rq_total\{envoy_cluster_name="web"\} 5$/m)
    t.notMatch(answer.body, /unused/)
  }
  t.match(await ask('/stats?filter=('), { status: 400, body: /filter: invalid regular expression/ })
  t.match(await ask('/stats?format=yaml'), { status: 400, body: /must be one of text, json, prometheus/ })
  t.match(await ask('/stats?type=Counters'), { status: 400, body: /type: is not a parameter of \/stats/ })
  backend.broken = true
  t.match(await ask('/stats'), { status: 500, body: 'internal error\n' })
})

t.test('the configuration dump has the parts that tools look for, and what is ignored', async (t) => {
  const { ask, backend } = await start(t)
  const { configs } = JSON.parse((await ask('/config_dump')).body) as { configs: JsonObject[] }
  const types = configs.map((c) => String(c['@type']).replace('type.googleapis.com/', ''))
  t.strictSame(types, [
    'envoy.admin.v3.BootstrapConfigDump',
    'envoy.admin.v3.ClustersConfigDump',
    'envoy.admin.v3.EcdsConfigDump',
    'envoy.admin.v3.ListenersConfigDump',
    'envoy.admin.v3.ScopedRoutesConfigDump',
    'envoy.admin.v3.RoutesConfigDump',
    'envoy.admin.v3.SecretsConfigDump',
    'google.protobuf.Struct',
  ])
  t.match(configs[0], { bootstrap: { node: { id: 'n1' } }, last_updated: '2026-01-02T00:00:00.000Z' })
  t.match(configs[1], {
    static_clusters: [
      {
        cluster: { '@type': 'type.googleapis.com/envoy.config.cluster.v3.Cluster', name: 'web', connect_timeout: '1s' },
      },
    ],
  })
  t.match(configs[3], { static_listeners: [{ listener: { name: 'ingress' } }] })
  t.match(configs[5], { static_route_configs: [{ route_config: { name: 'local_route', virtual_hosts: [] } }] })
  t.strictSame(configs[7].value, { ignored_fields: ['static_resources.clusters[0].outlier_detection'] })
  t.match(await ask('/config_dump?bundle=x'), { status: 400, body: /bundle: is not a parameter/ })
  backend.running = false
  t.equal((await ask('/config_dump')).status, 503)
})

t.test('a native configuration is dumped as data, without its code and secrets', async (t) => {
  const filter = {
    name: 'f',
    instance: { onRequestHeaders() {} },
    config: { client_secret: 'abc' },
    tls: { ticketKeys: ['abc'] },
  }
  const native = { ...config, source: undefined, listeners: [filter] } as unknown as GatewayConfig
  t.match(nativeDump(native), {
    '@type': 'type.googleapis.com/google.protobuf.Struct',
    value: {
      listeners: [
        {
          name: 'f',
          instance: '[object]',
          config: { client_secret: '[redacted]' },
          tls: { ticketKeys: ['[redacted]'] },
        },
      ],
    },
  })
})

t.test('inline secrets never leave, in either spelling; names and files stay', async (t) => {
  const data = { inline_string: 'secret', inline_bytes: 'c2VjcmV0', filename: '/etc/key' }
  const clean = { inline_string: '[redacted]', inline_bytes: 'W3JlZGFjdGVkXQ==', filename: '/etc/key' }
  t.strictSame(
    redact({
      private_key: data,
      password: { inlineString: 'secret' },
      tls: [{ sessionTicketKeys: { keys: [data] } }],
      token_secret: { name: 'n', sds: { inline_string: 'secret' } },
      generic_secret: { secret: data },
      clientSecret: 'secret',
      certificates: [{ privateKey: 'secret', passphrase: 'secret' }],
      secrets: [{ inline_string: 'secret' }],
      apiKey: ['secret', 'secret'],
      body: { inline_string: 'hello' },
      count: 1,
      none: null,
    }),
    {
      private_key: clean,
      password: { inlineString: '[redacted]' },
      tls: [{ sessionTicketKeys: { keys: [clean] } }],
      token_secret: { name: 'n', sds: { inline_string: '[redacted]' } },
      generic_secret: { secret: clean },
      clientSecret: '[redacted]',
      certificates: [{ privateKey: '[redacted]', passphrase: '[redacted]' }],
      secrets: [{ inline_string: '[redacted]' }],
      apiKey: ['[redacted]', '[redacted]'],
      body: { inline_string: 'hello' },
      count: 1,
      none: null,
    },
  )
})

t.test('foreign Host and Origin are refused, own ones and programs are not', async (t) => {
  const { ask, backend, server } = await start(t)
  const host = formatAddress(server.address)
  t.match(await ask('/ready', { headers: { host: 'evil.example:15000' } }), {
    status: 403,
    body: /host evil\.example:15000/,
  })
  const foreign = await ask('/quitquitquit', { method: 'POST', headers: { host, origin: 'http://evil.example' } })
  t.match(foreign, { status: 403, body: /origin http:\/\/evil\.example/ })
  t.strictSame(backend.calls, [])
  t.equal((await ask('/quitquitquit', { method: 'POST', headers: { host, origin: `http://${host}` } })).status, 200)
  const at: Address = { kind: 'ip', host: 'admin.internal', port: 1 }
  const pipe: Address = { kind: 'pipe', path: '/s' }
  for (const name of [
    '127.0.0.1',
    '10.1.2.3:80',
    '[::1]:80',
    'localhost',
    'LOCALHOST:1',
    'Admin.Internal:9',
    undefined,
  ]) {
    t.equal(refusal(at, name, undefined), undefined, String(name))
  }
  for (const name of ['localhost.evil', '1.2.3.4.evil', '', '[::1', 'admin.internal.evil:1']) {
    t.ok(refusal(at, name, undefined), name)
  }
  t.ok(refusal(at, 'localhost:1', 'null'))
  t.ok(refusal(at, 'localhost:1', 'http://localhost:2'), 'another port is another origin')
  t.equal(refusal(pipe, 'anything', undefined), undefined)
  t.ok(refusal(pipe, 'anything', 'http://anything'))
})

t.test('it listens on Unix sockets too, and an address in use is refused by name', async (t) => {
  const dir = mkdtempSync(`${tmpdir()}/hg-`)
  t.teardown(() => rmSync(dir, { recursive: true, force: true }))
  const address: Address = { kind: 'pipe', path: `${dir}/admin`, mode: 0o600 }
  const { ask, server } = await start(t, address)
  t.match(await ask('/ready', { headers: { host: 'whatever' } }), { status: 200 })
  const options = { backend: fakeBackend(), identity: { version: '', options: {} }, log: quiet }
  const error = await startAdmin({ address, ...options }).catch((e: unknown) => e)
  t.ok(error instanceof ConfigRefused)
  t.match(String(error), /admin\.address: cannot listen on .*\/admin: the address is already in use/)
  await server.close()
  t.notOk(existsSync(`${dir}/admin`))
})

t.test('closing ends open connections', async (t) => {
  const { server } = await start(t)
  if (server.address.kind !== 'ip') throw new Error('no port')
  const socket = net.connect(server.address.port, server.address.host)
  await once(socket, 'connect')
  socket.resume()
  const closed = once(socket, 'close')
  await server.close()
  await closed
  t.pass('closed')
})
