import { createServer as createHttp1Server } from 'node:http'
import { createServer as createHttp2Server } from 'node:http2'
import { connect, createServer } from 'node:net'
import type { Test } from 'tap'
import t from 'tap'
import { FAILURES } from '../../lib/core/failure.ts'
import { settle } from '../support/clock.ts'
import { goaway, headers, rstStream, SETTING, settings, settingsAck, T } from '../support/http2-wire.ts'
import {
  type Call,
  type Http2Upstream,
  http2Upstream,
  lab,
  listen,
  type RawPeer,
  rawUpstream,
  until,
} from './http2-lab.ts'

/** HTTP/2 connections of one host: how many there are, which of them serves, how they come and go. */

/** An upstream that answers when told, oldest request first. */
interface HeldUpstream extends Http2Upstream {
  readonly waiting: (() => void)[]
  release(count?: number): void
}

async function heldUpstream(t: Test, maxConcurrentStreams?: number): Promise<HeldUpstream> {
  const upstream = await http2Upstream(t, { settings: { maxConcurrentStreams } })
  const waiting: (() => void)[] = []
  upstream.onStream((stream) => waiting.push(() => stream.respond({ ':status': 200 }, { endStream: true })))
  return {
    ...upstream,
    waiting,
    release: (count = waiting.length) => {
      for (const answer of waiting.splice(0, count)) answer()
    },
  }
}

function answered(calls: readonly Call[]): boolean {
  return calls.every((c) => c.ended)
}

function connectionsOf(calls: readonly Call[]): (number | undefined)[] {
  return calls.map((c) => c.info.at(-1)?.connectionId)
}

/** Makes a connection whose SETTINGS are known. */
async function warmUp(call: () => Call, upstream: HeldUpstream): Promise<void> {
  const c = call()
  await until(() => upstream.waiting.length === 1, 'first request')
  upstream.release()
  await until(() => c.ended, 'first answer')
}

t.test('a peer that permits one stream gets a connection per request, and fewer when it permits more', async (t) => {
  const upstream = await heldUpstream(t, 1)
  const { call, stat } = await lab(t, { port: upstream.port })
  await warmUp(call, upstream)
  const calls = [call(), call(), call()]
  await until(() => upstream.waiting.length === 3, 'three at a time')
  t.equal(upstream.sessions.length, 3)
  t.equal(new Set(connectionsOf(calls)).size, 3)
  upstream.release()
  await until(() => answered(calls), 'answers')
  await Promise.all(
    upstream.sessions.map(
      (session) => new Promise<void>((resolve) => session.settings({ maxConcurrentStreams: 10 }, () => resolve())),
    ),
  )
  const more = Array.from({ length: 12 }, () => call())
  await until(() => upstream.waiting.length === 12, 'twelve at a time')
  upstream.release()
  await until(() => answered(more), 'answers')
  t.equal(stat('upstream_cx_total'), 3)
  t.equal(stat('upstream_rq_pending_active'), 0)
  const load = new Map<number | undefined, number>()
  for (const id of connectionsOf(more)) load.set(id, (load.get(id) ?? 0) + 1)
  t.same([...load.values()], [4, 4, 4], 'streams are spread')
})

t.test('a limit that is lowered holds at once; what is open beyond it goes on', async (t) => {
  const upstream = await heldUpstream(t, 10)
  const { call, stat } = await lab(t, { port: upstream.port, limits: { maxConnections: 1 } })
  await warmUp(call, upstream)
  const calls = Array.from({ length: 4 }, () => call())
  await until(() => upstream.waiting.length === 4, 'four at a time')
  await new Promise<void>((resolve) => upstream.sessions[0].settings({ maxConcurrentStreams: 2 }, () => resolve()))
  const waits = call()
  t.equal(stat('upstream_rq_pending_active'), 1)
  for (const left of [3, 2]) {
    upstream.release(1)
    await until(() => stat('upstream_rq_active') === left, 'one less')
    t.equal(stat('upstream_rq_pending_active'), 1, `with ${left} left there is no room`)
  }
  upstream.release(1)
  await until(() => stat('upstream_rq_pending_active') === 0, 'room')
  t.equal(stat('upstream_rq_active'), 2)
  await until(() => upstream.waiting.length === 2, 'the one that waited')
  upstream.release()
  await until(() => answered([...calls, waits]), 'answers')
  t.equal(stat('upstream_cx_total'), 1)
})

