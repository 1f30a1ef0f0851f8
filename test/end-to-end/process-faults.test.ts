import { once } from 'node:events'
import http, { type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import t from 'tap'
import { LONG, ProcessLab } from './process-lab.ts'
import { sleep } from './xds-load.ts'

/**
 * Processes of a gateway die or are replaced under load (F8 and F9 of the plan of tests): nothing is lost but what a worker
 * that died had under way, and what it had not written to its log; nobody is ever refused.
 */

t.setTimeout(LONG ? 1_800_000 : 600_000)

const DEATHS = LONG ? 10 : 1
const RESTARTS = LONG ? 30 : 3
/** Ten times what it should take on a machine that does nothing else: 1 s, and 6 s for one that hangs and is found. */
const SLACK = 10

const WAYS = [
  { name: 'is killed', signal: 'SIGKILL', withinMs: 1000 },
  { name: 'aborts', signal: 'SIGABRT', withinMs: 1000 },
  { name: 'runs out of memory', signal: 'SIGURG', withinMs: 1000 },
  { name: 'hangs', signal: 'SIGWINCH', withinMs: 6000 },
] as const

for (const { name, signal, withinMs } of WAYS) {
  t.test(`a worker ${name}, ${DEATHS} times: the other one loses nothing, and it is back`, async (t) => {
    const lab = await ProcessLab.start(t)
    const took: number[] = []
    for (let i = 0; i < DEATHS; i++) {
      const { fromEndMs, fromSignalMs } = await lab.lose(`worker ${i % 2}`, signal)
      took.push(signal === 'SIGWINCH' ? fromSignalMs : fromEndMs)
      t.comment(`back ${Math.round(fromEndMs)} ms after its end, ${Math.round(fromSignalMs)} ms after the signal`)
      await lab.progress(100)
    }
    t.ok(Math.max(...took) < withinMs * SLACK, `back after ${took.map(Math.round).join(', ')} ms`)
    const stats = await lab.gateway.until((now) => now.orZero('server.workers_died') === DEATHS, 'count of the deaths')
    const silent = stats.get('server.workers_silent')
    // One that takes long to run out of memory says nothing meanwhile.
    if (signal === 'SIGURG') t.ok(silent <= DEATHS)
    else t.equal(silent, signal === 'SIGWINCH' ? DEATHS : 0)
    t.comment(`${await lab.balance(t)} requests`)
  })
}

t.test(`the control process is killed ${DEATHS * 2} times: nothing is lost at all`, async (t) => {
  const lab = await ProcessLab.start(t)
  for (let i = 0; i < DEATHS * 2; i++) {
    const before = lab.gateway.processes().get('control') as number
    process.kill(before, 'SIGKILL')
    while ([before, undefined].includes(lab.gateway.processes().get('control'))) await sleep(10)
    await lab.progress(100)
  }
  t.comment(`${await lab.balance(t)} requests`)
})

t.test(`all workers are replaced ${RESTARTS} times, by signal and by admin: nothing is lost at all`, async (t) => {
  const lab = await ProcessLab.start(t)
  const { gateway } = lab
  for (let i = 1; i <= RESTARTS; i++) {
    if (i % 2 === 0) t.equal(await gateway.ask('/restart_workers', 'POST'), 'OK\n')
    else gateway.signal('SIGUSR2')
    await gateway.until((now) => now.orZero('server.workers_replaced') === 2 * i, 'replacement', 60_000)
    await lab.progress(50)
  }
  t.equal((await gateway.stats()).get('server.workers_died'), 0)
  t.same(gateway.errors, [])
  t.comment(`${await lab.balance(t)} requests`)
})

t.test('a stream lives on at the worker that was replaced, until its time is over', async (t) => {
  const events = http.createServer((_req, res) => {
    res.writeHead(200, { 'content-type': 'text/event-stream' })
    const timer = setInterval(() => res.write('data: tick\n\n'), 20)
    res.on('close', () => clearInterval(timer))
  })
  events.listen(0, '127.0.0.1')
  await once(events, 'listening')
  t.teardown(() => {
    events.closeAllConnections()
    events.close()
  })
  const { port: origin } = events.address() as AddressInfo
  const lab = await ProcessLab.start(t, ['--parent-shutdown-time-s', '4'], origin)
  const { gateway } = lab
  const request = http.get(`http://127.0.0.1:${await gateway.port('plain')}/events`, { agent: false })
  const [response] = (await once(request, 'response')) as [IncomingMessage]
  let ticks = 0
  response.on('data', () => ticks++)
  for (const each of [request, response]) each.on('error', () => {})
  const cut = new Promise<void>((resolve) => response.on('close', resolve))
  gateway.signal('SIGUSR2')
  await gateway.until((now) => now.orZero('server.workers_replaced') === 2, 'replacement', 30_000)
  const before = ticks
  await lab.progress(50)
  t.ok(ticks > before, 'it goes on')
  await cut
  t.pass('and is cut in the end')
  t.comment(`${await lab.balance(t)} requests`)
})

t.test('SIGTERM with a minimum: /ready says no, everybody is served meanwhile, and then it ends', async (t) => {
  const lab = await ProcessLab.start(t, ['--drain-min-time-s', '2'])
  const { gateway } = lab
  t.equal(await gateway.ask('/ready'), 'LIVE\n')
  const ended = gateway.terminate()
  while ((await gateway.ask('/ready')) !== 'DRAINING\n') await sleep(10)
  await lab.progress(100)
  await lab.stopAsking()
  t.comment(`${await lab.balance(t, ended)} requests`)
})
