import { createHash } from 'node:crypto'
import { constants, type ServerHttp2Stream } from 'node:http2'
import t from 'tap'
import { FAILURES } from '../../lib/core/failure.ts'
import { Headers } from '../../lib/core/headers.ts'
import { settle, type TestClock } from '../support/clock.ts'
import {
  data,
  FLAG,
  frame,
  goaway,
  headers,
  rstStream,
  SETTING,
  settings,
  settingsAck,
  T,
} from '../support/http2-wire.ts'
import { http2Upstream, lab, type RawPeer, rawUpstream, until } from './http2-lab.ts'

/** One HTTP/2 connection to an upstream and what its streams tell. */

const OK = headers(1, [[':status', '200']], true)

/** Time passes in one go: what arrives meanwhile arrives before or after. */
async function pass(clock: TestClock, ms: number): Promise<void> {
  await settle()
  clock.advance(ms)
  await settle()
}

/** Answers our SETTINGS and otherwise does what `on` says. */
function polite(on: (type: number, streamId: number, peer: RawPeer) => void): Parameters<typeof rawUpstream>[1] {
  return (f, peer) => {
    if (f.type === T.SETTINGS && (f.flags & FLAG.ACK) === 0) peer.send(settings(), settingsAck())
    on(f.type, f.streamId, peer)
  }
}

t.test('many requests share a connection, each with its own answer, trailers and interim responses', async (t) => {
  const { port, onStream, sessions } = await http2Upstream(t)
  onStream((stream, fields) => {
    stream.additionalHeaders({ ':status': 103, link: '</a>' })
    stream.respond({ ':status': 200, 'x-path': fields[':path'] }, { waitForTrailers: true })
    stream.on('wantTrailers', () => stream.sendTrailers({ 'x-sum': `${fields[':path']}!` }))
    stream.pipe(stream)
  })
  const { call, stat } = await lab(t, { port })
  const calls = Array.from({ length: 50 }, (_, i) =>
    call({ method: 'POST', path: `/${i}`, body: 'streamed', headers: ['content-length', '5'] }),
  )
  t.equal(stat('upstream_rq_pending_active'), 50)
  for (const { stream } of calls) t.equal(stream?.write(Buffer.from('he'), false), false, 'held until there is room')
  await until(() => calls.every((c) => c.drains > 0), 'connection')
  for (const { stream } of calls) stream?.write(Buffer.from('llo'), true)
  await until(() => calls.every((c) => c.ended), 'answers')
  for (const [i, c] of calls.entries()) {
    t.equal(c.status, 200)
    t.equal(c.headers.get('x-path'), `/${i}`)
    t.same(c.informational, [103])
    t.equal(c.text, 'hello')
    t.equal(c.trailers?.get('x-sum'), `/${i}!`)
  }
  t.equal(sessions.length, 1)
  t.same(
    calls.map((c) => c.reused[0]),
    calls.map((_, i) => i > 0),
  )
  t.equal(calls[0].info[0].protocol, 'HTTP/2')
  t.match(calls[0].info[0].localAddress, /^127\.0\.0\.1:\d+$/)
  t.equal(stat('upstream_cx_total'), 1)
  t.equal(stat('upstream_cx_http2_total'), 1)
  t.equal(stat('upstream_cx_http1_total'), 0)
  t.equal(stat('upstream_rq_total'), 50)
  t.equal(stat('upstream_rq_pending_total'), 50)
})

t.test('100 Continue is passed on only where the client was not answered yet', async (t) => {
  const { port, onStream } = await http2Upstream(t)
  onStream((stream) => {
    stream.additionalHeaders({ ':status': 100 })
    stream.resume().on('end', () => stream.respond({}, { endStream: true }))
  })
  const { call } = await lab(t, { port })
  for (const forwardContinue of [true, false]) {
    const c = call({ method: 'PUT', body: 'streamed', headers: ['expect', '100-continue'], forwardContinue })
    await until(() => c.info.length > 0, 'connection')
    c.stream?.write(Buffer.from('x'), true)
    await until(() => c.ended, 'answer')
    t.same(c.informational, forwardContinue ? [100] : [])
  }
})

