import type { ServerResponse } from 'node:http'
import t, { type Test } from 'tap'
import {
  data,
  FLAG,
  type Frame,
  frame,
  get,
  headerBlock,
  headers,
  hpackInteger,
  PREFACE,
  request,
  SETTING,
  T,
  windowUpdate,
} from '../support/http2-wire.ts'
import type { Attacker } from './attacker.ts'
import { Lab, sleep } from './lab.ts'

t.setTimeout(100_000)

/** Attacks that hold instead of flooding: memory, streams, time. Against a whole gateway, with victims beside them. */

const MIB = 1 << 20
const LARGEST_WINDOW = 2 ** 31 - 1
const CALM = 11
const SETTINGS_TIMEOUT = 4
const CHUNK = Buffer.alloc(65_536, 'headgate')

const idOf = (i: number): number => 2 * i + 1
const ask = (id: number, path: string): Buffer => headers(id, get(path), true)
const post = (id: number, path: string): Buffer => headers(id, request('POST', path))
const both = (...pieces: Buffer[]): Buffer => Buffer.concat(pieces)

/** So many bytes, as fast as they are taken. */
function pour(response: ServerResponse, bytes: number): void {
  const more = (): void => {
    while (bytes > 0 && !response.destroyed) {
      bytes -= CHUNK.length
      if (!response.write(CHUNK)) {
        response.once('drain', more)
        return
      }
    }
    response.end()
  }
  more()
}

function startLab(t: Test): Promise<Lab> {
  return Lab.start(t, {
    target(request, response) {
      const size = /^\/mib\/(\d+)$/.exec(request.url ?? '')?.[1]
      if (size !== undefined) pour(response, Number(size) * MIB)
      else if (request.url === '/ok') response.end('ok')
      // Else: neither read nor answered.
    },
    routes: [
      { match: { path: '/direct' }, direct_response: { status: 200, body: { inline_string: 'ok' } } },
      {
        match: { path: '/reflect' },
        direct_response: { status: 204 },
        response_headers_to_add: [{ header: { key: 'x-reflected', value: '%REQ(x-big)%' } }],
      },
    ],
    listeners: [
      {
        name: 'brief',
        hcm: {
          stream_idle_timeout: '1s',
          request_headers_timeout: '1s',
          delayed_close_timeout: '0.2s',
        },
      },
      {
        name: 'few',
        hcm: { common_http_protocol_options: { max_requests_per_connection: 50 }, drain_timeout: '0.2s' },
      },
    ],
  })
}

/** Connections that do nothing for as long as they may; each answers what ended it. */
async function dawdle(lab: Lab): Promise<Record<string, { code: number | undefined; afterMs: number }>> {
  const begin = performance.now()
  const out: Record<string, { code: number | undefined; afterMs: number }> = {}
  const one = async (name: string, attacker: Attacker, step?: (i: number) => Buffer): Promise<void> => {
    let steps = 0
    const timer = setInterval(() => step !== undefined && attacker.send(step(steps++)), 150)
    const code = await attacker.end(20_000)
    clearInterval(timer)
    out[name] = { code, afterMs: performance.now() - begin }
  }
  const silent = { preface: false, ack: false }
  const block = headerBlock(get('/ok', [['x', 'y'.repeat(2_000)]]))
  const whole = frame(T.HEADERS, FLAG.END_HEADERS | FLAG.END_STREAM, 1, block)
  const preface = await lab.attacker(silent, 'brief')
  const settingless = await lab.attacker(silent)
  settingless.send(PREFACE)
  const unacknowledged = await lab.attacker({ ack: false })
  const drip = await lab.attacker({}, 'brief')
  const pieces = await lab.attacker({}, 'brief')
  pieces.send(frame(T.HEADERS, FLAG.END_STREAM, 1, block.subarray(0, 1)))
  await Promise.all([
    one('a preface byte by byte', preface, (i) => PREFACE.subarray(i % 20, (i % 20) + 1)),
    one('no SETTINGS', settingless),
    one('SETTINGS not acknowledged', unacknowledged),
    one('one HEADERS frame byte by byte', drip, (i) => whole.subarray(i, i + 1)),
    one('CONTINUATION byte by byte', pieces, (i) => frame(T.CONTINUATION, 0, 1, block.subarray(i + 1, i + 2))),
  ])
  return out
}

