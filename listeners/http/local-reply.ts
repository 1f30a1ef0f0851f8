import type { ChainPlan } from '../../lib/chain/compile.ts'
import type { Exchange } from '../../lib/chain/exchange.ts'
import type { LocalReply } from '../../lib/chain/filter.ts'
import type { HttpConnectionManagerConfig } from '../../lib/config/listener.ts'
import { Headers } from '../../lib/core/headers.ts'
import type { Runtime } from '../../lib/core/metrics.ts'
import { reasonPhrase } from '../../lib/http1/head-writer.ts'
import type { CompiledRoute } from '../../lib/router/route.ts'
import { compileAccessLogFilter } from '../../lib/telemetry/access-log-filter.ts'
import type { FormatConfig } from '../../lib/telemetry/config.ts'
import { type FormatEnvironment, processEnvironment } from '../../lib/telemetry/format/operator.ts'
import { compileBodyFormat, compileFormat, type Format } from '../../lib/telemetry/format.ts'
import { compileHeaderEdits } from '../../lib/telemetry/header-edits.ts'
import { overloadReply } from './overload.ts'

export type MapReply = (exchange: Exchange, reply: LocalReply) => LocalReply

interface Body {
  readonly render: Format
  readonly contentType: string
}

/**
 * Compiles `local_reply_config`: the first mapper whose filter takes the exchange may change status, body, format and
 * headers; the manager's own body format is the fallback. Undefined where nothing is configured.
 */
export function compileLocalReply(
  config: HttpConnectionManagerConfig['localReply'],
  runtime: Runtime,
): MapReply | undefined {
  if (config.mappers.length === 0 && config.bodyFormat === undefined) return undefined
  const environment = processEnvironment()
  const fallback = config.bodyFormat && compileBody(config.bodyFormat, environment)
  const mappers = config.mappers.map((mapper) => ({
    status: mapper.status,
    body: mapper.body,
    takes: compileAccessLogFilter(mapper.filter, { runtime, clock: environment.clock, logType: 'DownstreamEnd' }),
    format: mapper.bodyFormat && compileBody(mapper.bodyFormat, environment),
    edits: compileHeaderEdits([{ remove: [], add: mapper.headers }], (text, missing) =>
      compileFormat(text, { missing }),
    ),
  }))
  return (exchange, reply) => {
    // Filters and formats of mappers read the reply's status and body from the exchange.
    exchange.status = reply.status
    exchange.localReplyBody = typeof reply.body === 'string' ? reply.body : (reply.body?.toString('utf8') ?? '')
    const mapper = mappers.find((m) => m.takes(exchange))
    const format = mapper?.format ?? fallback
    if (mapper === undefined && format === undefined) return reply
    const status = mapper?.status ?? reply.status
    exchange.status = status
    const headers = new Headers([...(reply.headers ?? [])])
    if (mapper?.body !== undefined) exchange.localReplyBody = mapper.body
    mapper?.edits?.(headers, exchange)
    if (format === undefined)
      return { ...reply, status, headers: headers.raw, ...(mapper?.body === undefined ? {} : { body: mapper.body }) }
    headers.set('content-type', format.contentType)
    return { ...reply, status, headers: headers.raw, body: format.render(exchange) }
  }
}

function compileBody(config: FormatConfig, environment: FormatEnvironment): Body {
  const standard = config.kind === 'json' ? 'application/json' : 'text/plain'
  return { render: compileBodyFormat(config, environment), contentType: config.contentType ?? standard }
}

/** What a route does to responses it does to whatever answers its requests, as in Envoy. */
export function editReply(exchange: Exchange, reply: LocalReply): LocalReply {
  const route = exchange.route as CompiledRoute<ChainPlan> | undefined
  const { attempts } = exchange.info
  const counted = attempts > 0 && route?.includeAttemptCountInResponse === true
  const edits = route?.responseHeaderEdits
  if (edits === undefined && !counted) return reply
  const headers = new Headers([...(reply.headers ?? [])])
  const hasBody = reply.body !== undefined && reply.body.length > 0
  if (hasBody && !headers.has('content-type')) headers.append('content-type', 'text/plain')
  if (counted) headers.set('x-envoy-attempt-count', String(attempts))
  edits?.(headers, exchange)
  return { ...reply, headers: headers.raw }
}

/** Why a request is answered before any filter has seen it. */
export interface Refusal {
  readonly status: number
  readonly details: string
}

/** Details of refusals that count as errors of the protocol. */
const PROTOCOL_ERRORS: ReadonlySet<string> = new Set([
  'low_version',
  'http1.invalid_host',
  'http1.invalid_url',
  'http1.https_over_plaintext',
  'http1.unexpected_underscore',
  'http2.invalid_authority',
  'http2.unexpected_underscore',
])

/** The answer to a request that is refused before any filter has seen it; protocol errors look as those of the codec. */
export function refusalReply(refusal: Refusal): LocalReply {
  const overload = overloadReply(refusal)
  if (overload !== undefined) return overload
  const { status, details } = refusal
  if (!PROTOCOL_ERRORS.has(details)) return { status, details }
  return { status, body: reasonPhrase(status), details, flag: 'DPE' }
}
