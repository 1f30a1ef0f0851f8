import t from 'tap'
import { seeded } from '../support/random.ts'
import { CALLERS, FaultLab } from './fault-lab.ts'
import { LONG } from './xds-lab.ts'
import { sleep } from './xds-load.ts'

/** Upstreams in processes of their own are killed (F4) and stopped (F5) under constant load. */

t.setTimeout(600_000)

const KILLS = LONG ? 20 : 2
/** An endpoint is away for so long, and all of them are there for so long. */
const AWAY_MS = LONG ? 1_500 : 400
const STOPS = LONG ? 6 : 1
const STOPPED_MS = LONG ? 10_000 : 3_000
/** Ejections last a second or two: so often it is asked again while it is stopped. */
const ROUNDS = Math.ceil(STOPPED_MS / 2_000)

const EJECTIONS = 'cluster.four.outlier_detection.ejections_total'

for (const protocol of ['http1', 'http2'] as const) {
  t.test(`${protocol}: kill -9 of one of four upstreams, ${KILLS} times: what may go twice is not lost`, async (t) => {
    const lab = await FaultLab.start(t, { protocol })
    const ejectedMs: number[] = []
    for (let i = 0; i < KILLS; i++) {
      await lab.load.progress(30)
      const before = (await lab.gateway.stats()).orZero(EJECTIONS)
      const origin = lab.origins[i % lab.origins.length]
      const killedMs = performance.now()
      await origin.kill()
      await lab.gateway.until((stats) => stats.orZero(EJECTIONS) > before, 'ejection')
      ejectedMs.push(performance.now() - killedMs)
      await sleep(AWAY_MS)
      await origin.restart()
      await sleep(AWAY_MS)
    }
    const stats = await lab.gateway.stats()
    const { requests, interrupted } = await lab.balance(t)
    t.ok(interrupted <= KILLS * CALLERS, `${interrupted} were interrupted: no more than were under way`)
    t.ok(stats.get('cluster.four.upstream_rq_retry') > 0, 'requests went again')
    t.comment(
      `${requests} requests, ${KILLS} kills, ${interrupted} interrupted, ejected within ${Math.round(Math.max(...ejectedMs))} ms`,
    )
  })

  t.test(`${protocol}: one of four upstreams stops for ${STOPPED_MS} ms, ${STOPS} times`, async (t) => {
    const lab = await FaultLab.start(t, { protocol })
    const random = seeded(5)
    for (let i = 0; i < STOPS; i++) {
      await lab.load.progress(60)
      const origin = random.pick(lab.origins)
      origin.stop()
      await sleep(STOPPED_MS)
      origin.resume()
      await lab.load.progress(60)
    }
    const stats = await lab.gateway.stats()
    const { requests, interrupted } = await lab.balance(t)
    t.ok(interrupted <= STOPS * CALLERS * ROUNDS, `${interrupted} were interrupted: no more than were under way`)
    t.ok(stats.get('cluster.four.upstream_rq_per_try_timeout') > 0, 'somebody waited in vain, and went elsewhere')
    if (protocol === 'http2') t.ok(stats.get('cluster.four.http2.keepalive_timeout') > 0, 'PINGs found out')
    t.comment(`${requests} requests, ${STOPS} stops, ${interrupted} interrupted`)
  })
}
