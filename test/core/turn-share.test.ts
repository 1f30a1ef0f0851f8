import { setImmediate as nextTurn } from 'node:timers/promises'
import t from 'tap'
import { TimerWheel } from '../../lib/core/timer-wheel.ts'
import type { Patient } from '../../lib/core/turn-share.ts'
import { TestClock } from '../support/clock.ts'

/** Who has pieces to do, each of which takes its time, as far as the turns permit. */
class Worker implements Patient {
  done = 0
  /** After how many rounds of its line it was served, each time. */
  readonly visits: number[] = []
  readonly #desk: Desk
  readonly #pieces: number
  readonly #pieceMs: number
  readonly waitingEach: number

  constructor(desk: Desk, pieces: number, { pieceMs = 0.1, bytesEach = 100 } = {}) {
    this.#desk = desk
    this.#pieces = pieces
    this.#pieceMs = pieceMs
    this.waitingEach = bytesEach
  }

  waiting(): number {
    return (this.#pieces - this.done) * this.waitingEach
  }

  goOn(): boolean {
    this.visits.push(this.#desk.served++)
    do {
      this.done++
      this.#desk.clock.advance(this.#pieceMs)
    } while (this.done < this.#pieces && !this.#desk.wheel.share.spent)
    return this.done < this.#pieces
  }
}

class Desk {
  readonly clock = new TestClock()
  readonly wheel = new TimerWheel(this.clock)
  /** Visits so far, of all. */
  served = 0

  /** So many looks, each after so much time; answers how many said that the turn goes on. */
  looks(count: number, ms: number): number {
    let free = 0
    for (let i = 0; i < count; i++) {
      if (!this.wheel.share.spent) free++
      this.clock.advance(ms)
    }
    return free
  }
}

t.test('a turn is over when its time has been used, and the next one has its own', async (t) => {
  const desk = new Desk()
  const free = desk.looks(100, 0.1)
  t.ok(free >= 20 && free <= 24, `${free} looks in 2 ms of turn`)
  t.ok(desk.wheel.share.spent)
  await nextTurn()
  t.ok(desk.looks(100, 0.1) >= 20)
})

t.test('what the runtime puts off until later counts as done', async (t) => {
  const desk = new Desk()
  for (let i = 0; i < 40; i++) desk.wheel.share.charge(0.1)
  t.equal(desk.looks(1, 0), 0)
  t.ok(desk.wheel.share.spent)
  await nextTurn()
  t.equal(desk.looks(10, 0), 10)
})

t.test('whoever wants little is served before those that want much', async (t) => {
  const desk = new Desk()
  const greedy = Array.from({ length: 50 }, () => new Worker(desk, 100))
  for (const one of greedy) desk.wheel.share.wait(one)
  await nextTurn()
  const begun = greedy.filter(({ done }) => done > 0).length
  t.ok(begun > 0 && begun < 10, `${begun} of 50 in the first turn`)
  const modest = new Worker(desk, 1)
  desk.wheel.share.wait(modest)
  await nextTurn()
  t.equal(modest.done, 1, 'in the turn after it came')
  t.notOk(
    greedy.every(({ done }) => done > 0),
    'before many who came earlier',
  )
})

t.test('those that want much take turns, a few pieces each, until all is done', async (t) => {
  const desk = new Desk()
  const workers = Array.from({ length: 10 }, () => new Worker(desk, 40))
  for (const one of workers) desk.wheel.share.wait(one)
  while (workers.some(({ done }) => done < 40)) {
    await nextTurn()
    const done = workers.map((one) => one.done)
    t.ok(Math.max(...done) - Math.min(...done) <= 24, done.join())
  }
  for (const { visits } of workers) t.ok(visits.length >= 5, `${visits.length} visits for 40 pieces`)
})

t.test('a stream of those that want little does not keep the others out', async (t) => {
  const desk = new Desk()
  const greedy = new Worker(desk, 30)
  desk.wheel.share.wait(greedy)
  let turns = 0
  for (; greedy.done < 30 && turns < 1_000; turns++) {
    for (let i = 0; i < 8; i++) desk.wheel.share.wait(new Worker(desk, 1, { pieceMs: 0.2, bytesEach: 60 }))
    await nextTurn()
  }
  t.ok(turns < 60, `${turns} turns`)
})

t.test('pieces that take longer than a turn: two at most, and everybody gets on', async (t) => {
  const desk = new Desk()
  const all = Array.from({ length: 3 }, () => new Worker(desk, 4, { pieceMs: 50 }))
  for (const one of all) desk.wheel.share.wait(one)
  for (let before = 0, turn = 1; turn <= 12 && before < 12; turn++) {
    await nextTurn()
    const done = all.reduce((sum, one) => sum + one.done, 0)
    t.ok(done > before && done <= before + 2, `${before}, then ${done}`)
    before = done
  }
  t.ok(all.every(({ done }) => done === 4))
})

t.test('those that want nothing but being served do not keep the others out either', async (t) => {
  const desk = new Desk()
  class Uploader implements Patient {
    waiting(): number {
      return 0
    }

    goOn(): boolean {
      desk.clock.advance(0.01)
      return request.done === 0
    }
  }
  const request = new Worker(desk, 1, { bytesEach: 300 })
  for (let i = 0; i < 300; i++) desk.wheel.share.wait(new Uploader())
  desk.wheel.share.wait(request)
  let turns = 0
  for (; request.done === 0 && turns < 100; turns++) await nextTurn()
  t.ok(turns <= 15, `${turns} turns`)
})

t.test('where turns are long for other reasons, the line has a part of them', async (t) => {
  const desk = new Desk()
  const one = new Worker(desk, 10_000)
  desk.wheel.share.wait(one)
  for (let turn = 0; turn < 5; turn++) {
    desk.wheel.now()
    desk.clock.advance(40)
    await nextTurn()
  }
  t.ok(one.done >= 5 * 190 && one.done <= 5 * 220, `${one.done} pieces of 0.1 ms in five turns of 40 ms`)
})