t.test('the request on the wire has pseudo-fields from its head and no fields of a connection', async (t) => {
  const { port, onStream } = await http2Upstream(t)
  const seen: Record<string, unknown>[] = []
  onStream((stream, fields) => {
    seen.push({ ...fields })
    stream.respond({ ':status': 204 }, { endStream: true })
  })
  const { call } = await lab(t, { port })
  const calls = [
    call({ authority: 'a.example:81', scheme: 'https', path: '/x?y', headers: ['te', 'trailers', 'x-a', '1'] }),
    call({
      path: '',
      scheme: '',
      headers: [
        ...['connection', 'keep-alive', 'keep-alive', '5', 'proxy-connection', 'close', 'transfer-encoding', 'chunked'],
        ...['upgrade', 'h2c', 'http2-settings', 'AA', 'host', 'other.example', 'te', 'gzip', 'content-length', '0'],
      ],
    }),
    call({ method: 'DELETE', headers: ['content-length', '7'] }),
  ]
  await until(() => calls.every((c) => c.ended), 'answers')
  t.match(seen[0], {
    ':method': 'GET',
    ':authority': 'a.example:81',
    ':scheme': 'https',
    ':path': '/x?y',
    te: 'trailers',
  })
  t.equal(seen[0]['x-a'], '1')
  t.same(
    Object.keys(seen[1]).filter((name) => !name.startsWith(':')),
    ['content-length'],
  )
  t.match(seen[1], { ':scheme': 'http', ':path': '/', ':authority': 'web.example', 'content-length': '0' })
  t.equal(seen[2]['content-length'], '0', 'a request without a body has no other length')
})

t.test('a body that is not what its content-length says ends the stream, not the connection', async (t) => {
  const { port, onStream, sessions } = await http2Upstream(t)
  const codes: number[] = []
  onStream((stream, fields) => {
    stream.on('close', () => codes.push(stream.rstCode ?? -1))
    if (fields[':method'] === 'GET') stream.respond({}, { endStream: true })
  })
  const { call, stat } = await lab(t, { port })
  for (const [bytes, end] of [
    ['123456', false],
    ['1234', true],
  ] as const) {
    const c = call({ method: 'POST', body: 'streamed', headers: ['content-length', '5'] })
    await until(() => c.info.length > 0, 'connection')
    c.stream?.write(Buffer.from(bytes), end)
    t.equal(c.failure, FAILURES.filterError)
    t.match(c.detail, /content-length/)
  }
  const last = call()
  await until(() => last.ended && codes.length === 3, 'answer')
  t.same(codes, [constants.NGHTTP2_CANCEL, constants.NGHTTP2_CANCEL, 0])
  t.equal(sessions.length, 1)
  t.equal(stat('upstream_rq_active'), 0)
})

t.test('a refused stream is safe to repeat, another reset is the upstream’s answer', async (t) => {
  const { port, onStream } = await http2Upstream(t)
  const codes = [
    constants.NGHTTP2_REFUSED_STREAM,
    constants.NGHTTP2_INTERNAL_ERROR,
    constants.NGHTTP2_NO_ERROR,
    constants.NGHTTP2_PROTOCOL_ERROR,
  ]
  onStream((stream) => stream.close(codes.shift()))
  const { call, stat } = await lab(t, { port })
  const results = []
  while (codes.length > 0) {
    const c = call()
    await until(() => c.over, 'reset')
    results.push(c.failure)
  }
  const { upstreamRefused, upstreamReset, upstreamProtocol } = FAILURES
  t.same(results, [upstreamRefused, upstreamReset, upstreamReset, upstreamProtocol])
  t.match(FAILURES.upstreamRefused, { retry: 'always', status: 503, flag: 'UR', reason: 'remote refused stream reset' })
  t.match(FAILURES.upstreamReset, { retry: 'never', status: 503, flag: 'UR' })
  t.equal(stat('upstream_rq_rx_reset'), 3)
  t.equal(stat('upstream_cx_active'), 1, 'the connection lives on')
  t.equal(stat('http2.rx_reset'), 4)
})

