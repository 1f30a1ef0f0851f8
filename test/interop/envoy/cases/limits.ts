import { but, type Data, type Group, get, HTTP_FILTERS, type Probe, post, to } from '../group.ts'

const any = { prefix: '/' }
const ALL = { default_value: { numerator: 100, denominator: 'HUNDRED' } }
/** One more token comes in 33,333.9 s, so that what is told in whole seconds stays the same for nearly one. */
const bucket = (max: number): Data => ({
  max_tokens: max,
  tokens_per_fill: Math.max(1, max),
  fill_interval: `${(Math.max(1, max) * 33_333.9).toFixed(1)}s`,
})

const settings = (config: Data): Data => ({
  '@type': `${HTTP_FILTERS}local_ratelimit.v3.LocalRateLimit`,
  stat_prefix: 'limit',
  filter_enabled: ALL,
  filter_enforced: ALL,
  ...config,
})
const limit = (config: Data): Data => ({ name: 'limit', typed_config: settings(config) })
const own = (config: Data): Data => ({ typed_per_filter_config: { limit: settings(config) } })
const descriptor = (entries: readonly (readonly [string, string])[], max: number, more: Data = {}): Data => ({
  entries: entries.map(([key, value]) => (value === '' ? { key } : { key, value })),
  token_bucket: bucket(max),
  ...more,
})
const counted = (...actions: Data[]): Data => ({ actions })
const header = (name: string, more: Data = {}): Data => ({
  request_headers: { header_name: name, descriptor_key: name, ...more },
})

/** The same request again and again. */
const times = (count: number, probe: Probe): Probe[] =>
  Array.from({ length: count }, (_, i) => but(probe, { name: `${probe.name} (${i + 1})` }))

const plain: Group = {
  name: 'limit_plain',
  filters: [
    limit({
      token_bucket: bucket(3),
      enable_x_ratelimit_headers: 'DRAFT_VERSION_03',
      enable_retry_after_header: true,
      rate_limited_as_resource_exhausted: true,
      response_headers_to_add: [
        { header: { key: 'x-why', value: 'limited %REQ(:path)%' } },
        { header: { key: 'content-type', value: 'text/own' }, append_action: 'OVERWRITE_IF_EXISTS_OR_ADD' },
      ],
    }),
  ],
  routes: [
    to({ prefix: '/own' }, {}, own({ token_bucket: bucket(1), status: { code: 'ServiceUnavailable' } })),
    to({ prefix: '/none' }, {}, own({ token_bucket: bucket(0), status: { code: 'OK' } })),
    to(
      { prefix: '/free' },
      {},
      own({
        token_bucket: bucket(1),
        filter_enforced: { default_value: { numerator: 0 } },
        request_headers_to_add_when_not_enforced: [{ header: { key: 'x-limited', value: '%REQ(x-a)%' } }],
      }),
    ),
    to({ prefix: '/off' }, {}, own({ token_bucket: bucket(1), filter_enabled: { default_value: { numerator: 0 } } })),
    { match: { prefix: '/local' }, direct_response: { status: 418 } },
    to(any),
  ],
  probes: [
    ...times(2, get('/')),
    ...times(2, get('/local')),
    ...times(1, post('/', 'body')),
    ...times(1, get('/grpc', 'content-type: application/grpc')),
    ...times(2, get('/own')),
    ...times(1, get('/none')),
    ...times(3, get('/free', 'x-a: 1')),
    ...times(3, get('/off')),
  ],
}

