import { once } from 'node:events'
import http from 'node:http'
import { type ClientHttp2Session, connect as connectHttp2 } from 'node:http2'
import net from 'node:net'
import { type DescMessage, fromBinary, type Message, toBinary } from '@bufbuild/protobuf'
import { Client, credentials, Metadata, type ServiceError } from '@grpc/grpc-js'
import t, { type Test } from 'tap'
import { type AdminServer, startAdmin } from '../../lib/admin/server.ts'
import type { Json, JsonObject } from '../../lib/core/errors.ts'
import { decodeJson } from '../../lib/proto/decode-json.ts'
import { encodeJson } from '../../lib/proto/encode-json.ts'
import { createProtoRegistry } from '../../lib/proto/registry.ts'
import { CLUSTER, delivered, dynamicStatus, type FakePanel, fakePanel, SECRET, TYPE, wire } from './panel.ts'

/** The client status discovery service, and the second protocol of the admin port that it comes with. */

const registry = createProtoRegistry()
const quiet = { debug() {}, info() {}, warn() {}, error() {} }
const SERVICE = 'envoy.service.status.v3.ClientStatusDiscoveryService'
const REQUEST = registry.expect('envoy.service.status.v3.ClientStatusRequest')
const RESPONSE = registry.expect('envoy.service.status.v3.ClientStatusResponse')
const KEY = 'this-is-a-private-key'

function message(desc: DescMessage, json: JsonObject): Message {
  const decoded = decodeJson(registry, desc, json, '')
  if (decoded.message === undefined || decoded.errors.length > 0) throw new Error(decoded.errors.join('\n'))
  return decoded.message
}

const request = (json: JsonObject): Buffer => Buffer.from(toBinary(REQUEST, message(REQUEST, json)))
const response = (bytes: Uint8Array): JsonObject =>
  encodeJson(registry, RESPONSE, fromBinary(RESPONSE, bytes)) as JsonObject
const pass = (bytes: Buffer): Buffer => bytes

function panel(): FakePanel {
  const bytes = wire(registry, CLUSTER, { name: 'c', connect_timeout: '1s' })
  const secret = wire(registry, SECRET, { name: 's', generic_secret: { secret: { inline_string: KEY } } })
  const dynamic = dynamicStatus([
    delivered(CLUSTER, 'c', { active: { version: '1', bytes }, failed: { version: '2', bytes } }),
    delivered(SECRET, 's', { active: { version: '9', bytes: secret } }),
    delivered(CLUSTER, 'missing', { client: 'does-not-exist' }),
  ])
  const metadata = { role: 'edge', labels: { tier: 1 } }
  const source = { node: { id: 'n1' }, static_resources: { clusters: [{ name: 'own', connect_timeout: '1s' }] } }
  return fakePanel(dynamic, { node: { id: 'n1', cluster: 'c1', metadata }, source })
}

async function start(t: Test, backend = panel()): Promise<{ server: AdminServer; target: string; port: number }> {
  const server = await startAdmin({
    address: { kind: 'ip', host: '127.0.0.1', port: 0 },
    backend,
    identity: { version: 'headgate/1', options: {} },
    log: quiet,
    registry: () => registry,
  })
  t.teardown(() => server.close())
  if (server.address.kind !== 'ip') throw new Error('no port')
  const { port } = server.address
  return { server, target: `127.0.0.1:${port}`, port }
}

function client(t: Test, target: string, authority?: string): Client {
  const options = authority === undefined ? {} : { 'grpc.default_authority': authority }
  const made = new Client(target, credentials.createInsecure(), options)
  t.teardown(() => made.close())
  return made
}

type Outcome = { readonly message: JsonObject } | { readonly code: number; readonly details: string }

function fetchStatus(from: Client, bytes: Buffer, method = 'FetchClientStatus'): Promise<Outcome> {
  return new Promise((resolve) => {
    const done = (error: ServiceError | null, value?: Buffer): void =>
      resolve(error === null ? { message: response(value as Buffer) } : { code: error.code, details: error.details })
    from.makeUnaryRequest(`/${SERVICE}/${method}`, pass, pass, bytes, done)
  })
}

