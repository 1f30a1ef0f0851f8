import { once } from 'node:events'
import http2 from 'node:http2'
import { createServer, type Server } from 'node:net'
import t, { type Test } from 'tap'
import { ConfigRefused } from '../../lib/core/errors.ts'
import { settle } from '../support/clock.ts'
import { TestGateway } from '../support/gateway.ts'
import { Origin, type OriginScript } from '../support/origin.ts'
import { WireClient } from '../support/wire.ts'
import { bootstrap, cluster, type Fields, type ListenerSpec } from './bootstrap.ts'
import { get } from './setup.ts'

/** Configurations that follow one another while requests are on their way, and the end of a gateway. */

interface Stage {
  readonly a: Origin
  readonly b: Origin
  readonly gateway: TestGateway
  readonly client: WireClient
  /** Everything to this cluster. */
  apply(to: string, listeners?: readonly ListenerSpec[]): Promise<void>
}

const named =
  (name: string, wait: () => Promise<void> = () => Promise.resolve()): OriginScript =>
  async (request, reply) => {
    await request.body
    if (request.target === '/held') await wait()
    await reply.send({ body: name })
  }

async function stage(t: Test, wait?: () => Promise<void>, listeners?: readonly ListenerSpec[]): Promise<Stage> {
  const a = await Origin.start(named('a', wait))
  const b = await Origin.start(named('b', wait))
  const client = new WireClient()
  const routes = (to: string): Fields[] => [{ match: { prefix: '/' }, route: { cluster: to } }]
  const config = (to: string, list: readonly ListenerSpec[] = [{}]): object =>
    bootstrap({
      listeners: list.map((listener) => ({ routes: routes(to), ...listener })),
      clusters: [cluster('a', a.port), cluster('b', b.port)],
    })
  const gateway = await TestGateway.start(config('a', listeners))
  t.teardown(async () => {
    await client.closeAll()
    await gateway.close()
    await a.close()
    await b.close()
  })
  return { a, b, gateway, client, apply: (to, list) => gateway.apply(config(to, list)) }
}

function gate(): { wait: () => Promise<void>; open: () => void } {
  let open = (): void => {}
  const opened = new Promise<void>((resolve) => {
    open = resolve
  })
  return { wait: () => opened, open: () => open() }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  await closed(server)
  return port
}

async function closed(server: Server): Promise<void> {
  server.close()
  await once(server, 'close')
}

t.test('twenty route tables follow one another under traffic: nothing is lost, and the last one counts', async (t) => {
  const { a, b, gateway, client, apply } = await stage(t)
  let stop = false
  const answers: string[] = []
  const callers = Array.from({ length: 8 }, async () => {
    const wire = await client.connect(gateway.port())
    while (!stop) {
      const response = await wire.exchange(get())
      if (response.status !== 200 || response.get('connection') !== undefined) throw new Error(String(response.status))
      answers.push(response.text())
    }
  })
  for (let i = 1; i <= 20; i++) {
    await apply(i % 2 === 0 ? 'a' : 'b')
    await settle(10)
  }
  const wire = await client.connect(gateway.port())
  t.equal((await wire.exchange(get())).text(), 'a', 'the twentieth')
  stop = true
  await Promise.all(callers)
  t.ok(answers.includes('a') && answers.includes('b'))
  t.equal(a.requests.length + b.requests.length, answers.length + 1)
  t.equal(gateway.stat('http.test.downstream_rq_5xx'), 0)
  t.equal(gateway.stat('http.test.downstream_rq_total'), answers.length + 1)
  t.ok(a.connections <= 9, 'clusters that stay keep their connections')
})

t.test('a request on its way ends with the configuration it began with; the next one gets the new one', async (t) => {
  const held = gate()
  const { gateway, client, apply, a } = await stage(t, held.wait)
  const wire = await client.connect(gateway.port())
  await wire.write(get('/held') + get('/next'))
  await a.seen(1)
  await apply('b')
  held.open()
  t.equal((await wire.readResponse()).text(), 'a')
  t.equal((await wire.readResponse()).text(), 'b')
})

t.test('a cluster that is removed or changed serves what it has begun', async (t) => {
  const held = gate()
  const { gateway, client, a, b } = await stage(t, held.wait)
  const wire = await client.connect(gateway.port())
  const idle = await client.connect(gateway.port())
  t.equal((await idle.exchange(get())).text(), 'a')
  await wire.write(get('/held'))
  await a.seen(2)
  await gateway.apply(
    bootstrap({
      routes: [{ match: { prefix: '/' }, route: { cluster: 'b' } }],
      clusters: [cluster('b', b.port, { connect_timeout: '3s' })],
    }),
  )
  held.open()
  t.equal((await wire.readResponse()).text(), 'a')
  t.equal((await wire.exchange(get())).text(), 'b')
  await a.until(() => a.open === 0, 'end of the connections to a')
  const counted = (): boolean => gateway.engine.metrics().gauges.some(([name]) => name.startsWith('cluster.a.'))
  await gateway.until(() => !counted(), 'the end of what is counted of it')
})

