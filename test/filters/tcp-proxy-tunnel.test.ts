import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server } from 'node:http'
import { createServer as createHttp2Server, type Http2Server, type ServerHttp2Stream } from 'node:http2'
import type { AddressInfo, Socket } from 'node:net'
import t, { type Test } from 'tap'
import { cluster, type Fields } from '../end-to-end/bootstrap.ts'
import { settle } from '../support/clock.ts'
import { filter, layer4, tcpProxy } from './layer4-setup.ts'

/** What a proxy was asked for. */
interface Asked {
  readonly method: string
  readonly target: string
  readonly headers: Readonly<Record<string, unknown>>
}

interface Proxy {
  readonly port: number
  readonly asked: Asked[]
  /** Statuses of the next answers; 200 where there is none. */
  readonly statuses: number[]
}

async function listening(server: Server | Http2Server): Promise<number> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return (server.address() as AddressInfo).port
}

/** An HTTP/1 proxy that echoes in its tunnels, and in the bodies of POST. */
async function http1Proxy(t: Test): Promise<Proxy> {
  const asked: Asked[] = []
  const statuses: number[] = []
  const note = ({ method = '', url = '', headers }: IncomingMessage): number => {
    asked.push({ method, target: url, headers })
    return statuses.shift() ?? 200
  }
  const sockets = new Set<Socket>()
  const server = createServer((request, response) => {
    response.writeHead(note(request), { 'x-proxy': 'one' })
    response.flushHeaders()
    request.pipe(response)
  })
  server.on('connection', (socket: Socket) => sockets.add(socket))
  server.on('connect', (request, socket) => {
    const status = note(request)
    socket.on('error', () => {})
    if (status === 200) {
      socket.write('HTTP/1.1 200 Granted\r\nx-proxy: one\r\n\r\n')
      socket.pipe(socket)
    } else socket.end(`HTTP/1.1 ${status} No\r\nconnection: close\r\ncontent-length: 0\r\n\r\n`)
  })
  const port = await listening(server)
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return { port, asked, statuses }
}

async function http2Proxy(t: Test): Promise<Proxy> {
  const asked: Asked[] = []
  const statuses: number[] = []
  const server = createHttp2Server()
  const sessions = new Set<{ destroy(): void }>()
  server.on('session', (session) => sessions.add(session))
  server.on('stream', (stream: ServerHttp2Stream, headers) => {
    asked.push({
      method: String(headers[':method']),
      target: String(headers[':path'] ?? headers[':authority']),
      headers,
    })
    stream.on('error', () => {})
    const status = statuses.shift() ?? 200
    if (status !== 200) {
      stream.respond({ ':status': status }, { endStream: true })
      return
    }
    // Tunnels of CONNECT have no trailers (RFC 9113 section 8.5).
    const waitForTrailers = headers[':method'] === 'POST'
    stream.respond({ ':status': 200, 'x-proxy': 'two' }, { waitForTrailers })
    if (waitForTrailers) stream.on('wantTrailers', () => stream.sendTrailers({ 'x-sum': 'abc' }))
    stream.pipe(stream)
  })
  const port = await listening(server)
  t.teardown(() => {
    for (const session of sessions) session.destroy()
    server.close()
  })
  return { port, asked, statuses }
}

const HTTP2: Fields = {
  typed_extension_protocol_options: {
    'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
      '@type': 'type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions',
      explicit_http_config: { http2_protocol_options: {} },
    },
  },
}

