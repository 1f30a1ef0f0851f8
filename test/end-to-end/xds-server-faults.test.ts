import t from 'tap'
import { seeded } from '../support/random.ts'
import { LONG, XdsLab } from './xds-lab.ts'
import { sleep } from './xds-load.ts'
import { KINDS } from './xds-resources.ts'

/** A control plane that dies again and again, or stops, under constant load. */

t.setTimeout(600_000)

const RESTARTS = LONG ? 30 : 5
const STOPPED_MS = LONG ? 10_000 : 2_000
/** Until the gateway has what the control plane has, after that is back. */
const EQUAL_MS = 5_000

for (const api of ['DELTA_GRPC', 'GRPC'] as const) {
  t.test(
    `${api}: killed and restarted ${RESTARTS} times, with other resources each time: nothing is lost`,
    { timeout: 300_000 },
    async (t) => {
      const lab = await XdsLab.start(t, { api })
      const { plane, load } = lab
      const random = seeded(7)
      for (let i = 0; i < RESTARTS; i++) {
        await plane.stop()
        await load.progress(10 + random.below(40))
        for (const kind of KINDS) if (random.below(2) === 0) lab.push(kind)
        await plane.restart()
        await lab.settled(EQUAL_MS)
      }
      t.same(lab.unrefused(), [])
      t.comment(`${await lab.balance(t)} requests`)
    },
  )
}

for (const pings of [false, true]) {
  const what = pings ? 'and PINGs notice' : 'and nobody notices'
  t.test(`its wire is dead for ${STOPPED_MS} ms, ${what}: nothing is lost`, { timeout: 120_000 }, async (t) => {
    const lab = await XdsLab.start(t, { pings })
    const { plane, load } = lab
    await load.progress(20)
    const connections = plane.wire.accepted
    plane.wire.freeze()
    for (const kind of KINDS) lab.push(kind)
    if (pings) {
      await lab.gateway.until((stats) => stats.get('control_plane.connected_state') === 0, 'loss of the connection')
    }
    await sleep(STOPPED_MS)
    plane.wire.thaw()
    await lab.settled(EQUAL_MS)
    if (!pings) t.equal(plane.wire.accepted, connections, 'the same connection goes on')
    else t.ok(plane.wire.accepted > connections, 'another connection was made')
    t.same(lab.unrefused(), [])
    t.comment(`${await lab.balance(t)} requests`)
  })
}
