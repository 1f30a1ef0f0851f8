import t from 'tap'
import { canonicalRange, compileCidrs } from '../../lib/match/cidr.ts'
import { compileRangeTable } from '../../lib/match/range-table.ts'
import { seeded } from '../support/random.ts'

t.test('ranges have one spelling', (t) => {
  const spell = (address: string, prefixLength: number): string => canonicalRange({ address, prefixLength })
  t.equal(spell('10.1.2.3', 8), '10.0.0.0/8')
  t.equal(spell('255.255.255.255', 32), '255.255.255.255/32')
  t.equal(spell('192.0.2.129', 25), '192.0.2.128/25')
  t.equal(spell('1.2.3.4', 0), '0.0.0.0/0')
  t.equal(spell('::ffff:10.1.2.3', 104), '10.0.0.0/8')
  t.equal(spell('2001:DB8::1', 32), '2001:db8:0:0:0:0:0:0/32')
  t.equal(spell('::1', 128), '0:0:0:0:0:0:0:1/128')
  t.equal(spell('::1', 0), '0:0:0:0:0:0:0:0/0')
  for (const [address, length] of [
    ['10.0.0.0', 33],
    ['x', 8],
    ['::1', 129],
    ['10.0.0.0', 1.5],
  ] as const) {
    t.equal(spell(address, length), `${address}/${length}`, 'what is no range stays')
    t.throws(() => compileRangeTable([[spell(address, length), 1]]), /is not an IP address range/)
  }
  t.throws(() => compileRangeTable([['10.0.0.0', 1]]), /"10.0.0.0" is not an IP address range/)
  t.end()
})

t.test('a table finds the longest range, and on request the next shorter one', (t) => {
  const { below, pick } = seeded(7)
  const v4 = (): string => `10.${below(2)}.${below(2)}.${below(4)}`
  const v6 = (): string => `2001:db8:${below(2)}::${below(4)}`
  for (let round = 0; round < 100; round++) {
    const ranges = new Map<string, { address: string; prefixLength: number }>()
    for (let n = 0; n < 12; n++) {
      const four = below(2) === 0
      const cidr = { address: four ? v4() : v6(), prefixLength: four ? below(33) : pick([0, 16, 33, 47, 64, 127, 128]) }
      ranges.set(canonicalRange(cidr), cidr)
    }
    const table = compileRangeTable([...ranges.keys()].map((range) => [range, range]))
    for (let n = 0; n < 20; n++) {
      const address = pick([v4(), v6(), `::ffff:${v4()}`, '192.0.2.1', '::1'])
      const holding = [...ranges].filter(([, cidr]) => compileCidrs([cidr])(address))
      const expected = holding.sort((a, b) => b[1].prefixLength - a[1].prefixLength).map(([range]) => range)
      const found: string[] = []
      for (let range = table(address); range !== undefined; range = table(address, Number(range.split('/')[1]))) {
        found.push(range)
      }
      if (found.join() !== expected.join()) t.same(found, expected, `${address} in ${[...ranges.keys()].join(' ')}`)
    }
  }
  t.equal(compileRangeTable<number>([])('10.0.0.1'), undefined)
  t.equal(compileRangeTable([['0.0.0.0/0', 1]])('/a/socket'), undefined)
  t.end()
})
