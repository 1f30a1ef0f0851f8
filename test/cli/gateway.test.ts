import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import {
  type AnyFilterFactory,
  ConfigRefused,
  createGateway,
  type FilterFactory,
  formatAddress,
  type Gateway,
  type GatewayOptions,
  type HttpFilter,
  type JsonObject,
  type Log,
  loadEnvoyConfig,
  type MetricsSnapshot,
  middleware,
  type NativeAddress,
  type NativeConfig,
  type NativeHttp,
} from '../../lib/cli/library.ts'
import type { Address } from '../../lib/core/address.ts'
import { watchLeaks } from '../support/leaks.ts'
import { Origin } from '../support/origin.ts'
import { type Wire, WireClient } from '../support/wire.ts'

const GET = 'GET / HTTP/1.1\r\nhost: a\r\n\r\n'
const LOCAL = '127.0.0.1:0'
const silent: Log = { debug() {}, info() {}, warn() {}, error() {} }

const direct = (body: string): NativeHttp => ({
  routes: [{ match: {}, action: { kind: 'direct', status: 200, body } }],
})
const listener = (
  name: string,
  http: NativeHttp,
  address: NativeAddress = LOCAL,
): NativeConfig['listeners'][number] => ({
  name,
  address,
  http,
})
const saying = (body: string, address?: NativeAddress): NativeConfig => ({
  listeners: [listener('main', direct(body), address)],
})
const toCluster = (port: number): NativeConfig => ({
  listeners: [listener('main', { routes: [{ match: {}, action: { kind: 'route', cluster: 'web' } }] })],
  clusters: [{ name: 'web', endpoints: [`127.0.0.1:${port}`] }],
})

function portOf(address: Address | undefined): number {
  if (address?.kind !== 'ip') throw new Error('not an IP address')
  return address.port
}

function mainPort(gateway: Gateway): number {
  return portOf(gateway.addresses.main[0])
}

function counter(stats: MetricsSnapshot, name: string): number | undefined {
  return new Map(stats.counters).get(name)
}

interface Stage {
  readonly client: WireClient
  start(config: Parameters<typeof createGateway>[0], options?: GatewayOptions): Promise<Gateway>
  connect(gateway: Gateway): Promise<Wire>
  /** One request on a connection of its own. */
  ask(gateway: Gateway, request?: string): Promise<string>
}

/** Gateways and connections that go away, all of them, with the test. */
function stage(t: Test): Stage {
  const leaks = watchLeaks()
  const client = new WireClient()
  const gateways: Gateway[] = []
  t.teardown(async () => {
    await client.closeAll()
    for (const gateway of gateways) await gateway.close({ drainMs: 0 })
    await leaks.assertNone()
  })
  const connect = (gateway: Gateway): Promise<Wire> => client.connect(mainPort(gateway))
  return {
    client,
    connect,
    async start(config, options) {
      const gateway = createGateway(config, { log: silent, ...options })
      gateways.push(gateway)
      await gateway.start()
      return gateway
    },
    async ask(gateway, request = GET) {
      const wire = await connect(gateway)
      const response = await wire.exchange(request)
      await wire.close()
      return `${response.status} ${response.text()}`
    },
  }
}

async function refusal(action: Promise<unknown>): Promise<string[]> {
  const error: unknown = await action.then(
    () => undefined,
    (reason: unknown) => reason,
  )
  if (!(error instanceof ConfigRefused)) throw error ?? new Error('was not refused')
  return error.errors.map(String)
}

t.test('a gateway proxies from start to close', async (t) => {
  const { start, connect } = stage(t)
  const origin = await Origin.start()
  t.teardown(() => origin.close())
  const gateway = await start(toCluster(origin.port))
  t.same(Object.keys(gateway.addresses), ['main'])
  t.equal(gateway.adminAddress, undefined)
  const wire = await connect(gateway)
  const response = await wire.exchange('POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi')
  t.equal(response.text(), 'hi')
  t.equal(response.get('x-echo-target'), '/x')
  t.equal(response.get('server'), 'headgate')
  t.equal(counter(gateway.stats(), 'cluster.web.upstream_rq_total'), 1)
  t.equal(counter(gateway.stats(), 'http.main.downstream_rq_2xx'), 1)
  const port = mainPort(gateway)
  await gateway.close()
  await gateway.closed
  t.same({ ...gateway.addresses }, {})
  t.equal(await wire.expectEnd(), 'fin')
  await t.rejects(new WireClient().connect(port), { code: 'ECONNREFUSED' })
  t.equal(origin.open, 0, 'pooled connections are closed')
  t.same(origin.violations, [])
})

