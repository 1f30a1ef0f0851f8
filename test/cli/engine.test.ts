import { X509Certificate } from 'node:crypto'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import { connect as connectTls, type TLSSocket } from 'node:tls'
import t from 'tap'
import type { AnyFilterFactory } from '../../lib/chain/registry.ts'
import { ChangeRefused, ConfigState, changeBetween } from '../../lib/config/change.ts'
import { TLS_GROUPS } from '../../lib/config/defaults.ts'
import type { ListenerConfig } from '../../lib/config/listener.ts'
import type { FilterConfigs } from '../../lib/router/config.ts'
import type { DownstreamTlsConfig } from '../../lib/tls/config.ts'
import { Authority, type Issued } from '../support/certificates.ts'
import { settle, TestClock } from '../support/clock.ts'
import { ask, assignment, LiveGateway, Parts, removing, setting } from '../support/live-gateway.ts'
import { Origin } from '../support/origin.ts'

/** A filter with state: numbers the requests of each of its objects. */
function counting(): { readonly factory: AnyFilterFactory; readonly disposed: string[] } {
  const disposed: string[] = []
  let made = 0
  const factory: AnyFilterFactory = {
    name: 'test.count',
    typeUrls: ['test.Count'],
    parse: (fields) => ({ word: fields.string('word') }),
    compile(config, scope) {
      const { word } = config as { word: string }
      const id = `${word}${++made}`
      let count = 0
      scope.own({ [Symbol.dispose]: () => void disposed.push(id) })
      return {
        onRequestHeaders: (stream) => void stream.request.put('x-count', `${id}:${++count}`),
        onResponseHeaders: (stream) => void stream.response.put('x-count', stream.request.get('x-count') ?? ''),
      }
    },
  }
  return { factory, disposed }
}

/** Settings of a route for it. */
function countSetting(word: string): FilterConfigs {
  return { count: { config: { typeUrl: 'test.Count', value: { word } } } }
}

const parts = new Parts()
const NOTHING = { node: { id: '', cluster: '' }, runtime: {}, ignored: [] }

async function originSaying(t: { teardown(run: () => Promise<void>): void }, word: string): Promise<Origin> {
  const origin = await Origin.start(async (_request, reply) => void (await reply.send({ body: word })))
  t.teardown(() => origin.close())
  return origin
}

t.test('endpoints are in force when update() returns, and those that stay keep their connections', async (t) => {
  const [one, two] = [await originSaying(t, 'one'), await originSaying(t, 'two')]
  const live = await LiveGateway.start(t)
  await live.update({
    clusters: setting(parts.cluster('web')),
    routeTables: setting(parts.forwarding('r', 'web')),
    listeners: setting(parts.listener('main', { routeTable: 'r' })),
  })
  const wire = await live.connect()
  t.equal((await ask(wire)).status, 503, 'a cluster without an assignment has no hosts')
  void live.update({ assignments: setting(assignment('web', one.port)) })
  t.equal((await ask(wire)).text(), 'one')
  void live.update({ assignments: setting(assignment('web', two.port)) })
  t.equal((await ask(wire)).text(), 'two')
  void live.update({ assignments: setting(assignment('web', two.port, one.port)) })
  const words = [await ask(wire), await ask(wire), await ask(wire), await ask(wire)].map((r) => r.text())
  t.same(words.sort(), ['one', 'one', 'two', 'two'])
  t.equal(two.connections, 1, 'the host kept its pool')
  t.equal(one.connections, 2, 'the one that came again has another')
  await live.update({ assignments: removing('web') })
  t.equal((await ask(wire)).status, 503)
  t.equal(live.stat('cluster.web.membership_total'), 0)
})

t.test('a removal of endpoints that is overtaken by new ones removes nothing', async (t) => {
  const [one, two] = [await originSaying(t, 'one'), await originSaying(t, 'two')]
  const live = await LiveGateway.start(t)
  await live.update({
    clusters: setting(parts.cluster('web')),
    assignments: setting(assignment('web', one.port)),
    routeTables: setting(parts.forwarding('r', 'web')),
    listeners: setting(parts.listener('main', { routeTable: 'r' })),
  })
  const removed = live.update({ assignments: removing('web') })
  const set = live.update({ assignments: setting(assignment('web', two.port)) })
  await Promise.all([removed, set])
  t.equal((await live.get()).text(), 'two')
})

