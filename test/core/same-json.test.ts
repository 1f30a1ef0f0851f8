import t from 'tap'
import { likeness, type MaterialRule, sameJson, sameJsonSteps } from '../../lib/core/same-json.ts'

function inSteps(a: unknown, b: unknown): boolean {
  const steps = sameJsonSteps(a, b)
  for (;;) {
    const step = steps.next()
    if (step.done === true) return step.value
  }
}

t.test('two pieces of data are the same by what they say', async (t) => {
  const long = Array.from({ length: 100 }, (_, i) => ({ i, deep: [{ word: String(i) }] }))
  const changed = structuredClone(long)
  changed[99].deep[0].word = 'x'
  const shared = { run: () => {} }
  const cases: readonly (readonly [unknown, unknown, boolean])[] = [
    [1, 1, true],
    [1, '1', false],
    [null, undefined, false],
    [{}, { a: undefined }, true],
    [{ a: undefined }, { b: undefined }, true],
    [{ a: 1, b: 2 }, { b: 2, a: 1 }, true],
    [{ a: null }, {}, false],
    [{ a: 1 }, { a: 1, b: 2 }, false],
    [{ b: 1 }, { a: 1 }, false],
    [[1, 2], [1, 2], true],
    [[1, 2], [2, 1], false],
    [[1], [1, undefined], false],
    [[], {}, false],
    [long, structuredClone(long), true],
    [long, changed, false],
    [{ filter: shared }, { filter: shared }, true],
    [{ filter: { run: () => {} } }, { filter: { run: () => {} } }, false],
    [{ at: new Date(0) }, { at: new Date(0) }, false],
    [Object.assign(Object.create(null), { a: 1 }), { a: 1 }, true],
  ]
  for (const [a, b, same] of cases) {
    const what = `${JSON.stringify(a)?.slice(0, 40)} and ${JSON.stringify(b)?.slice(0, 40)}`
    t.equal(sameJson(a, b), same, what)
    t.equal(sameJson(b, a), same, `${what}, the other way round`)
    t.equal(inSteps(a, b), same, `${what}, in steps`)
    t.equal(inSteps(b, a), same, `${what}, in steps the other way round`)
  }
  const steps = sameJsonSteps(long, structuredClone(long))
  let pauses = 0
  while (steps.next().done !== true) pauses++
  t.ok(pauses >= 6, 'it pauses')
})

t.test('material may differ, and whether it is there may not, but for what is exchanged whole', async (t) => {
  const rule: MaterialRule = { material: new Set(['key']), whole: new Set(['credential']), free: new Set(['labels']) }
  const cases: readonly (readonly [unknown, unknown, string])[] = [
    [{ key: 'a' }, { key: 'a' }, 'same'],
    [{ key: 'a' }, { key: 'b' }, 'material'],
    [{ key: 'a' }, {}, 'different'],
    [{ key: 1 }, { key: 2 }, 'different'],
    [[{ key: 'a', b: 1 }], [{ key: 'b', b: 2 }], 'different'],
    [[{ b: 1 }, { key: 'a' }], [{ b: 1 }, { key: 'b' }], 'material'],
    [{ labels: { key: 'a' } }, { labels: { key: 'b' } }, 'different'],
    [{ credential: { x: 1 } }, { credential: { x: 2 } }, 'material'],
    [{ credential: { x: 1 } }, {}, 'material'],
    [{}, { a: 1 }, 'different'],
  ]
  for (const [a, b, found] of cases) {
    t.equal(likeness(a, b, rule), found, `${JSON.stringify(a)} and ${JSON.stringify(b)}`)
    t.equal(likeness(b, a, rule), found, `${JSON.stringify(b)} and ${JSON.stringify(a)}`)
  }
})
