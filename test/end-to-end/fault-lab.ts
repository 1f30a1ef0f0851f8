import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Test } from 'tap'
import { GatewayProcess } from '../attacks/gateway-process.ts'
import { Authority } from '../support/certificates.ts'
import { Ledger } from '../support/ledger.ts'
import { bootstrap, cluster, type Fields, fileLog } from './bootstrap.ts'
import type { FaultOriginMessage } from './fault-origin.ts'
import { ConstantLoad } from './xds-load.ts'

const ORIGIN = join(import.meta.dirname, 'fault-origin.ts')
const TLS = 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext'
const HTTP_OPTIONS = 'type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions'

/** As many requests are under way at once, at most: `ConstantLoad` has so many callers. */
export const CALLERS = 8

/** Origins in processes of their own, which keep the ledger by messages. */
export class FaultOrigin {
  readonly #ledger: Ledger
  readonly #protocol: 'http1' | 'http2'
  #child: ChildProcess
  #port = 0

  private constructor(ledger: Ledger, protocol: 'http1' | 'http2') {
    this.#ledger = ledger
    this.#protocol = protocol
    this.#child = this.#spawn()
  }

  static async start(ledger: Ledger, protocol: 'http1' | 'http2'): Promise<FaultOrigin> {
    const origin = new FaultOrigin(ledger, protocol)
    await origin.#listening()
    return origin
  }

  get port(): number {
    return this.#port
  }

  /** kill -9; what it had told before has been heard when this resolves. */
  async kill(): Promise<void> {
    const closed = once(this.#child, 'close')
    this.#child.kill('SIGKILL')
    await closed
  }

  /** On the same port. */
  async restart(): Promise<void> {
    this.#child = this.#spawn()
    await this.#listening()
  }

  stop(): void {
    this.#child.kill('SIGSTOP')
  }

  resume(): void {
    this.#child.kill('SIGCONT')
  }

  #spawn(): ChildProcess {
    const env = { ...process.env, PORT: String(this.#port), PROTOCOL: this.#protocol }
    return fork(ORIGIN, { env, stdio: ['ignore', 'ignore', 'inherit', 'ipc'] })
  }

  async #listening(): Promise<void> {
    const child = this.#child
    const [first] = (await once(child, 'message')) as [FaultOriginMessage]
    if (!('port' in first)) throw new Error('an origin must tell its port first')
    this.#port = first.port
    child.on('message', (message: FaultOriginMessage) => {
      if ('port' in message) return
      this.#ledger.delivered(message.seq, message.declared, {
        bytes: Buffer.from(message.body, 'base64'),
        clean: message.clean,
      })
    })
  }
}

export interface FaultLabOptions {
  readonly protocol?: 'http1' | 'http2'
  readonly origins?: number
  /** Of the cluster `four`. */
  readonly cluster?: Fields
  /** Of the command `run`. */
  readonly flags?: readonly string[]
  readonly environment?: NodeJS.ProcessEnv
  /** False: what a killed worker had not written yet is missing in the access log. */
  readonly logged?: boolean
}

/** GET and HEAD go again after anything that went wrong; all else only where nobody can have seen it. */
const SAFE: Fields = {
  retry_on: 'connect-failure,refused-stream,reset,reset-before-request',
  num_retries: 4,
  per_try_timeout: '1s',
  retry_back_off: { base_interval: '0.005s', max_interval: '0.05s' },
  retry_host_predicate: [
    {
      name: 'previous',
      typed_config: {
        '@type': 'type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate',
      },
    },
  ],
  host_selection_retry_max_attempts: 8,
}
const UNSAFE: Fields = {
  ...SAFE,
  retry_on: 'connect-failure,refused-stream,reset-before-request',
  per_try_timeout: '0s',
}

/** Endpoints that fail three times in a row are out for a second. */
const EJECTING: Fields = {
  consecutive_5xx: 3,
  interval: '0.5s',
  base_ejection_time: '1s',
  max_ejection_time: '2s',
  max_ejection_percent: 50,
}

/** The reference binary with two workers in front of origins that are killed and stopped, under constant load. */
export class FaultLab {
  readonly ledger: Ledger
  readonly origins: readonly FaultOrigin[]
  readonly gateway: GatewayProcess
  readonly plainPort: number
  readonly load: ConstantLoad
  readonly #log: string
  readonly #logged: boolean

