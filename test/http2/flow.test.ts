import t from 'tap'
import { Headers } from '../../lib/core/headers.ts'
import { Http2Code } from '../../lib/http2/contract.ts'
import { SessionRig, type StreamLog } from '../support/http2-session.ts'
import {
  data,
  describe,
  FLAG,
  type Frame,
  frame,
  get,
  headers,
  padded,
  request,
  rstStream,
  SETTING,
  settings,
  T,
  windowUpdate,
} from '../support/http2-wire.ts'

const KIB = 1024
const SMALL = { initialStreamWindowBytes: 65535, initialConnectionWindowBytes: 65535 }
const open = (id: number): Buffer => headers(id, request('POST'))

/** DATA bytes per stream. */
function sizes(frames: readonly Frame[]): Record<number, number> {
  const out: Record<number, number> = {}
  for (const f of frames) if (f.type === T.DATA) out[f.streamId] = (out[f.streamId] ?? 0) + f.payload.length
  return out
}

/** A server with `count` GETs answered by a head only. */
function answered(count: number, theirs: readonly (readonly [number, number])[] = []): SessionRig {
  const rig = SessionRig.ready({}, theirs)
  for (let i = 0; i < count; i++) {
    rig.feed(headers(2 * i + 1, get(), true))
    rig.requests[i].stream!.respond(200, new Headers(), false)
  }
  rig.take()
  return rig
}

t.test('a window is credited when the handler has been called, in lumps of half of it', async (t) => {
  const rig = SessionRig.ready({ config: { initialStreamWindowBytes: 65535, initialConnectionWindowBytes: 131070 } })
  rig.feed(open(1))
  const chunk = Buffer.alloc(16 * KIB)
  rig.feed(data(1, chunk))
  t.same(rig.taken(), [])
  rig.feed(data(1, chunk))
  t.same(rig.taken(), ['WINDOW_UPDATE 1 by 32768'])
  rig.feed(data(1, chunk), data(1, chunk))
  t.same(rig.taken(), ['WINDOW_UPDATE 0 by 65536', 'WINDOW_UPDATE 1 by 32768'])
  t.equal(rig.requests[0].body.length, 4)
})

t.test('padding is credited at once, with its length byte', async (t) => {
  const rig = SessionRig.ready({ config: SMALL })
  rig.feed(open(1))
  rig.requests[0].stream!.pause()
  for (let i = 0; i < 128; i++) rig.feed(frame(T.DATA, FLAG.PADDED, 1, padded('ab', 255)))
  t.same(rig.taken(), ['WINDOW_UPDATE 0 by 32768', 'WINDOW_UPDATE 1 by 32768'])
  rig.requests[0].stream!.resume()
  t.equal(rig.requests[0].text, 'ab'.repeat(128))
})

t.test('a paused stream keeps its window shut and holds what came, until it resumes', async (t) => {
  const rig = SessionRig.ready({ config: { initialStreamWindowBytes: 65535, initialConnectionWindowBytes: 1048576 } })
  rig.feed(open(1), open(3))
  const [slow, quick] = rig.requests
  slow.stream!.pause()
  const body = Buffer.from(Array.from({ length: 60_000 }, (_, i) => i % 251))
  for (let at = 0; at < body.length; at += 1000) rig.feed(data(1, body.subarray(at, at + 1000), at === 59_000))
  t.same([slow.lines, rig.taken()], [[], []])
  // The other one is not held up.
  rig.feed(data(3, 'quick', true))
  t.same(quick.lines, ['data 5 end'])
  slow.react = (_, log) => log.body.length === 3 && log.stream!.pause()
  slow.stream!.resume()
  const part = Buffer.concat(slow.body).length
  t.ok(part > 0 && part < body.length, `${part} bytes, then paused again`)
  slow.react = () => {}
  slow.stream!.resume()
  t.ok(Buffer.concat(slow.body).equals(body))
  t.match(slow.lines.at(-1), /^data \d+ end$/)
  t.equal(slow.lines.filter((line) => line.endsWith('end')).length, 1)
})

