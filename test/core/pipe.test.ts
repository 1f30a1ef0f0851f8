import { once } from 'node:events'
import type { Socket } from 'node:net'
import { connect, createServer, type TLSSocket } from 'node:tls'
import t from 'tap'
import { createPipe, type Pipe, type PipeEnd } from '../../lib/core/pipe.ts'
import { rawSocket, resetConnection } from '../../lib/tls/raw-socket.ts'
import { Authority } from '../support/certificates.ts'
import { settle } from '../support/clock.ts'
import { seeded } from '../support/random.ts'

const NEAR = { address: '10.0.0.1', port: 40_000 }
const FAR = { address: '10.0.0.2', port: 80 }

/** Both ends, with everything that they tell, in order. */
function watched(): Pipe & { readonly told: string[] } {
  const pipe = createPipe({ near: NEAR, far: FAR })
  const told: string[] = []
  for (const [name, end] of [
    ['near', pipe.near],
    ['far', pipe.far],
  ] as const) {
    end.on('connect', () => told.push(`${name} connect`))
    end.on('end', () => told.push(`${name} end`))
    end.on('finish', () => told.push(`${name} finish`))
    end.on('error', (error: NodeJS.ErrnoException) => told.push(`${name} ${error.code}`))
    end.on('close', () => told.push(`${name} close`))
  }
  return { ...pipe, told }
}

function bytesOf(end: PipeEnd): Buffer[] {
  const chunks: Buffer[] = []
  end.on('data', (chunk: Buffer) => chunks.push(chunk))
  return chunks
}

t.test('both ends have the face of a connected socket', async (t) => {
  const { near, far, told } = watched()
  t.same([near.remoteAddress, near.remotePort, near.localAddress, near.localPort], ['10.0.0.2', 80, '10.0.0.1', 40_000])
  t.same([far.remoteAddress, far.remotePort, far.localAddress, far.localPort], ['10.0.0.1', 40_000, '10.0.0.2', 80])
  t.same(far.address(), { address: '10.0.0.2', family: 'IPv4', port: 80 })
  t.equal(near.connecting, false)
  t.equal(near.setNoDelay().setKeepAlive().setTimeout().ref().unref(), near)
  t.same(told, [])
  await settle()
  t.same(told, ['near connect'], 'only the end that connects tells, in a later tick')
  near.destroy()
})

t.test('bytes arrive as they were written, lent and not copied, never within the write', async (t) => {
  const { near, far } = watched()
  const got = bytesOf(far)
  const chunk = Buffer.from('hello')
  t.equal(near.write(chunk), true)
  t.same(got, [], 'nothing has arrived within the write')
  await settle()
  t.equal(got[0], chunk, 'the very buffer')
  near.cork()
  near.write('a')
  near.write('b', 'latin1')
  near.uncork()
  await settle()
  t.equal(Buffer.concat(got).toString(), 'helloab')
  t.same([near.bytesWritten, far.bytesRead, far.bytesWritten, near.bytesRead], [7, 7, 0, 0])
  near.destroy()
})

t.test('each direction ends by itself, and with both the connection closes', async (t) => {
  const { near, far, told } = watched()
  const atFar = bytesOf(far)
  const atNear = bytesOf(near)
  await settle()
  near.end('question')
  await settle()
  t.same(told.slice(1).sort(), ['far end', 'near finish'])
  t.equal(far.destroyed, false)
  far.write('answer')
  await settle()
  far.end(' and more')
  await settle()
  t.equal(Buffer.concat(atFar).toString(), 'question')
  t.equal(Buffer.concat(atNear).toString(), 'answer and more')
  t.same(told.slice(3).sort(), ['far close', 'far finish', 'near close', 'near end'])
})

t.test('an end that may not be half-open answers a FIN by its own', async (t) => {
  const { near, far, told } = watched()
  bytesOf(near)
  bytesOf(far)
  far.allowHalfOpen = false
  near.end()
  await settle()
  t.same(told.filter((line) => line.endsWith('close')).sort(), ['far close', 'near close'])
})

t.test('a writer waits while its reader does, and goes on where it stopped', async (t) => {
  const { near, far } = watched()
  const chunk = Buffer.alloc(16 * 1024, 1)
  far.pause()
  for (let turn = 0; turn < 2; turn++) {
    for (let i = 0; i < 100 && near.write(chunk); i++);
    await settle()
  }
  t.ok(near.writableNeedDrain, 'no end of it')
  t.ok(near.writableLength + far.readableLength <= 4 * 64 * 1024, 'what is held is bounded')
  let drained = 0
  near.on('drain', () => drained++)
  let got = 0
  far.on('data', (bytes: Buffer) => {
    got += bytes.length
  })
  far.resume()
  await settle()
  t.equal(drained, 1)
  t.equal(got, near.bytesWritten)
  t.equal(near.writableLength, 0)
  near.destroy()
})

