import { type ConnectionInfo, plainConnection } from '../../lib/core/connection.ts'
import type { Json } from '../../lib/core/errors.ts'
import { flagBit } from '../../lib/core/failure.ts'
import { Headers } from '../../lib/core/headers.ts'
import { StreamInfo } from '../../lib/core/stream-info.ts'
import type { LogStream } from '../../lib/telemetry/format.ts'
import { peer, tlsInfo } from '../support/peers.ts'

/** What tests change of the sample. */
export interface SampleOptions {
  readonly request?: readonly string[]
  readonly response?: readonly string[]
  readonly trailers?: readonly string[]
  readonly status?: number
  readonly random?: number
  readonly path?: string
  readonly info?: Partial<StreamInfo>
  readonly connection?: Partial<ConnectionInfo>
  readonly metadata?: Record<string, Json>
  readonly filterState?: Record<string, unknown>
  readonly localReplyBody?: string
}

/** 2024-02-03 04:05:06.789 UTC, a Saturday. */
export const SAMPLE_WALL_MS = Date.UTC(2024, 1, 3, 4, 5, 6, 789)
export const SAMPLE_ID = '7fffffff-1111-4222-8333-444444444444'

/** A leaf (serial 1f) and its authority (serial 0abc), as openssl made them. */
const SAMPLE_CHAIN = `-----BEGIN CERTIFICATE-----
MIIBBzCBrgIBHzAKBggqhkjOPQQDAjANMQswCQYDVQQDDAJDQTAgFw0yNjExMjEw
NzAxMjhaGA8yMTI2MTAyODA3MDEyOFowETEPMA0GA1UEAwwGY2xpZW50MFkwEwYH
KoZIzj0CAQYIKoZIzj0DAQcDQgAE16Iw0fslJQENz0ppdK4Sj3s8hUVfuBOuwYPW
Y/c03/yopH00JtRpydIuH4EnpKOsNCLBJsdTocUpIOcUhqqP3zAKBggqhkjOPQQD
AgNIADBFAiEAv63g3eI1bg/D2JPKZms/b3NQITJuBRDPl/NlCZgSUIsCIHyjxcNC
KGa5+qvAD5AkkdFnBKKVkje4u/sc1Sge6X8k
-----END CERTIFICATE-----
-----BEGIN CERTIFICATE-----
MIIBXzCCAQWgAwIBAgICCrwwCgYIKoZIzj0EAwIwDTELMAkGA1UEAwwCQ0EwIBcN
MjYxMTIxMDcwMTI3WhgPMjEyNjEwMjgwNzAxMjdaMA0xCzAJBgNVBAMMAkNBMFkw
EwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEYCnwgjpY3ex98+WBzWDwaOcTxg8ahd6+
NalUsQ0qn3MCvGP6HrKQdpVMMYGnknERMa5PmZvcsqIAxCvHNEl6H6NTMFEwHQYD
VR0OBBYEFHbPjQmk7QsByPBMW+Gvj8TdIFL/MB8GA1UdIwQYMBaAFHbPjQmk7QsB
yPBMW+Gvj8TdIFL/MA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZIzj0EAwIDSAAwRQIg
T+BPXK18mwXqahszF0isx2C7Yr5HS305skCdcD1IkZUCIQCl05+5FsbnZ/i8sqE1
Zm8k9jcC8KrGdK2W9R95rSqKeQ==
-----END CERTIFICATE-----
`

const REQUEST = [
  ['user-agent', 'curl/8.5.0'],
  ['content-type', 'application/grpc+proto'],
  ['x-forwarded-for', '203.0.113.9'],
  ['x-request-id', SAMPLE_ID],
  ['x-envoy-original-path', '/before?old=1'],
  ['traceparent', '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'],
  ['x-utf8', 'caf\u00c3\u00a9'],
].flat()

