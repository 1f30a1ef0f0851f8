import t from 'tap'
import { createGateway } from '../../lib/cli/gateway.ts'
import { describe, Endpoint, failover, SICKNESSES } from './failover-lab.ts'
import { LONG } from './xds-lab.ts'

/**
 * Four endpoints, 200 requests a second, one of them failing 4 s of every 8; no retries, and nothing configured. What the
 * balancer and outlier detection of the native configuration cost by default.
 */

t.setTimeout(600_000)

const PERIODS = LONG ? 15 : 1
/**
 * Of all requests, in percent; an equal share is 12.5. The short form runs beside other tests, which take its time away: it
 * sees that the balancer is at work, the long one how well.
 */
const MAX_FAILED = LONG ? 1 : 5
const MAX_BACK_MS = LONG ? 2_000 : 4_000

t.test(`one endpoint of four fails, ${PERIODS} times: few requests notice, and it is soon back`, async (t) => {
  // All at once: the time is spent waiting.
  const results = await Promise.all(
    SICKNESSES.map(async (sickness) => {
      const endpoints = await Promise.all([0, 1, 2, 3].map(() => Endpoint.start()))
      const gateway = createGateway({
        listeners: [
          {
            name: 'l',
            address: '127.0.0.1:0',
            http: { routes: [{ match: { prefix: '/' }, action: { kind: 'route', cluster: 'four' } }] },
          },
        ],
        clusters: [{ name: 'four', endpoints: endpoints.map(({ port }) => `127.0.0.1:${port}`) }],
      })
      t.teardown(async () => {
        await gateway.close()
        await Promise.all(endpoints.map((endpoint) => endpoint.close()))
      })
      await gateway.start()
      const [address] = gateway.addresses.l
      const port = address.kind === 'ip' ? address.port : 0
      return failover({ sickness, port, endpoints, perSecond: 200, periods: PERIODS, periodMs: 8_000 })
    }),
  )
  for (const [i, result] of results.entries()) {
    t.comment(`${SICKNESSES[i]}: ${describe(result)}`)
    t.ok(result.failed > 0, `${SICKNESSES[i]}: somebody finds out`)
    t.ok(result.failedPercent <= MAX_FAILED, `${SICKNESSES[i]}: ${result.failedPercent} % failed`)
    t.equal(result.backAfterMs.length, PERIODS)
    for (const ms of result.backAfterMs) t.ok(ms >= 0 && ms <= MAX_BACK_MS, `${SICKNESSES[i]}: back after ${ms} ms`)
  }
})
