import t, { type Test } from 'tap'
import { Headers } from '../../lib/core/headers.ts'
import type { Http2Stats } from '../../lib/http2/contract.ts'
import { SessionRig, unknownFrame } from '../support/http2-session.ts'
import {
  data,
  FLAG,
  frame,
  get,
  goaway,
  headerBlock,
  headers,
  padded,
  ping,
  priority,
  request,
  rstStream,
  settings,
  splitHeaders,
  T,
  windowUpdate,
} from '../support/http2-wire.ts'

const open = (id: number): Buffer => headers(id, request('POST'))

/** Feeds what `next` makes until the session is over; answers how many it took. */
function attack(rig: SessionRig, most: number, next: (i: number) => Buffer): number {
  for (let i = 0; i < most; i++) {
    rig.feed(next(i))
    if (i % 100 === 0) rig.take()
    if (rig.failure !== undefined) return i + 1
  }
  return most
}

/** The session has ended with ENHANCE_YOUR_CALM, said so on the wire, and counted it in one place. */
function calmed(t: Test, rig: SessionRig, counter: keyof Http2Stats, detail: RegExp): void {
  t.equal(rig.failure?.code, 11)
  t.match(rig.failure?.detail, detail)
  t.equal(rig.stats[counter].v >= 1, true, counter)
  t.equal(rig.stats.goawaySent.v, 1)
  t.equal(rig.stats.protocolErrors.v, 0, 'a flood is no protocol error')
  t.equal(rig.session.openStreams, 0)
}

t.test('rapid reset: 250 in a row', async (t) => {
  const rig = SessionRig.ready()
  const count = attack(rig, 1000, (i) => Buffer.concat([headers(2 * i + 1, get(), true), rstStream(2 * i + 1)]))
  t.equal(count, 250)
  t.equal(rig.requests.length, 250)
  t.equal(rig.stats.prematureResets.v, 250)
  calmed(t, rig, 'prematureResets', /premature_resets/)
})

t.test('rapid reset with good requests between: when half of 500 were', async (t) => {
  const rig = SessionRig.ready({
    onRequest: ({ stream }) => stream!.id % 4 === 1 && stream!.respond(204, new Headers(), true),
  })
  const count = attack(rig, 2000, (i) => {
    const id = 2 * i + 1
    return id % 4 === 1 ? headers(id, get(), true) : Buffer.concat([headers(id, get(), true), rstStream(id)])
  })
  t.equal(count, 500)
  calmed(t, rig, 'prematureResets', /premature_resets/)
})

t.test('a past of a million good requests does not excuse it', async (t) => {
  const rig = SessionRig.ready({
    onRequest: ({ stream }) => stream!.id < 40_000 && stream!.respond(204, new Headers(), true),
  })
  t.equal(
    attack(rig, 20_000, (i) => headers(2 * i + 1, get(), true)),
    20_000,
  )
  t.equal(
    attack(rig, 1000, (i) => Buffer.concat([headers(40_001 + 2 * i, get(), true), rstStream(40_001 + 2 * i)])),
    250,
  )
})

t.test('resets that are late, or answered, or few, are in order', async (t) => {
  const late = SessionRig.ready()
  t.equal(
    attack(late, 2000, (i) => {
      late.feed(headers(2 * i + 1, get(), true))
      late.nowMs += 1000
      return rstStream(2 * i + 1)
    }),
    2000,
  )
  const answered = SessionRig.ready({ onRequest: ({ stream }) => stream!.respond(200, new Headers(), false) })
  t.equal(
    attack(answered, 2000, (i) => Buffer.concat([headers(2 * i + 1, get(), true), rstStream(2 * i + 1)])),
    2000,
  )
  const few = SessionRig.ready({
    onRequest: ({ stream }) => stream!.id % 6 !== 1 && stream!.respond(204, new Headers(), true),
  })
  t.equal(
    attack(few, 5000, (i) => {
      const id = 2 * i + 1
      return id % 6 === 1 ? Buffer.concat([headers(id, get(), true), rstStream(id)]) : headers(id, get(), true)
    }),
    5000,
  )
  t.equal(few.session.failed, false)
})

t.test('resets that we are made to send count the same', async (t) => {
  const ways: Record<string, (id: number) => Buffer> = {
    'WINDOW_UPDATE by zero': (id) => Buffer.concat([open(id), windowUpdate(id, 0)]),
    'window overflow': (id) => Buffer.concat([open(id), windowUpdate(id, 2 ** 31 - 1)]),
    'DATA after the end': (id) => Buffer.concat([headers(id, get(), true), data(id, 'x')]),
    'a malformed request': (id) => headers(id, get('/', [['connection', 'close']]), true),
    'a list over the limit': (id) => headers(id, get('/', [['a', 'x'.repeat(5000)]]), true),
    'a PRIORITY that is too short': (id) => Buffer.concat([open(id), frame(T.PRIORITY, 0, id, 'x')]),
  }
  for (const [name, way] of Object.entries(ways)) {
    const rig = SessionRig.ready({ maxHeaderListBytes: 4096 })
    t.equal(
      attack(rig, 1000, (i) => way(2 * i + 1)),
      250,
      name,
    )
    calmed(t, rig, 'prematureResets', /premature_resets/)
  }
})

