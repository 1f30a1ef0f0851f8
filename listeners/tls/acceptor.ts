import { randomBytes } from 'node:crypto'
import type { Socket } from 'node:net'
import type { TLSSocket } from 'node:tls'
import type { Log } from '../../lib/core/metrics.ts'
import type { ScaledTimeout } from '../../lib/core/overload.ts'
import type { TimerWheel } from '../../lib/core/timer-wheel.ts'
import { plainServerName } from '../../lib/tls/client-hello.ts'
import type { DownstreamTlsConfig } from '../../lib/tls/config.ts'
import { handshakeText, refusalText } from '../../lib/tls/failure-text.ts'
import { rawSocket, resetConnection } from '../../lib/tls/raw-socket.ts'
import { sessionGroup, sessionId } from '../../lib/tls/session-group.ts'
import type { TlsStats } from '../../lib/tls/stats.ts'
import type { PeerVerdict, Refusal } from '../../lib/tls/verify.ts'
import { Handshake, type HandshakeOwner, type Outcome } from './handshake.ts'
import { foreignReason, foreignReply } from './not-tls.ts'
import { ServerContexts } from './server-contexts.ts'

/** What an acceptor is given. */
export interface AcceptorParts {
  readonly wheel: TimerWheel
  readonly stats: TlsStats
  /** At least 32 random bytes, the same in all workers of a gateway; without them tickets hold for this acceptor alone. */
  readonly ticketSecret?: Uint8Array
  /** Hears of handshakes that fail, at level debug. */
  readonly log?: Log
  /** Choices of certificates that are kept ready, of each ticket key; default 1,000. */
  readonly maxServers?: number
}

function ignore(): void {}

/**
 * Does the server side of TLS on sockets that somebody else has accepted.
 *
 * Owns a socket from `accept` until it calls `accepted` or `failed`, of which exactly one is called. Refused clients see
 * a close instead of an alert. The configuration must have passed `checkTls`.
 */
export class TlsAcceptor implements HandshakeOwner {
  readonly #wheel: TimerWheel
  readonly #stats: TlsStats
  readonly #log: Log | undefined
  readonly #ticketSecret: Uint8Array | undefined
  readonly #maxServers: number | undefined
  readonly #handshakes = new Map<Socket, Handshake>()
  #contexts: ServerContexts
  #closed = false

  constructor(config: DownstreamTlsConfig, parts: AcceptorParts) {
    this.#wheel = parts.wheel
    this.#stats = parts.stats
    this.#log = parts.log
    this.#ticketSecret = parts.ticketSecret ?? randomBytes(32)
    this.#maxServers = parts.maxServers
    this.#contexts = this.#makeContexts(config)
  }

  #makeContexts(config: DownstreamTlsConfig): ServerContexts {
    return new ServerContexts(config, {
      stats: this.#stats,
      ticketSecret: this.#ticketSecret,
      ...(this.#maxServers !== undefined && { maxServers: this.#maxServers }),
      wallMs: () => this.#wheel.clock.wall(),
      secured: (socket) => this.#secured(socket),
      broken: (error, socket) => this.#broken(error, socket),
    })
  }

  /** Handshakes that are going on. */
  get pending(): number {
    return this.#handshakes.size
  }

