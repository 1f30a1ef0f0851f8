import type { FieldReader } from './field-reader.ts'

/**
 * What a filter's `parse` may ask of the dialect that its configuration is written in, where that names what a control
 * plane delivers. Answers undefined where it cannot be had, with the mistake recorded.
 */
export interface ConfigSources {
  /** A `ConfigSource` of clusters on demand, and the locator of their collection ('': by name): the source for `Demand.cluster`. */
  demandedClusters(source: FieldReader | undefined, locator: string): string | undefined
  /** An `SdsSecretConfig` that names a generic secret: what to call it in `Scope.secret`. */
  secret(config: FieldReader | undefined): string | undefined
  /** The cluster that this proxy is an endpoint of; undefined: it was not told. */
  readonly localCluster: string | undefined
  /** The resource that it is part of, where `FieldReader.path` alone could be that of another: route table and virtual host. */
  readonly within: string
}
