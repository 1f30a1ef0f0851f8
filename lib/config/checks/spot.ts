import { ConfigError } from '../../core/errors.ts'
import { fieldPath, indexPath, keyPath } from '../../proto/path.ts'

/** Where parts of the IR came from; `Origins` of the native configuration is one. */
export interface OriginFinder {
  of(part: object): { readonly path: string; readonly whole: boolean } | undefined
}

/** What checks need to know of a network filter; every `NetworkFilterFactory` is one. */
export interface LayerFourFilter {
  readonly terminal?: boolean
  clusters?(config: unknown): readonly string[]
}

/** What all checks of one configuration share. */
export interface CheckContext {
  readonly errors: ConfigError[]
  readonly origins: OriginFinder | undefined
  /** Names of all clusters; undefined: others may be there by the time that they are needed. */
  readonly clusters: ReadonlySet<string> | undefined
  /** Whether a filter type ends a chain. */
  readonly isTerminal: (typeUrl: string) => boolean
  readonly networkFilter: (typeUrl: string) => LayerFourFilter | undefined
  readonly listenerFilter: (typeUrl: string) => unknown
}

/** A part of the IR under inspection: knows the path that its author knows it by. */
export class Spot {
  readonly context: CheckContext
  readonly path: string
  readonly #whole: boolean

  constructor(context: CheckContext, path: string, whole = false) {
    this.context = context
    this.path = path
    this.#whole = whole
  }

  /** The spot of a field; `part` is its value, where that is an object. */
  field(name: string, part?: object): Spot {
    return this.#below(this.#whole ? this.path : fieldPath(this.path, name), part)
  }

  item(index: number, part?: object): Spot {
    return this.#below(this.#whole ? this.path : indexPath(this.path, index), part)
  }

  entry(key: string, part?: object): Spot {
    return this.#below(this.#whole ? this.path : keyPath(this.path, key), part)
  }

  #below(path: string, part: object | undefined): Spot {
    const origin = part === undefined ? undefined : this.context.origins?.of(part)
    return origin === undefined
      ? new Spot(this.context, path, this.#whole)
      : new Spot(this.context, origin.path, origin.whole)
  }

  error(message: string): void {
    this.context.errors.push(new ConfigError(this.path, message))
  }

  /** Each item of a list with its spot; nothing where there is no list. */
  each<T>(name: string, list: readonly T[] | undefined, check: (item: T, spot: Spot, index: number) => void): void {
    if (list === undefined) return
    const spot = this.field(name, list)
    list.forEach((item, i) => {
      check(item, spot.item(i, typeof item === 'object' && item !== null ? item : undefined), i)
    })
  }

  /** Runs what throws where a text is wrong, and records the reason. */
  attempt(run: () => unknown): void {
    try {
      run()
    } catch (error) {
      this.error(error instanceof Error ? error.message : String(error))
    }
  }
}
