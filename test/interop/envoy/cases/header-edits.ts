import { but, type Data, type Group, get, post, request, to } from '../group.ts'

const add = (key: string, value: string, more: Data = {}): Data => ({ header: { key, value }, ...more })
const any = { prefix: '/' }

const levels: Group = {
  name: 'levels',
  routeConfig: {
    request_headers_to_add: [add('x-level', 'config'), add('x-removed', 'back by config')],
    request_headers_to_remove: ['x-drop-config'],
    response_headers_to_add: [add('x-level', 'config'), add('x-gone', 'back by config')],
    response_headers_to_remove: ['x-drop-config', 'server-timing'],
  },
  virtualHosts: [
    {
      name: 'all',
      domains: ['*'],
      request_headers_to_add: [add('x-level', 'host')],
      request_headers_to_remove: ['x-removed'],
      response_headers_to_add: [add('x-level', 'host')],
      response_headers_to_remove: ['x-gone'],
      routes: [
        to(
          { prefix: '/weighted' },
          {
            weighted_clusters: {
              clusters: [
                {
                  name: 'origin',
                  weight: 1,
                  request_headers_to_add: [add('x-level', 'cluster')],
                  request_headers_to_remove: ['x-drop-cluster'],
                  response_headers_to_add: [add('x-level', 'cluster')],
                  response_headers_to_remove: ['x-drop-cluster'],
                },
              ],
            },
          },
          {
            request_headers_to_add: [add('x-level', 'route')],
            response_headers_to_add: [add('x-level', 'route')],
          },
        ),
        to(
          any,
          {},
          {
            request_headers_to_add: [add('x-level', 'route'), add('x-removed', 'by route')],
            request_headers_to_remove: ['x-drop-route', 'x-same'],
            response_headers_to_add: [add('x-level', 'route'), add('x-gone', 'by route')],
            response_headers_to_remove: ['x-drop-route'],
          },
        ),
      ],
    },
  ],
  probes: [
    get('/', 'x-level: client', 'x-drop-config: 1', 'x-drop-route: 1', 'x-drop-route: 2', 'x-stays: 1', 'x-same: 1'),
    get('/weighted', 'x-level: client', 'x-drop-cluster: 1', 'x-drop-route: 1'),
    get('/', 'x-script: headers=x-level:origin;x-drop-config:1;x-drop-route:1;x-gone:1;Server-Timing:a'),
    get('/weighted', 'x-script: headers=x-level:origin;x-drop-cluster:1;x-drop-route:1'),
  ],
}

const specificWins: Group = {
  name: 'specific_wins',
  routeConfig: {
    most_specific_header_mutations_wins: true,
    request_headers_to_add: [
      add('x-level', 'config'),
      add('x-over', 'config', { append_action: 'OVERWRITE_IF_EXISTS_OR_ADD' }),
    ],
    response_headers_to_add: [add('x-over', 'config', { append_action: 'OVERWRITE_IF_EXISTS_OR_ADD' })],
  },
  routes: [
    to(
      any,
      {},
      {
        request_headers_to_add: [
          add('x-level', 'route'),
          add('x-over', 'route', { append_action: 'OVERWRITE_IF_EXISTS_OR_ADD' }),
        ],
        response_headers_to_add: [add('x-over', 'route', { append_action: 'OVERWRITE_IF_EXISTS_OR_ADD' })],
      },
    ),
  ],
  probes: [get('/'), get('/', 'x-over: client')],
}

const actions: Group = {
  name: 'actions',
  routes: [
    to(
      any,
      {},
      {
        request_headers_to_add: [
          add('x-default', 'new'),
          add('x-append', 'new', { append_action: 'APPEND_IF_EXISTS_OR_ADD' }),
          add('x-absent', 'new', { append_action: 'ADD_IF_ABSENT' }),
          add('x-overwrite', 'new', { append_action: 'OVERWRITE_IF_EXISTS_OR_ADD' }),
          add('x-existing', 'new', { append_action: 'OVERWRITE_IF_EXISTS' }),
          add('x-old-append', 'new', { append: false }),
          add('x-empty', ''),
          add('x-keep', '', { keep_empty_value: true }),
          add('x-empty-overwrite', '%REQ(x-none)%', { append_action: 'OVERWRITE_IF_EXISTS_OR_ADD' }),
          add('X-Case', 'Value'),
          add('x-twice', 'one'),
          add('x-twice', 'two'),
        ],
        response_headers_to_add: [
          add('x-default', 'new'),
          add('x-absent', 'new', { append_action: 'ADD_IF_ABSENT' }),
          add('x-overwrite', 'new', { append_action: 'OVERWRITE_IF_EXISTS_OR_ADD' }),
          add('x-existing', 'new', { append_action: 'OVERWRITE_IF_EXISTS' }),
          add('server', 'mine'),
          add('date', 'never', { append_action: 'OVERWRITE_IF_EXISTS_OR_ADD' }),
          add('content-type', 'text/html', { append_action: 'OVERWRITE_IF_EXISTS_OR_ADD' }),
        ],
      },
    ),
  ],
  probes: [
    get('/'),
    get(
      '/',
      ...['default', 'append', 'absent', 'overwrite', 'existing', 'old-append', 'empty', 'empty-overwrite'].map(
        (name) => `x-${name}: old`,
      ),
    ),
    get('/', 'x-default: a', 'x-default: b', 'x-overwrite: a', 'x-overwrite: b', 'x-existing: a', 'x-existing: b'),
    get('/', 'x-script: headers=x-default:o;x-absent:o;x-overwrite:o;x-overwrite:p;x-existing:o'),
  ],
}

