import t from 'tap'
import type { ListenerTable } from '../../lib/cli/engine/listener-table.ts'
import { EngineOverload } from '../../lib/cli/engine/overload.ts'
import type { MonitorConfig, OverloadConfig, TriggerConfig } from '../../lib/config/overload.ts'
import type { Log } from '../../lib/core/metrics.ts'
import { noRuntime } from '../../lib/core/metrics.ts'
import { OverloadLevers } from '../../lib/core/overload.ts'
import { TimerWheel } from '../../lib/core/timer-wheel.ts'
import { resetHeavy } from '../../lib/runtime/overload/heavy-streams.ts'
import type { Machine } from '../../lib/runtime/overload/machine.ts'
import { type Monitor, MonitorSet, monitorOf } from '../../lib/runtime/overload/monitor.ts'
import { createMonitor } from '../../lib/runtime/overload/monitors.ts'
import { memoryOf } from '../../lib/runtime/overload/process-memory.ts'
import { OverloadRun, type Pressures } from '../../lib/runtime/overload/run.ts'
import { HeapShrinker } from '../../lib/runtime/overload/shrink-heap.ts'
import { furthest, Trigger } from '../../lib/runtime/overload/trigger.ts'
import { allocatorTrim } from '../../lib/runtime/overload/trim.ts'
import { OverloadWatch } from '../../lib/runtime/overload/watch.ts'
import { MetricsStore } from '../../lib/telemetry/metrics.ts'
import { settle, TestClock } from '../support/clock.ts'

/** The overload manager by itself: what it measures, when it acts, and who knows of it. */

const MIB = 1 << 20

function quietLog(): Log & { readonly lines: string[] } {
  const lines: string[] = []
  const note = (message: string): void => void lines.push(message)
  return { lines, debug: note, info: note, warn: note, error: note }
}

/** A machine of files that the test writes. */
class Machinery implements Machine {
  readonly files = new Map<string, string>()
  processors = 4
  rssBytes = 0
  busy = 0

  text(path: string): string {
    const text = this.files.get(path)
    if (text === undefined) throw new Error(`ENOENT: ${path}`)
    return text
  }

  async textLater(path: string): Promise<string> {
    return this.text(path)
  }

  rss(): number {
    return this.rssBytes
  }

  loopUtilization(): number {
    return this.busy
  }
}

const trigger = (config: Partial<TriggerConfig>): Trigger => new Trigger({ monitor: 'm', from: 0, to: 0, ...config })

t.test('triggers: thresholds from their value on, scaled ones in proportion', async (t) => {
  const at = trigger({ from: 0.9, to: 0.9 })
  t.same(
    [0, 0.899, 0.9, 1.5, 0.89].map((p) => at.scale(p)),
    [0, 0, 1, 1, 0],
  )
  const between = trigger({ from: 0.85, to: 0.95 })
  t.same(
    [0.5, 0.85, 0.95, 2].map((p) => between.scale(p)),
    [0, 0, 1, 1],
  )
  t.equal(Math.round(between.scale(0.92) * 1000), 700)
  t.equal(furthest([trigger({ from: 1, to: 1 }), between], () => 0.9).toFixed(3), '0.500')
  t.equal(
    furthest([], () => 1),
    0,
  )
})

t.test('a threshold with a release does not flap where the pressure swings about it', async (t) => {
  const changes = (config: Partial<TriggerConfig>): number => {
    const one = trigger(config)
    let count = 0
    let before = 0
    for (let i = 0; i < 1_000; i++) {
      const scale = one.scale(0.95 + 0.03 * Math.sin(i))
      if (scale !== before) count++
      before = scale
    }
    return count
  }
  t.ok(changes({ from: 0.95, to: 0.95 }) > 300, 'without one it follows each swing')
  t.equal(changes({ from: 0.95, to: 0.95, release: 0.9 }), 1)
  const held = trigger({ from: 0.95, to: 0.95, release: 0.9 })
  t.same(
    [0.94, 0.95, 0.91, 0.9, 0.89, 0.94].map((p) => held.scale(p)),
    [0, 1, 1, 1, 0, 0],
  )
})

