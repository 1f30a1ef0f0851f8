import t from 'tap'
import { Headers } from '../../lib/core/headers.ts'
import { Http2Code } from '../../lib/http2/contract.ts'
import { HpackDecoder } from '../../lib/http2/hpack/decoder.ts'
import { SessionRig, type StreamLog } from '../support/http2-session.ts'
import {
  data,
  describe,
  type Fields,
  get,
  goaway,
  headerBlock,
  headers,
  ping,
  request,
  rstStream,
  SETTING,
  settings,
  settingsAck,
  splitHeaders,
  T,
} from '../support/http2-wire.ts'

const NONE = (): Headers => new Headers()
const OK: Fields = [[':status', '200']]
const open = (id: number): Buffer => headers(id, request('POST'))

t.test('what each side says first', async (t) => {
  const server = new SessionRig({
    config: {
      initialStreamWindowBytes: 65536,
      initialConnectionWindowBytes: 1048576,
      maxConcurrentStreams: 100,
      allowConnect: true,
      hpackTableBytes: 8192,
      customSettings: [{ id: 0x10, value: 7 }],
    },
  })
  server.session.start()
  const [first, second, ...rest] = server.take()
  const pairs: number[][] = []
  for (let at = 0; at < first.payload.length; at += 6)
    pairs.push([first.payload.readUInt16BE(at), first.payload.readUInt32BE(at + 2)])
  t.same(pairs, [
    [1, 8192],
    [3, 100],
    [4, 65536],
    [6, 61440],
    [8, 1],
    [9, 1],
    [16, 7],
  ])
  t.same([describe(second), rest], ['WINDOW_UPDATE 0 by 983041', []])
  const client = new SessionRig({
    role: 'client',
    config: { initialStreamWindowBytes: 65535, initialConnectionWindowBytes: 65535 },
  })
  client.session.start()
  const [settingsFrame, ...more] = client.take()
  t.equal(settingsFrame.payload.toString('hex'), '000200000000' + '00060000f000' + '000900000001')
  t.same(more, [])
})

t.test('SETTINGS are acknowledged, PINGs answered, both in their order', async (t) => {
  const rig = SessionRig.ready()
  t.equal(rig.session.ready, true)
  t.equal(rig.session.settingsAcked, true)
  rig.feed(ping('aaaaaaaa'), settings(), ping('bbbbbbbb'))
  const frames = rig.take()
  t.same(
    frames.map((f) => describe(f) + f.payload.toString()),
    ['PING ACKaaaaaaaa', 'SETTINGS ACK', 'PING ACKbbbbbbbb'],
  )
  t.equal(rig.writes, 1 + 1, 'the handshake in one write, and these')
  const fresh = new SessionRig()
  fresh.session.start()
  t.same([fresh.session.ready, fresh.session.settingsAcked], [false, false])
})

t.test('our PING: one at a time, and only its own answer counts', async (t) => {
  const rig = SessionRig.ready()
  t.same([rig.session.ping(), rig.session.ping()], [true, false])
  const [sent] = rig.take()
  rig.feed(ping('notours!', true))
  t.notMatch(rig.events, ['pong'])
  rig.feed(ping(sent.payload.toString('latin1'), true), ping(sent.payload.toString('latin1'), true))
  t.equal(rig.events.filter((e) => e === 'pong').length, 1)
  t.equal(rig.session.ping(), true)
})

