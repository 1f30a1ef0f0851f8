import { once } from 'node:events'
import { Socket } from 'node:net'
import { connect as connectTls, type TLSSocket } from 'node:tls'
import t from 'tap'
import type { ListenerFilter } from '../../lib/chain/network.ts'
import { FilterRegistry } from '../../lib/chain/registry.ts'
import { standardFilters } from '../../lib/cli/standard-filters.ts'
import { TLS_GROUPS } from '../../lib/config/defaults.ts'
import type { HttpConnectionManagerConfig } from '../../lib/config/listener.ts'
import { readNativeConfig } from '../../lib/config/native/read.ts'
import type { DownstreamTlsConfig } from '../../lib/tls/config.ts'
import { Authority, type Issued } from '../support/certificates.ts'
import { managerOf } from '../support/chains.ts'
import { settle, TestClock } from '../support/clock.ts'
import { socketPath } from '../support/socket-path.ts'
import { chainOf, listenerFilter, listenerOf, networkFilter, Rig } from './rig.ts'

const registry = new FilterRegistry(standardFilters())

/** HTTP that answers every request with this word. */
function answering(word: string): HttpConnectionManagerConfig {
  const action = { kind: 'direct', status: 200, body: word } as const
  const http = { statPrefix: 'test', routes: [{ match: { prefix: '/' }, action }] }
  return managerOf(readNativeConfig({ listeners: [{ address: '127.0.0.1:1', http }] }, { registry }).listeners[0])
}

function tlsOf({ chain, key }: Issued, more: Partial<DownstreamTlsConfig> = {}): DownstreamTlsConfig {
  return {
    certificates: [{ certificateChain: chain, privateKey: key }],
    alpn: [],
    minVersion: 'TLSv1.2',
    maxVersion: 'TLSv1.3',
    groups: TLS_GROUPS,
    requireClientCertificate: false,
    handshakeTimeoutMs: 5_000,
    sessionTickets: true,
    ...more,
  }
}

const GET = 'GET / HTTP/1.1\r\nhost: a.test\r\n\r\n'

t.test('limits: of the listener, of each source, of the gateway', async (t) => {
  const listeners = [
    listenerOf({ name: 'small', maxConnections: 1 }),
    listenerOf({ name: 'fair', maxConnectionsPerSource: 2 }),
    listenerOf({ name: 'free', ignoreGlobalLimit: true }),
  ]
  const rig = await Rig.start(t, { listeners, maxConnections: 3 })
  const { gateway } = rig
  const open = async (name: string): Promise<Awaited<ReturnType<Rig['connect']>>> => {
    const wire = await rig.connect(name)
    t.equal((await wire.readBytes(5)).toString(), 'echo\n', name)
    return wire
  }
  const small = await open('small')
  t.equal(await rig.turnedAway('small'), 'reset')
  t.equal(gateway.stat('listener.small.downstream_cx_overflow'), 1)
  const fair = [await open('fair'), await open('fair')]
  t.equal(await rig.turnedAway('fair'), 'reset')
  t.equal(gateway.stat('listener.fair.downstream_source_cx_overflow'), 1)
  t.equal(gateway.stat('listener.fair.downstream_global_cx_overflow'), 0)
  await open('free')
  await open('free')
  await fair[0].close()
  await gateway.until(() => gateway.stat('listener.fair.downstream_cx_active') === 1, 'room')
  await open('fair')
  await rig.apply({ listeners: listeners.map((listener) => ({ ...listener, maxConnections: 9 })), maxConnections: 3 })
  t.equal(await rig.turnedAway('small'), 'reset', 'three of the gateway are open')
  t.equal(gateway.stat('listener.small.downstream_global_cx_overflow'), 1)
  await small.close()
  await gateway.until(() => gateway.stat('listener.small.downstream_cx_active') === 0, 'room')
  await open('small')
  await rig.apply({ listeners })
  await small.close()
  t.same(gateway.complaints, [])
})

