import { once } from 'node:events'
import { rmSync, writeFileSync } from 'node:fs'
import net from 'node:net'
import t, { type Test } from 'tap'
import { ChildSlot, forkChild } from '../../lib/runtime/child-slot.ts'
import { Heartbeat } from '../../lib/runtime/heartbeat.ts'
import { SpareWorker } from '../../lib/runtime/spare-worker.ts'
import { TestClock } from '../support/clock.ts'
import { configuration, loopback } from './fixtures/configuration.ts'
import { FakeGateway, type FakeOptions, until, type WorkerFacts } from './fixtures/gateway.ts'

t.setTimeout(60_000)

async function start(t: Test, workers: number, options: FakeOptions = {}): Promise<FakeGateway> {
  const gateway = new FakeGateway(t, configuration({ ingress: loopback() }), workers, { live: false, ...options })
  await gateway.ready()
  return gateway
}

/** Asks on a new connection, again and again, until it is told to stop; answers how often. */
function asking(gateway: FakeGateway): () => Promise<number> {
  let going = true
  const asked = (async () => {
    let times = 0
    for (; going; times++) await patient(gateway)
    return times
  })()
  asked.catch(() => {})
  return () => {
    going = false
    return asked
  }
}

/** node:http resets connections that it has accepted and is closed on; the fake engine cannot do better. */
async function patient(gateway: FakeGateway): Promise<WorkerFacts> {
  for (;;) {
    try {
      return await gateway.get()
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ECONNRESET') throw error
    }
  }
}

/** A request that is answered when it is released, on the same connection. */
function held(gateway: FakeGateway): { readonly answer: Promise<WorkerFacts>; release(): void } {
  const socket = net.connect(gateway.port, '127.0.0.1').on('error', () => {})
  socket.write('GET /slow HTTP/1.1\r\nhost: a\r\n\r\n')
  const answer = once(socket, 'data').then(([data]) => {
    const [, json] = String(data).split('\r\n\r\n')
    return JSON.parse(json.slice(0, json.lastIndexOf('}') + 1)) as WorkerFacts
  })
  answer.catch(() => {})
  return { answer, release: () => socket.write('GET /release HTTP/1.1\r\nhost: a\r\n\r\n') }
}

t.test('all workers are replaced one after the other, by signal or admin: nobody notices', async (t) => {
  const gateway = await start(t, 2)
  const { supervisor } = gateway
  for (const restart of [() => supervisor.restartWorkers(), () => void gateway.panel('restartWorkers')]) {
    const before = supervisor.pids.workers
    const stop = asking(gateway)
    restart()
    // A second wish while the first is being fulfilled adds nothing.
    restart()
    let most = 0
    await until(
      () => {
        const { workers } = supervisor.pids
        most = Math.max(most, workers.filter((pid) => pid === 0).length)
        return workers
      },
      (pids) => pids.every((pid) => pid !== 0 && !before.includes(pid)),
    )
    t.equal(most, 0, 'no place was ever empty')
    await gateway.get()
    t.ok((await stop()) > 0)
    await until(
      () => before.filter(isAlive),
      (alive) => alive.length === 0,
    )
  }
  await until(
    () => gateway.counter('server.workers_replaced'),
    (replaced) => (replaced ?? 0) >= 4,
  )
  t.equal(await gateway.counter('server.workers_died'), 0)
  t.equal(supervisor.sockets, 1)
  t.same(
    (await gateway.everyWorker()).map(({ worker }) => worker).sort(),
    [0, 1],
    'each has the place of the one before it',
  )
  t.equal(await gateway.panel('state'), 'LIVE')
})

t.test('what is under way at a worker that is replaced ends there, and it fails no health check', async (t) => {
  const gateway = await start(t, 1)
  const [before] = gateway.supervisor.pids.workers
  const slow = held(gateway)
  await until(
    () => gateway.gauge('fake.active'),
    (active) => active === 1,
  )
  gateway.supervisor.restartWorkers()
  await until(
    async () => (await patient(gateway)).pid,
    (pid) => pid !== before,
  )
  t.ok(isAlive(before))
  // Control comes anew meanwhile, and takes over what the new one runs.
  const { control } = gateway.supervisor.pids
  process.kill(control, 'SIGKILL')
  await until(
    () => gateway.panel('state').catch(() => 'DOWN'),
    (state) => state === 'LIVE' && gateway.supervisor.pids.control !== control,
  )
  t.equal(await gateway.counter('server.workers_replaced'), 1, 'the supervisor has not forgotten')
  slow.release()
  t.match(await slow.answer, { pid: before, serving: true })
  await until(
    () => isAlive(before),
    (alive) => !alive,
  )
  t.equal(gateway.supervisor.sockets, 1)
})

