import { readFileSync } from 'node:fs'
import t from 'tap'
import { ConnectionState, type TlsInfo } from '../../lib/core/connection.ts'
import type { Json } from '../../lib/core/errors.ts'
import { ABSENT_COMMANDS, REFUSED_COMMANDS } from '../../lib/telemetry/format/absent.ts'
import { findCommand } from '../../lib/telemetry/format/commands.ts'
import { maskIp } from '../../lib/telemetry/format/mask-ip.ts'
import { compileTime } from '../../lib/telemetry/format/time.ts'
import {
  checkFormat,
  compileBodyFormat,
  compileFormat,
  compileJsonFormat,
  FORMAT_COMMANDS,
  FormatError,
  type LogStream,
  renderCommandTable,
} from '../../lib/telemetry/format.ts'
import { TestClock } from '../support/clock.ts'
import { peer, tlsInfo } from '../support/peers.ts'
import { SAMPLE_ID, SAMPLE_WALL_MS, sampleStream } from './sample-stream.ts'

const clock = new TestClock(2_000, Date.UTC(2025, 11, 31, 23, 59, 59, 5))
const environment = {
  hostname: 'gw-1',
  variable: (name: string) => (name === 'ZONE' ? 'eu-1a' : undefined),
  clock,
}

function line(text: string, stream: LogStream = sampleStream()): string {
  return compileFormat(text, { missing: '-', output: 'log', environment, logType: 'DownstreamEnd' })(stream)
}

function json(value: Json, stream: LogStream = sampleStream(), omitEmpty = false): unknown {
  return JSON.parse(compileJsonFormat(value, { environment, omitEmpty })(stream))
}

