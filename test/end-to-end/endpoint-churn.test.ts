import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import t from 'tap'
import type { AssignmentConfig, BalancerConfig, EndpointConfig } from '../../lib/upstream/config.ts'
import { ask, LiveGateway, Parts, setting } from '../support/live-gateway.ts'
import { Origin } from '../support/origin.ts'

/** Ten thousand endpoints that come and go with every change, around one that stays. */

const COUNT = 10_000
const ROUNDS = 10

const BALANCERS: readonly BalancerConfig[] = [
  { kind: 'peak-ewma', decayMs: 5_000 },
  { kind: 'round-robin' },
  { kind: 'maglev', tableSize: 65_537, byHostname: false },
]

/** Of what somebody holds. */
function heapUsed(): number {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  collect()
  return process.memoryUsage().heapUsed
}

function endpoint(host: string, port: number): EndpointConfig {
  return { address: { kind: 'ip', host, port }, weight: 1, health: 'healthy' }
}

/** The one at the level that is used; the others behind it, where each round has its own. */
function crowd(port: number, round: number): AssignmentConfig {
  const others = Array.from({ length: COUNT }, (_, i) => endpoint(`10.${round}.${i >> 8}.${i & 255}`, 80))
  return {
    name: 'web',
    localities: [
      { priority: 0, endpoints: [endpoint('127.0.0.1', port)] },
      { priority: 1, endpoints: others },
    ],
  }
}

t.test('ten thousand endpoints exchanged at a time stop nothing and leave nothing behind', async (t) => {
  const parts = new Parts()
  for (const balancer of BALANCERS) {
    const origin = await Origin.start()
    t.teardown(() => origin.close())
    const live = await LiveGateway.start(t)
    await live.update({
      clusters: setting(parts.cluster('web', { balancer })),
      assignments: setting(crowd(origin.port, 0)),
      routeTables: setting(parts.forwarding('r', 'web')),
      listeners: setting(parts.listener('l', { routeTable: 'r' })),
    })
    const wire = await live.connect('l')
    const heaps: number[] = []
    let longestMs = 0
    for (let round = 1; round <= ROUNDS; round++) {
      const next = crowd(origin.port, round)
      const before = process.cpuUsage()
      const done = live.update({ assignments: setting(next) })
      const { user, system } = process.cpuUsage(before)
      longestMs = Math.max(longestMs, (user + system) / 1000)
      t.equal((await ask(wire)).status, 200, `${balancer.kind}, round ${round}`)
      await done
      if (round === 2 || round === ROUNDS) heaps.push(heapUsed())
    }
    t.equal(live.stat('cluster.web.membership_total'), COUNT + 1)
    t.equal(live.stat('cluster.web.membership_change'), COUNT + 1 + ROUNDS * 2 * COUNT)
    t.equal(origin.connections, 1, 'and the one that stays keeps its connection')
    // Measured: about 20 ms of processor time for both ways together.
    t.ok(longestMs < 400, `${balancer.kind}: the loop was not given back for ${longestMs} ms`)
    const grown = heaps[1] - heaps[0]
    t.ok(grown < 4_000_000, `${balancer.kind}: the heap has grown by ${grown} bytes`)
  }
})
