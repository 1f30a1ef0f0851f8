import { ConfigError } from '../core/errors.ts'
import type { PrometheusRenderer } from '../telemetry/prometheus.ts'
import type { StatSelection } from '../telemetry/stat-filter.ts'
import { compileStatFilter } from '../telemetry/stat-filter.ts'
import { renderStatsJson, renderStatsText } from '../telemetry/stats-text.ts'
import type { AdminAnswer, AdminRequest } from './endpoint.ts'
import { json, text } from './endpoint.ts'

/** The content type that Prometheus asks for (text exposition format 0.0.4). */
const PROMETHEUS_TYPE = 'text/plain; version=0.0.4; charset=utf-8'

/** `/stats`, with `format`, `usedonly` and `filter`, as Envoy has them. */
export async function stats(request: AdminRequest, prometheus: PrometheusRenderer): Promise<AdminAnswer> {
  const { query } = request
  const selection = selectionOf(query)
  if (selection instanceof ConfigError) return text(`${selection.toString()}\n`, 400)
  const format = query.get('format') ?? 'text'
  if (format === 'prometheus') return prometheusStats(request, prometheus)
  const snapshot = await request.backend.stats()
  if (format === 'json') return json(renderStatsJson(snapshot, selection))
  if (format === 'text') return { ...text(''), body: renderStatsText(snapshot, selection) }
  return text(`format: must be one of text, json, prometheus, not ${JSON.stringify(format)}\n`, 400)
}

/** `/stats/prometheus`, and `/stats?format=prometheus`. */
export async function prometheusStats(request: AdminRequest, prometheus: PrometheusRenderer): Promise<AdminAnswer> {
  const selection = selectionOf(request.query)
  if (selection instanceof ConfigError) return text(`${selection.toString()}\n`, 400)
  const snapshot = await request.backend.stats()
  return { status: 200, type: PROMETHEUS_TYPE, body: prometheus.render(snapshot, selection) }
}

function selectionOf(query: URLSearchParams): StatSelection | ConfigError {
  const usedOnly = query.has('usedonly')
  const pattern = query.get('filter')
  if (pattern === null) return { usedOnly }
  const filter = compileStatFilter(pattern)
  return filter instanceof ConfigError ? filter : { usedOnly, filter }
}