t.test('a stream refused after its answer has begun was looked at all the same', async (t) => {
  const { port } = await rawUpstream(
    t,
    polite((type, _, peer) => {
      if (type === T.HEADERS) peer.send(headers(1, [[':status', '200']]), rstStream(1, 7))
    }),
  )
  const { call } = await lab(t, { port })
  const c = call()
  await until(() => c.over, 'reset')
  t.equal(c.status, 200)
  t.equal(c.failure, FAILURES.upstreamReset)
})

t.test('an upstream that dies takes only unanswered requests of a used connection along safely', async (t) => {
  const peers: ((peer: RawPeer) => void)[] = [
    // Nothing of a response.
    (peer) => peer.socket.destroy(),
    // In the middle of a frame.
    (peer) => {
      peer.send(headers(1, [[':status', '200']]), frame(T.DATA, 0, 1, 'twelve bytes').subarray(0, 15))
      setImmediate(() => peer.socket.destroy())
    },
    // With a FIN behind a whole frame.
    (peer) => {
      peer.send(headers(1, [[':status', '200']]), data(1, 'part'))
      peer.socket.end()
    },
  ]
  const { port } = await rawUpstream(
    t,
    polite((type, _, peer) => {
      if (type === T.HEADERS) peers.shift()?.(peer)
    }),
  )
  const { call, stat } = await lab(t, { port })
  const silent = call()
  await until(() => silent.over, 'first end')
  t.equal(silent.failure, FAILURES.upstreamClosed)
  t.same(silent.reused, [false])
  const second = call()
  await until(() => second.over, 'second end')
  t.equal(second.failure, FAILURES.upstreamBroken)
  t.equal(second.status, 200)
  const third = call()
  await until(() => third.over, 'third end')
  t.equal(third.failure, FAILURES.upstreamBroken)
  t.equal(third.text, 'part')
  await until(() => stat('upstream_cx_active') === 0, 'closed connections')
  t.equal(stat('upstream_cx_destroy'), 3)
  t.equal(stat('upstream_cx_destroy_remote'), 3)
  t.equal(stat('upstream_cx_destroy_with_active_rq'), 3)
  t.equal(stat('upstream_cx_destroy_remote_with_active_rq'), 3)
  t.equal(stat('upstream_rq_pending_failure_eject'), 3)
})

t.test('what breaks the protocol ends the connection with 502s, and is counted', async (t) => {
  const attacks: [string, (peer: RawPeer) => void][] = [
    ['data before headers', (peer) => peer.send(data(1, 'x'))],
    [
      'an upper-case name',
      (peer) =>
        peer.send(
          headers(1, [
            [':status', '200'],
            ['X-Up', '1'],
          ]),
        ),
    ],
    ['a push', (peer) => peer.send(frame(T.PUSH_PROMISE, FLAG.END_HEADERS, 1, '\0\0\0\x02'))],
    ['a frame larger than permitted', (peer) => peer.send(frame(T.DATA, 0, 1, Buffer.alloc(16_385)))],
    ['HTTP/1', (peer) => peer.socket.write('HTTP/1.1 400 Bad Request\r\n\r\n')],
    ['a stream of its own', (peer) => peer.send(headers(2, [[':status', '200']], true))],
    ['no status', (peer) => peer.send(headers(1, [['x-a', '1']], true))],
  ]
  const left = attacks.map(([, attack]) => attack)
  const { port, peers } = await rawUpstream(
    t,
    polite((type, _, peer) => {
      if (type === T.HEADERS) left.shift()?.(peer)
    }),
  )
  const { call, stat } = await lab(t, { port })
  for (const [i, [name]] of attacks.entries()) {
    const c = call()
    await until(() => c.over, name)
    t.equal(c.failure, FAILURES.upstreamProtocol, name)
    t.ok(c.detail, `${name}: ${c.detail}`)
    await until(() => peers[i].ended, `the end after ${name}`)
    t.equal(peers[i].frames.at(-1)?.type, T.GOAWAY, `${name}: GOAWAY`)
  }
  t.equal(stat('upstream_cx_protocol_error'), attacks.length)
  t.equal(stat('upstream_cx_destroy_local_with_active_rq'), attacks.length)
  t.match(FAILURES.upstreamProtocol, { status: 502, flag: 'UPE', reason: 'protocol error' })
})

