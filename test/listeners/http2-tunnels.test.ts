import { once } from 'node:events'
import { type ClientHttp2Stream, constants } from 'node:http2'
import type { Socket } from 'node:net'
import t, { type Test } from 'tap'
import { settle } from '../support/clock.ts'
import { data, describe, type Fields, FLAG, headers, T } from '../support/http2-wire.ts'
import type { OriginScript } from '../support/origin.ts'
import { answerOf, type Http2Setup, setup2 } from './http2-client.ts'

/** CONNECT and extended CONNECT (RFC 8441) over HTTP/2 to an HTTP/1 origin. */

const WS = { upgrade_configs: [{ upgrade_type: 'websocket' }], http2_protocol_options: { allow_connect: true } }
const CONNECT = { ...WS, upgrade_configs: [{ upgrade_type: 'CONNECT' }] }
const SWITCH =
  'HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: abc\r\n\r\n'
const ASK = { ':method': 'CONNECT', ':protocol': 'websocket', ':path': '/chat', ':scheme': 'http' }
const CONNECT_ROUTES = [
  { match: { connect_matcher: {} }, route: { cluster: 'origin', upgrade_configs: [{ upgrade_type: 'CONNECT' }] } },
]

interface Tunnelled extends Http2Setup {
  /** The origin's side of the tunnels, in order. */
  readonly sockets: Socket[]
}

async function tunnels(t: Test, spec: Parameters<typeof setup2>[1] = {}, answer = SWITCH): Promise<Tunnelled> {
  const sockets: Socket[] = []
  const origin: OriginScript = async (_, reply) => {
    const socket = reply.takeOver()
    sockets.push(socket)
    await reply.write(answer)
  }
  const base = await setup2(t, { hcm: WS, origin, ...spec })
  return { ...base, sockets }
}

function collect(stream: ClientHttp2Stream): { text: string; ended: boolean } {
  const out = { text: '', ended: false }
  stream.on('data', (chunk: Buffer) => {
    out.text += chunk.toString('latin1')
  })
  stream.on('end', () => {
    out.ended = true
  })
  stream.on('error', () => {})
  return out
}

t.test('a WebSocket by extended CONNECT to an HTTP/1 origin, with half-close both ways', async (t) => {
  const { gateway, origin, sockets, client2, finish } = await tunnels(t)
  const { session } = client2()
  await once(session, 'remoteSettings')
  t.equal(session.remoteSettings.enableConnectProtocol, true)
  const stream = session.request({ ...ASK, 'sec-websocket-version': '13' }, { endStream: false })
  const got = collect(stream)
  const [fields] = await once(stream, 'response')
  t.equal(fields[':status'], 200)
  t.equal(fields['sec-websocket-accept'], undefined)
  t.equal(fields.upgrade, undefined)
  const seen = origin.requests[0]
  t.equal(seen.method, 'GET')
  t.equal(seen.target, '/chat')
  t.equal(seen.get('upgrade'), 'websocket')
  t.equal(seen.get('connection')?.toLowerCase(), 'upgrade')
  t.match(seen.get('sec-websocket-key'), /^[A-Za-z0-9+/]{22}==$/)
  const [socket] = sockets
  stream.write('up;')
  t.equal(String((await once(socket, 'data'))[0]), 'up;')
  socket.write('down;')
  await gateway.until(() => got.text === 'down;', 'bytes from upstream')
  stream.end('last')
  t.equal(String((await once(socket, 'data'))[0]), 'last')
  await once(socket, 'end')
  socket.write('after the end')
  await gateway.until(() => got.text === 'down;after the end', 'bytes after the half-close')
  socket.end()
  await once(stream, 'close')
  t.ok(got.ended)
  t.equal(gateway.stat('http.test.downstream_rq_active'), 0)
  const [line] = await finish()
  t.match(line, { method: 'GET', path: '/chat', status: 101, received: 7, sent: 18 })
})

t.test('without allow_connect the setting is not announced, and asking is an error', async (t) => {
  const { frames } = await tunnels(t, { hcm: { upgrade_configs: WS.upgrade_configs } })
  const wire = await frames()
  const fields: Fields = [
    [':method', 'CONNECT'],
    [':protocol', 'websocket'],
    [':scheme', 'http'],
    [':path', '/'],
    [':authority', 'a.example'],
  ]
  await wire.write(headers(1, fields))
  t.equal(describe(await wire.until((f) => f.type === T.GOAWAY)), 'GOAWAY 1 code 1')
})

t.test('bytes before the answer wait for it', async (t) => {
  let answer = (): void => {}
  const sockets: Socket[] = []
  const { gateway, frames } = await setup2(t, {
    hcm: WS,
    origin: async (_, reply) => {
      const socket = reply.takeOver()
      sockets.push(socket)
      await new Promise<void>((resolve) => {
        answer = resolve
      })
      await reply.write(SWITCH)
    },
  })
  const wire = await frames()
  const fields: Fields = [
    [':method', 'CONNECT'],
    [':protocol', 'websocket'],
    [':scheme', 'http'],
    [':path', '/'],
    [':authority', 'a.example'],
  ]
  await wire.write(headers(1, fields), data(1, 'early;'), data(1, 'and last', true))
  await gateway.until(() => sockets.length === 1, 'the origin')
  let received = ''
  sockets[0].on('data', (chunk: Buffer) => {
    received += chunk
  })
  await settle(20)
  t.equal(received, '')
  answer()
  await once(sockets[0], 'end')
  t.equal(received, 'early;and last')
  const head = await wire.until((f) => f.streamId === 1)
  t.equal(head.payload[0], 0x88, ':status 200')
  t.equal(head.flags & FLAG.END_STREAM, 0)
  sockets[0].end('bye')
  t.equal((await wire.until((f) => f.type === T.DATA)).payload.toString(), 'bye')
  await gateway.until(() => gateway.stat('http.test.downstream_rq_active') === 0, 'end of the tunnel')
})

