import type { DiscoveryWatcher, ReceivedResource, Rejection, SubscribeOptions, Subscription } from '../source.ts'
import { Absence } from './absence.ts'
import type { Batch, TypeInterest } from './interest.ts'
import { protocolRejection } from './rejection.ts'
import { canonicalName, covers } from './resource-name.ts'
import { type UpdateCells, UpdateStats, versionNumber } from './update-stats.ts'

const STAR = '*'

/** The interest of one watcher in resources of one type. */
export class TypeSubscription implements Subscription {
  readonly #interest: TypeInterest
  readonly #watcher: DiscoveryWatcher
  readonly #stats: UpdateStats
  readonly #absence: Absence
  #names: ReadonlySet<string> = new Set()
  #paused = false
  #closed = false

  constructor(interest: TypeInterest, options: SubscribeOptions, watcher: DiscoveryWatcher) {
    const { clock, metrics, suspended } = interest
    this.#interest = interest
    this.#watcher = watcher
    this.#stats = new UpdateStats(metrics, options.statPrefix)
    this.#absence = new Absence(clock, options.initialFetchTimeoutMs, suspended, (names) => this.#timedOut(names))
  }

  // --- from the watcher ---------------------------------------------------------------------------------------------

  want(names: ReadonlySet<string>): void {
    if (this.#closed) return
    const before = this.#names
    const after = new Set<string>()
    for (const name of names) after.add(canonicalName(name))
    this.#names = after
    let changed = false
    // First what is new: what a wildcard and a name stand for both must not be forgotten between the two.
    for (const name of after) {
      if (before.has(name)) continue
      changed = true
      if (this.#interest.add(name)) this.#absence.ask(name)
      const cells = this.#stats.of(name)
      if (cells !== undefined) cells.attempt.v++
    }
    for (const name of before) {
      if (after.has(name)) continue
      changed = true
      this.#absence.forget(name)
      this.#stats.forget(name)
      this.#interest.drop(name)
    }
    if (changed && this.#stats.whole !== undefined) this.#stats.whole.attempt.v++
  }

  pause(): void {
    if (this.#paused || this.#closed) return
    this.#paused = true
    this.#interest.pause()
  }

  resume(): void {
    if (!this.#paused) return
    this.#paused = false
    this.#interest.resume()
  }

  close(): void {
    if (this.#closed) return
    this.want(NOTHING)
    this.resume()
    this.#closed = true
    this.#absence.close()
    this.#interest.close(this)
  }

  // --- from the source ----------------------------------------------------------------------------------------------

  link(up: boolean): void {
    if (up) this.#absence.resume()
    else this.#absence.suspend()
  }

  failed(): void {
    this.#each(this.#names, (cells) => {
      cells.failure.v++
      cells.attempt.v++
    })
  }

  /** `removed`: were there; `absent`: were not. Answers what the watcher refuses. */
  deliver(batch: Batch, removed: readonly string[], absent: readonly string[]): readonly Rejection[] {
    if (this.#closed) return NONE
    const { version } = batch
    const resources = batch.resources.every(this.#wants) ? batch.resources : batch.resources.filter(this.#wants)
    const gone = this.#names.has(STAR) ? removed : removed.filter((name) => covers(this.#names, name, NO_ALIASES))
    for (const { name, aliases } of resources) {
      this.#absence.forget(name)
      for (const alias of aliases) this.#absence.forget(alias)
    }
    for (const name of gone) this.#absence.forget(name)
    const first = this.#names.has(STAR)
    if (first) this.#absence.forget(STAR)
    let rejections: readonly Rejection[] = NONE
    if (resources.length > 0 || gone.length > 0 || first) {
      const startMs = this.#interest.clock.now()
      rejections = this.#tell({ version, resources, removed: gone })
      this.#count(batch, resources, { rejections, tookMs: this.#interest.clock.now() - startMs })
    }
    this.#tellAbsent(absent)
    return rejections
  }

  readonly #wants = ({ name, aliases }: ReceivedResource): boolean => covers(this.#names, name, aliases)

  #tell(update: Parameters<DiscoveryWatcher['onUpdate']>[0]): readonly Rejection[] {
    try {
      return this.#watcher.onUpdate(update)
    } catch (error) {
      const why = error instanceof Error ? (error.stack ?? error.message) : String(error)
      this.#interest.log.error('an update of the control plane was not taken over', {
        type: this.#interest.typeName,
        error: why,
      })
      const message = `could not be taken over: ${error instanceof Error ? error.message : String(error)}`
      if (update.resources.length === 0) return [protocolRejection('', message)]
      return update.resources.map(({ name }) => protocolRejection(name, message))
    }
  }

  #tellAbsent(names: readonly string[]): void {
    if (this.#closed || names.length === 0) return
    const told = names.filter((name) => this.#names.has(name) && this.#absence.declare(name))
    if (told.length > 0) this.#watcher.onAbsent(told, 'does-not-exist')
  }

  #timedOut(names: readonly string[]): void {
    this.#each(names, (cells) => cells.initFetchTimeout.v++)
    this.#watcher.onAbsent(names, 'timeout')
  }

  // --- statistics ---------------------------------------------------------------------------------------------------

  #each(names: Iterable<string>, act: (cells: UpdateCells) => void): void {
    const { whole, perName } = this.#stats
    if (whole !== undefined) act(whole)
    if (!perName) return
    for (const name of names) {
      const cells = this.#stats.of(name)
      if (cells !== undefined) act(cells)
    }
  }

  #count(
    batch: Batch,
    resources: readonly ReceivedResource[],
    outcome: { readonly rejections: readonly Rejection[]; readonly tookMs: number },
  ): void {
    const { rejections, tookMs } = outcome
    const { whole, perName } = this.#stats
    if (whole !== undefined) this.#countOne(whole, rejections.length > 0 || batch.rejected, batch.version, tookMs)
    if (!perName) return
    const refused = new Set(rejections.map(({ name }) => name))
    for (const { name, version } of resources) {
      const cells = this.#stats.of(name)
      if (cells !== undefined) this.#countOne(cells, refused.has(name), version, tookMs)
    }
  }

  #countOne(cells: UpdateCells, rejected: boolean, version: string, tookMs: number): void {
    cells.attempt.v++
    if (rejected) {
      cells.rejected.v++
      return
    }
    cells.success.v++
    cells.time.v = this.#interest.clock.wall()
    if (version !== '') {
      cells.version.v = versionNumber(version)
      cells.versionText.v = version
    }
    cells.duration.record(tookMs)
  }
}

const NOTHING: ReadonlySet<string> = Object.freeze(new Set<string>())
const NO_ALIASES: readonly string[] = Object.freeze([])
const NONE: readonly Rejection[] = Object.freeze([])
