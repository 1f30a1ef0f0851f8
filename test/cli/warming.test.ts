import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import t, { type Test } from 'tap'
import { namesIn } from '../../lib/cli/engine/names-in.ts'
import type { GatewayConfig } from '../../lib/config/model.ts'
import type { ClusterConfig } from '../../lib/upstream/config.ts'
import { settle, TestClock } from '../support/clock.ts'
import { startDnsServer } from '../support/dns-server.ts'
import { assignment, LiveGateway, Parts, removing, setting } from '../support/live-gateway.ts'
import { Origin } from '../support/origin.ts'

/** Clusters warm by themselves: only what names them waits. */

const parts = new Parts()

/** A name server that never answers. */
async function silence(t: Test): Promise<string> {
  const socket = createSocket('udp4')
  socket.bind(0, '127.0.0.1')
  await once(socket, 'listening')
  t.teardown(() => void socket.close())
  return `127.0.0.1:${socket.address().port}`
}

function byName(name: string, server: string, port = 80): ClusterConfig {
  const [group] = assignment('', port).localities
  const endpoints = group.endpoints.map((one) => ({ ...one, address: { kind: 'ip', host: 'a.test', port } as const }))
  const dns = {
    refreshMs: 60_000,
    failureRefreshMs: 60_000,
    failureRefreshMaxMs: 60_000,
    jitterMs: 0,
    respectTtl: false,
    family: 'v4-only',
    resolvers: [server],
    queryTimeoutMs: 60_000,
  } as const
  return parts.cluster(name, { type: 'strict-dns', assignment: undefined, localities: [{ ...group, endpoints }], dns })
}

/** What has become of an update. */
function followed(update: Promise<void>): { state: string } {
  const followed = { state: 'open' }
  update.then(
    () => {
      followed.state = 'in force'
    },
    (error: Error) => {
      followed.state = error.message
    },
  )
  return followed
}

/** Routes go to a cluster that warms, and `other`, which is there, is to go: the update, which waits. */
async function waiting(live: LiveGateway, server: string): Promise<{ state: string }> {
  await live.update({
    clusters: setting(parts.cluster('other')),
    routeTables: setting(parts.saying('r', 'old')),
    listeners: setting(parts.listener('main', { routeTable: 'r' })),
  })
  const update = followed(
    live.update({
      clusters: { set: [byName('cold', server)], remove: ['other'] },
      routeTables: setting(parts.forwarding('r', 'cold')),
    }),
  )
  await settle(SETTLED)
  return update
}

async function originSaying(t: Test, word: string): Promise<Origin> {
  const origin = await Origin.start(async (_request, reply) => {
    await reply.send({ body: word })
  })
  t.teardown(() => origin.close())
  return origin
}

const SETTLED = 10

t.test('a cluster that warms holds nothing that does not name it', async (t) => {
  const clock = new TestClock()
  const live = await LiveGateway.start(t, { clock })
  await live.update({
    routeTables: setting(parts.saying('a', 'old a'), parts.saying('b', 'old b')),
    listeners: setting(parts.listener('a', { routeTable: 'a' }), parts.listener('b', { routeTable: 'b' })),
  })
  const server = await silence(t)
  const first = followed(
    live.update({
      clusters: setting(byName('cold', server)),
      routeTables: setting(parts.forwarding('a', 'cold'), parts.saying('b', 'new b')),
    }),
  )
  const origin = await originSaying(t, 'warm')
  await live.update({
    clusters: setting(parts.cluster('warm')),
    assignments: setting(assignment('warm', origin.port)),
    listeners: setting(parts.listener('c', { routes: parts.forwarding('', 'warm') })),
  })
  t.equal((await live.get('c')).text(), 'warm', 'a later change')
  t.equal((await live.get('b')).text(), 'new b', 'what the same change says of others')
  t.equal((await live.get('a')).text(), 'old a', 'what names it waits')
  t.equal(first.state, 'open')
  const second = followed(
    live.update({
      listeners: setting(
        parts.listener('d', { routes: parts.forwarding('', 'cold') }),
        parts.listener('e', { routes: parts.saying('', 'e') }),
      ),
    }),
  )
  await settle(SETTLED)
  t.same(
    live.gateway.engine.status().listeners.map(({ name }) => name),
    ['a', 'b', 'c', 'e'],
  )
  t.equal((await live.get('e')).text(), 'e', 'a listener beside one that waits')
  await live.update({ routeTables: setting(parts.saying('b', 'newer b')) })
  t.equal((await live.get('b')).text(), 'newer b')
  await clock.advanceAsync(5_100)
  await live.gateway.until(() => second.state !== 'open', 'the end of waiting')
  t.equal(first.state, 'in force')
  t.equal(second.state, 'in force')
  t.equal((await live.get('a')).status, 503, 'five seconds are enough')
  t.equal((await live.get('d')).status, 503)
  t.match(live.gateway.complaints.join(), /not warm yet/)
})

