import type { Socket } from 'node:net'
import type { AcceptedSocket, FoundFacts, Inspection, ListenerRefusal } from '../lib/chain/network.ts'
import type { ConnectionInfo } from '../lib/core/connection.ts'
import { Timed, type TimerWheel } from '../lib/core/timer-wheel.ts'
import type { CompiledListener, CompiledListenerFilter } from './compile.ts'
import { resetSocket } from './http1/reset.ts'
import { PeekBuffer } from './peek-buffer.ts'

/** How a connection ended before its filter chain was chosen. */
export type PeekEnd = 'refused' | 'failed' | 'timeout' | 'client' | 'listener'

/** In connection termination details: Envoy's wording, where it has one. */
export const END_DETAILS: Readonly<Record<PeekEnd, string>> = Object.freeze({
  refused: 'listener_filter_refused',
  failed: 'listener_filter_failed',
  timeout: 'listener_filter_timeout',
  client: 'downstream_remote_close',
  listener: 'listener_closed',
})

/** What looking at first bytes needs of the listener. */
export interface PeekHost {
  readonly wheel: TimerWheel
  readonly original: AcceptedSocket
  /** Time is up, whatever becomes of the connection. */
  peekExpired(): void
  /** All filters let it in: nothing is on the socket any more, and what they left unread comes first when it is read. */
  peeked(peek: Peek, facts: ConnectionInfo): void
  /** It is over. `why`: for logs. */
  peekEnded(peek: Peek, end: PeekEnd, why: string): void
}

/**
 * An accepted connection while its listener filters look at its first bytes, one filter after another. Bytes that no
 * filter strips are put back on the socket, in front of what comes.
 *
 * ```
 * filter i: onAccept ── refused ─▶ reset
 *              └─▶ inspect ⟲ more bytes ── facts ─▶ filter i + 1 … ─▶ peeked
 * ```
 */
export class Peek extends Timed {
  readonly socket: Socket
  readonly openedMs: number
  readonly #host: PeekHost
  readonly #compiled: CompiledListener
  readonly #buffer = new PeekBuffer()
  facts: ConnectionInfo
  #index = 0
  /** `onAccept` of the current filter has been called. */
  #accepted = false
  /** For what `onAccept` has promised. */
  #waiting = false
  #state: unknown = undefined
  /** Bytes that the current filter has seen. */
  #seen = 0
  #listening = false
  #over = false

  constructor(socket: Socket, facts: ConnectionInfo, compiled: CompiledListener, host: PeekHost) {
    super()
    this.socket = socket
    this.facts = facts
    this.#compiled = compiled
    this.#host = host
    this.openedMs = host.wheel.clock.now()
  }

  /** The snapshot whose filters look at it. */
  get compiled(): CompiledListener {
    return this.#compiled
  }

  /** Ends with one call of the host, now or later. */
  start(): void {
    this.socket.on('error', ignore)
    this.#run()
  }

