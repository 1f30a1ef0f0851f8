import { type FSWatcher, lstatSync, realpathSync, statSync, watch } from 'node:fs'
import { dirname, resolve } from 'node:path'
import type { Cancel, Clock } from '../core/clock.ts'
import { type RecordedFiles, stampOf } from './recorded-files.ts'

/** A certificate and its key are written one after the other: what follows soon belongs to the same change. */
const SETTLE_MS = 250
/** A file that is written all the time is read all the same. */
const SETTLE_LIMIT_MS = 2_000
/** For file systems that announce nothing. */
const POLL_MS = 30_000

/** What a watch needs. */
export interface FileWatchOptions {
  readonly clock: Clock
  /** Some of the files are not what they were. */
  changed(): void
}

/**
 * Tells when files have changed. Directories are watched and not files, so that files that are replaced, and the links of
 * Kubernetes' volumes (`..data`) and to whole directories, are followed; what has changed is told by the files themselves.
 * Where nothing is announced they are looked at every half minute. Keeps no process alive but by its clock.
 */
export class FileWatch {
  readonly #options: FileWatchOptions
  readonly #stamps = new Map<string, string>()
  readonly #watchers = new Map<string, Watched>()
  #directories: ReadonlySet<string> = new Set()
  #settling: Cancel | undefined = undefined
  /** Of the last announcement, and of the one that the waiting began with. */
  #eventMs = Number.NEGATIVE_INFINITY
  #settleMs = 0
  #poll: Cancel | undefined = undefined
  #closed = false

  constructor(options: FileWatchOptions) {
    this.#options = options
  }

  /** Watches these from now on, and no others. What has changed since they were read is told soon. */
  update({ files, directories }: RecordedFiles): void {
    if (this.#closed) return
    this.#stamps.clear()
    for (const [path, stamp] of files) this.#stamps.set(path, stamp)
    this.#directories = directories
    this.#watch()
    if (files.size === 0) {
      this.#poll?.()
      this.#poll = undefined
    } else this.#poll ??= this.#options.clock.schedule(POLL_MS, this.#onPoll)
    if (this.#stale()) this.#settle()
  }

  /** As `update`, where these are not the files that are watched already. */
  follow(recorded: RecordedFiles): void {
    const { files, directories } = recorded
    const same =
      files.size === this.#stamps.size &&
      directories.size === this.#directories.size &&
      [...files.keys()].every((path) => this.#stamps.has(path)) &&
      [...directories].every((path) => this.#directories.has(path))
    if (!same) this.update(recorded)
  }

  close(): void {
    this.#closed = true
    this.#settling?.()
    this.#poll?.()
    for (const { watcher } of this.#watchers.values()) watcher.close()
    this.#watchers.clear()
  }

  /** The directories of the files as they are named, of links on the way, and of what they lead to. */
  #watch(): void {
    const wanted = new Set(this.#directories)
    const seen = new Set<string>()
    for (const path of this.#stamps.keys()) {
      const directory = dirname(path)
      wanted.add(directory)
      addLinks(resolve(directory), wanted, seen)
      try {
        wanted.add(dirname(realpathSync(path)))
      } catch {
        // It is not there; its directory will tell.
      }
    }
    for (const [directory, { watcher, identity }] of this.#watchers) {
      // One that was removed and made anew, or to which a link leads no more, is watched no more.
      if (wanted.has(directory) && identity === identityOf(directory)) {
        wanted.delete(directory)
        continue
      }
      watcher.close()
      this.#watchers.delete(directory)
    }
    for (const directory of wanted) this.#open(directory)
  }

  #open(directory: string): void {
    try {
      // Before it is watched: an exchange between the two shows the next time.
      const identity = identityOf(directory)
      const watcher = watch(directory, { persistent: false }, this.#onEvent)
      watcher.on('error', () => {
        watcher.close()
        if (this.#watchers.get(directory)?.watcher === watcher) this.#watchers.delete(directory)
      })
      this.#watchers.set(directory, { watcher, identity })
    } catch {
      // It is not there, or there are too many watches: the poll remains.
    }
  }

  readonly #onEvent = (): void => {
    this.#eventMs = this.#options.clock.now()
    this.#settle()
  }

  #settle(): void {
    if (this.#closed || this.#settling !== undefined) return
    this.#settleMs = this.#options.clock.now()
    this.#settling = this.#options.clock.schedule(SETTLE_MS, this.#onSettled)
  }

  readonly #onSettled = (): void => {
    const nowMs = this.#options.clock.now()
    const quietAt = this.#eventMs + SETTLE_MS
    if (quietAt > nowMs && nowMs - this.#settleMs < SETTLE_LIMIT_MS) {
      // Somebody is still writing: half of a file is no file.
      this.#settling = this.#options.clock.schedule(quietAt - nowMs, this.#onSettled)
      return
    }
    this.#settling = undefined
    this.#look()
  }

  readonly #onPoll = (): void => {
    this.#poll = this.#options.clock.schedule(POLL_MS, this.#onPoll)
    this.#look()
  }

  #look(): void {
    if (!this.#stale()) return
    for (const path of this.#stamps.keys()) this.#stamps.set(path, safeStamp(path))
    // Links may lead elsewhere now.
    this.#watch()
    this.#options.changed()
  }

  #stale(): boolean {
    for (const [path, stamp] of this.#stamps) if (safeStamp(path) !== stamp) return true
    return false
  }
}

/** A directory that is watched, and which one it was then. */
interface Watched {
  readonly watcher: FSWatcher
  readonly identity: string
}

/** Tells two directories of one name apart, where inodes are used again by when they were made; '' where there is none. */
function identityOf(directory: string): string {
  try {
    const stat = statSync(directory, { bigint: true, throwIfNoEntry: false })
    return stat === undefined ? '' : `${stat.dev}:${stat.ino}:${stat.birthtimeNs}`
  } catch {
    return ''
  }
}

/** Adds the directories that hold the links on the way to `directory`: where they lead is told there. */
function addLinks(directory: string, found: Set<string>, seen: Set<string>): void {
  for (let at = directory; at !== dirname(at) && !seen.has(at); at = dirname(at)) {
    seen.add(at)
    try {
      if (lstatSync(at, { throwIfNoEntry: false })?.isSymbolicLink() === true) found.add(dirname(at))
    } catch {
      // What cannot be seen is not followed.
    }
  }
}

function safeStamp(path: string): string {
  try {
    return stampOf(path)
  } catch {
    return ''
  }
}
