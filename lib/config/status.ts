import type { ConfigError } from '../core/errors.ts'

/** Envoy's `ClientResourceStatus`. */
export type ClientStatus = 'requested' | 'does-not-exist' | 'acked' | 'nacked' | 'timeout'

/** A resource in one of its versions, as its server sent it or its author wrote it. */
export interface ResourceVersion {
  readonly version: string
  /** Content of the Any; of static resources made anew when it is asked for. */
  readonly bytes: Uint8Array
  /** Epoch ms. */
  readonly updatedMs: number
}

/** What became of the newest version of a resource that could not be used. */
export interface ResourceFailure {
  readonly version: string
  readonly errors: readonly ConfigError[]
  /** Epoch ms. */
  readonly attemptedMs: number
  readonly bytes: Uint8Array | undefined
}

/** One resource that somebody asked for or delivered. */
export interface ResourceStatus {
  /** Without `type.googleapis.com/`. */
  readonly typeName: string
  readonly name: string
  /** Name of the source (`SourceStatus.name`); '' for static ones. */
  readonly source: string
  readonly client: ClientStatus
  /** What serves. */
  readonly active: ResourceVersion | undefined
  /** What waits for something else before it serves. */
  readonly warming: ResourceVersion | undefined
  /** A listener's version before the active one, while its connections end; only where that is known. */
  readonly draining?: ResourceVersion
  readonly failure: ResourceFailure | undefined
  /** Paths of fields of its newest good version that are set and have no effect. */
  readonly ignored?: readonly string[]
  /** Read from the state directory, and not confirmed since. */
  readonly stale: boolean
}

/** How a source does. */
export interface SourceStatus {
  /** As it is configured: `ads`, a cluster, a path. */
  readonly name: string
  readonly connected: boolean
  /** Epoch ms; undefined: never. */
  readonly lastUpdateMs: number | undefined
  readonly lastError: string | undefined
}

/** Something that is not finished, and what it waits for (`/init_dump`). */
export interface Waiting {
  /** `listener web`, `cluster api`. */
  readonly target: string
  /** `Secret server-cert of ads`. */
  readonly for: readonly string[]
}

/** One runtime layer with its values by dotted key. */
export interface RuntimeLayerStatus {
  readonly name: string
  readonly values: ReadonlyMap<string, unknown>
}

/** Everything that is delivered by discovery services, for admin, CSDS and metrics. Costs a walk over all resources. */
export interface DynamicStatus {
  readonly resources: readonly ResourceStatus[]
  readonly sources: readonly SourceStatus[]
  readonly waiting: readonly Waiting[]
  readonly layers: readonly RuntimeLayerStatus[]
  /** Of the last response that was taken, by type name; undefined: the newest resource of the type says it. */
  readonly versions?: ReadonlyMap<string, string>
  /** Some resources are from the state directory, and not confirmed since. */
  readonly stale: boolean
}
