import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { settle } from '../support/clock.ts'
import { TestGateway } from '../support/gateway.ts'
import { watchLeaks } from '../support/leaks.ts'
import { Ledger, type SentRequest, sha256 } from '../support/ledger.ts'
import { Origin, type OriginScript } from '../support/origin.ts'
import { type Random, seeded } from '../support/random.ts'
import { type Wire, WireClient } from '../support/wire.ts'
import { bootstrap, cluster, type LogLine } from './bootstrap.ts'

/** Many requests at once, cut, slowed and broken by chance under a seed; afterwards the books must balance. */

const CLIENTS = 12
const ROUNDS = 30
const METHODS = ['GET', 'POST', 'PUT', 'DELETE', 'HEAD'] as const

type Fault = 'none' | 'client-reset' | 'origin-reset' | 'origin-cut' | 'malformed'

interface Plan {
  readonly request: SentRequest
  readonly bytes: Buffer
  readonly fault: Fault
  readonly close: boolean
}

function chooseFault(random: Random): Fault {
  const draw = random.below(100)
  if (draw < 4) return 'client-reset'
  if (draw < 7) return 'origin-reset'
  if (draw < 10) return 'origin-cut'
  return draw < 14 ? 'malformed' : 'none'
}

function bodyFor(method: string, random: Random): Buffer {
  if (method === 'GET' || method === 'HEAD' || method === 'DELETE') return Buffer.alloc(0)
  const size = random.pick([0, 1, 100, 8_191, 8_192, 8_193, 70_000, 300_000])
  return stretched(size, random)
}

/** Random bytes are slow to make: a short random piece, repeated, each time under its number. */
function stretched(size: number, random: Random): Buffer {
  const body = Buffer.alloc(size, random.bytes(251))
  for (let at = 0; at + 4 <= size; at += 1009) body.writeUInt32BE(at, at)
  return body
}

function encode(request: SentRequest, close: boolean, random: Random): Buffer {
  const { method, body, fields } = request
  const lines = [`${method} /${random.below(1000)} HTTP/1.1`, 'Host: ledger.example']
  for (const [name, value] of fields) lines.push(`${name}: ${value}`)
  if (close) lines.push('Connection: close')
  const chunked = body.length > 0 && random.below(2) === 0
  if (chunked) lines.push('Transfer-Encoding: chunked')
  else if (body.length > 0 || method === 'POST') lines.push(`Content-Length: ${body.length}`)
  const pieces: Buffer[] = [Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1')]
  if (!chunked) pieces.push(body)
  for (let at = 0; chunked && at < body.length; ) {
    const size = Math.min(1 + random.below(60_000), body.length - at)
    pieces.push(Buffer.from(`${size.toString(16)}\r\n`), body.subarray(at, at + size), Buffer.from('\r\n'))
    at += size
  }
  if (chunked) pieces.push(Buffer.from('0\r\n\r\n'))
  return Buffer.concat(pieces)
}

/** Keeps the origin's side, breaks what the plan says, and answers in a shape chosen by chance. */
function originScript(ledger: Ledger, plans: ReadonlyMap<string, Plan>, random: Random): OriginScript {
  return async (request, reply) => {
    const seq = request.get('x-seq') ?? ''
    const fault = plans.get(seq)?.fault
    const body = await request.body
    ledger.delivered(seq, request.get('x-body-sha256'), body)
    if (!body.clean) return
    await settle(random.below(12))
    if (fault === 'origin-reset') {
      reply.reset()
      return
    }
    const answer = stretched(random.pick([0, 1, 5_000, 65_536, 250_000]), random)
    const fields: [string, string][] = [
      ['x-seq', seq],
      ['x-body-sha256', sha256(answer)],
    ]
    if (fault === 'origin-cut') {
      const head = `HTTP/1.1 200 OK\r\nx-seq: ${seq}\r\nx-body-sha256: ${fields[1][1]}\r\ncontent-length: 300000\r\n\r\n`
      await reply.resetAt(Buffer.concat([Buffer.from(head), answer]), head.length + Math.floor(answer.length / 2))
      return
    }
    if (random.below(8) === 0) await reply.inform(103, [['link', '</a>']])
    const close = random.below(10) === 0
    if (random.below(2) === 0) await reply.send({ fields, body: answer, close })
    else {
      const cut = random.below(answer.length + 1)
      const chunks = [answer.subarray(0, cut), answer.subarray(cut)].filter((chunk) => chunk.length > 0)
      await reply.send({ fields, chunks, close })
    }
    if (close) reply.close()
  }
}

/** Offsets near the start, where the head is, and a few behind. */
function cuts(length: number, random: Random): number[] {
  const count = random.below(5)
  const offsets = Array.from({ length: count }, () => random.below(random.below(2) === 0 ? 200 : length))
  return offsets.filter((offset) => offset < length).sort((a, b) => a - b)
}

class Caller {
  readonly #ledger: Ledger
  readonly #client: WireClient
  readonly #port: number
  readonly #random: Random
  #wire: Wire | undefined
  refused = 0

  constructor(ledger: Ledger, client: WireClient, port: number, random: Random) {
    this.#ledger = ledger
    this.#client = client
    this.#port = port
    this.#random = random
  }

  async run(batch: readonly Plan[]): Promise<void> {
    this.#wire ??= await this.#client.connect(this.#port, { deadlineMs: 10_000 })
    const wire = this.#wire
    if (batch[0].fault === 'client-reset') {
      await this.#abandon(wire, batch[0])
      return
    }
    if (batch[0].fault === 'malformed') {
      await this.#malformed(wire)
      return
    }
    // More than one: pipelined, in one piece or cut across their borders.
    const bytes = Buffer.concat(batch.map((plan) => plan.bytes))
    const writing = wire.writeSplit(bytes, cuts(bytes.length, this.#random))
    for (const plan of batch) await this.#read(wire, plan)
    await writing
    if (wire.socket.destroyed || batch.some((plan) => plan.close)) this.#wire = undefined
  }

  async #read(wire: Wire, { request, close }: Plan): Promise<void> {
    try {
      const response = await wire.readResponse({ method: request.method })
      this.#ledger.answered(request.seq, {
        status: response.status,
        get: (name) => response.get(name),
        body: response.bytes,
        clean: response.clean,
      })
      if (close || !response.clean || response.get('connection') === 'close') await wire.stream.untilEnd()
    } catch (error) {
      this.#ledger.failed(request.seq, String(error))
    }
  }

  async #abandon(wire: Wire, { bytes }: Plan): Promise<void> {
    await wire.write(bytes.subarray(0, this.#random.below(bytes.length + 1)))
    await settle(this.#random.below(6))
    wire.reset()
    this.#wire = undefined
  }

  async #malformed(wire: Wire): Promise<void> {
    const bad = this.#random.pick([
      'GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n',
      'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
      'GET / HTTP/1.1\nHost: a\n\n',
      'GET / HTTP/3.0\r\nHost: a\r\n\r\n',
    ])
    const response = await wire.exchange(bad)
    if (response.status !== 400 && response.status !== 505) throw new Error(`status ${response.status} for ${bad}`)
    await wire.stream.untilEnd()
    this.refused++
    this.#wire = undefined
  }
}

