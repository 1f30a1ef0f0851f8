import { once } from 'node:events'
import { createServer, type Server, type Socket } from 'node:net'
import t from 'tap'
import type { ConnectionLogger, NetworkConnection, NetworkFilter } from '../../lib/chain/network.ts'
import { plainConnection } from '../../lib/core/connection.ts'
import { createPipe } from '../../lib/core/pipe.ts'
import { TimerWheel } from '../../lib/core/timer-wheel.ts'
import { ReadBuffer } from '../../lib/upstream/socket-reader.ts'
import type { CompiledChain } from '../../listeners/compile.ts'
import { AcceptedReads } from '../../listeners/detect/accepted-reads.ts'
import type { ServerConnection } from '../../listeners/http1/host.ts'
import { NetworkChainConnection } from '../../listeners/network/connection.ts'
import type { NetworkHost } from '../../listeners/network/host.ts'
import { settle, TestClock } from '../support/clock.ts'
import { type Wire, WireClient } from '../support/wire.ts'

/** One listener's worth of engine: what it was told, and the connections it has. */
class Rig implements NetworkHost {
  readonly clock = new TestClock()
  readonly wheel = new TimerWheel(this.clock)
  readonly errors: string[] = []
  readonly lines: string[] = []
  readonly closed: ServerConnection[] = []
  readonly handed: Socket[] = []
  readonly connections: NetworkChainConnection[] = []
  bufferLimitBytes = 64 * 1024
  reads: AcceptedReads | undefined = undefined
  expired = 0
  readonly #wires = new WireClient()
  #server: Server | undefined
  readonly #chain: CompiledChain

  constructor(filters: Record<string, NetworkFilter<never> | NetworkFilter>, http = false) {
    this.#chain = {
      config: { name: 'chain', networkFilters: [] },
      networkFilters: Object.entries(filters).map(([name, filter]) => ({ name, filter: filter as NetworkFilter })),
      // Only its presence counts here: who it is handed to is the listener's business.
      manager: http ? ({} as CompiledChain['manager']) : undefined,
    } as unknown as CompiledChain
  }

  readonly log = {
    debug() {},
    info() {},
    warn() {},
    error: (message: string, fields?: Record<string, unknown>): void => {
      this.errors.push(`${message}: ${fields?.filter}: ${String(fields?.error).split('\n')[0]}`)
    },
  }

  readonly logger: ConnectionLogger = {
    log: ({ facts, info }, type) => {
      const { bytesReceived, bytesSent, connectionTerminationDetails: why } = info
      this.lines.push(`${type} ${facts.listenerName} ${bytesReceived} ${bytesSent} ${why || '-'}`)
    },
  }

  handshakeExpired(): void {
    this.expired++
  }

  handOver(_connection: ServerConnection, socket: Socket): void {
    this.handed.push(socket)
  }

  connectionClosed(connection: ServerConnection): void {
    this.closed.push(connection)
  }

  take(socket: Socket): NetworkChainConnection {
    const info = plainConnection({
      id: this.connections.length + 1,
      remoteAddress: '127.0.0.1',
      remotePort: 1,
      localAddress: '127.0.0.1',
      localPort: 2,
      kind: 'ip',
      listenerName: 'edge',
    })
    const connection = new NetworkChainConnection(socket, info, this, this.#chain)
    this.connections.push(connection)
    return connection
  }

  /** A client, connected over real sockets. */
  async client(options: { halfOpen?: boolean } = {}): Promise<Wire> {
    if (this.#server === undefined) {
      this.#server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
        const connection = this.take(socket)
        // A reset that comes at once would meet a client that is still connecting.
        void settle().then(() => connection.ready(socket, undefined))
      })
      this.#server.listen(0, '127.0.0.1')
      await once(this.#server, 'listening')
    }
    const { port } = this.#server.address() as { port: number }
    return this.#wires.connect(port, { halfOpen: options.halfOpen ?? true })
  }

  /** Turns the loop until all connections are gone. */
  async gone(): Promise<void> {
    const endMs = performance.now() + 5_000
    while (this.closed.length < this.connections.length) {
      if (performance.now() > endMs) throw new Error(`${this.connections.length - this.closed.length} connections left`)
      await settle()
    }
  }

  async close(): Promise<void> {
    for (const connection of this.connections) connection.destroy()
    await this.#wires.closeAll()
    this.#server?.close()
    await settle()
    if (this.wheel.armed > 0) throw new Error(`${this.wheel.armed} timers are left`)
    this.wheel.close()
  }
}

