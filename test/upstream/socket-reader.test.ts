import { createHash } from 'node:crypto'
import { createServer, type Server, type Socket } from 'node:net'
import t from 'tap'
import { FAILURES } from '../../lib/core/failure.ts'
import { ReadBuffer, type ReadTarget } from '../../lib/upstream/socket-reader.ts'
import { settle } from '../support/clock.ts'
import { type Random, seeded } from '../support/random.ts'
import { socketPath } from '../support/socket-path.ts'
import { type Call, type Lab, lab, listen, until } from './http2-lab.ts'

/**
 * Plaintext HTTP/1 connections read into memory that they share. Every chunk that was ever delivered is kept to the end
 * of its test and compared then: whatever was read over meanwhile shows.
 */

const KIB = 1024
/** Around what is worth lending, and what one read may bring. */
const SIZES = [
  1,
  100,
  4 * KIB,
  16 * KIB - 1,
  16 * KIB,
  16 * KIB + 1,
  40_000,
  64 * KIB - 1,
  64 * KIB,
  64 * KIB + 1,
  300_000,
]

function hash(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex')
}

/** Bytes that say where they belong: any other's in their place show. */
function bodyOf(seed: number, size: number): Buffer {
  const bytes = Buffer.alloc(size)
  for (let i = 0; i < size; i++) bytes[i] = (Math.imul(i + 1, 0x9e3779b1) ^ Math.imul(seed, 0x85ebca6b)) >>> 13
  return bytes
}

function bodyAt(path: string): Buffer {
  const [seed, size] = path.slice(1).split('-').map(Number)
  return bodyOf(seed, size)
}

function sizeOf(random: Random): number {
  return Math.max(0, random.pick(SIZES) + random.below(3) - 1)
}

/** Writes `bytes` in pieces of random sizes, some of them in one packet, some after the loop has turned. */
async function dribble(socket: Socket, bytes: Buffer, random: Random): Promise<void> {
  const whole = random.below(3) === 0
  for (let at = 0; at < bytes.length && !socket.destroyed; ) {
    const size = whole
      ? bytes.length
      : Math.max(1, random.pick([1, 50, 5_000, 16_384, 65_536, 200_000]) + random.below(9) - 4)
    const more = socket.write(bytes.subarray(at, at + size))
    at += size
    if (!more) await new Promise<void>((resolve) => socket.once('drain', resolve).once('close', resolve))
    else if (random.below(3) === 0) await settle(random.below(3))
  }
}

/** A response to `path` (`/seed-size`) in one of the framings, chunked ones with chunks of any size. */
function responseTo(path: string, random: Random): Buffer {
  const body = bodyAt(path)
  const head = 'HTTP/1.1 200 OK\r\nx-pad: ' + 'p'.repeat(random.below(300)) + '\r\n'
  if (random.below(2) === 0) return Buffer.concat([Buffer.from(`${head}content-length: ${body.length}\r\n\r\n`), body])
  const parts: Buffer[] = [Buffer.from(`${head}transfer-encoding: chunked\r\n\r\n`)]
  for (let at = 0; at < body.length; ) {
    const piece = body.subarray(at, at + 1 + random.below(random.pick([10, 20_000, 70_000])))
    parts.push(Buffer.from(`${piece.length.toString(16)}\r\n`), piece, Buffer.from('\r\n'))
    at += piece.length
  }
  parts.push(Buffer.from(random.below(2) === 0 ? '0\r\n\r\n' : '0\r\nx-t: 1\r\n\r\n'))
  return Buffer.concat(parts)
}

/** An origin that answers `/seed-size` however the numbers fall. */
function origin(random: Random): Server {
  return createServer((socket) => {
    let text = ''
    socket.on('error', () => {})
    socket.on('data', (bytes: Buffer) => {
      text += bytes.latin1Slice()
      if (!text.endsWith('\r\n\r\n')) return
      const path = text.split(' ', 2)[1]
      text = ''
      void dribble(socket, responseTo(path, random), random)
    })
  })
}