t.test('what waits goes on as soon as its cluster is warm, and what is taken away stays until then', async (t) => {
  const [origin, old, dns] = [await originSaying(t, 'new'), await originSaying(t, 'old'), await startDnsServer()]
  t.teardown(() => dns.close())
  dns.set('A', 'a.test', 'silence', { addresses: ['127.0.0.1'] })
  const clock = new TestClock()
  const live = await LiveGateway.start(t, { clock })
  await live.update({
    clusters: setting(parts.cluster('old')),
    assignments: setting(assignment('old', old.port)),
    routeTables: setting(parts.forwarding('r', 'old')),
    listeners: setting(parts.listener('main', { routeTable: 'r' })),
  })
  const update = followed(
    live.update({
      clusters: { set: [byName('new', dns.address, origin.port)], remove: ['old'] },
      assignments: removing('old'),
      routeTables: setting(parts.forwarding('r', 'new')),
    }),
  )
  await settle(SETTLED)
  t.equal((await live.get()).text(), 'old')
  t.equal(update.state, 'open')
  // c-ares keeps time by itself, and asks again after two seconds.
  await live.gateway.until(() => update.state !== 'open', 'the answer')
  t.equal(update.state, 'in force')
  t.equal((await live.get()).text(), 'new')
  t.same(
    live.gateway.engine.status().clusters.map(({ name }) => name),
    ['new'],
  )
})

t.test('what comes later goes before what waits', async (t) => {
  const live = await LiveGateway.start(t, { clock: new TestClock() })
  const server = await silence(t)
  const waits = await waiting(live, server)
  await live.update({ routeTables: setting(parts.saying('r', 'newer')) })
  t.equal((await live.get()).text(), 'newer')
  t.equal(waits.state, 'open', 'its cluster')
  t.ok(live.gateway.engine.status().clusters.some(({ name }) => name === 'other'))
  await live.update({ clusters: removing('cold') })
  await live.gateway.until(() => waits.state !== 'open', 'the end of what is gone')
  t.equal(waits.state, 'in force')
  t.same(live.gateway.engine.status().clusters, [])
  t.equal((await live.get()).text(), 'newer')
})

t.test('a cluster that comes back, and warms, is not taken away by what waits', async (t) => {
  const clock = new TestClock()
  const live = await LiveGateway.start(t, { clock })
  const server = await silence(t)
  const waits = await waiting(live, server)
  const back = followed(live.update({ clusters: setting(byName('other', server)) }))
  await settle(SETTLED)
  await live.update({ clusters: removing('cold') })
  await live.gateway.until(() => waits.state !== 'open', 'the end of what is gone')
  const names = (): string[] => live.gateway.engine.status().clusters.map(({ name }) => name)
  t.same(names(), ['other'], 'as it was')
  t.equal(back.state, 'open')
  await clock.advanceAsync(5_100)
  await live.gateway.until(() => back.state !== 'open', 'the other one')
  t.equal(back.state, 'in force')
  t.same(names(), ['other'])
})