t.test('a worker that is replaced and does not end in time is killed', async (t) => {
  const gateway = await start(t, 1, { replacedMs: 1 })
  const [before] = gateway.supervisor.pids.workers
  held(gateway)
  await until(
    () => gateway.gauge('fake.active'),
    (active) => active === 1,
  )
  gateway.supervisor.restartWorkers()
  await until(
    () => isAlive(before),
    (alive) => !alive,
  )
  t.not((await gateway.get()).pid, before)
})

t.test('a successor that does not start leaves everything as it was; the next wish is tried again', async (t) => {
  const gateway = await start(t, 2)
  const { supervisor } = gateway
  const before = supervisor.pids.workers
  writeFileSync(`${gateway.dir}/config.broken`, '')
  supervisor.restartWorkers()
  await until(
    () => gateway.counter('server.workers_died'),
    (died) => died === 1,
  )
  t.same(supervisor.pids.workers, before)
  t.ok(before.includes((await gateway.get()).pid))
  rmSync(`${gateway.dir}/config.broken`)
  supervisor.restartWorkers()
  await until(
    () => supervisor.pids.workers,
    (pids) => pids.every((pid) => !before.includes(pid)),
  )
  t.equal(await gateway.counter('server.workers_died'), 1)
})

t.test('a worker whose event loop hangs is killed and replaced; connections wait for that', async (t) => {
  const gateway = await start(t, 1)
  const [before] = gateway.supervisor.pids.workers
  const spun = gateway.get('/spin')
  const begin = performance.now()
  // It may have been accepted just before.
  const waiting = patient(gateway)
  await t.rejects(spun, { code: 'ECONNRESET' })
  const after = await waiting
  t.not(after.pid, before)
  t.ok(performance.now() - begin > 4000, 'not before it was silent for so long')
  t.equal(await gateway.counter('server.workers_silent'), 1)
  t.equal(await gateway.counter('server.workers_died'), 1)
})

t.test(
  'stop with a minimum: /ready turns, connections are taken, dead workers come back; then it drains',
  async (t) => {
    const gateway = await start(t, 1, { drainMinMs: 1500 })
    const { supervisor } = gateway
    const [before] = supervisor.pids.workers
    supervisor.stop()
    await until(
      () => gateway.panel('state'),
      (state) => state === 'DRAINING',
    )
    t.match(await gateway.get(), { pid: before, serving: false })
    process.kill(before, 'SIGKILL')
    const next = await until(
      () => gateway.get().catch(() => undefined),
      (facts) => facts !== undefined && facts.pid !== before,
    )
    t.match(next, { serving: false })
    supervisor.restartWorkers()
    t.equal(await supervisor.ended, 0)
    t.same(supervisor.pids.workers, [0])
  },
)

t.test('stop twice within the minimum ends at once', async (t) => {
  const gateway = await start(t, 1, { drainMinMs: 10_000, drainTimeMs: 20_000 })
  const begin = performance.now()
  gateway.supervisor.stop()
  gateway.supervisor.stop()
  t.equal(await gateway.supervisor.ended, 0)
  t.ok(performance.now() - begin < 9_000)
})

t.test('on request the configuration is read anew; what cannot be used is told by a gauge', async (t) => {
  const gateway = await start(t, 1)
  const file = `${gateway.dir}/config`
  const failing = (): Promise<number | undefined> => gateway.gauge('server.file_reload_failing')
  t.equal(await failing(), 0)
  writeFileSync(file, JSON.stringify(configuration({ ingress: loopback() }, 7)))
  gateway.supervisor.reload()
  await gateway.allOf(({ routes }) => routes === 7)
  writeFileSync(file, 'refused')
  gateway.supervisor.reload()
  await until(failing, (value) => value === 1)
  t.equal((await gateway.get()).routes, 7)
  writeFileSync(file, JSON.stringify(configuration({ ingress: loopback() }, 7)))
  gateway.supervisor.reload()
  await until(failing, (value) => value === 0)
  t.equal(await gateway.counter('server.file_reload_success'), 1, 'it was the same again')
})

t.test('heartbeat: silence counts once a child has spoken; the time that nobody ran does not', (t) => {
  const test = new TestClock()
  let asleepMs = 0
  const clock = {
    now: () => test.now() + asleepMs,
    wall: () => test.wall(),
    schedule: (delayMs: number, run: () => void) => test.schedule(delayMs, run),
    advance: (ms: number) => test.advance(ms),
  }
  let pings = 0
  let lost = 0
  const begin = (): Heartbeat =>
    new Heartbeat({ clock, limitMs: 4500, ping: () => void pings++, lost: () => void lost++ })
  const mute = begin()
  clock.advance(59_000)
  t.same([pings, lost], [118, 0], 'a start may take its time')
  clock.advance(1000)
  t.equal(lost, 1)
  clock.advance(60_000)
  t.equal(lost, 1, 'once')
  mute.stop()
  lost = 0
  const child = begin()
  for (let i = 0; i < 10; i++) {
    clock.advance(4000)
    child.heard()
  }
  clock.advance(4499)
  t.equal(lost, 0)
  clock.advance(1)
  t.equal(lost, 1)
  lost = 0
  const slept = begin()
  slept.heard()
  // One late timer: this process had not run.
  asleepMs += 20_000
  clock.advance(500)
  t.equal(lost, 0)
  clock.advance(4500)
  t.equal(lost, 1)
  t.equal(test.pending, 0)
  t.end()
})