t.test('interim responses without end are a breach of the protocol', async (t) => {
  const { port, peers } = await rawUpstream(
    t,
    polite((type, id, peer) => {
      if (type === T.HEADERS) for (let i = 0; i < 11; i++) peer.send(headers(id, [[':status', '103']]))
    }),
  )
  const { call } = await lab(t, { port })
  const c = call()
  await until(() => c.over, 'reset')
  t.equal(c.failure, FAILURES.upstreamProtocol)
  t.equal(c.informational.length, 10)
  await until(() => peers[0].frames.some((f) => f.type === T.RST_STREAM || f.type === T.GOAWAY), 'word of it')
})

t.test('a cancelled request is reset upstream and nothing of it is delivered', async (t) => {
  const { port, onStream } = await http2Upstream(t)
  const streams: ServerHttp2Stream[] = []
  onStream((stream) => {
    streams.push(stream)
    stream.respond({ ':status': 200 })
    stream.write('some')
  })
  const { call, stat } = await lab(t, { port })
  const c = call()
  await until(() => c.bytes > 0, 'first bytes')
  const closed = new Promise((resolve) => streams[0].on('close', resolve))
  c.stream?.cancel()
  c.stream?.cancel()
  t.equal(stat('upstream_rq_active'), 0)
  await closed
  t.equal(streams[0].rstCode, constants.NGHTTP2_CANCEL)
  t.equal(c.failures.length, 0)
  t.equal(stat('upstream_rq_tx_reset'), 1)
  t.equal(stat('upstream_cx_active'), 1)
  const inConnect = call()
  inConnect.stream?.cancel()
  t.equal(stat('upstream_rq_active'), 0)
})

t.test('a response that is complete before its request stops the request, not the connection', async (t) => {
  const { port, onStream } = await http2Upstream(t)
  onStream((stream) => stream.respond({ ':status': 413 }, { endStream: true }))
  const { call, stat } = await lab(t, { port })
  const c = call({ method: 'POST', body: 'streamed' })
  await until(() => c.ended, 'answer')
  t.equal(c.stream?.write(Buffer.alloc(10), false), true, 'what comes later goes nowhere')
  const next = call()
  await until(() => next.ended, 'second answer')
  t.equal(next.status, 413)
  t.equal(stat('upstream_cx_total'), 1)
  t.equal(stat('upstream_rq_rx_reset'), 0)
})

