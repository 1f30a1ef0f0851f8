import { type DescField, ScalarType } from '@bufbuild/protobuf'
import t from 'tap'
import { parseConfigText } from '../../lib/config/parse.ts'
import { ConfigRefused, type Json, type JsonObject } from '../../lib/core/errors.ts'
import { createProtoRegistry } from '../../lib/proto/registry.ts'
import { RuleChecker } from '../../lib/proto/rules.ts'
import type { ClusterConfig } from '../../lib/upstream/config.ts'
import { type EnvoyLoadContext, loadBootstrap } from '../../xds-client/envoy/load.ts'

const TYPE = 'type.googleapis.com/'

const registry = createProtoRegistry()
const context: EnvoyLoadContext = {
  registry,
  rules: new RuleChecker(registry),
  filters: new Map(),
  networkFilters: new Map(),
  listenerFilters: new Map(),
  checks: {
    format: () => undefined,
    pathTemplate: () => undefined,
    pathTemplateRewrite: () => undefined,
    tls: () => [],
  },
}

interface Parts {
  readonly cluster?: JsonObject
  readonly endpoint?: JsonObject
  readonly manager?: JsonObject
}

function load({ cluster = {}, endpoint = {}, manager = {} }: Parts): {
  cluster: ClusterConfig
  ignored: readonly string[]
} {
  const address = { socket_address: { address: '127.0.0.1', port_value: 80 } }
  const lb_endpoints = [{ endpoint: { address, ...endpoint } }]
  const load_assignment = { cluster_name: 'c', endpoints: [{ lb_endpoints }] }
  const document = {
    static_resources: { clusters: [{ name: 'c', load_assignment, ...cluster }] },
    cluster_manager: manager,
  }
  const config = loadBootstrap(parseConfigText(JSON.stringify(document), 'json'), context)
  return { cluster: config.clusters[0], ignored: config.ignored.map((entry) => JSON.stringify(entry)) }
}

/** `path: message` of each mistake. */
function refused(parts: Parts): string[] {
  try {
    load(parts)
  } catch (error) {
    if (error instanceof ConfigRefused) return error.errors.map(({ path, message }) => `${path}: ${message}`)
    throw error
  }
  return []
}

const HTTP = { http_health_check: { path: '/healthz' } }
const TIMES = { timeout: '1s', interval: '5s', unhealthy_threshold: 3, healthy_threshold: 2 }
const check = (more: JsonObject = HTTP): Parts => ({ cluster: { health_checks: [{ ...TIMES, ...more }] } })

t.test('a health check has the defaults of Envoy', async (t) => {
  t.strictSame(load(check()).cluster.healthCheck, {
    timeoutMs: 1_000,
    intervalMs: 5_000,
    intervalJitterMs: 0,
    intervalJitterPercent: 0,
    initialJitterMs: 0,
    unhealthyThreshold: 3,
    healthyThreshold: 2,
    noTrafficIntervalMs: 60_000,
    noTrafficHealthyIntervalMs: 60_000,
    unhealthyIntervalMs: 5_000,
    unhealthyEdgeIntervalMs: 5_000,
    healthyEdgeIntervalMs: 5_000,
    reuseConnection: true,
    eventLogPaths: [],
    alwaysLogFailures: false,
    alwaysLogSuccess: false,
    probe: {
      kind: 'http',
      protocol: 'http1',
      method: 'GET',
      path: '/healthz',
      host: '',
      headers: [],
      removedHeaders: [],
      userAgent: 'Envoy/HC',
      receive: [],
      responseBufferBytes: 1024,
      expectedStatuses: [],
      retriableStatuses: [],
    },
  })
  t.equal(load({}).cluster.healthCheck, undefined)
})

t.test('outlier detection has the defaults of Envoy', async (t) => {
  t.strictSame(load({ cluster: { outlier_detection: {} } }).cluster.outlier, {
    intervalMs: 10_000,
    baseEjectionTimeMs: 30_000,
    maxEjectionTimeMs: 300_000,
    maxEjectionTimeJitterMs: 0,
    maxEjectionPercent: 10,
    alwaysEjectOneHost: false,
    consecutive5xx: 5,
    consecutiveGatewayFailure: 5,
    consecutiveLocalOriginFailure: 5,
    splitExternalLocalOriginErrors: false,
    successRateMinimumHosts: 5,
    successRateRequestVolume: 100,
    successRateStdevFactor: 1_900,
    failurePercentageThreshold: 85,
    failurePercentageMinimumHosts: 5,
    failurePercentageRequestVolume: 50,
    enforcing: {
      consecutive5xx: 100,
      consecutiveGatewayFailure: 0,
      consecutiveLocalOriginFailure: 100,
      successRate: 100,
      successRateLocalOrigin: 100,
      failurePercentage: 0,
      failurePercentageLocalOrigin: 0,
    },
    uneject: true,
  })
  t.equal(load({}).cluster.outlier, undefined)
  const long = load({ cluster: { outlier_detection: { base_ejection_time: '600s' } } }).cluster.outlier
  t.equal(long?.maxEjectionTimeMs, 600_000)
  const manager = { outlier_detection: { event_log_path: '/tmp/ejections' } }
  t.equal(load({ cluster: { outlier_detection: {} }, manager }).cluster.outlier?.eventLogPath, '/tmp/ejections')
})