t.test('a call answers one client with every resource, its state and its bytes without secrets', async (t) => {
  const { target } = await start(t)
  const outcome = await fetchStatus(client(t, target), request({}))
  const cluster = { '@type': TYPE + CLUSTER, name: 'c', connect_timeout: '1s' }
  t.strictSame('code' in outcome && outcome, false)
  t.match(outcome, {
    message: {
      config: [
        {
          node: { id: 'n1', cluster: 'c1', metadata: { role: 'edge' }, user_agent_name: 'headgate' },
          generic_xds_configs: [
            {
              type_url: TYPE + CLUSTER,
              name: 'c',
              version_info: '1',
              xds_config: cluster,
              last_updated: '2026-01-02T00:00:00Z',
              client_status: 'NACKED',
              error_state: {
                failed_configuration: cluster,
                last_update_attempt: '2026-01-02T00:00:01Z',
                details: 'name: is taken; and more',
                version_info: '2',
              },
            },
            {
              type_url: TYPE + SECRET,
              name: 's',
              xds_config: { generic_secret: { secret: { inline_string: '[redacted]' } } },
              client_status: 'ACKED',
            },
            { name: 'missing', client_status: 'DOES_NOT_EXIST' },
            { type_url: TYPE + CLUSTER, name: 'own', is_static_resource: true, client_status: 'ACKED' },
          ],
        },
      ],
    },
  })
  const short = await fetchStatus(client(t, target), request({ exclude_resource_contents: true }))
  t.notMatch(JSON.stringify(short), 'connect_timeout')
  t.match(short, { message: { config: [{ generic_xds_configs: { length: 4 } }] } })
})

t.test('node matchers choose: one that fits is enough, each with all that it asks for', async (t) => {
  const { target } = await start(t)
  const from = client(t, target)
  const clients = async (...node_matchers: JsonObject[]): Promise<number> => {
    const outcome = await fetchStatus(from, request({ node_matchers }))
    return 'message' in outcome ? ((outcome.message.config ?? []) as Json[]).length : -1
  }
  const metadata = (key: string, value: JsonObject): JsonObject => ({ path: [{ key }], value })
  t.equal(await clients({ node_id: { exact: 'n1' } }), 1)
  t.equal(await clients({ node_id: { exact: 'n2' } }), 0)
  t.equal(await clients({ node_id: { exact: 'n2' } }, { node_id: { prefix: 'n' } }), 1)
  const edge = metadata('role', { string_match: { exact: 'edge' } })
  const tier = { path: [{ key: 'labels' }, { key: 'tier' }], value: { double_match: { exact: 1 } } }
  t.equal(await clients({ node_metadatas: [edge, tier] }), 1)
  t.equal(await clients({ node_id: { exact: 'n1' }, node_metadatas: [metadata('none', { present_match: true })] }), 0)
  const bad = await fetchStatus(from, request({ node_matchers: [{ node_id: { safe_regex: { regex: '(' } } }] }))
  t.match(bad, { code: 3, details: /safe_regex\.regex/ })
  t.match(await fetchStatus(from, request({ node_matchers: [{ node_metadatas: [{ path: [{ key: 'a' }] }] }] })), {
    code: 3,
  })
})

t.test('a stream answers each message as it comes', async (t) => {
  const backend = panel()
  const { target } = await start(t, backend)
  const call = client(t, target).makeBidiStreamRequest(`/${SERVICE}/StreamClientStatus`, pass, pass, new Metadata())
  const versions: string[] = []
  for (const version of ['1', '2', '3']) {
    const bytes = wire(registry, CLUSTER, { name: 'c', connect_timeout: '1s' })
    backend.dynamic_ = dynamicStatus([delivered(CLUSTER, 'c', { active: { version, bytes } })])
    call.write(request({}))
    const [answer] = (await once(call, 'data')) as [Buffer]
    const [config] = response(answer).config as JsonObject[]
    versions.push(String((config.generic_xds_configs as JsonObject[])[0].version_info))
  }
  t.strictSame(versions, ['1', '2', '3'])
  call.end()
  const [status] = (await once(call, 'status')) as [{ code: number }]
  t.equal(status.code, 0)
})