t.test('a request that waits for windows is reset once its response is complete', async (t) => {
  const wanted = new Set<number>()
  const { port, peers } = await rawUpstream(t, (f, peer) => {
    if (f.type === T.SETTINGS && f.flags === 0) peer.send(settings([SETTING.INITIAL_WINDOW_SIZE, 0]), settingsAck())
    // All of the request is with the session by then.
    if (f.type === T.HEADERS) wanted.add(f.streamId)
  })
  const { call, stat } = await lab(t, { port })
  const answers: [string, Buffer[], boolean][] = [
    ['a head', [headers(1, [[':status', '200']], true)], false],
    ['a body', [headers(3, [[':status', '200']]), data(3, 'x', true)], false],
    ['trailers', [headers(5, [[':status', '200']]), headers(5, [['x-t', '1']], true)], false],
    ['a head, to a request with trailers', [headers(7, [[':status', '200']], true)], true],
  ]
  const warm = call()
  await until(() => peers[0]?.frames.some((f) => f.flags === FLAG.ACK && f.type === T.SETTINGS), 'SETTINGS')
  warm.stream?.cancel()
  for (const [i, [name, frames, trailers]] of answers.entries()) {
    const id = 3 + 2 * i
    for (const f of frames) f.writeUInt32BE(id, 5)
    const c = call({ method: 'POST', body: 'streamed' })
    t.equal(c.stream?.write(Buffer.from('waits'), !trailers), true, 'there is room to wait in')
    if (trailers) c.stream?.trailers(new Headers(['x-t', '1']))
    await until(() => wanted.has(id), 'request')
    t.equal(stat('http2.streams_active'), 1)
    peers[0].send(...frames)
    await until(() => c.over, 'answer')
    t.equal(c.status, 200)
    t.equal(stat('upstream_rq_active'), 0, name)
    t.equal(stat('http2.streams_active'), 0, name)
    t.equal(stat('http2.pending_send_bytes'), 0, name)
    await until(() => peers[0].seen.includes(`RST_STREAM ${id} code 0`), `word of it after ${name}`)
  }
  t.equal(peers[0].frames.filter((f) => f.type === T.DATA).length, 0)
  t.equal(stat('upstream_cx_total'), 1)
})

t.test('a reader that stalls holds back its own stream and no other', async (t) => {
  const { port, onStream } = await http2Upstream(t, { maxSessionMemory: 100 })
  const size = 4 * 1024 * 1024
  const hash = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex')
  const body = Buffer.alloc(size, Array.from({ length: 251 }, (_, i) => i).join())
  onStream((stream) => {
    stream.respond({ ':status': 200 })
    stream.end(body)
  })
  const { call, stat } = await lab(t, {
    port,
    http2: { initialStreamWindowBytes: 65_535, initialConnectionWindowBytes: 1 << 20 },
  })
  const stalled = Array.from({ length: 4 }, () => call())
  for (const c of stalled) c.flowing = false
  await until(() => stalled.every((c) => c.chunks.length > 0), 'first chunks')
  const quick = call()
  await until(() => quick.ended, 'the quick one')
  t.equal(hash(Buffer.concat(quick.chunks)), hash(body))
  await settle(20)
  for (const c of stalled) {
    t.equal(c.chunks.length, 1, 'nothing more while it is paused')
    t.notOk(c.ended)
  }
  for (const c of stalled) {
    c.flowing = true
    c.stream?.resume()
  }
  await until(() => stalled.every((c) => c.ended), 'the others')
  for (const c of stalled) t.equal(hash(Buffer.concat(c.chunks)), hash(body))
  t.equal(stat('upstream_flow_control_paused_reading_total'), 4)
  t.equal(stat('upstream_flow_control_resumed_reading_total'), 4)
})

t.test('an upstream that does not read makes writes wait, and draining tells when there is room', async (t) => {
  const { port, onStream } = await http2Upstream(t)
  let received = 0
  let held: ServerHttp2Stream | undefined
  onStream((stream) => {
    held = stream
  })
  const { call } = await lab(t, { port })
  const c = call({ method: 'POST', body: 'streamed' })
  await until(() => held !== undefined, 'request')
  const chunk = Buffer.alloc(16 * 1024, 'x')
  let written = 0
  let more = true
  while (more && written < 64 * 1024 * 1024) {
    more = c.stream?.write(chunk, false) ?? true
    written += chunk.length
    if (more) await settle(1)
  }
  t.notOk(more, 'a write is refused before much has piled up')
  t.ok(written < 8 * 1024 * 1024, `after ${written} bytes`)
  const drains = c.drains
  held?.on('data', (bytes: Buffer) => {
    received += bytes.length
  })
  held?.on('end', () => held?.respond({ ':status': 200 }, { endStream: true }))
  await until(() => c.drains > drains, 'room')
  c.stream?.write(Buffer.alloc(1), true)
  await until(() => c.ended, 'answer')
  t.equal(received, written + 1)
})

