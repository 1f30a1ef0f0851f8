import { PrometheusRenderer } from '../telemetry/prometheus.ts'
import { clustersJson, clustersText, listenersJson, listenersText } from './clusters.ts'
import { configDump } from './config-dump.ts'
import type { AdminAnswer, AdminRequest, Endpoint } from './endpoint.ts'
import { json, text } from './endpoint.ts'
import { endpointList, indexPage } from './index-page.ts'
import { LEVEL_NAMES, logLevel } from './log-level.ts'
import type { Identity } from './server-info.ts'
import { serverInfo } from './server-info.ts'
import { prometheusStats, stats } from './stats.ts'

const OK = 'OK\n'

/** Every endpoint of one admin server, in the order of the index. */
export function adminEndpoints(identity: Identity): Endpoint[] {
  const prometheus = new PrometheusRenderer()
  const endpoints: Endpoint[] = [
    look('/', 'this page', [], () => ({
      status: 200,
      type: 'text/html; charset=UTF-8',
      body: indexPage(endpoints),
    })),
    look('/clusters', 'upstream clusters and their hosts', ['format'], clusters),
    look('/config_dump', 'the configuration that runs, without secrets', [], dump),
    change(
      '/drain_listeners',
      'close listeners for good, let what is in flight end: ?graceful (after the drain time), ?inboundonly, ?skip_exit',
      ['graceful', 'inboundonly', 'skip_exit'],
      drainListeners,
    ),
    change('/healthcheck/fail', 'answer health checks as if this gateway were failing', [], ({ backend }) => {
      backend.setHealthy(false)
      return text(OK)
    }),
    change('/healthcheck/ok', 'take back /healthcheck/fail', [], ({ backend }) => {
      backend.setHealthy(true)
      return text(OK)
    }),
    look('/help', 'this list as text', [], () => text(`admin commands are:\n${endpointList(endpoints)}`)),
    look('/listeners', 'listeners and the addresses they have', ['format'], listeners),
    change('/logging', 'change the level of the application log: ?level=debug', ['level'], logging),
    look('/memory', 'what all processes of this gateway take together', [], memory),
    change('/quitquitquit', 'end this gateway at once', [], ({ backend }) => {
      backend.quit()
      return text(OK)
    }),
    look('/ready', '200 LIVE, or 503 and the state', [], ({ backend }) => {
      const state = backend.state()
      return text(`${state}\n`, state === 'LIVE' ? 200 : 503)
    }),
    change('/reopen_logs', 'open log files by name again, after they were moved', [], ({ backend }) => {
      backend.reopenLogs()
      return text(OK)
    }),
    look('/server_info', 'version, state, uptime, command line and node', [], ({ backend }) =>
      json(serverInfo(backend, identity)),
    ),
    look('/stats', 'statistics: ?format=json or prometheus, ?usedonly, ?filter=REGEX', STATS_PARAMETERS, (request) =>
      stats(request, prometheus),
    ),
    look('/stats/prometheus', 'statistics for Prometheus: ?usedonly, ?filter=REGEX', STATS_PARAMETERS, (request) =>
      prometheusStats(request, prometheus),
    ),
  ]
  return endpoints
}

const STATS_PARAMETERS: readonly string[] = Object.freeze(['format', 'usedonly', 'filter'])

function look(path: string, help: string, parameters: readonly string[], answer: Endpoint['answer']): Endpoint {
  return { path, help, changes: false, parameters, answer }
}

function change(path: string, help: string, parameters: readonly string[], answer: Endpoint['answer']): Endpoint {
  return { path, help, changes: true, parameters, answer }
}

async function clusters({ query, backend }: AdminRequest): Promise<AdminAnswer> {
  const asJson = wantsJson(query)
  if (typeof asJson !== 'boolean') return asJson
  const status = await backend.status()
  return asJson ? json(clustersJson(status)) : text(clustersText(status))
}

async function listeners({ query, backend }: AdminRequest): Promise<AdminAnswer> {
  const asJson = wantsJson(query)
  if (typeof asJson !== 'boolean') return asJson
  const status = await backend.status()
  return asJson ? json(listenersJson(status)) : text(listenersText(status))
}

/** Parameters count by being there, whatever their value, as in Envoy. */
function drainListeners({ query, backend }: AdminRequest): AdminAnswer {
  const wish = {
    inboundOnly: query.has('inboundonly'),
    graceful: query.has('graceful'),
    skipExit: query.has('skip_exit'),
  }
  if (wish.skipExit && !wish.graceful) return text('skip_exit requires graceful\n', 400)
  backend.drainListeners(wish)
  return text(OK)
}

function wantsJson(query: URLSearchParams): boolean | AdminAnswer {
  const format = query.get('format') ?? 'text'
  if (format === 'text' || format === 'json') return format === 'json'
  return text(`format: must be text or json, not ${JSON.stringify(format)}\n`, 400)
}

function dump({ backend }: AdminRequest): AdminAnswer {
  const running = backend.configuration()
  if (running === undefined) return text('there is no configuration yet\n', 503)
  return json(configDump(running.config, running.updatedMs))
}

function logging({ query, backend }: AdminRequest): AdminAnswer {
  const asked = query.get('level')
  if (asked !== null) {
    const level = logLevel(asked)
    if (level === undefined) {
      return text(`level: must be one of ${LEVEL_NAMES.join(', ')}, not ${JSON.stringify(asked)}\n`, 400)
    }
    backend.setLogLevel(level)
  }
  return text(`active loggers:\n  headgate: ${backend.logLevel() ?? 'as started'}\n`)
}

/** `envoy.admin.v3.Memory`; what belongs to tcmalloc is 0 here. */
async function memory({ backend }: AdminRequest): Promise<AdminAnswer> {
  const { rss, heapUsed, heapTotal, external } = await backend.memory()
  return json({
    allocated: String(heapUsed + external),
    heap_size: String(heapTotal + external),
    pageheap_unmapped: '0',
    pageheap_free: '0',
    total_thread_cache: '0',
    total_physical_bytes: String(rss),
  })
}