t.test('endpoints that come while an older whole configuration waits for its turn stay', async (t) => {
  const [one, two] = [await originSaying(t, 'one'), await originSaying(t, 'two')]
  const live = await LiveGateway.start(t)
  const { engine } = live.gateway
  const older = {
    ...NOTHING,
    clusters: ['changed', 'added', 'removed'].map((name) => parts.cluster(name)),
    listeners: ['changed', 'added', 'removed'].map((name) =>
      parts.listener(name, { routes: parts.forwarding('', name) }),
    ),
    assignments: [assignment('changed', one.port), assignment('removed', one.port)],
  }
  const applied = engine.apply(older)
  const set = live.update({ assignments: setting(assignment('changed', two.port), assignment('added', two.port)) })
  const removed = live.update({ assignments: removing('removed') })
  await Promise.all([applied, set, removed])
  t.equal((await live.get('changed')).text(), 'two', 'newer ones are not replaced by those of the configuration')
  t.equal((await live.get('added')).text(), 'two', 'those that it does not have yet are not removed')
  t.equal((await live.get('removed')).status, 503, 'those that have been removed since do not stay')
  await engine.apply(older)
  t.equal((await live.get('changed')).text(), 'one', 'a configuration that comes later counts')
  t.equal((await live.get('added')).status, 503)
})

t.test('several clusters may share an assignment', async (t) => {
  const origin = await originSaying(t, 'shared')
  const live = await LiveGateway.start(t)
  const clusters = ['a', 'b'].map((name) => parts.cluster(name, { assignment: 'both' }))
  await live.update({
    clusters: setting(...clusters),
    assignments: setting(assignment('both', origin.port)),
    listeners: setting(...['a', 'b'].map((name) => parts.listener(name, { routes: parts.forwarding('', name) }))),
  })
  t.same([(await live.get('a')).text(), (await live.get('b')).text()], ['shared', 'shared'])
  await live.update({ clusters: removing('a') })
  t.equal((await live.get('a')).status, 503)
  t.equal((await live.get('b')).text(), 'shared')
})

t.test('the old cluster serves, and follows its endpoints, until the new one is warm', async (t) => {
  const [one, two] = [await originSaying(t, 'one'), await originSaying(t, 'two')]
  const silent = createSocket('udp4')
  silent.bind(0, '127.0.0.1')
  await once(silent, 'listening')
  t.teardown(() => void silent.close())
  const clock = new TestClock()
  const live = await LiveGateway.start(t, { clock })
  await live.update({
    clusters: setting(parts.cluster('web')),
    assignments: setting(assignment('web', one.port)),
    listeners: setting(parts.listener('main', { routes: parts.forwarding('', 'web') })),
  })
  const wire = await live.connect()
  t.equal((await ask(wire)).text(), 'one')
  const dns = {
    refreshMs: 5_000,
    failureRefreshMs: 5_000,
    failureRefreshMaxMs: 5_000,
    jitterMs: 0,
    respectTtl: false,
    family: 'v4-only',
    resolvers: [`127.0.0.1:${silent.address().port}`],
  } as const
  const named = assignment('', two.port).localities.map((group) => ({
    ...group,
    endpoints: group.endpoints.map((endpoint) => ({
      ...endpoint,
      address: { kind: 'ip', host: 'nowhere.test', port: two.port } as const,
    })),
  }))
  let over = false
  const replaced = live
    .update({ clusters: setting(parts.cluster('web', { type: 'strict-dns', localities: named, dns })) })
    .then(() => {
      over = true
    })
  await settle(3)
  t.equal((await ask(wire)).text(), 'one')
  void live.update({ assignments: setting(assignment('web', two.port)) })
  t.equal((await ask(wire)).text(), 'two', 'endpoints pass what waits')
  t.equal(over, false)
  await clock.advanceAsync(5_100)
  await replaced
  t.equal((await ask(wire)).status, 503, 'five seconds are enough: the new one has found nobody')
  t.match(live.gateway.complaints[0], /not warm yet/)
})

