import type { SourceStatus } from '../../lib/config/status.ts'
import type { ConfigSourceConfig } from '../config.ts'
import type { DiscoverySource } from '../source.ts'

/** A source in use. */
interface OpenSource {
  readonly source: DiscoverySource
  readonly stopListening: () => void
  users: number
  /** Undefined: it has neither answered nor failed yet. */
  connected: boolean | undefined
}

/** Hears how connections to sources come and go. */
export interface ConnectionListener {
  connection(key: string, connected: boolean): void
}

/** The sources that somebody uses, one for all who name the same. */
export class Sources {
  readonly #open: (config: ConfigSourceConfig) => DiscoverySource
  readonly #listener: ConnectionListener
  readonly #sources = new Map<string, OpenSource>()

  constructor(open: (config: ConfigSourceConfig) => DiscoverySource, listener: ConnectionListener) {
    this.#open = open
    this.#listener = listener
  }

  /** Every `use` is followed by a `release`; the last one closes the source. */
  use(config: ConfigSourceConfig): void {
    const known = this.#sources.get(config.key)
    if (known !== undefined) {
      known.users++
      return
    }
    const source = this.#open(config)
    const stopListening = source.onConnection((connected) => this.#onConnection(config.key, connected))
    this.#sources.set(config.key, { source, stopListening, users: 1, connected: undefined })
  }

  get(key: string): DiscoverySource | undefined {
    return this.#sources.get(key)?.source
  }

  release(key: string): void {
    const open = this.#sources.get(key)
    if (open === undefined || --open.users > 0) return
    this.#sources.delete(key)
    open.stopListening()
    open.source[Symbol.dispose]()
  }

  /** Undefined: it has neither answered nor failed yet. */
  connected(key: string): boolean | undefined {
    return this.#sources.get(key)?.connected
  }

  status(): SourceStatus[] {
    return [...this.#sources.values()].map(({ source }) => source.status())
  }

  /** As its status calls it; its key where it is not open. */
  nameOf(key: string): string {
    return this.#sources.get(key)?.source.status().name ?? (key === '' ? 'ads' : key)
  }

  dispose(): void {
    for (const { source, stopListening } of this.#sources.values()) {
      stopListening()
      source[Symbol.dispose]()
    }
    this.#sources.clear()
  }

  #onConnection(key: string, connected: boolean): void {
    const open = this.#sources.get(key)
    if (open !== undefined) open.connected = connected
    this.#listener.connection(key, connected)
  }
}
