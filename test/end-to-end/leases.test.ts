import { once } from 'node:events'
import http, { type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import t, { type Test } from 'tap'
import { GatewayProcess } from '../attacks/gateway-process.ts'
import { bootstrap, cluster, type Fields } from './bootstrap.ts'

const TYPE = 'type.googleapis.com/envoy.extensions.filters'
const WORKERS = 3

/** An origin that answers when it is told to, and knows how many requests it has at a time. */
class Holding {
  port = 0
  active = 0
  most = 0
  total = 0
  hold = false
  readonly #server: http.Server
  #held: http.ServerResponse[] = []

  constructor() {
    this.#server = http.createServer((req, res) => {
      this.total++
      this.most = Math.max(this.most, ++this.active)
      res.once('close', () => this.active--)
      req.resume()
      if (this.hold) this.#held.push(res)
      else res.end('ok')
    })
  }

  static async start(t: Test): Promise<Holding> {
    const origin = new Holding()
    origin.#server.listen(0, '127.0.0.1')
    await once(origin.#server, 'listening')
    origin.port = (origin.#server.address() as AddressInfo).port
    t.teardown(() => {
      origin.#server.closeAllConnections()
      origin.#server.close()
    })
    return origin
  }

  release(): void {
    for (const res of this.#held.splice(0)) res.end('ok')
  }
}

/** On a connection of its own; 0: it was closed without an answer. */
function ask(port: number): Promise<number> {
  const { promise, resolve } = Promise.withResolvers<number>()
  const req = http.request({ host: '127.0.0.1', port, agent: false, headers: { connection: 'close' } })
  req.on('response', (res: IncomingMessage) => {
    res.resume()
    res.on('close', () => resolve(res.statusCode ?? 0))
  })
  req.on('error', () => resolve(0))
  req.end()
  return promise
}

async function count(port: number, requests: number, status: number): Promise<number> {
  const answers = await Promise.all(Array.from({ length: requests }, () => ask(port)))
  return answers.filter((answer) => answer === status).length
}

async function until(done: () => boolean, what: string): Promise<void> {
  const endMs = performance.now() + 10_000
  while (!done()) {
    if (performance.now() > endMs) throw new Error(`never: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

async function another(gateway: GatewayProcess, name: string): Promise<void> {
  const before = gateway.processes().get(name)
  if (before === undefined) throw new Error(`there is no ${name}`)
  process.kill(before, 'SIGKILL')
  await until(() => (gateway.processes().get(name) ?? before) !== before, `another ${name}`)
}

/** Admin on a port that stays when the control process is started again. */
async function fixedAdmin(): Promise<Fields> {
  const probe = http.createServer().listen(0, '127.0.0.1')
  await once(probe, 'listening')
  const { port } = probe.address() as AddressInfo
  probe.close()
  await once(probe, 'close')
  return { admin: { address: { socket_address: { address: '127.0.0.1', port_value: port } } } }
}

/** Control is back, and knows what all workers hold. */
async function controlIsBack(gateway: GatewayProcess): Promise<void> {
  let back = false
  while (!back) {
    back = await gateway.ask('/ready').then(
      (text) => text.includes('LIVE'),
      () => false,
    )
    if (!back) await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

function bucket(name: string, type: string, tokens: number): Fields {
  const token_bucket = { max_tokens: tokens, tokens_per_fill: tokens, fill_interval: '600s' }
  return { name, typed_config: { '@type': `${TYPE}.${type}`, stat_prefix: name, token_bucket } }
}

t.test('ten in ten minutes are ten, with three workers, whoever of them dies, and control too', async (t) => {
  const origin = await Holding.start(t)
  const network = [bucket('network', 'network.local_ratelimit.v3.LocalRateLimit', 10)]
  const fields = { listener_filters: [bucket('listener', 'listener.local_ratelimit.v3.LocalRateLimit', 15)] }
  const listeners = [
    { name: 'network', network },
    { name: 'listener', fields },
  ]
  const config = { ...bootstrap({ listeners, clusters: [cluster('origin', origin.port)] }), ...(await fixedAdmin()) }
  const gateway = await GatewayProcess.start(t, config, ['--workers', String(WORKERS)])
  const [network1, listener1] = [await gateway.port('network'), await gateway.port('listener')]
  t.equal(await count(network1, 6, 200), 6)
  t.equal(await count(network1, 34, 200), 4)
  t.equal(await count(listener1, 40, 200), 15)
  await another(gateway, 'control')
  // A worker that has never heard of a bucket has its equal share while there is nobody to ask.
  let [more, others] = [await count(network1, 20, 200), await count(listener1, 20, 200)]
  others += await count(listener1, 20, 200)
  more += await count(network1, 20, 200)
  t.ok(more <= 7, `${more} more, from two such workers at most`)
  t.ok(others <= 10, `${others} more`)
  await controlIsBack(gateway)
  t.equal(await count(network1, 20, 200), 0, 'a new control process brings no tokens')
  await another(gateway, 'worker 1')
  t.equal(await count(network1, 20, 200), 0, 'nor does a new worker')
})

t.test('filters of one `share_key` have one bucket, whichever listener and worker they are in', async (t) => {
  const origin = await Holding.start(t)
  const type = `${TYPE}.network.local_ratelimit.v3.LocalRateLimit`
  const shared = (name: string, tokens: number, share_key: string): Fields => {
    const token_bucket = { max_tokens: tokens, tokens_per_fill: tokens, fill_interval: '600s' }
    return { name, network: [{ name, typed_config: { '@type': type, stat_prefix: name, token_bucket, share_key } }] }
  }
  const listeners = [shared('one', 9, 'k'), shared('two', 9, 'k'), shared('wider', 12, 'k'), shared('other', 9, 'o')]
  const config = bootstrap({ listeners, clusters: [cluster('origin', origin.port)] })
  const gateway = await GatewayProcess.start(t, config, ['--workers', String(WORKERS)])
  const at = async (name: string): Promise<number> => count(await gateway.port(name), 20, 200)
  t.equal(await count(await gateway.port('one'), 4, 200), 4)
  t.equal(await at('two'), 5, 'what the first has left')
  t.equal(await at('one'), 0)
  t.equal(await at('wider'), 12, 'as in Envoy: of another bucket the key is another')
  t.equal(await at('other'), 9)
  const stats = await gateway.stats()
  t.equal(stats.get('local_rate_limit.two.rate_limited'), 15)
  t.equal(stats.get('local_rate_limit.one.rate_limited'), 20)
})

t.test('circuit breakers hold for all workers together, to the last request', async (t) => {
  const origin = await Holding.start(t)
  const thresholds = [{ max_requests: 7, max_pending_requests: 100, max_connections: 100, track_remaining: true }]
  const config = bootstrap({ clusters: [{ ...cluster('origin', origin.port), circuit_breakers: { thresholds } }] })
  const gateway = await GatewayProcess.start(t, config, ['--workers', String(WORKERS)])
  const port = await gateway.port('main')
  let asked = true
  const fill = async (more: number): Promise<number> => {
    origin.hold = true
    origin.most = 0
    const answers: number[] = []
    for (let i = 0; i < more; i++) void ask(port).then((status) => answers.push(status))
    await until(() => origin.active + answers.length >= more, `${origin.active} + ${answers.length} of ${more}`)
    const refused = answers.length
    t.notOk(answers.some((status) => status !== 503))
    if (asked) {
      const stats = await gateway.stats()
      t.equal(stats.get('cluster.origin.circuit_breakers.default.remaining_rq'), 7 - origin.active)
      t.equal(stats.get('cluster.origin.circuit_breakers.default.rq_open'), origin.active === 7 ? 1 : 0)
    }
    origin.hold = false
    origin.release()
    await until(() => answers.length === more && origin.active === 0, 'answers')
    if (asked) await gateway.until((stats) => stats.get('cluster.origin.upstream_rq_active') === 0, 'end of all')
    return refused
  }
  const check = async (): Promise<void> => {
    t.equal(await fill(30), 23, 'refused')
    t.equal(origin.most, 7, 'at a time')
  }
  await check()
  await fill(3)
  await another(gateway, 'worker 0')
  const remaining = 'cluster.origin.circuit_breakers.default.remaining_rq'
  await gateway.until((stats) => stats.get(remaining) === 7, 'share of the new worker')
  await check()
  await another(gateway, 'control')
  // Its admin has another port.
  asked = false
  for (let i = 0; i < 3; i++) {
    await fill(30)
    t.ok(origin.most <= 7, `${origin.most}, with equal shares`)
  }
})

t.test('where all workers together are asked for just what there is, nobody is refused', async (t) => {
  const origin = await Holding.start(t)
  const thresholds = [{ max_requests: 8, max_pending_requests: 8, max_connections: 100 }]
  const config = bootstrap({ clusters: [{ ...cluster('origin', origin.port), circuit_breakers: { thresholds } }] })
  const gateway = await GatewayProcess.start(t, config, ['--workers', '4'])
  const port = await gateway.port('main')
  for (let round = 0; round < 12; round++) {
    origin.hold = true
    const answers: number[] = []
    // Every third time far more than there is: what was recalled then is elsewhere afterwards.
    const requests = round % 3 === 2 ? 40 : 8
    for (let i = 0; i < requests; i++) void ask(port).then((status) => answers.push(status))
    await until(() => origin.active + answers.length >= requests, `${origin.active} + ${answers.length}`)
    t.equal(origin.active, 8, `at a time, of ${requests}`)
    origin.hold = false
    origin.release()
    await until(() => answers.length === requests && origin.active === 0, 'answers')
    await gateway.until((stats) => stats.get('cluster.origin.upstream_rq_active') === 0, 'end of all')
    // Told that there is nothing, a worker does not ask again for 20 ms.
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
})

t.test('a limit of connections, of a listener and of the gateway, is that of all workers', async (t) => {
  const origin = await Holding.start(t)
  const limit = { name: 'limit', typed_config: { '@type': `${TYPE}.network.connection_limit.v3.ConnectionLimit` } }
  const typed_config = { ...limit.typed_config, stat_prefix: 'limit', max_connections: 5 }
  const config = bootstrap({
    listeners: [{ name: 'limited', network: [{ ...limit, typed_config }] }, { name: 'main' }],
    clusters: [cluster('origin', origin.port)],
    runtime: { 'envoy.resource_limits.listener.main.connection_limit': 4 },
  })
  const gateway = await GatewayProcess.start(t, config, ['--workers', String(WORKERS)])
  for (const [name, most] of [
    ['limited', 5],
    ['main', 4],
  ] as const) {
    const port = await gateway.port(name)
    origin.hold = true
    const before = origin.total
    const answers: number[] = []
    for (let i = 0; i < 20; i++) void ask(port).then((status) => answers.push(status))
    await until(() => answers.length + origin.active >= 20, `${answers.length} and ${origin.active}`)
    t.equal(origin.active, most, name)
    origin.hold = false
    origin.release()
    await until(() => answers.length === 20 && origin.active === 0, 'all answers')
    t.equal(origin.total - before, most)
  }
})
