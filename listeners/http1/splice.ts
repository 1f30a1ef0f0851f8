import type { Socket } from 'node:net'
import { resetSocket } from './reset.ts'

/** Bytes that came from either side before the join. */
export interface HeldBytes {
  readonly toUpstream: Buffer | undefined
  readonly toDownstream: Buffer | undefined
}

/** Whose tunnel it is. */
export interface SpliceOwner {
  /** So many bytes go to the client, or came from it. */
  tunnelBytes(sent: number, received: number): void
  /** Both directions are over; called once. */
  tunnelEnded(): void
}

/**
 * Joins two sockets: bytes pass both ways under back-pressure, each FIN is passed on (half-close, DESIGN §8). When both
 * directions are done both sockets are destroyed; where one side breaks before that, the other is reset.
 */
export function splice(downstream: Socket, upstream: Socket, held: HeldBytes, owner: SpliceOwner): void {
  let open = 2
  let finished = false
  const finish = (): void => {
    if (finished) return
    finished = true
    if (open > 0) {
      resetSocket(downstream)
      resetSocket(upstream)
    } else {
      downstream.destroy()
      upstream.destroy()
    }
    owner.tunnelEnded()
  }
  const ended = (error?: Error | null): void => {
    // An error is followed by the socket's close.
    if (error == null && --open === 0) finish()
  }
  if (downstream.destroyed || upstream.destroyed) {
    // It broke while response hooks were at work: its 'close' has been and will not come again.
    finish()
    return
  }
  const { toUpstream, toDownstream } = held
  if (toUpstream !== undefined && toUpstream.length > 0) {
    owner.tunnelBytes(0, toUpstream.length)
    upstream.write(toUpstream)
  }
  if (toDownstream !== undefined && toDownstream.length > 0) {
    owner.tunnelBytes(toDownstream.length, 0)
    downstream.write(toDownstream)
  }
  downstream.on('data', (chunk: Buffer) => owner.tunnelBytes(0, chunk.length))
  upstream.on('data', (chunk: Buffer) => owner.tunnelBytes(chunk.length, 0))
  forward(downstream, upstream, ended)
  forward(upstream, downstream, ended)
  downstream.once('close', finish)
  upstream.once('close', finish)
}

function forward(from: Socket, to: Socket, ended: (error?: Error | null) => void): void {
  from.on('data', (chunk: Buffer) => {
    if (!to.write(chunk)) from.pause()
  })
  to.on('drain', () => from.resume())
  from.on('error', () => {})
  const onEnd = (): void => void to.end(ended)
  if (from.readableEnded) onEnd()
  else from.on('end', onEnd)
  from.resume()
}