const make = (config: MonitorConfig, machine: Machine, clock = new TestClock()): Monitor =>
  createMonitor(config, { machine, clock, memory: () => machine.rss(), connections: () => 30 })

t.test('cgroup memory: version 2, what can be dropped left out, the tightest limit on the way up', async (t) => {
  const machine = new Machinery()
  const { files } = machine
  files.set('/proc/self/cgroup', '0::/pods/one\n')
  files.set('/sys/fs/cgroup/pods/one/memory.current', `${80 * MIB}\n`)
  files.set('/sys/fs/cgroup/pods/one/memory.stat', `anon 1\ninactive_file ${30 * MIB}\nactive_file 5\n`)
  files.set('/sys/fs/cgroup/pods/one/memory.max', `${100 * MIB}\n`)
  const read = (limitBytes?: number): unknown =>
    make({ name: 'm', kind: 'cgroup-memory', ...(limitBytes && { limitBytes }) }, machine).read()
  t.equal(read(), 0.5)
  t.equal(read(60 * MIB), 50 / 60)
  t.equal(read(600 * MIB), 0.5, 'a limit of ours raises none of the system')
  files.set('/sys/fs/cgroup/pods/memory.current', `${90 * MIB}`)
  files.set('/sys/fs/cgroup/pods/memory.max', `${100 * MIB}`)
  t.equal(read(), 0.9, 'the group above is fuller')
  files.set('/sys/fs/cgroup/pods/memory.max', 'max')
  files.set('/sys/fs/cgroup/pods/one/memory.max', 'max')
  t.equal(read(), 0)
  t.equal(read(100 * MIB), 0.5)
  t.throws(() => make({ name: 'm', kind: 'cgroup-memory' }, new Machinery()).read(), /no control group/)
})

t.test('cgroup memory: version 1, within a container and without a limit', async (t) => {
  const machine = new Machinery()
  const { files } = machine
  files.set('/proc/self/cgroup', '5:devices:/\n4:memory:/docker/abc\n0::/\n')
  files.set('/sys/fs/cgroup/memory/memory.usage_in_bytes', `${60 * MIB}`)
  files.set('/sys/fs/cgroup/memory/memory.stat', `inactive_file 7\ntotal_inactive_file ${10 * MIB}\n`)
  files.set('/sys/fs/cgroup/memory/memory.limit_in_bytes', `${200 * MIB}`)
  t.equal(make({ name: 'm', kind: 'cgroup-memory' }, machine).read(), 0.25)
  files.set('/sys/fs/cgroup/memory/memory.limit_in_bytes', '9223372036854771712')
  t.equal(make({ name: 'm', kind: 'cgroup-memory' }, machine).read(), 0)
})

t.test('the memory of several processes: files that all of them map count once', async (t) => {
  const machine = new Machinery()
  const status = (anon: number, file: number): string =>
    `Name: x\nRssAnon:\t ${anon} kB\nRssFile:\t ${file} kB\nRssShmem:\t 1 kB\n`
  machine.files.set('/proc/10/status', status(100, 50))
  machine.files.set('/proc/11/status', status(200, 60))
  t.equal(memoryOf(machine, [10, 11, 12]), (100 + 1 + 200 + 1 + 60) * 1024)
  t.throws(() => memoryOf(machine, [12]), /does not tell/)
})

