import type { ConfigChange, ResourceChange, ResourceKind, SecretConfig } from '../../lib/config/change.ts'
import type { ListenerConfig } from '../../lib/config/listener.ts'
import type { JsonObject } from '../../lib/core/errors.ts'
import type { RouteTableConfig } from '../../lib/router/config.ts'
import type { AssignmentConfig, ClusterConfig } from '../../lib/upstream/config.ts'

interface Published {
  readonly clusters: ClusterConfig
  readonly assignments: AssignmentConfig
  readonly secrets: SecretConfig
  readonly routeTables: RouteTableConfig
  readonly listeners: ListenerConfig
}

/** What of one kind goes out with the next step. */
class Part<T> {
  readonly set = new Map<string, T>()
  readonly remove = new Set<string>()

  get empty(): boolean {
    return this.set.size === 0 && this.remove.size === 0
  }

  /** Empties it. */
  take(): ResourceChange<T> | undefined {
    if (this.empty) return undefined
    const change = { set: [...this.set.values()], remove: [...this.remove] }
    this.set.clear()
    this.remove.clear()
    return change
  }
}

/** Gathers what became ready in one turn of the loop. */
export class Publication {
  readonly #clusters = new Part<ClusterConfig>()
  readonly #assignments = new Part<AssignmentConfig>()
  readonly #secrets = new Part<SecretConfig>()
  readonly #routeTables = new Part<RouteTableConfig>()
  readonly #listeners = new Part<ListenerConfig>()
  #runtime: JsonObject | undefined = undefined
  #maxConnections: number | undefined = undefined

  /** It is new, or replaces the one of that name. */
  set<K extends ResourceKind>(kind: K, config: Published[K]): void {
    const part = this.#part(kind)
    part.remove.delete(config.name)
    part.set.set(config.name, config)
  }

  remove(kind: ResourceKind, name: string): void {
    const part = this.#part(kind)
    part.set.delete(name)
    part.remove.add(name)
  }

  runtime(values: JsonObject): void {
    this.#runtime = values
  }

  /** 0: no limit. */
  maxConnections(limit: number): void {
    this.#maxConnections = limit
  }

  /** All of it, once; undefined where there is nothing. */
  take(): ConfigChange | undefined {
    const change = {
      clusters: this.#clusters.take(),
      assignments: this.#assignments.take(),
      secrets: this.#secrets.take(),
      routeTables: this.#routeTables.take(),
      listeners: this.#listeners.take(),
      runtime: this.#runtime,
      maxConnections: this.#maxConnections,
    }
    this.#runtime = undefined
    this.#maxConnections = undefined
    const entries = Object.entries(change).filter(([, part]) => part !== undefined)
    return entries.length === 0 ? undefined : (Object.fromEntries(entries) as ConfigChange)
  }

  #part<K extends ResourceKind>(kind: K): Part<Published[K]> {
    const parts: { readonly [P in ResourceKind]: unknown } = {
      clusters: this.#clusters,
      assignments: this.#assignments,
      secrets: this.#secrets,
      routeTables: this.#routeTables,
      listeners: this.#listeners,
    }
    return parts[kind] as Part<Published[K]>
  }
}