t.test('before SETTINGS have come no more streams are sent than any peer should permit', async (t) => {
  const { port, peers } = await rawUpstream(t, () => {})
  const { call, stat } = await lab(t, { port })
  const calls = Array.from({ length: 150 }, () => call())
  const requests = (): number => peers[0].frames.filter((f) => f.type === T.HEADERS).length
  await until(() => peers[0] !== undefined && requests() === 100, 'optimistic streams')
  await settle(10)
  t.equal(requests(), 100)
  t.equal(stat('upstream_rq_pending_active'), 50)
  t.equal(peers.length, 1)
  peers[0].send(settings([SETTING.MAX_CONCURRENT_STREAMS, 120]), settingsAck())
  await until(() => requests() === 120 && peers.length === 2, 'the peer’s own limit, and a connection for the rest')
  await until(() => peers[1].frames.filter((f) => f.type === T.HEADERS).length === 30, 'the rest')
  peers[1].send(settings(), settingsAck())
  for (const peer of peers) {
    for (const f of peer.frames) if (f.type === T.HEADERS) peer.send(headers(f.streamId, [[':status', '200']], true))
  }
  await until(() => answered(calls), 'answers')
})

t.test('streams refused because SETTINGS came too late are repeated without loss', async (t) => {
  const upstream = await http2Upstream(t, { settings: { maxConcurrentStreams: 2 } })
  upstream.onStream((stream) => setImmediate(() => stream.respond({ ':status': 200 }, { endStream: true })))
  const { call } = await lab(t, { port: upstream.port })
  const calls = Array.from({ length: 20 }, () => call({ repeat: true }))
  await until(() => calls.every((c) => c.over), 'ends')
  t.ok(answered(calls))
  for (const c of calls) for (const failure of c.failures) t.equal(failure, FAILURES.upstreamRefused)
})

t.test('the next connection is opened before the last one is full', async (t) => {
  const upstream = await heldUpstream(t, 5)
  const { call, stat } = await lab(t, { port: upstream.port })
  await warmUp(call, upstream)
  const calls = [call(), call(), call()]
  await settle(5)
  t.equal(stat('upstream_cx_total'), 1)
  calls.push(call())
  t.equal(stat('upstream_cx_total'), 2, 'with the fourth of five')
  await until(() => upstream.sessions.length === 2, 'connection')
  await settle(5)
  t.equal(stat('upstream_rq_pending_active'), 0)
  calls.push(call(), call())
  t.same(connectionsOf(calls), [1, 1, 1, 1, 2, 2], 'the emptier one takes what comes')
  t.equal(stat('upstream_rq_pending_total'), 1, 'nobody had to wait but the first of all')
  await until(() => upstream.waiting.length === 6, 'requests')
  upstream.release()
  await until(() => answered(calls), 'answers')
})

t.test(
  'connections are opened ahead only where breakers leave room, and nothing is counted where they do not',
  async (t) => {
    for (const cluster of [{ limits: { maxConnections: 1 } }, { cluster: { maxConnectionsPerHost: 1 } }]) {
      const upstream = await heldUpstream(t, 5)
      const { call, stat } = await lab(t, { port: upstream.port, ...cluster })
      await warmUp(call, upstream)
      const calls = Array.from({ length: 5 }, () => call())
      t.equal(stat('upstream_cx_total'), 1)
      t.equal(stat('upstream_cx_overflow'), 0)
      const beyond = call()
      t.equal(stat('upstream_cx_overflow'), 1, 'a request that needs one is counted')
      await until(() => upstream.waiting.length === 5, 'requests')
      upstream.release(1)
      await until(() => upstream.waiting.length === 5, 'the one that waited')
      upstream.release()
      await until(() => answered([...calls, beyond]), 'answers')
    }
  },
)

