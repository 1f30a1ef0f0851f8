import t from 'tap'
import { seeded } from '../support/random.ts'
import { LONG, XdsLab } from './xds-lab.ts'
import { sleep } from './xds-load.ts'
import { KINDS } from './xds-resources.ts'

/** Processes of the gateway are killed in the middle of pushes: what the others serve is not lost, and all converge. */

t.setTimeout(300_000)

const KILLS = LONG ? 20 : 3
const PUSH_MS = 30
/** Until a new process is there and has everything. */
const CONVERGED_MS = 10_000

/** Pushes of all types, one after the other, until it is stopped. */
class Pushing {
  readonly #lab: XdsLab
  readonly #running: Promise<void>
  #stopped = false

  constructor(lab: XdsLab) {
    this.#lab = lab
    this.#running = this.#run()
  }

  async stop(): Promise<void> {
    this.#stopped = true
    await this.#running
  }

  async #run(): Promise<void> {
    for (let i = 0; !this.#stopped; i++) {
      this.#lab.push(KINDS[i % KINDS.length])
      await sleep(PUSH_MS)
    }
  }
}

async function kill(lab: XdsLab, name: string): Promise<void> {
  const before = lab.gateway.processes()
  const pid = before.get(name)
  if (pid === undefined) throw new Error(`there is no ${name}`)
  const others = [...before].flatMap(([called, one]) => (called.startsWith('worker') && called !== name ? [one] : []))
  if (name.startsWith('worker')) lab.load.doomAllBut(others)
  process.kill(pid, 'SIGKILL')
  for (;;) {
    const now = lab.gateway.processes().get(name)
    if (now !== undefined && now !== pid) return
    await sleep(10)
  }
}

t.test(`a worker is killed ${KILLS} times in the middle of pushes: the other one loses nothing`, async (t) => {
  const lab = await XdsLab.start(t, { logged: false })
  const random = seeded(11)
  for (let i = 0; i < KILLS; i++) {
    await lab.load.progress(20)
    const pushing = new Pushing(lab)
    await sleep(random.below(300))
    await kill(lab, `worker ${i % 2}`)
    await pushing.stop()
    await lab.settled(CONVERGED_MS)
  }
  t.same(lab.unrefused(), [])
  t.comment(`${await lab.balance(t)} requests`)
})

t.test(`the control process is killed ${KILLS} times in the middle of pushes: nothing is lost`, async (t) => {
  const lab = await XdsLab.start(t)
  const random = seeded(12)
  for (let i = 0; i < KILLS; i++) {
    await lab.load.progress(20)
    const pushing = new Pushing(lab)
    await sleep(random.below(300))
    await kill(lab, 'control')
    await pushing.stop()
    await lab.settled(CONVERGED_MS)
  }
  t.same(lab.unrefused(), [])
  t.comment(`${await lab.balance(t)} requests`)
})

t.test('a control process that has had no answer yet keeps what workers have, and gives it to new ones', async (t) => {
  const lab = await XdsLab.start(t, { logged: false })
  const { plane, load } = lab
  await load.progress(20)
  plane.hold()
  const from = plane.requests.length
  await kill(lab, 'control')
  await plane.request((r) => r.kind === 'first', 'the new control process to ask', from)
  await load.progress(50)
  await kill(lab, 'worker 0')
  // Whatever takes the connection, it is served.
  await load.progress(200)
  for (const kind of KINDS) lab.push(kind)
  await load.progress(50)
  plane.release()
  await lab.settled(CONVERGED_MS)
  t.same(lab.unrefused(), [])
  t.comment(`${await lab.balance(t)} requests`)
})
