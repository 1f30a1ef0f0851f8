import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import { type Manifest, publishedManifest } from '../.packaging/manifest.ts'

/**
 * Runs a program as a user would. The test runner puts itself into NODE_OPTIONS of whatever is started, where it gets in the
 * way of the compiler; `env` takes it out again.
 */
const run = (command: string, args: readonly string[], cwd: string): Promise<{ stdout: string; stderr: string }> =>
  promisify(execFile)('env', ['-u', 'NODE_OPTIONS', command, ...args], { cwd, env })
const ROOT = dirname(import.meta.dirname)
const BEGIN = '<!-- library example: begin (examples/library/gateway.ts) -->'
const END = '<!-- library example: end -->'
/** What `npm pack` needs of the repository. */
const PACKED = ['package.json', 'tsconfig.json', 'tsconfig.build.json', '.packaging', 'lib', 'filters', 'listeners']
const ALSO_PACKED = ['xds-client', 'README.md', 'CHANGELOG.md', 'LICENSE', 'SECURITY.md']

/** npm and everything it starts run on this very Node. */
const env: NodeJS.ProcessEnv = {
  ...process.env,
  PATH: [dirname(process.execPath), process.env.PATH].join(delimiter),
  npm_config_update_notifier: 'false',
  npm_config_audit: 'false',
  npm_config_fund: 'false',
}
// Set where npm runs the tests: they would make the npm started here believe that it packs this folder.
for (const name of Object.keys(env)) if (/^npm_(?:package|lifecycle|config_local_prefix)/.test(name)) delete env[name]

function json(path: string): { [field: string]: unknown } {
  return JSON.parse(readFileSync(path, 'utf8')) as { [field: string]: unknown }
}

/** The README's library example, or the text it is to have as long as there is no README. */
function readmeExample(): string {
  const source = readFileSync(join(ROOT, 'examples/library/gateway.ts'), 'utf8')
  const readme = readFileSync(join(ROOT, 'README.md'), 'utf8')
  const [, after = ''] = readme.split(BEGIN)
  const fenced = /^\s*```ts\n([\s\S]*?)```\s*$/.exec(after.split(END)[0] ?? '')
  t.equal(fenced?.[1], source, 'the README shows examples/library/gateway.ts between its markers')
  return fenced?.[1] ?? source
}

/** Packs a copy of the repository, so that neither a failure nor another test sees a changed working tree. */
async function pack(folder: string): Promise<string> {
  const copy = join(folder, 'repository')
  mkdirSync(copy)
  for (const name of [...PACKED, ...ALSO_PACKED]) {
    if (existsSync(join(ROOT, name))) cpSync(join(ROOT, name), join(copy, name), { recursive: true })
  }
  symlinkSync(join(ROOT, 'node_modules'), join(copy, 'node_modules'))
  const before = readdirSync(copy).sort()
  const manifest = readFileSync(join(copy, 'package.json'), 'utf8')
  await run('npm', ['pack', '--pack-destination', folder], copy)
  t.equal(readFileSync(join(copy, 'package.json'), 'utf8'), manifest, 'packing leaves package.json as it was')
  t.same(readdirSync(copy).sort(), before, 'packing leaves no files behind')
  const [tarball, ...others] = readdirSync(folder).filter((name) => name.endsWith('.tgz'))
  t.same(others, [])
  return join(folder, tarball)
}

t.test('the published package.json has nothing that only the repository needs', async (t) => {
  const original = json(join(ROOT, 'package.json')) as Manifest
  const published = publishedManifest(original)
  t.same(published.bin, { headgate: 'dist/lib/cli/main.js' })
  t.same(published.exports, {
    '.': { types: './dist/lib/cli/library.d.ts', default: './dist/lib/cli/library.js' },
    './package.json': './package.json',
  })
  for (const field of ['scripts', 'devDependencies', 'optionalDependencies']) {
    t.ok(field in original, `the repository has ${field}`)
    t.notOk(field in published, `the package has no ${field}`)
  }
  for (const field of ['name', 'version', 'license', 'type', 'engines', 'dependencies', 'files']) {
    t.same(published[field], original[field], field)
  }
})

