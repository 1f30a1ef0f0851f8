import { readFileSync } from 'node:fs'
import type { SourceStatus } from '../../lib/config/status.ts'
import { ConfigRefused } from '../../lib/core/errors.ts'
import type { ProtoRegistry } from '../../lib/proto/registry.ts'
import type { FileSourceConfig } from '../config.ts'
import type { DiscoveryResponse } from '../protocol/messages.ts'
import type { DiscoverySource, DiscoveryWatcher, SubscribeOptions, Subscription } from '../source.ts'
import type { SourceParts } from './grpc-source.ts'
import { MoveWatch } from './move-watch.ts'
import { PolledLink } from './polled-link.ts'
import { PolledType } from './polled-type.ts'
import { readResponseFile } from './read-document.ts'

export interface FileSourceParts extends SourceParts {
  readonly config: FileSourceConfig
  readonly registry: ProtoRegistry
}

/**
 * Resources from a file that holds a `DiscoveryResponse` (Envoy's `path_config_source`). Read when something is first wanted,
 * and again when another file has been moved into its place. What cannot be read, or is refused, changes nothing.
 */
export class FileSource implements DiscoverySource {
  readonly #parts: FileSourceParts
  readonly #types = new Map<string, PolledType>()
  readonly #link: PolledLink
  #watch: MoveWatch | undefined = undefined
  #disposed = false

  constructor(parts: FileSourceParts) {
    this.#parts = parts
    this.#link = new PolledLink(parts.config.path)
  }

  subscribe(options: SubscribeOptions, watcher: DiscoveryWatcher): Subscription {
    const { typeName } = options
    let type = this.#types.get(typeName)
    if (type === undefined) {
      const name = this.#parts.config.path
      type = new PolledType({ ...this.#parts, name, typeName, refresh: (polled) => this.#refresh([polled]) })
      this.#types.set(typeName, type)
    }
    return type.interest.subscribe(options, watcher)
  }

  /** Reads the file, and hands what it says to these. */
  #refresh(types: readonly PolledType[]): void {
    const wanting = types.filter(({ interest }) => !interest.empty)
    if (wanting.length === 0 || this.#disposed) return
    const { config, clock, registry, log } = this.#parts
    this.#watch ??= new MoveWatch({ ...config, watchedDirectory: config.watchedDirectory, clock, moved: this.#moved })
    let response: DiscoveryResponse
    try {
      response = readResponseFile(registry, readFileSync(config.path), config.path)
    } catch (error) {
      const why = error instanceof ConfigRefused || error instanceof Error ? error.message : String(error)
      log.warn('a file of resources cannot be used', { path: config.path, why })
      this.#link.lastError = why
      for (const { interest } of wanting) interest.failed()
      this.#link.set(false)
      return
    }
    this.#link.lastUpdateMs = clock.wall()
    this.#link.lastError = undefined
    this.#link.set(true)
    for (const type of wanting) {
      const reason = type.take(response)
      if (reason !== '') this.#link.lastError = reason
    }
  }

  readonly #moved = (): void => this.#refresh([...this.#types.values()])

  status(): SourceStatus {
    return this.#link.status()
  }

  onConnection(listener: (connected: boolean) => void): () => void {
    return this.#link.onChange(listener)
  }

  [Symbol.dispose](): void {
    this.#disposed = true
    this.#watch?.close()
    this.#link.close()
    for (const { interest } of this.#types.values()) interest.dispose()
    this.#types.clear()
  }
}
