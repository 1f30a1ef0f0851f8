import { once } from 'node:events'
import { createServer, type ServerHttp2Stream } from 'node:http2'
import type { AddressInfo } from 'node:net'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { deflateSync, gzipSync } from 'node:zlib'
import {
  Metadata,
  type MethodDefinition,
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type ServerReadableStream,
  type ServerUnaryCall,
  type ServerWritableStream,
  type sendUnaryData,
  status,
} from '@grpc/grpc-js'
import t, { type Test } from 'tap'
import { systemClock } from '../../lib/core/clock.ts'
import { Headers } from '../../lib/core/headers.ts'
import { TimerWheel } from '../../lib/core/timer-wheel.ts'
import type { GrpcHandlers } from '../../lib/grpc/call-contract.ts'
import { GrpcClient } from '../../lib/grpc/client.ts'
import { openStream } from '../../lib/grpc/iterate.ts'
import { appendBinaryMetadata, binaryMetadata } from '../../lib/grpc/metadata.ts'
import type { GrpcMethod } from '../../lib/grpc/method.ts'
import { GrpcCode, type GrpcStatus } from '../../lib/grpc/status.ts'
import { ENVOY_HTTP2 } from '../../lib/http2/config.ts'
import { UpstreamCluster } from '../../lib/upstream/cluster.ts'
import { DnsResolvers } from '../../lib/upstream/discovery/dns/resolver.ts'
import { watchLeaks } from '../support/leaks.ts'
import { recordingLog } from './setup.ts'

/** Our client through a real cluster over HTTP/2 against the gRPC server that everybody has on Node. */

const MAX_MESSAGE_BYTES = 64 << 20
const THRESHOLDS = { maxConnections: 1024, maxPendingRequests: 1024, maxRequests: 1024, maxRetries: 3 }

const BYTES: GrpcMethod<Buffer, Buffer> = {
  path: '',
  encode: (message) => message,
  decode: (bytes) => Buffer.from(bytes),
}

function method(name: string): GrpcMethod<Buffer, Buffer> {
  return { ...BYTES, path: `/test.Peer/${name}` }
}

function definition(name: string, requestStream: boolean, responseStream: boolean): MethodDefinition<Buffer, Buffer> {
  const pass = (value: Buffer): Buffer => value
  return {
    path: `/test.Peer/${name}`,
    requestStream,
    responseStream,
    requestSerialize: pass,
    requestDeserialize: pass,
    responseSerialize: pass,
    responseDeserialize: pass,
  }
}

/** What the server saw and when calls ended for it. */
interface Seen {
  readonly metadata: Metadata[]
  cancelled: number
  messages: number
}

type Unary = (call: ServerUnaryCall<Buffer, Buffer>, done: sendUnaryData<Buffer>) => void
type Duplex = (call: ServerDuplexStream<Buffer, Buffer>) => void

function echoes(seen: Seen): {
  unary: Unary
  bidi: Duplex
  server: (call: ServerWritableStream<Buffer, Buffer>) => void
} {
  return {
    unary(call, done) {
      seen.metadata.push(call.metadata)
      const initial = new Metadata()
      initial.set('x-initial', 'i')
      initial.set('x-initial-bin', Buffer.from([0, 1, 255]))
      call.sendMetadata(initial)
      const trailers = new Metadata()
      trailers.set('x-trailing-bin', Buffer.from([9, 8]))
      done(null, call.request, trailers)
    },
    bidi(call) {
      call.on('cancelled', () => seen.cancelled++)
      call.on('data', (message: Buffer) => {
        seen.messages++
        if (!call.write(message)) {
          call.pause()
          call.once('drain', () => call.resume())
        }
      })
      call.on('end', () => call.end())
      call.on('error', () => undefined)
    },
    server(call) {
      const count = call.request.readUInt32BE(0)
      let sent = 0
      const more = (): void => {
        while (sent < count) {
          const message = Buffer.alloc(4)
          message.writeUInt32BE(sent++)
          if (!call.write(message)) {
            call.once('drain', more)
            return
          }
        }
        call.end()
      }
      more()
    },
  }
}

interface Peer {
  readonly client: GrpcClient
  readonly cluster: UpstreamCluster
  readonly seen: Seen
  readonly log: ReturnType<typeof recordingLog>
}

