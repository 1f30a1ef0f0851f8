import { randomBytes } from 'node:crypto'
import type { Socket } from 'node:net'
import { createServer, type Server, type TLSSocket } from 'node:tls'
import type { TlsInfo } from '../../lib/core/connection.ts'
import { Timed, type TimerWheel } from '../../lib/core/timer-wheel.ts'
import { CertificateChoice, type Choice } from '../../lib/tls/certificate-choice.ts'
import { type ClientHello, ClientHelloReader, plainServerName } from '../../lib/tls/client-hello.ts'
import type { DownstreamTlsConfig } from '../../lib/tls/config.ts'
import { contextOptions } from '../../lib/tls/context.ts'
import { rawSocket, resetConnection } from '../../lib/tls/raw-socket.ts'
import { sessionGroup } from '../../lib/tls/session-group.ts'
import type { TlsStats } from '../../lib/tls/stats.ts'
import { TicketIdentity } from '../../lib/tls/tickets.ts'
import { type PeerVerdict, PeerVerifier, type Refusal } from '../../lib/tls/verify.ts'

/** What an acceptor is given. */
export interface AcceptorParts {
  readonly wheel: TimerWheel
  readonly stats: TlsStats
  /** At least 32 random bytes, the same in all workers of a gateway; without them tickets hold for this acceptor alone. */
  readonly ticketSecret?: Uint8Array
}

/** Never reached: handshakes are timed by the wheel. Node would put 120 s where nothing is said. */
const NODE_HANDSHAKE_TIMEOUT_MS = 2 ** 31 - 1

/** Pieces of a hello that are kept apart. */
const MAX_PIECES = 64

const REFUSALS: Readonly<Record<Refusal, string>> = {
  'no-certificate': 'the client showed no certificate',
  untrusted: 'the client certificate could not be verified',
  san: 'no name of the client certificate is accepted',
  host: 'the client certificate has another name',
}

function ignore(): void {}

/** One connection between its first byte and the end of its handshake. */
class Handshake extends Timed {
  readonly raw: Socket
  readonly accepted: (socket: TLSSocket, info: TlsInfo) => void
  readonly failed: (why: string) => void
  readonly hello = new ClientHelloReader()
  /** What the socket allowed when it came. */
  readonly halfOpen: boolean
  readonly #acceptor: TlsAcceptor
  /** What was read to look at the hello, in order. */
  #peeked: Buffer[] = []

  constructor(
    acceptor: TlsAcceptor,
    raw: Socket,
    accepted: (socket: TLSSocket, info: TlsInfo) => void,
    failed: (why: string) => void,
  ) {
    super()
    this.#acceptor = acceptor
    this.raw = raw
    this.halfOpen = raw.allowHalfOpen
    this.accepted = accepted
    this.failed = failed
  }

  override onDue(): void {
    this.#acceptor.fail(this, 'the handshake took too long')
  }

