import { type ChainPlan, enterPlan, leavePlan } from '../../lib/chain/compile.ts'
import type { Downstream, ExchangeOwner } from '../../lib/chain/contract.ts'
import { Exchange } from '../../lib/chain/exchange.ts'
import type { HostOnDemand, LocalReply, Restart, Route } from '../../lib/chain/filter.ts'
import type { HttpConnectionManagerConfig } from '../../lib/config/listener.ts'
import type { ConnectionInfo } from '../../lib/core/connection.ts'
import { FAILURES } from '../../lib/core/failure.ts'
import { isGrpc } from '../../lib/core/grpc.ts'
import type { Protocol, RequestHead } from '../../lib/core/head.ts'
import { Headers } from '../../lib/core/headers.ts'
import type { Log } from '../../lib/core/metrics.ts'
import { StreamInfo } from '../../lib/core/stream-info.ts'
import type { TimerWheel } from '../../lib/core/timer-wheel.ts'
import { Uuids } from '../../lib/core/uuids.ts'
import { EXPECT_CONTINUE, EXPECT_OTHER, UNDERSCORE } from '../../lib/http1/head-parser.ts'
import { reasonPhrase } from '../../lib/http1/head-writer.ts'
import type { CompiledRoute } from '../../lib/router/route.ts'
import { upgradeAllowed } from '../../lib/router/upgrade.ts'
import type { Usage } from '../usage.ts'
import { stripAuthority } from './authority.ts'
import type { ClientCertHeader } from './client-cert.ts'
import { durationDue, idleDue, nextDue, noteRoute } from './exchange-notes.ts'
import { addUserAgent, appendVia, type CallerRules } from './forwarded.ts'
import { editReply, type Refusal, refusalReply } from './local-reply.ts'
import type { ManagerRoutes } from './manager-routes.ts'
import { isMisdirected, type MisdirectedCheck } from './misdirected.ts'
import { applyPathRules, needsNormalizing, type PathRules } from './path.ts'
import {
  DURATION_TIMEOUT,
  MISDIRECTED,
  NO_PATH,
  REPLIED_ALREADY,
  UNDERSCORES,
  UNDERSCORES_2,
  UNKNOWN_EXPECTATION,
  UPGRADE_FAILED,
} from './refusals.ts'
import { applyRequestId } from './request-id.ts'
import { RESTARTED, restartOf } from './restart.ts'
import { countAnswer, type HttpStats } from './stats.ts'

/** Everything a manager was compiled from. */
export interface ManagerParts {
  readonly config: HttpConnectionManagerConfig
  readonly node: { readonly id: string; readonly cluster: string }
  readonly routes: ManagerRoutes
  /** Its exchanges. */
  readonly usage: Usage
  /** A chain without filters, for answers to what is no request. */
  readonly emptyPlan: ChainPlan
  readonly wheel: TimerWheel
  readonly stats: HttpStats
  readonly callers: CallerRules
  /** Undefined: the header is removed with the others that strangers must not set. */
  readonly clientCert: ClientCertHeader | undefined
  /** Undefined: every request is served on the connection it came on. */
  readonly misdirected: MisdirectedCheck | undefined
  readonly earlyEdits: ((headers: Headers, exchange: Exchange) => void) | undefined
  /** Whether the path of a request with this draw is normalised; undefined: as it is configured. */
  readonly normalizes: ((random: number) => boolean) | undefined
  readonly mapReply: ((exchange: Exchange, reply: LocalReply) => LocalReply) | undefined
  readonly loggers: readonly { log(exchange: Exchange): void }[]
  readonly log: Log
  readonly random: () => number
  readonly bufferLimitBytes: number
  /** The `Date` value of this second. */
  readonly date: (nowMs: number) => string
}

/** A codec's end of one exchange at a time (HTTP/1) or of one stream (HTTP/2). */
export interface Codec extends Downstream {
  readonly info: ConnectionInfo
}

/**
 * Envoy's HTTP connection manager, compiled: turns heads into exchanges (checks, normalisation, forwarding headers,
 * route), and does what happens around the chain (timeouts, response headers, local replies, access log, statistics).
 * One immutable object per snapshot; connections ask for the current one at each request.
 */
export class ConnectionManager implements ExchangeOwner {
  readonly config: HttpConnectionManagerConfig
  readonly wheel: TimerWheel
  readonly stats: HttpStats
  readonly #parts: ManagerParts
  readonly #uuids = new Uuids()
  readonly #pathRules: boolean
  /** Where the runtime decides whether paths are normalised. */
  readonly #normalizing: PathRules
  readonly #keeping: PathRules
  readonly #strip: boolean

