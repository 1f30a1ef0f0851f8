import { getEventListeners } from 'node:events'
import { gunzipSync, gzipSync, inflateSync } from 'node:zlib'
import t, { type Test } from 'tap'
import { FAILURES } from '../../lib/core/failure.ts'
import { Headers } from '../../lib/core/headers.ts'
import { GrpcClient } from '../../lib/grpc/client.ts'
import { openStream } from '../../lib/grpc/iterate.ts'
import { GrpcCode } from '../../lib/grpc/status.ts'
import { settle } from '../support/clock.ts'
import { everyFeed } from '../support/splits.ts'
import { type Bench, bench, ECHO, frame, startStream } from './setup.ts'

/** Compression runs on other threads: turns the loop until it is done. */
async function until(t: Test, what: string, done: () => boolean): Promise<void> {
  for (let i = 0; i < 10_000 && !done(); i++) await settle(1)
  t.ok(done(), what)
}

/** Rows below in which the peer ends its response by itself. */
const WHOLE = /^(?:trailers only|no gRPC|OK|an error|trailers without|no trailers|the status|half)/

/** Nothing is armed, and nothing is left of the call. */
function quiet(t: Test, b: Bench): void {
  t.equal(b.wheel.armed, 0, 'no deadline is left')
  t.same(b.log.errors, [])
}

t.test('unary: one message there, one back, with metadata both ways', async (t) => {
  const b = bench({ initialMetadata: new Headers(['x-client', 'c']), timeoutMs: 2_000 })
  const answer = b.client.unary(ECHO, 'ping', { metadata: new Headers(['x-call', '1']), authority: 'other' })
  const { last } = b.cluster
  t.same(last.attempt.head, {
    method: 'POST',
    scheme: '',
    authority: 'other',
    path: ECHO.path,
    protocol: undefined,
  })
  t.same(last.attempt.headers.raw, [
    ...['grpc-timeout', '2000m', 'te', 'trailers', 'content-type', 'application/grpc'],
    ...['user-agent', 'grpc-node-headgate', 'grpc-accept-encoding', 'identity,deflate,gzip'],
    ...['x-client', 'c', 'x-call', '1'],
  ])
  t.match(last.attempt, { end: false, upgrade: false, priority: 'default', downstreamProtocol: 'HTTP/2' })
  t.equal(last.written.length, 1, 'message and end leave in one write')
  t.same(last.messages, [{ flag: 0, payload: Buffer.from('ping') }])
  t.ok(last.ended)
  last.head(['x-from', 'peer'])
  last.data(frame('pong'))
  last.end(['grpc-status', '0', 'x-trailer', 't'])
  const result = await answer
  t.match(result, { ok: true, message: 'pong', status: { code: 0 } })
  t.equal(result.metadata?.get('x-from'), 'peer')
  t.equal(result.status.trailers?.get('x-trailer'), 't')
  t.same(b.cluster.done, [{ status: 200, elapsedMs: 0 }])
  t.equal(b.cluster.hosts[0].rqSuccess, 1)
  t.notOk(last.cancelled)
  quiet(t, b)
})

t.test('unary: the answer is the same however it is split', async (t) => {
  const body = frame('pong')
  for (const pieces of everyFeed(body)) {
    const b = bench()
    const answer = b.client.unary(ECHO, 'ping')
    b.cluster.last.head()
    for (const piece of pieces) t.ok(b.cluster.last.data(piece))
    b.cluster.last.end()
    t.match(await answer, { ok: true, message: 'pong' })
  }
})