const echo: NetworkFilter<never> = {
  onRead(connection, chunk, end) {
    if (chunk.length > 0 && !connection.write(chunk)) connection.pause()
    if (end) connection.end()
  },
  onDrain: (connection) => connection.resume(),
}

t.test('bytes pass the read hooks first to last and the write hooks last to first', async (t) => {
  const seen: string[] = []
  const spy = (name: string): NetworkFilter<never> => ({
    onConnect: () => void seen.push(`${name} connect`),
    onRead: (_, chunk, end) => void seen.push(`${name} read ${chunk}${end ? '.' : ''}`),
    onWrite: (_, chunk, end) => void seen.push(`${name} write ${chunk}${end ? '.' : ''}`),
    onClose: () => void seen.push(`${name} close`),
  })
  const rig = new Rig({ a: spy('a'), b: spy('b'), echo })
  const client = await rig.client()
  client.write('ping')
  t.equal((await client.readBytes(4)).toString(), 'ping')
  client.socket.end()
  t.equal(await client.expectEnd(), 'fin', 'a half-close is answered with one')
  await rig.gone()
  t.same(seen, [
    'a connect',
    'b connect',
    'a read ping',
    'b read ping',
    'b write ping',
    'a write ping',
    'a read .',
    'b read .',
    'b write .',
    'a write .',
    'a close',
    'b close',
  ])
  t.same(rig.lines, ['NotSet edge 4 4 -'])
  await rig.close()
})

t.test('a filter changes, swallows and delays what passes, in order', async (t) => {
  const gates: (() => void)[] = []
  const shout: NetworkFilter<never> = {
    onRead: (_, chunk) => (chunk.toString() === 'drop' ? null : Buffer.from(chunk.toString().toUpperCase())),
    onWrite: (_, chunk, end) =>
      end || !chunk.includes('LATER')
        ? undefined
        : new Promise((resolve) => gates.push(() => resolve(Buffer.from('-late-')))),
  }
  const rig = new Rig({ shout, echo })
  const client = await rig.client()
  client.write('one')
  t.equal((await client.readBytes(3)).toString(), 'ONE')
  client.write('drop')
  await settle()
  client.write('later')
  while (gates.length === 0) await settle()
  client.write('last')
  client.end()
  await settle()
  t.equal(client.stream.buffered, 0, 'what is written behind a pending hook waits')
  gates[0]()
  const { bytes, ending } = await client.readToEnd()
  t.equal(bytes.toString(), '-late-LAST')
  t.equal(ending, 'fin')
  await rig.close()
})

t.test('a promise of onConnect holds back everything, one of onRead what comes behind', async (t) => {
  const seen: string[] = []
  let letIn = (): void => {}
  let goOn = (): void => {}
  const gate: NetworkFilter<never> = {
    onConnect: () => new Promise<void>((resolve) => (letIn = resolve)),
    onRead(_, chunk, end) {
      seen.push(`gate ${chunk}${end ? '.' : ''}`)
      return end ? undefined : new Promise<void>((resolve) => (goOn = resolve))
    },
  }
  const sink: NetworkFilter<never> = {
    onConnect: () => void seen.push('sink connect'),
    onRead: (_, chunk, end) => void seen.push(`sink ${chunk}${end ? '.' : ''}`),
  }
  const rig = new Rig({ gate, sink })
  const client = await rig.client()
  client.write('abc')
  client.end()
  while (rig.connections.length === 0) await settle()
  await settle()
  t.same(seen, [])
  letIn()
  while (seen.length < 2) await settle()
  await settle()
  t.same(seen, ['sink connect', 'gate abc'], 'the FIN waits as well')
  goOn()
  while (seen.length < 5) await settle()
  t.same(seen.slice(2), ['sink abc', 'gate .', 'sink .'])
  await rig.close()
})

