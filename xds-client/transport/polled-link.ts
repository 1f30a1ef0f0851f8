import type { SourceStatus } from '../../lib/config/status.ts'

/** How a source that is read again and again stands, and who is told when that changes. */
export class PolledLink {
  readonly #name: string
  readonly #listeners = new Set<(connected: boolean) => void>()
  #connected: boolean | undefined = undefined
  /** Wall clock, when something was read last. */
  lastUpdateMs: number | undefined = undefined
  /** Why the last attempt failed, or what of its answer was refused. */
  lastError: string | undefined = undefined

  constructor(name: string) {
    this.#name = name
  }

  /** The last attempt found something, or did not. */
  set(connected: boolean): void {
    if (this.#connected === connected) return
    this.#connected = connected
    for (const listener of [...this.#listeners]) listener(connected)
  }

  status(): SourceStatus {
    const { lastUpdateMs, lastError } = this
    return { name: this.#name, connected: this.#connected === true, lastUpdateMs, lastError }
  }

  /** Calls `listener` with each change, until the returned function is called. */
  onChange(listener: (connected: boolean) => void): () => void {
    this.#listeners.add(listener)
    return () => void this.#listeners.delete(listener)
  }

  /** Nobody is told of anything any more. */
  close(): void {
    this.#listeners.clear()
  }
}
