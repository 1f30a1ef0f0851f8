import type { TerminalExchange } from '../chain/filter.ts'
import type { Cluster, UpstreamEvents, UpstreamStream } from '../core/attempt.ts'
import type { RequestHead } from '../core/head.ts'
import type { Headers } from '../core/headers.ts'
import type { CompiledMirror } from './route.ts'
import type { RouterParts } from './router.ts'

/** A mirrored body may hold this much before its request is given up; the main request never waits for it. */
const SHADOW_LIMIT_BYTES = 1 << 20

/**
 * A copy of a request to another cluster, fire and forget (Envoy's `request_mirror_policies`): sent when its body is
 * complete, so that it never holds up the main request; answers are read and dropped.
 */
export class Shadow implements UpstreamEvents {
  readonly #cluster: Cluster
  readonly #head: RequestHead
  readonly #headers: Headers
  #chunks: Buffer[] = []
  #bytes = 0
  #stream: UpstreamStream | undefined = undefined
  #startedMs = 0
  readonly #router: RouterParts
  #status = 0

  private constructor(cluster: Cluster, exchange: TerminalExchange, target: CompiledMirror, router: RouterParts) {
    this.#cluster = cluster
    this.#router = router
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
    this.#startedMs = this.#router.scope.clock.now()
    this.#stream = this.#cluster.open(
      host,
      {
        head: this.#head,
        headers: this.#headers,
        end: bodyless,
        priority: 'default',
        upgrade: false,
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

  onReset(): void {
    this.#cluster.completed(503, this.#router.scope.clock.now() - this.#startedMs)
  }

  #completed(): void {
    this.#cluster.completed(this.#status, this.#router.scope.clock.now() - this.#startedMs)
  }
}

/** `host:port` → `host-shadow:port`, as Envoy. */
function withShadow(authority: string): string {
  const port = /:\d+$/.exec(authority)
  return port === null ? `${authority}-shadow` : `${authority.slice(0, port.index)}-shadow${port[0]}`
}
