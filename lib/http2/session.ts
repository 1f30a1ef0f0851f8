import type { RequestHead } from '../core/head.ts'
import type { Headers } from '../core/headers.ts'
import { Http2Code, type SessionFace, type SessionOptions, type StreamFace, type StreamHandler } from './contract.ts'
import { FrameReader } from './frame-reader.ts'
import { kindOf, MAX_FRAME_BYTES, MAX_STREAM_ID, PING, PREFACE, putUint32, SETTINGS } from './frames.ts'
import { Inbound, PING_DATA } from './inbound.ts'
import { InboundHeaders } from './inbound-headers.ts'
import { SessionCore } from './session-core.ts'
import { ownSettings, SETTING_BYTES } from './settings.ts'

/**
 * One HTTP/2 connection (RFC 9113) in either role. It knows no socket: the owner feeds `receive` and takes what goes to
 * `transport`. Not re-entrant in `receive`; all other methods may be called from within any of its callbacks.
 */
export class Http2Session implements SessionFace {
  readonly #core: SessionCore
  readonly #reader: FrameReader
  readonly #headers: InboundHeaders
  readonly #inbound: Inbound
  readonly #ownSettings: readonly number[]
  #announced = false

  constructor(options: SessionOptions) {
    const core = new SessionCore(options)
    const headers = new InboundHeaders(core, options)
    this.#core = core
    this.#headers = headers
    this.#inbound = new Inbound(core, headers)
    const { maxFrameBytes = MAX_FRAME_BYTES } = options.config
    // A block of fields that is as long as permitted fits into one frame.
    const maxGatheredBytes = Math.max(MAX_FRAME_BYTES, options.maxHeaderListBytes)
    this.#reader = new FrameReader(this.#inbound, core.server, { maxFrameBytes, maxGatheredBytes })
    core.reader = this.#reader
    this.#ownSettings = ownSettings(core.server, options.config, options.maxHeaderListBytes)
  }

  start(): void {
    const core = this.#core
    if (!core.server) core.output.raw(PREFACE)
    const pairs = this.#ownSettings
    const payload = Buffer.allocUnsafe((pairs.length / 2) * SETTING_BYTES)
    for (let i = 0, at = 0; i < pairs.length; i += 2) {
      payload[at++] = pairs[i] >>> 8
      payload[at++] = pairs[i]
      at = putUint32(payload, at, pairs[i + 1])
    }
    core.output.control(kindOf(SETTINGS, 0), 0, payload, 0, payload.length)
    core.receiver.start()
  }

  receive(chunk: Buffer): number {
    const core = this.#core
    let bytes = chunk.length
    if (core.failed) return bytes
    try {
      bytes = this.#reader.read(chunk)
    } catch (error) {
      // A bug of a handler's or of ours: it must not take the other connections along.
      core.close(Http2Code.INTERNAL_ERROR, `http2.internal_error: ${error instanceof Error ? error.message : error}`)
    }
    core.checkOutbound()
    return bytes
  }

  workIn(bytes: Buffer, enough: number): number {
    return this.#reader.workIn(bytes, enough)
  }

  transportDrained(): void {
    if (!this.#core.failed) this.#core.output.transportDrained()
  }

  transportClosed(detail: string): void {
    this.#core.transportClosed(detail)
  }

  request(head: RequestHead, headers: Headers, end: boolean, handler: StreamHandler): StreamFace | undefined {
    const core = this.#core
    if (this.available <= 0) return undefined
    const id = core.nextId
    core.nextId += 2
    const stream = core.open(id, head.method)
    stream.handler = handler
    stream.answered = true
    stream.openedAt = core.output.handovers
    core.output.request(id, pseudoHeaders(head), headers, end)
    if (end) {
      stream.userEnded = true
      core.sendEnded(stream)
    }
    return stream
  }

  ping(): boolean {
    const { output, failed } = this.#core
    if (this.#inbound.pinging || failed) return false
    this.#inbound.pinging = true
    output.control(kindOf(PING, 0), 0, PING_DATA, 0, PING_DATA.length)
    return true
  }

  announceShutdown(): void {
    const core = this.#core
    if (this.#announced || core.failed) return
    this.#announced = true
    core.goaway(core.server ? MAX_STREAM_ID : 0, Http2Code.NO_ERROR)
  }

  shutdown(code: number = Http2Code.NO_ERROR): void {
    const core = this.#core
    if (core.failed || core.acceptedId !== MAX_STREAM_ID) return
    this.#announced = core.goingAway = true
    core.acceptedId = core.lastPeerId
    core.goaway(core.lastPeerId, code)
  }

  resetStalled(): number {
    return this.#core.resetStalled()
  }

  fail(code: number, detail: string): void {
    const unfinished = this.#reader.unfinishedBlock
    if (unfinished === 0 || this.#core.failed) this.#core.close(code, detail)
    else this.#headers.abandon(unfinished, code, detail)
  }

  flush(): void {
    const { output, sender, failed } = this.#core
    if (failed) return
    sender.emit()
    output.flush()
  }

  /** Shows every stream, and the bytes that wait in it here in both directions. */
  visitStreams(see: (stream: StreamFace, bytes: number) => void): void {
    for (const stream of this.#core.streams.values()) see(stream, stream.queuedBytes + (stream.held?.bytes ?? 0))
  }

  get openStreams(): number {
    return this.#core.streams.size
  }

  get available(): number {
    const core = this.#core
    if (core.server || core.goingAway || core.failed || core.nextId > MAX_STREAM_ID) return 0
    return Math.max(0, this.maxStreams - core.streams.size)
  }

  get maxStreams(): number {
    const { config, peer } = this.#core
    return Math.min(config.maxConcurrentStreams, peer.maxConcurrentStreams)
  }

  get ready(): boolean {
    return this.#reader.started
  }

  get settingsAcked(): boolean {
    return this.#core.settingsAcked
  }

  get connectProtocol(): boolean {
    return this.#core.peer.connectProtocol
  }

  get goingAway(): boolean {
    return this.#core.goingAway
  }

  get failed(): boolean {
    return this.#core.failed
  }

  get receivingHead(): number {
    return this.#reader.unfinishedBlock
  }

  get pendingBytes(): number {
    return this.#core.sender.pendingBytes
  }
}

/** RFC 9113 §8.3.1, §8.5; RFC 8441 §4. */
function pseudoHeaders(head: RequestHead): string[] {
  const { method, scheme, authority, path, protocol } = head
  if (method === 'CONNECT' && protocol === undefined) return [':method', method, ':authority', authority]
  const out = [':method', method, ':scheme', scheme, ':authority', authority, ':path', path]
  // A request without authority had no Host either.
  if (authority === '') out.splice(4, 2)
  if (protocol !== undefined) out.push(':protocol', protocol)
  return out
}