for (const seed of [1, 2]) {
  t.test(
    `${CLIENTS * ROUNDS} requests and more under seed ${seed}: nothing lost, doubled, crossed, silent or cut`,
    async (t) => {
      const leaks = watchLeaks()
      const log = join(t.testdir(), 'access.log')
      const ledger = new Ledger()
      const plans = new Map<string, Plan>()
      const origins: Origin[] = []
      for (let i = 0; i < 2; i++) origins.push(await Origin.start(originScript(ledger, plans, seeded(seed * 100 + i))))
      const gateway = await TestGateway.start(
        bootstrap({
          log,
          clusters: [
            cluster(
              'origin',
              origins.map((origin) => origin.port),
            ),
          ],
        }),
        { logPath: log },
      )
      const client = new WireClient()
      const callers = Array.from(
        { length: CLIENTS },
        (_, i) => new Caller(ledger, client, gateway.port(), seeded(seed * 1000 + i)),
      )
      const random = seeded(seed)
      let malformed = 0
      const plan = (): Plan => {
        const fault = chooseFault(random)
        // A response to HEAD ends with its head: a reset behind that would hit whoever uses the connection next.
        const drawn = random.pick(METHODS)
        const method = fault === 'origin-reset' ? 'POST' : fault === 'origin-cut' && drawn === 'HEAD' ? 'GET' : drawn
        const request = ledger.open(method, bodyFor(method, random))
        const close = fault === 'none' && random.below(12) === 0
        const made = { request, bytes: encode(request, close, random), fault, close }
        plans.set(request.seq, made)
        if (fault !== 'none') ledger.excuse(request.seq)
        if (fault === 'malformed') malformed++
        return made
      }
      // Neighbours of a broken response share its connection and its fate: pipelining is for the whole ones.
      const batchOf = (): Plan[] => {
        const first = plan()
        if (first.fault !== 'none' || first.close || random.below(4) > 0) return [first]
        const second = plan()
        return second.fault === 'none' || second.fault === 'origin-reset' ? [first, second] : [first]
      }
      const batches = callers.map(() => Array.from({ length: ROUNDS }, batchOf))
      // Plans that found no place were never sent.
      const placed = new Set(batches.flat(2).map((p) => p.request.seq))
      await Promise.all(
        callers.map(async (caller, i) => {
          for (const batch of batches[i]) await caller.run(batch)
        }),
      )
      await client.closeAll()
      await gateway.close()
      for (const origin of origins) await origin.close()
      const text = readFileSync(log, 'utf8')
      ledger.readAccessLog(text)
      for (const seq of plans.keys()) if (!placed.has(seq)) ledger.excuse(seq)
      t.doesNotThrow(() => ledger.assertClean())
      const lines = text
        .split('\n')
        .filter((line) => line !== '')
        .map((line) => JSON.parse(line) as LogLine)
      const refused = callers.reduce((sum, caller) => sum + caller.refused, 0)
      t.ok(refused > 0 && refused <= malformed)
      t.equal(lines.filter((line) => line.flags === 'DPE').length, refused, 'refused requests have their lines too')
      t.equal(lines.length, gateway.stat('http.test.downstream_rq_total'), 'one line per request')
      t.equal(lines.length, gateway.stat('http.test.downstream_rq_completed'))
      t.ok(lines.filter((line) => line.status === 200).length >= CLIENTS * ROUNDS * 0.7)
      t.same(
        origins.flatMap((origin) => origin.violations),
        [],
      )
      t.same(gateway.complaints, [])
      await leaks.assertNone()
    },
  )
}
