import t, { type Test } from 'tap'
import { XDS } from '../support/control-plane.ts'
import { LONG, XdsLab } from './xds-lab.ts'
import { sleep } from './xds-load.ts'
import { Residents } from './xds-residents.ts'
import { KINDS, manyHosts } from './xds-resources.ts'

t.setTimeout(600_000)

/** Pushes of every type under constant load: nothing lost, each mistake refused, and memory stays where it is. */

/** Two minutes, after two of warming up. */
const SECONDS = LONG ? 240 : 3.5
const PER_SECOND = LONG ? 10 : 20
/** MiB a minute; in the few seconds of the short form the slope says nothing. */
const SLOPE = 1
const REPLACEMENTS = LONG ? 30 : 3

async function pushes(t: Test, api: 'GRPC' | 'DELTA_GRPC', seconds: number): Promise<void> {
  const lab = await XdsLab.start(t, { api, watched: LONG })
  const { plane, load } = lab
  const residents = new Residents(lab.gateway, lab.folder)
  const from = plane.requests.length
  for (let i = 0; i < seconds * PER_SECOND; i++) {
    const kind = KINDS[i % KINDS.length]
    if (i % 10 === 9) lab.pushWrong(kind)
    else lab.push(kind)
    if (i % PER_SECOND === 0) residents.look()
    await sleep(1000 / PER_SECOND)
  }
  residents.look()
  for (const kind of KINDS) lab.push(kind)
  t.comment(`equal state after ${Math.round(await lab.settled())} ms`)
  t.equal(lab.mistakes, (seconds * PER_SECOND) / 10)
  t.same(lab.unrefused(), [], 'what is wrong is refused, with its place, and nothing else')
  const taken = plane.requests.slice(from).filter(({ kind, error }) => kind === 'ack' && error === undefined)
  t.ok(taken.length >= seconds * PER_SECOND - lab.mistakes, `${taken.length} acknowledgements`)
  await load.progress(20)
  for (const { name, text, slope, liveSlope } of residents.figures()) {
    t.comment(`${name}: ${text}`)
    if (!LONG) continue
    t.ok(slope < SLOPE, `resident memory of ${name}`)
    t.ok(liveSlope < SLOPE, `memory in use of ${name}`)
  }
  t.comment(`${await lab.balance(t)} requests`)
}

for (const api of ['DELTA_GRPC', 'GRPC'] as const) {
  t.test(`${api}: ten pushes a second of all types, every tenth wrong: each mistake refused, no request lost`, (t) =>
    pushes(t, api, SECONDS),
  )
}

t.test('a table of 1,000 virtual hosts is replaced under load: no request fails', { timeout: 120_000 }, async (t) => {
  const lab = await XdsLab.start(t)
  const { plane, load } = lab
  for (let i = 1; i <= REPLACEMENTS; i++) {
    const from = plane.requests.length
    plane.set(XDS.routes, [manyHosts(1_000_000 + i, 1000)])
    await plane.request((r) => r.kind === 'ack' && r.typeName === XDS.routes, 'routes to be taken', from)
    await load.progress(100)
  }
  lab.push('routes')
  await lab.settled()
  t.same(lab.unrefused(), [])
  t.comment(`${await lab.balance(t)} requests`)
})
