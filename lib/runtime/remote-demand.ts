import type { DemandWish } from '../config/live.ts'
import type { Cancel, Clock } from '../core/clock.ts'
import type { Demand } from '../core/demand.ts'

/** How long a virtual host is waited for. */
const VIRTUAL_HOST_MS = 15_000
/** On top, for the way there and back: control's own time limit comes first. */
const GRACE_MS = 1_000

/** A wish under way. */
interface Asked {
  readonly id: number
  readonly key: string
  readonly wish: DemandWish
  readonly timeoutMs: number
  readonly found: Promise<boolean>
  readonly settle: (found: boolean) => void
  readonly cancel: Cancel
}

export interface RemoteDemandOptions {
  readonly clock: Clock
  ask(id: number, wish: DemandWish, timeoutMs: number): void
  /** Resolves when all that control has sent is in force. */
  idle(): Promise<void>
}

/** Asks control, on behalf of the filters of a worker. What several ask for at the same time is asked for once. */
export class RemoteDemand implements Demand {
  readonly #options: RemoteDemandOptions
  readonly #byKey = new Map<string, Asked>()
  readonly #byId = new Map<number, Asked>()
  #lastId = 0

  constructor(options: RemoteDemandOptions) {
    this.#options = options
  }

  virtualHost(table: string, host: string): Promise<boolean> {
    return this.#ask({ kind: 'virtual-host', table, host }, VIRTUAL_HOST_MS)
  }

  cluster(name: string, source: string, timeoutMs: number): Promise<boolean> {
    return this.#ask({ kind: 'cluster', name, source }, timeoutMs)
  }

  /** Control has answered. What it found may still be on its way into force. */
  answered(id: number, found: boolean): void {
    const asked = this.#byId.get(id)
    if (asked === undefined) return
    if (!found) this.#settle(asked, false)
    else void this.#options.idle().then(() => this.#settle(asked, true))
  }

  /** Another control process: nobody there knows what was asked. */
  askAgain(): void {
    for (const { id, wish, timeoutMs } of this.#byId.values()) this.#options.ask(id, wish, timeoutMs)
  }

  #ask(wish: DemandWish, timeoutMs: number): Promise<boolean> {
    const key = JSON.stringify(wish)
    const known = this.#byKey.get(key)
    if (known !== undefined) return known.found
    const id = ++this.#lastId
    const { promise: found, resolve: settle } = Promise.withResolvers<boolean>()
    const cancel = this.#options.clock.schedule(timeoutMs + GRACE_MS, () => this.#settle(asked, false))
    const asked: Asked = { id, key, wish, timeoutMs, found, settle, cancel }
    this.#byKey.set(key, asked)
    this.#byId.set(id, asked)
    this.#options.ask(id, wish, timeoutMs)
    return found
  }

  #settle(asked: Asked, found: boolean): void {
    if (!this.#byId.delete(asked.id)) return
    this.#byKey.delete(asked.key)
    asked.cancel()
    asked.settle(found)
  }
}