t.test('closing does not wait for what is being made', async (t) => {
  const silent = createSocket('udp4')
  silent.bind(0, '127.0.0.1')
  await once(silent, 'listening')
  t.teardown(() => void silent.close())
  const live = await LiveGateway.start(t, { clock: new TestClock() })
  const dns = {
    refreshMs: 5_000,
    failureRefreshMs: 5_000,
    failureRefreshMaxMs: 5_000,
    jitterMs: 0,
    respectTtl: false,
    family: 'v4-only',
    resolvers: [`127.0.0.1:${silent.address().port}`],
  } as const
  const [group] = assignment('', 1).localities
  const endpoints = group.endpoints.map((one) => ({
    ...one,
    address: { kind: 'ip', host: 'nowhere.test', port: 1 } as const,
  }))
  const cluster = parts.cluster('web', { type: 'strict-dns', localities: [{ ...group, endpoints }], dns })
  const refused: string[] = []
  const outcomes = [
    live.update({
      clusters: setting(cluster),
      listeners: setting(parts.listener('main', { routes: parts.forwarding('', 'web') })),
    }),
    live.gateway.engine.apply({ ...NOTHING, listeners: [], clusters: [cluster] }),
    live.update({ clusters: setting(parts.cluster('later')) }),
  ].map((update) => update.catch((error: Error) => void refused.push(error.message)))
  await settle(3)
  await live.gateway.engine.close()
  await Promise.all(outcomes)
  t.equal(refused.length, 2, 'a whole configuration takes the place of what waits')
  t.match(refused.join(), /closed/)
  t.same(live.gateway.engine.status(), { listeners: [], clusters: [] })
  t.equal(live.gateway.armed, 0)
})

t.test('a listener that was on its way when a drain began accepts nothing', async (t) => {
  const live = await LiveGateway.start(t)
  const listener = parts.listener('main', { routes: parts.saying('', 'here') })
  const updated = live.update({ listeners: setting(listener) })
  await Promise.all([live.gateway.engine.drain(1), updated])
  t.same(live.gateway.engine.status().listeners, [{ name: 'main', addresses: [] }])
})

t.test('a credential is renewed in place; requests that need one are refused without', async (t) => {
  const origin = await originSaying(t, 'in')
  const live = await LiveGateway.start(t)
  const credential = { header: 'authorization', value: 'one', overwrite: true }
  await live.update({
    clusters: setting(parts.cluster('web', { credential })),
    assignments: setting(assignment('web', origin.port)),
    listeners: setting(parts.listener('main', { routes: parts.forwarding('', 'web') })),
  })
  const wire = await live.connect()
  await ask(wire, 'authorization: mine\r\n')
  await live.update({ clusters: setting(parts.cluster('web', { credential: { ...credential, value: 'two' } })) })
  await ask(wire)
  await live.update({ clusters: setting(parts.cluster('web', { credential: { ...credential, overwrite: false } })) })
  await ask(wire, 'authorization: mine\r\n')
  t.same(
    origin.requests.map((request) => request.get('authorization')),
    ['one', 'two', 'mine'],
  )
  t.equal(origin.connections, 1)
  const required = { ...credential, value: '', required: true as const }
  await live.update({ clusters: setting(parts.cluster('web', { credential: required })) })
  t.equal((await ask(wire)).status, 401)
  t.equal(origin.requests.length, 3)
})

t.test('routes that are exchanged leave the filters as they are', async (t) => {
  const { factory, disposed } = counting()
  const own = new Parts([factory])
  const live = await LiveGateway.start(t, { filters: [factory] })
  const filters = [{ name: 'count', type: 'test.Count', config: { word: 'base' } }]
  const direct = { kind: 'direct', status: 200, body: 'x' }
  const plain = own.table('r', [
    { match: { prefix: '/special' }, action: direct },
    { match: {}, action: direct },
  ])
  const table = (word: string) => own.withSettings(plain, countSetting(word))
  await live.update({
    routeTables: setting(table('a')),
    listeners: setting(own.listener('main', { routeTable: 'r' }, filters)),
  })
  const wire = await live.connect()
  const counts = async (path = '/'): Promise<string | undefined> => (await ask(wire, '', path)).get('x-count')
  t.same([await counts(), await counts(), await counts('/special')], ['base1:1', 'base1:2', 'a2:1'])
  await live.update({ routeTables: setting(table('a')) })
  t.same([await counts(), await counts('/special')], ['base1:3', 'a2:2'])
  await live.update({ routeTables: setting(table('b')) })
  t.same([await counts(), await counts('/special')], ['base1:4', 'b3:1'])
  await live.gateway.until(() => disposed.length > 0, 'the end of what no table has')
  t.same(disposed, ['a2'])
  const listener = own.listener('main', { routeTable: 'r', requestIdInResponse: true }, filters)
  await live.update({ listeners: setting(listener) })
  t.equal(await counts(), 'base4:1', 'another connection manager has filters of its own')
  await live.gateway.until(() => disposed.length === 3, 'the end of those before')
  t.same([...disposed].sort(), ['a2', 'b3', 'base1'].sort())
})