t.test('a response with interim ones, trailers and fields that do not belong', async (t) => {
  const rig = SessionRig.ready()
  rig.feed(headers(1, get(), true))
  const { stream } = rig.requests[0]
  stream!.informational(103, new Headers(['link', '</a>']))
  stream!.informational(101, NONE())
  stream!.informational(200, NONE())
  stream!.write(Buffer.from('before the head'), false)
  t.equal(
    stream!.respond(
      200,
      new Headers([
        'connection',
        'close',
        'keep-alive',
        '5',
        'transfer-encoding',
        'chunked',
        'upgrade',
        'x',
        'proxy-connection',
        'x',
        'te',
        'gzip',
        ':path',
        '/',
        'a',
        'b',
      ]),
      false,
    ) > 0,
    true,
  )
  t.equal(stream!.respond(500, NONE(), true), 0, 'a second head')
  stream!.informational(103, NONE())
  stream!.write(Buffer.from('body'), false)
  stream!.trailers(new Headers(['grpc-status', '0']))
  stream!.trailers(new Headers(['grpc-status', '1']))
  stream!.write(Buffer.from('late'), true)
  const frames = rig.take()
  t.match(frames.map(describe), [/^HEADERS 1 /, /^HEADERS 1 /, 'DATA 1 4', /^HEADERS 1 \+END_STREAM/])
  t.equal(frames.length, 4)
  t.equal(rig.session.openStreams, 0)
  t.equal(rig.closedStreams, 1)
  t.equal(rig.stats.streamsActive.v, 0)
  // The block of the final head: 200 and `a: b`, nothing else. What a decoder makes of it is checked in the differential.
  t.ok(frames[1].payload.length <= 8, `${frames[1].payload.length} bytes`)
})

t.test('a list that fills several frames leaves as HEADERS and CONTINUATIONs', async (t) => {
  const server = SessionRig.ready({ role: 'server' })
  const client = SessionRig.ready({ role: 'client', maxHeaderListBytes: 200_000, maxHeaders: 200 })
  server.feed(headers(1, get(), true))
  const fields = Array.from({ length: 90 }, (_, i) => [`name-${i}`, `${i}-`.repeat(400)]).flat()
  server.requests[0].stream!.respond(200, new Headers(fields.slice()), true)
  const frames = server.take()
  t.ok(frames.length >= 3, `${frames.length} frames`)
  t.same(
    frames.slice(1).map((f) => f.type),
    frames.slice(1).map(() => T.CONTINUATION),
  )
  t.same(
    frames.map((f) => f.flags),
    [1, ...frames.slice(2).map(() => 0), 4],
  )
  for (const f of frames.slice(0, -1)) t.equal(f.payload.length, 16384)
  const log = client.request()!
  client.take()
  // Back to bytes, as they were on the wire.
  const wire = Buffer.concat(
    frames.map((f) =>
      Buffer.concat([
        Buffer.from([f.payload.length >> 16, f.payload.length >> 8, f.payload.length, f.type, f.flags, 0, 0, 0, 1]),
        f.payload,
      ]),
    ),
  )
  client.feed(wire)
  t.same(log.headers!.raw, fields)
})

t.test('a request from the client: pseudo-headers, body, trailers', async (t) => {
  const client = SessionRig.ready({ role: 'client' }, [[SETTING.ENABLE_CONNECT_PROTOCOL, 1]])
  const server = SessionRig.ready({ config: { allowConnect: true } })
  t.equal(client.session.connectProtocol, true)
  client.onWrite = (bytes) => server.feed(Buffer.from(bytes))
  server.onWrite = (bytes) => client.feed(Buffer.from(bytes))
  const heads = [
    { method: 'GET', path: '/x?y' },
    { method: 'OPTIONS', path: '*', authority: '' },
    { method: 'CONNECT', scheme: '', path: '', authority: 'a:443' },
    { method: 'CONNECT', path: '/chat', protocol: 'websocket', scheme: 'https' },
  ]
  for (const head of heads) {
    const log = client.request(head, false, new Headers(['a', 'b']))!
    log.stream!.write(Buffer.from('body'), false)
    log.stream!.trailers(new Headers(['t', 'u']))
    client.take()
    const seen = server.requests.at(-1)!
    t.match(seen.head, head)
    t.same(seen.lines, ['data 4', 'trailers t u'])
    seen.stream!.respond(204, NONE(), true)
    server.take()
    t.same(log.lines, ['headers 204 end'])
  }
  t.equal(client.session.openStreams + server.session.openStreams, 0)
})

