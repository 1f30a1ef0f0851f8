import { once } from 'node:events'
import { connect as connectRaw, createServer, type Server, type Socket } from 'node:net'
import { type ConnectionOptions, connect, type TLSSocket } from 'node:tls'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import type { TlsInfo } from '../../lib/core/connection.ts'
import type { Counter, Metrics } from '../../lib/core/metrics.ts'
import type { ScaledTimeout } from '../../lib/core/overload.ts'
import { TimerWheel } from '../../lib/core/timer-wheel.ts'
import type { CertificateConfig, CertificateValidationConfig, DownstreamTlsConfig } from '../../lib/tls/config.ts'
import { tlsStats } from '../../lib/tls/stats.ts'
import { TlsAcceptor } from '../../listeners/tls/acceptor.ts'
import type { Issued } from '../support/certificates.ts'
import { settle, TestClock } from '../support/clock.ts'
import type { LeakWatch } from '../support/leaks.ts'

export const GROUPS: readonly string[] = ['X25519MLKEM768', 'X25519', 'P-256']

export function certificate(issued: Issued): CertificateConfig {
  return { certificateChain: issued.chain, privateKey: issued.key }
}

export function trusting(
  trustedCa: string,
  more: Partial<CertificateValidationConfig> = {},
): CertificateValidationConfig {
  return { trustedCa, systemRoots: false, sans: [], acceptUntrusted: false, ...more }
}

export function downstream(
  certificates: readonly Issued[],
  more: Partial<DownstreamTlsConfig> = {},
): DownstreamTlsConfig {
  return {
    certificates: certificates.map(certificate),
    alpn: [],
    minVersion: 'TLSv1.2',
    maxVersion: 'TLSv1.3',
    groups: GROUPS,
    requireClientCertificate: false,
    handshakeTimeoutMs: 10_000,
    sessionTickets: true,
    ...more,
  }
}

/** Counters by name, as they are counted. */
export class Counters implements Metrics {
  readonly #cells = new Map<string, Counter>()

  counter(name: string): Counter {
    let cell = this.#cells.get(name)
    if (cell === undefined) {
      cell = { v: 0 }
      this.#cells.set(name, cell)
    }
    return cell
  }

  has(name: string): boolean {
    return this.#cells.has(name)
  }

  gauge(): Counter {
    return { v: 0 }
  }

  histogram(): { record(): void } {
    return { record: () => undefined }
  }

  /** What is not 0, without the prefix. */
  counted(prefix: string): Record<string, number> {
    const entries = [...this.#cells].filter(([name, cell]) => name.startsWith(prefix) && cell.v !== 0)
    return Object.fromEntries(entries.map(([name, cell]) => [name.slice(prefix.length), cell.v]))
  }
}

/** What became of one connection at the acceptor. */
export type Outcome = { readonly socket: TLSSocket; readonly info: TlsInfo } | { readonly why: string }

/** A TCP server whose sockets go to an acceptor; accepted ones echo. */
export class AcceptorRig {
  readonly clock = new TestClock()
  readonly wheel = new TimerWheel(this.clock)
  readonly counters = new Counters()
  readonly acceptor: TlsAcceptor
  readonly outcomes: Outcome[] = []
  /** Sockets as they came in, before TLS. */
  readonly raw: Socket[] = []
  /** What overload leaves of the time for handshakes. */
  scaled: ScaledTimeout | undefined = undefined
  port = 0
  #server: Server | undefined
  #waiting: (() => void) | undefined
  readonly #clients: Socket[] = []

  private constructor(config: DownstreamTlsConfig, ticketSecret?: Uint8Array, maxServers?: number) {
    const stats = tlsStats(this.counters, 'listener.test.')
    const parts = { wheel: this.wheel, stats, ...(maxServers !== undefined && { maxServers }) }
    this.acceptor = new TlsAcceptor(config, ticketSecret === undefined ? parts : { ...parts, ticketSecret })
  }

