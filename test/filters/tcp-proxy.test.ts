import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type Socket } from 'node:net'
import t from 'tap'
import type { TcpProxyConfig } from '../../filters/tcp-proxy/config.ts'
import { compileTcpProxy } from '../../filters/tcp-proxy/filter.ts'
import type { Session } from '../../filters/tcp-proxy/session.ts'
import type { NetworkConnection, NetworkScope } from '../../lib/chain/network.ts'
import type { ByteEvents, ByteStream, Cluster, UpstreamInfo } from '../../lib/core/attempt.ts'
import { FAILURES, type Failure } from '../../lib/core/failure.ts'
import { StreamInfo } from '../../lib/core/stream-info.ts'
import { TimerWheel } from '../../lib/core/timer-wheel.ts'
import { MetricsStore } from '../../lib/telemetry/metrics.ts'
import { cluster, type Fields } from '../end-to-end/bootstrap.ts'
import { settle, TestClock } from '../support/clock.ts'
import { socketPath } from '../support/socket-path.ts'
import type { Wire } from '../support/wire.ts'
import { filter, layer4, RawOrigin, tcpProxy } from './layer4-setup.ts'

/** A port on which nobody listens. */
async function deadPort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as { port: number }
  await new Promise((resolve) => server.close(resolve))
  return port
}

t.test('bytes pass both ways, each direction ends by itself, and the log has Envoy’s values', async (t) => {
  const l4 = await layer4(t, {
    filters: (log) => [
      tcpProxy({
        access_log: [
          log(
            '%PROTOCOL% %RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %UPSTREAM_CLUSTER% %UPSTREAM_HOST% ' +
              '%ACCESS_LOG_TYPE% %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %REQUESTED_SERVER_NAME% %REQ(:PATH)% ' +
              '%CONNECTION_TERMINATION_DETAILS% %REQ(:SCHEME)% %UPSTREAM_WIRE_BYTES_SENT%',
          ),
        ],
        access_log_options: { flush_access_log_on_connected: true },
      }),
    ],
    listenerLog: 'listener %ACCESS_LOG_TYPE% %BYTES_RECEIVED% %BYTES_SENT% %UPSTREAM_CLUSTER%',
  })
  const client = await l4.connect()
  const origin = await l4.origin.accept()
  origin.write('server first')
  t.equal((await client.readBytes(12)).toString(), 'server first')
  client.write('hello')
  t.equal((await origin.readBytes(5)).toString(), 'hello')
  client.end()
  t.equal(await origin.expectEnd(), 'fin', 'the FIN is passed on')
  origin.write('the rest')
  t.equal((await client.readBytes(8)).toString(), 'the rest', 'the other direction goes on')
  origin.end()
  t.equal(await client.expectEnd(), 'fin')
  await l4.gateway.until(() => l4.gateway.stat('listener.127.0.0.1_0.downstream_cx_destroy') === 1, 'end')
  t.equal(l4.gateway.stat('tcp.l4.downstream_cx_total'), 1)
  t.equal(l4.gateway.stat('tcp.l4.downstream_cx_rx_bytes_total'), 5)
  t.equal(l4.gateway.stat('tcp.l4.downstream_cx_tx_bytes_total'), 20)
  t.equal(l4.gateway.stat('cluster.origin.upstream_cx_active'), 0)
  const lines = await l4.finish()
  const host = `127.0.0.1:${l4.origin.port}`
  t.same(lines, [
    `- 0 - 0 0 origin ${host} TcpUpstreamConnected 127.0.0.1 - - - - 0`,
    `- 0 - 5 20 origin ${host} TcpConnectionEnd 127.0.0.1 - - - - 5`,
    'listener NotSet 5 20 origin',
  ])
})

t.test('the origin may end first, and the client goes on', async (t) => {
  const l4 = await layer4(t)
  const client = await l4.connect()
  const origin = await l4.origin.accept()
  origin.end()
  t.equal(await client.expectEnd(), 'fin')
  client.write('still talking')
  t.equal((await origin.readBytes(13)).toString(), 'still talking')
  client.end()
  t.equal(await origin.expectEnd(), 'fin')
})

t.test('a reset is passed on as one, both ways', async (t) => {
  const l4 = await layer4(t)
  const first = await l4.connect()
  const origin = await l4.origin.accept()
  first.write('x')
  await origin.readBytes(1)
  origin.reset()
  t.equal(await first.expectEnd(), 'reset')
  const second = await l4.connect()
  const other = await l4.origin.accept()
  other.write('y')
  await second.readBytes(1)
  second.reset()
  t.equal(await other.expectEnd(), 'reset')
})

