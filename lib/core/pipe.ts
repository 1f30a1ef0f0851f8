import { constants } from 'node:os'
import { type SocketAddress, StreamSocket } from './stream-socket.ts'

/** What `createPipe` is told. */
export interface PipeAddresses {
  /** Of the end that connects. */
  readonly near: SocketAddress
  /** Of the end that is connected to. */
  readonly far: SocketAddress
}

/** Both ends of a connection in memory. */
export interface Pipe {
  /** The end that connects: emits 'connect' in the next tick. */
  readonly near: PipeEnd
  readonly far: PipeEnd
}

/**
 * A connection in memory with the manners of TCP: bytes arrive in a later tick than they were written in, each direction
 * ends by itself, a writer waits while its reader does, and a reset reaches the peer as ECONNRESET. Buffers are lent on,
 * never copied. Both ends have the face of a `net.Socket`, as far as proxies need one.
 */
export function createPipe({ near, far }: PipeAddresses): Pipe {
  const connecting = new PipeEnd(near, far)
  const accepted = new PipeEnd(far, near)
  PipeEnd.join(connecting, accepted)
  process.nextTick(emitConnect, connecting)
  return { near: connecting, far: accepted }
}

type Done = (error?: Error | null) => void

/** One end of a pipe. Half-open by default, as the sockets of this gateway are. */
export class PipeEnd extends StreamSocket {
  bytesRead = 0
  #peer: PipeEnd | undefined = undefined
  #sent = 0
  /** On their way to this end: a write of the peer whose tick has not come. */
  #arriving: Buffer | undefined = undefined
  #more: { chunk: Buffer }[] | undefined = undefined
  /** The peer's write, until this end has room. */
  #written: Done | undefined = undefined
  /** The peer has ended its direction: behind what is arriving. */
  #ending: Done | undefined = undefined
  #scheduled = false
  /** One of several chunks is being read, and there are more. */
  #between = false
  /** The peer is destroyed. */
  #orphan = false
  #resetting = false
  #finished = false

  constructor(local: SocketAddress, remote: SocketAddress) {
    super(local, remote)
  }

  /** @internal */
  static join(a: PipeEnd, b: PipeEnd): void {
    a.#peer = b
    b.#peer = a
  }

  /** Bytes that have been handed to the peer. */
  get bytesWritten(): number {
    return this.#sent
  }

  // --- what streams ask -------------------------------------------------------------------------------------------

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: Done): void {
    const peer = this.#peer as PipeEnd
    if (this.#orphan) {
      done(systemError('EPIPE', 'write'))
      return
    }
    this.#sent += chunk.length
    peer.#arriving = chunk
    peer.#written = done
    peer.#schedule()
  }

  override _writev(chunks: { chunk: Buffer }[], done: Done): void {
    const peer = this.#peer as PipeEnd
    if (this.#orphan) {
      done(systemError('EPIPE', 'write'))
      return
    }
    for (let i = 0; i < chunks.length; i++) this.#sent += chunks[i].chunk.length
    peer.#more = chunks
    peer.#written = done
    peer.#schedule()
  }

  override _final(done: Done): void {
    const peer = this.#peer as PipeEnd
    if (this.#orphan) {
      done()
      return
    }
    peer.#ending = done
    peer.#schedule()
  }

  override _read(): void {
    // There is room; what is on its way comes in its own tick.
    if (!this.#scheduled && this.#written !== undefined) this.#acknowledge()
  }

  #schedule(): void {
    if (this.#scheduled) return
    this.#scheduled = true
    process.nextTick(deliver, this)
  }

  /** @internal */
  deliver(): void {
    this.#scheduled = false
    if (this.destroyed) return
    const chunk = this.#arriving
    const more = this.#more
    this.#arriving = undefined
    this.#more = undefined
    let room = true
    if (chunk !== undefined) room = this.#take(chunk)
    if (more !== undefined) {
      for (let i = 0; i < more.length && !this.destroyed; i++) {
        this.#between = i < more.length - 1
        room = this.#take(more[i].chunk)
      }
    }
    if (this.destroyed) return
    const ended = this.#ending
    if (ended !== undefined) {
      this.#ending = undefined
      this.#readEnds()
      ended()
    } else if (this.#orphan && this.#written === undefined) this.#readEnds()
    // A reader that was woken by the chunk may have asked for more within.
    else if (room && this.#written !== undefined && !this.#scheduled) this.#acknowledge()
  }

  #take(chunk: Buffer): boolean {
    this.bytesRead += chunk.length
    return this.push(chunk)
  }

  #acknowledge(): void {
    const done = this.#written
    this.#written = undefined
    if (this.#orphan) this.#readEnds()
    else done?.()
  }

  // --- endings ----------------------------------------------------------------------------------------------------

  /** Ends both directions at once; the peer hears of a reset, whatever it had not read is lost. */
  resetAndDestroy(): this {
    this.#resetting = true
    return this.destroy()
  }

  /**
   * As of a TCP socket: what was written and has left reaches the peer, with a FIN behind it; bytes that this end had not
   * read turn it into a reset. Every write is called back, whoever is destroyed.
   */
  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    const peer = this.#peer
    const unread = this.readableLength > 0 || this.#between || this.#arriving !== undefined || this.#more !== undefined
    const resets = this.#resetting || unread
    const ended = this.#ending
    this.#arriving = undefined
    this.#more = undefined
    this.#ending = undefined
    ended?.()
    if (peer !== undefined) {
      this.#cancelWrite(peer)
      if (!peer.destroyed) {
        peer.#orphan = true
        if (resets) process.nextTick(reset, peer)
        else if (!peer.#scheduled && peer.#written === undefined) peer.#schedule()
        // All of it was read. What is unread fails when the reset is there.
        if (!resets) this.#acknowledge()
      }
    }
    done(error)
  }

  /** What this end was writing: the bytes may still arrive, but nobody will say so. */
  #cancelWrite(peer: PipeEnd): void {
    const written = peer.#written
    if (written === undefined) return
    peer.#written = nobodyWaits
    written(systemError('ECANCELED', 'write'))
  }

  /** The peer's FIN, or its end. */
  #readEnds(): void {
    if (this.#finished) return
    this.#finished = true
    this.push(null)
  }
}

function nobodyWaits(): void {}

function systemError(code: 'ECONNRESET' | 'EPIPE' | 'ECANCELED', syscall: string): NodeJS.ErrnoException {
  return Object.assign(new Error(`${syscall} ${code}`), { code, errno: -constants.errno[code], syscall })
}

function emitConnect(end: PipeEnd): void {
  if (!end.destroyed) end.emit('connect')
}

function deliver(end: PipeEnd): void {
  end.deliver()
}

function reset(end: PipeEnd): void {
  end.destroy(systemError('ECONNRESET', 'read'))
}
