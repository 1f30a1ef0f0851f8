import type { JsonObject } from '../lib/core/errors.ts'

/** Where gRPC calls go (Envoy's GrpcService). */
export interface GrpcTargetConfig {
  /** A cluster of the bootstrap, or the one that stands for a `google_grpc` target. */
  readonly cluster: string
  /** `:authority`; '' where it is the cluster's name. */
  readonly authority: string
  /** Of unary calls, ms; a stream never has a deadline. */
  readonly timeoutMs?: number
  /** Flat, as in `Headers.raw`. */
  readonly initialMetadata: readonly string[]
  /** Undefined: no limit. */
  readonly maxReceiveBytes?: number
  /** Undefined: 500 ms doubling up to 30 s. */
  readonly backoff?: { readonly baseMs: number; readonly maxMs: number }
  /** Metadata whose values are in files, which are read anew for each call; undefined: none. */
  readonly fileMetadata?: readonly FileMetadataConfig[]
  /** Calls say who calls by a token that this signs. */
  readonly serviceAccount?: ServiceAccountConfig
}

/** An account of Google's, with its key. */
export interface ServiceAccountConfig {
  readonly email: string
  readonly keyId: string
  /** PEM, of RSA. */
  readonly privateKey: string
  /** Of tokens, s. */
  readonly lifetimeS: number
}

/** A header of calls whose value is what a file holds, white space around it aside. */
export interface FileMetadataConfig {
  /** Lower case. */
  readonly header: string
  /** Before the content, for example `Bearer `. */
  readonly prefix: string
  readonly path: string
}

/** How a management server is spoken to (Envoy's ApiConfigSource). */
export interface ApiSourceConfig {
  readonly kind: 'api'
  readonly api: 'grpc' | 'delta-grpc' | 'rest'
  /** One stream for all types, as ADS has (`AGGREGATED_GRPC`); otherwise one for each. */
  readonly aggregated?: true
  /** Tried in turn, the first one first; of `rest` the clusters alone count. Never empty. */
  readonly targets: readonly GrpcTargetConfig[]
  /** Of `rest`. */
  readonly refreshMs: number
  readonly requestTimeoutMs: number
  readonly nodeOnFirstMessageOnly: boolean
  /** After each update of clusters there must be so many, or it is refused; undefined: as many as it likes. */
  readonly minimumClusters?: number
  /** Requests: so many at once, then so many a second; undefined: no limit. */
  readonly rateLimit?: { readonly maxTokens: number; readonly fillRate: number }
}

export interface FileSourceConfig {
  readonly kind: 'file'
  readonly path: string
  /** Moves in there count as well; undefined: moves onto `path` alone. */
  readonly watchedDirectory?: string
}

/** Envoy's ConfigSource, resolved; `self` has become the source of the resource that says so. */
export interface ConfigSourceConfig {
  /** Short, stable, the same for sources that are the same: part of the names of what comes from it. '' for ADS. */
  readonly key: string
  readonly source: { readonly kind: 'ads' } | ApiSourceConfig | FileSourceConfig
  /** How long whoever needs a resource waits for its first answer; 0: for ever. */
  readonly initialFetchTimeoutMs: number
}

/** One layer of runtime values; later ones win. */
export type RuntimeLayerConfig =
  | { readonly kind: 'static'; readonly name: string; readonly values: JsonObject }
  | { readonly kind: 'rtds'; readonly name: string; readonly resource: string; readonly source: ConfigSourceConfig }
  | {
      readonly kind: 'disk'
      readonly name: string
      /** Its target is looked at, the link is watched. */
      readonly symlinkRoot: string
      readonly subdirectory: string
      /** A directory of the service cluster's name in there comes first. */
      readonly appendServiceCluster: boolean
    }
  | { readonly kind: 'admin'; readonly name: string }

/** What of a bootstrap is delivered by somebody else. */
export interface DynamicConfig {
  /** Of everything whose source is ADS. */
  readonly ads?: ApiSourceConfig
  readonly lds?: ConfigSourceConfig
  /** Listeners by name, as an `xdstp:` collection; undefined: all that the server has. */
  readonly ldsLocator?: string
  readonly cds?: ConfigSourceConfig
  readonly cdsLocator?: string
  readonly runtime: readonly RuntimeLayerConfig[]
  /** Where load reports go (`cluster_manager.load_stats_config`). */
  readonly loadStats?: GrpcTargetConfig
  /** For `/config_dump` and requests: the node as its author wrote it, Envoy's field names. */
  readonly node: JsonObject
}