t.test('preconnecting keeps that much more room than is used', async (t) => {
  const upstream = await heldUpstream(t, 10)
  const { call, stat } = await lab(t, { port: upstream.port, cluster: { preconnectRatio: 3 } })
  await warmUp(call, upstream)
  const calls: Call[] = []
  const connections: number[] = []
  for (let i = 0; i < 7; i++) {
    calls.push(call())
    await until(() => upstream.sessions.length === stat('upstream_cx_total'), 'connection')
    await settle(5)
    connections.push(stat('upstream_cx_total'))
  }
  t.same(connections, [1, 1, 1, 2, 2, 2, 3])
  await until(() => upstream.waiting.length === 7, 'requests')
  upstream.release()
  await until(() => answered(calls), 'answers')
})

t.test('connections that go away under load lose nothing', async (t) => {
  const upstream = await http2Upstream(t)
  let served = 0
  upstream.onStream((stream) => {
    if (++served % 10 === 0) stream.session?.close()
    setImmediate(() => stream.respond({ ':status': 200 }, { endStream: true }))
  })
  const { call, stat } = await lab(t, { port: upstream.port })
  const calls: Call[] = []
  for (let i = 0; i < 300; i++) {
    calls.push(call({ repeat: true }))
    if (i % 3 === 0) await settle(1)
  }
  await until(() => calls.every((c) => c.over), 'ends')
  t.equal(calls.filter((c) => !c.ended).length, 0)
  for (const c of calls) for (const failure of c.failures) t.equal(failure.retry, 'always')
  t.ok(stat('upstream_cx_close_notify') >= 10, `${stat('upstream_cx_close_notify')} connections were replaced`)
  t.equal(upstream.requests.length, calls.length, 'and nothing was served twice')
})

t.test('a GOAWAY without room for those in flight has them repeated elsewhere, those that wait go along', async (t) => {
  let first: RawPeer | undefined
  const { port, peers } = await rawUpstream(t, (f, peer) => {
    first ??= peer
    if (f.type === T.SETTINGS && f.flags === 0) peer.send(settings([SETTING.MAX_CONCURRENT_STREAMS, 3]), settingsAck())
    if (f.type !== T.HEADERS) return
    if (peer !== first) peer.send(headers(f.streamId, [[':status', '200']], true))
    else if (f.streamId === 5) peer.send(goaway(0), rstStream(1, 8))
  })
  const { call, stat } = await lab(t, { port, limits: { maxConnections: 1 } })
  const calls = Array.from({ length: 5 }, () => call({ repeat: true }))
  await until(() => calls.every((c) => c.over), 'ends')
  t.ok(answered(calls))
  t.ok(peers.length >= 2)
  t.equal(stat('upstream_rq_pending_active'), 0)
})

t.test('max_requests bounds streams, max_pending_requests those that wait', async (t) => {
  const upstream = await heldUpstream(t, 1)
  const limits = { maxRequests: 2, maxPendingRequests: 1, maxConnections: 2 }
  const { call, stat } = await lab(t, { port: upstream.port, limits })
  await warmUp(call, upstream)
  const calls = [call(), call()]
  await until(() => upstream.waiting.length === 2, 'two at a time')
  const waits = call()
  t.equal(stat('upstream_rq_pending_active'), 1)
  const beyond = call()
  t.equal(beyond.stream, undefined)
  t.equal(beyond.failure, FAILURES.overflow)
  t.equal(stat('upstream_rq_pending_overflow'), 1)
  t.equal(stat('circuit_breakers.default.rq_pending_open'), 1)
  t.equal(stat('circuit_breakers.default.rq_open'), 1)
  const urgent = call({ priority: 'high' })
  t.notOk(urgent.over, 'each priority has its own')
  upstream.release(1)
  await until(() => upstream.waiting.length === 3, 'those that waited')
  upstream.release()
  await until(() => answered([...calls, waits, urgent]), 'answers')
  const wide = await heldUpstream(t)
  const second = await lab(t, { port: wide.port, limits: { maxRequests: 2 } })
  await warmUp(second.call, wide)
  const [a, b, c] = [second.call(), second.call(), second.call()]
  t.equal(c.failure, FAILURES.overflow, 'though the connection has room')
  await until(() => wide.waiting.length === 2, 'the others')
  wide.release()
  await until(() => answered([a, b]), 'answers')
})