/** Operator as written, its text in a log line, and its JSON value where that is not the same string. */
const EXPECTED: readonly (readonly [operator: string, text: string, json?: Json])[] = [
  ['START_TIME', '2024-02-03T04:05:06.789Z'],
  ['START_TIME(%s.%3f)', '1706933106.789'],
  ['START_TIME(%Y/%m/%dT%H:%M:%S%z)', '2024/02/03T04:05:06+0000'],
  ['START_TIME_LOCAL(%s)', '1706933106'],
  ['EMIT_TIME', '2025-12-31T23:59:59.005Z'],
  ['EMIT_TIME_LOCAL(%s)', '1767225599'],
  ['DURATION', '14', 14],
  ['REQUEST_DURATION', '2', 2],
  ['REQUEST_TX_DURATION', '4', 4],
  ['RESPONSE_DURATION', '10', 10],
  ['RESPONSE_TX_DURATION', '2', 2],
  ['COMMON_DURATION(US_TX_BEG:US_RX_BEG)', '7', 7],
  ['COMMON_DURATION(US_TX_BEG:US_RX_BEG:us)', '7250', 7250],
  ['COMMON_DURATION(DS_RX_BEG:DS_TX_END:ns)', '13000000', 13_000_000],
  ['COMMON_DURATION(US_CX_BEG:US_CX_END:ms)', '-', null],

  ['PROTOCOL', 'HTTP/1.1'],
  ['UPSTREAM_PROTOCOL', 'HTTP/1.1'],
  ['RESPONSE_CODE', '503', 503],
  ['RESPONSE_CODE_DETAILS', 'upstream_reset_before_response'],
  ['RESPONSE_CODE_DETAILS(ALLOW_WHITESPACES)', 'upstream reset before response'],
  ['CONNECTION_TERMINATION_DETAILS', 'idle timeout'],
  ['RESPONSE_FLAGS', 'UF,URX'],
  ['RESPONSE_FLAGS_LONG', 'UpstreamConnectionFailure,UpstreamRetryLimitExceeded'],
  ['GRPC_STATUS', 'NotFound'],
  ['GRPC_STATUS(SNAKE_STRING)', 'NOT_FOUND'],
  ['GRPC_STATUS(NUMBER)', '5', 5],
  ['GRPC_STATUS_NUMBER', '5', 5],
  ['BYTES_RECEIVED', '100', 100],
  ['BYTES_SENT', '2000', 2000],
  ['REQUEST_HEADERS_BYTES', '300', 300],
  ['RESPONSE_HEADERS_BYTES', '150', 150],
  ['RESPONSE_TRAILERS_BYTES', '28', 28],
  ['DOWNSTREAM_WIRE_BYTES_RECEIVED', '400', 400],
  ['DOWNSTREAM_WIRE_BYTES_SENT', '2150', 2150],
  ['DOWNSTREAM_HEADER_BYTES_RECEIVED', '300', 300],
  ['DOWNSTREAM_HEADER_BYTES_SENT', '150', 150],
  ['DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED', '300', 300],
  ['DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_SENT', '150', 150],
  ['UPSTREAM_WIRE_BYTES_SENT', '90', 90],
  ['UPSTREAM_WIRE_BYTES_RECEIVED', '1900', 1900],
  ['BYTES_RETRANSMITTED', '0', 0],
  ['PACKETS_RETRANSMITTED', '0', 0],
  ['UPSTREAM_REQUEST_ATTEMPT_COUNT', '2', 2],
  ['ROUTE_NAME', 'checkout'],
  ['CONNECTION_ID', '17', 17],
  ['UPSTREAM_CONNECTION_ID', '23', 23],
  ['STREAM_ID', SAMPLE_ID],
  ['FILTER_CHAIN_NAME', 'tls-chain'],
  ['ACCESS_LOG_TYPE', 'DownstreamEnd', 'NotSet'],
  ['LOCAL_REPLY_BODY', ''],

  ['DOWNSTREAM_REMOTE_ADDRESS', '203.0.113.9:0'],
  ['DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT', '203.0.113.9'],
  ['DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT(16)', '203.0.0.0/16'],
  ['DOWNSTREAM_REMOTE_PORT', '0', 0],
  ['DOWNSTREAM_DIRECT_REMOTE_ADDRESS', '10.1.10.23:40000'],
  ['DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT', '10.1.10.23'],
  ['DOWNSTREAM_DIRECT_REMOTE_PORT', '40000', 40_000],
  ['DOWNSTREAM_LOCAL_ADDRESS', '[2001:db8::1:2]:8443'],
  ['DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT', '2001:db8::1:2'],
  ['DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT(64)', '2001:db8::/64'],
  ['DOWNSTREAM_LOCAL_PORT', '8443', 8443],
  ['DOWNSTREAM_DIRECT_LOCAL_ADDRESS', '10.0.0.1:10443'],
  ['DOWNSTREAM_DIRECT_LOCAL_ADDRESS_WITHOUT_PORT', '10.0.0.1'],
  ['DOWNSTREAM_DIRECT_LOCAL_PORT', '10443', 10_443],
  ['UPSTREAM_REMOTE_ADDRESS', '10.2.0.9:8080'],
  ['UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT', '10.2.0.9'],
  ['UPSTREAM_REMOTE_PORT', '8080', 8080],
  ['UPSTREAM_LOCAL_ADDRESS', '[::1]:33000'],
  ['UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT', '::1'],
  ['UPSTREAM_LOCAL_PORT', '33000', 33_000],
  ['UPSTREAM_HOST', '10.2.0.9:8080'],
  ['UPSTREAM_HOST_NAME', 'web-1.internal:8080'],
  ['UPSTREAM_HOST_NAME_WITHOUT_PORT', 'web-1.internal'],
  ['UPSTREAM_CLUSTER', 'web'],
  ['UPSTREAM_CLUSTER_RAW', 'web'],
  ['DOWNSTREAM_TRANSPORT_FAILURE_REASON', 'certificate_expired'],
  ['UPSTREAM_TRANSPORT_FAILURE_REASON', 'connect_ECONNREFUSED'],

  ['REQ(User-Agent)', 'curl/8.5.0'],
  ['REQ(:METHOD)', 'GET'],
  ['REQ(:SCHEME)', 'https'],
  ['REQ(:AUTHORITY)', 'shop.example:8443'],
  ['REQ(HOST)', 'shop.example:8443'],
  ['REQ(X-MISSING?USER-AGENT):4', 'curl'],
  ['REQUEST_HEADER(X-UTF8)', 'café'],
  ['RESP(server)', 'envoy'],
  ['RESP(:STATUS)', '503'],
  ['RESPONSE_HEADER(x-none)', '-', null],
  ['TRAILER(grpc-message)', 'none'],
  ['RESPONSE_TRAILER(grpc-message):2', 'no'],
  ['REQ_WITHOUT_QUERY(X-ENVOY-ORIGINAL-PATH?:PATH)', '/before'],
  ['PATH', '/before?old=1'],
  ['PATH(NQ)', '/before'],
  ['PATH(NQ:PATH):3', '/it'],
  ['PATH(WQ:ORIG)', '/before?old=1'],
  ['QUERY_PARAM(id)', '4 2'],
  ['QUERY_PARAM(q)', 'café'],
  ['QUERY_PARAM(line)', 'a\\nb', 'a\nb'],
  ['QUERY_PARAM(empty)', ''],
  ['QUERY_PARAM(no)', '-', null],
  ['QUERY_PARAMS', 'id=4%202&q=caf%C3%A9&line=a%0Ab&empty'],
  ['QUERY_PARAMS(DECODED):10', 'id=4%202&q'],
  ['REQUESTED_SERVER_NAME', 'shop.example'],
  ['REQUESTED_SERVER_NAME(HOST_FIRST:HOST)', 'shop.example:8443'],
  ['TRACE_ID', '0af7651916cd43dd8448eb211c80319c'],

  ['DYNAMIC_METADATA(com.test:key)', 'value'],
  ['DYNAMIC_METADATA(com.test:key):2', 'va', 'value'],
  ['DYNAMIC_METADATA(com.test:deep)', '{"n":7}', { n: 7 }],
  ['DYNAMIC_METADATA(com.test:deep):2', '{"n":7}', { n: 7 }],
  ['DYNAMIC_METADATA(com.test:deep:n)', '7', 7],
  ['DYNAMIC_METADATA(com.test:list)', '[1,"two"]', [1, 'two']],
  ['DYNAMIC_METADATA(com.test:none)', '-', null],
  ['DYNAMIC_METADATA(com.test:constructor)', '-', null],
  ['DYNAMIC_METADATA(toString)', '-', null],
  ['METADATA(DYNAMIC:com.test:deep:n)', '7', 7],
  ['METADATA(ROUTE:com.route:owner)', 'team-a'],
  ['METADATA(ROUTE:com.route:weights)', '[1,2]', [1, 2]],
  ['METADATA(CLUSTER:com.route:owner)', '-', null],
  ['FILTER_STATE(text:PLAIN)', 'plain'],
  ['FILTER_STATE(text)', '"plain"', 'plain'],
  ['FILTER_STATE(object:TYPED)', '{"a":1,"b":["x"]}', { a: 1, b: ['x'] }],
  ['FILTER_STATE(object:FIELD:a)', '1', 1],
  ['FILTER_STATE(big:PLAIN)', '12'],
  ['FILTER_STATE(big:TYPED)', '-', null],

  ['DOWNSTREAM_TLS_VERSION', 'TLSv1.3'],
  ['DOWNSTREAM_TLS_CIPHER', 'TLS_AES_128_GCM_SHA256'],
  ['DOWNSTREAM_TLS_GROUP', 'X25519MLKEM768'],
  ['DOWNSTREAM_TLS_SESSION_ID', 'd5'.repeat(32)],
  ['DOWNSTREAM_PEER_SUBJECT', 'CN=client'],
  ['DOWNSTREAM_PEER_ISSUER', 'CN=Client CA,O=Example'],
  ['DOWNSTREAM_PEER_URI_SAN', 'spiffe://td/ns/a,spiffe://td/ns/b'],
  ['DOWNSTREAM_PEER_DNS_SAN', 'client.example'],
  ['DOWNSTREAM_PEER_IP_SAN', '192.0.2.7'],
  ['DOWNSTREAM_PEER_EMAIL_SAN', 'a@client.example,b@client.example'],
  ['DOWNSTREAM_PEER_CERT', '-----BEGIN%20CERTIFICATE-----%0AMA%3D%3D%0A-----END%20CERTIFICATE-----%0A'],
  ['DOWNSTREAM_PEER_CERT_V_START', '2024-01-01T00:00:00.000Z'],
  ['DOWNSTREAM_PEER_CERT_V_END', '2025-01-01T00:00:00.000Z'],
  ['DOWNSTREAM_PEER_CERT_V_END(%b %e %H:%M:%S %Y)', 'Jan  1 00:00:00 2025'],
  ['DOWNSTREAM_PEER_SERIAL', '1f'],
  ['DOWNSTREAM_PEER_FINGERPRINT_256', 'ab'.repeat(32)],
  ['DOWNSTREAM_PEER_FINGERPRINT_1', 'cd'.repeat(20)],
  [
    'DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_256',
    'b988176b4b1959f90d965898ec1652c7048e4875471a69a26d6e9420ae76d0a6,623edf08df0b84a4c7941346229730e6fdbd1d7091f5b91aef03cdb8463328d6',
  ],
  [
    'DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_1',
    '43f6d716217159247cde7b17fa272c244d88b275,63042baae610a0e1276e21cbda5bf10981b114da',
  ],
  ['DOWNSTREAM_PEER_CHAIN_SERIALS', '1f,abc'],
  ['DOWNSTREAM_PEER_ISSUER_FINGERPRINT_256', '623edf08df0b84a4c7941346229730e6fdbd1d7091f5b91aef03cdb8463328d6'],
  ['DOWNSTREAM_PEER_ISSUER_SERIAL', 'abc'],
  ['DOWNSTREAM_LOCAL_SUBJECT', 'CN=shop'],
  ['DOWNSTREAM_LOCAL_URI_SAN', 'spiffe://td/shop'],
  ['DOWNSTREAM_LOCAL_DNS_SAN', 'shop.example,*.shop.example'],
  ['UPSTREAM_TLS_VERSION', 'TLSv1.2'],
  ['UPSTREAM_TLS_CIPHER', 'ECDHE-RSA-AES128-GCM-SHA256'],
  ['UPSTREAM_TLS_GROUP', 'X25519'],
  ['UPSTREAM_TLS_SESSION_ID', 'e6'.repeat(32)],
  ['UPSTREAM_SERVER_NAME', 'web.internal'],
  ['UPSTREAM_PEER_SUBJECT', 'CN=web'],
  ['UPSTREAM_PEER_ISSUER', 'CN=Server CA'],
  ['UPSTREAM_PEER_URI_SAN', 'spiffe://td/web'],
  ['UPSTREAM_PEER_DNS_SAN', 'web.internal,web-1.internal'],
  ['UPSTREAM_PEER_IP_SAN', '10.2.0.9,2001:db8::9'],
  ['UPSTREAM_PEER_CERT', '-----BEGIN%20CERTIFICATE-----%0AMA%3D%3D%0A-----END%20CERTIFICATE-----%0A'],
  ['UPSTREAM_PEER_CERT_V_START', '2024-01-01T00:00:00.000Z'],
  ['UPSTREAM_PEER_CERT_V_END(%s)', '1735689600'],
  ['UPSTREAM_LOCAL_URI_SAN', 'spiffe://td/gate'],
  ['UPSTREAM_LOCAL_DNS_SAN', 'gate.internal'],
  ['TLS_JA3_FINGERPRINT', 'aa'.repeat(16)],
  ['TLS_JA4_FINGERPRINT', 't13d1516h2_8daaf6152771_e5627efa2ab1'],

  ['HOSTNAME', 'gw-1'],
  ['ENVIRONMENT(ZONE)', 'eu-1a'],
  ['ENVIRONMENT(ZONE):2', 'eu'],
  ['ENVIRONMENT(OTHER)', '-'],
  [
    'COALESCE({"operators": ["VIRTUAL_CLUSTER_NAME", {"command": "REQ", "param": "x-none"}, "ROUTE_NAME"]})',
    'checkout',
  ],
  ['COALESCE({"operators": [{"command": "REQ", "param": "user-agent", "max_length": 3}]}):2', 'cu'],
]

