import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { join } from 'node:path'
import type { Test } from 'tap'
import { GatewayProcess } from '../attacks/gateway-process.ts'
import { Authority } from '../support/certificates.ts'
import { type Answer, Ledger, ledgerScript } from '../support/ledger.ts'
import { Origin } from '../support/origin.ts'
import { seeded } from '../support/random.ts'
import { bootstrap, cluster, type Fields, type ListenerSpec } from './bootstrap.ts'
import { Http1Caller } from './ledger-callers.ts'
import { draw } from './ledger-plan.ts'
import { ConstantLoad, sleep } from './xds-load.ts'

/** `npm run test:faults` runs these tests as long as they should be run before a release. */
export const LONG: boolean = process.env.HEADGATE_FAULTS === 'long'

/** What a killed process may not have written yet. */
const UNWRITTEN_MS = 200

const TLS = 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext'
const FAULT_SIGNALS = join(import.meta.dirname, '../support/fault-signals.ts')

/** A ledger that remembers when each request was answered. */
class TimedLedger extends Ledger {
  readonly #answeredMs = new Map<string, number>()

  override answered(seq: string, answer: Answer, expected?: (status: number) => boolean): void {
    this.#answeredMs.set(seq, performance.now())
    super.answered(seq, answer, expected)
  }

  /** Lines about these may have died with a process. Answers how many they are. */
  excuseLatest(): number {
    const since = performance.now() - UNWRITTEN_MS
    const latest = [...this.#answeredMs].filter(([, atMs]) => atMs >= since)
    for (const [seq] of latest) this.excuse(seq)
    return latest.length
  }
}

/** How long it took until another worker was there. */
export interface Loss {
  /** Since the signal: with the time that it took to take all memory, or to be found hanging. */
  readonly fromSignalMs: number
  /** Since the process had ended. */
  readonly fromEndMs: number
}

/**
 * The reference binary with two workers and a static bootstrap, under constant load of HTTP/1 and HTTP/2, with TLS and
 * without, on connections that are kept and on new ones; and the ledger of it all.
 */
export class ProcessLab {
  readonly gateway: GatewayProcess
  readonly ledger: TimedLedger
  readonly #origin: Origin
  readonly #log: string
  readonly #load: ConstantLoad
  readonly #fresh: Fresh
  /** Of the listening socket of the listener `plain`. */
  readonly #inode: string

  private constructor(parts: {
    readonly gateway: GatewayProcess
    readonly ledger: TimedLedger
    readonly origin: Origin
    readonly log: string
    readonly ports: { readonly plainPort: number; readonly securePort: number }
  }) {
    this.gateway = parts.gateway
    this.ledger = parts.ledger
    this.#origin = parts.origin
    this.#log = parts.log
    this.#load = new ConstantLoad({ ledger: parts.ledger, ...parts.ports })
    this.#fresh = new Fresh(parts.ledger, parts.ports.plainPort)
    this.#inode = listeningInode(parts.ports.plainPort)
  }

  /** Ends with the test. `/events` leads to the port `events`. */
  static async start(t: Test, flags: readonly string[] = [], events = 1): Promise<ProcessLab> {
    const log = join(t.testdir(), 'access.log')
    const ledger = new TimedLedger()
    const origin = await Origin.start(ledgerScript(ledger))
    const authority = await Authority.create()
    const { chain, key } = await authority.issue({ dns: ['ledger.example'] })
    const certificates = [{ certificate_chain: { inline_string: chain }, private_key: { inline_string: key } }]
    const context = { alpn_protocols: ['h2', 'http/1.1'], tls_certificates: certificates }
    const secure: Fields = {
      transport_socket: { name: 'tls', typed_config: { '@type': TLS, common_tls_context: context } },
    }
    // GOAWAY in two steps, soon.
    const http: ListenerSpec = { log, hcm: { drain_timeout: '0.1s' }, routes: ROUTES }
    const listeners = [
      { ...http, name: 'plain' },
      { ...http, name: 'secure', chain: secure },
    ]
    const config = bootstrap({ listeners, clusters: [cluster('origin', origin.port), cluster('events', events)] })
    const gateway = await GatewayProcess.start(t, config, ['--workers', '2', '--drain-time-s', '10', ...flags], {
      NODE_OPTIONS: `--max-old-space-size=256 --import=${FAULT_SIGNALS}`,
    })
    const ports = { plainPort: await gateway.port('plain'), securePort: await gateway.port('secure') }
    const lab = new ProcessLab({ gateway, ledger, origin, log, ports })
    t.teardown(async () => {
      await lab.stopAsking()
      await origin.close()
    })
    await lab.progress(100)
    return lab
  }