t.test('filters of a route live until the last exchange on it has ended', async (t) => {
  const { factory, disposed } = counting()
  const own = new Parts([factory])
  let release = (): void => {}
  const held = new Promise<void>((resolve) => {
    release = resolve
  })
  const origin = await Origin.start(async (_request, reply) => {
    await held
    await reply.send({ body: 'late' })
  })
  t.teardown(() => origin.close())
  const live = await LiveGateway.start(t, { filters: [factory] })
  const filters = [{ name: 'count', type: 'test.Count', config: { word: 'base' } }]
  const table = (word: string) => own.withSettings(own.forwarding('r', 'any'), countSetting(word))
  await live.update({
    clusters: setting(parts.cluster('any')),
    assignments: setting(assignment('any', origin.port)),
    routeTables: setting(table('old')),
    listeners: setting(own.listener('main', { routeTable: 'r' }, filters)),
  })
  const wire = await live.connect()
  const asked = ask(wire)
  await origin.seen(1)
  await live.update({ routeTables: setting(table('new')) })
  await settle(5)
  t.notOk(disposed.some((id) => id.startsWith('old')))
  release()
  t.match((await asked).get('x-count'), /^old\d:1$/)
  await live.gateway.until(() => disposed.some((id) => id.startsWith('old')), 'the end of the old filter')
})

t.test('a thousand virtual hosts are replaced under requests, of which none fails', async (t) => {
  const live = await LiveGateway.start(t)
  const table = (word: string) => {
    const { virtualHosts, ...rest } = parts.saying('r', word)
    const hosts = Array.from({ length: 1_000 }, (_, i) => ({
      ...virtualHosts[0],
      name: `h${i}`,
      domains: [`h${i}.test`],
    }))
    return { ...rest, virtualHosts: hosts }
  }
  await live.update({
    routeTables: setting(table('v0')),
    listeners: setting(parts.listener('main', { routeTable: 'r' })),
  })
  let running = true
  const seen = new Set<string>()
  let failures = 0
  let asked = 0
  const caller = async (n: number): Promise<void> => {
    const wire = await live.connect()
    for (let i = n; running; i++) {
      const response = await ask(wire, `host: h${i % 1_000}.test\r\n`)
      asked++
      if (response.status !== 200) failures++
      seen.add(response.text())
    }
    await wire.close()
  }
  const callers = [1, 200, 500, 900].map(caller)
  for (let i = 1; i <= 5; i++) await live.update({ routeTables: setting(table(`v${i}`)) })
  const before = asked
  await live.gateway.until(() => asked > before + 20, 'more requests')
  running = false
  await Promise.all(callers)
  t.equal(failures, 0)
  t.ok(seen.has('v5'))
  t.equal((await live.get('main', 'host: h7.test\r\n')).text(), 'v5')
})

t.test('a route table may be shared by listeners, be absent, and go', async (t) => {
  const live = await LiveGateway.start(t)
  const listeners = setting(...['one', 'two'].map((name) => parts.listener(name, { routeTable: 'r' })))
  await live.update({ listeners })
  t.equal((await live.get('one')).status, 404)
  await live.update({ routeTables: setting(parts.saying('r', 'here')) })
  t.same([(await live.get('one')).text(), (await live.get('two')).text()], ['here', 'here'])
  await live.update({ listeners: removing('one'), routeTables: setting(parts.saying('r', 'there')) })
  t.equal((await live.get('two')).text(), 'there')
  await live.update({ routeTables: removing('r') })
  t.equal((await live.get('two')).status, 404)
})

