import type { LiveFiles } from '../../lib/config/live.ts'
import type { Clock } from '../../lib/core/clock.ts'
import type { Log, Metrics } from '../../lib/core/metrics.ts'
import type { ConfigSourceConfig } from '../config.ts'
import type { LoadedBootstrap } from '../envoy/load.ts'
import type { DiscoverySource } from '../source.ts'
import type { ResourceCheck } from './verdicts.ts'

/** What `DynamicGateway` is made of. */
export interface DynamicOptions {
  readonly loaded: LoadedBootstrap
  /** Called once for each source that is needed, again after it was disposed. */
  readonly open: (source: ConfigSourceConfig) => DiscoverySource
  /** Judges a resource that was translated, as whoever runs it will. */
  readonly check: ResourceCheck
  readonly clock: Clock
  readonly log: Log
  readonly metrics: Metrics
  /** Reads the bootstrap anew, with the files that it names. @throws ConfigRefused. Undefined: that is not done. */
  readonly again?: () => LoadedBootstrap
  /** Files that the bootstrap was made of when it was read last. */
  readonly bootstrapFiles?: () => LiveFiles
  /** What tells two states of a file apart; undefined: files that delivered resources name are read once. */
  readonly stampOf?: (path: string) => string
  /** Where accepted resources are kept for the next start; undefined: nowhere. */
  readonly stateDir?: string
}