t.test('what cannot be a call ends with the status that says why', async (t) => {
  const { target, port } = await start(t)
  const from = client(t, target)
  t.match(await fetchStatus(from, request({}), 'Other'), { code: 12, details: /unknown method/ })
  t.match(await fetchStatus(from, Buffer.from([0xff])), { code: 13 })
  t.match(await fetchStatus(from, Buffer.alloc(2 * 1024 * 1024)), { code: 8, details: /too large/ })
  t.match(await fetchStatus(client(t, target, 'evil.example'), request({})), { code: 7 }, 'foreign names are refused')
  const session = connectHttp2(`http://127.0.0.1:${port}`)
  t.teardown(() => session.destroy())
  const raw = async (body: Buffer): Promise<string> => {
    const stream = session.request({
      ':method': 'POST',
      ':path': `/${SERVICE}/FetchClientStatus`,
      'content-type': 'application/grpc',
    })
    stream.end(body)
    stream.resume()
    const [trailers] = (await once(stream, 'trailers')) as [Record<string, string>]
    return trailers['grpc-status']
  }
  t.equal(await raw(Buffer.alloc(0)), '12')
  t.equal(await raw(Buffer.from([1, 0, 0, 0, 0])), '12')
  t.equal(await raw(Buffer.from([0, 0, 0, 0, 9, 1])), '13')
  t.equal(await raw(Buffer.alloc(10)), '12', 'two messages')
  t.equal(await raw(Buffer.alloc(5)), '0', 'an empty message asks for everything')
})

t.test('what a status quotes from the request never breaks the answer', async (t) => {
  const { target } = await start(t)
  const from = client(t, target)
  const regex = (text: string): Buffer => request({ node_matchers: [{ node_id: { safe_regex: { regex: text } } }] })
  for (const [name, text] of [
    ['characters of two code units', '\u{1F600}'.repeat(400)],
    ['one code unit further', `x${'\u{1F600}'.repeat(400)}`],
    ['100 kB', 'x'.repeat(100_000)],
  ] as const) {
    t.match(await fetchStatus(from, regex(`(${text}`)), { code: 3, details: /invalid regex/ }, name)
  }
  t.match(await fetchStatus(from, request({})), { message: { config: [{}] } }, 'it lives')
})

t.test('the same is served as JSON', async (t) => {
  const { port } = await start(t)
  const post = async (body: string): Promise<{ status: number; text: string }> => {
    const answer = await fetch(`http://127.0.0.1:${port}/v3/discovery:client_status`, { method: 'POST', body })
    return { status: answer.status, text: await answer.text() }
  }
  const all = await post('')
  t.match(JSON.parse(all.text), { config: [{ node: { id: 'n1' }, generic_xds_configs: { length: 4 } }] })
  t.notMatch(all.text, KEY)
  t.strictSame(JSON.parse((await post('{"nodeMatchers":[{"nodeId":{"exact":"x"}}]}')).text), {})
  t.equal((await post('{')).status, 400)
  t.match(await post('{"nope":1}'), { status: 400, text: /nope/ })
})

async function get2(
  session: ClientHttp2Session,
  headers: Record<string, string>,
): Promise<{ status: number; body: string }> {
  const stream = session.request(headers)
  stream.end()
  const [head] = (await once(stream, 'response')) as [Record<string, number>]
  let body = ''
  for await (const chunk of stream) body += chunk
  return { status: head[':status'], body }
}

