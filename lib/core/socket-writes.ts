import { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { getSystemErrorName } from 'node:util'

/** What the runtime keeps in its sockets. `null`: there is no request object yet, make one where one is needed. */
interface Handle {
  writeLatin1String(request: null, text: string): number | Dispatched
  writeBuffer(request: null, bytes: Uint8Array): number | Dispatched
}

/** A write that the system has not taken whole; the runtime goes on with it by itself. */
interface Dispatched {
  handle: Handle
  oncomplete: (this: Dispatched, status: number) => void
  /** What is being written has to live until then. */
  buffer: unknown
  /** Of one that was over before `oncomplete` could be set. */
  writeStatus: number | null
}

type Inner = Socket & { _handle: Handle | null; _write: Writing }
type Writing = (chunk: unknown, encoding: string, done: (error?: Error | null) => void) => void

/**
 * Writes past the stream in front of a plaintext socket, as long as the system takes everything at once (about 5 % of a
 * small request). What it does not take is the stream's again: it knows of the bytes that wait, of their end and of their
 * failure, exactly as if they had been written through it. So nothing that is asked of the stream has another answer.
 *
 * The runtime has no public call for it: `_handle` is private, its form is tried once and a test watches over it. Where
 * it is another one, and for every other kind of stream, all goes the public way.
 */
export class SocketWrites {
  #known: boolean | undefined = undefined

  /** Whether `writeDirectly` is of use for this stream. Asked once per connection, of one that is connected. */
  suits(stream: Duplex): stream is Socket {
    // Exactly this class: those derived from it have handles of their own (TLS) or none.
    if (stream.constructor !== Socket || (stream as Inner)._handle === null) return false
    this.#known ??= asksForNoRequest()
    return this.#known
  }
}

/** `chunk` on a socket that `suits`; text is Latin-1. Answers what `socket.write` does. */
export function writeDirectly(socket: Socket, chunk: string | Buffer): boolean {
  const inner = socket as Inner
  const handle = inner._handle
  if (handle === null || inner.writableLength > 0 || inner.writableCorked > 0 || !inner.writable) {
    return throughStream(inner, chunk)
  }
  const outcome = typeof chunk === 'string' ? handle.writeLatin1String(null, chunk) : handle.writeBuffer(null, chunk)
  if (outcome === 0) return true
  // An error will meet the stream's own attempt as well.
  if (typeof outcome === 'number') return throughStream(inner, chunk)
  return waitFor(inner, chunk, handle, outcome)
}

function throughStream(socket: Socket, chunk: string | Buffer): boolean {
  return typeof chunk === 'string' ? socket.write(chunk, 'latin1') : socket.write(chunk)
}

/** The stream takes over: to it, this is a write that it has begun. */
function waitFor(socket: Inner, chunk: string | Buffer, handle: Handle, write: Dispatched): boolean {
  let done: (error?: Error | null) => void = nothing
  socket._write = (_chunk, _encoding, callback) => {
    done = callback
  }
  const more = throughStream(socket, chunk)
  // That of the prototype again.
  delete (socket as Partial<Inner>)._write
  write.handle = handle
  write.buffer = chunk
  write.oncomplete = (status) => {
    if (status === 0) done()
    else done(failure(status))
  }
  if (write.writeStatus !== null) write.oncomplete(write.writeStatus)
  return more
}

function nothing(): void {}

/** As the runtime would make it. */
function failure(status: number): NodeJS.ErrnoException {
  const code = getSystemErrorName(status)
  return Object.assign(new Error(`write ${code}`), { errno: status, code, syscall: 'write' })
}

/** Whether this runtime's streams ask their handles to write as `writeDirectly` does: tried on one that writes nowhere. */
function asksForNoRequest(): boolean {
  const probe = new Socket()
  let asked: unknown
  const handle = {
    bytesWritten: 0,
    writeLatin1String: (request: unknown): number => {
      asked = request
      return 0
    },
  }
  Object.assign(probe, { _handle: handle })
  probe.on('error', nothing)
  try {
    probe.write('x', 'latin1')
  } catch {
    return false
  } finally {
    Object.assign(probe, { _handle: null })
    probe.destroy()
  }
  return asked === null
}
