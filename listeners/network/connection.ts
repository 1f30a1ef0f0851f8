import type { Socket } from 'node:net'
import type { NetworkNext } from '../../lib/chain/network.ts'
import { type ConnectionInfo, secured, type TlsInfo } from '../../lib/core/connection.ts'
import { flagBit, type ResponseFlag } from '../../lib/core/failure.ts'
import { StreamInfo } from '../../lib/core/stream-info.ts'
import { systemDrained } from '../../lib/core/system-drained.ts'
import { Timed } from '../../lib/core/timer-wheel.ts'
import type { CompiledChain } from '../compile.ts'
import type { Borrower } from '../detect/accepted-reads.ts'
import type { ServerConnection } from '../http1/host.ts'
import { Linger } from '../http1/linger.ts'
import { resetSocket } from '../http1/reset.ts'
import { FilterLink, type LinkOwner } from './filter-link.ts'
import { type FilteredStream, streamBehind } from './filtered-stream.ts'
import type { NetworkHost } from './host.ts'
import { ReadGate, type ReadGateOwner } from './read-gate.ts'
import { ReadLane, type ReadLaneOwner } from './read-lane.ts'
import { type LaneEnd, WriteLane } from './write-lane.ts'

const HANDSHAKE = 0
const CONNECTING = 1
const OPEN = 2
const HANDED = 3
const CLOSING = 4
const OVER = 5

/** What a client that neither reads nor closes gets, and once more for each 64 KiB that it still has to read. */
const LINGER_MS = 1_000

/**
 * One connection whose filter chain has network filters: runs their hooks over a socket, a TLS stream or a stream in
 * memory. Back-pressure holds both ways, each direction ends by itself, and whatever a hook throws ends this connection
 * alone.
 *
 * ```
 * HANDSHAKE ─ ready ─▶ CONNECTING ─ all onConnect passed ─▶ OPEN ── close, both ends ─▶ CLOSING ─▶ OVER
 *                                        └─ the chain ends in HTTP ─▶ HANDED ── its socket closes ──┘
 * ```
 * Where no filter looks at bytes, HTTP gets the socket itself, and nothing of this is in its way.
 */