t.test('64 MiB each way, against readers that are slow, in bounded memory', async (t) => {
  const l4 = await layer4(t)
  const client = await l4.connect()
  const origin = await l4.origin.accept()
  const total = 64 * 1024 * 1024
  const pieces = [3, 5, 7].map((seed) => Buffer.from(Array.from({ length: 1 << 20 }, (_, i) => (i * seed) >> 3)))
  const piece = (at: number): Buffer => pieces[at % pieces.length]
  const send = async (wire: typeof client): Promise<void> => {
    for (let i = 0; i < total >> 20; i++) await wire.write(piece(i))
    wire.end()
  }
  const sum = createHash('sha256')
  for (let i = 0; i < total >> 20; i++) sum.update(piece(i))
  const expected = sum.digest('hex')
  let most = 0
  const receive = async (wire: typeof client, count: string): Promise<string> => {
    const seen = createHash('sha256')
    let received = 0
    for (;;) {
      const bytes = await wire.stream.takeSome(256 * 1024, 'bytes')
      if (bytes === undefined) return seen.digest('hex')
      received += bytes.length
      seen.update(bytes)
      most = Math.max(most, l4.gateway.stat(`tcp.l4.${count}`) - received)
      if (received % (4 * 1024 * 1024) < 64 * 1024) await settle()
    }
  }
  const [, , up, down] = await Promise.all([
    send(client),
    send(origin),
    receive(origin, 'downstream_cx_rx_bytes_total'),
    receive(client, 'downstream_cx_tx_bytes_total'),
  ])
  t.equal(up, expected, 'memory that is read into again was not needed any more')
  t.equal(down, expected)
  // The kernel's buffers are in it, and what the test's own reader holds.
  t.ok(most < 24 * 1024 * 1024, `${most} bytes were under way at most`)
  t.ok(l4.gateway.stat('tcp.l4.downstream_flow_control_paused_reading_total') > 0, 'the client was held back')
})

t.test('nobody reads: what the gateway takes is bounded', async (t) => {
  const l4 = await layer4(t, { listener: { per_connection_buffer_limit_bytes: 65_536 } })
  const client = await l4.connect()
  const origin = await l4.origin.accept()
  origin.stream.hold()
  client.stream.hold()
  const chunk = Buffer.alloc(256 * 1024)
  let sent = 0
  for (; sent < 256 * 1024 * 1024; sent += chunk.length) {
    client.socket.write(chunk)
    for (let i = 0; i < 50 && client.socket.writableLength > 0; i++) await settle()
    if (client.socket.writableLength > 0) break
  }
  t.ok(sent < 64 * 1024 * 1024, `it stopped after ${sent} bytes`)
  t.ok(l4.gateway.stat('tcp.l4.downstream_cx_rx_bytes_total') < 32 * 1024 * 1024)
})

t.test('a host that cannot be reached is passed over for the next, within the attempts that are allowed', async (t) => {
  const dead = await deadPort()
  const l4 = await layer4(t, {
    filters: (log) => [
      tcpProxy({
        cluster: 'pair',
        max_connect_attempts: 3,
        access_log: [log('%RESPONSE_FLAGS% %UPSTREAM_REQUEST_ATTEMPT_COUNT% %UPSTREAM_TRANSPORT_FAILURE_REASON%')],
      }),
    ],
    clusters: [cluster('pair', [dead, dead])],
  })
  const client = await l4.connect()
  t.equal(await client.expectEnd(), 'fin')
  client.end()
  t.equal(l4.gateway.stat('cluster.pair.upstream_cx_connect_fail'), 3)
  t.equal(l4.gateway.stat('cluster.pair.upstream_cx_connect_attempts_exceeded'), 1)
  t.same(await l4.finish(), ['UF,URX 3 delayed_connect_error:_Connection_refused'])
})

t.test('the next attempt takes another host, after the backoff', async (t) => {
  const clock = new TestClock()
  const dead = await deadPort()
  const origin = await RawOrigin.start()
  t.teardown(() => origin.close())
  const l4 = await layer4(t, {
    filters: [
      tcpProxy({
        cluster: 'pair',
        max_connect_attempts: 2,
        backoff_options: { base_interval: '2s', max_interval: '10s' },
      }),
    ],
    clusters: [cluster('pair', [dead, origin.port])],
    gateway: { clock, random: () => 0.999 },
  })
  const client = await l4.connect()
  await l4.gateway.until(() => l4.gateway.stat('cluster.pair.upstream_cx_connect_fail') > 0 || origin.total > 0, 'try')
  if (origin.total === 0) {
    clock.advance(1_900)
    await settle()
    t.equal(origin.total, 0, 'not before its time')
    clock.advance(200)
  }
  const upstream = await origin.accept()
  client.write('made it')
  t.equal((await upstream.readBytes(7)).toString(), 'made it')
  await l4.finish()
})

