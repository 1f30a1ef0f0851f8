import { join } from 'node:path'
import t from 'tap'
import { requestTag } from '../../examples/custom-filter/request-tag.ts'
import type { HttpFilter } from '../../lib/chain/filter.ts'
import { createFilterRegistry, type FilterRegistry } from '../../lib/chain/registry.ts'
import { envoyContext, loadConfigFile, loadConfigText } from '../../lib/cli/load-config.ts'
import { standardFilters } from '../../lib/cli/standard-filters.ts'
import type { HttpConnectionManagerConfig } from '../../lib/config/listener.ts'
import { ConfigRefused } from '../../lib/core/errors.ts'
import { drive, lines, testScope } from '../support/chain-driver.ts'
import { managerOf, tableOf } from '../support/chains.ts'
import { settle } from '../support/clock.ts'

const FACTORIES = [...standardFilters(), requestTag]
const HTTP = 'type.googleapis.com/envoy.extensions.filters.http'

/** A bootstrap with these filters, and one route with these settings. */
function bootstrap(filters: object[], perRoute: object, perHost: object = {}): string {
  return JSON.stringify({
    static_resources: {
      listeners: [
        {
          name: 'l',
          address: { socket_address: { address: '127.0.0.1', port_value: 1 } },
          filter_chains: [
            {
              filters: [
                {
                  name: 'hcm',
                  typed_config: {
                    '@type':
                      'type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager',
                    stat_prefix: 'ingress',
                    route_config: {
                      virtual_hosts: [
                        {
                          name: 'v',
                          domains: ['*'],
                          typed_per_filter_config: perHost,
                          routes: [
                            {
                              match: { prefix: '/' },
                              route: { cluster: 'c' },
                              typed_per_filter_config: perRoute,
                            },
                          ],
                        },
                      ],
                    },
                    http_filters: [
                      ...filters,
                      { name: 'router', typed_config: { '@type': `${HTTP}.router.v3.Router` } },
                    ],
                  },
                },
              ],
            },
          ],
        },
      ],
      clusters: [{ name: 'c', connect_timeout: '1s', type: 'STATIC', load_assignment: { cluster_name: 'c' } }],
    },
  })
}

/** The filters of one route, the router left out. */
function filtersOf(
  http: HttpConnectionManagerConfig,
  registry: FilterRegistry,
  route = 0,
): (HttpFilter<unknown> | undefined)[] {
  const host = tableOf(http).virtualHosts[0]
  return http.filters.slice(0, -1).map((filter) => {
    const levels = [host.filterConfigs, host.routes[route].filterConfigs].flatMap((one) => one?.[filter.name] ?? [])
    return registry.compile(filter, levels, testScope()) as HttpFilter<unknown> | undefined
  })
}

