/**
 * Paths of configuration errors: `a.b[0].c["key"].d`, field names joined by dots, list indexes and quoted map keys in
 * brackets; '' is the whole document. An Any adds nothing: the fields inside it follow its own field directly.
 */

/** The path of a field of the message at `path`. */
export function fieldPath(path: string, name: string): string {
  return path === '' ? name : path + '.' + name
}

/** The path of a member whose name comes from the author: like a field where it looks like one, else like a map key. */
export function namePath(path: string, name: string): string {
  return /^[A-Za-z_][A-Za-z0-9_-]*$/.test(name) ? fieldPath(path, name) : keyPath(path, name)
}

/** The path of an item of the list at `path`. */
export function indexPath(path: string, index: number): string {
  return path + '[' + index + ']'
}

/** The path of an entry of the map at `path`; the key is quoted as JSON quotes it. */
export function keyPath(path: string, key: string): string {
  return path + '[' + JSON.stringify(key) + ']'
}

/** Puts a path that was made relative to `base` behind it. */
export function joinPath(base: string, relative: string): string {
  if (relative === '') return base
  return relative.startsWith('[') ? base + relative : fieldPath(base, relative)
}

/** A path that is put together when it is asked for, which it mostly is not. */
export class PathStep {
  readonly #parent: { readonly path: string }
  readonly #name: string
  readonly #place: number | string | undefined

  /** @param place of a list's item its index, of a map's value its key */
  constructor(parent: { readonly path: string }, name: string, place: number | string | undefined) {
    this.#parent = parent
    this.#name = name
    this.#place = place
  }

  get path(): string {
    return stepPath(this.#parent.path, this.#name, this.#place)
  }
}

/** The path of a field, of an item of its list (a number) or of a value of its map (a key). */
export function stepPath(path: string, name: string, place: number | string | undefined): string {
  const field = fieldPath(path, name)
  if (place === undefined) return field
  return typeof place === 'number' ? indexPath(field, place) : keyPath(field, place)
}

/** A path, or what makes it. */
export type PathSource = string | PathStep

export function pathText(source: PathSource): string {
  return typeof source === 'string' ? source : source.path
}