t.test('no host, no cluster, no room: closed, with the flag that says so', async (t) => {
  const cases = [
    { name: 'none', fields: { cluster: 'none' }, line: 'UH none no_healthy_upstream' },
    { name: 'full', fields: { cluster: 'full' }, line: 'UO full overflow' },
  ]
  for (const { name, fields, line } of cases) {
    await t.test(name, async (t) => {
      const l4 = await layer4(t, {
        filters: (log) => [
          tcpProxy({
            ...fields,
            access_log: [log('%RESPONSE_FLAGS% %UPSTREAM_CLUSTER% %CONNECTION_TERMINATION_DETAILS%')],
          }),
        ],
        clusters: [
          { name: 'none', type: 'STATIC' },
          cluster('full', 1, { circuit_breakers: { thresholds: [{ max_connections: 0 }] } }),
        ],
      })
      const client = await l4.connect()
      t.equal(await client.expectEnd(), 'fin')
      t.same(await l4.finish(), [line])
    })
  }
})

t.test('filter state chooses the cluster, and one that does not exist closes', async (t) => {
  const other = await RawOrigin.start()
  t.teardown(() => other.close())
  for (const [name, expected] of [
    ['second', 'connected'],
    ['nowhere', 'NC - cluster_not_found'],
  ] as const) {
    const state = { object_key: 'envoy.tcp_proxy.cluster', format_string: { text_format: name } }
    const l4 = await layer4(t, {
      filters: (log) => [
        filter('set_filter_state', 'Config', { on_new_connection: [state] }),
        tcpProxy({
          access_log: [log('%RESPONSE_FLAGS% %UPSTREAM_CLUSTER% %CONNECTION_TERMINATION_DETAILS%')],
        }),
      ],
      clusters: [cluster('second', other.port)],
    })
    const client = await l4.connect()
    if (expected === 'connected') {
      const upstream = await other.accept()
      client.write('hi')
      t.equal((await upstream.readBytes(2)).toString(), 'hi')
      await l4.finish()
      continue
    }
    t.equal(await client.expectEnd(), 'fin')
    t.equal(l4.gateway.stat('tcp.l4.downstream_cx_no_route'), 1)
    t.same(await l4.finish(), [expected])
  }
})

t.test('weighted clusters share by weight', async (t) => {
  const other = await RawOrigin.start()
  t.teardown(() => other.close())
  const draws = [0.1, 0.74, 0.76, 0.99]
  let next = 0
  const weighted_clusters = {
    clusters: [
      { name: 'origin', weight: 3 },
      { name: 'other', weight: 1 },
    ],
  }
  const l4 = await layer4(t, {
    filters: [tcpProxy({ cluster: undefined, weighted_clusters })],
    clusters: [cluster('other', other.port)],
    gateway: { random: () => draws[next++ % draws.length] },
  })
  for (const draw of draws) {
    // The balancer draws too: each connection begins at its own place.
    next = draws.indexOf(draw)
    await l4.connect()
    await (draw < 0.75 ? l4.origin : other).accept()
  }
  t.equal(l4.origin.total, 2)
  t.equal(other.total, 2)
})

t.test('idle connections end, busy ones do not, on either side’s bytes', async (t) => {
  const clock = new TestClock()
  const l4 = await layer4(t, {
    filters: (log) => [
      tcpProxy({
        idle_timeout: '10s',
        access_log: [log('%RESPONSE_FLAGS% %CONNECTION_TERMINATION_DETAILS% %DURATION%')],
      }),
    ],
    gateway: { clock },
  })
  const client = await l4.connect()
  const origin = await l4.origin.accept()
  client.write('a')
  await origin.readBytes(1)
  clock.advance(9_000)
  origin.write('b')
  await client.readBytes(1)
  clock.advance(9_000)
  client.write('c')
  await origin.readBytes(1)
  t.equal(l4.gateway.stat('tcp.l4.idle_timeout'), 0)
  clock.advance(10_100)
  t.equal(l4.gateway.stat('tcp.l4.idle_timeout'), 1)
  t.equal(await client.expectEnd(), 'fin')
  client.end()
  await origin.stream.untilEnd()
  const lines = await l4.finish()
  t.equal(lines.length, 1)
  t.match(lines[0], /^- tcp_session_idle_timeout 28\d\d\d$/)
})

