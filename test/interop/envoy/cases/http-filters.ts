import { type Data, type Group, get, HTTP_FILTERS, post, request, says, to } from '../group.ts'

const any = { prefix: '/' }
const filter = (name: string, type: string, config: Data = {}): Data => ({
  name,
  typed_config: { '@type': `${HTTP_FILTERS}${type}`, ...config },
})
const perFilter = (name: string, type: string, config: Data): Data => ({
  typed_per_filter_config: { [name]: { '@type': `${HTTP_FILTERS}${type}`, ...config } },
})

const policy = (config: Data): Data => perFilter('cors', 'cors.v3.CorsPolicy', config)
const origin = [{ exact: 'https://good.example' }, { safe_regex: { regex: 'https://.*\\.wild\\.example' } }]
const PREFLIGHT = ['origin: https://good.example', 'access-control-request-method: PUT'] as const
const preflight = (path: string, ...lines: string[]): ReturnType<typeof get> => ({
  name: ['OPTIONS', path, ...lines].join(' | '),
  send: request('OPTIONS', path, ...lines),
})

const cors: Group = {
  name: 'cors',
  filters: [filter('cors', 'cors.v3.Cors')],
  routes: [
    to(
      { prefix: '/full' },
      {},
      policy({
        allow_origin_string_match: origin,
        allow_methods: 'GET, PUT',
        allow_headers: 'x-a, x-b',
        expose_headers: 'x-c',
        max_age: '600',
        allow_credentials: true,
      }),
    ),
    to(
      { prefix: '/strict' },
      {},
      policy({ allow_origin_string_match: origin, forward_not_matching_preflights: false }),
    ),
    to({ prefix: '/star' }, {}, policy({ allow_origin_string_match: [{ exact: '*' }] })),
    to(
      { prefix: '/off' },
      {},
      policy({
        allow_origin_string_match: origin,
        filter_enabled: { default_value: { numerator: 0, denominator: 'HUNDRED' } },
      }),
    ),
    to(
      { prefix: '/shadow' },
      {},
      policy({
        allow_origin_string_match: origin,
        filter_enabled: { default_value: { numerator: 0, denominator: 'HUNDRED' } },
        shadow_enabled: { default_value: { numerator: 100, denominator: 'HUNDRED' } },
      }),
    ),
    to({ prefix: '/private' }, {}, policy({ allow_origin_string_match: origin, allow_private_network_access: true })),
    { ...says('local', { prefix: '/local' }), ...policy({ allow_origin_string_match: origin }) },
    to(any),
  ],
  probes: [
    ...['/full', '/strict', '/star', '/off', '/shadow', '/private', '/local', '/'].flatMap((path) => [
      preflight(path, ...PREFLIGHT),
      preflight(path, 'origin: https://bad.example', 'access-control-request-method: PUT'),
      preflight(path, 'origin: https://good.example'),
      get(path, 'origin: https://good.example'),
      get(path, 'origin: https://a.wild.example'),
      get(path, 'origin: https://bad.example'),
      get(path),
    ]),
    preflight('/private', ...PREFLIGHT, 'access-control-request-private-network: true'),
    preflight('/full', ...PREFLIGHT, 'access-control-request-private-network: true'),
    preflight('/full', ...PREFLIGHT, 'access-control-request-headers: x-z'),
    preflight('/full', 'origin: ', 'access-control-request-method: PUT'),
    get(
      '/full',
      'origin: https://good.example',
      'x-script: headers=access-control-allow-origin:*;access-control-expose-headers:x-o',
    ),
    get('/full', 'origin: https://bad.example', 'x-script: headers=access-control-allow-origin:*'),
    get('/full', 'origin: https://good.example', 'x-script: headers=vary:accept'),
  ],
}

const append = (key: string, value: string, action: string): Data => ({
  append: { header: { key, value }, append_action: action },
})