t.test('request trailers arrive', async (t) => {
  const { port, onStream } = await http2Upstream(t)
  onStream((stream) => {
    stream.resume()
    stream.on('trailers', (trailers) =>
      stream.respond({ ':status': 200, 'x-seen': trailers['x-t'] }, { endStream: true }),
    )
  })
  const { call } = await lab(t, { port })
  const early = call({ method: 'POST', body: 'streamed' })
  early.stream?.write(Buffer.from('a'), false)
  early.stream?.trailers(new Headers(['x-t', 'early']))
  await until(() => early.ended, 'answer')
  t.equal(early.headers.get('x-seen'), 'early')
  const late = call({ method: 'POST', body: 'streamed' })
  late.stream?.write(Buffer.from('a'), false)
  late.stream?.trailers(new Headers(['x-t', 'late', 'connection', 'close']))
  await until(() => late.ended, 'answer')
  t.equal(late.headers.get('x-seen'), 'late')
})

t.test('HTTP_1_1_REQUIRED is the last word of a peer that may only be spoken to in HTTP/2', async (t) => {
  const { port } = await rawUpstream(
    t,
    polite((type, id, peer) => {
      if (type === T.HEADERS) peer.send(rstStream(id, 13))
    }),
  )
  const { call } = await lab(t, { port })
  const c = call()
  await until(() => c.over, 'reset')
  t.equal(c.failure, FAILURES.upstreamReset)
  t.equal(c.detail, 'HTTP_1_1_REQUIRED')
})

t.test('GOAWAY: what the peer never looked at is safe to repeat, what it accepted goes on', async (t) => {
  let first: RawPeer | undefined
  const { port, peers } = await rawUpstream(
    t,
    polite((type, id, peer) => {
      first ??= peer
      if (type !== T.HEADERS) return
      if (peer !== first) peer.send(headers(id, [[':status', '200']], true))
      else if (id === 5) peer.send(goaway(3))
    }),
  )
  const { call, stat } = await lab(t, { port })
  const calls = [call(), call(), call()]
  await until(() => calls[2].over, 'the third')
  t.equal(calls[2].failure, FAILURES.upstreamRefused)
  t.equal(stat('upstream_cx_close_notify'), 1)
  const next = call()
  await until(() => next.ended, 'one more')
  t.equal(peers.length, 2, 'which goes to a new connection')
  t.notOk(calls[0].over || calls[1].over)
  peers[0].send(OK, headers(3, [[':status', '200']], true))
  await until(() => calls[0].ended && calls[1].ended, 'the accepted ones')
  await until(() => peers[0].ended, 'end of the drained connection')
  t.equal(stat('upstream_cx_active'), 1)
})

t.test('a peer that never acknowledges SETTINGS loses its connection after ten seconds', async (t) => {
  const { port, peers } = await rawUpstream(t, (f, peer) => {
    if (f.type === T.SETTINGS && f.flags === 0) peer.send(settings())
  })
  const { call, clock, stat } = await lab(t, { port })
  const c = call()
  await until(() => peers[0]?.frames.some((f) => f.type === T.HEADERS), 'request')
  await pass(clock, 9_900)
  t.notOk(c.over)
  await pass(clock, 200)
  await until(() => c.over, 'end')
  t.equal(c.failure, FAILURES.upstreamClosed)
  t.equal(c.detail, 'SETTINGS were not acknowledged')
  await until(() => peers[0].ended, 'end of the connection')
  t.equal(peers[0].seen.at(-1), 'GOAWAY 0 code 4')
  t.equal(stat('upstream_cx_protocol_error'), 0)
})