t.test('trailers, and an end without bytes, wait behind what is held', async (t) => {
  for (const last of [headers(1, [['t', 'u']], true), data(1, '', true)]) {
    const rig = SessionRig.ready()
    rig.feed(open(1))
    const { stream, lines } = rig.requests[0]
    stream!.pause()
    rig.feed(data(1, 'held'), last)
    t.same(lines, [])
    stream!.respond(200, new Headers(), true)
    t.equal(rig.session.openStreams, 0, 'complete on the wire')
    stream!.resume()
    t.same(lines, last[3] === T.HEADERS ? ['data 4', 'trailers t u'] : ['data 4 end'])
    stream!.resume()
    t.equal(lines.length <= 2, true)
  }
  const empty = SessionRig.ready()
  empty.feed(open(1))
  empty.requests[0].stream!.pause()
  empty.feed(headers(1, [['t', 'u']], true))
  t.same(empty.requests[0].lines, [])
  empty.requests[0].stream!.resume()
  t.same(empty.requests[0].lines, ['trailers t u'])
})

t.test('what is held is given up with its stream, and the connection gets its window back', async (t) => {
  const ends: Record<string, (rig: SessionRig, log: StreamLog) => void> = {
    'reset by the peer': (rig) => rig.feed(rstStream(1)),
    'reset by us': (_, log) => log.stream!.reset(Http2Code.CANCEL),
    discarded: (_, log) => log.stream!.discard(),
    'reset when complete on the wire': (rig, log) => {
      log.stream!.respond(200, new Headers(), true)
      rig.feed(data(1, 'x', true))
      log.stream!.reset(Http2Code.CANCEL)
    },
  }
  for (const [name, end] of Object.entries(ends)) {
    const rig = SessionRig.ready({ config: SMALL })
    rig.feed(open(1))
    rig.requests[0].stream!.pause()
    for (let i = 0; i < 3; i++) rig.feed(data(1, Buffer.alloc(16 * KIB)))
    t.same(rig.taken(), [], name)
    end(rig, rig.requests[0])
    const credited = rig.taken().find((line) => line.startsWith('WINDOW_UPDATE 0'))
    t.match(credited, /by 4915[23]$/, name)
    rig.requests[0].stream!.resume()
    t.same(
      rig.requests[0].lines.filter((line) => line.startsWith('data')),
      [],
    )
  }
})

t.test('bytes that arrive one by one for a paused stream cost no more than their number', async (t) => {
  const rig = SessionRig.ready({ config: SMALL })
  rig.feed(open(1))
  rig.requests[0].stream!.pause()
  const before = process.memoryUsage().arrayBuffers
  const one = data(1, 'x')
  for (let i = 0; i < 60_000; i++) rig.feed(one)
  const held = process.memoryUsage().arrayBuffers - before
  t.ok(held < 1024 * KIB, `${held} bytes`)
  rig.requests[0].stream!.resume()
  t.equal(rig.requests[0].text.length, 60_000)
  t.ok(rig.requests[0].body.length < 20, `${rig.requests[0].body.length} chunks`)
})

t.test('more than a window is an error of the stream, or of the connection', async (t) => {
  const rig = SessionRig.ready({ config: { initialStreamWindowBytes: 65535, initialConnectionWindowBytes: 100_000 } })
  rig.feed(open(1), open(3))
  for (const log of rig.requests) log.stream!.pause()
  const chunk = Buffer.alloc(16 * KIB)
  for (let i = 0; i < 3; i++) rig.feed(data(1, chunk))
  rig.feed(data(1, Buffer.alloc(16383)))
  t.same(rig.taken(), [], 'to the last byte')
  rig.feed(data(1, 'x'))
  t.match(rig.taken(), ['RST_STREAM 1 code 3'])
  t.same(rig.requests[0].lines, ['reset 3 protocol processed'])
  // What the reset stream held is free again; what the other one takes is not.
  for (let i = 0; i < 3; i++) rig.feed(data(3, chunk))
  rig.feed(open(5))
  rig.requests[2].stream!.pause()
  for (let i = 0; i < 3; i++) rig.feed(data(5, chunk))
  t.equal(rig.session.failed, false)
  const tight = SessionRig.ready({ config: { ...SMALL, initialStreamWindowBytes: 200_000 } })
  tight.feed(open(1))
  tight.requests[0].stream!.pause()
  for (let i = 0; i < 4; i++) tight.feed(data(1, chunk))
  t.same(tight.failure, { code: 3, detail: 'http2.connection_window_exceeded' })
})