const VALUES: { readonly [name: string]: string } = {
  percent: '100%%',
  protocol: '%PROTOCOL%',
  scheme: '%REQ(:SCHEME)%',
  method: '%REQ(:METHOD)%',
  authority: '%REQ(:AUTHORITY)%',
  host: '%REQ(HOST)%',
  path: '%REQ(:PATH)%',
  cut: '%REQ(:PATH):4%',
  'path-command': '%PATH(NQ)%',
  missing: '%REQ(X-MISSING)%',
  'missing-mixed': 'a%REQ(X-MISSING)%b',
  either: '%REQ(X-MISSING?X-GIVEN)%',
  given: '%REQ(X-GIVEN)%',
  cluster: '%UPSTREAM_CLUSTER%',
  route: '%ROUTE_NAME%',
  'remote-without-port': '%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%',
  'direct-remote': '%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%',
  'local-without-port': '%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%',
  'chain-name': '%FILTER_CHAIN_NAME%',
  'response-code': '%RESPONSE_CODE%',
  flags: '%RESPONSE_FLAGS%',
  details: '%RESPONSE_CODE_DETAILS%',
  environment: '%ENVIRONMENT(NOTHING_OF_THIS_NAME)%',
  metadata: '%DYNAMIC_METADATA(com.example:key)%',
  'route-metadata': '%METADATA(ROUTE:com.example:key)%',
  'route-metadata-deep': '%METADATA(ROUTE:com.example:deep:er)%',
  'route-metadata-struct': '%METADATA(ROUTE:com.example:deep)%',
  sni: '%REQUESTED_SERVER_NAME%',
  tls: '%DOWNSTREAM_TLS_VERSION%',
  attempts: '%UPSTREAM_REQUEST_ATTEMPT_COUNT%',
  received: '%BYTES_RECEIVED%',
  query: '%QUERY_PARAM(q)%',
  'query-all': '%QUERY_PARAMS(ORIG)%',
  text: 'plain text, "quoted"',
  'stream-id': '%STREAM_ID%',
  'response-header': '%RESP(X-ORIGIN)%',
  'upstream-host': '%UPSTREAM_HOST%',
}

const formatted = (name: string): Data => ({
  name,
  metadata: { filter_metadata: { 'com.example': { key: 'value', deep: { er: 42 } } } },
  request_headers_to_add: Object.entries(VALUES)
    .filter(([name]) => name !== 'attempts')
    .map(([name, value]) => add(`x-f-${name}`, value)),
  response_headers_to_add: Object.entries(VALUES)
    .filter(([name]) => name !== 'upstream-host')
    .map(([name, value]) => add(`x-f-${name}`, value)),
})

const formats: Group = {
  name: 'formats',
  routes: [
    to({ prefix: '/closed' }, { cluster: 'closed' }, formatted('closed')),
    to({ prefix: '/empty' }, { cluster: 'empty' }, formatted('empty')),
    { match: { prefix: '/direct' }, direct_response: { status: 418 }, ...formatted('direct') },
    { match: { prefix: '/redirect' }, redirect: { path_redirect: '/x' }, ...formatted('redirect') },
    to(any, {}, formatted('the-route')),
  ],
  probes: [
    get('/closed'),
    get('/empty'),
    get('/direct'),
    get('/redirect'),
    get('/path?q=a%20b&r', 'x-given: 1', 'x-script: headers=x-origin:1'),
    get('/p', 'x-given: 1', 'x-given: 2'),
    post('/post', 'body'),
  ],
}