/** For every field of a message: what it is set to. Those that a new version of the API brings fail here. */
interface Subject {
  readonly type: string
  readonly place: (message: JsonObject) => Parts
  readonly base: JsonObject
  readonly values: JsonObject
}

const HEADER = [{ header: { key: 'x-a', value: '1' } }]
const MONITOR = `${TYPE}envoy.extensions.outlier_detection_monitors.consecutive_errors.v3.ConsecutiveErrors`
const SINK = `${TYPE}envoy.extensions.health_check.event_sinks.file.v3.HealthCheckEventFileSink`
const custom = (type: string, fields: JsonObject): Parts =>
  check({
    custom_health_check: {
      name: 'x',
      typed_config: { '@type': `${TYPE}envoy.extensions.health_checkers.${type}`, ...fields },
    },
  })
const http = (message: JsonObject): Parts => check({ http_health_check: message })

const SUBJECTS: readonly Subject[] = [
  {
    type: 'envoy.config.core.v3.HealthCheck',
    place: (message) => ({ cluster: { health_checks: [message] } }),
    base: { ...TIMES, ...HTTP },
    values: {
      http_health_check: { path: '/other' },
      tcp_health_check: {},
      grpc_health_check: {},
      custom_health_check: { name: 'x' },
      event_service: {},
      event_logger: [{ name: 'x', typed_config: { '@type': SINK, event_log_path: '/dev/null' } }],
      tls_options: { alpn_protocols: ['h2'] },
      transport_socket_match_criteria: { useMTLS: true },
      reuse_connection: false,
    },
  },
  {
    type: 'envoy.config.core.v3.HealthCheck.HttpHealthCheck',
    place: http,
    base: { path: '/' },
    values: {
      path: '/other',
      send: { text: '00ff' },
      receive: [{ binary: 'AAA=' }],
      request_headers_to_add: HEADER,
      expected_statuses: [{ start: 200, end: 300 }],
      retriable_statuses: [{ start: 200, end: 300 }],
      codec_client_type: 'HTTP2',
      service_name_matcher: { prefix: 'x' },
      method: 'POST',
      response_buffer_size: 9,
    },
  },
  {
    type: 'envoy.config.core.v3.HealthCheck.TcpHealthCheck',
    place: (tcp_health_check) => check({ tcp_health_check }),
    base: {},
    values: { send: { text: '00' }, receive: [{ text: '00' }], proxy_protocol_config: {} },
  },
  {
    type: 'envoy.config.core.v3.HealthCheck.GrpcHealthCheck',
    place: (grpc_health_check) => check({ grpc_health_check }),
    base: {},
    values: { initial_metadata: HEADER },
  },
  {
    type: 'envoy.config.cluster.v3.OutlierDetection',
    place: (outlier_detection) => ({ cluster: { outlier_detection } }),
    base: {},
    values: {
      max_ejection_time: '301s',
      successful_active_health_check_uneject_host: false,
      monitors: [{ name: 'x', typed_config: { '@type': MONITOR } }],
    },
  },
  {
    type: 'envoy.config.endpoint.v3.Endpoint.HealthCheckConfig',
    place: (health_check_config) => ({ endpoint: { health_check_config } }),
    base: {},
    values: { address: { socket_address: { address: '127.0.0.2', port_value: 81 } } },
  },
]

/** Rightly without effect. */
const EFFECTLESS = new Set([
  // Deprecated, and its successor is the same by the defaults.
  'envoy.config.core.v3.HealthCheck.hidden_envoy_deprecated_tls_options',
])

for (const { type, place, base, values } of SUBJECTS) {
  t.test(`every field of ${type} is honoured, refused or reported`, async (t) => {
    const before = JSON.stringify(load(place(base)))
    for (const field of registry.files.getMessage(type)?.fields ?? []) {
      const name = field.name
      if (EFFECTLESS.has(`${type}.${name}`)) continue
      const value = values[name] ?? sample(field)
      const oneof = field.oneof?.fields.map((member) => member.name) ?? []
      const rest = Object.fromEntries(Object.entries(base).filter(([key]) => !oneof.includes(key)))
      const parts = place({ ...rest, [name]: value })
      if (refused(parts).length > 0) continue
      t.not(JSON.stringify(load(parts)), before, `${name} makes a difference`)
    }
    t.pass('all of them')
  })
}

function sample(field: DescField): Json {
  if (field.fieldKind === 'list') return ['x-a']
  if (field.fieldKind === 'enum') return field.enum.values[1].name
  if (field.fieldKind === 'scalar') {
    if (field.scalar === ScalarType.STRING) return 'x7'
    return field.scalar === ScalarType.BOOL ? true : 7
  }
  switch (field.message?.typeName) {
    case 'google.protobuf.Duration':
      return '7s'
    case 'google.protobuf.BoolValue':
      return true
    case 'google.protobuf.UInt32Value':
    case 'google.protobuf.UInt64Value':
      return 7
    default:
      return {}
  }
}