t.test('a client opens what the peer allows, and its ids rise by two', async (t) => {
  const rig = SessionRig.ready({ role: 'client', config: { maxConcurrentStreams: 3 } })
  t.equal(rig.session.maxStreams, 3)
  rig.feed(settings([SETTING.MAX_CONCURRENT_STREAMS, 2]))
  t.equal(rig.session.maxStreams, 2)
  t.same([rig.request()!.stream!.id, rig.request()!.stream!.id, rig.request()], [1, 3, undefined])
  t.equal(rig.session.available, 0)
  rig.feed(headers(1, OK, true))
  t.equal(rig.session.available, 1)
  t.equal(rig.request()!.stream!.id, 5)
  rig.feed(settings([SETTING.MAX_CONCURRENT_STREAMS, 0]))
  t.equal(rig.session.available, 0)
  t.same(rig.events.filter((e) => e === 'settings').length, 3)
  const server = SessionRig.ready()
  t.equal(server.session.available, 0)
  t.equal(server.request(), undefined)
})

t.test('RST_STREAM of the peer reaches the handler once, with what it means for a retry', async (t) => {
  const client = SessionRig.ready({ role: 'client' })
  const logs = [client.request()!, client.request()!, client.request({}, false)!]
  client.feed(rstStream(1, Http2Code.REFUSED_STREAM), rstStream(3, Http2Code.CANCEL), rstStream(3, Http2Code.CANCEL))
  t.same(logs[0].lines, ['reset 7 peer unprocessed'])
  t.same(logs[1].lines, ['reset 8 peer processed'])
  // A whole response, then NO_ERROR for the request that goes on: no failure (RFC 9113 §8.1).
  client.feed(headers(5, OK), data(5, 'x', true), rstStream(5, Http2Code.NO_ERROR))
  t.same(logs[2].lines, ['headers 200', 'data 1 end'])
  t.equal(client.session.openStreams, 0)
  t.equal(logs[2].stream!.write(Buffer.from('more'), true), true)
  client.take()
  t.equal(client.stats.rxReset.v, 3)
  const server = SessionRig.ready()
  server.feed(headers(1, get(), true), rstStream(1, Http2Code.CANCEL))
  t.same(server.requests[0].lines, ['reset 8 peer processed'])
  t.equal(server.requests[0].stream!.respond(200, NONE(), true), 0)
  t.same(server.taken(), [])
})

t.test('our reset: nothing more is heard, late frames are ignored and still counted', async (t) => {
  const rig = SessionRig.ready({ config: { initialConnectionWindowBytes: 65535 } })
  rig.feed(open(1))
  const { stream, lines } = rig.requests[0]
  stream!.reset(Http2Code.CANCEL)
  stream!.reset(Http2Code.CANCEL)
  t.same(rig.taken(), ['RST_STREAM 1 code 8'])
  const chunk = Buffer.alloc(16384)
  rig.feed(data(1, chunk), data(1, chunk), headers(1, [['late', 'trailer']], true))
  t.same(rig.taken(), ['WINDOW_UPDATE 0 by 32768'])
  t.same(lines, [])
  t.equal(rig.stats.txReset.v, 1)
  t.equal(rig.stats.headersCbNoStream.v, 1)
  // The tables are in step: the entry that the late block has added can be named.
  rig.feed(headers(3, Buffer.concat([Buffer.from([0x82, 0x86, 0x84, 0x41, 1, 0x61])]), true))
  t.equal(rig.requests[1].head!.authority, 'a')
})

t.test('an answer before the request is complete: discard, and RST_STREAM with NO_ERROR behind it', async (t) => {
  const before = SessionRig.ready({ config: { initialStreamWindowBytes: 65535, initialConnectionWindowBytes: 65535 } })
  before.feed(open(1), data(1, 'x'))
  const { stream, lines } = before.requests[0]
  stream!.discard()
  before.feed(data(1, Buffer.alloc(16384)), data(1, Buffer.alloc(16384)))
  t.same(before.taken(), ['WINDOW_UPDATE 0 by 32769', 'WINDOW_UPDATE 1 by 32769'], 'dropped and credited')
  stream!.respond(413, NONE(), false)
  stream!.write(Buffer.from('too large'), true)
  t.match(before.taken(), [/^HEADERS 1 /, 'DATA 1 +END_STREAM 9', 'RST_STREAM 1 code 0'])
  t.same(lines, ['data 1'])
  t.equal(before.session.openStreams, 0)
  const after = SessionRig.ready()
  after.feed(open(1))
  after.requests[0].stream!.respond(200, NONE(), true)
  t.match(after.taken(), [/^HEADERS 1 \+END_STREAM/])
  t.equal(after.session.openStreams, 1, 'the request may go on')
  after.feed(data(1, 'y'))
  t.same(after.requests[0].lines, ['data 1'])
  after.requests[0].stream!.discard()
  t.same(after.taken(), ['RST_STREAM 1 code 0'])
  const whole = SessionRig.ready()
  whole.feed(open(1))
  whole.requests[0].stream!.discard()
  whole.feed(data(1, 'z', true))
  whole.requests[0].stream!.respond(200, NONE(), true)
  t.match(whole.taken(), [/^HEADERS 1 \+END_STREAM/])
  t.same(whole.requests[0].lines, [])
  t.equal(whole.session.openStreams, 0)
})

