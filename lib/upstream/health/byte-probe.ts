import type { ByteEvents, ByteStream, UpstreamInfo } from '../../core/attempt.ts'
import { type CheckResult, PASSED, type Probe, type ProbeOwner, UNREACHABLE } from './probe.ts'
import type { CheckTarget } from './target.ts'

const ATTEMPT = Object.freeze({ priority: 'default', downstream: undefined })

/** What is asked of a host in bytes; one for each host. */
export interface ByteQuestion {
  /** Sent on a new connection, before anything else. */
  greeting(info: UpstreamInfo): Buffer | undefined
  /** Sent for each check. */
  readonly bytes: Buffer | undefined
  /** A connection is answer enough. */
  readonly connected: boolean
  /** Before each check. */
  reset(): void
  /** What the host has answered with this; undefined: it has not said all of it. */
  take(chunk: Buffer): CheckResult | undefined
}

/** Asks a question over a raw connection. */
export class ByteProbe implements Probe, ByteEvents {
  readonly #target: CheckTarget
  readonly #reuse: boolean
  readonly #question: ByteQuestion
  #owner: ProbeOwner | undefined = undefined
  #stream: ByteStream | undefined = undefined
  #connected = false
  /** Which connection reports: one that was given up may still do so. */
  #closed = false

  constructor(question: ByteQuestion, target: CheckTarget, reuse: boolean) {
    this.#question = question
    this.#target = target
    this.#reuse = reuse && !question.connected
  }

  start(owner: ProbeOwner): void {
    this.#owner = owner
    this.#question.reset()
    this.#target.refresh()
    if (this.#stream !== undefined && this.#connected) {
      this.#ask()
      return
    }
    this.#connected = false
    this.#closed = false
    const stream = this.#target.connect(this.#target.pick(), ATTEMPT, this)
    // It may have failed within.
    if (stream !== undefined && !this.#closed) this.#stream = stream
  }

  #ask(): void {
    const { bytes, connected } = this.#question
    if (bytes !== undefined) this.#stream?.write(bytes)
    if (connected) this.#answered(PASSED)
  }

  #answered(result: CheckResult): void {
    const owner = this.#owner
    this.#owner = undefined
    if (!this.#reuse || result === UNREACHABLE) this.#drop()
    owner?.checked(result)
  }

  #fail(): void {
    this.#answered(UNREACHABLE)
  }

  #drop(): void {
    const stream = this.#stream
    this.#stream = undefined
    this.#connected = false
    stream?.reset()
  }

  cancel(): void {
    this.#owner = undefined
    this.#drop()
  }

  close(): void {
    this.cancel()
    this.#target.close()
  }

  // --- the connection -------------------------------------------------------------------------------------------------

  onConnected(info: UpstreamInfo): void {
    this.#connected = true
    const greeting = this.#question.greeting(info)
    if (greeting !== undefined) this.#stream?.write(greeting)
    if (this.#owner !== undefined) this.#ask()
  }

  onData(chunk: Buffer): boolean {
    // Nobody has asked: a host that talks on its own is not checked over this connection again.
    if (this.#owner === undefined) {
      this.#drop()
      return true
    }
    const result = this.#question.take(chunk)
    if (result !== undefined) this.#answered(result)
    return true
  }

  onEnd(): void {
    if (this.#owner !== undefined) this.#fail()
    else this.#drop()
  }

  onDrain(): void {}

  onClosed(): void {
    this.#closed = true
    this.#stream = undefined
    this.#connected = false
    if (this.#owner !== undefined) this.#fail()
  }
}
