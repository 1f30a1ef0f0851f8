import { but, cluster, type Data, endpoint, type Group, get, post, request, TYPE, to } from '../group.ts'

const any = { prefix: '/' }
const GRPC = ['content-type: application/grpc', 'content-length: 0'] as const

/** A POST that gRPC clients would send, as far as HTTP/1 goes. */
const grpc = (target: string, ...lines: string[]): ReturnType<typeof get> => ({
  name: ['gRPC', target, ...lines].join(' | '),
  send: request('POST', target, ...GRPC, ...lines),
})

const failures: Group = {
  name: 'failures',
  routes: [
    to({ prefix: '/unknown' }, { cluster: 'nobody' }),
    to({ prefix: '/unknown-404' }, { cluster: 'nobody', cluster_not_found_response_code: 'NOT_FOUND' }),
    to({ prefix: '/unknown-500' }, { cluster: 'nobody', cluster_not_found_response_code: 'INTERNAL_SERVER_ERROR' }),
    to({ prefix: '/closed' }, { cluster: 'closed' }),
    to({ prefix: '/empty' }, { cluster: 'empty' }),
    to({ prefix: '/overflow' }, { cluster: 'overflow' }),
    to({ prefix: '/timeout' }, { timeout: '0.1s' }),
    to({ prefix: '/header' }, { cluster_header: 'x-cluster' }),
    to({ prefix: '/unroutable' }, { cluster: 'unroutable' }),
    { match: { prefix: '/nowhere' }, non_forwarding_action: {} },
    to(any),
  ].sort((a, b) => prefix(b).length - prefix(a).length),
  clusters: [
    cluster('overflow', ['@ORIGIN@' as never], { circuit_breakers: { thresholds: [{ max_requests: 0 }] } }),
    {
      name: 'unroutable',
      type: 'STATIC',
      connect_timeout: '0.1s',
      // A network for documentation: nobody answers there.
      load_assignment: { cluster_name: 'unroutable', endpoints: [{ lb_endpoints: [endpoint(80, '192.0.2.1')] }] },
    },
  ],
  probes: [
    get('/unknown'),
    get('/unknown-404'),
    get('/unknown-500'),
    get('/closed'),
    get('/empty'),
    get('/overflow'),
    get('/timeout', 'x-script: stall'),
    get('/header', 'x-cluster: origin'),
    get('/header', 'x-cluster: nobody'),
    get('/header', 'x-cluster: '),
    get('/header'),
    get('/nowhere'),
    get('/', 'x-script: reset'),
    get('/', 'x-script: fin'),
    get('/', 'x-script: half'),
    get('/', 'x-script: raw=garbage'),
    get('/', 'x-script: raw=both-framings'),
    get('/', 'x-script: raw=many-headers'),
    get('/', 'x-script: raw=big-headers'),
    get('/', 'x-script: raw=not-modified'),
    post('/', 'body', 'x-script: reset'),
    post('/closed', 'body'),
    { name: 'HEAD of closed', send: request('HEAD', '/closed') },
    grpc('/unknown'),
    grpc('/closed'),
    grpc('/empty'),
    grpc('/overflow'),
    grpc('/timeout', 'x-script: stall'),
    grpc('/', 'x-script: reset'),
    grpc('/', 'x-script: status=404'),
    grpc('/', 'x-script: raw=grpc-trailers-only'),
    but(get('/', 'x-script: stall'), { name: 'a client that walks away', afterwards: 'leave' }),
  ],
}

function prefix(route: Data): string {
  return (route.match as { prefix: string }).prefix
}