t.test(
  'cpu: of the host from /proc/stat, of a container from its control group, both dampened as in Envoy',
  async (t) => {
    const machine = new Machinery()
    const clock = new TestClock()
    const host = make({ name: 'h', kind: 'cpu', of: 'host' }, machine, clock)
    t.throws(() => host.read(), /ENOENT/)
    machine.files.set('/proc/stat', 'cpu  100 0 100 800 0 0 0 0 0 0\ncpu0 1 2\n')
    t.equal(host.read(), 0, 'nothing to compare with yet')
    machine.files.set('/proc/stat', 'cpu  200 0 200 800 0 0 0 0 0 0\n')
    t.equal(host.read(), 0.05)
    for (let i = 0, busy = 200; i < 200; i++) {
      busy += 100
      machine.files.set('/proc/stat', `cpu  ${busy} 0 200 ${600 + busy} 0 0 0 0 0 0\n`)
      host.read()
    }
    t.equal((host.read() as number).toFixed(2), '0.50', 'it comes to the share that is busy')
    const container = make({ name: 'c', kind: 'cpu', of: 'container' }, machine, clock)
    machine.files.set('/sys/fs/cgroup/cpu.max', '150000 100000\n')
    machine.files.set('/sys/fs/cgroup/cpu.stat', 'usage_usec 0\nuser_usec 0\n')
    container.read()
    clock.advance(1_000)
    machine.files.set('/sys/fs/cgroup/cpu.stat', 'usage_usec 1500000\n')
    t.equal((container.read() as number).toFixed(4), '0.0500', 'all of one and a half processors')
    const old = new Machinery()
    old.files.set('/sys/fs/cgroup/cpuacct/cpuacct.usage', '0')
    const older = make({ name: 'c', kind: 'cpu', of: 'container' }, old, clock)
    older.read()
    clock.advance(1_000)
    old.files.set('/sys/fs/cgroup/cpuacct/cpuacct.usage', `${2e9}`)
    t.equal((older.read() as number).toFixed(4), '0.0250', 'half of four')
  },
)

t.test('the event loop: a long turn is forgotten, a loop that is late for long is not', async (t) => {
  const machine = new Machinery()
  let nowMs = 1_000
  const due: { at: number; run: () => void }[] = []
  const clock = {
    now: () => nowMs,
    wall: () => nowMs,
    schedule: (ms: number, run: () => void) => {
      due.push({ at: nowMs + ms, run })
      return () => {}
    },
  }
  const delay = createMonitor(
    { name: 'd', kind: 'loop-delay', limitMs: 200 },
    { machine, clock, memory: () => 0, connections: () => 0 },
  )
  /** For so long, timers come so late. */
  const pass = (forMs: number, lateMs: number): number => {
    const end = nowMs + forMs
    let pressure = 0
    for (let look = nowMs + 250; nowMs < end; ) {
      const next = due.shift()
      if (next === undefined) break
      nowMs = Math.max(nowMs, next.at + lateMs)
      next.run()
      if (nowMs >= look) {
        pressure = delay.read() as number
        look = nowMs + 250
      }
    }
    return pressure
  }
  t.equal(pass(1_000, 0), 0)
  t.ok(pass(250, 300) < 0.6, 'one turn of 300 ms')
  t.ok(pass(3_000, 0) < 0.05)
  t.ok(Math.abs(pass(6_000, 150) - 0.75) < 0.05)
  const busy = make({ name: 'u', kind: 'loop-utilization' }, machine)
  machine.busy = 0.8
  t.equal(busy.read(), 0, 'no time has passed')
})

t.test('a stall of the event loop counts once, whoever of the two timers comes first after it', async (t) => {
  let nowMs = 1_000
  let sample: { readonly at: number; readonly run: () => void } | undefined
  const clock = {
    now: () => nowMs,
    wall: () => nowMs,
    schedule: (ms: number, run: () => void) => {
      const own = { at: nowMs + ms, run }
      sample = own
      return () => {
        if (sample === own) sample = undefined
      }
    },
  }
  const machine = new Machinery()
  const delay = createMonitor(
    { name: 'd', kind: 'loop-delay', limitMs: 200 },
    { machine, clock, memory: () => 0, connections: () => 0 },
  )
  nowMs += 1_000
  const stalled = delay.read() as number
  t.ok(stalled > 2, 'the look comes before the sample that is late')
  for (let i = 0; i < 20; i++) {
    nowMs = Math.max(nowMs, sample?.at ?? 0)
    sample?.run()
  }
  t.ok((delay.read() as number) < stalled / 2, 'a second later nothing of it is new')
})

