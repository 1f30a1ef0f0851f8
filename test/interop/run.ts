import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { findProgram, missing, type ProgramName, unable } from './programs.ts'

/** A file of tap tests, and the programs without which it skips itself. */
interface Suite {
  readonly file: string
  /** Each test of the file needs one or more of these; its name says which. */
  readonly programs: readonly ProgramName[]
}

const SUITES: readonly Suite[] = [
  { file: 'envoy-differential.interop.ts', programs: ['envoy'] },
  { file: 'envoy-transport.interop.ts', programs: ['envoy'] },
  { file: 'failover.interop.ts', programs: ['envoy'] },
  { file: 'clients.interop.ts', programs: ['curl', 'wrk', 'nginx', 'haproxy'] },
  { file: 'h2spec.interop.ts', programs: ['h2spec'] },
  { file: 'h2specd.interop.ts', programs: ['h2specd'] },
  { file: 'http2-clients.interop.ts', programs: ['curl', 'nghttp', 'h2load'] },
  { file: 'http2-proxies.interop.ts', programs: ['nghttpx', 'nghttpd', 'haproxy', 'nginx', 'envoy'] },
  { file: 'grpc-go.interop.ts', programs: ['grpc-go-client', 'grpc-go-server'] },
  { file: 'openssl.interop.ts', programs: ['openssl'] },
  { file: 'testssl.interop.ts', programs: ['testssl', 'openssl'] },
  { file: 'go-pq.interop.ts', programs: ['go'] },
  { file: 'go-control-plane.interop.ts', programs: ['go-control-plane', 'envoy'] },
  { file: 'chromium.interop.ts', programs: ['chromium'] },
]

interface Tally {
  passed: number
  failed: number
  readonly skipped: string[]
}

/**
 * Runs the suites one after the other, prints their TAP, names what was skipped and why, and ends with
 * `N passed, N failed, N skipped`. The exit status is 1 where anything failed, or where a suite skipped a test whose
 * programs are all here: a skip must never hide that nothing was tested. Arguments name suites (default: all of them);
 * with `--again` a suite that fails runs once more, and then that counts: several proxies on a shared machine are late at times.
 */
const total: Tally = { passed: 0, failed: 0, skipped: [] }
const again = process.argv.includes('--again')
const named = process.argv.slice(2).filter((argument) => !argument.startsWith('--'))
for (const suite of SUITES.filter(({ file }) => named.length === 0 || named.includes(file))) {
  process.stdout.write(`# ${suite.file}: ${suite.programs.map(whereIs).join(', ')}\n`)
  let tally = await run(suite)
  if (again && tally.failed > 0) {
    process.stdout.write(`FAILED AT FIRST, ONCE MORE: ${suite.file}\n`)
    tally = await run(suite)
  }
  total.passed += tally.passed
  total.failed += tally.failed
  total.skipped.push(...tally.skipped)
}
for (const skipped of total.skipped) process.stdout.write(`SKIPPED: ${skipped}\n`)
process.stdout.write(`${total.passed} passed, ${total.failed} failed, ${total.skipped.length} skipped\n`)
process.exitCode = total.failed > 0 ? 1 : 0

function whereIs(name: ProgramName): string {
  return `${name} ${findProgram(name) ?? 'is missing'}`
}

async function run(suite: Suite): Promise<Tally> {
  const tally: Tally = { passed: 0, failed: 0, skipped: [] }
  const file = fileURLToPath(new URL(suite.file, import.meta.url))
  const child = spawn(process.execPath, [file], { stdio: ['ignore', 'pipe', 'inherit'] })
  let text = ''
  child.stdout.on('data', (chunk: Buffer) => {
    text += chunk.toString('utf8')
    process.stdout.write(chunk)
  })
  const [status] = (await once(child, 'close')) as [number | null]
  count(text, suite, tally)
  if (status === 0 && !/^1\.\.[1-9]/m.test(text)) fail(`${suite.file} ran no test`, tally)
  if (status !== 0 && tally.failed === 0) fail(`${suite.file} ended with status ${status}`, tally)
  return tally
}

/** Counts the results of the outermost level. */
function count(text: string, suite: Suite, tally: Tally): void {
  for (const [, verdict, rest] of text.matchAll(/^(ok|not ok) \d+ - (.*)$/gm)) {
    const skip = /^(.*?) # SKIP ?(.*)$/.exec(rest)
    if (verdict === 'not ok') tally.failed++
    else if (skip === null) tally.passed++
    else if (skip[2].startsWith(unable(''))) tally.skipped.push(`${suite.file}: ${skip[1]}: ${skip[2]}`)
    else if (missing(suite.programs.filter((name) => skip[2].includes(name))) === undefined) {
      fail(`${suite.file}: "${skip[1]}" was skipped although its programs are here (${skip[2]})`, tally)
    } else tally.skipped.push(`${suite.file}: ${skip[1]}: ${skip[2]}`)
  }
}

function fail(why: string, tally: Tally): void {
  tally.failed++
  process.stdout.write(`FAILED: ${why}\n`)
}
