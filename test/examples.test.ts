import { once } from 'node:events'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { type AddressInfo, createServer, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type ConnectionOptions, connect as connectTls, createServer as createTlsServer } from 'node:tls'
import t, { type Test } from 'tap'
import { freePort } from '../benchmarks/load/free-port.ts'
import { loadEnvoyConfig } from '../lib/cli/library.ts'
import type { JsonObject } from '../lib/core/errors.ts'
import { readKubernetesExample } from './kubernetes-example.ts'
import { Authority } from './support/certificates.ts'
import { ControlPlane } from './support/control-plane.ts'
import { EXAMPLES, listening, type Running, runProgram, withPorts } from './support/examples.ts'
import { Origin } from './support/origin.ts'
import { type Wire, WireClient } from './support/wire.ts'

/** Each example with a test below; the first test sees to it that none is missing. */
const TESTED: readonly string[] = [
  'ambient-hbone',
  'canary',
  'custom-filter',
  'failover',
  'grpc',
  'kubernetes',
  'library',
  'post-quantum',
  'proxy-protocol',
  'rolling-restart',
  'tcp-sni',
  'tls-sni-mtls',
  'websocket',
  'xds-envoy',
]

const get = (path: string, ...lines: string[]): string =>
  `${[`GET ${path} HTTP/1.1`, 'host: a', ...lines].join('\r\n')}\r\n\r\n`

t.test('every example is listed and tested', async (t) => {
  const folders = readdirSync(EXAMPLES, { withFileTypes: true }).filter((entry) => entry.isDirectory())
  t.same(folders.map((entry) => entry.name).sort(), TESTED)
  const list = readFileSync(join(EXAMPLES, 'README.md'), 'utf8')
  for (const name of TESTED) {
    t.ok(existsSync(join(EXAMPLES, name, 'README.md')), `${name} has a README`)
    t.ok(list.includes(`](${name}/)`), `${name} is in the list`)
  }
})

/** Connects to the address that a program says it listens on. */
async function connectTo(t: Test, program: Running): Promise<Wire> {
  const said = /^listening on http:\/\/127\.0\.0\.1:(\d+)$/.exec(await program.line())
  const client = new WireClient()
  t.teardown(() => client.closeAll())
  return client.connect(Number(said?.[1]))
}

t.test('library: a gateway in one file', async (t) => {
  const origin = await Origin.start(async (request, reply) => {
    await request.body
    await reply.send({ fields: [['x-powered-by', 'origin']], body: 'users' })
  })
  t.teardown(() => origin.close())
  const program = runProgram(t, 'examples/library/gateway.ts', {
    env: { LISTEN: '127.0.0.1:0', UPSTREAM: `127.0.0.1:${origin.port}` },
  })
  const wire = await connectTo(t, program)
  const log = async (): Promise<unknown> => JSON.parse(await program.line()) as unknown

  const health = await wire.exchange(get('/health'))
  t.equal(`${health.status} ${health.text()}`, '200 fine\n')
  t.same(await log(), { path: '/health', status: 200, route: null })

  const stranger = await wire.exchange(get('/api/users', 'x-api-key: guess'))
  t.equal(`${stranger.status} ${stranger.text()}`, '401 who are you?\n')
  t.same(await log(), { path: '/api/users', status: 401, route: 'api' })

  const known = await wire.exchange(get('/api/users?all', 'x-api-key: secret'))
  t.equal(`${known.status} ${known.text()}`, '200 users')
  t.equal(known.get('x-served-by'), 'headgate')
  t.equal(known.get('x-powered-by'), undefined)
  t.same(await log(), { path: '/api/users', status: 200, route: 'api' })
  const [seen] = origin.requests
  t.equal(seen.target, '/v1/users?all')
  t.same([seen.get('x-user'), seen.get('x-client'), seen.get('x-api-key')], ['alice', '127.0.0.1', undefined])

  for (const path of ['/apix', '/']) {
    t.equal((await wire.exchange(get(path, 'x-api-key: secret'))).status, 404, path)
  }
  const wrongMethod = await wire.exchange('DELETE /api HTTP/1.1\r\nhost: a\r\nx-api-key: secret\r\n\r\n')
  t.equal(wrongMethod.status, 404, 'a method that no route takes')
  t.equal(origin.requests.length, 1)
  await wire.close()
  t.equal(await program.end(), 0)
  t.same(origin.violations, [])
})