t.test('the tarball installs, runs and compiles in an empty folder', { timeout: 110_000 }, async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'headgate-package-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const example = readmeExample()
  const tarball = await pack(folder)
  const app = join(folder, 'app')
  mkdirSync(app)
  writeFileSync(join(app, 'package.json'), '{ "name": "app", "private": true, "type": "module" }\n')
  await run('npm', ['install', '--prefer-offline', '--ignore-scripts', '--no-package-lock', tarball], app)

  await t.test('nothing but the run-time dependencies arrives', async (t) => {
    const installed = readdirSync(join(app, 'node_modules'))
    t.same(
      installed.filter((name) => /^node-(?:bin-)?(?:linux|darwin)/.test(name)),
      [],
    )
    t.notOk(installed.includes('typescript'), 'no development dependency')
    const own = join(app, 'node_modules/headgate')
    t.notOk(existsSync(join(own, 'lib')), 'no sources')
    t.ok(existsSync(join(own, 'dist/lib/proto/generated/envoy.binpb')), 'the descriptor set')
    t.same(json(join(own, 'package.json')).dependencies, json(join(ROOT, 'package.json')).dependencies)
    const leftTs = readdirSync(join(own, 'dist'), { recursive: true }).filter((path) => /(?<!\.d)\.ts$/.test(`${path}`))
    t.same(leftTs, [])
  })

  await t.test('the command runs', async (t) => {
    const { stdout } = await run('npx', ['--no-install', 'headgate', 'version'], app)
    const { version } = json(join(ROOT, 'package.json'))
    t.match(stdout, `headgate/${version} node/${process.versions.node}`)
    const config = join(app, 'bootstrap.yaml')
    writeFileSync(config, 'static_resources: { clusters: [ { name: a, type: STATIC, typ: 1 } ] }\n')
    const refused = await run('npx', ['--no-install', 'headgate', 'validate', '--config', config], app).catch(
      (error: { stderr: string; code: number }) => error,
    )
    t.match(refused, { code: 1, stderr: /bootstrap\.yaml:1:\d+: static_resources\.clusters\[0\]\.typ: unknown field/ })
  })

  await t.test("a program compiles against its types, and the README's example is one", async (t) => {
    writeFileSync(join(app, 'gateway.ts'), example)
    writeFileSync(join(app, 'consumer.ts'), CONSUMER)
    writeFileSync(join(app, 'tsconfig.json'), JSON.stringify({ compilerOptions: COMPILER_OPTIONS }))
    const compiler = join(ROOT, 'node_modules/typescript/bin/tsc')
    const compiled = await run(process.execPath, [compiler, '-p', app], app).catch((error: { stdout: string }) => error)
    t.equal(compiled.stdout, '')
    await runExample(t, app)
  })
})

const COMPILER_OPTIONS = {
  target: 'es2024',
  module: 'nodenext',
  strict: true,
  // The package's own declarations are checked too.
  skipLibCheck: false,
  typeRoots: [join(ROOT, 'node_modules/@types')],
  types: ['node'],
}

