import { but, type Data, type Group, get, request, TYPE, to } from '../group.ts'

const any = { prefix: '/' }
const toOrigin = [to(any)]

const addresses = (name: string, hcm: Data): Group => ({
  name,
  hcm,
  routes: [
    to(
      any,
      {},
      { request_headers_to_add: [{ header: { key: 'x-client', value: '%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%' } }] },
    ),
  ],
  jsonLog: {
    client: '%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%',
    direct: '%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%',
  },
  probes: [
    get('/'),
    get('/', 'x-forwarded-for: 1.2.3.4'),
    get('/', 'x-forwarded-for: 1.2.3.4, 5.6.7.8'),
    get('/', 'x-forwarded-for: 1.2.3.4,5.6.7.8,9.10.11.12'),
    get('/', 'x-forwarded-for: 1.2.3.4', 'x-forwarded-for: 5.6.7.8'),
    get('/', 'x-forwarded-for: 10.0.0.1'),
    get('/', 'x-forwarded-for: 10.0.0.1, 10.0.0.2'),
    get('/', 'x-forwarded-for: not an address'),
    get('/', 'x-forwarded-for: 1.2.3.4:80'),
    get('/', 'x-forwarded-for: [2001:db8::1]:80'),
    get('/', 'x-forwarded-for: 2001:db8::1'),
    get('/', 'x-forwarded-for: '),
    get('/', 'x-forwarded-for: 1.2.3.4,'),
    get('/', 'x-forwarded-proto: https'),
    get('/', 'x-forwarded-proto: HTTPS'),
    get('/', 'x-forwarded-proto: ftp'),
    get('/', 'x-forwarded-port: 99'),
    get('/', 'x-forwarded-host: x.example'),
    get('/', 'x-envoy-internal: true'),
    get('/', 'x-envoy-external-address: 9.9.9.9'),
    get('/', 'x-request-id: mine'),
    get('/', 'x-forwarded-for: 10.0.0.1', 'x-request-id: mine'),
    get(
      '/',
      ...[
        'decorator-operation',
        'downstream-service-cluster',
        'downstream-service-node',
        'expected-rq-timeout-ms',
        'force-trace',
        'ip-tags',
        'max-retries',
        'retry-on',
        'retry-grpc-on',
        'retriable-status-codes',
        'retriable-header-names',
        'upstream-alt-stat-name',
        'upstream-rq-timeout-ms',
        'upstream-rq-per-try-timeout-ms',
        'upstream-rq-timeout-alt-response',
        'original-path',
        'original-host',
        'hedge-on-per-try-timeout',
        'attempt-count',
        'is-timeout-retry',
        'upstream-stream-duration-ms',
        'original-dst-host',
        'peer-metadata',
      ].map((header) => `x-envoy-${header}: 1`),
    ),
    get('/', 'x-forwarded-client-cert: By=x;Hash=y'),
    get('/', 'x-real-ip: 1.1.1.1'),
  ],
})

/** With a probe from 127.0.0.1 itself. */
function fromLoopback(group: Group): Group {
  return { ...group, probes: [...group.probes, { ...get('/'), name: 'from loopback', from: '127.0.0.1' }] }
}

const internal = {
  cidr_ranges: [
    { address_prefix: '127.0.0.0', prefix_len: 8 },
    { address_prefix: '10.0.0.0', prefix_len: 8 },
  ],
}
const xff = (fields: Data): Data => ({
  original_ip_detection_extensions: [
    {
      name: 'xff',
      typed_config: { '@type': `${TYPE}envoy.extensions.http.original_ip_detection.xff.v3.XffConfig`, ...fields },
    },
  ],
})