t.test('DATA goes out within the windows of stream and connection, to the last byte', async (t) => {
  const rig = answered(1)
  t.equal(rig.requests[0].stream!.write(Buffer.alloc(100_000, 'x'), true), false)
  const first = rig.take()
  t.same(first.map(describe), ['DATA 1 16384', 'DATA 1 16384', 'DATA 1 16384', 'DATA 1 16383'])
  t.equal(rig.session.pendingBytes, 100_000 - 65535)
  t.equal(rig.stats.pendingSendBytes.v, 100_000 - 65535)
  t.equal(rig.requests[0].stream!.pendingBytes, 100_000 - 65535)
  rig.feed(windowUpdate(0, 20_000))
  t.same(rig.taken(), [], 'the stream is shut')
  rig.feed(windowUpdate(1, 50_000))
  t.same(rig.taken(), ['DATA 1 16384', 'DATA 1 3616'])
  rig.feed(windowUpdate(0, 50_000))
  t.same(rig.taken(), ['DATA 1 +END_STREAM 14465'])
  t.equal(rig.session.openStreams, 0)
  t.equal(rig.stats.pendingSendBytes.v, 0)
})

t.test('SETTINGS change the windows of open streams, below zero too', async (t) => {
  const rig = answered(1, [[SETTING.INITIAL_WINDOW_SIZE, 1000]])
  rig.requests[0].stream!.write(Buffer.alloc(3000), true)
  t.same(rig.taken(), ['DATA 1 1000'])
  rig.feed(settings([SETTING.INITIAL_WINDOW_SIZE, 400]))
  t.same(rig.taken(), ['SETTINGS ACK'])
  rig.feed(windowUpdate(1, 600))
  t.same(rig.taken(), [], 'from -600 to 0')
  rig.feed(settings([SETTING.INITIAL_WINDOW_SIZE, 0], [SETTING.INITIAL_WINDOW_SIZE, 600]))
  t.same(rig.taken(), ['SETTINGS ACK', 'DATA 1 200'])
  rig.feed(windowUpdate(1, 1800))
  t.same(rig.taken(), ['DATA 1 +END_STREAM 1800'])
})

t.test('streams take turns of one frame, and one that is shut holds up nobody', async (t) => {
  const rig = answered(4)
  rig.feed(windowUpdate(0, 1 << 20))
  for (const { stream } of rig.requests) stream!.write(Buffer.alloc(48 * KIB), true)
  const order = rig.take().map((f) => f.streamId)
  t.same(order, [1, 3, 5, 7, 1, 3, 5, 7, 1, 3, 5, 7])
  const mixed = answered(3)
  mixed.feed(windowUpdate(0, 1 << 20))
  const [stalled, , healthy] = mixed.requests
  stalled.stream!.write(Buffer.alloc(65535), false)
  mixed.take()
  stalled.stream!.write(Buffer.alloc(20_000), false)
  for (let i = 0; i < 30; i++) {
    healthy.stream!.write(Buffer.alloc(8000), false)
    mixed.feed(windowUpdate(5, 8000))
    t.same(sizes(mixed.take()), { 5: 8000 })
  }
})

