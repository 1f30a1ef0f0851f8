import t from 'tap'
import type { HttpFilter } from '../../lib/chain/filter.ts'
import { createFilterRegistry } from '../../lib/chain/registry.ts'
import { envoyContext, loadConfigText } from '../../lib/cli/load-config.ts'
import { standardFilters } from '../../lib/cli/standard-filters.ts'
import { Headers } from '../../lib/core/headers.ts'
import { drive, lines, type TestScope, testScope } from '../support/chain-driver.ts'
import { managerOf } from '../support/chains.ts'

const HTTP = 'type.googleapis.com/envoy.extensions.filters.http'
const MANAGER = 'type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager'

/** The filters of an Envoy bootstrap with all three of them, each compiled in a scope of its own over the same cells. */
function filters(scope: TestScope): (HttpFilter<unknown> | undefined)[] {
  const manager = {
    '@type': MANAGER,
    stat_prefix: 'ingress',
    route_config: {
      virtual_hosts: [{ name: 'v', domains: ['*'], routes: [{ match: { prefix: '/' }, route: { cluster: 'c' } }] }],
    },
    http_filters: [
      { name: 'web', typed_config: { '@type': `${HTTP}.grpc_web.v3.GrpcWeb` } },
      {
        name: 'bridge',
        typed_config: {
          '@type': `${HTTP}.grpc_http1_bridge.v3.Config`,
          upgrade_protobuf_to_grpc: true,
          ignore_query_parameters: true,
        },
      },
      {
        name: 'stats',
        typed_config: {
          '@type': `${HTTP}.grpc_stats.v3.FilterConfig`,
          emit_filter_state: true,
          enable_upstream_stats: true,
          individual_method_stats_allowlist: { services: [{ name: 'pkg.S', method_names: ['M'] }] },
        },
      },
      { name: 'router', typed_config: { '@type': `${HTTP}.router.v3.Router` } },
    ],
  }
  const listener = {
    name: 'l',
    address: { socket_address: { address: '127.0.0.1', port_value: 1 } },
    filter_chains: [{ filters: [{ name: 'hcm', typed_config: manager }] }],
  }
  const cluster = { name: 'c', connect_timeout: '1s', type: 'STATIC', load_assignment: { cluster_name: 'c' } }
  const text = JSON.stringify({ static_resources: { listeners: [listener], clusters: [cluster] } })
  const { config } = loadConfigText(text, 'test.json', envoyContext(standardFilters()))
  if ((config.ignored ?? []).length > 0) throw new Error(`ignored: ${JSON.stringify(config.ignored)}`)
  const registry = createFilterRegistry(standardFilters())
  return managerOf(config.listeners[0])
    .filters.slice(0, -1)
    .map((filter) => registry.compile(filter, [], { ...scope }) as HttpFilter<unknown> | undefined)
}

t.test('Envoy configurations of the gRPC filters are read, and the three work together in one chain', async (t) => {
  const scope = testScope({ health: { c: { healthy: 1, degraded: 0, total: 1 } } })
  const message = Buffer.from([0, 0, 0, 0, 2, 8, 1])
  const driven = drive({
    filters: filters(scope),
    head: { method: 'POST', path: '/pkg.S/M' },
    request: ['content-type', 'application/grpc-web-text', 'accept', 'application/grpc-web-text'],
    end: false,
  })
  driven.send(message.toString('base64'), true)
  t.same(Buffer.concat(driven.upstream.chunks), message)
  const { exchange } = driven.upstream
  exchange?.upstreamHeaders(200, new Headers(['content-type', 'application/grpc']), false)
  exchange?.upstreamData(message, false)
  exchange?.upstreamTrailers(new Headers(['grpc-status', '0']))
  const trailers = Buffer.concat([Buffer.from([0x80, 0, 0, 0, 15]), Buffer.from('grpc-status:0\r\n')])
  t.equal(driven.downstream.body, message.toString('base64') + trailers.toString('base64'))
  t.same(lines(driven.downstream.headers), ['content-type: application/grpc-web-text+proto'], 'the bridge keeps out')
  t.ok(driven.downstream.ended)
  t.same(driven.exchange.filterState.get('envoy.filters.http.grpc_stats'), {
    request_message_count: 1,
    response_message_count: 1,
  })
  for (const protocol of ['grpc', 'grpc-web']) {
    t.equal(scope.counters.get(`cluster.c.${protocol}.pkg.S.M.success`)?.v, 1, protocol)
  }
})
