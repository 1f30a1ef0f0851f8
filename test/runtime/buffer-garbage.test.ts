import t from 'tap'
import { BufferGarbage } from '../../lib/runtime/buffer-garbage.ts'

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