t.test('one port speaks HTTP/1 and HTTP/2, with the same guards, however its first bytes are cut', async (t) => {
  const { port } = await start(t)
  const session = connectHttp2(`http://127.0.0.1:${port}`)
  t.teardown(() => session.destroy())
  t.match(await get2(session, { ':path': '/ready' }), { status: 200, body: 'LIVE\n' })
  t.match(await get2(session, { ':path': '/config_dump', ':method': 'HEAD' }), { status: 200, body: '' })
  t.match(await get2(session, { ':path': '/config_dump' }), { status: 200, body: /"dynamic_active_clusters"/ })
  t.match(await get2(session, { ':path': '/ready', ':authority': 'evil.example' }), { status: 403 })
  t.match(await get2(session, { ':path': '/ready', origin: 'http://evil.example' }), { status: 403 })
  // Either may be what a guard looks at: neither gets somebody else past it.
  t.match(await get2(session, { ':path': '/ready', ':authority': 'evil.example', host: 'localhost' }), { status: 403 })
  t.match(await get2(session, { ':path': '/ready', ':authority': 'localhost', host: 'evil.example' }), { status: 403 })
  t.match(await get2(session, { ':path': '/nothing' }), { status: 404 })

  const said = async (parts: readonly string[], until: RegExp): Promise<string> => {
    const socket = net.connect(port, '127.0.0.1')
    await once(socket, 'connect')
    socket.setNoDelay()
    // A server that has answered need not read the rest.
    socket.on('error', () => undefined)
    let text = ''
    socket.on('data', (chunk) => {
      text += chunk.toString('latin1')
      socket.emit('looked')
    })
    for (const part of parts) {
      await new Promise<void>((resolve) => socket.write(part, 'latin1', () => resolve()))
      await new Promise((resolve) => setImmediate(resolve))
    }
    while (!until.test(text)) await once(socket, 'looked')
    socket.destroy()
    return text
  }
  const get = 'GET /ready HTTP/1.1\r\nHost: localhost\r\n\r\n'
  t.match(await said([get + get], /LIVE[\s\S]*LIVE/), /^HTTP\/1\.1 200/, 'two requests in one packet')
  t.match(await said([...get], /LIVE/), /^HTTP\/1\.1 200/)
  const put = 'PRIx /ready HTTP/1.1\r\nHost: localhost\r\n\r\n'
  t.match(await said([...put], /\r\n\r\n/), /^HTTP\/1\.1 400/, 'a method that begins like the preface')
  const preface = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'
  const settings = '\0\0\0\x04\0\0\0\0\0'
  t.equal((await said([...(preface + settings)], /^.{9}/s)).charCodeAt(3), 4)
})

t.test('a client that goes away in the middle of a dump is not written to any more', async (t) => {
  const backend = panel()
  const bytes = wire(registry, CLUSTER, { name: 'c', connect_timeout: '1s' })
  let made = 0
  const resources = Array.from({ length: 20_000 }, (_, i) => {
    const version = { version: '1', updatedMs: 0 }
    const active = Object.defineProperty(version, 'bytes', {
      get() {
        made++
        return bytes
      },
    }) as unknown as { version: string; updatedMs: number; bytes: Uint8Array }
    return { ...delivered(CLUSTER, `c${i}`, {}), active }
  })
  backend.dynamic_ = dynamicStatus(resources)
  const { port } = await start(t, backend)
  const session = connectHttp2(`http://127.0.0.1:${port}`)
  t.teardown(() => session.destroy())
  const stream = session.request({ ':path': '/config_dump' })
  stream.on('error', () => undefined)
  await once(stream, 'response')
  stream.close()
  const call = client(t, `127.0.0.1:${port}`).makeBidiStreamRequest(
    `/${SERVICE}/StreamClientStatus`,
    pass,
    pass,
    new Metadata(),
  )
  call.on('error', () => undefined)
  call.write(request({}))
  const req = http.get({ port, host: '127.0.0.1', path: '/config_dump' })
  req.on('error', () => undefined)
  await once(req, 'response')
  req.destroy()
  for (let i = 0; i < 50; i++) await get2(session, { ':path': '/ready' })
  const before = made
  call.cancel()
  t.ok(before < 60_000, `${before} of 60,000 resources were read`)
  t.match(await get2(session, { ':path': '/ready' }), { status: 200 })
})

t.test('closing ends connections of either protocol, and those that have said nothing', async (t) => {
  const { server, port } = await start(t)
  const session = connectHttp2(`http://127.0.0.1:${port}`)
  session.on('error', () => undefined)
  await once(session, 'remoteSettings')
  const silent = net.connect(port, '127.0.0.1')
  silent.on('error', () => undefined)
  await once(silent, 'connect')
  const agent = new http.Agent({ keepAlive: true })
  const req = http.get({ port, host: '127.0.0.1', path: '/ready', agent })
  const [res] = await once(req, 'response')
  res.resume()
  await once(res, 'end')
  const closed = Promise.all([once(session, 'close'), once(silent, 'close')])
  await server.close()
  await closed
  agent.destroy()
  t.pass('closed')
})