const CUSTOM = join(EXAMPLES, 'custom-filter')

/** The example's bootstrap with its two ports replaced. */
function customConfig(listenPort: number, adminPort: number): string {
  const text = readFileSync(join(CUSTOM, 'config.yaml'), 'utf8')
  t.match(text, /port_value: 10000/)
  t.match(text, /port_value: 15000/)
  return text
    .replace('port_value: 10000', `port_value: ${listenPort}`)
    .replace('port_value: 15000', `port_value: ${adminPort}`)
}

t.test('custom-filter: a filter that Headgate does not know', async (t) => {
  const { requestTag } = await import('../examples/custom-filter/request-tag.ts')
  const folder = mkdtempSync(join(tmpdir(), 'headgate-example-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const file = join(folder, 'config.yaml')
  writeFileSync(file, customConfig(0, 0))
  const program = runProgram(t, 'examples/custom-filter/gateway.ts', { args: [file] })
  const wire = await connectTo(t, program)
  const main = await wire.exchange(get('/'))
  t.same([main.status, main.get('x-tag'), main.text()], [200, 'main', 'tagged\n'])
  const canary = await wire.exchange(get('/canary/x'))
  t.same([canary.status, canary.get('x-tag'), canary.text()], [200, 'canary', 'tagged as canary\n'])
  const plain = await wire.exchange(get('/plain'))
  t.same([plain.status, plain.get('x-tag'), plain.text()], [200, undefined, 'no tag here\n'])
  t.equal(await program.end(), 0)

  writeFileSync(file, customConfig(0, 0).replace('tag: main', 'tag: "two words"'))
  t.throws(() => loadEnvoyConfig(file, { filters: [requestTag] }), {
    message: /config\.yaml:\d+:\d+: .*tag: must be one or more letters/,
  })
  t.throws(() => loadEnvoyConfig(file), /example\.headgate\.dev\.RequestTag/, 'the filter must be given')
})

t.test('grpc: a gRPC service behind the gateway, over HTTP/2 on both sides', async (t) => {
  const greeter = runProgram(t, 'examples/grpc/greeter.ts', { args: ['127.0.0.1:0'] })
  const port = /^greeter on 127\.0\.0\.1:(\d+)$/.exec(await greeter.line())?.[1]
  const file = withPorts(t, 'grpc', { 10000: 0, 15000: 0, 50051: Number(port) })
  const gateway = runProgram(t, 'examples/grpc/gateway.ts', { args: [file] })
  const address = /^listening on http:\/\/(.+)$/.exec(await gateway.line())?.[1]
  const client = runProgram(t, 'examples/grpc/client.ts', { args: [String(address)] })
  for (const line of [
    'hello, world',
    'INVALID_ARGUMENT who are you?',
    'DEADLINE_EXCEEDED',
    'UNIMPLEMENTED',
    'g R P C',
    'proxies, you say?',
    'trailers, you say?',
    'bye',
  ]) {
    t.equal(await client.line(), line)
  }
  t.equal(await gateway.end(), 0)
  t.equal(await greeter.end(), 0)
})

t.test('websocket: one service, clients over HTTP/1 and HTTP/2', async (t) => {
  const chat = runProgram(t, 'examples/websocket/chat.ts', { env: { PORT: '0' } })
  const port = /^chat on (\d+)$/.exec(await chat.line())?.[1]
  const file = withPorts(t, 'websocket', { 10000: 0, 15000: 0, 8081: Number(port) })
  const gateway = runProgram(t, 'examples/websocket/gateway.ts', { args: [file] })
  const address = /^listening on http:\/\/(.+)$/.exec(await gateway.line())?.[1]
  const client = runProgram(t, 'examples/websocket/client.ts', { args: [String(address)] })
  t.equal(await client.line(), 'HTTP/1: hello')
  t.equal(await client.line(), 'HTTP/2: hello again')
  t.equal(await gateway.end(), 0)
  t.equal(await chat.end(), 0)
})

t.test('proxy-protocol: headers required from everybody, or believed from some', async (t) => {
  const file = withPorts(t, 'proxy-protocol', { 10000: 0, 10001: 0, 15000: 0 })
  const gateway = runProgram(t, 'examples/proxy-protocol/gateway.ts', { args: [file] })
  const ports = await listening(gateway, ['behind-load-balancer', 'mixed'])
  const client = new WireClient()
  t.teardown(() => client.closeAll())
  const header = 'PROXY TCP4 203.0.113.9 192.0.2.1 4711 443\r\n'
  const ask = async (listener: string, before: string, localAddress = '127.0.0.1'): Promise<unknown> => {
    const wire = await client.connect(ports[listener], { localAddress })
    await wire.write(before + get('/'))
    if (!(await wire.stream.need(1, 'an answer'))) return 'closed'
    const response = await wire.readResponse()
    return [response.get('x-client')?.replace(/:.*/, ''), response.get('x-through')]
  }
  t.same(await ask('behind-load-balancer', header), ['203.0.113.9', '127.0.0.1'])
  t.equal(await gateway.line(), '/ client 203.0.113.9:4711 through 127.0.0.1')
  t.same(await ask('behind-load-balancer', ''), 'closed', 'no header')
  t.same(await ask('mixed', ''), ['127.0.0.1', '127.0.0.1'])
  t.match(await gateway.line(), /^\/ client 127\.0\.0\.1:\d+ through 127\.0\.0\.1$/)
  t.same(await ask('mixed', header), ['203.0.113.9', '127.0.0.1'])
  t.same(await ask('mixed', header, '127.0.0.2'), 'closed', 'not a trusted source')
  await client.closeAll()
  t.equal(await gateway.end(), 0)
})

t.test('tcp-sni: TLS by name, plain TCP and a fixed answer', async (t) => {
  const authority = await Authority.create()
  const { chain, key } = await authority.issue({ dns: ['shop.example'] })
  const shop = createTlsServer({ cert: chain, key }, (socket) => socket.end('the shop'))
  const echo = createServer({ allowHalfOpen: true }, (socket) => socket.pipe(socket))
  for (const server of [shop, echo]) {
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    t.teardown(() => server.close())
  }
  const portOf = (server: Server): number => (server.address() as AddressInfo).port
  const database = portOf(echo)
  const ports = { 10000: 0, 10001: 0, 10002: 0, 15000: 0, 20443: portOf(shop), 25432: database, 25433: database }
  const gateway = runProgram(t, 'examples/tcp-sni/gateway.ts', { args: [withPorts(t, 'tcp-sni', ports)] })
  const { tls, tcp, notice } = await listening(gateway, ['tls', 'tcp', 'notice'])
  const askTls = async (servername: string): Promise<string> => {
    const socket = connectTls({ host: '127.0.0.1', port: tls, servername, ca: authority.pem })
    let text = ''
    socket.on('data', (bytes: Buffer) => (text += bytes))
    socket.on('error', () => {})
    await new Promise((resolve) => socket.on('close', resolve))
    return text
  }
  t.equal(await askTls('shop.example'), 'the shop')
  t.match(await gateway.line(), /^shop\.example to shop received \d+ sent \d+ flags -$/)
  t.equal(await askTls('other.example'), '', 'a name that nobody serves')
  t.match(await gateway.line(), /^other\.example to - /)
  const client = new WireClient()
  t.teardown(() => client.closeAll())
  const wire = await client.connect(tcp, { halfOpen: true })
  await wire.write('select 1')
  wire.end()
  t.equal((await wire.readToEnd()).bytes.toString(), 'select 1')
  const told = await client.connect(notice)
  t.equal((await told.readToEnd()).bytes.toString(), 'moved to port 10001\n')
  await client.closeAll()
  t.equal(await gateway.end(), 0)
})

t.test('ambient-hbone: two gateways, a tunnel between them, and nobody else', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'headgate-mesh-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const origin = await Origin.start((request, reply) => void reply.send({ body: `hello ${request.target}` }))
  t.teardown(() => origin.close())
  const authority = runProgram(t, 'examples/ambient-hbone/authority.ts', {
    args: [folder, 'client', 'server', 'other'],
  })
  t.match(await authority.line(), /^certificates of client, server, other are in /)
  const env = { CERTIFICATES: folder, APPLICATION: `127.0.0.1:${origin.port}`, LISTEN: '127.0.0.1:0' }
  const server = runProgram(t, 'examples/ambient-hbone/server.ts', { env })
  const port = /:(\d+)$/.exec(await server.line())?.[1]
  const client = runProgram(t, 'examples/ambient-hbone/client.ts', { env: { ...env, HBONE_PORT: port } })
  const wire = await connectTo(t, client)
  const response = await wire.exchange(get('/x'))
  t.equal(`${response.status} ${response.text()}`, '200 hello /x')
  const stranger = connectTls({
    port: Number(port),
    host: '127.0.0.1',
    rejectUnauthorized: false,
    ALPNProtocols: ['h2'],
  })
  stranger.on('error', () => {})
  stranger.resume()
  await once(stranger, 'close')
  t.equal(origin.requests.length, 1)
  // Another application's port is not where the server leads to.
  const lost = runProgram(t, 'examples/ambient-hbone/client.ts', {
    env: { ...env, APPLICATION: '127.0.0.1:1', HBONE_PORT: port },
  })
  t.equal((await (await connectTo(t, lost)).exchange(get('/x'))).status, 503)
  await wire.close()
  t.equal(await client.end(), 0)
  t.equal(await server.end(), 0)
})

/** The head of the answer to a request over TLS; '' where the server ended the connection before. */
function askOverTls(options: ConnectionOptions): Promise<string> {
  return new Promise((resolve) => {
    let text = ''
    const socket = connectTls({ host: '127.0.0.1', rejectUnauthorized: false, ...options }, () => {
      socket.write(get('/', 'connection: close'))
    })
    socket.on('data', (bytes: Buffer) => (text += bytes))
    socket.on('error', () => {})
    socket.on('close', () => resolve(text))
  })
}

t.test('tls-sni-mtls: certificates by name, clients by certificate', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'headgate-certificates-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const env = { CERTIFICATES: folder, ANY_PORT: '' }
  const gateway = runProgram(t, 'examples/tls-sni-mtls/gateway.ts', { env })
  const { open, strict, lenient } = await listening(gateway, ['open', 'strict', 'lenient'])
  const file = (name: string): string => readFileSync(join(folder, name), 'utf8')
  const verified = { ca: file('ca.crt'), rejectUnauthorized: true }
  for (const servername of ['shop.example', 'v1.api.example']) {
    t.match(await askOverTls({ port: open, servername, ...verified }), /^HTTP\/1\.1 200 OK\r\n/, servername)
  }
  t.equal(
    await askOverTls({ port: open, servername: 'other.example', ...verified }),
    '',
    'the certificate is for others',
  )
  const as = (name: string): ConnectionOptions => ({ cert: file(`${name}.crt`), key: file(`${name}.key`) })
  t.match(await askOverTls({ port: strict, ...as('client') }), /x-you-are: spiffe:\/\/example\/client\r\n/)
  t.equal(await askOverTls({ port: strict, ...as('stranger') }), '')
  t.equal(await askOverTls({ port: strict }), '')
  t.match(await askOverTls({ port: lenient, ...as('client') }), /x-you-are: spiffe:\/\/example\/client\r\n/)
  const nobody = await askOverTls({ port: lenient, ...as('stranger') })
  t.match(nobody, /^HTTP\/1\.1 200 OK\r\n/)
  t.notMatch(nobody, /x-you-are/)
  t.equal(await gateway.end(), 0)
})