t.test('unary: what a peer can answer instead', async (t) => {
  const run = async (play: (b: Bench) => void): Promise<{ code: number; message: string; b: Bench }> => {
    const b = bench({ maxReceiveBytes: 100 })
    const answer = b.client.unary(ECHO, 'ping')
    play(b)
    const { ok, status } = await answer
    t.notOk(ok)
    quiet(t, b)
    return { code: status.code, message: status.message, b }
  }
  const rows: readonly (readonly [string, number, RegExp, (b: Bench) => void])[] = [
    ['trailers only', 5, /^no such$/, (b) => b.cluster.last.only(['grpc-status', '5', 'grpc-message', 'no%20such'])],
    ['no gRPC', 14, /503/, (b) => b.cluster.last.only([], 503)],
    [
      'a page',
      12,
      /404.*application\/grpc, text/,
      (b) => {
        b.cluster.last.events.onHeaders(404, new Headers(['content-type', 'application/grpc, text/html']), false)
      },
    ],
    [
      'a page with 200',
      2,
      /text\/html/,
      (b) => {
        b.cluster.last.events.onHeaders(200, new Headers(['content-type', 'text/html']), false)
      },
    ],
    [
      'a page that gives a status',
      7,
      /^keep out$/,
      (b) => {
        b.cluster.last.events.onHeaders(403, new Headers(['grpc-status', '7', 'grpc-message', 'keep out']), false)
      },
    ],
    [
      'OK without a message',
      12,
      /without a message/,
      (b) => {
        b.cluster.last.head()
        b.cluster.last.end()
      },
    ],
    [
      'two messages',
      12,
      /more than one/,
      (b) => {
        b.cluster.last.head()
        b.cluster.last.data(Buffer.concat([frame('a'), frame('b')]))
      },
    ],
    [
      'an error behind a message',
      9,
      /^$/,
      (b) => {
        b.cluster.last.head()
        b.cluster.last.data(frame('a'))
        b.cluster.last.end(['grpc-status', '9'])
      },
    ],
    [
      'trailers without a status',
      2,
      /no grpc-status/,
      (b) => {
        b.cluster.last.head()
        b.cluster.last.data(frame('a'))
        b.cluster.last.end([])
      },
    ],
    [
      'no trailers',
      13,
      /without trailers/,
      (b) => {
        b.cluster.last.head()
        b.cluster.last.data(frame('a'), true)
      },
    ],
    [
      'the status in the head, the end in a frame of its own',
      8,
      /^full$/,
      (b) => {
        b.cluster.last.head(['grpc-status', '8', 'grpc-message', 'full'])
        b.cluster.last.data(Buffer.alloc(0), true)
      },
    ],
    [
      'half a message and OK',
      13,
      /within a message/,
      (b) => {
        b.cluster.last.head()
        b.cluster.last.data(frame('abc').subarray(0, 6))
        b.cluster.last.end()
      },
    ],
    [
      'half a message and an error',
      3,
      /^bad$/,
      (b) => {
        b.cluster.last.head()
        b.cluster.last.data(frame('abc').subarray(0, 6))
        b.cluster.last.end(['grpc-status', '3', 'grpc-message', 'bad'])
      },
    ],
    [
      'no framing',
      13,
      /not made of gRPC/,
      (b) => {
        b.cluster.last.head()
        b.cluster.last.data(Buffer.from('<html>'))
      },
    ],
    [
      'a message over the limit',
      8,
      /larger/,
      (b) => {
        b.cluster.last.head()
        b.cluster.last.data(frame('x'.repeat(101)).subarray(0, 5))
      },
    ],
    [
      'a message that cannot be decoded',
      13,
      /cannot be decoded/,
      (b) => {
        b.cluster.last.head()
        b.cluster.last.data(frame('poison'))
      },
    ],
    [
      'compressed, but with nothing',
      13,
      /names no compression/,
      (b) => {
        b.cluster.last.head()
        b.cluster.last.data(frame('abc', 1))
      },
    ],
    [
      'compressed with what we do not know',
      13,
      /"snappy"/,
      (b) => {
        b.cluster.last.head(['grpc-encoding', 'snappy'])
        b.cluster.last.data(frame('abc', 1))
      },
    ],
    ['an upgrade', 13, /upgrade/, (b) => b.cluster.last.events.onUpgraded(101, new Headers())],
  ]
  for (const [name, code, message, play] of rows) {
    const got = await run(play)
    t.equal(got.code, code, `${name}: code`)
    t.match(got.message, message, `${name}: message`)
    const { hosts, last, counters, done } = got.b.cluster
    const whole = WHOLE.test(name)
    t.equal(last.cancelled, !whole, `${name}: the rest of the response is refused where there is one`)
    t.equal(hosts[0].rqSuccess + hosts[0].rqError + counters.cancelled.v, 1, `${name}: counted once`)
    t.equal(done.length + counters.cancelled.v, 1, `${name}: completed once`)
  }
})