t.test('a tunnel is closed in one direction at a time', async (t) => {
  const rig = SessionRig.ready()
  rig.feed(
    headers(1, [
      [':method', 'CONNECT'],
      [':authority', 'a:1'],
    ]),
  )
  const { stream, lines } = rig.requests[0]
  stream!.respond(200, NONE(), false)
  stream!.write(Buffer.from('down'), true)
  t.match(rig.taken(), [/^HEADERS 1 /, 'DATA 1 +END_STREAM 4'])
  rig.feed(data(1, 'up'), data(1, '', true))
  t.same(lines, ['data 2', 'data 0 end'])
  t.equal(rig.session.openStreams, 0)
  // For a client the other way round: the peer's end does not hide a reset of what we still send.
  const client = SessionRig.ready({ role: 'client' })
  const log = client.request({ method: 'CONNECT', authority: 'a:1' }, false)!
  client.feed(headers(1, OK), data(1, 'x', true), rstStream(1, Http2Code.CANCEL))
  t.same(log.lines, ['headers 200', 'data 1 end', 'reset 8 peer processed'])
})

t.test('NO_ERROR behind the end of a tunnel takes nothing back of what the reader has not had yet', async (t) => {
  const client = SessionRig.ready({ role: 'client' })
  const log = client.request({ method: 'CONNECT', authority: 'a:1' }, false)!
  client.feed(headers(1, OK))
  log.stream!.pause()
  client.feed(data(1, 'held'), data(1, '', true), rstStream(1, Http2Code.NO_ERROR))
  t.equal(client.session.openStreams, 0)
  log.stream!.resume()
  t.same(log.lines, ['headers 200', 'data 4 end'])
})

t.test('a drain in two steps', async (t) => {
  const rig = SessionRig.ready()
  rig.feed(headers(1, get(), true))
  rig.session.announceShutdown()
  rig.session.announceShutdown()
  rig.feed(headers(3, get(), true))
  t.same(rig.taken(), ['GOAWAY 2147483647 code 0'])
  t.equal(rig.requests.length, 2, 'still accepted')
  rig.session.shutdown()
  rig.session.shutdown()
  t.same(rig.taken(), ['GOAWAY 3 code 0'])
  rig.feed(headers(5, get(), true))
  t.same(rig.taken(), ['RST_STREAM 5 code 7'])
  t.equal(rig.requests.length, 2)
  t.equal(rig.stats.streamRefusedErrors.v, 1)
  rig.requests[0].stream!.respond(200, NONE(), true)
  rig.requests[1].stream!.respond(200, NONE(), true)
  t.equal(rig.session.openStreams, 0)
  rig.take()
  rig.feed(frameThatFails())
  t.same(rig.taken(), ['GOAWAY 3 code 1'], 'the last stream does not rise again')
  t.equal(rig.stats.goawaySent.v, 3)
})

const frameThatFails = (): Buffer => data(0, 'x')

t.test('GOAWAY of the peer: what it will not look at may be tried again', async (t) => {
  const rig = SessionRig.ready({ role: 'client' })
  const logs = [rig.request()!, rig.request()!, rig.request()!]
  const order: string[] = []
  for (const log of logs) log.react = (event) => order.push(event)
  rig.react = (event) => order.push(event)
  rig.feed(goaway(3, Http2Code.NO_ERROR))
  t.same(
    logs.map((log) => log.lines),
    [[], [], ['reset 0 goaway unprocessed']],
  )
  t.same(order, ['reset', 'goaway 0 3'])
  t.same([rig.session.goingAway, rig.session.available, rig.request()], [true, 0, undefined])
  rig.feed(headers(1, OK, true), goaway(1, Http2Code.ENHANCE_YOUR_CALM))
  t.same(logs[0].lines, ['headers 200 end'])
  t.same(logs[1].lines, ['reset 11 goaway unprocessed'])
  t.equal(rig.session.openStreams, 0)
})