t.test('the limit of sources looks at the peer of the socket, and not at Unix sockets', async (t) => {
  const proxied: ListenerFilter = { maxBytes: 0, onAccept: () => ({ remoteAddress: '192.0.2.1', kind: 'pipe' }) }
  const path = socketPath(t, 'sources.sock')
  const listeners = [
    listenerOf({ name: 'proxied', maxConnectionsPerSource: 1, listenerFilters: [listenerFilter('proxied')] }),
    listenerOf({ name: 'unix', addresses: [{ kind: 'pipe', path }], maxConnectionsPerSource: 1 }),
  ]
  const rig = await Rig.start(t, { listeners }, { filters: { proxied } })
  const { gateway } = rig
  for (let round = 0; round < 3; round++) {
    const wire = await rig.connect('proxied')
    await wire.readBytes(5)
    t.equal(await rig.turnedAway('proxied'), 'reset', 'a header does not make another source of it')
    await wire.close()
    await gateway.until(() => gateway.stat('listener.proxied.downstream_cx_active') === 0, 'end')
  }
  const [one, two] = [await rig.client.connect({ path }), await rig.client.connect({ path })]
  t.equal((await one.readBytes(5)).toString(), 'echo\n')
  t.equal((await two.readBytes(5)).toString(), 'echo\n')
})

t.test('keep-alive is set as configured, and on no socket otherwise', async (t) => {
  const calls = t.capture(Socket.prototype, 'setKeepAlive', Socket.prototype.setKeepAlive)
  const listeners = [
    listenerOf({ name: 'full', keepalive: { idleS: 30, intervalS: 5, probes: 3 } }),
    listenerOf({ name: 'system', keepalive: {} }),
    listenerOf({ name: 'none' }),
  ]
  const rig = await Rig.start(t, { listeners })
  for (const name of ['full', 'system', 'none']) await (await rig.connect(name)).readBytes(5)
  t.same(
    calls().map(({ args }) => args),
    [
      [true, 30_000, 5_000, 3],
      [true, 0, undefined, undefined],
    ],
  )
})

t.test(
  'an update keeps the sockets and the connections of chains that are still there, and refuses nobody',
  async (t) => {
    const rig = await Rig.start(t, { listeners: [listenerOf({ filterChains: [chainOf({ name: 'a' })] })] })
    const port = rig.gateway.port('main')
    const old = await rig.connect()
    await old.readBytes(2)
    let connecting = true
    let connected = 0
    const clients = Array.from({ length: 4 }, async () => {
      while (connecting) {
        const wire = await rig.connect()
        const line = (await wire.readBytes(2)).toString()
        if (line !== 'a\n') t.fail(`met ${line}`)
        connected++
        await wire.close()
      }
    })
    for (let n = 0; n < 20; n++) {
      const match = { serverNames: [`other-${n}`] }
      const filterChains = [chainOf({ name: `b-${n}`, match }), chainOf({ name: 'a' })]
      await rig.apply({ listeners: [listenerOf({ filterChains, backlog: 100 + n, bufferLimitBytes: 1000 + n })] })
      await settle(2)
    }
    connecting = false
    await Promise.all(clients)
    t.ok(connected >= 4, `${connected} connections meanwhile`)
    t.equal(rig.gateway.port('main'), port)
    await old.write('still here')
    t.equal((await old.readBytes(10)).toString(), 'still here')
    t.equal(rig.echo.draining, 0)
  },
)