  /** So many more requests have been asked. */
  progress(requests: number): Promise<void> {
    return this.#load.progress(requests)
  }

  /**
   * A worker breaks in an instant, by this signal: what is under way there is lost with it, and what it had not logged yet.
   * Resolves when another one accepts connections in its place.
   */
  async lose(worker: string, signal: NodeJS.Signals): Promise<Loss> {
    const before = this.gateway.processes()
    const pid = before.get(worker)
    if (pid === undefined) throw new Error(`there is no ${worker}`)
    const others = [...before].flatMap(([name, one]) => (name.startsWith('worker') && name !== worker ? [one] : []))
    const begin = performance.now()
    process.kill(pid, signal)
    this.#load.doomAllBut(others)
    this.#fresh.doom()
    this.ledger.excuseLatest()
    while (isRunning(pid)) await sleep(2)
    const endMs = performance.now()
    for (;;) {
      const now = this.gateway.processes().get(worker)
      if (now !== undefined && now !== pid && holdsSocket(now, this.#inode)) break
      await sleep(5)
    }
    const backMs = performance.now()
    return { fromSignalMs: backMs - begin, fromEndMs: backMs - endMs }
  }

  /** Ends traffic and gateway, and closes the books: nothing lost, doubled, crossed, silent or cut. Answers the requests. */
  async balance(t: Test, ended?: Promise<number | null>): Promise<number> {
    await this.stopAsking()
    t.equal(await (ended ?? this.gateway.terminate()), 0, 'all end well')
    const log = readFileSync(this.#log, 'utf8')
    this.ledger.readAccessLog(log)
    const wrong = log.split('\n').filter((line) => /"status":5/.test(line))
    if (wrong.length > 0) t.comment(wrong.slice(0, 10).join('\n'))
    t.doesNotThrow(() => this.ledger.assertClean())
    t.same(this.#origin.violations, [])
    t.equal(this.#fresh.refused, 0, 'never connection refused')
    return this.ledger.size
  }

  /** No more requests. */
  async stopAsking(): Promise<void> {
    await Promise.all([this.#load.stop(), this.#fresh.stop()])
  }
}

const ROUTES: readonly Fields[] = [
  { match: { prefix: '/events' }, route: { cluster: 'events', timeout: '0s' } },
  { match: { prefix: '/' }, route: { cluster: 'origin' } },
]

function isRunning(pid: number): boolean {
  try {
    return !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))
  } catch {
    return false
  }
}

/** The inode of the socket that listens on 127.0.0.1 at that port. */
function listeningInode(port: number): string {
  const local = `0100007F:${port.toString(16).toUpperCase().padStart(4, '0')}`
  for (const line of readFileSync('/proc/net/tcp', 'utf8').split('\n')) {
    const fields = line.trim().split(/\s+/)
    if (fields[1] === local && fields[3] === '0A') return fields[9]
  }
  throw new Error(`nobody listens at ${port}`)
}

function holdsSocket(pid: number, inode: string): boolean {
  try {
    const folder = `/proc/${pid}/fd`
    return readdirSync(folder).some((fd) => readlinkSync(`${folder}/${fd}`) === `socket:[${inode}]`)
  } catch {
    // It has closed one meanwhile, or has ended: the next look tells.
    return false
  }
}

/** One new connection after the other. */
class Fresh {
  readonly #ledger: Ledger
  readonly #port: number
  readonly #running: Promise<void>
  #seq = ''
  #stopped = false
  refused = 0

  constructor(ledger: Ledger, port: number) {
    this.#ledger = ledger
    this.#port = port
    this.#running = this.#run()
  }

  /** What is under way may be lost. */
  doom(): void {
    if (this.#seq !== '') this.#ledger.excuse(this.#seq)
  }

  stop(): Promise<void> {
    this.#stopped = true
    return this.#running
  }

  async #run(): Promise<void> {
    const random = seeded(77)
    while (!this.#stopped) {
      const caller = new Http1Caller({ ledger: this.#ledger, port: this.#port, random })
      const plan = draw(this.#ledger, random, { refuse: 0 })
      this.#seq = plan.request.seq
      try {
        await caller.ask([plan])
      } catch (error) {
        this.#ledger.failed(this.#seq, `no connection: ${String(error)}`)
        if ((error as NodeJS.ErrnoException).code === 'ECONNREFUSED') this.refused++
      }
      this.#seq = ''
      await caller.close()
      await sleep(5)
    }
  }
}