t.test('PINGs find a dead peer; any bytes put the deadline off', async (t) => {
  const { port, peers } = await rawUpstream(
    t,
    polite(() => {}),
  )
  const keepalive = { intervalMs: 10_000, timeoutMs: 2_000, jitterPercent: 20, idleIntervalMs: 0 }
  const { call, clock, stat } = await lab(t, { port, http2: { keepalive } })
  const c = call()
  await until(() => peers[0]?.frames.some((f) => f.type === T.HEADERS), 'request')
  const pings = (): number => peers[0].frames.filter((f) => f.type === T.PING).length
  await pass(clock, 10_900)
  t.equal(pings(), 0, 'the jitter is part of the interval')
  await pass(clock, 200)
  await until(() => pings() === 1, 'PING')
  await pass(clock, 1_500)
  peers[0].send(headers(1, [[':status', '200']]))
  await until(() => c.status === 200, 'something')
  await pass(clock, 1_000)
  t.notOk(c.over, 'it has shown that it lives')
  await pass(clock, 1_500)
  await until(() => c.over, 'end')
  t.equal(c.failure, FAILURES.upstreamBroken)
  t.equal(c.detail, 'http2 keepalive timeout')
  t.equal(stat('http2.keepalive_timeout'), 1)
  await until(() => peers[0].ended && stat('upstream_cx_active') === 0, 'end of the connection')
  t.equal(stat('upstream_cx_destroy_local_with_active_rq'), 1)
})

t.test('PINGs that are answered repeat; a connection idle for long is PINGed with its next request', async (t) => {
  const { port, peers } = await rawUpstream(t, (f, peer) => {
    if (f.type === T.SETTINGS && f.flags === 0) peer.send(settings(), settingsAck())
    if (f.type === T.PING) peer.send(frame(T.PING, FLAG.ACK, 0, f.payload))
    if (f.type === T.HEADERS) peer.send(headers(f.streamId, [[':status', '200']], true))
  })
  const keepalive = { intervalMs: 0, timeoutMs: 2_000, jitterPercent: 0, idleIntervalMs: 5_000 }
  const { call, clock, stat } = await lab(t, { port, http2: { keepalive } })
  for (const [waitMs, pings] of [
    [0, 0],
    [4_000, 0],
    [6_000, 1],
    [6_000, 2],
  ]) {
    await pass(clock, waitMs)
    const c = call()
    await until(() => c.ended, 'answer')
    t.equal(peers[0].frames.filter((f) => f.type === T.PING).length, pings)
    await pass(clock, 100)
  }
  await pass(clock, 60_000)
  t.equal(stat('http2.keepalive_timeout'), 0)
  t.equal(peers.length, 1)
})