t.test('the end of the transport, and of the session, reaches every stream once', async (t) => {
  const client = SessionRig.ready({ role: 'client' })
  const early = client.request()!
  client.turn()
  const late = client.request()!
  client.session.transportClosed('gone')
  client.session.transportClosed('gone again')
  t.same(early.lines, ['reset 2 connection processed'])
  t.same(late.lines, ['reset 2 connection unprocessed'], 'it had never left')
  t.same(
    [client.session.failed, client.session.openStreams, client.closedStreams, client.failure],
    [true, 0, 2, undefined],
  )
  const rig = SessionRig.ready()
  rig.feed(headers(1, get(), true), open(3))
  rig.session.fail(Http2Code.SETTINGS_TIMEOUT, 'too late')
  rig.session.fail(Http2Code.SETTINGS_TIMEOUT, 'too late')
  t.same(
    rig.requests.map((log) => log.lines),
    [['reset 4 connection processed'], ['reset 4 connection processed']],
  )
  t.same(rig.failure, { code: 4, detail: 'too late' })
  t.equal(rig.stats.protocolErrors.v, 0)
  rig.feed(headers(5, get(), true))
  for (const log of rig.requests) log.stream!.respond(200, NONE(), true)
  rig.session.shutdown()
  rig.session.announceShutdown()
  rig.session.flush()
  rig.session.transportDrained()
  t.equal(rig.session.ping(), false)
  t.same(rig.taken(), ['GOAWAY 3 code 4'])
  t.equal(rig.requests.length, 2)
})

t.test('whatever a handler does from within a callback is in order', async (t) => {
  const acts: Record<string, (rig: SessionRig, log: StreamLog) => void> = {
    respond: (_, log) => log.stream!.respond(200, NONE(), true),
    'respond and write': (_, log) => {
      log.stream!.respond(200, NONE(), false)
      log.stream!.write(Buffer.from('x'), true)
    },
    reset: (_, log) => log.stream!.reset(Http2Code.CANCEL),
    discard: (_, log) => log.stream!.discard(),
    'pause and resume': (_, log) => {
      log.stream!.pause()
      log.stream!.resume()
    },
    'fail the session': (rig) => rig.session.fail(Http2Code.INTERNAL_ERROR, 'test'),
    'shut down': (rig) => rig.session.shutdown(),
    'close the transport': (rig) => rig.session.transportClosed('test'),
    'reset the other': (rig) => rig.requests[0].stream!.reset(Http2Code.CANCEL),
    flush: (rig) => rig.session.flush(),
    throw: () => {
      throw new Error('a bug')
    },
  }
  const packet = Buffer.concat([
    headers(1, request('POST')),
    data(1, 'one'),
    headers(3, request('POST')),
    data(1, 'two'),
    data(3, 'three', true),
    headers(1, [['t', 'u']], true),
    headers(5, get(), true),
    ping(),
    rstStream(5),
  ])
  for (const [name, act] of Object.entries(acts)) {
    for (const when of ['request', 'data', 'trailers', 'reset']) {
      for (const id of [1, 3, 5]) {
        const rig: SessionRig = SessionRig.ready({
          onRequest: (log) => {
            log.react = (event) => event === when && log.stream!.id === id && act(rig, log)
            if (when === 'request' && log.stream!.id === id) act(rig, log)
          },
        })
        t.doesNotThrow(() => rig.feed(Buffer.from(packet)), `${name} in ${when} of ${id}`)
        rig.take()
        const failed = rig.session.failed
        // Nobody is told twice, nobody hears anything behind a reset, and the books are in order.
        for (const { lines } of rig.requests) {
          const at = lines.findIndex((line) => line.startsWith('reset'))
          t.ok(at < 0 || at === lines.length - 1, `${name} in ${when} of ${id}: ${lines}`)
        }
        t.equal(rig.stats.streamsActive.v, rig.session.openStreams)
        t.equal(rig.closedStreams + rig.session.openStreams, rig.requests.length)
        if (!failed) {
          rig.feed(ping('afterall'))
          t.same(rig.taken(), ['PING ACK'])
        } else t.equal(rig.session.openStreams, 0)
        t.equal(rig.corked, 0)
      }
    }
  }
})

