import { randomBytes, X509Certificate } from 'node:crypto'
import { createSecureContext, createServer, type SecureContextOptions, type Server, type TLSSocket } from 'node:tls'
import type { TlsLocal } from '../../lib/core/connection.ts'
import { CertificateChoice, type Choice } from '../../lib/tls/certificate-choice.ts'
import type { ClientHelloReader } from '../../lib/tls/client-hello.ts'
import type { DownstreamTlsConfig } from '../../lib/tls/config.ts'
import { contextOptions } from '../../lib/tls/context.ts'
import { helloTicketKey } from '../../lib/tls/hello-ticket.ts'
import { KeyLog } from '../../lib/tls/key-log.ts'
import { Staples } from '../../lib/tls/ocsp.ts'
import { localCertificate } from '../../lib/tls/peer.ts'
import type { TlsStats } from '../../lib/tls/stats.ts'
import { TicketIdentity, type TicketKey } from '../../lib/tls/tickets.ts'
import { PeerVerifier } from '../../lib/tls/verify.ts'
import { RecentlyUsed } from './recently-used.ts'

/** Never reached: handshakes are timed by the wheel. Node would put 120 s where nothing is said. */
const NODE_HANDSHAKE_TIMEOUT_MS = 2 ** 31 - 1

/** What the runtime takes; Envoy takes more, 136 years. */
const MAX_SESSION_S = 2 ** 31 - 1

/** 40 MiB of them: who has ten thousand certificates seldom needs all at once, and a new one takes about a millisecond. */
const MAX_SERVERS = 1_000

/** Whom the servers of a configuration tell how handshakes end. */
export interface HandshakeEvents {
  readonly stats: TlsStats
  readonly ticketSecret: Uint8Array | undefined
  /** As in `AcceptorParts`. */
  readonly maxServers?: number
  wallMs(): number
  secured(socket: TLSSocket): void
  broken(error: Error, socket: TLSSocket): void
}

function ignore(): void {}

/**
 * Servers of the runtime do not hand on `allowPartialTrustChain`, so that they get their context made. It is kept in a
 * property without documentation (a test watches over it).
 */
function setContext(server: Server, options: SecureContextOptions): void {
  if ('_sharedCreds' in server) (server as { _sharedCreds: unknown })._sharedCreds = createSecureContext(options)
}

/**
 * One configuration of a TLS server at work. Underneath are `tls.Server`s that never listen, 40 KiB each, made when first
 * needed and chosen by the peeked ClientHello: one for each choice of certificates (the runtime's own SNI callback
 * changes the certificate of one key type only and leaves those of others, of another name, in place), one more without
 * ALPN for clients whose protocols do not overlap with ours, whom Envoy lets in and Node would alert, and one more for
 * each older ticket key that a client comes with, as the runtime knows one key at a time. Such a session goes on under
 * its old key, until that is dropped. Those that have gone unused for longest are dropped where there are too many; the
 * handshakes that they have begun are not.
 */
export class ServerContexts {
  readonly config: DownstreamTlsConfig
  readonly verifier: PeerVerifier
  readonly #events: HandshakeEvents
  readonly #choice: CertificateChoice
  readonly #tickets: TicketIdentity
  readonly #staples: Staples
  readonly #keyLog: KeyLog | undefined
  /** What each certificate says of us, by its fingerprint. */
  readonly #locals = new Map<string, TlsLocal>()
  /** Under the keys in force, in their order: by choice of certificates, those without ALPN apart. */
  #servers: RecentlyUsed<string, Server>[] = []
  #keys: readonly TicketKey[] = []

  /** The configuration must have passed `checkTls`. */
  constructor(config: DownstreamTlsConfig, events: HandshakeEvents) {
    this.config = config
    this.#events = events
    this.verifier = new PeerVerifier(config.validation, 'clientAuth')
    this.#choice = new CertificateChoice(config.certificates, config.fullScan)
    this.#tickets = new TicketIdentity(config, this.#choice.names, events.ticketSecret ?? randomBytes(32))
    this.#staples = new Staples(config.certificates, config.ocspPolicy ?? 'lenient')
    this.#keyLog = config.keyLog && new KeyLog(config.keyLog)
    for (const { certificateChain } of config.certificates) {
      const leaf = new X509Certificate(certificateChain)
      this.#locals.set(leaf.fingerprint256, localCertificate(leaf))
    }
  }