t.test('that a slow upstream takes what it was sent is activity too', (t) => {
  const clock = new TestClock()
  const wheel = new TimerWheel(clock)
  let events: ByteEvents | undefined
  const stream: ByteStream = { write: () => false, end() {}, pause() {}, resume() {}, reset() {} }
  const scope = {
    wheel,
    metrics: new MetricsStore(),
    random: () => 0,
    openLogs: () => ({ log() {} }),
    clusters: {
      get: () => ({
        name: 'origin',
        pick: () => ({ addressText: '192.0.2.1:1', hostname: '' }),
        connect(_host: unknown, _attempt: unknown, asked: ByteEvents) {
          events = asked
          return stream
        },
      }),
    },
  } as unknown as NetworkScope
  const closes: string[] = []
  const connection = {
    facts: { state: { object: () => undefined, metadata: () => undefined } },
    info: new StreamInfo(0, 0),
    drained: false,
    pause() {},
    resume() {},
    close: (details: string) => void closes.push(details),
  } as unknown as NetworkConnection
  const config = { statPrefix: 'l4', clusters: [{ name: 'origin', weight: 1 }], idleTimeoutMs: 10_000, accessLogs: [] }
  const { onConnect, onRead, onClose, createState } = compileTcpProxy(config as unknown as TcpProxyConfig, scope)
  const session = createState?.(connection) as Session
  onConnect?.(connection, session)
  events?.onConnected({ connectionId: 1, localAddress: '', remoteAddress: '', tls: undefined } as UpstreamInfo)
  onRead?.(connection, Buffer.alloc(100), false, session)
  for (let i = 0; i < 3; i++) {
    clock.advance(8_000)
    events?.onDrain()
  }
  t.same(closes, [])
  clock.advance(11_000)
  t.same(closes, ['tcp_session_idle_timeout'])
  onClose?.(connection, session)
  t.equal(wheel.armed, 0)
  wheel.close()
  t.end()
})

t.test(
  'a connection whose forward proxy is replaced while its name is looked up goes on with the successor',
  async (t) => {
    const wheel = new TimerWheel(new TestClock())
    const connected: string[] = []
    const forward = (label: string, found: () => Promise<Failure | undefined>): Cluster =>
      ({
        name: 'dfp',
        prepare: found,
        pick: () => ({ addressText: '192.0.2.1:1', hostname: '' }),
        connect: () => void connected.push(label),
      }) as unknown as Cluster
    const before = Promise.withResolvers<Failure | undefined>()
    let live = forward('old', () => before.promise)
    const scope = {
      wheel,
      metrics: new MetricsStore(),
      random: () => 0,
      openLogs: () => ({ log() {} }),
      clusters: { get: () => live },
    } as unknown as NetworkScope
    const closes: string[] = []
    const connection = {
      facts: { state: { object: () => undefined, metadata: () => undefined } },
      info: new StreamInfo(0, 0),
      pause() {},
      resume() {},
      close: (details: string) => void closes.push(details),
    } as unknown as NetworkConnection
    const config = { statPrefix: 'l4', clusters: [{ name: 'dfp', weight: 1 }], accessLogs: [] }
    const { onConnect, onClose, createState } = compileTcpProxy(config as unknown as TcpProxyConfig, scope)
    const session = createState?.(connection) as Session
    onConnect?.(connection, session)
    live = forward('young', async () => undefined)
    // As it is told to those who wait when a cluster retires.
    before.resolve(FAILURES.dnsFailed)
    await settle()
    t.same(closes, [])
    t.same(connected, ['young'])
    onClose?.(connection, session)
    wheel.close()
  },
)

t.test('a client that goes away while its host is being connected to frees the attempt', async (t) => {
  // Nobody accepts: the handshake of TLS does not go on.
  const silent = await RawOrigin.start()
  t.teardown(() => silent.close())
  const l4 = await layer4(t, {
    filters: (log) => [tcpProxy({ cluster: 'silent', access_log: [log('%RESPONSE_FLAGS% %BYTES_RECEIVED%')] })],
    clusters: [
      cluster('silent', silent.port, {
        connect_timeout: '60s',
        transport_socket: {
          name: 'tls',
          typed_config: {
            '@type': 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext',
          },
        },
      }),
    ],
  })
  const client = await l4.connect()
  client.write('hello')
  const far = await silent.accept()
  await settle(10)
  client.reset()
  await far.readToEnd()
  await l4.gateway.until(() => l4.gateway.stat('cluster.silent.upstream_cx_active') === 0, 'end')
  t.same(await l4.finish(), ['- 0'])
})

