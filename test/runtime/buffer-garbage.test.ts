import t from 'tap'
import { BufferGarbage } from '../../lib/runtime/buffer-garbage.ts'
import { StartGarbage } from '../../lib/runtime/start-garbage.ts'
import { TestClock } from '../support/clock.ts'

const MIB = 1 << 20

t.test('a minor collection runs when 8 MiB have come since the last one, and counts from what it left', async (t) => {
  let bytes = 5 * MIB
  let left = 5 * MIB
  const collections: number[] = []
  const garbage = new BufferGarbage(
    (options) => {
      t.same(options, { type: 'minor' })
      collections.push(bytes)
      bytes = left
    },
    () => bytes,
  )
  t.equal(garbage.check(), false, 'nothing flows')
  bytes = 12 * MIB
  t.equal(garbage.check(), true, 'looked at more often')
  t.same(collections, [], 'below the limit')
  bytes = 13 * MIB
  t.equal(garbage.check(), true)
  t.same(collections, [13 * MIB])
  left = 30 * MIB
  bytes = 40 * MIB
  garbage.check()
  bytes = 37 * MIB
  garbage.check()
  t.same(collections, [13 * MIB, 40 * MIB], 'what is alive is not collected over and over')
  bytes = 2 * MIB
  garbage.check()
  bytes = 9 * MIB
  garbage.check()
  t.equal(collections.length, 2, 'the floor follows a fall')
  bytes = 10 * MIB
  garbage.check()
  t.equal(collections.length, 3)
  garbage[Symbol.dispose]()
})

t.test('without gc nothing happens', async (t) => {
  const garbage = new BufferGarbage(undefined, () => 100 * MIB)
  garbage.check()
  t.doesNotThrow(() => garbage[Symbol.dispose]())
})

t.test('what a start has left behind is collected once, when the worker is idle, in its first minute or never', (t) => {
  for (const [busyLooks, collections] of [
    [0, 1],
    [10, 1],
    [59, 1],
    [60, 0],
  ]) {
    const clock = new TestClock()
    const asked: object[] = []
    let activeMs = 0
    const garbage = new StartGarbage({
      clock,
      collect: (options) => void asked.push(options),
      activeMs: () => activeMs,
      heapBytes: () => 20 * MIB,
    })
    for (let second = 0; second < 100; second++) {
      activeMs += second < busyLooks ? 300 : 3
      clock.advance(1000)
    }
    t.same(asked, Array(collections).fill({ type: 'major', flavor: 'last-resort' }), `busy for ${busyLooks} s`)
    t.equal(clock.pending, 0)
    garbage[Symbol.dispose]()
  }
  const clock = new TestClock()
  new StartGarbage({ clock, collect: undefined })
  t.equal(clock.pending, 0, 'where V8 does not permit it nothing happens')
  const large = { clock, collect: () => t.fail('takes too long'), activeMs: () => 0, heapBytes: () => 100 * MIB }
  new StartGarbage(large)
  clock.advance(120_000)
  t.equal(clock.pending, 0, 'nor where there is much to look through')
  new StartGarbage({ clock, collect: () => t.fail('not any more') })[Symbol.dispose]()
  t.equal(clock.pending, 0)
  t.end()
})
