import type { ByteEvents, ByteStream } from '../../core/attempt.ts'
import type { TcpProbeConfig } from './config.ts'
import { PayloadMatcher } from './matcher.ts'
import { PASSED, type Probe, type ProbeOwner, UNREACHABLE } from './probe.ts'
import type { CheckTarget } from './target.ts'

/** Of what a host sends, and nothing of it is what is looked for. */
const MOST_BYTES = 64 * 1024

const ATTEMPT = Object.freeze({ priority: 'default', downstream: undefined })

/** A connection, or bytes there and bytes back (Envoy's `tcp_health_check`). */
export class TcpProbe implements Probe, ByteEvents {
  readonly #target: CheckTarget
  readonly #reuse: boolean
  readonly #send: Buffer | undefined
  readonly #matcher: PayloadMatcher
  #owner: ProbeOwner | undefined = undefined
  #stream: ByteStream | undefined = undefined
  #connected = false
  /** Which connection reports: one that was given up may still do so. */
  #closed = false

  constructor(config: TcpProbeConfig, target: CheckTarget, reuse: boolean) {
    this.#target = target
    this.#reuse = reuse && config.receive.length > 0
    this.#send = config.send === undefined ? undefined : Buffer.from(config.send, 'base64')
    this.#matcher = new PayloadMatcher(config.receive, MOST_BYTES)
  }

  start(owner: ProbeOwner): void {
    this.#owner = owner
    this.#matcher.reset()
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
    if (this.#send !== undefined) this.#stream?.write(this.#send)
    if (this.#matcher.empty) this.#pass()
  }

  #pass(): void {
    const owner = this.#owner
    this.#owner = undefined
    if (!this.#reuse) this.#drop()
    owner?.checked(PASSED)
  }

  #fail(): void {
    const owner = this.#owner
    this.#owner = undefined
    this.#drop()
    owner?.checked(UNREACHABLE)
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

  onConnected(): void {
    this.#connected = true
    if (this.#owner !== undefined) this.#ask()
  }

  onData(chunk: Buffer): boolean {
    // Nobody has asked: a host that talks on its own is not checked over this connection again.
    if (this.#owner === undefined) {
      this.#drop()
      return true
    }
    this.#matcher.add(chunk)
    if (this.#matcher.matches()) this.#pass()
    else if (this.#matcher.full) this.#fail()
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