t.test('twenty stalled readers hold what they may, and one that reads goes on', async (t) => {
  const rig = answered(21)
  rig.feed(windowUpdate(0, 1 << 30))
  const chunk = Buffer.alloc(64 * KIB)
  const readers = rig.requests.slice(0, 20)
  // As a relay does it: writes until it is told to stop.
  for (const log of readers) {
    for (let i = 0; i < 1024 && log.stream!.write(chunk, false); i++) rig.turn()
  }
  t.ok(rig.session.pendingBytes <= 20 * (64 + 64) * KIB, `${rig.session.pendingBytes} bytes wait`)
  rig.take()
  const quick = rig.requests[20]
  let sent = 0
  for (let i = 0; i < 50; i++) {
    let room = quick.stream!.write(chunk, false)
    rig.feed(windowUpdate(41, 64 * KIB))
    sent += sizes(rig.take())[41] ?? 0
    if (!room) room = quick.lines.at(-1) === 'drain'
    t.equal(room, true, 'always room again')
  }
  t.ok(sent >= 49 * 64 * KIB, `${sent} bytes`)
  for (const log of rig.requests) log.stream!.reset(Http2Code.CANCEL)
  t.equal(rig.session.pendingBytes, 0)
  t.equal(rig.stats.pendingSendBytes.v, 0)
})

t.test('a transport that is full gets no more DATA, but heads and acknowledgements', async (t) => {
  const rig = answered(2)
  rig.writable = false
  rig.requests[0].stream!.write(Buffer.from('the write that fills it'), false)
  t.match(rig.taken(), ['DATA 1 23'])
  t.equal(rig.requests[0].stream!.write(Buffer.alloc(10 * KIB), false), true)
  t.equal(rig.requests[0].stream!.write(Buffer.alloc(10 * KIB), false), false)
  rig.feed(headers(5, get(), true), settings())
  rig.requests[2].stream!.respond(200, new Headers(), true)
  t.match(rig.taken(), ['SETTINGS ACK', /^HEADERS 5/])
  rig.writable = true
  t.same(rig.taken(), [])
  rig.session.transportDrained()
  t.same(sizes(rig.take()), { 1: 20 * KIB })
  t.same(rig.requests[0].lines, ['drain'])
})

t.test('every write that answers false is followed by one onDrain', async (t) => {
  const rig = answered(3)
  rig.feed(windowUpdate(0, 1 << 30))
  const owed = rig.requests.map((log) => {
    const state = { log, falses: 0, drains: 0, open: false }
    log.react = (event) => {
      if (event !== 'drain') return
      t.equal(state.open, true, 'nobody is told twice')
      state.open = false
      state.drains++
    }
    return state
  })
  let given = 0
  for (let round = 0; round < 300; round++) {
    const state = owed[round % 3]
    for (let i = 0; i < 4 && !state.open; i++) {
      state.open = !state.log.stream!.write(Buffer.alloc(((round * 7919) % 30_000) + 1), false)
      if (state.open) state.falses++
    }
    rig.writable = round % 5 !== 0
    if (rig.writable) rig.session.transportDrained()
    rig.feed(windowUpdate(1 + 2 * (round % 3), (round * 104_729) % 40_000 || 1))
    given += rig.take().length
  }
  t.ok(given > 0)
  rig.writable = true
  rig.session.transportDrained()
  for (let i = 0; i < 3; i++) rig.feed(windowUpdate(1 + 2 * i, 1 << 29))
  rig.take()
  for (const state of owed) {
    t.equal(state.drains, state.falses)
    t.ok(state.falses > 3, `${state.falses}`)
  }
  t.equal(rig.session.pendingBytes, 0)
})

