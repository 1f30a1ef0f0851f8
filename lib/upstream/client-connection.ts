import type { TlsInfo } from '../core/connection.ts'
import { Timed, type TimerWheel } from '../core/timer-wheel.ts'
import {
  type Connector,
  type ConnectWish,
  describeFailure,
  endsOf,
  type Opener,
  type Opening,
  type Transport,
} from './connect.ts'
import type { Host } from './host.ts'

/** What the runtime and the system take for one, after the packet at hand has been dealt with. */
const CONNECT_MS = 0.1

/** The way to a transport, and who waits for it. */
export interface Approach {
  readonly connector: Connector
  readonly wish: ConnectWish
  /** Of the cluster; 0: none. */
  readonly timeoutMs: number
}

/** What upstream connections of every protocol have in common: a transport that is being made, and what is known of it. */
export abstract class ClientConnection extends Timed implements Opener {
  readonly connectionId: number
  readonly #host: Host
  readonly #wheel: TimerWheel
  /** `''` until it is connected. */
  localAddress = ''
  remoteAddress = ''
  tls: TlsInfo | undefined = undefined
  /** What the transport said of its end. */
  failure: string | undefined = undefined
  /** Its transport failed, and not because we gave it up. */
  refused = false
  /** Until there is a transport. */
  #opening: Opening | undefined = undefined

  constructor(host: Host, wheel: TimerWheel, connectionId: number) {
    super()
    this.#host = host
    this.#wheel = wheel
    this.connectionId = connectionId
  }

  /** Waits for a transport, for as long as the timeout says; then `onDue` is called. */
  connect({ connector, wish, timeoutMs }: Approach): void {
    if (timeoutMs > 0) this.#wheel.arm(this, timeoutMs)
    this.#wheel.share.charge(CONNECT_MS)
    this.#opening = connector.open(this.#host, wish, this)
  }

  /** Also called by a pool that takes over a transport that is ready. */
  opened(transport: Transport): void {
    this.#opening = undefined
    this.#wheel.disarm(this)
    const { local, remote } = endsOf(transport, this.#host)
    this.localAddress = local
    this.remoteAddress = remote
    this.tls = transport.tls
    this.established(transport)
  }

  openFailed(error: NodeJS.ErrnoException | undefined): void {
    this.#opening = undefined
    this.refused = error !== undefined && this.failure === undefined
    if (error !== undefined) this.failure ??= describeFailure(error)
    this.gone()
  }

  /** Gives up a transport that is still being made, `gone` follows; false where there is none in the making. */
  abandonOpening(): boolean {
    const opening = this.#opening
    opening?.abort()
    return opening !== undefined
  }

  /** The transport is there; whoever takes it listens to its errors from here on. */
  protected abstract established(transport: Transport): void

  /** There will be no transport, or it has closed. May be called more than once. */
  protected abstract gone(): void
}
