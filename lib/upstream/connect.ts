import { connect, type Socket } from 'node:net'
import { Duplex } from 'node:stream'
import type { Address } from '../core/address.ts'
import type { ConnectionInfo } from '../core/connection.ts'
import type { InternalListeners } from '../core/internal-listeners.ts'
import type { TlsStats } from '../tls/stats.ts'
import type { ClusterConfig } from './config.ts'
import type { Host } from './host.ts'
import { type ReadBuffer, SocketReader } from './socket-reader.ts'
import { UpstreamTls } from './tls/client.ts'

/** A connection in the making: what HTTP is spoken on, and the socket beneath it (the same one in plaintext). */
export interface Transport {
  readonly socket: Socket
  readonly raw: Socket
  /** Takes the place of the socket's 'data' events; plaintext connections of `Connectors.http1` have one. */
  readonly reader: SocketReader | undefined
}

/** Tells that a transport may be used: the socket is connected, or the handshake done and the peer verified. */
export type ReadyEvent = 'connect' | 'secureConnect'

/** What a connection is wanted for, as far as it matters to how it is made. */
export interface ConnectWish {
  /** Of the requests that it is meant for, where TLS depends on it; otherwise ''. */
  readonly authority: string
  /** Where the connection must be this client's alone (PROXY header, internal listeners); otherwise undefined. */
  readonly downstream: ConnectionInfo | undefined
}

/** What connectors of one cluster share. */
export interface ConnectorParts {
  readonly internal: InternalListeners | undefined
  /** Wanted where the cluster speaks TLS. */
  readonly stats: TlsStats | undefined
  /** Undefined: sockets read as Node does by itself. */
  readonly readBuffer: ReadBuffer | undefined
}

/** How the pools of one protocol reach their hosts: plaintext, or TLS that offers these protocols by ALPN. */
export class Connector {
  readonly ready: ReadyEvent
  readonly #config: ClusterConfig
  readonly #tls: UpstreamTls | undefined
  readonly #readBuffer: ReadBuffer | undefined
  readonly #internal: InternalListeners | undefined

  constructor(config: ClusterConfig, protocols: readonly string[], shared: ConnectorParts) {
    const { stats, readBuffer, internal } = shared
    this.#internal = internal
    this.#config = config
    this.#readBuffer = readBuffer
    const { tls } = config
    const secure = tls !== undefined && stats !== undefined
    this.ready = secure ? 'secureConnect' : 'connect'
    this.#tls = secure ? new UpstreamTls(tls, protocols, stats) : undefined
  }

