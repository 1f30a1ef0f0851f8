import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { settle } from '../support/clock.ts'
import { TestGateway } from '../support/gateway.ts'
import { watchLeaks } from '../support/leaks.ts'
import { Ledger, sha256 } from '../support/ledger.ts'
import { Origin, type OriginScript } from '../support/origin.ts'
import { seeded } from '../support/random.ts'
import { bootstrap, cluster, type Fields, type LogLine } from './bootstrap.ts'
import { type Caller, type CallerParts, Http1Caller, Http2Caller } from './ledger-callers.ts'
import { LedgerHttp2Origin, type OriginParts } from './ledger-http2-origin.ts'
import { draw, type Mix, type Plan, stretched } from './ledger-plan.ts'

/**
 * The request ledger over HTTP/2 on either side and on both: rounds of many requests at once, with resets, refusals,
 * GOAWAYs and killed connections by chance under a seed; afterwards the books must balance.
 */

const CALLERS = 4
const ROUNDS = 25
const MOST_AT_ONCE = 10
/** Streams on a connection from clients: several connections come and go. */
const REQUESTS_PER_CONNECTION = 60

const HTTP2: Fields = {
  typed_extension_protocol_options: {
    'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
      '@type': 'type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions',
      // Several connections at a time. The limit is ours: node:http2 counts streams that are over, and answers one too
      // many with ENHANCE_YOUR_CALM, which does not say that nobody looked at it.
      explicit_http_config: { http2_protocol_options: { max_concurrent_streams: 12 } },
    },
  },
}

/** An origin of either protocol. */
interface Party {
  readonly port: number
  /** How often it broke what, by kind. */
  readonly done?: LedgerHttp2Origin['done']
  readonly violations?: readonly string[]
  close(): Promise<void>
}

interface Setting {
  readonly name: string
  readonly upstream: Fields
  readonly caller: new (parts: CallerParts) => Caller
  readonly mix: Mix
  startOrigin(parts: OriginParts): Promise<Party>
}

const startHttp2: Setting['startOrigin'] = (parts) => LedgerHttp2Origin.start(parts)
const startHttp1: Setting['startOrigin'] = (parts) => Origin.start(http1Script(parts))

const BROKEN: Mix = { 'client-reset': 5, 'origin-reset': 4, 'origin-cut': 4 }
/** Large bodies, and failures that are the request's own. */
const RESETS: Mix = { ...BROKEN, 'client-kill': 1 }
/** Bodies that can be repeated, and connections that end. */
const ENDINGS: Mix = { ...BROKEN, refuse: 5, goaway: 2, 'client-kill': 1, 'origin-kill': 1 }

const SETTINGS: readonly Setting[] = [
  { name: 'H2 to H1', upstream: {}, caller: Http2Caller, mix: RESETS, startOrigin: startHttp1 },
  { name: 'H2 to H2, resets', upstream: HTTP2, caller: Http2Caller, mix: RESETS, startOrigin: startHttp2 },
  { name: 'H2 to H2, GOAWAYs and kills', upstream: HTTP2, caller: Http2Caller, mix: ENDINGS, startOrigin: startHttp2 },
  { name: 'H1 to H2, resets', upstream: HTTP2, caller: Http1Caller, mix: RESETS, startOrigin: startHttp2 },
  { name: 'H1 to H2, GOAWAYs and kills', upstream: HTTP2, caller: Http1Caller, mix: ENDINGS, startOrigin: startHttp2 },
]

/** The HTTP/1 origin: the same faults, as far as that protocol has them. */
function http1Script({ ledger, plans, random }: OriginParts): OriginScript {
  return async (request, reply) => {
    const seq = request.get('x-seq') ?? ''
    const plan = plans.get(seq)
    const body = await request.body
    ledger.delivered(seq, request.get('x-body-sha256'), body)
    if (!body.clean || plan === undefined) return
    await settle(random.below(12))
    const answer = stretched(plan.answerBytes, random)
    const hash = sha256(answer)
    if (plan.fault === 'origin-reset') reply.reset()
    else if (plan.fault === 'origin-cut') {
      const head = `HTTP/1.1 200 OK\r\nx-seq: ${seq}\r\nx-body-sha256: ${hash}\r\ncontent-length: ${answer.length}\r\n\r\n`
      await reply.resetAt(Buffer.concat([Buffer.from(head), answer]), head.length + Math.floor(answer.length / 2))
    } else {
      const fields: [string, string][] = [
        ['x-seq', seq],
        ['x-body-sha256', hash],
      ]
      const close = random.below(10) === 0
      if (plan.answerDeclared) await reply.send({ fields, body: answer, close })
      else await reply.send({ fields, chunks: [answer].filter(({ length }) => length > 0), close })
      if (close) reply.close()
    }
  }
}