t.test('a reset reaches the peer as an error, behind what was on its way', async (t) => {
  const { near, far, told } = watched()
  const got = bytesOf(far)
  await settle()
  near.write('before it')
  near.resetAndDestroy()
  await settle()
  t.equal(Buffer.concat(got).toString(), 'before it')
  t.same(told.slice(1).sort(), ['far ECONNRESET', 'far close', 'near close'])
  t.equal(far.resetAndDestroy(), far, 'again it does nothing')
})

t.test('an end that is destroyed sends what has left it and a FIN; later writes to it fail', async (t) => {
  const { near, far, told } = watched()
  const got = bytesOf(far)
  await settle()
  near.write('last words')
  near.destroy()
  await settle()
  t.equal(Buffer.concat(got).toString(), 'last words')
  t.same(told.slice(1), ['near close', 'far end'])
  far.write('too late')
  await settle()
  t.same(told.slice(3), ['far EPIPE', 'far close'])
})

t.test('an end that is destroyed before it has read what came resets, as TCP does', async (t) => {
  for (const arrived of [true, false]) {
    const { near, far, told } = watched()
    await settle()
    far.pause()
    near.write('unread')
    if (arrived) await settle()
    far.destroy()
    await settle()
    t.same(told.slice(1).sort(), ['far close', 'near ECONNRESET', 'near close'], arrived ? 'buffered' : 'on its way')
  }
})

t.test('destroySoon sends everything first', async (t) => {
  const { near, far, told } = watched()
  const got = bytesOf(far)
  await settle()
  for (let i = 0; i < 10; i++) near.write(Buffer.alloc(30_000, i))
  near.destroySoon()
  await settle()
  t.equal(Buffer.concat(got).length, 300_000)
  t.ok(near.destroyed)
  t.same(told.slice(1).sort(), ['far end', 'near close', 'near finish'])
  far.destroy()
})

t.test('what was put back comes again, before what follows', async (t) => {
  const { near, far } = watched()
  near.write('peeked')
  const [first] = (await once(far, 'data')) as [Buffer]
  far.pause()
  far.removeAllListeners('data')
  far.unshift(first)
  near.write(' and the rest')
  await settle()
  const got = bytesOf(far)
  far.resume()
  await settle()
  t.equal(Buffer.concat(got).toString(), 'peeked and the rest')
  near.destroy()
})

t.test('random writes, pauses and ends: every byte once and in order', async (t) => {
  for (let seed = 1; seed <= 60; seed++) {
    const random = seeded(seed)
    const { near, far } = watched()
    const sent: Buffer[] = []
    const got = bytesOf(far)
    far.on('data', () => {
      if (random.below(3) > 0) return
      far.pause()
      const wake = (): void => void far.resume()
      if (random.below(2) === 0) setImmediate(wake)
      else process.nextTick(wake)
    })
    for (let i = 0; i < 30; i++) {
      const chunk = Buffer.alloc(random.pick([0, 1, 100, 16_384, 65_536, 100_000]), i)
      sent.push(chunk)
      if (random.below(4) === 0) near.cork()
      const more = near.write(chunk)
      if (random.below(3) === 0) near.uncork()
      if (!more && random.below(2) === 0) {
        while (near.writableCorked > 0) near.uncork()
        await once(near, 'drain')
      }
    }
    near.end()
    await once(far, 'end')
    const whole = Buffer.concat(sent)
    if (!Buffer.concat(got).equals(whole)) t.fail(`seed ${seed}`)
    if (near.bytesWritten !== whole.length || far.bytesRead !== whole.length) t.fail(`seed ${seed}: counts`)
    far.destroy()
  }
  t.pass('60 seeds')
})

t.test('TLS goes through, its raw stream is found and can be reset', async (t) => {
  const authority = await Authority.create()
  const { key, chain: cert } = await authority.issue({ dns: ['inner.test'] })
  const { near, far } = watched()
  const server = createServer({ key, cert, ALPNProtocols: ['h2'] })
  const secured = once(server, 'secureConnection')
  server.emit('connection', far)
  const socket = near as unknown as Socket
  const client = connect({ socket, ca: authority.pem, servername: 'inner.test', ALPNProtocols: ['h2'] })
  await once(client, 'secureConnect')
  t.equal(client.alpnProtocol, 'h2')
  const [accepted] = (await secured) as [TLSSocket]
  t.equal(rawSocket(accepted), far)
  t.equal(rawSocket(client), near)
  const got: Buffer[] = []
  accepted.on('data', (chunk: Buffer) => got.push(chunk))
  client.write(Buffer.alloc(200_000, 7))
  while (Buffer.concat(got).length < 200_000) await settle()
  const failed = once(near, 'error')
  client.on('error', () => {})
  accepted.on('error', () => {})
  resetConnection(accepted)
  const [error] = (await failed) as [NodeJS.ErrnoException]
  t.equal(error.code, 'ECONNRESET')
  await settle()
  t.ok(client.destroyed)
  t.ok(accepted.destroyed)
})
