/**
 * `node benchmarks/compare.ts [--base REF] [--rounds N] [--seconds S] [--warm-up S] [--variant headgate|relay]
 * [--workload NAME]`
 *
 * CPU per request of a base commit against the working tree. The base is checked out as a git worktree in a temporary
 * folder and borrows this checkout's node_modules; both are measured by this checkout's harness, each in a fresh process
 * per round, the order reversed each round. Exit status 1 when a measurement failed; a slower working tree is reported,
 * not failed.
 */
import { execFileSync } from 'node:child_process'
import { rmSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { headgate } from './end-to-end/headgate.ts'
import { nodePeer, REPOSITORY } from './end-to-end/node-peer.ts'
import { perRequest } from './end-to-end/requests.ts'
import { measureRounds, type SuiteContext } from './end-to-end/suite.ts'
import type { Variant } from './end-to-end/variant.ts'
import { HTTP2_COLUMNS, measureWorkload, WORKLOADS, type Workload, withOrigin } from './end-to-end/workload.ts'
import { makeCertificate } from './load/certificate.ts'
import { prepareMachine } from './load/machine.ts'
import { startOrigin } from './load/origin.ts'
import { temporaryFolder } from './load/temporary.ts'
import { figure, markdownOf, type Table } from './report.ts'

const { values } = parseArgs({
  options: {
    base: { type: 'string', default: 'HEAD' },
    rounds: { type: 'string', default: '5' },
    seconds: { type: 'string', default: '3' },
    'warm-up': { type: 'string', default: '2' },
    variant: { type: 'string', default: 'headgate' },
    workload: { type: 'string', default: 'requests' },
  },
})

function git(...args: string[]): string {
  return execFileSync('git', args, { cwd: REPOSITORY, encoding: 'utf8' }).trim()
}

function variantOf(name: string, root: string): Variant {
  const variant =
    values.variant === 'relay' ? nodePeer(name, 'relay.ts', { floor: true, root }) : headgate(name, { root })
  const missing = variant.missing()
  if (missing !== undefined) throw new Error(`${name}: ${missing}`)
  return variant
}

const workload: Workload | undefined = WORKLOADS[values.workload as keyof typeof WORKLOADS]
if (workload === undefined) throw new Error(`--workload must be one of ${Object.keys(WORKLOADS).join(', ')}`)
const folder = temporaryFolder()
const checkout = join(folder, 'base')
const commit = git('rev-parse', '--short', `${values.base}^{commit}`)
const machine = prepareMachine()
git('worktree', 'add', '--detach', checkout, commit)
try {
  symlinkSync(join(REPOSITORY, 'node_modules'), join(checkout, 'node_modules'))
  const base = `base ${commit}`
  const variants = [variantOf(base, checkout), variantOf('working tree', REPOSITORY)]
  const origin = await startOrigin(machine, folder)
  const options = {
    rounds: Number(values.rounds),
    seconds: Number(values.seconds),
    warmUpSeconds: Number(values['warm-up']),
  }
  const bench = { machine, folder, originPort: origin.port, certificate: await makeCertificate(folder) }
  const progress = (line: string): void => void process.stderr.write(`${line}\n`)
  const context: SuiteContext = { bench, origin, options, candidates: [], variants, skipped: [], progress }
  const rows = await withOrigin(workload.answers, context, (inner) => {
    const measure = async (one: Variant): Promise<Record<string, number>> =>
      perRequest(await measureWorkload(workload, one, inner))
    const units = variants.map((one) => ({ name: one.name, measure: () => measure(one) }))
    return measureRounds(units, inner)
  }).finally(() => origin.stop())
  const table: Table = { title: `${workload.name}, access log off`, base, columns: HTTP2_COLUMNS, rows }
  process.stdout.write(reportOf(table, base))
  if (rows.some((row) => row.failure !== undefined)) process.exitCode = 1
} finally {
  git('worktree', 'remove', '--force', checkout)
  rmSync(folder, { recursive: true, force: true })
}

function reportOf(table: Table, base: string): string {
  const before = figure(table, base, 'cpu')
  const after = figure(table, 'working tree', 'cpu')
  const change =
    before === undefined || after === undefined ? 'unknown' : `${((after / before - 1) * 100).toFixed(1)} %`
  return markdownOf({
    command: ['node benchmarks/compare.ts', ...process.argv.slice(2)].join(' '),
    date: new Date().toISOString(),
    machine: machine.description,
    warnings: machine.warnings,
    suites: [
      { suite: 'compare', method: `Change of CPU per request: ${change}.`, tables: [table], bars: [], skipped: [] },
    ],
  })
}
