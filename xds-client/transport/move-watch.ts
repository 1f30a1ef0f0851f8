import { type FSWatcher, lstatSync, realpathSync, statSync, watch } from 'node:fs'
import { dirname, resolve } from 'node:path'
import type { Cancel, Clock } from '../../lib/core/clock.ts'

/** What belongs together arrives together: links and files of a volume are exchanged one after the other. */
const SETTLE_MS = 50
/** For file systems that announce nothing. */
const POLL_MS = 30_000

export interface MoveWatchOptions {
  readonly path: string
  /** Whatever is moved in there counts. */
  readonly watchedDirectory: string | undefined
  readonly clock: Clock
  /** Another file is there now, or something was moved in the watched directory. */
  moved(): void
}

/**
 * Tells when a file has been replaced by another, as `mv` and Kubernetes' volumes do (`..data` leads elsewhere), and not when
 * one is being written to: half of a file must never be taken for all of it. As in Envoy.
 */
export class MoveWatch {
  readonly #options: MoveWatchOptions
  readonly #watchers = new Map<string, FSWatcher>()
  #identity: string
  #announced = false
  #settling: Cancel | undefined = undefined
  #poll: Cancel
  #closed = false

  constructor(options: MoveWatchOptions) {
    this.#options = options
    this.#identity = identityOf(options.path)
    this.#watch()
    this.#poll = options.clock.schedule(POLL_MS, this.#onPoll)
  }

  close(): void {
    this.#closed = true
    this.#settling?.()
    this.#poll()
    for (const watcher of this.#watchers.values()) watcher.close()
    this.#watchers.clear()
  }

  /** The directories in which the file, or a link on the way to it, may be exchanged. */
  #watch(): void {
    const { path, watchedDirectory } = this.#options
    const wanted = linkedFrom(path)
    if (watchedDirectory !== undefined) {
      wanted.add(watchedDirectory)
      for (const directory of linkedFrom(watchedDirectory)) wanted.add(directory)
    }
    for (const [directory, watcher] of this.#watchers) {
      if (wanted.delete(directory)) continue
      watcher.close()
      this.#watchers.delete(directory)
    }
    for (const directory of wanted) this.#open(directory)
  }

  #open(directory: string): void {
    try {
      const watcher = watch(directory, { persistent: false }, (event) => {
        if (event === 'rename' && directory === this.#options.watchedDirectory) this.#announced = true
        this.#settle()
      })
      watcher.on('error', () => {
        watcher.close()
        if (this.#watchers.get(directory) === watcher) this.#watchers.delete(directory)
      })
      this.#watchers.set(directory, watcher)
    } catch {
      // It is not there, or there are too many watches: the poll remains.
    }
  }

  #settle(): void {
    if (this.#closed) return
    this.#settling ??= this.#options.clock.schedule(SETTLE_MS, () => {
      this.#settling = undefined
      this.#look()
    })
  }

  readonly #onPoll = (): void => {
    this.#poll = this.#options.clock.schedule(POLL_MS, this.#onPoll)
    this.#look()
  }

  #look(): void {
    const identity = identityOf(this.#options.path)
    const announced = this.#announced
    this.#announced = false
    // Gone for a moment, or for good: what it said stays in use.
    if (identity === '' || (identity === this.#identity && !announced)) return
    this.#identity = identity
    this.#watch()
    this.#options.moved()
  }
}

/** Which file it is, through all links; '' where there is none. Inodes are used again, and so their birth counts too. */
function identityOf(path: string): string {
  try {
    const stat = statSync(path, { bigint: true, throwIfNoEntry: false })
    return stat === undefined ? '' : `${stat.dev}:${stat.ino}:${stat.birthtimeNs}`
  } catch {
    return ''
  }
}

function linkedFrom(path: string): Set<string> {
  const found = new Set<string>([dirname(resolve(path))])
  for (let at = resolve(path); at !== dirname(at); at = dirname(at)) {
    try {
      if (lstatSync(at, { throwIfNoEntry: false })?.isSymbolicLink() === true) found.add(dirname(at))
    } catch {
      // What cannot be seen is not followed.
    }
  }
  try {
    found.add(dirname(realpathSync(path)))
  } catch {
    // It is not there; its directory will tell.
  }
  return found
}
