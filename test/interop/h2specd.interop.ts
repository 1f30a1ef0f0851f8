import { createServer } from 'node:net'
import t, { type Test } from 'tap'
import { to } from './envoy/group.ts'
import { type Gateway, startGateway } from './gateway.ts'
import { http2Cluster, type LogLine } from './gateway-config.ts'
import { needing, program } from './programs.ts'
import { freePort, launch } from './servers.ts'

/**
 * h2specd, a server that breaks the protocol in another way on each of its ports, as an upstream. Without a command it
 * waits for somebody's requests and reports on the port of its own; each of its tests gets one request through Headgate.
 */

t.setTimeout(300_000)

const TESTS = 57
/**
 * What the client of a broken upstream may see, with the flags that the log must have then. 200: the response had begun.
 * 503: h2specd had no complaint, and went away without an answer.
 */
const FLAGS: { readonly [status: number]: RegExp } = { 200: /^(-|UPE|UC|UR)$/, 502: /^UPE$/, 503: /^(UC|UR)$/ }

interface Case {
  readonly name: string
  readonly port: number
}

interface Report {
  readonly cases: readonly (Case & { readonly verdict: 'passed' | 'failed' | 'not run'; readonly why: string })[]
}

interface Outcome extends Case {
  readonly status: number
  readonly error: string | undefined
}

t.test(
  'h2specd: our client finds every violation, answers 502 or 503 for it, and neither hangs nor dies',
  needing('h2specd'),
  async (t) => {
    const from = await freeRange(TESTS)
    const reporter = await freePort()
    await launch(t, program('h2specd'), ['--strict', '--port', String(reporter), '--from-port', String(from)], reporter)
    const { cases } = await reportOf(reporter)
    t.equal(cases.length, TESTS)
    const gateway = await gatewayBeforeEach(t, cases)
    const outcomes: Outcome[] = []
    const waiting = [...cases]
    const caller = async (): Promise<void> => {
      for (let next = waiting.shift(); next !== undefined; next = waiting.shift())
        outcomes.push(await ask(gateway, next))
    }
    await Promise.all([caller(), caller(), caller(), caller(), caller(), caller()])
    const log = new Map((await gateway.log(TESTS)).map((line) => [line.path, line]))
    t.equal(log.size, TESTS, 'one line in the access log for each')
    for (const outcome of outcomes) check(t, outcome, log.get(pathOf(outcome)))
    for (const { name, verdict, why } of (await finalReport(reporter)).cases)
      t.equal(verdict, 'passed', `h2specd: ${name} ${why}`)
    const refused = outcomes.filter(({ status }) => status === 502)
    t.ok(refused.length >= 30, `${refused.length} violations became a 502`)
    const after = await fetch(`http://127.0.0.1:${gateway.port()}/after`)
    t.equal(await after.text(), 'still here')
    await gateway.assertUnharmed(t)
  },
)

function check(t: Test, { name, status, error }: Outcome, line: LogLine | undefined): void {
  t.ok(status in FLAGS, `${name}: status ${status} ${error ?? ''}`)
  t.equal(line?.code, status, `${name}: the log has the same status`)
  t.match(line?.flags ?? '-', FLAGS[status] ?? /nothing/, `${name}: ${status} ${line?.flags} ${line?.details}`)
  const broken = status === 200 && line?.flags !== '-' && line?.flags !== null
  t.equal(error !== undefined, broken, `${name}: a response that broke off is no whole one to the client: ${error}`)
}

function pathOf({ port }: Case): string {
  return `/${port}/`
}

function gatewayBeforeEach(t: Test, cases: readonly Case[]): Promise<Gateway> {
  const routes = cases.map((test) => to({ prefix: pathOf(test) }, { cluster: `case-${test.port}`, timeout: '20s' }))
  const after = { match: { path: '/after' }, direct_response: { status: 200, body: { inline_string: 'still here' } } }
  return startGateway(
    t,
    [{ routes: [after, ...routes] }],
    cases.map(({ port }) => http2Cluster(`case-${port}`, port)),
  )
}

/** The status, and what became of the body where it broke off. */
async function ask(gateway: Gateway, test: Case): Promise<Outcome> {
  const response = await fetch(`http://127.0.0.1:${gateway.port()}${pathOf(test)}`)
  const error = await response.arrayBuffer().then(
    () => undefined,
    (problem: Error) => String(problem.cause ?? problem),
  )
  return { ...test, status: response.status, error }
}

/** Some tests look on for a while after the answer. */
async function finalReport(port: number): Promise<Report> {
  for (;;) {
    const report = await reportOf(port)
    if (report.cases.every(({ verdict }) => verdict !== 'not run')) return report
    await new Promise((resolve) => setTimeout(resolve, 200))
  }
}

async function reportOf(port: number): Promise<Report> {
  const html = await (await fetch(`http://127.0.0.1:${port}/report`)).text()
  const rows = html.split('<div>').filter((row) => row.includes('<a href='))
  return {
    cases: rows.map((row) => {
      const found = /<a href="http:\/\/[\d.]+:(\d+)\/"[^>]*>[^<]*<\/a>([^<]*)/.exec(row)
      const verdict = row.includes('✔') ? 'passed' : row.includes('✖') ? 'failed' : 'not run'
      const why = row.slice((found?.index ?? 0) + (found?.[0].length ?? 0)).replace(/<[^>]*>|&nbsp;/g, ' ')
      return { port: Number(found?.[1]), name: found?.[2] ?? '', verdict, why: why.trim() }
    }),
  }
}

/** The first port of so many in a row that are free. */
async function freeRange(count: number): Promise<number> {
  for (let from = 20_000 + (process.pid % 100) * 100; from < 32_000; from += 100) {
    const ports = Array.from({ length: count }, (_, index) => from + index)
    const free = await Promise.all(ports.map(isFree))
    if (free.every(Boolean)) return from
  }
  throw new Error(`no ${count} free ports in a row`)
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer()
    server.once('error', () => resolve(false))
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)))
  })
}