t.test('what is not permitted is refused, and an answer that is no switch is passed on', async (t) => {
  const refused = await tunnels(t, { hcm: { http2_protocol_options: { allow_connect: true } } })
  const one = refused.client2()
  await once(one.session, 'remoteSettings')
  const first = one.session.request(ASK, { endStream: false })
  const firstAnswer = await answerOf(first)
  t.equal(firstAnswer.status, 403)
  const denied = await setup2(t, { hcm: WS, origin: (_, reply) => void reply.send({ status: 404, body: 'no chat' }) })
  const two = denied.client2()
  await once(two.session, 'remoteSettings')
  const second = two.session.request(ASK, { endStream: false })
  const secondAnswer = await answerOf(second)
  t.equal(secondAnswer.status, 404)
  t.equal(secondAnswer.body.toString(), 'no chat')
  const plain = await setup2(t, { hcm: WS, origin: (_, reply) => void reply.send({ body: 'just a page' }) })
  const three = plain.client2()
  await once(three.session, 'remoteSettings')
  const third = await answerOf(three.session.request(ASK, { endStream: false }))
  t.equal(third.status, 0, '200 would mean that there is a tunnel')
  t.equal(third.code, constants.NGHTTP2_INTERNAL_ERROR)
  t.equal((await plain.client2().request()).status, 200)
})

t.test('an extended CONNECT that asks for h2c reaches nobody', async (t) => {
  const { client2, origin } = await setup2(t, { hcm: WS })
  const { session } = client2()
  await once(session, 'remoteSettings')
  const answer = await answerOf(session.request({ ...ASK, ':protocol': 'h2c' }, { endStream: false }))
  t.equal(answer.status, 403)
  t.equal(origin.requests.length, 0)
})

t.test('plain CONNECT, its resets and its end', async (t) => {
  const { gateway, sockets, client2, origin } = await tunnels(
    t,
    { hcm: CONNECT, routes: CONNECT_ROUTES },
    'HTTP/1.1 200 OK\r\n\r\n',
  )
  const { session } = client2()
  await once(session, 'connect')
  const open = async (): Promise<ClientHttp2Stream> => {
    const stream = session.request({ ':method': 'CONNECT', ':authority': 'db.example:5432' }, { endStream: false })
    const [fields] = await once(stream, 'response')
    t.equal(fields[':status'], 200)
    return stream
  }
  const first = await open()
  const got = collect(first)
  t.equal(origin.requests[0].method, 'CONNECT')
  t.equal(origin.requests[0].target, 'db.example:5432')
  sockets[0].write('hello')
  await gateway.until(() => got.text === 'hello', 'bytes from upstream')
  sockets[0].resetAndDestroy()
  await new Promise<void>((resolve) => first.on('close', () => resolve()))
  t.equal(first.rstCode, constants.NGHTTP2_CONNECT_ERROR)
  const second = await open()
  second.on('error', () => {})
  const gone = Promise.race([once(sockets[1], 'end'), once(sockets[1], 'close')])
  second.close(constants.NGHTTP2_CANCEL)
  await gone
  await gateway.until(() => gateway.stat('http.test.downstream_rq_active') === 0, 'end of the tunnels')
  t.equal(gateway.stat('http.test.downstream_cx_active'), 1)
})

t.test('a CONNECT without a port is refused', async (t) => {
  const { frames } = await setup2(t, { hcm: CONNECT, routes: CONNECT_ROUTES })
  const wire = await frames()
  await wire.write(
    headers(1, [
      [':method', 'CONNECT'],
      [':authority', 'db.example'],
    ]),
  )
  t.equal(describe(await wire.until((f) => f.type === T.GOAWAY)), 'GOAWAY 1 code 1')
})

t.test('a tunnel obeys both sides', async (t) => {
  const { gateway, sockets, client2 } = await tunnels(t)
  const { session } = client2()
  await once(session, 'remoteSettings')
  const stream = session.request(ASK, { endStream: false })
  stream.on('error', () => {})
  stream.pause()
  await once(stream, 'response')
  const [socket] = sockets
  const piece = Buffer.alloc(64 * 1024, 'd')
  const size = 32 << 20
  let sent = 0
  const feed = async (): Promise<void> => {
    for (; sent < size; sent += piece.length) if (!socket.write(piece)) await once(socket, 'drain')
    socket.end()
  }
  const fed = feed()
  for (let still = 0, before = -1; still < 50; before = sent) {
    await settle(2)
    still = sent === before ? still + 1 : 0
  }
  t.ok(sent < size, `${sent} bytes have left the origin`)
  t.ok(gateway.stat('http2.pending_send_bytes') < 1 << 20)
  let received = 0
  stream.on('data', (chunk: Buffer) => {
    received += chunk.length
  })
  stream.resume()
  await fed
  await once(stream, 'end')
  t.equal(received, size)
  stream.end()
  await once(stream, 'close')
})