  peek(): void {
    this.raw.on('data', this.#onData)
    this.raw.on('end', this.#onEnd)
    this.raw.resume()
  }

  readonly #onData = (chunk: Buffer): void => {
    const peeked = this.#peeked
    peeked.push(chunk)
    if (this.hello.feed(chunk) === 'more') {
      // A buffer weighs more than a few bytes in it: a hello that trickles in is kept as one.
      if (peeked.length === MAX_PIECES) this.#peeked = [Buffer.concat(peeked)]
      return
    }
    this.raw.off('data', this.#onData)
    this.raw.off('end', this.#onEnd)
    this.raw.pause()
    this.#peeked = []
    this.raw.unshift(peeked.length === 1 ? peeked[0] : Buffer.concat(peeked))
    this.#acceptor.handOver(this)
  }

  readonly #onEnd = (): void => {
    this.#acceptor.fail(this, 'the client closed before its hello was complete')
  }

  readonly onClose = (): void => {
    this.#acceptor.fail(this, 'the client closed during the handshake')
  }
}

/**
 * Does the server side of TLS on sockets that somebody else has accepted. Underneath are `tls.Server`s that never listen,
 * 40 KiB each, made when first needed and chosen by the peeked ClientHello: one for each choice of certificates (the
 * runtime's own SNI callback changes the certificate of one key type only and leaves those of others, of another name,
 * in place), and one more without ALPN for clients whose protocols do not overlap with ours, whom Envoy lets in and Node
 * would alert.
 *
 * Owns a socket from `accept` until it calls `accepted` or `failed`, of which exactly one is called. Refused clients see
 * a close instead of an alert. The configuration must have passed `checkTls`.
 */
export class TlsAcceptor {
  readonly #config: DownstreamTlsConfig
  readonly #wheel: TimerWheel
  readonly #stats: TlsStats
  readonly #verifier: PeerVerifier
  readonly #choice: CertificateChoice
  readonly #tickets: TicketIdentity
  #epoch: number
  /** By choice of certificates; those without ALPN apart. */
  readonly #servers = new Map<string, Server>()
  readonly #withoutAlpn = new Map<string, Server>()
  readonly #handshakes = new Map<Socket, Handshake>()
  #closed = false

  constructor(config: DownstreamTlsConfig, parts: AcceptorParts) {
    this.#config = config
    this.#wheel = parts.wheel
    this.#stats = parts.stats
    this.#verifier = new PeerVerifier(config.validation)
    this.#choice = new CertificateChoice(config.certificates)
    this.#tickets = new TicketIdentity(config, this.#choice.names, parts.ticketSecret ?? randomBytes(32))
    this.#epoch = this.#tickets.epoch(this.#wheel.clock.wall())
  }

  /** Handshakes that are going on. */
  get pending(): number {
    return this.#handshakes.size
  }

  /**
   * Begins the handshake on a connected socket; bytes that were read from it before must have been put back by `unshift`.
   * `accepted` gets the TLS socket before anything was read from it; its errors are its new owner's to hear, but do no
   * harm unheard. `failed` comes after the socket was reset.
   */
  accept(raw: Socket, accepted: (socket: TLSSocket, info: TlsInfo) => void, failed: (why: string) => void): void {
    raw.on('error', ignore)
    const handshake = new Handshake(this, raw, accepted, failed)
    this.#handshakes.set(raw, handshake)
    if (this.#closed || raw.destroyed) {
      this.fail(handshake, this.#closed ? 'the listener is closed' : 'the client had gone')
      return
    }
    raw.on('close', handshake.onClose)
    this.#wheel.arm(handshake, this.#config.handshakeTimeoutMs)
    handshake.peek()
  }

  /** Breaks off the handshakes that are going on; what was accepted is not touched. */
  close(): void {
    this.#closed = true
    for (const handshake of this.#handshakes.values()) this.fail(handshake, 'the listener is closed')
  }

  /** Its hello has been looked at: the rest is the runtime's work. */
  handOver(handshake: Handshake): void {
    this.#rotateTickets()
    // A client that ends before the handshake does is gone; the runtime would wait for it, and nobody would hear of it.
    handshake.raw.allowHalfOpen = false
    try {
      this.#serverFor(handshake.hello.hello).emit('connection', handshake.raw)
    } catch (error) {
      this.fail(handshake, (error as Error).message)
    }
  }

  /** A hello that could not be read goes to the first server, whose business the alert is. */
  #serverFor(hello: ClientHello | undefined): Server {
    const { alpn } = this.#config
    const offered = hello?.alpn ?? []
    const overlap = alpn.length === 0 || offered.length === 0 || offered.some((name) => alpn.includes(name))
    const servers = overlap ? this.#servers : this.#withoutAlpn
    const choice = this.#choice.find(hello?.serverName)
    let server = servers.get(choice.key)
    if (server === undefined) {
      server = this.#makeServer(choice, overlap ? alpn : [])
      servers.set(choice.key, server)
    }
    return server
  }

  #makeServer(choice: Choice, alpn: readonly string[]): Server {
    const config = this.#config
    const server = createServer({
      ...contextOptions(config, choice.certificates),
      sessionIdContext: this.#tickets.sessionContext,
      ticketKeys: this.#tickets.keys(this.#epoch),
      requestCert: this.#verifier.asks || config.requireClientCertificate,
      // We judge ourselves: the runtime would refuse without saying why.
      rejectUnauthorized: false,
      handshakeTimeout: NODE_HANDSHAKE_TIMEOUT_MS,
      ...(alpn.length > 0 ? { ALPNProtocols: [...alpn] } : {}),
    })
    server.on('secureConnection', (socket) => this.#secured(socket))
    server.on('tlsClientError', (error, socket) => this.#broken(error, socket))
    server.on('error', ignore)
    return server
  }

  #rotateTickets(): void {
    const epoch = this.#tickets.epoch(this.#wheel.clock.wall())
    if (epoch === this.#epoch) return
    this.#epoch = epoch
    const keys = this.#tickets.keys(epoch)
    for (const server of this.#servers.values()) server.setTicketKeys(keys)
    for (const server of this.#withoutAlpn.values()) server.setTicketKeys(keys)
  }

  #broken(error: Error, socket: TLSSocket): void {
    socket.on('error', ignore)
    const raw = rawSocket(socket)
    const handshake = raw === undefined ? undefined : this.#handshakes.get(raw)
    if (handshake === undefined) socket.destroy()
    else this.fail(handshake, error.message, socket)
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
    const verdict = this.#verifier.judge(socket, {
      certificate: this.#config.requireClientCertificate,
      host: undefined,
    })
    if (verdict.refusal !== undefined) this.#refuse(handshake, socket, verdict.refusal)
    else this.#accepted(handshake, socket, serverName, verdict)
  }

  #refuse(handshake: Handshake, socket: TLSSocket, refusal: Refusal): void {
    const stats = this.#stats
    if (refusal === 'no-certificate') stats.failVerifyNoCert.v++
    else if (refusal === 'untrusted') stats.failVerifyError.v++
    else stats.failVerifySan.v++
    this.#end(handshake)
    socket.destroy()
    handshake.failed(REFUSALS[refusal])
  }

  #accepted(handshake: Handshake, socket: TLSSocket, serverName: string | undefined, verdict: PeerVerdict): void {
    const version = socket.getProtocol() ?? ''
    const cipher = socket.getCipher().name
    const group = sessionGroup(socket.getSession())
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
    handshake.accepted(socket, { version, cipher, group, serverName, alpn, peer: verdict.peer })
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
    handshake.failed(why)
  }

  #end(handshake: Handshake): boolean {
    if (!this.#handshakes.delete(handshake.raw)) return false
    this.#wheel.disarm(handshake)
    handshake.raw.off('close', handshake.onClose)
    return true
  }
}
