import { createHash } from 'node:crypto'
import { once } from 'node:events'
import http, { type IncomingMessage } from 'node:http'
import t from 'tap'
import { WebSocket, WebSocketServer } from 'ws'
import type { OriginScript } from '../support/origin.ts'
import { cluster, type Fields } from './bootstrap.ts'
import { type Setup, setup } from './setup.ts'

/** HTTP filters of a cluster: each attempt passes them, on raw sockets. */

const E = 'type.googleapis.com/envoy.extensions'
const CODEC = { name: 'codec', typed_config: { '@type': `${E}.filters.http.upstream_codec.v3.UpstreamCodec` } }

const MUTATION = {
  name: 'mutation',
  typed_config: {
    '@type': `${E}.filters.http.header_mutation.v3.HeaderMutation`,
    mutations: {
      request_mutations: [
        { append: { header: { key: 'x-up', value: 'yes' }, append_action: 'APPEND_IF_EXISTS_OR_ADD' } },
        { remove: 'x-secret' },
      ],
      response_mutations: [{ append: { header: { key: 'x-down', value: 'yes' } } }],
    },
  },
}

const BUFFER = {
  name: 'buffer',
  typed_config: { '@type': `${E}.filters.http.buffer.v3.Buffer`, max_request_bytes: 1_000 },
}

function filtered(...filters: readonly Fields[]): Fields {
  return {
    typed_extension_protocol_options: {
      'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
        '@type': `${E}.upstreams.http.v3.HttpProtocolOptions`,
        explicit_http_config: { http_protocol_options: {} },
        http_filters: [...filters, CODEC],
      },
    },
  }
}

interface Answer {
  readonly status: number
  readonly headers: http.IncomingHttpHeaders
  readonly body: Buffer
}

async function ask({ gateway }: Setup, options: http.RequestOptions = {}, body?: Buffer): Promise<Answer> {
  const request = http.request({ port: gateway.port(), agent: false, ...options })
  request.end(body)
  const [response] = (await once(request, 'response')) as [IncomingMessage]
  const chunks: Buffer[] = []
  for await (const chunk of response) chunks.push(chunk as Buffer)
  return { status: response.statusCode ?? 0, headers: response.headers, body: Buffer.concat(chunks) }
}

const RETRYING = [
  { match: { prefix: '/' }, route: { cluster: 'origin', retry_policy: { retry_on: '5xx', num_retries: 2 } } },
]

t.test('each attempt passes the filters with headers of its own, and so does each answer', async (t) => {
  let at = 0
  const script: OriginScript = async (request, reply) => {
    await request.body
    await reply.send({ status: at++ < 2 ? 503 : 200, body: 'done' })
  }
  const stage = await setup(t, { origin: script, cluster: filtered(MUTATION), routes: RETRYING })
  const answer = await ask(stage, { headers: { 'x-secret': 's', 'x-up': 'client' } })
  t.equal(answer.status, 200)
  t.equal(answer.headers['x-down'], 'yes')
  t.equal(String(answer.body), 'done')
  t.same(
    stage.origin.requests.map(({ fields }) => fields.filter(([name]) => /^x-(up|secret)$/i.test(name)).map(String)),
    Array(3).fill(['x-up,client', 'x-up,yes']),
  )
  const [line] = await stage.finish()
  t.match(line, { status: 200, attempts: 3 })
})

t.test('bodies go through whole, both ways, slowly too', async (t) => {
  const script: OriginScript = async (request, reply) => {
    const { bytes } = await request.body
    await reply.send({ chunks: [bytes.subarray(0, 10), bytes.subarray(10)] })
  }
  const stage = await setup(t, { origin: script, cluster: filtered(MUTATION) })
  const body = Buffer.alloc(3_000_000, 'abcdefg')
  const answer = await ask(stage, { method: 'POST', headers: { 'content-length': body.length } }, body)
  t.equal(answer.status, 200)
  t.equal(createHash('sha256').update(answer.body).digest('hex'), createHash('sha256').update(body).digest('hex'))
  await stage.finish()
})

t.test('what a filter answers is an answer of the host', async (t) => {
  const stage = await setup(t, { cluster: filtered(BUFFER, MUTATION) })
  const small = await ask(stage, { method: 'POST', headers: { 'transfer-encoding': 'chunked' } }, Buffer.from('abc'))
  t.equal(small.status, 200)
  t.equal(stage.origin.requests[0].get('content-length'), '3', 'it was held until it was whole')
  const large = await ask(stage, { method: 'POST', headers: { 'transfer-encoding': 'chunked' } }, Buffer.alloc(5_000))
  t.equal(large.status, 413)
  t.equal(stage.origin.requests.length, 1)
  const lines = await stage.finish()
  t.same(
    lines.map(({ status }) => Number(status)),
    [200, 413],
  )
})

t.test('a host that fails is a failure of the attempt, and is tried again', async (t) => {
  let at = 0
  const script: OriginScript = async (request, reply) => {
    await request.body
    if (at++ === 0) reply.reset()
    else await reply.send({ body: 'done' })
  }
  const stage = await setup(t, { origin: script, cluster: filtered(MUTATION), routes: RETRYING })
  t.equal((await ask(stage)).status, 200)
  stage.origin.script = (_, reply) => reply.reset()
  const failed = await ask(stage)
  t.equal(failed.status, 503)
  t.equal(failed.headers['x-down'], undefined, 'the router answered')
  const lines = await stage.finish()
  t.match(lines[1], { status: 503, flags: /UC/ })
  t.equal(stage.gateway.stat('cluster.origin.upstream_rq_active'), 0)
})

t.test('clients that go away end their attempts', async (t) => {
  const stage = await setup(t, { cluster: filtered(MUTATION), origin: async (_, reply) => void (await reply.stall()) })
  const request = http.request({ port: stage.gateway.port(), agent: false })
  request.on('error', () => undefined)
  request.end()
  await stage.gateway.until(() => stage.origin.requests.length === 1, 'the request')
  request.destroy()
  await stage.gateway.until(
    () => stage.gateway.stat('cluster.origin.upstream_rq_active') === 0,
    'the end of the attempt',
  )
  const [line] = await stage.finish()
  t.match(line, { flags: 'DC' })
})

t.test('WebSockets pass the filters of a cluster', async (t) => {
  const server = new WebSocketServer({ noServer: true })
  const upstream = http.createServer().listen(0, '127.0.0.1')
  await once(upstream, 'listening')
  upstream.on('upgrade', (request, socket, head) => {
    server.handleUpgrade(request, socket, head, (peer) =>
      peer.on('message', (data) => peer.send(`${request.headers['x-up']} ${data}`)),
    )
  })
  t.teardown(() => upstream.close())
  const { port } = upstream.address() as { port: number }
  const stage = await setup(t, {
    hcm: { upgrade_configs: [{ upgrade_type: 'websocket' }] },
    clusters: [cluster('sockets', port, filtered(MUTATION))],
    routes: [{ match: { prefix: '/' }, route: { cluster: 'sockets' } }],
  })
  const socket = new WebSocket(`ws://127.0.0.1:${stage.gateway.port()}/chat`)
  await once(socket, 'open')
  socket.send('hello')
  const [message] = await once(socket, 'message')
  t.equal(String(message), 'yes hello')
  socket.close(4000)
  const [code] = await once(socket, 'close')
  t.equal(code, 4000)
  const [line] = await stage.finish()
  t.match(line, { status: 101 })
})