  /** For a client with this hello; one that could not be read goes to the first, whose business the alert is. */
  serverFor({ hello, message }: ClientHelloReader): Server {
    const { alpn } = this.config
    const offered = hello?.alpn ?? []
    const overlap = alpn.length === 0 || offered.length === 0 || offered.some((name) => alpn.includes(name))
    const choice = this.#choice.find(hello?.serverName)
    const at = this.#keyFor(message)
    const servers = this.#servers[at]
    const key = overlap ? choice.key : `${choice.key} without ALPN`
    let server = servers.get(key)
    if (server === undefined) {
      server = this.#makeServer(choice, overlap ? alpn : [], this.#keys[at])
      servers.set(key, server)
    }
    return server
  }

  /** Which of the ticket keys; that of the client's ticket, otherwise the one that makes new ones. */
  #keyFor(message: Buffer | undefined): number {
    const keys = this.#tickets.keys(this.#events.wallMs())
    if (keys !== this.#keys) {
      const before = new Map(this.#keys.map(({ name }, i) => [name, this.#servers[i]]))
      this.#servers = keys.map(
        ({ name }) => before.get(name) ?? new RecentlyUsed(this.#events.maxServers ?? MAX_SERVERS),
      )
      this.#keys = keys
    }
    const name = message && this.#tickets.given ? helloTicketKey(message) : undefined
    return name === undefined
      ? 0
      : Math.max(
          0,
          keys.findIndex((key) => key.name === name),
        )
  }

  #makeServer(choice: Choice, alpn: readonly string[], { key }: TicketKey): Server {
    const config = this.config
    const events = this.#events
    const secure: SecureContextOptions = {
      ...contextOptions(config, choice.certificates),
      sessionIdContext: this.#tickets.sessionContext,
      ticketKeys: key,
      ...(config.sessionTimeoutS !== undefined && { sessionTimeout: Math.min(config.sessionTimeoutS, MAX_SESSION_S) }),
    }
    const server = createServer({
      ...secure,
      requestCert: this.verifier.asks || config.requireClientCertificate,
      // We judge ourselves: the runtime would refuse without saying why.
      rejectUnauthorized: false,
      handshakeTimeout: NODE_HANDSHAKE_TIMEOUT_MS,
      ...(alpn.length > 0 ? { ALPNProtocols: [...alpn] } : {}),
    })
    if (this.verifier.asks) setContext(server, secure)
    server.on('secureConnection', (socket) => events.secured(socket))
    server.on('tlsClientError', (error, socket) => events.broken(error, socket))
    server.on('error', ignore)
    if (this.#staples.any) server.on('OCSPRequest', this.#onStatusRequest)
    const log = this.#keyLog
    if (log !== undefined) {
      server.on('keylog', (line, { localAddress = '', remoteAddress = '' }) => {
        if (log.wants({ local: localAddress, remote: remoteAddress })) log.write(line)
      })
    }
    return server
  }

  readonly #onStatusRequest = (
    certificate: Buffer,
    _issuer: Buffer,
    answer: (error: Error | null, response: Buffer | null) => void,
  ): void => {
    const { stats } = this.#events
    stats.ocspRequests.v++
    const action = this.#staples.actionFor(certificate, this.#events.wallMs())
    if (action === 'fail') {
      stats.ocspFailed.v++
      answer(new Error('no valid OCSP staple'), null)
    } else if (action === 'omit') {
      stats.ocspOmitted.v++
      answer(null, null)
    } else {
      stats.ocspResponses.v++
      answer(null, action.staple)
    }
  }

  /** The certificate that was shown on a connection. */
  localOf(socket: TLSSocket): TlsLocal | undefined {
    if (this.#locals.size === 1) for (const only of this.#locals.values()) return only
    const shown = socket.getX509Certificate()
    return shown && this.#locals.get(shown.fingerprint256)
  }
}
