import t from 'tap'
import type { Clock } from '../../lib/core/clock.ts'
import { Heartbeat } from '../../lib/runtime/heartbeat.ts'
import { withMisses } from '../../lib/runtime/server-state.ts'
import { Watchdog, type Watched } from '../../lib/runtime/watchdog.ts'
import { TestClock } from '../support/clock.ts'

const quiet = { counters: [], gauges: [], histograms: [] }

function watchdog(names: readonly string[], random = 0): { dog: Watchdog; told: () => number } {
  let told = 0
  const dog = new Watchdog({ names, killMs: 4_500, random: () => random, counted: () => void told++ })
  return { dog, told: () => told }
}

/** Timers come so much too late. */
interface LateClock {
  readonly clock: TestClock
  readonly lateMs: number
}

interface Child {
  hang: boolean
  pings: number
  lost: boolean
  heard(): void
}

/** A child that answers pings as long as it does not hang. */
function child(on: TestClock | LateClock, watched: Watched): Child {
  const { clock, lateMs } = on instanceof TestClock ? { clock: on, lateMs: 0 } : on
  const schedule: Clock['schedule'] = (delayMs, run) => clock.schedule(delayMs + lateMs, run)
  const state = { hang: false, pings: 0, lost: false, heard: () => heart.heard() }
  const heart = new Heartbeat({
    clock: { now: () => clock.now(), wall: () => clock.wall(), schedule },
    limitMs: 1,
    watched,
    ping: () => {
      state.pings++
      if (!state.hang) heart.heard()
    },
    lost: () => {
      state.lost = true
    },
  })
  heart.heard()
  return state
}

t.test('a process that is late counts once until it is heard again, and is killed in its time', async (t) => {
  const clock = new TestClock()
  const { dog, told } = watchdog(['worker_0', 'worker_1'])
  dog.configure({ missMs: 200, megaMissMs: 1_000, killMs: 2_000 })
  const [a, b] = ['worker_0', 'worker_1'].map((name) => child(clock, dog.watch(name)))
  clock.advance(5_000)
  t.ok(a.pings >= 49, `asked ${a.pings} times in five seconds`)
  t.equal(told(), 0)
  a.hang = true
  clock.advance(500)
  t.strictSame(dog.misses[0], { process: 'worker_0', miss: 1, megaMiss: 0 })
  clock.advance(700)
  t.strictSame(dog.misses[0], { process: 'worker_0', miss: 1, megaMiss: 1 })
  a.hang = false
  clock.advance(500)
  a.hang = true
  clock.advance(400)
  t.strictSame(dog.misses[0], { process: 'worker_0', miss: 2, megaMiss: 1 })
  clock.advance(1_400)
  t.notOk(a.lost)
  clock.advance(300)
  t.ok(a.lost)
  t.strictSame(dog.misses, [
    { process: 'worker_0', miss: 2, megaMiss: 2 },
    { process: 'worker_1', miss: 0, megaMiss: 0 },
  ])
  t.equal(told(), 4)
  t.notOk(b.lost)
  const counters = new Map(
    withMisses(quiet, [...dog.misses, { process: 'main_thread', miss: 5, megaMiss: 3 }]).counters,
  )
  t.strictSame(Object.fromEntries(counters), {
    'main_thread.watchdog_mega_miss': 3,
    'main_thread.watchdog_miss': 5,
    'server.main_thread.watchdog_mega_miss': 3,
    'server.main_thread.watchdog_miss': 5,
    'server.worker_0.watchdog_mega_miss': 2,
    'server.worker_0.watchdog_miss': 2,
    'server.worker_1.watchdog_mega_miss': 0,
    'server.worker_1.watchdog_miss': 0,
    'workers.watchdog_mega_miss': 2,
    'workers.watchdog_miss': 2,
  })
})

t.test('without a configuration nothing is counted, and the default time holds', async (t) => {
  const clock = new TestClock()
  const { dog, told } = watchdog(['worker_0'])
  const one = child(clock, dog.watch('worker_0'))
  clock.advance(5_000)
  t.ok(one.pings <= 10, `asked ${one.pings} times`)
  one.hang = true
  clock.advance(4_000)
  t.notOk(one.lost)
  clock.advance(1_100)
  t.ok(one.lost)
  t.equal(told(), 0)
})

t.test('where several hang they are killed earlier, all of them; the jitter is added to the time of one', async (t) => {
  const clock = new TestClock()
  const { dog } = watchdog(['worker_0', 'worker_1', 'worker_2'], 0.5)
  const config = { missMs: 200, megaMissMs: 1_000, killMs: 3_000, killJitterMs: 1_000, multikillMs: 1_000 }
  dog.configure({ ...config, multikillPercent: 60 })
  const all = [0, 1, 2].map((i) => child(clock, dog.watch(`worker_${i}`)))
  clock.advance(1_000)
  all[0].hang = true
  clock.advance(3_300)
  t.notOk(all[0].lost, 'one of three')
  clock.advance(500)
  t.ok(all[0].lost, '3.5 s')
  const next = child(clock, dog.watch('worker_0'))
  next.hang = all[1].hang = true
  clock.advance(1_400)
  t.ok(next.lost && all[1].lost, 'two of three')
  t.notOk(all[2].lost)
})

t.test('one that has answered meanwhile is not killed along with another that hangs after it', async (t) => {
  const clock = new TestClock()
  const { dog } = watchdog(['worker_0', 'worker_1'])
  dog.configure({ missMs: 200, megaMissMs: 1_000, killMs: 60_000, multikillMs: 1_000, multikillPercent: 50 })
  const hangs = child(clock, dog.watch('worker_0'))
  clock.advance(50)
  const answers = child(clock, dog.watch('worker_1'))
  clock.advance(450)
  hangs.hang = answers.hang = true
  // This one has been found to be silent for so long, the other not yet.
  clock.advance(955)
  answers.hang = false
  answers.heard()
  clock.advance(500)
  t.notOk(answers.lost)
  t.notOk(hangs.lost, 'it is the only one')
})

t.test('what hangs is killed also by a supervisor that comes late again and again', async (t) => {
  const clock = new TestClock()
  const { dog } = watchdog(['worker_0'])
  dog.configure({ missMs: 20, megaMissMs: 1_000, killMs: 2_000 })
  const one = child({ clock, lateMs: 25 }, dog.watch('worker_0'))
  one.hang = true
  clock.advance(10_000)
  t.ok(one.lost)
  const late = child({ clock, lateMs: 10_000 }, dog.watch('worker_0'))
  clock.advance(60_000)
  t.notOk(late.lost, "time in which nobody asked is nobody's silence")
})
