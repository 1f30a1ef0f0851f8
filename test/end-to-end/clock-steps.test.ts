import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { WireClient } from '../support/wire.ts'
import { FaultLab } from './fault-lab.ts'
import { get } from './setup.ts'
import { LONG } from './xds-lab.ts'
import { sleep } from './xds-load.ts'

/** F14: the time of day jumps while requests are under way; whatever counts time goes on counting. */

t.setTimeout(300_000)

const DAY_MS = 86_400_000
const STEPS = [DAY_MS, -DAY_MS, 3_600_000, 0]
const ROUNDS = LONG ? 5 : 1
/** Certificates of the lab are of today: TLS goes by the system's own clock, which nobody moves here. */
const STAY_MS = LONG ? 3_000 : 1_200

t.test(
  'the clock is set a day ahead, two days back and an hour ahead: nothing is lost, nothing times out',
  async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'headgate-clock-'))
    t.teardown(() => rmSync(folder, { recursive: true }))
    const file = join(folder, 'shift')
    const shift = (ms: number): void => {
      writeFileSync(`${file}.new`, String(ms))
      renameSync(`${file}.new`, file)
    }
    shift(0)
    const environment = {
      NODE_OPTIONS: `--import=${join(import.meta.dirname, 'shifted-clock.ts')}`,
      HEADGATE_SHIFT_FILE: file,
    }
    const lab = await FaultLab.start(t, { environment })
    const client = new WireClient()
    t.teardown(() => client.closeAll())
    /** By how much the gateway's date is off. */
    const off = async (): Promise<number> => {
      const wire = await client.connect(lab.plainPort)
      const response = await wire.exchange(get('/here', 'connection: close'))
      return Date.parse(response.get('date') ?? '') - Date.now()
    }
    await lab.load.progress(20)
    for (let round = 0; round < ROUNDS; round++) {
      for (const offset of STEPS) {
        shift(offset)
        await lab.load.progress(30)
        await sleep(STAY_MS)
        const error = (await off()) - offset
        t.ok(Math.abs(error) < 60_000, `the gateway's date is ${offset} ms off`)
      }
    }
    const stats = await lab.gateway.stats()
    t.strictSame(stats.nonzero(/(?:_timeout|idle_timeout|rq_timeout|ejections_total|cx_destroy_remote)$/), {})
    const { requests, interrupted } = await lab.balance(t)
    t.equal(interrupted, 0)
    t.comment(`${requests} requests, ${ROUNDS * STEPS.length} steps`)
  },
)