const mutations: Group = {
  name: 'mutations',
  filters: [
    filter('mutate', 'header_mutation.v3.HeaderMutation', {
      mutations: {
        request_mutations: [
          append('x-own', 'own %REQ(:PATH)%', 'OVERWRITE_IF_EXISTS_OR_ADD'),
          append('x-level', 'filter', 'APPEND_IF_EXISTS_OR_ADD'),
          { remove: 'x-drop' },
        ],
        response_mutations: [
          append('x-own', 'own %RESPONSE_CODE%', 'ADD_IF_ABSENT'),
          append('x-level', 'filter', 'APPEND_IF_EXISTS_OR_ADD'),
          append('x-over', 'filter', 'OVERWRITE_IF_EXISTS_OR_ADD'),
          { remove: 'x-drop' },
        ],
      },
    }),
  ],
  routeConfig: perFilter('mutate', 'header_mutation.v3.HeaderMutationPerRoute', {
    mutations: {
      request_mutations: [append('x-level', 'config', 'APPEND_IF_EXISTS_OR_ADD')],
      response_mutations: [
        append('x-level', 'config', 'APPEND_IF_EXISTS_OR_ADD'),
        append('x-over', 'config', 'OVERWRITE_IF_EXISTS_OR_ADD'),
      ],
    },
  }),
  routes: [
    to(
      { prefix: '/route' },
      {},
      perFilter('mutate', 'header_mutation.v3.HeaderMutationPerRoute', {
        mutations: {
          request_mutations: [append('x-level', 'route', 'APPEND_IF_EXISTS_OR_ADD')],
          response_mutations: [
            append('x-level', 'route', 'APPEND_IF_EXISTS_OR_ADD'),
            append('x-over', 'route', 'OVERWRITE_IF_EXISTS_OR_ADD'),
          ],
        },
      }),
    ),
    { match: { prefix: '/local' }, direct_response: { status: 418 } },
    to(any),
  ],
  probes: [
    get('/', 'x-drop: 1', 'x-own: client'),
    get('/', 'x-script: headers=x-drop:1;x-own:origin;x-over:origin'),
    get('/route'),
    get('/local'),
    get('/route', 'x-level: client'),
  ],
}

const buffering: Group = {
  name: 'buffering',
  filters: [filter('buffer', 'buffer.v3.Buffer', { max_request_bytes: 10 })],
  routes: [
    to({ prefix: '/more' }, {}, perFilter('buffer', 'buffer.v3.BufferPerRoute', { buffer: { max_request_bytes: 50 } })),
    to({ prefix: '/off' }, {}, perFilter('buffer', 'buffer.v3.BufferPerRoute', { disabled: true })),
    to(any),
  ],
  probes: [
    get('/'),
    post('/', 'ten bytes!'),
    post('/', 'eleven byte'),
    post('/more', 'more than eleven bytes'),
    post('/off', 'more than eleven bytes'),
    post('/', ''),
    {
      name: 'chunks are given a length',
      send: `${request('POST', '/', 'transfer-encoding: chunked')}3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n`,
    },
    {
      name: 'chunks beyond the limit',
      send: `${request('POST', '/', 'transfer-encoding: chunked')}6\r\nabcdef\r\n6\r\nghijkl\r\n0\r\n\r\n`,
    },
    {
      name: 'gRPC beyond the limit',
      send: `${request('POST', '/', 'content-type: application/grpc', 'content-length: 12')}abcdefghijkl`,
    },
  ],
}

const path = (exact: string): Data[] => [{ name: ':path', string_match: { exact } }]

const health: Group = {
  name: 'health',
  filters: [
    filter('local', 'health_check.v3.HealthCheck', { pass_through_mode: false, headers: path('/local') }),
    filter('through', 'health_check.v3.HealthCheck', { pass_through_mode: true, headers: path('/through') }),
    filter('share', 'health_check.v3.HealthCheck', {
      pass_through_mode: false,
      headers: path('/share'),
      cluster_min_healthy_percentages: { origin: { value: 50 } },
    }),
    filter('empty', 'health_check.v3.HealthCheck', {
      pass_through_mode: false,
      headers: path('/share-of-nothing'),
      cluster_min_healthy_percentages: { empty: { value: 50 } },
    }),
    filter('zero', 'health_check.v3.HealthCheck', {
      pass_through_mode: false,
      headers: path('/zero'),
      cluster_min_healthy_percentages: { empty: { value: 0 } },
    }),
    filter('unknown', 'health_check.v3.HealthCheck', {
      pass_through_mode: false,
      headers: path('/unknown'),
      cluster_min_healthy_percentages: { nobody: { value: 50 } },
    }),
  ],
  routes: [to(any)],
  probes: ['/local', '/through', '/share', '/share-of-nothing', '/zero', '/unknown', '/local?x', '/other'].map(
    (target) => get(target),
  ),
}

const cached: Group = {
  name: 'health_cached',
  filters: [
    filter('through', 'health_check.v3.HealthCheck', {
      pass_through_mode: true,
      cache_time: '60s',
      headers: path('/through'),
    }),
  ],
  routes: [to(any)],
  probes: [
    get('/through', 'x-script: status=503'),
    get('/through'),
    get('/through', 'x-script: status=200'),
    get('/other'),
  ],
}

export const httpFilters: readonly Group[] = [cors, mutations, buffering, health, cached]