t.test('small chunks share a frame, large ones are lent as they are', async (t) => {
  const rig = answered(1, [[SETTING.INITIAL_WINDOW_SIZE, 1 << 20]])
  rig.feed(windowUpdate(0, 1 << 20))
  rig.writable = false
  rig.requests[0].stream!.write(Buffer.from('fills'), false)
  rig.take()
  const { stream } = rig.requests[0]
  for (let i = 0; i < 100; i++) stream!.write(Buffer.from(`${i},`), false)
  rig.writable = true
  rig.session.transportDrained()
  const [one, ...none] = rig.take()
  t.same(none, [])
  t.equal(one.payload.toString(), Array.from({ length: 100 }, (_, i) => `${i},`).join(''))
  const large = Buffer.alloc(12_000, 'L')
  let lent = false
  rig.onWrite = (bytes) => {
    lent ||= bytes.buffer === large.buffer && bytes.byteOffset === large.byteOffset
  }
  stream!.write(large, true)
  t.same(rig.taken(), ['DATA 1 +END_STREAM 12000'])
  t.equal(lent, true)
  t.equal(rig.corked, 0)
})

t.test('bytes that the transport has got do not change', async (t) => {
  const rig = SessionRig.ready()
  const got: { bytes: Buffer; was: string }[] = []
  rig.onWrite = (bytes) => got.push({ bytes, was: bytes.toString('latin1') })
  for (let id = 1; id < 2000; id += 2) {
    rig.feed(headers(id, get(), true))
    const { stream } = rig.requests.at(-1)!
    stream!.respond(200, new Headers(['x-id', String(id)]), false)
    stream!.write(Buffer.alloc((id * 37) % 9000, id % 256), true)
    if (id % 20 === 1) rig.turn()
    if (id % 100 === 1) rig.feed(windowUpdate(0, 1 << 20))
  }
  rig.turn()
  t.ok(got.length > 100)
  t.equal(got.filter(({ bytes, was }) => bytes.toString('latin1') !== was).length, 0)
})

t.test('one write for what a turn brings', async (t) => {
  const rig = SessionRig.ready()
  rig.writes = 0
  for (let id = 1; id <= 63; id += 2) {
    rig.feed(headers(id, get(), true))
    rig.requests.at(-1)!.stream!.respond(200, new Headers(['a', 'b']), false)
    rig.requests.at(-1)!.stream!.write(Buffer.from('hello'), true)
  }
  t.equal(rig.writes, 0)
  t.equal(rig.take().length, 64)
  t.ok(rig.writes <= 3, `${rig.writes} writes`)
})

t.test('a peer that opens its window byte by byte does not get a frame per byte for ever', async (t) => {
  const rig = answered(1)
  rig.requests[0].stream!.write(Buffer.alloc(300_000), true)
  rig.feed(windowUpdate(0, 1 << 20))
  rig.take()
  let frames = 0
  for (let i = 0; i < 3000 && rig.failure === undefined; i++) {
    rig.feed(windowUpdate(1, 1))
    frames += rig.take().filter((f) => f.type === T.DATA).length
  }
  t.ok(frames < 300, `${frames} frames`)
  // A window that cannot be more than a byte gets its byte, all the same (RFC 9113 §6.9.2).
  const tiny = answered(1, [[SETTING.INITIAL_WINDOW_SIZE, 1]])
  tiny.requests[0].stream!.write(Buffer.from('hi'), true)
  t.same(tiny.taken(), ['DATA 1 1'])
  tiny.feed(windowUpdate(1, 1))
  t.same(tiny.taken(), ['DATA 1 +END_STREAM 1'])
})

t.test('a small window that is all there is carries a large body', async (t) => {
  const rig = answered(1, [[SETTING.INITIAL_WINDOW_SIZE, 100]])
  rig.requests[0].stream!.write(Buffer.alloc(60_000), true)
  let sent = 0
  for (let i = 0; i < 700 && rig.session.openStreams > 0; i++) {
    const bytes = sizes(rig.take())[1] ?? 0
    sent += bytes
    if (bytes > 0) rig.feed(windowUpdate(1, bytes))
  }
  t.equal(sent, 60_000)
})

