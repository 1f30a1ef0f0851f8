import type { ResourceFailure } from '../../lib/config/status.ts'
import type { Cancel } from '../../lib/core/clock.ts'
import type { ConfigSourceConfig } from '../config.ts'
import type { Reference } from '../envoy/references.ts'
import type { TranslatedResource } from '../envoy/translated.ts'
import type { KindFacts } from './kinds.ts'

const NO_NAMES: ReadonlySet<string> = Object.freeze(new Set<string>())
const NO_REFERENCES: readonly Reference[] = Object.freeze([])
const NO_TEXTS: readonly string[] = Object.freeze([])

/** One accepted version of a resource. */
export class Version {
  /** As the server calls it. */
  version: string
  /** Its own copy. Of static resources empty. */
  bytes: Uint8Array
  /** Epoch ms. */
  updatedMs: number
  /** What translation made of it. */
  config: unknown
  /** What it needs, clusters apart. */
  readonly references: readonly Reference[]
  /** Clusters that it names. */
  readonly clusters: ReadonlySet<string>
  readonly ignored: readonly string[]
  readonly files: readonly string[]
  readonly directories: readonly string[]

  constructor(version: string, bytes: Uint8Array, updatedMs: number, translated: Translation) {
    this.version = version
    this.bytes = bytes
    this.updatedMs = updatedMs
    this.config = translated.config
    const { references } = translated
    const names = references.filter(({ kind }) => kind === 'cluster').map(({ name }) => name)
    this.clusters = names.length === 0 ? NO_NAMES : new Set(names)
    this.references =
      names.length === references.length ? NO_REFERENCES : references.filter(({ kind }) => kind !== 'cluster')
    this.ignored = translated.ignored.length === 0 ? NO_TEXTS : translated.ignored
    this.files = translated.files.length === 0 ? NO_TEXTS : translated.files
    this.directories = translated.directories.length === 0 ? NO_TEXTS : translated.directories
  }
}

/** What of a translation a version keeps. */
export type Translation = Pick<TranslatedResource, 'config' | 'references' | 'ignored' | 'files' | 'directories'>

const NO_NEEDS: ReadonlySet<Resource> = Object.freeze(new Set<Resource>())

/** Why somebody who waits for a resource need not wait any longer, although it is not there. */
export type Absence = 'timeout' | 'does-not-exist'

/**
 * One resource that somebody delivers or needs: a node of the graph.
 *
 * ```
 *   asked for ──> answered: a version ──> warming: latest ≠ active ──> in force: latest = active ──┐
 *        └──> absent, or refused: whoever waits goes on without              ^── a newer version ──┘
 * ```
 */
export class Resource {
  readonly facts: KindFacts
  /** As its source calls it. */
  readonly name: string
  /** Unique within the kind; what the translated configuration calls it. */
  readonly key: string
  /** Undefined: static. */
  readonly source: ConfigSourceConfig | undefined
  /** The newest that is accepted. */
  latest: Version | undefined = undefined
  /** The one in force: published, or part of what is. */
  active: Version | undefined = undefined
  failure: ResourceFailure | undefined = undefined
  absent: Absence | undefined = undefined
  /** From the state directory, and not confirmed since. */
  stale = false
  /** Stays although nobody needs it: static, delivered by a wildcard, or asked for on demand. */
  rooted = false
  /** Its source has taken it away; it goes once nothing that is published needs it. */
  removed = false
  /** It has left the graph. */
  gone = false
  /** Of collections: the first answer has come. */
  answered = false
  /** Of collections, by the source's name. */
  members: Map<string, Resource> | undefined = undefined
  /** Of scopes: where the route tables that they name come from. */
  routesSource: ConfigSourceConfig | undefined = undefined
  /** Who needs it. */
  readonly dependents = new Set<Resource>()
  /** What its latest and its active version need. */
  needs: ReadonlySet<Resource> = NO_NEEDS
  /** Clusters that its latest and its active version name. */
  named: ReadonlySet<string> = NO_NAMES
  /** What has been published of it, bound; undefined: nothing. */
  published: unknown = undefined
  /** No worker can use the active version: the one before serves. */
  refused = false
  /** Of listeners: the version before, for when no worker can use the active one. */
  previous: Version | undefined = undefined
  /** It waits in the queue of its level. */
  queued = false
  /** Something that is part of its published form has changed. */
  rebind = false
  /** Clusters that it waits for. */
  missing: Set<string> | undefined = undefined
  /** The version that `missing` is of. */
  missingOf: Version | undefined = undefined
  /** Ends the wait for clusters, or (of clusters) for those that still name it. */
  timer: Cancel | undefined = undefined
  /** It stands for a `google_grpc` target of a delivered resource: no bootstrap has it, and none takes it away. */
  channel = false
  /** Of scopes: those that came first have been waited for. */
  #warm = false

  constructor(facts: KindFacts, name: string, key: string, source: ConfigSourceConfig | undefined) {
    this.facts = facts
    this.name = name
    this.key = key
    this.source = source
  }

  /** Somebody who waits for it need not wait any longer. */
  get settled(): boolean {
    if (this.facts.members !== undefined) return this.answered && this.#membersSettled()
    if (this.active !== undefined) return true
    return this.latest === undefined && (this.absent !== undefined || this.failure !== undefined || this.removed)
  }

  /** It is accepted, and not in force yet. */
  get warming(): boolean {
    return this.latest !== undefined && this.latest !== this.active
  }

  /** Whoever goes over to scopes must find their route tables there. Those that come later hold nobody up. */
  #membersSettled(): boolean {
    if (this.facts.kind !== 'scopes' || this.#warm) return true
    for (const member of this.members?.values() ?? []) if (!member.settled) return false
    this.#warm = true
    return true
  }

  stopTimer(): void {
    this.timer?.()
    this.timer = undefined
  }
}
