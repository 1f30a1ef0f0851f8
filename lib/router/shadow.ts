import type { TerminalExchange } from '../chain/filter.ts'
import type { Cluster, UpstreamEvents, UpstreamStream } from '../core/attempt.ts'
import { FAILURES, type Failure } from '../core/failure.ts'
import type { Protocol, RequestHead } from '../core/head.ts'
import type { Headers } from '../core/headers.ts'
import { Timed } from '../core/timer-wheel.ts'
import type { CompiledMirror, CompiledRoute, ForwardAction } from './route.ts'
import type { RouterParts } from './router.ts'

/** A mirrored body may hold this much before its request is given up; the main request never waits for it. */
const SHADOW_LIMIT_BYTES = 1 << 20

/** How long a shadow may take where its route has no timeout: Envoy's default for routes. */
const SHADOW_TIMEOUT_MS = 15_000

/**
 * A copy of a request to another cluster, fire and forget (Envoy's `request_mirror_policies`): sent when its body is
 * complete, so that it never holds up the main request; answers are read and dropped. It outlives its exchange, up to a
 * deadline of its own: the timeout of the route.
 */
export class Shadow extends Timed implements UpstreamEvents {
  readonly #cluster: Cluster
  readonly #head: RequestHead
  readonly #headers: Headers
  #chunks: Buffer[] = []
  #bytes = 0
  #stream: UpstreamStream | undefined = undefined
  #startedMs = 0
  readonly #router: RouterParts
  #status = 0
  readonly #protocol: Protocol
  readonly #internal: boolean
  #done = false
  readonly #timeoutMs: number

  private constructor(cluster: Cluster, exchange: TerminalExchange, target: CompiledMirror, router: RouterParts) {
    super()
    const action = (exchange.route as CompiledRoute<unknown>).action as ForwardAction
    this.#timeoutMs = action.timeoutMs > 0 ? action.timeoutMs : SHADOW_TIMEOUT_MS
    this.#cluster = cluster
    this.#router = router
    this.#protocol = exchange.info.protocol
    this.#internal = exchange.info.internal
    this.#headers = exchange.request.clone()
    this.#headers.delete('expect')
    const authority =
      target.hostRewrite ?? (target.appendShadow ? withShadow(exchange.head.authority) : exchange.head.authority)
    this.#head = { ...exchange.head, authority }
  }

  /** Undefined where this request is not mirrored: by chance, an unknown cluster, or an upgrade. */
  static start(
    target: CompiledMirror,
    exchange: TerminalExchange,
    router: RouterParts,
    end: boolean,
  ): Shadow | undefined {
    if (exchange.head.protocol !== undefined || exchange.head.method === 'CONNECT') return undefined
    if (target.sampled !== undefined && !target.sampled(exchange.random)) return undefined
    const name = target.cluster(exchange)
    const cluster = name === undefined ? undefined : router.clusters.get(name)
    if (cluster === undefined) return undefined
    const shadow = new Shadow(cluster, exchange, target, router)
    if (end) shadow.#send(true)
    return shadow
  }

  /** A chunk of the main request's body; lent on, not copied. */
  write(chunk: Buffer, end: boolean): void {
    this.#bytes += chunk.length
    if (this.#bytes > SHADOW_LIMIT_BYTES) {
      this.#chunks = []
      return
    }
    if (chunk.length > 0) this.#chunks.push(chunk)
    if (end) this.#send(this.#chunks.length === 0)
  }

  #send(bodyless: boolean): void {
    const host = this.#cluster.pick({})
    if ('code' in host) return
    const { wheel } = this.#router.scope
    this.#startedMs = wheel.now()
    wheel.arm(this, this.#timeoutMs)
    this.#stream = this.#cluster.open(
      host,
      {
        head: this.#head,
        headers: this.#headers,
        end: bodyless,
        priority: 'default',
        upgrade: false,
        downstream: undefined,
        downstreamProtocol: this.#protocol,
        forwardContinue: false,
      },
      this,
    )
    const last = this.#chunks.length - 1
    this.#chunks.forEach((chunk, i) => {
      this.#stream?.write(chunk, i === last)
    })
    this.#chunks = []
  }

  onConnected(): void {}
  onInformational(): void {}

  onHeaders(status: number, _headers: Headers, end: boolean): void {
    this.#status = status
    if (end) this.#completed()
  }

  onData(_chunk: Buffer, end: boolean): boolean {
    if (end) this.#completed()
    return true
  }

  onTrailers(): void {
    this.#completed()
  }

  onUpgraded(): void {}
  onDrain(): void {}

  onReset(why: Failure): void {
    this.#finish(why.status)
  }

  #completed(): void {
    this.#finish(this.#status)
  }

  #finish(status: number): void {
    if (this.#done) return
    this.#done = true
    const { wheel } = this.#router.scope
    wheel.disarm(this)
    this.#cluster.completed(status, wheel.now() - this.#startedMs, this.#internal)
  }

  override onDue(): void {
    this.#cluster.counters.timeout.v++
    this.#finish(FAILURES.upstreamTimeout.status)
    this.#stream?.cancel()
  }
}

/** The mirrors that get this request; undefined: none that wants more of it. */
export function startShadows(
  targets: readonly CompiledMirror[],
  exchange: TerminalExchange,
  router: RouterParts,
  end: boolean,
): readonly Shadow[] | undefined {
  const shadows: Shadow[] = []
  for (const target of targets) {
    const shadow = Shadow.start(target, exchange, router, end)
    if (shadow !== undefined) shadows.push(shadow)
  }
  return shadows.length > 0 && !end ? shadows : undefined
}

/** `host:port` → `host-shadow:port`, as Envoy. */
function withShadow(authority: string): string {
  const port = /:\d+$/.exec(authority)
  return port === null ? `${authority}-shadow` : `${authority.slice(0, port.index)}-shadow${port[0]}`
}
