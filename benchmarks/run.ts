/**
 * `npm run bench -- [SUITE…|all] [--rounds N] [--seconds S] [--warm-up S] [--only NAME,NAME] [--load tools|own]
 * [--json FILE] [--quick]`
 *
 * Prints a Markdown report. `--quick` is for the record in about ten minutes with `all`: 2 rounds of 2 s after 1 s of
 * warm-up unless told otherwise, the main proxies alone, one round of the slow suites. Exit status 1 when anything failed that was measured; a missed bar or a program that is not
 * installed is only reported. See benchmarks/README.md.
 */
import { rmSync, writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { bodies } from './end-to-end/bodies.ts'
import { chains } from './end-to-end/chains.ts'
import { grpc } from './end-to-end/grpc.ts'
import { handshakes } from './end-to-end/handshakes.ts'
import { hbone } from './end-to-end/hbone.ts'
import { http2, http2Upstream } from './end-to-end/http2.ts'
import { http2Bodies } from './end-to-end/http2-bodies.ts'
import { http2Idle, idle, tlsIdle } from './end-to-end/idle.ts'
import { memory } from './end-to-end/memory.ts'
import { requests } from './end-to-end/requests.ts'
import { resilience } from './end-to-end/resilience.ts'
import { routes } from './end-to-end/routes.ts'
import { start } from './end-to-end/start.ts'
import { streams } from './end-to-end/streams.ts'
import { type RunOptions, type Suite, type SuiteContext, speaking } from './end-to-end/suite.ts'
import { tcp } from './end-to-end/tcp.ts'
import { tls } from './end-to-end/tls.ts'
import { PLAIN_HTTP1, type Variant } from './end-to-end/variant.ts'
import { allVariants } from './end-to-end/variants.ts'
import { workers } from './end-to-end/workers.ts'
import { xds } from './end-to-end/xds.ts'
import { makeCertificate } from './load/certificate.ts'
import { prepareMachine } from './load/machine.ts'
import { startOrigin } from './load/origin.ts'
import { temporaryFolder } from './load/temporary.ts'
import { markdownOf, type Report, type SuiteResult } from './report.ts'

const SUITES: ReadonlyMap<string, Suite> = new Map(
  Object.entries({
    requests: plainHttp1(requests),
    resilience: plainHttp1(resilience),
    bodies,
    idle,
    start: plainHttp1(start),
    routes: plainHttp1(routes),
    memory: plainHttp1(memory),
    http2,
    'http2-upstream': http2Upstream,
    grpc,
    'http2-bodies': http2Bodies,
    streams,
    'http2-idle': http2Idle,
    tls,
    handshakes,
    'tls-idle': tlsIdle,
    tcp,
    hbone,
    chains,
    workers: plainHttp1(workers),
    xds,
  }),
)

/** With `--quick` these have one round: they hold memory for a while, or take long to start, rather than counting microseconds. */
const SLOW: ReadonlySet<string> = new Set([
  'idle',
  'start',
  'memory',
  'streams',
  'http2-idle',
  'tls-idle',
  'chains',
  'xds',
])

/** A suite that knows one kind of traffic only. */
function plainHttp1(suite: Suite): Suite {
  return (context) => suite(speaking(PLAIN_HTTP1, context))
}

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
      rounds: { type: 'string' },
      seconds: { type: 'string' },
      'warm-up': { type: 'string' },
      quick: { type: 'boolean', default: false },
      only: { type: 'string', default: '' },
      load: { type: 'string', default: 'tools' },
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
  const { quick } = values
  const options = {
    rounds: number('rounds', values.rounds ?? (quick ? '2' : '3'), 1),
    seconds: number('seconds', values.seconds ?? (quick ? '2' : '3'), 1),
    warmUpSeconds: number('warm-up', values['warm-up'] ?? (quick ? '1' : '2'), 0),
    quick,
  }
  if (values.load !== 'tools' && values.load !== 'own') throw new Error('--load must be tools or own')
  const only = values.only === '' ? [] : values.only.split(',')
  return { suites, options, only, ownLoad: values.load === 'own', json: values.json }
}

/** Variants whose name is, or begins with, one that was asked for. */
function chosen(only: readonly string[], quick: boolean): Variant[] {
  const variants = allVariants()
  if (only.length === 0) return quick ? variants.filter((variant) => variant.quick) : variants
  for (const name of only) {
    if (!variants.some((variant) => variant.name.startsWith(name))) {
      throw new Error(`--only: no proxy "${name}"; there are ${variants.map((variant) => variant.name).join(', ')}`)
    }
  }
  return variants.filter((variant) => only.some((name) => variant.name.startsWith(name)))
}

async function main(): Promise<void> {
  const { suites, options, only, ownLoad, json } = readArguments()
  const candidates = chosen(only, options.quick === true)
  const machine = prepareMachine(ownLoad)
  const folder = temporaryFolder()
  const progress = (line: string): void => void process.stderr.write(`${line}\n`)
  for (const one of candidates) if (one.missing() !== undefined) progress(`SKIPPED ${one.name}: ${one.missing()}`)
  const results: SuiteResult[] = []
  try {
    const certificate = await makeCertificate(folder)
    for (const name of suites) {
      const origin = await startOrigin(machine, folder)
      const bench = { machine, folder, originPort: origin.port, certificate }
      const rounds = options.quick === true && SLOW.has(name) ? 1 : options.rounds
      const shared = { bench, origin, candidates, variants: [], skipped: [], progress }
      const context: SuiteContext = { ...shared, options: { ...options, rounds } }
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
