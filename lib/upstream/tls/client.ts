import { X509Certificate } from 'node:crypto'
import type { Socket } from 'node:net'
import { connect, type SecureContext, TLSSocket } from 'node:tls'
import { LRUCache } from 'lru-cache'
import { canonicalIp, type EndpointAddress } from '../../core/address.ts'
import { systemClock } from '../../core/clock.ts'
import type { TlsInfo, TlsLocal, TlsPeer } from '../../core/connection.ts'
import type { UpstreamTlsConfig } from '../../tls/config.ts'
import { secureContext } from '../../tls/context.ts'
import { refusalText } from '../../tls/failure-text.ts'
import { KeyLog } from '../../tls/key-log.ts'
import { localCertificate } from '../../tls/peer.ts'
import { sessionGroup, sessionId } from '../../tls/session-group.ts'
import type { TlsStats } from '../../tls/stats.ts'
import { PeerVerifier } from '../../tls/verify.ts'
import { type ServerIdentity, serverIdentity } from './sni.ts'

/** What is needed of the host that a connection goes to. */
export interface TlsHost {
  readonly address: EndpointAddress
  /** '' where it has none. */
  readonly hostname: string
}

/** What is kept of a connection for later ones. */
interface KeptSession {
  readonly session: Buffer
  /** End of the certificate that was checked when it began, ms since the epoch: resumption shows it to nobody again. */
  readonly validToMs: number
  /** Whom it was begun with; undefined where nobody was verified. */
  readonly peer: TlsPeer | undefined
  readonly certified: boolean
}

function ignore(): void {}

/**
 * The client side of TLS for one cluster, with one ALPN offer. Sessions are kept per identity: configuration and
 * protocols are this object's own, so what is left is the name asked for and the name expected. An update makes a new
 * object, and with it an empty cache. The configuration must have passed `checkTls`.
 */
export class UpstreamTls {
  readonly #config: UpstreamTlsConfig
  readonly #alpn: string[] | undefined
  readonly #stats: TlsStats
  readonly #verifier: PeerVerifier
  readonly #sessions: LRUCache<string, KeptSession> | undefined
  /** Made at the first connection. */
  #context: SecureContext | undefined = undefined
  readonly #gates = new WeakMap<TLSSocket, Gate>()
  readonly #local: TlsLocal | undefined
  readonly #keyLog: KeyLog | undefined

  /** `protocols`: offered by ALPN, in order of preference; none: no ALPN. */
  constructor(config: UpstreamTlsConfig, protocols: readonly string[], stats: TlsStats) {
    this.#config = config
    this.#alpn = protocols.length === 0 ? undefined : [...protocols]
    this.#stats = stats
    this.#verifier = new PeerVerifier(config.validation)
    const [own] = config.certificates
    this.#local = own && localCertificate(new X509Certificate(own.certificateChain))
    this.#keyLog = config.keyLog && new KeyLog(config.keyLog)
    this.#sessions = config.maxSessionKeys > 0 ? new LRUCache({ max: config.maxSessionKeys }) : undefined
  }

  /** False: a secret has not come, and no handshake can be begun. Counts it. */
  ready(): boolean {
    if (this.#config.notReady !== true) return true
    this.#stats.notReady.v++
    return false
  }

  /** What a connection would be asked for: part of a pool's key, as connections of another identity must not be shared. */
  identity(hostname: string, authority: string): ServerIdentity {
    return serverIdentity(this.#config, hostname, authority)
  }

  /**
   * Starts TLS on `raw`, which is connected or about to be and from now on belongs to the answer. `secureConnect` says
   * that the peer has passed every check; a peer that does not is destroyed with an error in Envoy's words. Errors that
   * nobody listens to do no harm. `authority` is the request's, with or without its port.
   */
  connect(host: TlsHost, authority: string, raw: Socket): TLSSocket {
    const identity = this.identity(host.hostname, authority)
    const key = sessionKey(identity)
    this.#context ??= secureContext(this.#config)
    const kept = this.#kept(key)
    const socket = connect({
      socket: raw,
      secureContext: this.#context,
      servername: identity.serverName,
      ALPNProtocols: this.#alpn,
      session: kept?.session,
      // We judge ourselves: the runtime checks neither resumed sessions nor names other than the host's.
      rejectUnauthorized: false,
      checkServerIdentity: () => undefined,
    })
    raw.on('error', ignore)
    socket.on('error', ignore)
    this.#logKeys(socket, raw)
    this.#gates.set(socket, new Gate(socket, { identity, key, kept }, this))
    return socket
  }

  #logKeys(socket: TLSSocket, raw: Socket): void {
    const log = this.#keyLog
    if (log === undefined) return
    const [local, remote] = [canonicalIp(raw.localAddress ?? ''), canonicalIp(raw.remoteAddress ?? '')]
    if (log.wants({ local, remote })) socket.on('keylog', (line: Buffer) => log.write(line))
  }

  /** What was negotiated, and with whom; for sockets of `connect`, from their `secureConnect` on. */
  facts(socket: TLSSocket): TlsInfo {
    const chosen = socket.alpnProtocol
    const session = socket.getSession()
    const gate = this.#gates.get(socket)
    return {
      version: socket.getProtocol() ?? '',
      cipher: socket.getCipher().name,
      group: groupOf(socket, session),
      serverName: gate?.serverName,
      alpn: typeof chosen === 'string' && chosen !== '' ? chosen : undefined,
      peer: gate?.peer,
      peerUnverified: gate?.certified === true && gate.peer === undefined,
      local: this.#local,
      sessionId: sessionId(session),
    }
  }

  #kept(key: string): KeptSession | undefined {
    const kept = this.#sessions?.get(key)
    if (kept === undefined || kept.validToMs >= systemClock.wall()) return kept
    this.#sessions?.delete(key)
    return undefined
  }