t.test('the same cluster once more is waited for by both, another one takes its place', async (t) => {
  const live = await LiveGateway.start(t, { clock: new TestClock() })
  const [server, origin] = [await silence(t), await originSaying(t, 'here')]
  const first = followed(live.update({ clusters: setting(byName('web', server)) }))
  const second = followed(live.update({ clusters: setting(byName('web', server)) }))
  const listener = followed(
    live.update({ listeners: setting(parts.listener('main', { routes: parts.forwarding('', 'web') })) }),
  )
  await settle(SETTLED)
  t.same([first.state, second.state, listener.state], ['open', 'open', 'open'])
  await live.update({
    clusters: setting(parts.cluster('web')),
    assignments: setting(assignment('web', origin.port)),
  })
  await live.gateway.until(() => listener.state !== 'open', 'the listener')
  t.same([first.state, second.state, listener.state], ['in force', 'in force', 'in force'])
  t.equal((await live.get()).text(), 'here')
})

t.test('what is refused when its turn comes goes alone, with what is left of its change', async (t) => {
  const clock = new TestClock()
  const live = await LiveGateway.start(t, { clock })
  const server = await silence(t)
  await live.update({ listeners: setting(parts.listener('taken', { routes: parts.saying('', 'mine') })) })
  const routes = parts.forwarding('', 'cold')
  const other = createServer()
  other.listen(0, '127.0.0.1')
  await once(other, 'listening')
  t.teardown(() => void other.close())
  const { port } = other.address() as AddressInfo
  const bad = parts.listener('bad', { routes })
  const good = followed(
    live.update({ clusters: setting(byName('cold', server)), routeTables: setting(parts.forwarding('r', 'cold')) }),
  )
  const refused = followed(
    live.update({ listeners: setting({ ...bad, addresses: [{ kind: 'ip', host: '127.0.0.1', port } as const] }) }),
  )
  await clock.advanceAsync(5_100)
  await live.gateway.until(() => good.state !== 'open' && refused.state !== 'open', 'both')
  t.equal(good.state, 'in force')
  t.match(refused.state, /in use|EADDRINUSE/)
  t.same(
    live.gateway.engine.status().listeners.map(({ name }) => name),
    ['taken'],
  )
})

t.test('a whole configuration takes the place of all that waits', async (t) => {
  const live = await LiveGateway.start(t, { clock: new TestClock() })
  const server = await silence(t)
  const waits = followed(
    live.update({
      clusters: setting(byName('cold', server)),
      listeners: setting(parts.listener('cold', { routes: parts.forwarding('', 'cold') })),
    }),
  )
  await settle(SETTLED)
  const whole: GatewayConfig = {
    node: { id: '', cluster: '' },
    listeners: [parts.listener('main', { routes: parts.saying('', 'whole') })],
    clusters: [],
    runtime: {},
    ignored: [],
  }
  await live.gateway.engine.apply(whole)
  t.equal(waits.state, 'in force')
  t.equal((await live.get('main')).text(), 'whole')
  t.same(live.gateway.engine.status().clusters, [])
  await live.update({ routeTables: setting(parts.saying('r', 'on')) })
})

t.test('names are found wherever they stand, as a whole', async (t) => {
  const found = (value: unknown): string[] => {
    const steps = namesIn(value, new Set(['a', 'b', '__proto__']))
    for (;;) {
      const step = steps.next()
      if (step.done === true) return [...step.value].sort()
    }
  }
  t.same(found({ x: [{ y: 'a' }, 'ab', null, 3], a: 'c' }), ['a'])
  t.same(found(['b', { z: ['__proto__'] }]), ['__proto__', 'b'])
  t.same(found(Array.from({ length: 2_000 }, (_, i) => (i === 1_999 ? 'b' : i))), ['b'])
  t.same(found(undefined), [])
})
