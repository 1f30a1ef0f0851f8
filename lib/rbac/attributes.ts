import type { ConnectionInfo, ConnectionState } from '../core/connection.ts'
import type { Json } from '../core/errors.ts'
import type { FilterStateSource } from '../match/filter-state.ts'
import type { MatchData } from '../match/tree.ts'
import type { MetadataSource } from '../match/value.ts'

/** What policies ask about; an `HttpStream` is one, and `ConnectionAttributes` for connections. */
export interface RbacAttributes extends MatchData {
  /** Undefined: nothing has been matched, so nothing can be said of its metadata. */
  readonly route?: { readonly metadata: { readonly [namespace: string]: Json } | undefined } | undefined
}

/** A connection as policies see it: it has no headers and no path, so conditions on those do not hold. */
export class ConnectionAttributes implements RbacAttributes {
  readonly connection: ConnectionInfo
  readonly metadata: MetadataSource
  readonly filterState: FilterStateSource

  constructor(connection: ConnectionInfo) {
    this.connection = connection
    this.metadata = new StateMetadata(connection.state)
    this.filterState = new StateObjects(connection.state)
  }
}

class StateMetadata implements MetadataSource {
  readonly #state: ConnectionState

  constructor(state: ConnectionState) {
    this.#state = state
  }

  get(namespace: string): Json | undefined {
    return this.#state.metadata(namespace)
  }
}

class StateObjects implements FilterStateSource {
  readonly #state: ConnectionState

  constructor(state: ConnectionState) {
    this.#state = state
  }

  get(key: string): unknown {
    return this.#state.object(key)
  }
}