t.test('a wrong configuration throws at once, with every mistake', async (t) => {
  const make = (): Gateway =>
    createGateway({
      listeners: [listener('main', { routes: [{ match: { regex: '(' }, action: { kind: 'route', cluster: 'nix' } }] })],
    })
  t.throws(make, ConfigRefused)
  t.throws(make, {
    message: /routes\[0\]\.match\.regex: invalid regex .*\n.*routes\[0\]\.action\.cluster: unknown cluster "nix"/,
  })
  t.throws(() => createGateway(undefined as unknown as NativeConfig), ConfigRefused)
})

t.test('an address that cannot be bound leaves nothing open, and start may be tried again', async (t) => {
  const { client } = stage(t)
  const taken = createServer()
  await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve))
  const port = (taken.address() as { port: number }).port
  const free = createServer()
  await new Promise<void>((resolve) => free.listen(0, '127.0.0.1', resolve))
  const freePort = (free.address() as { port: number }).port
  await new Promise((resolve) => free.close(resolve))
  const gateway = createGateway(
    {
      admin: { address: LOCAL },
      listeners: [
        listener('main', direct('x'), `127.0.0.1:${freePort}`),
        listener('other', direct('y'), `127.0.0.1:${port}`),
      ],
    },
    { log: silent },
  )
  const found = await refusal(gateway.start())
  t.match(found, [/^listener "other": cannot listen on 127\.0\.0\.1:\d+: .*already in use/])
  await t.rejects(client.connect(freePort), { code: 'ECONNREFUSED' }, 'the first listener is closed again')
  t.equal(gateway.adminAddress, undefined)
  await t.rejects(gateway.apply(saying('z')), /start\(\) the gateway before apply\(\)/)
  await new Promise((resolve) => taken.close(resolve))
  await gateway.start()
  const wire = await client.connect(freePort)
  t.equal((await wire.exchange(GET)).text(), 'x')
  await t.rejects(gateway.start(), /started already/)
  await wire.close()
  await gateway.close()
})

t.test('apply swaps the configuration under open connections', async (t) => {
  const { start, connect, ask, client } = stage(t)
  const gateway = await start(saying('one'))
  const port = mainPort(gateway)
  const wire = await connect(gateway)
  t.equal((await wire.exchange(GET)).text(), 'one')

  await gateway.apply(saying('two'))
  t.equal(mainPort(gateway), port, 'the same address keeps its socket')
  t.equal((await wire.exchange(GET)).text(), 'two', 'on the same connection')

  t.match(await refusal(gateway.apply({ ...saying('three'), nonsense: 1 } as NativeConfig)), [
    /^nonsense: unknown field/,
  ])
  t.equal((await wire.exchange(GET)).text(), 'two', 'a refused configuration changes nothing')

  await gateway.apply({ listeners: [listener('main', direct('four')), listener('second', direct('five'))] })
  t.same(Object.keys(gateway.addresses), ['main', 'second'])
  const second = await client.connect(portOf(gateway.addresses.second[0]))
  t.equal((await second.exchange(GET)).text(), 'five')

  await gateway.apply({ listeners: [listener('main', direct('six'))] })
  t.same(Object.keys(gateway.addresses), ['main'])
  t.equal(await ask(gateway), '200 six')
  const last = await second.exchange(GET)
  t.equal(last.get('connection'), 'close', 'a listener that has gone drains')
  t.equal(await second.expectEnd(), 'fin')
})

t.test('configurations that are applied together are applied in order', async (t) => {
  const { start, ask } = stage(t)
  const gateway = await start(saying('one'))
  const wrong = refusal(
    gateway.apply({ listeners: [listener('main', direct('two')), listener('b', direct('x'), '1.1.1.1:1')] }),
  )
  await Promise.all([wrong, gateway.apply(saying('three')), gateway.apply(saying('four'))])
  t.match(await wrong, [/cannot listen on 1\.1\.1\.1:1/])
  t.equal(await ask(gateway), '200 four')
  const config = {
    listeners: [
      listener('main', { routes: [{ match: {}, action: { kind: 'direct' as const, status: 200, body: 'five' } }] }),
    ],
  }
  const applied = gateway.apply(config)
  config.listeners.length = 0
  await applied
  t.equal(await ask(gateway), '200 five', 'what the caller changes afterwards does not count')
})