const detection: Group[] = [
  addresses('plain', {}),
  fromLoopback(addresses('remote', { use_remote_address: true })),
  addresses('remote_internal', { use_remote_address: true, internal_address_config: internal }),
  addresses('header_internal', { internal_address_config: internal }),
  addresses('remote_hops', { use_remote_address: true, xff_num_trusted_hops: 1, append_x_forwarded_port: true }),
  addresses('header_hops', { xff_num_trusted_hops: 1 }),
  addresses('skip_append', { use_remote_address: true, skip_xff_append: true }),
  addresses('xff_hops', xff({ xff_num_trusted_hops: 1 })),
  addresses('xff_append', xff({ xff_num_trusted_hops: 0, skip_xff_append: false })),
  addresses('xff_cidrs', xff({ xff_trusted_cidrs: { cidrs: internal.cidr_ranges } })),
  addresses('custom_header', {
    original_ip_detection_extensions: [
      {
        name: 'custom',
        typed_config: {
          '@type': `${TYPE}envoy.extensions.http.original_ip_detection.custom_header.v3.CustomHeaderConfig`,
          header_name: 'x-real-ip',
          allow_extension_to_set_address_as_trusted: true,
        },
      },
    ],
  }),
  addresses('custom_header_reject', {
    original_ip_detection_extensions: [
      {
        name: 'custom',
        typed_config: {
          '@type': `${TYPE}envoy.extensions.http.original_ip_detection.custom_header.v3.CustomHeaderConfig`,
          header_name: 'x-real-ip',
          reject_with_status: { code: 'Unauthorized' },
        },
      },
    ],
  }),
]

const ids = (name: string, hcm: Data): Group => ({
  name,
  hcm,
  routes: toOrigin,
  probes: [
    get('/'),
    get('/', 'x-request-id: mine'),
    get('/', 'x-request-id: 125f51aa-0f5c-45dd-9d3c-b2d8d7bd5e0c'),
    get('/', 'x-request-id: '),
    get('/', 'x-request-id: a', 'x-request-id: b'),
    get('/', 'x-forwarded-for: 10.0.0.1', 'x-request-id: mine'),
    get('/', 'x-client-trace-id: abc'),
    get('/', 'x-script: headers=x-request-id:theirs'),
  ],
})

const requestIds: Group[] = [
  ids('id_none', { generate_request_id: false }),
  ids('id_edge', { use_remote_address: true }),
  ids('id_edge_preserve', { use_remote_address: true, preserve_external_request_id: true }),
  ids('id_in_response', { always_set_request_id_in_response: true }),
  ids('id_unpacked', {
    request_id_extension: {
      typed_config: {
        '@type': `${TYPE}envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig`,
        pack_trace_reason: false,
      },
    },
  }),
]

const PATHS = [
  '/a/../b',
  '/a/./b',
  '/a/..',
  '/..',
  '/../a',
  '/a//b',
  '//a',
  '/a/%2e%2e/b',
  '/%61',
  '/%7Euser',
  '/%41%2d%2E',
  '/a%2Fb',
  '/a%2fb',
  '/a%5Cb',
  '/a\\b',
  '/a%2F%2e%2e%2Fb',
  '/a%2F..%2Fb?x=%2F',
  '/a/%2F/b',
  '/%',
  '/%zz',
  '/%00',
  '/a%20b',
  '/A/B',
  '/a;b=c/../d',
  '/a?x=/../y',
  '/a?x=//y',
  '/a/b/../../../c',
  '/a/%252e%252e/b',
  '/a/b/',
  '/a/b/.',
  '/.',
  '/...',
  '/a/.b',
  '/caf\xc3\xa9',
  '/a|b',
  '/a"b',
  '/a{b}',
  '/a^b`c',
]

const normalisation = (name: string, hcm: Data): Group => ({
  name,
  hcm,
  routes: toOrigin,
  probes: [
    ...PATHS.map((path) => get(path)),
    { name: 'gRPC', send: request('POST', '/a%2Fb', 'content-type: application/grpc', 'content-length: 0') },
    {
      name: 'gRPC to a bad path',
      send: request('POST', '/%00', 'content-type: application/grpc', 'content-length: 0'),
    },
  ],
})