const reading = (readBuffer = new ReadBuffer()) => ({ cluster: { protocol: 'http1' }, readBuffer }) as const

async function get(
  call: Lab['call'],
  path: string,
  between: (c: Call) => Promise<void> | void = () => {},
): Promise<Call> {
  const c = call({ path })
  while (!c.over) {
    await between(c)
    await settle(1)
  }
  return c
}

t.test('bodies stay what they were, however they come and however long they are kept', async (t) => {
  for (const seed of [1, 2, 3, 4]) {
    const random = seeded(seed)
    const port = await listen(t, origin(random))
    const { call, stat } = await lab(t, { port, ...reading() })
    const all: [string, Call][] = []
    const client = async (number: number): Promise<void> => {
      for (let i = 0; i < 20; i++) {
        const path = `/${number * 1000 + i}-${sizeOf(random)}`
        // Some readers pause after any chunk, so that the kernel fills up behind them.
        const slow = random.below(3) === 0
        const c = await get(call, path, async (c) => {
          c.flowing = !slow
          if (!slow) return
          await settle(random.below(4))
          c.stream?.resume()
        })
        all.push([path, c])
      }
    }
    await Promise.all(Array.from({ length: 8 }, (_, i) => client(i + 1)))
    for (const [path, c] of all) {
      t.equal(c.failures.length, 0, path)
      t.ok(hash(Buffer.concat(c.chunks)) === hash(bodyAt(path)), `seed ${seed} ${path}`)
    }
    t.ok(stat('upstream_cx_total') < all.length / 2, 'connections were used again')
  }
})

t.test('a tunnel carries bytes of any number while other connections read', async (t) => {
  const random = seeded(7)
  const port = await listen(t, origin(random))
  const bytes = bodyOf(99, 700_000)
  const tunnels = await listen(
    t,
    createServer((socket) => {
      socket.once('data', () => {
        socket.write('HTTP/1.1 101 Switching Protocols\r\nupgrade: echo\r\nconnection: upgrade\r\n\r\nearly')
        void dribble(socket, bytes, random).then(() => socket.end())
      })
    }),
  )
  const readBuffer = new ReadBuffer()
  const others = await lab(t, { port, ...reading(readBuffer) })
  const { call } = await lab(t, { port: tunnels, ...reading(readBuffer) })
  const all: Call[] = []
  const load = async (): Promise<void> => {
    for (let i = 0; i < 15; i++) all.push(await get(others.call, `/${i}-${sizeOf(random)}`))
  }
  const tunnel = async (): Promise<Call> => {
    const c = call({ upgrade: true, protocol: 'echo', path: '/' })
    await until(() => c.ended, 'the end of the tunnel')
    c.stream?.write(Buffer.alloc(0), true)
    return c
  }
  const [a, b] = await Promise.all([tunnel(), tunnel(), load(), load()])
  for (const c of [a, b]) {
    t.ok(c.upgraded)
    const received = Buffer.concat(c.chunks)
    t.equal(received.subarray(0, 5).toString(), 'early')
    t.ok(hash(received.subarray(5)) === hash(bytes))
  }
  t.equal(all.filter((c) => c.ended).length, 30)
})

t.test('events that trickle in stay what they were', async (t) => {
  const events = Array.from({ length: 200 }, (_, i) => `data: ${i} ${'e'.repeat((i * 37) % 500)}\n\n`)
  const port = await listen(
    t,
    createServer((socket) => {
      socket.on('data', async () => {
        socket.write('HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n')
        for (const event of events) {
          socket.write(`${event.length.toString(16)}\r\n${event}\r\n`)
          await settle(1)
        }
        socket.write('0\r\n\r\n')
      })
    }),
  )
  const { call } = await lab(t, { port, ...reading() })
  const calls = Array.from({ length: 10 }, () => call())
  await until(() => calls.every((c) => c.ended), 'streams')
  for (const c of calls) t.ok(c.text === events.join(''))
})