t.test('two gateways in one process do not see each other', async (t) => {
  const { start, ask } = stage(t)
  const origins = [await Origin.start(), await Origin.start()]
  t.teardown(() => Promise.all(origins.map((origin) => origin.close())))
  const seen: string[] = []
  const filterOf = (name: string): HttpFilter => ({ onEnd: () => void seen.push(name) })
  const gateways: Gateway[] = []
  for (const [i, origin] of origins.entries()) {
    const config = toCluster(origin.port)
    const http = { ...config.listeners[0].http, filters: [{ name: 'mark', filter: filterOf(`gateway ${i}`) }] }
    gateways.push(await start({ ...config, listeners: [listener('main', http)] }))
  }
  const [one, two] = gateways
  await ask(one)
  await ask(one)
  await ask(two)
  t.same([origins[0].requests.length, origins[1].requests.length], [2, 1])
  t.same(
    gateways.map((gateway) => counter(gateway.stats(), 'cluster.web.upstream_rq_total')),
    [2, 1],
    'statistics of the same names',
  )
  t.same(seen, ['gateway 0', 'gateway 0', 'gateway 1'])
  await one.close({ drainMs: 0 })
  t.equal(await ask(two), '200 ', 'one ends, the other goes on')
  t.equal(origins[0].open, 0)
  t.equal(origins[1].open, 1)
})

t.test('close lets exchanges in flight end and refuses new connections', async (t) => {
  const { start, connect } = stage(t)
  let release = (): void => {}
  const held = new Promise<void>((resolve) => {
    release = resolve
  })
  const origin = await Origin.start(async (request, reply) => {
    await request.body
    await held
    await reply.send({ body: 'late' })
  })
  t.teardown(() => origin.close())
  const gateway = await start(toCluster(origin.port))
  const busy = await connect(gateway)
  const idle = await connect(gateway)
  await busy.write(GET)
  await origin.seen(1)
  const port = mainPort(gateway)
  const closing = gateway.close({ drainMs: 900 })
  t.equal(gateway.close(), closing, 'a second call waits for the same end')
  t.equal(await idle.expectEnd(), 'fin', 'idle connections end at once')
  // Reset: the system had taken it in the moment before.
  await t.rejects(new WireClient().connect(port), { code: /^ECONN(REFUSED|RESET)$/ })
  release()
  const response = await busy.readResponse()
  t.equal(response.text(), 'late')
  t.equal(response.get('connection'), 'close')
  await closing
  await t.rejects(gateway.apply(saying('x')), /the gateway is closed/)
  await t.rejects(gateway.start(), /the gateway is closed/)
})

t.test('close without a drain time ends exchanges at once', async (t) => {
  const { start, connect } = stage(t)
  const origin = await Origin.start(() => new Promise(() => {}))
  const gateway = await start(toCluster(origin.port))
  const wire = await connect(gateway)
  await wire.write(GET)
  await origin.seen(1)
  await gateway.close({ drainMs: 0 })
  t.not((await wire.readToEnd()).ending, 'open')
  t.match(await origin.requests[0].ended, /^(?:fin|reset)$/, 'the upstream is told')
  await origin.close()
})

t.test('a block that declares a gateway ends it', async (t) => {
  const leaks = watchLeaks()
  let port = 0
  {
    await using gateway = createGateway(saying('x'), { log: silent })
    await gateway.start()
    port = mainPort(gateway)
  }
  await t.rejects(new WireClient().connect(port), { code: 'ECONNREFUSED' })
  let closed: Promise<void>
  {
    using gateway = createGateway(saying('x'), { log: silent })
    await gateway.start()
    closed = gateway.closed
    port = mainPort(gateway)
  }
  await closed
  await t.rejects(new WireClient().connect(port), { code: 'ECONNREFUSED' })
  await createGateway(saying('x'), { log: silent }).close()
  await leaks.assertNone()
})

