import type { Socket } from 'node:net'
import { type Address, formatAddress } from '../core/address.ts'
import type { Clock } from '../core/clock.ts'
import type { ConnectionInfo, TlsInfo } from '../core/connection.ts'
import type { ArrivalFacts, InternalListeners } from '../core/internal-listeners.ts'
import type { Counter } from '../core/metrics.ts'
import { NOT_READY_TEXT } from '../tls/failure-text.ts'
import { resetConnection } from '../tls/raw-socket.ts'
import type { AddressOrderConfig, HttpConnectLayerConfig } from './config.ts'
import { connectSocket, internalSocket, type SocketConfig } from './dial.ts'
import type { HboneTunnels } from './hbone/tunnels.ts'
import type { Host } from './host.ts'
import { HttpConnect } from './http-connect.ts'
import type { DescribeArrival } from './internal-arrival.ts'
import type { ProxyHeaderWriter } from './proxy-protocol.ts'
import { Race, type RaceEvents, raceOrder } from './race.ts'
import { type ReadBuffer, SocketReader } from './socket-reader.ts'
import type { UpstreamTls } from './tls/client.ts'

/** A connection that is ready for use: what HTTP is spoken on, and the socket beneath it (the same one in plaintext). */
export interface Transport {
  readonly socket: Socket
  readonly raw: Socket
  /** Takes the place of the socket's 'data' events; plaintext connections of `Connectors.http1` have one. */
  readonly reader: SocketReader | undefined
  /** Undefined in plaintext. */
  readonly tls: TlsInfo | undefined
}

/** Who asked for a transport. Exactly one of the two is called, never from within `Connector.open`. */
export interface Opener {
  /** Whoever takes it listens to its errors from here on. */
  opened(transport: Transport): void
  /** Undefined: it was aborted. */
  openFailed(error: NodeJS.ErrnoException | undefined): void
}

/** What a connection is wanted for, as far as it matters to how it is made. */
export interface ConnectWish {
  /** Of the requests that it is meant for, where TLS depends on it; otherwise ''. */
  readonly authority: string
  /** Where the connection must be this client's alone (PROXY header, internal listeners); otherwise undefined. */
  readonly downstream: ConnectionInfo | undefined
  /** Internal listeners that the requests it is meant for have come through; undefined: none. */
  readonly depth?: number
  /** For internal listeners. */
  readonly arrival?: ArrivalFacts
}

/** A layer as connections use it. */
export type Layer = ProxyHeaderWriter | HttpConnectLayerConfig

/** How connections of one kind are made. */
export interface OpeningPlan {
  readonly sockets: SocketConfig
  readonly addressOrder: AddressOrderConfig | undefined
  readonly layers: readonly Layer[]
  readonly tls: UpstreamTls | undefined
  readonly readBuffer: ReadBuffer | undefined
  /** Of what a connection brings, how much is held. */
  readonly bufferLimitBytes: number
  readonly internal: InternalListeners | undefined
  /** Connections are tunnels. */
  readonly tunnels: HboneTunnels | undefined
  readonly describeArrival: DescribeArrival
  readonly clock: Clock
  readonly bindErrors: () => Counter
}

/**
 * A connection in the making.
 *
 * ```
 * dialling (one address, or several in a race) ─▶ layer ─▶ ... ─▶ TLS handshake ─▶ opened
 *       └───────────────┴────── error, end, abort ──────┴──────────────┴──────────▶ openFailed
 * ```
 */
export class Opening implements RaceEvents {
  readonly #plan: OpeningPlan
  readonly #host: Host
  readonly #wish: ConnectWish
  readonly #opener: Opener
  /** Of the sockets that have one: each its own, whoever wins. */
  readonly #readers = new Map<Socket, SocketReader>()
  /** Undefined once a socket has connected. */
  #race: Race | undefined = undefined
  #raw: Socket | undefined = undefined
  /** The TLS socket, from the handshake on. */
  #secure: Socket | undefined = undefined
  #layer = 0
  #error: NodeJS.ErrnoException | undefined = undefined
  #over = false

  constructor(plan: OpeningPlan, target: { readonly host: Host; readonly wish: ConnectWish }, opener: Opener) {
    const { host, wish } = target
    this.#plan = plan
    this.#host = host
    this.#wish = wish
    this.#opener = opener
    this.#dial()
  }