t.test('a chain whose network filters change is drained, and its connections close at the deadline', async (t) => {
  const clock = new TestClock()
  const kept = chainOf({ name: 'kept', match: { destinationPort: 1 } })
  const rig = await Rig.start(t, { listeners: [listenerOf({ filterChains: [kept, chainOf({})] })] }, { clock })
  const old = await rig.connect()
  await old.readBytes(5)
  const changed = chainOf({ networkFilters: [{ ...networkFilter('test-echo'), config: { changed: true } }] })
  await rig.apply({ listeners: [listenerOf({ filterChains: [kept, changed] })] })
  t.equal(rig.echo.draining, 1)
  const fresh = await rig.connect()
  await fresh.readBytes(5)
  await old.write('on')
  t.equal((await old.readBytes(2)).toString(), 'on', 'it goes on meanwhile')
  t.equal(rig.echo.disposed, 0, 'what its filters need is there')
  await clock.advanceAsync(599_000)
  await old.write('on')
  t.equal((await old.readBytes(2)).toString(), 'on')
  await clock.advanceAsync(2_000)
  t.equal(await old.expectEnd(), 'fin')
  old.end()
  await rig.gateway.until(
    () => rig.echo.disposed === 1,
    'the old filters are disposed of, and those of the other chain stay',
  )
  await fresh.write('on')
  t.equal((await fresh.readBytes(2)).toString(), 'on')
  t.equal(rig.echo.draining, 1)
})

t.test('a removed chain, and a removed listener, drain likewise', async (t) => {
  const clock = new TestClock()
  const byName = (name: string) =>
    chainOf({ name, match: { sourceType: name === 'local' ? 'same-ip-or-loopback' : 'external' } })
  const both = [byName('local'), byName('external')]
  const rig = await Rig.start(t, { listeners: [listenerOf({ filterChains: both })] }, { clock })
  const one = await rig.connect()
  t.equal((await one.readBytes(6)).toString(), 'local\n')
  await rig.apply({ listeners: [listenerOf({ filterChains: [byName('external')] })] })
  t.equal(rig.echo.draining, 1)
  t.equal((await (await rig.connect()).readToEnd()).bytes.toString(), '', 'nothing takes local clients any more')
  await rig.apply({ listeners: [listenerOf({ filterChains: both })] })
  const two = await rig.connect()
  t.equal((await two.readBytes(6)).toString(), 'local\n')
  await rig.apply({ listeners: [] })
  t.equal(rig.echo.draining, 2, 'each hears of it once')
  await settle(5)
  t.equal(rig.echo.disposed, 0, 'what drains is in use')
  await clock.advanceAsync(600_100)
  t.equal(await one.expectEnd(), 'fin')
  t.equal(await two.expectEnd(), 'fin')
  one.end()
  two.end()
  await rig.gateway.until(() => rig.echo.closed === 2 && rig.echo.disposed === 3, 'all is gone')
})

t.test('old filters are kept for as long as a connection that goes on needs them', async (t) => {
  const rig = await Rig.start(t, { listeners: [listenerOf()] })
  const old = await rig.connect()
  await old.readBytes(5)
  await rig.apply({ listeners: [listenerOf({ bufferLimitBytes: 1 })] })
  await rig.apply({ listeners: [listenerOf({ bufferLimitBytes: 2 })] })
  await rig.gateway.until(() => rig.echo.disposed === 1, 'the second snapshot has gone: nobody used it')
  await old.write('x')
  await old.readBytes(1)
  await settle(5)
  t.equal(rig.echo.disposed, 1)
  await old.close()
  await rig.gateway.until(() => rig.echo.disposed === 2, 'the first has gone too')
})

t.test('a connection whose first bytes are looked at meets the chains of the moment', async (t) => {
  const filters = {
    one: { maxBytes: 1, inspect: () => ({ strip: 1, facts: {} }) },
  }
  const listenerFilters = [listenerFilter('one')]
  const before = listenerOf({ listenerFilters, filterChains: [chainOf({ name: 'a' })] })
  const rig = await Rig.start(t, { listeners: [before] }, { filters })
  const wire = await rig.connect()
  const { gateway } = rig
  await gateway.until(() => gateway.stat('listener.main.downstream_pre_cx_active') === 1, 'peek')
  await rig.apply({ listeners: [listenerOf({ filterChains: [chainOf({ name: 'b' })] })] })
  await settle(5)
  t.equal(rig.disposedListenerFilters, 0, 'its listener filters are still in use')
  t.equal(rig.echo.disposed, 1, 'the chain that nobody has come to is gone')
  await wire.write('!x')
  t.equal((await wire.readBytes(3)).toString(), 'b\nx')
  await gateway.until(() => rig.disposedListenerFilters === 1, 'now they are not')
})

