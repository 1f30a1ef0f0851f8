import t from 'tap'
import type { Headers } from '../../../lib/core/headers.ts'
import { BodyReader } from '../../../lib/http1/body-reader.ts'
import { CHUNKED, type Framing, LENGTH, NO_BODY, UNTIL_CLOSE } from '../../../lib/http1/framing.ts'
import { HeadBuffer } from '../../../lib/http1/head-buffer.ts'
import { CLOSE, type Head, type HeadError, HeadParser, KEEP_ALIVE } from '../../../lib/http1/head-parser.ts'
import { fuzz } from '../../support/fuzz.ts'
import { haveLlhttpCases, readLlhttpCases } from '../../support/llhttp-cases.ts'
import { byteByByte, cut, everyFeed, randomSplits, sameHoweverSplit } from '../../support/splits.ts'
import { type Accepted, LIMITS, type RequestCase, type RequestExpect } from './case.ts'
import { requestCases } from './requests.ts'
import type { ResponseCase } from './response-case.ts'
import { responseCases } from './responses.ts'

/** One message as the codec reads it. */
interface Message {
  refused: number
  in: 'head' | 'body' | 'done'
  head: Head | undefined
  framing: Framing
  body: string
  trailers: readonly string[]
}

function newMessage(): Message {
  return { refused: 0, in: 'head', head: undefined, framing: NO_BODY, body: '', trailers: [] }
}

/** The codec's pieces put together as a connection does it, without the connection. */
class Codec {
  readonly messages: Message[] = []
  readonly #heads = new HeadBuffer(LIMITS)
  readonly #parser: HeadParser
  readonly #body = new BodyReader()
  readonly #framingOf: (head: Head) => Framing
  #stopped = false
  /** Bytes behind the last message that were not looked at. */
  surplus = 0

  constructor(response: boolean, framingOf: (head: Head) => Framing) {
    this.#parser = new HeadParser(LIMITS, { keepCase: false, response })
    this.#framingOf = framingOf
  }

  feed(chunk: Buffer, mayFollow: (done: Message) => boolean): void {
    for (let at = 0; at < chunk.length; ) {
      const last = this.messages.at(-1)
      if (last?.in === 'done' && !mayFollow(last)) this.#stopped = true
      if (this.#stopped) {
        this.surplus += chunk.length - at
        return
      }
      at = last?.in === 'body' ? this.#feedBody(last, chunk, at) : this.#feedHead(last, chunk, at)
    }
  }

  #feedHead(last: Message | undefined, chunk: Buffer, at: number): number {
    const text = this.#heads.take(chunk, at)
    const message = last?.in === 'head' ? last : newMessage()
    if (message !== last) this.messages.push(message)
    if (text === undefined) return chunk.length
    const head: Head | HeadError = typeof text === 'string' ? this.#parser.parse(text) : text
    if (!('raw' in head)) return this.#refuse(message, head.status, chunk)
    message.head = head
    message.framing = this.#framingOf(head)
    this.#body.start(message.framing, Math.max(0, head.contentLength))
    message.in = this.#body.done ? 'done' : 'body'
    return this.#heads.next
  }

  #feedBody(message: Message, chunk: Buffer, at: number): number {
    const next = this.#body.feed(chunk, at, {
      onBody: (data) => {
        message.body += data.toString('latin1')
      },
      onBodyEnd: (trailers: Headers | undefined) => {
        message.trailers = trailers?.raw ?? []
      },
    })
    if (next < 0) return this.#refuse(message, 400, chunk)
    if (this.#body.done) message.in = 'done'
    return next
  }

  #refuse(message: Message, status: number, chunk: Buffer): number {
    message.refused = status
    this.#stopped = true
    return chunk.length
  }
}

const requestFraming = (head: Head): Framing => (head.chunked ? CHUNKED : head.contentLength > 0 ? LENGTH : NO_BODY)

