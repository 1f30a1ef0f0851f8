import { once } from 'node:events'
import { type AddressInfo, connect, createServer, Socket } from 'node:net'
import { PassThrough } from 'node:stream'
import t, { type Test } from 'tap'
import { SocketWrites, writeDirectly } from '../../lib/core/socket-writes.ts'
import { seeded } from '../support/random.ts'

/** Two ends of one connection; both are gone when the test is. */
async function pair(t: Test): Promise<[Socket, Socket]> {
  const server = createServer({ allowHalfOpen: true }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const near = connect({ port: (server.address() as AddressInfo).port, host: '127.0.0.1', allowHalfOpen: true })
  const [far] = (await once(server, 'connection')) as [Socket]
  if (near.connecting) await once(near, 'connect')
  t.teardown(() => {
    near.destroy()
    far.destroy()
    server.close()
  })
  return [near, far]
}

async function collect(socket: Socket): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of socket) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks)
}

t.test('this runtime lets plaintext sockets be written to past their streams, and no others', async (t) => {
  const writes = new SocketWrites()
  const [near] = await pair(t)
  t.ok(writes.suits(near))
  t.notOk(writes.suits(new PassThrough()))
  t.notOk(writes.suits(new Socket()), 'not connected')
})

t.test('what goes past the stream and what goes through it arrives in order, however slowly it is read', async (t) => {
  const random = seeded(7)
  const [near, far] = await pair(t)
  const sent: Buffer[] = []
  const received: Buffer[] = []
  far.on('data', (chunk: Buffer) => void received.push(chunk)).pause()
  let full = 0
  for (let i = 0; i < 400; i++) {
    const bytes = Buffer.alloc(random.pick([1, 200, 20_000, 90_000]), 1 + (i % 250))
    sent.push(bytes)
    const way = random.below(4)
    if (way === 3) near.write(bytes)
    else if (!writeDirectly(near, way === 0 ? bytes : bytes.latin1Slice())) full++
    if (random.below(5) === 0) far.resume()
    else if (random.below(3) === 0) far.pause()
    if (near.writableNeedDrain && random.below(40) === 0) {
      far.resume()
      await once(near, 'drain')
    }
  }
  t.ok(full > 10, 'the system was full at times')
  near.end()
  far.resume()
  await once(far, 'end')
  const got = Buffer.concat(received)
  t.ok(got.equals(Buffer.concat(sent)))
  t.equal(near.bytesWritten, got.length)
  t.equal(near.writableLength, 0)
})

t.test('a write that the system takes later counts as one of the stream: length, drain, finish', async (t) => {
  const [near, far] = await pair(t)
  far.pause()
  const bytes = Buffer.alloc(8 * 1024 * 1024, 1)
  t.equal(writeDirectly(near, bytes), false)
  t.equal(near.writableLength, bytes.length)
  t.ok(near.writableNeedDrain)
  t.equal(writeDirectly(near, 'after'), false)
  t.equal(near.writableLength, bytes.length + 5, 'the stream holds the next one')
  let drained = 0
  near.on('drain', () => drained++)
  const got = collect(far)
  await once(near, 'drain')
  t.equal(near.writableLength, 0)
  near.end()
  await once(near, 'finish')
  t.equal((await got).length, bytes.length + 5)
  t.equal(drained, 1)
})

t.test('a reset in the middle of a waiting write is an error of the stream, once', async (t) => {
  const [near, far] = await pair(t)
  far.pause()
  const errors: string[] = []
  near.on('error', (error: NodeJS.ErrnoException) => errors.push(error.code ?? ''))
  writeDirectly(near, Buffer.alloc(8 * 1024 * 1024, 1))
  far.resetAndDestroy()
  await new Promise((closed) => near.once('close', closed))
  t.equal(errors.length, 1)
  t.match(errors[0], /^E(CONNRESET|PIPE)$/)
})

t.test('a socket destroyed while a write waits says nothing more of it', async (t) => {
  const [near, far] = await pair(t)
  far.pause()
  near.on('error', (error) => t.fail(error.message))
  writeDirectly(near, Buffer.alloc(8 * 1024 * 1024, 1))
  near.destroy()
  await once(near, 'close')
  t.equal(writeDirectly(near, 'late'), false)
})

t.test('writing after the end is the error that the stream knows', async (t) => {
  const [near] = await pair(t)
  near.end()
  const failed = once(near, 'error')
  writeDirectly(near, 'late')
  const [error] = (await failed) as [NodeJS.ErrnoException]
  t.equal(error.code, 'ERR_STREAM_WRITE_AFTER_END')
})
