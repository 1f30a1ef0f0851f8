import { once } from 'node:events'
import { connect as connectTcp } from 'node:net'
import { Duplex } from 'node:stream'
import { connect as connectTls } from 'node:tls'
import t from 'tap'
import type { ListenerFilter } from '../../lib/chain/network.ts'
import { FilterRegistry } from '../../lib/chain/registry.ts'
import { lowerFilters, standardFilters } from '../../lib/cli/standard-filters.ts'
import type { NativeConfig } from '../../lib/config/native/config.ts'
import { readNativeConfig } from '../../lib/config/native/read.ts'
import { PeekBuffer } from '../../listeners/peek-buffer.ts'
import { Authority } from '../support/certificates.ts'
import { TestClock } from '../support/clock.ts'
import { WireClient } from '../support/wire.ts'
import { chainOf, listenerFilter, listenerOf, Rig } from './rig.ts'

/** Wants `NAME\n` in front, which it strips, and takes for the server name. Remembers how it was called. */
class NameFilter implements ListenerFilter<number> {
  readonly maxBytes = 64
  /** Bytes that were new in each call. */
  readonly fresh: number[] = []

  inspect(peeked: Buffer, from: number, state: number | undefined) {
    this.fresh.push(peeked.length - from)
    if ((state ?? 0) !== from) throw new Error(`state of ${state}, bytes from ${from}`)
    const end = peeked.indexOf(10, from)
    if (end < 0) return { more: peeked.length }
    const serverName = peeked.latin1Slice(0, end)
    if (serverName === 'BAD') return { refused: 'a bad name' }
    if (serverName === 'BUG') throw new Error('a bug')
    return { strip: end + 1, facts: { serverName, transportProtocol: undefined } }
  }

  giveUp(peeked: Buffer) {
    return { serverName: `gave-up-${peeked.length}` }
  }
}

/** Looks for one byte `!` and leaves it where it is. */
const MARK: ListenerFilter = {
  maxBytes: 1,
  inspect: (peeked) => ({ strip: 0, facts: { transportProtocol: peeked[0] === 33 ? 'tls' : 'raw_buffer' } }),
}

const NAMED = { listeners: [listenerOf({ listenerFilters: [listenerFilter('name')] })] }

t.test('what a listener filter strips is gone, what it leaves is read, wherever the bytes are split', async (t) => {
  const filter = new NameFilter()
  const rig = await Rig.start(t, NAMED, { filters: { name: filter } })
  const sent = 'a.test\nhello there'
  for (let at = 0; at <= sent.length; at++) {
    const wire = await rig.connect()
    await wire.writeSplit(sent, at === 0 || at === sent.length ? [] : [at])
    t.equal((await wire.readBytes(16)).toString(), 'echo\nhello there', `split at ${at}`)
    t.equal(rig.facts.serverName, 'a.test')
    t.equal(rig.facts.transportProtocol, '', 'what is undefined is not set')
    await wire.close()
  }
  const bytes = await rig.connect()
  filter.fresh.length = 0
  await bytes.writePieces(Array.from(sent, (c) => Buffer.from(c)))
  t.equal((await bytes.readBytes(16)).toString(), 'echo\nhello there', 'byte by byte')
  t.equal(filter.fresh.reduce((sum, n) => sum + n, 0) >= 7, true)
  t.ok(
    filter.fresh.every((n) => n > 0),
    'each call brings bytes',
  )
  bytes.end()
  t.equal(await bytes.expectEnd(), 'fin')
  t.equal(rig.gateway.stat('listener.main.downstream_pre_cx_active'), 0)
  t.same(rig.gateway.complaints, [])
})