t.test('streams of all shapes: messages cross in both directions, each once and in order', async (t) => {
  const b = bench()
  const stream = startStream(b)
  const { last } = b.cluster
  t.equal(last.written.length, 0)
  t.ok(stream.call.write('1'))
  last.head()
  last.data(frame('a'))
  t.ok(stream.call.write('2'))
  last.data(Buffer.concat([frame('b'), frame('c').subarray(0, 3)]))
  last.data(frame('c').subarray(3))
  t.ok(stream.call.write('3', true))
  t.throws(() => stream.call.write('4'), /after the last one/)
  stream.call.end()
  t.same(
    last.messages.map(({ payload }) => payload.toString()),
    ['1', '2', '3'],
  )
  t.ok(last.ended)
  last.data(frame('d'))
  last.end(['grpc-status', '0'])
  t.same(stream.events, ['headers', 'a', 'b', 'c', 'd', 'end 0'])
  t.ok(stream.call.write('late'), 'harmless')
  stream.call.end()
  stream.call.pause()
  stream.call.resume()
  stream.call.cancel()
  t.notOk(last.cancelled)
  quiet(t, b)

  const halfClosed = startStream(b)
  halfClosed.call.end()
  t.ok(b.cluster.last.ended)
  t.equal(Buffer.concat(b.cluster.last.written).length, 0)

  const early = startStream(b)
  early.call.write('1')
  b.cluster.last.head()
  b.cluster.last.end(['grpc-status', '0'])
  t.same(early.events, ['headers', 'end 0'])
  t.ok(b.cluster.last.cancelled, 'the peer is done before us: the stream is given up')
  t.equal(b.cluster.counters.cancelled.v, 0, 'which is not a cancelled request')
})

t.test('large messages are not copied into their frame', async (t) => {
  const b = bench()
  const bytes = Buffer.alloc(100_000, 'x')
  const recorder = startStream(b)
  const raw = { path: '/test.Echo/Raw', encode: (it: Buffer) => it, decode: (it: Uint8Array) => it }
  const call = b.client.stream(raw, { onMessage: () => undefined, onEnd: () => undefined })
  call.write(bytes, true)
  const { last } = b.cluster
  t.equal(last.written[1].buffer, bytes.buffer)
  t.equal(last.messages[0].payload.length, 100_000)
  recorder.call.cancel()
  call.cancel()
})

t.test('a full upstream is told to the writer, and the room again', async (t) => {
  const b = bench()
  const stream = startStream(b)
  const { last } = b.cluster
  last.room = false
  t.equal(stream.call.write('1'), false)
  t.equal(stream.call.write('2'), false, 'taken in any case')
  last.room = true
  last.events.onDrain()
  last.events.onDrain()
  t.same(stream.events, ['drain'], 'once')
  t.equal(stream.call.write('3'), true)
  t.equal(last.messages.length, 3)
  stream.call.cancel()
})

t.test('a paused call delivers nothing, holds back the peer, and goes on where it was', async (t) => {
  const b = bench()
  const stream = startStream(b)
  const { last } = b.cluster
  last.head()
  stream.onEach = (message) => {
    if (message === 'b') stream.call.pause()
  }
  t.equal(last.data(Buffer.concat([frame('a'), frame('b'), frame('c'), frame('d').subarray(0, 2)])), false)
  t.same(stream.messages, ['a', 'b'])
  t.ok(last.paused)
  stream.call.resume()
  t.same(stream.messages, ['a', 'b', 'c'])
  t.notOk(last.paused)
  t.equal(last.data(frame('d').subarray(2)), true)
  stream.call.pause()
  t.ok(last.paused, 'at once, also between messages')
  // Contract or not, what had been on its way is kept.
  t.equal(last.events.onData(frame('e'), false), false)
  t.equal(last.events.onData(frame('f'), false), false)
  last.end()
  t.same(stream.messages, ['a', 'b', 'c', 'd'], 'the status waits behind the messages')
  t.equal(stream.status, undefined)
  stream.call.resume()
  t.same(stream.events.slice(-3), ['e', 'f', 'end 0'])
  quiet(t, b)
})

t.test('a message handler may pause and resume at once, and is never entered twice', async (t) => {
  const b = bench()
  const stream = startStream(b)
  let depth = 0
  stream.onEach = () => {
    t.equal(depth++, 0)
    stream.call.pause()
    stream.call.resume()
    depth--
  }
  b.cluster.last.head()
  t.equal(b.cluster.last.data(Buffer.concat([frame('a'), frame('b'), frame('c')])), true)
  t.same(stream.messages, ['a', 'b', 'c'])
  t.notOk(b.cluster.last.paused)
  stream.call.cancel()
})