t.test('a connection that waits for an event holds no memory to read into', async (t) => {
  const sockets: Socket[] = []
  const port = await listen(
    t,
    createServer((socket) => {
      socket.on('data', () => {
        sockets.push(socket)
        socket.write('HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n')
      })
    }),
  )
  const { call } = await lab(t, { port, ...reading() })
  const before = process.memoryUsage().arrayBuffers
  const calls = Array.from({ length: 400 }, () => call())
  await until(() => calls.every((c) => c.text === 'hello'), 'first events')
  for (const socket of sockets) socket.write('5\r\nworld\r\n')
  await until(() => calls.every((c) => c.text === 'helloworld'), 'second events')
  const each = (process.memoryUsage().arrayBuffers - before) / calls.length
  t.ok(each < 16 * KIB, `${Math.round(each)} bytes each`)
})

t.test('what happens behind a pause is noticed when it ends', async (t) => {
  const body = bodyOf(1, 300_000)
  const endings: Record<string, (socket: Socket) => void> = {
    more: (socket) => socket.write(body.subarray(100_000)),
    FIN: (socket) => socket.end(),
    RST: (socket) => socket.resetAndDestroy(),
  }
  for (const name of Object.keys(endings)) {
    let origin: Socket | undefined
    let sent = 0
    const port = await listen(
      t,
      createServer((socket) => {
        origin = socket
        socket.on('data', () => {
          socket.write('HTTP/1.1 200 OK\r\ncontent-length: 300000\r\n\r\n')
          socket.write(body.subarray(0, 100_000), () => {
            sent = 100_000
          })
        })
      }),
    )
    const { call, stat } = await lab(t, { port, ...reading() })
    const c = call()
    c.flowing = false
    await until(() => c.chunks.length > 0 && sent > 0, 'a chunk')
    const chunks = c.chunks.length
    endings[name](origin as Socket)
    await settle(20)
    t.equal(c.chunks.length, chunks, `${name}: nothing while it is paused`)
    t.notOk(c.over, name)
    c.flowing = true
    c.stream?.resume()
    await until(() => c.over, `the end after ${name}`)
    const received = Buffer.concat(c.chunks)
    t.ok(body.subarray(0, received.length).equals(received), name)
    if (name === 'more') t.equal(received.length, body.length)
    else {
      t.equal(c.failure, FAILURES.upstreamBroken, name)
      await until(() => stat('upstream_cx_active') === 0, 'end of the connection')
    }
    t.equal(stat('upstream_rq_active'), 0)
  }
})

t.test('bytes behind a response end its connection and go to nobody', async (t) => {
  const port = await listen(
    t,
    createServer((socket) => {
      socket.on('data', () => {
        const response = 'HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello'
        socket.write(response + response.replace('hello', 'wrong'))
      })
    }),
  )
  const { call, stat } = await lab(t, { port, ...reading() })
  for (let i = 1; i <= 5; i++) {
    const c = await get(call, '/')
    t.equal(c.text, 'hello')
    t.equal(stat('upstream_cx_protocol_error'), i)
    await until(() => stat('upstream_cx_active') === 0, 'end of the connection')
  }
})

t.test('Unix sockets read alike, and idle ones notice their end', async (t) => {
  const path = socketPath(t, 'web')
  const random = seeded(5)
  const server = origin(random)
  const sockets: Socket[] = []
  server.on('connection', (socket) => sockets.push(socket))
  await new Promise<void>((resolve) => server.listen(path, resolve))
  t.teardown(() => server.close())
  const { call, stat } = await lab(t, { port: 0, path, ...reading() })
  const all: [string, Call][] = []
  const client = async (number: number): Promise<void> => {
    for (let i = 0; i < 20; i++) {
      const path = `/${number * 100 + i}-${sizeOf(random)}`
      all.push([path, await get(call, path)])
    }
  }
  await Promise.all([client(1), client(2), client(3)])
  for (const [path, c] of all) t.ok(hash(Buffer.concat(c.chunks)) === hash(bodyAt(path)), path)
  t.equal(stat('upstream_cx_total'), 3)
  for (const socket of sockets) socket.destroy()
  await until(() => stat('upstream_cx_active') === 0, 'end of the idle connections')
  t.equal(stat('upstream_cx_destroy_remote'), 3)
})