t.test('monitors: failures and readings that are still under way are counted, the pressure stays', async (t) => {
  const metrics = new MetricsStore()
  const log = quietLog()
  const measured: [string, number][] = []
  let answer: () => number | Promise<number> = () => 0.5
  const set = new MonitorSet([{ name: 'm', kind: 'cgroup-memory' }], {
    make: () => monitorOf(() => answer()),
    metrics,
    log,
    measured: (name, pressure) => measured.push([name, pressure]),
  })
  const stat = (name: string): number => metrics.counter(`overload.m.${name}`).v
  set.refresh()
  t.equal(metrics.gauge('overload.m.pressure').v, 50)
  answer = () => {
    throw new Error('gone')
  }
  set.refresh()
  set.refresh()
  t.equal(stat('failed_updates'), 2)
  t.equal(log.lines.length, 1, 'said once')
  t.equal(metrics.gauge('overload.m.pressure').v, 50)
  const { promise, resolve } = Promise.withResolvers<number>()
  answer = () => promise
  for (let i = 0; i < 3; i++) set.refresh()
  t.equal(stat('skipped_updates'), 2)
  resolve(0.7)
  await settle()
  t.same(measured, [
    ['m', 0.5],
    ['m', 0.7],
  ])
  set[Symbol.dispose]()
  t.equal(metrics.gauge('overload.m.pressure').v, 0)
})

const config = (fields: Partial<OverloadConfig>): OverloadConfig => ({
  refreshIntervalMs: 1_000,
  monitors: [],
  actions: [],
  shedPoints: [],
  timeouts: [],
  smallestStreamBytes: MIB,
  shrink: { intervalMs: 10_000, keepBytes: 0 },
  ...fields,
})

function running(
  machine: Machine,
  remote: boolean,
): {
  readonly run: OverloadRun
  readonly levers: OverloadLevers
  readonly clock: TestClock
  readonly metrics: MetricsStore
  readonly moves: [string, number][]
} {
  const clock = new TestClock()
  const metrics = new MetricsStore()
  const levers = new OverloadLevers(() => 0)
  const moves: [string, number][] = []
  const actor = { moved: (name: string, scale: number): void => void moves.push([name, scale]), looked() {} }
  const own = { clock, metrics, log: quietLog(), machine, runtime: noRuntime, connections: () => 45 }
  const run = new OverloadRun({ ...own, levers, actor, remote })
  return { run, levers, clock, metrics, moves }
}

const stop = (triggers: readonly TriggerConfig[]): OverloadConfig['actions'] => [
  { name: 'envoy.overload_actions.stop_accepting_requests', triggers },
]

t.test('a process measures each interval, and moves its levers; an injected file is read in time', async (t) => {
  const machine = new Machinery()
  const { run, levers, clock, metrics, moves } = running(machine, false)
  run.configure(
    config({
      monitors: [
        { name: 'file', kind: 'file', path: '/pressure' },
        { name: 'rss', kind: 'process-memory', limitBytes: 100 },
      ],
      actions: stop([
        { monitor: 'file', from: 0.9, to: 0.9 },
        { monitor: 'rss', from: 0.5, to: 1 },
      ]),
      shedPoints: [
        { name: 'envoy.load_shed_points.tcp_listener_accept', triggers: [{ monitor: 'file', from: 0.5, to: 0.5 }] },
      ],
    }),
  )
  machine.files.set('/pressure', '0.6\n')
  await clock.advanceAsync(1_000)
  t.equal(levers.accept.scale, 1)
  t.equal(levers.stopAcceptingRequests.scale, 0)
  t.ok(levers.refusesConnection())
  t.equal(metrics.counter('overload.envoy.load_shed_points.tcp_listener_accept.shed_load_count').v, 1)
  machine.rssBytes = 75
  await clock.advanceAsync(1_000)
  t.equal(levers.stopAcceptingRequests.scale, 0.5)
  for (const wrong of ['2', 'x', '', '-1']) {
    machine.files.set('/pressure', wrong)
    await clock.advanceAsync(1_000)
  }
  t.equal(metrics.counter('overload.file.failed_updates').v, 4)
  t.equal(levers.accept.scale, 1, 'what was known stays')
  machine.files.set('/pressure', '0.95')
  await clock.advanceAsync(1_000)
  t.equal(levers.stopAcceptingRequests.scale, 1)
  t.same(
    moves.map(([, scale]) => scale),
    [0.5, 1],
  )
  run.configure(undefined)
  t.same([levers.stopAcceptingRequests.scale, levers.accept.scale, clock.pending], [0, 0, 0])
})