t.test('the deadline is sent, kept here, and ends the call at the peer', async (t) => {
  const b = bench()
  const stream = startStream(b, { timeoutMs: 1_000 })
  const { last, hosts, counters, done } = b.cluster
  t.equal(last.attempt.headers.get('grpc-timeout'), '1000m')
  last.head()
  b.clock.advance(999)
  t.equal(stream.status, undefined)
  b.clock.advance(41)
  t.match(stream.status, { code: GrpcCode.DEADLINE_EXCEEDED })
  t.ok(last.cancelled)
  t.same([counters.timeout.v, hosts[0].rqTimeout, hosts[0].rqError], [1, 1, 1])
  t.match(done, [{ status: 200 }], 'what HTTP said')
  quiet(t, b)

  const answer = b.client.unary(ECHO, 'x', { timeoutMs: 10 })
  b.clock.advance(60)
  t.match((await answer).status, { code: GrpcCode.DEADLINE_EXCEEDED })
  t.match(done[1], { status: 504 })
  const attempts = b.cluster.attempts.length
  t.match((await b.client.unary(ECHO, 'x', { timeoutMs: 0 })).status, { code: GrpcCode.DEADLINE_EXCEEDED })
  t.equal(b.cluster.attempts.length, attempts, 'nothing is sent when the time is over')

  const endless = startStream(b, { timeoutMs: Number.POSITIVE_INFINITY })
  t.equal(b.cluster.last.attempt.headers.get('grpc-timeout'), undefined)
  endless.call.cancel()
  const paused = startStream(b, { timeoutMs: 100 })
  b.cluster.last.head()
  paused.call.pause()
  b.cluster.last.events.onData(frame('a'), false)
  b.clock.advance(200)
  t.same(paused.events, ['headers', 'end 4'], 'also while it is paused')
})

t.test('a peer that cancels because of the deadline does not hide it', async (t) => {
  const b = bench()
  const early = startStream(b, { timeoutMs: 1_000 })
  b.cluster.last.reset(FAILURES.upstreamReset, 'CANCEL')
  t.match(early.status, { code: GrpcCode.CANCELLED })
  const late = startStream(b, { timeoutMs: 1_010 })
  const { last } = b.cluster
  // Past the deadline and before the tick that would have noticed.
  b.clock.schedule(1_012, () => last.reset(FAILURES.upstreamReset, 'CANCEL'))
  b.clock.advance(1_012)
  t.match(late.status, { code: GrpcCode.DEADLINE_EXCEEDED })
})

t.test("the cluster's longest stream ends the call", async (t) => {
  const b = bench()
  b.cluster.maxStreamDurationMs = 500
  const stream = startStream(b, { timeoutMs: 60_000 })
  b.clock.advance(600)
  t.match(stream.status, { code: GrpcCode.DEADLINE_EXCEEDED, failure: FAILURES.upstreamMaxDuration })
  t.ok(b.cluster.last.cancelled)
  quiet(t, b)
})

t.test('cancel tells the peer and is silent; an abort tells the user as well', async (t) => {
  const b = bench()
  const silent = startStream(b)
  b.cluster.last.head()
  silent.call.cancel()
  silent.call.cancel()
  t.same(silent.events, ['headers'])
  t.ok(b.cluster.last.cancelled)
  b.cluster.last.events.onData(frame('late'), false)
  b.cluster.last.events.onReset(FAILURES.upstreamReset)
  b.cluster.last.events.onDrain()
  t.same(silent.events, ['headers'])
  t.equal(b.cluster.counters.cancelled.v, 1)

  const controller = new AbortController()
  const told = startStream(b, { signal: controller.signal })
  const answer = b.client.unary(ECHO, 'x', { signal: controller.signal })
  controller.abort()
  t.same(told.events, ['end 1'])
  t.match(await answer, { ok: false, status: { code: GrpcCode.CANCELLED } })
  t.equal(b.cluster.attempts.filter((attempt) => attempt.cancelled).length, 3)

  const attempts = b.cluster.attempts.length
  const never = startStream(b, { signal: controller.signal })
  t.same(never.events, [], 'not before stream has returned')
  await settle()
  t.same(never.events, ['end 1'])
  t.equal(b.cluster.attempts.length, attempts)

  const within = startStream(b)
  within.onEach = () => within.call.cancel()
  b.cluster.last.head()
  b.cluster.last.data(Buffer.concat([frame('a'), frame('b')]))
  t.same(within.events, ['headers', 'a'])
  quiet(t, b)
})