t.test('a peer that gives a new window when the last is used up, and not before, gets all of a body', async (t) => {
  // Whole frames and a rest, of 464 bytes and of 500.
  for (const window of [66_000, 16_884]) {
    const rig = answered(1, [[SETTING.INITIAL_WINDOW_SIZE, window]])
    rig.feed(windowUpdate(0, 1 << 30))
    const stream = rig.requests[0].stream!
    const total = window * 500
    let written = 0
    let room = true
    rig.requests[0].react = (event) => {
      if (event === 'drain') room = true
    }
    let sent = 0
    for (let left: number = window, turns = 0; turns < 10_000 && sent < total; turns++) {
      while (room && written < total) {
        const size = Math.min(window, total - written)
        written += size
        room = stream.write(Buffer.alloc(size), written === total)
      }
      const bytes = sizes(rig.take())[1] ?? 0
      sent += bytes
      left -= bytes
      if (left > 0) continue
      rig.feed(windowUpdate(1, window))
      left = window
    }
    t.equal(sent, total, `window ${window}`)
  }
})

t.test('a window that SETTINGS make small carries a body as well', async (t) => {
  const rig = answered(1)
  rig.feed(windowUpdate(0, 1 << 20))
  rig.requests[0].stream!.write(Buffer.alloc(160_000), true)
  let sent = sizes(rig.take())[1]
  t.equal(sent, 65_535)
  rig.feed(settings([SETTING.INITIAL_WINDOW_SIZE, 100]), windowUpdate(1, 65_535))
  for (let i = 0; i < 2_000 && sent < 160_000; i++) {
    const bytes = sizes(rig.take())[1] ?? 0
    sent += bytes
    if (bytes > 0) rig.feed(windowUpdate(1, bytes))
  }
  t.equal(sent, 160_000)
})

t.test('what is held for a larger window goes out when none comes', async (t) => {
  const rig = answered(1, [[SETTING.INITIAL_WINDOW_SIZE, 600]])
  rig.feed(windowUpdate(0, 1 << 30))
  const stream = rig.requests[0].stream!
  // 500 bytes that fit, and as many of which 100 fit.
  for (let i = 0; i < 300; i++) {
    stream.write(Buffer.alloc(500), false)
    stream.write(Buffer.alloc(500), false)
    rig.turn()
    if (rig.session.pendingBytes !== 400) break
    rig.feed(windowUpdate(1, 600))
    rig.turn()
    rig.feed(windowUpdate(1, 400))
  }
  t.equal(rig.session.pendingBytes, 500)
  rig.take()
  t.same(rig.taken(), [], 'for now')
  rig.session.resetStalled()
  t.same(rig.taken(), ['DATA 1 100'])
  rig.feed(windowUpdate(1, 600))
  t.same(rig.taken(), ['DATA 1 400'])
})

t.test('responses that wait without progress are given up when the owner says so', async (t) => {
  const rig = answered(3)
  rig.feed(windowUpdate(0, 1 << 20))
  const [stuck, moving, open] = rig.requests
  stuck.stream!.write(Buffer.alloc(100_000), true)
  moving.stream!.write(Buffer.alloc(100_000), true)
  open.stream!.write(Buffer.alloc(100_000), false)
  rig.take()
  t.equal(rig.session.resetStalled(), 0, 'the first look')
  rig.feed(windowUpdate(3, 10))
  rig.take()
  t.equal(rig.session.resetStalled(), 1)
  t.same(rig.taken(), ['RST_STREAM 1 code 8'])
  t.same(stuck.lines.at(-1), 'reset 8 protocol processed')
  t.equal(rig.session.resetStalled(), 1)
  t.same(rig.taken(), ['RST_STREAM 3 code 8'])
  t.equal(rig.session.resetStalled(), 0, 'an answer that goes on is its own business')
})

t.test('a turn writes so much and then lets others have their turn', async (t) => {
  const rig = answered(1, [[SETTING.INITIAL_WINDOW_SIZE, 1 << 30]])
  rig.feed(windowUpdate(0, 1 << 30))
  rig.take()
  rig.written = 0
  rig.requests[0].stream!.write(Buffer.alloc(4 << 20), true)
  rig.session.flush()
  t.ok(rig.written < 600 * KIB, `${rig.written} bytes`)
  t.equal(sizes(rig.take())[1], 4 << 20)
})
