import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { JsonObject } from '../../lib/core/errors.ts'
import { XDS } from '../support/control-plane.ts'
import { CLUSTER, ENDPOINTS, ROUTES } from './protocol-rig.ts'
import { api, target, until, WireRig, watch } from './wire-rig.ts'

const typed = (typeName: string, json: JsonObject): JsonObject => ({
  '@type': `type.googleapis.com/${typeName}`,
  ...json,
})
const cluster = (name: string): JsonObject => typed(CLUSTER, { name, connect_timeout: '1s' })

// --- REST -------------------------------------------------------------------------------------------------------------

/** A REST server: what it was asked, and what it is to answer. */
class RestServer {
  readonly asked: { readonly path: string; readonly body: JsonObject; readonly headers: IncomingMessage['headers'] }[] =
    []
  answer: (path: string) => { readonly status?: number; readonly body?: string } | undefined = () => ({ status: 404 })
  readonly #server: Server

  private constructor() {
    this.#server = createServer((request, response) => this.#serve(request, response))
  }

  static async start(): Promise<RestServer> {
    const rest = new RestServer()
    await new Promise<void>((resolve) => rest.#server.listen(0, '127.0.0.1', resolve))
    return rest
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port
  }

  #serve(request: IncomingMessage, response: ServerResponse): void {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      const path = request.url ?? ''
      this.asked.push({
        path,
        body: JSON.parse(Buffer.concat(chunks).toString()) as JsonObject,
        headers: request.headers,
      })
      const answer = this.answer(path)
      if (answer !== undefined) response.writeHead(answer.status ?? 200).end(answer.body)
    })
  }

  close(): void {
    this.#server.closeAllConnections()
    this.#server.close()
  }
}

async function startRest(t: Test): Promise<{ rest: RestServer; rig: WireRig }> {
  const rest = await RestServer.start()
  const rig = new WireRig(t)
  t.teardown(() => rest.close())
  await rig.addCluster('plane', { port: rest.port, protocol: 'http1' })
  return { rest, rig }
}

t.test('a REST server is asked again and again, and told the version that is here', async (t) => {
  const { rest, rig } = await startRest(t)
  const body = (version: string, ...resources: JsonObject[]): string =>
    JSON.stringify({ version_info: version, resources })
  let clusters = body('1', cluster('a'), cluster('b'))
  rest.answer = (path) =>
    path === '/v3/discovery:clusters'
      ? { body: clusters }
      : { body: body('9', typed(ENDPOINTS, { cluster_name: 'e' })) }
  const source = rig.open(api('rest'))
  const watcher = watch(source, CLUSTER, ['*'], { statPrefix: 'cds.' })
  const endpoints = watch(source, ENDPOINTS, ['e'])
  await until(() => watcher.names.length === 2 && endpoints.names.length === 1, 'the first answers')
  const first = rest.asked.find(({ path }) => path === '/v3/discovery:clusters')
  t.match(first, { body: { node: { id: 'test-node' }, type_url: `type.googleapis.com/${CLUSTER}` } })
  t.same([first?.body.version_info, first?.body.resource_names], [undefined, undefined])
  t.match(first?.headers, { 'content-type': 'application/json', host: 'plane' })
  t.same(rest.asked.find(({ path }) => path === '/v3/discovery:endpoints')?.body.resource_names, ['e'])
  clusters = body('2', cluster('b'))
  rest.asked.length = 0
  rig.clock.advance(1_499)
  t.equal(rest.asked.length, 0, 'refresh_delay and a random part of it')
  rig.clock.advance(1)
  await until(() => watcher.names.length === 1, 'the next answer')
  t.same(watcher.last.removed, ['a'])
  t.equal(rest.asked.find(({ path }) => path === '/v3/discovery:clusters')?.body.version_info, '1')
  t.same([source.status().connected, rig.metrics.counter('cds.update_success').v], [true, 2])
})