for (const version of ['HTTP/1', 'HTTP/2'] as const) {
  for (const method of ['CONNECT', 'POST'] as const) {
    t.test(`${method} over ${version}: a tunnel carries bytes both ways and half-closes`, async (t) => {
      const proxy = version === 'HTTP/1' ? await http1Proxy(t) : await http2Proxy(t)
      const l4 = await layer4(t, {
        filters: (log) => [
          tcpProxy({
            cluster: 'proxy',
            tunneling_config: {
              hostname: 'target.example:443',
              ...(method === 'POST' && { use_post: true, post_path: '/tunnel' }),
              headers_to_add: [{ header: { key: 'X-From', value: '%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%' } }],
              propagate_response_headers: true,
              propagate_response_trailers: true,
            },
            access_log: [
              log(
                '%BYTES_RECEIVED% %BYTES_SENT% %FILTER_STATE(envoy.tcp_proxy.propagate_response_headers:FIELD:x-proxy)%' +
                  ' %FILTER_STATE(envoy.tcp_proxy.propagate_response_trailers:FIELD:x-sum)%',
              ),
            ],
          }),
        ],
        clusters: [cluster('proxy', proxy.port, version === 'HTTP/1' ? {} : HTTP2)],
      })
      const client = await l4.connect()
      client.write('into the tunnel')
      t.equal((await client.readBytes(15)).toString(), 'into the tunnel')
      const big = Buffer.alloc(2 * 1024 * 1024, 'b')
      const sent = client.write(big)
      t.ok((await client.readBytes(big.length)).equals(big))
      await sent
      client.end()
      t.equal(await client.expectEnd(), 'fin')
      const [{ method: seen, target, headers }] = proxy.asked
      t.equal(seen, method)
      t.equal(target, method === 'POST' ? '/tunnel' : 'target.example:443')
      t.equal(headers['x-from'], '127.0.0.1')
      if (method === 'POST') t.equal(headers[version === 'HTTP/1' ? 'host' : ':authority'], 'target.example:443')
      const total = big.length + 15
      const trailer = version === 'HTTP/2' && method === 'POST' ? 'abc' : '-'
      const name = version === 'HTTP/2' ? 'two' : 'one'
      t.same(await l4.finish(), [`${total} ${total} ${name} ${trailer}`])
    })

    t.test(`${method} over ${version}: what is not granted is a failed connection, tried again`, async (t) => {
      const proxy = version === 'HTTP/1' ? await http1Proxy(t) : await http2Proxy(t)
      proxy.statuses.push(503, 403, 407)
      const l4 = await layer4(t, {
        filters: (log) => [
          tcpProxy({
            cluster: 'proxy',
            max_connect_attempts: 2,
            tunneling_config: { hostname: 'target.example:443', use_post: method === 'POST' },
            access_log: [log('%RESPONSE_FLAGS% %UPSTREAM_REQUEST_ATTEMPT_COUNT% %UPSTREAM_TRANSPORT_FAILURE_REASON%')],
          }),
        ],
        clusters: [cluster('proxy', proxy.port, version === 'HTTP/1' ? {} : HTTP2)],
      })
      const client = await l4.connect()
      t.equal(await client.expectEnd(), 'fin')
      t.equal(proxy.asked.length, 2)
      t.same(await l4.finish(), ['UF,URX 2 the_proxy_answered_403'])
    })
  }
}

t.test('the target comes from filter state, and one that could end the request line is refused', async (t) => {
  for (const [text, ok] of [
    ['db.internal:5432', true],
    ['a b', false],
    ['', false],
  ] as const) {
    const proxy = await http1Proxy(t)
    const state = { object_key: 'tunnel', format_string: { text_format: text === '' ? '%%' : text } }
    const l4 = await layer4(t, {
      filters: [
        filter('set_filter_state', 'Config', { on_new_connection: text === '' ? [] : [state] }),
        tcpProxy({ cluster: 'proxy', tunneling_config: { hostname: '%FILTER_STATE(tunnel:PLAIN)%' } }),
      ],
      clusters: [cluster('proxy', proxy.port)],
    })
    const client = await l4.connect()
    if (ok) {
      client.write('ping')
      t.equal((await client.readBytes(4)).toString(), 'ping')
      t.equal(proxy.asked[0].target, text)
    } else {
      t.equal(await client.expectEnd(), 'fin')
      t.equal(proxy.asked.length, 0)
    }
    await l4.finish()
  }
})

t.test('a tunnel that breaks resets the client, and a client that goes frees the tunnel', async (t) => {
  const proxy = await http2Proxy(t)
  const l4 = await layer4(t, {
    filters: [tcpProxy({ cluster: 'proxy', tunneling_config: { hostname: 'x:1' } })],
    clusters: [cluster('proxy', proxy.port, HTTP2)],
  })
  const client = await l4.connect()
  client.write('a')
  await client.readBytes(1)
  client.reset()
  await l4.gateway.until(() => l4.gateway.stat('cluster.proxy.upstream_rq_active') === 0, 'end of the stream')
  await settle()
  t.equal(l4.gateway.stat('cluster.proxy.upstream_cx_active'), 1, 'the connection stays for others')
})
