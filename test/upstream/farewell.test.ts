import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import t, { type Test } from 'tap'
import { TimerWheel } from '../../lib/core/timer-wheel.ts'
import { closeBehind } from '../../lib/upstream/farewell.ts'
import { TestClock } from '../support/clock.ts'

/** A connection whose peer does not read until it is told to. */
async function stalled(t: Test): Promise<{ socket: Socket; peer: Socket }> {
  const server = createServer({ pauseOnConnect: true }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const accepted = once(server, 'connection') as Promise<[Socket]>
  const socket = connect((server.address() as AddressInfo).port, '127.0.0.1')
  await once(socket, 'connect')
  const [peer] = await accepted
  socket.on('error', () => {})
  peer.on('error', () => {})
  t.teardown(() => {
    socket.destroy()
    peer.destroy()
    server.close()
  })
  return { socket, peer }
}

const BODY = Buffer.alloc(16 << 20)

t.test('a peer that reads gets all that is left, and the timer is gone', async (t) => {
  const clock = new TestClock()
  const wheel = new TimerWheel(clock)
  const { socket, peer } = await stalled(t)
  socket.write(BODY)
  closeBehind(socket, wheel)
  t.equal(wheel.armed, 1)
  let bytes = 0
  peer.on('data', (chunk) => {
    bytes += chunk.length
  })
  peer.resume()
  await once(socket, 'close')
  if (!peer.readableEnded) await once(peer, 'end')
  t.equal(bytes, BODY.length)
  t.equal(wheel.armed, 0)
})

t.test('a peer that reads nothing is cut off', async (t) => {
  const clock = new TestClock()
  const wheel = new TimerWheel(clock)
  const { socket } = await stalled(t)
  socket.write(BODY)
  closeBehind(socket, wheel)
  const closed = once(socket, 'close')
  clock.advance(29_000)
  t.notOk(socket.destroyed)
  clock.advance(31_020)
  await closed
  t.ok(socket.destroyed)
  t.equal(wheel.armed, 0)
})
