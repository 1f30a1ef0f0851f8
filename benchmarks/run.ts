/**
 * `npm run bench -- [SUITE…|all] [--rounds N] [--seconds S] [--warm-up S] [--only NAME,NAME] [--load wrk|own]
 * [--json FILE]`
 *
 * Prints a Markdown report. Exit status 1 when anything failed that was measured; a missed bar or a program that is not
 * installed is only reported. See benchmarks/README.md.
 */
import { rmSync, writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { bodies } from './end-to-end/bodies.ts'
import { idle } from './end-to-end/idle.ts'
import { memory } from './end-to-end/memory.ts'
import { requests } from './end-to-end/requests.ts'
import { routes } from './end-to-end/routes.ts'
import { start } from './end-to-end/start.ts'
import type { RunOptions, Suite, SuiteContext } from './end-to-end/suite.ts'
import type { Variant } from './end-to-end/variant.ts'
import { allVariants } from './end-to-end/variants.ts'
import { prepareMachine } from './load/machine.ts'
import { startOrigin } from './load/origin.ts'
import { temporaryFolder } from './load/temporary.ts'
import { markdownOf, type Report, type SuiteResult } from './report.ts'

const SUITES: ReadonlyMap<string, Suite> = new Map(Object.entries({ requests, bodies, idle, start, routes, memory }))

interface Arguments {
  readonly suites: readonly string[]
  readonly options: RunOptions
  readonly only: readonly string[]
  readonly ownLoad: boolean
  readonly json: string | undefined
}

function readArguments(): Arguments {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      rounds: { type: 'string', default: '3' },
      seconds: { type: 'string', default: '3' },
      'warm-up': { type: 'string', default: '2' },
      only: { type: 'string', default: '' },
      load: { type: 'string', default: 'wrk' },
      json: { type: 'string' },
    },
  })
  const number = (name: string, text: string, least: number): number => {
    const value = Number(text)
    if (!Number.isInteger(value) || value < least)
      throw new Error(`--${name} must be a whole number of at least ${least}`)
    return value
  }
  const suites = positionals.includes('all') ? [...SUITES.keys()] : positionals.length > 0 ? positionals : ['requests']
  for (const name of suites) {
    if (!SUITES.has(name))
      throw new Error(`unknown suite "${name}"; there are ${[...SUITES.keys()].join(', ')} and all`)
  }
  const options = {
    rounds: number('rounds', values.rounds, 1),
    seconds: number('seconds', values.seconds, 1),
    warmUpSeconds: number('warm-up', values['warm-up'], 0),
  }
  if (values.load !== 'wrk' && values.load !== 'own') throw new Error('--load must be wrk or own')
  const only = values.only === '' ? [] : values.only.split(',')
  return { suites, options, only, ownLoad: values.load === 'own', json: values.json }
}

/** Variants whose name is, or begins with, one that was asked for. */
function chosen(only: readonly string[]): Variant[] {
  const variants = allVariants()
  if (only.length === 0) return variants
  for (const name of only) {
    if (!variants.some((variant) => variant.name.startsWith(name))) {
      throw new Error(`--only: no proxy "${name}"; there are ${variants.map((variant) => variant.name).join(', ')}`)
    }
  }
  return variants.filter((variant) => only.some((name) => variant.name.startsWith(name)))
}

async function main(): Promise<void> {
  const { suites, options, only, ownLoad, json } = readArguments()
  const selected = chosen(only)
  const skipped = selected.flatMap((one) =>
    one.missing() === undefined ? [] : [{ name: one.name, reason: one.missing()! }],
  )
  const variants = selected.filter((variant) => variant.missing() === undefined)
  const machine = prepareMachine(ownLoad)
  const folder = temporaryFolder()
  const progress = (line: string): void => void process.stderr.write(`${line}\n`)
  for (const { name, reason } of skipped) progress(`SKIPPED ${name}: ${reason}`)
  const results: SuiteResult[] = []
  try {
    for (const name of suites) {
      const origin = await startOrigin(machine, folder)
      const bench = { machine, folder, originPort: origin.port }
      const context: SuiteContext = { bench, origin, options, variants, skipped, progress }
      progress(`suite ${name}`)
      results.push(await SUITES.get(name)!(context).finally(() => origin.stop()))
    }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
  const report: Report = {
    command: ['npm run bench --', ...process.argv.slice(2)].join(' '),
    date: new Date().toISOString(),
    machine: machine.description,
    warnings: machine.warnings,
    suites: results,
  }
  if (json !== undefined) writeFileSync(json, JSON.stringify(report, undefined, 2))
  process.stdout.write(markdownOf(report))
  if (results.some((suite) => suite.tables.some((table) => table.rows.some((row) => row.failure !== undefined))))
    process.exitCode = 1
}

await main()
