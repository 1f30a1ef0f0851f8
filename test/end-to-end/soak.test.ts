import { readdirSync } from 'node:fs'
import { connect } from 'node:net'
import t from 'tap'
import { type Random, seeded } from '../support/random.ts'
import { CALLERS, FaultLab } from './fault-lab.ts'
import { LONG } from './xds-lab.ts'
import { sleep } from './xds-load.ts'
import { Residents } from './xds-residents.ts'

/**
 * F15: all faults of upstreams and clients at once for a long time. Nothing is lost, and files, connections and memory are
 * what they were.
 */

const SOAK_MS = LONG ? 600_000 : 10_000
/** Between two faults. */
const PAUSE_MS = 700
/** Of what is in use after a collection, a minute, in the second half. */
const SLOPE_MIB = 1
const IDLE_MS = 1_500

t.setTimeout(SOAK_MS + 120_000)

/** Clients that send part of a request, or take part of an answer, and go. */
function rude(port: number, random: Random): void {
  const socket = connect(port, '127.0.0.1')
  socket.on('error', () => {})
  socket.on('connect', () => {
    const head = 'GET /here HTTP/1.1\r\nhost: ledger.example\r\n\r\n'
    socket.write(head.slice(0, random.below(head.length + 1)))
    setTimeout(() => (random.below(2) === 0 ? socket.resetAndDestroy() : socket.destroy()), random.below(200))
  })
}

t.test(`${SOAK_MS / 1000} s of killed and stopped upstreams and of clients that break off`, async (t) => {
  const folder = t.testdir()
  const watch = new URL('./xds-heap-watch.ts', import.meta.url).href
  const lab = await FaultLab.start(t, {
    environment: { NODE_OPTIONS: `--expose-gc --import=${watch}`, HEADGATE_HEAP_WATCH: folder },
  })
  const random = seeded(15)
  const workers = [...lab.gateway.processes()].filter(([name]) => name.startsWith('worker'))
  const files = (): number[] => workers.map(([, pid]) => readdirSync(`/proc/${pid}/fd`).length)
  await lab.load.progress(100)
  const before = files()
  const residents = new Residents(lab.gateway, folder)
  const endMs = performance.now() + SOAK_MS
  let [kills, stops] = [0, 0]
  while (performance.now() < endMs) {
    for (let i = random.below(8); i > 0; i--) rude(lab.plainPort, random)
    const origin = random.pick(lab.origins)
    if (random.below(2) === 0) {
      kills++
      await origin.kill()
      await sleep(random.below(PAUSE_MS))
      await origin.restart()
    } else {
      stops++
      origin.stop()
      await sleep(random.below(PAUSE_MS * 3))
      origin.resume()
    }
    await sleep(PAUSE_MS)
    residents.look()
  }
  await lab.load.progress(50)
  await lab.load.stop()
  await sleep(IDLE_MS)
  const stats = await lab.gateway.stats()
  const left = stats.nonzero(/(?:_rq_active|_rq_pending_active|http\.\w+\.downstream_cx_active|remaining_pending)$/)
  t.strictSame(left, {}, 'nothing is under way any more')
  const after = files()
  for (const [i, count] of after.entries()) {
    t.ok(count <= before[i] + 16, `${workers[i][0]} has ${count} files, had ${before[i]} under load`)
  }
  const { requests, interrupted } = await lab.balance(t)
  t.ok(interrupted <= (kills + stops) * CALLERS, `${interrupted} were interrupted: no more than were under way`)
  for (const { name, liveSlope, text } of residents.figures()) {
    if (LONG) t.ok(liveSlope <= SLOPE_MIB, `${name}: ${text}`)
    t.comment(`${name}: ${text}`)
  }
  t.comment(
    `${requests} requests, ${kills} kills, ${stops} stops, ${interrupted} interrupted; files ${before} and ${after}`,
  )
})