t.test('an ended call leaves no listener on the signal', async (t) => {
  const b = bench()
  const { signal } = new AbortController()
  const answer = b.client.unary(ECHO, 'x', { signal })
  t.equal(getEventListeners(signal, 'abort').length, 1)
  b.cluster.last.only(['grpc-status', '0'])
  await answer
  t.equal(getEventListeners(signal, 'abort').length, 0)
})

t.test('a unary call that was never processed is repeated once, on another host', async (t) => {
  const b = bench({ timeoutMs: 1_000 })
  const answer = b.client.unary(ECHO, 'ping')
  const [first] = b.cluster.attempts
  b.clock.advance(100)
  await settle()
  first.reset(FAILURES.upstreamRefused, 'REFUSED_STREAM')
  const second = b.cluster.last
  t.not(second, first)
  t.not(second.host, first.host)
  t.equal(second.attempt.headers.get('grpc-timeout'), '900m', 'what is left of the time')
  t.same(second.messages, first.messages)
  t.ok(second.ended)
  second.head()
  second.data(frame('pong'))
  second.end()
  t.match(await answer, { ok: true, message: 'pong' })
  t.same([b.cluster.counters.retry.v, b.cluster.counters.retrySuccess.v], [1, 1])

  const again = b.client.unary(ECHO, 'ping')
  b.cluster.last.reset(FAILURES.connectFailed)
  b.cluster.last.reset(FAILURES.connectFailed)
  t.match((await again).status, { code: GrpcCode.UNAVAILABLE, failure: FAILURES.connectFailed })
  t.equal(b.cluster.attempts.length, 4, 'once')

  b.cluster.openFailures.push(FAILURES.connectFailed)
  const atOnce = b.client.unary(ECHO, 'ping')
  b.cluster.last.only(['grpc-status', '16'])
  t.match((await atOnce).status, { code: GrpcCode.UNAUTHENTICATED })

  for (const why of [FAILURES.upstreamReset, FAILURES.upstreamClosed, FAILURES.overflow]) {
    const count = b.cluster.attempts.length
    const once = b.client.unary(ECHO, 'ping')
    b.cluster.last.reset(why)
    t.equal((await once).ok, false)
    t.equal(b.cluster.attempts.length, count + 1, `${why.reason} may have been processed`)
  }
  const count = b.cluster.attempts.length
  const answered = b.client.unary(ECHO, 'ping')
  b.cluster.last.head()
  b.cluster.last.reset(FAILURES.upstreamRefused)
  t.equal((await answered).ok, false)
  t.equal(b.cluster.attempts.length, count + 1, 'a response had begun')
  const stream = startStream(b)
  b.cluster.last.reset(FAILURES.upstreamRefused)
  t.equal(stream.status?.code, GrpcCode.UNAVAILABLE)
  t.equal(b.cluster.attempts.length, count + 2, 'what a stream wrote is not kept')
  quiet(t, b)
})

t.test('a call without cluster or host fails, but not before stream has returned', async (t) => {
  const b = bench()
  b.cluster.pickFailures.push(FAILURES.noHealthyHost)
  const stream = startStream(b)
  t.same(stream.events, [])
  t.ok(stream.call.write('x'), 'harmless')
  await settle()
  t.match(stream.status, { code: GrpcCode.UNAVAILABLE, failure: FAILURES.noHealthyHost })
  b.cluster.openFailures.push(FAILURES.overflow)
  const cancelled = startStream(b)
  cancelled.call.cancel()
  await settle()
  t.same(cancelled.events, [], 'cancelled before it was told')
  const none = bench({ cluster: () => undefined })
  t.match(await none.client.unary(ECHO, 'x'), { status: { code: 14, failure: FAILURES.noCluster } })
})