t.test('nothing is read while any filter has paused', async (t) => {
  const links: NetworkConnection[] = []
  let bytes = 0
  const holder: NetworkFilter<never> = { onConnect: (connection) => void links.push(connection) }
  const sink: NetworkFilter<never> = {
    onConnect: (connection) => void links.push(connection),
    onRead: (_, chunk) => void (bytes += chunk.length),
  }
  const rig = new Rig({ holder, sink })
  const client = await rig.client()
  while (links.length < 2) await settle()
  const [first, second] = links
  first.pause()
  first.pause()
  second.pause()
  client.write('x')
  await settle(10)
  t.equal(bytes, 0)
  first.resume()
  first.resume()
  await settle(10)
  t.equal(bytes, 0, 'a filter that resumes twice speaks for itself alone')
  second.resume()
  while (bytes === 0) await settle()
  t.equal(bytes, 1)
  await rig.close()
})

t.test('a writer is told to stop at the buffer limit and to go on when it has drained', async (t) => {
  let taken = 0
  let drains = 0
  const chunk = Buffer.alloc(64 * 1024, 'w')
  const total = 32 * 1024 * 1024
  let most = 0
  const pour = (connection: NetworkConnection, socket: Socket): void => {
    let more = true
    while (more && taken < total) {
      more = connection.write(chunk)
      taken += chunk.length
      most = Math.max(most, socket.writableLength)
    }
    if (taken >= total) connection.end()
  }
  let socket: Socket | undefined
  const source: NetworkFilter<never> = {
    onConnect: (connection) => pour(connection, socket as Socket),
    onDrain(connection) {
      drains++
      pour(connection, socket as Socket)
    },
  }
  const rig = new Rig({ source })
  rig.bufferLimitBytes = 256 * 1024
  const take = rig.take.bind(rig)
  rig.take = (accepted) => {
    socket = accepted
    return take(accepted)
  }
  const client = await rig.client()
  let received = 0
  while (received < total) received += (await client.stream.takeSome(1 << 20, 'the bytes'))?.length ?? 0
  t.equal(received, total)
  t.ok(drains > 0, 'it was told to stop')
  t.ok(most <= 256 * 1024 + chunk.length, `at most the limit and one chunk wait, had ${most}`)
  await rig.close()
})

t.test('closing sends what was written, then FIN, and does not wait for a client that stays', async (t) => {
  const farewell: NetworkFilter<never> = {
    onRead(connection, chunk) {
      connection.write(Buffer.from(`bye ${chunk}`))
      connection.close('said_enough', 'DT')
      connection.write(Buffer.from('never'))
    },
  }
  const rig = new Rig({ farewell })
  const client = await rig.client()
  client.write('a')
  t.equal((await client.readUntil('a')).toString(), 'bye a')
  t.equal(await client.expectEnd(), 'fin')
  client.write('ignored')
  await settle()
  t.equal(rig.closed.length, 0, 'the client may still send')
  rig.clock.advance(1_100)
  await rig.gone()
  t.same(rig.lines, ['NotSet edge 1 5 said_enough'])
  await rig.close()
})

t.test('a client that does not read what was written before the close is reset in bounded time', async (t) => {
  const flood: NetworkFilter<never> = {
    onConnect(connection) {
      for (let i = 0; i < 400; i++) connection.write(Buffer.alloc(64 * 1024))
      connection.close('')
    },
  }
  const rig = new Rig({ flood })
  const client = await rig.client()
  client.stream.hold()
  while (rig.connections.length === 0) await settle()
  for (let i = 0; i < 1000 && rig.closed.length === 0; i++) await rig.clock.advanceAsync(1_000)
  t.equal(rig.closed.length, 1)
  client.stream.release()
  t.equal(await client.stream.untilEnd(), 'reset')
  await rig.close()
})

