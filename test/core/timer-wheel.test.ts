import { setImmediate as nextTurn } from 'node:timers/promises'
import t from 'tap'
import type { Cancel, Clock } from '../../lib/core/clock.ts'
import { Timed, TimerWheel } from '../../lib/core/timer-wheel.ts'

/** A clock whose timers come as late as the test says. */
class LateClock implements Clock {
  nowMs = 1_000
  #run: (() => void) | undefined = undefined

  now(): number {
    return this.nowMs
  }

  wall(): number {
    return this.nowMs
  }

  schedule(_delayMs: number, run: () => void): Cancel {
    this.#run = run
    return () => {
      this.#run = undefined
    }
  }

  get waiting(): boolean {
    return this.#run !== undefined
  }

  fire(afterMs: number): void {
    this.nowMs += afterMs
    const run = this.#run
    this.#run = undefined
    run?.()
  }
}

class Deadline extends Timed {
  fired = 0

  override onDue(): void {
    this.fired++
  }
}

/** Takes its time over what it does. */
class Slow extends Deadline {
  readonly #clock: LateClock
  readonly #tookMs: number

  constructor(clock: LateClock, tookMs: number) {
    super()
    this.#clock = clock
    this.#tookMs = tookMs
  }

  override onDue(): void {
    super.onDue()
    this.#clock.nowMs += this.#tookMs
  }
}

t.test('deadlines of a stall wait until what has arrived meanwhile has been read', async (t) => {
  const clock = new LateClock()
  const wheel = new TimerWheel(clock)
  const [met, missed, later] = [new Deadline(), new Deadline(), new Deadline()]
  wheel.arm(met, 50)
  wheel.arm(missed, 50)
  wheel.arm(later, 2_000)
  clock.fire(500)
  t.equal(met.fired + missed.fired, 0)
  // An event of a socket, which the loop reads before the turn ends.
  wheel.disarm(met)
  await nextTurn()
  t.strictSame([met.fired, missed.fired, later.fired], [0, 1, 0])
  t.ok(clock.waiting, 'it goes on')
  for (let i = 0; i < 80; i++) clock.fire(20)
  t.equal(later.fired, 1, 'a tick in time is not put off')
  t.equal(wheel.armed, 0)
  clock.fire(20)
  t.notOk(clock.waiting)
})

t.test(
  'deadlines of a stall wait for those who stand in line with what arrived meanwhile, a second at most',
  async (t) => {
    const clock = new LateClock()
    const wheel = new TimerWheel(clock)
    const stall = (pieces: number, pieceMs: number): Deadline => {
      const deadline = new Deadline()
      wheel.arm(deadline, 50)
      clock.fire(500)
      // An event of a socket, with more than fits into a turn.
      const goOn = (): boolean => {
        clock.nowMs += pieceMs
        return --pieces > 0
      }
      wheel.share.wait({ waiting: () => 100, goOn })
      return deadline
    }
    const met = stall(5, 10)
    for (let turn = 0; turn < 5; turn++) {
      t.equal(met.fired, 0)
      await nextTurn()
    }
    wheel.disarm(met)
    await nextTurn()
    t.equal(met.fired, 0, 'what stood in line has met it')
    clock.fire(20)
    const missed = stall(1_000, 100)
    let turns = 0
    for (; missed.fired === 0 && turns < 100; turns++) await nextTurn()
    t.ok(turns >= 5 && turns <= 12, `${turns} turns of 100 ms`)
    wheel.close()
  },
)

t.test('a wheel that is closed after a stall fires nothing', async (t) => {
  const clock = new LateClock()
  const wheel = new TimerWheel(clock)
  const deadline = new Deadline()
  wheel.arm(deadline, 50)
  clock.fire(500)
  wheel.close()
  await nextTurn()
  t.equal(deadline.fired, 0)
  t.notOk(clock.waiting)
  wheel.arm(deadline, 50)
  clock.fire(60)
  t.equal(deadline.fired, 1)
})

t.test('a wheel that is closed by what is due fires nothing that was due with it', async (t) => {
  const clock = new LateClock()
  const wheel = new TimerWheel(clock)
  class Closing extends Timed {
    override onDue(): void {
      wheel.close()
    }
  }
  const deadline = new Deadline()
  wheel.arm(new Closing(), 10)
  wheel.arm(deadline, 10)
  clock.fire(20)
  t.strictSame([deadline.fired, wheel.armed], [0, 0])
  t.notOk(deadline.armed)
  t.notOk(clock.waiting)
})

t.test('deadlines of one moment are met over several turns, and the wheel goes on', async (t) => {
  const clock = new LateClock()
  const wheel = new TimerWheel(clock)
  const all = Array.from({ length: 100 }, () => new Slow(clock, 0.1))
  for (const one of all) wheel.arm(one, 50)
  const late = new Deadline()
  wheel.arm(late, 200)
  const fired = (): number => all.filter(({ fired }) => fired === 1).length
  clock.fire(60)
  t.ok(fired() >= 16 && fired() <= 48, `${fired()} in the first turn`)
  t.notOk(clock.waiting, 'the next tick waits for all of them')
  wheel.disarm(all[99])
  for (let turns = 0; wheel.armed > 1 && turns < 10; turns++) await nextTurn()
  t.strictSame([fired(), all[99].fired, late.fired], [99, 0, 0])
  t.ok(clock.waiting)
  for (let i = 0; i < 10; i++) clock.fire(20)
  t.equal(late.fired, 1)
})

t.test('a wheel that is closed between two such turns fires no more', async (t) => {
  const clock = new LateClock()
  const wheel = new TimerWheel(clock)
  const all = Array.from({ length: 100 }, () => new Slow(clock, 1))
  for (const one of all) wheel.arm(one, 50)
  clock.fire(60)
  const before = all.filter(({ fired }) => fired > 0).length
  wheel.close()
  await nextTurn()
  t.equal(all.filter(({ fired }) => fired > 0).length, before)
  t.equal(wheel.armed, 0)
})

t.test('what is armed is asked again when timeouts have changed', async (t) => {
  const clock = new LateClock()
  const wheel = new TimerWheel(clock)
  let limitMs = 10_000
  class Idle extends Timed {
    readonly #sinceMs = clock.nowMs
    fired = 0

    override reconsider(nowMs: number): void {
      this.onDue(nowMs)
    }

    override onDue(nowMs: number): void {
      if (nowMs >= this.#sinceMs + limitMs) {
        this.fired++
        wheel.disarm(this)
      } else wheel.armAt(this, this.#sinceMs + limitMs)
    }
  }
  const [plain, one, two] = [new Deadline(), new Idle(), new Idle()]
  for (const entry of [plain, one, two]) wheel.arm(entry, limitMs)
  clock.fire(1_000)
  await nextTurn()
  limitMs = 500
  wheel.reconsider()
  t.strictSame([one.fired, two.fired, plain.fired], [1, 1, 0])
  t.equal(wheel.armed, 1, 'others stay as they were')
  limitMs = 2_000
  const three = new Idle()
  wheel.arm(three, 10_000)
  wheel.reconsider()
  t.strictSame([three.fired, three.timer.dueMs], [0, clock.nowMs + 2_000])
  wheel.close()
})
