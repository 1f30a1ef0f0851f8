import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { Origin } from '../support/origin.ts'
import { WireClient } from '../support/wire.ts'
import { bootstrap } from './envoy/bootstrap.ts'
import { matching } from './envoy/cases/matching.ts'
import { redirecting } from './envoy/cases/redirects.ts'
import { type Bench, compareGroup } from './envoy/compare-group.ts'
import type { Group } from './envoy/group.ts'
import { script } from './envoy/observe.ts'
import { startEnvoy, startHeadgate } from './envoy/processes.ts'
import { findProgram, missing } from './programs.ts'

const SETS: { readonly [name: string]: readonly Group[] } = { matching, redirecting }

const why = missing(['envoy'])
/** Only these sets, for work on one of them: `node envoy-differential.interop.ts matching`. */
const only = process.argv.slice(2).filter((name) => Object.hasOwn(SETS, name))

for (const [name, groups] of Object.entries(SETS)) {
  if (only.length > 0 && !only.includes(name)) continue
  t.test(`Envoy and Headgate agree: ${name}`, { skip: why ?? false, timeout: 120_000 }, async (t) => {
    const bench = await start(t, groups)
    for (const group of groups) {
      await t.test(group.name, async (t) => {
        for (const { probe, found } of await compareGroup(bench, group)) t.same(found, [], probe)
        t.ok(group.probes.length > 0, `${group.probes.length} probes`)
      })
    }
  })
}

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
