import type { UpstreamEvents, UpstreamStream } from '../../core/attempt.ts'
import type { Failure } from '../../core/failure.ts'
import type { Headers } from '../../core/headers.ts'
import { type SocketAddress, StreamSocket } from '../../core/stream-socket.ts'
import { PROXY_REFUSED } from '../opening.ts'

/** CONNECTs of one tunnel that nobody has looked at. */
const MAX_UNPROCESSED = 4

/** Sends one CONNECT; undefined where it failed at once (`onReset` has told why). */
export type OpenTunnel = (events: UpstreamEvents) => UpstreamStream | undefined

type Done = (error?: Error | null) => void

/**
 * The bytes of one CONNECT as a socket that connects: 'connect' when the proxy has granted it, an error where it has not.
 * What is written before waits; back-pressure, half-close and reset go through to the stream.
 */
export class TunnelSocket extends StreamSocket implements UpstreamEvents {
  bytesRead = 0
  bytesWritten = 0
  readonly #authority: string
  readonly #open: OpenTunnel
  #stream: UpstreamStream | undefined = undefined
  #attempts = 0
  #granted = false
  /** A write that waits for the stream, or for the grant. */
  #waiting: Done | undefined = undefined
  #early: Buffer | undefined = undefined
  #earlyEnd: Done | undefined = undefined
  #stopped = false
  #over = false

  constructor(authority: string, remote: SocketAddress, open: OpenTunnel) {
    super(NOWHERE, remote)
    this.#authority = authority
    this.#open = open
    this.#begin()
  }

  #begin(): void {
    this.#attempts++
    const stream = this.#open(this)
    if (stream !== undefined && !this.#over) this.#stream = stream
  }

  // --- what streams ask -------------------------------------------------------------------------------------------

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: Done): void {
    if (!this.#granted) {
      this.#early = chunk
      this.#waiting = done
      return
    }
    this.bytesWritten += chunk.length
    if (this.#stream?.write(chunk, false) !== false) done()
    else this.#waiting = done
  }

  override _final(done: Done): void {
    if (!this.#granted && !this.#over) {
      this.#earlyEnd = done
      return
    }
    this.#stream?.write(NO_BYTES, true)
    done()
  }

  override _read(): void {
    if (!this.#stopped) return
    this.#stopped = false
    this.#stream?.resume()
  }

  override resetAndDestroy(): this {
    return this.destroy()
  }

  override _destroy(error: Error | null, done: Done): void {
    const waiting = this.#waiting
    const ending = this.#earlyEnd
    this.#waiting = undefined
    this.#earlyEnd = undefined
    this.#finish()
    // Every write is called back, also those that nobody will take any more.
    const why = error ?? Object.assign(new Error('write ECANCELED'), { code: 'ECANCELED', syscall: 'write' })
    waiting?.(why)
    ending?.(why)
    done(error)
  }

  /** A stream that has ended both ways takes no harm from it; any other is reset. */
  #finish(): void {
    this.#over = true
    const stream = this.#stream
    this.#stream = undefined
    this.#early = undefined
    stream?.cancel()
  }

  // --- what the stream tells --------------------------------------------------------------------------------------

  onConnected(): void {}

  onInformational(): void {}

  /** Not granted: whatever else the answer brings is of no use. */
  onHeaders(status: number): void {
    this.#fail(`status ${status}`)
  }

  onTrailers(): void {
    this.#fail('it ended with trailers')
  }

  onUpgraded(_status: number, _headers: Headers): void {
    if (this.#over) return
    // The stream may be known to us only when this returns: the grant came from within `open`.
    process.nextTick(granted, this)
  }

  /** @internal */
  begin(): void {
    if (this.#over) return
    this.#granted = true
    const chunk = this.#early
    const end = this.#earlyEnd
    this.#early = undefined
    this.#earlyEnd = undefined
    if (chunk !== undefined) {
      const done = this.#waiting as Done
      this.#waiting = undefined
      this._write(chunk, 'buffer' as BufferEncoding, done)
    }
    if (end !== undefined) this._final(end)
    this.emit('connect')
  }

  onData(chunk: Buffer, end: boolean): boolean {
    if (this.#over) return true
    let more = true
    if (chunk.length > 0) {
      this.bytesRead += chunk.length
      more = this.push(chunk)
    }
    if (end) {
      this.push(null)
      return true
    }
    this.#stopped = !more
    return more
  }

  onDrain(): void {
    const done = this.#waiting
    if (!this.#granted || done === undefined) return
    this.#waiting = undefined
    done()
  }

  onReset(why: Failure, detail?: string): void {
    if (this.#over) return
    this.#stream = undefined
    if (this.#granted) {
      this.destroy(Object.assign(new Error('read ECONNRESET'), { code: 'ECONNRESET', errno: -104, syscall: 'read' }))
      return
    }
    // Nobody has looked at it: a connection that its peer was just closing. A connection that could not be made is another.
    if (why.retry === 'always' && !why.code.startsWith('connect') && this.#attempts < MAX_UNPROCESSED) {
      process.nextTick(again, this)
      return
    }
    this.#fail(detail === undefined ? why.reason : `${why.reason}, ${detail}`)
  }

  /** @internal */
  again(): void {
    if (!this.#over) this.#begin()
  }

  #fail(problem: string): void {
    if (this.#over) return
    this.destroy(Object.assign(new Error(`HBONE CONNECT to ${this.#authority}: ${problem}`), { code: PROXY_REFUSED }))
  }
}

function granted(socket: TunnelSocket): void {
  socket.begin()
}

function again(socket: TunnelSocket): void {
  socket.again()
}

const NO_BYTES: Buffer = Buffer.alloc(0)
const NOWHERE: SocketAddress = Object.freeze({ address: '', port: 0 })