t.test(
  'a worker hears from control; where that is silent it measures for itself until control speaks again',
  async (t) => {
    const machine = new Machinery()
    machine.rssBytes = 100
    const { run, levers, clock } = running(machine, true)
    run.configure(
      config({
        refreshIntervalMs: 250,
        monitors: [
          { name: 'memory', kind: 'process-memory', limitBytes: 1_000 },
          { name: 'group', kind: 'cgroup-memory', limitBytes: 1_000 },
          { name: 'loop', kind: 'loop-delay', limitMs: 100 },
        ],
        actions: stop([{ monitor: 'memory', from: 0.9, to: 0.9 }]),
      }),
    )
    await clock.advanceAsync(1_000)
    run.pressures([
      ['memory', 0.85],
      ['group', 0.1],
    ])
    t.equal(levers.stopAcceptingRequests.scale, 0)
    run.pressures([['memory', 0.9]])
    t.equal(levers.stopAcceptingRequests.scale, 1)
    run.pressures([['memory', 0.85]])
    machine.rssBytes = 160
    await clock.advanceAsync(1_900)
    t.equal(levers.stopAcceptingRequests.scale, 0, 'not yet')
    await clock.advanceAsync(500)
    t.equal(levers.stopAcceptingRequests.scale, 1, 'what control knew, and what this process has grown by')
    run.pressures([['memory', 0.5]])
    t.equal(levers.stopAcceptingRequests.scale, 0)
    await clock.advanceAsync(1_000)
    t.equal(levers.stopAcceptingRequests.scale, 0)
    run[Symbol.dispose]()
    t.equal(clock.pending, 0)
  },
)

t.test('a monitor that has told nothing moves nothing, and no lever outlives its configuration', async (t) => {
  const machine = new Machinery()
  const { run, levers } = running(machine, true)
  const monitors: MonitorConfig[] = [
    { name: 'a', kind: 'file', path: '/a' },
    { name: 'b', kind: 'file', path: '/b' },
  ]
  const always = { monitor: 'a', from: 0, to: 0 }
  const held = { monitor: 'b', from: 0.9, to: 0.9, release: 0 }
  const accept = 'envoy.load_shed_points.tcp_listener_accept' as const
  run.configure(config({ monitors, actions: stop([always]), shedPoints: [{ name: accept, triggers: [held] }] }))
  run.pressures([['b', 0.95]])
  t.same([levers.stopAcceptingRequests.scale, levers.accept.scale], [0, 1])
  run.pressures([['a', 0]])
  t.same([levers.stopAcceptingRequests.scale, levers.accept.scale], [1, 1])
  run.configure(undefined)
  t.same([levers.stopAcceptingRequests.scale, levers.accept.scale], [0, 0])
  t.notOk(levers.refusesRequest() || levers.refusesConnection())
})

/** An engine's overload manager over one listener, which notes what is done to it, and others. */
function engineOverload(
  acceptAgain: () => Promise<void>,
  others: readonly object[] = [],
): {
  readonly overload: EngineOverload
  readonly clock: TestClock
  readonly done: string[]
  readonly listener: { shedsLoad: boolean; held: boolean }
} {
  const clock = new TestClock()
  const done: string[] = []
  const listener = {
    name: 'l',
    shedsLoad: true,
    held: false,
    shedIdle: () => {},
    stopAccepting: () => {
      listener.held = true
      done.push('stop')
    },
    acceptAgain: async () => {
      done.push('again')
      await acceptAgain()
      listener.held = false
    },
  }
  const live = () => [listener, ...others]
  const table = { live, all: live } as unknown as ListenerTable
  const overload = new EngineOverload({
    clock,
    metrics: new MetricsStore(),
    log: quietLog(),
    random: () => 0,
    runtime: noRuntime,
    wheel: new TimerWheel(clock),
    machine: new Machinery(),
    listeners: () => table,
    connections: () => 0,
    remote: true,
    collect: undefined,
  })
  overload.configure(
    config({
      monitors: [{ name: 'm', kind: 'file', path: '/m' }],
      actions: [
        {
          name: 'envoy.overload_actions.stop_accepting_connections',
          triggers: [{ monitor: 'm', from: 0.9, to: 0.9 }],
        },
      ],
    }),
  )
  overload.pressures([['m', 1]])
  return { overload, clock, done, listener }
}

