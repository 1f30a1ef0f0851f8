import t from 'tap'
import { Uuids } from '../../lib/core/uuids.ts'

t.test('uuids are random ones of RFC 9562, each of them once, over many refills', async (t) => {
  const uuids = new Uuids()
  const seen = new Set<string>()
  const digits = new Map<string, number>()
  for (let i = 0; i < 2_000; i++) {
    const id = uuids.next()
    if (!/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/.test(id)) t.fail(id)
    for (const digit of id.slice(24)) digits.set(digit, (digits.get(digit) ?? 0) + 1)
    seen.add(id)
  }
  t.equal(seen.size, 2_000)
  // 24,000 digits, 1,500 of each expected: six standard deviations are 225.
  for (const [digit, count] of digits) t.ok(Math.abs(count - 1_500) < 225, `${digit}: ${count}`)
  t.equal(digits.size, 16)
})
