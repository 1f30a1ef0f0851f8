import { Duplex } from 'node:stream'

/** Bytes that one direction may hold before its writer has to wait. */
const HIGH_WATER_BYTES = 64 * 1024

/** One end of a connection, as sockets name it. */
export interface SocketAddress {
  readonly address: string
  readonly port: number
}

/**
 * A stream with the face of a `net.Socket`, as far as proxies need one: what HTTP, TLS and bytes are spoken on where there
 * is no socket of the system. Half-open by default, as the sockets of this gateway are.
 */
export abstract class StreamSocket extends Duplex {
  readonly connecting = false
  readonly encrypted = false
  readonly remoteAddress: string
  readonly remotePort: number
  readonly localAddress: string
  readonly localPort: number
  abstract readonly bytesRead: number
  abstract readonly bytesWritten: number

  constructor(local: SocketAddress, remote: SocketAddress) {
    super({ allowHalfOpen: true, decodeStrings: true, highWaterMark: HIGH_WATER_BYTES })
    this.localAddress = local.address
    this.localPort = local.port
    this.remoteAddress = remote.address
    this.remotePort = remote.port
  }

  /** Ends both directions at once; the peer hears of a reset. */
  abstract resetAndDestroy(): this

  /** FIN behind everything written, then gone. */
  destroySoon(): void {
    if (this.writable) this.end()
    if (this.writableFinished) this.destroy()
    else this.once('finish', this.destroy)
  }

  get remoteFamily(): string {
    return familyOf(this.remoteAddress)
  }

  get localFamily(): string {
    return familyOf(this.localAddress)
  }

  get pending(): boolean {
    return false
  }

  address(): { readonly address: string; readonly family: string; readonly port: number } {
    return { address: this.localAddress, family: this.localFamily, port: this.localPort }
  }

  setNoDelay(): this {
    return this
  }

  setKeepAlive(): this {
    return this
  }

  /** Not timed: whoever owns a connection of ours has a wheel. */
  setTimeout(): this {
    return this
  }

  ref(): this {
    return this
  }

  unref(): this {
    return this
  }
}

function familyOf(address: string): string {
  return address.includes(':') ? 'IPv6' : 'IPv4'
}
