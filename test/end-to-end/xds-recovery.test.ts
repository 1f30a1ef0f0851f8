import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { LONG, XdsLab } from './xds-lab.ts'
import { sleep } from './xds-load.ts'
import { KINDS, typeOf } from './xds-resources.ts'

/** A control plane that has forgotten everything, or is not there when the gateway starts. */

t.setTimeout(120_000)

/** Until the gateway has what the control plane has, after that is back. */
const EQUAL_MS = 5_000

for (const api of ['DELTA_GRPC', 'GRPC'] as const) {
  t.test(
    `${api}: it knows nothing after a restart: nothing is deleted before it does`,
    { timeout: 60_000 },
    async (t) => {
      const lab = await XdsLab.start(t, { api })
      const { plane, load } = lab
      await load.progress(20)
      const before = await lab.gateway.stats()
      await plane.stop()
      for (const kind of KINDS) plane.set(typeOf(kind), [])
      const from = plane.requests.length
      await plane.restart()
      for (const kind of ['listener', 'cluster'] as const) {
        await plane.request((r) => r.kind === 'ack' && r.typeName === typeOf(kind), 'an answer to nothing', from)
      }
      await load.progress(100)
      const after = await lab.gateway.stats()
      for (const name of ['listener_manager.total_listeners_active', 'cluster_manager.active_clusters']) {
        t.equal(after.get(name), before.get(name), name)
      }
      for (const kind of KINDS) lab.pushAgain(kind)
      await lab.settled(EQUAL_MS)
      for (const kind of KINDS) lab.push(kind)
      await lab.settled(EQUAL_MS)
      t.same(lab.unrefused(), [])
      t.comment(`${await lab.balance(t)} requests`)
    },
  )
}

// A delta server that has nothing new says nothing: that it agrees is known after 15 s.
for (const api of LONG ? (['GRPC', 'DELTA_GRPC'] as const) : (['GRPC'] as const)) {
  t.test(
    `${api}: a cold start without it: what was last good serves, marked stale until it is confirmed`,
    { timeout: 90_000 },
    (t) => coldStart(t, api),
  )
}

async function coldStart(t: Test, api: 'GRPC' | 'DELTA_GRPC'): Promise<void> {
  const lab = await started(t, api)
  const { plane } = lab
  const stale = /stale_resources/
  await plane.stop()
  await lab.gateway.terminate()
  await lab.startGateway(t)
  const kept = await lab.gateway.until((stats) => stats.orZero('headgate.xds.stale') > 0, 'last good configuration')
  t.comment(`${kept.get('headgate.xds.stale')} resources are stale`)
  t.same(await lab.differences(), [], 'and is what the control plane had')
  t.match(await lab.gateway.ask('/config_dump'), stale)
  await lab.load.progress(50)
  await plane.restart()
  await lab.gateway.until((stats) => stats.get('headgate.xds.stale') === 0, 'confirmation', 40_000)
  t.notMatch(await lab.gateway.ask('/config_dump'), stale)
  for (const kind of KINDS) lab.push(kind)
  await lab.settled(EQUAL_MS)
  t.same(lab.unrefused(), [])
  t.comment(`${await lab.balance(t)} requests`)
}

/** With a state directory in which everything is kept. */
async function started(t: Test, api: 'GRPC' | 'DELTA_GRPC'): Promise<XdsLab> {
  const folder = mkdtempSync(join(tmpdir(), 'headgate-state-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const lab = await XdsLab.start(t, { api, flags: ['--state-dir', folder] })
  while (readdirSync(folder).length < KINDS.length) await sleep(50)
  return lab
}