t.test('wait for ready: until there is a cluster, a host and a connection, or the deadline', async (t) => {
  const b = bench({ waitForReady: true })
  const { cluster } = b
  cluster.pickFailures.push(FAILURES.noHealthyHost, FAILURES.noHealthyHost)
  cluster.openFailures.push(FAILURES.connectFailed)
  const stream = startStream(b)
  stream.call.write('1')
  t.equal(stream.call.write('2', true), false, 'nothing takes them yet')
  t.equal(cluster.attempts.length, 0)
  b.clock.advance(130)
  b.clock.advance(230)
  b.clock.advance(430)
  t.equal(cluster.attempts.length, 1, 'after three waits')
  const first = cluster.last
  t.equal(first.written.length, 0, 'nothing is written before there is a connection')
  first.reset(FAILURES.connectTimeout)
  b.clock.advance(900)
  t.equal(cluster.attempts.length, 2)
  cluster.last.connected()
  t.same(
    cluster.last.messages.map(({ payload }) => payload.toString()),
    ['1', '2'],
  )
  t.ok(cluster.last.ended)
  t.same(stream.events, ['drain'])
  cluster.last.only(['grpc-status', '0'])
  t.equal(stream.status?.code, 0)
  quiet(t, b)

  cluster.pickFailures.push(...Array.from({ length: 100 }, () => FAILURES.noHealthyHost))
  const answer = b.client.unary(ECHO, 'x', { timeoutMs: 10_000 })
  await b.clock.advanceAsync(10_100)
  t.match((await answer).status, { code: GrpcCode.DEADLINE_EXCEEDED })
  t.ok(cluster.pickFailures.length > 90, `${100 - cluster.pickFailures.length} tries in ten seconds`)
  const cancelled = startStream(b)
  cancelled.call.cancel()
  quiet(t, b)
  t.equal(b.clock.pending, 1, 'the tick under way')
  b.clock.advance(40)
  t.equal(b.clock.pending, 0)
})

t.test('messages that go out compressed keep their order, and the writer waits meanwhile', async (t) => {
  for (const encoding of ['gzip', 'deflate'] as const) {
    const b = bench({ encoding })
    const stream = startStream(b)
    const { last } = b.cluster
    t.equal(last.attempt.headers.get('grpc-encoding'), encoding)
    const messages = ['', 'a'.repeat(100_000), 'b', 'c'.repeat(1_000)]
    for (const message of messages) t.equal(stream.call.write(message), false)
    stream.call.end()
    await until(t, 'all are written', () => last.ended)
    const unpack = encoding === 'gzip' ? gunzipSync : inflateSync
    t.same(
      last.messages.map(({ payload }) => unpack(payload).toString()),
      messages,
    )
    t.ok(last.messages.every(({ flag }) => flag === 1))
    t.ok(Buffer.concat(last.written).length < 2_000)
    t.same(stream.events, ['drain'])
    last.only(['grpc-status', '0'])
    quiet(t, b)
  }
  const b = bench({ encoding: 'gzip' })
  const gone = startStream(b)
  gone.call.write('x'.repeat(10_000))
  gone.call.cancel()
  const answer = b.client.unary(ECHO, 'ping', { encoding: 'identity' })
  t.same(b.cluster.last.messages[0].flag, 0, 'a call may say otherwise')
  b.cluster.last.only(['grpc-status', '0'])
  await answer
  await settle(20)
  t.equal(b.cluster.attempts[0].written.length, 0, 'nothing is written to a call that has ended')
})

t.test('compressed messages come in order with plain ones, at any split', async (t) => {
  const parts = [frame('plain'), frame(gzipSync('packed'), 1), frame('again'), frame(gzipSync('x'.repeat(999)), 1)]
  const body = Buffer.concat(parts)
  const feeds = [
    [body],
    parts,
    ...Array.from({ length: 12 }, (_, i) => [body.subarray(0, 7 * i + 3), body.subarray(7 * i + 3)]),
  ]
  for (const pieces of feeds) {
    const b = bench()
    const stream = startStream(b)
    const { last } = b.cluster
    last.head(['grpc-encoding', 'gzip'])
    for (const piece of pieces) {
      last.data(piece)
      await until(t, 'goes on', () => !last.paused)
    }
    last.end()
    await until(t, 'ended', () => stream.status !== undefined)
    t.same(stream.events, ['headers', 'plain', 'packed', 'again', 'x'.repeat(999), 'end 0'])
  }
})