const timeouts: Group = {
  name: 'route_timeouts',
  hcm: {
    use_remote_address: true,
    internal_address_config: { cidr_ranges: [{ address_prefix: '127.0.0.0', prefix_len: 8 }] },
  },
  routes: [
    to({ prefix: '/off' }, { timeout: '0s' }),
    to({ prefix: '/grpc' }, { timeout: '5s', max_stream_duration: { grpc_timeout_header_max: '0s' } }),
    to({ prefix: '/capped' }, { timeout: '5s', max_stream_duration: { grpc_timeout_header_max: '0.05s' } }),
    to({ prefix: '/stream' }, { timeout: '5s', max_stream_duration: { max_stream_duration: '0.1s' } }),
    to(any, { timeout: '5s' }),
  ],
  probes: [
    get('/off'),
    get('/'),
    get('/', 'x-envoy-upstream-rq-timeout-ms: 50', 'x-script: stall'),
    get('/', 'x-envoy-upstream-rq-timeout-ms: 0'),
    get('/', 'x-envoy-upstream-rq-timeout-ms: x'),
    get('/', 'x-envoy-expected-rq-timeout-ms: 7'),
    grpc('/grpc', 'grpc-timeout: 50m', 'x-script: stall'),
    grpc('/capped', 'grpc-timeout: 2S', 'x-script: stall'),
    grpc('/grpc', 'grpc-timeout: 3S'),
    grpc('/', 'grpc-timeout: 3S'),
    get('/stream', 'x-script: stall'),
  ],
}

const counted: Group = {
  name: 'attempts',
  virtualHosts: [
    {
      name: 'all',
      domains: ['*'],
      include_request_attempt_count: true,
      include_attempt_count_in_response: true,
      routes: [to({ prefix: '/closed' }, { cluster: 'closed' }), to(any)],
    },
  ],
  probes: [get('/'), get('/closed')],
}

const spelled: Group = {
  name: 'spelled',
  routes: [to({ prefix: '/proper' }, { cluster: 'proper' }), to({ prefix: '/kept' }, { cluster: 'kept' })],
  clusters: [
    cluster('proper', ['@ORIGIN@' as never], protocol({ header_key_format: { proper_case_words: {} } })),
    cluster(
      'kept',
      ['@ORIGIN@' as never],
      protocol({
        header_key_format: {
          stateful_formatter: {
            name: 'preserve_case',
            typed_config: {
              '@type': `${TYPE}envoy.extensions.http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig`,
            },
          },
        },
      }),
    ),
  ],
  probes: [
    get('/proper', 'x-mixed-case: 1'),
    get('/proper', 'x-script: headers=X-mixed-CASE:1'),
    get('/kept', 'X-Mixed-Case: 1'),
    get('/kept', 'x-script: headers=X-Mixed-Case:1'),
  ],
}

function protocol(http1: Data): Data {
  return {
    typed_extension_protocol_options: {
      'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
        '@type': `${TYPE}envoy.extensions.upstreams.http.v3.HttpProtocolOptions`,
        explicit_http_config: { http_protocol_options: http1 },
      },
    },
  }
}

const once: Group = {
  name: 'once',
  routes: [to(any, { cluster: 'once' })],
  clusters: [
    cluster('once', ['@ORIGIN@' as never], {
      typed_extension_protocol_options: {
        'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
          '@type': `${TYPE}envoy.extensions.upstreams.http.v3.HttpProtocolOptions`,
          common_http_protocol_options: { max_requests_per_connection: 1 },
          explicit_http_config: { http_protocol_options: {} },
        },
      },
    }),
  ],
  probes: [{ name: 'two requests', send: [request('GET', '/1'), request('GET', '/2')], responses: 2, lines: 2 }],
}

const mirrored: Group = {
  name: 'mirrored',
  routes: [
    to({ prefix: '/a' }, { request_mirror_policies: [{ cluster: 'origin' }] }),
    to(
      { prefix: '/off' },
      {
        request_mirror_policies: [
          { cluster: 'origin', runtime_fraction: { default_value: { numerator: 0, denominator: 'HUNDRED' } } },
        ],
      },
    ),
    to(
      { prefix: '/plain' },
      { request_mirror_policies: [{ cluster: 'origin', disable_shadow_host_suffix_append: true }] },
    ),
    to({ prefix: '/none' }, { request_mirror_policies: [{ cluster: 'nobody' }] }),
  ],
  probes: [
    but(get('/a'), { arrivals: 2 }),
    but(get('/a', 'host: a.example:8080'), { arrivals: 2 }),
    but(post('/a', 'with a body'), { arrivals: 2 }),
    get('/off'),
    but(get('/plain'), { arrivals: 2 }),
    get('/none'),
  ],
}

export const upstreams: readonly Group[] = [failures, timeouts, counted, spelled, once, mirrored]