/** Uses of the types; lines that must not compile are marked, and the compiler insists on each mark. */
const CONSUMER = `
import {
  type AnyFilterFactory, ConfigRefused, createGateway, FAILURES, type FieldReader, type FilterFactory, type Gateway, Headers,
  type HttpFilter, type HttpStream, loadEnvoyConfig, middleware, type NativeConfig, type Next, standardFilters,
} from 'headgate'

interface Count { seen: number }
const stateful: HttpFilter<Count> = {
  createState: () => ({ seen: 0 }),
  onRequestData(stream, chunk, end, state) { state.seen += chunk.length; return end && stream.head.method === 'PUT' ? null : undefined },
  onEnd(stream, state) { stream.metadata.merge('count', { seen: state.seen }) },
}
const factory: FilterFactory<{ header: string }> = {
  name: 'test.tag',
  typeUrls: ['test.Tag'],
  parse: (fields: FieldReader) => ({ header: fields.string('header') }),
  compile: ({ header }, scope) => {
    const count = scope.metrics.counter('tagged')
    return { onRequestHeaders: (stream) => { count.v++; stream.request.set(header, 'x') } }
  },
}
const any: AnyFilterFactory = factory
const onion = middleware('onion', async (stream: HttpStream, next) => { await next(); stream.response.set('x', 'y') })
const next = (stream: HttpStream): Next => stream.reply({ status: FAILURES.overflow.status, details: 'no' })
const config: NativeConfig = {
  listeners: [{
    address: '127.0.0.1:0',
    http: {
      filters: [{ name: 'a', filter: stateful }, { name: 'b', filter: onion }, factory, { factory, config: { header: 'x' } }, { name: 'cors' }],
      routes: [{ match: { prefix: '/' }, action: { kind: 'route', cluster: { weighted: [{ name: 'web', weight: 1 }] } } }],
    },
  }],
  clusters: [{ name: 'web', endpoints: ['127.0.0.1:1', { address: { host: 'a.example', port: 1 }, weight: 2 }] }],
}
export const gateway: Gateway = createGateway(config, { filters: [any, ...standardFilters()] })
export const envoy = (): Gateway => createGateway(loadEnvoyConfig('x.yaml', { filters: [factory] }))
export const isRefused = (error: unknown): boolean => error instanceof ConfigRefused && error.errors[0].path === ''
export const headers: string | undefined = new Headers(['a', 'b']).get('a')
export const used = [next, stateful]

// @ts-expect-error a field that does not exist
createGateway({ listeners: [], clustres: [] })
// @ts-expect-error an action needs a kind
createGateway({ listeners: [{ address: ':1', http: { routes: [{ match: {}, action: { cluster: 'a' } }] } }] })
// @ts-expect-error times are numbers of milliseconds
createGateway({ listeners: [{ address: ':1', http: { routes: [], idleTimeoutMs: '5s' } }] })
// @ts-expect-error a filter is an object with hooks
createGateway({ listeners: [{ address: ':1', http: { routes: [], filters: [{ name: 'a', filter: () => {} }] } }] })
// @ts-expect-error the IR is not part of the package's face
import type { GatewayConfig } from 'headgate'
`

/** Starts the compiled example between a client and an upstream of this test. */
async function runExample(t: Test, app: string): Promise<void> {
  const upstream = createServer((request, response) => {
    response.setHeader('x-powered-by', 'a test')
    response.end(`${request.url} ${request.headers['x-user']} ${request.headers['x-client']}`)
  })
  upstream.listen(0, '127.0.0.1')
  await once(upstream, 'listening')
  const port = (upstream.address() as AddressInfo).port
  const gateway = spawn('env', ['-u', 'NODE_OPTIONS', process.execPath, 'gateway.js'], {
    cwd: app,
    env: { ...env, LISTEN: '127.0.0.1:0', UPSTREAM: `127.0.0.1:${port}` },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  try {
    const lines = createInterface({ input: gateway.stdout })[Symbol.asyncIterator]()
    const url = /http:\S+/.exec((await lines.next()).value ?? '')?.[0]
    const answer = await fetch(`${url}/api/users`, { headers: { 'x-api-key': 'secret' } })
    t.equal(await answer.text(), '/v1/users alice 127.0.0.1')
    t.equal(answer.headers.get('x-served-by'), 'headgate')
    t.equal(answer.headers.get('x-powered-by'), null)
    t.same(JSON.parse((await lines.next()).value ?? ''), { path: '/api/users', status: 200, route: 'api' })
    const ended = once(gateway, 'exit')
    gateway.kill('SIGTERM')
    t.same(await ended, [0, null], 'SIGTERM ends it in peace')
  } finally {
    gateway.kill('SIGKILL')
    upstream.closeAllConnections()
    upstream.close()
  }
}