t.test('a connection that was closed for want of a host is not timed any more', async (t) => {
  const clock = new TestClock()
  const l4 = await layer4(t, {
    filters: [
      tcpProxy({
        cluster: 'none',
        max_downstream_connection_duration: '0.5s',
        max_connect_attempts: 2,
        backoff_options: { base_interval: '0.2s' },
      }),
    ],
    clusters: [cluster('none', await deadPort())],
    gateway: { clock, random: () => 0.9 },
  })
  const client = await l4.connect()
  await l4.gateway.until(() => l4.gateway.stat('cluster.none.upstream_cx_connect_fail') === 1, 'first attempt')
  await clock.advanceAsync(200)
  t.equal(await client.expectEnd(), 'fin')
  await clock.advanceAsync(500)
  t.equal(l4.gateway.stat('tcp.l4.max_downstream_connection_duration'), 0)
  await l4.finish()
})

t.test('connections have an hour of silence unless told otherwise, and any time where it is 0', async (t) => {
  for (const [fields, after] of [
    [{}, 1],
    [{ idle_timeout: '0s' }, 0],
  ] as const) {
    const clock = new TestClock()
    const l4 = await layer4(t, { filters: [tcpProxy(fields)], gateway: { clock } })
    const client = await l4.connect()
    const origin = await l4.origin.accept()
    client.write('a')
    await origin.readBytes(1)
    clock.advance(3_599_000)
    t.equal(l4.gateway.stat('tcp.l4.idle_timeout'), 0)
    clock.advance(10_000)
    t.equal(l4.gateway.stat('tcp.l4.idle_timeout'), after)
    await l4.finish()
  }
})

t.test('the maximum duration ends a busy connection, with jitter on top', async (t) => {
  const clock = new TestClock()
  const l4 = await layer4(t, {
    filters: (log) => [
      tcpProxy({
        max_downstream_connection_duration: '10s',
        max_downstream_connection_duration_jitter_percentage: { value: 50 },
        access_log: [log('%RESPONSE_FLAGS% %CONNECTION_TERMINATION_DETAILS% %ACCESS_LOG_TYPE%')],
        access_log_options: { access_log_flush_interval: '4s' },
      }),
    ],
    gateway: { clock, random: () => 0.5 },
  })
  const client = await l4.connect()
  await l4.origin.accept()
  await l4.gateway.until(() => l4.gateway.stat('cluster.origin.upstream_cx_active') === 1, 'upstream')
  for (let i = 0; i < 12; i++) await clock.advanceAsync(1_000)
  t.equal(l4.gateway.stat('tcp.l4.max_downstream_connection_duration'), 0)
  await clock.advanceAsync(600)
  t.equal(l4.gateway.stat('tcp.l4.max_downstream_connection_duration'), 1)
  t.equal(await client.expectEnd(), 'fin')
  t.same(await l4.finish(), [
    '- - TcpPeriodic',
    '- - TcpPeriodic',
    '- - TcpPeriodic',
    'DT max_connection_duration TcpConnectionEnd',
  ])
})

t.test('the gateway drains: layer 4 goes on until the deadline', async (t) => {
  const clock = new TestClock()
  const l4 = await layer4(t, { gateway: { clock } })
  const client = await l4.connect()
  const origin = await l4.origin.accept()
  client.write('a')
  await origin.readBytes(1)
  const drained = l4.gateway.engine.drain(10_000)
  await settle()
  client.write('b')
  t.equal((await origin.readBytes(1)).toString(), 'b')
  await clock.advanceAsync(9_100)
  t.equal(await client.expectEnd(), 'fin')
  client.end()
  await clock.advanceAsync(1_000)
  await drained
  await l4.finish()
})

t.test('a service on a Unix socket is reached, and ends as others do', async (t) => {
  const path = socketPath(t, 'origin')
  const server = createServer({ allowHalfOpen: true }, (socket) => socket.pipe(socket))
  await new Promise<void>((resolve) => server.listen(path, resolve))
  t.teardown(() => server.close())
  const local = {
    name: 'local',
    type: 'STATIC',
    load_assignment: {
      cluster_name: 'local',
      endpoints: [{ lb_endpoints: [{ endpoint: { address: { pipe: { path } } } }] }],
    },
  }
  const l4 = await layer4(t, {
    filters: (log) => [tcpProxy({ cluster: 'local', access_log: [log('%UPSTREAM_HOST% %BYTES_SENT%')] })],
    clusters: [local],
  })
  const client = await l4.connect()
  client.write('by path')
  client.end()
  const { bytes, ending } = await client.readToEnd()
  t.equal(bytes.toString(), 'by path')
  t.equal(ending, 'fin')
  t.same(await l4.finish(), [`${path} 7`])
})