t.test('filters run one after another, each on what those before have left', async (t) => {
  const order: string[] = []
  const accepting = (name: string): ListenerFilter => ({
    maxBytes: 0,
    onAccept(facts) {
      order.push(`${name}:${facts.serverName ?? '-'}`)
      return { remotePort: 7 }
    },
  })
  const listenerFilters = ['before', 'name', 'mark', 'after'].map((name) => listenerFilter(name))
  const filters = { before: accepting('before'), name: new NameFilter(), mark: MARK, after: accepting('after') }
  const rig = await Rig.start(t, { listeners: [listenerOf({ listenerFilters })] }, { filters })
  const wire = await rig.connect()
  await wire.write('n.test\n!')
  t.equal((await wire.readBytes(6)).toString(), 'echo\n!', 'one chunk serves two filters')
  t.same(order, ['before:-', 'after:n.test'])
  t.same([rig.facts.serverName, rig.facts.transportProtocol, rig.facts.remotePort], ['n.test', 'tls', 7])
  t.not(rig.facts.directRemotePort, 7)
})

t.test('a refused connection is reset and counted, and so is one whose filter wants too much or fails', async (t) => {
  const rig = await Rig.start(t, NAMED, { filters: { name: new NameFilter() } })
  const errors = (): number => rig.gateway.stat('listener.main.downstream_listener_filter_error')
  for (const [n, sent] of ['BAD\n', 'x'.repeat(64), 'BUG\n'].entries()) {
    const wire = await rig.connect()
    await wire.write(sent)
    t.equal(await wire.expectEnd(), 'reset', sent.slice(0, 4).trim())
    t.equal(errors(), n + 1)
  }
  t.match(rig.gateway.complaints, [/a listener filter failed; its connection is reset .*a bug/], 'refusals are no news')
  t.equal(rig.gateway.complaints.length, 1)
  t.equal(rig.gateway.stat('listener.main.downstream_cx_total'), 0)
  const wire = await rig.connect()
  await wire.write('good\n')
  t.equal((await wire.readBytes(5)).toString(), 'echo\n', 'the listener lives')
})

t.test('a refusal on accept needs no bytes', async (t) => {
  const filters = { no: { maxBytes: 0, onAccept: () => ({ refused: 'nobody comes in' }) } }
  const rig = await Rig.start(t, { listeners: [listenerOf({ listenerFilters: [listenerFilter('no')] })] }, { filters })
  t.equal(await rig.turnedAway(), 'reset')
  t.equal(rig.gateway.stat('listener.main.downstream_listener_filter_error'), 1)
})

t.test('a filter that asks where a connection was redirected from is told that nobody knows', async (t) => {
  let why = ''
  const original: ListenerFilter = {
    maxBytes: 0,
    onAccept(_facts, socket) {
      try {
        socket.originalDestination()
      } catch (error) {
        why = (error as Error).message
      }
      return undefined
    },
  }
  const listeners = [listenerOf({ listenerFilters: [listenerFilter('original')] })]
  const rig = await Rig.start(t, { listeners }, { filters: { original } })
  await (await rig.connect()).readBytes(5)
  t.match(why, /does not tell/)
})

t.test('clients that go away before anything is known are counted apart', async (t) => {
  const rig = await Rig.start(t, NAMED, { filters: { name: new NameFilter() } })
  const { gateway } = rig
  const silent = await rig.connect()
  await gateway.until(() => gateway.stat('listener.main.downstream_pre_cx_active') === 1, 'peek')
  silent.end()
  t.equal(await silent.expectEnd(), 'fin')
  const half = await rig.connect()
  await half.write('hal')
  half.end()
  t.equal(await half.expectEnd(), 'fin')
  const broken = await rig.connect()
  await broken.write('bro')
  await gateway.until(() => gateway.stat('listener.main.downstream_pre_cx_active') === 1, 'peek')
  broken.reset()
  await gateway.until(() => gateway.stat('listener.main.downstream_listener_filter_remote_close') === 3, 'all three')
  t.equal(gateway.stat('listener.main.downstream_pre_cx_active'), 0)
  const fast = await rig.connect()
  await fast.write('fast\nbye')
  fast.end()
  t.equal((await fast.readToEnd()).bytes.toString(), 'echo\nbye', 'a FIN behind enough bytes is a half-close')
})

