import type { ServerResponse } from 'node:http'
import { connect } from 'node:http2'
import t, { type Test } from 'tap'
import {
  data,
  FLAG,
  type Frame,
  frame,
  get,
  headers,
  ping,
  priority,
  request,
  rstStream,
  SETTING,
  T,
  windowUpdate,
} from '../support/http2-wire.ts'
import type { Attacker } from './attacker.ts'
import { Lab } from './lab.ts'

t.setTimeout(100_000)

/** Busy clients that do nothing wrong: no guard may end their connections. */

const MIB = 1 << 20
const CHUNK = Buffer.alloc(16_384, 'headgate')
const LARGEST_WINDOW = 2 ** 31 - 1

const idOf = (i: number): number => 2 * i + 1
const ask = (id: number, path = '/ok'): Buffer => headers(id, get(path), true)
const ends = (f: Frame): boolean => (f.flags & FLAG.END_STREAM) !== 0 && (f.type === T.DATA || f.type === T.HEADERS)

function pour(response: ServerResponse, bytes: number): void {
  const more = (): void => {
    for (; bytes > 0; bytes -= CHUNK.length) {
      if (response.write(CHUNK)) continue
      bytes -= CHUNK.length
      response.once('drain', more)
      return
    }
    response.end()
  }
  more()
}

/** A client that counts the streams that have ended. */
async function client(
  lab: Lab,
  settings: readonly (readonly [number, number])[] = [],
): Promise<[Attacker, { ended: number }]> {
  const made = await lab.attacker({ settings })
  const count = { ended: 0 }
  made.onFrame((f) => {
    if (ends(f)) count.ended++
  })
  return [made, count]
}

t.test('what looks like a flood and is none', async (t) => {
  const lab = await Lab.start(t, {
    target(request, response) {
      if (request.url === '/stream') request.pipe(response)
      else if (request.url === '/download') pour(response, 64 * MIB)
      else if (request.url !== '/never') request.resume().on('end', () => response.end('ok'))
    },
  })

  await t.test('a bidirectional stream with a PING for every message', async (t) => {
    const one = await lab.attacker()
    let pongs = 0
    one.onFrame((f) => {
      if (f.type === T.PING) pongs++
    })
    one.send(headers(1, request('POST', '/stream', [['content-type', 'application/grpc']])))
    const message = Buffer.from('\0\0\0\0\u0005hello', 'latin1')
    for (let i = 1; i <= 3_000; i++) {
      one.send(data(1, message), ping())
      await one.until(() => pongs === i && one.dataBytes === i * message.length, `echo ${i}`)
      if (i % 500 === 0) one.send(windowUpdate(0, 5_000), windowUpdate(1, 5_000))
    }
    one.send(data(1, '', true))
    await one.until(() => one.heads === 1 && one.dataFrames > 0, 'end')
    stays(t, one)
  })

  await t.test('messages of a byte, in frames of their own', async (t) => {
    const [one, count] = await client(lab)
    one.send(headers(1, request('POST', '/ok')))
    await one.flood(20_000, () => data(1, 'x'))
    one.send(data(1, '', true))
    await one.until(() => count.ended === 1, 'answer')
    stays(t, one)
  })

  await t.test('a download with two WINDOW_UPDATEs for every frame', async (t) => {
    const one = await lab.attacker()
    one.onFrame((f) => {
      const size = f.payload.length
      if (f.type === T.DATA && size > 0) one.send(windowUpdate(0, size), windowUpdate(1, size))
    })
    one.send(ask(1, '/download'))
    await one.until(() => one.dataBytes === 64 * MIB, 'the body', 20_000)
    stays(t, one)
  })

  await t.test('an upload, and a PING for every window', async (t) => {
    const [one, count] = await client(lab)
    let window = 65_535
    let left = 48 * MIB
    const send = (): void => {
      for (; left > 0 && window >= CHUNK.length; left -= CHUNK.length, window -= CHUNK.length) {
        one.send(data(1, CHUNK, left === CHUNK.length))
      }
    }
    one.onFrame((f) => {
      if (ends(f)) count.ended++
      if (f.type !== T.WINDOW_UPDATE || f.streamId !== 1) return
      window += f.payload.readUInt32BE(0)
      one.send(ping())
      send()
    })
    one.send(headers(1, request('POST', '/ok')))
    send()
    await one.until(() => count.ended === 1, 'answer', 20_000)
    stays(t, one)
  })

  await t.test('a client that cancels every third request', async (t) => {
    const [one, count] = await client(lab)
    one.send(windowUpdate(0, LARGEST_WINDOW - 65_535))
    for (let i = 0, wanted = 0; i < 3_000; i += 30) {
      for (let k = i; k < i + 30; k++) {
        if (k % 3 === 0) one.send(ask(idOf(k), '/never'), rstStream(idOf(k)))
        else {
          one.send(ask(idOf(k)))
          wanted++
        }
      }
      await one.until(() => count.ended === wanted, `${wanted} answers`)
    }
    stays(t, one)
  })

  await t.test('priorities as browsers send them', async (t) => {
    const [one, count] = await client(lab, [
      [SETTING.HEADER_TABLE_SIZE, 65_536],
      [SETTING.INITIAL_WINDOW_SIZE, 131_072],
    ])
    // The groups of old Firefox, then a PRIORITY with each request, and PRIORITY_UPDATEs of RFC 9218.
    one.send(...[3, 5, 7, 9, 11, 13].map((id, i) => priority(id, i < 3 ? 0 : 7, 200)))
    one.send(windowUpdate(0, 12_517_377))
    for (let i = 10; i < 1_010; i += 50) {
      for (let k = i; k < i + 50; k++) {
        const id = Buffer.alloc(4)
        id.writeUInt32BE(idOf(k))
        const update = frame(T.PRIORITY_UPDATE, 0, 0, Buffer.concat([id, Buffer.from('u=3, i')]))
        one.send(update, ask(idOf(k)), priority(idOf(k), 13, 42), update, frame(0xb0 + (k % 5), 0, 0, 'grease'))
      }
      await one.until(() => count.ended === i + 40, 'answers')
    }
    stays(t, one)
  })

  await t.test('10,000 requests on one connection', async (t) => {
    const session = connect(`http://127.0.0.1:${await lab.gateway.port('main')}`)
    session.on('error', (error) => t.fail(error.message))
    const statuses = new Map<unknown, number>()
    let begun = 0
    const one = (): Promise<void> =>
      new Promise((resolve, reject) => {
        const stream = session.request({ ':path': '/ok' })
        stream.on('response', (fields) => statuses.set(fields[':status'], (statuses.get(fields[':status']) ?? 0) + 1))
        stream.resume().on('error', reject).on('close', resolve)
      })
    const worker = async (): Promise<void> => {
      while (begun++ < 10_000) await one()
    }
    await Promise.all(Array.from({ length: 50 }, worker))
    t.strictSame([...statuses], [[200, 10_000]])
    session.close()
  })

  const victims = await lab.victims.take()
  t.strictSame(victims.errors, [], 'the others had no error either')
  await noGuard(t, lab)
  await lab.calm(t)
})

/** The gateway has not ended the connection: its client does. */
function stays(t: Test, one: Attacker): void {
  t.equal(one.goaway, undefined)
  t.equal(one.ended, false)
  one.close()
}

/** Nothing was counted as a flood. */
async function noGuard(t: Test, lab: Lab): Promise<void> {
  const stats = await lab.gateway.stats()
  t.strictSame(stats.nonzero(/^http2\..*(?:flood|overflow|error|timeout)/), {})
  t.ok(stats.get('http2.premature_resets') >= 900, 'though they were looked at')
}