/** zlib's objects live until they are collected, so that tests which compress cannot watch for leaks. */
interface PeerOptions {
  readonly compresses?: boolean
}

async function startPeer(t: Test, { compresses = false }: PeerOptions = {}): Promise<Peer> {
  const leaks = compresses ? undefined : watchLeaks()
  const seen: Seen = { metadata: [], cancelled: 0, messages: 0 }
  const server = new Server({
    'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
    'grpc.max_send_message_length': MAX_MESSAGE_BYTES,
  })
  const { unary, bidi, server: serverStream } = echoes(seen)
  server.addService(
    {
      Echo: definition('Echo', false, false),
      Fail: definition('Fail', false, false),
      Hang: definition('Hang', false, false),
      Bidi: definition('Bidi', true, true),
      Count: definition('Count', false, true),
      Sum: definition('Sum', true, false),
    },
    {
      Echo: unary,
      Fail(_: ServerUnaryCall<Buffer, Buffer>, done: sendUnaryData<Buffer>) {
        const metadata = new Metadata()
        metadata.set('grpc-status-details-bin', Buffer.from([8, 5]))
        metadata.set('x-why', 'because')
        done({ code: status.NOT_FOUND, details: 'nicht da: ä €', metadata }, null)
      },
      Hang(call: ServerUnaryCall<Buffer, Buffer>) {
        seen.metadata.push(call.metadata)
        call.on('cancelled', () => seen.cancelled++)
      },
      Bidi: bidi,
      Count: serverStream,
      Sum(call: ServerReadableStream<Buffer, Buffer>, done: sendUnaryData<Buffer>) {
        let sum = 0
        call.on('data', (message: Buffer) => {
          sum += message.readUInt32BE(0)
        })
        call.on('end', () => {
          const message = Buffer.alloc(4)
          message.writeUInt32BE(sum)
          done(null, message)
        })
      },
    },
  )
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    )
  })
  const rest = await connectTo(port)
  t.teardown(async () => {
    rest.close()
    server.forceShutdown()
    await leaks?.assertNone()
  })
  return { ...rest, seen }
}

/** A client and all that it stands on. */
async function connectTo(port: number): Promise<Omit<Peer, 'seen'> & { close(): void }> {
  const wheel = new TimerWheel(systemClock)
  const log = recordingLog()
  const cluster = startCluster(port, wheel, log)
  await cluster.warm()
  const client = new GrpcClient({ cluster: () => cluster, authority: 'peer.test', wheel, log })
  return {
    client,
    cluster,
    log,
    close() {
      cluster.destroy()
      wheel.close()
    },
  }
}

function startCluster(port: number, wheel: TimerWheel, log: ReturnType<typeof recordingLog>): UpstreamCluster {
  const cells = new Map<string, { v: number }>()
  const cell = (name: string): { v: number } => {
    let made = cells.get(name)
    if (made === undefined) cells.set(name, (made = { v: 0 }))
    return made
  }
  let connections = 0
  return new UpstreamCluster(
    {
      name: 'peer',
      statName: 'peer',
      type: 'static',
      localities: [
        {
          priority: 0,
          endpoints: [{ address: { kind: 'ip', host: '127.0.0.1', port }, weight: 1, health: 'healthy' }],
        },
      ],
      balancer: { kind: 'round-robin' },
      connectTimeoutMs: 5_000,
      bufferLimitBytes: 1 << 20,
      thresholds: { default: THRESHOLDS, high: THRESHOLDS },
      idleTimeoutMs: 3_600_000,
      maxResponseHeaderBytes: 61_440,
      maxResponseHeaders: 100,
      protocol: 'http2',
      http1: { headerCase: 'lower', enableTrailers: false },
      http2: ENVOY_HTTP2,
      preconnectRatio: 1,
    },
    {
      metrics: { has: () => false, counter: cell, gauge: cell, histogram: () => ({ record: () => undefined }) },
      wheel,
      random: Math.random,
      log,
      dns: new DnsResolvers({ clock: systemClock }),
      nextConnectionId: () => ++connections,
    },
  )
}

const PATIENCE_MS = 10_000

async function until(done: () => boolean, what: string): Promise<void> {
  const deadline = systemClock.now() + PATIENCE_MS
  while (!done()) {
    if (systemClock.now() > deadline) throw new Error(`waited in vain for ${what}`)
    await nextTurn()
  }
}