t.test('who waits at one priority does not hold up the other', async (t) => {
  for (const protocol of ['http1', 'http2'] as const) {
    const held: (() => void)[] = []
    const order: (string | undefined)[] = []
    const server =
      protocol === 'http1'
        ? createHttp1Server((request, response) => {
            order.push(request.url)
            held.push(() => response.end())
          })
        : createHttp2Server({ settings: { maxConcurrentStreams: 1 } }, (request, response) => {
            order.push(request.url)
            held.push(() => response.end())
          })
    const port = await listen(t, server)
    const limits = { maxConnections: 1 }
    const { call, stat } = await lab(t, { port, limits, cluster: { protocol } })
    const first = call({ path: '/first' })
    await until(() => held.length === 1, 'first request')
    const calls = [call({ path: '/default' }), call({ path: '/default' }), call({ path: '/high', priority: 'high' })]
    await until(() => held.length === 2, `the other priority (${protocol})`)
    t.same(order, ['/first', '/high'], protocol)
    t.equal(stat('upstream_cx_active'), 2)
    t.equal(stat('upstream_rq_pending_active'), 2)
    for (let i = 0; i < 4; i++) {
      await until(() => held.length > i, 'request')
      held[i]()
    }
    await until(() => answered([first, ...calls]), 'answers')
    t.equal(stat('upstream_rq_pending_active'), 0)
  }
})

t.test('an idle connection closes after its time, one in use does not', async (t) => {
  const upstream = await heldUpstream(t)
  const { call, clock, stat } = await lab(t, { port: upstream.port, cluster: { idleTimeoutMs: 30_000 } })
  const c = call()
  await until(() => upstream.waiting.length === 1, 'request')
  await settle(5)
  clock.advance(100_000)
  await settle(5)
  t.equal(stat('upstream_cx_active'), 1)
  upstream.release()
  await until(() => c.ended, 'answer')
  clock.advance(29_000)
  await settle(5)
  t.equal(stat('upstream_cx_active'), 1)
  clock.advance(2_000)
  await until(() => stat('upstream_cx_active') === 0, 'end')
  t.equal(stat('upstream_cx_idle_timeout'), 1)
  t.equal(stat('upstream_cx_destroy_local'), 1)
  t.equal(stat('upstream_cx_destroy_with_active_rq'), 0)
  t.equal(stat('http2.goaway_sent'), 1)
})

t.test('a connection retires by age and by number of requests, and finishes what it carries', async (t) => {
  const upstream = await heldUpstream(t)
  const cluster = { maxConnectionDurationMs: 60_000, maxRequestsPerConnection: 3 }
  const { call, clock, stat } = await lab(t, { port: upstream.port, cluster })
  const calls = Array.from({ length: 4 }, () => call())
  await until(() => upstream.waiting.length === 4, 'requests')
  t.same(connectionsOf(calls), [1, 1, 1, 2])
  t.equal(stat('upstream_cx_max_requests'), 1)
  upstream.release()
  await until(() => answered(calls) && stat('upstream_cx_active') === 1, 'answers and the end of the first')
  const old = call()
  await until(() => upstream.waiting.length === 1, 'request')
  clock.advance(61_000)
  t.equal(stat('upstream_cx_max_duration_reached'), 1)
  const next = call()
  await until(() => upstream.waiting.length === 2, 'request')
  t.same(connectionsOf([old, next]), [2, 3])
  upstream.release()
  await until(() => answered([old, next]) && stat('upstream_cx_active') === 1, 'answers and the end of the second')
  t.equal(stat('upstream_cx_max_requests'), 1)
})

