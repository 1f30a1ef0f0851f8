import type { ConfigError, JsonObject } from '../core/errors.ts'
import type { ConfigChange, ResourceName } from './change.ts'
import type { DynamicStatus } from './status.ts'

/** Something that a filter asks for on demand, as it crosses from workers. */
export type DemandWish =
  | { readonly kind: 'virtual-host'; readonly table: string; readonly host: string }
  | { readonly kind: 'cluster'; readonly name: string; readonly source: string }

/** What a configuration that keeps changing tells its gateway. */
export interface LiveConfigEvents {
  /** A step from what was published before; in order. */
  publish(change: ConfigChange): void
}

/** Files by the stamps that they had when they were read, and directories that announce their changes. */
export interface LiveFiles {
  readonly files: ReadonlyMap<string, string>
  readonly directories: ReadonlySet<string>
}

/** A configuration that control planes keep up to date: what `xds-client` makes of a bootstrap. */
export interface LiveConfig extends Disposable {
  /** Called once. Static resources that need nothing from elsewhere are published before it returns. */
  start(events: LiveConfigEvents): void
  /** Settles when every first answer has come, or has been waited for long enough. */
  readonly initialised: Promise<void>
  /**
   * Settles when the sources of listeners and clusters have really answered, and all that those need has come or been waited
   * for: what is not published by then is no more. Until then a gateway that served before goes on serving what it had.
   * Undefined: as `initialised`.
   */
  readonly confirmed?: Promise<void>
  /** As `Demand`. */
  demand(wish: DemandWish, timeoutMs: number): Promise<boolean>
  /** A worker could not use a resource that was published: it stays (or is) what it was before there. */
  refused(resource: ResourceName, errors: readonly ConfigError[]): void
  /** Asked for the files that resources were made of, after every publication and reload; undefined: none are watched. */
  files?(): LiveFiles
  /**
   * Some of these files have changed: what was made of them is made anew, and published where it is another. What is wrong
   * with it now stays as it was, and is told. Undefined: a change of files starts the live configuration anew.
   */
  reload?(): readonly ConfigError[]
  status(): DynamicStatus
  /** Sets keys of the admin layer of the runtime; '' takes a key away. Undefined where there is such a layer, otherwise why not. */
  modifyRuntime(values: JsonObject): string | undefined
}
