import type { NetworkConnection } from '../../lib/chain/network.ts'
import type {
  ByteEvents,
  ByteStream,
  Cluster,
  UpstreamEvents,
  UpstreamHost,
  UpstreamInfo,
  UpstreamStream,
} from '../../lib/core/attempt.ts'
import type { ConnectionInfo } from '../../lib/core/connection.ts'
import { FAILURES, type Failure } from '../../lib/core/failure.ts'
import type { Headers } from '../../lib/core/headers.ts'
import type { TunnelPlan } from './tunnel-plan.ts'

/** Filter state that holds what the proxy answered, for logs (Envoy's keys). */
const HEADERS_KEY = 'envoy.tcp_proxy.propagate_response_headers'
const TRAILERS_KEY = 'envoy.tcp_proxy.propagate_response_trailers'

const NO_BYTES: Buffer = Buffer.alloc(0)

export interface TunnelParts {
  readonly cluster: Cluster
  readonly host: UpstreamHost
  readonly plan: TunnelPlan
  readonly connection: NetworkConnection
  /** What the host is told of it. */
  readonly facts: ConnectionInfo
}

/** Opens a tunnel through a host of the cluster. Undefined where it failed at once (`onClosed` has told why). */
export function openTunnel(parts: TunnelParts, events: ByteEvents): ByteStream | undefined {
  const request = parts.plan.request(parts.connection)
  if (request === undefined) {
    events.onClosed(FAILURES.connectFailed, 'the connection does not tell the target of its tunnel')
    return undefined
  }
  const tunnel = new Tunnel(parts, events)
  const connect = request.head.method === 'CONNECT'
  const stream = parts.cluster.open(
    parts.host,
    {
      ...request,
      end: connect,
      priority: 'default',
      upgrade: connect,
      downstream: parts.facts,
      downstreamProtocol: 'HTTP/1.1',
      forwardContinue: false,
    },
    tunnel,
  )
  if (stream === undefined) return undefined
  tunnel.attach(stream)
  return tunnel
}

/**
 * Bytes through an HTTP exchange with the face of a raw connection: of CONNECT what follows a 2xx, of POST both bodies.
 * Any other status is a failed connection.
 */
class Tunnel implements ByteStream, UpstreamEvents {
  readonly #parts: TunnelParts
  readonly #events: ByteEvents
  #stream: UpstreamStream | undefined = undefined
  #info: UpstreamInfo | undefined = undefined
  #open = false
  #over = false
  #readEnded = false
  #writeEnded = false

  constructor(parts: TunnelParts, events: ByteEvents) {
    this.#parts = parts
    this.#events = events
  }

  attach(stream: UpstreamStream): void {
    this.#stream = stream
  }

  // ——— As a raw connection

  write(chunk: Buffer): boolean {
    return this.#over || this.#writeEnded || (this.#stream?.write(chunk, false) ?? true)
  }

  end(): void {
    if (this.#over || this.#writeEnded) return
    this.#writeEnded = true
    this.#stream?.write(NO_BYTES, true)
    this.#finish()
  }

  pause(): void {
    if (!this.#over) this.#stream?.pause()
  }

  resume(): void {
    if (!this.#over) this.#stream?.resume()
  }

  reset(): void {
    if (this.#over) return
    this.#over = true
    this.#stream?.cancel()
  }

  // ——— As an exchange

  onConnected(info: UpstreamInfo): void {
    this.#info = info
  }

  onInformational(): void {}

  onUpgraded(status: number, headers: Headers): void {
    this.#answered(status, headers)
  }

  onHeaders(status: number, headers: Headers, end: boolean): void {
    const granted = status >= 200 && status < 300 && this.#parts.plan.config.postPath !== undefined
    this.#propagate(HEADERS_KEY, headers)
    if (!granted) {
      this.#over = true
      this.#stream?.cancel()
      this.#events.onClosed(FAILURES.connectFailed, `the proxy answered ${status}`)
      return
    }
    this.#answered(status, headers)
    if (end) this.#ended()
  }

  #answered(_status: number, headers: Headers): void {
    if (this.#over || this.#open) return
    this.#propagate(HEADERS_KEY, headers)
    this.#open = true
    if (this.#info !== undefined) this.#events.onConnected(this.#info)
  }

  #propagate(key: string, headers: Headers): void {
    const { config } = this.#parts.plan
    if (key === HEADERS_KEY ? !config.propagateHeaders : !config.propagateTrailers) return
    const values: Record<string, string> = Object.create(null)
    const { raw } = headers
    for (let i = 0; i < raw.length; i += 2) values[raw[i]] = headers.join(raw[i]) ?? ''
    this.#parts.connection.facts.state.setObject(key, values)
  }

  onData(chunk: Buffer, end: boolean): boolean {
    if (this.#over) return true
    const more = chunk.length === 0 || this.#events.onData(chunk)
    if (end) this.#ended()
    return more
  }

  onTrailers(trailers: Headers): void {
    if (this.#over) return
    this.#propagate(TRAILERS_KEY, trailers)
    this.#ended()
  }

  onDrain(): void {
    if (!this.#over) this.#events.onDrain()
  }

  #ended(): void {
    if (this.#over || this.#readEnded) return
    this.#readEnded = true
    this.#events.onEnd()
    if (this.#parts.plan.config.postPath !== undefined && !this.#writeEnded) this.#complete()
    else this.#finish()
  }

  /** A POST is over with its response: nobody reads the rest of its body, and nothing more is reported of it. */
  #complete(): void {
    if (this.#over) return
    this.reset()
    this.#events.onClosed(undefined, 'tunnel_response_complete')
  }

  #finish(): void {
    if (this.#over || !this.#readEnded || !this.#writeEnded) return
    this.#over = true
    this.#events.onClosed(undefined)
  }

  onReset(why: Failure, detail?: string): void {
    if (this.#over) return
    this.#over = true
    if (this.#open || why.flag === 'UO' || why.flag === 'UH') this.#events.onClosed(why, detail)
    else this.#events.onClosed(FAILURES.connectFailed, detail ?? why.reason)
  }
}
