import type { Duplex } from 'node:stream'
import t from 'tap'
import { settle, TestClock } from '../support/clock.ts'
import { withFilters } from './filter-instances.ts'
import { activeRequests, lane, PAIRS, WISHES } from './tunnel-lane.ts'
import { gather } from './tunnel-peers.ts'

/** WebSockets and CONNECT by every pair of protocols: what holds them back, denies them and ends them. */

const MIB = 128

for (const pair of PAIRS) {
  const name = pair.join(' to ')

  for (const stalled of ['client', 'upstream'] as const) {
    t.test(`${name}: a ${stalled} that does not read holds back the other, not memory`, async (t) => {
      const { gateway, open, finish } = await lane(t, pair)
      const { near, far } = await open()
      const [from, to] = stalled === 'client' ? [far, near] : [near, far]
      to.pause()
      const chunk = Buffer.alloc(1 << 20, 'z')
      let taken = 0
      // What the sender's own socket takes says how much is on its way; the gateway may hold no more than its limits.
      const pour = (): void => {
        while (taken < MIB && from.writableLength < 4 * chunk.length) {
          taken++
          from.write(chunk)
        }
      }
      from.on('drain', pour)
      pour()
      let before = -1
      await gateway.until(() => {
        const same = before === taken
        before = taken
        return same && from.writableLength > 0
      }, 'stop of the sender')
      for (let i = 0; i < 200; i++) await settle()
      t.ok(taken < MIB / 2, `${taken} MiB were taken of ${MIB}`)
      const got = gather(to, false)
      to.resume()
      await gateway.until(() => got.bytes === MIB * chunk.length, 'rest', 60_000)
      from.end()
      await gateway.until(() => got.ended, 'end', 30_000)
      to.end()
      t.equal((await finish()).length, 1)
    })
  }

  t.test(`${name}: bytes before the answer wait for it, both ways`, async (t) => {
    let goOn = (): void => {}
    const going = new Promise<void>((resolve) => {
      goOn = resolve
    })
    const adjust = withFilters({ onResponseHeaders: () => going })
    const { gateway, upstream, client, finish } = await lane(t, pair, { gateway: { adjust } })
    const asking = await client.ask('websocket')
    const asked = await upstream.next()
    asking.stream.write('early ')
    for (let i = 0; i < 20; i++) await settle()
    const far = asked.grant('first ')
    const up = gather(far)
    far.write('second ')
    for (let i = 0; i < 20; i++) await settle()
    goOn()
    t.equal((await asking.answer).status, client.kind === 'http1' ? 101 : 200)
    const down = gather(asking.stream)
    await gateway.until(() => up.text === 'early ' && down.text === 'first second ', 'early bytes')
    asking.stream.end('late')
    far.end('third')
    await gateway.until(() => up.ended && down.ended, 'both ends')
    t.same([up.text, down.text], ['early late', 'first second third'])
    const lines = await finish()
    t.equal(lines.length, 1)
    t.match(lines[0], { received: 10, sent: 18 })
  })

  t.test(`${name}: silence ends a tunnel, bytes either way put that off`, async (t) => {
    const clock = new TestClock()
    const { gateway, open, finish } = await lane(t, pair, {
      hcm: { stream_idle_timeout: '10s' },
      // Not the subject: a tunnel outlives the route's timeout.
      route: { timeout: '3s' },
      gateway: { clock },
    })
    const { asked, near, far } = await open()
    const up = gather(far)
    const down = gather(near)
    for (let i = 0; i < 4; i++) {
      clock.advance(6_000)
      if (i % 2 === 0) near.write('u')
      else far.write('d')
      await gateway.until(() => up.bytes + down.bytes === i + 1, 'a byte')
    }
    clock.advance(10_500)
    await Promise.all([asked.gone(), down.closed])
    t.ok(down.broken)
    const lines = await finish()
    t.equal(lines.length, 1)
    t.match(lines[0], { flags: 'SI', details: 'stream_idle_timeout', received: 2, sent: 2 })
  })

  t.test(`${name}: a filter that denies a granted upgrade ends the upstream's side`, async (t) => {
    const adjust = withFilters({
      onResponseHeaders: (stream) => stream.reply({ status: 451, body: 'no', details: 'denied' }),
    })
    const { upstream, client, finish } = await lane(t, pair, { gateway: { adjust } })
    const asking = await client.ask('websocket')
    const asked = await upstream.next()
    asked.grant('early')
    t.equal((await asking.answer).status, 451)
    await asked.gone()
    t.equal(await bodyOf(asking.stream, 2), 'no')
    const lines = await finish()
    t.equal(lines.length, 1)
    t.match(lines[0], { status: 451, details: 'denied', sent: 2 })
  })

  t.test(`${name}: a filter that denies the request never asks the upstream`, async (t) => {
    const adjust = withFilters({
      onRequestHeaders: (stream) => stream.reply({ status: 401, body: 'who?', details: 'denied' }),
    })
    const { upstream, client, finish } = await lane(t, pair, { gateway: { adjust } })
    for (const wish of WISHES) {
      const asking = await client.ask(wish)
      asking.stream.write('no request')
      t.equal((await asking.answer).status, 401)
      t.equal(await bodyOf(asking.stream, 4), 'who?')
    }
    t.equal(upstream.asked, 0)
    t.same(
      (await finish()).map((line) => line.status),
      [401, 401],
    )
  })

  for (const status of [404, 503]) {
    t.test(`${name}: an upstream that answers with ${status} gives a response and no tunnel`, async (t) => {
      const { gateway, upstream, client, finish } = await lane(t, pair)
      for (const wish of WISHES) {
        const asking = await client.ask(wish)
        const asked = await upstream.next()
        asked.refuse(status, 'not here')
        t.equal((await asking.answer).status, status)
        t.equal(await bodyOf(asking.stream, 8), 'not here')
      }
      await gateway.until(() => activeRequests(gateway) === 0, 'release')
      const lines = await finish()
      t.same(
        lines.map((line) => [line.status, line.sent]),
        [
          [status, 8],
          [status, 8],
        ],
      )
    })
  }

  t.test(`${name}: tunnels count against max_requests for as long as they last`, async (t) => {
    const thresholds = { thresholds: [{ max_requests: 1 }] }
    const { gateway, client, upstream, open, finish } = await lane(t, pair, {
      cluster: { circuit_breakers: thresholds },
    })
    const { near, far } = await open()
    // Node resets a stream that has been answered and is not read.
    far.resume()
    far.end()
    const down = gather(near)
    await gateway.until(() => down.ended, 'half-close')
    t.equal((await (await client.ask('websocket')).answer).status, 503, 'half a tunnel is one')
    near.end()
    await gateway.until(() => activeRequests(gateway) === 0, 'release')
    const again = await client.ask('connect')
    ;(await upstream.next()).grant().resume().end()
    t.equal((await again.answer).status, 200)
    again.stream.resume()
    again.stream.end()
    const lines = await finish()
    t.same(
      lines.map((line) => line.flags),
      ['UO', '-', '-'],
    )
  })

  t.test(`${name}: what is not permitted is 403 and not seen by the upstream`, async (t) => {
    const { upstream, client, finish } = await lane(t, pair, { hcm: { upgrade_configs: [] } })
    for (const upgrade of ['websocket', 'spdy']) {
      const asking = await client.ask('websocket', '/', upgrade)
      t.equal((await asking.answer).status, 403)
    }
    t.equal(upstream.asked, 0)
    t.same(
      (await finish()).map((line) => line.details),
      ['upgrade_failed', 'upgrade_failed'],
    )
  })
}

/** So many bytes behind the answer's head, or fewer where the stream ends. */
async function bodyOf(stream: Duplex, bytes: number): Promise<string> {
  const got = gather(stream)
  while (got.bytes < bytes && !got.ended && !stream.closed) await settle()
  return got.text
}