t.test('an engine that is closed under overload takes its sockets back no more', async (t) => {
  const { overload, clock, done } = engineOverload(async () => {})
  t.same(done, ['stop'])
  overload[Symbol.dispose]()
  await settle()
  t.same(done, ['stop'])
  t.equal(clock.pending, 0)
})

t.test('a listener that bypasses the overload manager from now on has its sockets back at once', async (t) => {
  let broken = true
  const { overload, done, listener } = engineOverload(async () => {
    if (broken) throw new Error('EMFILE')
  })
  t.equal(listener.held, true)
  listener.shedsLoad = false
  overload.looked()
  await settle()
  t.same(done, ['stop', 'again'])
  t.equal(listener.held, true, 'it could not be had')
  broken = false
  overload.looked()
  await settle()
  overload.looked()
  await settle()
  t.same(done, ['stop', 'again', 'again'])
  listener.shedsLoad = true
  overload.looked()
  t.same(done, ['stop', 'again', 'again', 'stop'], 'and is stopped as the others when it does not any more')
  overload.pressures([['m', 0]])
  await settle()
  t.equal(listener.held, false)
  overload[Symbol.dispose]()
})

t.test('pressure that comes and goes while sockets are on their way back leaves none behind', async (t) => {
  let held = true
  const slow = Promise.withResolvers<void>()
  const second = { name: 'slow', shedsLoad: true, stopAccepting() {}, acceptAgain: () => slow.promise }
  const { overload, done } = engineOverload(async () => void (held = false), [second])
  overload.pressures([['m', 0]])
  await settle()
  t.notOk(held, 'the first one is back, the second one on its way')
  overload.pressures([['m', 1]])
  t.equal(done.pop(), 'stop')
  held = true
  overload.pressures([['m', 0]])
  slow.resolve()
  await settle()
  t.notOk(held)
  overload[Symbol.dispose]()
})

t.test('a listener comes back though its socket cannot be had when the overload manager goes', async (t) => {
  let broken = true
  const { overload, clock, done } = engineOverload(async () => {
    if (broken) throw new Error('EMFILE')
  })
  overload.configure(undefined)
  await settle()
  t.same(done, ['stop', 'again'])
  broken = false
  await clock.advanceAsync(1_000)
  t.same(done, ['stop', 'again', 'again'])
  await clock.advanceAsync(10_000)
  t.equal(done.length, 3, 'once is enough')
  broken = true
  const other = engineOverload(() => Promise.reject(new Error('EMFILE')))
  other.overload.configure(undefined)
  await settle()
  other.overload[Symbol.dispose]()
  t.equal(other.clock.pending, 0)
})

t.test('downstream connections are a pressure: of all workers, as control knows them', async (t) => {
  const clock = new TestClock()
  const machine = new Machinery()
  const monitors: MonitorConfig[] = [{ name: 'cx', kind: 'connections', limit: 60 }]
  t.equal(await make(monitors[0], machine).read(), 0.5)
  const told: Pressures[] = []
  const parts = { clock, machine, log: quietLog(), runtime: noRuntime, pids: () => [], connections: () => 57 }
  const watch = new OverloadWatch({ ...parts, tell: (pressures) => told.push(pressures) })
  watch.configure(config({ monitors, actions: stop([{ monitor: 'cx', from: 0.9, to: 0.9 }]) }))
  clock.advance(1_000)
  t.strictSame(told.at(-1), [['cx', 0.95]])
  watch[Symbol.dispose]()
  const alone = running(machine, false)
  alone.run.configure(config({ monitors, actions: stop([{ monitor: 'cx', from: 0.7, to: 0.7 }]) }))
  alone.clock.advance(1_000)
  t.equal(alone.levers.stopAcceptingRequests.scale, 1, '45 of 60 in the only process')
  alone.run[Symbol.dispose]()
  const worker = running(machine, true)
  worker.run.configure(config({ monitors, actions: stop([{ monitor: 'cx', from: 0.7, to: 0.7 }]) }))
  worker.run.pressures([['cx', 0.8]])
  worker.clock.advance(60_000)
  t.equal(worker.levers.stopAcceptingRequests.scale, 1, 'what control said last holds while it is away')
  t.ok(worker.metrics.counter('overload.cx.failed_updates').v > 0)
  worker.run[Symbol.dispose]()
})

