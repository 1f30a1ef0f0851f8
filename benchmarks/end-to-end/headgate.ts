import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { chainsOf } from './chain-set.ts'
import { downstreamTls, http2Upstream, socketAddress, staticCluster, TYPE } from './envoy-parts.ts'
import { layer4Resources } from './layer4.ts'
import { REPOSITORY } from './node-peer.ts'
import { routeOf } from './route-set.ts'
import { HTTP2_LIMITS, type ProxyTask, type Variant } from './variant.ts'

/** The variant that the project's bars hold for. */
export const HEADGATE = 'headgate'

/** What differs between two variants of headgate. */
export interface HeadgateOptions {
  /** The checkout to run; default: this one. */
  readonly root?: string
  /** Without the two filters before the router. */
  readonly routerAlone?: boolean
  /** Default: 1. */
  readonly workers?: number
  /** With retries, outlier detection and circuit breakers, none of which has anything to do. */
  readonly resilient?: boolean
}

/** The reference binary, started the way its user starts it. */
export function headgate(name: string, options: HeadgateOptions = {}): Variant {
  const main = join(options.root ?? REPOSITORY, 'lib', 'cli', 'main.ts')
  return {
    name,
    quick: options.routerAlone !== true,
    // Without HTTP there is no router to be alone.
    speaks: ({ layer4 }) => layer4 === undefined || options.routerAlone !== true,
    missing: () => (existsSync(main) ? undefined : 'lib/cli/main.ts does not exist in this checkout'),
    prepare(task) {
      const file = join(task.folder, 'envoy.json')
      writeFileSync(file, JSON.stringify(bootstrapOf(task, options), undefined, 2))
      const env = { ...process.env, NODE_ENV: 'production' }
      const flags = ['--config', file, '--workers', String(options.workers ?? 1)]
      return { command: [process.execPath, '--disable-sigusr1', main, 'run', ...flags], env }
    },
  }
}

/**
 * An Envoy bootstrap (JSON is YAML): one listener, the connection manager, two filters and the router, a static cluster;
 * for layer 4 TCP proxies instead.
 */
export function bootstrapOf(task: ProxyTask, options: HeadgateOptions = {}): object {
  const { layer4 } = task.traffic
  const resources = layer4 === undefined ? httpResources(task, options) : layer4Resources(task, layer4)
  return { admin: { address: socketAddress(0) }, static_resources: resources }
}

function httpResources(task: ProxyTask, options: HeadgateOptions): object {
  const chains =
    task.chains === undefined
      ? {
          filter_chains: [
            { filters: [{ name: 'hcm', typed_config: connectionManager(task, options) }], ...downstreamTls(task) },
          ],
        }
      : chainsOf(task, task.chains)
  return {
    listeners: [{ name: 'clients', address: socketAddress(task.listenPort), ...chains }],
    clusters: [
      {
        ...staticCluster('origin', task.originPort),
        ...clusterOptions(task),
        ...(options.resilient === true ? RESILIENT_CLUSTER : {}),
      },
    ],
  }
}

const RETRY_POLICY = {
  retry_on: '5xx,reset,connect-failure,refused-stream,retriable-status-codes',
  num_retries: 3,
  per_try_timeout: '2s',
  retriable_status_codes: [429],
  host_selection_retry_max_attempts: 3,
}

const RESILIENT_CLUSTER = {
  outlier_detection: { consecutive_5xx: 5, consecutive_gateway_failure: 5, interval: '1s', max_ejection_percent: 50 },
  circuit_breakers: {
    thresholds: [
      {
        max_connections: 1_000,
        max_pending_requests: 1_000,
        max_requests: 1_000,
        retry_budget: { budget_percent: { value: 20 }, min_retry_concurrency: 3 },
        track_remaining: true,
      },
    ],
    per_host_thresholds: [{ max_connections: 1_000 }],
  },
}

/** The windows of every proxy of the comparison: the safe ones for the edge, not Envoy's defaults. */
function http2Options(): object {
  return {
    max_concurrent_streams: HTTP2_LIMITS.streams,
    initial_stream_window_size: HTTP2_LIMITS.streamWindow,
    initial_connection_window_size: HTTP2_LIMITS.connectionWindow,
  }
}

function clusterOptions(task: ProxyTask): object {
  const most = 20_000
  const thresholds = [{ max_connections: most, max_pending_requests: most, max_requests: most }]
  return {
    ...(task.traffic.upstream === 'http2' ? http2Upstream(http2Options()) : {}),
    ...(task.longLived === true ? { circuit_breakers: { thresholds } } : {}),
  }
}

function connectionManager(task: ProxyTask, options: HeadgateOptions): object {
  const filters = [
    { name: 'cors', typed_config: { '@type': `${TYPE}.filters.http.cors.v3.Cors` } },
    { name: 'header_mutation', typed_config: headerMutation() },
  ]
  const log = { '@type': `${TYPE}.access_loggers.file.v3.FileAccessLog`, path: task.logFile }
  return {
    '@type': `${TYPE}.filters.network.http_connection_manager.v3.HttpConnectionManager`,
    stat_prefix: 'clients',
    use_remote_address: true,
    generate_request_id: true,
    ...(task.traffic.client === 'http2' ? { http2_protocol_options: http2Options() } : {}),
    ...(task.logFile === undefined ? {} : { access_log: [{ name: 'file', typed_config: log }] }),
    http_filters: [
      ...(options.routerAlone === true ? [] : filters),
      { name: 'router', typed_config: { '@type': `${TYPE}.filters.http.router.v3.Router` } },
    ],
    route_config: {
      name: 'routes',
      virtual_hosts: [
        {
          name: 'all',
          domains: ['*'],
          routes: routesOf(task),
          ...(options.resilient === true ? { retry_policy: RETRY_POLICY } : {}),
        },
      ],
    },
  }
}

/** One header each way, so that the filter does something on every request. */
function headerMutation(): object {
  const append = (key: string): object => ({
    append: { header: { key, value: 'headgate' }, append_action: 'OVERWRITE_IF_EXISTS_OR_ADD' },
  })
  return {
    '@type': `${TYPE}.filters.http.header_mutation.v3.HeaderMutation`,
    mutations: { request_mutations: [append('x-bench-request')], response_mutations: [append('x-bench-response')] },
  }
}

function routesOf(task: ProxyTask): object[] {
  const route = { cluster: 'origin', ...(task.longLived === true ? { timeout: '0s' } : {}) }
  const count = task.routes
  if (count === undefined) return [{ match: { prefix: '/' }, route }]
  return Array.from({ length: count }, (_, i) => ({ match: routeOf(i, count).match, route }))
}