t.test('a connection whose filters take too long is reset, or goes on with what is known', async (t) => {
  const clock = new TestClock()
  const slow = { listenerFilters: [listenerFilter('name'), listenerFilter('mark')], listenerFiltersTimeoutMs: 3_000 }
  const listeners = [
    listenerOf({ ...slow, name: 'strict' }),
    listenerOf({ ...slow, name: 'lenient', continueOnListenerFiltersTimeout: true }),
    listenerOf({ ...slow, name: 'patient', listenerFiltersTimeoutMs: 0 }),
  ]
  const name = new NameFilter()
  const rig = await Rig.start(t, { listeners }, { filters: { name, mark: MARK }, clock })
  const { gateway } = rig
  const wires = await Promise.all(['strict', 'lenient', 'patient'].map((name) => rig.connect(name)))
  for (const wire of wires) await wire.write('abc')
  const peeking = (name: string): number => gateway.stat(`listener.${name}.downstream_pre_cx_active`)
  await gateway.until(() => peeking('strict') + peeking('lenient') + peeking('patient') === 3, 'three peeks')
  await gateway.until(() => name.fresh.length === 3, 'bytes')
  clock.advance(2_900)
  t.equal(peeking('strict'), 1, 'not yet')
  clock.advance(200)
  const [strict, lenient, patient] = wires
  t.equal(await strict.expectEnd(), 'reset')
  t.equal((await lenient.readBytes(8)).toString(), 'echo\nabc', 'nothing was consumed')
  t.equal(rig.facts.serverName, 'gave-up-3')
  t.equal(gateway.stat('listener.strict.downstream_pre_cx_timeout'), 1)
  t.equal(gateway.stat('listener.lenient.downstream_pre_cx_timeout'), 1)
  clock.advance(3_600_000)
  t.equal(peeking('patient'), 1, '0 is no limit')
  await patient.write('\nx')
  t.equal((await patient.readBytes(6)).toString(), 'echo\nx')
  t.equal(rig.facts.serverName, 'abc')
})

t.test('a filter leaves alone the connections that it is disabled for', async (t) => {
  const filter = { kind: 'destination-ports', start: 0, end: 0 } as const
  const first = await Rig.start(t, NAMED, { filters: { name: new NameFilter() } })
  const port = first.gateway.port('main')
  const here = { kind: 'destination-ports', start: port, end: port + 1 } as const
  const cases = [
    [here, true],
    [{ ...here, start: port + 1, end: port + 2 }, false],
    [{ kind: 'any' }, true],
    [{ kind: 'not', of: here }, false],
    [{ kind: 'and', of: [here, { kind: 'not', of: filter }] }, true],
    [{ kind: 'or', of: [filter, here] }, true],
    [{ kind: 'or', of: [filter] }, false],
  ] as const
  for (const [disabledFor, skipped] of cases) {
    const listenerFilters = [listenerFilter('name', { disabledFor })]
    await first.apply({ listeners: [listenerOf({ listenerFilters })] })
    t.equal(first.gateway.port('main'), port, 'the socket stays')
    const wire = await first.connect()
    await wire.write('n\nx')
    const expected = skipped ? 'echo\nn\nx' : 'echo\nx'
    t.equal((await wire.readBytes(expected.length)).toString(), expected, JSON.stringify(disabledFor))
    await wire.close()
  }
})