t.test('a reset reaches the client as one, over a socket and in memory', async (t) => {
  const breaker: NetworkFilter<never> = { onRead: (connection) => connection.reset('broken') }
  const rig = new Rig({ breaker })
  const client = await rig.client()
  client.write('x')
  t.equal(await client.expectEnd(), 'reset')
  const address = { address: '127.0.0.1', port: 1 }
  const { near, far } = createPipe({ near: address, far: address })
  const pipe = near as unknown as Socket
  rig.take(far as unknown as Socket).ready(far as unknown as Socket, undefined)
  const failed = once(pipe, 'error')
  pipe.on('error', () => {})
  pipe.write('x')
  const [error] = (await failed) as [NodeJS.ErrnoException]
  t.equal(error.code, 'ECONNRESET')
  await rig.gone()
  t.same(rig.lines, ['NotSet edge 1 0 broken', 'NotSet edge 1 0 broken'])
  await rig.close()
})

t.test('a reset in the very moment of a half-close ends the connection', async (t) => {
  const rig = new Rig({
    both: {
      onRead(connection) {
        connection.write(Buffer.from('last'))
        connection.end()
        connection.reset('enough')
      },
    } satisfies NetworkFilter,
  })
  const client = await rig.client()
  client.write('x')
  await client.stream.untilEnd()
  await rig.gone()
  t.same(rig.lines, ['NotSet edge 1 4 enough'])
  await rig.close()
})

t.test('an echo over a stream in memory ends like one over a socket', async (t) => {
  const rig = new Rig({ echo })
  const address = { address: '127.0.0.1', port: 1 }
  const { near, far } = createPipe({ near: address, far: address })
  rig.take(far as unknown as Socket).ready(far as unknown as Socket, undefined)
  near.write('through memory')
  near.end()
  let text = ''
  near.on('data', (chunk: Buffer) => (text += chunk))
  await once(near, 'end')
  t.equal(text, 'through memory')
  await rig.gone()
  await rig.close()
})

t.test('what a hook throws resets its connection, is logged with the name, and touches nobody else', async (t) => {
  for (const hook of ['createState', 'onConnect', 'onRead', 'onWrite', 'rejection'] as const) {
    let closes = 0
    const fail = (): never => {
      throw new Error('boom')
    }
    const faulty: NetworkFilter<never> = {
      ...(hook === 'rejection' ? { onRead: () => Promise.reject(new Error('boom')) } : { [hook]: fail }),
      onClose: () => void closes++,
    }
    const rig = new Rig({ faulty, echo })
    const client = await rig.client()
    client.write('x')
    t.equal(await client.expectEnd(), 'reset', hook)
    await rig.gone()
    t.same(rig.errors, ['a network filter failed; its connection is reset: faulty: Error: boom'])
    t.equal(closes, hook === 'createState' ? 0 : 1, 'it hears of the end once')
    await rig.close()
  }
})

t.test('a filter whose state could not be made does not hear of the end', async (t) => {
  const seen: string[] = []
  const rig = new Rig({
    before: { onClose: () => void seen.push('before') },
    broken: {
      createState() {
        throw new Error('no state')
      },
      onClose: () => void seen.push('broken'),
    },
  })
  t.equal(await (await rig.client()).expectEnd(), 'reset')
  await rig.gone()
  t.same(seen, ['before'])
  t.equal(rig.errors.length, 1)
  await rig.close()
})

t.test('what a hook promised and breaks after the end harms nobody', async (t) => {
  const breaks: ((error: Error) => void)[] = []
  const promise = (): Promise<void> => new Promise((_, reject) => breaks.push(reject))
  for (const hook of ['onConnect', 'onRead'] as const) {
    const rig = new Rig({ [hook]: { [hook]: promise } as NetworkFilter, sink: { onRead() {} } })
    const client = await rig.client()
    client.write('x')
    while (breaks.length === 0) await settle()
    rig.connections[0].writeFrom(0, Buffer.from('bye'), false)
    rig.connections[0].close('done')
    breaks.pop()?.(new Error('too late'))
    const { bytes, ending } = await client.readToEnd()
    t.equal(bytes.toString(), 'bye')
    t.equal(ending, 'fin', 'not a reset')
    client.end()
    await rig.gone()
    t.same(rig.errors, [])
    await rig.close()
  }
})

