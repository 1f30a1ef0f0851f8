import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { ACTIONS, SHED_POINTS } from '../lib/config/overload.ts'
import { GRPC_RETRY_CONDITIONS, RETRY_CONDITIONS } from '../lib/core/retry-policy.ts'
import { flagWords, HEALTH } from '../lib/upstream/health-flags.ts'
import { OUTLIER_KINDS } from '../lib/upstream/outlier/config.ts'

/** The tables of the README that stand behind `<!-- table: name -->` name what the code has: no more and no less. */

const ROOT = join(import.meta.dirname, '..')

/** What the rows of a table name in backticks in one column. */
function named(table: string, column: number): string[] {
  const readme = readFileSync(join(ROOT, 'README.md'), 'utf8')
  const after = readme.split(`<!-- table: ${table} -->`)[1]
  if (after === undefined) throw new Error(`the README has no table "${table}"`)
  const rows = after.trimStart().split('\n\n')[0].split('\n').slice(2)
  return rows.map((row) => /^`([^`]+)`$/.exec(row.split('|')[column].trim())?.[1] ?? `no name in ${row}`)
}

/** The members of a union of literals, as its source writes it: types are gone when a test runs. */
function union(file: string, pattern: RegExp): string[] {
  const source = readFileSync(join(ROOT, file), 'utf8')
  const found = pattern.exec(source)?.[1]
  if (found === undefined) throw new Error(`${file} has no ${pattern}`)
  return [...found.matchAll(/'([^']+)'/g)].map((match) => match[1])
}

const BALANCERS = 'lib/upstream/balance/config.ts'

/** Names of the interfaces that a union of types comes down to. */
function members(name: string): string[] {
  const source = readFileSync(join(ROOT, BALANCERS), 'utf8')
  const found = new RegExp(`^export type ${name} =([^{]*?)(?:\\n\\n|\\n$)`, 'm').exec(source)?.[1]
  return found === undefined ? [name] : [...found.matchAll(/\w+/g)].flatMap(([member]) => members(member))
}

/** The `kind` of an interface. */
function kindOf(name: string): string {
  const source = readFileSync(join(ROOT, BALANCERS), 'utf8')
  const part = source.split(`export interface ${name} `)[1] ?? ''
  return /^ {2}readonly kind: '([^']+)'$/m.exec(part)?.[1] ?? `no kind in ${name}`
}

const CODE: Readonly<Record<string, { readonly column: number; readonly names: () => readonly string[] }>> = {
  balancers: { column: 1, names: () => members('BalancerConfig').map(kindOf) },
  'cluster types': {
    column: 1,
    names: () => union('lib/upstream/config.ts', /^ {2}readonly type:\n((?: {4}\| '[a-z-]+'\n)+)/m),
  },
  health: {
    column: 2,
    names: () =>
      flagWords(Object.values(HEALTH).reduce((all, bit) => all | bit, 0))
        .slice(1)
        .split('/'),
  },
  'outlier detection': { column: 1, names: () => OUTLIER_KINDS },
  'resource monitors': {
    column: 1,
    names: () =>
      [...readFileSync(join(ROOT, 'lib/config/overload.ts'), 'utf8').matchAll(/ kind: '([^']+)'/g)].map(
        ([, kind]) => kind,
      ),
  },
  'overload actions': { column: 1, names: () => Object.keys(ACTIONS) },
  'load shed points': { column: 1, names: () => Object.keys(SHED_POINTS) },
  'retry conditions': { column: 1, names: () => [...RETRY_CONDITIONS, ...GRPC_RETRY_CONDITIONS] },
}

for (const [table, { column, names }] of Object.entries(CODE)) {
  t.test(`the table of ${table} names what there is`, async (t) => {
    const inCode = names()
    t.ok(inCode.length > 4)
    t.strictSame(named(table, column).sort(), [...inCode].sort())
  })
}
