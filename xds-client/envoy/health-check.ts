import type { FieldReader } from '../../lib/core/field-reader.ts'
import type {
  GrpcProbeConfig,
  HealthCheckConfig,
  HttpProbeConfig,
  ProbeConfig,
  RedisProbeConfig,
  StatusRange,
  TcpProbeConfig,
} from '../../lib/upstream/config.ts'
import { durationMs } from './durations.ts'
import { checkedName } from './header-edits.ts'
import { refuseExtension, typedExtension } from './refusals.ts'
import { translateStringMatch } from './string-match.ts'

const FILE_SINK = 'envoy.extensions.health_check.event_sinks.file.v3.HealthCheckEventFileSink'

const REDIS = 'envoy.extensions.health_checkers.redis.v3.Redis'

const NO_TRAFFIC_MS = 60_000
const RESPONSE_BYTES = 1024

/** `health_checks` of a cluster, of which there may be one (as in Envoy); undefined: none. */
export function translateHealthCheck(cluster: FieldReader): { readonly healthCheck?: HealthCheckConfig } {
  const checks = cluster.messages('health_checks').map(translateCheck)
  if (checks.length > 1) cluster.error('health_checks', `a cluster has one health check at most, not ${checks.length}`)
  return checks.length === 0 ? {} : { healthCheck: checks[0] }
}

function translateCheck(reader: FieldReader): HealthCheckConfig {
  reader.unread('refuse')
  reader.ignore('alt_port', 'event_service')
  const intervalMs = positiveMs(reader, 'interval') ?? 0
  const noTrafficIntervalMs = positiveMs(reader, 'no_traffic_interval') ?? NO_TRAFFIC_MS
  const unhealthyIntervalMs = positiveMs(reader, 'unhealthy_interval') ?? intervalMs
  const alpn = reader.message('tls_options')?.strings('alpn_protocols')
  const criteria = reader.json('transport_socket_match_criteria')
  const labels = typeof criteria === 'object' && criteria !== null && !Array.isArray(criteria) ? criteria : undefined
  return {
    timeoutMs: positiveMs(reader, 'timeout') ?? 0,
    intervalMs,
    intervalJitterMs: durationMs(reader, 'interval_jitter') ?? 0,
    intervalJitterPercent: reader.number('interval_jitter_percent') ?? 0,
    initialJitterMs: durationMs(reader, 'initial_jitter') ?? 0,
    unhealthyThreshold: threshold(reader, 'unhealthy_threshold'),
    healthyThreshold: threshold(reader, 'healthy_threshold'),
    noTrafficIntervalMs,
    noTrafficHealthyIntervalMs: positiveMs(reader, 'no_traffic_healthy_interval') ?? noTrafficIntervalMs,
    unhealthyIntervalMs,
    unhealthyEdgeIntervalMs: positiveMs(reader, 'unhealthy_edge_interval') ?? unhealthyIntervalMs,
    healthyEdgeIntervalMs: positiveMs(reader, 'healthy_edge_interval') ?? intervalMs,
    reuseConnection: reader.optionalBool('reuse_connection') ?? true,
    eventLogPaths: translateEventLogs(reader),
    alwaysLogFailures: reader.bool('always_log_health_check_failures'),
    alwaysLogSuccess: reader.bool('always_log_health_check_success'),
    ...(alpn !== undefined && alpn.length > 0 && { alpn }),
    ...(labels && { transportLabels: labels }),
    probe: translateProbe(reader),
  }
}

/** A time of nothing would ask without end; Envoy refuses it too. */
function positiveMs(reader: FieldReader, name: string): number | undefined {
  const ms = durationMs(reader, name)
  if (ms === 0 && reader.has(name)) reader.error(name, 'must be positive')
  return ms
}

function threshold(reader: FieldReader, name: string): number {
  return Math.max(1, reader.number(name) ?? 1)
}

function translateEventLogs(reader: FieldReader): string[] {
  const deprecated = reader.string('event_log_path')
  const paths = deprecated === '' ? [] : [deprecated]
  for (const entry of reader.messages('event_logger')) {
    const extension = typedExtension(entry)
    if (extension === undefined) continue
    if (extension.typeUrl === FILE_SINK) paths.push(extension.fields.string('event_log_path'))
    else
      refuseExtension(
        entry,
        'typed_config',
        extension,
        `health check event sink "${extension.typeUrl}" is not available`,
      )
  }
  return paths.filter((path) => path !== '')
}

/** Stands where a mistake was recorded; never used. */
const NOTHING: ProbeConfig = Object.freeze({ kind: 'tcp', receive: [] })

function translateProbe(reader: FieldReader): ProbeConfig {
  const kind = reader.which('health_checker')
  switch (kind) {
    case 'http_health_check':
      return translateHttp(reader.message(kind) as FieldReader)
    case 'tcp_health_check':
      return translateTcp(reader.message(kind) as FieldReader)
    case 'grpc_health_check':
      return translateGrpc(reader.message(kind) as FieldReader)
    case 'custom_health_check':
      return translateCustom(reader.message(kind) as FieldReader)
    default:
      reader.error(undefined, 'a health check must be one of http_health_check, tcp_health_check and grpc_health_check')
      return NOTHING
  }
}

