import type { Socket } from 'node:net'
import { formatAddress, formatHostPort } from '../core/address.ts'
import type { Clock } from '../core/clock.ts'
import type { ConnectionInfo } from '../core/connection.ts'
import type { InternalListeners } from '../core/internal-listeners.ts'
import type { Counter } from '../core/metrics.ts'
import type { UpstreamTlsConfig } from '../tls/config.ts'
import { resetConnection } from '../tls/raw-socket.ts'
import type { TlsStats } from '../tls/stats.ts'
import type { UpstreamCluster } from './cluster.ts'
import type { ClusterConfig, HboneLayerConfig, TransportConfig } from './config.ts'
import { HboneTunnels } from './hbone/tunnels.ts'
import type { Host } from './host.ts'
import { describeArrivals } from './internal-arrival.ts'
import {
  type ConnectWish,
  type Layer,
  NOT_READY,
  type Opener,
  Opening,
  type OpeningPlan,
  PROXY_REFUSED,
  type Transport,
} from './opening.ts'
import { ProxyHeaderWriter } from './proxy-protocol.ts'
import type { ReadBuffer } from './socket-reader.ts'
import { UpstreamTls } from './tls/client.ts'

export type { ConnectWish, Opener, Opening, Transport } from './opening.ts'

/** What connectors of one cluster share. */
export interface ConnectorParts {
  /** A cluster that nobody else knows, for tunnels. */
  readonly makeCluster: (config: ClusterConfig) => UpstreamCluster
  readonly clock: Clock
  readonly bindErrors: () => Counter
  readonly internal: InternalListeners | undefined
  /** Wanted where the cluster speaks TLS. */
  readonly stats: TlsStats | undefined
  /** Undefined: sockets read as Node does by itself. */
  readonly readBuffer: ReadBuffer | undefined
}

/** How the pools of one protocol reach their hosts: plaintext, or TLS that offers these protocols by ALPN. */
export class Connector {
  readonly #protocols: readonly string[]
  readonly #stats: TlsStats | undefined
  #plan: OpeningPlan

  constructor(plan: OpeningPlan, protocols: readonly string[], stats: TlsStats | undefined) {
    this.#plan = plan
    this.#protocols = protocols
    this.#stats = stats
  }

