import type { Socket } from 'node:net'
import type { AcceptedSocket, ConnectionLogger } from '../lib/chain/network.ts'
import type { ListenerConfig } from '../lib/config/listener.ts'
import type { Address } from '../lib/core/address.ts'
import type { Cancel } from '../lib/core/clock.ts'
import type { ConnectionInfo } from '../lib/core/connection.ts'
import { flagBit, type ResponseFlag } from '../lib/core/failure.ts'
import type { Leases } from '../lib/core/lease.ts'
import type { Counter, Log, Metrics, Runtime } from '../lib/core/metrics.ts'
import type { OverloadLevers } from '../lib/core/overload.ts'
import type { PipeEnd } from '../lib/core/pipe.ts'
import { StreamInfo } from '../lib/core/stream-info.ts'
import type { TimerWheel } from '../lib/core/timer-wheel.ts'
import type { Http2Stats } from '../lib/http2/contract.ts'
import { http2Stats } from '../lib/http2/stats.ts'
import type { HeavyStream } from '../lib/runtime/overload/heavy-streams.ts'
import { type TlsStats, tlsStats } from '../lib/tls/stats.ts'
import { type ChainHost, FilterChain } from './chain.ts'
import type { CompiledChain, CompiledListener } from './compile.ts'
import type { AcceptedReads } from './detect/accepted-reads.ts'
import { Await, Entrance } from './entrance.ts'
import { factsOf, NO_ORIGINAL, parties } from './facts.ts'
import type { ServerConnection } from './http1/host.ts'
import { resetSocket } from './http1/reset.ts'
import { keepAlive } from './keepalive.ts'
import type { ConnectionBudget } from './limits.ts'
import { END_DETAILS, Peek, type PeekEnd, type PeekHost } from './peek.ts'
import { type ReceptionStats, receptionStats } from './stats.ts'
import { RecentlyUsed } from './tls/recently-used.ts'

/** What the connections of a listener are made with. */
export interface ReceptionDeps {
  readonly metrics: Metrics
  readonly wheel: TimerWheel
  readonly log: Log
  readonly nextConnectionId: () => number
  /** Connections of the whole gateway. */
  readonly budget: ConnectionBudget
  /** As in `AcceptorParts`. */
  readonly ticketSecret?: Uint8Array
  readonly reads?: AcceptedReads
  /** False: the gateway fails its health checks, and connections should go elsewhere. */
  readonly serving?: () => boolean
  /** A number in [0, 1), for drains that are gradual. Default: `Math.random`. */
  readonly random?: () => number
  /** Default: without any values. */
  readonly runtime?: Runtime
  /** Limits of the whole gateway. Default: this process is all of it. */
  readonly leases?: Leases
  /** Undefined: there is no overload manager. */
  readonly overload?: OverloadLevers
}

/** Chains of a listener whose TLS contexts are kept, of about 60 KiB each: of more, those that were used last. Few have more. */
const SECURING_CHAINS = 10_000

/** Of chains that have no HTTP in them, ms; a connection manager brings its own. Envoy's `--drain-time-s`. */
const DRAIN_MS = 600_000

/**
 * The connections of one listener from accept to end: limits, listener filters, the choice of a filter chain. An update
 * keeps the chains that are still there and drains the others.
 *
 * ```
 * accept ─ limits ─▶ peek (if there are listener filters) ─▶ choose ─▶ FilterChain ─▶ closed
 *                      └── refused, too late, gone ──────────┴── no chain ──────────────▲
 * ```
 */
export class Reception implements ChainHost, PeekHost {
  readonly wheel: TimerWheel
  readonly log: Log
  readonly http2Stats: Http2Stats
  readonly handshakeTimeouts: Counter
  readonly ticketSecret: Uint8Array | undefined
  readonly reads: AcceptedReads | undefined
  readonly original: AcceptedSocket = NO_ORIGINAL
  readonly #deps: ReceptionDeps
  readonly #stats: ReceptionStats
  #tlsStats: TlsStats | undefined = undefined
  #compiled: CompiledListener
  /** In the order of `CompiledListener.chains`. */
  #chains: FilterChain[]
  /** Dropped by an update, with connections, each with what cancels the sweep of its idle ones. */
  readonly #retired = new Map<FilterChain, Cancel>()
  readonly #securing = new RecentlyUsed<FilterChain, FilterChain>(SECURING_CHAINS, (chain) => chain.releaseTls())
  readonly #peeks = new Set<Peek>()
  readonly #entrance: Entrance
  /** Accepted, while it is not known yet whether there is room. */
  readonly #awaiting = new Set<Await>()
  #draining = false
  /** A gradual drain goes on: since when, for how long, and what ends it. */
  #gradual: { readonly sinceMs: number; readonly forMs: number; readonly cancel: Cancel } | undefined = undefined
  #idle: (() => void) | undefined = undefined