function translateCustom(reader: FieldReader): ProbeConfig {
  const extension = typedExtension(reader)
  if (extension === undefined) {
    reader.error(undefined, `the health checker "${reader.string('name')}" has no typed_config`)
    return NOTHING
  }
  const { typeUrl, fields } = extension
  if (typeUrl === REDIS) return translateRedis(fields)
  const there = 'there are those of HTTP, gRPC, TCP and Redis'
  refuseExtension(reader, 'typed_config', extension, `health checker "${typeUrl}" is not available; ${there}`)
  return NOTHING
}

function translateRedis(reader: FieldReader): RedisProbeConfig {
  reader.refuse('aws_iam', 'credentials of AWS are not available')
  return { kind: 'redis', key: reader.string('key') }
}

function translateHttp(reader: FieldReader): HttpProbeConfig {
  const send = payload(reader.message('send'))
  const method = translateMethod(reader, send !== undefined)
  const serviceName = reader.message('service_name_matcher')
  return {
    kind: 'http',
    protocol: translateCodec(reader),
    method,
    path: checkedPath(reader),
    host: reader.string('host'),
    headers: translateHeaders(reader),
    removedHeaders: reader
      .strings('request_headers_to_remove')
      .map((name, i) => checkedName(reader, `request_headers_to_remove[${i}]`, name)),
    userAgent: 'Envoy/HC',
    ...(send !== undefined && { send }),
    receive: payloads(reader),
    responseBufferBytes: reader.number('response_buffer_size') ?? RESPONSE_BYTES,
    expectedStatuses: ranges(reader, 'expected_statuses'),
    retriableStatuses: ranges(reader, 'retriable_statuses'),
    ...(serviceName && { serviceName: translateStringMatch(serviceName) }),
  }
}

function translateMethod(reader: FieldReader, body: boolean): string {
  const method = reader.enumName('method')
  if (method === 'METHOD_UNSPECIFIED') return 'GET'
  if (method === 'CONNECT') reader.error('method', 'CONNECT is not allowed')
  if (body && (method === 'HEAD' || method === 'TRACE')) reader.error('send', `${method} has no body`)
  return method
}

function translateCodec(reader: FieldReader): HttpProbeConfig['protocol'] {
  const codec = reader.enumName('codec_client_type')
  if (codec === 'HTTP3') reader.error('codec_client_type', 'HTTP3 is not available')
  return codec === 'HTTP2' ? 'http2' : 'http1'
}

function checkedPath(reader: FieldReader): string {
  const path = reader.string('path')
  if (/[^\x21-\x7e]/.test(path)) reader.error('path', 'must consist of visible ASCII')
  return path === '' ? '/' : path
}

/** The values are literal: nothing is known of a request that could be put into them. */
function translateHeaders(reader: FieldReader): string[] {
  const raw: string[] = []
  for (const option of reader.messages('request_headers_to_add')) {
    option.ignore('append', 'append_action', 'keep_empty_value')
    const header = option.message('header')
    if (header === undefined) continue
    header.refuse('raw_value', 'use value')
    const name = checkedName(header, 'key', header.string('key'))
    const value = header.string('value')
    if (/%(?!%)/.test(value.replaceAll('%%', ''))) {
      header.error('value', `command operators are not available in health checks, is "${value}"`)
    }
    if (/[\0\r\n]/.test(value)) header.error('value', 'must not contain line breaks or NUL')
    raw.push(name, value.replaceAll('%%', '%'))
  }
  return raw
}

function ranges(reader: FieldReader, name: string): StatusRange[] {
  return reader.messages(name).map((range) => {
    const start = range.number('start') ?? 0
    const end = range.number('end') ?? 0
    if (start < 100 || end > 600 || start >= end) {
      range.error(undefined, `[${start}, ${end}) is no range of statuses within [100, 600)`)
    }
    return { start, end }
  })
}

function translateTcp(reader: FieldReader): TcpProbeConfig {
  const send = payload(reader.message('send'))
  const header = reader.message('proxy_protocol_config')
  // Checks are for nobody: there is nothing to pass on, and Envoy adds nothing.
  header?.ignore('pass_through_tlvs', 'added_tlvs')
  const proxyProtocol = header && (header.enumName('version') === 'V2' ? 2 : 1)
  return {
    kind: 'tcp',
    ...(send !== undefined && { send }),
    receive: payloads(reader),
    ...(proxyProtocol !== undefined && { proxyProtocol }),
  }
}

function translateGrpc(reader: FieldReader): GrpcProbeConfig {
  const metadata: string[] = []
  for (const option of reader.messages('initial_metadata')) {
    option.ignore('append', 'append_action', 'keep_empty_value')
    const header = option.message('header')
    if (header === undefined) continue
    header.refuse('raw_value', 'use value')
    metadata.push(checkedName(header, 'key', header.string('key')), header.string('value'))
  }
  const authority = reader.string('authority')
  if (authority !== '' && !/^[\x21-\x7e]+$/.test(authority)) reader.error('authority', `"${authority}" is no authority`)
  return { kind: 'grpc', service: reader.string('service_name'), authority, metadata }
}

function payloads(reader: FieldReader): string[] {
  return reader.messages('receive').flatMap((entry) => payload(entry) ?? [])
}

/** `Payload` as base64: hex text, or bytes as they are. */
function payload(reader: FieldReader | undefined): string | undefined {
  if (reader === undefined) return undefined
  if (reader.which('payload') === 'binary') return reader.bytes('binary')?.toString('base64')
  const text = reader.string('text')
  if (!/^([0-9A-Fa-f]{2})*$/.test(text)) reader.error('text', `"${text}" is not hexadecimal`)
  return Buffer.from(text, 'hex').toString('base64')
}