const paths: Group[] = [
  normalisation('path_as_is', {}),
  normalisation('path_normal', { normalize_path: true }),
  normalisation('path_merge', { normalize_path: true, merge_slashes: true }),
  normalisation('path_merge_only', { merge_slashes: true }),
  normalisation('path_reject', { path_with_escaped_slashes_action: 'REJECT_REQUEST' }),
  normalisation('path_redirect', {
    path_with_escaped_slashes_action: 'UNESCAPE_AND_REDIRECT',
    normalize_path: true,
    merge_slashes: true,
  }),
  normalisation('path_forward', { path_with_escaped_slashes_action: 'UNESCAPE_AND_FORWARD', normalize_path: true }),
]

const hostRules = (name: string, hcm: Data): Group => ({
  name,
  hcm,
  routes: toOrigin,
  probes: [
    'a.example',
    'a.example:80',
    'a.example:8080',
    'a.example.',
    'a.example.:80',
    '[::1]:80',
    '[::1]',
    'A.Example:443',
  ].map((host) => get('/', `host: ${host}`)),
})

const hosts: Group[] = [
  hostRules('strip_any', { strip_any_host_port: true }),
  hostRules('strip_matching', { strip_matching_host_port: true }),
  hostRules('strip_dot', { strip_trailing_host_dot: true }),
]

const underscores = (action: string): Group => ({
  name: `underscore_${action.toLowerCase()}`,
  hcm: { common_http_protocol_options: { headers_with_underscores_action: action } },
  routes: toOrigin,
  probes: [get('/', 'x_under: 1', 'x-plain: 1'), get('/', 'x-plain: 1'), get('/', '_: 1')],
})

const server = (name: string, hcm: Data): Group => ({
  name,
  hcm,
  routes: [{ match: { path: '/direct' }, direct_response: { status: 200 } }, to(any)],
  probes: [
    get('/'),
    get('/direct'),
    get('/', 'x-script: headers=server:them'),
    get('/', 'x-script: headers=via:1.1 them'),
    get('/', 'via: 1.1 before'),
    get('/', 'user-agent: mine'),
  ],
})