t.test('a process that the system does not even begin is tried again like one that ended', (t) => {
  const clock = new TestClock()
  const events: string[] = []
  const log = { debug() {}, info() {}, warn() {}, error: (text: string) => void events.push(text.split(':')[0]) }
  const slot = new ChildSlot({
    name: 'worker 0',
    entry: 'none',
    // As no memory for another process, this is thrown and not told by an event.
    flags: ['\0'],
    clock,
    log,
    silenceMs: 1000,
    started: () => void events.push('started'),
    message: () => {},
    ended: () => events.push('ended') > 0,
  })
  slot.start()
  t.same(events, ['worker 0', 'ended'])
  t.equal(slot.running, false)
  clock.advance(100)
  t.equal(slot.ends, 2, 'and again after a while')
  slot.retire()
  t.equal(clock.pending, 0)
  t.end()
})

t.test(
  'a child that had come to its work is replaced at once thrice a minute; then starts wait, longer each time',
  async (t) => {
    const clock = new TestClock()
    const dir = t.testdir({ 'child.ts': 'setInterval(() => {}, 1000)' })
    const log = { debug() {}, info() {}, warn() {}, error() {} }
    let over = Promise.withResolvers<void>()
    const slot = new ChildSlot({
      name: 'worker 0',
      entry: `${dir}/child.ts`,
      flags: [],
      clock,
      log,
      silenceMs: 1000,
      started: () => {},
      message: () => {},
      ended: () => {
        // The start is scheduled after this.
        setImmediate(over.resolve)
        return true
      },
    })
    const end = async (): Promise<void> => {
      over = Promise.withResolvers<void>()
      slot.kill('SIGKILL')
      await over.promise
    }
    slot.start()
    const waits: (number | undefined)[] = []
    for (let i = 0; i < 5; i++) {
      slot.settled()
      await end()
      waits.push(clock.nextInMs)
      clock.advance(clock.nextInMs ?? 0)
    }
    t.same(waits, [0, 0, 0, 100, 200])
    clock.advance(60_000)
    await end()
    t.equal(clock.nextInMs, 0, 'after a long life everything begins anew')
    clock.advance(0)
    await end()
    t.equal(clock.nextInMs, 100, 'one that had not come to its work waits')
    slot.retire()
    await slot.ended
  },
)

t.test(
  'a worker in reserve takes the place of one that is killed or replaced, and ends with the gateway',
  async (t) => {
    const gateway = await start(t, 2, { spareWorker: true })
    const { supervisor } = gateway
    const { control, workers } = supervisor.pids
    const spare = supervisor.children.find((pid) => pid !== control && !workers.includes(pid)) as number
    t.equal(supervisor.children.length, 4)
    const stop = asking(gateway)
    process.kill(workers[1], 'SIGKILL')
    const after = await until(
      () => supervisor.pids.workers,
      (pids) => pids[1] === spare,
    )
    t.equal(after[0], workers[0])
    await gateway.get()
    stop()
    supervisor.stop(0)
    await supervisor.ended
    t.same(supervisor.children, [])
  },
)

t.test('a spare worker: there is another one five seconds after it was taken or has ended', async (t) => {
  const clock = new TestClock()
  const dir = t.testdir({ 'child.ts': 'process.on("message", () => {})' })
  const warnings: string[] = []
  const log = { debug() {}, info() {}, warn: (text: string) => void warnings.push(text), error() {} }
  let none = false
  const spare = new SpareWorker({
    clock,
    log,
    fork: () => (none ? undefined : forkChild('spare worker', { entry: `${dir}/child.ts`, flags: [], log })),
  })
  t.equal(spare.take(), undefined)
  spare.start()
  spare.start()
  const first = spare.take()
  t.equal(spare.take(), undefined, 'once')
  first?.kill('SIGKILL')
  clock.advance(4999)
  t.equal(spare.pid, undefined)
  clock.advance(1)
  process.kill(spare.pid as number, 'SIGKILL')
  await until(
    () => warnings.length,
    (count) => count === 1,
  )
  t.equal(spare.take(), undefined)
  none = true
  clock.advance(5000)
  t.equal(spare.pid, undefined, 'there can be none now')
  none = false
  clock.advance(5000)
  const last = spare.pid as number
  t.ok(isAlive(last))
  spare.stop()
  t.equal(clock.pending, 0)
  await until(
    () => isAlive(last),
    (alive) => !alive,
  )
  t.equal(warnings.length, 1)
})

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}