  /** New connections use this certificate and these authorities; those that are open stay as they are. */
  renew(tls: UpstreamTlsConfig | undefined): void {
    const secured = tls !== undefined && this.#stats !== undefined
    if (secured && this.#plan.tls !== undefined) this.#stats.secretUpdates.v++
    this.#plan = { ...this.#plan, tls: secured ? new UpstreamTls(tls, this.#protocols, this.#stats) : undefined }
  }

  /** Begins to connect. */
  open(host: Host, wish: ConnectWish, opener: Opener): Opening {
    return new Opening(this.#plan, { host, wish }, opener)
  }
}

/**
 * The connectors of one transport of a cluster, made when first needed: TLS contexts are not cheap. A cluster that speaks
 * one protocol offers what its TLS configuration names, if anything (as Envoy); where pools of two protocols stand side by
 * side each offers its own alone.
 */
export class Connectors {
  readonly #cluster: ClusterConfig
  readonly #parts: ConnectorParts
  readonly #layers: readonly Layer[]
  readonly #writers: readonly ProxyHeaderWriter[]
  /** There is an `internal` layer. */
  readonly #internal: boolean
  #transport: TransportConfig
  #http1: Connector | undefined = undefined
  #http2: Connector | undefined = undefined
  #auto: Connector | undefined = undefined
  #bytes: Connector | undefined = undefined
  #tunnels: HboneTunnels | undefined = undefined

  constructor(cluster: ClusterConfig, transport: TransportConfig, parts: ConnectorParts) {
    this.#cluster = cluster
    this.#transport = transport
    this.#parts = parts
    const layers: Layer[] = []
    for (const layer of transport.layers ?? []) {
      if (layer.kind === 'proxy-protocol') layers.push(new ProxyHeaderWriter(layer))
      else if (layer.kind === 'http-connect') layers.push(layer)
    }
    this.#layers = layers
    this.#writers = layers.filter((layer) => layer instanceof ProxyHeaderWriter)
    this.#internal = transport.layers?.some(({ kind }) => kind === 'internal') === true
  }

  get tls(): UpstreamTlsConfig | undefined {
    return this.#transport.tls
  }

  /** Connections depend on whom they are made for. */
  get perClient(): boolean {
    return this.#internal || this.#writers.length > 0
  }

  /** Clients with the same key may share connections; '' where it does not matter. */
  clientKey(downstream: ConnectionInfo | undefined): string {
    if (downstream === undefined || !this.perClient) return ''
    // Internal listeners are told more of a client than its addresses, which two connections may share behind a proxy.
    if (this.#writers.length === 0 || this.#internal) return String(downstream.id)
    return this.#writers.map((writer) => writer.key(downstream)).join()
  }

  /** The same transport with other certificates, authorities or revocation lists. */
  renew(transport: TransportConfig): void {
    this.#transport = transport
    const hbone = hboneOf(transport)
    if (hbone !== undefined) this.#tunnels?.renew(hbone)
    for (const connector of [this.#http1, this.#http2, this.#auto, this.#bytes]) connector?.renew(transport.tls)
  }

  get http1(): Connector {
    this.#http1 ??= this.#make(this.#offered('http1', 'http/1.1'), this.#parts.readBuffer)
    return this.#http1
  }

  get http2(): Connector {
    this.#http2 ??= this.#make(this.#offered('http2', 'h2'), undefined)
    return this.#http2
  }

  /** For bytes that are not ours to understand: offers by ALPN what the configuration names. */
  get bytes(): Connector {
    this.#bytes ??= this.#make(this.#transport.tls?.alpn ?? [], this.#parts.readBuffer)
    return this.#bytes
  }

  /** Lets the peer choose (Envoy's `auto_config`). */
  get auto(): Connector {
    this.#auto ??= this.#make(['h2', 'http/1.1'], undefined)
    return this.#auto
  }

  #offered(protocol: ClusterConfig['protocol'], alpn: string): readonly string[] {
    const configured = this.#transport.tls?.alpn ?? []
    return this.#cluster.protocol === protocol && configured.length > 0 ? configured : [alpn]
  }

  #openTunnels(): HboneTunnels | undefined {
    const hbone = hboneOf(this.#transport)
    if (hbone === undefined) return undefined
    this.#tunnels ??= new HboneTunnels(hbone, { cluster: this.#cluster, makeCluster: this.#parts.makeCluster })
    return this.#tunnels
  }

  /** Of an HBONE transport; undefined where none has been needed. */
  get tunnels(): HboneTunnels | undefined {
    return this.#tunnels
  }

  #make(protocols: readonly string[], readBuffer: ReadBuffer | undefined): Connector {
    const { stats, internal, clock, bindErrors } = this.#parts
    const { tls } = this.#transport
    // What a proxy answers, and TLS, is read as Node reads by itself.
    const ownReads = tls !== undefined || this.#layers.some((layer) => 'kind' in layer)
    const plan: OpeningPlan = {
      sockets: this.#cluster,
      addressOrder: this.#cluster.addressOrder,
      layers: this.#layers,
      tls: undefined,
      readBuffer: ownReads ? undefined : readBuffer,
      bufferLimitBytes: this.#cluster.bufferLimitBytes,
      internal,
      tunnels: this.#openTunnels(),
      describeArrival: describeArrivals(this.#transport.layers, this.#cluster.metadata),
      clock,
      bindErrors,
    }
    const connector = new Connector(plan, protocols, stats)
    connector.renew(tls)
    return connector
  }
}

function hboneOf({ layers }: TransportConfig): HboneLayerConfig | undefined {
  return layers?.find((layer) => layer.kind === 'hbone')
}

/** Ends a connection whose peer is not to be waited for: what is unsent is thrown away, a RST goes out where it can. */
export function resetTransport({ raw, socket }: Transport): void {
  // A reset behind a FIN fails without ever closing the socket.
  if (!raw.writableEnded && !socket.writableEnded) resetConnection(raw)
  socket.destroy()
}

/** The two ends of a connection, as logs print them. */
export interface Ends {
  readonly local: string
  readonly remote: string
}

/** '' for what has no address: Unix sockets on this side, streams of another kind. */
export function endsOf({ raw }: Transport, host: Host): Ends {
  const { localAddress, localPort, remoteAddress, remotePort } = raw
  return {
    local: localAddress === undefined ? '' : formatHostPort(localAddress, localPort ?? 0),
    remote:
      host.address.kind === 'ip' && remoteAddress !== undefined
        ? formatHostPort(remoteAddress, remotePort ?? 0)
        : formatAddress(host.address),
  }
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
    case PROXY_REFUSED:
    case NOT_READY:
      return error.message
    default:
      // An operating system's error has a number; one of TLS has a message that says why.
      if (error.errno !== undefined && error.code !== undefined) return error.code
      return error.message.startsWith('TLS_error') ? error.message : `TLS_error:${error.message}`
  }
}