  #run(): void {
    if (this.#waiting) return
    const { listenerFilters } = this.#compiled
    try {
      while (this.#index < listenerFilters.length) {
        if (!this.#step(listenerFilters[this.#index])) return
        this.#index++
        this.#accepted = false
        this.#state = undefined
        this.#seen = 0
      }
    } catch (error) {
      this.#end('failed', error instanceof Error ? (error.stack ?? error.message) : String(error))
      return
    }
    this.#pass()
  }

  /** Answers whether the filter is done. */
  #step({ config, filter, skips }: CompiledListenerFilter): boolean {
    if (!this.#accepted) {
      if (skips?.(this.facts)) return true
      this.#accepted = true
      const found = filter.onAccept?.(this.facts, this.#host.original)
      if (found instanceof Promise) {
        this.#wait(found, config.name)
        return false
      }
      if (!this.#admits(found, config.name)) return false
    }
    if (filter.inspect === undefined || filter.maxBytes === 0) return true
    const view = this.#buffer.view(filter.maxBytes)
    if (view.length === this.#seen) {
      this.#listen()
      return false
    }
    const verdict = filter.inspect(view, this.#seen, this.#state, this.facts)
    return this.#judge(verdict, view.length, config.name)
  }

  #admits(found: FoundFacts | ListenerRefusal | undefined, name: string): boolean {
    if (found === undefined) return true
    if (isRefusal(found)) {
      this.#end('refused', `${name}: ${found.refused}`)
      return false
    }
    this.#learn(found)
    return true
  }

  #wait(found: Promise<FoundFacts | ListenerRefusal | undefined>, name: string): void {
    this.#waiting = true
    void found.then((result) => {
      this.#waiting = false
      if (!this.#over && this.#admits(result, name)) this.#run()
    })
  }

  #judge(verdict: Inspection<unknown>, seen: number, name: string): boolean {
    if ('more' in verdict) {
      const { maxBytes } = this.#compiled.listenerFilters[this.#index].filter
      if (seen >= maxBytes) {
        this.#end('refused', `${name}: nothing was found in ${maxBytes} bytes`)
        return false
      }
      this.#state = verdict.more
      this.#seen = seen
      this.#listen()
      return false
    }
    if (isRefusal(verdict)) {
      this.#end('refused', `${name}: ${verdict.refused}`)
      return false
    }
    this.#buffer.strip(verdict.strip)
    this.#learn(verdict.facts)
    return true
  }

  #learn(found: FoundFacts): void {
    const facts: { -readonly [K in keyof ConnectionInfo]: ConnectionInfo[K] } = { ...this.facts }
    let changed = false
    for (const key of Object.keys(found) as (keyof FoundFacts)[]) {
      if (found[key] === undefined) continue
      Object.assign(facts, { [key]: found[key] })
      changed = true
    }
    if (changed) this.facts = facts
  }

  #listen(): void {
    if (this.#listening) return
    this.#listening = true
    const { socket } = this
    socket.on('data', this.#onData)
    socket.on('end', this.#onEnd)
    socket.on('close', this.#onClose)
    const { listenerFiltersTimeoutMs } = this.#compiled.config
    if (listenerFiltersTimeoutMs > 0) this.#host.wheel.arm(this, listenerFiltersTimeoutMs)
  }

  readonly #onData = (chunk: Buffer): void => {
    this.#buffer.add(chunk)
    this.#run()
  }

  /** What it has sent is not enough to know what it wants, and more does not come. */
  readonly #onEnd = (): void => this.#end('client', 'the client closed before it was known what it wants')

  readonly #onClose = (): void => this.#end('client', 'the client closed before it was known what it wants')

  override onDue(): void {
    this.#host.peekExpired()
    const { config, listenerFilters } = this.#compiled
    if (!config.continueOnListenerFiltersTimeout) {
      this.#end('timeout', 'listener filters took too long')
      return
    }
    const { filter } = listenerFilters[this.#index]
    try {
      const found = filter.giveUp?.(this.#buffer.view(filter.maxBytes), this.#state)
      if (found !== undefined) this.#learn(found)
    } catch (error) {
      this.#end('failed', error instanceof Error ? (error.stack ?? error.message) : String(error))
      return
    }
    this.#pass()
  }

  #pass(): void {
    if (this.#over) return
    this.#over = true
    this.#stopListening()
    if (this.#listening) this.socket.pause()
    if (this.#buffer.length > 0) this.socket.unshift(this.#buffer.take())
    // Its next owner hears of errors from here on.
    this.#host.peeked(this, this.facts)
    this.socket.off('error', ignore)
  }

  #end(end: PeekEnd, why: string): void {
    if (this.#over) return
    this.#over = true
    this.#stopListening()
    if (end === 'client') this.socket.destroy()
    else resetSocket(this.socket)
    this.#host.peekEnded(this, end, why)
  }

  #stopListening(): void {
    this.#host.wheel.disarm(this)
    if (!this.#listening) return
    this.socket.off('data', this.#onData)
    this.socket.off('end', this.#onEnd)
    this.socket.off('close', this.#onClose)
  }

  /** The listener closes. */
  destroy(): void {
    this.#end('listener', 'the listener closes')
  }
}

function isRefusal(found: FoundFacts | ListenerRefusal | object): found is ListenerRefusal {
  return 'refused' in found
}

function ignore(): void {}