t.test('an update leaves connections alone, and their last lines are written', async (t) => {
  const other = await RawOrigin.start()
  t.teardown(() => other.close())
  let log: (format: string) => object = () => ({})
  const l4 = await layer4(t, {
    filters: (textLog) => {
      log = textLog
      return [tcpProxy({ access_log: [textLog('%UPSTREAM_CLUSTER% %BYTES_RECEIVED%')] })]
    },
  })
  const client = await l4.connect()
  const origin = await l4.origin.accept()
  client.write('before ')
  await origin.readBytes(7)
  await l4.gateway.apply({
    static_resources: {
      listeners: [
        {
          name: 'main',
          address: { socket_address: { address: '127.0.0.1', port_value: 0 } },
          filter_chains: [
            { filters: [tcpProxy({ cluster: 'other', access_log: [log('%UPSTREAM_CLUSTER% %BYTES_RECEIVED%')] })] },
          ],
        },
      ],
      clusters: [cluster('other', other.port)],
    },
  })
  const second = await l4.connect()
  const upstream = await other.accept()
  second.write('new')
  t.equal((await upstream.readBytes(3)).toString(), 'new', 'new connections go where the new configuration says')
  client.write('after')
  t.equal((await origin.readBytes(5)).toString(), 'after', 'the old one goes on, its cluster being gone')
  client.end()
  await origin.expectEnd()
  origin.end()
  t.equal(await client.expectEnd(), 'fin')
  await settle(10)
  second.end()
  await upstream.expectEnd()
  upstream.end()
  await second.expectEnd()
  await settle(10)
  t.same((await l4.finish()).sort(), ['origin 12', 'other 3'])
})

/** A PROXY header of version 2 and its TLVs, as text by type. */
async function readTlvs(wire: Wire): Promise<{ readonly [type: number]: string }> {
  const head = await wire.readBytes(16)
  const rest = await wire.readBytes(head.readUInt16BE(14))
  const found: { [type: number]: string } = {}
  for (let at = 12; at < rest.length; ) {
    const end = at + 3 + rest.readUInt16BE(at + 1)
    const text = rest.subarray(at + 3, end).toString()
    found[rest[at]] = found[rest[at]] === undefined ? text : `${found[rest[at]]},${text}`
    at = end
  }
  return found
}

const PROXY_UPSTREAM = {
  transport_socket: {
    name: 'proxy',
    typed_config: {
      '@type':
        'type.googleapis.com/envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport',
      config: { version: 'V2', pass_through_tlvs: { match_type: 'INCLUDE', tlv_type: [0xe0, 0xe1] } },
      transport_socket: {
        name: 'raw',
        typed_config: { '@type': 'type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer' },
      },
    },
  },
}

t.test('TLVs of its own go upstream with the PROXY header, merged with those of the client', async (t) => {
  const base64 = (text: string): string => Buffer.from(text).toString('base64')
  for (const [policy, bare, merged] of [
    [undefined, { 224: 'own', 225: 'to 127.0.0.1' }, { 224: 'theirs' }],
    ['OVERWRITE_BY_TYPE_IF_EXISTS_OR_ADD', undefined, { 224: 'own', 225: 'to 127.0.0.1' }],
    ['APPEND_IF_EXISTS_OR_ADD', undefined, { 224: 'theirs,own', 225: 'to 127.0.0.1' }],
  ] as const) {
    const l4 = await layer4(t, {
      filters: [
        tcpProxy({
          proxy_protocol_tlvs: [
            { type: 0xe0, value: base64('own') },
            {
              type: 0xe1,
              format_string: { text_format_source: { inline_string: 'to %DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%' } },
            },
            { type: 0xe2, value: base64('not let through') },
          ],
          ...(policy !== undefined && { proxy_protocol_tlv_merge_policy: policy }),
        }),
      ],
      listener: {
        listener_filters: [
          {
            name: 'proxy',
            typed_config: {
              '@type': 'type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol',
              allow_requests_without_proxy_protocol: true,
              pass_through_tlvs: { match_type: 'INCLUDE_ALL' },
            },
          },
        ],
      },
      cluster: PROXY_UPSTREAM,
    })
    const plain = await l4.connect()
    plain.write('plain client')
    const first = await l4.origin.accept()
    t.same(await readTlvs(first), bare ?? { 224: 'own', 225: 'to 127.0.0.1' })
    t.equal((await first.readBytes(12)).toString(), 'plain client')
    const client = await l4.connect()
    client.write(
      Buffer.concat([
        Buffer.from('0d0a0d0a000d0a515549540a21110015', 'hex'),
        Buffer.from([127, 0, 0, 2, 127, 0, 0, 1, 0, 9, 0, 8, 0xe0, 0, 6]),
        Buffer.from('theirs'),
        Buffer.from('hi'),
      ]),
    )
    const second = await l4.origin.accept()
    t.same(await readTlvs(second), merged, policy ?? 'ADD_IF_ABSENT')
    t.equal((await second.readBytes(2)).toString(), 'hi')
    await l4.finish()
  }
})

