import t from 'tap'
import { Headers } from '../../lib/core/headers.ts'
import { readCorpus, writeFinding } from '../support/fuzz.ts'
import { SessionRig, type StreamLog } from '../support/http2-session.ts'
import {
  data,
  describe,
  type Fields,
  FLAG,
  frame,
  get,
  goaway,
  headerBlock,
  headers,
  PREFACE,
  padded,
  ping,
  priority,
  request,
  rstStream,
  settings,
  settingsAck,
  splitHeaders,
  T,
  windowUpdate,
} from '../support/http2-wire.ts'
import { type Random, seeded } from '../support/random.ts'
import { byteByByte, cut } from '../support/splits.ts'

const TARGET = 'http2'
const SESSIONS = 3000

const OPENINGS: readonly Buffer[] = [
  Buffer.concat([1, 3, 5, 7].map((id) => headers(id, request('POST')))),
  Buffer.concat([1, 3, 5, 7].map((id) => headers(id, [[':status', '200']]))),
  Buffer.concat([headers(1, get(), true), headers(3, request('POST', '/', [['content-length', '100']]))]),
]

/* What either role may get; ids are small so that frames meet. */

function anyFrame(random: Random): Buffer[] {
  const id = random.next() < 0.03 ? random.pick([0, 2, 101]) : random.pick([1, 1, 1, 3, 3, 5, 7])
  const end = random.next() < 0.3
  const fields: Fields =
    random.next() < 0.7 ? get(`/${id}`) : request('POST', '/', [['content-length', String(random.below(9))]])
  const answer: Fields = [[':status', random.pick(['200', '204', '103', '304', '999', '101'])]]
  switch (random.below(14)) {
    case 0:
    case 1:
      return [headers(id, fields, end)]
    case 2:
      return [headers(id, answer, end)]
    case 3:
      return [headers(id, [['t', 'u'.repeat(random.below(50))]], end)]
    case 4:
      return splitHeaders(id, random.pick([fields, answer]), 1 + random.below(40), end)
    case 5:
    case 6:
      return [data(id, Buffer.alloc(random.pick([0, 1, 4, 100, 16_384]), 'd'), end)]
    case 7:
      return [frame(T.DATA, FLAG.PADDED | (end ? 1 : 0), id, padded('data', random.below(256)))]
    case 8:
      return [
        random.pick([rstStream(id, random.below(14)), priority(id, random.below(9)), goaway(id, random.below(14))]),
      ]
    case 9:
      return [settings([random.below(10), random.pick([0, 1, 100, 4096, 16_384, 65_535, 2 ** 31 - 1, 2 ** 32 - 1])])]
    case 10:
      return [random.pick([settingsAck(), ping(), ping('headgate', true)])]
    case 11:
      return [windowUpdate(id, random.pick([0, 1, 1000, 65_535, 2 ** 31 - 1]))]
    case 12:
      return [frame(random.below(256), random.below(256), id, random.bytes(random.below(20)))]
    default:
      return [headers(id, Buffer.concat([headerBlock(fields), random.bytes(random.below(6))]), end)]
  }
}

/** A session's worth of frames, now and then with a byte changed, lost or added. */
function anySession(random: Random): Buffer {
  // Open for both roles: a request, and the head of a response to it.
  const frames: Buffer[] = random.next() < 0.8 ? [random.pick(OPENINGS)] : []
  for (let i = 1 + random.below(12); i > 0; i--) frames.push(...anyFrame(random))
  const bytes = Buffer.concat(frames)
  if (random.next() < 0.5) return bytes
  const at = random.below(bytes.length)
  switch (random.below(3)) {
    case 0:
      bytes[at] = random.below(256)
      return bytes
    case 1:
      return Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + 1 + random.below(4))])
    default:
      return Buffer.concat([bytes.subarray(0, at), random.bytes(1 + random.below(9)), bytes.subarray(at)])
  }
}

/** Users that do different things, always the same for the same stream. */
function behave(rig: SessionRig, log: StreamLog): void {
  const stream = log.stream!
  const answer = (): void => {
    stream.respond(200, new Headers(['a', 'b']), false)
    stream.write(Buffer.alloc(70_000, 'r'), stream.id % 3 !== 0)
    if (stream.id % 3 === 0) stream.trailers(new Headers(['c', 'd']))
  }
  log.react = (event) => {
    if (event === 'data' && stream.id % 4 === 1) stream.pause()
    if (event === 'data' && stream.id % 4 === 3) answer()
    if (event === 'trailers' && stream.id % 5 === 0) stream.reset(8)
    if (event === 'headers' && stream.id % 7 === 0) rig.session.shutdown()
    if (event === 'reset') stream.write(Buffer.from('into the void'), true)
  }
  if (stream.id % 5 === 3) stream.discard()
  if (log.ended || stream.id % 2 === 0) answer()
}

interface Outcome {
  readonly failure: string
  readonly frames: readonly string[]
  readonly streams: readonly (readonly string[])[]
}