function number(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}

/** Calls with callbacks: `play` gets each message; resolves with the status. */
function callback(
  peer: Pick<Peer, 'client'>,
  name: string,
  onMessage: (message: Buffer) => void,
): { call: ReturnType<GrpcClient['stream']>; ended: Promise<GrpcStatus>; drained(): Promise<void> } {
  const ended = Promise.withResolvers<GrpcStatus>()
  let drain: (() => void) | undefined
  const handlers: GrpcHandlers<Buffer> = {
    onMessage,
    onDrain: () => drain?.(),
    onEnd: (status) => {
      drain?.()
      ended.resolve(status)
    },
  }
  const call = peer.client.stream(method(name), handlers)
  return {
    call: call as ReturnType<GrpcClient['stream']>,
    ended: ended.promise,
    drained: () => new Promise((resolve) => (drain = resolve)),
  }
}

t.test('unary with metadata of both kinds, both ways, many at once over one connection', async (t) => {
  const peer = await startPeer(t)
  const metadata = new Headers(['x-text', 'hello'])
  appendBinaryMetadata(metadata, 'x-bytes-bin', Buffer.from([0, 1, 2, 255]))
  appendBinaryMetadata(metadata, 'x-bytes-bin', Buffer.from([3]))
  const result = await peer.client.unary(method('Echo'), Buffer.from('ping'), { metadata, timeoutMs: 10_000 })
  t.match(result, { ok: true, status: { code: 0 } })
  t.equal(String(result.message), 'ping')
  t.equal(result.metadata?.get('x-initial'), 'i')
  t.same(binaryMetadata(result.metadata!, 'x-initial-bin'), [Buffer.from([0, 1, 255])])
  t.same(binaryMetadata(result.status.trailers!, 'x-trailing-bin'), [Buffer.from([9, 8])])
  const [seen] = peer.seen.metadata
  t.same(seen.get('x-text'), ['hello'])
  t.same(seen.get('x-bytes-bin'), [Buffer.from([0, 1, 2, 255]), Buffer.from([3])])
  t.same(seen.get('user-agent'), ['grpc-node-headgate'])

  const many = await Promise.all(
    Array.from({ length: 500 }, (_, i) => peer.client.unary(method('Echo'), Buffer.from(`m${i}`))),
  )
  t.same(
    many.map(({ message }) => String(message)),
    many.map((_, i) => `m${i}`),
  )
  t.equal(peer.cluster.status().hosts[0].stats.cx_total, 1)
  t.equal(peer.cluster.status().hosts[0].stats.rq_success, 501)
  t.equal(String((await peer.client.unary(method('Echo'), Buffer.alloc(0))).message), '')
  t.same(peer.log.errors, [])
})

t.test('errors come with their code, message and details', async (t) => {
  const peer = await startPeer(t)
  const failed = await peer.client.unary(method('Fail'), Buffer.alloc(1))
  t.match(failed, { ok: false, status: { code: GrpcCode.NOT_FOUND, message: 'nicht da: ä €' } })
  t.equal(failed.status.details?.toString('hex'), '0805')
  t.equal(failed.status.trailers?.get('x-why'), 'because')
  t.match(await peer.client.unary(method('NoSuch'), Buffer.alloc(1)), { status: { code: GrpcCode.UNIMPLEMENTED } })
})

t.test('a thousand messages in each direction of one call, by callbacks', async (t) => {
  const peer = await startPeer(t)
  const got: Buffer[] = []
  const { call, ended, drained } = callback(peer, 'Bidi', (message) => got.push(message))
  for (let i = 0; i < 1_000; i++) {
    const message = Buffer.alloc(1 + ((i * 37) % 5_000), i & 255)
    if (!call.write(message, i === 999) && i < 999) await drained()
  }
  t.match(await ended, { code: 0 })
  t.equal(got.length, 1_000)
  for (const [i, message] of got.entries()) {
    if (!message.equals(Buffer.alloc(1 + ((i * 37) % 5_000), i & 255))) t.fail(`message ${i} is another`)
  }
})