const keeps = (head: Head): boolean =>
  (head.flags & CLOSE) === 0 && (head.minor === 1 || (head.flags & KEEP_ALIVE) !== 0)

function readRequests(pieces: readonly Buffer[]): readonly Message[] {
  const codec = new Codec(false, requestFraming)
  for (const piece of pieces) codec.feed(piece, (done) => keeps(done.head!))
  return codec.messages.filter((m) => m.in !== 'head' || m.refused !== 0 || m === codec.messages[0])
}

const FRAMINGS = ['none', 'length', 'chunked', 'close']

function judge(expect: RequestExpect, message: Message | undefined): string | undefined {
  if (message === undefined) return 'nothing was read'
  const { head } = message
  const outcome = message.refused !== 0 ? `refused ${message.refused} in ${message.in}` : message.in
  if (expect.kind === 'reject') {
    if (expect.at === 'policy' || expect.at === 'deadline')
      return message.refused === 0 ? undefined : `${outcome}, and not by ${expect.at}`
    return message.refused === expect.status && message.in === expect.at
      ? undefined
      : `${outcome}, not ${expect.status} in ${expect.at}`
  }
  if (expect.kind === 'unfinished') return message.refused === 0 && message.in === expect.in ? undefined : outcome
  if (message.refused !== 0 || message.in !== 'done' || head === undefined) return outcome
  return judgeFacts(expect, message, head)
}

function judgeFacts(expect: Accepted, message: Message, head: Head): string | undefined {
  const pairs = Array.from({ length: head.raw.length / 2 }, (_, i) => `${head.raw[2 * i]}: ${head.raw[2 * i + 1]}`)
  const got = [
    head.method,
    head.target,
    head.minor,
    FRAMINGS[message.framing],
    message.body,
    keeps(head),
    message.trailers.join(),
  ]
  const wanted = [
    expect.method,
    expect.target,
    expect.minor,
    expect.framing,
    expect.body,
    expect.keepAlive,
    expect.trailers.flat().join(),
  ]
  if (JSON.stringify(got) !== JSON.stringify(wanted)) return `${JSON.stringify(got)} is not ${JSON.stringify(wanted)}`
  if (head.host !== expect.authority) return `host ${head.host}`
  for (const name of expect.absent) if (pairs.some((p) => p.startsWith(`${name}:`))) return `${name} is there`
  let at = 0
  for (const [name, value] of expect.fields) {
    at = pairs.indexOf(`${name}: ${value}`, at) + 1
    if (at === 0) return `no ${name}: ${value} in its place`
  }
  return undefined
}

/** All ways to cut what is short; some of them for what is long. */
function feedsOf(bytes: Buffer): Iterable<readonly Buffer[]> {
  if (bytes.length === 0) return []
  if (bytes.length <= 600) return everyFeed(bytes)
  const step = Math.ceil(bytes.length / 9)
  const thirds = Array.from({ length: 8 }, (_, i) => (i + 1) * step)
  return [cut(bytes, []), cut(bytes, thirds), cut(bytes, [1]), cut(bytes, [bytes.length - 1])]
}

function judgeRequest(c: RequestCase): string | undefined {
  const expects = [c.expect, ...c.after]
  for (const pieces of feedsOf(c.bytes)) {
    const messages = readRequests(pieces)
    const shape = pieces.map((p) => p.length).join('+')
    for (const [i, expect] of expects.entries()) {
      // An unfinished second head leaves no message behind.
      if (i > 0 && expect.kind === 'unfinished' && messages.length === i) continue
      const problem = judge(expect, messages[i])
      if (problem !== undefined) return `${c.name}: message ${i + 1}: ${problem} (fed as ${shape.slice(0, 60)})`
      if (expect.kind === 'reject') break
    }
  }
  return undefined
}