t.test('HTTP goes on with the next routes; a chain that is dropped says so with its next answer', async (t) => {
  const clock = new TestClock()
  const chain = (word: string, networkFilters: string[] = []) =>
    chainOf({ name: 'web', networkFilters: networkFilters.map(networkFilter), http: answering(word) })
  const rig = await Rig.start(t, { listeners: [listenerOf({ filterChains: [chain('one')] })] }, { clock })
  const [busy, idle] = [await rig.connect(), await rig.connect()]
  t.equal((await busy.exchange(GET)).text(), 'one')
  t.equal((await idle.exchange(GET)).text(), 'one')
  await rig.apply({ listeners: [listenerOf({ filterChains: [chain('two')] })] })
  const second = await busy.exchange(GET)
  t.equal(second.text(), 'two')
  t.equal(second.get('connection'), undefined)
  await rig.apply({ listeners: [listenerOf({ filterChains: [{ ...chain('three'), name: 'renamed' }] })] })
  const third = await busy.exchange(GET)
  t.equal(third.get('connection'), 'close')
  t.equal(third.text(), 'two', 'it ends with the routes that it had')
  t.equal(await busy.expectEnd(), 'fin')
  await rig.gateway.until(() => rig.gateway.stat('http.test.downstream_cx_active') === 1, 'its end')
  await clock.advanceAsync(5_100)
  t.equal(await idle.expectEnd(), 'fin', 'the drain time is up')
  const fresh = await rig.connect()
  t.equal((await fresh.exchange(GET)).text(), 'three')
})

t.test('other certificates leave connections alone, another TLS policy drains them', async (t) => {
  const authority = await Authority.create()
  const [first, second] = await Promise.all(['one.test', 'two.test'].map((name) => authority.issue({ dns: [name] })))
  const listeners = (tls: DownstreamTlsConfig) => [listenerOf({ filterChains: [chainOf({ tls })] })]
  const rig = await Rig.start(t, { listeners: listeners(tlsOf(first)) })
  const dial = async (): Promise<TLSSocket> => {
    const socket = connectTls({
      host: '127.0.0.1',
      port: rig.gateway.port('main'),
      ca: authority.pem,
      checkServerIdentity: () => undefined,
    })
    t.teardown(() => socket.destroy())
    socket.on('error', () => {})
    await once(socket, 'secureConnect')
    t.equal(String((await once(socket, 'data'))[0]), 'echo\n')
    return socket
  }
  const nameOf = (socket: TLSSocket): string => socket.getPeerCertificate().subjectaltname ?? ''
  const old = await dial()
  t.equal(nameOf(old), 'DNS:one.test')
  await rig.apply({ listeners: listeners(tlsOf(second)) })
  t.equal(nameOf(await dial()), 'DNS:two.test')
  t.equal(rig.echo.draining, 0)
  old.write('alive')
  t.equal(String((await once(old, 'data'))[0]), 'alive')
  await rig.apply({ listeners: listeners(tlsOf(second, { minVersion: 'TLSv1.3' })) })
  t.equal(rig.echo.draining, 2)
  t.equal((await dial()).getProtocol(), 'TLSv1.3')
  await rig.apply({ listeners: [listenerOf()] })
  t.equal(rig.echo.draining, 3, 'TLS or not is a different chain')
  t.equal(String(await (await rig.connect()).readBytes(5)), 'echo\n')
})

