import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { GatewayProcess } from '../attacks/gateway-process.ts'
import { Authority, type Issued } from '../support/certificates.ts'
import { settle } from '../support/clock.ts'
import { TestGateway } from '../support/gateway.ts'
import { Ledger, ledgerScript } from '../support/ledger.ts'
import { Origin } from '../support/origin.ts'
import { type Random, seeded } from '../support/random.ts'
import { WireClient } from '../support/wire.ts'
import { bootstrap, cluster, type Fields, type ListenerSpec } from './bootstrap.ts'
import { type Caller, Http1Caller, Http2Caller } from './ledger-callers.ts'
import { draw } from './ledger-plan.ts'

/**
 * The request ledger while listeners change or end: HTTP/1, HTTP/2 and TCP proxy, with TLS and without. A caller asks
 * without a pause on connections that it keeps as long as it is let. No request may be lost and none without its line.
 *
 * A client that connects in the very moment when a listening socket closes may be reset by the kernel, whatever the
 * process does: so callers stop connecting before that, as behind a load balancer that has seen `/ready`, and go on with
 * the connections they have.
 */

const TYPE = 'type.googleapis.com/envoy.extensions'
const AT_ONCE = 4
const UPDATES = 50
/** Between GOAWAY and its second step. */
const DRAIN_TIMEOUT = '0.1s'

interface Books {
  readonly ledger: Ledger
  readonly origin: Origin
  readonly log: string
  readonly connectionLog: string
  readonly random: Random
  readonly certificates: readonly Issued[]
}

async function openBooks(t: Test, seed: number): Promise<Books> {
  const random = seeded(seed)
  const ledger = new Ledger()
  const serve = ledgerScript(ledger)
  const origin = await Origin.start(async (request, reply) => {
    await settle(random.below(10))
    await serve(request, reply)
  })
  const authority = await Authority.create()
  const certificates = [await authority.issue({ dns: ['a.example'] }), await authority.issue({ dns: ['b.example'] })]
  const folder = t.testdir()
  const [log, connectionLog] = [join(folder, 'access.log'), join(folder, 'connections.log')]
  return { ledger, origin, log, connectionLog, random, certificates }
}

/** What an update may change. */
interface Change {
  readonly certificate?: number
  readonly serverName?: string
  readonly idleTimeoutS?: number
  readonly bufferLimit?: number
  readonly route?: string
}

function configOf({ origin, log, connectionLog, certificates }: Books, change: Change = {}): object {
  const { certificate = 0, serverName = 'gateway', idleTimeoutS = 600, bufferLimit = 1 << 20, route = '/none' } = change
  const { chain, key } = certificates[certificate]
  const tls: Fields = {
    transport_socket: {
      name: 'tls',
      typed_config: {
        '@type': `${TYPE}.transport_sockets.tls.v3.DownstreamTlsContext`,
        common_tls_context: {
          alpn_protocols: ['h2', 'http/1.1'],
          tls_certificates: [{ certificate_chain: { inline_string: chain }, private_key: { inline_string: key } }],
        },
      },
    },
  }
  const tcpProxy = {
    '@type': `${TYPE}.filters.network.tcp_proxy.v3.TcpProxy`,
    stat_prefix: 'bytes',
    cluster: 'origin',
    idle_timeout: `${idleTimeoutS}s`,
    access_log: [
      {
        name: 'file',
        typed_config: {
          '@type': `${TYPE}.access_loggers.file.v3.FileAccessLog`,
          path: connectionLog,
          log_format: { json_format: { host: '%UPSTREAM_HOST%', flags: '%RESPONSE_FLAGS%' } },
        },
      },
    ],
  }
  const http: ListenerSpec = {
    log,
    hcm: { server_name: serverName, drain_timeout: DRAIN_TIMEOUT },
    routes: [
      { match: { path: route }, direct_response: { status: 204 } },
      { match: { prefix: '/' }, route: { cluster: 'origin' } },
    ],
    fields: { per_connection_buffer_limit_bytes: bufferLimit },
  }
  const bytes = { filters: [{ name: 'tcp_proxy', typed_config: tcpProxy }] }
  return bootstrap({
    listeners: [
      { ...http, name: 'plain' },
      { ...http, name: 'secure', chain: tls },
      { name: 'bytes', chain: bytes },
      { name: 'secure-bytes', chain: { ...bytes, ...tls } },
    ],
    clusters: [cluster('origin', origin.port)],
  })
}

/** What callers may still do. */
interface Leave {
  connect: boolean
  ask: boolean
  /** Those of layer 4, whose connections nobody tells to go, ask only while this holds. */
  askBelow: boolean
}

/** Callers of every kind, each asking until it may not, or has no connection and may make none. */
class Fleet {
  readonly leave: Leave = { connect: true, ask: true, askBelow: true }
  readonly #books: Books
  readonly #callers: { readonly caller: Caller; readonly below: boolean }[] = []
  readonly #running: Promise<void>[]
  /** Requests by layer 4, which no access log of requests knows. */
  readonly #below = new Set<string>()

  constructor(books: Books, portOf: (listener: string) => number) {
    this.#books = books
    const { ledger } = books
    let seed = 1
    for (const listener of ['plain', 'secure', 'bytes', 'secure-bytes']) {
      const tls = listener.startsWith('secure')
      const below = listener.endsWith('bytes')
      const parts = (): ConstructorParameters<typeof Http1Caller>[0] => {
        return { ledger, port: portOf(listener), random: seeded(seed++), tls, withdraws: true }
      }
      for (let i = 0; i < AT_ONCE; i++) this.#callers.push({ caller: new Http1Caller(parts()), below })
      if (!below) this.#callers.push({ caller: new Http2Caller(parts()), below })
    }
    this.#running = this.#callers.map((one) => this.#run(one.caller, one.below))
  }