t.test('304 changes nothing; errors, silence and nonsense keep what is here and are counted', async (t) => {
  const { rest, rig } = await startRest(t)
  rest.answer = () => ({ body: JSON.stringify({ version_info: '1', resources: [cluster('a')] }) })
  const source = rig.open(api('rest'))
  const connections: boolean[] = []
  source.onConnection((connected) => connections.push(connected))
  const watcher = watch(source, CLUSTER, ['*'], { statPrefix: 'cds.' })
  const poll = async (expected: string | undefined): Promise<void> => {
    const { length } = rest.asked
    await until(() => rig.clock.nextInMs === 1_500, 'the next poll to be due')
    rig.clock.advance(1_500)
    await until(() => rest.asked.length > length, 'a poll')
    if (expected === 'timeout') rig.clock.advance(1_000)
    await until(() => rig.clock.nextInMs === 1_500, 'its end')
    if (expected !== undefined)
      t.match(source.status().lastError, new RegExp(expected === 'timeout' ? 'in time' : expected))
  }
  await until(() => watcher.names.length === 1, 'the first answer')
  rest.answer = () => ({ status: 304 })
  await poll(undefined)
  rest.answer = () => ({ status: 500 })
  await poll('status 500')
  rest.answer = () => undefined
  await poll('timeout')
  rest.answer = () => ({ body: '{"version_info"' })
  await poll('JSON')
  rest.answer = () => ({ body: JSON.stringify({ resources: [typed(CLUSTER, { name: 'a', no_such_field: 1 })] }) })
  await poll('no_such_field')
  t.same([watcher.names, watcher.updates.length], [['a'], 1])
  t.equal(rig.metrics.counter('cds.update_failure').v, 4)
  watcher.refuse = () => 'no'
  rest.answer = () => ({ body: JSON.stringify({ version_info: '2', resources: [cluster('a')] }) })
  await poll('"a": some.field: no')
  t.equal(rig.metrics.counter('cds.update_rejected').v, 1)
  watcher.refuse = () => undefined
  await poll(undefined)
  t.equal(rest.asked.at(-1)?.body.version_info, '1', 'a refused version is not claimed')
  t.same(connections, [true, false, true])
  t.throws(() => watch(source, XDS.virtualHost, ['x']), /has no REST endpoint/)
})

t.test('new names are asked for at once, and without a version that they could hide behind', async (t) => {
  const { rest, rig } = await startRest(t)
  rest.answer = () => ({
    body: JSON.stringify({
      version_info: '1',
      resources: ['e', 'f'].map((name) => typed(ENDPOINTS, { cluster_name: name })),
    }),
  })
  const watcher = watch(rig.open(api('rest')), ENDPOINTS, ['e'])
  await until(() => watcher.names.length === 1, 'the first answer')
  watcher.sub.want(new Set(['e', 'f']))
  await until(() => watcher.names.length === 2, 'the second')
  t.same(rest.asked.at(-1)?.body.resource_names, ['e', 'f'])
  t.equal(rest.asked.at(-1)?.body.version_info, undefined)
})

t.test('of several REST servers the next one is asked after each failure', async (t) => {
  const { rest, rig } = await startRest(t)
  rest.answer = () => ({ body: JSON.stringify({ version_info: '1', resources: [cluster('a')] }) })
  const source = rig.open(api('rest', { targets: [target('missing'), target('plane', { authority: 'rest.test' })] }))
  const watcher = watch(source, CLUSTER, ['*'])
  await until(() => source.status().lastError !== undefined, 'the failure')
  t.match(source.status().lastError, /no cluster "missing"/)
  rig.clock.advance(2_000)
  await until(() => watcher.names.length === 1, 'the answer of the second')
  t.equal(rest.asked[0].headers.host, 'rest.test')
})

// --- files --------------------------------------------------------------------------------------------------------------

function folder(t: Test): string {
  const path = mkdtempSync(join(tmpdir(), 'headgate-xds-'))
  t.teardown(() => rmSync(path, { recursive: true, force: true }))
  return path
}

const yaml = (version: string, ...names: string[]): string =>
  [
    `version_info: "${version}"`,
    'resources:',
    ...names.map((name) => `- "@type": type.googleapis.com/${CLUSTER}\n  name: ${name}\n  connect_timeout: 1s`),
    '',
  ].join('\n')

/** As `mv` does it. */
function moveInto(path: string, text: string): void {
  writeFileSync(`${path}.new`, text)
  renameSync(`${path}.new`, path)
}

async function settled(rig: WireRig, condition: () => boolean, what: string): Promise<void> {
  await until(() => {
    rig.clock.advance(10)
    return condition()
  }, what)
}

t.test('a file is read when something is wanted, and again when another is moved into its place', async (t) => {
  const path = join(folder(t), 'cds.yaml')
  writeFileSync(path, yaml('1', 'a', 'b'))
  const rig = new WireRig(t)
  const source = rig.open({ kind: 'file', path })
  const watcher = watch(source, CLUSTER, ['*'], { statPrefix: 'cds.' })
  await until(() => watcher.names.length === 2, 'the content')
  t.same(source.status(), { name: path, connected: true, lastUpdateMs: rig.clock.wall(), lastError: undefined })
  t.equal(watcher.last.version, '1')
  moveInto(path, yaml('2', 'a', 'c'))
  await settled(rig, () => watcher.names.join() === 'a,c', 'the second')
  t.same(watcher.last.removed, ['b'])
  moveInto(path, 'resources: [')
  await settled(rig, () => source.status().lastError !== undefined, 'the failure')
  t.match(source.status().lastError, /cds\.yaml:1/)
  t.same([watcher.names, rig.metrics.counter('cds.update_failure').v], [['a', 'c'], 1])
  watcher.refuse = () => 'no'
  moveInto(path, yaml('3', 'a', 'c'))
  await settled(rig, () => rig.metrics.counter('cds.update_rejected').v === 1, 'the refusal')
  watcher.refuse = () => undefined
  moveInto(path, yaml('4', 'd'))
  await settled(rig, () => watcher.names.join() === 'd', 'the recovery')
})

