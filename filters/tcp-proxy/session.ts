import type { NetworkConnection } from '../../lib/chain/network.ts'
import type {
  ByteEvents,
  ByteStream,
  Cluster,
  PickContext,
  UpstreamHost,
  UpstreamInfo,
  Waiter,
} from '../../lib/core/attempt.ts'
import type { ConnectionInfo } from '../../lib/core/connection.ts'
import type { JsonObject } from '../../lib/core/errors.ts'
import { FAILURES, type Failure, flagBit, type ResponseFlag } from '../../lib/core/failure.ts'
import { Timed } from '../../lib/core/timer-wheel.ts'
import { demandCluster } from './demand.ts'
import { EarlyData } from './early-data.ts'
import type { TcpProxyPlan } from './filter.ts'
import { idleLimit, isUntunnelled, targetOf } from './overrides.ts'
import { openTunnel } from './tunnel.ts'

const WAITING = 0
const CONNECTING = 1
const OPEN = 2
const OVER = 3

/**
 * One connection through tcp_proxy, and its upstream side.
 *
 * ```
 * WAITING ─▶ CONNECTING ── connected ─▶ OPEN ── both sides closed ─▶ OVER
 *    ▲            └── failed: backoff, next host ──┐
 *    └─────────────────────────────────────────────┘ up to max_connect_attempts
 * ```
 * Nothing is read from the client before OPEN, but for `max_early_data_bytes`, which are held until then. A FIN of either side is passed on and the other direction goes on; a
 * reset, or an end that is no FIN, is passed on as a reset, so that nobody takes a part for the whole.
 */
export class Session extends Timed implements ByteEvents, Waiter {
  readonly #connection: NetworkConnection
  readonly #plan: TcpProxyPlan
  #phase = WAITING
  #cluster: Cluster | undefined = undefined
  #host: UpstreamHost | undefined = undefined
  /** That hosts must have. */
  #labels: JsonObject | undefined = undefined
  /** Hosts that could not be reached. */
  #tried: UpstreamHost[] = []
  /** What the upstream side is told of the connection. */
  #facts: ConnectionInfo
  /** Undefined: nothing is read before OPEN, or it is. */
  #early: EarlyData | undefined = undefined
  /** A host is, or has been, looked for. */
  #begun = false
  #idleMs = 0
  #upstream: ByteStream | undefined = undefined
  /** Of `ByteEvents`. */
  spent = false
  /** The client is not read because the upstream is slow. */
  #held = false
  #clientEnded = false
  #upstreamEnded = false
  /** The client is gone; what it sent may still be on its way. */
  #flushing = false
  /** Monotonic ms; 0: no such deadline. */
  #endsAtMs = 0
  #logsAtMs = 0
  #retriesAtMs = 0
  #lastActivityMs: number

  constructor(connection: NetworkConnection, plan: TcpProxyPlan) {
    super()
    this.#connection = connection
    this.#plan = plan
    this.#facts = connection.facts
    if (plan.config.earlyBytes !== undefined) this.#early = new EarlyData()
    this.#lastActivityMs = plan.scope.wheel.now()
  }

