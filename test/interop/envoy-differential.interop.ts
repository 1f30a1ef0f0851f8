import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { Origin } from '../support/origin.ts'
import { WireClient } from '../support/wire.ts'
import { compareAdmin } from './envoy/admin.ts'
import { bootstrap } from './envoy/bootstrap.ts'
import { accessLogs } from './envoy/cases/access-logs.ts'
import { connectionManager } from './envoy/cases/connection-manager.ts'
import { headerEdits } from './envoy/cases/header-edits.ts'
import { httpFilters } from './envoy/cases/http-filters.ts'
import { limits } from './envoy/cases/limits.ts'
import { matching } from './envoy/cases/matching.ts'
import { observed } from './envoy/cases/observed.ts'
import { redirecting } from './envoy/cases/redirects.ts'
import { upstreams } from './envoy/cases/upstreams.ts'
import { type Bench, compareGroup } from './envoy/compare-group.ts'
import type { Group } from './envoy/group.ts'
import { Explanations, renderDifferences } from './envoy/known-differences.ts'
import { script } from './envoy/observe.ts'
import { startEnvoy, startHeadgate, validateWithEnvoy } from './envoy/processes.ts'
import { findProgram, missing } from './programs.ts'

/**
 * Real Envoy and Headgate, started from the same bootstrap, are sent the same bytes; what comes back, what the origin
 * got and what the access logs say must be equal but for the table of README.md. Names as arguments run only those
 * sets: `node test/interop/envoy-differential.interop.ts matching`.
 */
const SETS: { readonly [name: string]: readonly Group[] } = {
  matching,
  redirecting,
  headerEdits,
  connectionManager,
  upstreams,
  accessLogs,
  httpFilters,
  limits,
  observed,
}

// tap ends a file after 30 s unless told otherwise.
t.setTimeout(900_000)

const skip = missing(['envoy']) ?? false
const only = process.argv.slice(2).filter((name) => Object.hasOwn(SETS, name))
const known = new Explanations()

for (const [name, groups] of Object.entries(SETS)) {
  if (only.length > 0 && !only.includes(name)) continue
  t.test(`Envoy and Headgate agree: ${name}`, { skip, timeout: 400_000 }, async (t) => {
    const bench = await start(t, groups)
    for (const group of groups) {
      await t.test(group.name, async (t) => {
        for (const { probe, found } of await compareGroup(bench, group, known)) t.same(found, [], probe)
        t.ok(group.probes.length > 0, `${group.probes.length} probes`)
      })
    }
    if (name === 'observed') for (const { what, found } of await compareAdmin(bench)) t.same(found, [], what)
    t.same(bench.origin.violations, [], 'nobody broke HTTP/1.1 towards the origin')
  })
}

t.test('every row of the table still shows up, and README.md holds the table', { skip }, async (t) => {
  if (only.length === 0) t.same(known.unused(), [])
  const readme = readFileSync(new URL('./README.md', import.meta.url), 'utf8')
  const unpadded = readme.replace(/ +/g, ' ').replace(/-{3,}/g, '---')
  t.ok(unpadded.includes(renderDifferences().replace(/ +/g, ' ')), 'print it with renderDifferences()')
})

t.test('Envoy accepts the front-proxy fixture', { skip }, async (t) => {
  const fixture = fileURLToPath(new URL('../fixtures/envoy/front-proxy.yaml', import.meta.url))
  t.same(await validateWithEnvoy(findProgram('envoy') ?? '', fixture), { status: 0, said: '' })
})

async function start(t: Test, groups: readonly Group[]): Promise<Bench> {
  const folder = mkdtempSync(join(tmpdir(), 'headgate-envoy-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const origin = await Origin.start(script)
  t.teardown(() => origin.close())
  const client = new WireClient()
  t.teardown(() => client.closeAll())
  const text = bootstrap(groups, { origin: origin.port, closed: await closedPort() })
  const headgate = await startHeadgate(text, join(folder, 'headgate'))
  t.teardown(() => headgate.stop())
  const envoy = await startEnvoy(findProgram('envoy') ?? '', text, join(folder, 'envoy'))
  t.teardown(() => envoy.stop())
  return { envoy, headgate, origin, client }
}

/** A port that was free a moment ago, so that connecting to it is refused. */
async function closedPort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  server.close()
  await once(server, 'close')
  return port
}