t.test('streams beyond the limit are refused, and then the peer is', async (t) => {
  const rig = SessionRig.ready({ config: { maxConcurrentStreams: 10 } })
  t.equal(
    attack(rig, 1000, (i) => open(2 * i + 1)),
    260,
  )
  t.equal(rig.requests.length, 10)
  t.equal(rig.stats.streamRefusedErrors.v, 250)
  calmed(t, rig, 'prematureResets', /premature_resets/)
})

t.test('CONTINUATION: by number, by bytes, and empty ones', async (t) => {
  const block = headerBlock(get('/', [['a', 'x'.repeat(100)]]))
  const drip = SessionRig.ready()
  drip.feed(frame(T.HEADERS, 1, 1, block.subarray(0, 1)))
  const pieces = attack(drip, 10_000, (i) => frame(T.CONTINUATION, 0, 1, block.subarray(1 + (i % 100), 2 + (i % 100))))
  t.equal(pieces, 17)
  calmed(t, drip, 'inboundControlFramesFlood', /control_frames_flood/)
  const huge = SessionRig.ready({ maxHeaderListBytes: 10_000 })
  huge.feed(frame(T.HEADERS, 1, 1, block))
  const chunk = Buffer.alloc(16_000, 'x')
  t.equal(
    attack(huge, 1000, () => frame(T.CONTINUATION, 0, 1, chunk)),
    6,
  )
  calmed(t, huge, 'headerOverflow', /too_many_headers/)
  const empty = SessionRig.ready()
  empty.feed(frame(T.HEADERS, 1, 1, block))
  t.equal(
    attack(empty, 10, () => frame(T.CONTINUATION, 0, 1)),
    2,
  )
  calmed(t, empty, 'inboundEmptyFramesFlood', /empty_frames_flood/)
  const fine = SessionRig.ready()
  fine.feed(...splitHeaders(1, get('/', [['a', 'x'.repeat(40_000)]]), 1024, true))
  t.equal(fine.requests[0].headers!.get('a')!.length, 40_000, 'what a careful peer sends')
})

t.test('frames without payload in a row', async (t) => {
  const ways: Record<string, Buffer> = {
    DATA: data(1, ''),
    'DATA of padding': frame(T.DATA, FLAG.PADDED, 1, padded('', 100)),
  }
  for (const [name, bytes] of Object.entries(ways)) {
    const rig = SessionRig.ready()
    rig.feed(open(1))
    t.equal(
      attack(rig, 100, () => bytes),
      2,
      name,
    )
    calmed(t, rig, 'inboundEmptyFramesFlood', /empty_frames_flood/)
  }
  const fine = SessionRig.ready()
  fine.feed(open(1), data(1, ''), data(1, 'x'), data(1, ''), data(1, '', true))
  t.equal(fine.session.failed, false)
  const heads = SessionRig.ready({ role: 'client' })
  heads.request()
  t.equal(
    attack(heads, 10, () => headers(1, Buffer.alloc(0))),
    2,
    'HEADERS',
  )
})

t.test('PING, SETTINGS, GOAWAY and RST_STREAM of what is gone: a thousand, and a hundred a second', async (t) => {
  const ways: Record<string, (i: number) => Buffer> = {
    PING: () => ping(),
    'PING acknowledgements': () => ping('12345678', true),
    SETTINGS: () => settings(),
    GOAWAY: () => goaway(0),
    RST_STREAM: () => rstStream(1),
  }
  for (const [name, way] of Object.entries(ways)) {
    const rig = SessionRig.ready()
    rig.feed(headers(1, get(), true), rstStream(1))
    const count = attack(rig, 5000, way)
    t.ok(count > 950 && count < 1010, `${name}: ${count}`)
    calmed(t, rig, 'inboundControlFramesFlood', /control_frames_flood/)
  }
  const full = settings(...Array.from({ length: 2000 }, (_, i) => [4, 65535 + (i % 2)] as const))
  const large = SessionRig.ready()
  t.equal(
    attack(large, 5000, () => full),
    6,
    'SETTINGS count by their length',
  )
  calmed(t, large, 'inboundControlFramesFlood', /control_frames_flood/)
  const slow = SessionRig.ready()
  t.equal(
    attack(slow, 10_000, () => {
      slow.nowMs += 11
      return ping()
    }),
    10_000,
    'ninety a second, for minutes',
  )
  const receiver = SessionRig.ready()
  receiver.feed(headers(1, get(), true), windowUpdate(0, 1 << 30), windowUpdate(1, 1 << 30))
  receiver.requests[0].stream!.respond(200, new Headers(), false)
  t.equal(
    attack(receiver, 5000, () => {
      receiver.requests[0].stream!.write(Buffer.alloc(100), false)
      return ping()
    }),
    5000,
    'one for each DATA that it gets',
  )
})

