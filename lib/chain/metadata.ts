import type { ConnectionState } from '../core/connection.ts'
import type { Json } from '../core/errors.ts'
import type { FilterState, Metadata } from './filter.ts'

/**
 * Dynamic metadata of one exchange; made when a filter first asks for it. Below it lies that of the connection, which
 * filters of layer 4 have left: it is seen, and what is merged here does not change it.
 */
export class MetadataStore implements Metadata {
  readonly #connection: ConnectionState
  readonly #byNamespace = new Map<string, Json>()

  constructor(connection: ConnectionState) {
    this.#connection = connection
  }

  get(namespace: string): Json | undefined {
    const own = this.#byNamespace.get(namespace)
    return own === undefined ? this.#connection.metadata(namespace) : own
  }

  merge(namespace: string, value: Json): void {
    const old = this.get(namespace)
    this.#byNamespace.set(namespace, isObject(old) && isObject(value) ? { ...old, ...value } : value)
  }
}

/** Filter state of one exchange, above that of its connection. */
export class FilterStateStore implements FilterState {
  readonly #connection: ConnectionState
  readonly #objects = new Map<string, unknown>()

  constructor(connection: ConnectionState) {
    this.#connection = connection
  }

  get(key: string): unknown {
    return this.#objects.has(key) ? this.#objects.get(key) : this.#connection.object(key)
  }

  set(key: string, value: unknown): void {
    this.#objects.set(key, value)
  }
}

function isObject(value: Json | undefined): value is { [key: string]: Json } {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** What an exchange makes when it is first wanted: most never do. */
export interface Extras {
  metadata: MetadataStore | undefined
  filterState: FilterStateStore | undefined
  abort: AbortController | undefined
}

/** What aborts when the exchange ends, or has done so. */
export function signalOf(extras: Extras, ended: boolean): AbortSignal {
  if (extras.abort === undefined) {
    extras.abort = new AbortController()
    if (ended) extras.abort.abort()
  }
  return extras.abort.signal
}
