import { join } from 'node:path'
import t, { type Test } from 'tap'
import { bootstrap } from '../end-to-end/bootstrap.ts'
import {
  describe,
  Endpoint,
  type FailoverResult,
  failover,
  SICKNESSES,
  type Sickness,
} from '../end-to-end/failover-lab.ts'
import { LONG } from '../end-to-end/xds-lab.ts'
import { type RunningProxy, startEnvoy, startHeadgate } from './envoy/processes.ts'
import { needing, program } from './programs.ts'
import { folderFor } from './servers.ts'

/**
 * The failover experiment (`../end-to-end/failover.test.ts`) with other balancing: what Envoy's defaults cost, with outlier
 * detection and without, and Headgate's with the same bootstrap.
 */

t.setTimeout(600_000)

const PERIODS = LONG ? 15 : 1

interface Case {
  readonly name: string
  readonly proxy: 'envoy' | 'headgate'
  /** Of the cluster. */
  readonly fields: Readonly<Record<string, unknown>>
}

/** Envoy's default of 10 % is none of four. */
const EJECTING = { outlier_detection: { max_ejection_percent: 50 } }

const CASES: readonly Case[] = [
  { name: 'Envoy, defaults', proxy: 'envoy', fields: {} },
  { name: 'Envoy, half of the endpoints may be ejected', proxy: 'envoy', fields: EJECTING },
  { name: 'Headgate, the same bootstrap as that', proxy: 'headgate', fields: EJECTING },
]

async function run(t: Test, { proxy, fields }: Case, sickness: Sickness): Promise<FailoverResult> {
  const endpoints = await Promise.all([0, 1, 2, 3].map(() => Endpoint.start()))
  const lbEndpoints = endpoints.map(({ port }) => ({
    endpoint: { address: { socket_address: { address: '127.0.0.1', port_value: port } } },
  }))
  const config = {
    ...bootstrap({
      routes: [{ match: { prefix: '/' }, route: { cluster: 'four' } }],
      clusters: [
        {
          name: 'four',
          connect_timeout: '5s',
          load_assignment: { cluster_name: 'four', endpoints: [{ lb_endpoints: lbEndpoints }] },
          ...fields,
        },
      ],
    }),
    admin: { address: { socket_address: { address: '127.0.0.1', port_value: 0 } } },
  }
  const text = JSON.stringify(config)
  const folder = join(folderFor(t), sickness)
  const running: RunningProxy =
    proxy === 'envoy' ? await startEnvoy(program('envoy'), text, folder) : await startHeadgate(text, folder)
  t.teardown(async () => {
    await running.stop()
    await Promise.all(endpoints.map((endpoint) => endpoint.close()))
  })
  const port = running.ports.get('main') ?? 0
  return failover({ sickness, port, endpoints, perSecond: 200, periods: PERIODS, periodMs: 8_000 })
}

for (const one of CASES) {
  t.test(one.name, { ...needing('envoy'), timeout: 300_000 }, async (t) => {
    const results = await Promise.all(SICKNESSES.map((sickness) => run(t, one, sickness)))
    for (const [i, result] of results.entries()) {
      t.comment(`${SICKNESSES[i]}: ${describe(result)}`)
      t.ok(result.requests - result.failed > result.requests / 2, `${SICKNESSES[i]}: most are served`)
    }
  })
}