const misc: Group[] = [
  server('server_default', {}),
  server('server_named', { server_name: 'gate', via: 'gate', add_user_agent: true }),
  server('server_if_absent', { server_header_transformation: 'APPEND_IF_ABSENT', server_name: 'gate' }),
  server('server_pass', { server_header_transformation: 'PASS_THROUGH' }),
  server('scheme', { scheme_header_transformation: { scheme_to_overwrite: 'https' } }),
  {
    name: 'http10_off',
    routes: toOrigin,
    probes: [
      { name: 'HTTP/1.0', send: 'GET / HTTP/1.0\r\nhost: a.example\r\n\r\n' },
      { name: 'HTTP/1.0 without host', send: 'GET / HTTP/1.0\r\n\r\n' },
      { name: 'no host', send: 'GET / HTTP/1.1\r\n\r\n' },
      { name: 'empty host', send: 'GET / HTTP/1.1\r\nhost: \r\n\r\n' },
      { name: 'two hosts', send: 'GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n' },
      { name: 'a host with a path', send: 'GET / HTTP/1.1\r\nhost: a/b\r\n\r\n' },
      { name: 'a host with a user', send: 'GET / HTTP/1.1\r\nhost: u@a\r\n\r\n' },
      { name: 'HTTP/1.2', send: 'GET / HTTP/1.2\r\nhost: a\r\n\r\n' },
      { name: 'HTTP/2.0', send: 'GET / HTTP/2.0\r\nhost: a\r\n\r\n' },
      { name: 'garbage', send: 'no http at all\r\n\r\n' },
      { name: 'a path without slash', send: 'GET path HTTP/1.1\r\nhost: a\r\n\r\n' },
      { name: 'space before a colon', send: 'GET / HTTP/1.1\r\nhost : a\r\n\r\n' },
      { name: 'a folded field', send: 'GET / HTTP/1.1\r\nhost: a\r\nx: a\r\n b\r\n\r\n' },
      {
        name: 'both framings',
        send: 'POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n',
      },
      { name: 'two lengths', send: 'POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabc' },
      {
        name: 'equal lengths twice',
        send: 'POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ncontent-length: 3\r\n\r\nabc',
      },
      { name: 'a negative length', send: 'POST / HTTP/1.1\r\nhost: a\r\ncontent-length: -3\r\n\r\nabc' },
      { name: 'an unknown coding', send: 'POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip\r\n\r\nabc' },
      {
        name: 'gzip, chunked',
        send: 'POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n',
      },
      { name: 'a bad chunk', send: 'POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n' },
      { name: 'bare LF', send: 'GET / HTTP/1.1\nhost: a\n\n' },
      { name: 'NUL in a value', send: 'GET / HTTP/1.1\r\nhost: a\r\nx: a\0b\r\n\r\n' },
    ],
  },
  {
    name: 'http10_on',
    hcm: { http_protocol_options: { accept_http_10: true, default_host_for_http_10: 'default.example' } },
    routes: toOrigin,
    probes: [
      { name: 'HTTP/1.0', send: 'GET / HTTP/1.0\r\nhost: a.example\r\n\r\n' },
      { name: 'HTTP/1.0 without host', send: 'GET / HTTP/1.0\r\n\r\n' },
      { name: 'HTTP/1.0 keep-alive', send: 'GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n' },
      { name: 'HTTP/1.0 of chunks', send: 'GET / HTTP/1.0\r\nx-script: chunks\r\n\r\n' },
      { name: 'HTTP/1.0 with a body', send: 'POST / HTTP/1.0\r\ncontent-length: 3\r\n\r\nabc' },
    ],
  },
  {
    name: 'limits',
    hcm: { max_request_headers_kb: 4, common_http_protocol_options: { max_headers_count: 20 } },
    routes: toOrigin,
    probes: [
      but(get('/', `x-big: ${'a'.repeat(5000)}`), { name: 'a field that is too big' }),
      but(get(`/${'a'.repeat(5000)}`), { name: 'a path that is too big' }),
      but(get('/', ...Array.from({ length: 30 }, (_, i) => `x-${i}: 1`)), { name: 'too many fields' }),
      but(get('/', ...Array.from({ length: 10 }, (_, i) => `x-${i}: 1`)), { name: 'enough fields' }),
      but(get('/', `x-big: ${'a'.repeat(3000)}`), { name: 'a field that just fits' }),
    ],
  },
  {
    name: 'trailers',
    hcm: { http_protocol_options: { enable_trailers: true } },
    routes: toOrigin,
    probes: [
      {
        name: 'request trailers',
        send: `${request('POST', '/', 'transfer-encoding: chunked')}3\r\nabc\r\n0\r\nx-t: 1\r\n\r\n`,
      },
      get('/', 'x-script: chunks'),
      get('/', 'te: trailers', 'x-script: chunks'),
    ],
  },
  {
    name: 'upgrades',
    routes: toOrigin,
    probes: [
      get('/', 'connection: upgrade', 'upgrade: websocket'),
      get('/', 'connection: Upgrade', 'upgrade: something'),
      get('/', 'upgrade: websocket'),
      { name: 'CONNECT', send: request('CONNECT', 'a.example:443', 'host: a.example:443') },
    ],
  },
  {
    name: 'max_requests',
    hcm: { common_http_protocol_options: { max_requests_per_connection: 2 } },
    routes: toOrigin,
    probes: [
      {
        name: 'three',
        send: request('GET', '/1') + request('GET', '/2') + request('GET', '/3'),
        responses: 3,
        lines: 2,
      },
    ],
  },
  {
    name: 'timeouts',
    hcm: { stream_idle_timeout: '0.2s', request_timeout: '0.15s' },
    routes: [to({ prefix: '/idle' }, { timeout: '0s', idle_timeout: '0.1s' }), to(any, { timeout: '0.1s' })],
    probes: [
      get('/', 'x-script: stall'),
      get('/idle', 'x-script: stall'),
      { name: 'a body that never ends', send: `${request('POST', '/', 'content-length: 10')}abc` },
    ],
  },
  {
    name: 'stream_duration',
    hcm: { common_http_protocol_options: { max_stream_duration: '0.1s' } },
    routes: toOrigin,
    probes: [get('/', 'x-script: stall')],
  },
  {
    name: 'headers_timeout',
    hcm: { request_headers_timeout: '0.1s' },
    routes: toOrigin,
    probes: [{ name: 'half a head', send: 'GET / HTTP/1.1\r\nhost: a\r\n' }],
  },
  {
    name: 'preserve_case',
    hcm: {
      http_protocol_options: {
        header_key_format: {
          stateful_formatter: {
            name: 'preserve_case',
            typed_config: {
              '@type': `${TYPE}envoy.extensions.http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig`,
            },
          },
        },
      },
    },
    routes: toOrigin,
    probes: [get('/', 'X-Mixed-Case: 1'), get('/', 'x-script: headers=X-Mixed-Case:1')],
  },
  {
    name: 'proper_case',
    hcm: { http_protocol_options: { header_key_format: { proper_case_words: {} } } },
    routes: toOrigin,
    probes: [get('/', 'x-mixed-case: 1'), get('/', 'x-script: headers=x-mixed-case:1')],
  },
  {
    name: 'early_mutation',
    hcm: {
      early_header_mutation_extensions: [
        {
          name: 'early',
          typed_config: {
            '@type': `${TYPE}envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation`,
            mutations: [
              { append: { header: { key: 'x-early', value: 'yes' }, append_action: 'OVERWRITE_IF_EXISTS_OR_ADD' } },
              { remove: 'x-drop' },
            ],
          },
        },
      ],
    },
    routes: [to({ ...any, headers: [{ name: 'x-drop', present_match: true }] }, { cluster: 'closed' }), to(any)],
    probes: [get('/', 'x-drop: 1'), get('/', 'x-early: no')],
  },
  {
    name: 'continue',
    hcm: { proxy_100_continue: true },
    routes: toOrigin,
    probes: [
      {
        name: 'expect goes through',
        send: [request('POST', '/', 'expect: 100-continue', 'x-script: interim=100', 'content-length: 3'), 'abc'],
      },
    ],
  },
  {
    name: 'local_reply',
    hcm: {
      local_reply_config: {
        mappers: [
          {
            filter: {
              status_code_filter: { comparison: { op: 'EQ', value: { default_value: 404, runtime_key: 'k' } } },
            },
            status_code: 410,
            body: { inline_string: 'gone' },
            headers_to_add: [{ header: { key: 'x-mapped', value: 'yes' } }],
          },
          {
            filter: { header_filter: { header: { name: 'x-json', present_match: true } } },
            body_format_override: {
              json_format: { code: '%RESPONSE_CODE%', body: '%LOCAL_REPLY_BODY%', path: '%REQ(:path)%' },
            },
          },
        ],
        body_format: {
          text_format_source: { inline_string: '[%RESPONSE_CODE% %LOCAL_REPLY_BODY% %RESPONSE_FLAGS%]' },
          content_type: 'text/html',
        },
      },
    },
    routes: [
      to({ prefix: '/closed' }, { cluster: 'closed' }),
      to({ prefix: '/empty' }, { cluster: 'empty' }),
      { match: { prefix: '/direct' }, direct_response: { status: 403, body: { inline_string: 'no' } } },
      { match: { prefix: '/redirect' }, redirect: { path_redirect: '/x' } },
      to({ prefix: '/origin' }),
    ],
    probes: [
      get('/none'),
      get('/closed'),
      get('/closed', 'x-json: 1'),
      get('/empty'),
      get('/direct'),
      get('/redirect'),
      get('/origin', 'x-script: status=404'),
      { name: 'gRPC', send: request('POST', '/empty', 'content-type: application/grpc', 'content-length: 0') },
    ],
  },
]

export const connectionManager: readonly Group[] = [
  ...detection,
  ...requestIds,
  ...paths,
  ...hosts,
  ...['ALLOW', 'REJECT_REQUEST', 'DROP_HEADER'].map(underscores),
  ...misc,
]