t.test('attacks that hold what they get', async (t) => {
  const lab = await startLab(t)
  const dawdlers = dawdle(lab)

  await t.test('1,000 idle connections, before anything has freed memory for them', async (t) => {
    const idle: Attacker[] = []
    const before = lab.gateway.rssMib
    for (let i = 0; i < 10; i++) {
      idle.push(...(await Promise.all(Array.from({ length: 100 }, () => lab.attacker()))))
    }
    for (const one of idle) one.send(ask(1, '/direct'))
    for (const one of idle) await one.until(() => one.heads === 1, 'answer')
    await sleep(500)
    const kib = ((lab.gateway.rssMib - before) * 1024) / idle.length
    t.comment(`1,000 idle connections: ${kib.toFixed(1)} KiB each`)
    t.ok(kib < 64, `${kib.toFixed(1)} KiB each`)
    for (const one of idle) one.close()
  })

  await t.test('20 stalled readers of 64 MiB on one connection', async (t) => {
    let attacker: Attacker | undefined
    const run = async (): Promise<void> => {
      attacker = await lab.attacker({ settings: [[SETTING.INITIAL_WINDOW_SIZE, LARGEST_WINDOW]] })
      attacker.send(windowUpdate(0, LARGEST_WINDOW - 65_535))
      attacker.socket.pause()
      attacker.send(...Array.from({ length: 20 }, (_, i) => ask(idOf(i), '/mib/64')))
      await sleep(1_500)
    }
    await lab.under(t, { name: '20 stalled readers, socket not read', attackers: 1, limitMib: 30, run, forMs: 0 })
    attacker?.close()
  })

  await t.test('one that stalls does not hold the others on its connection', async (t) => {
    let attacker: Attacker | undefined
    const run = async (): Promise<void> => {
      const one = await lab.attacker()
      attacker = one
      let bytes = 0
      one.onFrame((f: Frame) => {
        if (f.type !== T.DATA || f.streamId !== 101) return
        bytes += f.payload.length
        if (f.payload.length > 0) one.send(windowUpdate(101, f.payload.length))
      })
      one.send(windowUpdate(0, LARGEST_WINDOW - 65_535))
      one.send(...Array.from({ length: 20 }, (_, i) => ask(idOf(i), '/mib/64')), ask(101, '/mib/16'))
      await one.until(() => bytes === 16 * MIB, 'all of the body that is read')
    }
    await lab.under(t, { name: '20 stalled by their windows', attackers: 1, limitMib: 30, run, forMs: 0 })
    t.equal(attacker?.dataBytes, 16 * MIB + 20 * 65_535, 'and the others to their windows')
    attacker?.close()
  })

  await t.test('windows of nothing on 100 streams with large bodies: ended by the stream idle timeout', async (t) => {
    const run = async (): Promise<void> => {
      const attacker = await lab.attacker({ settings: [[SETTING.INITIAL_WINDOW_SIZE, 0]] }, 'brief')
      attacker.send(...Array.from({ length: 100 }, (_, i) => ask(idOf(i), '/mib/64')))
      await attacker.until(() => [...attacker.resets.values()].reduce((a, b) => a + b, 0) === 100, 'a reset for each')
      t.equal(attacker.dataBytes, 0)
      attacker.close()
    }
    const changes = await lab.under(t, { name: 'windows of nothing', run, forMs: 0 })
    t.comment(
      `${changes.of('http.test.downstream_rq_idle_timeout')} idle, ${changes.of('http2.tx_flush_timeout')} flush`,
    )
  })

  await t.test('windows of a byte: few frames of a byte are sent for them', async (t) => {
    const run = async (): Promise<void> => {
      const attacker = await lab.attacker({ settings: [[SETTING.INITIAL_WINDOW_SIZE, 1]] })
      attacker.send(...Array.from({ length: 20 }, (_, i) => ask(idOf(i), '/mib/1')))
      await attacker.until(() => attacker.dataFrames >= 20, 'DATA')
      await attacker.flood(20_000, (i) => windowUpdate(idOf(i % 20), 1))
      t.equal(await attacker.end(), CALM)
      t.ok(attacker.dataFrames < 1_000, `${attacker.dataFrames} frames of ${attacker.dataBytes} bytes`)
    }
    const changes = await lab.under(t, { name: 'windows of a byte', run })
    t.ok(changes.of('http2.inbound_window_update_frames_flood') >= changes.connections)
  })

  await t.test('requests that never end, after their answer: the stream is taken back', async (t) => {
    const run = async (): Promise<void> => {
      const attacker = await lab.attacker()
      for (let round = 0; round < 5; round++) {
        const from = 100 * round
        attacker.send(...Array.from({ length: 100 }, (_, i) => post(idOf(from + i), '/direct')))
        await attacker.until(() => attacker.heads === from + 100, 'answers')
        await attacker.until(() => attacker.resets.get(0) === from + 100, 'RST_STREAM NO_ERROR behind each')
      }
      attacker.close()
    }
    await lab.under(t, { name: 'requests without end, answered', attackers: 10, run })
  })

  await t.test('requests that never end, and are never answered: 10,000 of them', async (t) => {
    const run = async (): Promise<void> => {
      const attacker = await lab.attacker({}, 'brief')
      attacker.send(...Array.from({ length: 100 }, (_, i) => post(idOf(i), '/hang')))
      await attacker.until(() => attacker.heads === 100, 'an answer for each')
      attacker.close()
    }
    const changes = await lab.under(t, { name: 'requests without end', attackers: 100, run, limitMib: 2, forMs: 0 })
    const [idle, refused] = ['downstream_rq_idle_timeout', 'downstream_rq_5xx'].map((n) => changes.of(`http.test.${n}`))
    t.comment(`${idle} idle timeouts, ${refused} refused because the upstream had its share`)
    t.ok(idle >= 1_000)
  })

  await t.test('uploads to an upstream that does not read', async (t) => {
    const run = async (): Promise<void> => {
      const attacker = await lab.attacker({}, 'brief')
      const connection = { window: 1_048_576 }
      attacker.onFrame((f) => {
        if (f.type === T.WINDOW_UPDATE && f.streamId === 0) connection.window += f.payload.readUInt32BE(0)
      })
      attacker.send(...Array.from({ length: 100 }, (_, i) => post(idOf(i), '/hang')))
      for (let i = 0; i < 100; i++) {
        for (let sent = 0; sent < 4 && connection.window >= 16_384 && !attacker.ended; sent++) {
          connection.window -= 16_384
          attacker.send(data(idOf(i), CHUNK.subarray(0, sent === 3 ? 16_383 : 16_384)))
        }
        await sleep(2)
      }
      await attacker.until(() => attacker.heads + [...attacker.resets.values()].length > 0, 'idle timeouts')
      attacker.close()
    }
    await lab.under(t, { name: 'uploads to a stalled upstream', run, forMs: 0 })
  })

  await t.test('streams opened on a connection that drains are refused, and then it ends', async (t) => {
    const run = async (): Promise<void> => {
      const attacker = await lab.attacker({}, 'few')
      attacker.send(ask(1, '/hang'), ...Array.from({ length: 49 }, (_, i) => ask(idOf(i + 1), '/direct')))
      const last = (): number => Math.min(...goaways(attacker))
      await attacker.until(() => last() < LARGEST_WINDOW, 'the second GOAWAY')
      t.equal(last(), 99)
      await attacker.flood(20_000, (i) => ask(idOf(i + 50), '/direct'))
      t.equal(await attacker.end(), CALM)
      t.ok((attacker.resets.get(7) ?? 0) > 900, 'REFUSED_STREAM')
    }
    const changes = await lab.under(t, { name: 'streams while draining', run })
    t.ok(changes.of('http2.inbound_control_frames_flood') >= changes.connections)
    t.ok(changes.of('http2.stream_refused_errors') >= 1_000)
  })

  await t.test('large answers of heads alone, which nobody reads', async (t) => {
    const run = async (): Promise<void> => {
      const attacker = await lab.attacker()
      attacker.socket.pause()
      await attacker.flood(10_000, (i) =>
        headers(idOf(i), get('/reflect', [['x-big', `${i}`.padEnd(8_000, 'z')]]), true),
      )
      await attacker.end()
    }
    const changes = await lab.under(t, { name: 'heads that nobody reads', run, forMs: 0 })
    t.ok(changes.of('http2.outbound_flood') + changes.of('http2.outbound_control_flood') >= changes.connections)
  })

  await t.test('large header lists within the limit, held on 100 streams', async (t) => {
    const entry = both(Buffer.from([0x40, 1]), Buffer.from('b'), hpackInteger(3_900, 7), Buffer.alloc(3_900, 'x'))
    const base = headerBlock(get('/hang'))
    const run = async (): Promise<void> => {
      const attacker = await lab.attacker({}, 'brief')
      const list = both(base, entry, Buffer.alloc(13, 0x80 | 62))
      attacker.send(...Array.from({ length: 100 }, (_, i) => frame(T.HEADERS, 5, idOf(i), list)))
      await attacker.until(() => attacker.heads === 100, 'an answer for each')
      attacker.close()
    }
    await lab.under(t, { name: 'HPACK references within the limit', run, forMs: 0 })
  })

  await t.test('an HPACK table that changes with every request is served as any other', async (t) => {
    const run = async (): Promise<void> => {
      const attacker = await lab.attacker()
      const base = headerBlock(get('/direct'))
      for (let round = 0; round < 5; round++) {
        const blocks = Array.from({ length: 50 }, (_, i) => {
          const value = `${round * 50 + i}`.padEnd(3_900, 'q')
          const entry = both(Buffer.from([0x40, 1]), Buffer.from('c'), hpackInteger(3_900, 7), Buffer.from(value))
          // The table is emptied and made large again each time.
          const thrash = both(Buffer.from([0x20]), hpackInteger(4_096, 5, 0x20))
          return frame(T.HEADERS, 5, idOf(round * 50 + i), both(thrash, base, entry))
        })
        attacker.send(...blocks)
        await attacker.until(() => attacker.heads === (round + 1) * 50, 'answers')
      }
      attacker.close()
    }
    await lab.under(t, { name: 'HPACK table thrash', run })
  })

  await t.test('who dawdles over preface, SETTINGS or a header block is cut off', async (t) => {
    const ended = await dawdlers
    for (const [name, { code, afterMs }] of Object.entries(ended)) t.comment(`${name}: ${code} after ${afterMs} ms`)
    t.equal(ended['no SETTINGS'].code, SETTINGS_TIMEOUT)
    t.equal(ended['SETTINGS not acknowledged'].code, SETTINGS_TIMEOUT)
    t.equal(ended['one HEADERS frame byte by byte'].code, CALM)
    t.equal(ended['CONTINUATION byte by byte'].code, CALM)
    t.ok('a preface byte by byte' in ended)
    const stats = await lab.gateway.stats()
    t.ok(stats.get('http.test.downstream_rq_header_timeout') >= 2)
  })

  await lab.calm(t)
})

/** Last stream ids of the GOAWAYs. */
function goaways(attacker: Attacker): number[] {
  return attacker.frames.filter((f) => f.type === T.GOAWAY).map((f) => f.payload.readUInt32BE(0) & LARGEST_WINDOW)
}