t.test('a client that opens the next request in the callbacks of the last', async (t) => {
  const rig = SessionRig.ready({ role: 'client' }, [[SETTING.MAX_CONCURRENT_STREAMS, 1]])
  let opened = 0
  const next = (): void => {
    if (opened >= 5) return
    const log = rig.request()
    if (log === undefined) return
    opened++
    log.react = next
  }
  // Of a stream that has left its place is free again, and not before.
  Object.assign(rig, { onStreamClosed: next })
  next()
  for (let id = 1; id <= 9; id += 2) rig.feed(headers(id, OK), data(id, 'x', true))
  t.equal(opened, 5)
  t.equal(rig.session.openStreams, 0)
})

t.test('what the owner sees of a slow head', async (t) => {
  const rig = SessionRig.ready()
  t.equal(rig.session.receivingHead, 0)
  const bytes = headers(1, get(), true)
  rig.feed(bytes.subarray(0, 8))
  t.equal(rig.session.receivingHead, 0, 'of what stream is not known yet')
  rig.feed(bytes.subarray(8, 9))
  t.equal(rig.session.receivingHead, 1)
  rig.feed(bytes.subarray(9, 30))
  t.equal(rig.session.receivingHead, 1)
  rig.feed(bytes.subarray(30), headers(3, get()).subarray(0, 20))
  t.equal(rig.session.receivingHead, 3, 'the next one is another one')
  rig.feed(headers(3, get()).subarray(20))
  t.equal(rig.session.receivingHead, 0)
  const [first, more, ...rest] = splitHeaders(5, request('POST'), 20)
  rig.feed(first)
  t.equal(rig.session.receivingHead, 5, 'CONTINUATION is missing')
  rig.feed(more.subarray(0, 5))
  t.equal(rig.session.receivingHead, 5)
  rig.feed(Buffer.concat([more, ...rest]).subarray(5), data(5, 'half').subarray(0, 11))
  t.equal(rig.session.receivingHead, 0, 'a body is not a head')
})

t.test('acknowledgement of SETTINGS counts once', async (t) => {
  const rig = new SessionRig({ config: { initialStreamWindowBytes: 1000 } })
  rig.session.start()
  rig.feed(Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), settings(), open(1), data(1, Buffer.alloc(3000)))
  t.equal(rig.session.failed, false, 'before the acknowledgement the default holds')
  rig.feed(settingsAck(), settingsAck(), open(3), data(3, Buffer.alloc(1001)))
  t.ok(rig.taken().includes('RST_STREAM 3 code 3'), 'and ours from then on')
})

t.test('a field that came as never indexed goes on as never indexed', (t) => {
  const never = (name: string, value: string): Buffer => {
    const bytes = Buffer.from(headerBlock([[name, value]]))
    bytes[0] = 0x10
    return bytes
  }
  const server = SessionRig.ready()
  const block = Buffer.concat([
    headerBlock(request('POST')),
    never('x-secret', 'hush'),
    headerBlock([['x-open', 'all']]),
  ])
  server.feed(headers(1, block), headers(1, Buffer.concat([never('x-sum', '1')]), true))
  server.feed(headers(3, get(), true))
  const [log, plain] = server.requests
  t.same(log.headers?.neverIndexed, ['x-secret'])
  t.same(log.headers?.clone().neverIndexed, ['x-secret'])
  t.equal(plain.headers?.neverIndexed, undefined)

  const client = SessionRig.ready({ role: 'client' })
  const decoder = new HpackDecoder({ maxTableBytes: 4096 })
  const limits = { maxListBytes: 10_000, maxFields: 100 }
  const marked = (rig: SessionRig): readonly string[] => {
    for (const { type, payload } of rig.take()) {
      if (type === T.HEADERS) t.equal(decoder.decode(payload, 0, payload.length, { raw: [] }, limits), 0)
    }
    return decoder.neverIndexed
  }
  for (let round = 0; round < 3; round++) {
    client.request({}, true, log.headers?.clone())
    t.same(marked(client), ['x-secret'], `request ${round}`)
  }
  client.request({}, true, new Headers([], undefined, [':path']))
  t.same(marked(client), [':path'])
  client.request({ method: 'POST' }, false)?.stream?.trailers(new Headers(['x-sum', '1'], undefined, ['x-sum']))
  t.same(marked(client), ['x-sum'])
  t.end()
})

