import type {
  Attempt,
  Cluster,
  PickContext,
  UpstreamEvents,
  UpstreamHost,
  UpstreamStream,
} from '../../lib/core/attempt.ts'
import type { Failure } from '../../lib/core/failure.ts'
import { Headers } from '../../lib/core/headers.ts'

/** One attempt as the upstream sees it. The test plays the peer, and is told off for breaking the contract itself. */
export class FakeAttempt implements UpstreamStream {
  readonly host: UpstreamHost
  readonly attempt: Attempt
  readonly events: UpstreamEvents
  readonly written: Buffer[] = []
  readonly log: string[] = []
  ended = false
  cancelled = false
  paused = false
  /** What `write` answers. */
  room = true
  #over = false

  constructor(host: UpstreamHost, attempt: Attempt, events: UpstreamEvents) {
    this.host = host
    this.attempt = attempt
    this.events = events
  }

  /** The messages written, flags and payloads. */
  get messages(): { flag: number; payload: Buffer }[] {
    const bytes = Buffer.concat(this.written)
    const out: { flag: number; payload: Buffer }[] = []
    for (let at = 0; at < bytes.length; ) {
      const length = bytes.readUInt32BE(at + 1)
      if (at + 5 + length > bytes.length) throw new Error('half a message was written')
      out.push({ flag: bytes[at], payload: bytes.subarray(at + 5, at + 5 + length) })
      at += 5 + length
    }
    return out
  }

  write(chunk: Buffer, end: boolean): boolean {
    if (this.ended) throw new Error('written after the end')
    if (this.cancelled) throw new Error('written after cancel')
    this.written.push(chunk)
    this.ended = end
    return this.room
  }

  trailers(): void {
    throw new Error('a gRPC client sends no trailers')
  }

  pause(): void {
    this.paused = true
    this.log.push('pause')
  }

  resume(): void {
    this.paused = false
    this.log.push('resume')
  }

  cancel(): void {
    this.cancelled = true
    this.#over = true
  }

  connected(): void {
    this.events.onConnected({
      protocol: 'HTTP/2',
      localAddress: '127.0.0.1:1',
      remoteAddress: '127.0.0.1:2',
      tls: undefined,
      connectionId: 1,
      reused: false,
    })
  }

  head(fields: readonly string[] = [], status = 200): void {
    this.#check()
    this.events.onHeaders(status, new Headers(['content-type', 'application/grpc', ...fields]), false)
  }

  /** A head that is the whole response, with these fields and no others. */
  only(fields: readonly string[], status = 200): void {
    this.#check()
    this.#over = true
    this.events.onHeaders(status, new Headers([...fields]), true)
  }

  data(chunk: Buffer, end = false): boolean {
    this.#check()
    if (this.paused) throw new Error('the peer was told to pause')
    this.#over = end
    const more = this.events.onData(chunk, end)
    if (!more) this.paused = true
    return more
  }

  end(fields: readonly string[] = ['grpc-status', '0']): void {
    this.#check()
    this.#over = true
    this.events.onTrailers(new Headers([...fields]))
  }

  reset(why: Failure, detail?: string): void {
    this.#check()
    this.#over = true
    this.events.onReset(why, detail)
  }

  #check(): void {
    if (this.#over) throw new Error('the attempt is over')
  }
}

export class FakeCluster implements Cluster {
  readonly name = 'fake'
  readonly statName = 'fake'
  maxStreamDurationMs: number | undefined = undefined
  readonly hosts: UpstreamHost[]
  readonly attempts: FakeAttempt[] = []
  readonly done: { status: number; elapsedMs: number }[] = []
  readonly counters = { timeout: { v: 0 }, retry: { v: 0 }, retrySuccess: { v: 0 }, cancelled: { v: 0 } }
  readonly retries: NonNullable<Cluster['retries']> = {
    policy: undefined,
    tryAcquire: () => true,
    release: () => {},
    replaced: () => {},
    counters: {
      retry: { v: 0 },
      success: { v: 0 },
      limitExceeded: { v: 0 },
      backOffExponential: { v: 0 },
      backOffRateLimited: { v: 0 },
      abandoned: { v: 0 },
      perTryTimeout: { v: 0 },
      perTryIdleTimeout: { v: 0 },
    },
  }
  /** What the next picks answer instead of a host. */
  readonly pickFailures: Failure[] = []
  /** What the next attempts do at once, instead of being opened. */
  readonly openFailures: Failure[] = []

  constructor(hosts = 2) {
    this.hosts = Array.from({ length: hosts }, (_, i) => ({
      addressText: `10.0.0.${i + 1}:80`,
      hostname: '',
      rqSuccess: 0,
      rqError: 0,
      rqTimeout: 0,
    }))
  }

  get last(): FakeAttempt {
    const last = this.attempts.at(-1)
    if (last === undefined) throw new Error('no attempt was opened')
    return last
  }

  pick(context: PickContext): UpstreamHost | Failure {
    const failure = this.pickFailures.shift()
    if (failure !== undefined) return failure
    return this.hosts.find((host) => context.excluded?.includes(host) !== true) ?? this.hosts[0]
  }

  connect(): undefined {
    throw new Error('nobody asks for raw connections here')
  }

  open(host: UpstreamHost, attempt: Attempt, events: UpstreamEvents): UpstreamStream | undefined {
    const failure = this.openFailures.shift()
    if (failure !== undefined) {
      events.onReset(failure)
      return undefined
    }
    const stream = new FakeAttempt(host, attempt, events)
    this.attempts.push(stream)
    return stream
  }

  health(): { healthy: number; degraded: number; total: number } {
    return { healthy: this.hosts.length, degraded: 0, total: this.hosts.length }
  }

  completed(status: number, elapsedMs: number, _internal: boolean): void {
    this.done.push({ status, elapsedMs })
  }
}