for (const setting of SETTINGS) {
  for (const seed of [1, 2]) {
    t.test(
      `${setting.name}, seed ${seed}: nothing lost, doubled, crossed, silent or cut`,
      { timeout: 60_000 },
      async (t) => {
        await keepBooks(t, setting, seed)
      },
    )
  }
}

async function keepBooks(t: Test, setting: Setting, seed: number): Promise<void> {
  const leaks = watchLeaks()
  const log = join(t.testdir(), 'access.log')
  const ledger = new Ledger()
  const plans = new Map<string, Plan>()
  const refused = new Set<string>()
  const origins = [1, 2].map((number) => {
    return setting.startOrigin({ ledger, plans, random: seeded(seed * 100 + number), refused })
  })
  const parties = await Promise.all(origins)
  const ports = parties.map(({ port }) => port)
  const hcm = { common_http_protocol_options: { max_requests_per_connection: REQUESTS_PER_CONNECTION } }
  const gateway = await TestGateway.start(
    bootstrap({ log, hcm, clusters: [cluster('origin', ports, setting.upstream)] }),
    { logPath: log },
  )
  const callers = Array.from(
    { length: CALLERS },
    (_, i) => new setting.caller({ ledger, port: gateway.port(), random: seeded(seed * 1000 + i) }),
  )
  const random = seeded(seed)
  for (let round = 0; round < ROUNDS; round++) {
    const batches = callers.map(() => {
      const count = 1 + random.below(MOST_AT_ONCE)
      return Array.from({ length: count }, () => draw(ledger, random, setting.mix))
    })
    const all = batches.flat()
    for (const plan of all) plans.set(plan.request.seq, plan)
    // Whatever is on a connection when its origin kills it may be lost; at the end of the round its death is known.
    if (all.some(({ fault }) => fault === 'origin-kill')) for (const { request } of all) ledger.excuse(request.seq)
    await Promise.all(callers.map((caller, i) => caller.ask(batches[i])))
    await settle(20)
  }
  for (const caller of callers) await caller.close()
  await gateway.close()
  for (const party of parties) await party.close()
  ledger.readAccessLog(readFileSync(log, 'utf8'))
  t.doesNotThrow(() => ledger.assertClean())
  const served = gateway.lines().filter((line) => (JSON.parse(line) as LogLine).status === 200).length
  t.ok(ledger.size >= CALLERS * ROUNDS * 3, `${ledger.size} requests`)
  t.ok(served >= ledger.size * 0.7, `${served} of them served`)
  t.equal(gateway.lines().length, gateway.stat('http.test.downstream_rq_total'), 'one line per request')
  t.equal(gateway.stat('http.test.downstream_rq_completed'), gateway.stat('http.test.downstream_rq_total'))
  checkFaults(t, setting, parties)
  t.same(gateway.complaints, [])
  await leaks.assertNone()
}

/** The faults have happened, or the books prove nothing. */
function checkFaults(t: Test, { mix }: Setting, parties: readonly Party[]): void {
  t.same(
    parties.flatMap(({ violations }) => violations ?? []),
    [],
  )
  const done = parties.map((party) => party.done).filter((each) => each !== undefined)
  if (done.length === 0) return
  const sum = (kind: keyof LedgerHttp2Origin['done']): number => done.reduce((total, each) => total + each[kind], 0)
  t.ok(sum('resets') > 0 && sum('cuts') > 0, `${sum('resets')} resets, ${sum('cuts')} cuts`)
  if (mix.goaway === undefined) return
  t.ok(sum('refused') > 0, `${sum('refused')} refused`)
  t.ok(sum('goaways') > 0, `${sum('goaways')} GOAWAYs`)
  t.ok(sum('kills') > 0, `${sum('kills')} kills`)
  t.ok(sum('connections') > sum('goaways') / 2, `${sum('connections')} connections`)
}