t.test('the admin server belongs to the configuration', async (t) => {
  const { start, client } = stage(t)
  const gateway = await start({ ...saying('x'), admin: { address: LOCAL } })
  const port = portOf(gateway.adminAddress)
  const ask = async (method: string, path: string): Promise<string> => {
    const wire = await client.connect(portOf(gateway.adminAddress))
    const response = await wire.exchange(`${method} ${path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n`)
    await wire.close()
    return `${response.status} ${response.text()}`
  }
  t.equal(await ask('GET', '/ready'), '200 LIVE\n')
  t.match(await ask('GET', '/stats?filter=listener'), /listener\..*downstream_cx_total: 0/)
  t.match(await ask('GET', '/config_dump'), /"idleTimeoutMs": 75000/, 'a native configuration is shown as it is')
  await gateway.apply({ ...saying('y'), admin: { address: LOCAL } })
  t.equal(portOf(gateway.adminAddress), port, 'the same address keeps its socket')

  const taken = createServer()
  await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve))
  const elsewhere = `127.0.0.1:${(taken.address() as { port: number }).port}`
  t.match(await refusal(gateway.apply({ ...saying('z'), admin: { address: elsewhere } })), [
    /^admin\.address: cannot listen/,
  ])
  t.equal(portOf(gateway.adminAddress), port)
  const impossible = { listeners: [listener('main', direct('z'), '1.1.1.1:1')], admin: { address: '[::1]:0' } }
  t.match(await refusal(gateway.apply(impossible)), [/cannot listen on 1\.1\.1\.1:1/])
  t.equal(portOf(gateway.adminAddress), port, 'a new admin server is closed again')
  await new Promise((resolve) => taken.close(resolve))

  await gateway.apply({ ...saying('z'), admin: { address: elsewhere } })
  t.equal(formatAddress(gateway.adminAddress as Address), elsewhere)
  await t.rejects(client.connect(port), { code: 'ECONNREFUSED' }, 'the old one is closed')
  t.match(await ask('POST', '/quitquitquit'), /^200/)
  await gateway.closed
  t.equal(gateway.adminAddress, undefined, 'it ends the gateway, and not its host')
})

const tag: FilterFactory<{ text: string }> = {
  name: 'test.tag',
  typeUrls: ['test.Tag'],
  parse(fields) {
    fields.unread('refuse')
    return { text: fields.string('text') }
  },
  compile: ({ text }, scope) => {
    const count = scope.metrics.counter(`${scope.statPrefix}tagged`)
    return {
      onResponseHeaders(stream) {
        count.v++
        stream.response.append('x-tag', text)
      },
    }
  },
}

t.test('filters come as objects, by name, or with their factory', async (t) => {
  const { start, connect } = stage(t)
  const gateway = await start(
    {
      listeners: [
        listener('main', {
          ...direct('x'),
          filters: [
            { name: 'tag', config: { text: 'by name' } },
            { factory: { ...tag, name: 'inline', typeUrls: ['test.Inline'] }, config: { text: 'inline' } },
            {
              name: 'onion',
              filter: middleware('onion', async (stream, next) => {
                await next()
                stream.response.append('x-tag', 'onion')
              }),
            },
          ],
        }),
      ],
    },
    { filters: [tag] },
  )
  const wire = await connect(gateway)
  const response = await wire.exchange(GET)
  t.same(
    response.fields.filter(([name]) => name === 'x-tag').map(([, value]) => value),
    ['onion', 'inline', 'by name'],
  )
  t.equal(counter(gateway.stats(), 'http.main.tagged'), 2)
  const stranger: AnyFilterFactory = { ...tag, name: 'stranger', typeUrls: ['test.Stranger'] }
  const withStranger = { listeners: [listener('main', { ...direct('x'), filters: [stranger] })] }
  t.match(await refusal(gateway.apply(withStranger)), [
    /the factory "stranger" is not one that this gateway was created/,
  ])
})

t.test('two factories of one name are refused', async (t) => {
  t.throws(() => createGateway(saying('x'), { filters: [tag, { ...tag }] }), {
    message: /^filters: two filters have the name "test\.tag"/,
  })
  t.doesNotThrow(() => createGateway(saying('x'), { filters: [tag, tag] }))
})

t.test('what filters own is disposed when their configuration goes', async (t) => {
  const { start, ask } = stage(t)
  const events: string[] = []
  const owner: AnyFilterFactory = {
    ...tag,
    compile(config, scope) {
      const { text } = config as { text: string }
      scope.own({ [Symbol.dispose]: () => void events.push(`disposed ${text}`) })
      return { onEnd: () => void events.push(`request ${text}`) }
    },
  }
  const owning = (text: string): NativeConfig => ({
    listeners: [listener('main', { ...direct('x'), filters: [{ name: 'test.tag', config: { text } }] })],
  })
  const gateway = await start(owning('one'), { filters: [owner] })
  await ask(gateway)
  await gateway.apply(owning('two'))
  await ask(gateway)
  await gateway.close()
  t.same(events, ['request one', 'disposed one', 'request two', 'disposed two'])
})