  private constructor(parts: {
    readonly ledger: Ledger
    readonly origins: readonly FaultOrigin[]
    readonly gateway: GatewayProcess
    readonly ports: readonly [plain: number, secure: number]
    readonly log: string
    readonly logged: boolean
  }) {
    this.ledger = parts.ledger
    this.origins = parts.origins
    this.gateway = parts.gateway
    this.plainPort = parts.ports[0]
    this.#log = parts.log
    this.#logged = parts.logged
    this.load = new ConstantLoad({ ledger: parts.ledger, plainPort: parts.ports[0], securePort: parts.ports[1] })
  }

  /** Ends with the test; requests are under way when this resolves. */
  static async start(t: Test, options: FaultLabOptions = {}): Promise<FaultLab> {
    const { protocol = 'http1', flags = [], environment = {}, logged = true } = options
    const ledger = new Ledger()
    const count = options.origins ?? 4
    const origins = await Promise.all(Array.from({ length: count }, () => FaultOrigin.start(ledger, protocol)))
    t.teardown(() => Promise.all(origins.map((origin) => origin.kill())))
    const log = join(t.testdir(), 'access.log')
    const { chain, key } = await (await Authority.create()).issue({ dns: ['ledger.example'] })
    const ports = origins.map(({ port }) => port)
    const spec = bootstrap({
      listeners: [
        { name: 'plain', routes: ROUTES, hcm: { access_log: [fileLog(log)] } },
        { name: 'secure', routes: ROUTES, hcm: { access_log: [fileLog(log)] }, chain: secured(chain, key) },
      ],
      clusters: [cluster('four', ports, { connect_timeout: '1s', ...upstream(protocol), ...options.cluster })],
    })
    const gateway = await GatewayProcess.start(
      t,
      spec,
      ['--workers', '2', '--drain-time-s', '5', ...flags],
      environment,
    )
    const lab = new FaultLab({
      ledger,
      origins,
      gateway,
      ports: [await gateway.port('plain'), await gateway.port('secure')],
      log,
      logged,
    })
    t.teardown(() => lab.load.stop())
    return lab
  }

  /**
   * Ends traffic and gateway and closes the books: nothing doubled, crossed, silent or cut, and nothing lost but requests
   * that must not go twice. Answers how many there were of all and of those.
   */
  async balance(t: Test): Promise<{ readonly requests: number; readonly interrupted: number }> {
    await this.load.stop()
    t.same(this.gateway.errors, [], 'no process has complained')
    t.equal(await this.gateway.terminate(), 0, 'and all end well')
    if (this.#logged) this.ledger.readAccessLog(readFileSync(this.#log, 'utf8'))
    else for (let seq = 1; seq <= this.ledger.size; seq++) this.ledger.logged(String(seq))
    const { lost, ...rest } = this.ledger.judge()
    t.strictSame(rest, { duplicated: [], crossed: [], silent: [], truncatedClean: [] })
    const repeatable = lost.filter((what) => /^(?:GET|HEAD) /.test(what))
    t.same(repeatable, [], 'what may go twice is not lost')
    return { requests: this.ledger.size, interrupted: lost.length }
  }
}

const route = (retry: Fields): Fields => ({ cluster: 'four', timeout: '20s', retry_policy: retry })

const ROUTES: readonly Fields[] = [
  // For looking at the gateway itself; it is in no ledger.
  { match: { path: '/here' }, direct_response: { status: 200 } },
  {
    match: {
      prefix: '/',
      headers: [{ name: ':method', string_match: { safe_regex: { regex: 'GET|HEAD' } } }],
    },
    route: route(SAFE),
  },
  { match: { prefix: '/' }, route: route(UNSAFE) },
]

function upstream(protocol: 'http1' | 'http2'): Fields {
  const keepalive = { connection_keepalive: { interval: '1s', timeout: '1s' } }
  const explicit = protocol === 'http2' ? { http2_protocol_options: keepalive } : { http_protocol_options: {} }
  return {
    outlier_detection: EJECTING,
    // Of the whole gateway; Envoy's default of 3 is less than a killed upstream leaves.
    circuit_breakers: { thresholds: [{ max_retries: 64 }] },
    typed_extension_protocol_options: {
      'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
        '@type': HTTP_OPTIONS,
        explicit_http_config: explicit,
      },
    },
  }
}

function secured(chain: string, key: string): Fields {
  const pair = { certificate_chain: { inline_string: chain }, private_key: { inline_string: key } }
  return {
    transport_socket: {
      name: 'tls',
      typed_config: {
        '@type': TLS,
        common_tls_context: { alpn_protocols: ['h2', 'http/1.1'], tls_certificates: [pair] },
      },
    },
  }
}