  constructor(parts: ManagerParts) {
    this.#parts = parts
    this.config = parts.config
    this.wheel = parts.wheel
    this.stats = parts.stats
    const c = parts.config
    const { mergeSlashes, escapedSlashes } = c
    this.#normalizing = { normalizePath: true, mergeSlashes, escapedSlashes }
    this.#keeping = { normalizePath: false, mergeSlashes, escapedSlashes }
    this.#pathRules = parts.normalizes !== undefined || c.normalizePath || c.mergeSlashes || c.escapedSlashes !== 'keep'
    this.#strip = c.stripPort !== 'none' || c.stripTrailingHostDot
  }

  /** A number in [0, 1). */
  random(): number {
    return this.#parts.random()
  }

  /** True where this request is the connection's last: its number or its age have reached their limit. */
  reachedLimits(requests: number, openedMs: number): boolean {
    const { maxRequestsPerConnection: max, maxConnectionDurationMs: duration } = this.config
    if (max > 0 && requests >= max) {
      this.stats.maxRequests.v++
      return true
    }
    return duration > 0 && this.wheel.nowMs >= openedMs + duration
  }

  /** Makes the exchange of a parsed head; `start` decides what becomes of it. Takes ownership of head and headers. */
  open(codec: Codec, head: RequestHead, headers: Headers, protocol: Protocol): Exchange {
    const info = new StreamInfo(this.wheel.now(), this.wheel.wall())
    info.clientAddress = codec.info.remoteAddress
    info.protocol = protocol
    this.stats.requests.v++
    this.stats.activeRequests.v++
    if (protocol === 'HTTP/2') this.stats.http2Requests.v++
    else this.stats.http1Requests.v++
    this.#parts.usage.enter()
    return new Exchange({
      owner: this,
      downstream: codec,
      connection: codec.info,
      head,
      headers,
      info,
      bufferLimit: this.#parts.bufferLimitBytes,
      random: this.#parts.random,
    })
  }

  /**
   * An exchange for bytes that are no request, so that they are answered, logged and counted like any other. `known`: the
   * head, where it could be read.
   */
  openRefused(codec: Codec, protocol: Protocol, known?: RequestHead): Exchange {
    const head = known ?? { method: '', scheme: 'http', authority: '', path: '', protocol: undefined }
    return this.open(codec, head, new Headers(), protocol)
  }

  /**
   * Checks, normalises, routes and begins. The exchange may be over when this returns.
   *
   * @param flags `EXPECT_CONTINUE`, `EXPECT_OTHER` and `UNDERSCORE` of the HTTP/1 head parser.
   * @param end The request has no body.
   * @param refusal The codec's own reason to refuse it.
   */
  start(exchange: Exchange, flags: number, end: boolean, refusal: Refusal | undefined): void {
    const refused = refusal ?? this.#admit(exchange, flags)
    if (refused === REPLIED_ALREADY) return
    if (refused !== undefined) {
      this.#refuse(exchange, refused, { end, close: refused.status === 400 })
      return
    }
    const table = this.#parts.routes.of(exchange)
    const route = table.table?.match(exchange)
    noteRoute(exchange, route)
    if (!this.#mayUpgrade(exchange, route)) {
      exchange.route = route
      this.#refuse(exchange, UPGRADE_FAILED, { end, close: true })
      return
    }
    this.#arm(exchange, route)
    if (exchange.ended) return
    const plan = route === undefined ? table.defaultPlan : route.plan
    enterPlan(plan)
    exchange.start(route, plan, end)
    // The client is told to send its body only where no filter has answered already.
    if ((flags & EXPECT_CONTINUE) !== 0 && !this.config.proxy100Continue && !end && !exchange.headersSent) {
      exchange.downstream.writeInformational(100, new Headers())
    }
  }

  /** Answers what is no request; the codec closes the connection afterwards. */
  refuse(exchange: Exchange, status: number, details: string): void {
    exchange.plan = this.#parts.emptyPlan
    if (status === 408) exchange.reply({ status, body: 'request header timeout', details })
    else exchange.reply({ status, body: reasonPhrase(status), details, flag: status === 500 ? 'OM' : 'DPE' })
  }