t.test('a compressed message is bounded by what it becomes', async (t) => {
  const b = bench({ maxReceiveBytes: 1_000 })
  const bomb = gzipSync(Buffer.alloc(100_000))
  t.ok(bomb.length < 1_000)
  const run = async (payload: Buffer): Promise<number | undefined> => {
    const stream = startStream(b)
    b.cluster.last.head(['grpc-encoding', 'gzip'])
    t.equal(b.cluster.last.data(frame(payload, 1)), false, 'the peer waits while it is unpacked')
    b.cluster.last.end()
    await until(t, 'ended', () => stream.status !== undefined)
    return stream.status?.code
  }
  t.equal(await run(bomb), GrpcCode.RESOURCE_EXHAUSTED)
  t.equal(await run(gzipSync(Buffer.alloc(1_001))), GrpcCode.RESOURCE_EXHAUSTED)
  t.equal(await run(gzipSync(Buffer.alloc(1_000))), GrpcCode.OK)
  t.equal(await run(Buffer.from('no gzip')), GrpcCode.INTERNAL)
  t.equal(await run(gzipSync('cut').subarray(0, 15)), GrpcCode.INTERNAL)
  t.equal(await run(Buffer.alloc(0)), GrpcCode.INTERNAL)
})

t.test('a limit of 0 lets empty messages through, and no packed one', async (t) => {
  const b = bench({ maxReceiveBytes: 0 })
  const run = (bytes: Buffer): ReturnType<typeof startStream> => {
    const stream = startStream(b)
    b.cluster.last.head(['grpc-encoding', 'gzip'])
    if (b.cluster.last.data(bytes) && stream.status === undefined) b.cluster.last.end()
    return stream
  }
  t.same(run(frame('')).events, ['headers', '', 'end 0'])
  t.same(run(frame('x')).events, ['headers', 'end 8'])
  t.same(run(frame(gzipSync(''), 1)).events, ['headers', 'end 8'])
  const nothing = run(frame('', 1))
  await until(t, 'ended', () => nothing.status !== undefined)
  t.same(nothing.events, ['headers', 'end 13'])
})

t.test('a call that ends while a message is decompressed hears of it no more', async (t) => {
  const b = bench()
  const cancelled = startStream(b)
  b.cluster.last.head(['grpc-encoding', 'gzip'])
  b.cluster.last.data(frame(gzipSync('late'), 1))
  cancelled.call.cancel()
  const reset = startStream(b)
  b.cluster.last.head(['grpc-encoding', 'gzip'])
  b.cluster.last.data(frame(gzipSync('late'), 1))
  b.cluster.last.reset(FAILURES.upstreamBroken)
  // One that began later and ends: by then the others have been through.
  const other = startStream(b)
  b.cluster.last.head(['grpc-encoding', 'gzip'])
  b.cluster.last.data(frame(gzipSync('x'.repeat(5_000_000)), 1))
  await until(t, 'the other has its message', () => other.messages.length === 1)
  t.same(cancelled.events, ['headers'])
  t.same(reset.events, ['headers', 'end 14'])
  other.call.cancel()
  quiet(t, b)
})

t.test('a host is judged by the gRPC status, the cluster counts that of HTTP', async (t) => {
  for (let code = 0; code <= 16; code++) {
    const b = bench()
    startStream(b)
    b.clock.advance(7)
    await settle()
    b.cluster.last.head()
    b.cluster.last.end(['grpc-status', String(code)])
    const [host] = b.cluster.hosts
    const faulty = [2, 4, 12, 13, 14, 15].includes(code)
    t.same([host.rqSuccess, host.rqError, host.rqTimeout], faulty ? [0, 1, 0] : [1, 0, 0], `status ${code}`)
    t.same(b.cluster.done, [{ status: 200, elapsedMs: 7 }])
  }
  const b = bench()
  startStream(b)
  b.cluster.last.reset(FAILURES.connectFailed)
  t.match(b.cluster.done, [{ status: 503 }])
  t.equal(b.cluster.hosts[0].rqError, 1)
})

