import type { ByteAttempt, ByteEvents, ByteStream } from '../../core/attempt.ts'
import { FAILURES } from '../../core/failure.ts'
import { type Askable, RoomWait } from '../../core/lease.ts'
import { HostAccounts } from '../accounts.ts'
import type { Host } from '../host.ts'
import type { PoolParts } from '../pool.ts'
import type { Transports } from '../transports.ts'
import { ByteConnection } from './byte-connection.ts'
import { LaterBytes } from './later-bytes.ts'

/**
 * The raw connections of one cluster, each for one owner (tcp_proxy, a terminated CONNECT): nothing is pooled, circuit
 * breakers and statistics are those that HTTP pools count in.
 */
export class ByteConnections {
  readonly #parts: PoolParts
  readonly #transports: Transports
  readonly #all = new Map<ByteConnection, Host>()
  #drained: (() => void)[] = []
  /** How often all were ended: who has waited since before then is too late. */
  #ends = 0

  constructor(parts: PoolParts, transports: Transports) {
    this.#parts = parts
    this.#transports = transports
  }

  get empty(): boolean {
    return this.#all.size === 0
  }

  open(host: Host, attempt: ByteAttempt, events: ByteEvents): ByteStream | undefined {
    const { breakers, config } = this.#parts
    const limit = breakers.of(attempt.priority).connections
    const max = config.maxConnectionsPerHost
    const asked = limit.ask()
    if (max === undefined && asked === undefined) return this.#open(host, attempt, events)
    // Held until it is open: what comes here for it would go back otherwise.
    const own = max === undefined ? undefined : limit.ofHost(host.key, max)
    const all = both(asked, own?.ask(), own === undefined ? [limit] : [limit, own])
    if (all === undefined) {
      const stream = this.#open(host, attempt, events)
      own?.[Symbol.dispose]()
      return stream
    }
    const ends = this.#ends
    const stream = new LaterBytes(all, events, () => {
      if (ends === this.#ends) return this.#open(host, attempt, events)
      events.onClosed(FAILURES.noHealthyHost)
      return undefined
    })
    // Behind it.
    all.follow(() => own?.[Symbol.dispose]())
    return stream
  }

  #open(host: Host, attempt: ByteAttempt, events: ByteEvents): ByteStream | undefined {
    const { nextConnectionId, wheel, config, stats } = this.#parts
    const accounts = new HostAccounts(host, this.#parts)
    const sheds = this.#parts.shedConnect?.sheds() === true
    const limit = sheds ? undefined : accounts.admit(attempt.priority, false)
    if (limit === undefined) {
      events.onClosed(FAILURES.overflow)
      return undefined
    }
    const account = accounts.opened(limit)
    const connection = new ByteConnection(events, {
      host,
      wheel,
      connectionId: nextConnectionId(),
      connected: (socket) => accounts.connected(account, socket),
      timedOut: () => {
        stats.cxConnectTimeout.v++
      },
      paused: () => {
        stats.flowControlPausedReading.v++
      },
      resumed: () => {
        stats.flowControlResumedReading.v++
      },
      closed: (wasConnected, refused) => {
        this.#all.delete(connection)
        if (wasConnected) accounts.closed(account, true)
        else accounts.connectFailed(account, refused)
        if (this.#all.size === 0) for (const resolve of this.#drained.splice(0)) resolve()
      },
    })
    this.#all.set(connection, host)
    const { downstream, arrival } = attempt
    connection.connect({
      connector: this.#transports.of(host).bytes,
      wish: { authority: '', downstream, ...(arrival && { arrival }) },
      timeoutMs: config.connectTimeoutMs,
    })
    return connection
  }

  /** Resolves when none is left. */
  drained(): Promise<void> {
    return this.empty ? Promise.resolve() : new Promise((resolve) => this.#drained.push(resolve))
  }

  /** Ends those of one host, or all: the gateway closes, or the host was removed and its connections must not stay. */
  destroy(of?: Host): void {
    if (of === undefined) this.#ends++
    for (const [connection, host] of [...this.#all]) if (of === undefined || host === of) connection.abort()
  }
}

function both(
  one: Promise<void> | undefined,
  other: Promise<void> | undefined,
  limits: readonly Askable[],
): RoomWait | undefined {
  return one === undefined && other === undefined ? undefined : new RoomWait(Promise.all([one, other]), limits)
}