t.test('post-quantum: preferred on one port, demanded on the other', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'headgate-quantum-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const { chain, key } = await (await Authority.create()).issue({ dns: ['localhost'] })
  writeFileSync(join(folder, 'tls.crt'), chain)
  writeFileSync(join(folder, 'tls.key'), key)
  const gateway = runProgram(t, 'examples/post-quantum/gateway.ts', { env: { CERTIFICATES: folder, ANY_PORT: '' } })
  const { hybrid, strict } = await listening(gateway, ['hybrid', 'strict'])
  const client = (port: number, ...groups: string[]): Promise<string> =>
    runProgram(t, 'examples/post-quantum/client.ts', { args: [String(port), ...groups] }).line()
  t.equal(await client(hybrid), '200 X25519MLKEM768')
  t.equal(await client(hybrid, 'X25519'), '200 X25519')
  t.equal(await client(strict), '200 X25519MLKEM768')
  t.match(await client(strict, 'X25519'), /^refused: ERR_SSL/)
  t.equal(await gateway.end(), 0)
})

/** An origin that says its name, and fails where it is told to. */
async function named(t: Test, name: string): Promise<Origin & { sick?: boolean }> {
  const origin: Origin & { sick?: boolean } = await Origin.start(async (request, reply) => {
    await request.body
    await reply.send({ status: origin.sick === true ? 503 : 200, body: name })
  })
  t.teardown(() => origin.close())
  return origin
}