t.test('client streaming and server streaming, a thousand messages each', async (t) => {
  const peer = await startPeer(t)
  const sums: Buffer[] = []
  const sum = callback(peer, 'Sum', (message) => sums.push(message))
  for (let i = 0; i < 1_000; i++) if (!sum.call.write(number(i))) await sum.drained()
  sum.call.end()
  t.match(await sum.ended, { code: 0 })
  t.same(sums, [number(499_500)])

  const stream = openStream(peer.client, method('Count'))
  void stream.send(number(1_000)).then(() => stream.end())
  let next = 0
  for await (const message of stream) t.equal(message.readUInt32BE(0), next++)
  t.equal(next, 1_000)
  t.match(await stream.status, { code: 0 })
})

t.test('who does not read holds back the peer, not the other calls', async (t) => {
  const peer = await startPeer(t)
  const got: number[] = []
  let peak = 0
  const slow = callback(peer, 'Count', (message) => {
    got.push(message.readUInt32BE(0))
    if (got.length % 1_000 === 0) slow.call.pause()
  })
  slow.call.write(number(20_000), true)
  for (let i = 0; i < 20; i++) {
    t.equal(String((await peer.client.unary(method('Echo'), Buffer.from('x'))).message), 'x')
    peak = Math.max(peak, got.length - i * 1_000)
    slow.call.resume()
  }
  t.match(await slow.ended, { code: 0 })
  t.equal(got.length, 20_000)
  t.ok(got.every((value, i) => value === i))
  t.ok(peak <= 1_000, `${peak} at most between two resumes`)
})

t.test('messages of 10 MiB both ways; a limit where one is set', async (t) => {
  const peer = await startPeer(t)
  const large = Buffer.alloc(10 << 20)
  for (let i = 0; i < large.length; i += 4) large.writeUInt32BE((i * 2_654_435_761) >>> 0, i)
  const result = await peer.client.unary(method('Echo'), large)
  t.ok(result.ok && result.message.equals(large))
  const limited = await peer.client.unary(method('Echo'), large, { maxReceiveBytes: (10 << 20) - 1 })
  t.match(limited, { ok: false, status: { code: GrpcCode.RESOURCE_EXHAUSTED } })
  t.ok((await peer.client.unary(method('Echo'), large, { maxReceiveBytes: 10 << 20 })).ok)
})

t.test('messages that we compress are understood', async (t) => {
  const peer = await startPeer(t, { compresses: true })
  const text = Buffer.alloc(300_000, 'compressible ')
  for (const encoding of ['gzip', 'deflate'] as const) {
    const result = await peer.client.unary(method('Echo'), text, { encoding })
    t.ok(result.ok && result.message.equals(text), encoding)
    const got: number[] = []
    const ended = Promise.withResolvers<GrpcStatus>()
    const call = peer.client.stream(
      method('Bidi'),
      { onMessage: (message) => got.push(message.length), onEnd: ended.resolve },
      { encoding },
    )
    for (let i = 0; i < 50; i++) call.write(text.subarray(0, i))
    call.end()
    t.match(await ended.promise, { code: 0 })
    t.same(
      got,
      Array.from({ length: 50 }, (_, i) => i),
    )
  }
})

t.test('a deadline is told to the peer and kept here', async (t) => {
  const peer = await startPeer(t)
  const result = await peer.client.unary(method('Hang'), Buffer.alloc(1), { timeoutMs: 100 })
  t.match(result, { ok: false, status: { code: GrpcCode.DEADLINE_EXCEEDED } })
  await until(() => peer.seen.cancelled === 1, 'the peer to see the end of the call')
})

t.test('cancelling reaches the peer, whichever way', async (t) => {
  const peer = await startPeer(t)
  const controller = new AbortController()
  const unary = peer.client.unary(method('Hang'), Buffer.alloc(1), { signal: controller.signal })
  await until(() => peer.seen.metadata.length === 1, 'the peer to see the call')
  controller.abort()
  t.match(await unary, { status: { code: GrpcCode.CANCELLED } })
  await until(() => peer.seen.cancelled === 1, 'the peer to see the abort')

  const stream = openStream(peer.client, method('Bidi'))
  await stream.send(Buffer.from('a'))
  for await (const message of stream) {
    t.equal(String(message), 'a')
    break
  }
  await until(() => peer.seen.cancelled === 2, 'the peer to see that the loop was left')
  t.match(await stream.status, { code: GrpcCode.CANCELLED })
  t.equal(String((await peer.client.unary(method('Echo'), Buffer.from('on'))).message), 'on', 'the connection lives')
  t.equal(peer.cluster.status().hosts[0].stats.cx_total, 1)
})