  constructor(compiled: CompiledListener, deps: ReceptionDeps) {
    const { metrics } = deps
    const prefix = `listener.${compiled.config.statPrefix}.`
    this.#compiled = compiled
    this.#deps = deps
    this.wheel = deps.wheel
    this.log = deps.log
    this.ticketSecret = deps.ticketSecret
    this.reads = deps.reads
    // Envoy keeps those of the codec for the whole process.
    this.http2Stats = http2Stats(metrics, '')
    this.handshakeTimeouts = metrics.counter(`${prefix}downstream_cx_transport_socket_connect_timeout`)
    this.#stats = receptionStats(metrics, prefix)
    this.#entrance = new Entrance(compiled.config.name, { ...deps, stats: this.#stats })
    this.#chains = compiled.chains.map((chain) => new FilterChain(chain, this))
  }

  get tlsStats(): TlsStats {
    this.#tlsStats ??= tlsStats(this.#deps.metrics, `listener.${this.config.statPrefix}.`, 'server')
    return this.#tlsStats
  }

  get compiled(): CompiledListener {
    return this.#compiled
  }

  get config(): ListenerConfig {
    return this.#compiled.config
  }

  get logger(): ConnectionLogger | undefined {
    return this.#compiled.logger
  }

  get bufferLimitBytes(): number {
    return this.config.bufferLimitBytes
  }

  /** Asked once for each answer: while a drain is gradual, the more often true the longer it has gone on (Envoy's `DrainManager`). */
  get draining(): boolean {
    return (
      (this.#draining && this.#isTurn()) || (this.config.drainType === 'default' && this.#deps.serving?.() === false)
    )
  }

  #isTurn(): boolean {
    const gradual = this.#gradual
    if (gradual === undefined) return true
    const random = this.#deps.random ?? Math.random
    return random() * gradual.forMs < this.wheel.clock.now() - gradual.sinceMs
  }

  /** How long connections of a dropped listener may stay idle; the longest of its chains. */
  get drainTimeoutMs(): number {
    return Math.max(...this.#chains.map(drainTimeOf))
  }

  /** From now on. Answers the chains that were dropped, those without connections too. */
  update(compiled: CompiledListener): FilterChain[] {
    this.#compiled = compiled
    const before = new Map(this.#chains.map((chain) => [chain.identity.key, chain]))
    this.#chains = compiled.chains.map((next) => {
      const { key, below } = next.identity
      const known = before.get(key)
      if (known === undefined || known.identity.below !== below) return this.#newChain(next)
      before.delete(key)
      known.update(next)
      return known
    })
    for (const chain of before.values()) this.#retire(chain)
    return [...before.values()]
  }

  #newChain(compiled: CompiledChain): FilterChain {
    const chain = new FilterChain(compiled, this)
    if (this.#draining && this.#gradual === undefined) chain.drain()
    return chain
  }