t.test('a log is told what filters throw, and a fixed draw decides by chance', async (t) => {
  const lines: string[] = []
  const log: Log = { ...silent, error: (message, fields) => void lines.push(`${message} ${JSON.stringify(fields)}`) }
  const { start, ask } = stage(t)
  const broken: HttpFilter = {
    onRequestHeaders(stream) {
      if (stream.head.path === '/throw') throw new Error('my mistake')
    },
  }
  const http: NativeHttp = {
    filters: [{ name: 'broken', filter: broken }],
    routes: [
      { match: { fraction: { percent: 30 } }, action: { kind: 'direct', status: 200, body: 'few' } },
      { match: {}, action: { kind: 'direct', status: 200, body: 'many' } },
    ],
  }
  const few = await start({ listeners: [listener('main', http)] }, { log, random: () => 0.29 })
  t.equal(await ask(few), '200 few')
  const many = await start({ listeners: [listener('main', http)] }, { log, random: () => 0.31 })
  t.equal(await ask(many), '200 many')
  t.match(await ask(many, 'GET /throw HTTP/1.1\r\nhost: a\r\n\r\n'), /^500 /)
  t.equal(lines.length, 1)
  t.match(lines[0], /broken.*my mistake/)
})

const MANAGER = 'type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager'
const ROUTER = 'type.googleapis.com/envoy.extensions.filters.http.router.v3.Router'

function bootstrap(filter: JsonObject): JsonObject {
  return {
    static_resources: {
      listeners: [
        {
          name: 'main',
          address: { socket_address: { address: '127.0.0.1', port_value: 0 } },
          filter_chains: [
            {
              filters: [
                {
                  name: 'http',
                  typed_config: {
                    '@type': MANAGER,
                    stat_prefix: 'main',
                    tracing: {},
                    route_config: {
                      virtual_hosts: [
                        {
                          name: 'all',
                          domains: ['*'],
                          routes: [
                            {
                              match: { prefix: '/' },
                              direct_response: { status: 200, body: { inline_string: 'envoy' } },
                            },
                          ],
                        },
                      ],
                    },
                    http_filters: [filter, { name: 'router', typed_config: { '@type': ROUTER } }],
                  },
                },
              ],
            },
          ],
        },
      ],
    },
  }
}

t.test('an Envoy bootstrap runs with filters of its reader', async (t) => {
  const { start, connect } = stage(t)
  const folder = mkdtempSync(join(tmpdir(), 'headgate-gateway-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const file = join(folder, 'envoy.json')
  const document = bootstrap({ name: 'tag', typed_config: { '@type': 'type.googleapis.com/test.Tag', text: 'envoy' } })
  writeFileSync(file, JSON.stringify(document))

  const config = loadEnvoyConfig(file, { filters: [tag] })
  t.same(config.ignored, ['static_resources.listeners[0].filter_chains[0].filters[0].typed_config.tracing'])
  const gateway = await start(config)
  const wire = await connect(gateway)
  const response = await wire.exchange(GET)
  t.equal(response.text(), 'envoy')
  t.equal(response.get('x-tag'), 'envoy')
  t.equal(response.get('server'), 'envoy', "Envoy's defaults hold")

  await gateway.apply(saying('native'))
  const native = await wire.exchange(GET)
  t.equal(native.text(), 'native', 'the two kinds may follow each other')
  await gateway.apply(loadEnvoyConfig(document, { filters: [tag] }))
  t.equal((await wire.exchange(GET)).text(), 'envoy')
  const stranger: AnyFilterFactory = { ...tag, name: 'stranger', typeUrls: ['test.Stranger'] }
  t.same(await refusal(gateway.apply(loadEnvoyConfig(document, { filters: [tag, stranger] }))), [
    'the filter "stranger" is not one that this gateway was created with',
  ])
})

t.test('a bootstrap is refused with the place of every mistake', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'headgate-gateway-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const file = join(folder, 'envoy.yaml')
  writeFileSync(
    file,
    'node: { id: a }\nstatic_resources:\n  clustres: []\n  clusters: [ { name: "", type: STATIC } ]\n',
  )
  try {
    loadEnvoyConfig(new URL(`file://${file}`))
    t.fail('was not refused')
  } catch (error) {
    t.match((error as Error).message.split('\n'), [
      /envoy\.yaml:3:3: static_resources\.clustres: unknown field/,
      /envoy\.yaml:4:17: static_resources\.clusters\[0\]\.name: /,
    ])
  }
  t.throws(() => loadEnvoyConfig(join(folder, 'none.yaml')), /cannot be read/)
  const unknown = bootstrap({ name: 'tag', typed_config: { '@type': 'type.googleapis.com/test.Tag', text: 'x' } })
  t.throws(() => loadEnvoyConfig(unknown), /test\.Tag/, 'a filter that was not given')
})