t.test('a tunnel that is broken off is reset upstream, an exchange is closed', async (t) => {
  const ends: string[] = []
  const port = await listen(
    t,
    createServer((socket) => {
      socket.on('data', (bytes: Buffer) => {
        const upgrade = bytes.includes('upgrade')
        const status = upgrade ? '101 Switching Protocols\r\nupgrade: echo\r\nconnection: upgrade' : '200 OK'
        socket.write(`HTTP/1.1 ${status}\r\n\r\nhello`)
      })
      socket.on('error', (error: NodeJS.ErrnoException) => ends.push(error.code ?? ''))
      socket.on('end', () => ends.push('FIN'))
    }),
  )
  for (const readBuffer of [undefined, new ReadBuffer()]) {
    const { call, stat } = await lab(t, { port, cluster: { protocol: 'http1' }, ...(readBuffer && { readBuffer }) })
    ends.length = 0
    const tunnel = call({ upgrade: true, protocol: 'echo' })
    await until(() => tunnel.text === 'hello', 'tunnel')
    tunnel.stream?.cancel()
    await until(() => ends.length === 1 && stat('upstream_cx_active') === 0, 'end of the tunnel')
    const exchange = call()
    await until(() => exchange.text === 'hello', 'response')
    exchange.stream?.cancel()
    await until(() => ends.length === 2 && stat('upstream_cx_active') === 0, 'end of the exchange')
    t.same(ends, ['ECONNRESET', 'FIN'])
    t.equal(stat('upstream_cx_destroy_local'), 2)
  }
})

t.test('memory that was lent with the end of a response is not read into by the next', async (t) => {
  const sizes: number[] = []
  let answers: readonly Buffer[] = []
  const port = await listen(
    t,
    createServer((socket) => {
      socket.on('data', async () => {
        for (const piece of answers) {
          socket.write(piece)
          await settle(4)
        }
      })
    }),
  )
  const { call, stat } = await lab(t, { port, ...reading() })
  const head = Buffer.from('HTTP/1.1 200 OK\r\ncontent-length: 120000\r\n\r\n')
  const all: [Buffer, Call][] = []
  for (let i = 1; i <= 10; i++) {
    const body = bodyOf(i, 120_000)
    // Alone the head, then reads of which the last is large.
    answers = [head, body.subarray(0, 60_000), body.subarray(60_000)]
    const c = await get(call, '/')
    for (const chunk of c.chunks) sizes.push(chunk.length)
    all.push([body, c])
  }
  for (const [body, c] of all) t.ok(hash(Buffer.concat(c.chunks)) === hash(body))
  t.ok(
    sizes.some((size) => size >= 16 * KIB),
    'reads were large',
  )
  t.equal(stat('upstream_cx_total'), 1)
})

t.test('no read brings more than may be held of what its socket brings', async (t) => {
  const target: ReadTarget = { received: () => {}, expectsBody: true, spent: true }
  /** What reads of a body bring that fill their memory, each of which comes back at once. */
  const largest = (limitBytes: number, records = false): number => {
    const reader = new ReadBuffer().reader(limitBytes, records)
    reader.target = target
    const { buffer, callback } = reader.onread as {
      buffer(): Buffer | undefined
      callback(n: number, b: Buffer): boolean
    }
    let memory = buffer() as Buffer
    let most = 0
    for (let i = 0; i < 10; i++) {
      callback(memory.length, memory)
      most = Math.max(most, memory.length)
      memory = buffer() ?? memory
    }
    return most
  }
  t.equal(largest(64 * KIB), 64 * KIB)
  t.equal(largest(256 * KIB - 1), 64 * KIB)
  t.equal(largest(256 * KIB), 256 * KIB)
  t.equal(largest(Number.POSITIVE_INFINITY, true), 64 * KIB, 'TLS: a record, and at first what comes')
})