  #retire(chain: FilterChain): void {
    this.#securing.delete(chain)
    if (chain.size === 0) return
    const sweep = this.wheel.clock.schedule(drainTimeOf(chain), () => chain.closeIdle())
    this.#retired.set(chain, sweep)
    chain.retire()
  }

  /** Undefined: there is no overload manager, or the listener bypasses it. */
  get overload(): OverloadLevers | undefined {
    return this.config.bypassOverload === true ? undefined : this.#deps.overload
  }

  /** Shows all that is under way. */
  streams(see: (stream: HeavyStream) => void): void {
    if (this.overload !== undefined) for (const chain of this.#all()) chain.streams(see)
  }

  /** A connection that the listener could not take. */
  overflow(): void {
    this.#stats.overflow.v++
  }

  // ——— Limits

  /** Takes a socket that came in on `address`. */
  accept(socket: Socket, address: Address): void {
    const facts = factsOf(socket, address, { id: this.#deps.nextConnectionId(), listenerName: this.config.name })
    if (facts === undefined) {
      // The client was gone before we looked.
      socket.destroy()
      return
    }
    if (this.overload?.refusesConnection() === true) {
      this.refuse(socket)
      return
    }
    const asked = this.#entrance.ask(facts, this.config)
    if (asked === undefined) this.#admit(socket, facts)
    else {
      const wait = new Await(socket, () => this.#awaiting.delete(wait))
      this.#awaiting.add(wait)
      asked.follow(() => {
        if (wait.over()) this.#admit(socket, facts)
      })
    }
  }

  #admit(socket: Socket, facts: ConnectionInfo): void {
    if (!this.#entrance.enter(facts, this.config)) {
      resetSocket(socket)
      return
    }
    if (this.config.keepalive !== undefined) keepAlive(socket, this.config.keepalive)
    this.#receive(socket, facts)
  }

  /** Turns a socket away: there is too much to do already. */
  refuse(socket: Socket): void {
    this.#stats.overloadReject.v++
    resetSocket(socket)
  }

  /** Takes a connection from within, about which all is known. False where there is no room. */
  acceptInternal(stream: PipeEnd, facts: ConnectionInfo): boolean {
    if (!this.#entrance.enter(facts, this.config)) return false
    // It has the methods and events of a socket.
    this.#receive(stream as unknown as Socket, facts)
    return true
  }

  // ——— First bytes

  #receive(socket: Socket, facts: ConnectionInfo): void {
    const compiled = this.#compiled
    facts.state.overload = this.overload
    if (compiled.listenerFilters.length === 0) {
      this.#choose(socket, facts)
      return
    }
    const peek = new Peek(socket, facts, compiled, this)
    this.#peeks.add(peek)
    compiled.usage.enter()
    this.#stats.peeking.v++
    peek.start()
  }

  peekExpired(): void {
    this.#stats.peekTimeouts.v++
  }

  peeked(peek: Peek, facts: ConnectionInfo): void {
    this.#forget(peek)
    this.#choose(peek.socket, facts)
  }

  peekEnded(peek: Peek, end: PeekEnd, why: string): void {
    this.#forget(peek)
    const { facts } = peek
    if (end === 'client') this.#stats.peekGone.v++
    else if (end !== 'timeout' && end !== 'listener') this.#stats.peekErrors.v++
    if (end === 'failed') this.log.error('a listener filter failed; its connection is reset', { error: why })
    else if (end === 'refused') this.log.debug('a connection was refused', { ...parties(facts), reason: why })
    this.#write(facts, peek.openedMs, END_DETAILS[end])
    this.#gone(facts)
  }

  #forget(peek: Peek): void {
    this.#peeks.delete(peek)
    peek.compiled.usage.leave()
    this.#stats.peeking.v--
  }

  // ——— Filter chains

  #choose(socket: Socket, facts: ConnectionInfo): void {
    const at = this.#compiled.choose(facts)
    const chain = at < 0 ? undefined : this.#chains[at]
    if (chain?.speaks) {
      this.#stats.total.v++
      this.#stats.active.v++
      chain.take(socket, facts)
      return
    }
    if (chain === undefined) {
      this.#stats.noChain.v++
      this.log.debug('no filter chain matches a connection', parties(facts))
    }
    socket.on('error', ignore)
    socket.destroy()
    const details = chain === undefined ? 'filter_chain_not_found' : 'filter_chain_is_empty'
    this.#write(facts, this.wheel.clock.now(), details, chain === undefined ? 'NR' : undefined)
    this.#gone(facts)
  }

  /** The line of a connection that no filter chain had. */
  #write(facts: ConnectionInfo, openedMs: number, details: string, flag?: ResponseFlag): void {
    const { logger } = this
    if (logger === undefined) return
    const { clock } = this.wheel
    const now = clock.now()
    const info = new StreamInfo(openedMs, clock.wall() - (now - openedMs))
    info.endMs = now
    info.connectionTerminationDetails = details
    if (flag !== undefined) info.flags |= flagBit(flag)
    logger.log({ facts, info }, 'NotSet')
  }

  securing(chain: FilterChain): void {
    if (this.#chains.length > SECURING_CHAINS) this.#securing.set(chain, chain)
  }

  chainClosed(chain: FilterChain, connection: ServerConnection, last: boolean): void {
    if (last) {
      this.#retired.get(chain)?.()
      this.#retired.delete(chain)
    }
    this.#stats.active.v--
    this.#stats.destroyed.v++
    this.#gone(connection.info)
  }

  /** One accepted connection is no more. */
  #gone(facts: ConnectionInfo): void {
    this.#entrance.leave(facts)
    if (this.#entrance.size === 0) this.#idle?.()
  }

  // ——— The end

  /** Resolves when all connections are gone; `Listener.drain` says how. */
  drain(gradualMs = 0): Promise<void> {
    if (gradualMs <= 0) this.#drainAll()
    else if (!this.#draining) {
      const { clock } = this.wheel
      const cancel = clock.schedule(gradualMs, () => this.#drainAll())
      this.#draining = true
      this.#gradual = { sinceMs: clock.now(), forMs: gradualMs, cancel }
    }
    if (this.#entrance.size === 0) return Promise.resolve()
    return new Promise((resolve) => {
      const before = this.#idle
      this.#idle = () => {
        before?.()
        resolve()
      }
    })
  }

  /** Whoever is left is told to go. */
  #drainAll(): void {
    this.#gradual?.cancel()
    this.#gradual = undefined
    this.#draining = true
    for (const chain of this.#all()) chain.drain()
  }

  /** Ends everything at once. */
  close(): void {
    this.#draining = true
    this.#gradual?.cancel()
    for (const cancel of this.#retired.values()) cancel()
    for (const wait of this.#awaiting) wait.end()
    this.#entrance[Symbol.dispose]()
    for (const peek of this.#peeks) peek.destroy()
    for (const chain of this.#all()) chain.destroy()
  }

  closeIdle(sinceMs?: number): void {
    if (sinceMs === undefined) for (const peek of this.#peeks) peek.destroy()
    for (const chain of this.#all()) chain.closeIdle(sinceMs)
  }

  #all(): FilterChain[] {
    return [...this.#chains, ...this.#retired.keys()]
  }
}

function drainTimeOf(chain: FilterChain): number {
  return chain.hasManager ? chain.manager.config.drainTimeoutMs : DRAIN_MS
}

function ignore(): void {}
