import type { Socket } from 'node:net'
import t from 'tap'
import { settle } from '../support/clock.ts'
import type { OriginScript } from '../support/origin.ts'
import { withFilters } from './filter-instances.ts'
import { get, setup } from './setup.ts'

/** Upgrades and CONNECT where something happens at the wrong moment. */

const WS = ['connection: Upgrade', 'upgrade: websocket']
const ENABLE_WS = { upgrade_configs: [{ upgrade_type: 'websocket' }] }
const SWITCH = 'HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n'

for (const what of ['sends', 'ends', 'resets'] as const) {
  t.test(`an origin that ${what} while response hooks are at work on its 101`, async (t) => {
    let paused = (): void => {}
    const pausing = new Promise<void>((resolve) => {
      paused = resolve
    })
    let goOn = (): void => {}
    const going = new Promise<void>((resolve) => {
      goOn = resolve
    })
    let upstream: Socket | undefined
    const { gateway, origin, connect } = await setup(t, {
      hcm: ENABLE_WS,
      origin: async (_, reply) => {
        upstream = reply.takeOver()
        await reply.write(SWITCH)
      },
      gateway: {
        adjust: withFilters({
          async onResponseHeaders(): Promise<void> {
            paused()
            await going
          },
        }),
      },
    })
    const wire = await connect({ halfOpen: true })
    await wire.write(get('/', ...WS))
    await pausing
    if (what === 'resets') upstream?.resetAndDestroy()
    else {
      upstream?.write('FRAME1;')
      if (what === 'ends') upstream?.end()
    }
    await settle(20)
    goOn()
    if (what === 'resets') {
      // Nobody reads from the origin meanwhile, so the reset is noticed behind the answer that it had given.
      t.equal((await wire.readResponse({ interim: true })).status, 101)
      t.equal((await wire.readToEnd()).ending, 'reset', 'the client is told')
    } else {
      t.equal((await wire.readResponse({ interim: true })).status, 101)
      t.equal((await wire.readBytes(7)).toString(), 'FRAME1;')
      if (what === 'ends') t.equal(await wire.expectEnd(), 'fin')
      const got = new Promise((resolve) => upstream?.on('data', resolve))
      await wire.write('up')
      t.equal(String(await got), 'up')
      wire.end()
      if (what === 'sends') upstream?.end()
    }
    await gateway.until(() => gateway.stat('http.test.downstream_cx_active') === 0, 'end of the tunnel')
    await origin.until(() => origin.open === 0, 'end of the upstream connection')
    t.equal(gateway.stat('http.test.downstream_rq_active'), 0)
    t.equal(gateway.stat('cluster.origin.upstream_rq_active'), 0)
  })
}

const refuse: OriginScript = (request, reply) =>
  void reply.send(request.method === 'CONNECT' ? { status: 403 } : { body: 'smuggled' })

for (const by of ['the origin', 'a filter', 'the routes'] as const) {
  t.test(`bytes behind a CONNECT that ${by} refuses are no requests`, async (t) => {
    const { origin, connect } = await setup(t, {
      hcm: { upgrade_configs: [{ upgrade_type: 'CONNECT' }] },
      origin: refuse,
      routes: [
        ...(by === 'the routes' ? [] : [{ match: { connect_matcher: {} }, route: { cluster: 'origin' } }]),
        { match: { prefix: '/' }, route: { cluster: 'origin' } },
      ],
      ...(by === 'a filter' && {
        gateway: {
          adjust: withFilters({
            onRequestHeaders: (stream) =>
              stream.head.method === 'CONNECT' ? stream.reply({ status: 403, details: 'no' }) : undefined,
          }),
        },
      }),
    })
    const wire = await connect()
    await wire.write(`CONNECT a.example:443 HTTP/1.1\r\nhost: a.example:443\r\n\r\n${get('/smuggled')}`)
    const response = await wire.readResponse({ method: 'CONNECT' })
    t.equal(response.status, by === 'the routes' ? 404 : 403)
    t.equal(response.get('connection'), 'close')
    t.equal(await wire.expectEnd(), 'fin')
    t.same(
      origin.requests.map((request) => request.method),
      by === 'the origin' ? ['CONNECT'] : [],
    )
  })
}