  /** Not started: no filter and no terminal ever sees what is refused here. */
  #refuse(exchange: Exchange, why: Refusal, how: { end: boolean; close: boolean }): void {
    exchange.plan = this.#parts.emptyPlan
    exchange.requestComplete = how.end
    if (how.close) exchange.downstream.closeAfterResponse()
    exchange.reply(refusalReply(why))
  }

  /** Everything between a parsed head and its route: undefined where it may go on. */
  #admit(exchange: Exchange, flags: number): Refusal | undefined {
    const { config } = this
    const { head } = exchange
    if (this.#strip) head.authority = stripAuthority(head.authority, config, exchange.connection.localPort)
    const { misdirected } = this.#parts
    // The authority of a plain CONNECT is where the tunnel goes to, not whom the client takes this server for.
    const named = (head.method !== 'CONNECT' || head.protocol !== undefined) && (flags & RESTARTED) === 0
    if (misdirected !== undefined && named && isMisdirected(head.authority, exchange.connection, misdirected)) {
      this.stats.misdirected.v++
      return MISDIRECTED
    }
    if (head.path === '*') return NO_PATH
    if ((flags & EXPECT_OTHER) !== 0) return UNKNOWN_EXPECTATION
    if ((flags & EXPECT_CONTINUE) !== 0 && !config.proxy100Continue) exchange.request.delete('expect')
    if ((flags & UNDERSCORE) !== 0 && config.underscores !== 'allow') {
      this.stats.underscores.v++
      if (config.underscores === 'reject') return exchange.info.protocol === 'HTTP/2' ? UNDERSCORES_2 : UNDERSCORES
      exchange.request.deleteWhere((name) => name.includes('_'))
    }
    const refused = this.#pathRules ? this.#path(exchange) : undefined
    return (flags & RESTARTED) !== 0 ? refused : (refused ?? this.#mutate(exchange))
  }

  #path(exchange: Exchange): Refusal | undefined {
    const { path } = exchange.head
    if (path === '' || path === '*' || !(needsNormalizing(path) || path.includes('//'))) return undefined
    const { normalizes } = this.#parts
    const normalize = normalizes === undefined ? this.config.normalizePath : normalizes(exchange.random)
    const rules = normalize ? this.#normalizing : this.#keeping
    const outcome = applyPathRules(path, rules)
    if (outcome.kind === 'refuse') return { status: 400, details: outcome.details }
    exchange.head.path = outcome.path
    if (outcome.kind !== 'redirect') return undefined
    const details = 'path_normalization_failed'
    // gRPC clients follow no redirects.
    if (isGrpc(exchange.request)) return { status: 400, details }
    exchange.plan = this.#parts.emptyPlan
    exchange.reply({ status: 307, headers: ['location', outcome.path], details })
    return REPLIED_ALREADY
  }

  /** Forwarding headers, request id, early mutations. */
  #mutate(exchange: Exchange): Refusal | undefined {
    const { request, info } = exchange
    const { config } = this
    this.#parts.earlyEdits?.(request, exchange)
    const caller = this.#parts.callers.apply(request, exchange.connection, this.#parts.routes.of(exchange).internalOnly)
    this.#parts.clientCert?.(request, exchange.connection, exchange)
    info.clientAddress = caller.address
    info.internal = caller.internal
    if (caller.rejectStatus !== 0) {
      return { status: caller.rejectStatus, details: 'rejecting_because_detection_failed' }
    }
    info.requestId = applyRequestId(request, caller.internal, config, this.#uuids)
    if (config.schemeOverwrite !== undefined) request.put('x-forwarded-proto', config.schemeOverwrite)
    exchange.head.scheme = request.get('x-forwarded-proto') === 'https' ? 'https' : 'http'
    if (config.via !== '') appendVia(request, config.via)
    if (config.addUserAgent) addUserAgent(request, this.#parts.node)
    const protocol = exchange.head.protocol
    // `Upgrade: h2c` is answered in HTTP/1; as `:protocol` it is an upgrade that nobody permits.
    if (protocol === 'h2c' && info.protocol !== 'HTTP/2') exchange.head.protocol = undefined
    else if (protocol !== undefined) request.put('upgrade', protocol)
    return undefined
  }

  /** Route and connection manager decide together; what neither lists is refused. */
  #mayUpgrade(exchange: Exchange, route: CompiledRoute<ChainPlan> | undefined): boolean {
    const { head } = exchange
    const type = head.method === 'CONNECT' ? 'connect' : head.protocol
    // Without a route there is nothing to upgrade to: the chain answers 404.
    if (type === undefined || route === undefined) return true
    const { action } = route
    return upgradeAllowed(type, this.config.upgrades, action.kind === 'route' ? action.upgrades : undefined)
  }

  route(exchange: Exchange): { route: Route | undefined; plan: ChainPlan } {
    const table = this.#parts.routes.of(exchange)
    const route = table.table?.match(exchange)
    noteRoute(exchange, route)
    this.#setLimits(exchange, route)
    const due = nextDue(exchange)
    // Later deadlines need no care: what is armed is looked at again when it fires.
    if (due !== Number.POSITIVE_INFINITY && (!exchange.timer.armed || due < exchange.timer.dueMs)) {
      this.wheel.armAt(exchange, due)
    }
    const plan = route?.plan ?? table.defaultPlan
    if (plan !== exchange.plan) enterPlan(plan)
    return { route, plan }
  }

  restart(exchange: Exchange): Restart | undefined {
    return restartOf(exchange, this, this.#parts)
  }

  hostOnDemand(exchange: Exchange): HostOnDemand | undefined {
    return this.#parts.routes.of(exchange).hostOnDemand(exchange.head.authority)
  }

  // --- deadlines --------------------------------------------------------------------------------------------------

  /** The limits that a route may have of its own. */
  #setLimits(exchange: Exchange, route: CompiledRoute<ChainPlan> | undefined): void {
    const { config } = this
    const action = route?.action.kind === 'route' ? route.action : undefined
    exchange.idleLimitMs = action?.idleTimeoutMs ?? config.streamIdleTimeoutMs
    exchange.maxDurationAtMs = durationDue(exchange, action, config.maxStreamDurationMs)
  }

  #arm(exchange: Exchange, route: CompiledRoute<ChainPlan> | undefined): void {
    const { config, wheel } = this
    const start = exchange.info.startMs
    this.#setLimits(exchange, route)
    exchange.lastActivityMs = start
    if (config.requestTimeoutMs > 0) exchange.requestDeadlineAtMs = start + config.requestTimeoutMs
    const due = nextDue(exchange)
    if (due !== Number.POSITIVE_INFINITY) wheel.armAt(exchange, due)
  }

  onDue(exchange: Exchange, nowMs: number): void {
    if (exchange.ended) return
    const { stats } = this
    if (exchange.maxDurationAtMs > 0 && nowMs >= exchange.maxDurationAtMs) {
      stats.maxStreamDuration.v++
      if (exchange.headersSent) exchange.abortFor(FAILURES.maxDuration)
      else {
        const status = exchange.requestComplete ? 504 : 408
        exchange.reply({ ...DURATION_TIMEOUT, status })
      }
      return
    }
    if (exchange.requestDeadlineAtMs > 0 && nowMs >= exchange.requestDeadlineAtMs) {
      exchange.requestDeadlineAtMs = 0
      if (!exchange.requestComplete) {
        stats.requestTimeouts.v++
        exchange.reply({ status: 408, body: 'request timeout', details: 'request_overall_timeout' })
        return
      }
    }
    if (nowMs >= idleDue(exchange)) {
      stats.streamIdleTimeouts.v++
      if (exchange.headersSent) exchange.abortFor(FAILURES.clientIdle)
      else {
        // Whose silence it is decides the status: the client's, or that of those who owe it an answer.
        const status = exchange.requestComplete ? 504 : 408
        exchange.reply({ status, body: 'stream timeout', details: 'stream_idle_timeout', flag: 'SI' })
      }
      return
    }
    const due = nextDue(exchange)
    if (due !== Number.POSITIVE_INFINITY) this.wheel.armAt(exchange, due)
  }

  // --- response ---------------------------------------------------------------------------------------------------

  finishResponse(exchange: Exchange, fromUpstream: boolean): void {
    const { config } = this
    const { response } = exchange
    if (config.serverHeader === 'overwrite') response.put('server', config.serverName)
    else if (config.serverHeader === 'append-if-absent' && !response.has('server'))
      response.add('server', config.serverName)
    const now = this.wheel.now()
    if (!response.has('date')) response.add('date', this.#parts.date(now))
    if (config.via !== '') appendVia(response, config.via)
    if (config.requestIdInResponse && exchange.info.requestId !== '')
      response.put('x-request-id', exchange.info.requestId)
    if (!fromUpstream) this.stats.localReplies.v++
    exchange.info.downstreamFirstSentMs = now
  }

  mapReply(exchange: Exchange, reply: LocalReply): LocalReply {
    const edited = editReply(exchange, reply)
    return this.#parts.mapReply === undefined ? edited : this.#parts.mapReply(exchange, edited)
  }

  onFilterError(exchange: Exchange, filter: string, error: unknown): void {
    this.stats.filterErrors.v++
    this.#parts.log.error('filter failed', {
      filter,
      requestId: exchange.info.requestId,
      error: error instanceof Error ? (error.stack ?? error.message) : String(error),
    })
  }

  onEnd(exchange: Exchange): void {
    this.wheel.disarm(exchange)
    const { stats } = this
    const { info, status } = exchange
    const now = this.wheel.now()
    info.endMs = info.downstreamLastSentMs = now
    stats.activeRequests.v--
    stats.bytesReceived.v += info.bytesReceived + info.requestHeaderBytes
    stats.bytesSent.v += info.bytesSent + info.responseHeaderBytes
    countAnswer(stats, status)
    stats.requestTime.record(now - info.startMs)
    const { loggers } = this.#parts
    for (let i = 0; i < loggers.length; i++) loggers[i].log(exchange)
    exchange.downstream.exchangeEnded()
    if (exchange.plan !== undefined) leavePlan(exchange.plan)
    this.#parts.usage.leave()
  }
}
