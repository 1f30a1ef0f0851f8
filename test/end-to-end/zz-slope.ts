import t from 'tap'
import { XdsLab } from './xds-lab.ts'
import { sleep } from './xds-load.ts'
import { KINDS } from './xds-resources.ts'

t.setTimeout(1_000_000)
t.test('slope', async (t) => {
  const lab = await XdsLab.start(t, { api: 'DELTA_GRPC' })
  lab.load
  const secs = Number(process.env.SECS ?? 300)
  for (let i = 0; i < secs * 10; i++) {
    const kind = KINDS[i % KINDS.length]
    if (i % 10 === 9) lab.pushWrong(kind)
    else lab.push(kind)
    if (i % 150 === 0) {
      const text = [...lab.gateway.processes()].map(([n, p]) => `${n} ${lab.gateway.rssOf(p).toFixed(1)}`).join(', ')
      const stats = await lab.gateway.ask('/stats?filter=server.memory')
      process.stdout.write(`# ${i / 10}s ${text} ${stats.replaceAll('\n', ' ')}\n`)
    }
    await sleep(100)
  }
  for (const kind of KINDS) lab.push(kind)
  await lab.settled()
  await lab.balance(t)
})