function run(role: 'server' | 'client', pieces: readonly Buffer[]): Outcome {
  const logs: StreamLog[] = []
  const rig: SessionRig = new SessionRig({
    role,
    config: { maxConcurrentStreams: 4, initialStreamWindowBytes: 65_535, initialConnectionWindowBytes: 131_070 },
    onRequest: (log) => {
      logs.push(log)
      behave(rig, log)
    },
  })
  rig.session.start()
  if (role === 'server') rig.feed(PREFACE)
  rig.feed(settings(), settingsAck())
  if (role === 'client') {
    for (const method of ['GET', 'POST', 'HEAD', 'CONNECT']) {
      const log = rig.request({ method, authority: 'a:1' }, method !== 'POST' && method !== 'CONNECT')!
      logs.push(log)
      log.react = (event) => event === 'data' && log.stream!.id === 3 && log.stream!.pause()
    }
  }
  rig.take()
  for (const piece of pieces) rig.feed(piece)
  for (const log of logs) {
    // Until nothing more comes: handlers pause again.
    for (let seen = -1; seen !== log.lines.length; ) {
      seen = log.lines.length
      log.stream!.resume()
    }
  }
  // When credit is announced depends on the pieces, and nothing else does.
  const frames = rig
    .take()
    .map(describe)
    .filter((line) => !line.startsWith('WINDOW_UPDATE'))
  checkBooks(rig, logs)
  const outcome = {
    failure: `${rig.failure?.code} ${rig.failure?.detail}`,
    frames,
    // However the pieces were cut, together they are the same body.
    streams: logs.map((log) => [
      ...log.lines.filter((line) => !/^data|^drain|^trailers/.test(line)),
      // How much had been handed on when a reset came depends on the pieces.
      ...(log.reset === undefined ? [log.text, String(log.ended)] : []),
    ]),
  }
  rig.session.transportClosed('the end')
  insist(rig.session.openStreams === 0 && rig.stats.streamsActive.v === 0, 'all streams are gone')
  insist(rig.stats.pendingSendBytes.v === 0 && rig.session.pendingBytes === 0, 'nothing waits')
  insist(rig.corked === 0, 'uncorked')
  return outcome
}

function checkBooks(rig: SessionRig, logs: readonly StreamLog[]): void {
  insist(rig.stats.streamsActive.v === rig.session.openStreams, 'streams_active is openStreams')
  const streams = logs.length + rig.refused.length
  insist(rig.closedStreams + rig.session.openStreams === streams, 'every stream is open or was closed, once')
  insist(rig.stats.pendingSendBytes.v === rig.session.pendingBytes, 'pending_send_bytes is pendingBytes')
  insist(!rig.session.failed || rig.session.openStreams === 0, 'a failed session has no streams')
  insist((rig.failure !== undefined) === rig.session.failed, 'a failure is told')
  insist(!rig.failure?.detail.includes('internal_error'), `a bug: ${rig.failure?.detail}`)
  for (const { lines } of [...logs, ...rig.refused]) {
    const reset = lines.findIndex((line) => line.startsWith('reset'))
    const end = lines.findIndex((line) => line.endsWith(' end') || line.startsWith('trailers'))
    insist(reset < 0 || reset === lines.length - 1, `nothing follows a reset: ${lines}`)
    insist(
      end < 0 || lines.slice(end + 1).every((line) => /^reset|^drain/.test(line)),
      `nothing follows the end: ${lines}`,
    )
  }
}

function insist(truth: boolean, what: string): void {
  if (!truth) throw new Error(what)
}

/** Throws where a session does not keep its promises, or where it matters how the bytes were cut. */
function check(bytes: Buffer, random: Random): string {
  let failures = ''
  for (const role of ['server', 'client'] as const) {
    const whole = run(role, [bytes])
    const feeds = [
      cut(
        bytes,
        Array.from({ length: 5 }, () => random.below(bytes.length + 1)).sort((a, b) => a - b),
      ),
    ]
    if (bytes.length < 300) feeds.push(byteByByte(bytes))
    for (const pieces of feeds) {
      const parts = run(role, pieces)
      const same = JSON.stringify(parts) === JSON.stringify(whole)
      insist(same, `${role}, cut: ${JSON.stringify(parts)} whole: ${JSON.stringify(whole)}`)
    }
    failures += whole.failure === 'undefined undefined' ? '-' : '!'
  }
  return failures
}

t.test('the corpus: what has once been wrong, and what peers get wrong', async (t) => {
  const corpus = readCorpus(TARGET)
  t.ok(corpus.length >= 8, `${corpus.length} files`)
  for (const { name, bytes } of corpus) t.doesNotThrow(() => check(bytes, seeded(1)), name)
})

t.test('generated sessions: no throw, no leak, and the same however they are cut', async (t) => {
  const random = seeded(Number(process.env.FUZZ_SEED ?? 20_260_101))
  const tally = new Map<string, number>()
  let findings = 0
  for (let i = 0; i < SESSIONS && findings < 3; i++) {
    const bytes = anySession(random)
    try {
      const kind = check(bytes, random)
      tally.set(kind, (tally.get(kind) ?? 0) + 1)
    } catch (error) {
      findings++
      t.fail(`${(error as Error).message.slice(0, 1500)}, kept as ${writeFinding(TARGET, bytes)}`)
    }
  }
  // A generator whose sessions all die, or all live, tests nothing.
  t.ok((tally.get('--') ?? 0) > SESSIONS / 50, JSON.stringify([...tally]))
  t.ok((tally.get('!!') ?? 0) > SESSIONS / 50, JSON.stringify([...tally]))
})
