import t from 'tap'
import { settle, TestClock } from '../support/clock.ts'
import type { TestGateway } from '../support/gateway.ts'
import type { Fields } from './bootstrap.ts'
import { get, setup } from './setup.ts'

/** Clients that take what they are owed late, or never. */

const MIB = 1 << 20

/** One response of this size, made by the gateway itself, to everything. */
const direct = (size: number): Fields => ({
  max_direct_response_body_size_bytes: size,
  virtual_hosts: [
    {
      name: 'all',
      domains: ['*'],
      routes: [{ match: { prefix: '/' }, direct_response: { status: 200, body: { inline_string: 'x'.repeat(size) } } }],
    },
  ],
})

/** Waits until no further request is completed; answers how many were. */
async function standstill(gateway: TestGateway): Promise<number> {
  let before = -1
  for (let quiet = 0; quiet < 20; ) {
    await settle(10)
    const now = gateway.stat('http.test.downstream_rq_completed')
    quiet = now === before ? quiet + 1 : 0
    before = now
  }
  return before
}

const BODY_BYTES = 60_000

for (const answers of ['the origin', 'the gateway'] as const) {
  t.test(`pipelined requests that ${answers} answers wait until the responses before them are read`, async (t) => {
    const COUNT = 1_000
    const { gateway, connect } = await setup(t, {
      origin: async (request, reply) => {
        await request.body
        await reply.send({ body: 'x'.repeat(BODY_BYTES) })
      },
      ...(answers === 'the gateway' && { routeConfig: direct(BODY_BYTES) }),
    })
    const wire = await connect()
    wire.stream.hold()
    await wire.write(get().repeat(COUNT))
    const completed = await standstill(gateway)
    // Both kernels' buffers, and a little of our own.
    t.ok(completed * BODY_BYTES < 24 * MIB, `${completed} responses have been written`)
    t.equal(gateway.stat('http.test.downstream_rq_active'), 0)
    wire.stream.release()
    let sizes = 0
    for (let i = 0; i < COUNT; i++) sizes += (await wire.readResponse()).bytes.length
    t.equal(sizes, COUNT * BODY_BYTES, 'then each has its turn')
    t.equal(gateway.stat('http.test.downstream_rq_completed'), COUNT)
    t.equal((await wire.exchange(get())).bytes.length, BODY_BYTES, 'and the connection goes on')
  })
}

const SIZE = 12 * MIB

for (const delayed of ['1s', '0s']) {
  t.test(`an idle timeout is the end for who never reads (delayed_close_timeout ${delayed})`, async (t) => {
    const clock = new TestClock()
    const { gateway, connect } = await setup(t, {
      gateway: { clock },
      hcm: { delayed_close_timeout: delayed, common_http_protocol_options: { idle_timeout: '10s' } },
      routeConfig: direct(SIZE),
    })
    const [dead, slow] = [await connect(), await connect()]
    for (const wire of [dead, slow]) {
      wire.stream.hold()
      await wire.write(get())
    }
    await gateway.until(() => gateway.stat('http.test.downstream_rq_completed') === 2, 'both responses')
    clock.advance(10_100)
    await settle(5)
    t.equal(gateway.stat('http.test.downstream_cx_idle_timeout'), 2)
    t.equal(gateway.stat('http.test.downstream_cx_active'), 2, 'what is owed may still be read')
    slow.stream.release()
    const response = await slow.readResponse()
    t.equal(response.bytes.length, SIZE)
    t.equal(response.clean, true)
    t.equal(await slow.expectEnd(), 'fin')
    for (let i = 0; i < 400 && gateway.stat('http.test.downstream_cx_active') > 0; i++) {
      clock.advance(1_000)
      await settle(1)
    }
    t.equal(gateway.stat('http.test.downstream_cx_active'), 0, 'but not for ever')
    dead.stream.release()
    t.equal((await dead.readToEnd()).ending, 'reset')
  })
}

t.test('a drain does not cut a response that is still read', async (t) => {
  const clock = new TestClock()
  const { gateway, connect } = await setup(t, { gateway: { clock }, routeConfig: direct(SIZE) })
  const [reads, idle] = [await connect(), await connect()]
  reads.stream.hold()
  await reads.write(get())
  await gateway.until(() => gateway.stat('http.test.downstream_rq_completed') === 1, 'the response')
  let over = false
  const drained = gateway.engine.drain(4_000).then(() => {
    over = true
  })
  clock.advance(3_100)
  t.equal(await idle.expectEnd(), 'fin', 'who is owed nothing goes')
  reads.stream.release()
  const response = await reads.readResponse()
  t.equal(response.bytes.length, SIZE)
  t.equal(response.clean, true)
  t.equal(await reads.expectEnd(), 'fin')
  await drained
  t.equal(over, true, 'before its deadline')
})

t.test('a gateway that closes within a body that ends by close does not make it look whole', async (t) => {
  const { gateway, connect } = await setup(t, {
    hcm: { http_protocol_options: { accept_http_10: true } },
    origin: async (_, reply) => {
      await reply.write('HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n')
      await reply.stall()
    },
  })
  const [cut, idle] = [await connect(), await connect()]
  await cut.write('GET / HTTP/1.0\r\nhost: a\r\n\r\n')
  await cut.readUntil('hello')
  await gateway.close()
  t.equal((await cut.readToEnd()).ending, 'reset')
  t.equal(await idle.expectEnd(), 'fin')
})