t.test('what filters find chooses the filter chain; without one the connection is closed and counted', async (t) => {
  const filterChains = [
    chainOf({ name: 'a', match: { serverNames: ['a.test'] } }),
    chainOf({ name: 'any-test', match: { serverNames: ['*.test'] } }),
    chainOf({ name: 'empty', match: { serverNames: ['empty'] }, networkFilters: [] }),
  ]
  const listenerFilters = [listenerFilter('name')]
  const filters = { name: new NameFilter() }
  const rig = await Rig.start(t, { listeners: [listenerOf({ filterChains, listenerFilters })] }, { filters })
  const ask = async (name: string): Promise<string> => {
    const wire = await rig.connect()
    await wire.write(`${name}\n`)
    wire.end()
    return (await wire.readToEnd()).bytes.toString()
  }
  t.equal(await ask('a.test'), 'a\n')
  t.equal(await ask('b.test'), 'any-test\n')
  t.equal(await ask('b.other'), '')
  t.equal(rig.gateway.stat('listener.main.no_filter_chain_match'), 1)
  t.equal(await ask('empty'), '', 'a chain without filters closes')
  t.equal(rig.gateway.stat('listener.main.no_filter_chain_match'), 1)
  t.equal(rig.gateway.stat('listener.main.downstream_cx_total'), 2)
  const defaultFilterChain = chainOf({ name: 'default' })
  await rig.apply({ listeners: [listenerOf({ filterChains, listenerFilters, defaultFilterChain })] })
  t.equal(await ask('b.other'), 'default\n')
  t.same(rig.gateway.complaints, [])
})

t.test('connections count against the limits while filters look at them, and drains and closes end them', async (t) => {
  const limited = listenerOf({ listenerFilters: [listenerFilter('name')], maxConnections: 2 })
  const rig = await Rig.start(t, { listeners: [limited] }, { filters: { name: new NameFilter() } })
  const { gateway } = rig
  const wires = [await rig.connect(), await rig.connect()]
  await gateway.until(() => gateway.stat('listener.main.downstream_pre_cx_active') === 2, 'two peeks')
  t.equal(await rig.turnedAway(), 'reset')
  t.equal(gateway.stat('listener.main.downstream_cx_overflow'), 1)
  await rig.apply({ listeners: [] })
  await wires[0].write('late\nx')
  t.equal((await wires[0].readBytes(6)).toString(), 'echo\nx', 'a removed listener looks after what it has')
  t.equal(rig.echo.draining, 1, 'and is told that it drains')
  await gateway.close()
  for (const wire of wires) t.equal(await wire.expectEnd(), 'reset')
  t.equal(gateway.stat('listener.main.downstream_pre_cx_active'), 0)
})

t.test('without listener filters nothing waits for bytes', async (t) => {
  const rig = await Rig.start(t, { listeners: [listenerOf()] })
  const wire = await rig.connect()
  t.equal((await wire.readBytes(5)).toString(), 'echo\n', 'a server may speak first')
  t.equal(rig.gateway.stat('listener.main.downstream_pre_cx_active'), 0)
})

t.test('a buffer of first bytes keeps what came, copies in linear time, and gives away what is left', (t) => {
  const chunk = Buffer.from('abc')
  const single = new PeekBuffer()
  single.add(chunk)
  single.strip(1)
  const rest = single.take()
  t.equal(rest.toString(), 'bc')
  t.equal(rest.buffer, chunk.buffer, 'one chunk is not copied')
  t.equal(single.length, 0)

  const many = new PeekBuffer()
  let places = 0
  let last: ArrayBufferLike | undefined
  for (let i = 0; i < 10_000; i++) {
    many.add(Buffer.from([i & 255]))
    const { buffer } = many.view(1)
    if (buffer !== last) places++
    last = buffer
  }
  t.equal(many.length, 10_000)
  t.ok(places < 12, `its memory grew ${places} times`)
  t.same([...many.view(3)], [0, 1, 2])
  many.strip(9_998)
  many.add(Buffer.from([1, 2]))
  t.same([...many.view(100)], [9_998 & 255, 9_999 & 255, 1, 2])
  many.strip(100)
  t.equal(many.length, 0)
  many.add(chunk)
  t.equal(many.take().toString(), 'abc')
  t.end()
})

