import type { ConfigSourceConfig } from '../config.ts'
import type { SecretValue } from './translated.ts'

export type ReferenceKind =
  /** A ClusterLoadAssignment. */
  | 'assignment'
  /** A RouteConfiguration. */
  | 'routes'
  /** All ScopedRouteConfigurations of a source. */
  | 'scopes'
  /** A Secret. */
  | 'secret'
  /** A TypedExtensionConfig. */
  | 'extension'
  /** The VirtualHosts of a route table, on demand: the name is that of the table. */
  | 'virtual-hosts'
  /** The endpoints of a locality: the name is that of the collection. */
  | 'endpoints'
  /** A cluster that a route or a filter names. */
  | 'cluster'
  /** Clusters that a filter asks for on demand: the name is '' and `key` that of the source, or the name is a collection's locator. */
  | 'demanded-clusters'

/** One thing that a resource needs and that comes from elsewhere. */
export interface Reference {
  readonly kind: ReferenceKind
  /** As the source calls it. */
  readonly name: string
  /** What it is called in the translated configuration: unique per kind over all sources. */
  readonly key: string
  /** Undefined: of the static resources (and bound already), or (clusters) of whatever source. */
  readonly source: ConfigSourceConfig | undefined
  readonly extension?: ExtensionReference
  /** Of `secret`: what it must hold. */
  readonly secret?: SecretValue['kind']
  /** Of `scopes`: where the route tables that they name come from. */
  readonly routesSource?: ConfigSourceConfig
}

/** What is particular about filters that are delivered by name. */
export interface ExtensionReference {
  readonly place: 'http' | 'network' | 'listener'
  /** Types that are taken, without `type.googleapis.com/`. */
  readonly typeUrls: readonly string[]
  /** It stands last in its chain, so it must be one that ends it, and no other may be. */
  readonly last: boolean
  /** Stands in as long as there is no other: what the filter's `parse` made of `default_config`. */
  readonly fallback: { readonly typeUrl: string; readonly config: unknown } | undefined
  /** The fallback is used at once, instead of waiting for the first answer. */
  readonly applyFallbackWithoutWarming: boolean
}

/** Collects what a resource refers to, while it is translated. One for each resource. */
export interface References {
  add(reference: Reference): void
}

/** The key of a resource of a source: its name where the source is ADS or static, which must not be renamed for statistics. */
export function referenceKey(name: string, source: ConfigSourceConfig | undefined): string {
  return source === undefined || source.key === '' ? name : `${source.key}/${name}`
}

/** Each thing once, in the order of its first mention. */
export class ReferenceList implements References {
  readonly #list = new Map<string, Reference>()

  add(reference: Reference): void {
    const { kind, key, extension, secret = '' } = reference
    // A filter may be referred to from several places, each with its own demands.
    const id = extension === undefined ? `${kind} ${secret} ${key}` : `${kind} ${key} ${this.#list.size}`
    if (!this.#list.has(id)) this.#list.set(id, reference)
  }

  get list(): readonly Reference[] {
    return this.#list.size === 0 ? NONE : [...this.#list.values()]
  }
}

const NONE: readonly Reference[] = Object.freeze([])