t.test('scopes: the key is built from headers, and nothing fits is 404', async (t) => {
  const live = await LiveGateway.start(t)
  const key = [
    { header: 'x-scope', elementSeparator: ';', element: { kind: 'key', key: 'v', separator: '=' } },
    { header: 'x-zone', elementSeparator: ',', element: { kind: 'index', index: 1 } },
  ] as const
  const scopedRoutes = {
    name: 's',
    key,
    scopes: [
      { name: 'a', key: ['1', 'x'], routeTable: 'r' },
      { name: 'b', key: ['2', ''], routes: parts.saying('', 'inline') },
    ],
  }
  await live.update({ listeners: setting(parts.listener('main', { scopedRoutes })) })
  const wire = await live.connect()
  const fits = 'x-scope: u=0;v=1\r\nx-zone: y,x\r\n'
  t.equal((await ask(wire, fits)).status, 404, 'a scope whose table is not there')
  await live.update({ routeTables: setting(parts.saying('r', 'named')) })
  t.equal((await ask(wire, fits)).text(), 'named')
  t.equal((await ask(wire, 'x-scope: v=2\r\nx-zone: y,\r\n')).text(), 'inline', 'empty is a value')
  t.equal((await ask(wire, 'x-scope: v=1\r\nx-scope: v=2\r\nx-zone: y,x\r\n')).text(), 'named', 'the first counts')
  for (const head of ['', 'x-scope: v=1\r\n', 'x-scope: v=1\r\nx-zone: x\r\n', 'x-scope: v=3\r\nx-zone: y,x\r\n']) {
    t.equal((await ask(wire, head)).status, 404, JSON.stringify(head))
  }
})

t.test('what has not come: filters answer 500 or close, handshakes are refused', async (t) => {
  const live = await LiveGateway.start(t)
  const web = parts.listener('web', { routes: parts.saying('', 'x') })
  const { http } = web.filterChains[0]
  const missing = { name: 'm', typeUrl: 'test.Unknown', config: {}, missing: true } as const
  const withFilter = { ...http!, filters: [{ ...missing, disabled: false }, ...http!.filters] }
  const chain = web.filterChains[0]
  const onPort = (name: string, more: Partial<ListenerConfig>): ListenerConfig => ({
    ...web,
    name,
    statPrefix: name,
    ...more,
  })
  const tls: DownstreamTlsConfig = { ...TLS, certificates: [], notReady: true }
  await live.update({
    listeners: setting(
      onPort('http', { filterChains: [{ ...chain, http: withFilter }] }),
      onPort('network', { filterChains: [{ ...chain, networkFilters: [missing] }] }),
      onPort('first', { listenerFilters: [missing] }),
      onPort('tls', { filterChains: [{ ...chain, tls }] }),
    ),
  })
  t.equal((await live.get('http')).status, 500)
  for (const name of ['network', 'first', 'tls']) {
    t.equal(await answerOf(live, name), '', name)
  }
  t.equal(live.stat('listener.network.network_extension_config_missing'), 1)
  t.equal(live.stat('listener.first.extension_config_missing'), 1)
  t.equal(live.stat('listener.tls.server_ssl_socket_factory.downstream_context_secrets_not_ready'), 1)
  const leaf = await (await Authority.create()).issue({ dns: ['a.test'] })
  await live.update({ listeners: setting(onPort('tls', { filterChains: [{ ...chain, tls: tlsOf(leaf) }] })) })
  const socket = connectTls({ host: '127.0.0.1', port: live.gateway.port('tls'), rejectUnauthorized: false })
  t.teardown(() => socket.destroy())
  await once(socket, 'secureConnect')
  t.pass('the certificate has come')
})

/** All that a connection says; it may be gone before it is there. */
async function answerOf(live: LiveGateway, listener: string): Promise<string> {
  try {
    const wire = await live.connect(listener)
    await wire.write('GET / HTTP/1.1\r\n\r\n')
    return String((await wire.readToEnd()).bytes)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ECONNRESET') return ''
    throw error
  }
}

const TLS: DownstreamTlsConfig = {
  certificates: [],
  alpn: [],
  minVersion: 'TLSv1.2',
  maxVersion: 'TLSv1.3',
  groups: TLS_GROUPS,
  requireClientCertificate: false,
  handshakeTimeoutMs: 5_000,
  sessionTickets: true,
}