  #dial(): void {
    const { address } = this.#host
    const { clock, internal, tunnels } = this.#plan
    if (address.kind === 'internal') {
      // What is to be reached through a tunnel alone is not reached past it.
      const stream =
        tunnels !== undefined
          ? undefined
          : internal?.connect(address.listener, this.#plan.describeArrival(this.#host, this.#wish))
      const dial = (): Socket => internalSocket(stream, address.listener)
      this.#race = new Race([{ kind: 'pipe', path: '' }], { clock, dial }, this)
      return
    }
    if (tunnels !== undefined) {
      this.#race = new Race([{ kind: 'pipe', path: '' }], { clock, dial: () => tunnels.connect(this.#host) }, this)
      return
    }
    const proxy = this.#proxyAddress()
    const addresses =
      proxy === undefined ? raceOrder([address, ...this.#host.additionalAddresses], this.#plan.addressOrder) : [proxy]
    this.#race = new Race(addresses, { clock, dial: (one) => this.#connect(one) }, this)
  }

  #connect(address: Address): Socket {
    const { sockets, readBuffer, bufferLimitBytes } = this.#plan
    const reader = readBuffer && new SocketReader(readBuffer, bufferLimitBytes)
    const socket = connectSocket(address, sockets, reader)
    if (reader !== undefined) this.#readers.set(socket, reader)
    return socket
  }

  /** Where an HTTP proxy stands between: all of the endpoint's connections go there. */
  #proxyAddress(): Address | undefined {
    for (const layer of this.#plan.layers) {
      if (isHttpConnect(layer)) return this.#host.proxyAddress ?? layer.proxyAddress
    }
    return undefined
  }

  // --- from the race ------------------------------------------------------------------------------------------------

  won(socket: Socket): void {
    this.#race = undefined
    this.#raw = socket
    socket.on('error', this.#onError)
    socket.on('close', this.#onClose)
    this.#nextLayer()
  }

  lost(error: NodeJS.ErrnoException | undefined): void {
    this.#race = undefined
    if (error?.syscall === 'bind') this.#plan.bindErrors().v++
    this.#error ??= error
    this.#onClose()
  }

  // --- layers -------------------------------------------------------------------------------------------------------

  #nextLayer(): void {
    const { layers, tls } = this.#plan
    while (this.#layer < layers.length) {
      const layer = layers[this.#layer++]
      if (!isHttpConnect(layer)) {
        this.#raw?.write(layer.header(this.#wish.downstream, this.#host.addedTlvs))
      } else if ((this.#host.proxyAddress ?? layer.proxyAddress) !== undefined) {
        this.#askProxy(layer)
        return
      }
    }
    if (tls === undefined) this.#finish(undefined)
    else this.#handshake(tls)
  }

  #askProxy({ target }: HttpConnectLayerConfig): void {
    const { address, addressText, hostname } = this.#host
    const port = address.kind === 'ip' ? address.port : 0
    const asked =
      target === 'hostname' && hostname !== '' ? formatAddress({ kind: 'ip', host: hostname, port }) : addressText
    new HttpConnect(this.#raw as Socket, asked, (problem) => {
      if (problem === undefined) this.#nextLayer()
      else this.#fail(Object.assign(new Error(`HTTP CONNECT to ${asked}: ${problem}`), { code: PROXY_REFUSED }))
    })
  }

  #handshake(tls: UpstreamTls): void {
    if (!tls.ready()) {
      this.#fail(Object.assign(new Error(NOT_READY_TEXT), { code: NOT_READY }))
      return
    }
    const raw = this.#raw as Socket
    const socket = tls.connect(this.#host, this.#wish.authority, raw)
    this.#secure = socket
    // The TLS socket says why, and closes after the one beneath it.
    raw.off('close', this.#onClose)
    socket.on('error', this.#onError)
    socket.on('close', this.#onClose)
    socket.once('secureConnect', () => this.#finish(tls.facts(socket)))
  }

  // --- the end ------------------------------------------------------------------------------------------------------

  #finish(tls: TlsInfo | undefined): void {
    if (this.#over) return
    this.#over = true
    const raw = this.#raw as Socket
    const socket = this.#secure ?? raw
    // A proxy's answer was read off it. If its new owner pauses it again, it stays so.
    if (raw === socket && raw.isPaused()) raw.resume()
    this.#opener.opened({ socket, raw, reader: this.#readers.get(raw), tls })
    // Not before its new owner listens: an error that nobody listens to would end the process. `UpstreamTls` listens to
    // the errors of the socket beneath.
    for (const left of [raw, socket]) {
      left.off('error', this.#onError)
      left.off('close', this.#onClose)
    }
  }

  /** It ends here; `openFailed` follows when the socket has closed. Harmless when it is over. */
  abort(): void {
    if (this.#over) return
    if (this.#race !== undefined) this.#race.abort()
    else this.#drop()
  }

  #fail(error: NodeJS.ErrnoException): void {
    this.#error ??= error
    this.#drop()
  }

  /**
   * Its peer is not to be waited for. The TLS socket goes with the one beneath it: destroyed by hand as well, it would be
   * closed before this returns.
   */
  #drop(): void {
    if (this.#raw !== undefined) resetConnection(this.#raw)
  }

  readonly #onError = (error: NodeJS.ErrnoException): void => {
    this.#error ??= error
  }

  readonly #onClose = (): void => {
    if (this.#over) return
    this.#over = true
    this.#opener.openFailed(this.#error)
  }
}

/** Of errors whose text says all there is to say. */
export const PROXY_REFUSED = 'ERR_PROXY_CONNECT'
export const NOT_READY = 'ERR_TLS_NOT_READY'

function isHttpConnect(layer: Layer): layer is HttpConnectLayerConfig {
  return 'kind' in layer
}