/** A finished exchange in which everything that can have a value has one. */
export function sampleStream(options: SampleOptions = {}): LogStream {
  const metadata: Record<string, Json> = options.metadata ?? {
    'com.test': { key: 'value', deep: { n: 7 }, list: [1, 'two'], none: null },
  }
  const state = new Map<string, unknown>(
    Object.entries(options.filterState ?? { text: 'plain', object: { a: 1, b: ['x'] }, big: 12n }),
  )
  return {
    connection: connection(options.connection),
    route: {
      name: 'checkout',
      virtualHost: 'shop',
      cluster: 'web',
      metadata: { 'com.route': { owner: 'team-a', weights: [1, 2] } },
    },
    head: {
      method: 'GET',
      scheme: 'https',
      authority: 'shop.example:8443',
      path: options.path ?? '/items?id=4%202&q=caf%C3%A9&line=a%0Ab&empty',
      protocol: undefined,
    },
    request: new Headers([...(options.request ?? REQUEST)]),
    response: new Headers([...(options.response ?? ['x-envoy-upstream-service-time', '11', 'server', 'envoy'])]),
    responseTrailers: new Headers([...(options.trailers ?? ['grpc-status', '5', 'grpc-message', 'none'])]),
    localReplyBody: options.localReplyBody,
    status: options.status ?? 503,
    bufferLimit: 0,
    info: info(options.info),
    metadata: {
      get: (namespace) => (Object.hasOwn(metadata, namespace) ? metadata[namespace] : undefined),
      merge() {},
    },
    filterState: { get: (key) => state.get(key), set: (key, value) => void state.set(key, value) },
    random: options.random ?? 0.5,
    // Formats and filters read; whatever acts on the exchange would be a mistake here.
    get signal(): AbortSignal {
      return refuse()
    },
    refreshRoute: refuse,
    reply: refuse,
    respond: refuse,
    collectRequest: refuse,
    collectResponse: refuse,
    peekRequest: refuse,
    peekResponse: refuse,
    writeRequest: refuse,
    writeResponse: refuse,
    setRequestTrailers: refuse,
    setResponseTrailers: refuse,
  }
}

function refuse(): never {
  throw new Error('a format must not act on the exchange')
}

function connection(changes: Partial<ConnectionInfo> = {}): ConnectionInfo {
  return {
    ...plainConnection({
      id: 17,
      remoteAddress: '198.51.100.7',
      remotePort: 50_000,
      localAddress: '2001:db8::1:2',
      localPort: 8443,
      kind: 'ip',
      listenerName: 'ingress',
    }),
    directRemoteAddress: '10.1.10.23',
    directRemotePort: 40_000,
    filterChainName: 'tls-chain',
    directLocalAddress: '10.0.0.1',
    directLocalPort: 10_443,
    serverName: 'shop.example',
    ja3: 'aa'.repeat(16),
    ja4: 't13d1516h2_8daaf6152771_e5627efa2ab1',
    tls: tlsInfo({
      serverName: 'shop.example',
      alpn: 'http/1.1',
      sessionId: 'd5'.repeat(32),
      peer: peer({
        subject: 'CN=client',
        issuer: 'CN=Client CA,O=Example',
        uriSans: ['spiffe://td/ns/a', 'spiffe://td/ns/b'],
        dnsSans: ['client.example'],
        emailSans: ['a@client.example', 'b@client.example'],
        ipSans: ['192.0.2.7'],
        chainPem: SAMPLE_CHAIN,
      }),
      local: { subject: 'CN=shop', uriSans: ['spiffe://td/shop'], dnsSans: ['shop.example', '*.shop.example'] },
    }),
    ...changes,
  }
}

function info(changes: Partial<StreamInfo> = {}): StreamInfo {
  const made = new StreamInfo(1_000.25, SAMPLE_WALL_MS)
  return Object.assign(made, {
    requestEndMs: 1_002.5,
    upstreamFirstSentMs: 1_003.25,
    upstreamLastSentMs: 1_004.25,
    upstreamFirstReceivedMs: 1_010.5,
    upstreamLastReceivedMs: 1_012.5,
    downstreamFirstSentMs: 1_011.25,
    downstreamLastSentMs: 1_013.25,
    endMs: 1_014.5,
    bytesReceived: 100,
    bytesSent: 2_000,
    requestHeaderBytes: 300,
    responseHeaderBytes: 150,
    upstreamBytesSent: 90,
    upstreamBytesReceived: 1_900,
    attempts: 2,
    flags: flagBit('UF') | flagBit('URX'),
    details: 'upstream reset before response',
    connectionTerminationDetails: 'idle timeout',
    upstreamTransportFailure: 'connect ECONNREFUSED',
    downstreamTransportFailure: 'certificate expired',
    upstreamHost: '10.2.0.9:8080',
    upstreamHostName: 'web-1.internal:8080',
    upstreamLocalAddress: '[::1]:33000',
    upstreamCluster: 'web',
    upstreamProtocol: 'HTTP/1.1',
    upstreamConnectionId: 23,
    routeName: 'checkout',
    virtualHostName: 'shop',
    clientAddress: '203.0.113.9',
    requestId: SAMPLE_ID,
    upstreamTls: tlsInfo({
      version: 'TLSv1.2',
      cipher: 'ECDHE-RSA-AES128-GCM-SHA256',
      group: 'X25519',
      serverName: 'web.internal',
      sessionId: 'e6'.repeat(32),
      peer: peer({
        subject: 'CN=web',
        issuer: 'CN=Server CA',
        uriSans: ['spiffe://td/web'],
        dnsSans: ['web.internal', 'web-1.internal'],
        ipSans: ['10.2.0.9', '2001:db8::9'],
      }),
      local: { subject: 'CN=gate', uriSans: ['spiffe://td/gate'], dnsSans: ['gate.internal'] },
    }),
    ...changes,
  } satisfies Partial<StreamInfo>)
}