function tlsOf({ chain, key }: Issued): DownstreamTlsConfig {
  return { ...TLS, certificates: [{ certificateChain: chain, privateKey: key }] }
}

t.test('a certificate among several is rotated under handshakes; connections and filters stay', async (t) => {
  const { factory, disposed } = counting()
  const own = new Parts([factory])
  const authority = await Authority.create()
  const leaf = (name: string): Promise<Issued> => authority.issue({ dns: [name], subject: `CN=${name}` })
  const [a, b, next] = [await leaf('a.test'), await leaf('b.test'), await leaf('a.test')]
  const filters = [{ name: 'count', type: 'test.Count', config: { word: 'f' } }]
  const base = own.listener('main', { routes: parts.saying('', 'x') }, filters)
  const [chain] = base.filterChains
  const match = (name: string) => ({
    destinations: [],
    serverNames: [name],
    applicationProtocols: [],
    directSources: [],
    sourceType: 'any' as const,
    sources: [],
    sourcePorts: [],
  })
  const version = (first: Issued): ListenerConfig => ({
    ...base,
    listenerFilters: [
      { name: 'tls', typeUrl: 'envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector', config: inspector },
    ],
    filterChains: [
      { ...chain, name: 'a', match: match('a.test'), tls: tlsOf(first) },
      { ...chain, name: 'b', match: match('b.test'), tls: tlsOf(b) },
    ],
  })
  const live = await LiveGateway.start(t, { filters: [factory] })
  await live.update({ listeners: setting(version(a)) })
  const dial = async (servername: string): Promise<TLSSocket> => {
    const socket = connectTls({ host: '127.0.0.1', port: live.gateway.port(), ca: authority.pem, servername })
    socket.on('error', () => {})
    t.teardown(() => socket.destroy())
    await once(socket, 'secureConnect')
    return socket
  }
  const old = live.client.adopt(await dial('a.test'))
  t.equal((await ask(old)).get('x-count'), 'f1:1')
  let failed = 0
  let shaken = 0
  let running = true
  const shaking = (async () => {
    while (running) {
      const socket = await dial('a.test').catch(() => undefined)
      shaken++
      if (socket === undefined) failed++
      socket?.destroy()
    }
  })()
  await live.gateway.until(() => shaken > 1, 'handshakes')
  for (let i = 0; i < 4; i++) await live.update({ listeners: setting(version(i % 2 === 0 ? next : a)) })
  await live.update({ listeners: setting(version(next)) })
  const before = shaken
  await live.gateway.until(() => shaken > before + 1, 'more handshakes')
  running = false
  await shaking
  t.equal(failed, 0)
  const serialOf = async (name: string): Promise<string> =>
    (await dial(name)).getPeerX509Certificate()?.serialNumber ?? ''
  t.equal(await serialOf('a.test'), serialNumber(next))
  t.equal(await serialOf('b.test'), serialNumber(b))
  t.equal((await ask(old)).get('x-count'), 'f1:2', 'the connection and the filter are those of before')
  t.same(disposed, [])
})

const inspector = { ja3: false, ja4: false, maxHelloBytes: 16_384, closeOnError: false }

function serialNumber({ chain }: Issued): string {
  return new X509Certificate(chain).serialNumber
}

