import { once } from 'node:events'
import { existsSync, readdirSync } from 'node:fs'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { constants, setPriority } from 'node:os'
import type { Test } from 'tap'
import { bootstrap, cluster, type Fields, type ListenerSpec } from '../end-to-end/bootstrap.ts'
import { Attacker, type AttackerOptions } from './attacker.ts'
import { GatewayProcess, type Stats } from './gateway-process.ts'
import { VictimReport, Victims } from './victims.ts'

/** The project's promise: memory that one attacker can make the gateway take. */
const MIB_PER_ATTACKER = 20
/** A tight bar would fail on a busy machine: what is asserted is that the victims are served, not how fast. */
const SLACK = 10
const FLOOR_MS = 250
const MIB = 1 << 20
/** Bytes of the heap in use, dead ones that nobody has collected yet included, and outside of it. */
const ALLOCATED = 'server.memory_allocated'
const WARM_UP_MS = 1_500
const QUIET_MS = 1_500
const ATTACK_MS = 250

/** What every connection of the listeners gets, unless a test says otherwise: safe values for the edge. */
export const EDGE_HTTP2: Fields = {
  max_concurrent_streams: 100,
  initial_stream_window_size: 65_536,
  initial_connection_window_size: 1_048_576,
  override_stream_error_on_invalid_http_message: true,
}

export interface LabSpec {
  /** Beside `main`. */
  readonly listeners?: readonly ListenerSpec[]
  /** Beside `origin` (of the victims) and `target` (of the attackers). */
  readonly clusters?: readonly Fields[]
  /** Before the routes to the target. */
  readonly routes?: readonly Fields[]
  /** The attacker is an upstream in this process: it has to keep up with the gateway. Default: others go before it. */
  readonly upstream?: boolean
  /** Answers what attackers ask; default: `ok` at once. */
  readonly target?: (request: IncomingMessage, response: ServerResponse) => void
}

/** One kind of attack. */
export interface Attack {
  readonly name: string
  /** Connections at a time, each replaced by the next when it has ended. */
  readonly attackers?: number
  /** What one connection does, until it is over. */
  readonly run: () => Promise<void>
  /** Of the gateway's growth per attacker; default 20. */
  readonly limitMib?: number
  /** Rounds go on until so much time has passed; default 250, 0: one round. */
  readonly forMs?: number
}

/** A gateway process with one worker, victims in a process of their own, and an origin for the attackers in this one. */
export class Lab {
  readonly gateway: GatewayProcess
  readonly victims: Victims
  readonly #ports: Map<string, number> = new Map()
  #quiet: VictimReport = new VictimReport([], [])
  #attacked: VictimReport = new VictimReport([], [])
  #warmMib = 0
  #warmHeapMib = 0

  private constructor(gateway: GatewayProcess, victims: Victims) {
    this.gateway = gateway
    this.victims = victims
  }

