import type { Socket } from 'node:net'

/**
 * Joins two sockets: bytes pass both ways under back-pressure, each FIN is passed on (half-close, DESIGN §8), and when
 * both directions are done, or either side breaks, both are destroyed and `done` is called once.
 *
 * `held` are bytes that came from either side before the join.
 */
export function splice(
  downstream: Socket,
  upstream: Socket,
  held: { toUpstream: Buffer | undefined; toDownstream: Buffer | undefined },
  done: () => void,
): void {
  let open = 2
  let finished = false
  const finish = (): void => {
    if (finished) return
    finished = true
    downstream.destroy()
    upstream.destroy()
    done()
  }
  const ended = (): void => {
    if (--open === 0) finish()
  }
  if (held.toUpstream !== undefined && held.toUpstream.length > 0) upstream.write(held.toUpstream)
  if (held.toDownstream !== undefined && held.toDownstream.length > 0) downstream.write(held.toDownstream)
  forward(downstream, upstream, ended)
  forward(upstream, downstream, ended)
  downstream.once('close', finish)
  upstream.once('close', finish)
}

function forward(from: Socket, to: Socket, ended: () => void): void {
  from.on('data', (chunk: Buffer) => {
    if (!to.write(chunk)) from.pause()
  })
  to.on('drain', () => from.resume())
  from.on('error', () => {})
  from.on('end', () => to.end(ended))
  from.resume()
}