  static async start(
    config: DownstreamTlsConfig,
    ticketSecret?: Uint8Array,
    maxServers?: number,
  ): Promise<AcceptorRig> {
    const rig = new AcceptorRig(config, ticketSecret, maxServers)
    rig.#server = createServer({ allowHalfOpen: true, noDelay: true }, (raw) => rig.#accept(raw))
    rig.#server.listen(0, '127.0.0.1')
    await once(rig.#server, 'listening')
    rig.port = (rig.#server.address() as { port: number }).port
    return rig
  }

  #accept(raw: Socket): void {
    this.raw.push(raw)
    this.acceptor.accept(
      raw,
      (socket, info) => {
        socket.on('data', (chunk) => socket.write(chunk))
        socket.on('end', () => socket.end())
        this.#settled({ socket, info })
      },
      (why) => this.#settled({ why }),
      this.scaled,
    )
  }

  #settled(outcome: Outcome): void {
    this.outcomes.push(outcome)
    this.#waiting?.()
  }

  /** The outcome of the connection with this number, counted from 0 in the order in which they were decided. */
  async outcome(index: number): Promise<Outcome> {
    while (this.outcomes.length <= index) {
      await within(new Promise<void>((resolve) => (this.#waiting = resolve)), `outcome ${index}`)
    }
    return this.outcomes[index]
  }

  get counted(): Record<string, number> {
    return this.counters.counted('listener.test.ssl.')
  }

  open(): Socket {
    const socket = connectRaw({ port: this.port, host: '127.0.0.1', noDelay: true })
    socket.on('error', () => undefined)
    this.#clients.push(socket)
    return socket
  }

  /** A client of Node's own; resolves when its handshake is over, rejects with its error. */
  async connect(options: ConnectionOptions = {}): Promise<TLSSocket> {
    const socket = connect({ port: this.port, host: '127.0.0.1', rejectUnauthorized: false, ...options })
    this.#clients.push(socket)
    socket.on('error', () => undefined)
    await within(once(socket, 'secureConnect'), 'a handshake')
    return socket
  }

  async close(): Promise<void> {
    this.acceptor.close()
    this.wheel.close()
    for (const client of this.#clients) client.destroy()
    for (const outcome of this.outcomes) if ('socket' in outcome) outcome.socket.destroy()
    this.#server?.close()
    await once(this.#server as Server, 'close')
  }
}

/** Rejects where something that has to happen does not. */
export async function within<T>(promise: Promise<T>, what: string, ms = 10_000): Promise<T> {
  const { promise: late, reject } = Promise.withResolvers<never>()
  const timer = setTimeout(() => reject(new Error(`waited ${ms} ms for ${what}`)), ms)
  try {
    return await Promise.race([promise, late])
  } finally {
    clearTimeout(timer)
  }
}

/** What a TLS socket echoes. */
export async function echo(socket: TLSSocket, text: string): Promise<string> {
  socket.write(text)
  let got = ''
  while (got.length < text.length) got += String((await within(once(socket, 'data'), 'an echo'))[0])
  return got
}

/** What Node's client sends first. */
export async function recordHello(options: ConnectionOptions): Promise<Buffer> {
  const server = createServer()
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  const accepted = once(server, 'connection')
  const client = connect({ ...options, socket: connectRaw(port, '127.0.0.1') })
  client.on('error', () => undefined)
  const [peer] = (await accepted) as [Socket]
  const pieces: Buffer[] = []
  while (pieces.length === 0 || Buffer.concat(pieces).length < 5 + Buffer.concat(pieces).readUInt16BE(3)) {
    pieces.push((await once(peer, 'data'))[0] as Buffer)
  }
  client.destroy()
  peer.destroy()
  server.close()
  await once(server, 'close')
  return Buffer.concat(pieces)
}

/**
 * As `leaks.assertNone`, for code with TLS: the runtime frees its TLS handles when they are collected, not when they are
 * closed, so a collection has to show that nothing holds them.
 */
export async function assertNoLeaks(leaks: LeakWatch): Promise<void> {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  for (let i = 0; i < 5 && leaks.left().length > 0; i++) {
    await settle(20)
    collect()
  }
  await leaks.assertNone()
}