t.test('listeners come, go and move; what is on its way is answered, and told that it is the last', async (t) => {
  const held = gate()
  const ports = [await freePort(), await freePort(), await freePort()]
  const first = { name: 'first', port: ports[0] }
  const { gateway, client, apply, a } = await stage(t, held.wait, [first])
  const wire = await client.connect(ports[0])
  await wire.write(get('/held'))
  await a.seen(1)
  const idle = await client.connect(ports[0])
  t.equal((await idle.exchange(get())).text(), 'a')

  await apply('a', [first, { name: 'second', port: ports[1] }])
  const second = await client.connect(ports[1])
  t.equal((await second.exchange(get())).text(), 'a', 'one more listener')
  t.equal((await idle.exchange(get())).get('connection'), undefined, 'the other was left alone')

  await apply('b', [{ name: 'second', port: ports[2] }])
  await t.rejects(client.connect(ports[0]), { code: 'ECONNREFUSED' }, 'removed')
  await t.rejects(client.connect(ports[1]), { code: 'ECONNREFUSED' }, 'moved')
  const moved = await client.connect(ports[2])
  t.equal((await moved.exchange(get())).text(), 'b')
  const last = await idle.exchange(get())
  t.equal(last.status, 200, 'an idle connection of a removed listener has one more request')
  t.equal(last.get('connection'), 'close')
  t.equal(await idle.expectEnd(), 'fin')
  held.open()
  const response = await wire.readResponse()
  t.equal(response.text(), 'a')
  t.equal(response.get('connection'), 'close')
  t.equal(await wire.expectEnd(), 'fin')
  t.same(
    gateway.engine.status().listeners.map((listener) => listener.name),
    ['second'],
  )
})

t.test('a port in use refuses the whole configuration, and nothing of it stays', async (t) => {
  const { gateway, client, apply, a } = await stage(t)
  const taken = createServer().listen(0, '127.0.0.1')
  await once(taken, 'listening')
  const { port } = taken.address() as { port: number }
  const other = await freePort()
  const wire = await client.connect(gateway.port())
  t.equal((await wire.exchange(get())).text(), 'a')
  const attempt = apply('b', [{}, { name: 'other', port: other }, { name: 'taken', port }])
  const error = await attempt.then(
    () => undefined,
    (e: unknown) => e,
  )
  t.ok(error instanceof ConfigRefused)
  t.match(String((error as ConfigRefused).errors[0]), /"taken".*already in use/s)
  await t.rejects(client.connect(other), { code: 'ECONNREFUSED' }, 'what was opened on the way is closed again')
  t.equal((await wire.exchange(get())).text(), 'a', 'the old routes')
  t.equal(a.connections, 1, 'the old connections')
  t.equal(gateway.engine.status().listeners.length, 1)
  await closed(taken)
  await apply('b', [{}, { name: 'other', port: other }, { name: 'taken', port }])
  t.equal((await (await client.connect(port)).exchange(get())).text(), 'b')
  t.equal((await wire.exchange(get())).text(), 'b')
})

t.test('a first configuration that cannot be opened leaves nothing behind', async (t) => {
  const taken = createServer().listen(0, '127.0.0.1')
  await once(taken, 'listening')
  const { port } = taken.address() as { port: number }
  await t.rejects(TestGateway.start(bootstrap({ port, clusters: [cluster('origin', 1)] })), ConfigRefused)
  await closed(taken)
})

t.test('drain: no new connections, what is on its way is answered, idle connections end at the deadline', async (t) => {
  const held = gate()
  const { gateway, client, a } = await stage(t, held.wait)
  const port = gateway.port()
  const [busy, asks, idle] = [await client.connect(port), await client.connect(port), await client.connect(port)]
  for (const wire of [asks, idle]) t.equal((await wire.exchange(get())).text(), 'a')
  await busy.write(get('/held'))
  await a.seen(3)
  let over = false
  const drained = gateway.engine.drain(1_500).then(() => {
    over = true
  })
  await settle(5)
  await t.rejects(client.connect(port), { code: 'ECONNREFUSED' })
  const last = await asks.exchange(get())
  t.equal(last.text(), 'a')
  t.equal(last.get('connection'), 'close')
  t.equal(await asks.expectEnd(), 'fin')
  t.equal(over, false)
  held.open()
  const response = await busy.readResponse()
  t.equal(response.text(), 'a')
  t.equal(response.get('connection'), 'close')
  await drained
  t.equal(await idle.expectEnd(), 'fin')
})

