import type { LiveFiles } from '../../lib/config/live.ts'
import type { Resource } from './resource.ts'

/** Files that delivered resources are made of (certificates of secrets), and the state that they were read in. */
export class ResourceFiles {
  readonly #stampOf: ((path: string) => string) | undefined
  readonly #resources = new Set<Resource>()
  readonly #stamps = new Map<string, string>()

  /** `stampOf` undefined: they are read once. */
  constructor(stampOf: ((path: string) => string) | undefined) {
    this.#stampOf = stampOf
  }

  /** About to be read: a change between the two shows. */
  reading(path: string): void {
    if (this.#stampOf === undefined) return
    let stamp = ''
    try {
      stamp = this.#stampOf(path)
    } catch {
      // Reading it says why.
    }
    this.#stamps.set(path, stamp)
  }

  /** It has another version. */
  accepted(resource: Resource): void {
    const { latest } = resource
    if (latest !== undefined && (latest.files.length > 0 || latest.directories.length > 0))
      this.#resources.add(resource)
    else this.#resources.delete(resource)
  }

  forget(resource: Resource): void {
    this.#resources.delete(resource)
  }

  /** Resources that name files. */
  get resources(): readonly Resource[] {
    return [...this.#resources]
  }

  /** All of them, with those of the bootstrap. */
  all(bootstrap: LiveFiles | undefined): LiveFiles {
    const files = new Map(bootstrap?.files)
    const directories = new Set(bootstrap?.directories)
    const used = new Set<string>()
    for (const { latest } of this.#resources) {
      for (const path of latest?.files ?? []) used.add(path)
      for (const path of latest?.directories ?? []) directories.add(path)
    }
    for (const path of this.#stamps.keys()) if (!used.has(path)) this.#stamps.delete(path)
    if (this.#stampOf !== undefined) for (const path of used) files.set(path, this.#stamps.get(path) ?? '')
    return { files, directories }
  }
}
