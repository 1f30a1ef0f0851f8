import t from 'tap'
import { buffer } from '../../filters/buffer/index.ts'
import type { JsonObject } from '../../lib/core/errors.ts'
import { Headers } from '../../lib/core/headers.ts'
import { build, type Driven, drive, parseJson } from '../support/chain-driver.ts'
import { settle } from '../support/clock.ts'

function through(levels: readonly JsonObject[], more: Partial<Parameters<typeof drive>[0]> = {}): Driven {
  return drive({ filters: [build(buffer, { max_request_bytes: 10 }, { levels })], end: false, ...more })
}

t.test('nothing is forwarded before the whole request is there; it gets a content-length', async (t) => {
  const driven = through([])
  driven.send('12345')
  driven.send('67890')
  await settle(1)
  t.equal(driven.upstream.begun, 0)
  driven.send('', true)
  await settle(1)
  t.equal(driven.upstream.body, '1234567890')
  t.ok(driven.upstream.ended)
  t.equal(driven.upstream.headers.get('content-length'), '10')
})

t.test('a content-length that is there stays, and trailers follow the body', async (t) => {
  const declared = through([], { request: ['content-length', '2'] })
  declared.send('ab', true)
  await settle(1)
  t.same(declared.upstream.headers.getAll('content-length'), ['2'])
  const trailed = through([])
  trailed.send('abc')
  trailed.exchange.requestTrailers(new Headers(['t', '1']))
  await settle(1)
  t.equal(trailed.upstream.headers.get('content-length'), '3')
  t.equal(trailed.upstream.body, 'abc')
  t.equal(trailed.upstream.trailersReceived?.get('t'), '1')
})

t.test('a request beyond the limit is answered with 413 and never forwarded', async (t) => {
  const driven = through([])
  driven.send('123456')
  driven.send('78901')
  await settle(1)
  t.equal(driven.downstream.status, 413)
  t.equal(driven.downstream.body, 'Payload Too Large')
  t.equal(driven.exchange.info.details, 'request_payload_too_large')
  t.equal(driven.upstream.begun, 0)
  driven.send('more', true)
  t.equal(driven.ends(), 1)
})

t.test('requests without a body, upgrades and CONNECT pass at once', async (t) => {
  for (const more of [{ end: true }, { head: { protocol: 'websocket' } }, { head: { method: 'CONNECT', path: '' } }]) {
    const driven = through([], more)
    t.equal(driven.upstream.begun, 1)
    t.notOk(driven.upstream.headers.has('content-length'))
  }
})

t.test('a client that goes away while it is awaited leaves nothing behind', async (t) => {
  const driven = through([])
  driven.send('123')
  driven.clientGone()
  await settle(1)
  t.equal(driven.upstream.begun, 0)
  t.equal(driven.ends(), 1)
  t.same(driven.errors, [])
})

t.test('the most specific level sets another limit or switches it off', async (t) => {
  const larger = through([{ disabled: true }, { buffer: { max_request_bytes: 20 } }])
  larger.send('12345678901', true)
  await settle(1)
  t.equal(larger.upstream.body, '12345678901')
  t.equal(build(buffer, { max_request_bytes: 10 }, { levels: [{ disabled: true }] }), undefined)
})

t.test('mistakes are found', async (t) => {
  const own = (value: JsonObject): string[] => parseJson(value, (fields) => buffer.parse(fields)).errors
  const route = (value: JsonObject): string[] => parseJson(value, (fields) => buffer.parseRoute?.(fields)).errors
  t.same(own({}), ['max_request_bytes: is required'])
  t.same(own({ max_request_bytes: 0 }), [
    'max_request_bytes: must be a whole number of bytes from 1 to 4294967295, got 0',
  ])
  t.equal(own({ max_request_bytes: 1.5 }).length, 1)
  t.equal(own({ max_request_bytes: 2 ** 32 }).length, 1)
  t.same(own({ max_request_bytes: 1, max_request_time: '1s' }), ['max_request_time: unknown field'])
  t.same(route({}), ['one of disabled and buffer is required'])
  t.same(route({ disabled: false }), ['disabled: must be true where it is set'])
  t.same(route({ disabled: true, buffer: { max_request_bytes: 1 } }), ['disabled and buffer exclude each other'])
  t.same(route({ buffer: {} }), ['buffer.max_request_bytes: is required'])
})