t.test('a graceful drain of inbound listeners: told to go, then closed; the others notice nothing', async (t) => {
  const named = (name: string, traffic_direction: string): ListenerSpec => ({ name, fields: { traffic_direction } })
  const { gateway, client } = await stage(t, undefined, [named('in', 'INBOUND'), named('out', 'OUTBOUND')])
  const [inbound, outbound] = [gateway.port('in'), gateway.port('out')]
  const ask = async (port: number): Promise<string | undefined> => {
    const response = await (await client.connect(port)).exchange(get())
    t.equal(response.status, 200)
    return response.get('connection')
  }
  const drained = gateway.engine.drain(400, { inboundOnly: true, graceful: true, skipExit: false })
  t.equal(await ask(inbound), 'close')
  t.equal(await ask(outbound), undefined)
  await drained
  await t.rejects(client.connect(inbound), { code: 'ECONNREFUSED' })
  t.equal(await ask(outbound), undefined)
  const skip = { inboundOnly: false, graceful: true, skipExit: true }
  await gateway.engine.drain(50, skip)
  t.equal(await ask(outbound), 'close', 'listening still')
})

t.test('a gateway that fails its health checks sends connections away, but for drain_type MODIFY_ONLY', async (t) => {
  let healthy = true
  const origin = await Origin.start(named('a', () => Promise.resolve()))
  const listeners = [{ name: 'in' }, { name: 'out', fields: { drain_type: 'MODIFY_ONLY' } }]
  const gateway = await TestGateway.start(bootstrap({ listeners, clusters: [cluster('origin', origin.port)] }), {
    serving: () => healthy,
  })
  const client = new WireClient()
  const sessions = ['in', 'out'].map((name) => http2.connect(`http://127.0.0.1:${gateway.port(name)}`))
  t.teardown(async () => {
    for (const session of sessions) session.destroy()
    await client.closeAll()
    await gateway.close()
    await origin.close()
  })
  const ask = async (session: http2.ClientHttp2Session): Promise<number | undefined> => {
    const stream = session.request({ ':path': '/' })
    const [headers] = (await once(stream, 'response')) as [http2.IncomingHttpHeaders]
    stream.resume()
    await once(stream, 'close')
    return Number(headers[':status'])
  }
  const goaways = sessions.map(() => 0)
  for (const [i, session] of sessions.entries()) session.on('goaway', () => goaways[i]++)
  const wires = [await client.connect(gateway.port('in')), await client.connect(gateway.port('out'))]
  for (const wire of wires) t.equal((await wire.exchange(get())).get('connection'), undefined)
  for (const session of sessions) t.equal(await ask(session), 200)
  healthy = false
  t.equal((await wires[0].exchange(get())).get('connection'), 'close')
  t.equal((await wires[1].exchange(get())).get('connection'), undefined)
  for (const session of sessions) t.equal(await ask(session), 200)
  await gateway.until(() => goaways[0] > 0, 'GOAWAY')
  t.equal(goaways[1], 0)
  healthy = true
  t.equal((await (await client.connect(gateway.port('in'))).exchange(get())).get('connection'), undefined)
})

t.test('drain resolves at its deadline even where a response does not come; close ends it', async (t) => {
  const held = gate()
  const { gateway, client, a } = await stage(t, held.wait)
  const wire = await client.connect(gateway.port())
  await wire.write(get('/held'))
  await a.seen(1)
  await gateway.engine.drain(50)
  t.equal(wire.stream.ending, 'open')
  await gateway.close()
  await wire.stream.untilEnd()
  t.equal(wire.stream.received, 0)
  held.open()
  await t.rejects(
    gateway.apply(bootstrap({ clusters: [cluster('origin', 1)] })),
    ConfigRefused,
    'a closed gateway stays so',
  )
})

t.test('two gateways in one process know nothing of each other', async (t) => {
  const one = await stage(t)
  const two = await stage(t)
  await one.apply('b')
  const wires = [await one.client.connect(one.gateway.port()), await two.client.connect(two.gateway.port())]
  t.equal((await wires[0].exchange(get())).text(), 'b')
  t.equal((await wires[1].exchange(get())).text(), 'a')
  t.equal(one.gateway.stat('cluster.a.upstream_rq_total'), 0)
  t.equal(two.gateway.stat('cluster.a.upstream_rq_total'), 1)
  await one.gateway.close()
  t.equal((await wires[1].exchange(get())).text(), 'a')
})