  /**
   * Uses another configuration, for new handshakes: those in progress end as they began, and what was accepted is not
   * touched. Clients keep their tickets where the same peers are let in, under the same names.
   */
  update(config: DownstreamTlsConfig): void {
    if (JSON.stringify(config) !== JSON.stringify(this.#contexts.config)) this.#contexts = this.#makeContexts(config)
  }

  /**
   * Begins the handshake on a connected socket; bytes that were read from it before must have been put back by `unshift`.
   * `accepted` gets the TLS socket before anything was read from it; its errors are its new owner's to hear, but do no
   * harm unheard. `failed` comes after the socket was reset, with the reason in Envoy's words where it has some. `scaled`:
   * what overload leaves of the time there is.
   */
  accept(raw: Socket, accepted: Outcome['accepted'], failed: Outcome['failed'], scaled?: ScaledTimeout): void {
    raw.on('error', ignore)
    const contexts = this.#contexts
    const handshake = new Handshake(this, contexts, raw, { accepted, failed, scaled })
    this.#handshakes.set(raw, handshake)
    if (this.#closed || raw.destroyed) {
      this.fail(handshake, this.#closed ? 'the listener is closed' : 'the client had gone')
      return
    }
    raw.on('close', handshake.onClose)
    handshake.startedMs = this.#wheel.clock.now()
    this.arm(handshake)
    handshake.peek()
  }

  /** Breaks off the handshakes that are going on; what was accepted is not touched. */
  close(): void {
    this.#closed = true
    for (const handshake of this.#handshakes.values()) this.fail(handshake, 'the listener is closed')
  }

  /** By what the time for handshakes is now. */
  arm(handshake: Handshake): void {
    const { startedMs, outcome, contexts } = handshake
    const limitMs = contexts.config.handshakeTimeoutMs
    this.#wheel.armAt(handshake, startedMs + (outcome.scaled?.of(limitMs) ?? limitMs))
  }

  /** Its hello has been looked at: the rest is the runtime's work. */
  handOver(handshake: Handshake): void {
    const { contexts, hello, raw } = handshake
    if (contexts.config.requireSni === true && hello.hello?.serverName === undefined) {
      this.fail(handshake, 'the client names no server')
      return
    }
    // A client that ends before the handshake does is gone; the runtime would wait for it, and nobody would hear of it.
    raw.allowHalfOpen = false
    try {
      contexts.serverFor(hello).emit('connection', raw)
    } catch (error) {
      this.fail(handshake, (error as Error).message)
    }
  }

  /** Clients of HTTP are told; all others see a close. */
  notTls(handshake: Handshake, first: Buffer): void {
    if (!this.#end(handshake)) return
    this.#stats.connectionError.v++
    this.#stats.notTls.v++
    const { raw } = handshake
    const reply = foreignReply(first)
    if (reply === undefined) raw.destroy()
    // What else the client sends is not waited for.
    else raw.end(reply, () => raw.destroy())
    this.#failed(handshake, foreignReason(first))
  }

  #broken(error: Error, socket: TLSSocket): void {
    socket.on('error', ignore)
    const raw = rawSocket(socket)
    const handshake = raw === undefined ? undefined : this.#handshakes.get(raw)
    if (handshake === undefined) socket.destroy()
    else this.fail(handshake, handshakeText(error), socket)
  }

  #secured(socket: TLSSocket): void {
    socket.on('error', ignore)
    const raw = rawSocket(socket)
    const handshake = raw === undefined ? undefined : this.#handshakes.get(raw)
    if (handshake === undefined || raw?.destroyed === true) {
      socket.destroy()
      return
    }
    const { servername } = socket as TLSSocket & { servername?: string | false }
    const serverName = typeof servername === 'string' ? plainServerName(servername) : undefined
    if (serverName === undefined && typeof servername === 'string') {
      this.fail(handshake, 'the server name is not plain ASCII', socket)
      return
    }
    const { hello } = handshake.hello
    if (hello === undefined) {
      // The runtime could read it: a certificate was chosen without knowing for whom.
      this.fail(handshake, 'the hello could not be read', socket)
      return
    }
    if (hello.serverName !== serverName) {
      // Also where a TLS 1.2 session is resumed under another name (RFC 6066 section 3).
      this.fail(handshake, 'the server name has changed', socket)
      return
    }
    const { config, verifier } = handshake.contexts
    const verdict = verifier.judge(socket, { certificate: config.requireClientCertificate, host: undefined })
    if (verdict.refusal !== undefined) this.#refuse(handshake, socket, verdict.refusal, verdict.fault)
    else this.#accepted(handshake, socket, serverName, verdict)
  }

  #refuse(handshake: Handshake, socket: TLSSocket, refusal: Refusal, fault: string | undefined): void {
    const stats = this.#stats
    if (refusal === 'no-certificate') stats.failVerifyNoCert.v++
    else if (refusal === 'untrusted') stats.failVerifyError.v++
    else if (refusal === 'pin') stats.failVerifyCertHash.v++
    else stats.failVerifySan.v++
    this.#end(handshake)
    socket.destroy()
    this.#failed(handshake, refusalText(refusal, fault))
  }

  #accepted(handshake: Handshake, socket: TLSSocket, serverName: string | undefined, verdict: PeerVerdict): void {
    const version = socket.getProtocol() ?? ''
    const cipher = socket.getCipher().name
    const session = socket.getSession()
    const group = sessionGroup(session)
    const stats = this.#stats
    stats.handshake.v++
    if (!verdict.certified) stats.noCertificate.v++
    if (socket.isSessionReused()) stats.sessionReused.v++
    stats.met('versions', version)
    stats.met('ciphers', cipher)
    if (group !== undefined) stats.met('curves', group)
    this.#end(handshake)
    socket.allowHalfOpen = handshake.halfOpen
    const alpn = socket.alpnProtocol === false || socket.alpnProtocol === null ? undefined : socket.alpnProtocol
    const { peer, certified } = verdict
    handshake.outcome.accepted(socket, {
      version,
      cipher,
      group,
      serverName,
      alpn,
      peer,
      peerUnverified: certified && peer === undefined,
      local: handshake.contexts.localOf(socket),
      sessionId: sessionId(session),
    })
  }

  /**
   * Breaks off a handshake; harmless where it has ended. By reset, but for one that got as far as a TLS socket: that may
   * have an alert on its way, which a reset would take back.
   */
  fail(handshake: Handshake, why: string, socket?: TLSSocket): void {
    if (!this.#end(handshake)) return
    this.#stats.connectionError.v++
    if (socket === undefined) resetConnection(handshake.raw)
    else socket.destroy()
    this.#failed(handshake, why)
  }

  #failed(handshake: Handshake, reason: string): void {
    if (!this.#closed) {
      const { remoteAddress: client } = handshake.raw
      this.#log?.debug('a TLS handshake failed', { client, serverName: handshake.hello.hello?.serverName, reason })
    }
    handshake.outcome.failed(reason)
  }

  #end(handshake: Handshake): boolean {
    if (!this.#handshakes.delete(handshake.raw)) return false
    this.#wheel.disarm(handshake)
    handshake.raw.off('close', handshake.onClose)
    return true
  }
}