t.test('a change that is refused leaves all as it was, and names what is to blame', async (t) => {
  const [one, two] = [await originSaying(t, 'one'), await originSaying(t, 'two')]
  const taken = createServer()
  taken.listen(0, '127.0.0.1')
  await once(taken, 'listening')
  t.teardown(() => void taken.close())
  const { port } = taken.address() as AddressInfo
  const live = await LiveGateway.start(t)
  await live.update({
    clusters: setting(parts.cluster('web')),
    assignments: setting(assignment('web', one.port)),
    routeTables: setting(parts.forwarding('r', 'web')),
    listeners: setting(parts.listener('main', { routeTable: 'r' })),
  })
  const busy: ListenerConfig = {
    ...parts.listener('busy', { routeTable: 'r' }),
    addresses: [{ kind: 'ip', host: '127.0.0.1', port }],
  }
  const refused = async (change: Parameters<LiveGateway['update']>[0]): Promise<ChangeRefused> => {
    try {
      await live.update(change)
    } catch (error) {
      if (error instanceof ChangeRefused) return error
      throw error
    }
    throw new Error('not refused')
  }
  const whole = {
    clusters: { set: [parts.cluster('other'), parts.cluster('web', { connectTimeoutMs: 1 })], remove: [] },
    assignments: setting(assignment('other', two.port)),
    routeTables: setting(parts.saying('r', 'changed')),
    runtime: { a: 1 },
  }
  const bound = await refused({ ...whole, listeners: { set: [busy], remove: ['main'] } })
  t.same(bound.resource, { kind: 'listeners', name: 'busy' })
  t.match(String(bound.errors[0]), /in use/)
  t.equal((await live.get('main')).text(), 'one')
  t.equal(live.gateway.engine.status().clusters.length, 1)
  const wrong = parts.table('r', [{ match: {}, action: { kind: 'direct', status: 200, body: 'x' } }])
  const [host] = wrong.virtualHosts
  const pattern = { ...host.routes[0], match: { path: { kind: 'regex', value: '(' } as const } }
  const table = { ...wrong, virtualHosts: [{ ...host, routes: [pattern] }] }
  const uncompiled = await refused({ clusters: whole.clusters, routeTables: setting(table) })
  t.same(uncompiled.resource, { kind: 'routeTables', name: 'r' })
  const listener = await refused({ listeners: setting(parts.listener('new', { routes: table })) })
  t.same(listener.resource, { kind: 'listeners', name: 'new' })
  t.equal((await live.get('main')).text(), 'one')
  await live.update({ ...whole, routeTables: setting(parts.forwarding('r', 'other')) })
  t.equal((await live.get('main')).text(), 'two', 'the next one is taken')
})

t.test('what a change removes is there for as long as something of before uses it', async (t) => {
  const [one, two] = [await originSaying(t, 'one'), await originSaying(t, 'two')]
  const live = await LiveGateway.start(t)
  await live.update({
    clusters: setting(parts.cluster('one')),
    assignments: setting(assignment('one', one.port)),
    routeTables: setting(parts.forwarding('r', 'one')),
    listeners: setting(parts.listener('main', { routeTable: 'r' })),
  })
  let running = true
  const statuses = new Map<number, number>()
  const callers = [0, 1, 2].map(async () => {
    const wire = await live.connect()
    while (running) {
      const { status } = await ask(wire)
      statuses.set(status, (statuses.get(status) ?? 0) + 1)
    }
    await wire.close()
  })
  for (let i = 0; i < 10; i++) {
    const [before, after, origin] = i % 2 === 0 ? ['one', 'two', two] : ['two', 'one', one]
    await live.update({
      clusters: { set: [parts.cluster(after)], remove: [before] },
      assignments: { set: [assignment(after, origin.port)], remove: [before] },
      routeTables: setting(parts.forwarding('r', after)),
    })
    await settle(2)
  }
  running = false
  await Promise.all(callers)
  t.same([...statuses.keys()], [200])
  const gone = (): boolean =>
    live.gateway.engine.metrics().gauges.every(([name]) => name !== 'cluster.two.membership_total')
  await live.gateway.until(gone, 'the end of the other cluster')
})

t.test('what is counted of a cluster goes with its last connection; its successor counts on', async (t) => {
  const origin = await originSaying(t, 'one')
  const live = await LiveGateway.start(t)
  await live.update({
    listeners: setting(parts.listener('main', { routes: parts.forwarding('', 'web') })),
    assignments: setting(assignment('web', origin.port)),
  })
  const counted = (): string[] => {
    const { counters, gauges, histograms } = live.gateway.engine.metrics()
    return [...counters, ...gauges].map(([name]) => name).concat(histograms.map(({ name }) => name))
  }
  const ofClusters = (): string[] => counted().filter((name) => name.startsWith('cluster.'))
  await live.update({ clusters: setting(parts.cluster('web'), parts.cluster('web.too')) })
  const wire = await live.connect()
  t.equal((await ask(wire)).text(), 'one')
  const names = ofClusters().length
  t.equal(new Set(counted()).size, counted().length)
  await live.update({ clusters: setting(parts.cluster('web', { connectTimeoutMs: 77 })) })
  t.equal((await ask(wire)).text(), 'one')
  t.equal(live.stat('cluster.web.upstream_rq_total'), 2, 'the two are one to whoever reads it')
  await live.update({ clusters: removing('web') })
  await live.gateway.until(() => ofClusters().length < names, 'the end of its connections')
  t.same(
    ofClusters().filter((name) => !name.startsWith('cluster.web.too.')),
    [],
  )
  t.equal(live.stat('cluster.web.too.membership_total'), 0)
  await live.update({ clusters: setting(parts.cluster('web')) })
  t.equal((await ask(wire)).text(), 'one')
  t.equal(live.stat('cluster.web.upstream_rq_total'), 1)
  t.equal(new Set(counted()).size, counted().length)
})

