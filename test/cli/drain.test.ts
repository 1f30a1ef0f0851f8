import { once } from 'node:events'
import http, { type IncomingMessage } from 'node:http'
import t from 'tap'
import { createGateway, type Gateway, type Log, type NativeConfig, systemClock } from '../../lib/cli/library.ts'
import { DRAIN_ALL, DRAIN_ANNOUNCED } from '../../lib/runtime/engine.ts'
import { bootstrap, cluster } from '../end-to-end/bootstrap.ts'
import { get } from '../end-to-end/setup.ts'
import { settle, TestClock } from '../support/clock.ts'
import { TestGateway } from '../support/gateway.ts'
import { watchLeaks } from '../support/leaks.ts'
import { WireClient } from '../support/wire.ts'

const GET = 'GET / HTTP/1.1\r\nhost: a\r\n\r\n'
const silent: Log = { debug() {}, info() {}, warn() {}, error() {} }
const CONNECTIONS = 200

/** How many of so many connections, each asked once, are told to go by their answers; those stay closed. */
async function toldToGo(port: number, client: WireClient): Promise<number> {
  let told = 0
  for (let i = 0; i < CONNECTIONS; i++) {
    const wire = await client.connect(port)
    const answer = await wire.exchange(get())
    if (answer.get('connection') === 'close') told++
    await wire.close()
  }
  return told
}

t.test('a gradual drain tells a connection to go the likelier, the more of its time is over', async (t) => {
  const clock = new TestClock()
  // Evenly spread, so that the share of those told is the share of the time.
  let draw = 0
  const random = (): number => (draw = (draw + 37) % 100) / 100
  const routes = [{ match: { prefix: '/' }, direct_response: { status: 200 } }]
  const config = bootstrap({ routes, clusters: [cluster('none', 1)] })
  const gateway = await TestGateway.start(config, { clock, random, gradualDrain: true })
  const client = new WireClient()
  t.teardown(async () => {
    await client.closeAll()
    await gateway.close()
  })
  t.equal(await toldToGo(gateway.port(), client), 0)
  // 5 s in which connections are taken, of 11, the last of which is for those who are idle.
  const announced = gateway.engine.drain(5_000, { ...DRAIN_ANNOUNCED, overMs: 11_000 })
  const shares: number[] = [await toldToGo(gateway.port(), client)]
  for (const ms of [2_500, 2_400]) {
    clock.advance(ms)
    shares.push(await toldToGo(gateway.port(), client))
  }
  const stays = await client.connect(gateway.port())
  clock.advance(100)
  await announced
  t.equal(shares[0], 0, 'nobody at the beginning')
  t.ok(Math.abs(shares[1] - CONNECTIONS / 4) <= CONNECTIONS / 10, `${shares[1]} after a quarter of the time`)
  t.ok(Math.abs(shares[2] - CONNECTIONS / 2) <= CONNECTIONS / 10, `${shares[2]} after half of it`)
  const port = gateway.port()
  const drained = gateway.engine.drain(6_000, DRAIN_ALL)
  await settle()
  await t.rejects(client.connect(port), { code: 'ECONNREFUSED' })
  draw = 62
  t.not((await stays.exchange(get())).get('connection'), 'close', 'half of those that stay may go on')
  clock.advance(5_000)
  t.equal(await stays.expectEnd(), 'fin', 'idle ones end a second before the end')
  await drained
})

t.test('a drain that is not gradual tells everybody at once', async (t) => {
  const clock = new TestClock()
  const routes = [{ match: { prefix: '/' }, direct_response: { status: 200 } }]
  const gateway = await TestGateway.start(bootstrap({ routes, clusters: [cluster('none', 1)] }), { clock })
  const client = new WireClient()
  t.teardown(async () => {
    await client.closeAll()
    await gateway.close()
  })
  void gateway.engine.drain(5_000, { ...DRAIN_ANNOUNCED, overMs: 11_000 })
  t.equal(await toldToGo(gateway.port(), client), CONNECTIONS)
  t.equal(gateway.stat('http.test.downstream_cx_drain_close'), CONNECTIONS)
})

/** With an admin server, and one listener that answers by itself. */
const CONFIG: NativeConfig = {
  admin: { address: '127.0.0.1:0' },
  listeners: [
    {
      name: 'main',
      address: '127.0.0.1:0',
      http: { routes: [{ match: {}, action: { kind: 'direct', status: 200, body: 'x' } }] },
    },
  ],
}

function ports(gateway: Gateway): { readonly main: number; readonly admin: number } {
  const [main] = gateway.addresses.main
  const admin = gateway.adminAddress
  if (main.kind !== 'ip' || admin?.kind !== 'ip') throw new Error('not an IP address')
  return { main: main.port, admin: admin.port }
}

async function ready(port: number): Promise<string> {
  const request = http.get({ host: '127.0.0.1', port, path: '/ready', agent: false })
  const [response] = (await once(request, 'response')) as [IncomingMessage]
  let body = ''
  for await (const chunk of response) body += chunk
  return `${response.statusCode} ${body.trim()}`
}

t.test('an embedded gateway takes connections for the minimum of its drain, while it is not ready', async (t) => {
  const clock = new TestClock()
  const leaks = watchLeaks()
  const client = new WireClient()
  const gateway = createGateway(CONFIG, { clock, log: silent })
  await gateway.start()
  const { main, admin } = ports(gateway)
  const idle = await client.connect(main)
  t.equal(await ready(admin), '200 LIVE')
  const closing = gateway.close({ drainMs: 3_000, drainMinMs: 2_000 })
  t.equal(gateway.close(), closing)
  await settle()
  t.equal(await ready(admin), '503 DRAINING')
  clock.advance(1_999)
  await settle()
  const late = await client.connect(main)
  const answer = await late.exchange(GET)
  t.same([answer.status, answer.get('connection')], [200, 'close'])
  t.equal(await late.expectEnd(), 'fin')
  clock.advance(1)
  await settle()
  await t.rejects(client.connect(main), { code: 'ECONNREFUSED' })
  clock.advance(1_000)
  t.equal(await idle.expectEnd(), 'fin')
  await closing
  t.equal(clock.pending, 0)
  await client.closeAll()
  await leaks.assertNone()
})

t.test('who is called again without a drain time ends at once, in the minimum of a drain and after it', async (t) => {
  for (const elapsedMs of [100, 2_500]) {
    const clock = new TestClock()
    const leaks = watchLeaks()
    const client = new WireClient()
    const gateway = createGateway(CONFIG, { clock, log: silent })
    await gateway.start()
    const idle = await client.connect(ports(gateway).main)
    const closing = gateway.close({ drainMs: 60_000, drainMinMs: 2_000 })
    await settle()
    clock.advance(elapsedMs)
    await settle()
    t.equal(gateway.close({ drainMs: 0 }), closing)
    await closing
    t.not((await idle.readToEnd()).ending, 'open')
    t.equal(clock.pending, 0)
    await client.closeAll()
    await leaks.assertNone()
  }
})

t.test('a minimum that is larger than the drain time is all of it', async (t) => {
  const gateway = createGateway(CONFIG, { log: silent, clock: systemClock, drainStrategy: 'gradual' })
  await gateway.start()
  const begin = performance.now()
  await gateway.close({ drainMs: 50, drainMinMs: 60_000 })
  t.ok(performance.now() - begin < 30_000)
})