t.test('what a client says early is held up to its limit, and goes first', async (t) => {
  const port = await deadPort()
  const l4 = await layer4(t, {
    filters: (log) => [
      tcpProxy({
        max_early_data_bytes: 1000,
        max_connect_attempts: 100,
        backoff_options: { base_interval: '0.02s', max_interval: '0.02s' },
        access_log: [log('%ACCESS_LOG_TYPE% %BYTES_RECEIVED% %UPSTREAM_WIRE_BYTES_SENT%')],
        access_log_options: { flush_access_log_on_start: true },
      }),
    ],
    cluster: { load_assignment: assignment(port) },
  })
  const client = await l4.connect()
  client.write('a'.repeat(600))
  await l4.gateway.until(() => l4.gateway.stat('cluster.origin.upstream_cx_connect_fail') > 1, 'failed attempts')
  client.write('b'.repeat(600))
  client.end()
  const server = createServer({ allowHalfOpen: true })
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve))
  t.teardown(() => void server.close())
  const [socket] = (await once(server, 'connection')) as [Socket]
  let text = ''
  socket.setEncoding('utf8')
  for await (const chunk of socket.on('error', () => {})) text += chunk
  t.equal(text, 'a'.repeat(600) + 'b'.repeat(600), 'every byte, in order, and then its FIN')
  const lines = await l4.finish()
  t.same(lines, ['TcpConnectionStart 0 0', 'TcpConnectionEnd 1200 1200'])
})

t.test('a connection may wait for its client to speak before anybody is connected to', async (t) => {
  const l4 = await layer4(t, {
    filters: (log) => [
      tcpProxy({
        upstream_connect_mode: 'ON_DOWNSTREAM_DATA',
        max_early_data_bytes: 0,
        access_log: [log('%CONNECTION_TERMINATION_DETAILS% %BYTES_RECEIVED%')],
      }),
    ],
  })
  const silent = await l4.connect()
  const ending = await l4.connect()
  ending.end()
  t.equal(await ending.expectEnd(), 'fin')
  t.equal(l4.origin.total, 0)
  const client = await l4.connect()
  client.write('hello')
  const upstream = await l4.origin.accept()
  t.equal((await upstream.readBytes(5)).toString(), 'hello')
  client.write(' again')
  t.equal((await upstream.readBytes(6)).toString(), ' again')
  upstream.write('yes')
  t.equal((await client.readBytes(3)).toString(), 'yes')
  t.equal(l4.origin.total, 1)
  t.equal(l4.gateway.stat('tcp.l4.downstream_cx_total'), 3)
  silent.reset()
  const lines = await l4.finish()
  t.equal(lines[0], 'downstream_ended_before_data 0')
})

t.test('connections are hashed to hosts by where they come from, or by what filters say', async (t) => {
  const origins = await Promise.all([1, 2, 3, 4].map(() => RawOrigin.start()))
  t.teardown(() => Promise.all(origins.map((origin) => origin.close())))
  const ring = {
    lb_policy: 'RING_HASH',
    load_assignment: assignment(...origins.map(({ port }) => port)),
  }
  for (const [what, policy, addresses, hosts] of [
    ['one client', { source_ip: {} }, ['127.0.0.1', '127.0.0.1', '127.0.0.1', '127.0.0.1', '127.0.0.1'], 1],
    ['many clients', { source_ip: {} }, Array.from({ length: 24 }, (_, i) => `127.0.1.${i + 1}`), 4],
    ['one key', { filter_state: { key: 'stick' } }, Array.from({ length: 8 }, (_, i) => `127.0.1.${i + 1}`), 1],
  ] as const) {
    const before = origins.map(({ total }) => total)
    const l4 = await layer4(t, {
      filters: [
        filter('set_filter_state', 'Config', {
          on_new_connection: [{ object_key: 'stick', format_string: { text_format: 'k' } }],
        }),
        tcpProxy({ hash_policy: [policy] }),
      ],
      cluster: ring,
    })
    for (const localAddress of addresses) {
      const wire = await l4.connect({ localAddress })
      wire.end()
    }
    const arrived = (): number[] => origins.map(({ total }, i) => total - before[i])
    await l4.gateway.until(() => arrived().reduce((a, b) => a + b) === addresses.length, 'all to arrive')
    t.equal(arrived().filter((count) => count > 0).length, hosts, what)
    await l4.finish()
  }
})