t.test('a filter is not told of a drain after another has closed the connection', async (t) => {
  const told: string[] = []
  const filling = (name: string): NetworkFilter<never> => ({
    onRead(connection) {
      while (connection.write(Buffer.alloc(256 * 1024))) {}
    },
    onDrain(connection) {
      told.push(name)
      connection.close('drained')
    },
  })
  const rig = new Rig({ a: filling('a'), b: filling('b') })
  const client = await rig.client()
  client.stream.hold()
  client.write('x')
  await settle(20)
  client.stream.release()
  await client.stream.untilEnd()
  client.end()
  await rig.gone()
  t.same(told, ['a'])
  await rig.close()
})

t.test('a client that goes away while nothing is read yet is noticed; one that stays loses nothing', async (t) => {
  const seen: string[] = []
  let connection: NetworkConnection | undefined
  const rig = new Rig({
    waits: {
      onConnect(made) {
        connection = made
        made.pause()
      },
      onRead: (_, chunk, end) => void seen.push(`${chunk.length}${end ? '.' : ''}`),
    } satisfies NetworkFilter,
  })
  rig.reads = new AcceptedReads(new ReadBuffer())
  const connect = async (): Promise<Wire> => {
    connection = undefined
    const client = await rig.client()
    while (connection === undefined) await settle()
    return client
  }
  const resets = await connect()
  await resets.write('hello')
  await settle(10)
  resets.reset()
  await rig.gone()
  t.same(seen, [], 'nothing was read')

  const ends = await connect()
  await ends.write('hello')
  await settle(10)
  await ends.write(' again')
  ends.end()
  await settle(10)
  t.same(seen, [])
  ;(connection as unknown as NetworkConnection).resume()
  t.same(seen, [], 'and not from within')
  while (seen.length < 2) await settle()
  t.same(seen, ['11', '0.'])
  const made = connection as unknown as NetworkConnection
  made.end()
  await rig.gone()

  const much = await connect()
  const sent = much.write(Buffer.alloc(32 << 20))
  await settle(50)
  t.ok(much.socket.writableLength > 0, 'what is read ahead is bounded')
  seen.length = 0
  ;(connection as unknown as NetworkConnection).resume()
  await sent
  const size = (): number => seen.reduce((sum, length) => sum + Number.parseInt(length, 10), 0)
  while (size() < 32 << 20) await settle()
  await rig.close()
})

t.test('the listener drains: filters are told, connections stay until time is up', async (t) => {
  let told = 0
  const rig = new Rig({ watcher: { onDraining: () => void told++ }, echo })
  const client = await rig.client()
  client.write('a')
  await client.readBytes(1)
  rig.connections[0].drain()
  t.equal(told, 1)
  client.write('b')
  t.equal((await client.readBytes(1)).toString(), 'b', 'it goes on')
  rig.connections[0].closeIdle()
  t.equal(await client.expectEnd(), 'fin')
  client.end()
  await rig.gone()
  t.same(rig.lines, ['NotSet edge 2 2 drain_timeout'])
  await rig.close()
})

t.test('a handshake that takes longer than the chain permits ends', async (t) => {
  const rig = new Rig({ echo })
  const address = { address: '127.0.0.1', port: 1 }
  const { near, far } = createPipe({ near: address, far: address })
  near.on('error', () => {})
  const connection = rig.take(far as unknown as Socket)
  far.on('error', () => {})
  far.on('close', () => connection.failed())
  connection.handshake(3_000)
  t.ok(connection.securing && connection.idle)
  rig.clock.advance(2_900)
  t.equal(rig.expired, 0)
  rig.clock.advance(200)
  t.equal(rig.expired, 1)
  await rig.gone()
  t.same(rig.lines, ['NotSet edge 0 0 -'], 'it has its line too')
  await rig.close()
})

t.test('HTTP gets the socket itself where no filter looks at bytes, and the filters hear of its end', async (t) => {
  const seen: string[] = []
  const guard: NetworkFilter<never> = {
    onConnect: () => Promise.resolve(void seen.push('connect')),
    onClose: () => void seen.push('close'),
  }
  const rig = new Rig({ guard }, true)
  const client = await rig.client()
  client.write('GET')
  while (rig.handed.length === 0) await settle()
  const [socket] = rig.handed
  t.equal(socket.listenerCount('data'), 0, 'nothing of the engine is in the way of bytes')
  const [chunk] = (await once(socket, 'data')) as [Buffer]
  t.equal(chunk.toString(), 'GET')
  socket.end('ok')
  t.equal((await client.readToEnd()).bytes.toString(), 'ok')
  client.end()
  while (seen.length < 2) await settle()
  t.same(seen, ['connect', 'close'])
  t.equal(rig.closed.length, 0, 'whose end it is to report is HTTP')
  t.equal(rig.lines.length, 1)
  rig.connections.length = 0
  await rig.close()
})