  /** Begins to connect; success, failure and end arrive as events of `socket`. */
  open(host: Host, wish: ConnectWish): Transport {
    const plain = this.#tls === undefined && this.#readBuffer !== undefined && host.address.kind !== 'internal'
    const reader = plain ? new SocketReader(this.#readBuffer as ReadBuffer) : undefined
    const raw = this.#dial(host, wish, reader)
    if (this.#tls === undefined) return { socket: raw, raw, reader }
    return { socket: this.#tls.connect(host, wish.authority, raw), raw, reader }
  }

  #dial(host: Host, wish: ConnectWish, reader: SocketReader | undefined): Socket {
    const { address } = host
    if (address.kind !== 'internal') return connectSocket(address, this.#config, reader)
    const arrival = { downstream: wish.downstream }
    const stream = this.#internal?.connect(address.listener, arrival)
    return internalSocket(stream, address.listener)
  }
}

/**
 * Streams from within take the place of sockets: they have their methods and events. Where there is none, one that
 * reports it as a refused connection.
 */
function internalSocket(stream: Duplex | undefined, listener: string): Socket {
  const end = stream ?? new Duplex({ read: () => {}, write: (_chunk, _encoding, done) => done() })
  if (stream === undefined) {
    end.destroy(Object.assign(new Error(`no internal listener "${listener}"`), { code: 'ECONNREFUSED' }))
  }
  return end as unknown as Socket
}

/**
 * The connectors of one cluster, made when first needed: TLS contexts are not cheap. A cluster that speaks one protocol
 * offers what its TLS configuration names, if anything (as Envoy); where pools of two protocols stand side by side each
 * offers its own alone.
 */
export class Connectors {
  readonly #config: ClusterConfig
  readonly #parts: ConnectorParts
  #http1: Connector | undefined = undefined
  #http2: Connector | undefined = undefined
  #auto: Connector | undefined = undefined
  #bytes: Connector | undefined = undefined

  constructor(config: ClusterConfig, parts: ConnectorParts) {
    this.#config = config
    this.#parts = parts
  }

  get http1(): Connector {
    this.#http1 ??= this.#make('http1', 'http/1.1', this.#parts.readBuffer)
    return this.#http1
  }

  get http2(): Connector {
    this.#http2 ??= this.#make('http2', 'h2', undefined)
    return this.#http2
  }

  /** For bytes that are not ours to understand: offers by ALPN what the configuration names. */
  get bytes(): Connector {
    this.#bytes ??= new Connector(this.#config, this.#config.tls?.alpn ?? [], { ...this.#parts, readBuffer: undefined })
    return this.#bytes
  }

  /** Lets the peer choose (Envoy's `auto_config`). */
  get auto(): Connector {
    this.#auto ??= new Connector(this.#config, ['h2', 'http/1.1'], { ...this.#parts, readBuffer: undefined })
    return this.#auto
  }

  #make(protocol: ClusterConfig['protocol'], alpn: string, readBuffer: ReadBuffer | undefined): Connector {
    const configured = this.#config.tls?.alpn ?? []
    const named = this.#config.protocol === protocol && configured.length > 0
    return new Connector(this.#config, named ? configured : [alpn], { ...this.#parts, readBuffer })
  }
}

function connectSocket(address: Address, config: ClusterConfig, reader: SocketReader | undefined): Socket {
  // allowHalfOpen: the pool decides what an upstream's FIN means; Node must not answer it by itself.
  const onread = reader === undefined ? {} : { onread: reader.onread }
  if (address.kind === 'pipe') return connect({ path: address.path, allowHalfOpen: true, ...onread })
  return connect({
    host: address.host,
    port: address.port,
    noDelay: true,
    ...onread,
    allowHalfOpen: true,
    ...(config.bindAddress === undefined ? {} : { localAddress: config.bindAddress }),
    ...(config.keepalive === undefined
      ? {}
      : { keepAlive: true, keepAliveInitialDelay: config.keepalive.idleS * 1000 }),
  })
}

/** Ends a connection whose peer is not to be waited for: what is unsent is thrown away, a RST goes out where it can. */
export function resetTransport(transport: Transport, host: Host): void {
  const { raw, socket } = transport
  // A TLS stream cannot reset, nor can a Unix socket; and a reset behind a FIN fails without ever closing the socket.
  const canReset = host.address.kind === 'ip' && !raw.connecting && !raw.destroyed
  if (canReset && !raw.writableEnded && !socket.writableEnded) raw.resetAndDestroy()
  socket.destroy()
}

/** What was chosen by ALPN; undefined in plaintext and where nothing was. */
export function negotiatedProtocol(socket: Socket): string | undefined {
  const chosen = (socket as { alpnProtocol?: string | false | null }).alpnProtocol
  return typeof chosen === 'string' && chosen !== '' ? chosen : undefined
}

/** Envoy's wording of why a connection failed, for the response-code details. */
export function describeFailure(error: NodeJS.ErrnoException): string {
  switch (error.code) {
    case 'ECONNREFUSED':
      return 'delayed connect error: Connection refused'
    case 'EHOSTUNREACH':
      return 'delayed connect error: No route to host'
    case 'ENETUNREACH':
      return 'immediate connect error: Network is unreachable'
    default:
      // An operating system's error has a number; one of TLS has a message that says why.
      if (error.errno !== undefined && error.code !== undefined) return error.code
      return error.message.startsWith('TLS_error') ? error.message : `TLS_error:${error.message}`
  }
}
