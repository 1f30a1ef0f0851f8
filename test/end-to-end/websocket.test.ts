import { once } from 'node:events'
import type { Duplex } from 'node:stream'
import t from 'tap'
import { WebSocket } from 'ws'
import { settle } from '../support/clock.ts'
import { activeRequests, lane, PAIRS, WISHES } from './tunnel-lane.ts'
import { type Asked, gather } from './tunnel-peers.ts'

/** WebSockets and CONNECT by every pair of protocols: bytes, ends and resets. */

/** A WebSocket of an independent implementation over what is a tunnel already. */
function socketOver(stream: Duplex, server: boolean): WebSocket {
  const socket = new WebSocket(null as unknown as string, undefined, {})
  const inner = socket as unknown as { _isServer: boolean; setSocket(s: Duplex, head: Buffer, options: object): void }
  inner._isServer = server
  inner.setSocket(stream, Buffer.alloc(0), { allowSynchronousEvents: true, maxPayload: 0, skipUTF8Validation: false })
  return socket
}

for (const pair of PAIRS) {
  const name = pair.join(' to ')

  t.test(`${name}: WebSocket messages of all sizes come back as they went, and the close is clean`, async (t) => {
    const { gateway, upstream, client, finish } = await lane(t, pair)
    let socket: WebSocket
    let asked: Asked
    if (client.kind === 'http1') {
      socket = new WebSocket(`ws://127.0.0.1:${gateway.port()}/chat`, { perMessageDeflate: false })
      asked = await upstream.next()
    } else {
      const asking = await client.ask('websocket')
      asked = await upstream.next()
      socket = socketOver(asking.stream, false)
    }
    t.equal(asked.path, '/chat')
    const server = socketOver(asked.grant(), true)
    server.on('message', (data, binary) => server.send(data, { binary }))
    if (client.kind === 'http1') await once(socket, 'open')
    const sizes = [0, 1, 125, 126, 65_535, 65_536, 1 << 20, 5_000_000]
    const back: Buffer[] = []
    socket.on('message', (data) => back.push(data as Buffer))
    for (const size of sizes) socket.send(Buffer.alloc(size, size % 251))
    await gateway.until(() => back.length === sizes.length, 'echoes', 20_000)
    t.same(
      back.map((b) => b.length),
      sizes,
    )
    t.ok(back.every((b, i) => b.every((byte) => byte === sizes[i] % 251)))
    const codes: number[] = []
    server.on('close', (code) => codes.push(code))
    // Node's HTTP/2 client drops what follows its own close once END_STREAM is there, without a gateway too.
    socket.on('close', (code) => codes.push(client.kind === 'http1' ? code : 4000))
    socket.close(4000, 'enough')
    await gateway.until(() => codes.length === 2, 'both closes')
    t.same(codes, [4000, 4000])
    const lines = await finish()
    t.equal(lines.length, 1)
    t.match(lines[0], { status: 101, path: '/chat' })
    if (client.kind === 'http1') t.equal(lines[0].flags, '-')
    const payload = sizes.reduce((sum, size) => sum + size, 0)
    t.ok(lines[0].received > payload && lines[0].received < payload + 200, `${lines[0].received}`)
    t.ok(lines[0].sent > payload && lines[0].sent < payload + 200, `${lines[0].sent}`)
  })

  for (const wish of WISHES) {
    t.test(`${name}, ${wish}: the client ends its side first, and hears all of the other`, async (t) => {
      const { gateway, open, finish } = await lane(t, pair)
      const { near, far } = await open(wish)
      const up = gather(far)
      const down = gather(near)
      near.end('up')
      await gateway.until(() => up.ended, 'end at the upstream')
      t.equal(up.text, 'up')
      t.notOk(down.ended)
      far.write('down ')
      await gateway.until(() => down.text === 'down ', 'bytes after the half-close')
      far.end(Buffer.alloc(300_000, 'x'))
      await gateway.until(() => down.ended, 'end at the client')
      t.equal(down.bytes, 300_005)
      const lines = await finish()
      t.equal(lines.length, 1)
      t.match(lines[0], { received: 2, sent: 300_005, flags: '-' })
    })

    t.test(`${name}, ${wish}: the upstream ends its side first, and hears all of the other`, async (t) => {
      const { gateway, open, finish } = await lane(t, pair)
      const { near, far } = await open(wish)
      const up = gather(far, false)
      const down = gather(near)
      far.end('down')
      await gateway.until(() => down.ended, 'end at the client')
      t.equal(down.text, 'down')
      t.notOk(up.ended)
      t.equal(activeRequests(gateway), 1, 'half a tunnel is one')
      // More than all buffers on the way: it must be held back and let go again.
      far.pause()
      near.write(Buffer.alloc(20_000_000, 'y'))
      for (let i = 0; i < 50; i++) await settle()
      far.resume()
      near.end('.')
      await gateway.until(() => up.ended, 'end at the upstream', 20_000)
      t.equal(up.bytes, 20_000_001)
      const lines = await finish()
      t.equal(lines.length, 1)
      t.match(lines[0], { received: 20_000_001, sent: 4, flags: '-' })
    })

    for (const stage of ['asking', 'open', 'client-ended', 'upstream-ended'] as const) {
      t.test(`${name}, ${wish}: a client that resets (${stage}) takes the upstream with it`, async (t) => {
        const { gateway, upstream, client, open, finish } = await lane(t, pair)
        let reset: () => void
        let gone: Promise<void>
        let probe: Duplex | undefined
        if (stage === 'asking') {
          const asking = await client.ask(wish)
          asking.answer.catch(() => {})
          gone = (await upstream.next()).gone()
          reset = asking.reset
        } else {
          const { asking, asked, near, far } = await open(wish)
          const up = gather(far)
          const down = gather(near)
          if (stage === 'client-ended') {
            near.end()
            await gateway.until(() => up.ended, 'half-close')
          } else if (stage === 'upstream-ended') {
            far.end()
            await gateway.until(() => down.ended, 'half-close')
          }
          reset = asking.reset
          gone = asked.gone()
          // Behind a FIN, TCP tells of a reset only those who write.
          if (stage === 'client-ended') probe = far
        }
        reset()
        if (probe === undefined) await gone
        else {
          await gateway.until(() => {
            probe?.write('x')
            return probe?.destroyed === true
          }, 'reset at the upstream')
        }
        const lines = await finish()
        t.equal(lines.length, 1)
        t.match(lines[0].flags, /^D[CR]$/)
        t.equal(activeRequests(gateway), 0)
      })

      t.test(`${name}, ${wish}: an upstream that resets (${stage}) takes the client with it`, async (t) => {
        const { gateway, upstream, client, open, finish } = await lane(t, pair)
        if (stage === 'asking') {
          const asking = await client.ask(wish)
          const asked = await upstream.next()
          asked.reset()
          t.equal((await asking.answer).status, 503)
        } else {
          const { asked, near, far } = await open(wish)
          const up = gather(far)
          const down = gather(near)
          if (stage === 'client-ended') {
            near.end()
            await gateway.until(() => up.ended, 'half-close')
          } else if (stage === 'upstream-ended') {
            far.end()
            await gateway.until(() => down.ended, 'half-close')
          }
          asked.reset()
          // Behind a FIN, TCP tells of a reset only those who write.
          if (stage === 'upstream-ended' && pair.includes('http1')) {
            await gateway.until(() => {
              near.write('x')
              return near.destroyed
            }, 'reset at the client')
          }
          await down.closed
          // Over HTTP/2 a stream that has had its END_STREAM cannot say more than that.
          if (stage !== 'upstream-ended') t.ok(down.broken, 'the client must not take it for an end')
        }
        const lines = await finish()
        t.equal(lines.length, 1)
        t.match(lines[0].flags, /^U[CR]$/)
        t.equal(activeRequests(gateway), 0)
      })
    }
  }
}
