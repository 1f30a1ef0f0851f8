import { readFileSync, statSync } from 'node:fs'

/** Files that a configuration was made of, and what they were when they were read. */
export interface RecordedFiles {
  /** Stamps by path. */
  readonly files: ReadonlyMap<string, string>
  /** Directories whose changes announce those of files (`watched_directory`). */
  readonly directories: ReadonlySet<string>
}

/**
 * What tells two states of a file apart; '' for one that cannot be seen. Symbolic links are followed, so the exchange of a
 * link shows.
 */
export function stampOf(path: string): string {
  const stat = statSync(path, { bigint: true, throwIfNoEntry: false })
  return stat === undefined ? '' : `${stat.dev}:${stat.ino}:${stat.size}:${stat.mtimeNs}:${stat.ctimeNs}`
}

/** Reads files, and remembers which. One for each reading of a configuration. */
export class FileRecorder implements RecordedFiles {
  readonly files = new Map<string, string>()
  readonly directories = new Set<string>()

  /** Takes the stamp before the content: a change between the two shows as one. @throws as the file system does */
  readonly readFile = (path: string): Buffer => {
    let stamp = ''
    try {
      stamp = stampOf(path)
    } catch {
      // Reading says why.
    }
    // Files that are missing are waited for.
    this.files.set(path, stamp)
    return readFileSync(path)
  }

  readonly watchDirectory = (path: string): void => {
    this.directories.add(path)
  }
}