const descriptors: Group = {
  name: 'limit_descriptors',
  filters: [
    limit({
      enable_x_ratelimit_headers: 'DRAFT_VERSION_03',
      rate_limits: [
        counted(header('x-user')),
        counted({ query_parameters: { query_parameter_name: 'tier', descriptor_key: 'tier' } }),
        counted(
          { generic_key: { descriptor_value: 'both' } },
          {
            header_value_match: {
              descriptor_value: 'yes',
              headers: [{ name: 'x-match', string_match: { prefix: 'm' } }],
            },
          },
        ),
        counted({ remote_address: {} }, header('x-address')),
        counted({ masked_remote_address: { v4_prefix_mask_len: 8 } }, header('x-masked')),
        counted({
          query_parameter_value_match: {
            descriptor_value: 'v',
            query_parameters: [{ name: 'q', string_match: { exact: 'a b' } }],
          },
        }),
        { ...counted(header('x-cost-by')), hits_addend: { format: '%REQ(x-cost)%' } },
        { ...counted(header('x-quiet')), x_ratelimit_option: 'OFF' },
        counted(header('x-shadow')),
        counted({ source_cluster: {} }, { destination_cluster: {} }, header('x-clusters')),
      ],
      descriptors: [
        descriptor([['x-user', 'ann']], 2),
        descriptor([['x-user', '']], 1),
        descriptor([['tier', 'gold']], 1),
        descriptor(
          [
            ['generic_key', 'both'],
            ['header_match', 'yes'],
          ],
          1,
        ),
        descriptor(
          [
            ['remote_address', '127.0.0.2'],
            ['x-address', '1'],
          ],
          1,
        ),
        descriptor(
          [
            ['masked_remote_address', '127.0.0.0/8'],
            ['x-masked', '1'],
          ],
          1,
        ),
        descriptor([['query_match', 'v']], 1),
        descriptor([['x-cost-by', '1']], 10),
        descriptor([['x-quiet', '1']], 1),
        descriptor([['x-shadow', '1']], 1, { shadow_mode: true }),
        descriptor(
          [
            ['source_cluster', 'cluster-1'],
            ['destination_cluster', 'origin'],
            ['x-clusters', '1'],
          ],
          1,
        ),
      ],
    }),
  ],
  routes: [to(any)],
  probes: [
    ...times(3, get('/', 'x-user: ann')),
    ...times(2, get('/', 'x-user: bob')),
    ...times(2, get('/', 'x-user: eve', 'x-user: bob')),
    ...times(2, get('/?tier=gold')),
    get('/?tier=g%6Fld'),
    get('/?%74ier=gold'),
    ...times(2, get('/', 'x-match: many')),
    get('/', 'x-match: few'),
    ...times(2, get('/', 'x-address: 1')),
    ...times(2, get('/', 'x-masked: 1')),
    ...times(2, get('/?q=a%20b')),
    ...times(2, get('/', 'x-cost-by: 1', 'x-cost: 6')),
    get('/', 'x-cost-by: 1', 'x-cost: 4'),
    get('/', 'x-cost-by: 1', 'x-cost: many'),
    ...times(2, get('/', 'x-quiet: 1')),
    ...times(2, get('/', 'x-shadow: 1')),
    ...times(2, get('/', 'x-clusters: 1')),
    get('/'),
  ],
}

const routes: Group = {
  name: 'limit_routes',
  filters: [
    limit({
      token_bucket: bucket(100),
      stage: 1,
      always_consume_default_token_bucket: false,
      descriptors: [descriptor([['x-own', '']], 1), descriptor([['x-host', '']], 1)],
    }),
  ],
  virtualHosts: [
    {
      name: 'v',
      domains: ['*'],
      rate_limits: [{ stage: 1, actions: [header('x-host')] }],
      routes: [
        to({ prefix: '/own' }, { rate_limits: [{ stage: 1, actions: [header('x-own')] }] }),
        to(
          { prefix: '/both' },
          { rate_limits: [{ stage: 1, actions: [header('x-own')] }], include_vh_rate_limits: true },
        ),
        to({ prefix: '/stage' }, { rate_limits: [{ stage: 2, actions: [header('x-own')] }] }),
        to({ prefix: '/key' }, { rate_limits: [{ stage: 1, disable_key: 'k', actions: [header('x-own')] }] }),
        to(any),
      ],
    },
  ],
  probes: [
    ...times(2, get('/own', 'x-own: a')),
    ...times(2, get('/own', 'x-host: b')),
    ...times(2, get('/both', 'x-own: c', 'x-host: d')),
    ...times(2, get('/both', 'x-host: d')),
    ...times(2, get('/stage', 'x-own: e', 'x-host: e')),
    ...times(2, get('/key', 'x-own: f', 'x-host: f')),
    ...times(2, get('/', 'x-host: g')),
    get('/', 'x-own: g'),
  ],
}

const admission: Group = {
  name: 'admission',
  filters: [
    {
      name: 'admission',
      typed_config: {
        '@type': `${HTTP_FILTERS}admission_control.v3.AdmissionControl`,
        success_criteria: {},
        max_rejection_probability: { default_value: { value: 100 } },
        sr_threshold: { default_value: { value: 100 } },
        aggression: { default_value: 1000 },
      },
    },
  ],
  routes: [to(any)],
  probes: [...times(3, get('/')), get('/', 'x-script: status=404'), get('/', 'x-script: status=500')],
}

const concurrency: Group = {
  name: 'concurrency',
  filters: [
    {
      name: 'concurrency',
      typed_config: {
        '@type': `${HTTP_FILTERS}adaptive_concurrency.v3.AdaptiveConcurrency`,
        gradient_controller_config: {
          concurrency_limit_params: { concurrency_update_interval: '0.1s' },
          min_rtt_calc_params: { interval: '60s', request_count: 2 },
        },
      },
    },
  ],
  routes: [to(any)],
  probes: times(5, get('/')),
}

const bandwidth: Group = {
  name: 'bandwidth',
  filters: [
    {
      name: 'bandwidth',
      typed_config: {
        '@type': `${HTTP_FILTERS}bandwidth_limit.v3.BandwidthLimit`,
        stat_prefix: 'bandwidth',
        enable_mode: 'REQUEST_AND_RESPONSE',
        limit_kbps: 1024,
      },
    },
  ],
  routes: [to(any)],
  probes: [get('/'), post('/', 'a body'), post('/', 'x'.repeat(20_000))],
}

export const limits: readonly Group[] = [plain, descriptors, routes, admission, concurrency, bandwidth]
