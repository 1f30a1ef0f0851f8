import t from 'tap'
import { parseTokenBucket, TokenBucket } from '../../lib/core/token-bucket.ts'
import { parseJson } from '../support/chain-driver.ts'
import { TestClock } from '../support/clock.ts'
import { seeded } from '../support/random.ts'

function taken(bucket: TokenBucket, tries: number): number {
  let count = 0
  for (let i = 0; i < tries; i++) if (bucket.take()) count++
  return count
}

t.test('a bucket gives its burst at once and then its rate', async (t) => {
  const clock = new TestClock()
  const bucket = new TokenBucket({ maxTokens: 5, tokensPerFill: 2, fillIntervalMs: 100 }, clock)
  t.equal(taken(bucket, 10), 5)
  clock.advance(49)
  t.equal(bucket.take(), false, 'half a fill is not there yet')
  t.equal(bucket.waitMs(), 1)
  clock.advance(1)
  t.same([bucket.take(), bucket.take()], [true, false], 'tokens trickle in')
  clock.advance(10_000)
  t.equal(bucket.available, 5, 'no more than it holds')
  t.equal(taken(bucket, 10), 5)
})

t.test('several tokens are taken together or not at all', async (t) => {
  const clock = new TestClock()
  const bucket = new TokenBucket({ maxTokens: 3, tokensPerFill: 1, fillIntervalMs: 1_000 }, clock)
  t.same([bucket.take(2), bucket.take(2), bucket.take(1)], [true, false, true])
  t.equal(bucket.waitMs(3), 3_000)
  t.equal(bucket.waitMs(4), Number.POSITIVE_INFINITY)
  clock.advance(3_000)
  t.equal(bucket.waitMs(3), 0)
  t.equal(bucket.take(3), true)
})

t.test('nothing is lost to rounding, however often it is asked', async (t) => {
  // A day at 7 in 93 ms, asked at odd moments.
  const clock = new TestClock()
  const bucket = new TokenBucket({ maxTokens: 7, tokensPerFill: 7, fillIntervalMs: 93 }, clock)
  t.equal(taken(bucket, 7), 7)
  const random = seeded(3)
  let count = 0
  let elapsed = 0
  while (elapsed < 930_000) {
    const step = Math.min(930_000 - elapsed, 1 + random.below(50) + random.next() / 3)
    clock.advance(step)
    elapsed += step
    count += taken(bucket, 4)
  }
  t.equal(count, 70_000)
})

t.test('large rates and a clock that stands still are harmless', async (t) => {
  const clock = new TestClock()
  const bucket = new TokenBucket(
    { maxTokens: 2 ** 32 - 1, tokensPerFill: 2 ** 32 - 1, fillIntervalMs: 3_600_000 },
    clock,
  )
  t.equal(bucket.available, 2 ** 32 - 1)
  t.equal(bucket.take(2 ** 32 - 1), true)
  t.equal(bucket.take(), false)
  clock.advance(3_600_000)
  t.equal(bucket.available, 2 ** 32 - 1)
})

t.test('its configuration is checked', async (t) => {
  t.same(parseJson({ max_tokens: 10, tokens_per_fill: 2, fill_interval: '0.5s' }, parseTokenBucket), {
    value: { maxTokens: 10, tokensPerFill: 2, fillIntervalMs: 500 },
    errors: [],
  })
  t.same(parseJson({ max_tokens: 10, fill_interval: '60s' }, parseTokenBucket).value, {
    maxTokens: 10,
    tokensPerFill: 1,
    fillIntervalMs: 60_000,
  })
  t.same(parseJson({}, parseTokenBucket).errors, ['max_tokens: must be at least 1', 'fill_interval: is required'])
  t.same(
    parseJson({ max_tokens: 1.5, tokens_per_fill: 0, fill_interval: '0.049s', more: 1 }, parseTokenBucket).errors,
    [
      'max_tokens: must be a whole number from 1 to 4294967295, not 1.5',
      'tokens_per_fill: must be a whole number from 1 to 4294967295, not 0',
      'fill_interval: must be at least 50 ms, not 49 ms',
      'more: unknown field',
    ],
  )
})
