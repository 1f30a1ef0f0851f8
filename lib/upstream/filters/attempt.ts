import type { ChainPlan } from '../../chain/compile.ts'
import type { Downstream } from '../../chain/contract.ts'
import type { Exchange } from '../../chain/exchange.ts'
import type { TerminalStream } from '../../chain/filter.ts'
import type { Attempt, UpstreamEvents, UpstreamInfo, UpstreamStream } from '../../core/attempt.ts'
import type { Failure } from '../../core/failure.ts'
import { FAILURES } from '../../core/failure.ts'
import type { Headers } from '../../core/headers.ts'
import type { OpenAttempt } from './chain.ts'

/** One attempt on its way through the filters of a cluster: the router's side of it. */
export class FilteredAttempt implements UpstreamStream {
  readonly answers: Answers
  readonly #attempt: Attempt
  readonly #open: OpenAttempt
  #exchange!: Exchange
  #host: HostSide | undefined = undefined
  #held = false

  constructor(attempt: Attempt, events: UpstreamEvents, open: OpenAttempt) {
    this.#attempt = attempt
    this.#open = open
    this.answers = new Answers(this, events)
  }

  /** Once. Nothing is told before the attempt has been handed out. */
  run(exchange: Exchange, plan: ChainPlan): void {
    this.#exchange = exchange
    this.answers.hold()
    exchange.start(undefined, plan, this.#attempt.end)
    this.answers.release()
  }

  /** The request has passed all filters. */
  begin(end: boolean): TerminalStream | undefined {
    const { priority, upgrade, downstream, downstreamProtocol, forwardContinue } = this.#attempt
    const { head, request: headers } = this.#exchange
    const attempt = { head, headers, end, priority, upgrade, downstream, downstreamProtocol, forwardContinue }
    const host = new HostSide(this.#exchange, this.answers)
    this.#host = host
    host.stream = this.#open(attempt, host)
    if (host.stream === undefined) return undefined
    if (this.#held) host.stream.pause()
    return host
  }

  write(chunk: Buffer, end: boolean): boolean {
    this.#exchange.requestData(chunk, end)
    return !this.answers.requestPaused
  }

  settled(): boolean {
    return this.#exchange.requestSettled()
  }

  get pendingBytes(): number {
    return this.#exchange.bufferedBytes + (this.#host?.stream?.pendingBytes ?? 0)
  }

  trailers(trailers: Headers): void {
    this.#exchange.requestTrailers(trailers)
  }

  pause(): void {
    this.#held = true
    this.#host?.stream?.pause()
  }

  resume(): void {
    if (this.#held) {
      this.#held = false
      this.#host?.stream?.resume()
    }
    this.#exchange.downstreamDrained()
  }

  cancel(): void {
    this.answers.over = true
    this.#exchange.downstreamFailed(FAILURES.clientClosed)
  }
}

/** What the filters answer, on its way to the router. */
export class Answers implements Downstream {
  readonly attempt: FilteredAttempt
  readonly #events: UpstreamEvents
  requestPaused = false
  /** The router wants to hear nothing more, or has heard the end. */
  over = false
  /** What came while the attempt was being opened; undefined: it is told at once. */
  #waiting: (() => void)[] | undefined = undefined

  constructor(attempt: FilteredAttempt, events: UpstreamEvents) {
    this.attempt = attempt
    this.#events = events
  }

  hold(): void {
    this.#waiting = []
  }

  /** What has come is told once whoever opens has the stream. */
  release(): void {
    const waiting = this.#waiting as (() => void)[]
    if (waiting.length === 0) {
      this.#waiting = undefined
      return
    }
    queueMicrotask(() => {
      this.#waiting = undefined
      for (const tell of waiting) if (!this.over) tell()
    })
  }

  #late(tell: () => void): boolean {
    this.#waiting?.push(tell)
    return this.#waiting !== undefined
  }

  connected(info: UpstreamInfo): void {
    if (this.over || this.#late(() => this.connected(info))) return
    this.#events.onConnected(info)
  }

  writeInformational(status: number, headers: Headers): void {
    if (this.over || this.#late(() => this.writeInformational(status, headers))) return
    this.#events.onInformational(status, headers)
  }

  writeHeaders(status: number, headers: Headers, end: boolean): void {
    if (this.over || this.#late(() => this.writeHeaders(status, headers, end))) return
    if (end) this.over = true
    this.#events.onHeaders(status, headers, end)
  }

  write(chunk: Buffer, end: boolean): boolean {
    if (this.over || this.#late(() => void this.write(chunk, end))) return true
    if (end) this.over = true
    return this.#events.onData(chunk, end)
  }

  settled(): boolean {
    return this.#waiting === undefined && this.#events.dataSettled?.() === true
  }

  writeTrailers(trailers: Headers): void {
    if (this.over || this.#late(() => this.writeTrailers(trailers))) return
    this.over = true
    this.#events.onTrailers(trailers)
  }

  writeUpgrade(status: number, headers: Headers): void {
    if (this.over || this.#late(() => this.writeUpgrade(status, headers))) return
    this.#events.onUpgraded(status, headers)
  }

  reset(why: Failure): void {
    this.failed(why, undefined)
  }

  /** What became of the attempt, in the words of whoever made it. */
  failed(why: Failure, detail: string | undefined): void {
    if (this.over || this.#late(() => this.failed(why, detail))) return
    this.over = true
    this.#events.onReset(why, detail)
  }

  pauseRequest(): void {
    this.requestPaused = true
  }

  resumeRequest(): void {
    if (!this.requestPaused) return
    this.requestPaused = false
    if (!this.over) this.#events.onDrain()
  }

  closeAfterResponse(): void {}

  exchangeEnded(): void {}
}

/** The host's side: what leaves the filters, and what comes back. */
class HostSide implements TerminalStream, UpstreamEvents {
  stream: UpstreamStream | undefined = undefined
  readonly #exchange: Exchange
  readonly #answers: Answers

  constructor(exchange: Exchange, answers: Answers) {
    this.#exchange = exchange
    this.#answers = answers
  }

  write(chunk: Buffer, end: boolean): boolean {
    return this.stream?.write(chunk, end) ?? true
  }

  settled(): boolean {
    return this.stream?.settled?.() === true
  }

  trailers(trailers: Headers): void {
    this.stream?.trailers(trailers)
  }

  pause(): void {
    this.stream?.pause()
  }

  resume(): void {
    this.stream?.resume()
  }

  cancel(): void {
    this.stream?.cancel()
  }

  onConnected(info: UpstreamInfo): void {
    this.#exchange.info.connectedTo(info)
    this.#answers.connected(info)
  }

  onInformational(status: number, headers: Headers): void {
    this.#exchange.upstreamInformational(status, headers)
  }

  onHeaders(status: number, headers: Headers, end: boolean): void {
    this.#exchange.upstreamAnswers(status, headers)
    this.#exchange.upstreamHeaders(status, headers, end)
  }

  onData(chunk: Buffer, end: boolean): boolean {
    return this.#exchange.upstreamData(chunk, end)
  }

  dataSettled(): boolean {
    return this.#exchange.responseSettled()
  }

  onTrailers(trailers: Headers): void {
    this.#exchange.upstreamTrailers(trailers)
  }

  onUpgraded(status: number, headers: Headers): void {
    this.#exchange.upstreamUpgraded(status, headers)
  }

  onDrain(): void {
    this.#exchange.drained()
  }

  /** No answer of the filters' is made of it: the router decides whether to try again. */
  onReset(why: Failure, detail?: string): void {
    if (this.#exchange.ended) return
    this.#exchange.downstreamFailed(why)
    this.#answers.failed(why, detail)
  }
}
