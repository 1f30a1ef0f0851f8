import t from 'tap'
import { bootstrap, cluster } from '../end-to-end/bootstrap.ts'
import { get, post, setup } from '../end-to-end/setup.ts'
import { settle } from '../support/clock.ts'
import { TestGateway } from '../support/gateway.ts'
import { Origin } from '../support/origin.ts'
import { socketPath } from '../support/socket-path.ts'
import { WireClient } from '../support/wire.ts'

// A short name: it is part of the path, and sockets have short ones.
t.test('a Unix socket', async (t) => {
  const path = socketPath(t, 'gate.sock')
  const origin = await Origin.start(async (request, reply) => {
    const { bytes } = await request.body
    if (request.target !== '/broken') {
      await reply.send({ body: bytes })
      return
    }
    await reply.write('HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf')
    await settle(5)
    reply.reset()
  })
  t.teardown(() => origin.close())
  const gateway = await TestGateway.start(
    bootstrap({
      fields: { address: { pipe: { path } } },
      hcm: { use_remote_address: true, internal_address_config: { unix_sockets: true } },
      clusters: [cluster('origin', origin.port)],
    }),
  )
  const client = new WireClient()
  t.teardown(async () => {
    await client.closeAll()
    await gateway.close()
  })
  const wire = await client.connect({ path })
  t.equal((await wire.exchange(post('hello'))).text(), 'hello')
  t.equal(origin.requests[0].get('x-forwarded-for'), undefined, 'a path is no address')
  t.equal(origin.requests[0].get('x-envoy-internal'), 'true')
  const broken = await wire.exchange(get('/broken'))
  t.equal(broken.status, 200)
  t.equal(broken.clean, false)
  const other = await client.connect({ path })
  t.equal((await other.exchange('BAD\r\n\r\n')).status, 400)
  t.equal(await other.expectEnd(), 'fin')
  const gone = await client.connect({ path })
  await gone.write('POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\nhalf')
  await origin.seen(3)
  gone.end()
  await gateway.until(() => gateway.stat('http.test.downstream_cx_active') === 0, 'end of all connections')
  t.same(gateway.complaints, [])
})

t.test('over its limit of connections a listener resets newcomers, and counts them', async (t) => {
  const { gateway, connect } = await setup(t, {
    gateway: {
      adjust: (config) => ({ ...config, listeners: config.listeners.map((l) => ({ ...l, maxConnections: 2 })) }),
    },
  })
  const [first, second] = [await connect(), await connect()]
  t.equal((await first.exchange(get())).status, 200)
  t.equal((await second.exchange(get())).status, 200)
  // The reset may come before the client knows that it was connected.
  const ending = await connect().then(
    async (over) => (await over.readToEnd()).ending,
    (error: NodeJS.ErrnoException) => (error.code === 'ECONNRESET' ? 'reset' : error.code),
  )
  t.equal(ending, 'reset')
  t.equal(gateway.stat('listener.127.0.0.1_0.downstream_cx_overflow'), 1)
  await first.close()
  await gateway.until(() => gateway.stat('http.test.downstream_cx_active') === 1, 'room')
  t.equal((await (await connect()).exchange(get())).status, 200)
})

t.test('connections and their ends are counted, however they end', async (t) => {
  const { gateway, connect } = await setup(t)
  const stat = (name: string): number => gateway.stat(`http.test.downstream_cx_${name}`)
  const wires = [await connect(), await connect(), await connect()]
  await gateway.until(() => stat('active') === 3, 'three connections')
  wires[0].reset()
  wires[1].end()
  await wires[2].exchange(get('/', 'connection: close'))
  await wires[2].close()
  await gateway.until(() => stat('active') === 0, 'end of all')
  t.equal(stat('total'), 3)
  t.equal(stat('destroy'), 3)
  t.equal(gateway.stat('listener.127.0.0.1_0.downstream_cx_total'), 3)
  t.equal(gateway.stat('listener.127.0.0.1_0.downstream_cx_active'), 0)
})