t.test('a transport that goes within a turn is left uncorked', (t) => {
  const rig = SessionRig.ready()
  rig.feed(headers(1, get(), true), headers(3, get(), true))
  const long = new Headers(['x-long', 'v'.repeat(3000)])
  // The second head does not fit behind the first one: the first leaves, corked.
  for (const { stream } of rig.requests) stream!.respond(200, long.clone(), false)
  t.equal(rig.corked, 1)
  rig.session.transportClosed('gone')
  t.equal(rig.corked, 0)
  rig.turn()
  t.equal(rig.corked, 0)
  t.end()
})

t.test('a session rests behind a header block where its turn is over, and goes on where it stopped', async (t) => {
  const bytes = Buffer.concat([
    headers(1, request('GET'), true),
    headers(3, request('POST')),
    data(3, 'some', false),
    data(3, 'body', true),
    ...splitHeaders(5, request('GET', '/long', [['x-long', 'y'.repeat(200)]]), 60, true),
    ping(),
    headers(7, request('GET'), true),
  ])
  const said = (rig: SessionRig): string[] => [
    ...rig.requests.map(({ head, text, ended }) => `${head?.path} ${text} ${ended}`),
    ...rig.events,
  ]
  const plain = SessionRig.ready()
  plain.feed(bytes)
  for (let split = 1; split <= bytes.length; split++) {
    const rig = SessionRig.ready({ share: { spent: true } })
    let rests = 0
    for (let chunk of [bytes.subarray(0, split), bytes.subarray(split)]) {
      while (chunk.length > 0) {
        const read = rig.session.receive(chunk)
        if (read < chunk.length) rests++
        chunk = chunk.subarray(read)
      }
    }
    if (rests < 2 || rests > 3) t.fail(`${rests} rests with a split at ${split}`)
    if (said(rig).join() !== said(plain).join()) t.strictSame(said(rig), said(plain), `split at ${split}`)
  }
  t.equal(plain.requests.length, 4)
  const failed = SessionRig.ready({ share: { spent: true } })
  const wrong = Buffer.concat([headers(2, request('GET'), true), bytes])
  t.equal(failed.session.receive(wrong), wrong.length, 'nothing is left of what follows an error')
})

t.test('what waits is weighed without the payload of DATA', async (t) => {
  const rig = SessionRig.ready()
  const head = headers(1, request('POST'))
  const body = data(1, Buffer.alloc(10_000))
  const weigh = (bytes: Buffer): number => rig.session.workIn(bytes, 10_000)
  t.equal(weigh(head), head.length)
  t.equal(weigh(Buffer.concat([head, body, body])), head.length + 18)
  t.equal(weigh(Buffer.concat([body, ping()])), 9 + 17)
  rig.feed(head, body.subarray(0, 1_000))
  t.equal(weigh(body.subarray(1_000, 5_000)), 0, 'in the middle of DATA')
  t.equal(weigh(Buffer.concat([body.subarray(1_000), ping()])), 17)
  rig.feed(body.subarray(1_000), ping().subarray(0, 12))
  t.equal(weigh(ping().subarray(12)), 5, 'in the middle of another frame')
  t.equal(weigh(Buffer.alloc(4)), 4)
  const pings = Buffer.concat(Array.from({ length: 100 }, () => ping()))
  t.equal(rig.session.workIn(pings.subarray(0, 5), 50), 5)
  rig.feed(ping().subarray(12))
  t.equal(rig.session.workIn(pings, 50), 51, 'more than enough')
})