t.test('the tables are what they say', async (t) => {
  t.ok(requestCases.length >= 150, `${requestCases.length} request rows`)
  t.ok(responseCases.length >= 80, `${responseCases.length} response rows`)
  for (const names of [requestCases.map((c) => c.name), responseCases.map((c) => c.name)]) {
    t.same(
      names.filter((name, i) => names.indexOf(name) !== i),
      [],
      'names are unique',
    )
  }
})

t.test('every request row, however it is cut, is read as the table says', async (t) => {
  t.same(
    requestCases.map(judgeRequest).filter((problem) => problem !== undefined),
    [],
  )
})

function responseFraming(method: string): (head: Head) => Framing {
  return (head) => {
    if (method === 'HEAD' || head.status < 200 || head.status === 204 || head.status === 304) return NO_BODY
    // The client's part of the rule: on HTTP/1.0 the field means nothing.
    if (head.chunked && head.minor === 1) return CHUNKED
    return head.contentLength >= 0 ? (head.contentLength > 0 ? LENGTH : NO_BODY) : UNTIL_CLOSE
  }
}

/** What the codec alone can tell: whether a response is refused, broken or whole, and its body. */
function judgeResponse(c: ResponseCase): string | undefined {
  for (const pieces of feedsOf(c.bytes)) {
    const codec = new Codec(true, responseFraming(c.method))
    for (const piece of pieces) codec.feed(piece, (done) => done.head!.status < 200)
    const message = codec.messages.find((m) => m.head === undefined || m.head.status >= 200 || m.head.status === 101)
    const problem = judgeOutcome(c, message)
    if (problem !== undefined)
      return `${c.name}: ${problem} (fed as ${pieces
        .map((p) => p.length)
        .join('+')
        .slice(0, 60)})`
  }
  return undefined
}

function judgeOutcome({ expect, ends, method }: ResponseCase, message: Message | undefined): string | undefined {
  const closed = message?.framing === UNTIL_CLOSE && ends === 'fin'
  const done = message !== undefined && message.refused === 0 && (message.in === 'done' || closed)
  if (expect.kind === 'refused' && expect.by === 'client')
    return message?.refused ? `refused ${message.refused}` : undefined
  if (expect.kind !== 'whole') return done ? 'taken for whole' : undefined
  const { head } = message ?? {}
  if (!done || head === undefined) return `refused ${message?.refused} in ${message?.in}`
  if (message.body !== expect.body) return `body ${JSON.stringify(message.body)}`
  if (head.status !== expect.status) return `status ${head.status}`
  if (method !== 'HEAD' && FRAMINGS[message.framing] !== expect.framing) return `framing ${FRAMINGS[message.framing]}`
  for (const name of expect.absent)
    if (head.raw.some((text, i) => i % 2 === 0 && text === name)) return `${name} is there`
  for (const [name, value] of expect.fields)
    if (!head.raw.some((text, i) => i % 2 === 0 && text === name && head.raw[i + 1] === value))
      return `no ${name}: ${value}`
  return undefined
}

t.test('every response row, however it is cut, is read as the table says', async (t) => {
  t.same(
    responseCases.map(judgeResponse).filter((problem) => problem !== undefined),
    [],
  )
})