  /**
   * Keeps a session of a peer that has passed, until there is a newer one. TLS 1.3 advises to use a ticket once, so that
   * observers cannot link connections; those of a proxy are linked by their addresses, and not all servers renew tickets.
   */
  keepSession(key: string, kept: KeptSession): void {
    this.#sessions?.set(key, kept)
  }

  /** Why the peer is refused, or who it is. */
  judge(socket: TLSSocket, { identity, kept }: Opening): Judgement {
    const stats = this.#stats
    if (socket.isSessionReused()) {
      // No certificate is shown again, and none is remembered on this side: the session is one that we kept, for this
      // very identity, when its peer had passed.
      this.#count(socket)
      return { error: undefined, peer: kept?.peer, certified: kept?.certified === true }
    }
    const { refusal, peer, certified, fault } = this.#verifier.judge(socket, {
      certificate: this.#verifier.asks,
      host: identity.expectedHost,
    })
    if (refusal === undefined) {
      this.#count(socket)
      return { error: undefined, peer, certified }
    }
    if (refusal === 'no-certificate') stats.failVerifyNoCert.v++
    else if (refusal === 'untrusted') stats.failVerifyError.v++
    else if (refusal === 'pin') stats.failVerifyCertHash.v++
    else stats.failVerifySan.v++
    return { error: new Error(refusalText(refusal, fault)), peer: undefined, certified }
  }

  failed(): void {
    this.#stats.connectionError.v++
  }

  #count(socket: TLSSocket): void {
    const stats = this.#stats
    stats.handshake.v++
    if (socket.isSessionReused()) stats.sessionReused.v++
    stats.met('versions', socket.getProtocol() ?? '')
    stats.met('ciphers', socket.getCipher().name)
    const group = groupOf(socket, socket.getSession())
    if (group !== undefined) stats.met('curves', group)
  }
}

/** The group of the key exchange: of hybrids only the session knows the name, of a fresh one in TLS 1.2 only the socket. */
function groupOf(socket: TLSSocket, session: Buffer | undefined): string | undefined {
  const key = socket.getEphemeralKeyInfo() as { readonly name?: string } | null
  if (key?.name !== undefined) return key.name === 'prime256v1' ? 'P-256' : key.name
  return sessionGroup(session)
}

interface Judgement {
  readonly error: Error | undefined
  /** Only of a certificate that was verified. */
  readonly peer: TlsPeer | undefined
  /** It has shown a certificate, verified or not. */
  readonly certified: boolean
}

function sessionKey({ serverName, expectedHost }: ServerIdentity): string {
  // Neither name can hold a blank.
  return `${serverName ?? ''} ${expectedHost ?? ''}`
}

/** What a connection was opened for, and the session it offered. */
interface Opening {
  readonly identity: ServerIdentity
  readonly key: string
  readonly kept: KeptSession | undefined
}

/**
 * Stands before `secureConnect` until the peer has been judged. An event cannot be taken back by a listener, however
 * early it runs, and Node judges in its own way between handshake and event: so the event itself is held.
 */
class Gate {
  readonly #socket: TLSSocket
  readonly #opening: Opening
  readonly #tls: UpstreamTls
  #validToMs: number
  /** Once it has been judged. */
  peer: TlsPeer | undefined = undefined
  certified = false
  #passed = false
  #refused = false

  constructor(socket: TLSSocket, opening: Opening, tls: UpstreamTls) {
    this.#socket = socket
    this.#opening = opening
    this.#validToMs = opening.kept?.validToMs ?? Number.POSITIVE_INFINITY
    this.#tls = tls
    socket.emit = this.#emit as TLSSocket['emit']
    socket.on('session', this.#onSession)
    socket.once('close', this.#onClose)
  }

  get serverName(): string | undefined {
    return this.#opening.identity.serverName
  }

  readonly #emit = (event: string, ...values: unknown[]): boolean => {
    const socket = this.#socket
    if (event === 'secureConnect') {
      socket.emit = TLSSocket.prototype.emit
      if (!this.#pass()) return true
    }
    return TLSSocket.prototype.emit.call(socket, event, ...values)
  }

  #pass(): boolean {
    if (this.#socket.destroyed) return false
    const { error, peer, certified } = this.#tls.judge(this.#socket, this.#opening)
    this.peer = peer
    this.certified = certified
    this.#passed = error === undefined
    this.#refused = error !== undefined
    if (error !== undefined) this.#socket.destroy(error)
    else if (!this.#socket.isSessionReused()) {
      this.#validToMs = this.#socket.getPeerX509Certificate()?.validToDate.getTime() ?? Number.POSITIVE_INFINITY
    }
    return this.#passed
  }

  readonly #onSession = (session: Buffer): void => {
    if (!this.#passed) return
    const { peer, certified } = this
    this.#tls.keepSession(this.#opening.key, { session, validToMs: this.#validToMs, peer, certified })
  }

  readonly #onClose = (): void => {
    if (!this.#passed && !this.#refused) this.#tls.failed()
  }
}