  /** Ends with the test. The gateway is warm and the victims' quiet times are known. */
  static async start(t: Test, spec: LabSpec = {}): Promise<Lab> {
    const victims = await Victims.start(t)
    const target = createServer(spec.target ?? ((_, response) => void response.end('ok')))
    target.on('clientError', (_, socket) => void socket.destroy())
    target.requestTimeout = target.headersTimeout = 0
    target.listen(0, '127.0.0.1')
    await once(target, 'listening')
    t.teardown(() => {
      target.close()
      target.closeAllConnections()
    })
    const clusters = [
      cluster('origin', victims.originPort),
      cluster('target', (target.address() as AddressInfo).port),
      ...(spec.clusters ?? []),
    ]
    const routes = [
      { match: { path: '/small' }, route: { cluster: 'origin' } },
      { match: { path: '/echo' }, route: { cluster: 'origin' } },
      ...(spec.routes ?? []),
      { match: { prefix: '/' }, route: { cluster: 'target', timeout: '0s' } },
    ]
    const listeners = [{ name: 'main' }, ...(spec.listeners ?? [])].map((one: ListenerSpec) => ({
      routes,
      ...one,
      hcm: { http2_protocol_options: EDGE_HTTP2, ...one.hcm },
    }))
    const gateway = await GatewayProcess.start(t, bootstrap({ listeners, clusters }))
    // Attackers are elsewhere: what they cost themselves is not to be taken from the gateway and its victims.
    if (spec.upstream !== true) goLast()
    const lab = new Lab(gateway, victims)
    victims.run(await gateway.port('main'))
    await sleep(WARM_UP_MS)
    await victims.take()
    await sleep(QUIET_MS)
    lab.#quiet = await victims.take()
    lab.#warmMib = gateway.rssMib
    lab.#warmHeapMib = (await gateway.stats()).get(ALLOCATED) / MIB
    t.comment(`quiet: ${lab.#quiet.requests} requests, p50 ${ms(lab.#quiet.p50)}, p99 ${ms(lab.#quiet.p99)}`)
    t.strictSame(lab.#quiet.errors, [])
    return lab
  }

  /** A hostile connection to `main`, or another listener. */
  async attacker(options: AttackerOptions = {}, listener = 'main'): Promise<Attacker> {
    let port = this.#ports.get(listener)
    if (port === undefined) {
      port = await this.gateway.port(listener)
      this.#ports.set(listener, port)
    }
    return Attacker.open(port, options)
  }

  /** Attacks, and insists that memory stays bounded and no victim has an error; answers what the counters did. */
  async under(t: Test, attack: Attack): Promise<Changes> {
    const { attackers = 3, forMs = ATTACK_MS, limitMib = MIB_PER_ATTACKER } = attack
    const before = await this.gateway.stats()
    await this.victims.take()
    const endMs = performance.now() + forMs
    const { growthMib, result: connections } = await this.gateway.growthDuring(async () => {
      let count = 0
      const one = async (): Promise<void> => {
        do {
          await attack.run()
          count++
        } while (performance.now() < endMs)
      }
      await Promise.all(Array.from({ length: attackers }, one))
      return count
    })
    const seen = await this.victims.take()
    this.#attacked = this.#attacked.and(seen)
    const each = growthMib / attackers
    const ratio = seen.p99 / this.#quiet.p99
    t.comment(
      `${attack.name}: ${connections} connections, ${each.toFixed(1)} MiB per attacker; victims: ` +
        `${seen.requests} requests, p99 ${ms(seen.p99)} = ${ratio.toFixed(1)} x quiet, max ${ms(seen.max)}`,
    )
    t.ok(each < limitMib, `${each.toFixed(1)} MiB per attacker`)
    this.#spared(t, seen)
    return new Changes(before, await this.gateway.stats(), connections)
  }

  /** Of some hundred requests one in a hundred says little: here the median counts, and the 99th percentile in `calm`. */
  #spared(t: Test, seen: VictimReport): void {
    t.strictSame(seen.errors, [], 'no victim has an error')
    t.ok(seen.requests > 0, 'the victims were served')
    const bar = Math.max(FLOOR_MS, SLACK * this.#quiet.p50)
    t.ok(seen.p50 < bar, `median of the victims: ${ms(seen.p50)} of ${ms(bar)}`)
  }

  /** Over all attacks. */
  #served(t: Test): void {
    const { requests, p99 } = this.#attacked
    if (requests === 0) return
    const ratio = (p99 / this.#quiet.p99).toFixed(1)
    t.comment(`during all attacks: ${requests} requests of victims, p99 ${ms(p99)} = ${ratio} x quiet`)
    const bar = Math.max(2 * FLOOR_MS, SLACK * this.#quiet.p99)
    t.ok(p99 < bar, `p99 of the victims: ${ms(p99)} of ${ms(bar)}`)
  }

  /** After all of it: the same worker, no error logged, nothing left open, nothing gathered. */
  async calm(t: Test): Promise<void> {
    const { gateway } = this
    const stats = await gateway.until(
      (now) => now.get('http2.streams_active') < 20 && now.get('http.test.downstream_cx_active') < 20,
      'end of what the attackers had open',
    )
    t.strictSame(gateway.errors, [], 'no error in the log')
    t.ok(gateway.untouched, 'the worker is the first one')
    t.equal(stats.get('http.test.downstream_rq_filter_error'), 0)
    this.#served(t)
    const growth = gateway.rssMib - this.#warmMib
    const heapGrowth = stats.get(ALLOCATED) / MIB - this.#warmHeapMib
    t.comment(`after everything: ${this.#warmMib.toFixed(0)} + ${growth.toFixed(1)} MiB, live ${heapGrowth.toFixed(1)}`)
    // The allocator keeps pages: over 16 rounds of the worst attacks it levelled off at 100 MiB.
    t.ok(growth < 150, `${growth.toFixed(1)} MiB more than when it was warm`)
    t.ok(heapGrowth < 40, `${heapGrowth.toFixed(1)} MiB more in use`)
  }
}

/** Counters before and after. */
export class Changes {
  readonly before: Stats
  readonly after: Stats
  /** Hostile connections. */
  readonly connections: number

  constructor(before: Stats, after: Stats, connections: number) {
    this.before = before
    this.after = after
    this.connections = connections
  }

  /** A cluster counts what it has never seen only from then on. */
  of(name: string): number {
    return this.after.get(name) - this.before.orZero(name)
  }
}

/** This process: on Linux every thread has a priority of its own, and those that collect garbage are as busy as the first. */
function goLast(): void {
  const threads = '/proc/self/task'
  const ids = existsSync(threads) ? readdirSync(threads).map(Number) : [0]
  for (const id of ids) setPriority(id, constants.priority.PRIORITY_LOW)
}

export function sleep(forMs: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, forMs))
}

function ms(value: number): string {
  return `${value.toFixed(1)} ms`
}