t.test('a listener on several addresses peeks on each, IPv6 among them', async (t) => {
  const addresses = [
    { kind: 'ip', host: '127.0.0.1', port: 0 },
    { kind: 'ip', host: '::1', port: 0 },
  ] as const
  const listeners = [listenerOf({ addresses, listenerFilters: [listenerFilter('name')] })]
  const rig = await Rig.start(t, { listeners }, { filters: { name: new NameFilter() } })
  const client = new WireClient()
  t.teardown(() => client.closeAll())
  for (const address of rig.gateway.engine.status().listeners[0].addresses) {
    if (address.kind !== 'ip') throw new Error('an IP address')
    const wire = await client.connect({ host: address.host, port: address.port })
    await wire.write('n\n')
    t.equal((await wire.readBytes(5)).toString(), 'echo\n')
    t.equal(rig.facts.localAddress, address.host)
  }
})

t.test('chains by server name: TLS of each, with its certificate, and plaintext for the rest', async (t) => {
  const authority = await Authority.create()
  const certificateOf = async (name: string) => {
    const { chain, key } = await authority.issue({ dns: [name] })
    return { certificates: [{ certificateChain: chain, privateKey: key }] }
  }
  const says = (body: string) => ({
    statPrefix: 'web',
    routes: [{ match: { prefix: '/' }, action: { kind: 'direct', status: 200, body } as const }],
  })
  const native: NativeConfig = {
    listeners: [
      {
        name: 'main',
        address: '127.0.0.1:0',
        filterChains: [
          { match: { serverNames: ['one.test'] }, tls: await certificateOf('one.test'), http: says('one') },
          { match: { serverNames: ['*.two.test'] }, tls: await certificateOf('*.two.test'), http: says('two') },
        ],
        defaultFilterChain: { http: says('rest') },
      },
    ],
  }
  const options = { registry: new FilterRegistry(standardFilters()), filters: lowerFilters() }
  const { listeners } = readNativeConfig(native, options)
  t.match(listeners[0].listenerFilters, [{ name: 'envoy.filters.listener.tls_inspector' }])
  const rig = await Rig.start(t, { listeners })
  const port = rig.gateway.port('main')
  const get = 'GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n'
  /** The hello goes out in small pieces. */
  const ask = async (servername: string): Promise<string> => {
    const raw = connectTcp(port, '127.0.0.1')
    raw.setNoDelay()
    const dripping = new Duplex({
      read() {},
      write(chunk: Buffer, _encoding, done) {
        const pieces = [chunk.subarray(0, 1), chunk.subarray(1, 50), chunk.subarray(50)]
        const send = (at: number): void => {
          if (at === pieces.length) done()
          else raw.write(pieces[at], () => setImmediate(send, at + 1))
        }
        send(0)
      },
    })
    raw.on('data', (chunk) => dripping.push(chunk))
    raw.on('end', () => dripping.push(null))
    raw.on('error', (error) => dripping.destroy(error))
    const socket = connectTls({ socket: dripping, servername, ca: authority.pem })
    t.teardown(() => {
      socket.destroy()
      raw.destroy()
    })
    try {
      await once(socket, 'secureConnect')
    } catch (error) {
      return (error as NodeJS.ErrnoException).code ?? 'failed'
    }
    socket.write(get)
    let answer = ''
    for await (const chunk of socket) answer += String(chunk)
    return answer.slice(answer.lastIndexOf('\n') + 1)
  }
  t.equal(await ask('one.test'), 'one')
  t.equal(await ask('a.two.test'), 'two')
  t.equal(await ask('ONE.test'), 'one', 'names have no case')
  t.not(await ask('three.test'), 'rest', 'the rest is plaintext: no TLS with a server that has no certificate')
  const plain = await rig.connect()
  t.equal((await plain.exchange(get)).text(), 'rest')
  t.equal(rig.gateway.stat('http.web.downstream_cx_ssl_total'), 3)
})