t.test('what contradicts itself or cannot be had is refused by name', async (t) => {
  const has = (parts: Parts, pattern: RegExp): void => {
    t.match(refused(parts).join('\n'), pattern)
  }
  has(
    {
      cluster: {
        health_checks: [
          { ...TIMES, ...HTTP },
          { ...TIMES, ...HTTP },
        ],
      },
    },
    /health_checks: .*at most, not 2/,
  )
  has(
    check({ custom_health_check: { name: 'envoy.health_checkers.redis' } }),
    /the health checker "envoy\.health_checkers\.redis" has no typed_config/,
  )
  has(
    custom('thrift.v3.Thrift', { method_name: 'x' }),
    /thrift\.v3\.Thrift" is not available.*HTTP, gRPC, TCP and Redis/,
  )
  has(custom('redis.v3.Redis', { aws_iam: { region: 'x', cache_name: 'x' } }), /aws_iam: .*credentials of AWS/)
  has(http({ path: '/', codec_client_type: 'HTTP3' }), /HTTP3 is not available/)
  has(http({ path: '/', expected_statuses: [{ start: 300, end: 200 }] }), /\[300, 200\) is no range/)
  has(
    http({ path: '/', request_headers_to_add: [{ header: { key: 'x', value: '%START_TIME%' } }] }),
    /command operators/,
  )
  has(http({ path: '/', send: { text: 'xyz0' } }), /"xyz0" is not hexadecimal/)
  has(http({ path: '/', method: 'HEAD', send: { text: '00' } }), /HEAD has no body/)
  has(check({ ...HTTP, no_traffic_interval: '-1s' }), /no_traffic_interval/)
  has(
    check({ ...HTTP, event_logger: [{ name: 'x', typed_config: { '@type': `${TYPE}google.protobuf.Empty` } }] }),
    /event sink/,
  )
  has(
    { cluster: { outlier_detection: { base_ejection_time: '10s', max_ejection_time: '5s' } } },
    /max_ejection_time: must not be shorter than base_ejection_time, is 5s, base_ejection_time 10s/,
  )
  has({ cluster: { outlier_detection: { max_ejection_percent: 101 } } }, /max_ejection_percent/)
  has({ endpoint: { health_check_config: { port_value: 70_000 } } }, /port_value/)
})

t.test('hosts that go and hosts that fail are treated as configured', async (t) => {
  const cluster = { ignore_health_on_host_removal: true, close_connections_on_host_health_failure: true }
  t.match(load({ cluster }).cluster, { ignoreHealthOnRemoval: true, closeOnHealthFailure: true })
})

t.test('Redis, PROXY headers of TCP checks, and monitors of outlier detection are taken over', async (t) => {
  const probe = (parts: Parts): unknown => load(parts).cluster.healthCheck?.probe
  t.strictSame(probe(custom('redis.v3.Redis', {})), { kind: 'redis', key: '' })
  t.strictSame(probe(custom('redis.v3.Redis', { key: 'down' })), { kind: 'redis', key: 'down' })
  const tcp = (proxy_protocol_config: JsonObject): Parts => check({ tcp_health_check: { proxy_protocol_config } })
  t.match(probe(tcp({})), { kind: 'tcp', proxyProtocol: 1 })
  t.match(probe(tcp({ version: 'V2' })), { kind: 'tcp', proxyProtocol: 2 })
  t.match(load(tcp({ added_tlvs: [{ type: 224, value: 'eA==' }] })).ignored.join(), /added_tlvs/)
  const error_buckets = { http_errors: [{ range: { start: 429, end: 430 } }], local_origin_errors: [{}] }
  const monitors: Json[] = [
    { name: 'a', typed_config: { '@type': MONITOR, threshold: 7, enforcing: 50, error_buckets } },
    { name: 'b', typed_config: { '@type': MONITOR, name: 'own', error_buckets: { database_errors: [{}] } } },
  ]
  const { cluster, ignored } = load({ cluster: { outlier_detection: { monitors, detect_degraded_hosts: true } } })
  t.strictSame(cluster.outlier?.monitors, [
    { name: 'a', threshold: 7, enforcing: 50, statuses: [[429, 430]], localOrigin: true },
    { name: 'own', threshold: 3, enforcing: 100, statuses: [], localOrigin: false },
  ])
  t.equal(cluster.outlier?.detectDegradedHosts, true)
  t.match(ignored.join(), /database_errors/)
  const other = [{ name: 'x', typed_config: { '@type': `${TYPE}google.protobuf.StringValue`, value: 'x' } }]
  t.match(
    refused({ cluster: { outlier_detection: { monitors: other } } }).join(),
    /monitor "google.protobuf.StringValue"/,
  )
})
