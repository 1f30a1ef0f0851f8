import type { Address } from '../core/address.ts'
import { formatAddress } from '../core/address.ts'
import { BindError, type SocketHandle } from './socket-handle.ts'

interface Entry {
  readonly key: string
  readonly handle: Promise<SocketHandle>
  /** How many listeners of each worker use it. Survives the worker: its successor takes them over. */
  readonly holds: Map<number, number>
}

/**
 * The listening sockets of the gateway, each bound once and lent to every worker that asks for its address.
 *
 * A worker that dies keeps its holds, so that the socket stays open and connections queue in the kernel until the next
 * worker of that number has its configuration; `settle` then lets go of what that one no longer asked for.
 *
 * Port 0 means a new port for every listener that asks, but the same one in every worker: the n-th request of a worker
 * for such an address gets the n-th socket.
 */
export class SocketTable {
  readonly #entries = new Map<string, Entry>()
  readonly #bind: (address: Address) => Promise<SocketHandle>
  /** What each worker asked for since it started: kept until it settles, then compared with its predecessor's holds. */
  readonly #fresh = new Map<number, Map<string, number>>()
  #closed = false

  constructor(bind: (address: Address) => Promise<SocketHandle>) {
    this.#bind = bind
  }

  /** Number of open sockets. */
  get size(): number {
    return this.#entries.size
  }

  /** A new process runs as worker number `worker`. */
  started(worker: number): void {
    this.#fresh.set(worker, new Map())
  }

  /** @throws BindError where the address cannot be bound; nothing is kept then. */
  async acquire(worker: number, address: Address): Promise<SocketHandle> {
    if (this.#closed) throw new Error('the sockets are closed')
    const key = this.#keyFor(worker, address)
    let entry = this.#entries.get(key)
    if (entry === undefined) {
      entry = { key, handle: this.#bind(address), holds: new Map() }
      this.#entries.set(key, entry)
    }
    this.#hold(worker, entry)
    try {
      const handle = await entry.handle
      // Closed while it was being bound: whoever closed could not reach it yet.
      if (this.#closed) throw new Error('the sockets are closed')
      return handle
    } catch (error) {
      if (this.#entries.get(key) === entry) this.#entries.delete(key)
      this.#fresh.get(worker)?.delete(key)
      throw error
    }
  }

  /**
   * A socket that the worker holds, once more: it has closed its copy and wants another. `bound`: the real address, which
   * tells those of port 0 apart. @throws BindError where it holds none
   */
  async held(worker: number, address: Address, bound: Address): Promise<SocketHandle> {
    const base = formatAddress(address)
    for (const entry of this.#entries.values()) {
      if (!entry.holds.has(worker) || (entry.key !== base && !entry.key.startsWith(`${base}#`))) continue
      const handle = await entry.handle
      if (entry.key === base || portOf(handle) === (bound.kind === 'ip' ? bound.port : undefined)) return handle
    }
    throw new BindError('EBADF', 'the socket is no longer held (EBADF)')
  }

  /** One listener of that worker is gone. The socket closes with its last holder. */
  release(worker: number, address: Address): void {
    const fresh = this.#fresh.get(worker)
    const base = formatAddress(address)
    for (const entry of [...this.#entries.values()].reverse()) {
      if (entry.key !== base && !entry.key.startsWith(`${base}#`)) continue
      const count = entry.holds.get(worker)
      if (count === undefined) continue
      const asked = fresh?.get(entry.key)
      if (asked !== undefined) {
        if (asked > 1) fresh?.set(entry.key, asked - 1)
        else fresh?.delete(entry.key)
      }
      if (count > 1) entry.holds.set(worker, count - 1)
      else this.#drop(entry, worker)
      return
    }
  }

  /** The worker runs a whole configuration: what only its predecessor asked for is let go. */
  settle(worker: number): void {
    const fresh = this.#fresh.get(worker)
    if (fresh === undefined) return
    for (const entry of [...this.#entries.values()]) {
      if (!entry.holds.has(worker)) continue
      const asked = fresh.get(entry.key)
      if (asked === undefined) this.#drop(entry, worker)
      else entry.holds.set(worker, asked)
    }
  }

  /** The worker listens no more, and no successor of it will. */
  releaseAll(worker: number): void {
    for (const entry of [...this.#entries.values()]) if (entry.holds.has(worker)) this.#drop(entry, worker)
    this.#fresh.get(worker)?.clear()
  }

  /** Closes everything; connections are refused once the workers have let go of their copies. */
  close(): void {
    this.#closed = true
    for (const entry of this.#entries.values()) closeWhenBound(entry)
    this.#entries.clear()
  }

  #keyFor(worker: number, address: Address): string {
    const base = formatAddress(address)
    if (address.kind === 'pipe' || address.port !== 0) return base
    const fresh = this.#fresh.get(worker)
    let n = 0
    while (fresh?.has(`${base}#${n}`) === true) n++
    return `${base}#${n}`
  }

  #hold(worker: number, entry: Entry): void {
    const fresh = this.#fresh.get(worker)
    const asked = (fresh?.get(entry.key) ?? 0) + 1
    fresh?.set(entry.key, asked)
    entry.holds.set(worker, Math.max(asked, entry.holds.get(worker) ?? 0))
  }

  #drop(entry: Entry, worker: number): void {
    entry.holds.delete(worker)
    if (entry.holds.size > 0) return
    this.#entries.delete(entry.key)
    closeWhenBound(entry)
  }
}

function portOf(handle: SocketHandle): number | undefined {
  const name: { port?: number } = {}
  handle.getsockname(name)
  return name.port
}

function closeWhenBound(entry: Entry): void {
  entry.handle.then(
    (handle) => handle.close(),
    () => {},
  )
}