for (const by of ['the origin', 'a filter', 'a response hook', 'the routes', 'nobody'] as const) {
  t.test(`bytes behind an upgrade that ${by} refuses are no requests`, async (t) => {
    const { origin, connect } = await setup(t, {
      hcm: by === 'nobody' ? {} : ENABLE_WS,
      origin: async (request, reply) => {
        if (by === 'a response hook') reply.takeOver().write(`${SWITCH}FRAME;`)
        else await reply.send({ status: request.target === '/ws' ? 200 : 207, body: 'plain' })
      },
      routes: [{ match: { prefix: by === 'the routes' ? '/other' : '/' }, route: { cluster: 'origin' } }],
      gateway: {
        adjust: withFilters({
          onRequestHeaders: (stream) => (by === 'a filter' ? stream.reply({ status: 403, details: 'no' }) : undefined),
          onResponseHeaders: (stream) =>
            by === 'a response hook' && stream.status === 101
              ? stream.reply({ status: 403, details: 'no' })
              : undefined,
        }),
      },
    })
    const expected = { 'the origin': 200, 'the routes': 404 }
    for (const split of [false, true]) {
      const sent = origin.requests.length
      const wire = await connect()
      const head = get('/ws', ...WS)
      await wire.write(split ? head : `${head}${get('/smuggled')}`)
      const response = await wire.readResponse({})
      t.equal(response.status, (expected as Record<string, number>)[by] ?? 403)
      t.equal(response.get('connection'), 'close')
      if (split) await wire.write(get('/smuggled'))
      t.equal(await wire.expectEnd(), 'fin')
      t.same(
        origin.requests.slice(sent).map((request) => request.target),
        by === 'the origin' || by === 'a response hook' ? ['/ws'] : [],
      )
    }
  })
}

t.test('an upgrade with a body ends its connection, an offer of h2c does not', async (t) => {
  const { connect } = await setup(t, { hcm: ENABLE_WS })
  const wire = await connect()
  const offered = await wire.exchange(
    get('/', 'connection: Upgrade, HTTP2-Settings', 'upgrade: h2c', 'http2-settings: AA'),
  )
  t.equal(offered.status, 200)
  t.equal(offered.get('connection'), undefined)
  const posted = await wire.exchange(
    `POST / HTTP/1.1\r\nhost: a.example\r\ncontent-length: 2\r\n${WS.join('\r\n')}\r\n\r\nok`,
  )
  t.equal(posted.status, 200)
  t.equal(posted.get('connection'), 'close')
  t.equal(await wire.expectEnd(), 'fin')
})

t.test('a tunnel counts against max_requests until it ends', async (t) => {
  const { gateway, connect } = await setup(t, {
    hcm: ENABLE_WS,
    cluster: { circuit_breakers: { thresholds: [{ max_requests: 1 }] } },
    origin: async (_, reply) => {
      const socket = reply.takeOver()
      socket.once('end', () => socket.end())
      await reply.write(SWITCH)
    },
  })
  for (let round = 0; round < 2; round++) {
    const tunnel = await connect()
    t.equal((await tunnel.exchange(get('/', ...WS), { interim: true })).status, 101)
    t.equal(gateway.stat('cluster.origin.upstream_rq_active'), 1)
    t.equal(gateway.stat('cluster.origin.circuit_breakers.default.rq_open'), 1)
    t.equal((await (await connect()).exchange(get('/', ...WS))).status, 503)
    if (round === 0) tunnel.end()
    else tunnel.reset()
    await gateway.until(() => gateway.stat('cluster.origin.upstream_rq_active') === 0, 'end of the tunnel')
    t.equal(gateway.stat('cluster.origin.circuit_breakers.default.rq_open'), 0)
  }
})