t.test('Envoy configurations of every filter are read, merged and compiled', async (t) => {
  const text = bootstrap(
    [
      { name: 'cors', typed_config: { '@type': `${HTTP}.cors.v3.Cors` } },
      {
        name: 'health',
        typed_config: {
          '@type': `${HTTP}.health_check.v3.HealthCheck`,
          pass_through_mode: false,
          headers: [{ name: ':path', string_match: { exact: '/healthz' } }],
          cluster_min_healthy_percentages: { c: { value: 50 } },
        },
      },
      {
        name: 'mutation',
        disabled: true,
        typed_config: {
          '@type': `${HTTP}.header_mutation.v3.HeaderMutation`,
          mutations: {
            request_mutations: [
              { append: { header: { key: 'x-own', value: '%REQ(:method)%' }, append_action: 'ADD_IF_ABSENT' } },
              { remove_on_match: { key_matcher: { prefix: 'drop-' } } },
            ],
          },
        },
      },
      { name: 'buffer', typed_config: { '@type': `${HTTP}.buffer.v3.Buffer`, max_request_bytes: 4 } },
    ],
    {
      mutation: {
        '@type': `${HTTP}.header_mutation.v3.HeaderMutationPerRoute`,
        mutations: {
          response_mutations: [{ append: { header: { key: 'x-route', value: '1' } } }],
          query_parameter_mutations: [{ remove: 'a' }, { append: { record: { key: 'b', value: '2' } } }],
        },
      },
      buffer: { '@type': `${HTTP}.buffer.v3.BufferPerRoute`, buffer: { max_request_bytes: 8 } },
    },
    {
      cors: {
        '@type': `${HTTP}.cors.v3.CorsPolicy`,
        allow_origin_string_match: [{ safe_regex: { google_re2: {}, regex: 'https://.*' } }],
        allow_credentials: true,
        filter_enabled: { default_value: { numerator: 1_000_000, denominator: 'MILLION' } },
      },
    },
  )
  const { config } = loadConfigText(text, 'test.json', envoyContext(FACTORIES))
  t.same(config.ignored ?? [], [])
  const filters = filtersOf(managerOf(config.listeners[0]), createFilterRegistry(FACTORIES))
  const request = ['origin', 'https://x.test', 'drop-this', '1']
  const driven = drive({ filters, request, head: { path: '/p?a=1', method: 'PUT' }, end: false })
  driven.send('12345678', true)
  await settle(1)
  driven.upstream.respond(200)
  t.equal(driven.upstream.head?.path, '/p?b=2')
  t.same(lines(driven.upstream.headers), ['origin: https://x.test', 'x-own: PUT', 'content-length: 8'])
  t.same(lines(driven.downstream.headers), [
    'x-route: 1',
    'access-control-allow-origin: https://x.test',
    'access-control-allow-credentials: true',
  ])
  const check = drive({ filters, head: { path: '/healthz' } })
  t.equal(check.exchange.info.details, 'health_check_failed_no_cluster_found')
  t.same(driven.errors, [])
})

t.test(
  'an empty per-route type as the main configuration of a disabled filter is accepted, as control planes send it',
  async (t) => {
    const name = 'envoy.filters.http.header_mutation'
    const type = { '@type': `${HTTP}.header_mutation.v3.HeaderMutationPerRoute` }
    const text = bootstrap([{ name, disabled: true, typed_config: type }], {
      [name]: { ...type, mutations: { request_mutations: [{ append: { header: { key: 'x', value: '1' } } }] } },
    })
    const { config } = loadConfigText(text, 'test.json', envoyContext(FACTORIES))
    const filters = filtersOf(managerOf(config.listeners[0]), createFilterRegistry(FACTORIES))
    t.same(lines(drive({ filters }).upstream.headers), ['x: 1'])
  },
)

t.test('mistakes in filter configurations are refused with their path', async (t) => {
  const text = bootstrap(
    [
      {
        name: 'health',
        typed_config: { '@type': `${HTTP}.health_check.v3.HealthCheck`, pass_through_mode: false, cache_time: '1s' },
      },
      {
        name: 'cors',
        typed_config: { '@type': `${HTTP}.cors.v3.Cors` },
      },
    ],
    {
      cors: { '@type': `${HTTP}.cors.v3.CorsPolicy`, allow_origin_string_match: [{ safe_regex: { regex: '(?<=a)' } }] },
    },
  )
  try {
    loadConfigText(text, 'test.json', envoyContext(FACTORIES))
    t.fail('it must be refused')
  } catch (error) {
    t.ok(error instanceof ConfigRefused)
    const paths = (error as ConfigRefused).errors.map((one) => one.path).join('\n')
    t.match(paths, /http_filters\[0\]\.typed_config\.cache_time/)
    t.match(paths, /allow_origin_string_match\[0\]\.safe_regex\.regex/)
    t.equal((error as ConfigRefused).errors.length, 2)
  }
})

t.test('the example: a filter of a stranger is used by its type, and routes switch and configure it', async (t) => {
  const file = join(import.meta.dirname, '../../examples/custom-filter/config.yaml')
  const { config } = loadConfigFile(file, envoyContext(FACTORIES))
  const http = managerOf(config.listeners[0])
  const registry = createFilterRegistry(FACTORIES)
  const tags = [0, 1, 2].map((route) => {
    const driven = drive({ filters: filtersOf(http, registry, route) })
    driven.upstream.respond(200)
    return [driven.upstream.headers.get('x-tag'), driven.downstream.headers.get('x-tag')]
  })
  t.same(tags, [
    [undefined, undefined],
    ['canary', 'canary'],
    ['main', 'main'],
  ])
})
