import { type FSWatcher, watch } from 'node:fs'
import { dirname } from 'node:path'
import type { Cancel, Clock } from '../../lib/core/clock.ts'
import { linkIdentity } from './disk-layer.ts'

/** For file systems that announce nothing. */
const POLL_MS = 30_000

/**
 * Tells when something else has been moved onto a path, which is how a tree of runtime values is replaced as a whole;
 * what happens inside of it does not count, as in Envoy. Keeps no process alive but by its clock.
 */
export class LinkWatch implements Disposable {
  readonly #paths = new Map<string, string>()
  readonly #watchers = new Map<string, FSWatcher>()
  readonly #clock: Clock
  readonly #moved: () => void
  #poll: Cancel | undefined = undefined

  constructor(paths: readonly string[], clock: Clock, moved: () => void) {
    this.#clock = clock
    this.#moved = moved
    for (const path of paths) this.#paths.set(path, linkIdentity(path))
    if (this.#paths.size === 0) return
    this.#open()
    this.#arm()
  }

  [Symbol.dispose](): void {
    this.#poll?.()
    this.#poll = undefined
    for (const watcher of this.#watchers.values()) watcher.close()
    this.#watchers.clear()
    this.#paths.clear()
  }

  /** The directories that hold the links; one that cannot be watched is tried again with the next look. */
  #open(): void {
    for (const path of this.#paths.keys()) {
      const directory = dirname(path)
      if (this.#watchers.has(directory)) continue
      try {
        const watcher = watch(directory, { persistent: false }, this.#look)
        watcher.on('error', () => this.#forget(directory, watcher))
        this.#watchers.set(directory, watcher)
      } catch {
        // It is not there, or there are too many watches: the poll remains.
      }
    }
  }

  #forget(directory: string, watcher: FSWatcher): void {
    watcher.close()
    if (this.#watchers.get(directory) === watcher) this.#watchers.delete(directory)
  }

  #arm(): void {
    this.#poll = this.#clock.schedule(POLL_MS, () => {
      this.#arm()
      this.#open()
      this.#look()
    })
  }

  readonly #look = (): void => {
    let moved = false
    for (const [path, before] of this.#paths) {
      const now = linkIdentity(path)
      if (now === before) continue
      this.#paths.set(path, now)
      // While nothing is there the values stay: it is about to be replaced.
      moved ||= now !== ''
    }
    if (moved) this.#moved()
  }
}