t.test('WebSocket goes out as extended CONNECT and comes back as the answer HTTP/1 expects', async (t) => {
  const { port, onStream } = await http2Upstream(t, { settings: { enableConnectProtocol: true } })
  let seen: Record<string, unknown> = {}
  onStream((stream, fields) => {
    seen = { ...fields }
    stream.respond({ ':status': 200, 'sec-websocket-protocol': 'chat' })
    stream.on('data', (bytes: Buffer) => stream.write(`<${bytes}>`))
    stream.on('end', () => stream.end('bye'))
  })
  const { call, stat } = await lab(t, { port })
  const key = 'dGhlIHNhbXBsZSBub25jZQ=='
  const c = call({
    upgrade: true,
    protocol: 'websocket',
    path: '/chat',
    headers: ['sec-websocket-key', key, 'sec-websocket-version', '13', 'connection', 'upgrade', 'upgrade', 'websocket'],
  })
  await until(() => c.upgraded, 'upgrade')
  t.match(seen, { ':method': 'CONNECT', ':protocol': 'websocket', ':path': '/chat', 'sec-websocket-version': '13' })
  t.notOk('sec-websocket-key' in seen || 'upgrade' in seen || 'connection' in seen)
  t.equal(c.status, 101)
  t.equal(c.headers.get('upgrade'), 'websocket')
  t.equal(c.headers.get('connection'), 'upgrade')
  t.equal(c.headers.get('sec-websocket-accept'), 's3pPLMBiTxaQ9kYGzzhZRbK+xOo=', 'RFC 6455 §1.3')
  t.equal(c.headers.get('sec-websocket-protocol'), 'chat')
  c.stream?.write(Buffer.from('one'), false)
  await until(() => c.text === '<one>', 'echo')
  t.equal(stat('upstream_rq_active'), 1, 'a tunnel counts as a request')
  c.stream?.write(Buffer.alloc(0), true)
  await until(() => c.ended, 'end of the other direction')
  t.equal(c.text, '<one>bye')
  t.equal(stat('upstream_rq_active'), 0)
})

t.test('either direction of a tunnel may end first', async (t) => {
  const { port, onStream } = await http2Upstream(t)
  let received = ''
  onStream((stream) => {
    stream.on('data', (bytes: Buffer) => {
      received += bytes
    })
    stream.respond({ ':status': 200 })
    stream.end('all I have to say')
  })
  const { call, stat } = await lab(t, { port })
  const c = call({ method: 'CONNECT', upgrade: true, path: '', authority: 'db.example:5432' })
  await until(() => c.ended, 'first half')
  t.equal(c.status, 200)
  t.ok(c.upgraded)
  t.equal(c.text, 'all I have to say')
  t.equal(stat('upstream_rq_active'), 1, 'our half is open')
  c.stream?.write(Buffer.from('still here'), true)
  await until(() => received === 'still here', 'second half')
  t.equal(stat('upstream_rq_active'), 0)
  t.equal(c.failures.length, 0)
})

t.test('an upgrade that is refused is a response', async (t) => {
  const { port, onStream } = await http2Upstream(t, { settings: { enableConnectProtocol: true } })
  onStream((stream) => {
    stream.respond({ ':status': 403 })
    stream.end('no')
  })
  const { call, stat } = await lab(t, { port })
  const c = call({ upgrade: true, protocol: 'websocket' })
  await until(() => c.ended, 'answer')
  t.equal(c.status, 403)
  t.notOk(c.upgraded)
  t.equal(c.text, 'no')
  t.equal(stat('upstream_rq_active'), 0)
})

t.test('extended CONNECT waits for SETTINGS and is not sent to a peer that does not permit it', async (t) => {
  let peer: RawPeer | undefined
  const { port, peers } = await rawUpstream(
    t,
    () => {},
    (p) => {
      peer = p
    },
  )
  const { call, stat } = await lab(t, { port })
  const upgrade = call({ upgrade: true, protocol: 'websocket' })
  const plain = call()
  await until(() => peers[0]?.frames.some((f) => f.type === T.HEADERS), 'plain request')
  t.equal(plain.info.length, 1, 'which does not wait behind it')
  t.equal(upgrade.info.length, 0)
  t.equal(stat('upstream_rq_pending_active'), 1)
  peer?.send(settings([SETTING.MAX_CONCURRENT_STREAMS, 10]), settingsAck())
  await until(() => upgrade.over, 'failure')
  t.match(upgrade.failure, { status: 502, retry: 'never' })
  t.match(upgrade.detail, /does not permit extended CONNECT/)
  const next = call({ upgrade: true, protocol: 'websocket' })
  t.ok(next.over, 'what is known is known at once')
  t.equal(next.stream, undefined)
  t.equal(peers[0].frames.filter((f) => f.type === T.HEADERS).length, 1)
})
