import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import t, { type Test } from 'tap'
import { loadEnvoyConfig } from '../lib/cli/library.ts'
import { Origin } from './support/origin.ts'
import { type Wire, WireClient } from './support/wire.ts'

const ROOT = dirname(import.meta.dirname)
const EXAMPLES = join(ROOT, 'examples')
/** Each example with a test below; the first test sees to it that none is missing. */
const TESTED: readonly string[] = ['custom-filter', 'grpc', 'library', 'websocket']

const get = (path: string, ...lines: string[]): string =>
  `${[`GET ${path} HTTP/1.1`, 'host: a', ...lines].join('\r\n')}\r\n\r\n`

/** A program that runs with the test. */
interface Running {
  /** The next line that it writes. */
  line(): Promise<string>
  /** Ends it by SIGTERM and answers its exit status. */
  end(): Promise<number | null>
}

interface Start {
  readonly args?: readonly string[]
  readonly env?: NodeJS.ProcessEnv
}

function runProgram(t: Test, path: string, { args = [], env = {} }: Start): Running {
  const child = spawn(process.execPath, [path, ...args], {
    cwd: ROOT,
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const ended = once(child, 'exit') as Promise<[number | null, string | null]>
  t.teardown(async () => {
    child.kill('SIGKILL')
    await ended
  })
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  return {
    async line() {
      const next = await lines.next()
      if (next.done === true) throw new Error(`${path} ended without another line`)
      return next.value
    },
    async end() {
      child.kill('SIGTERM')
      return (await ended)[0]
    },
  }
}

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

/** A copy of an example's bootstrap with other ports. */
function withPorts(t: Test, example: string, ports: Readonly<Record<number, number>>): string {
  let text = readFileSync(join(EXAMPLES, example, 'config.yaml'), 'utf8')
  for (const [from, to] of Object.entries(ports)) {
    t.match(text, `port_value: ${from}`)
    text = text.replace(`port_value: ${from}`, `port_value: ${to}`)
  }
  const folder = mkdtempSync(join(tmpdir(), 'headgate-example-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const file = join(folder, 'config.yaml')
  writeFileSync(file, text)
  return file
}

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