const hygiene: Group = {
  name: 'hygiene',
  hcm: { max_request_headers_kb: 60 },
  routes: [to(any)],
  probes: [
    get('/', 'connection: x-hop', 'x-hop: 1'),
    get('/', 'connection: keep-alive', 'keep-alive: timeout=5'),
    get('/', 'connection: close'),
    get('/', 'connection: Close, x-a', 'x-a: 1'),
    get('/', 'proxy-connection: keep-alive'),
    get('/', 'proxy-authorization: Basic abc'),
    get('/', 'te: trailers'),
    get('/', 'te: trailers, deflate'),
    get('/', 'connection: te', 'te: trailers'),
    get('/', 'te: gzip'),
    get('/', 'trailer: x-a'),
    get('/', 'upgrade: h2c', 'connection: upgrade, http2-settings', 'http2-settings: AAMAAABk'),
    get('/', 'referer: http://a.example/x'),
    get('/', 'referer: not a url'),
    get('/', 'referer: /relative'),
    get('/', 'user-agent: one', 'user-agent: two'),
    get('/', 'cookie: a=b', 'cookie: c=d'),
    get('/', 'accept: a', 'accept: b'),
    get('/', 'X-Mixed-Case: Kept Value'),
    get('/', 'x-empty:'),
    get('/', 'x-tab:\ta\tb\t'),
    get('/', 'x-obs-text: caf\xe9'),
    get('/', 'content-type: text/plain', 'content-type: text/html'),
    get('/', 'authorization: a', 'authorization: b'),
    get('/', 'forwarded: for=1.2.3.4'),
    get('/', 'x-envoy-something-else: 1'),
    get('/', 'expect: something-odd'),
    get('/', 'range: bytes=0-1'),
    post('/', 'with body'),
    post('/', ''),
    { name: 'POST without length', send: request('POST', '/') },
    { name: 'GET with length 0', send: request('GET', '/', 'content-length: 0') },
    { name: 'GET with a body', send: `${request('GET', '/', 'content-length: 3')}abc` },
    { name: 'chunked', send: `${request('POST', '/', 'transfer-encoding: chunked')}3\r\nabc\r\n0\r\n\r\n` },
    { name: 'chunked, upper case', send: `${request('POST', '/', 'Transfer-Encoding: Chunked')}3\r\nabc\r\n0\r\n\r\n` },
    {
      name: 'chunked with trailers',
      send: `${request('POST', '/', 'transfer-encoding: chunked', 'trailer: x-t')}3\r\nabc\r\n0\r\nx-t: 1\r\n\r\n`,
    },
    { name: 'HEAD', send: request('HEAD', '/') },
    { name: 'OPTIONS', send: request('OPTIONS', '/') },
    { name: 'DELETE', send: request('DELETE', '/') },
    { name: 'PATCH', send: `${request('PATCH', '/', 'content-length: 1')}x` },
    { name: 'unknown method', send: request('BREW', '/') },
    { name: 'lower-case method', send: request('get', '/') },
    { name: 'TRACE', send: request('TRACE', '/') },
    but(post('/', 'b'.repeat(100_000)), { name: 'POST of 100,000 bytes' }),
    {
      name: 'expect: 100-continue',
      send: [request('POST', '/', 'expect: 100-continue', 'content-length: 3'), 'abc'],
    },
    { name: 'two pipelined', send: request('GET', '/one') + request('GET', '/two'), responses: 2, lines: 2 },
    { name: 'empty line first', send: `\r\n${request('GET', '/')}`, method: 'GET' },
  ],
}

const responses: Group = {
  name: 'responses',
  routes: [to(any)],
  probes: [
    ...[
      'chunks',
      'status=201',
      'status=204',
      'status=304',
      'status=404',
      'status=500',
      'status=503',
      'raw=close-delimited',
      'raw=close-http10',
      'raw=no-reason',
      'raw=odd-reason',
      'raw=connection',
      'raw=upgrade',
      'raw=grpc-trailers-only',
      'raw=no-content',
      'raw=envoy-headers',
      'headers=set-cookie:a=b;set-cookie:c=d',
      'headers=x-envoy-upstream-service-time:5',
      'headers=Mixed-Case:Kept',
      'headers=via:1.1 other',
      'headers=server:them',
      'headers=date:Tue, 01 Jan 2030 00:00:00 GMT',
      'headers=x-empty:',
      'headers=trailer:x-t',
      'headers=proxy-authenticate:Basic',
      'headers=proxy-connection:close',
      'headers=vary:a;vary:b',
      'interim=103',
      'interim=102',
      'interim=199',
    ].map((script) => get('/', `x-script: ${script}`)),
    { name: 'HEAD of chunks', send: request('HEAD', '/', 'x-script: chunks') },
    { name: 'HEAD of 404', send: request('HEAD', '/', 'x-script: status=404') },
    get('/', 'te: trailers', 'x-script: chunks'),
  ],
}

export const headerEdits: readonly Group[] = [levels, specificWins, actions, formats, hygiene, responses]