t.test('a file that is written to where it lies is left alone, until something is moved', async (t) => {
  const path = join(folder(t), 'cds.yaml')
  writeFileSync(path, yaml('1', 'a', 'b'))
  const rig = new WireRig(t)
  const watcher = watch(rig.open({ kind: 'file', path }), CLUSTER, ['*'])
  await until(() => watcher.names.length === 2, 'the content')
  writeFileSync(path, yaml('2', 'a'))
  for (let i = 0; i < 20; i++) await settled(rig, () => true, '')
  rig.clock.advance(60_000)
  t.same(watcher.names, ['a', 'b'], 'half of a file must not delete anything')
  moveInto(path, yaml('3', 'c'))
  await settled(rig, () => watcher.names.join() === 'c', 'the move')
})

t.test('a volume of Kubernetes is followed: its link leads elsewhere', async (t) => {
  const root = folder(t)
  for (const [data, name] of [
    ['..data_1', 'a'],
    ['..data_2', 'b'],
  ]) {
    mkdirSync(join(root, data))
    writeFileSync(join(root, data, 'cds.json'), JSON.stringify({ version_info: data, resources: [cluster(name)] }))
  }
  symlinkSync('..data_1', join(root, '..data'))
  symlinkSync('..data/cds.json', join(root, 'cds.json'))
  const rig = new WireRig(t)
  const watcher = watch(rig.open({ kind: 'file', path: join(root, 'cds.json'), watchedDirectory: root }), CLUSTER, [
    '*',
  ])
  await until(() => watcher.names.join() === 'a', 'the content')
  symlinkSync('..data_2', join(root, '..data_tmp'))
  renameSync(join(root, '..data_tmp'), join(root, '..data'))
  await settled(rig, () => watcher.names.join() === 'b', 'the exchange')
})

t.test(
  'whatever is moved in the watched directory makes the file be read, which may have been written in place',
  async (t) => {
    const [path, watched] = [join(folder(t), 'cds.yaml'), folder(t)]
    writeFileSync(path, yaml('1', 'a'))
    const rig = new WireRig(t)
    const watcher = watch(rig.open({ kind: 'file', path, watchedDirectory: watched }), CLUSTER, ['*'])
    await until(() => watcher.names.join() === 'a', 'the content')
    writeFileSync(path, yaml('2', 'b'))
    moveInto(join(watched, 'stamp'), 'now')
    await settled(rig, () => watcher.names.join() === 'b', 'the second')
  },
)

t.test('a file that is missing, or goes, is a failure and nothing more; it is read when it comes', async (t) => {
  const path = join(folder(t), 'rds.yaml')
  const rig = new WireRig(t)
  const source = rig.open({ kind: 'file', path })
  const watcher = watch(source, ROUTES, ['r', 's'])
  await until(() => source.status().lastError !== undefined, 'the failure')
  t.match(source.status().lastError, /ENOENT/)
  const text = `resources: [{"@type": type.googleapis.com/${ROUTES}, name: r}, {"@type": type.googleapis.com/${ROUTES}, name: t}]`
  moveInto(path, text)
  await settled(rig, () => watcher.names.join() === 'r', 'the file')
  unlinkSync(path)
  rig.clock.advance(15_000)
  t.same([watcher.names, watcher.absent], [['r'], ['s timeout']])
  const late = watch(source, ROUTES, ['t'])
  moveInto(path, text)
  await settled(rig, () => late.names.join() === 't', 'a second watcher')
})

t.test('binary files, resources in wrappers and files that are something else', async (t) => {
  const root = folder(t)
  const rig = new WireRig(t)
  const wrapped = {
    '@type': 'type.googleapis.com/envoy.service.discovery.v3.Resource',
    name: 'w',
    version: '7',
    resource: cluster('w'),
  }
  writeFileSync(join(root, 'wrapped.json'), JSON.stringify({ version_info: '1', resources: [wrapped] }))
  const inWrapper = watch(rig.open({ kind: 'file', path: join(root, 'wrapped.json') }, 'wrapped'), CLUSTER, ['*'])
  await until(() => inWrapper.state.get('w') === '7', 'the wrapped one')
  writeFileSync(join(root, 'a.pb'), Buffer.from([0x0a, 1, 0x31]))
  const binary = watch(rig.open({ kind: 'file', path: join(root, 'a.pb') }, 'pb'), CLUSTER, ['*'])
  await until(() => binary.updates.length === 1, 'the binary one')
  t.equal(binary.last.version, '1')
  for (const [name, content, why] of [
    ['broken.pb', Buffer.from([0x0a, 0x7f]), /is no .*DiscoveryResponse/],
    ['text.pb_text', 'version_info: "1"', /text format/],
    ['one.yaml', 'name: just-a-cluster', /name/],
  ] as const) {
    writeFileSync(join(root, name), content)
    const source = rig.open({ kind: 'file', path: join(root, name) }, name)
    watch(source, CLUSTER, ['*'])
    await until(() => source.status().lastError !== undefined, name)
    t.match(source.status().lastError, why)
  }
})
