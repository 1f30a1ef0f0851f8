import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import { bootstrap } from './envoy/bootstrap.ts'
import { type Data, to } from './envoy/group.ts'
import { startHeadgate } from './envoy/processes.ts'

/** Headgate before one upstream, until the test ends; answers its port. */
export async function gatewayBefore(t: Test, upstreamPort: number, hcm: Data = {}): Promise<number> {
  const folder = mkdtempSync(join(tmpdir(), 'headgate-interop-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const group = { name: 'ingress', hcm: { access_log: [], ...hcm }, routes: [to({ prefix: '/' })], probes: [] }
  const gateway = await startHeadgate(bootstrap([group], { origin: upstreamPort, closed: 9 }), folder)
  t.teardown(() => gateway.stop())
  return gateway.ports.get('ingress') ?? 0
}
