import type { Attempt, Cluster, UpstreamEvents, UpstreamInfo, UpstreamStream } from '../../lib/core/attempt.ts'
import type { Cancel, Clock } from '../../lib/core/clock.ts'
import type { Failure } from '../../lib/core/failure.ts'
import { Headers } from '../../lib/core/headers.ts'
import { ownAttempt } from '../../lib/core/own-request.ts'

/** One request whose body fits into memory, and its answer. */
export interface HttpCallOptions {
  readonly cluster: Cluster
  readonly clock: Clock
  readonly method: string
  readonly authority: string
  readonly path: string
  /** Flat; without framing. */
  readonly headers: readonly string[]
  readonly body: Buffer
  /** Until the whole answer must be there. */
  readonly timeoutMs: number
  /** Of the body of the answer. */
  readonly limitBytes: number
}

export type HttpAnswer =
  | { readonly ok: true; readonly status: number; readonly headers: Headers; readonly body: Buffer }
  | { readonly ok: false; readonly why: string }

/** Sends one request over a cluster of ours; `done` is called once, never within. Answers how to give up in silence. */
export function httpCall(options: HttpCallOptions, done: (answer: HttpAnswer) => void): Cancel {
  const call = new HttpCall(options, done)
  call.start()
  return () => call.cancel()
}

class HttpCall implements UpstreamEvents {
  readonly #options: HttpCallOptions
  readonly #done: (answer: HttpAnswer) => void
  readonly #chunks: Buffer[] = []
  #bytes = 0
  #status = 0
  #headers: Headers = new Headers([])
  #stream: UpstreamStream | undefined = undefined
  #timer: Cancel | undefined = undefined
  #over = false

  constructor(options: HttpCallOptions, done: (answer: HttpAnswer) => void) {
    this.#options = options
    this.#done = done
  }

  start(): void {
    const { cluster, clock, timeoutMs, body } = this.#options
    this.#timer = clock.schedule(timeoutMs, () => this.#fail('no answer in time'))
    const host = cluster.pick({})
    if ('code' in host) {
      this.#fail(host.reason)
      return
    }
    const stream = cluster.open(host, this.#attempt(), this)
    if (stream === undefined) return
    if (this.#over) {
      stream.cancel()
      return
    }
    this.#stream = stream
    stream.write(body, true)
  }

  #attempt(): Attempt {
    const { method, authority, path, headers, body } = this.#options
    const framed = [...headers, 'content-length', String(body.length)]
    return ownAttempt({ method, authority, path, headers: framed, end: false })
  }

  cancel(): void {
    if (this.#over) return
    this.#finish()
    this.#stream?.cancel()
  }

  onConnected(_info: UpstreamInfo): void {}

  onInformational(): void {}

  onUpgraded(): void {
    this.#fail('the server granted an upgrade that nobody asked for')
  }

  onHeaders(status: number, headers: Headers, end: boolean): void {
    this.#status = status
    this.#headers = headers
    if (end) this.#complete()
  }

  onData(chunk: Buffer, end: boolean): boolean {
    if (this.#over) return true
    this.#bytes += chunk.length
    if (this.#bytes > this.#options.limitBytes) {
      this.#fail(`the answer is larger than ${this.#options.limitBytes} bytes`)
      return true
    }
    this.#chunks.push(chunk)
    if (end) this.#complete()
    return true
  }

  onTrailers(): void {
    this.#complete()
  }

  onDrain(): void {}

  onReset(why: Failure, detail?: string): void {
    this.#stream = undefined
    this.#fail(detail === undefined ? why.reason : `${why.reason}: ${detail}`)
  }

  #complete(): void {
    if (this.#over) return
    this.#finish()
    this.#tell({ ok: true, status: this.#status, headers: this.#headers, body: Buffer.concat(this.#chunks) })
  }

  #fail(why: string): void {
    if (this.#over) return
    this.#finish()
    this.#stream?.cancel()
    this.#tell({ ok: false, why })
  }

  #finish(): void {
    this.#over = true
    this.#timer?.()
  }

  /** Never within the call that asked: nobody expects an answer there. */
  #tell(answer: HttpAnswer): void {
    queueMicrotask(() => this.#done(answer))
  }
}