t.test('runtime and secrets are read as they are', async (t) => {
  const told: (readonly [unknown, string | undefined])[] = []
  const factory: AnyFilterFactory = {
    name: 'test.reads',
    typeUrls: ['test.Reads'],
    parse: () => ({}),
    compile: (_config, scope) => ({
      onRequestHeaders: () => void told.push([scope.runtime.get('a.b'), scope.secret('s')?.toString()]),
    }),
  }
  const live = await LiveGateway.start(t, { filters: [factory] })
  const listener = new Parts([factory]).listener('main', { routes: parts.saying('', 'x') }, [
    { name: 'reads', type: 'test.Reads', config: {} },
  ])
  await live.update({ listeners: setting(listener), runtime: { 'a.b': 1 } })
  const wire = await live.connect()
  await ask(wire)
  await live.update({ runtime: { 'a.b': 2 }, secrets: setting({ name: 's', value: btoa('word') }) })
  await ask(wire)
  await live.update({ secrets: removing('s') })
  await ask(wire)
  t.same(told, [
    [1, undefined],
    [2, 'word'],
    [2, undefined],
  ])
})

t.test('on demand: requests wait for their virtual host and their cluster', async (t) => {
  const origin = await originSaying(t, 'found')
  const wishes: string[] = []
  const live = await LiveGateway.start(t, {
    demand: {
      async virtualHost(table, host) {
        wishes.push(`${table} ${host}`)
        if (host !== 'late.test') return false
        await live.update({ routeTables: setting(withHosts('late.test')) })
        return true
      },
      async cluster(name, source, timeoutMs) {
        wishes.push(`${name} ${source} ${timeoutMs}`)
        await live.update({
          clusters: setting(parts.cluster(name)),
          assignments: setting(assignment(name, origin.port)),
        })
        return true
      },
    },
  })
  const withHosts = (...domains: string[]) => {
    const table = parts.forwarding('r', 'fresh')
    const virtualHosts = domains.map((name) => ({ ...table.virtualHosts[0], name, domains: [name] }))
    return { ...table, onDemand: true as const, ignorePortInHostMatching: true, virtualHosts }
  }
  const filter = {
    name: 'demand',
    type: 'on_demand',
    config: { odcds: { source: { ads: {} }, timeout: '2s' } },
  }
  await live.update({
    routeTables: setting(withHosts()),
    listeners: setting(parts.listener('main', { routeTable: 'r' }, [filter])),
  })
  t.equal((await live.get('main', 'host: never.test\r\n')).status, 404)
  t.equal((await live.get('main', 'host: Late.test:80\r\n')).text(), 'found')
  t.equal((await live.get('main', 'host: late.test\r\n')).text(), 'found')
  t.same(wishes, ['r never.test', 'r late.test', 'fresh  2000'])
})

t.test('the change between two configurations is found by content', async (t) => {
  const config = { node: { id: '', cluster: '' }, listeners: [], runtime: {}, ignored: [] }
  const clusters = ['a', 'b', 'c'].map((name) => parts.cluster(name))
  const state = new ConfigState({ ...config, clusters, assignments: [assignment('a', 1)] })
  const copy = structuredClone({ ...config, clusters, assignments: [assignment('a', 1)] })
  t.equal(changeBetween(state, copy), undefined)
  const changed = parts.cluster('b', { connectTimeoutMs: 7 })
  const change = changeBetween(state, {
    ...copy,
    clusters: [clusters[0], changed, parts.cluster('d')],
    assignments: [],
  })
  t.same(change, {
    clusters: { set: [changed, parts.cluster('d')], remove: ['c'] },
    assignments: { set: [], remove: ['a'] },
  })
  t.same(state.base.clusters, [])
})