t.test('filter state sets how long one connection may be idle, and lets it past the tunnel', async (t) => {
  const l4 = await layer4(t, {
    filters: (log) => [
      filter('set_filter_state', 'Config', {
        on_new_connection: [
          { object_key: 'envoy.tcp_proxy.per_connection_idle_timeout_ms', format_string: { text_format: '30' } },
          { object_key: 'envoy.tcp_proxy.disable_tunneling', format_string: { text_format: 'true' } },
        ],
      }),
      tcpProxy({
        tunneling_config: { hostname: 'a.example:1' },
        access_log: [log('%CONNECTION_TERMINATION_DETAILS%')],
      }),
    ],
  })
  const client = await l4.connect()
  client.write('raw')
  const upstream = await l4.origin.accept()
  t.equal((await upstream.readBytes(3)).toString(), 'raw')
  t.equal(await client.expectEnd(), 'fin')
  t.same(await l4.finish(), ['tcp_session_idle_timeout'])
})

function assignment(...ports: readonly number[]): Fields {
  const endpoint = (port: number): Fields => ({
    endpoint: { address: { socket_address: { address: '127.0.0.1', port_value: port } } },
  })
  return { cluster_name: 'origin', endpoints: [{ lb_endpoints: ports.map(endpoint) }] }
}

t.test('a cluster that is not there is asked for where the configuration says so', async (t) => {
  const clock = new TestClock()
  const wheel = new TimerWheel(clock)
  for (const [answer, counted, ended] of [
    ['there', 'success', undefined],
    ['missing', 'missing', 'cluster_not_found'],
    ['late', 'timeout', 'cluster_not_found'],
    ['gone', 'missing', undefined],
  ] as const) {
    const connected: string[] = []
    const closes: string[] = []
    const known = new Map<string, unknown>()
    const origin = {
      name: 'origin',
      pick: () => ({ addressText: '192.0.2.1:1', hostname: '' }),
      connect: () => void connected.push('origin'),
    }
    const metrics = new MetricsStore()
    let answered: (found: boolean) => void = () => {}
    const scope = {
      wheel,
      metrics,
      random: () => 0,
      openLogs: () => ({ log() {} }),
      clusters: { get: (name: string) => known.get(name) },
      demand: {
        cluster: (name: string, source: string, timeoutMs: number) => {
          t.same([name, source, timeoutMs], ['origin', 'ads', 50])
          return new Promise<boolean>((resolve) => {
            answered = resolve
          })
        },
      },
    } as unknown as NetworkScope
    const connection = {
      facts: { state: { object: () => undefined, metadata: () => undefined } },
      info: new StreamInfo(0, 0),
      pause() {},
      resume() {},
      close: (details: string) => void closes.push(details),
    } as unknown as NetworkConnection
    const config = {
      statPrefix: 'l4',
      clusters: [{ name: 'origin', weight: 1 }],
      idleTimeoutMs: 0,
      accessLogs: [],
      demand: { source: 'ads', timeoutMs: 50 },
    }
    const { onConnect, onClose, createState } = compileTcpProxy(config as unknown as TcpProxyConfig, scope)
    const session = createState?.(connection) as Session
    onConnect?.(connection, session)
    t.same([connected, closes], [[], []], 'it waits')
    if (answer === 'there') known.set('origin', origin)
    if (answer === 'late') clock.advance(60)
    if (answer === 'gone') onClose?.(connection, session)
    answered(answer === 'there')
    await settle()
    t.same(connected, answer === 'there' ? ['origin'] : [])
    t.same(closes, ended === undefined ? [] : [ended])
    t.equal(metrics.counter('tcp.l4.on_demand_cluster_attempt').v, 1)
    t.equal(metrics.counter(`tcp.l4.on_demand_cluster_${counted}`).v, 1, answer)
    t.equal(wheel.armed, 0)
  }
  wheel.close()
})
