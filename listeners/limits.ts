import { systemClock } from '../lib/core/clock.ts'
import type { Leases, SlotLease } from '../lib/core/lease.ts'
import { LocalLeases } from '../lib/core/local-leases.ts'
import { type Gauge, noRuntime, type Runtime } from '../lib/core/metrics.ts'
import { runtimeInteger } from '../lib/core/runtime-value.ts'

/** The limit that holds now: what the runtime has under the key, or else the configured one. */
export function liveLimit(limit: number | undefined, key: string | undefined, runtime: Runtime): number | undefined {
  return key === undefined ? limit : (runtimeInteger(runtime, key) ?? limit)
}

/** Connections under a limit that may come, go and change while they are there. */
export class ConnectionRoom implements Disposable {
  taken = 0
  readonly #key: string
  readonly #leases: Leases
  #limit: number | undefined = undefined
  #lease: SlotLease | undefined = undefined
  #disposed = false

  /** `leases` undefined: this process has all that there are. */
  constructor(key: string, leases: Leases | undefined) {
    this.#key = key
    this.#leases = leases ?? new LocalLeases(systemClock)
  }

  /** As `SlotLease.ask`. `limit` undefined: there is none. */
  ask(limit: number | undefined): Promise<void> | undefined {
    if (limit !== this.#limit) this.#follow(limit)
    return this.#lease?.ask()
  }

  /** As `SlotLease.ready`, of the limit that was asked about last. */
  get ready(): boolean {
    return this.#lease?.ready ?? true
  }

  /** False where there is no room; otherwise `leave` must follow. Lowering the limit ends no connection. */
  enter(limit: number | undefined): boolean {
    if (limit !== this.#limit) this.#follow(limit)
    if (this.#lease?.tryAcquire() === false) return false
    this.taken++
    return true
  }

  /** As `SlotLease.want`. */
  want(): void {
    this.#lease?.want()
  }

  leave(): void {
    this.taken--
    this.#lease?.release()
  }

  #follow(limit: number | undefined): void {
    const before = this.#lease
    this.#limit = limit
    this.#lease = limit === undefined ? undefined : this.#leases.slots(this.#key, limit)
    if (before === undefined) for (let i = 0; i < this.taken; i++) this.#lease?.force()
    if (this.#lease === undefined) for (let i = 0; i < this.taken; i++) before?.release()
    before?.[Symbol.dispose]()
  }

  /** What is taken is given back as before. */
  [Symbol.dispose](): void {
    const lease = this.#disposed ? undefined : this.#lease
    this.#disposed = true
    lease?.[Symbol.dispose]()
  }
}

/** How many connections there are, of all listeners of a gateway that count, and how many there may be. */
export class ConnectionBudget {
  /** Undefined: no limit. Lowering it ends no connection. */
  limit: number | undefined = undefined
  /** What the runtime has under it goes before `limit`; undefined: nothing does. */
  limitKey: string | undefined = undefined
  /** All in this process, those of listeners that do not count included. */
  readonly connections: Gauge
  readonly #runtime: Runtime
  readonly #room: ConnectionRoom

  /** `leases` undefined: this process is the whole gateway. */
  constructor(runtime: Runtime = noRuntime, leases?: Leases, connections: Gauge = { v: 0 }) {
    this.#runtime = runtime
    this.connections = connections
    this.#room = new ConnectionRoom('downstream_connections', leases)
  }

  /** In this process. */
  get taken(): number {
    return this.#room.taken
  }

  /** As `ConnectionRoom.ask`. */
  ask(): Promise<void> | undefined {
    return this.#room.ask(this.#current)
  }

  /** As `ConnectionRoom.ready`. */
  get ready(): boolean {
    return this.#room.ready
  }

  /** False where there is no room; otherwise `leave` must follow. */
  enter(): boolean {
    return this.#room.enter(this.#current)
  }

  leave(): void {
    this.#room.leave()
  }

  get #current(): number | undefined {
    return liveLimit(this.limit, this.limitKey, this.#runtime)
  }
}

/** How many connections of a listener come from each address. */
export class SourceCounts {
  readonly #counts = new Map<string, number>()

  of(address: string): number {
    return this.#counts.get(address) ?? 0
  }

  add(address: string): void {
    this.#counts.set(address, this.of(address) + 1)
  }

  remove(address: string): void {
    const left = this.of(address) - 1
    if (left > 0) this.#counts.set(address, left)
    else this.#counts.delete(address)
  }
}