t.test('PRIORITY, PRIORITY_UPDATE, WINDOW_UPDATE and unknown frames by the ratios of Envoy', async (t) => {
  const prioritized = SessionRig.ready()
  prioritized.feed(open(1))
  t.equal(
    attack(prioritized, 1000, (i) => priority(3 + 2 * i)),
    201,
    '100 × (1 + streams)',
  )
  calmed(t, prioritized, 'inboundPriorityFramesFlood', /priority_frames_flood/)
  const updated = SessionRig.ready()
  t.equal(
    attack(updated, 1000, () => frame(T.PRIORITY_UPDATE, 0, 0, '\0\0\0\x01u=1')),
    101,
  )
  const windows = SessionRig.ready()
  windows.feed(open(1))
  t.equal(
    attack(windows, 1000, () => windowUpdate(1, 1)),
    8,
    '5 + 2 × streams',
  )
  calmed(t, windows, 'inboundWindowUpdateFramesFlood', /window_update_frames_flood/)
  const unknown = SessionRig.ready()
  t.equal(
    attack(unknown, 1000, () => unknownFrame('grease')),
    101,
  )
  calmed(t, unknown, 'inboundControlFramesFlood', /control_frames_flood/)
  const grease = SessionRig.ready({ onRequest: ({ stream }) => stream!.respond(204, new Headers(), true) })
  t.equal(
    attack(grease, 5000, (i) => Buffer.concat([headers(2 * i + 1, get(), true), unknownFrame()])),
    5000,
  )
})

t.test('a peer that does not read what it makes us write', async (t) => {
  const acks = SessionRig.ready({ config: { maxOutboundControlFrames: 100 } })
  acks.writable = false
  acks.feed(ping())
  acks.take()
  const count = attack(acks, 1000, () => ping())
  t.equal(count, 100)
  calmed(t, acks, 'outboundControlFlood', /outbound_control_frames_flood/)
  const frames = SessionRig.ready({
    config: { maxOutboundFrames: 200 },
    onRequest: ({ stream }) => stream!.respond(204, new Headers(), true),
  })
  frames.writable = false
  frames.feed(headers(1, get(), true))
  frames.take()
  t.equal(
    attack(frames, 1000, (i) => headers(3 + 2 * i, get(), true)),
    200,
  )
  calmed(t, frames, 'outboundFlood', /outbound_frames_flood/)
  const reading = SessionRig.ready({ config: { maxOutboundControlFrames: 100 } })
  t.equal(
    attack(reading, 900, () => ping()),
    900,
    'one that reads',
  )
})

t.test('late frames for streams that we reset stay cheap', async (t) => {
  const rig = SessionRig.ready()
  rig.feed(open(1))
  rig.requests[0].stream!.reset(8)
  const late = data(1, Buffer.alloc(1000))
  t.equal(
    attack(rig, 20_000, () => late),
    20_000,
    'a window full of DATA, and more',
  )
  const trailers = SessionRig.ready()
  trailers.feed(open(1))
  trailers.requests[0].stream!.reset(8)
  t.ok(attack(trailers, 5000, () => headers(1, [['a', 'b']], true)) < 1100)
  calmed(t, trailers, 'inboundControlFramesFlood', /control_frames_flood/)
})

t.test('an HPACK bomb is not read to its end', async (t) => {
  const limits = { maxHeaderListBytes: 16_384 }
  // One entry of 4,000 bytes, then references to it.
  const bomb = (references: number): Buffer =>
    Buffer.concat([
      Buffer.from([0x40, 1, 0x61, 0x7f, 0xa1, 0x1e]),
      Buffer.alloc(4000, 'x'),
      Buffer.alloc(references, 0xbe),
    ])
  const rig = SessionRig.ready(limits)
  const before = process.memoryUsage().heapUsed
  rig.feed(headers(1, bomb(12_000), true))
  t.ok(process.memoryUsage().heapUsed - before < 1 << 20)
  calmed(t, rig, 'headerOverflow', /too_many_headers/)
  const small = SessionRig.ready(limits)
  const count = attack(small, 1000, (i) => headers(2 * i + 1, bomb(20), true))
  t.equal(count, 250, 'one that is only a little too large is answered, as often as other mistakes')
  calmed(t, small, 'prematureResets', /premature_resets/)
  t.ok(small.stats.headerOverflow.v >= 249)
})

t.test('a long text that repeats is checked once, and for what it is each time', async (t) => {
  const value = 'a value '.repeat(30).trim()
  const rig = SessionRig.ready()
  rig.feed(
    headers(
      1,
      get('/', [
        ['a', value],
        ['b', value],
        ['c', value],
      ]),
      true,
    ),
  )
  t.equal(rig.requests.length, 1)
  rig.feed(
    headers(
      3,
      get('/', [
        ['a', value],
        [value, 'b'],
      ]),
      true,
    ),
  )
  rig.feed(
    headers(
      5,
      get('/', [
        ['a', value],
        ['b', `${value} `],
        ['c', `${value} `],
      ]),
      true,
    ),
  )
  rig.feed(
    headers(
      7,
      get('/', [
        ['a', `${value}\r`],
        ['b', `${value}\r`],
      ]),
      true,
    ),
  )
  t.equal(rig.requests.length, 1)
  t.equal(rig.stats.rxMessagingError.v, 3)
})
