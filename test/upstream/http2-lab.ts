import assert from 'node:assert/strict'
import type { EventEmitter } from 'node:events'
import { createServer as createHttp1Server, type Server as Http1Server } from 'node:http'
import {
  createServer as createHttp2Server,
  type Http2Server,
  type IncomingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from 'node:http2'
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net'
import type { Test } from 'tap'
import type { EndpointAddress } from '../../lib/core/address.ts'
import type { Attempt, UpstreamEvents, UpstreamHost, UpstreamInfo, UpstreamStream } from '../../lib/core/attempt.ts'
import type { ConnectionInfo } from '../../lib/core/connection.ts'
import type { Failure } from '../../lib/core/failure.ts'
import { Headers } from '../../lib/core/headers.ts'
import type { InternalListeners } from '../../lib/core/internal-listeners.ts'
import type { Leases } from '../../lib/core/lease.ts'
import { TimerWheel } from '../../lib/core/timer-wheel.ts'
import { ENVOY_HTTP2, type Http2Config } from '../../lib/http2/config.ts'
import { MetricsStore } from '../../lib/telemetry/metrics.ts'
import { UpstreamCluster } from '../../lib/upstream/cluster.ts'
import type { ClusterConfig, EndpointConfig, ThresholdsConfig } from '../../lib/upstream/config.ts'
import { DnsResolvers } from '../../lib/upstream/discovery/dns/resolver.ts'
import type { ReadBuffer } from '../../lib/upstream/socket-reader.ts'
import { settle, TestClock } from '../support/clock.ts'
import { describe, type Frame, FrameReader } from '../support/http2-wire.ts'

/** Drives a cluster without anything before it: every test says what the upstream is and looks at both sides. */

const WIDE: ThresholdsConfig = { maxConnections: 1024, maxPendingRequests: 1024, maxRequests: 1024, maxRetries: 3 }

export interface LabOptions {
  readonly port: number
  readonly cluster?: Partial<ClusterConfig>
  readonly http2?: Partial<Http2Config>
  readonly limits?: Partial<ThresholdsConfig>
  readonly hostname?: string
  /** A Unix socket instead of `port`. */
  readonly path?: string
  /** Undefined: sockets read as Node does by itself. */
  readonly readBuffer?: ReadBuffer
  /** More of the endpoint, or another address. */
  readonly endpoint?: Partial<EndpointConfig>
  readonly internal?: InternalListeners
  /** Undefined: limits are the cluster's alone. */
  readonly leases?: Leases
}

export interface CallOptions {
  readonly method?: string
  readonly path?: string
  readonly authority?: string
  readonly scheme?: string
  readonly protocol?: string
  readonly upgrade?: boolean
  readonly headers?: readonly string[]
  /** Undefined: none; otherwise the test writes it. */
  readonly body?: 'streamed'
  readonly forwardContinue?: boolean
  readonly downstream?: Attempt['downstreamProtocol']
  readonly priority?: Attempt['priority']
  /** Chosen before; default: picked anew by each attempt. */
  readonly host?: UpstreamHost
  /** Failures that are safe to repeat are repeated, on a host picked anew. */
  readonly repeat?: boolean
  /** The client's connection; default: none. */
  readonly connection?: ConnectionInfo
}

/** One attempt (or, with `repeat`, as many as it takes) and all that came of it. */
export class Call implements UpstreamEvents {
  readonly info: UpstreamInfo[] = []
  readonly reused: boolean[] = []
  readonly informational: number[] = []
  readonly chunks: Buffer[] = []
  readonly failures: Failure[] = []
  stream: UpstreamStream | undefined = undefined
  status = 0
  upgraded = false
  headers = new Headers()
  trailers: Headers | undefined = undefined
  /** The response (or the tunnel's direction towards us) is complete. */
  ended = false
  detail: string | undefined = undefined
  drains = 0
  attempts = 0
  /** What `onData` answers. */
  flowing = true
  /** Called within the first `onConnected`. */
  whenConnected: (() => void) | undefined = undefined
  readonly #start: (call: Call) => UpstreamStream | undefined
  readonly #repeat: boolean

  constructor(start: (call: Call) => UpstreamStream | undefined, repeat: boolean) {
    this.#start = start
    this.#repeat = repeat
    this.#open()
  }

  #open(): void {
    this.attempts++
    const attempt = this.attempts
    const stream = this.#start(this)
    // A repetition from within has its own.
    if (attempt === this.attempts) this.stream = stream
  }

  get failure(): Failure | undefined {
    return this.failures.at(-1)
  }

  get text(): string {
    return Buffer.concat(this.chunks).toString()
  }

  get bytes(): number {
    return this.chunks.reduce((sum, chunk) => sum + chunk.length, 0)
  }

  get over(): boolean {
    return this.ended || (this.failures.length > 0 && this.failures.length === this.attempts)
  }

  onConnected(info: UpstreamInfo): void {
    this.info.push(info)
    this.reused.push(info.reused)
    this.whenConnected?.()
  }

  onInformational(status: number): void {
    this.informational.push(status)
  }

  onHeaders(status: number, headers: Headers, end: boolean): void {
    this.status = status
    this.headers = headers
    this.ended = end
  }

  onData(chunk: Buffer, end: boolean): boolean {
    this.chunks.push(chunk)
    this.ended = end
    return this.flowing
  }

  onTrailers(trailers: Headers): void {
    this.trailers = trailers
    this.ended = true
  }

  onUpgraded(status: number, headers: Headers): void {
    this.upgraded = true
    this.status = status
    this.headers = headers
  }

  onDrain(): void {
    this.drains++
  }

  onReset(why: Failure, detail?: string): void {
    this.failures.push(why)
    this.detail = detail
    if (this.#repeat && why.retry === 'always' && this.attempts < 20) this.#open()
  }
}

export interface Lab {
  readonly cluster: UpstreamCluster
  readonly clock: TestClock
  readonly wheel: TimerWheel
  readonly metrics: MetricsStore
  host(): UpstreamHost
  call(options?: CallOptions): Call
  /** The same over another cluster of the test. */
  callOn(cluster: UpstreamCluster, options?: CallOptions): Call
  /** Without the prefix `cluster.web.`. */
  stat(name: string): number
}

/** One cluster with one endpoint on the loopback address. */
export async function lab(t: Test, options: LabOptions): Promise<Lab> {
  const clock = new TestClock()
  const wheel = new TimerWheel(clock)
  const metrics = new MetricsStore()
  // What a cluster counted goes with it, and is looked at afterwards.
  metrics.group('cluster.web')
  const dns = new DnsResolvers({ clock })
  const log = { debug() {}, info() {}, warn() {}, error() {} }
  let connectionId = 0
  const cluster = new UpstreamCluster(configOf(options), {
    metrics,
    wheel,
    dns,
    log,
    random: () => 0.5,
    nextConnectionId: () => ++connectionId,
    ...(options.readBuffer && { readBuffer: options.readBuffer }),
    ...(options.internal && { internal: options.internal }),
    ...(options.leases && { leases: options.leases }),
  })
  await cluster.warm()
  t.teardown(async () => {
    cluster.destroy()
    await cluster.drained()
    assert.equal(wheel.armed, 0, 'no deadline outlives the connections')
    for (const gauge of ['upstream_cx_active', 'upstream_rq_active', 'upstream_rq_pending_active']) {
      assert.equal(metrics.gauge(`cluster.web.${gauge}`).v, 0, `${gauge} is back at 0`)
    }
    wheel.close()
    dns[Symbol.dispose]()
  })
  const callOn = (on: UpstreamCluster, wanted: CallOptions = {}): Call =>
    new Call((events) => on.open(wanted.host ?? hostOf(on), attemptOf(wanted), events), wanted.repeat ?? false)
  return {
    cluster,
    clock,
    wheel,
    metrics,
    host: () => hostOf(cluster),
    call: (wanted) => callOn(cluster, wanted),
    callOn,
    stat: (name) => cellOf(metrics, `cluster.web.${name}`),
  }
}

function hostOf(cluster: UpstreamCluster): UpstreamHost {
  const picked = cluster.pick({})
  if ('code' in picked) throw new Error('no host')
  return picked
}

function cellOf(metrics: MetricsStore, name: string): number {
  return metrics.has(name) ? metrics.counter(name).v : metrics.gauge(name).v
}

export function configOf({ port, path, cluster, http2, limits, hostname, endpoint: more }: LabOptions): ClusterConfig {
  const address: EndpointAddress = path === undefined ? { kind: 'ip', host: '127.0.0.1', port } : { kind: 'pipe', path }
  const endpoint = { address, weight: 1, health: 'healthy', ...(hostname && { hostname }), ...more } as const
  return {
    name: 'web',
    statName: 'web',
    type: 'static',
    localities: [{ priority: 0, endpoints: [endpoint] }],
    balancer: { kind: 'round-robin' },
    connectTimeoutMs: 5_000,
    bufferLimitBytes: 1024 * 1024,
    thresholds: { default: { ...WIDE, ...limits }, high: WIDE },
    idleTimeoutMs: 3_600_000,
    maxResponseHeaderBytes: 60 * 1024,
    maxResponseHeaders: 100,
    protocol: 'http2',
    http1: { headerCase: 'lower', enableTrailers: false },
    http2: { ...ENVOY_HTTP2, ...http2 },
    preconnectRatio: 1,
    ...cluster,
  }
}

function attemptOf(options: CallOptions): Attempt {
  return {
    head: {
      method: options.method ?? 'GET',
      scheme: options.scheme ?? 'http',
      authority: options.authority ?? 'web.example',
      path: options.path ?? '/',
      protocol: options.protocol,
    },
    headers: new Headers([...(options.headers ?? [])]),
    end: options.body === undefined,
    priority: options.priority ?? 'default',
    upgrade: options.upgrade ?? false,
    downstream: options.connection,
    downstreamProtocol: options.downstream ?? 'HTTP/1.1',
    forwardContinue: options.forwardContinue ?? false,
  }
}

/** Waits for something that needs nothing but the loop to turn. */
export async function until(done: () => boolean, what: string): Promise<void> {
  const endMs = performance.now() + 10_000
  while (!done()) {
    if (performance.now() > endMs) throw new Error(`waited in vain for ${what}`)
    await settle(1)
  }
}

// --- upstreams ------------------------------------------------------------------------------------------------------

type Listening = Http2Server | Http1Server | Server

export async function listen(t: Test, server: Listening): Promise<number> {
  const sockets = new Set<Socket>()
  const events: EventEmitter = server
  for (const event of ['connection', 'secureConnection']) {
    events.on(event, (socket: Socket) => {
      socket.on('error', () => {})
      sockets.add(socket)
    })
  }
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return (server.address() as AddressInfo).port
}

export interface Http2Upstream {
  readonly port: number
  readonly server: Http2Server
  /** Answers a request; one listener at a time. */
  onStream(answer: (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => void): void
  readonly sessions: ServerHttp2Session[]
  readonly requests: string[]
}

/** An upstream of Node's own; `stream` events are the test's. */
export async function http2Upstream(
  t: Test,
  options: Parameters<typeof createHttp2Server>[0] = {},
): Promise<Http2Upstream> {
  const server = createHttp2Server(options)
  const sessions: ServerHttp2Session[] = []
  const requests: string[] = []
  server.on('session', (session) => {
    session.on('error', () => {})
    sessions.push(session)
  })
  let answer: Parameters<Http2Upstream['onStream']>[0] = () => {}
  server.on('stream', (stream, headers) => {
    stream.on('error', () => {})
    requests.push(headers[':path'] ?? '')
    answer(stream as ServerHttp2Stream, headers)
  })
  server.on('sessionError', () => {})
  const onStream: Http2Upstream['onStream'] = (wanted) => {
    answer = wanted
  }
  return { port: await listen(t, server), server, onStream, sessions, requests }
}

/** The other side of one connection as bare frames. */
export class RawPeer {
  readonly socket: Socket
  readonly frames: Frame[] = []
  ended = false
  readonly #reader = new FrameReader({ preface: true })

  constructor(socket: Socket, onFrame: (frame: Frame, peer: RawPeer) => void) {
    this.socket = socket
    socket.on('error', () => {})
    socket.on('close', () => {
      this.ended = true
    })
    socket.on('data', (chunk: Buffer) => {
      for (const frame of this.#reader.read(chunk)) {
        this.frames.push(frame)
        onFrame(frame, this)
      }
    })
  }

  send(...frames: readonly Buffer[]): void {
    this.socket.write(Buffer.concat(frames))
  }

  /** What came, as text. */
  get seen(): string[] {
    return this.frames.map(describe)
  }
}

export interface RawUpstream {
  readonly port: number
  readonly peers: RawPeer[]
}

/** An upstream that does what the test says with each frame, and nothing by itself. */
export async function rawUpstream(
  t: Test,
  onFrame: (frame: Frame, peer: RawPeer) => void,
  onConnect: (peer: RawPeer) => void = () => {},
): Promise<RawUpstream> {
  const peers: RawPeer[] = []
  const server = createServer((socket) => {
    const peer = new RawPeer(socket, onFrame)
    peers.push(peer)
    onConnect(peer)
  })
  return { port: await listen(t, server), peers }
}

export { createHttp1Server }