t.test('what a handler throws is logged and ends the call, and nobody else', async (t) => {
  const b = bench()
  const thrower = (where: string) => {
    const told: string[] = []
    const act = (event: string): void => {
      told.push(event)
      if (event === where) throw new Error(`in ${where}`)
    }
    b.client.stream(ECHO, {
      onHeaders: () => act('headers'),
      onMessage: () => act('message'),
      onEnd: ({ code }) => {
        told.push(String(code))
        if (where === 'end') throw new Error('in end')
      },
    })
    const { last } = b.cluster
    last.head()
    if (!last.cancelled) last.data(frame('a'))
    if (!last.cancelled) last.end()
    return told
  }
  t.same(thrower('headers'), ['headers', '13'])
  t.same(thrower('message'), ['headers', 'message', '13'])
  t.same(thrower('end'), ['headers', 'message', '0'])
  t.same(b.log.errors, [
    'a gRPC handler threw: Error: in headers',
    'a gRPC handler threw: Error: in message',
    'a gRPC handler threw: Error: in end',
  ])
  t.equal(b.wheel.armed, 0)
})

t.test('mistakes of the caller are thrown where they are made', async (t) => {
  const b = bench()
  t.throws(() => b.client.unary(ECHO, 'poison'), /cannot be encoded/)
  t.equal(b.cluster.attempts.length, 0)
  const stream = startStream(b)
  t.throws(() => stream.call.write('poison'), /cannot be encoded/)
  t.ok(stream.call.write('fine'), 'and the call goes on')
  stream.call.cancel()
  t.throws(() => b.client.unary(ECHO, 'x', { authority: 'a\r\nb' }), /authority/)
  const { wheel, log } = b
  t.throws(() => new GrpcClient({ cluster: () => undefined, authority: '', wheel, log }), /authority/)
  t.throws(
    () => new GrpcClient({ cluster: () => undefined, authority: 'a', wheel, log, userAgent: 'a\nb' }),
    /user-agent/,
  )
  const initialMetadata = new Headers(['X', 'y'])
  t.throws(
    () => new GrpcClient({ cluster: () => undefined, authority: 'a', wheel, log, initialMetadata }),
    /lower-case/,
  )
})

t.test('a stream to iterate over: at the pace at which its messages are taken', async (t) => {
  const b = bench()
  const stream = openStream(b.client, ECHO)
  const { last } = b.cluster
  t.equal(await stream.send('1'), true)
  last.room = false
  const second = stream.send('2')
  let sent = false
  void second.then(() => (sent = true))
  await settle()
  t.equal(sent, false)
  last.events.onDrain()
  t.equal(await second, true)
  stream.end()
  last.head(['x', 'y'])
  t.equal((await stream.metadata)?.get('x'), 'y')
  t.equal(last.data(Buffer.concat([frame('a'), frame('b'), frame('c')])), false, 'nobody takes them')
  const taken: string[] = []
  for await (const message of stream) {
    taken.push(message)
    if (taken.length === 3) {
      t.notOk(last.paused)
      last.data(frame('d'))
      last.end(['grpc-status', '9', 'grpc-message', 'enough'])
    }
  }
  t.same(taken, ['a', 'b', 'c', 'd'])
  t.match(await stream.status, { code: 9, message: 'enough' })
  t.equal(await stream.send('3'), false)
  t.same(await stream[Symbol.asyncIterator]().next(), { done: true, value: undefined })
  quiet(t, b)
})

t.test('a stream to iterate over: leaving it early, and cancelling', async (t) => {
  const b = bench()
  const left = openStream(b.client, ECHO)
  b.cluster.last.head()
  b.cluster.last.data(Buffer.concat([frame('a'), frame('b')]))
  for await (const message of left) {
    t.equal(message, 'a')
    break
  }
  t.ok(b.cluster.last.cancelled)
  t.equal((await left.status).code, GrpcCode.CANCELLED)

  const waiting = openStream(b.client, ECHO)
  b.cluster.last.room = false
  const sending = waiting.send('x')
  const next = waiting[Symbol.asyncIterator]().next()
  waiting.cancel()
  t.same([await sending, (await next).done, await waiting.metadata], [false, true, undefined])
  quiet(t, b)
})

t.test(
  'a handler that wants to know learns of the connection, once the turn has ended and not after the call',
  async (t) => {
    const b = bench()
    const events: string[] = []
    const handlers = {
      onConnected: () => void events.push('connected'),
      onMessage: () => undefined,
      onEnd: () => undefined,
    }
    const call = b.client.stream(ECHO, handlers)
    b.cluster.last.connected()
    t.same(events, [])
    await settle(1)
    t.same(events, ['connected'])
    call.cancel()
    b.client.stream(ECHO, handlers).cancel()
    b.cluster.last.connected()
    await settle(1)
    t.equal(events.length, 1)
    quiet(t, b)
  },
)