t.test('control measures once for all, and says so each interval', async (t) => {
  const machine = new Machinery()
  const clock = new TestClock()
  const told: Pressures[] = []
  const watch = new OverloadWatch({
    clock,
    log: quietLog(),
    machine,
    runtime: { get: (key) => (key === 'limit' ? 2_048 : undefined) },
    pids: () => [7],
    connections: () => 12,
    tell: (pressures) => told.push(pressures),
  })
  t.equal(watch.metrics(), undefined)
  machine.files.set('/proc/7/status', 'RssAnon:\t 1 kB\nRssFile:\t 0 kB\nRssShmem:\t 0 kB\n')
  const monitors: MonitorConfig[] = [
    { name: 'memory', kind: 'process-memory', limitBytes: 10, limitKey: 'limit' },
    { name: 'loop', kind: 'loop-delay', limitMs: 10 },
  ]
  watch.configure(config({ monitors }))
  clock.advance(2_000)
  t.same(told, [[['memory', 0.5]], [['memory', 0.5]]])
  t.same(watch.metrics()?.gauges, [['overload.memory.pressure', 50]])
  watch.configure(config({ monitors: monitors.slice(1) }))
  t.equal(clock.pending, 0, 'what workers measure for themselves is none of its business')
  watch.configure(undefined)
})

t.test('heavy streams: the largest classes first, fifty at a time', async (t) => {
  const shed: number[] = []
  const streams = (sizes: readonly number[]): { bufferedBytes: number; shed(): void }[] =>
    sizes.map((bufferedBytes) => ({ bufferedBytes, shed: () => void shed.push(bufferedBytes) }))
  const sizes = [0.5, 1, 2, 5, 70, 200].map((mib) => mib * MIB)
  const at = (scale: number): number[] => {
    shed.length = 0
    t.equal(resetHeavy(streams(sizes), scale, MIB), shed.length)
    return shed.map((bytes) => bytes / MIB)
  }
  t.same(at(0.01), [200])
  t.same(at(0.125), [200, 70])
  t.same(at(0.99), [200, 70, 5, 2, 1])
  t.same(at(1), [200, 70, 5, 2, 1])
  t.equal(resetHeavy(streams(new Array<number>(80).fill(2 * MIB)), 1, MIB), 50)
})

t.test('shrink_heap collects where enough is held that nothing uses, once an interval', async (t) => {
  const clock = new TestClock()
  const count = { v: 0 }
  let rss = 300 * MIB
  const did: string[] = []
  const shrinker = new HeapShrinker({
    clock,
    collect: () => void did.push('collect'),
    trim: () => {
      did.push('look')
      return () => {
        did.push('trim')
        rss = 150 * MIB
      }
    },
    memory: () => ({ rss, heapUsed: 80 * MIB, external: 20 * MIB }),
    count,
  })
  const settings = { intervalMs: 10_000, keepBytes: 100 * MIB }
  shrinker.shrink(settings)
  shrinker.shrink(settings)
  t.same(did.splice(0), ['collect', 'look', 'trim'])
  clock.advance(10_000)
  shrinker.shrink(settings)
  t.same(did, [], '50 MiB more than what is alive may stay')
  rss = 250 * MIB
  shrinker.shrink(settings)
  t.same(did, ['collect', 'trim'])
  t.equal(count.v, 2)
})

t.test('what the allocator keeps goes back to the system', { skip: process.platform !== 'linux' }, async (t) => {
  const trim = allocatorTrim(process)
  t.ok(trim, 'this Node can')
  // Small ones in between keep the heap of the allocator from shrinking by itself.
  const kept = Array.from({ length: 2_000 }, (_, i) => {
    Buffer.allocUnsafeSlow(64 * 1024).fill(i)
    return Buffer.allocUnsafeSlow(100)
  })
  await settle()
  trim?.()
  t.equal(kept.length, 2_000)
  t.equal(allocatorTrim({ platform: 'darwin' } as NodeJS.Process), undefined)
  const broken = {
    platform: 'linux',
    getBuiltinModule: () => ({
      dlopen: () => {
        throw new Error('no')
      },
    }),
  }
  t.equal(allocatorTrim(broken as unknown as NodeJS.Process), undefined)
})
