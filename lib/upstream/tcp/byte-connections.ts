import type { ByteAttempt, ByteEvents, ByteStream } from '../../core/attempt.ts'
import { FAILURES } from '../../core/failure.ts'
import { HostAccounts } from '../accounts.ts'
import type { Host } from '../host.ts'
import type { PoolParts } from '../pool.ts'
import { ByteConnection } from './byte-connection.ts'

/**
 * The raw connections of one cluster, each for one owner (tcp_proxy, a terminated CONNECT): nothing is pooled, circuit
 * breakers and statistics are those that HTTP pools count in.
 */
export class ByteConnections {
  readonly #parts: PoolParts
  readonly #all = new Map<ByteConnection, Host>()
  #drained: (() => void)[] = []

  constructor(parts: PoolParts) {
    this.#parts = parts
  }

  get empty(): boolean {
    return this.#all.size === 0
  }

  open(host: Host, attempt: ByteAttempt, events: ByteEvents): ByteStream | undefined {
    const { connectors, nextConnectionId, wheel, config } = this.#parts
    const accounts = new HostAccounts(host, this.#parts)
    const limit = accounts.admit(attempt.priority, false)
    if (limit === undefined) {
      events.onClosed(FAILURES.overflow)
      return undefined
    }
    const connector = connectors.bytes
    const transport = connector.open(host, { authority: '', downstream: attempt.downstream })
    const account = accounts.opened(transport.socket, limit)
    const connection = new ByteConnection(transport, events, {
      host,
      wheel,
      connectionId: nextConnectionId(),
      ready: connector.ready,
      connectTimeoutMs: config.connectTimeoutMs,
      connected: () => accounts.connected(account),
      timedOut: () => {
        this.#parts.stats.cxConnectTimeout.v++
      },
      closed: (wasConnected) => {
        this.#all.delete(connection)
        if (!wasConnected) accounts.connectFailed()
        accounts.closed(account, wasConnected)
        if (this.#all.size === 0) for (const resolve of this.#drained.splice(0)) resolve()
      },
    })
    this.#all.set(connection, host)
    return connection
  }

  /** Resolves when none is left. */
  drained(): Promise<void> {
    return this.empty ? Promise.resolve() : new Promise((resolve) => this.#drained.push(resolve))
  }

  /** Ends those of one host, or all: the gateway closes, or the host was removed and its connections must not stay. */
  destroy(of?: Host): void {
    for (const [connection, host] of [...this.#all]) if (of === undefined || host === of) connection.abort()
  }
}
