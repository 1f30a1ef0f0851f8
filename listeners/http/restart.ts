import { Phase } from '../../lib/chain/contract.ts'
import type { Exchange } from '../../lib/chain/exchange.ts'
import type { Restart, RestartedRequest, Route } from '../../lib/chain/filter.ts'
import type { RequestHead } from '../../lib/core/head.ts'
import type { Headers } from '../../lib/core/headers.ts'
import { stripAuthority } from './authority.ts'
import type { Codec, ConnectionManager, ManagerParts } from './connection-manager.ts'
import { applyPathRules } from './path.ts'

/** Beside the flags of the HTTP/1 head parser: the request has been admitted before, as that of another exchange. */
export const RESTARTED = 1 << 16

/**
 * How the request of an exchange can run through the chain again, as Envoy's internal redirects do: as an exchange of its
 * own on the same stream of the client's, with a log line of its own. Undefined where it cannot: part of it has not come
 * yet, something has gone to the client, or it asked for a tunnel.
 */
export function restartOf(exchange: Exchange, manager: ConnectionManager, parts: ManagerParts): Restart | undefined {
  const { head, downstream } = exchange
  const plain = head.protocol === undefined && head.method !== 'CONNECT'
  const waiting = exchange.requestComplete && exchange.phase === Phase.FORWARDED
  if (!plain || !waiting || downstream.continueWith === undefined) return undefined
  return {
    routeOf(next: RequestHead, request: Headers): Route | undefined {
      if (!settle(next, exchange, parts)) return undefined
      const { connection, metadata, filterState, info, random } = exchange
      return parts.routes.of({ head: next, request }).table?.match({
        head: next,
        request,
        connection,
        metadata,
        filterState,
        info,
        random,
      })
    },
    begin: (next) => begin(exchange, manager, next),
  }
}

/**
 * Authority and path as they will be when the request is routed, lest another route is judged than the one it gets. False:
 * it would be refused. To a path that clients are told to write otherwise it goes at once.
 */
function settle(head: RequestHead, { connection, random }: Exchange, { config, normalizes }: ManagerParts): boolean {
  const { mergeSlashes, escapedSlashes } = config
  const normalizePath = normalizes === undefined ? config.normalizePath : normalizes(random)
  const outcome = applyPathRules(head.path, { normalizePath, mergeSlashes, escapedSlashes })
  if (outcome.kind === 'refuse') return false
  head.path = outcome.path
  head.authority = stripAuthority(head.authority, config, connection.localPort)
  return true
}

function begin(before: Exchange, manager: ConnectionManager, request: RestartedRequest): void {
  const { info, downstream } = before
  // The next one first: the manager must not be without exchanges in between.
  const next = manager.open(downstream as Codec, request.head, request.headers, info.protocol)
  next.info.clientAddress = info.clientAddress
  next.info.internal = info.internal
  next.info.requestId = info.requestId
  next.info.requestHeaderBytes = info.requestHeaderBytes
  // What a share of the requests is for, and which, has been decided.
  next.drawn = before.random
  for (const [key, value] of request.filterState) next.filterState.set(key, value)
  // They came once, and are counted with the last exchange.
  manager.stats.bytesReceived.v -= info.bytesReceived + info.requestHeaderBytes
  const { status, headers, details } = request.answeredBy
  before.upstreamAnswers(status, headers)
  info.details = details
  before.finish()
  downstream.continueWith?.(next)
  const { body } = request
  if (body === undefined) next.info.bytesReceived = info.bytesReceived
  manager.start(next, RESTARTED, body === undefined, undefined)
  body?.sendTo({
    write(chunk, end) {
      // What comes after the end is counted nowhere else.
      if (next.ended) manager.stats.bytesReceived.v += chunk.length
      next.requestData(chunk, end)
      return true
    },
    trailers: (trailers) => next.requestTrailers(trailers),
  })
}