t.test('all who wait for a connection learn that there is none', async (t) => {
  const server = createServer()
  const port = await listen(t, server)
  await new Promise((resolve) => server.close(resolve))
  const { call, stat } = await lab(t, { port })
  const calls = [call(), call(), call()]
  await until(() => calls.every((c) => c.over), 'failures')
  for (const c of calls) {
    t.equal(c.failure, FAILURES.connectFailed)
    t.equal(c.detail, 'delayed connect error: Connection refused')
  }
  t.equal(stat('upstream_cx_connect_fail'), 1)
  t.equal(stat('upstream_rq_pending_failure_eject'), 3)
  t.equal(stat('upstream_rq_total'), 0)
  t.equal(stat('upstream_cx_destroy_remote'), 1)
})

t.test('a connection that takes too long to make fails those who wait', async (t) => {
  const { call, clock, stat } = await lab(t, { port: 9, cluster: { connectTimeoutMs: 1_000 } })
  // No turn of the loop passes between: the connection cannot have been made or refused.
  const c = call()
  clock.advance(1_100)
  await until(() => c.over, 'failure')
  t.equal(c.failure, FAILURES.connectTimeout)
  t.equal(c.detail, undefined)
  t.equal(stat('upstream_cx_connect_timeout'), 1)
  t.equal(stat('upstream_cx_connect_fail'), 1)
})

t.test('a cluster that retires lets its requests finish, also one that came a moment too late', async (t) => {
  const upstream = await heldUpstream(t)
  const { cluster, call, host, stat } = await lab(t, { port: upstream.port })
  const busy = call()
  await until(() => upstream.waiting.length === 1, 'request')
  const picked = host()
  cluster.retire()
  let drained = false
  void cluster.drained().then(() => {
    drained = true
  })
  const late = call({ host: picked })
  await until(() => upstream.waiting.length === 2, 'late request')
  t.equal(drained, false)
  upstream.release()
  await until(() => answered([busy, late]) && drained, 'answers and the end of the connections')
  t.equal(stat('upstream_cx_active'), 0)
  t.equal(stat('upstream_cx_destroy_local'), 2)
})

t.test('a connection that was kept for a request which gives up closes when its cluster retires', async (t) => {
  // SETTINGS never come, and only they permit extended CONNECT.
  const { port, peers } = await rawUpstream(t, () => {})
  const { cluster, call } = await lab(t, { port, cluster: { idleTimeoutMs: 0 } })
  const waits = call({ upgrade: true, protocol: 'websocket' })
  await until(() => peers[0]?.frames.length > 0, 'connection')
  let drained = false
  cluster.retire()
  void cluster.drained().then(() => {
    drained = true
  })
  await settle(5)
  t.equal(drained, false, 'not before')
  waits.stream?.cancel()
  await until(() => drained, 'end of the connection')
  t.ok(drained)
})

t.test('a cluster that is destroyed ends what it carries', async (t) => {
  const upstream = await heldUpstream(t, 1)
  const { cluster, call, host, stat } = await lab(t, { port: upstream.port, limits: { maxConnections: 1 } })
  await warmUp(call, upstream)
  const picked = host()
  const [busy, waits] = [call(), call()]
  await until(() => upstream.waiting.length === 1, 'request')
  cluster.destroy()
  await until(() => busy.over && waits.over, 'failures')
  t.equal(busy.failure, FAILURES.upstreamClosed)
  t.equal(waits.failure, FAILURES.connectFailed)
  t.equal(call({ host: picked }).failure, FAILURES.noHealthyHost)
  await until(() => stat('upstream_cx_active') === 0, 'the end')
  t.equal(stat('upstream_cx_destroy_local_with_active_rq'), 1)
})