t.test('every command gives its text and its JSON value', async (t) => {
  const stream = sampleStream()
  for (const [operator, text, value = text] of EXPECTED) {
    t.equal(line(`<%${operator}%>`, stream), `<${text}>`, operator)
    t.same(json({ v: `%${operator}%` }, stream), { v: value }, `${operator} in JSON`)
  }
  const uuid = line('%UNIQUE_ID%')
  t.match(uuid, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
  t.not(line('%UNIQUE_ID%'), uuid)
})

t.test('an endpoint that is an internal listener has an id', async (t) => {
  const id = (upstreamHost: string, upstreamConnectionId = 1): string =>
    line('%UPSTREAM_REMOTE_ADDRESS_ENDPOINT_ID%', sampleStream({ info: { upstreamHost, upstreamConnectionId } }))
  t.equal(id('envoy://inner/10.0.0.1:80'), '10.0.0.1:80')
  t.equal(id('envoy://inner/'), '-')
  t.equal(id('10.0.0.1:80'), '-')
  t.equal(id('envoy://inner/x', 0), '-', 'not connected')
})

t.test('the table lists exactly the commands that compile and have a value', async (t) => {
  const written = new Set([
    'UNIQUE_ID',
    'UPSTREAM_REMOTE_ADDRESS_ENDPOINT_ID',
    ...EXPECTED.map(([operator]) => operator.split('(')[0].split(':')[0]),
  ])
  const listed = new Set(FORMAT_COMMANDS.flatMap((c) => (c.alias === undefined ? [c.name] : [c.name, c.alias])))
  t.same(
    [...listed].filter((name) => !written.has(name)),
    [],
    'listed, and not tested',
  )
  t.same(
    [...written].filter((name) => !listed.has(name)),
    [],
    'tested, and not listed',
  )
  const names = [...FORMAT_COMMANDS, ...ABSENT_COMMANDS].map((c) => c.name)
  t.equal(new Set(names).size, names.length, 'no name twice')
  const table = renderCommandTable()
  for (const command of FORMAT_COMMANDS) t.match(table, `%${command.name}`)
  t.equal(table.split('\n').filter((row) => row.startsWith('| `%')).length, FORMAT_COMMANDS.length)
  const readme = readFileSync(new URL('../../lib/telemetry/format/README.md', import.meta.url), 'utf8')
  // The formatter of the repository pads the columns.
  const unpadded = readme.replace(/ +/g, ' ').replace(/-{3,}/g, '---')
  t.ok(unpadded.includes(table.trimEnd()), 'lib/telemetry/format/README.md holds what renderCommandTable() renders')
})

t.test("Envoy's commands that have no value here compile to nothing and are reported", async (t) => {
  for (const { name } of ABSENT_COMMANDS) {
    t.equal(line(`%${name}%`), '-', name)
    t.same(checkFormat({ kind: 'text', text: `%${name}(x:y)%` }), { errors: [], absent: [name] })
  }
  const format = {
    kind: 'json',
    json: { a: '%METADATA(CLUSTER:ns)%', b: ['%COMMON_DURATION(US_CX_BEG:custom_point)%'] },
  }
  t.same(checkFormat(format as never), { errors: [], absent: ['METADATA', 'COMMON_DURATION', 'COMMON_DURATION'] })
})

t.test('an exchange in which nothing happened gives the missing text, and zero where Envoy says zero', async (t) => {
  const nothing = sampleStream({
    request: [],
    response: [],
    trailers: [],
    status: 0,
    path: '/',
    metadata: {},
    filterState: {},
    connection: { tls: undefined, serverName: undefined, ja3: undefined, ja4: undefined, filterChainName: '' },
    info: {
      upstreamTls: undefined,
      requestEndMs: 0,
      upstreamFirstSentMs: 0,
      upstreamLastSentMs: 0,
      upstreamFirstReceivedMs: 0,
      upstreamLastReceivedMs: 0,
      downstreamLastSentMs: 0,
      endMs: 0,
      flags: 0,
      details: '',
      connectionTerminationDetails: '',
      upstreamTransportFailure: '',
      downstreamTransportFailure: '',
      upstreamHost: '',
      upstreamHostName: '',
      upstreamLocalAddress: '',
      upstreamCluster: '',
      upstreamProtocol: '',
      upstreamConnectionId: 0,
      routeName: '',
      clientAddress: '',
      requestId: '',
    },
  })
  const values: Record<string, string> = {
    RESPONSE_CODE: '0',
    // From the clock, since it has not ended.
    DURATION: '999',
    DOWNSTREAM_REMOTE_ADDRESS: '198.51.100.7:50000',
    RESPONSE_FLAGS: '-',
    RESPONSE_TRAILERS_BYTES: '0',
    UPSTREAM_CONNECTION_ID: '0',
    PATH: '/',
  }
  for (const [name, text] of Object.entries(values)) t.equal(line(`%${name}%`, nothing), text, name)
  const missing =
    'REQUEST_DURATION REQUEST_TX_DURATION RESPONSE_DURATION RESPONSE_TX_DURATION UPSTREAM_PROTOCOL ' +
    'RESPONSE_CODE_DETAILS CONNECTION_TERMINATION_DETAILS GRPC_STATUS GRPC_STATUS_NUMBER ROUTE_NAME STREAM_ID ' +
    'FILTER_CHAIN_NAME UPSTREAM_REMOTE_ADDRESS UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT UPSTREAM_REMOTE_PORT UPSTREAM_HOST ' +
    'UPSTREAM_HOST_NAME UPSTREAM_HOST_NAME_WITHOUT_PORT UPSTREAM_CLUSTER UPSTREAM_TRANSPORT_FAILURE_REASON ' +
    'REQ(user-agent) RESP(server) RESP(:status) TRAILER(x) QUERY_PARAM(a) QUERY_PARAMS REQUESTED_SERVER_NAME TRACE_ID ' +
    'DYNAMIC_METADATA(com.test) FILTER_STATE(text) FILTER_STATE(text:PLAIN) DOWNSTREAM_TLS_VERSION ' +
    'DOWNSTREAM_PEER_SUBJECT DOWNSTREAM_PEER_CERT DOWNSTREAM_PEER_CERT_V_START DOWNSTREAM_PEER_CHAIN_SERIALS ' +
    'DOWNSTREAM_TLS_SESSION_ID DOWNSTREAM_LOCAL_SUBJECT UPSTREAM_TLS_VERSION UPSTREAM_SERVER_NAME UPSTREAM_PEER_ISSUER ' +
    'UPSTREAM_PEER_CERT_V_END UPSTREAM_LOCAL_URI_SAN TLS_JA3_FINGERPRINT TLS_JA4_FINGERPRINT ' +
    'COMMON_DURATION(DS_RX_BEG:DS_RX_END)'
  for (const operator of missing.split(' ')) {
    t.equal(line(`%${operator}%`, nothing), '-', operator)
    t.equal(compileFormat(`[%${operator}%]`, { missing: '' })(nothing), '[]', `${operator} in a header`)
    t.same(json({ v: `%${operator}%` }, nothing), { v: null }, `${operator} in JSON`)
    t.same(json({ v: `%${operator}%` }, nothing, true), {}, `${operator} omitted from JSON`)
  }
  // Envoy prints a dash for no flags wherever it stands.
  t.equal(compileFormat('%RESPONSE_FLAGS%', { missing: '' })(nothing), '-')
})

t.test('a certificate that was not verified, or that has no such name, says nothing', async (t) => {
  const of = (tls: TlsInfo): string =>
    line(
      '%DOWNSTREAM_PEER_SUBJECT% %DOWNSTREAM_PEER_URI_SAN% %DOWNSTREAM_PEER_FINGERPRINT_256% %DOWNSTREAM_TLS_VERSION%',
      sampleStream({ connection: { tls } }),
    )
  t.equal(of(tlsInfo({ peerUnverified: true })), '- - - TLSv1.3')
  t.equal(of(tlsInfo({ peer: peer({ subject: '' }) })), `- - ${'ab'.repeat(32)} TLSv1.3`)
  // The identity of the tunnel that a connection came in stands for its own.
  const state = new ConnectionState(1, peer({ subject: 'CN=workload', uriSans: ['spiffe://td/w'] }))
  const tunnelled = sampleStream({ connection: { tls: undefined, state } })
  t.equal(line('%DOWNSTREAM_PEER_SUBJECT% %DOWNSTREAM_PEER_URI_SAN%', tunnelled), 'CN=workload spiffe://td/w')
  const broken = tlsInfo({ peer: peer({ chainPem: '-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n' }) })
  t.equal(line('%DOWNSTREAM_PEER_CHAIN_SERIALS%', sampleStream({ connection: { tls: broken } })), '-')
  const line2 = tlsInfo({ peer: peer({ subject: 'CN=a\nb' }) })
  t.equal(line('%DOWNSTREAM_PEER_SUBJECT%', sampleStream({ connection: { tls: line2 } })), 'CN=a\\nb')
})

t.test('a gRPC status comes from trailers, headers, or the HTTP status, and only for gRPC requests', async (t) => {
  const grpc = ['content-type', 'application/grpc']
  const numberOf = (options: object): string =>
    line('%GRPC_STATUS_NUMBER%', sampleStream({ request: grpc, ...options }))
  t.equal(numberOf({ trailers: [], response: ['grpc-status', '3'] }), '3')
  const mapped = { 400: 13, 401: 16, 403: 7, 404: 12, 429: 14, 502: 14, 503: 14, 504: 14, 200: 2 }
  for (const [status, code] of Object.entries(mapped))
    t.equal(numberOf({ trailers: [], status: Number(status) }), `${code}`)
  t.equal(numberOf({ trailers: ['grpc-status', 'x'], status: 0 }), '-')
  t.equal(line('%GRPC_STATUS%', sampleStream({ request: grpc, trailers: ['grpc-status', '99'] })), '99')
  t.equal(numberOf({ request: ['content-type', 'application/grpc-web'] }), '-')
})

t.test(
  'addresses: no port for Unix sockets, host names and bare IPv6 stay whole, networks are canonical',
  async (t) => {
    const pipe = sampleStream({
      connection: { kind: 'pipe', localAddress: '/run/gw.sock', remoteAddress: '', directRemoteAddress: '' },
      info: { clientAddress: '', upstreamHost: '/run/up.sock', upstreamHostName: '' },
    })
    t.equal(
      line('%DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_PORT% %DOWNSTREAM_REMOTE_ADDRESS%', pipe),
      '/run/gw.sock - -',
    )
    t.equal(
      line('%UPSTREAM_REMOTE_ADDRESS% %UPSTREAM_REMOTE_PORT% %UPSTREAM_HOST_NAME%', pipe),
      '/run/up.sock - /run/up.sock',
    )
    t.equal(line('%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT(8)%', pipe), '-')
    const bare = sampleStream({ info: { upstreamHostName: '2001:db8::5' } })
    t.equal(line('%UPSTREAM_HOST_NAME_WITHOUT_PORT%', bare), '2001:db8::5')

    t.equal(maskIp('10.1.10.23', 0), '0.0.0.0/0')
    t.equal(maskIp('10.1.10.255', 29), '10.1.10.248/29')
    t.equal(maskIp('10.1.10.23', 33), undefined)
    t.equal(maskIp('2001:db8:1234:5678:9abc:def0:1234:5678', 64), '2001:db8:1234:5678::/64')
    t.equal(maskIp('fe80::1%eth0', 128), 'fe80::1/128')
    t.equal(maskIp('::ffff:1.2.3.4', 128), '::ffff:102:304/128')
    t.equal(maskIp('1:0:0:2:0:0:0:3', 128), '1:0:0:2::3/128')
    t.equal(maskIp('::', 12), '::/12')
    t.equal(maskIp('1:2:3:4:5:6:7:8', 128), '1:2:3:4:5:6:7:8/128')
    t.equal(maskIp('host', 8), undefined)
  },
)

t.test('time formats follow strftime, and the cached second never shows a stale date', async (t) => {
  const fail = (message: string): never => {
    throw new Error(message)
  }
  const render = (format: string, wallMs = SAMPLE_WALL_MS): string => compileTime(format, 'utc', fail)(wallMs)
  const expected: Record<string, string> = {
    '%a %A %b %B %h': 'Sat Saturday Feb February Feb',
    '%C %d %e %D %F': '20 03  3 02/03/24 2024-02-03',
    '%H %I %k %l %M %S %p': '04 04  4  4 05 06 AM',
    '%j %u %w %U %W %V %G %g': '034 6 6 04 05 05 2024 24',
    '%c|%x|%X|%r|%R|%T': 'Sat Feb  3 04:05:06 2024|02/03/24|04:05:06|04:05:06 AM|04:05|04:05:06',
    '%y %Y %E4Y %s %z %Z %Ez %E*z': '24 2024 2024 1706933106 +0000 UTC +00:00 +00:00:00',
    '%1f %3f %6f %f': '7 789 789000 789000000',
    '%E3S %E*S %E0S %E2f %E*f': '06.789 06.789 06 78 789',
    '100%% %FT%T %ET': '100% 2024-02-03T04:05:06 T',
    '%n%t': '\n\t',
    plain: 'plain',
  }
  for (const [format, text] of Object.entries(expected)) t.equal(render(format), text, format)
  t.equal(render('%E*S|%E*f', Date.UTC(2024, 0, 1)), '00|0')
  t.equal(render('%V %G', Date.UTC(2021, 0, 3)), '53 2020')
  t.equal(render('%I %p %l', Date.UTC(2021, 0, 3, 12)), '12 PM 12')
  t.throws(() => render('%Q'), /unknown time directive "%Q"/)
  t.throws(() => render('50%'), /unknown time directive "%"/)

  const cached = compileTime('%H:%M:%E3S', 'utc', fail)
  const start = Date.UTC(2024, 0, 1, 23, 59, 59)
  t.same(
    [0, 7, 45, 999, 1000, 999].map((ms) => cached(start + ms)),
    ['23:59:59.000', '23:59:59.007', '23:59:59.045', '23:59:59.999', '00:00:00.000', '23:59:59.999'],
  )
  const offset = -new Date(SAMPLE_WALL_MS).getTimezoneOffset()
  const local = compileTime('%Y-%m-%d %H:%M:%S %z', 'local', fail)(SAMPLE_WALL_MS)
  const shifted = render('%Y-%m-%d %H:%M:%S', SAMPLE_WALL_MS + offset * 60_000)
  t.equal(local.slice(0, 19), shifted)
  t.match(local, /[+-]\d{4}$/)
})

t.test('text: literals, percent signs and the default for what is missing', async (t) => {
  t.equal(line('100%% of %%REQ(x)%%'), '100% of %REQ(x)%')
  t.equal(line(''), '')
  t.equal(line('%PROTOCOL%%RESPONSE_CODE%'), 'HTTP/1.1503')
  t.equal(line('%REQ(X-NONE)%|%REQ(X-NONE?X-NONE-EITHER)%'), '-|-')
  t.equal(compileFormat('%REQ(X-NONE)%', { missing: '' })(sampleStream()), '')
})

t.test('what clients and filters wrote cannot break a log line or a header, and arrives whole in a body', async (t) => {
  const stream = sampleStream({
    path: '/?q=%0d%0aSet-Cookie:%20a%00&u=%F0%9F%98%80',
    request: ['x-quote', 'say "hi"\\', 'x-bad', 'a\u00ffb', 'x-utf8', 'caf\u00c3\u00a9'],
    metadata: { ns: { text: 'one\r\ntwo\u0000', name: 'Zoë 😀' } },
    localReplyBody: 'first\nsecond',
  })
  const operators = '%QUERY_PARAM(q)% %DYNAMIC_METADATA(ns:text)% %LOCAL_REPLY_BODY%'
  t.equal(line(operators, stream), '\\r\\nSet-Cookie: a\\0 one\\r\\ntwo\\0 first\\nsecond')
  t.equal(
    compileFormat(operators, { missing: '' })(stream),
    '  Set-Cookie: a  one  two  first second',
    'header values get spaces',
  )
  t.equal(compileBodyFormat({ kind: 'text', text: '%LOCAL_REPLY_BODY%\n' })(stream), 'first\nsecond\n')
  t.equal(line('%REQ(X-QUOTE)%', stream), 'say "hi"\\', 'text is not quoted')
  t.same(json({ v: '%REQ(X-QUOTE)% %DYNAMIC_METADATA(ns:text)%' }, stream), { v: 'say "hi"\\ one\r\ntwo\0' })

  t.equal(line('%REQ(X-UTF8)% %REQ(X-BAD)% %DYNAMIC_METADATA(ns:name)%', stream), 'café a\ufffdb Zoë 😀')
  const header = compileFormat('é %REQ(X-UTF8)% %DYNAMIC_METADATA(ns:name)%', { missing: '' })(stream)
  t.equal(Buffer.from(header, 'latin1').toString('utf8'), 'é café Zoë 😀', 'headers hold the bytes of UTF-8')
  t.equal(line('%REQ(X-UTF8):4%', stream), 'café')
  t.equal(line('%QUERY_PARAM(u):1%', stream), '', 'no half characters')
  t.throws(() => compileFormat('a\nb', { missing: '' }), /line breaks and NUL cannot stand in a header value/)
})

t.test('JSON keeps types, order and nesting', async (t) => {
  const format: Json = {
    code: '%RESPONSE_CODE%',
    text: 'code %RESPONSE_CODE% and %REQ(X-NONE)%',
    nested: { b: '%BYTES_SENT%', a: ['%PROTOCOL%', 1, true, null, '%REQ(X-NONE)%'] },
    constant: '50%%',
    'quoted "key"': '',
  }
  t.equal(
    compileJsonFormat(format)(sampleStream()),
    '{"code":503,"text":"code 503 and -","nested":{"b":2000,"a":["HTTP/1.1",1,true,null,null]},' +
      '"constant":"50%","quoted \\"key\\"":""}',
  )
  t.equal(
    compileJsonFormat(format, { omitEmpty: true })(sampleStream()),
    '{"code":503,"text":"code 503 and ","nested":{"b":2000,"a":["HTTP/1.1",1,true]},"constant":"50%","quoted \\"key\\"":""}',
  )
  t.equal(compileBodyFormat({ kind: 'json', json: { a: '%RESPONSE_CODE%' } })(sampleStream()), '{"a":503}')
  t.throws(() => compileJsonFormat({ a: { b: ['x', '%NOPE%'] } }), /"a\.b\[1\]": %NOPE% is not supported/)
})

t.test('wrong formats are refused with what is wrong and where', async (t) => {
  const wrong: Record<string, RegExp> = {
    'ab %': /a "%" must begin a command such as %PROTOCOL%, or be written "%%" \(at character 4\)/,
    '%protocol%': /a "%" must begin a command/,
    'x %PROTOCOL': /%PROTOCOL has no closing "%" \(at character 3\)/,
    '%REQ(USER-AGENT%': /%REQ\(…\)% has no closing parenthesis/,
    '%PROTOCOL:x%': /%PROTOCOL% is not of the form/,
    '%NOT_A_COMMAND%': /%NOT_A_COMMAND% is not supported \(at character 1\)/,
    '%PROTOCOL(x)%': /%PROTOCOL% takes no argument/,
    '%PROTOCOL:5%': /%PROTOCOL% takes no length/,
    '%REQ%': /%REQ% needs an argument: %REQ\(X\?Y\)%/,
    '%REQ()%': /needs an argument/,
    '%REQ(a):0%': /cannot be cut to 0 characters/,
    '%REQ(a?b?c)%': /at most one alternative/,
    '%REQ(a b)%': /is not a header name/,
    '%START_TIME(%Q)%': /%START_TIME%: unknown time directive "%Q"/,
    '%COMMON_DURATION(DS_RX_BEG)%': /expects START:END/,
    '%COMMON_DURATION(DS_RX_BEG:)%': /expects START:END/,
    '%COMMON_DURATION(DS_RX_BEG:a-b)%': /unknown time point "a-b"/,
    '%COMMON_DURATION(DS_RX_BEG:DS_RX_END:s)%': /unknown precision "s"/,
    '%RESPONSE_CODE_DETAILS(x)%': /unknown option "x"/,
    '%GRPC_STATUS(x)%': /unknown form "x"/,
    '%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT(129)%': /not a prefix length/,
    '%PATH(XX)%': /unknown option "XX"/,
    '%PATH(WQ:XX)%': /unknown source "XX"/,
    '%PATH(WQ:PATH:X)%': /at most two options/,
    '%QUERY_PARAMS(x)%': /unknown form "x"/,
    '%REQUESTED_SERVER_NAME(x)%': /unknown option "x"/,
    '%REQUESTED_SERVER_NAME(SNI_FIRST:x)%': /unknown source "x"/,
    '%REQUESTED_SERVER_NAME(SNI_FIRST:HOST:x)%': /at most two options/,
    '%METADATA(NOPE:a)%': /unknown metadata type "NOPE"/,
    '%METADATA(ROUTE)%': /expects a metadata namespace/,
    '%DYNAMIC_METADATA(:a)%': /expects a metadata namespace/,
    '%FILTER_STATE(:PLAIN)%': /expects the key/,
    '%FILTER_STATE(a:X)%': /unknown form "X"/,
    '%FILTER_STATE(a:FIELD)%': /takes the name of a field/,
    '%COALESCE(x)%': /expects a JSON object/,
    '%COALESCE({"operators": []})%': /expects a JSON object/,
    '%COALESCE({"operators": [1]})%': /an operator is a name/,
    '%COALESCE({"operators": [{}]})%': /needs a "command"/,
    '%COALESCE({"operators": [{"command": "REQ", "param": 1}]})%': /"param" must be a string/,
    '%COALESCE({"operators": [{"command": "REQ", "param": "a", "max_length": 0}]})%': /"max_length"/,
    '%COALESCE({"operators": ["NOPE"]})%': /%NOPE% is not supported/,
  }
  for (const [text, message] of Object.entries(wrong)) {
    t.throws(() => line(text), { name: 'FormatError', message }, text)
    t.match(checkFormat({ kind: 'text', text }).errors, [message], `${text}, checked`)
  }
  for (const [name, why] of REFUSED_COMMANDS) {
    t.equal(findCommand(name), undefined)
    t.throws(() => line(`%${name}(x)%`), { message: `%${name}% is not supported: ${why} (at character 1)` })
  }
  const error = new FormatError('wrong', 4)
  t.equal(error.position, 4)
})

t.test('filter state that cannot be written is left out instead of breaking the line', async (t) => {
  const circular: Record<string, unknown> = {}
  circular.self = circular
  const throws = {
    toJSON(): never {
      throw new Error('no')
    },
  }
  const stream = sampleStream({ filterState: { circular, throws, f: () => 1, b: true } })
  t.equal(
    line('%FILTER_STATE(circular)% %FILTER_STATE(throws:PLAIN)% %FILTER_STATE(f)% %FILTER_STATE(b:PLAIN)%', stream),
    '- - - true',
  )
})
