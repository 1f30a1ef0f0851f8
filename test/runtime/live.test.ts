import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import net from 'node:net'
import t from 'tap'
import { RemoteDemand } from '../../lib/runtime/remote-demand.ts'
import type { AssignmentConfig, ClusterConfig } from '../../lib/upstream/config.ts'
import { TestClock } from '../support/clock.ts'
import { configuration, loopback } from './fixtures/configuration.ts'
import { FakeGateway, until } from './fixtures/gateway.ts'

const cluster = (name: string): ClusterConfig => ({ name }) as ClusterConfig
const assignment = (name: string, localities: number): AssignmentConfig =>
  ({ name, localities: Array.from({ length: localities }, () => ({})) }) as unknown as AssignmentConfig

t.test('what a live configuration publishes is in force in every worker', async (t) => {
  const g = new FakeGateway(t, configuration({ ingress: loopback() }), 2)
  await g.ready()
  t.equal(await g.panel('state'), 'INITIALIZING', 'served, and not yet complete')
  await g.publish({
    clusters: { set: [cluster('a'), cluster('b')], remove: [] },
    assignments: { set: [assignment('a', 1)], remove: [] },
    listeners: { set: configuration({ ingress: loopback() }, 3).listeners, remove: [] },
  })
  for (const facts of await g.allOf(({ routes }) => routes === 3)) {
    t.strictSame(facts.clusters, ['a', 'b'])
    t.strictSame(facts.endpoints, [['a', 1]])
  }
  await g.panel('initialise')
  await until(
    () => g.panel('state'),
    (state) => state === 'LIVE',
  )
  for (let i = 2; i < 60; i++) await g.publish({ assignments: { set: [assignment('a', i)], remove: [] } })
  await g.publish({ clusters: { set: [], remove: ['b'] } })
  for (const { endpoints } of await g.allOf(({ clusters }) => !clusters.includes('b'))) {
    t.strictSame(endpoints, [['a', 59]])
  }
  const [pid] = g.supervisor.pids.workers
  process.kill(pid, 'SIGKILL')
  await until(
    () => g.supervisor.pids.workers[0],
    (now) => now !== pid && now !== 0,
  )
  for (const facts of await g.everyWorker()) {
    t.strictSame([facts.clusters, facts.endpoints, facts.routes], [['a'], [['a', 59]], 3], 'the state as of now')
  }
})

t.test('a filter in a worker gets what it asks for on demand when it is in force there', async (t) => {
  const g = new FakeGateway(t, configuration({ ingress: loopback() }), 1)
  await g.ready()
  t.strictSame(await g.get('/demand/nowhere'), { found: false, clusters: [] })
  t.strictSame(await g.get('/demand/far'), { found: true, clusters: ['far'] })
})

t.test('what workers cannot use is taken back everywhere, and the rest of the change stays', async (t) => {
  const taken = net.createServer().listen(0, '127.0.0.1')
  await once(taken, 'listening')
  t.teardown(() => taken.close())
  const { port } = taken.address() as net.AddressInfo
  const g = new FakeGateway(t, configuration({ ingress: loopback() }), 2)
  await g.ready()
  const { listeners } = configuration({ second: loopback(), taken: loopback(port) })
  await g.publish({ clusters: { set: [cluster('a')], remove: [] }, listeners: { set: listeners, remove: [] } })
  await g.allOf(({ clusters }) => clusters.includes('a'))
  const refusals = (await until(
    () => g.panel('refusals') as Promise<unknown[]>,
    (all) => all.length > 0,
  )) as [unknown, string][]
  t.strictSame(refusals[0][0], { kind: 'listeners', name: 'taken' })
  t.match(refusals[0][1], /EADDRINUSE/)
  const { config } = (await g.panel('configuration')) as { config: { listeners: { name: string }[] } }
  t.strictSame(
    config.listeners.map(({ name }) => name),
    ['ingress', 'second'],
  )
  t.equal(await g.counter('server.resources_revoked'), 1, 'told once, whichever number of workers said so')
  t.equal(((await g.panel('refusals')) as unknown[]).length, 1)
})

t.test(
  'a control process that is started again changes nothing before its live configuration is complete',
  async (t) => {
    const g = new FakeGateway(t, configuration({ ingress: loopback() }), 2)
    await g.ready()
    await g.publish({ clusters: { set: [cluster('a'), cluster('b')], remove: [] } })
    await g.panel('initialise')
    await g.allOf(({ clusters }) => clusters.length === 2)
    const { control } = g.supervisor.pids
    process.kill(control, 'SIGKILL')
    await until(
      () => g.supervisor.pids.control,
      (pid) => pid !== 0 && pid !== control,
    )
    await until(
      () => g.panel('state').catch(() => 'DOWN'),
      (now) => now === 'LIVE',
    )
    // What it was told before it is complete: `a` is another one, `c` is new, of `b` it knows nothing.
    await g.publish({ clusters: { set: [cluster('a'), cluster('c')], remove: [] } })
    for (const { clusters } of await g.everyWorker()) t.strictSame(clusters, ['a', 'b'])
    await g.panel('initialise')
    for (const { clusters } of await g.allOf(({ clusters }) => clusters.includes('c'))) {
      t.strictSame(clusters, ['a', 'b', 'c'], 'nothing goes before it is confirmed')
    }
    await g.panel('confirm')
    await g.allOf(({ clusters }) => clusters.join() === 'a,c')
    await g.publish({ clusters: { set: [cluster('d')], remove: ['a'] } })
    await g.allOf(({ clusters }) => clusters.join() === 'c,d')
  },
)

t.test('files of what was delivered are watched, and a mistake in them is told', async (t) => {
  const g = new FakeGateway(t, configuration({ ingress: loopback() }), 1)
  await g.ready()
  const path = `${g.dir}/certificate`
  writeFileSync(path, 'first')
  await g.panel('watch', path)
  writeFileSync(path, 'second')
  await until(
    () => g.counter('server.file_reload_success'),
    (count) => count === 1,
  )
  writeFileSync(path, 'wrong')
  await until(
    () => g.counter('server.file_reload_rejected'),
    (count) => count === 1,
  )
})

t.test(
  'several who ask for the same ask once; nobody waits for ever, nor for a control process that is gone',
  async (t) => {
    const clock = new TestClock()
    const asked: string[] = []
    const idle = Promise.withResolvers<void>()
    const demand = new RemoteDemand({
      clock,
      ask: (id, wish, timeoutMs) => asked.push(`${id} ${JSON.stringify(wish)} ${timeoutMs}`),
      idle: () => idle.promise,
    })
    const first = demand.cluster('a', 'ads', 5000)
    const second = demand.cluster('a', 'ads', 5000)
    const host = demand.virtualHost('table', 'a.example')
    t.strictSame(asked, [
      '1 {"kind":"cluster","name":"a","source":"ads"} 5000',
      '2 {"kind":"virtual-host","table":"table","host":"a.example"} 15000',
    ])
    demand.askAgain()
    t.equal(asked.length, 4)
    demand.answered(1, true)
    demand.answered(1, true)
    let settled = false
    void first.then(() => {
      settled = true
    })
    await new Promise(setImmediate)
    t.notOk(settled, 'not before what was sent is in force')
    idle.resolve()
    t.ok((await first) && (await second))
    demand.answered(77, true)
    await clock.advance(16_000)
    t.notOk(await host)
    const again = demand.cluster('a', 'ads', 5000)
    t.equal(asked.length, 5, 'asked anew')
    demand.answered(3, false)
    t.notOk(await again)
  },
)