t.test('HTTP behind filters that look at bytes reads and writes through them', async (t) => {
  const rot: NetworkFilter<never> = {
    onRead: (_, chunk) => Buffer.from(chunk.toString().toLowerCase()),
    onWrite: (_, chunk) => Buffer.from(chunk.toString().toUpperCase()),
  }
  const rig = new Rig({ rot }, true)
  const client = await rig.client()
  client.write('HELLO')
  while (rig.handed.length === 0) await settle()
  const [socket] = rig.handed
  const [chunk] = (await once(socket, 'data')) as [Buffer]
  t.equal(chunk.toString(), 'hello')
  socket.write('good')
  client.end()
  await once(socket, 'end')
  socket.end('bye')
  const { bytes, ending } = await client.readToEnd()
  t.equal(bytes.toString(), 'GOODBYE')
  t.equal(ending, 'fin')
  while (!socket.closed) await settle()

  const second = await rig.client()
  second.write('X')
  while (rig.handed.length < 2) await settle()
  const other = rig.handed[1]
  t.equal(((await once(other, 'data')) as [Buffer])[0].toString(), 'x')
  other.write('last words')
  other.destroySoon()
  t.equal((await second.readToEnd()).bytes.toString(), 'LAST WORDS', 'what was written goes out before the end')
  second.end()
  while (!other.closed) await settle()

  const third = await rig.client()
  while (rig.handed.length < 3) await settle()
  rig.handed[2].on('error', () => {})
  rig.handed[2].resetAndDestroy()
  t.equal(await third.expectEnd(), 'reset')
  rig.connections.length = 0
  await rig.close()
})

t.test('16 MiB through a stream of filters, against a slow reader, in bounded memory', async (t) => {
  const look: NetworkFilter<never> = { onRead() {}, onWrite() {} }
  const rig = new Rig({ look }, true)
  const client = await rig.client()
  while (rig.handed.length === 0) await settle()
  const [socket] = rig.handed
  socket.pipe(socket)
  const total = 16 * 1024 * 1024
  const sent = client.write(Buffer.alloc(total, 'b'))
  let received = 0
  let most = 0
  while (received < total) {
    received += (await client.stream.takeSome(1 << 18, 'the bytes'))?.length ?? 0
    most = Math.max(most, socket.writableLength)
  }
  await sent
  t.equal(received, total)
  t.ok(most <= 512 * 1024, `${most} bytes waited`)
  client.end()
  await client.stream.untilEnd()
  rig.connections.length = 0
  await rig.close()
})

t.test('sockets that read into shared memory: pauses hold, and what filters keep stays as it was', async (t) => {
  for (const spends of [false, true]) {
    const kept: Buffer[] = []
    let connection: NetworkConnection | undefined
    const keeper: NetworkFilter<never> = {
      onConnect(made) {
        connection = made
        made.pause()
      },
      onRead(made, chunk) {
        kept.push(spends ? Buffer.from(chunk) : chunk)
        if (spends) made.spent()
      },
    }
    const rig = new Rig({ keeper })
    rig.reads = new AcceptedReads(new ReadBuffer())
    const client = await rig.client()
    const bytes = Buffer.from(Array.from({ length: 1 << 20 }, (_, i) => (i * 7) >> 4))
    client.write('small ')
    const sent = client.write(bytes)
    while (connection === undefined) await settle()
    await settle(10)
    t.equal(kept.length, 0, 'nothing is read before the filter wants it')
    connection.resume()
    await sent
    client.end()
    const size = (): number => kept.reduce((total, chunk) => total + chunk.length, 0)
    while (size() < bytes.length + 6) await settle()
    t.ok(Buffer.concat(kept).equals(Buffer.concat([Buffer.from('small '), bytes])), spends ? 'used again' : 'kept')
    await rig.close()
  }
})