  async #run(caller: Caller, below: boolean): Promise<void> {
    const { ledger, random } = this.#books
    const { leave } = this
    while (leave.ask && (!below || leave.askBelow) && (caller.connected || leave.connect)) {
      const many = caller instanceof Http2Caller ? 1 + random.below(AT_ONCE) : 1
      const plans = Array.from({ length: many }, () => draw(ledger, random, {}))
      if (below) for (const { request } of plans) this.#below.add(request.seq)
      await caller.ask(plans)
    }
  }

  /** So many more requests have been made, or all callers have stopped. */
  async progress(requests: number): Promise<void> {
    let over = false
    void Promise.allSettled(this.#running).then(() => {
      over = true
    })
    const { ledger } = this.#books
    const enough = ledger.size + requests
    while (ledger.size < enough && !over) await settle()
  }

  /** All of them have stopped. */
  async over(): Promise<void> {
    await Promise.all(this.#running)
    for (const { caller } of this.#callers) await caller.close()
  }

  /** Closes the books: nothing lost, doubled, crossed, silent or cut. Answers the number of requests. */
  async balance(t: Test): Promise<number> {
    const { ledger, origin, log } = this.#books
    await origin.close()
    ledger.readAccessLog(readFileSync(log, 'utf8'))
    for (const seq of this.#below) ledger.logged(seq)
    t.doesNotThrow(() => ledger.assertClean())
    t.same(origin.violations, [])
    return ledger.size
  }
}

function lines(path: string): number {
  return readFileSync(path, 'utf8').trim().split('\n').length
}

async function start(t: Test, seed: number): Promise<{ books: Books; gateway: TestGateway; fleet: Fleet }> {
  const books = await openBooks(t, seed)
  const gateway = await TestGateway.start(configOf(books), { logPath: books.log })
  t.teardown(() => gateway.close())
  const fleet = new Fleet(books, (name) => gateway.port(name))
  return { books, gateway, fleet }
}

t.test(`${UPDATES} updates in place: nothing is lost, refused or silent`, { timeout: 60_000 }, async (t) => {
  const { books, gateway, fleet } = await start(t, 1)
  for (let i = 1; i <= UPDATES; i++) {
    // By turns: what connections live through, what drains a chain, what changes below it.
    const change: Change[] = [
      { route: `/none-${i}` },
      { serverName: `gateway-${i}` },
      { certificate: i % 2 },
      { idleTimeoutS: 600 + i },
      { bufferLimit: (1 << 20) + i },
    ]
    await gateway.apply(configOf(books, change[i % change.length]))
    await fleet.progress(20)
  }
  fleet.leave.ask = false
  await fleet.over()
  await gateway.close()
  const size = await fleet.balance(t)
  t.ok(size > 10 * UPDATES, `${size} requests`)
  t.same(gateway.complaints, [])
  t.equal(gateway.stat('http2.stream_refused_errors'), 0)
  t.equal(lines(books.connectionLog), gateway.stat('tcp.bytes.downstream_cx_total'), 'one line per connection')
})

t.test('a graceful drain: served to its end, told to go, and then nobody listens', { timeout: 60_000 }, async (t) => {
  const { gateway, fleet } = await start(t, 2)
  const ports = ['plain', 'secure', 'bytes', 'secure-bytes'].map((name) => gateway.port(name))
  await fleet.progress(200)
  const before = gateway.stat('http.test.downstream_cx_total')
  const drained = gateway.engine.drain(1_000, { inboundOnly: false, graceful: true, skipExit: false })
  await fleet.progress(100)
  t.ok(
    gateway.stat('http.test.downstream_cx_total') > before,
    'new connections are taken, as the old ones are told to go',
  )
  fleet.leave.connect = false
  fleet.leave.askBelow = false
  await fleet.over()
  await drained
  for (const port of ports) await refused(t, port)
  t.equal(gateway.stat('http2.stream_refused_errors'), 0, 'no request behind the last one')
  await gateway.close()
  const size = await fleet.balance(t)
  t.ok(size > 100, `${size} requests`)
  t.same(gateway.complaints, [])
})

t.test(
  'SIGTERM: what is on its way is answered, every connection ends by itself, status 0',
  { timeout: 60_000 },
  async (t) => {
    const books = await openBooks(t, 3)
    const gateway = await GatewayProcess.start(t, configOf(books), ['--drain-time-s', '20'])
    const names = ['plain', 'secure', 'bytes', 'secure-bytes']
    const ports = new Map<string, number>()
    for (const name of names) ports.set(name, await gateway.port(name))
    const fleet = new Fleet(books, (name) => ports.get(name) ?? 0)
    await fleet.progress(400)
    fleet.leave.connect = false
    const begin = performance.now()
    const ended = gateway.terminate()
    await fleet.progress(20)
    fleet.leave.askBelow = false
    await fleet.over()
    t.equal(await ended, 0)
    t.ok(performance.now() - begin < 15_000, 'before its time was over')
    for (const port of ports.values()) await refused(t, port)
    const size = await fleet.balance(t)
    t.ok(size > 100, `${size} requests`)
    t.same(gateway.errors, [])
  },
)

async function refused(t: Test, port: number): Promise<void> {
  await t.rejects(new WireClient().connect(port), { code: 'ECONNREFUSED' })
}