t.test('a listener may become one of another address, with its connections, without refusing any', async (t) => {
  const host = '127.0.0.1'
  const one = { kind: 'ip', host, port: 0 } as const
  const rig = await Rig.start(t, { listeners: [listenerOf({ addresses: [one] })] })
  const port = rig.gateway.port('main')
  const old = await rig.connect()
  await old.readBytes(5)
  await rig.apply({ listeners: [listenerOf({ addresses: [one, { ...one, host: '::1' }] })] })
  t.equal(rig.gateway.port('main'), port, 'the first socket was handed over')
  t.equal(rig.gateway.engine.status().listeners[0].addresses.length, 2)
  t.equal(String(await (await rig.connect()).readBytes(5)), 'echo\n')
  await old.write('x')
  t.equal(String(await old.readBytes(1)), 'x')
})

t.test('the log of a listener has a line for each connection, whoever ended it', async (t) => {
  const path = `${t.testdir()}/cx.log`
  const text = '%FILTER_CHAIN_NAME% %RESPONSE_FLAGS% %CONNECTION_TERMINATION_DETAILS% %BYTES_RECEIVED%\n'
  const accessLogs = [{ sink: { kind: 'file', path }, format: { kind: 'text', text } }] as const
  const filters: Record<string, ListenerFilter> = {
    name: {
      maxBytes: 8,
      inspect(peeked) {
        const serverName = peeked.latin1Slice(0, 1)
        return serverName === '!' ? { refused: 'no' } : { strip: 1, facts: { serverName } }
      },
    },
  }
  const filterChains = [
    chainOf({ match: { serverNames: ['e'] } }),
    chainOf({ name: 'web', match: { serverNames: ['w'] }, networkFilters: [], http: answering('hi') }),
    chainOf({ name: 'none', match: { serverNames: ['n'] }, networkFilters: [] }),
  ]
  const listeners = [listenerOf({ accessLogs, filterChains, listenerFilters: [listenerFilter('name')] })]
  const rig = await Rig.start(t, { listeners }, { filters })
  for (const sent of ['eabc', '!', 'x', 'n']) {
    const wire = await rig.connect()
    await wire.write(sent)
    wire.end()
    await wire.readToEnd()
  }
  const web = await rig.connect()
  t.equal((await web.exchange(`w${GET}`)).text(), 'hi')
  await web.close()
  const gone = await rig.connect()
  gone.end()
  await gone.expectEnd()
  const { gateway } = rig
  await gateway.until(() => gateway.stat('listener.main.downstream_listener_filter_remote_close') === 1, 'the last one')
  await gateway.until(() => gateway.stat('listener.main.downstream_cx_active') === 0, 'the end of all')
  await gateway.close()
  const { readFileSync } = await import('node:fs')
  const lines = readFileSync(path, 'utf8').trimEnd().split('\n')
  t.same(lines.slice(0, 4), [
    'echo - - 3',
    '- - listener_filter_refused 0',
    '- NR filter_chain_not_found 0',
    '- - filter_chain_is_empty 0',
  ])
  t.match(lines[4], /^web - /)
  t.equal(lines[5], '- - downstream_remote_close 0')
  t.equal(lines.length, 6)
})

t.test('a chain without name and match and a default chain like it are two, through updates', async (t) => {
  const chain = { networkFilters: [networkFilter('test-echo')] }
  const listener = (backlog: number) =>
    listenerOf({ filterChains: [chainOf(chain)], defaultFilterChain: chainOf(chain), backlog })
  const rig = await Rig.start(t, { listeners: [listener(10)] })
  const wire = await rig.connect()
  t.equal((await wire.readBytes(5)).toString(), 'echo\n')
  await rig.apply({ listeners: [listener(11)] })
  await wire.write('x')
  t.equal((await wire.readBytes(1)).toString(), 'x')
  await rig.apply({ listeners: [] })
  for (let i = 0; i < 100 && rig.echo.draining === 0; i++) await settle(1)
  t.equal(rig.echo.draining, 1, 'the listener knows its connection')
})