/** A peer by hand, for what the server above never does. */
async function startRawPeer(
  t: Test,
  play: (stream: ServerHttp2Stream, path: string) => void,
  { compresses = false }: PeerOptions = {},
): Promise<Omit<Peer, 'seen'>> {
  const leaks = compresses ? undefined : watchLeaks()
  const server = createServer()
  server.on('stream', (stream, headers) => {
    stream.on('error', () => undefined)
    play(stream as ServerHttp2Stream, String(headers[':path']))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const rest = await connectTo((server.address() as AddressInfo).port)
  t.teardown(async () => {
    rest.close()
    server.close()
    await leaks?.assertNone()
  })
  return rest
}

t.test('messages that the peer compresses are understood', async (t) => {
  const text = Buffer.alloc(100_000, 'compressible ')
  const answer = (stream: ServerHttp2Stream, path: string): void => {
    const encoding = path.slice(1)
    const payload = encoding === 'gzip' ? gzipSync(text) : deflateSync(text)
    stream.respond({ 'content-type': 'application/grpc', 'grpc-encoding': encoding }, { waitForTrailers: true })
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }))
    stream.end(Buffer.concat([Buffer.from([1]), number(payload.length), payload]))
  }
  const peer = await startRawPeer(t, answer, { compresses: true })
  for (const encoding of ['gzip', 'deflate']) {
    const result = await peer.client.unary({ ...BYTES, path: `/${encoding}` }, Buffer.alloc(1))
    t.ok(result.ok && result.message.equals(text), encoding)
  }
})

t.test('a peer that resets, or is no gRPC server, has a status', async (t) => {
  const peer = await startRawPeer(t, (stream, path) => {
    const [, kind, value] = path.split('/')
    if (kind === 'reset') stream.close(Number(value))
    else if (kind === 'only')
      stream.respond({ 'content-type': 'application/grpc', 'grpc-status': value }, { endStream: true })
    else {
      stream.respond({ ':status': Number(value), 'content-type': 'text/html' })
      stream.end('<html>no</html>')
    }
  })
  const rows: readonly (readonly [string, number])[] = [
    ['/reset/0', GrpcCode.INTERNAL],
    ['/reset/1', GrpcCode.INTERNAL],
    ['/reset/2', GrpcCode.INTERNAL],
    ['/reset/7', GrpcCode.UNAVAILABLE],
    ['/reset/8', GrpcCode.CANCELLED],
    ['/reset/11', GrpcCode.RESOURCE_EXHAUSTED],
    ['/reset/12', GrpcCode.PERMISSION_DENIED],
    ['/only/5', GrpcCode.NOT_FOUND],
    ['/only/0', GrpcCode.UNIMPLEMENTED],
    ['/page/404', GrpcCode.UNIMPLEMENTED],
    ['/page/503', GrpcCode.UNAVAILABLE],
    ['/page/200', GrpcCode.UNKNOWN],
  ]
  for (const [path, code] of rows) {
    const result = await peer.client.unary({ ...BYTES, path }, Buffer.alloc(1), { timeoutMs: 10_000 })
    t.equal(result.status.code, code, `${path}: ${result.status.message}`)
  }
  t.equal(peer.cluster.counters.retry.v, 1, 'REFUSED_STREAM is repeated once')
})

t.test('a peer that is not there is UNAVAILABLE, and waited for where that is asked', async (t) => {
  const server = createServer()
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  const peer = await connectTo(port)
  t.teardown(() => peer.close())
  t.match(await peer.client.unary(method('Echo'), Buffer.alloc(1)), { status: { code: GrpcCode.UNAVAILABLE } })
  const waiting = peer.client.unary(method('Echo'), Buffer.from('late'), { waitForReady: true, timeoutMs: 10_000 })
  const late = createServer()
  late.on('stream', (made) => {
    const stream = made as ServerHttp2Stream
    stream.respond({ 'content-type': 'application/grpc' }, { waitForTrailers: true })
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }))
    stream.end(Buffer.concat([Buffer.from([0]), number(2), Buffer.from('ok')]))
  })
  late.listen(port, '127.0.0.1')
  t.teardown(() => late.close())
  t.equal(String((await waiting).message), 'ok')
})