/** Asks so many times and counts who answered; what is no 200 counts by its status. */
async function tally(port: number, count: number, ...lines: string[]): Promise<Record<string, number>> {
  const client = new WireClient()
  const wire = await client.connect(port)
  const seen: Record<string, number> = {}
  for (let i = 0; i < count; i++) {
    const response = await wire.exchange(get('/', ...lines))
    const who = response.status === 200 ? response.text() : String(response.status)
    seen[who] = (seen[who] ?? 0) + 1
  }
  await client.closeAll()
  return seen
}

t.test('canary: by header, by shares that change while it runs, and by copies', async (t) => {
  const [stable, canary] = [await named(t, 'v1'), await named(t, 'v2')]
  const [web, admin] = [await freePort(), await freePort()]
  const file = withPorts(t, 'canary', { 10000: web, 15000: admin, 3001: stable.port, 3002: canary.port })
  const program = runProgram(t, 'lib/cli/main.ts', { args: ['run', '-l', 'error', '-c', file] })
  await untilAnswered(web, '/', 'v1')
  const modify = async (query: string): Promise<void> => {
    const answer = await fetch(`http://127.0.0.1:${admin}/runtime_modify?${query}`, { method: 'POST' })
    t.equal(answer.status, 200)
  }
  const few = await tally(web, 200)
  t.ok(few.v1 > 150, `${JSON.stringify(few)}: most get the old one`)
  t.same(await tally(web, 20, 'x-canary: always'), { v2: 20 })
  await modify('routing.app.stable=0&routing.app.canary=100')
  await untilAnswered(web, '/', 'v2')
  t.same(await tally(web, 50), { v2: 50 })
  await modify('routing.app.stable=100&routing.app.canary=0&routing.app.shadowed=100')
  await untilAnswered(web, '/', 'v1')
  await untilAnswered(web, '/shadowed', 'v1')
  await canary.until(() => canary.requests.some(({ target }) => target === '/shadowed'), 'copy')
  t.equal(await program.end(), 0)
})

