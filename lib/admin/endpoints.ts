import { PrometheusRenderer } from '../telemetry/prometheus.ts'
import { certs } from './certificates.ts'
import { clusterOrigin, clustersJson, clustersText, listenersJson, listenersText } from './clusters.ts'
import { configDump } from './config-dump.ts'
import { clientStatusRest } from './csds/rest.ts'
import type { AdminAnswer, AdminRequest, Endpoint, SchemaSource } from './endpoint.ts'
import { json, text } from './endpoint.ts'
import { endpointList, indexPage } from './index-page.ts'
import { initDump } from './init-dump.ts'
import { LEVEL_NAMES, logLevel } from './log-level.ts'
import { modifyRuntime, runtime } from './runtime.ts'
import type { Identity } from './server-info.ts'
import { serverInfo } from './server-info.ts'
import { prometheusStats, stats } from './stats.ts'

const OK = 'OK\n'

/** Every endpoint of one admin server, in the order of the index. */
export function adminEndpoints(identity: Identity, schema: SchemaSource): Endpoint[] {
  const endpoints: Endpoint[] = [
    look('/', 'this page', [], () => ({
      status: 200,
      type: 'text/html; charset=UTF-8',
      body: indexPage(endpoints),
    })),
    look('/help', 'this list as text', [], () => text(`admin commands are:\n${endpointList(endpoints)}`)),
    ...lookers(identity, schema),
    ...changers(schema),
  ]
  return endpoints.sort((a, b) => (a.path < b.path ? -1 : 1))
}

/** What only looks. */
function lookers(identity: Identity, schema: SchemaSource): Endpoint[] {
  const prometheus = new PrometheusRenderer()
  return [
    look('/certs', 'certificates of all listeners and clusters', [], certs),
    look('/clusters', 'upstream clusters and their hosts', ['format'], clusters),
    look(
      '/config_dump',
      'the configuration that runs, without secrets: ?resource=, ?mask=, ?name_regex=, ?include_eds',
      ['resource', 'mask', 'name_regex', 'include_eds'],
      (request) => configDump(request, schema()),
    ),
    look('/init_dump', 'what is not ready yet, and what it waits for: ?mask=listener', ['mask'], initDump),
    look('/listeners', 'listeners and the addresses they have', ['format'], listeners),
    look('/memory', 'what all processes of this gateway take together', [], memory),
    look('/ready', '200 LIVE, or 503 and the state', [], ({ backend }) => {
      const state = backend.state()
      return text(`${state}\n`, state === 'LIVE' ? 200 : 503)
    }),
    look('/runtime', 'values of the runtime, by layer', [], runtime),
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
}

/** What changes something, or is asked by a message. */
function changers(schema: SchemaSource): Endpoint[] {
  return [
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
    change('/logging', 'change the level of the application log: ?level=debug', ['level'], logging),
    change('/quitquitquit', 'end this gateway at once', [], ({ backend }) => {
      backend.quit()
      return text(OK)
    }),
    change('/reopen_logs', 'open log files by name again, after they were moved', [], ({ backend }) => {
      backend.reopenLogs()
      return text(OK)
    }),
    change('/restart_workers', 'replace all worker processes, one after the other; nobody notices', [], restartWorkers),
    {
      ...change('/runtime_modify', 'set keys of the admin layer of the runtime: ?key=value', [], modifyRuntime),
      parameters: 'any',
      takesBody: true,
    },
    {
      ...change(
        '/v3/discovery:client_status',
        'resources that discovery delivers, for control planes (CSDS)',
        [],
        (request) => clientStatusRest(request, schema()),
      ),
      takesBody: true,
    },
  ]
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
  const origin = clusterOrigin(backend)
  return asJson ? json(clustersJson(status, origin)) : text(clustersText(status, origin))
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

function restartWorkers({ backend }: AdminRequest): AdminAnswer {
  if (backend.restartWorkers()) return text(OK)
  return text('this gateway is one process, which cannot replace itself\n', 400)
}

function wantsJson(query: URLSearchParams): boolean | AdminAnswer {
  const format = query.get('format') ?? 'text'
  if (format === 'text' || format === 'json') return format === 'json'
  return text(`format: must be text or json, not ${JSON.stringify(format)}\n`, 400)
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
