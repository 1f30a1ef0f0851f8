import type { NetworkConnection } from '../../lib/chain/network.ts'
import type {
  ByteEvents,
  ByteStream,
  Cluster,
  PickContext,
  UpstreamHost,
  UpstreamInfo,
} from '../../lib/core/attempt.ts'
import type { JsonObject } from '../../lib/core/errors.ts'
import { FAILURES, type Failure, flagBit, type ResponseFlag } from '../../lib/core/failure.ts'
import { Timed } from '../../lib/core/timer-wheel.ts'
import type { TcpProxyPlan } from './filter.ts'
import { openTunnel } from './tunnel.ts'

/** Filter state by which filters in front choose the cluster (Envoy's `PerConnectionCluster`). */
const CLUSTER_KEY = 'envoy.tcp_proxy.cluster'

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
 * Nothing is read from the client before OPEN. A FIN of either side is passed on and the other direction goes on; a
 * reset, or an end that is no FIN, is passed on as a reset, so that nobody takes a part for the whole.
 */
export class Session extends Timed implements ByteEvents {
  readonly #connection: NetworkConnection
  readonly #plan: TcpProxyPlan
  #phase = WAITING
  #cluster: Cluster | undefined = undefined
  #host: UpstreamHost | undefined = undefined
  /** That hosts must have. */
  #labels: JsonObject | undefined = undefined
  /** Hosts that could not be reached. */
  #tried: UpstreamHost[] = []
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
    this.#lastActivityMs = plan.scope.wheel.now()
  }

  begin(): void {
    const { stats, config, scope, chooseCluster } = this.#plan
    const { maxDurationMs, maxDurationJitter, logIntervalMs } = config
    const connection = this.#connection
    stats.total.v++
    connection.pause()
    const now = scope.wheel.now()
    if (maxDurationMs > 0) this.#endsAtMs = now + maxDurationMs * (1 + maxDurationJitter * scope.random())
    if (logIntervalMs > 0) this.#logsAtMs = now + logIntervalMs
    const chosen = connection.facts.state.object(CLUSTER_KEY)
    const target =
      typeof chosen === 'string' && chosen !== '' ? { name: chosen, labels: config.labels } : chooseCluster()
    const cluster = scope.clusters.get(target.name)
    this.#labels = withNoted(target.labels, connection)
    if (cluster === undefined) {
      stats.noRoute.v++
      connection.close('cluster_not_found', 'NC')
      return
    }
    this.#cluster = cluster
    connection.info.upstreamCluster = cluster.name
    this.#attempt(cluster)
    this.#arm()
  }

  // ——— Finding a host that answers

  #attempt(cluster: Cluster): void {
    const context = { excluded: this.#tried, downstream: this.#connection.facts, labels: this.#labels }
    this.#retriesAtMs = 0
    const unknown = cluster.prepare?.(context)
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

  #connect(cluster: Cluster, context: PickContext): void {
    const { info, facts } = this.#connection
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
    const upstream =
      tunnel === undefined
        ? cluster.connect(host, { priority: 'default', downstream: facts }, this)
        : openTunnel({ cluster, host, plan: tunnel, connection: this.#connection }, this)
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
    connection.resume()
  }

  // ——— Bytes

  read(chunk: Buffer, end: boolean): void {
    const upstream = this.#upstream
    if (upstream === undefined) return
    if (chunk.length > 0) {
      const { stats, scope } = this.#plan
      stats.rxBytes.v += chunk.length
      this.#connection.info.upstreamBytesSent += chunk.length
      this.#lastActivityMs = scope.wheel.nowMs
      if (!upstream.write(chunk)) {
        stats.pausedReading.v++
        this.#held = true
        this.#connection.pause()
      }
      if (upstream.drained === true) this.#connection.spent()
    }
    if (!end) return
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
    this.#plan.scope.wheel.disarm(this)
  }

  // ——— Time

  #arm(): void {
    if (this.#phase === OVER || this.#flushing) return
    const { idleTimeoutMs } = this.#plan.config
    let next = Number.POSITIVE_INFINITY
    // Also of a proxy that does not answer: raw connections have the cluster's connect timeout besides.
    if (idleTimeoutMs > 0) next = this.#lastActivityMs + idleTimeoutMs
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
    if (config.idleTimeoutMs > 0 && nowMs - this.#lastActivityMs >= config.idleTimeoutMs) {
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

/** What filters have noted of the connection goes before what the configuration says. */
function withNoted(labels: JsonObject | undefined, { facts }: NetworkConnection): JsonObject | undefined {
  const noted = facts.state.metadata('envoy.lb')
  if (typeof noted !== 'object' || noted === null || Array.isArray(noted)) return labels
  return { ...labels, ...noted }
}