t.test('bytes of connections are counted while they last and when they end', async (t) => {
  const upstream = await http2Upstream(t)
  upstream.onStream((stream) => {
    stream.respond({ ':status': 200 })
    stream.end(Buffer.alloc(100_000))
  })
  const { call, cluster, clock, stat } = await lab(t, { port: upstream.port })
  const c = call()
  await until(() => c.ended, 'answer')
  t.equal(stat('upstream_cx_rx_bytes_total'), 0)
  clock.advance(6_000)
  const received = stat('upstream_cx_rx_bytes_total')
  t.ok(received > 100_000 && received < 110_000, `${received} bytes`)
  t.ok(stat('upstream_cx_tx_bytes_total') > 24)
  const next = call()
  await until(() => next.ended, 'second answer')
  cluster.retire()
  await until(() => stat('upstream_cx_active') === 0, 'end')
  const all = stat('upstream_cx_rx_bytes_total')
  t.ok(all > 200_000 && all < 220_000, `${all} bytes`)
})

t.test('a cluster that answers in kind has a pool for each protocol of its clients', async (t) => {
  const http2 = await http2Upstream(t)
  http2.onStream((stream) => stream.respond({ ':status': 200 }, { endStream: true }))
  const http1 = createHttp1Server((_, response) => void response.end('one'))
  const http1Port = await listen(t, http1)
  // One port for both: whoever begins with the preface speaks HTTP/2.
  const port = await listen(
    t,
    createServer((socket) => {
      socket.once('data', (bytes) => {
        const origin = connect(bytes.toString().startsWith('PRI') ? http2.port : http1Port, '127.0.0.1')
        origin.on('error', () => {})
        origin.write(bytes)
        socket.pipe(origin).pipe(socket)
      })
    }),
  )
  const { call, cluster, stat } = await lab(t, { port, cluster: { protocol: 'downstream' } })
  const calls = (['HTTP/1.0', 'HTTP/1.1', 'HTTP/2', 'HTTP/2'] as const).map((downstream) => call({ downstream }))
  await until(() => answered(calls), 'answers')
  t.same(
    calls.map((c) => c.info[0].protocol),
    ['HTTP/1.1', 'HTTP/1.1', 'HTTP/2', 'HTTP/2'],
  )
  t.equal(stat('upstream_cx_http1_total'), 2)
  t.equal(stat('upstream_cx_http2_total'), 1)
  cluster.retire()
  await cluster.drained()
  t.equal(stat('upstream_cx_active'), 0)
})

t.test('the ends of HTTP/1 connections are counted by who ended them', async (t) => {
  const server = createHttp1Server((request, response) => {
    if (request.url === '/die') request.socket.destroy()
    else if (request.url === '/close') response.writeHead(200, { connection: 'close' }).end('bye')
    else response.end('hello')
  })
  const port = await listen(t, server)
  const { call, clock, stat } = await lab(t, { port, cluster: { protocol: 'http1', idleTimeoutMs: 10_000 } })
  const died = call({ path: '/die' })
  await until(() => died.over && stat('upstream_cx_active') === 0, 'first end')
  t.equal(died.failure, FAILURES.upstreamClosed)
  t.same([stat('upstream_cx_destroy_remote'), stat('upstream_cx_destroy_remote_with_active_rq')], [1, 1])
  const idle = call()
  await until(() => idle.ended, 'answer')
  await settle(5)
  clock.advance(11_000)
  await until(() => stat('upstream_cx_active') === 0, 'second end')
  t.same([stat('upstream_cx_destroy_local'), stat('upstream_cx_destroy_local_with_active_rq')], [1, 0])
  t.equal(stat('upstream_cx_idle_timeout'), 1)
  t.ok(stat('upstream_cx_rx_bytes_total') > 50)
  t.ok(stat('upstream_cx_tx_bytes_total') > 50)
  await new Promise((resolve) => server.close(resolve))
  const refused = [call(), call()]
  await until(() => refused.every((c) => c.over), 'failures')
  t.equal(stat('upstream_rq_pending_failure_eject'), 2)
})
