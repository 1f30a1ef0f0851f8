import t from 'tap'
import { FAILURES } from '../../lib/core/failure.ts'
import { encodeGrpcMessage } from '../../lib/core/grpc.ts'
import { Headers } from '../../lib/core/headers.ts'
import { appendBinaryMetadata, binaryMetadata } from '../../lib/grpc/metadata.ts'
import { protobufMethod, registryMethod } from '../../lib/grpc/method.ts'
import { formatTimeout, isGrpcResponse, requestHeaders } from '../../lib/grpc/request.ts'
import { decodeGrpcMessage, failureStatus, foreignStatus, GrpcCode, peerStatus } from '../../lib/grpc/status.ts'
import { createProtoRegistry } from '../../lib/proto/registry.ts'

t.test('a timeout has at most eight digits, is rounded up and never 0', async (t) => {
  const rows: readonly (readonly [number, string])[] = [
    [0.01, '1m'],
    [1, '1m'],
    [1.2, '2m'],
    [99_999_999, '99999999m'],
    [100_000_000, '100000S'],
    [99_999_999_000, '99999999S'],
    [99_999_999_001, '1666667M'],
    [6e12, '1666667H'],
    [1e300, '99999999H'],
  ]
  for (const [ms, text] of rows) t.equal(formatTimeout(ms), text, `${ms} ms`)
})

t.test('a grpc-message is decoded as far as it is encoded, and never throws', async (t) => {
  const rows: readonly (readonly [string, string])[] = [
    ['plain text', 'plain text'],
    ['100%25 sure', '100% sure'],
    ['%E2%82%AC and %e2%82%ac', '€ and €'],
    ['%', '%'],
    ['%4', '%4'],
    ['%zz%41', '%zzA'],
    ['%%41', '%A'],
    ['%FF', '\ufffd'],
    [Buffer.from('raw ü').toString('latin1'), 'raw ü'],
    ['', ''],
  ]
  for (const [encoded, text] of rows) t.equal(decodeGrpcMessage(encoded), text, encoded)
  for (const text of ['', 'a%b', 'tab\tnewline\n', 'ünïcödé 🚀', '\0\x7f']) {
    t.equal(decodeGrpcMessage(encodeGrpcMessage(text)), text)
  }
})

t.test('binary metadata: with and without padding, in lists and in several fields', async (t) => {
  const metadata = new Headers([
    'a-bin',
    'AAE=,AAE',
    'x',
    'y',
    'a-bin',
    ' /+8= , ',
    'a-bin',
    'not base64!',
    'a-bin',
    'A',
  ])
  t.same(
    binaryMetadata(metadata, 'a-bin').map((bytes) => bytes.toString('hex')),
    ['0001', '0001', 'ffef', ''],
  )
  t.same(binaryMetadata(metadata, 'b-bin'), [])
  for (const hex of ['', '00', '0001', '000102', 'ff']) {
    const made = new Headers()
    appendBinaryMetadata(made, 'b-bin', Buffer.from(hex, 'hex'))
    t.notMatch(made.get('b-bin'), /=/)
    t.equal(binaryMetadata(made, 'b-bin')[0].toString('hex'), hex)
  }
  t.throws(() => appendBinaryMetadata(new Headers(), 'b', Buffer.alloc(1)), /-bin/)
})

t.test('the status is in the trailers, or follows from what HTTP said', async (t) => {
  const status = peerStatus(
    200,
    new Headers(['grpc-status', '5', 'grpc-message', 'no such %C3%A4', 'grpc-status-details-bin', 'CAU']),
  )
  t.match(status, { code: 5, message: 'no such ä', failure: undefined })
  t.equal(status.details?.toString('hex'), '0805')
  t.equal(peerStatus(503, new Headers(['grpc-status', '0'])).code, 0, 'a status that was given counts')
  for (const text of ['', 'x', '-1', '1.5', '9'.repeat(20)]) {
    t.equal(peerStatus(200, new Headers(['grpc-status', text])).code, GrpcCode.UNKNOWN, `"${text}"`)
  }
  t.equal(peerStatus(200, new Headers(['grpc-status', '99'])).code, 99, 'a code we do not know')
  t.equal(peerStatus(200, new Headers(['grpc-status', '5', 'grpc-status-details-bin', '?'])).details, undefined)
  t.match(peerStatus(200, new Headers()), { code: GrpcCode.UNKNOWN, message: /no grpc-status/ })
  const http: readonly (readonly [number, number])[] = [
    [400, 13],
    [401, 16],
    [403, 7],
    [404, 12],
    [429, 14],
    [502, 14],
    [503, 14],
    [504, 14],
    [500, 2],
    [302, 2],
  ]
  for (const [from, to] of http) {
    t.equal(peerStatus(from, new Headers()).code, to, String(from))
    t.equal(foreignStatus(from, 'text/html').code, to, String(from))
  }
})