t.test('failover: an endpoint fails, a zone fails, and nobody notices', async (t) => {
  const [one, two, three] = [await named(t, 'one'), await named(t, 'two'), await named(t, 'three')]
  const program = runProgram(t, 'examples/failover/gateway.ts', {
    env: {
      LISTEN: '127.0.0.1:0',
      HERE: `127.0.0.1:${one.port},127.0.0.1:${two.port}`,
      THERE: `127.0.0.1:${three.port}`,
    },
  })
  const port = Number(/:(\d+)$/.exec(await program.line())?.[1])
  /** Until it is so; nothing but 200 in between. */
  const until = async (done: (seen: Record<string, number>) => boolean, what: string): Promise<void> => {
    const endMs = performance.now() + 15_000
    for (;;) {
      const seen = await tally(port, 20)
      t.same(
        Object.keys(seen).filter((who) => /^\d/.test(who)),
        [],
        'no request fails',
      )
      if (done(seen)) return
      if (performance.now() > endMs) throw new Error(`no ${what}: ${JSON.stringify(seen)}`)
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
  }
  await until(({ one, two, three }) => one > 0 && two > 0 && three === undefined, 'traffic to both')
  one.sick = true
  await until(({ one, two }) => one === undefined && two > 0, 'traffic to the other')
  two.sick = true
  await until(({ three }) => three === 20, 'traffic to the other zone')
  one.sick = two.sick = false
  await until(({ one, two, three }) => one > 0 && two > 0 && three === undefined, 'traffic back')
  t.equal(await program.end(), 0)
})

const XDS_ENVOY = join(EXAMPLES, 'xds-envoy')

/** A file of the example with other ports. */
function withOtherPorts(t: Test, name: string, ports: Readonly<Record<number, number>>): string {
  let text = readFileSync(join(XDS_ENVOY, name), 'utf8')
  for (const [from, to] of Object.entries(ports)) {
    const known = new RegExp(`((?:port_value|"portValue"): )${from}\\b`)
    t.match(text, known)
    text = text.replace(known, `$1${to}`)
  }
  return text
}

/** Serves the file as the example's control plane does. */
function serve(plane: ControlPlane, text: string): void {
  const byType = Object.groupBy(JSON.parse(text) as JsonObject[], (entry) => String(entry['@type']))
  for (const [url, entries = []] of Object.entries(byType)) {
    const resources = entries.map(({ '@type': _, ...fields }) => fields)
    plane.set(url.slice('type.googleapis.com/'.length), resources)
  }
}

/** Asks on connections of their own until the answer is the wanted one. */
async function untilAnswered(port: number, path: string, wanted: string): Promise<void> {
  for (let last = ''; last !== wanted; ) {
    const client = new WireClient()
    last = await client
      .connect(port)
      .then((wire) => wire.exchange(get(path, 'connection: close')))
      .then((response) => response.text(), String)
    await client.closeAll()
  }
}

t.test('xds-envoy: everything comes from a control plane, and a route is changed live', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'headgate-example-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const shop = await Origin.start((_, reply) => void reply.send({ body: 'shop' }))
  const plane = await ControlPlane.start()
  t.teardown(async () => {
    await Promise.all([plane.close(), shop.close()])
  })
  const [web, admin] = [await freePort(), await freePort()]
  const bootstrap = join(folder, 'bootstrap.yaml')
  writeFileSync(bootstrap, withOtherPorts(t, 'bootstrap.yaml', { 15000: admin, 18000: plane.port }))
  const resources = withOtherPorts(t, 'resources.json', { 10000: web, 3000: shop.port })
  serve(plane, resources)
  const program = runProgram(t, 'lib/cli/main.ts', { args: ['run', '-l', 'error', '-c', bootstrap] })
  await untilAnswered(web, '/hello', 'hello\n')
  await untilAnswered(web, '/anything', 'shop')

  // The change of the README.
  const changed = resources.replace('hello\\n', 'good morning\\n')
  t.not(changed, resources)
  serve(plane, changed)
  await untilAnswered(web, '/hello', 'good morning\n')

  const mistaken = changed.replace('"domains": ["*"]', '"domains": []')
  t.not(mistaken, changed)
  serve(plane, mistaken)
  const { error } = await plane.request(({ kind }) => kind === 'nack', 'a refusal')
  t.match(error?.message, /virtual_hosts\[0\]\.domains/)
  await untilAnswered(web, '/hello', 'good morning\n')
  const dump = await fetch(`http://127.0.0.1:${admin}/config_dump?resource=dynamic_route_configs`)
  t.match(await dump.text(), /"error_state"/)

  await plane.stop()
  const connected = async (): Promise<boolean> => {
    const stats = await fetch(`http://127.0.0.1:${admin}/stats?filter=connected_state`)
    return !/^control_plane\.connected_state: 0$/m.test(await stats.text())
  }
  while (await connected());
  await untilAnswered(web, '/hello', 'good morning\n')
  t.equal(await program.end(), 0)
})

