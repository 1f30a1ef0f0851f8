/** Where a part of the IR came from in the author's configuration. */
export interface Origin {
  readonly path: string
  /** The author wrote the whole part as one value (`'web'` for a cluster choice): what is in it has no path of its own. */
  readonly whole: boolean
}

/**
 * Remembers where the objects of an IR came from, so that checks of the IR can name the author's fields. What was not
 * recorded is where the IR says it is, seen from the nearest object around it that was.
 */
export class Origins {
  readonly #known = new WeakMap<object, Origin>()

  /** Records that an object was read from `path`. */
  at<T extends object>(path: string, part: T): T {
    this.#known.set(part, { path, whole: false })
    return part
  }

  /** Records that the one value at `path` stands for all of an object. */
  whole<T extends object>(path: string, part: T): T {
    this.#known.set(part, { path, whole: true })
    return part
  }

  of(part: object): Origin | undefined {
    return this.#known.get(part)
  }
}