export class NetworkChainConnection
  extends Timed
  implements ServerConnection, LinkOwner, LaneEnd, ReadLaneOwner, ReadGateOwner, Borrower
{
  info: ConnectionInfo
  readonly streamInfo: StreamInfo
  readonly openedMs: number
  readonly stats = undefined
  securing = false
  #handshakeMs = 0
  readonly #host: NetworkHost
  readonly #chain: CompiledChain
  #socket: Socket
  readonly #links: FilterLink[] = []
  readonly #input: ReadLane
  readonly #output: WriteLane
  readonly #stream: FilteredStream | undefined = undefined
  /** The filter that reads, where it is the only one; else -1. */
  readonly #onlyReader: number
  // Of `Borrower`.
  lent = true
  spent = false
  readonly expectsBody = true
  #phase = HANDSHAKE
  readonly #gate = new ReadGate(this)
  #readEnded = false
  #writeEnded = false
  #linger: Linger | undefined = undefined
  #handedOver = false
  /** Those whose state has been made, in order: they will hear of the end. */
  #made = 0

  constructor(socket: Socket, info: ConnectionInfo, host: NetworkHost, chain: CompiledChain) {
    super()
    this.#socket = socket
    this.info = info
    this.#host = host
    this.#chain = chain
    this.openedMs = host.wheel.clock.now()
    this.streamInfo = new StreamInfo(this.openedMs, host.wheel.clock.wall())
    for (const { name, filter } of chain.networkFilters) {
      this.#links.push(new FilterLink(this, this.#links.length, name, filter))
    }
    if (chain.manager !== undefined) this.#stream = streamBehind(this.#links, this, socket.remoteAddress)
    const readers = this.#links.filter(({ filter }) => filter.onRead !== undefined)
    this.#onlyReader = readers.length === 1 ? readers[0].index : -1
    this.#input = new ReadLane(this.#links, this)
    this.#output = new WriteLane(this.#links, this)
  }

  /** The TLS handshake is under way; `limitMs`: what the filter chain gives it, 0: as long as TLS itself permits. */
  handshake(limitMs: number): void {
    this.securing = true
    this.#handshakeMs = limitMs
    if (limitMs > 0) this.reconsider()
  }

  /** Handshakes get less time under overload. */
  override reconsider(): void {
    const limitMs = this.#handshakeMs
    if (this.#phase !== HANDSHAKE || limitMs === 0) return
    this.#host.wheel.armAt(this, this.openedMs + (this.info.state.overload?.transportConnect.of(limitMs) ?? limitMs))
  }

  /** The stream that the filters work on: after the handshake, or at once on plaintext. Nothing of it has been read. */
  ready(socket: Socket, tls: TlsInfo | undefined): void {
    if (this.#phase !== HANDSHAKE) {
      socket.destroy()
      return
    }
    this.#host.wheel.disarm(this)
    this.#socket = socket
    this.securing = false
    if (tls !== undefined) this.info = secured(this.info, tls)
    this.#phase = CONNECTING
    socket.on('error', ignore)
    socket.on('close', this.#onClose)
    socket.on('drain', this.#onDrain)
    if (socket.closed) this.#finish()
    if (socket.destroyed) return
    this.#connect(0)
  }

  /** The handshake failed, or the client went away in it. */
  failed(why = ''): void {
    this.streamInfo.downstreamTransportFailure = why
    if (this.#phase === HANDSHAKE) this.#finish()
  }

  // ——— Getting connected

  #connect(from: number): void {
    const links = this.#links
    for (let i = from; i < links.length; i++) {
      const link = links[i]
      const { filter } = link
      let result: NetworkNext
      try {
        if (filter.createState !== undefined) link.state = filter.createState(link)
        this.#made = i + 1
        if (this.#phase !== CONNECTING) return
        result = filter.onConnect?.(link, link.state)
      } catch (error) {
        this.hookFailed(link, error)
        return
      }
      if (this.#phase !== CONNECTING) return
      if (result === undefined) continue
      result.then(
        () => {
          if (this.#phase === CONNECTING) this.#connect(i + 1)
        },
        (error: unknown) => {
          if (this.#phase === CONNECTING) this.hookFailed(link, error)
        },
      )
      return
    }
    this.#connected()
  }

  #connected(): void {
    if (this.#chain.manager === undefined) {
      this.#phase = OPEN
      // Without a filter that takes the bytes there is nobody to talk to.
      if (this.#links.length === 0) this.close('')
      else this.#startReading()
      return
    }
    const stream = this.#stream
    this.#handedOver = true
    if (stream === undefined) {
      this.#phase = HANDED
      this.#socket.off('drain', this.#onDrain)
      this.#host.handOver(this, this.#socket, this.info)
      return
    }
    this.#phase = OPEN
    this.#host.handOver(this, stream as unknown as Socket, this.info)
    this.#startReading()
  }

  // ——— Reading

  #startReading(): void {
    const socket = this.#socket
    socket.pause()
    // A stream of plaintext that ends in a filter: what it reads need not be its own.
    const borrows = this.#stream === undefined && this.info.tls === undefined
    const loan = borrows ? this.#host.reads?.adopt(socket, this, this.#host.bufferLimitBytes) : undefined
    if (loan === undefined) socket.on('data', this.#onData)
    socket.on('end', this.#onEnd)
    this.#gate.start(socket, loan !== undefined)
  }

  readonly #onData = (chunk: Buffer): void => this.passRead(chunk)

  passRead(chunk: Buffer): void {
    this.streamInfo.bytesReceived += chunk.length
    this.#input.read(chunk)
  }

  /** Of `Borrower`: bytes in memory of the gateway's. Small ones are read into what all share. */
  receive(chunk: Buffer): void {
    if (!this.open) return
    this.spent = false
    this.#gate.receive(this.lent ? chunk : Buffer.from(chunk))
  }

  spentBy(index: number): void {
    this.spent = this.lent && index === this.#onlyReader
  }

  get drained(): boolean {
    return systemDrained(this.#socket) && !this.#output.hooked
  }

  readonly #onEnd = (): void => this.#gate.end()

  passEnd(): void {
    this.#input.end()
  }

  get open(): boolean {
    return this.#phase === OPEN
  }

  inputEnded(): void {
    this.#readEnded = true
    if (this.#writeEnded) this.#bothEnded()
  }

  hold(): void {
    this.#gate.hold()
  }

  release(): void {
    this.#gate.release()
  }

  // ——— Writing

  get over(): boolean {
    return this.#phase === OVER || this.#writeEnded
  }

  writeFrom(index: number, chunk: Buffer, end: boolean): boolean {
    if (this.#phase !== OPEN && this.#phase !== CONNECTING) return true
    if (this.#writeEnded) return true
    return this.#output.write(index, chunk, end)
  }

  send(chunk: Buffer, end: boolean): boolean {
    const socket = this.#socket
    if (chunk.length > 0) {
      this.streamInfo.bytesSent += chunk.length
      socket.write(chunk)
    }
    if (end) {
      this.#writeEnded = true
      socket.end()
      if (this.#readEnded) this.#bothEnded()
      return true
    }
    // What the socket could pass on at once is no reason to wait, however much it was.
    return !(socket.writableNeedDrain && socket.writableLength >= this.#host.bufferLimitBytes)
  }

  readonly #onDrain = (): void => {
    if (this.#phase !== OPEN && this.#phase !== CONNECTING) return
    if (this.#output.busy) return
    for (const link of this.#links) {
      if (!link.blocked) continue
      link.blocked = false
      this.#tell(link, 'onDrain')
      if (this.#phase !== OPEN && this.#phase !== CONNECTING) return
    }
  }

  laneCleared(): void {
    if (this.#phase === CLOSING) this.#flushed()
    else if (!this.#socket.writableNeedDrain) this.#onDrain()
  }

  // ——— The end

  #note(details: string, flag: ResponseFlag | undefined): void {
    const info = this.streamInfo
    if (info.connectionTerminationDetails === '') info.connectionTerminationDetails = details
    if (flag !== undefined) info.flags |= flagBit(flag)
  }

  close(details: string, flag?: ResponseFlag): void {
    if (this.#phase === HANDED) {
      this.#note(details, flag)
      this.#socket.destroySoon()
      return
    }
    if (this.#phase !== OPEN && this.#phase !== CONNECTING) return
    this.#note(details, flag)
    this.#phase = CLOSING
    this.#discard()
    // Also for what a write hook keeps waiting: it has as much time as a client that does not read.
    this.#host.wheel.arm(this, LINGER_MS)
    if (!this.#output.busy) this.#flushed()
  }

  /** What the client still sends is nobody's, but unread it would turn the FIN into a reset. */
  #discard(): void {
    const socket = this.#socket
    socket.off('data', this.#onData)
    this.#gate.stop()
    socket.resume()
  }

  #flushed(): void {
    this.#writeEnded = true
    this.#linger = new Linger(this.#socket)
    this.#linger.begin(true)
    this.#host.wheel.arm(this, LINGER_MS)
  }

  /** The socket closes by itself behind what is still to be sent, if the client takes it. */
  #bothEnded(): void {
    if (this.#phase !== OPEN && this.#phase !== CONNECTING) return
    this.#phase = CLOSING
    this.#flushed()
  }

  reset(details: string, flag?: ResponseFlag): void {
    if (this.#phase === OVER) return
    this.#note(details, flag)
    if (this.#phase !== HANDED) this.#phase = CLOSING
    this.#writeEnded = true
    resetSocket(this.#socket)
  }

  hookFailed(link: FilterLink, error: unknown): void {
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error)
    this.#host.log.error('a network filter failed; its connection is reset', { filter: link.name, error: text })
    this.reset('network_filter_error')
  }

  override onDue(): void {
    if (this.#phase === HANDSHAKE) {
      this.#host.handshakeExpired()
      resetSocket(this.#socket)
    } else if (this.#linger === undefined) this.reset('')
    else if (this.#linger.expired()) this.#host.wheel.arm(this, LINGER_MS)
  }

  readonly #onClose = (): void => this.#finish()

  #finish(): void {
    if (this.#phase === OVER) return
    this.#phase = OVER
    const { wheel, logger } = this.#host
    wheel.disarm(this)
    this.streamInfo.endMs = wheel.now()
    for (let i = 0; i < this.#made; i++) this.#tell(this.#links[i], 'onClose')
    logger?.log({ facts: this.info, info: this.streamInfo }, 'NotSet')
    this.#host.connectionFinished?.(this.#chain)
    if (!this.#handedOver) this.#host.connectionClosed(this)
  }

  #tell(link: FilterLink, hook: 'onDrain' | 'onDraining' | 'onClose'): void {
    try {
      link.filter[hook]?.(link, link.state)
    } catch (error) {
      this.hookFailed(link, error)
    }
  }

  // ——— What the listener asks for

  /** Only of connections that nobody has spoken on: what passes through the others is not ours to know. */
  get idle(): boolean {
    return this.#phase === HANDSHAKE
  }

  destroy(): void {
    if (this.#phase === HANDSHAKE) resetSocket(this.#socket)
    else this.reset('listener_closed')
  }

  /** The time that drains have is up. */
  closeIdle(): void {
    if (this.#phase === HANDSHAKE) resetSocket(this.#socket)
    else this.close('drain_timeout')
  }

  drain(): void {
    for (let i = 0; i < this.#made; i++) {
      if (this.#phase !== OPEN && this.#phase !== CONNECTING) return
      this.#tell(this.#links[i], 'onDraining')
    }
  }
}

function ignore(): void {}