t.test('rolling-restart: workers are replaced, and nobody notices', { timeout: 60_000 }, async (t) => {
  const port = await freePort()
  const file = withPorts(t, 'rolling-restart', { 10000: 0, 15000: 0, 20000: port })
  const program = runProgram(t, 'examples/rolling-restart/rehearse.ts', { args: [file, String(port)] })
  const readme = readFileSync(join(EXAMPLES, 'rolling-restart', 'README.md'), 'utf8')
  for (const line of [
    'all workers replaced by a signal: served, 0 failed',
    'all workers replaced by admin: served, 0 failed',
    'told to end: served, 0 failed',
    'ended with status 0',
  ]) {
    t.equal(await program.line(), line)
    t.ok(readme.includes(line))
  }
})

t.test('kubernetes: what the manifests say is what the gateway understands', async (t) => {
  const { config, options, pod, container, entrypoint, program, user } = await readKubernetesExample(t)
  const folder = mkdtempSync(join(tmpdir(), 'headgate-example-'))
  t.teardown(() => rmSync(folder, { recursive: true }))

  // The image starts what the package brings.
  t.same(entrypoint, ['node', '--disable-sigusr1', '/usr/local/bin/headgate', 'run'])
  const { bin } = JSON.parse(readFileSync(join(EXAMPLES, '../package.json'), 'utf8')) as { bin: { headgate: string } }
  t.equal(program, `dist/${bin.headgate.replace(/\.ts$/, '.js')}`)
  t.equal(user, '10101:10101')
  t.match(pod.securityContext, { runAsNonRoot: true, runAsUser: 10101 })
  t.match(container.securityContext, { readOnlyRootFilesystem: true, allowPrivilegeEscalation: false })

  // Times fit into each other.
  const { drainTimeS, drainMinTimeS, configPath } = options
  const { seconds: preStop } = container.lifecycle.preStop.sleep
  t.ok(drainMinTimeS > 0 && drainMinTimeS < drainTimeS)
  t.ok(pod.terminationGracePeriodSeconds > preStop + drainTimeS + 2)

  // The file is where it is mounted, as a directory whose changes are seen.
  const [mount] = container.volumeMounts
  t.equal(configPath, join(mount.mountPath, 'config.yaml'))
  t.equal(mount.subPath, undefined)

  // Every port has its listener, and probes are answered.
  const file = join(folder, 'config.yaml')
  writeFileSync(file, config.replaceAll(/port_value: \d+/g, 'port_value: 0').replaceAll('0.0.0.0', '127.0.0.1'))
  const named = container.ports.map(({ name, containerPort }) => [name, containerPort])
  const listeners = [...config.matchAll(/- name: (\w+)\n +address: .* address: 0\.0\.0\.0, port_value: (\d+)/g)]
  t.same(
    listeners.map(([, name, port]) => [name, Number(port)]),
    named,
  )
  const admin = await freePort()
  const flags = ['run', '-l', 'error', '-c', file, '--admin-address', `127.0.0.1:${admin}`, '--drain-min-time-s', '2']
  const gateway = runProgram(t, 'lib/cli/main.ts', { args: flags })
  const ports = await portsOf(admin)
  const probe = async ({ httpGet: { path, port } }: typeof container.readinessProbe): Promise<number> =>
    (await fetch(`http://127.0.0.1:${ports[port]}${path}`, { headers: { connection: 'close' } })).status
  const { startupProbe, readinessProbe, livenessProbe } = container
  for (const each of [startupProbe, readinessProbe, livenessProbe]) t.equal(await probe(each), 200)
  const ended = gateway.end()
  while ((await probe(readinessProbe)) !== 503);
  t.equal(await probe(livenessProbe), 200, 'it lives, and takes connections')
  t.equal(await ended, 0)
})

/** Ports of all listeners, once the gateway serves. */
async function portsOf(admin: number): Promise<Record<string, number>> {
  for (;;) {
    const ready = await fetch(`http://127.0.0.1:${admin}/ready`).catch(() => undefined)
    if (ready?.status === 200) break
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  const text = await (await fetch(`http://127.0.0.1:${admin}/listeners`)).text()
  return Object.fromEntries(
    [...text.matchAll(/^(\w+)::127\.0\.0\.1:(\d+)$/gm)].map(([, name, port]) => [name, Number(port)]),
  )
}