  begin(): void {
    const { stats, config, scope, logger } = this.#plan
    const { maxDurationMs, maxDurationJitter, logIntervalMs } = config
    stats.total.v++
    this.#idleMs = idleLimit(this.#connection, config.idleTimeoutMs)
    if (this.#early === undefined) this.#connection.pause()
    const now = scope.wheel.now()
    if (maxDurationMs > 0) this.#endsAtMs = now + maxDurationMs * (1 + maxDurationJitter * scope.random())
    if (logIntervalMs > 0) this.#logsAtMs = now + logIntervalMs
    if (config.logOnStart === true) logger.log(this.#connection, 'TcpConnectionStart')
    if (config.connectOnData === undefined) this.#find()
    this.#arm()
  }

  #find(): void {
    this.#begun = true
    const { config, scope, withTlvs } = this.#plan
    const connection = this.#connection
    const target = targetOf(connection, this.#plan)
    this.#labels = target.labels
    if (withTlvs !== undefined) this.#facts = withTlvs(connection)
    const cluster = scope.clusters.get(target.name)
    if (cluster !== undefined || config.demand === undefined) this.#goTo(cluster)
    else void demandCluster(target.name, this.#plan).then((found) => this.#goTo(found))
  }

  #goTo(cluster: Cluster | undefined): void {
    if (this.#phase !== WAITING) return
    if (cluster === undefined) {
      this.#plan.stats.noRoute.v++
      this.#over()
      this.#connection.close('cluster_not_found', 'NC')
      return
    }
    this.#cluster = cluster
    this.#connection.info.upstreamCluster = cluster.name
    this.#attempt(cluster)
    this.#arm()
  }

  // ——— Finding a host that answers

  #attempt(cluster: Cluster): void {
    const facts = this.#facts
    const { hash } = this.#plan
    const context: PickContext = {
      excluded: this.#tried,
      downstream: facts,
      labels: this.#labels,
      ...(hash && { hash: () => hash(facts) }),
    }
    this.#retriesAtMs = 0
    const unknown = cluster.prepare?.(context, this)
    if (unknown === undefined) this.#connect(cluster, context)
    else if ('code' in unknown) this.#giveUp(unknown)
    else {
      void unknown.then((why) => {
        if (this.#phase !== WAITING) return
        const successor = this.#plan.scope.clusters.get(cluster.name)
        if (why === undefined) this.#connect(cluster, context)
        else if (successor === undefined || successor === cluster) this.#giveUp(why)
        else {
          // Replaced while it looked, which ends there.
          this.#cluster = successor
          this.#attempt(successor)
        }
      })
    }
  }

  /** Made where a name is waited for. */
  #leaving: AbortController | undefined = undefined

  get signal(): AbortSignal {
    this.#leaving ??= new AbortController()
    return this.#leaving.signal
  }

  #connect(cluster: Cluster, context: PickContext): void {
    const { info } = this.#connection
    const host = cluster.pick(context)
    if ('code' in host) {
      this.#giveUp(host)
      return
    }
    info.attempts++
    this.#host = host
    info.upstreamHost = host.addressText
    info.upstreamHostName = host.hostname
    this.#phase = CONNECTING
    const { tunnel } = this.#plan
    const facts = this.#facts
    const upstream =
      tunnel === undefined || isUntunnelled(facts)
        ? cluster.connect(host, { priority: 'default', downstream: facts }, this)
        : openTunnel({ cluster, host, plan: tunnel, connection: this.#connection, facts }, this)
    // It may have failed at once, and the next attempt may be under way already.
    if (upstream !== undefined) this.#upstream = upstream
  }

  #connectFailed(why: Failure, detail: string | undefined): void {
    const { info } = this.#connection
    const cluster = this.#cluster as Cluster
    this.#upstream = undefined
    this.#phase = WAITING
    if (why.flag !== 'UF') {
      this.#giveUp(why, detail)
      return
    }
    info.flags |= flagBit('UF')
    info.upstreamTransportFailure = detail ?? why.reason
    this.#tried.push(this.#host as UpstreamHost)
    const { config, scope } = this.#plan
    if (info.attempts >= config.maxConnectAttempts) {
      info.flags |= flagBit('URX')
      scope.metrics.counter(`cluster.${cluster.statName}.upstream_cx_connect_attempts_exceeded`).v++
      this.#over()
      this.#connection.close(why.reason.replaceAll(' ', '_'), 'UF')
      return
    }
    const { backoff } = config
    if (backoff === undefined) {
      // Not from within the failed attempt's own call.
      this.#retriesAtMs = scope.wheel.now()
    } else {
      const ceiling = Math.min(backoff.maxMs, backoff.baseMs * 2 ** (info.attempts - 1))
      this.#retriesAtMs = scope.wheel.now() + scope.random() * ceiling
    }
    this.#arm()
  }

  #giveUp(why: Failure, detail?: string): void {
    if (detail !== undefined) this.#connection.info.upstreamTransportFailure = detail
    this.#over()
    this.#connection.close(why.reason.replaceAll(' ', '_'), why.flag === '' ? undefined : why.flag)
  }

  onConnected(upstream: UpstreamInfo): void {
    if (this.#phase !== CONNECTING) return
    const { wheel } = this.#plan.scope
    const connection = this.#connection
    const { info } = connection
    this.#phase = OPEN
    info.upstreamProtocol = ''
    info.connectedTo(upstream)
    this.#lastActivityMs = wheel.now()
    if (this.#plan.config.logOnConnected) this.#plan.logger.log(connection, 'TcpUpstreamConnected')
    this.#arm()
    this.#sendEarly()
    if (!this.#held) connection.resume()
  }

  // ——— Bytes

  read(chunk: Buffer, end: boolean): void {
    if (this.#early !== undefined) {
      this.#readEarly(this.#early, chunk, end)
      return
    }
    const upstream = this.#upstream
    if (upstream === undefined) return
    if (chunk.length > 0) {
      this.#send(upstream, chunk)
      if (upstream.drained === true) this.#connection.spent()
    }
    if (!end) return
    this.#clientEnded = true
    upstream.end()
  }

  #send(upstream: ByteStream, chunk: Buffer): void {
    const { stats, scope } = this.#plan
    stats.rxBytes.v += chunk.length
    this.#connection.info.upstreamBytesSent += chunk.length
    this.#lastActivityMs = scope.wheel.nowMs
    if (upstream.write(chunk) || this.#held) return
    stats.pausedReading.v++
    this.#held = true
    this.#connection.pause()
  }

  /** Held, and no more than may be is read. Nobody is connected to for a client that says nothing. */
  #readEarly(early: EarlyData, chunk: Buffer, end: boolean): void {
    const { config, scope } = this.#plan
    early.add(chunk, end)
    this.#lastActivityMs = scope.wheel.nowMs
    if (early.bytes > (config.earlyBytes ?? 0)) this.#connection.pause()
    if (!this.#begun && early.bytes > 0) this.#find()
    else if (!this.#begun && end) this.#close('downstream_ended_before_data')
  }

  /** In order, before what is read from now on. */
  #sendEarly(): void {
    const early = this.#early
    const upstream = this.#upstream
    this.#early = undefined
    if (early === undefined || upstream === undefined) return
    for (const chunk of early.take()) this.#send(upstream, chunk)
    if (!early.ended) return
    this.#clientEnded = true
    upstream.end()
  }

  onDrain(): void {
    this.#lastActivityMs = this.#plan.scope.wheel.nowMs
    if (!this.#held || this.#phase !== OPEN || this.#flushing) return
    this.#held = false
    this.#plan.stats.resumedReading.v++
    this.#connection.resume()
  }

  onData(chunk: Buffer): boolean {
    if (this.#flushing) return true
    const { stats, scope } = this.#plan
    stats.txBytes.v += chunk.length
    this.#connection.info.upstreamBytesReceived += chunk.length
    this.#lastActivityMs = scope.wheel.nowMs
    const more = this.#connection.write(chunk)
    this.spent = this.#connection.drained
    return more
  }

  downstreamDrained(): void {
    this.#lastActivityMs = this.#plan.scope.wheel.nowMs
    this.#upstream?.resume()
  }

  onEnd(): void {
    this.#upstreamEnded = true
    if (!this.#flushing) this.#connection.end()
  }

  // ——— The end

  onClosed(why: Failure | undefined, detail?: string): void {
    if (this.#phase === OVER) return
    if (this.#phase === CONNECTING) {
      this.#connectFailed(why ?? FAILURES.connectFailed, detail)
      return
    }
    this.#upstream = undefined
    if (this.#flushing) {
      this.#over()
      return
    }
    if (why === undefined) {
      // It does not take the rest of what the client has to say: what came from it still leaves.
      if (!this.#clientEnded) this.#connection.close(detail ?? 'upstream_closed')
      return
    }
    this.#connection.info.upstreamTransportFailure = detail ?? ''
    this.#connection.reset(why.reason.replaceAll(' ', '_'))
  }

  /** Of ours, in time: nothing more comes from upstream, what is there for the client still leaves. */
  #close(details: string, flag?: ResponseFlag): void {
    const upstream = this.#upstream
    this.#over()
    upstream?.reset()
    this.#connection.close(details, flag)
  }

  /** The last thing this filter hears of its connection. */
  downstreamClosed(): void {
    const { logger, stats } = this.#plan
    const upstream = this.#upstream
    logger.log(this.#connection, 'TcpConnectionEnd')
    if (upstream !== undefined && this.#phase === OPEN && this.#clientEnded && this.#upstreamEnded) {
      // Both have said all: what is still on its way upstream arrives in its own time.
      stats.upstreamFlushTotal.v++
      stats.upstreamFlushActive.v++
      this.#flushing = true
      this.#plan.scope.wheel.disarm(this)
      return
    }
    this.#over()
    upstream?.reset()
  }

  #over(): void {
    if (this.#flushing) this.#plan.stats.upstreamFlushActive.v--
    this.#flushing = false
    this.#phase = OVER
    this.#upstream = undefined
    this.#leaving?.abort()
    this.#plan.scope.wheel.disarm(this)
  }

  // ——— Time

  #arm(): void {
    if (this.#phase === OVER || this.#flushing) return
    let next = Number.POSITIVE_INFINITY
    // Also of a proxy that does not answer: raw connections have the cluster's connect timeout besides.
    if (this.#idleMs > 0) next = this.#lastActivityMs + this.#idleMs
    if (this.#endsAtMs > 0) next = Math.min(next, this.#endsAtMs)
    if (this.#logsAtMs > 0) next = Math.min(next, this.#logsAtMs)
    if (this.#retriesAtMs > 0) next = Math.min(next, this.#retriesAtMs)
    if (next < Number.POSITIVE_INFINITY) this.#plan.scope.wheel.armAt(this, next)
  }

  override onDue(nowMs: number): void {
    const { config, stats, logger } = this.#plan
    const connection = this.#connection
    if (this.#endsAtMs > 0 && nowMs >= this.#endsAtMs) {
      stats.maxDuration.v++
      this.#close('max_connection_duration', 'DT')
      return
    }
    if (this.#idleMs > 0 && nowMs - this.#lastActivityMs >= this.#idleMs) {
      stats.idleTimeout.v++
      this.#close('tcp_session_idle_timeout')
      return
    }
    if (this.#logsAtMs > 0 && nowMs >= this.#logsAtMs) {
      this.#logsAtMs = nowMs + config.logIntervalMs
      logger.log(connection, 'TcpPeriodic')
    }
    if (this.#retriesAtMs > 0 && nowMs >= this.#retriesAtMs) this.#attempt(this.#cluster as Cluster)
    // Unless that was its end.
    this.#arm()
  }
}