t.test('what the network did has a status', async (t) => {
  const rows: readonly (readonly [keyof typeof FAILURES, string | undefined, number])[] = [
    ['connectFailed', undefined, GrpcCode.UNAVAILABLE],
    ['connectTimeout', undefined, GrpcCode.UNAVAILABLE],
    ['upstreamClosed', undefined, GrpcCode.UNAVAILABLE],
    ['upstreamBroken', undefined, GrpcCode.UNAVAILABLE],
    ['overflow', undefined, GrpcCode.UNAVAILABLE],
    ['noHealthyHost', undefined, GrpcCode.UNAVAILABLE],
    ['noCluster', undefined, GrpcCode.UNAVAILABLE],
    ['upstreamProtocol', undefined, GrpcCode.INTERNAL],
    ['upstreamTimeout', undefined, GrpcCode.DEADLINE_EXCEEDED],
    ['upstreamMaxDuration', undefined, GrpcCode.DEADLINE_EXCEEDED],
    ['clientClosed', undefined, GrpcCode.CANCELLED],
    ['responseTooLarge', undefined, GrpcCode.RESOURCE_EXHAUSTED],
    ['upstreamRefused', undefined, GrpcCode.UNAVAILABLE],
    ['upstreamReset', undefined, GrpcCode.INTERNAL],
    ['upstreamReset', 'RST_STREAM with NO_ERROR', GrpcCode.INTERNAL],
    ['upstreamReset', 'RST_STREAM with INTERNAL_ERROR', GrpcCode.INTERNAL],
    ['upstreamReset', 'RST_STREAM with CANCEL', GrpcCode.CANCELLED],
    ['upstreamReset', 'RST_STREAM with REFUSED_STREAM', GrpcCode.UNAVAILABLE],
    ['upstreamReset', 'RST_STREAM with ENHANCE_YOUR_CALM', GrpcCode.RESOURCE_EXHAUSTED],
    ['upstreamReset', 'RST_STREAM with INADEQUATE_SECURITY', GrpcCode.PERMISSION_DENIED],
  ]
  for (const [name, detail, code] of rows) {
    const status = failureStatus(FAILURES[name], detail)
    t.equal(status.code, code, `${name} ${detail ?? ''}`)
    t.equal(status.failure, FAILURES[name])
  }
})

t.test('the fields of a call stand in the order of the protocol, and metadata cannot replace them', async (t) => {
  const defaults = {
    authority: 'a',
    scheme: 'http',
    userAgent: 'me',
    priority: 'default',
    metadata: ['x-default', '1'],
  } as const
  const metadata = new Headers(['te', 'gzip', 'x-own', '2', 'grpc-timeout', '1H', 'content-type', 'text/html'])
  t.same(requestHeaders(defaults, 'gzip', metadata, 1500).raw, [
    ...['grpc-timeout', '1500m', 'te', 'trailers', 'content-type', 'application/grpc', 'user-agent', 'me'],
    ...['grpc-encoding', 'gzip', 'grpc-accept-encoding', 'identity,deflate,gzip', 'x-default', '1', 'x-own', '2'],
  ])
  const plain = requestHeaders(defaults, 'identity', undefined, undefined)
  t.same([plain.has('grpc-timeout'), plain.has('grpc-encoding')], [false, false])
})

t.test('only application/grpc with status 200 is a gRPC response', async (t) => {
  for (const type of ['application/grpc', 'application/grpc+proto', 'application/grpc;x=y', 'application/grpc ;x=y']) {
    t.ok(isGrpcResponse(200, type), type)
    t.notOk(isGrpcResponse(503, type), type)
  }
  for (const type of [undefined, '', 'text/html', 'application/grpc-web', 'application/grpcx']) {
    t.notOk(isGrpcResponse(200, type), String(type))
  }
})

t.test('methods are made of protobuf descriptions', async (t) => {
  const registry = createProtoRegistry()
  const method = registryMethod(registry, 'envoy.service.auth.v3.Authorization', 'Check')
  t.equal(method.path, '/envoy.service.auth.v3.Authorization/Check')
  const desc = registry.files.getService('envoy.service.discovery.v3.AggregatedDiscoveryService')
  const ads = protobufMethod(desc!.method['deltaAggregatedResources'])
  t.equal(ads.path, '/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources')
  // DeltaDiscoveryResponse.nonce = 5: decoded, and what is sent is a DeltaDiscoveryRequest.
  const message = ads.decode(Buffer.from([0x2a, 1, 0x37])) as { nonce?: string; $typeName: string }
  t.match(message, { $typeName: 'envoy.service.discovery.v3.DeltaDiscoveryResponse', nonce: '7' })
  t.throws(() => registryMethod(registry, 'envoy.service.auth.v3.Authorization', 'Chek'), /no method/)
  t.throws(() => registryMethod(registry, 'no.Such', 'Check'), /no method/)
})