const TOKEN_LINE = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*$/
const REQUEST_LINE = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+ [!-"$-~]+ HTTP\/1\.[01]$/

/** What every accepted request must satisfy, checked on its text by other means than the parser's. */
function checkAccepted(bytes: Buffer, messages: readonly Message[]): void {
  if (messages[0]?.head === undefined) return
  const all = bytes.toString('latin1')
  const text = all.startsWith('\r\n') ? all.slice(2) : all
  const lines = text.slice(0, text.indexOf('\r\n\r\n')).split('\r\n')
  if (!REQUEST_LINE.test(lines[0])) throw new Error(`accepted ${JSON.stringify(lines[0])}`)
  for (const line of lines.slice(1)) if (!TOKEN_LINE.test(line)) throw new Error(`accepted ${JSON.stringify(line)}`)
  const named = (name: string): string[] => lines.slice(1).filter((line) => line.toLowerCase().startsWith(`${name}:`))
  const framed = [...named('content-length'), ...named('transfer-encoding')]
  if (framed.length > 1 || named('host').length > 1) throw new Error(`accepted ${JSON.stringify(framed)}`)
  if (
    framed.length === 1 &&
    !/^(?:content-length:[\t ]*(?:0|[1-9][0-9]*)|transfer-encoding:[\t ]*chunked)[\t ]*$/i.test(framed[0])
  ) {
    throw new Error(`accepted ${JSON.stringify(framed[0])}`)
  }
}

t.test('mutated requests are read the same however they are cut, and nothing doubtful is accepted', async (t) => {
  const inputs = requestCases.filter((c) => c.bytes.length <= 400).map((c) => c.bytes)
  // Of two faults, which one is named may depend on what had come when the first was seen; that it is refused may not.
  const check = (bytes: Buffer): void => {
    sameHoweverSplit(
      bytes,
      (pieces) => readRequests(pieces).map((m) => [m.refused !== 0, m.in, m.head?.target, m.body, m.trailers]),
      [byteByByte(bytes), ...randomSplits(bytes, bytes.length, 3)],
    )
    checkAccepted(bytes, readRequests([bytes]))
  }
  const { runs, findings } = fuzz({ target: 'http1-request', inputs, seed: 20_260_101, runs: 4_000, check })
  t.ok(runs >= 4_000)
  t.same(
    findings.map((f) => `${f.file}: ${f.error.message}`),
    [],
  )
})

/** llhttp refuses these (and relents in `lenient-keep-alive`) for what it does not know, or for bytes that we never look at: not the codec's business. */
const POLICY: ReadonlySet<string> = new Set([
  'Data after `Connection: close`',
  'Invalid method for HTTP/x.x request',
  'Expected space after method',
])

const skip = haveLlhttpCases() ? false : 'SKIPPED: the llhttp cases do not lie beside this checkout'

t.test('whatever strict llhttp refuses, and every lenient case, is refused or never complete', { skip }, async (t) => {
  const refusals = readLlhttpCases().filter((c) =>
    c.lenient ? !c.type.endsWith('keep-alive') : c.expectError && !POLICY.has(c.reason),
  )
  t.ok(refusals.length > 60, `${refusals.length} cases`)
  // HTTP/1.0 is off unless asked for; without keep-alive what follows is never looked at.
  const taken = refusals.filter((c) =>
    readRequests([c.bytes]).every((m) => m.in === 'done' && m.refused === 0 && m.head?.minor === 1),
  )
  t.same(
    taken.map((c) => `${c.file}: ${c.title}: ${c.reason}`),
    [],
  )
})

t.test('heads of any size follow each other on one connection, and none holds bytes of another', (t) => {
  const head = (size: number, letter: string): string => `GET / HTTP/1.1\r\nx-a: ${letter.repeat(size)}\r\n\r\n`
  // Below and above what is looked at without gathering: whole, and in two pieces.
  const sizes = [10, 5_000, 5_000, 10, 20_000, 4_070, 4_080, 10]
  for (const pieces of [1, 2]) {
    const heads = new HeadBuffer({ headerBytes: 61_440, lineBytes: 8_192 })
    for (const [i, size] of sizes.entries()) {
      const bytes = Buffer.from(head(size, 'abcdefgh'[i]))
      const at = pieces === 1 ? 0 : bytes.length >> 1
      if (at > 0) t.equal(heads.take(bytes.subarray(0, at), 0), undefined)
      t.equal(heads.take(bytes.subarray(at), 0) === head(size, 'abcdefgh'[i]), true, `head ${i} in ${pieces}`)
      t.equal(heads.next, bytes.length - at)
      t.equal(heads.started, false)
    }
  }
  t.end()
})
